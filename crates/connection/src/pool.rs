//! The connections to one data source. Lazily connected: making a pool touches nothing.
//!
//! ```text
//! Pool (a login) ── Source (a data source: cap, idle connections, upkeep) ── Queue (who gets which)
//! ```
//!
//! SQLite's connections are kept by the driver's own pool: a file has no sessions, no logins and no tenants to tell apart. An
//! engine that the program is built without (features `postgres`, `sqlite`) has no pool.

#[cfg(not(all(feature = "postgres", feature = "sqlite")))]
mod absent;
#[cfg(feature = "postgres")]
mod leased;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "postgres")]
mod probe;
#[cfg(feature = "postgres")]
mod queue;
#[cfg(feature = "postgres")]
mod source;
#[cfg(feature = "sqlite")]
mod sqlite;
mod stats;
mod watcher;

use std::{fmt, time::Duration};

use sea_orm::{DatabaseConnection, QueryResult, Statement};
use tenantry_credential::Login;

#[cfg(not(feature = "postgres"))]
pub(crate) use self::absent::postgres::{self, PostgresLease, PostgresPool, PostgresWatcher};
#[cfg(not(feature = "sqlite"))]
pub(crate) use self::absent::sqlite::{SqliteLease, SqlitePool, SqliteWatcher};
#[cfg(feature = "sqlite")]
pub(crate) use self::sqlite::{SqliteLease, SqlitePool, SqliteWatcher};
pub use self::stats::{ClosedCounts, PoolStatus};
pub use self::watcher::Watcher;
#[cfg(feature = "postgres")]
pub(crate) use self::{
    leased::PostgresLease,
    postgres::{PostgresPool, PostgresWatcher},
};
use crate::{DataSourceUrl, Engine, Error, Lease, Mode, Session, Transaction, lease::Leased};

/// What stands between this process and a PostgreSQL server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PoolerMode {
    /// To be found out: an idle listener is notified before the first lease. With a cap of one connection it cannot be found
    /// out, and is taken for [`PoolerMode::Transaction`].
    #[default]
    Auto,
    /// Nothing.
    Direct,
    /// A pooler that keeps a server connection for as long as its client is connected.
    Session,
    /// A pooler that may change the server connection between transactions. Every statement then runs in a transaction that
    /// carries its session, unnamed.
    Transaction,
}

/// How a pool behaves.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// The most connections this pool, and all that were made from it, ever hold. SQLite files get at most four, since each
    /// costs a thread.
    pub max_connections: u32,
    /// How long a caller waits for a connection.
    pub acquire_timeout: Duration,
    /// After how long an unused connection is closed.
    pub idle_timeout: Duration,
    /// After how long a connection is closed, used or not; up to a tenth earlier, so that not all are closed at once.
    pub max_lifetime: Duration,
    /// Create a missing SQLite file. Off by default: a tenant whose file is missing must get an error, not an empty database.
    pub create_if_missing: bool,
    /// What PostgreSQL shows in `pg_stat_activity`.
    pub application_name: String,
    /// The PostgreSQL schema that unqualified names are looked up in.
    pub schema: String,
    /// What stands between this process and a PostgreSQL server.
    pub pooler: PoolerMode,
    /// The way past the pooler, for what needs a server session of its own.
    pub direct_url: Option<DataSourceUrl>,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            max_connections: 10,
            acquire_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(600),
            max_lifetime: Duration::from_secs(1800),
            create_if_missing: false,
            application_name: "tenantry".to_owned(),
            schema: "public".to_owned(),
            pooler: PoolerMode::Auto,
            direct_url: None,
        }
    }
}

/// Connections to one data source with one login; a handle that is cheap to clone. Connections are kept, and counted, by data
/// source: [`Pool::with_login`] makes a pool of another login under the same cap.
#[derive(Clone)]
pub struct Pool {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Postgres(PostgresPool),
    Sqlite(SqlitePool),
}

/// The same of either engine.
macro_rules! either {
    ($kind:expr, $pool:ident => $call:expr) => {
        match $kind {
            Kind::Postgres($pool) => $call,
            Kind::Sqlite($pool) => $call,
        }
    };
}

impl Pool {
    /// Prepares a pool; connects nothing. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::NoLogin`] when a PostgreSQL source is given no login; [`Error::NoDriver`] when the program was built without the
    /// engine.
    pub fn new(url: &DataSourceUrl, login: Option<&Login>, options: &PoolOptions) -> Result<Self, Error> {
        let kind = match url.engine() {
            Engine::Postgres => Kind::Postgres(PostgresPool::new(url, login, options)?),
            Engine::Sqlite => Kind::Sqlite(SqlitePool::new(url, login, options)?),
        };
        Ok(Self { kind })
    }

    /// A pool of the same connections for another login: the cap holds for both together. An SQLite file has no logins.
    ///
    /// # Errors
    /// [`Error::NoLogin`] when a PostgreSQL source is given no login.
    pub fn with_login(&self, login: Option<&Login>) -> Result<Self, Error> {
        let kind = match &self.kind {
            Kind::Postgres(pool) => Kind::Postgres(pool.with_login(login)?),
            Kind::Sqlite(pool) => Kind::Sqlite(pool.with_login(login)?),
        };
        Ok(Self { kind })
    }

    /// A pool in place of this one, with other options: it finds out anew what is between here and the server, and uses none of
    /// the connections there are. One cap, that of the new options, holds for both together. Who has a connection of this one
    /// keeps it, and when it is given back it is closed.
    ///
    /// # Errors
    /// [`Error::NoLogin`] when a PostgreSQL source is given no login.
    pub fn succeeded_by(&self, login: Option<&Login>, options: &PoolOptions) -> Result<Self, Error> {
        let kind = match &self.kind {
            Kind::Postgres(pool) => Kind::Postgres(pool.succeeded_by(login, options)?),
            Kind::Sqlite(pool) => Kind::Sqlite(pool.succeeded_by(login, options)?),
        };
        Ok(Self { kind })
    }

    /// The engine behind the pool.
    pub fn engine(&self) -> Engine {
        self.url().engine()
    }

    /// Where the pool connects to.
    pub fn url(&self) -> &DataSourceUrl {
        either!(&self.kind, pool => pool.url())
    }

    /// How it behaves.
    pub fn options(&self) -> &PoolOptions {
        either!(&self.kind, pool => pool.options())
    }

    /// Waits for a connection; on PostgreSQL, if there is one, for one that is set to the session's tenant already.
    ///
    /// Waiting is fair: in turn within a tenant, and in turns between tenants. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Exhausted`] when none came free before the deadline, [`Error::Connect`] when none could be made; both say
    /// whether a retry makes sense.
    pub async fn lease(&self, session: &Session) -> Result<Lease, Error> {
        let leased = match &self.kind {
            Kind::Postgres(pool) => Leased::Postgres(pool.lease(session).await?),
            Kind::Sqlite(pool) => Leased::Sqlite(pool.lease(session).await?),
        };
        Ok(Lease::new(Some(leased), self.url().clone()))
    }

    /// Waits for a connection and begins a transaction on it.
    ///
    /// Cancel-safe: a call that is dropped midway leaves no transaction open on a connection that anyone else gets.
    ///
    /// # Errors
    /// As [`Pool::lease`].
    pub async fn begin(&self, session: &Session, mode: Mode) -> Result<Transaction, Error> {
        self.lease(session).await?.begin(session, mode).await
    }

    /// The same, and runs SQL that Tenantry itself wrote as the first of it. See [`Lease::begin_with`].
    ///
    /// # Errors
    /// As [`Pool::lease`] and [`Lease::begin_with`].
    pub async fn begin_with(&self, session: &Session, mode: Mode, first: &str) -> Result<Transaction, Error> {
        self.lease(session).await?.begin_with(session, mode, first).await
    }

    /// Runs one statement on a connection of its own and collects its rows. See [`Lease::query_all`].
    ///
    /// # Errors
    /// As [`Pool::lease`] and [`Lease::query_all`].
    pub async fn query_all(
        &self,
        session: &Session,
        mode: Mode,
        statement: Statement,
    ) -> Result<Vec<QueryResult>, Error> {
        self.lease(session).await?.query_all(session, mode, statement).await
    }

    /// Runs one statement on a connection of its own and returns the number of rows it affected. See [`Lease::execute`].
    ///
    /// # Errors
    /// As [`Pool::lease`] and [`Lease::execute`].
    pub async fn execute(&self, session: &Session, statement: Statement) -> Result<u64, Error> {
        self.lease(session).await?.execute(session, statement).await
    }

    /// A SeaORM connection of exactly one session, for migrators, which need SeaORM's type and keep settings and locks between
    /// statements. It is a connection of its own, outside the pool, and past a pooler in transaction mode; close it after use.
    ///
    /// # Errors
    /// [`Error::Connect`] when it could not be made; [`Error::NoDirectUrl`] behind a pooler in transaction mode without a way
    /// past it.
    pub async fn migration_connection(&self, login: Option<&Login>) -> Result<DatabaseConnection, Error> {
        either!(&self.kind, pool => pool.migration_connection(login).await)
    }

    /// The connections of the data source now, and what happened to them.
    pub fn status(&self) -> PoolStatus {
        either!(&self.kind, pool => pool.status())
    }

    /// Whether the connections keep their server session between transactions, so that named statements and session settings
    /// hold; false behind a pooler in transaction mode, and for an SQLite file. Connects if it has to be found out.
    ///
    /// # Errors
    /// [`Error::Connect`] when it could not be found out.
    pub async fn keeps_session(&self) -> Result<bool, Error> {
        match &self.kind {
            Kind::Postgres(pool) => pool.keeps_session().await,
            Kind::Sqlite(_) => Ok(false),
        }
    }

    /// Changes the cap of the data source. What is idle above a lower one is closed at once, the rest as it is given back.
    pub fn set_max_connections(&self, max: u32) {
        if let Kind::Postgres(pool) = &self.kind {
            pool.set_max_connections(max);
        }
    }

    /// Keeps this many connections of this login open, used or not, as far as the cap allows. Connects in the background.
    pub fn keep_warm(&self, connections: u32) {
        if let Kind::Postgres(pool) = &self.kind {
            pool.keep_warm(connections);
        }
    }

    /// Closes what nobody uses, and what is in use as soon as it is given back: every later lease gets a new connection.
    pub fn renew(&self) {
        if let Kind::Postgres(pool) = &self.kind {
            pool.renew();
        }
    }

    /// Refuses new leases of the data source, whatever the login, and closes every connection, waiting for those in use.
    pub async fn close(&self) {
        either!(&self.kind, pool => pool.close().await);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("url", &self.url().as_str()).field("status", &self.status()).finish()
    }
}

/// A pool of the driver that is one connection for as long as it is open. The driver closes a connection that is old or was idle
/// for long also between two statements of a migration, and its lock would go with it.
fn one_session<DB: sqlx::Database>(
    options: sqlx::pool::PoolOptions<DB>,
    acquire_timeout: Duration,
) -> sqlx::pool::PoolOptions<DB> {
    let options = options.max_connections(1).min_connections(0).acquire_timeout(acquire_timeout);
    options.idle_timeout(None).max_lifetime(None)
}

#[cfg(all(test, not(all(feature = "postgres", feature = "sqlite"))))]
mod tests {
    use super::*;

    /// Catches an engine that is left out and then missed in the middle of something.
    #[test]
    fn an_absent_engine_is_refused_by_name() {
        let (absent, name) = match cfg!(feature = "sqlite") {
            true => ("postgresql://db.example.com/crm", "PostgreSQL"),
            false => ("sqlite:/srv/a.db", "SQLite"),
        };
        let url = DataSourceUrl::parse(absent).expect("it is a URL");
        let refused = Pool::new(&url, None, &PoolOptions::default()).expect_err("there is no driver");
        assert!(refused.to_string().ends_with(&format!("was built without {name}")), "{refused}");
    }
}
