//! What can go wrong with a repository's call.

use sea_orm::DbErr;
use tenantry_data_source::{ConnectionError, Error as DataSourceError};

use crate::CursorProblem;

/// A failed call of a repository. Messages name tables, columns, constraints and the id that was asked for; never a value of a
/// row, and nothing that tells whether another tenant has a row.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The tenant has no row with this id. Whether another tenant has one makes no difference.
    #[error("{entity} has no row with id {id}")]
    NotFound {
        /// The entity's table.
        entity: String,
        /// The id that was asked for.
        id: String,
    },
    /// The tenant has a row with the same key already.
    #[error("a row with this key exists already (constraint {constraint})")]
    UniqueViolation {
        /// The constraint's name; on SQLite the columns.
        constraint: String,
    },
    /// A row refers to one that the tenant does not have, or is still referred to.
    #[error("a referenced row does not exist, or the row is still referenced (constraint {constraint})")]
    ForeignKeyViolation {
        /// The constraint's name; empty on SQLite, which does not tell.
        constraint: String,
    },
    /// A check constraint refused a row.
    #[error("a value is not allowed (constraint {constraint})")]
    CheckViolation {
        /// The constraint's name.
        constraint: String,
    },
    /// A column that must have a value has none.
    #[error("column {column} must have a value")]
    NotNullViolation {
        /// The column's name.
        column: String,
    },
    /// An id does not have as many parts as the entity's key has beside the tenant column.
    #[error("an id of {entity} has {expected} parts beside the tenant, not {given}")]
    IdShape {
        /// The entity's table.
        entity: String,
        /// How many parts it has.
        expected: usize,
        /// How many were given.
        given: usize,
    },
    /// A page that cannot be.
    #[error("page {page} of {limit} rows cannot be read: pages count from 1 and have 1 to {max} rows")]
    InvalidPage {
        /// The page that was asked for.
        page: u64,
        /// Its number of rows.
        limit: u64,
        /// The most rows a page can have.
        max: u64,
    },
    /// A page of a size that cannot be.
    #[error("a page of {limit} rows cannot be read: it has 1 to {max} rows")]
    InvalidLimit {
        /// Its number of rows.
        limit: u64,
        /// The most rows a page can have.
        max: u64,
    },
    /// A cursor that leads nowhere in this query. Begin again without one.
    #[error("the cursor does not fit this query of {entity}")]
    InvalidCursor {
        /// The entity's table.
        entity: String,
        /// What is wrong with it.
        #[source]
        problem: CursorProblem,
    },
    /// The query is ordered by a column that has no order on both engines (JSON, bytes), or by a list of values. Order by
    /// others, or use [`crate::Repository::paginate`].
    #[error("{entity} cannot be paged by cursor in this order: {column} has no place in a cursor")]
    UnpageableOrder {
        /// The entity's table.
        entity: String,
        /// The column.
        column: String,
    },
    /// A search that cannot be.
    #[error("{entity} cannot be searched: {reason}")]
    InvalidSearch {
        /// The entity's table.
        entity: String,
        /// What is wrong.
        reason: String,
    },
    /// `before_save` of the entity refused the row or failed. Nothing was written.
    #[error("a hook of {entity} refused the row")]
    Hook {
        /// The entity's table.
        entity: String,
        /// What the hook said.
        #[source]
        source: DbErr,
    },
    /// `after_save` of the entity refused the row or failed, when it was written. In a transaction nothing lasts: roll it back.
    /// Outside one the row stays: begin a transaction where that matters.
    #[error("a hook of {entity} failed after the row was written, which stays unless this is a transaction")]
    HookAfterwards {
        /// The entity's table.
        entity: String,
        /// What the hook said.
        #[source]
        source: DbErr,
    },
    /// The row was written, and holds a value that the entity cannot: see the source. In a transaction nothing lasts: roll it
    /// back. Outside one the row stays; [`crate::Repository::bulk_update`] writes without reading back.
    #[error("the row was written to {entity} and cannot be read back; it stays unless this is a transaction")]
    ReadBack {
        /// The entity's table.
        entity: String,
        /// The value.
        #[source]
        source: DataSourceError,
    },
    /// The database accepted a row and stored none: a trigger of the application suppressed it.
    #[error("the database stored no row in {entity}; a trigger suppressed it")]
    NotStored {
        /// The entity's table.
        entity: String,
    },
    /// Anything else that reaching or using the tenant's data ran into.
    #[error(transparent)]
    DataSource(DataSourceError),
}

impl From<DataSourceError> for Error {
    fn from(error: DataSourceError) -> Self {
        match error {
            DataSourceError::Connection(ConnectionError::UniqueViolation { constraint }) => {
                Self::UniqueViolation { constraint }
            }
            DataSourceError::Connection(ConnectionError::ForeignKeyViolation { constraint }) => {
                Self::ForeignKeyViolation { constraint }
            }
            DataSourceError::Connection(ConnectionError::CheckViolation { constraint }) => {
                Self::CheckViolation { constraint }
            }
            DataSourceError::Connection(ConnectionError::NotNullViolation { column }) => {
                Self::NotNullViolation { column }
            }
            other => Self::DataSource(other),
        }
    }
}

impl Error {
    /// Whether the same call may succeed when it is made again, in a new transaction.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::DataSource(error) => error.is_retryable(),
            Self::NotFound { .. }
            | Self::UniqueViolation { .. }
            | Self::ForeignKeyViolation { .. }
            | Self::CheckViolation { .. }
            | Self::NotNullViolation { .. }
            | Self::IdShape { .. }
            | Self::InvalidPage { .. }
            | Self::InvalidLimit { .. }
            | Self::InvalidCursor { .. }
            | Self::UnpageableOrder { .. }
            | Self::InvalidSearch { .. }
            | Self::Hook { .. }
            | Self::HookAfterwards { .. }
            | Self::ReadBack { .. }
            | Self::NotStored { .. } => false,
        }
    }
}
