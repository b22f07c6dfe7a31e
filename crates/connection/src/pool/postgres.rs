//! PostgreSQL: a pool of one login over its source, and what is done on a leased connection.

mod watcher;

use std::sync::Arc;

use async_stream::try_stream;
use futures_util::{Stream, StreamExt};
use sea_orm::{DatabaseConnection, QueryResult, SqlxPostgresConnector, Values};
use sea_query_sqlx::SqlxValues;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Executor, Postgres,
    error::DatabaseError,
    postgres::{PgConnectOptions, PgDatabaseError, PgPoolOptions},
    query::Query,
};
use tenantry_credential::Login;

pub(crate) use self::watcher::PostgresWatcher;
use super::{
    PoolOptions, PoolStatus, PoolerMode,
    leased::PostgresLease,
    one_session,
    source::{Opening, Source},
    stats::Closed,
};
use crate::{DataSourceUrl, Error, Mode, Session, representable::EdgedColumns};

/// The connections of a data source, as one login uses them.
#[derive(Clone)]
pub(crate) struct PostgresPool {
    source: Arc<Source>,
    opening: Arc<Opening>,
}

impl PostgresPool {
    pub(crate) fn new(url: &DataSourceUrl, login: Option<&Login>, options: &PoolOptions) -> Result<Self, Error> {
        Self::of(Source::new(url, options), login)
    }

    fn of(source: Arc<Source>, login: Option<&Login>) -> Result<Self, Error> {
        let opening = opening(&source, login)?;
        Ok(Self { source, opening })
    }

    pub(crate) fn with_login(&self, login: Option<&Login>) -> Result<Self, Error> {
        Self::of(Arc::clone(&self.source), login)
    }

    pub(crate) fn succeeded_by(&self, login: Option<&Login>, options: &PoolOptions) -> Result<Self, Error> {
        Self::of(self.source.succeeded(options), login)
    }

    pub(crate) fn url(&self) -> &DataSourceUrl {
        &self.source.url
    }

    pub(crate) fn options(&self) -> &PoolOptions {
        &self.source.options
    }

    pub(crate) async fn lease(&self, session: &Session) -> Result<PostgresLease, Error> {
        self.source.lease(&self.opening, session).await
    }

    pub(crate) async fn migration_connection(&self, login: Option<&Login>) -> Result<DatabaseConnection, Error> {
        let url = self.url();
        let login = login.ok_or_else(|| Error::NoLogin { data_source: url.clone() })?;
        let connect = session_options(&self.source, login).await?;
        let pool = one_session(PgPoolOptions::new(), self.options().acquire_timeout).connect_lazy_with(connect);
        pool.acquire().await.map_err(|source| Error::from_connect(url, source))?;
        Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
    }

    pub(crate) fn status(&self) -> PoolStatus {
        self.source.status()
    }

    pub(crate) async fn keeps_session(&self) -> Result<bool, Error> {
        self.source.keeps_session(&self.opening, self.source.deadline()).await
    }

    pub(crate) fn set_max_connections(&self, max: u32) {
        self.source.set_max_connections(max);
    }

    pub(crate) fn keep_warm(&self, connections: u32) {
        self.source.keep_warm(&self.opening, connections);
    }

    pub(crate) fn renew(&self) {
        self.source.renew();
    }

    pub(crate) async fn close(&self) {
        self.source.close().await;
    }
}

/// Outside a transaction: over a connection that keeps its session.
impl PostgresLease {
    pub(crate) async fn query_all(
        &mut self,
        session: &Session,
        mode: Mode,
        sql: String,
        values: Values,
        url: &DataSourceUrl,
    ) -> Result<Vec<QueryResult>, Error> {
        self.set_session(session, mode == Mode::Write, url).await?;
        self.set_busy();
        let rows = query(sql, values, true).fetch_all(&mut self.connection()?.raw).await;
        let rows = self.settle(url, rows)?;
        if let Some(row) = rows.first() {
            let edged = EdgedColumns::of(row);
            rows.iter().try_for_each(|row| edged.check(row))?;
        }
        Ok(rows.into_iter().map(QueryResult::from).collect())
    }

    pub(crate) async fn execute(
        &mut self,
        session: &Session,
        sql: String,
        values: Values,
        url: &DataSourceUrl,
    ) -> Result<u64, Error> {
        self.set_session(session, true, url).await?;
        self.set_busy();
        let done = query(sql, values, true).execute(&mut self.connection()?.raw).await;
        self.settle(url, done).map(|done| done.rows_affected())
    }

    /// Sets the server session to this session's tenant if it is not. What it is set to is forgotten before and known again
    /// after the server's answer, so that a call dropped midway never leaves a connection that passes for somebody's.
    async fn set_session(&mut self, session: &Session, for_write: bool, url: &DataSourceUrl) -> Result<(), Error> {
        let connection = self.connection()?;
        let known = connection.session.as_ref().ok_or(Error::Ended)?;
        let Some((sql, set)) = session.set(known, for_write)? else { return Ok(()) };
        connection.session = None;
        self.set_busy();
        let done = self.connection()?.raw.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await;
        done.map_err(|source| self.failed(url, source))?;
        self.connection()?.session = Some(set);
        self.set_clean();
        Ok(())
    }

    /// After a statement outside a transaction: whatever it came to, the session is as it was, unless the connection broke.
    fn settle<T>(&mut self, url: &DataSourceUrl, result: Result<T, sqlx::Error>) -> Result<T, Error> {
        match result {
            Ok(value) => {
                self.set_clean();
                Ok(value)
            }
            Err(source) => {
                if matches!(&source, sqlx::Error::Database(_)) {
                    self.set_clean();
                }
                Err(self.failed(url, source))
            }
        }
    }

    /// The typed error; a connection that cannot be used any more is marked as such.
    fn failed(&mut self, url: &DataSourceUrl, source: sqlx::Error) -> Error {
        match &source {
            sqlx::Error::Database(error) => {
                if ends_the_session(error.as_ref()) {
                    self.broken();
                } else if is_outdated_plan(error.as_ref()) {
                    self.outdated();
                }
            }
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => self.broken(),
            _ => {}
        }
        Error::from_statement(url, source)
    }
}

/// Within a transaction.
impl PostgresLease {
    pub(crate) async fn begin(
        &mut self,
        session: &Session,
        mode: Mode,
        first: &str,
        url: &DataSourceUrl,
    ) -> Result<(), Error> {
        let mut sql = if self.keeps_session() {
            self.set_session(session, false, url).await?;
            session.begin(mode, self.connection()?.session.as_ref().ok_or(Error::Ended)?)?
        } else {
            session.pooled_begin(mode, self.schema())?
        };
        if !first.is_empty() {
            sql.push_str("; ");
            sql.push_str(first);
        }
        self.set_busy();
        self.run_raw(&sql, url).await
    }

    pub(crate) async fn run(&mut self, sql: String, values: Values, url: &DataSourceUrl) -> Result<u64, Error> {
        let named = self.keeps_session();
        let done = query(sql, values, named).execute(&mut self.connection()?.raw).await;
        done.map(|done| done.rows_affected()).map_err(|source| self.failed(url, source))
    }

    pub(crate) async fn run_raw(&mut self, sql: &str, url: &DataSourceUrl) -> Result<(), Error> {
        let done = self.connection()?.raw.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await;
        done.map(drop).map_err(|source| self.failed(url, source))
    }

    pub(crate) async fn query_raw(&mut self, sql: &str, url: &DataSourceUrl) -> Result<Vec<QueryResult>, Error> {
        let rows = self.connection()?.raw.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await;
        let rows = rows.map_err(|source| self.failed(url, source))?;
        Ok(rows.into_iter().map(QueryResult::from).collect())
    }

    pub(crate) fn stream<'c>(
        &'c mut self,
        sql: String,
        values: Values,
        url: &'c DataSourceUrl,
    ) -> impl Stream<Item = Result<QueryResult, Error>> + Send + 'c {
        try_stream! {
            let named = self.keeps_session();
            let mut edged = None;
            let mut broken = None;
            {
                let mut rows = query(sql, values, named).fetch(&mut self.connection()?.raw);
                while let Some(row) = rows.next().await {
                    match row {
                        Ok(row) => {
                            edged.get_or_insert_with(|| EdgedColumns::of(&row)).check(&row)?;
                            yield QueryResult::from(row);
                        }
                        Err(source) => broken = Some(source),
                    }
                }
            }
            if let Some(source) = broken {
                Err(self.failed(url, source))?;
            }
        }
    }

    /// The transaction has ended. What may have been left in the session ends with the connection, but where a pooler keeps it,
    /// which was cleaned. Whether another statement can be run.
    pub(crate) fn ended(&mut self, marked: bool) -> bool {
        self.set_clean();
        if marked && self.keeps_session() {
            self.close_because(Closed::RawSql);
        }
        self.is_clean()
    }
}

/// An administrator, a timeout or a shutdown ended the session, or a pooler did.
pub(crate) fn ends_the_session(error: &dyn DatabaseError) -> bool {
    use sqlx::postgres::PgSeverity::{Fatal, Panic};
    let error = error.try_downcast_ref::<PgDatabaseError>();
    error.is_some_and(|error| matches!(error.severity(), Fatal | Panic))
}

/// A named statement whose columns have changed since it was prepared. The message is translated, the routine is not.
pub(crate) fn is_outdated_plan(error: &dyn DatabaseError) -> bool {
    let error = error.try_downcast_ref::<PgDatabaseError>();
    error.is_some_and(|error| error.code() == "0A000" && error.routine() == Some("RevalidateCachedQuery"))
}

/// The column that an error names.
pub(crate) fn column(error: &dyn DatabaseError) -> Option<String> {
    error.try_downcast_ref::<PgDatabaseError>()?.column().map(str::to_owned)
}

/// The most values of a statement that stays prepared. It takes memory of the server for each of them, on every connection, and a
/// list as long as that hardly ever comes twice with the same length.
const MOST_KEPT_VALUES: usize = 1_000;

/// A named statement is parsed once for each connection. Behind a pooler in transaction mode it has to be unnamed: a named one
/// would be looked for on another server connection.
fn query(sql: String, values: Values, named: bool) -> Query<'static, Postgres, SqlxValues> {
    let named = named && values.0.len() <= MOST_KEPT_VALUES;
    sqlx::query_with(AssertSqlSafe(sql), SqlxValues(values)).persistent(named)
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
