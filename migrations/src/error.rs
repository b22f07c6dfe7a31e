//! What can keep a schema from being made.

use sea_orm_migration::sea_orm::DbErr;

/// A migration that was refused or failed. Nothing has changed: every migration is one transaction.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused a statement.
    #[error("the database refused a statement while {doing}")]
    Database {
        /// What was being done.
        doing: String,
        /// The database's error.
        #[source]
        source: DbErr,
    },
    /// Neither PostgreSQL nor SQLite.
    #[error("{backend} is not supported; use PostgreSQL 15 or newer, or SQLite")]
    Backend {
        /// The engine's name.
        backend: String,
    },
    /// The connection given to a migrator has several connections behind it.
    #[error(
        "a migrator needs a pool of exactly one connection and was given one of up to {max_connections}; \
         set max_connections to 1, because settings of a session reach one connection only"
    )]
    SeveralConnections {
        /// The pool's size.
        max_connections: u32,
    },
    /// No restricted role was named.
    #[error(
        "no restricted role is set: call prepare_tenant_data on this connection first, or run \
         SET tenantry.restricted_role = '<role>'"
    )]
    NoRestrictedRole,
    /// The restricted role cannot be trusted to be held back by row-level security.
    #[error("the role {role} cannot be the restricted role: {problem}; run: {remedy}")]
    RestrictedRole {
        /// The role's name.
        role: String,
        /// What is wrong with it.
        problem: String,
        /// The SQL that puts it right, to be run by an administrator.
        remedy: String,
    },
    /// The tenant column's type is none of uuid, bigint, text.
    #[error("the tenant column cannot be of type {given:?}; use uuid, bigint or text")]
    TenantType {
        /// What was given.
        given: String,
    },
    /// Settings differ from those that the data source was installed with.
    #[error("this data source was installed with {setting} = {installed:?} and not {given:?}; use the installed value")]
    OtherInstallation {
        /// The setting's name.
        setting: &'static str,
        /// What the first migration stored.
        installed: String,
        /// What was given now.
        given: String,
    },
    /// The foundation is missing.
    #[error("the tenant data schema's foundation is not installed here; run TenantDataMigrator first")]
    NotInstalled,
    /// Someone other than the service role creates a tenant table.
    #[error(
        "tenant tables here belong to the service role {service}, and this login is {current}; log in as {service}"
    )]
    NotService {
        /// The owner of schema `tenantry`.
        service: String,
        /// Who asked.
        current: String,
    },
    /// A name that no identifier can have.
    #[error("{name:?} cannot be an identifier: it must have 1 to 63 bytes and no NUL character")]
    Identifier {
        /// The name.
        name: String,
    },
    /// A table's definition that cannot be isolated, or that means something else on another engine.
    #[error("table {table}: {problem}")]
    Definition {
        /// The table's name.
        table: String,
        /// What is wrong and what to write instead.
        problem: String,
    },
    /// Tables of these names exist already.
    #[error("{} exist(s) already; move them away, or adopt them with fence::attach instead of creating them", tables.join(", "))]
    TablesExist {
        /// Their names.
        tables: Vec<String>,
    },
    /// An existing database has columns or rows that the new rules would refuse.
    #[error("the existing tables do not fit, and nothing was changed: {}", problems.join("; "))]
    DoesNotFit {
        /// Each problem with its table, its rule and the rows.
        problems: Vec<String>,
    },
    /// Rolling back would lose rows or values.
    #[error("rolling back would lose data, and nothing was changed: {}; move or delete it first", losses.join("; "))]
    WouldLose {
        /// Each table or column with what it holds.
        losses: Vec<String>,
    },
    /// Dropping every table of a database is never what an operator of tenants wants.
    #[error("`fresh` would drop every table of this database, foreign ones included; use `down`, then `up`")]
    FreshRefused,
}

impl Error {
    /// For `map_err`: wraps the database's error with what was being done.
    pub(crate) fn doing(doing: impl Into<String>) -> impl FnOnce(DbErr) -> Self {
        move |source| Self::Database { doing: doing.into(), source }
    }
}

/// For migrations, which answer with SeaORM's error: the database's own error is kept, ours become its text.
impl From<Error> for DbErr {
    fn from(error: Error) -> Self {
        match error {
            Error::Database { source, .. } => source,
            other => Self::Migration(other.to_string()),
        }
    }
}
