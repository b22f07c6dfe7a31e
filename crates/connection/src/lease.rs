//! One connection for several statements.

use sea_orm::{QueryResult, Statement, Values};
use sea_query_sqlx::SqlxValues;
use sqlx::{
    AssertSqlSafe, Executor, Postgres, Sqlite, SqliteConnection, pool::PoolConnection, postgres::PgDatabaseError,
    query::Query,
};
use tokio::runtime::Handle;

use crate::{
    DataSourceUrl, Engine, Error, Mode, Session, Transaction, bind::canonical_values, pool::PostgresLease,
    representable::EdgedColumns,
};

/// A connection out of its pool.
pub(crate) enum Leased {
    Postgres(PostgresLease),
    Sqlite(SqliteLease),
}

/// A connection of the driver's pool. The driver gives it back in a task, which takes a runtime also where it is dropped outside.
pub(crate) struct SqliteLease {
    /// There until the drop.
    connection: Option<PoolConnection<Sqlite>>,
    runtime: Option<Handle>,
}

impl SqliteLease {
    pub(crate) fn new(connection: PoolConnection<Sqlite>) -> Self {
        Self { connection: Some(connection), runtime: Handle::try_current().ok() }
    }

    pub(crate) fn connection(&mut self) -> Result<&mut SqliteConnection, Error> {
        self.connection.as_deref_mut().ok_or(Error::Ended)
    }

    pub(crate) fn close_on_drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }
}

impl Drop for SqliteLease {
    fn drop(&mut self) {
        let _entered = self.runtime.as_ref().map(Handle::enter);
        drop(self.connection.take());
    }
}

/// A connection for one or several statements, each of which is a transaction of its own. Dropped, it goes back to its pool;
/// dropped in the middle of a statement, or after it broke, it is closed instead.
///
/// Over a connection that keeps its server session a statement costs one round trip, and one more when the session has to be
/// set to the tenant first, or a write's actor is another than the one before. Behind a pooler in transaction mode, and on
/// SQLite, each statement is a transaction in every respect, `BEGIN` and `COMMIT` included.
pub struct Lease {
    /// None once it was given up.
    leased: Option<Leased>,
    url: DataSourceUrl,
}

impl Lease {
    pub(crate) fn new(leased: Option<Leased>, url: DataSourceUrl) -> Self {
        Self { leased, url }
    }

    /// Whether another statement can be run: not after the connection broke.
    pub fn is_usable(&self) -> bool {
        match &self.leased {
            Some(Leased::Postgres(lease)) => lease.is_clean(),
            Some(Leased::Sqlite(_)) => true,
            None => false,
        }
    }

    /// Runs one statement and collects its rows. The statement has to be made of what Tenantry knows: SQL text of the
    /// application could leave something behind in the session; it belongs into a [`Transaction`].
    ///
    /// Cancel-safe in that the connection is closed. Whether a write that was cancelled was done is not known.
    ///
    /// # Errors
    /// The typed violation, or [`Error::Statement`]: nothing was written. [`Error::Unrepresentable`] when a row holds a value
    /// that has no Rust form. [`Error::Connect`] when the connection broke: then whether a write was done is not known.
    pub async fn query_all(
        &mut self,
        session: &Session,
        mode: Mode,
        statement: Statement,
    ) -> Result<Vec<QueryResult>, Error> {
        if let Some(lease) = keeping_session(&mut self.leased) {
            let values = canonical_values(Engine::Postgres, statement.values)?;
            set_session(lease, session, mode == Mode::Write, &self.url).await?;
            lease.set_busy();
            let rows = postgres_query(statement.sql, values, true).fetch_all(&mut lease.connection()?.raw).await;
            let rows = settle(lease, &self.url, rows)?;
            if let Some(row) = rows.first() {
                let edged = EdgedColumns::of(row);
                rows.iter().try_for_each(|row| edged.check(row))?;
            }
            return Ok(rows.into_iter().map(QueryResult::from).collect());
        }
        Box::pin(async {
            let mut transaction = self.take_begin(session, mode).await?;
            let rows = transaction.query_all(statement).await;
            self.end(transaction, rows).await
        })
        .await
    }

    /// Runs one statement and returns the number of rows it affected. What is said of [`Self::query_all`] holds here.
    ///
    /// # Errors
    /// As [`Self::query_all`].
    pub async fn execute(&mut self, session: &Session, statement: Statement) -> Result<u64, Error> {
        if let Some(lease) = keeping_session(&mut self.leased) {
            let values = canonical_values(Engine::Postgres, statement.values)?;
            set_session(lease, session, true, &self.url).await?;
            lease.set_busy();
            let done = postgres_query(statement.sql, values, true).execute(&mut lease.connection()?.raw).await;
            return settle(lease, &self.url, done).map(|done| done.rows_affected());
        }
        Box::pin(async {
            let mut transaction = self.take_begin(session, Mode::Write).await?;
            let affected = transaction.execute(statement).await;
            self.end(transaction, affected).await
        })
        .await
    }

    /// Begins a transaction, which keeps the connection until its end.
    ///
    /// # Errors
    /// [`Error::Connect`] when the connection broke; [`Error::SessionSetting`].
    pub async fn begin(mut self, session: &Session, mode: Mode) -> Result<Transaction, Error> {
        self.take_begin(session, mode).await
    }

    async fn take_begin(&mut self, session: &Session, mode: Mode) -> Result<Transaction, Error> {
        let leased = self.leased.take().ok_or(Error::Ended)?;
        Transaction::begin(leased, self.url.clone(), session, mode).await
    }

    /// Ends the transaction of one statement and takes the connection back.
    async fn end<T>(&mut self, transaction: Transaction, result: Result<T, Error>) -> Result<T, Error> {
        match result {
            Ok(value) => {
                *self = transaction.commit_and_keep().await?;
                Ok(value)
            }
            Err(error) => {
                // The statement's own error says more than a failure to roll back, which closes the connection anyway.
                if let Ok(kept) = transaction.rollback_and_keep().await {
                    *self = kept;
                }
                Err(error)
            }
        }
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("url", &self.url.as_str()).field("usable", &self.is_usable()).finish()
    }
}

fn keeping_session(leased: &mut Option<Leased>) -> Option<&mut PostgresLease> {
    match leased {
        Some(Leased::Postgres(lease)) if lease.keeps_session() => Some(lease),
        _ => None,
    }
}

/// Sets the server session to this session's tenant if it is not. What it is set to is forgotten before and known again after
/// the server's answer, so that a call dropped midway never leaves a connection that passes for somebody's.
pub(crate) async fn set_session(
    lease: &mut PostgresLease,
    session: &Session,
    for_write: bool,
    url: &DataSourceUrl,
) -> Result<(), Error> {
    let connection = lease.connection()?;
    let known = connection.session.as_ref().ok_or(Error::Ended)?;
    let Some((sql, set)) = session.set(known, for_write)? else { return Ok(()) };
    connection.session = None;
    lease.set_busy();
    let done = lease.connection()?.raw.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await;
    if let Err(source) = done {
        return Err(failed(lease, url, source));
    }
    lease.connection()?.session = Some(set);
    lease.set_clean();
    Ok(())
}

/// After a statement outside a transaction: whatever it came to, the session is as it was, unless the connection broke.
fn settle<T>(lease: &mut PostgresLease, url: &DataSourceUrl, result: Result<T, sqlx::Error>) -> Result<T, Error> {
    match result {
        Ok(value) => {
            lease.set_clean();
            Ok(value)
        }
        Err(source) => {
            if matches!(&source, sqlx::Error::Database(_)) {
                lease.set_clean();
            }
            Err(failed(lease, url, source))
        }
    }
}

/// The typed error; a connection that cannot be used any more is marked as such.
pub(crate) fn failed(lease: &mut PostgresLease, url: &DataSourceUrl, source: sqlx::Error) -> Error {
    match &source {
        sqlx::Error::Database(error) => {
            if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
                if ends_the_session(error) {
                    lease.broken();
                } else if is_outdated_plan(error) {
                    lease.outdated();
                }
            }
        }
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => lease.broken(),
        _ => {}
    }
    Error::from_statement(url, source)
}

/// An administrator, a timeout or a shutdown ended the session, or a pooler did.
pub(crate) fn ends_the_session(error: &PgDatabaseError) -> bool {
    use sqlx::postgres::PgSeverity::{Fatal, Panic};
    matches!(error.severity(), Fatal | Panic)
}

/// A named statement whose columns have changed since it was prepared. The message is translated, the routine is not.
pub(crate) fn is_outdated_plan(error: &PgDatabaseError) -> bool {
    error.code() == "0A000" && error.routine() == Some("RevalidateCachedQuery")
}

/// A named statement is parsed once for each connection. Behind a pooler in transaction mode it has to be unnamed: a named one
/// would be looked for on another server connection.
pub(crate) fn postgres_query(sql: String, values: Values, named: bool) -> Query<'static, Postgres, SqlxValues> {
    sqlx::query_with(AssertSqlSafe(sql), SqlxValues(values)).persistent(named)
}
