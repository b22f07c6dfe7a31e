//! SQLite: the driver's own pool, since a file has no sessions, no logins and no tenants to tell apart, and what is done on a
//! leased connection.

mod watcher;

use std::{sync::Arc, time::Instant};

use async_stream::try_stream;
use futures_util::{Stream, StreamExt};
use sea_orm::{DatabaseConnection, QueryResult, SqlxSqliteConnector, Values};
use sea_query_sqlx::SqlxValues;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Executor, Sqlite, SqliteConnection,
    pool::PoolConnection,
    query::Query,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tenantry_credential::Login;
use tokio::runtime::Handle;

pub(crate) use self::watcher::SqliteWatcher;
use super::{PoolOptions, PoolStatus, one_session};
use crate::{ConnectFailure, DataSourceUrl, Error, Mode, Session};

/// Each connection costs a thread.
const MAX_CONNECTIONS: u32 = 4;

/// The connections of one file.
#[derive(Clone)]
pub(crate) struct SqlitePool(Arc<File>);

struct File {
    url: DataSourceUrl,
    options: PoolOptions,
    pool: sqlx::SqlitePool,
}

impl SqlitePool {
    pub(crate) fn new(url: &DataSourceUrl, _: Option<&Login>, options: &PoolOptions) -> Result<Self, Error> {
        let pool = SqlitePoolOptions::new()
            .max_connections(options.max_connections.clamp(1, MAX_CONNECTIONS))
            .min_connections(0)
            .acquire_timeout(options.acquire_timeout)
            .idle_timeout(options.idle_timeout)
            .connect_lazy_with(connect_options(url, options));
        Ok(Self(Arc::new(File { url: url.clone(), options: options.clone(), pool })))
    }

    /// A file has no logins.
    pub(crate) fn with_login(&self, _: Option<&Login>) -> Result<Self, Error> {
        Ok(self.clone())
    }

    pub(crate) fn succeeded_by(&self, login: Option<&Login>, options: &PoolOptions) -> Result<Self, Error> {
        Self::new(self.url(), login, options)
    }

    pub(crate) fn url(&self) -> &DataSourceUrl {
        &self.0.url
    }

    pub(crate) fn options(&self) -> &PoolOptions {
        &self.0.options
    }

    pub(crate) async fn lease(&self, _: &Session) -> Result<SqliteLease, Error> {
        let started = Instant::now();
        let pool = &self.0.pool;
        let cap = pool.options().get_max_connections();
        let connection = pool.acquire().await.map_err(|source| {
            let data_source = self.url().clone();
            match source {
                // The driver reports a file that cannot be opened as a time-out, too; what is open tells them apart.
                sqlx::Error::PoolTimedOut if pool.size() >= cap => {
                    let waited_ms = started.elapsed().as_millis();
                    Error::Exhausted { data_source, cap, waiting: 0, held: 0, share: None, waited_ms }
                }
                sqlx::Error::PoolClosed => Error::Connect { data_source, reason: ConnectFailure::Closed, source: None },
                source => Error::from_connect(self.url(), source),
            }
        })?;
        Ok(SqliteLease { connection: Some(connection), runtime: Handle::try_current().ok() })
    }

    pub(crate) async fn migration_connection(&self, _: Option<&Login>) -> Result<DatabaseConnection, Error> {
        let options = one_session(SqlitePoolOptions::new(), self.options().acquire_timeout);
        let pool = options.connect_lazy_with(connect_options(self.url(), self.options()));
        pool.acquire().await.map_err(|source| Error::from_connect(self.url(), source))?;
        Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
    }

    pub(crate) fn status(&self) -> PoolStatus {
        let pool = &self.0.pool;
        let (open, idle) = (pool.size(), u32::try_from(pool.num_idle()).unwrap_or(u32::MAX));
        let max = pool.options().get_max_connections();
        PoolStatus { open, idle, in_use: open.saturating_sub(idle), max, ..PoolStatus::default() }
    }

    pub(crate) async fn close(&self) {
        self.0.pool.close().await;
    }
}

/// A connection of the driver's pool. The driver gives it back in a task, which takes a runtime also where it is dropped outside.
pub(crate) struct SqliteLease {
    /// There until the drop.
    connection: Option<PoolConnection<Sqlite>>,
    runtime: Option<Handle>,
}

impl SqliteLease {
    pub(crate) fn connection(&mut self) -> Result<&mut SqliteConnection, Error> {
        self.connection.as_deref_mut().ok_or(Error::Ended)
    }

    pub(crate) fn close_on_drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }

    /// Begins a transaction, and stores the session's settings where it writes. Whether it did.
    pub(crate) async fn begin(
        &mut self,
        session: &Session,
        mode: Mode,
        first: &str,
        url: &DataSourceUrl,
    ) -> Result<bool, Error> {
        let settings = session.sqlite_settings()?;
        let begin = match mode {
            Mode::Write => "PRAGMA query_only = OFF; BEGIN IMMEDIATE",
            // A deferred transaction takes its snapshot at its first read, not at BEGIN.
            Mode::Snapshot => "PRAGMA query_only = ON; BEGIN; SELECT count(*) FROM sqlite_schema",
            Mode::Read => "PRAGMA query_only = ON; BEGIN",
        };
        self.run_raw(begin, url).await?;
        if !first.is_empty() {
            self.run_raw(first, url).await?;
        }
        match settings.filter(|_| mode == Mode::Write) {
            Some(settings) => self.run_raw(&settings, url).await.map(|()| true),
            None => Ok(false),
        }
    }

    pub(crate) async fn run(&mut self, sql: String, values: Values, url: &DataSourceUrl) -> Result<u64, Error> {
        let done = query(sql, values).execute(self.connection()?).await;
        done.map(|done| done.rows_affected()).map_err(|source| Error::from_statement(url, source))
    }

    pub(crate) async fn run_raw(&mut self, sql: &str, url: &DataSourceUrl) -> Result<(), Error> {
        let done = self.connection()?.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await;
        done.map(drop).map_err(|source| Error::from_statement(url, source))
    }

    pub(crate) async fn query_raw(&mut self, sql: &str, url: &DataSourceUrl) -> Result<Vec<QueryResult>, Error> {
        let rows = self.connection()?.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await;
        let rows = rows.map_err(|source| Error::from_statement(url, source))?;
        Ok(rows.into_iter().map(QueryResult::from).collect())
    }

    pub(crate) fn stream<'c>(
        &'c mut self,
        sql: String,
        values: Values,
        url: &'c DataSourceUrl,
    ) -> impl Stream<Item = Result<QueryResult, Error>> + Send + 'c {
        try_stream! {
            let mut rows = query(sql, values).fetch(self.connection()?);
            while let Some(row) = rows.next().await {
                yield QueryResult::from(row.map_err(|source| Error::from_statement(url, source))?);
            }
        }
    }
}

impl Drop for SqliteLease {
    fn drop(&mut self) {
        let _entered = self.runtime.as_ref().map(Handle::enter);
        drop(self.connection.take());
    }
}

fn query(sql: String, values: Values) -> Query<'static, Sqlite, SqlxValues> {
    sqlx::query_with(AssertSqlSafe(sql), SqlxValues(values))
}

fn connect_options(url: &DataSourceUrl, options: &PoolOptions) -> SqliteConnectOptions {
    let path = url.sqlite_path().unwrap_or_else(|| std::path::Path::new(""));
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(options.create_if_missing)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // What was committed is there after a power failure, as PostgreSQL has it by default. A row that has been moved and deleted
        // where it was, or a placement that was changed, must not be taken back by one.
        .synchronous(SqliteSynchronous::Full)
        // LIKE tells cases apart, as PostgreSQL's does; by default it would ignore the case of ASCII and of nothing else.
        .pragma("case_sensitive_like", "ON")
        .busy_timeout(options.acquire_timeout)
        .disable_statement_logging()
}
