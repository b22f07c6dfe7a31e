//! The connections to one data source. Lazily connected: making a pool touches nothing.
//!
//! ```text
//! Pool (a login) ── Source (a data source: cap, idle connections, upkeep) ── Queue (who gets which)
//! ```
//!
//! SQLite's connections are kept by the driver's own pool: a file has no sessions, no logins and no tenants to tell apart.

mod leased;
mod probe;
mod queue;
mod source;
mod stats;

use std::{fmt, sync::Arc, time::Duration, time::Instant};

use sea_orm::{DatabaseConnection, QueryResult, SqlxPostgresConnector, SqlxSqliteConnector, Statement};
use sqlx::{
    ConnectOptions, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tenantry_credential::Login;

use self::source::{Opening, Source};
pub use self::stats::{ClosedCounts, PoolStatus};
pub(crate) use self::{leased::PostgresLease, stats::Closed};
use crate::{
    ConnectFailure, DataSourceUrl, Engine, Error, Lease, Mode, Session, Transaction,
    lease::{Leased, SqliteLease},
};

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
    Postgres { source: Arc<Source>, opening: Arc<Opening> },
    Sqlite(Arc<Sqlite>),
}

struct Sqlite {
    url: DataSourceUrl,
    options: PoolOptions,
    pool: SqlitePool,
}

const SQLITE_MAX_CONNECTIONS: u32 = 4;

impl Pool {
    /// Prepares a pool; connects nothing. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::NoLogin`] when a PostgreSQL source is given no login.
    pub fn new(url: &DataSourceUrl, login: Option<&Login>, options: &PoolOptions) -> Result<Self, Error> {
        let kind = match url.engine() {
            Engine::Postgres => {
                let source = Source::new(url, options);
                Kind::Postgres { opening: opening(&source, login)?, source }
            }
            Engine::Sqlite => Kind::Sqlite(Arc::new(Sqlite {
                url: url.clone(),
                options: options.clone(),
                pool: sqlite_pool(url, options),
            })),
        };
        Ok(Self { kind })
    }

    /// A pool of the same connections for another login: the cap holds for both together. An SQLite file has no logins.
    ///
    /// # Errors
    /// [`Error::NoLogin`] when a PostgreSQL source is given no login.
    pub fn with_login(&self, login: Option<&Login>) -> Result<Self, Error> {
        let kind = match &self.kind {
            Kind::Postgres { source, .. } => {
                Kind::Postgres { source: Arc::clone(source), opening: opening(source, login)? }
            }
            Kind::Sqlite(sqlite) => Kind::Sqlite(Arc::clone(sqlite)),
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
        match &self.kind {
            Kind::Postgres { source, .. } => {
                let source = source.succeeded(options);
                Ok(Self { kind: Kind::Postgres { opening: opening(&source, login)?, source } })
            }
            Kind::Sqlite(sqlite) => Self::new(&sqlite.url, login, options),
        }
    }

    /// The engine behind the pool.
    pub fn engine(&self) -> Engine {
        self.url().engine()
    }

    /// Where the pool connects to.
    pub fn url(&self) -> &DataSourceUrl {
        match &self.kind {
            Kind::Postgres { source, .. } => &source.url,
            Kind::Sqlite(sqlite) => &sqlite.url,
        }
    }

    /// How it behaves.
    pub fn options(&self) -> &PoolOptions {
        match &self.kind {
            Kind::Postgres { source, .. } => &source.options,
            Kind::Sqlite(sqlite) => &sqlite.options,
        }
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
            Kind::Postgres { source, opening } => Leased::Postgres(source.lease(opening, session).await?),
            Kind::Sqlite(sqlite) => Leased::Sqlite(SqliteLease::new(sqlite.lease().await?)),
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
        let url = self.url();
        let connected = |result: Result<(), sqlx::Error>| result.map_err(|source| Error::from_connect(url, source));
        Ok(match &self.kind {
            Kind::Postgres { source, .. } => {
                let login = login.ok_or_else(|| Error::NoLogin { data_source: url.clone() })?;
                let connect = session_options(source, login).await?;
                let options = one_session(PgPoolOptions::new(), source.options.acquire_timeout);
                let pool = options.connect_lazy_with(connect);
                connected(pool.acquire().await.map(drop))?;
                SqlxPostgresConnector::from_sqlx_postgres_pool(pool)
            }
            Kind::Sqlite(sqlite) => {
                let options = one_session(SqlitePoolOptions::new(), sqlite.options.acquire_timeout);
                let pool = options.connect_lazy_with(sqlite_options(url, &sqlite.options));
                connected(pool.acquire().await.map(drop))?;
                SqlxSqliteConnector::from_sqlx_sqlite_pool(pool)
            }
        })
    }

    /// The connections of the data source now, and what happened to them.
    pub fn status(&self) -> PoolStatus {
        match &self.kind {
            Kind::Postgres { source, .. } => source.status(),
            Kind::Sqlite(sqlite) => {
                let pool = &sqlite.pool;
                let (open, idle) = (pool.size(), u32::try_from(pool.num_idle()).unwrap_or(u32::MAX));
                let max = pool.options().get_max_connections();
                PoolStatus { open, idle, in_use: open.saturating_sub(idle), max, ..PoolStatus::default() }
            }
        }
    }

    /// Whether the connections keep their server session between transactions, so that named statements and session settings
    /// hold; false behind a pooler in transaction mode, and for an SQLite file. Connects if it has to be found out.
    ///
    /// # Errors
    /// [`Error::Connect`] when it could not be found out.
    pub async fn keeps_session(&self) -> Result<bool, Error> {
        match &self.kind {
            Kind::Postgres { source, opening } => source.keeps_session(opening, source.deadline()).await,
            Kind::Sqlite(_) => Ok(false),
        }
    }

    /// Changes the cap of the data source. What is idle above a lower one is closed at once, the rest as it is given back.
    pub fn set_max_connections(&self, max: u32) {
        if let Kind::Postgres { source, .. } = &self.kind {
            source.set_max_connections(max);
        }
    }

    /// Keeps this many connections of this login open, used or not, as far as the cap allows. Connects in the background.
    pub fn keep_warm(&self, connections: u32) {
        if let Kind::Postgres { source, opening } = &self.kind {
            source.keep_warm(opening, connections);
        }
    }

    /// Closes what nobody uses, and what is in use as soon as it is given back: every later lease gets a new connection.
    pub fn renew(&self) {
        if let Kind::Postgres { source, .. } = &self.kind {
            source.renew();
        }
    }

    /// Refuses new leases of the data source, whatever the login, and closes every connection, waiting for those in use.
    pub async fn close(&self) {
        match &self.kind {
            Kind::Postgres { source, .. } => source.close().await,
            Kind::Sqlite(sqlite) => sqlite.pool.close().await,
        }
    }
}

impl Sqlite {
    async fn lease(&self) -> Result<sqlx::pool::PoolConnection<sqlx::Sqlite>, Error> {
        let started = Instant::now();
        self.pool.acquire().await.map_err(|source| {
            let data_source = self.url.clone();
            match source {
                // The driver reports a file that cannot be opened as a time-out, too; what is open tells them apart.
                sqlx::Error::PoolTimedOut if self.pool.size() >= self.pool.options().get_max_connections() => {
                    Error::Exhausted {
                        data_source,
                        cap: self.pool.options().get_max_connections(),
                        waiting: 0,
                        held: 0,
                        share: None,
                        waited_ms: started.elapsed().as_millis(),
                    }
                }
                sqlx::Error::PoolClosed => Error::Connect { data_source, reason: ConnectFailure::Closed, source: None },
                source => Error::from_connect(&self.url, source),
            }
        })
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("url", &self.url().as_str()).field("status", &self.status()).finish()
    }
}

fn opening(source: &Source, login: Option<&Login>) -> Result<Arc<Opening>, Error> {
    let login = login.ok_or_else(|| Error::NoLogin { data_source: source.url.clone() })?;
    Ok(source.opening(login.fingerprint(), connect_options(&source.url, login, &source.options)?))
}

/// How to open a connection that has a server session of its own.
async fn session_options(source: &Arc<Source>, login: &Login) -> Result<PgConnectOptions, Error> {
    if let Some(direct) = &source.options.direct_url {
        return connect_options(direct, login, &source.options);
    }
    let opening = opening(source, Some(login))?;
    let keeps_session = source.keeps_session(&opening, source.deadline()).await?;
    // Where it was not found out, a pool of one connection that is told nothing of a pooler is taken at its word.
    if keeps_session || (source.options.pooler == PoolerMode::Auto && source.status().max < 2) {
        Ok(opening.options.clone())
    } else {
        Err(Error::NoDirectUrl { data_source: source.url.clone() })
    }
}

fn connect_options(url: &DataSourceUrl, login: &Login, options: &PoolOptions) -> Result<PgConnectOptions, Error> {
    let connect = url.postgres_options(login).ok_or_else(|| Error::NoLogin { data_source: url.clone() })?;
    Ok(connect
        .application_name(&options.application_name)
        // A pooler refuses parameters at startup that it does not know. Since PostgreSQL 12 every float is exact without it.
        .extra_float_digits(None)
        // Statements are logged by nobody: their text may be an application's, and their values are.
        .disable_statement_logging())
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

fn sqlite_pool(url: &DataSourceUrl, options: &PoolOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(options.max_connections.clamp(1, SQLITE_MAX_CONNECTIONS))
        .min_connections(0)
        .acquire_timeout(options.acquire_timeout)
        .idle_timeout(options.idle_timeout)
        .connect_lazy_with(sqlite_options(url, options))
}

fn sqlite_options(url: &DataSourceUrl, options: &PoolOptions) -> SqliteConnectOptions {
    let path = url.sqlite_path().unwrap_or_else(|| std::path::Path::new(""));
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(options.create_if_missing)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        // LIKE tells cases apart, as PostgreSQL's does; by default it would ignore the case of ASCII and of nothing else.
        .pragma("case_sensitive_like", "ON")
        .busy_timeout(options.acquire_timeout)
        .disable_statement_logging()
}
