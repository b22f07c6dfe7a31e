//! What the two engines write differently: identifiers, clocks, random ids, the session's settings.
//!
//! Everything here is plain SQL that the oldest supported engine reads (PostgreSQL 15; SQLite 3.35), because triggers run
//! in whatever client changes a row, the `sqlite3` shell of the system included.

use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::Error;

/// The two engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Postgres,
    Sqlite,
}

impl Engine {
    pub(crate) fn of(connection: &impl ConnectionTrait) -> Result<Self, Error> {
        Self::from_backend(connection.get_database_backend())
    }

    pub(crate) fn from_backend(backend: DbBackend) -> Result<Self, Error> {
        match backend {
            DbBackend::Postgres => Ok(Self::Postgres),
            DbBackend::Sqlite => Ok(Self::Sqlite),
            other => Err(Error::Backend { backend: other.as_str().to_owned() }),
        }
    }

    pub(crate) fn backend(self) -> DbBackend {
        match self {
            Self::Postgres => DbBackend::Postgres,
            Self::Sqlite => DbBackend::Sqlite,
        }
    }
}

/// An identifier in double quotes, which both engines read.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text literal. PostgreSQL's `standard_conforming_strings` is on by default since 9.1; a backslash needs no care.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Identifiers in quotes, separated by commas.
pub(crate) fn quote_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quote).collect::<Vec<_>>().join(", ")
}

/// Refuses a name that PostgreSQL would cut off or that cannot be written.
pub(crate) fn checked_identifier(name: &str) -> Result<&str, Error> {
    if name.is_empty() || name.len() > 63 || name.contains('\0') {
        return Err(Error::Identifier { name: name.to_owned() });
    }
    Ok(name)
}

/// The name of a constraint, index or trigger: the parts joined by `_`. PostgreSQL cuts names at 63 bytes, and two that are
/// cut alike collide, so a longer name keeps its head and gets a digest of the whole.
pub(crate) fn object_name(parts: &[&str]) -> String {
    let name = parts.join("_");
    if name.len() <= 63 {
        return name;
    }
    // FNV-1a: stable over releases, which the standard library's hasher does not promise.
    let digest = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut end = 46;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}_{digest:016x}", &name[..end])
}

pub(crate) mod sqlite {
    //! Expressions of SQLite.

    /// The clock in the canonical form of a timestamp: UTC, six digits, so that text order is time order. SQLite's clock
    /// has milliseconds. Within one statement every call gives the same value.
    pub(crate) const NOW: &str = "strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')";

    /// A random (version 4) uuid as a blob. `||` of blobs keeps their bytes and gives a text, hence the cast.
    pub(crate) const RANDOM_UUID: &str = "CAST(randomblob(6) || substr(x'404142434445464748494A4B4C4D4E4F', 1 + (random() & 15), 1) || randomblob(1) || \
         substr(x'808182838485868788898A8B8C8D8E8F909192939495969798999A9B9C9D9E9FA0A1A2A3A4A5A6A7A8A9AAABACADAEAFB0B1B2B3B4B5B6B7B8B9BABBBCBDBEBF', \
         1 + (random() & 63), 1) || randomblob(7) AS BLOB)";

    /// Whether a transfer runs, for a trigger's WHEN. SQLite has no roles: whoever opens the file may say so.
    pub(crate) const NOT_TRANSFER: &str =
        "NOT EXISTS (SELECT 1 FROM tenantry_session WHERE name = 'tenantry.transfer' AND value = 'on')";

    /// The stand-in for session settings. Its rows live for one write transaction.
    pub(crate) const CREATE_SESSION: &str =
        "CREATE TABLE IF NOT EXISTS tenantry_session (name text PRIMARY KEY NOT NULL, value text NOT NULL)";

    /// A setting of the session as an expression; empty and unset are both NULL.
    pub(crate) fn setting(name: &str) -> String {
        format!("(SELECT nullif(value, '') FROM tenantry_session WHERE name = '{name}')")
    }

    /// The canonical text of a uuid column's value.
    pub(crate) fn uuid_text(value: &str) -> String {
        format!(
            "lower(substr(hex({value}), 1, 8) || '-' || substr(hex({value}), 9, 4) || '-' || substr(hex({value}), 13, 4) || '-' || \
             substr(hex({value}), 17, 4) || '-' || substr(hex({value}), 21))"
        )
    }

    /// The blob of a uuid's text, NULL where the text is no uuid. `unhex` came with SQLite 3.41 only.
    pub(crate) fn uuid_blob(text: &str) -> String {
        let bytes: String = (0..=255_u8).map(|byte| format!("{byte:02X}")).collect();
        let digit = |at: usize| format!("instr('0123456789abcdef', substr(t, {at}, 1)) - 1");
        let blob = (0..16)
            .map(|byte| {
                // Positions in the hyphenated form: hyphens stand after bytes 4, 6, 8 and 10.
                let hyphens = [4, 6, 8, 10].iter().filter(|&&before| byte >= before).count();
                let at = 2 * byte + hyphens + 1;
                format!("substr(b, 1 + 16 * ({}) + ({}), 1)", digit(at), digit(at + 1))
            })
            .collect::<Vec<_>>()
            .join(" || ");
        let hex = |count: usize| "[0-9a-f]".repeat(count);
        let pattern = [8, 4, 4, 4, 12].map(hex).join("-");
        format!(
            "(SELECT CAST({blob} AS BLOB) FROM (SELECT x'{bytes}' AS b, lower({text}) AS t) WHERE t GLOB '{pattern}')"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Catches two constraints whose long names are cut to the same 63 bytes.
    #[test]
    fn long_names_stay_apart() {
        let column = "a_very_long_column_name_that_goes_on_and_on_and_on";
        let one = object_name(&["opportunity_line_items", column, "fkey"]);
        let two = object_name(&["opportunity_line_items", column, "check"]);
        assert_eq!(one.len(), 63);
        assert_ne!(one, two);
        assert_eq!(object_name(&["accounts", "status", "check"]), "accounts_status_check");
    }

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(quote(r#"a"b"#), r#""a""b""#);
        assert_eq!(literal("it's"), "'it''s'");
    }
}
