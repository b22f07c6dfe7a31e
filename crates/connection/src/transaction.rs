//! One transaction on one leased connection.

use async_stream::try_stream;
use futures_util::{Stream, StreamExt};
use sea_orm::{QueryResult, Statement};

use crate::{DataSourceUrl, Engine, Error, Lease, Mode, SESSION_TABLE, Session, bind::canonical_values, lease::Leased};

/// What is prepared over the protocol is the pooler's own.
macro_rules! deallocate {
    () => {
        "DO $$ DECLARE prepared text; BEGIN \
           FOR prepared IN SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql LOOP \
             EXECUTE format('DEALLOCATE %I', prepared); \
           END LOOP; END $$; "
    };
}

/// What takes away all that raw SQL may have left in a server session which the next transaction of anybody gets, as the
/// parts of `DISCARD ALL` that may stand in one message with the end of the transaction. What the driver set at startup is set
/// again, since the pooler follows what it sees.
const CLEAN_UP: &str = concat!(
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); \
     DISCARD TEMP; DISCARD SEQUENCES; ",
    deallocate!(),
    "SET client_encoding = 'UTF8'; SET DateStyle = 'ISO, MDY'; SET TimeZone = 'UTC'"
);

/// What must not be left to the commit: if that fails, the session is somebody else's before it can be cleaned. Constraints and
/// held cursors could make it fail, locks of the session and what is prepared outlast a rollback, and a time limit would cut the
/// cleaning off.
const BEFORE_COMMIT: &str = concat!(
    "SET CONSTRAINTS ALL IMMEDIATE; CLOSE ALL; SELECT pg_advisory_unlock_all(); ",
    deallocate!(),
    "SET statement_timeout = 0"
);

/// A transaction and the connection it runs on.
///
/// Dropped before [`Transaction::commit`] or [`Transaction::rollback`] returned, whether by an error, a panic or a cancelled
/// future, it closes its connection instead of giving it back: the next borrower of the pool can never find itself inside a
/// transaction, or a tenant, of somebody else. Every method may be cancelled; after a cancelled statement the transaction can
/// only be dropped or rolled back.
pub struct Transaction {
    leased: Option<Leased>,
    url: DataSourceUrl,
    /// Whether statements are named.
    named: bool,
    session_stored: bool,
    /// A statement was begun and has not succeeded: it failed, or its future was dropped midway.
    unsettled: bool,
    /// What ran may outlast the transaction on its connection.
    marked: bool,
}

impl Transaction {
    pub(crate) async fn begin(
        leased: Leased,
        url: DataSourceUrl,
        session: &Session,
        mode: Mode,
        first: &str,
    ) -> Result<Self, Error> {
        let named = matches!(&leased, Leased::Postgres(lease) if lease.keeps_session());
        // In its place before the first await: a call dropped midway closes the connection.
        let mut transaction =
            Self { leased: Some(leased), url, named, session_stored: false, unsettled: false, marked: false };
        match transaction.leased.as_mut().ok_or(Error::Ended)? {
            Leased::Postgres(lease) => lease.begin(session, mode, first, &transaction.url).await?,
            Leased::Sqlite(lease) => {
                transaction.session_stored = lease.begin(session, mode, first, &transaction.url).await?;
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
        self.refuse_end(&statement.sql)?;
        let values = canonical_values(self.engine(), statement.values)?;
        self.unsettled = true;
        let affected = match self.leased.as_mut().ok_or(Error::Ended)? {
            Leased::Postgres(lease) => lease.run(statement.sql, values, &self.url).await,
            Leased::Sqlite(lease) => lease.run(statement.sql, values, &self.url).await,
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
            self.refuse_end(&statement.sql)?;
            let values = canonical_values(self.url.engine(), statement.values)?;
            self.unsettled = true;
            match self.leased.as_mut().ok_or(Error::Ended)? {
                Leased::Postgres(lease) => {
                    let mut rows = std::pin::pin!(lease.stream(statement.sql, values, &self.url));
                    while let Some(row) = rows.next().await {
                        yield row?;
                    }
                }
                Leased::Sqlite(lease) => {
                    let mut rows = std::pin::pin!(lease.stream(statement.sql, values, &self.url));
                    while let Some(row) = rows.next().await {
                        yield row?;
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
        self.unsettled = true;
        let done = match self.leased.as_mut().ok_or(Error::Ended)? {
            Leased::Postgres(lease) => lease.run_raw(sql, &self.url).await,
            Leased::Sqlite(lease) => lease.run_raw(sql, &self.url).await,
        };
        self.settle(done)
    }

    /// The same, and collects the rows of all statements. On PostgreSQL one round trip, where a query of [`Self::query_all`] that
    /// is asked for the first time takes two.
    ///
    /// # Errors
    /// As [`Transaction::execute`].
    pub async fn query_raw_sql(&mut self, sql: &str) -> Result<Vec<QueryResult>, Error> {
        self.unsettled = true;
        let rows = match self.leased.as_mut().ok_or(Error::Ended)? {
            Leased::Postgres(lease) => lease.query_raw(sql, &self.url).await,
            Leased::Sqlite(lease) => lease.query_raw(sql, &self.url).await,
        };
        self.settle(rows)
    }

    /// Says that text which Tenantry did not write runs here. What it leaves in the session (settings, temporary tables, locks,
    /// listens, prepared statements, held cursors) ends with the transaction: the connection is closed. Behind a pooler in
    /// transaction mode, whose server connection cannot be closed from here, it is cleaned in the message of the end.
    pub fn discard_session_at_end(&mut self) {
        self.marked = true;
    }

    /// Makes the writes last and gives the connection back.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the database chose another transaction: retry the whole transaction. Any error leaves the
    /// transaction rolled back, except when the connection broke: then whether it was committed is not known.
    pub async fn commit(self) -> Result<(), Error> {
        self.commit_and_keep().await.map(drop)
    }

    /// Undoes the writes and gives the connection back.
    ///
    /// # Errors
    /// [`Error::Statement`] or [`Error::Connect`] when the server did not answer; the writes are undone all the same.
    pub async fn rollback(self) -> Result<(), Error> {
        self.rollback_and_keep().await.map(drop)
    }

    /// As [`Self::commit`], and keeps the connection, if it can be used again, for the next statement.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn commit_and_keep(mut self) -> Result<Lease, Error> {
        // PostgreSQL answers COMMIT of a failed transaction with ROLLBACK and no error; nobody must take that for success.
        if self.unsettled {
            return Err(Error::Aborted { data_source: self.url.clone() });
        }
        if self.session_stored {
            self.execute_raw_sql(&format!("DELETE FROM {SESSION_TABLE}")).await?;
        }
        if self.marked
            && !self.named
            && self.engine() == Engine::Postgres
            && let Err(error) = self.execute_raw_sql(BEFORE_COMMIT).await
        {
            let _ = self.end("ROLLBACK").await;
            return Err(error);
        }
        self.end("COMMIT").await
    }

    /// As [`Self::rollback`], and keeps the connection, if it can be used again, for the next statement.
    ///
    /// # Errors
    /// As [`Self::rollback`].
    pub async fn rollback_and_keep(mut self) -> Result<Lease, Error> {
        self.end("ROLLBACK").await
    }

    /// The driver's connection, for what only the driver can do (COPY). The caller keeps the transaction intact. The connection
    /// is closed afterwards.
    #[cfg(feature = "postgres")]
    pub fn raw_postgres_connection(&mut self) -> Option<&mut sqlx::PgConnection> {
        self.marked = true;
        match &mut self.leased {
            Some(Leased::Postgres(lease)) => lease.connection().ok().map(|connection| &mut connection.raw),
            _ => None,
        }
    }

    /// The driver's connection, for bulk work. The caller keeps the transaction intact.
    #[cfg(feature = "sqlite")]
    pub fn raw_sqlite_connection(&mut self) -> Option<&mut sqlx::SqliteConnection> {
        match &mut self.leased {
            Some(Leased::Sqlite(lease)) => lease.connection().ok(),
            _ => None,
        }
    }

    /// Text that Tenantry did not write must not end the transaction. One statement at a time is prepared, so that only the first
    /// word counts.
    fn refuse_end(&self, sql: &str) -> Result<(), Error> {
        if self.marked && ends_transaction(sql) {
            return Err(Error::EndsTransaction { data_source: self.url.clone() });
        }
        Ok(())
    }

    /// SQLite undoes the failed statement alone and the transaction goes on; PostgreSQL gives the whole transaction up.
    fn settle<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        self.unsettled = result.is_err() && self.engine() == Engine::Postgres;
        result
    }

    async fn end(&mut self, sql: &str) -> Result<Lease, Error> {
        if self.leased.is_none() {
            return Err(Error::Ended);
        }
        if self.marked && !self.named && self.engine() == Engine::Postgres {
            self.execute_raw_sql(&format!("{sql}; {CLEAN_UP}")).await?;
        } else {
            self.execute_raw_sql(sql).await?;
        }
        // Only now is the connection known to be clean; from here on dropping it gives it back.
        let kept = match (self.leased.take(), self.marked) {
            (Some(Leased::Postgres(mut lease)), marked) => lease.ended(marked).then_some(Leased::Postgres(lease)),
            // Its session cannot be discarded.
            (Some(Leased::Sqlite(mut lease)), true) => {
                lease.close_on_drop();
                None
            }
            (leased, _) => leased,
        };
        Ok(Lease::new(kept, self.url.clone()))
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        // A lease of PostgreSQL knows by itself that something is going on.
        if let Some(Leased::Sqlite(lease)) = &mut self.leased {
            lease.close_on_drop();
        }
    }
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction").field("url", &self.url.as_str()).field("open", &self.leased.is_some()).finish()
    }
}

/// Whether a statement ends the transaction that it runs in, and does not merely go back to a savepoint.
fn ends_transaction(sql: &str) -> bool {
    let mut words = words(sql);
    match words.next().as_deref() {
        Some("COMMIT" | "END" | "ABORT") => true,
        Some("ROLLBACK") => {
            let next = words.find(|word| !matches!(word.as_str(), "WORK" | "TRANSACTION"));
            next.as_deref() != Some("TO")
        }
        Some("PREPARE") => words.next().as_deref() == Some("TRANSACTION"),
        _ => false,
    }
}

/// The words that a statement begins with, in upper case, up to anything else than words, spaces and comments.
fn words(sql: &str) -> impl Iterator<Item = String> + '_ {
    let mut rest = sql;
    std::iter::from_fn(move || {
        rest = skip_blanks(rest);
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let word = rest.get(..end).filter(|word| !word.is_empty())?.to_ascii_uppercase();
        rest = rest.get(end..).unwrap_or_default();
        Some(word)
    })
}

/// Without the white space, comments and empty statements at its beginning.
fn skip_blanks(mut sql: &str) -> &str {
    loop {
        let trimmed = sql.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        sql = if trimmed.starts_with("--") {
            trimmed.split_once(['\n', '\r']).map_or("", |(_, rest)| rest)
        } else if trimmed.starts_with("/*") {
            after_comment(trimmed)
        } else {
            return trimmed;
        };
    }
}

/// What stands behind a comment, which may have others within.
fn after_comment(sql: &str) -> &str {
    let mut depth = 0_usize;
    let mut rest = sql;
    while let Some(at) = rest.find(['/', '*']) {
        let here = rest.get(at..).unwrap_or_default();
        let step = if here.starts_with("/*") {
            depth += 1;
            2
        } else if here.starts_with("*/") {
            depth -= 1;
            2
        } else {
            1
        };
        rest = here.get(step..).unwrap_or_default();
        if depth == 0 {
            return rest;
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_ends_a_transaction_is_seen() {
        for sql in [
            "COMMIT",
            " ;\n commit work and chain",
            "-- a remark\n/* and /* another */ one */ END",
            "/**/ABORT",
            "--\rcommit",
            "ROLLBACK",
            "rollback/* to */transaction",
            "ROLLBACK AND CHAIN",
            "PREPARE TRANSACTION 'x'",
            "Commit;",
        ] {
            assert!(ends_transaction(sql), "{sql}");
        }
        for sql in [
            "SELECT 'COMMIT'",
            "/* COMMIT */ SELECT 1",
            "-- COMMIT",
            "/* COMMIT",
            "ROLLBACK TO SAVEPOINT a",
            "ROLLBACK WORK TO a",
            "PREPARE transactions AS SELECT 1",
            "SAVEPOINT commit",
            "",
            "COMMITTED",
            "é",
        ] {
            assert!(!ends_transaction(sql), "{sql}");
        }
    }
}
