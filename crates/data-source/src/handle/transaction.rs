//! A transaction on one tenant's data.

use std::{
    fmt,
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use futures_util::{StreamExt, stream::BoxStream};
use sea_orm::{QueryResult, Statement, Value};
use tenantry_connection::{Error as ConnectionError, Lease, Mode, Transaction};
use tokio::sync::{Mutex, MutexGuard};

use super::{Access, Isolation, Rerouting, TenantContext, UnitOfWork, lease::Slot, sealed, sealed::Checked};
use crate::Error;

/// A transaction on one tenant's data. It does one thing at a time: statements that are issued at once wait for each other.
///
/// After a statement that failed or was cancelled nothing more can be done in it, on every engine: SQLite would go on, and
/// then leave half of a bulk write behind. Dropped before it is committed, it is rolled back by closing its connection.
pub struct TenantTransaction {
    context: Arc<TenantContext>,
    state: Mutex<State>,
    /// Where the connection goes at the end, if not to its pool.
    home: Option<Slot>,
    streaming: AtomicBool,
    /// Statements that may have written, so far.
    writes: AtomicU64,
    /// A unit of work ended with an error after it had written.
    given_up: AtomicBool,
}

struct State {
    /// None once the fence has refused a statement: then it is rolled back already.
    transaction: Option<Transaction>,
    /// A statement was begun and has not succeeded: it failed, or its future was dropped midway.
    failed: bool,
}

impl TenantTransaction {
    pub(super) async fn begin(context: Arc<TenantContext>, mode: Mode) -> Result<Self, Error> {
        let lease = context.pool.admitted().await?.lease(&context.session).await?;
        Self::begin_on(lease, None, context, mode).await
    }

    pub(super) async fn begin_on(
        lease: Lease,
        home: Option<Slot>,
        context: Arc<TenantContext>,
        mode: Mode,
    ) -> Result<Self, Error> {
        let transaction = lease.begin(&context.session, mode).await?;
        Ok(Self {
            context,
            state: Mutex::new(State { transaction: Some(transaction), failed: false }),
            home,
            streaming: AtomicBool::new(false),
            writes: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
        })
    }

    pub(super) async fn query_and_commit(self, statement: Checked) -> Result<Vec<QueryResult>, Error> {
        let rows = sealed::Handle::query_all(&self, statement, Mode::Read).await;
        self.end_with(rows).await
    }

    pub(super) async fn execute_and_commit(self, statement: Checked) -> Result<u64, Error> {
        let affected = sealed::Handle::execute(&self, statement).await;
        self.end_with(affected).await
    }

    async fn end_with<T>(self, result: Result<T, Error>) -> Result<T, Error> {
        match result {
            Ok(value) => self.commit().await.map(|()| value),
            Err(error) => {
                // The statement's own error says more than a failure to roll back, which closes the connection anyway.
                let _ = self.rollback().await;
                Err(error)
            }
        }
    }

    /// Makes the writes last.
    ///
    /// # Errors
    /// [`Error::TransactionFailed`] when an earlier statement failed or was cancelled: nothing was written.
    /// [`Error::Connection`] when the database refused; where the connection broke, whether it was committed is not known.
    pub async fn commit(self) -> Result<(), Error> {
        let State { transaction, failed } = self.state.into_inner();
        let Some(transaction) = transaction else { return Err(Error::TransactionFailed) };
        if failed || self.given_up.into_inner() {
            let _ = transaction.rollback().await;
            return Err(Error::TransactionFailed);
        }
        let committed = match self.home {
            Some(home) => transaction.commit_and_keep().await.map(|lease| home.put(lease)),
            None => transaction.commit().await,
        };
        match committed {
            // By a trigger of the application that writes at the commit.
            Err(refused @ ConnectionError::Fenced { .. }) => Err(Rerouting::ended(&self.context, refused.into()).await),
            committed => Ok(committed?),
        }
    }

    /// Undoes the writes and gives the connection back.
    ///
    /// # Errors
    /// [`Error::Connection`] when the database did not answer; the writes are undone all the same.
    pub async fn rollback(self) -> Result<(), Error> {
        match self.state.into_inner().transaction {
            Some(transaction) => Ok(roll_back(transaction, self.home.as_ref()).await?),
            None => Ok(()),
        }
    }

    /// Runs one statement of raw SQL and returns the number of rows it affected. Nothing but row-level security keeps it
    /// within the tenant, and it can change the very setting that the policies compare with: only for text that the
    /// application itself wrote, with every value bound.
    ///
    /// # Errors
    /// [`Error::RawSqlRefused`] on restricted access where no row-level security stands behind.
    pub async fn execute_raw_sql_outside_the_tenant_guard(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value> + Send,
    ) -> Result<u64, Error> {
        let statement = self.raw_statement(sql, values)?;
        sealed::Handle::execute(self, statement).await
    }

    /// Runs one query of raw SQL and returns its rows. See [`Self::execute_raw_sql_outside_the_tenant_guard`].
    ///
    /// # Errors
    /// [`Error::RawSqlRefused`] on restricted access where no row-level security stands behind.
    pub async fn query_raw_sql_outside_the_tenant_guard(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value> + Send,
    ) -> Result<Vec<QueryResult>, Error> {
        let statement = self.raw_statement(sql, values)?;
        sealed::Handle::query_all(self, statement, Mode::Write).await
    }

    /// How many statements may have written so far.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Acquire)
    }

    fn raw_statement(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Result<Checked, Error> {
        match (self.context.isolation, self.context.access) {
            (Isolation::PredicateOnly, Access::Restricted) => {
                Err(Error::RawSqlRefused { tenant: self.context.tenant_id })
            }
            (Isolation::Policy, _) | (Isolation::PredicateOnly, Access::Service) => {
                Ok(Checked::raw(Statement::from_sql_and_values(self.context.backend(), sql, values)))
            }
        }
    }

    /// As [`Self::attempt`], for a statement that may be raw SQL.
    async fn attempt_one(&self, statement: &Checked) -> Result<MutexGuard<'_, State>, Error> {
        statement.must_be_for(&self.context)?;
        let mut state = self.attempt().await?;
        if statement.is_raw() {
            state.transaction()?.discard_session_at_end();
        }
        Ok(state)
    }

    /// The connection for one statement, marked as failed until the statement has succeeded.
    async fn attempt(&self) -> Result<MutexGuard<'_, State>, Error> {
        // Waiting would never end: the stream is read by the task that would wait.
        if self.streaming.load(Ordering::Acquire) {
            return Err(Error::StreamOpen);
        }
        let mut state = self.state.lock().await;
        if state.failed || self.given_up.load(Ordering::Acquire) {
            return Err(Error::TransactionFailed);
        }
        state.failed = true;
        Ok(state)
    }

    /// The error of a statement. When the fence refused it, nothing can be done here any more, and the transaction ends before
    /// anything is asked: the look-up may need the connection that it holds.
    async fn failure(&self, state: &mut State, error: ConnectionError) -> Error {
        if !matches!(error, ConnectionError::Fenced { .. }) {
            return error.into();
        }
        if let Some(transaction) = state.transaction.take() {
            // Should this fail, the connection is closed.
            let _ = roll_back(transaction, self.home.as_ref()).await;
        }
        Rerouting::ended(&self.context, error.into()).await
    }
}

impl State {
    fn transaction(&mut self) -> Result<&mut Transaction, Error> {
        self.transaction.as_mut().ok_or(Error::TransactionFailed)
    }
}

async fn roll_back(transaction: Transaction, home: Option<&Slot>) -> Result<(), ConnectionError> {
    match home {
        Some(home) => transaction.rollback_and_keep().await.map(|lease| home.put(lease)),
        None => transaction.rollback().await,
    }
}

impl sealed::Handle for TenantTransaction {
    fn context(&self) -> &Arc<TenantContext> {
        &self.context
    }

    async fn query_all(&self, statement: Checked, mode: Mode) -> Result<Vec<QueryResult>, Error> {
        let mut state = self.attempt_one(&statement).await?;
        let rows = match state.transaction()?.query_all(statement.into_statement()).await {
            Ok(rows) => rows,
            Err(error) => return Err(self.failure(&mut state, error).await),
        };
        if mode == Mode::Write {
            self.writes.fetch_add(1, Ordering::AcqRel);
        }
        state.failed = false;
        Ok(rows)
    }

    async fn execute(&self, statement: Checked) -> Result<u64, Error> {
        let mut state = self.attempt_one(&statement).await?;
        let affected = match state.transaction()?.execute(statement.into_statement()).await {
            Ok(affected) => affected,
            Err(error) => return Err(self.failure(&mut state, error).await),
        };
        self.writes.fetch_add(1, Ordering::AcqRel);
        state.failed = false;
        Ok(affected)
    }

    fn stream(&self, statement: Checked) -> BoxStream<'_, Result<QueryResult, Error>> {
        // A stream that is dropped midway leaves its statement unfinished: the transaction counts as failed.
        async_stream::try_stream! {
            let mut state = self.attempt_one(&statement).await?;
            let _open = Streaming::set(&self.streaming);
            {
                let transaction = state.transaction()?;
                let mut rows = std::pin::pin!(transaction.stream(statement.into_statement()));
                while let Some(row) = rows.next().await {
                    yield row?;
                }
            }
            state.failed = false;
        }
        .boxed()
    }

    async fn unit_of_work(&self, _mode: Mode) -> Result<UnitOfWork<'_>, Error> {
        Ok(UnitOfWork::within(self))
    }

    /// What was done in it before would be missing elsewhere: the caller runs the whole of it again.
    async fn rerouted(&self, error: Error, _: &mut Rerouting) -> Result<(), Error> {
        Err(error)
    }

    fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }
}

impl fmt::Debug for TenantTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.context.fmt_as(f, "TenantTransaction")
    }
}

/// Set while a stream is open, however it ends.
struct Streaming<'a>(&'a AtomicBool);

impl<'a> Streaming<'a> {
    fn set(flag: &'a AtomicBool) -> Self {
        flag.store(true, Ordering::Release);
        Self(flag)
    }
}

impl Drop for Streaming<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
