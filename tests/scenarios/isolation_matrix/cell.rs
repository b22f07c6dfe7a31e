//! The axes of the matrix and what can come of a cell.

use std::fmt;

use uuid::Uuid;

/// Whose row a call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Case {
    /// A row of the tenant. The neighbour has another one under the same id.
    Own,
    /// A row that the neighbour alone has.
    Foreign,
    /// A row that nobody has.
    Unknown,
    /// A row of the tenant, which is suspended.
    Suspended,
    /// The call names the neighbour itself: in the row to be written, in the condition, or as a part of the id.
    Forged,
}

impl Case {
    pub(super) const ALL: [Self; 5] = [Self::Own, Self::Foreign, Self::Unknown, Self::Suspended, Self::Forged];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Own => "own row",
            Self::Foreign => "foreign row",
            Self::Unknown => "unknown id",
            Self::Suspended => "suspended tenant",
            Self::Forged => "forged tenant_id",
        }
    }
}

/// How a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Context {
    Plain,
    Transaction,
    /// With a read before it and one after it on the same connection.
    Leased,
    Cancelled,
    Concurrent,
}

impl Context {
    pub(super) const ALL: [Self; 5] = [Self::Plain, Self::Transaction, Self::Leased, Self::Cancelled, Self::Concurrent];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Transaction => "in a transaction",
            Self::Leased => "on a lease",
            Self::Cancelled => "cancelled midway",
            Self::Concurrent => "concurrent",
        }
    }
}

/// What a call answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// One row, the tenant's own.
    Row,
    /// No row.
    NoRow,
    /// So many rows, all of them the tenant's own.
    Rows(u64),
    /// A page with so many rows, of so many.
    Page(u64, u64),
    Count(u64),
    Is(bool),
    /// So many rows of the tenant were written.
    Written(u64),
    NotFound,
    ForgedTenant,
    IdShape,
    InvalidSearch,
    UniqueViolation,
    PermissionDenied,
    RawSqlRefused,
    /// No handle was given.
    RefusedByRouting,
    /// The method has no place where the case could be asked for.
    NotApplicable,
}

impl Outcome {
    /// Whether the call went through and changed a row.
    pub(super) fn wrote(self) -> bool {
        matches!(self, Self::Row | Self::Rows(1..) | Self::Written(1..) | Self::Is(true))
    }

    /// Whether the call was refused.
    pub(super) fn is_refusal(self) -> bool {
        match self {
            Self::NotFound
            | Self::ForgedTenant
            | Self::IdShape
            | Self::InvalidSearch
            | Self::UniqueViolation
            | Self::PermissionDenied
            | Self::RawSqlRefused
            | Self::RefusedByRouting => true,
            Self::Row
            | Self::NoRow
            | Self::Rows(_)
            | Self::Page(..)
            | Self::Count(_)
            | Self::Is(_)
            | Self::Written(_)
            | Self::NotApplicable => false,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row => f.write_str("own row"),
            Self::NoRow => f.write_str("no row"),
            Self::Rows(0) => f.write_str("0 rows"),
            Self::Rows(1) => f.write_str("1 own row"),
            Self::Rows(rows) => write!(f, "{rows} own rows"),
            Self::Page(rows, of) => write!(f, "{rows} of {of}"),
            Self::Count(rows) => write!(f, "{rows}"),
            Self::Is(answer) => write!(f, "{answer}"),
            Self::Written(rows) => write!(f, "{rows} written"),
            Self::RefusedByRouting => f.write_str("refused by routing"),
            Self::NotApplicable => f.write_str("—"),
            Self::NotFound
            | Self::ForgedTenant
            | Self::IdShape
            | Self::InvalidSearch
            | Self::UniqueViolation
            | Self::PermissionDenied
            | Self::RawSqlRefused => write!(f, "`{self:?}`"),
        }
    }
}

/// What a call that went through does to the tenant's own contacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    Creates(Vec<Uuid>),
    Changes(Uuid),
    Deletes(Uuid),
}
