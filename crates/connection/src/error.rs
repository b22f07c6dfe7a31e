//! What can go wrong with a connection, told apart by SQLSTATE (SQLite: by its extended result code).

use std::fmt;

use crate::{
    DataSourceUrl, Engine,
    pool::postgres::{column, ends_the_session, is_outdated_plan},
};

/// A failed attempt to use a database. Messages name the data source and never a login or a bound value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be made.
    #[error("cannot connect to {data_source}: {reason}")]
    Connect {
        /// The canonical URL.
        data_source: DataSourceUrl,
        /// What kind of failure it was.
        reason: ConnectFailure,
        /// The driver's error.
        #[source]
        source: Option<Box<sqlx::Error>>,
    },
    /// No connection came free before the deadline. Retry later, or raise the cap, or the tenant's share.
    #[error(
        "no connection to {data_source} within {waited_ms} ms: at most {cap} are allowed and {waiting} more callers wait{}; retry, \
         or raise max_connections of the data source{}",
        Share { held: *held, max: *share },
        if share.is_some() { " or the tenant's connection_pool_config.max" } else { "" }
    )]
    Exhausted {
        /// The canonical URL.
        data_source: DataSourceUrl,
        /// The most connections that the data source may have in this process.
        cap: u32,
        /// How many callers wait besides.
        waiting: usize,
        /// How many connections the tenant held itself at that moment.
        held: u32,
        /// The most that it may hold.
        share: Option<u32>,
        /// How long the caller waited, in milliseconds.
        waited_ms: u128,
    },
    /// What needs a server session of its own cannot go through a pooler in transaction mode. Set the data source's direct_url.
    #[error(
        "{data_source} goes through a pooler in transaction mode, and what is to be done needs a server session of its own; \
         set direct_url of the data source to the server's own address"
    )]
    NoDirectUrl {
        /// The canonical URL.
        data_source: DataSourceUrl,
    },
    /// The program cannot use this engine. Build it with the feature `postgres` or `sqlite`, whichever it is.
    #[error("{data_source} cannot be used: this program was built without {engine}")]
    NoDriver {
        /// The canonical URL.
        data_source: DataSourceUrl,
        /// Its engine.
        engine: Engine,
    },
    /// A PostgreSQL source needs a login and none was given.
    #[error("{data_source} needs a login and none is configured")]
    NoLogin {
        /// The canonical URL.
        data_source: DataSourceUrl,
    },
    /// The transaction was ended already, or its connection was given up after a failure.
    #[error("the transaction has ended")]
    Ended,
    /// A statement of the transaction failed or was cancelled before, so that there is nothing to commit. Nothing was written.
    #[error("the transaction in {data_source} was given up after a failed or cancelled statement; nothing was written")]
    Aborted {
        /// The canonical URL.
        data_source: DataSourceUrl,
    },
    /// SQL text of the application's own ends the transaction that it runs in. Its methods do that: behind a pooler the session
    /// would be somebody else's at once, with all that was left in it.
    #[error("raw SQL cannot end its transaction in {data_source}; call commit or rollback, or use a savepoint")]
    EndsTransaction {
        /// The canonical URL.
        data_source: DataSourceUrl,
    },
    /// A setting of the session cannot be sent.
    #[error("the session setting {setting} contains a NUL character, which no database accepts")]
    SessionSetting {
        /// The setting's name.
        setting: &'static str,
    },
    /// A bound value has no exact form on this engine.
    #[error("a bound value cannot be stored exactly: {reason}")]
    UnstorableValue {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A stored value has no Rust form.
    #[error(
        "column {column} holds {value}, which has no exact Rust value; exclude the row, or read the column as text"
    )]
    Unrepresentable {
        /// The column's name in the result.
        column: String,
        /// What it holds: `infinity`, `-infinity`, `24:00:00`, `NaN`, or `a date outside the supported range`.
        value: &'static str,
    },
    /// The tenant's writes are held: a transfer is under way, or its rows have moved. Nothing was written. Retry a little later.
    #[error("the tenant is fenced in {data_source}: its rows are being moved or have moved")]
    Fenced {
        /// The canonical URL.
        data_source: DataSourceUrl,
    },
    /// A unique constraint refused the row.
    #[error("a row with this key exists already (constraint {constraint})")]
    UniqueViolation {
        /// The constraint's name; on SQLite the columns.
        constraint: String,
    },
    /// A foreign key refused the row: what it refers to is not there, or something refers to it.
    #[error("a referenced row does not exist, or the row is still referenced (constraint {constraint})")]
    ForeignKeyViolation {
        /// The constraint's name; empty on SQLite, which does not tell.
        constraint: String,
    },
    /// A check constraint refused the row.
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
    /// Row-level security refused the row, or the role lacks the privilege.
    #[error("the database refused access for this role in {data_source}")]
    PermissionDenied {
        /// The canonical URL.
        data_source: DataSourceUrl,
        /// The driver's error.
        #[source]
        source: Box<sqlx::Error>,
    },
    /// The database chose this transaction to give way (serialization, deadlock, lock not available, SQLite busy, a table that
    /// changed under a prepared statement). Retry it.
    #[error("the transaction gave way to a concurrent one in {data_source}; retry it")]
    Conflict {
        /// The canonical URL.
        data_source: DataSourceUrl,
        /// The driver's error.
        #[source]
        source: Box<sqlx::Error>,
    },
    /// An answer of the database's catalogs does not have the expected form: the server is older than PostgreSQL 15, or no
    /// PostgreSQL.
    #[error("the database's catalogs answered in an unknown form; PostgreSQL 15 or newer is needed")]
    Catalog {
        /// What did not fit.
        #[source]
        source: sea_orm::DbErr,
    },
    /// Anything else a statement ran into.
    #[error("a statement failed in {data_source}")]
    Statement {
        /// The canonical URL.
        data_source: DataSourceUrl,
        /// The driver's error.
        #[source]
        source: Box<sqlx::Error>,
    },
}

/// Why no connection could be made, as far as it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectFailure {
    /// The login was refused.
    Login,
    /// The database, or the SQLite file, does not exist.
    NoSuchDatabase,
    /// Nothing answers in time, or the connection was refused.
    Unreachable,
    /// TLS could not be agreed on or verified.
    Tls,
    /// The server has no connection left, or is starting or stopping.
    Unavailable,
    /// The connection broke, or the server ended its session, in the middle of a statement. Whether a commit was done is not
    /// known.
    Lost,
    /// The pool was closed.
    Closed,
    /// Anything else.
    Other,
}

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Login => "the login was refused; check the credential",
            Self::NoSuchDatabase => "the database does not exist",
            Self::Unreachable => "nothing answers there; check host and port, and that the server runs",
            Self::Tls => "TLS could not be verified; check sslmode and sslrootcert",
            Self::Unavailable => "the server accepts no connection now; retry later",
            Self::Lost => "the connection broke off; retry, and mind that a commit under way may have been done",
            Self::Closed => "its pool was closed; route again",
            Self::Other => "the connection failed",
        })
    }
}

impl Error {
    /// Whether the same call may succeed when it is made again, in a new transaction.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { reason, .. } => match reason {
                ConnectFailure::Unreachable
                | ConnectFailure::Unavailable
                | ConnectFailure::Lost
                | ConnectFailure::Closed => true,
                ConnectFailure::Login
                | ConnectFailure::NoSuchDatabase
                | ConnectFailure::Tls
                | ConnectFailure::Other => false,
            },
            Self::Exhausted { .. } | Self::Conflict { .. } | Self::Fenced { .. } => true,
            Self::NoLogin { .. }
            | Self::NoDirectUrl { .. }
            | Self::NoDriver { .. }
            | Self::Ended
            | Self::Aborted { .. }
            | Self::EndsTransaction { .. }
            | Self::SessionSetting { .. }
            | Self::UnstorableValue { .. }
            | Self::Unrepresentable { .. }
            | Self::UniqueViolation { .. }
            | Self::ForeignKeyViolation { .. }
            | Self::CheckViolation { .. }
            | Self::NotNullViolation { .. }
            | Self::PermissionDenied { .. }
            | Self::Catalog { .. }
            | Self::Statement { .. } => false,
        }
    }

    /// The SQLSTATE (on SQLite the extended result code) behind a statement's error, where there is one.
    pub fn sqlstate(&self) -> Option<String> {
        match self {
            Self::PermissionDenied { source, .. } | Self::Conflict { source, .. } | Self::Statement { source, .. } => {
                source.as_database_error().and_then(|error| error.code()).map(std::borrow::Cow::into_owned)
            }
            _ => None,
        }
    }

    pub(crate) fn from_connect(data_source: &DataSourceUrl, source: sqlx::Error) -> Self {
        let reason = match &source {
            sqlx::Error::Database(error) => match error.code().as_deref() {
                Some("28P01" | "28000") => ConnectFailure::Login,
                Some("3D000" | "14") => ConnectFailure::NoSuchDatabase,
                Some("53300" | "57P01" | "57P02" | "57P03") => ConnectFailure::Unavailable,
                _ => ConnectFailure::Other,
            },
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => ConnectFailure::Unreachable,
            sqlx::Error::Tls(_) => ConnectFailure::Tls,
            sqlx::Error::PoolClosed => ConnectFailure::Closed,
            _ => ConnectFailure::Other,
        };
        Self::Connect { data_source: data_source.clone(), reason, source: Some(Box::new(source)) }
    }

    pub(crate) fn from_statement(data_source: &DataSourceUrl, source: sqlx::Error) -> Self {
        let data_source = data_source.clone();
        let lost = match &source {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) => true,
            sqlx::Error::Database(error) => ends_the_session(error.as_ref()),
            _ => false,
        };
        if lost {
            return Self::Connect { data_source, reason: ConnectFailure::Lost, source: Some(Box::new(source)) };
        }
        let sqlx::Error::Database(error) = &source else {
            return Self::Statement { data_source, source: Box::new(source) };
        };
        let constraint = || error.constraint().map_or_else(|| sqlite_detail(error.message()), str::to_owned);
        match error.code().as_deref() {
            Some("TN001") => Self::Fenced { data_source },
            // SQLite's RAISE(ABORT) has one code for every trigger; only the text tells whose it is.
            Some("1811") if error.message().starts_with("tenantry: tenant is fenced") => Self::Fenced { data_source },
            Some("23505" | "1555" | "2067" | "2579") => Self::UniqueViolation { constraint: constraint() },
            Some("23503") => Self::ForeignKeyViolation { constraint: constraint() },
            Some("787") => Self::ForeignKeyViolation { constraint: String::new() },
            Some("23514" | "275") => Self::CheckViolation { constraint: constraint() },
            Some("23502") => Self::NotNullViolation { column: column(error.as_ref()).unwrap_or_default() },
            Some("1299") => Self::NotNullViolation { column: sqlite_column(error.message()) },
            Some("42501") => Self::PermissionDenied { data_source, source: Box::new(source) },
            Some("40001" | "40P01" | "55P03" | "5" | "6" | "261" | "262" | "517") => {
                Self::Conflict { data_source, source: Box::new(source) }
            }
            _ if is_outdated_plan(error.as_ref()) => Self::Conflict { data_source, source: Box::new(source) },
            _ => Self::Statement { data_source, source: Box::new(source) },
        }
    }
}

/// The tenant's part in an exhausted pool.
struct Share {
    held: u32,
    max: Option<u32>,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.max {
            Some(max) => write!(f, "; this tenant holds {} of its share of {max}", self.held),
            None => Ok(()),
        }
    }
}

/// `NOT NULL constraint failed: accounts.name` → `name`, as PostgreSQL tells it.
fn sqlite_column(message: &str) -> String {
    let detail = sqlite_detail(message);
    detail.split_once('.').map_or(detail.clone(), |(_, column)| column.to_owned())
}

/// `UNIQUE constraint failed: accounts.tenant_id, accounts.id` → what stands behind the colon.
fn sqlite_detail(message: &str) -> String {
    message.split_once("failed: ").map_or_else(String::new, |(_, detail)| detail.to_owned())
}
