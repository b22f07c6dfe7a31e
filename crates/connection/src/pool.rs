//! A pool of connections to one database with one login. Lazily connected: making one touches nothing.

use std::{fmt, sync::Arc, time::Duration, time::Instant};

use sea_orm::{DatabaseConnection, SqlxPostgresConnector, SqlxSqliteConnector};
use sqlx::{
    ConnectOptions, PgPool, SqlitePool,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tenantry_credential::Login;

use crate::{ConnectFailure, DataSourceUrl, Engine, Error, Mode, Session, Transaction, transaction::Lease};

/// How a pool behaves.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// The most connections this pool ever holds. SQLite files get at most four, since each costs a thread.
    pub max_connections: u32,
    /// How long a caller waits for a connection.
    pub acquire_timeout: Duration,
    /// After how long an unused connection is closed.
    pub idle_timeout: Duration,
    /// Create a missing SQLite file. Off by default: a tenant whose file is missing must get an error, not an empty database.
    pub create_if_missing: bool,
    /// What PostgreSQL shows in `pg_stat_activity`.
    pub application_name: String,
    /// The PostgreSQL schema that unqualified names are looked up in.
    pub schema: String,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            max_connections: 10,
            acquire_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(600),
            create_if_missing: false,
            application_name: "tenantry".to_owned(),
            schema: "public".to_owned(),
        }
    }
}

/// Connections in a pool at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct PoolStatus {
    /// Open connections, in use or idle.
    pub open: u32,
    /// Open connections that nobody uses.
    pub idle: u32,
    /// The cap.
    pub max: u32,
}

/// Connections to one database with one login; a handle that is cheap to clone. Only [`Pool::begin`] gives one out, as a
/// [`Transaction`].
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    url: DataSourceUrl,
    options: PoolOptions,
    connections: Connections,
}

enum Connections {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

const SQLITE_MAX_CONNECTIONS: u32 = 4;

impl Pool {
    /// Prepares a pool; connects nothing. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::NoLogin`] when a PostgreSQL source is given no login.
    pub fn new(url: &DataSourceUrl, login: Option<&Login>, options: &PoolOptions) -> Result<Self, Error> {
        let connections = match url.engine() {
            Engine::Postgres => {
                let login = login.ok_or_else(|| Error::NoLogin { data_source: url.clone() })?;
                Connections::Postgres(postgres_pool(url, login, options, options.max_connections)?)
            }
            Engine::Sqlite => {
                Connections::Sqlite(sqlite_pool(url, options, options.max_connections.min(SQLITE_MAX_CONNECTIONS)))
            }
        };
        Ok(Self { shared: Arc::new(Shared { url: url.clone(), options: options.clone(), connections }) })
    }

    /// The engine behind the pool.
    pub fn engine(&self) -> Engine {
        self.shared.url.engine()
    }

    /// Where the pool connects to.
    pub fn url(&self) -> &DataSourceUrl {
        &self.shared.url
    }

    /// Waits for a connection and begins a transaction on it.
    ///
    /// Cancel-safe: a call that is dropped midway leaves no transaction open on a connection that anyone else gets.
    ///
    /// # Errors
    /// [`Error::Exhausted`] when every connection stayed in use, [`Error::Connect`] when none could be made; both say whether
    /// a retry makes sense.
    pub async fn begin(&self, session: &Session, mode: Mode) -> Result<Transaction, Error> {
        let lease = self.lease().await?;
        Transaction::begin(lease, self.url().clone(), session, mode, &self.shared.options.schema).await
    }

    /// A SeaORM connection of exactly one session, for migrators, which need SeaORM's type and keep settings between
    /// statements. It is a connection of its own, outside the pool; close it after use.
    ///
    /// # Errors
    /// [`Error::Connect`] when it could not be made.
    pub async fn migration_connection(&self, login: Option<&Login>) -> Result<DatabaseConnection, Error> {
        let url = self.url();
        let options = &self.shared.options;
        let connected = |result: Result<(), sqlx::Error>| result.map_err(|source| Error::from_connect(url, source));
        Ok(match &self.shared.connections {
            Connections::Postgres(_) => {
                let login = login.ok_or_else(|| Error::NoLogin { data_source: url.clone() })?;
                let pool = postgres_pool(url, login, options, 1)?;
                connected(pool.acquire().await.map(drop))?;
                SqlxPostgresConnector::from_sqlx_postgres_pool(pool)
            }
            Connections::Sqlite(_) => {
                let pool = sqlite_pool(url, options, 1);
                connected(pool.acquire().await.map(drop))?;
                SqlxSqliteConnector::from_sqlx_sqlite_pool(pool)
            }
        })
    }

    /// Connections open and idle now.
    pub fn status(&self) -> PoolStatus {
        let (open, idle, max) = match &self.shared.connections {
            Connections::Postgres(pool) => (pool.size(), pool.num_idle(), pool.options().get_max_connections()),
            Connections::Sqlite(pool) => (pool.size(), pool.num_idle(), pool.options().get_max_connections()),
        };
        PoolStatus { open, idle: u32::try_from(idle).unwrap_or(u32::MAX), max }
    }

    /// Refuses new transactions and closes every connection, waiting for those in use.
    pub async fn close(&self) {
        match &self.shared.connections {
            Connections::Postgres(pool) => pool.close().await,
            Connections::Sqlite(pool) => pool.close().await,
        }
    }

    async fn lease(&self) -> Result<Lease, Error> {
        let started = Instant::now();
        let leased = match &self.shared.connections {
            Connections::Postgres(pool) => pool.acquire().await.map(Lease::Postgres),
            Connections::Sqlite(pool) => pool.acquire().await.map(Lease::Sqlite),
        };
        leased.map_err(|source| {
            let PoolStatus { open, max, .. } = self.status();
            match source {
                // The driver reports a server that refuses connections as a time-out, too; what is open tells them apart.
                sqlx::Error::PoolTimedOut if open >= max => Error::Exhausted {
                    data_source: self.url().clone(),
                    cap: max,
                    waited_ms: started.elapsed().as_millis(),
                },
                sqlx::Error::PoolClosed => {
                    Error::Connect { data_source: self.url().clone(), reason: ConnectFailure::Closed, source: None }
                }
                source => Error::from_connect(self.url(), source),
            }
        })
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("url", &self.shared.url.as_str()).field("status", &self.status()).finish()
    }
}

fn postgres_pool(url: &DataSourceUrl, login: &Login, options: &PoolOptions, max: u32) -> Result<PgPool, Error> {
    let connect = url
        .postgres_options(login)
        .ok_or_else(|| Error::NoLogin { data_source: url.clone() })?
        .application_name(&options.application_name)
        // Statements are logged by nobody: their text may be an application's, and their values are.
        .disable_statement_logging();
    Ok(PgPoolOptions::new()
        .max_connections(max.max(1))
        .min_connections(0)
        .acquire_timeout(options.acquire_timeout)
        .idle_timeout(options.idle_timeout)
        .connect_lazy_with(connect))
}

fn sqlite_pool(url: &DataSourceUrl, options: &PoolOptions, max: u32) -> SqlitePool {
    let path = url.sqlite_path().unwrap_or_else(|| std::path::Path::new(""));
    let connect = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(options.create_if_missing)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        // LIKE tells cases apart, as PostgreSQL's does; by default it would ignore the case of ASCII and of nothing else.
        .pragma("case_sensitive_like", "ON")
        .busy_timeout(options.acquire_timeout)
        .disable_statement_logging();
    SqlitePoolOptions::new()
        .max_connections(max.max(1))
        .min_connections(0)
        .acquire_timeout(options.acquire_timeout)
        .idle_timeout(options.idle_timeout)
        .connect_lazy_with(connect)
}
