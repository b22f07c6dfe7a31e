//! One connection for several statements.

use sea_orm::{QueryResult, Statement};

use crate::{
    DataSourceUrl, Engine, Error, Mode, Session, Transaction,
    bind::canonical_values,
    pool::{PostgresLease, SqliteLease},
};

/// A connection out of its pool.
pub(crate) enum Leased {
    Postgres(PostgresLease),
    Sqlite(SqliteLease),
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
            return lease.query_all(session, mode, statement.sql, values, &self.url).await;
        }
        Box::pin(async {
            let mut transaction = self.take_begin(session, mode, "").await?;
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
            return lease.execute(session, statement.sql, values, &self.url).await;
        }
        Box::pin(async {
            let mut transaction = self.take_begin(session, Mode::Write, "").await?;
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
        self.take_begin(session, mode, "").await
    }

    /// The same, and runs SQL that Tenantry itself wrote as the first of it: with the message that begins it, where the engine
    /// has messages.
    ///
    /// # Errors
    /// As [`Self::begin`] and [`Transaction::execute_raw_sql`].
    pub async fn begin_with(mut self, session: &Session, mode: Mode, first: &str) -> Result<Transaction, Error> {
        self.take_begin(session, mode, first).await
    }

    async fn take_begin(&mut self, session: &Session, mode: Mode, first: &str) -> Result<Transaction, Error> {
        let leased = self.leased.take().ok_or(Error::Ended)?;
        Transaction::begin(leased, self.url.clone(), session, mode, first).await
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
