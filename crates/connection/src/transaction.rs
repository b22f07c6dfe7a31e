//! One transaction on one leased connection.

use async_stream::try_stream;
use futures_util::{Stream, StreamExt};
use sea_orm::{QueryResult, Statement};
use sea_query_sqlx::SqlxValues;
use sqlx::{
    AssertSqlSafe, Executor, PgConnection, Postgres, Sqlite, SqliteConnection, pool::PoolConnection, query::Query,
};

use crate::{
    DataSourceUrl, Engine, Error, Mode, SESSION_TABLE, Session, bind::canonical_values, representable::EdgedColumns,
};

/// A connection out of its pool.
pub(crate) enum Lease {
    Postgres(PoolConnection<Postgres>),
    Sqlite(PoolConnection<Sqlite>),
}

/// A transaction and the connection it runs on.
///
/// Dropped before [`Transaction::commit`] or [`Transaction::rollback`] returned, whether by an error, a panic or a cancelled
/// future, it closes its connection instead of giving it back: the next borrower of the pool can never find itself inside a
/// transaction, or a tenant, of somebody else. Every method may be cancelled; after a cancelled statement the transaction can
/// only be dropped or rolled back.
pub struct Transaction {
    lease: Option<Lease>,
    url: DataSourceUrl,
    session_stored: bool,
    /// A statement was begun and has not succeeded: it failed, or its future was dropped midway.
    unsettled: bool,
    /// What ran may outlast the transaction on its connection.
    marked: bool,
}

impl Transaction {
    pub(crate) async fn begin(
        lease: Lease,
        url: DataSourceUrl,
        session: &Session,
        mode: Mode,
        schema: &str,
    ) -> Result<Self, Error> {
        // In its place before the first await: a call dropped midway closes the connection.
        let mut transaction = Self { lease: Some(lease), url, session_stored: false, unsettled: false, marked: false };
        match transaction.engine() {
            Engine::Postgres => transaction.execute_raw_sql(&session.postgres_begin(mode, schema)?).await?,
            Engine::Sqlite => {
                let settings = session.sqlite_settings()?;
                transaction.sqlite_begin(mode).await?;
                if let (Mode::Write, Some(settings)) = (mode, settings) {
                    transaction.execute_raw_sql(&settings).await?;
                    transaction.session_stored = true;
                }
            }
        }
        Ok(transaction)
    }

    /// The engine the transaction runs on.
    pub fn engine(&self) -> Engine {
        self.url.engine()
    }

    /// Where the transaction runs.
    pub fn url(&self) -> &DataSourceUrl {
        &self.url
    }

    /// Runs a statement and returns the number of rows it affected.
    ///
    /// # Errors
    /// The typed violation, or [`Error::Statement`]. On PostgreSQL the transaction can only be rolled back afterwards.
    pub async fn execute(&mut self, statement: Statement) -> Result<u64, Error> {
        let values = canonical_values(self.engine(), statement.values)?;
        self.unsettled = true;
        let affected = match self.lease.as_mut().ok_or(Error::Ended)? {
            Lease::Postgres(connection) => postgres_query(statement.sql, values)
                .execute(&mut **connection)
                .await
                .map(|result| result.rows_affected()),
            Lease::Sqlite(connection) => sqlite_query(statement.sql, values)
                .execute(&mut **connection)
                .await
                .map(|result| result.rows_affected()),
        };
        self.settle(affected)
    }

    /// Runs a query and collects its rows.
    ///
    /// # Errors
    /// As [`Transaction::execute`]; [`Error::Unrepresentable`] when a row holds a value that has no Rust form.
    pub async fn query_all(&mut self, statement: Statement) -> Result<Vec<QueryResult>, Error> {
        let mut rows = Vec::new();
        let mut stream = std::pin::pin!(self.stream(statement));
        while let Some(row) = stream.next().await {
            rows.push(row?);
        }
        Ok(rows)
    }

    /// Runs a query and returns its first row, if any.
    ///
    /// # Errors
    /// As [`Transaction::query_all`].
    pub async fn query_one(&mut self, statement: Statement) -> Result<Option<QueryResult>, Error> {
        // The whole result is read: a row left unread would have to be skipped by the next statement.
        Ok(self.query_all(statement).await?.into_iter().next())
    }

    /// Runs a query and yields its rows as they arrive, in bounded memory.
    pub fn stream(&mut self, statement: Statement) -> impl Stream<Item = Result<QueryResult, Error>> + Send + '_ {
        try_stream! {
            let values = canonical_values(self.url.engine(), statement.values)?;
            self.unsettled = true;
            match self.lease.as_mut().ok_or(Error::Ended)? {
                Lease::Postgres(connection) => {
                    let mut rows = postgres_query(statement.sql, values).fetch(&mut **connection);
                    let mut edged = None;
                    while let Some(row) = rows.next().await {
                        let row = row.map_err(|source| Error::from_statement(&self.url, source))?;
                        edged.get_or_insert_with(|| EdgedColumns::of(&row)).check(&row)?;
                        yield QueryResult::from(row);
                    }
                }
                Lease::Sqlite(connection) => {
                    let mut rows = sqlite_query(statement.sql, values).fetch(&mut **connection);
                    while let Some(row) = rows.next().await {
                        yield QueryResult::from(row.map_err(|source| Error::from_statement(&self.url, source))?);
                    }
                }
            }
            self.unsettled = false;
        }
    }

    /// Runs SQL as it stands, one or more statements, without values. Only for text that Tenantry itself wrote.
    ///
    /// # Errors
    /// As [`Transaction::execute`].
    pub async fn execute_raw_sql(&mut self, sql: &str) -> Result<(), Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        self.unsettled = true;
        let done = match self.lease.as_mut().ok_or(Error::Ended)? {
            Lease::Postgres(connection) => (&mut **connection).execute(sqlx::raw_sql(sql)).await.map(drop),
            Lease::Sqlite(connection) => (&mut **connection).execute(sqlx::raw_sql(sql)).await.map(drop),
        };
        self.settle(done)
    }

    /// Says that text which Tenantry did not write runs here. What it leaves on the connection (settings, session locks,
    /// prepared statements, held cursors) is discarded after the end, before anyone else gets the connection.
    pub fn discard_session_at_end(&mut self) {
        self.marked = true;
    }

    /// Makes the writes last and gives the connection back.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the database chose another transaction: retry the whole transaction. Any error leaves the
    /// transaction rolled back, except when the connection broke: then whether it was committed is not known.
    pub async fn commit(mut self) -> Result<(), Error> {
        // PostgreSQL answers COMMIT of a failed transaction with ROLLBACK and no error; nobody must take that for success.
        if self.unsettled {
            return Err(Error::Aborted { data_source: self.url.clone() });
        }
        if self.session_stored {
            self.execute_raw_sql(&format!("DELETE FROM {SESSION_TABLE}")).await?;
        }
        self.end("COMMIT").await
    }

    /// Undoes the writes and gives the connection back.
    ///
    /// # Errors
    /// [`Error::Statement`] or [`Error::Connect`] when the server did not answer; the writes are undone all the same.
    pub async fn rollback(mut self) -> Result<(), Error> {
        self.end("ROLLBACK").await
    }

    /// The driver's connection, for what only the driver can do (COPY). The caller keeps the transaction intact.
    pub fn raw_postgres_connection(&mut self) -> Option<&mut PgConnection> {
        match &mut self.lease {
            Some(Lease::Postgres(connection)) => Some(connection),
            _ => None,
        }
    }

    /// The driver's connection, for bulk work. The caller keeps the transaction intact.
    pub fn raw_sqlite_connection(&mut self) -> Option<&mut SqliteConnection> {
        match &mut self.lease {
            Some(Lease::Sqlite(connection)) => Some(connection),
            _ => None,
        }
    }

    /// SQLite undoes the failed statement alone and the transaction goes on; PostgreSQL gives the whole transaction up.
    fn settle<T>(&mut self, result: Result<T, sqlx::Error>) -> Result<T, Error> {
        self.unsettled = result.is_err() && self.engine() == Engine::Postgres;
        result.map_err(|source| Error::from_statement(&self.url, source))
    }

    async fn sqlite_begin(&mut self, mode: Mode) -> Result<(), Error> {
        self.execute_raw_sql(match mode {
            Mode::Write => "PRAGMA query_only = OFF; BEGIN IMMEDIATE",
            // A deferred transaction takes its snapshot at its first read, not at BEGIN.
            Mode::Snapshot => "PRAGMA query_only = ON; BEGIN; SELECT count(*) FROM sqlite_schema",
            Mode::Read => "PRAGMA query_only = ON; BEGIN",
        })
        .await
    }

    async fn end(&mut self, sql: &str) -> Result<(), Error> {
        if self.lease.is_none() {
            return Err(Error::Ended);
        }
        self.execute_raw_sql(sql).await?;
        // The transaction has ended, whatever comes of the rest. SQLite can't discard a session: its connection is closed.
        if self.marked && (self.engine() == Engine::Sqlite || self.execute_raw_sql("DISCARD ALL").await.is_err()) {
            return Ok(());
        }
        // Only now is the connection known to be clean; from here on dropping it gives it back.
        self.lease.take();
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        match &mut self.lease {
            Some(Lease::Postgres(connection)) => connection.close_on_drop(),
            Some(Lease::Sqlite(connection)) => connection.close_on_drop(),
            None => {}
        }
    }
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction").field("url", &self.url.as_str()).field("open", &self.lease.is_some()).finish()
    }
}

/// Unnamed: a named statement would be looked for on another server connection behind a transaction-mode pooler.
fn postgres_query(sql: String, values: sea_orm::Values) -> Query<'static, Postgres, SqlxValues> {
    sqlx::query_with(AssertSqlSafe(sql), SqlxValues(values)).persistent(false)
}

fn sqlite_query(sql: String, values: sea_orm::Values) -> Query<'static, Sqlite, SqlxValues> {
    sqlx::query_with(AssertSqlSafe(sql), SqlxValues(values))
}
