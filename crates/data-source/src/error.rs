//! What can go wrong between a tenant's id and its rows.

use std::sync::Arc;

use sea_orm::DbErr;
use tenantry_connection::DataSourceUrl;
use uuid::Uuid;

use crate::{Finding, RouteError};

/// A failed attempt to reach or use a tenant's data. Messages name the tenant at hand, its tables and constraints; never
/// another tenant, a bound value or a login.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection, the statement or a constraint failed.
    #[error(transparent)]
    Connection(#[from] tenantry_connection::Error),

    /// The tenant's rows have moved, and a write was refused in the old place. Nothing of the transaction was written. Run the
    /// whole of it again: the same handle leads to the new place now, as every new one does.
    #[error(
        "tenant {tenant} has moved to another place, so the transaction in the old one was given up; run all of it again"
    )]
    Moved {
        /// The tenant.
        tenant: Uuid,
    },

    /// A write was refused in the old place of a tenant that cannot be routed any more: it was suspended, say.
    #[error(transparent)]
    Route(Box<RouteError>),

    /// A statement that was made for one tenant was given to a handle of another. Make statements from the handle that runs
    /// them.
    #[error(
        "a statement made for tenant {statement} was given to a handle of tenant {handle}; make it from that handle"
    )]
    OtherTenant {
        /// The tenant whose handle made the statement.
        statement: Uuid,
        /// The tenant whose handle was asked to run it.
        handle: Uuid,
    },

    /// A row to be written names a tenant that is not the handle's. Leave the tenant column unset.
    #[error("a row for {table} names another tenant in column {column}; leave that column unset")]
    ForgedTenant {
        /// The entity's table.
        table: String,
        /// Its tenant column.
        column: String,
    },

    /// An update names a column of the primary key, which never changes.
    #[error("an update of {table} sets {column}, which is part of its primary key; insert a new row instead")]
    PrimaryKeyUpdate {
        /// The entity's table.
        table: String,
        /// The key column.
        column: String,
    },

    /// A statement refers to a table that it may not use: nothing keeps it within the tenant.
    #[error(
        "a statement on {table} refers to {foreign}, which it may not; use join, where_exists or an entity of that table"
    )]
    ForeignTable {
        /// The statement's own table.
        table: String,
        /// The table it may not use.
        foreign: String,
    },

    /// A condition contains a query of its own. It would read rows of every tenant.
    #[error(
        "a condition on {table} contains a query of its own; use where_exists or where_not_exists, which stay within the tenant"
    )]
    UnscopedSubquery {
        /// The statement's own table.
        table: String,
    },

    /// A condition contains SQL text, which could lead out of the tenant where no row-level security stands behind.
    #[error(
        "a condition on {table} contains custom SQL ({what}), which is refused where no row-level security stands behind; use typed expressions"
    )]
    CustomExpression {
        /// The statement's own table.
        table: String,
        /// What kind of expression it was.
        what: &'static str,
    },

    /// An expression that the engine does not have, or that this version does not know.
    #[error("a condition on {table} uses {what}, which is not available here")]
    UnsupportedExpression {
        /// The statement's own table.
        table: String,
        /// What it uses.
        what: &'static str,
    },

    /// A statement that cannot be checked for its tables.
    #[error("a statement on {table} cannot be checked for the tables it uses, so it is not run")]
    NotAuditable {
        /// The statement's own table.
        table: String,
    },

    /// A join that cannot be kept within the tenant.
    #[error("{table} cannot be joined with {related}: {reason}; use where_exists")]
    Join {
        /// The statement's own table.
        table: String,
        /// The table to be joined.
        related: String,
        /// Why not.
        reason: &'static str,
    },

    /// An update with nothing to set, or an insert without rows.
    #[error("a statement on {table} has nothing to write")]
    NothingToWrite {
        /// The entity's table.
        table: String,
    },

    /// Raw SQL on a handle behind which no row-level security stands.
    #[error(
        "raw SQL is refused for tenant {tenant}: no row-level security stands behind this handle; use scoped statements, or service access"
    )]
    RawSqlRefused {
        /// The tenant.
        tenant: Uuid,
    },

    /// A statement of this transaction failed or was cancelled before. Roll it back and begin another.
    #[error(
        "an earlier statement of this transaction failed or was cancelled, so nothing more can be done in it; roll it back"
    )]
    TransactionFailed,

    /// Row-level security of the data source does not hold, so nothing is run there. The command `check-isolation` shows what
    /// was found; mend it, or name the objects in `isolation_exceptions`.
    #[error(
        "row-level security of {data_source} does not hold, so nothing is run there: {}; run check-isolation for all of it",
        first(findings)
    )]
    NotIsolated {
        /// The data source.
        data_source: DataSourceUrl,
        /// What was found.
        findings: Arc<[Finding]>,
    },

    /// A stream of this transaction is still open, and a transaction does one thing at a time.
    #[error("a stream of this transaction is still open; read it to its end first")]
    StreamOpen,

    /// A row does not fit its entity.
    #[error("a row of {table} does not fit its entity; generate the entities anew")]
    Decode {
        /// The entity's table.
        table: String,
        /// What did not fit.
        #[source]
        source: DbErr,
    },
}

impl From<RouteError> for Error {
    fn from(error: RouteError) -> Self {
        Self::Route(Box::new(error))
    }
}

impl Error {
    /// Whether the fence refused the write. Nothing of it was done then, and nothing is in doubt.
    pub(crate) fn is_refused_by_fence(&self) -> bool {
        matches!(self, Self::Moved { .. } | Self::Connection(tenantry_connection::Error::Fenced { .. }))
    }

    /// Whether the same call may succeed when it is made again, in a new transaction.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connection(error) => error.is_retryable(),
            Self::Moved { .. } => true,
            Self::Route(error) => error.is_retryable(),
            Self::OtherTenant { .. }
            | Self::ForgedTenant { .. }
            | Self::PrimaryKeyUpdate { .. }
            | Self::ForeignTable { .. }
            | Self::UnscopedSubquery { .. }
            | Self::CustomExpression { .. }
            | Self::UnsupportedExpression { .. }
            | Self::NotAuditable { .. }
            | Self::Join { .. }
            | Self::NothingToWrite { .. }
            | Self::RawSqlRefused { .. }
            | Self::TransactionFailed
            | Self::NotIsolated { .. }
            | Self::StreamOpen
            | Self::Decode { .. } => false,
        }
    }
}

fn first(findings: &[Finding]) -> String {
    let more = findings.len().saturating_sub(1);
    let first = findings.first().map(|finding| format!("{}: {}", finding.object, finding.problem)).unwrap_or_default();
    if more == 0 { first } else { format!("{first} (and {more} more)") }
}
