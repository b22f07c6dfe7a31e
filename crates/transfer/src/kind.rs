//! The kinds of columns that mean the same on both engines, read from what the catalogs declare.
//!
//! Between two PostgreSQL databases every type travels, compared by its exact declaration. As soon as SQLite is on either
//! side, only these kinds do: for them it is written down what SQLite stores and which canonical text stands for a value.

use serde::{Deserialize, Serialize};

/// What a column holds, independent of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `uuid`; on SQLite 16 bytes (text is accepted from a source).
    Uuid,
    /// `text`.
    Text,
    /// `varchar(longest)`.
    Varchar {
        /// The most characters.
        longest: u32,
    },
    /// `smallint`: 16 bits.
    SmallInt,
    /// `integer`: 32 bits.
    Integer,
    /// `bigint`, and every integer of SQLite: 64 bits.
    BigInt,
    /// `boolean`; on SQLite 0 and 1.
    Boolean,
    /// `numeric(precision, scale)`; portable up to 15 digits, which survive an IEEE double.
    Decimal {
        /// All digits.
        precision: u32,
        /// Digits behind the point.
        scale: u32,
    },
    /// `date`.
    Date,
    /// `time without time zone`.
    Time,
    /// `timestamp with time zone`.
    Timestamp,
    /// `jsonb`.
    Json,
    /// `bytea`.
    Bytes,
    /// Anything else: compared by its text, between two PostgreSQL databases only.
    Other,
}

/// The most digits of a decimal that an IEEE double keeps exactly.
const PORTABLE_DIGITS: u32 = 15;

impl Kind {
    /// Reads what `format_type` prints.
    pub fn from_postgres(declared: &str) -> Self {
        match declared {
            "uuid" => Self::Uuid,
            "text" | "character varying" => Self::Text,
            "smallint" => Self::SmallInt,
            "integer" => Self::Integer,
            "bigint" => Self::BigInt,
            "boolean" => Self::Boolean,
            "date" => Self::Date,
            "time without time zone" => Self::Time,
            "timestamp with time zone" => Self::Timestamp,
            "jsonb" => Self::Json,
            "bytea" => Self::Bytes,
            other => with_arguments(other, &["numeric"], &["character varying"]),
        }
    }

    /// Reads a column's declared type on SQLite: the names that sea-query writes, and the usual ones of older schemas.
    pub fn from_sqlite(declared: &str) -> Self {
        let declared = declared.trim().to_ascii_lowercase();
        match declared.as_str() {
            "uuid_text" | "uuid_blob" | "uuid" => Self::Uuid,
            "text" | "varchar" => Self::Text,
            "smallint" => Self::SmallInt,
            "integer" | "int" | "bigint" => Self::BigInt,
            "boolean" | "bool" => Self::Boolean,
            "date_text" | "date" => Self::Date,
            "time_text" | "time" => Self::Time,
            "timestamp_with_timezone_text" | "timestamptz" | "timestamp with time zone" => Self::Timestamp,
            "jsonb_text" | "json_text" | "jsonb" | "json" => Self::Json,
            "blob" => Self::Bytes,
            other => with_arguments(other, &["real", "numeric", "decimal"], &["varchar"]),
        }
    }

    /// Whether a value of this kind, in a source, has a place in a column of the target's kind when at least one of the
    /// two databases is SQLite. Whether each single value fits is another question ([`crate::canonical::fits`]).
    pub fn travels_to(self, target: Self) -> bool {
        match (self, target) {
            (Self::Other, _) | (_, Self::Other) => false,
            (source, target) if source.orders_as_number() => target.orders_as_number(),
            (Self::Varchar { .. }, Self::Text) => true,
            (Self::Decimal { precision, .. }, Self::Decimal { .. }) => self == target && precision <= PORTABLE_DIGITS,
            _ => self == target,
        }
    }

    /// Whether both engines order this kind alike, so that two databases can be compared by a key of it.
    pub fn orders_alike(self) -> bool {
        match self {
            Self::Uuid
            | Self::Text
            | Self::Varchar { .. }
            | Self::SmallInt
            | Self::Integer
            | Self::BigInt
            | Self::Boolean
            | Self::Date
            | Self::Bytes => true,
            Self::Decimal { .. } | Self::Time | Self::Timestamp | Self::Json | Self::Other => false,
        }
    }

    /// Whether no value of this kind takes more than a kilobyte on PostgreSQL.
    pub(crate) fn is_short(self) -> bool {
        match self {
            Self::Uuid
            | Self::SmallInt
            | Self::Integer
            | Self::BigInt
            | Self::Boolean
            | Self::Decimal { .. }
            | Self::Date
            | Self::Time
            | Self::Timestamp => true,
            // Up to four bytes each.
            Self::Varchar { longest } => longest <= 256,
            Self::Text | Self::Json | Self::Bytes | Self::Other => false,
        }
    }

    /// Whether keys of this kind are ordered as numbers, not as text.
    pub(crate) fn orders_as_number(self) -> bool {
        matches!(self, Self::SmallInt | Self::Integer | Self::BigInt)
    }
}

/// `numeric(10,2)`, `real(10, 2)`, `varchar(20)`; a scale that is left out is zero.
fn with_arguments(declared: &str, decimals: &[&str], varchars: &[&str]) -> Kind {
    let Some((name, arguments)) = declared.strip_suffix(')').and_then(|declared| declared.split_once('(')) else {
        return Kind::Other;
    };
    let numbers: Option<Vec<u32>> = arguments.split(',').map(|number| number.trim().parse().ok()).collect();
    let (name, numbers) = (name.trim(), numbers.unwrap_or_default());
    match numbers.as_slice() {
        [longest] if varchars.contains(&name) => Kind::Varchar { longest: *longest },
        [precision] if decimals.contains(&name) => Kind::Decimal { precision: *precision, scale: 0 },
        [precision, scale] if decimals.contains(&name) && scale <= precision => {
            Kind::Decimal { precision: *precision, scale: *scale }
        }
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_engines_declarations_of_one_type_are_one_kind() {
        for (postgres, sqlite) in [
            ("uuid", "uuid_text"),
            ("text", "TEXT"),
            ("bigint", "integer"),
            ("boolean", "boolean"),
            ("numeric(10,2)", "real(10, 2)"),
            ("character varying(20)", "varchar(20)"),
            ("date", "date_text"),
            ("time without time zone", "time_text"),
            ("timestamp with time zone", "timestamp_with_timezone_text"),
            ("jsonb", "jsonb_text"),
            ("bytea", "blob"),
        ] {
            assert_eq!(Kind::from_postgres(postgres), Kind::from_sqlite(sqlite), "{postgres} against {sqlite}");
        }
    }

    #[test]
    fn a_type_without_a_written_meaning_on_both_engines_does_not_travel() {
        for declared in ["timestamp without time zone", "numeric", "double precision", "character(3)", "point"] {
            assert_eq!(Kind::from_postgres(declared), Kind::Other, "{declared}");
        }
        for declared in ["real", "datetime", "", "numeric(10,2,1)", "real(2,10)"] {
            assert_eq!(Kind::from_sqlite(declared), Kind::Other, "{declared}");
        }
        let wide = Kind::Decimal { precision: 18, scale: 2 };
        assert!(!wide.travels_to(wide), "16 digits and more do not survive a double");
        assert!(Kind::BigInt.travels_to(Kind::Integer), "every integer of SQLite has 64 bits; each value is looked at");
        assert!(!Kind::Date.travels_to(Kind::Timestamp));
    }
}
