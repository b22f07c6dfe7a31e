//! The handles that a tenant's rows are reached with.
//!
//! A handle is bound to one tenant for its whole life: it is an ordinary value, so it keeps its tenant across `spawn`,
//! `select!` and streams, and there is no call that switches it. A scope of another tenant inside a [`TenantTransaction`]
//! cannot be written down: statements are made from the transaction, and one that was made from another tenant's handle is
//! refused. Work on two tenants takes two handles, each with its own transaction.
//!
//! Neither handle implements `ConnectionTrait` or shows its pool.

mod lease;
mod rerouting;
mod transaction;
mod unit_of_work;
mod write_log;

use std::{
    fmt,
    future::Future,
    sync::{Arc, OnceLock, Weak},
};

use futures_util::{StreamExt, stream::BoxStream};
use sea_orm::{DbBackend, QueryResult, Statement};
use serde::Serialize;
use tenantry_connection::{Actor, Engine, Mode, Session};
use tenantry_realm::{TenantEntity, TenantKey};
use uuid::Uuid;

pub use lease::TenantLease;
pub use rerouting::Rerouting;
pub use transaction::TenantTransaction;
pub use unit_of_work::UnitOfWork;
pub use write_log::{WriteLogEntry, WriteOperation};

use sealed::Checked;

use crate::{Error, ScopedDelete, ScopedInsert, ScopedSelect, ScopedUpdate, manager::Shared, pools::AdmittedPool};

/// Which login of a data source a handle uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// The login that row-level security applies to: what a request gets.
    Restricted,
    /// The login that owns the schema: for migrations and transfers; asked for by name and audited.
    Service,
}

/// What keeps a handle's statements within its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Row-level security, and the predicate on every statement as well.
    Policy,
    /// The predicate on every statement alone: SQLite, service access, and the fallback to a single database.
    PredicateOnly,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restricted => "restricted",
            Self::Service => "service",
        })
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Policy => "policy",
            Self::PredicateOnly => "predicate only",
        })
    }
}

/// Whom a handle works for, and where. Its fields are this crate's alone: the pool must not get out.
#[derive(Clone)]
pub struct TenantContext {
    /// The tenant's id in the application database.
    pub(crate) tenant_id: Uuid,
    /// Its id in the data source.
    pub(crate) key: TenantKey,
    /// The name of the tenant column in tables that are no entity of the application (the write log).
    pub(crate) tenant_column: Arc<str>,
    /// Which login is used.
    pub(crate) access: Access,
    /// What stands behind the predicate.
    pub(crate) isolation: Isolation,
    /// The engine of the data source.
    pub(crate) engine: Engine,
    /// What its statements run with: the key once more, the tenant's share of connections, and who acts.
    pub(crate) session: Session,
    /// Where connections come from.
    pub(crate) pool: Arc<AdmittedPool>,
    /// The placement epoch that it was made at.
    pub(crate) epoch: i64,
    /// Who knows where the tenant is by now. Without one nothing is routed again.
    pub(crate) router: Weak<Shared>,
    /// Where the tenant was found when a write was refused here. All that share this context go there from then on, with their
    /// reads as well: who has written in the new place must find there what was written.
    pub(crate) moved_to: OnceLock<Arc<TenantContext>>,
}

impl TenantContext {
    /// Where the tenant was found last.
    pub(crate) fn current(self: &Arc<Self>) -> &Arc<Self> {
        let mut context = self;
        while let Some(next) = context.moved_to.get() {
            context = next;
        }
        context
    }

    pub(crate) fn backend(&self) -> DbBackend {
        match self.engine {
            Engine::Postgres => DbBackend::Postgres,
            Engine::Sqlite => DbBackend::Sqlite,
        }
    }
}

pub(crate) mod sealed {
    use super::*;

    /// A statement that this crate answers for. Its methods would be reachable through a generic bound on [`TenantHandle`],
    /// so [`Handle`] takes nothing that anyone else could make.
    pub struct Checked {
        statement: Statement,
        raw: bool,
        /// The tenant's id that is written into it; none where no builder wrote one.
        key: Option<TenantKey>,
    }

    impl Checked {
        pub(crate) fn new(statement: Statement) -> Self {
            Self { statement, raw: false, key: None }
        }

        /// Text of the application's own, or with some in it, which may leave something behind in its session.
        pub(crate) fn raw(statement: Statement) -> Self {
            Self { statement, raw: true, key: None }
        }

        /// The same, which names the tenant by this id.
        pub(crate) fn naming(self, key: &TenantKey) -> Self {
            Self { key: Some(key.clone()), ..self }
        }

        /// Refuses a place where the tenant has another id: the handle has followed its tenant since the statement was made, and
        /// there the id may be a neighbour's.
        pub(crate) fn must_be_for(&self, context: &TenantContext) -> Result<(), Error> {
            match &self.key {
                Some(key) if *key != context.key => Err(Error::Moved { tenant: context.tenant_id }),
                _ => Ok(()),
            }
        }

        pub(crate) fn is_raw(&self) -> bool {
            self.raw
        }

        pub(crate) fn into_statement(self) -> Statement {
            self.statement
        }
    }

    /// The seam to the connection layer: every statement of a handle goes through one of these.
    pub trait Handle: Send + Sync {
        fn context(&self) -> &Arc<TenantContext>;
        fn query_all(
            &self,
            statement: Checked,
            mode: Mode,
        ) -> impl Future<Output = Result<Vec<QueryResult>, Error>> + Send;
        fn execute(&self, statement: Checked) -> impl Future<Output = Result<u64, Error>> + Send;
        fn stream(&self, statement: Checked) -> BoxStream<'_, Result<QueryResult, Error>>;
        fn unit_of_work(&self, mode: Mode) -> impl Future<Output = Result<UnitOfWork<'_>, Error>> + Send;
        /// After a write that failed as a whole, and holds no connection any more: whether it is to be run again, where its
        /// tenant is by now. What was not refused by the fence is not.
        fn rerouted(&self, error: Error, rerouting: &mut Rerouting) -> impl Future<Output = Result<(), Error>> + Send;
        fn give_up(&self) {}
    }
}

/// What [`TenantDb`] and [`TenantTransaction`] have in common: whom they work for, and the statements they make. Sealed,
/// because everything that implements it is trusted to stay within its tenant.
pub trait TenantHandle: sealed::Handle {
    /// The tenant's id in the application database.
    fn tenant(&self) -> Uuid {
        self.context().tenant_id
    }

    /// The tenant's id in its data source.
    fn key(&self) -> &TenantKey {
        &self.context().key
    }

    /// Which login is used.
    fn access(&self) -> Access {
        self.context().access
    }

    /// What keeps statements within the tenant.
    fn isolation(&self) -> Isolation {
        self.context().isolation
    }

    /// The engine of the data source.
    fn engine(&self) -> Engine {
        self.context().engine
    }

    /// Who acts.
    fn actor(&self) -> &Actor {
        &self.context().session.actor
    }

    /// A query of this tenant's rows of `E`.
    fn select<E: TenantEntity>(&self) -> ScopedSelect<E> {
        ScopedSelect::new(self.context())
    }

    /// An insert of rows of `E` for this tenant. Every model must set the same columns.
    fn insert<E: TenantEntity>(&self, models: impl IntoIterator<Item = E::ActiveModel>) -> ScopedInsert<E> {
        ScopedInsert::new(self.context(), models)
    }

    /// An update of this tenant's rows of `E`.
    fn update<E: TenantEntity>(&self) -> ScopedUpdate<E> {
        ScopedUpdate::new(self.context())
    }

    /// A delete of this tenant's rows of `E`.
    fn delete<E: TenantEntity>(&self) -> ScopedDelete<E> {
        ScopedDelete::new(self.context())
    }

    /// One transaction for several statements: this handle's own if it is one, else a new one.
    ///
    /// # Errors
    /// Those of beginning a transaction.
    fn begin_unit(&self, mode: Mode) -> impl Future<Output = Result<UnitOfWork<'_>, Error>> + Send {
        self.unit_of_work(mode)
    }

    /// Says that what was written last must not last: a transaction can only be rolled back then. Where each statement is a
    /// transaction of its own, it has been written already.
    fn undo_if_in_transaction(&self) {
        sealed::Handle::give_up(self);
    }
}

impl<H: sealed::Handle> TenantHandle for H {}

/// A tenant's data. Cheap to clone; keeps no connection between statements. Each statement is a transaction of its own. Over a
/// connection that keeps its server session a statement mostly costs one round trip.
#[derive(Clone)]
pub struct TenantDb {
    context: Arc<TenantContext>,
}

impl TenantDb {
    pub(crate) fn new(context: TenantContext) -> Self {
        Self { context: Arc::new(context) }
    }

    /// What its statements run with: where the tenant was found last.
    fn current(&self) -> &Arc<TenantContext> {
        self.context.current()
    }

    pub(crate) fn into_context(self) -> Arc<TenantContext> {
        self.context
    }

    /// Whether both are the same handle.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.context, &other.context)
    }

    /// The same data, with writes recorded as done by `actor`.
    #[must_use]
    pub fn as_user(&self, actor: Actor) -> Self {
        let mut context = TenantContext::clone(self.current());
        context.session.actor = actor;
        Self::new(context)
    }

    /// Takes a connection for several statements, so that none of them has to wait for another. Each is still a transaction of
    /// its own.
    ///
    /// # Errors
    /// [`Error::Connection`] when no connection could be had; it says whether a retry makes sense. [`Error::NotIsolated`].
    pub async fn lease(&self) -> Result<TenantLease, Error> {
        TenantLease::take(Arc::clone(self.current())).await
    }

    /// Begins a transaction that reads from one snapshot, for several reads that shall agree; behind a pooler in transaction
    /// mode it also saves each of them its own transaction. The database refuses writes in it.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub async fn begin_read(&self) -> Result<TenantTransaction, Error> {
        TenantTransaction::begin(Arc::clone(self.current()), Mode::Snapshot).await
    }

    /// Begins a transaction. Dropped before it is committed, it is rolled back by closing its connection.
    ///
    /// # Errors
    /// [`Error::Connection`] when no connection could be had; it says whether a retry makes sense. [`Error::NotIsolated`].
    pub async fn begin(&self) -> Result<TenantTransaction, Error> {
        TenantTransaction::begin(Arc::clone(self.current()), Mode::Write).await
    }

    /// Runs `work` in a transaction: commits when it returns `Ok`, rolls back when it returns `Err`.
    ///
    /// A call that is dropped midway has written nothing, unless its commit was under way.
    ///
    /// # Errors
    /// What `work` returned, or the failure to begin or commit.
    pub async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&TenantTransaction) -> Result<T, E>,
        E: From<Error>,
    {
        let transaction = self.begin().await?;
        match work(&transaction).await {
            Ok(value) => {
                transaction.commit().await?;
                Ok(value)
            }
            Err(error) => {
                // The work's own error says more than a failure to roll back, which closes the connection anyway.
                let _ = transaction.rollback().await;
                Err(error)
            }
        }
    }

    async fn query_raw(&self, statement: Checked, mode: Mode) -> Result<Vec<QueryResult>, Error> {
        TenantTransaction::begin(Arc::clone(self.current()), mode).await?.query_and_commit(statement).await
    }

    async fn execute_raw(&self, statement: Checked) -> Result<u64, Error> {
        TenantTransaction::begin(Arc::clone(self.current()), Mode::Write).await?.execute_and_commit(statement).await
    }

    /// The latest entries of this tenant's write log, newest first.
    ///
    /// # Errors
    /// [`Error::Connection`], also when the data source has no write log.
    pub async fn write_log(&self, limit: u64) -> Result<Vec<WriteLogEntry>, Error> {
        write_log::read(self, limit).await
    }
}

impl sealed::Handle for TenantDb {
    fn context(&self) -> &Arc<TenantContext> {
        self.current()
    }

    async fn query_all(&self, statement: Checked, mode: Mode) -> Result<Vec<QueryResult>, Error> {
        if statement.is_raw() {
            return Box::pin(self.query_raw(statement, mode)).await;
        }
        let context = self.current();
        statement.must_be_for(context)?;
        let TenantContext { pool, session, .. } = &**context;
        Ok(pool.admitted().await?.query_all(session, mode, statement.into_statement()).await?)
    }

    async fn execute(&self, statement: Checked) -> Result<u64, Error> {
        if statement.is_raw() {
            return Box::pin(self.execute_raw(statement)).await;
        }
        let context = self.current();
        statement.must_be_for(context)?;
        let TenantContext { pool, session, .. } = &**context;
        Ok(pool.admitted().await?.execute(session, statement.into_statement()).await?)
    }

    fn stream(&self, statement: Checked) -> BoxStream<'_, Result<QueryResult, Error>> {
        // The stream owns its connection, which goes back when the last row was read, and is closed when it is dropped.
        async_stream::try_stream! {
            let transaction = TenantTransaction::begin(Arc::clone(self.current()), Mode::Read).await?;
            {
                let mut rows = transaction.stream(statement);
                while let Some(row) = rows.next().await {
                    yield row?;
                }
            }
            transaction.commit().await?;
        }
        .boxed()
    }

    async fn unit_of_work(&self, mode: Mode) -> Result<UnitOfWork<'_>, Error> {
        TenantTransaction::begin(Arc::clone(self.current()), mode).await.map(UnitOfWork::own)
    }

    async fn rerouted(&self, error: Error, rerouting: &mut Rerouting) -> Result<(), Error> {
        if error.is_refused_by_fence() { rerouting.again(self.current(), error).await } else { Err(error) }
    }
}

impl fmt::Debug for TenantDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.current().fmt_as(f, "TenantDb")
    }
}

impl TenantContext {
    fn fmt_as(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        f.debug_struct(name)
            .field("tenant", &self.tenant_id)
            .field("access", &self.access)
            .field("isolation", &self.isolation)
            .field("data_source", &self.pool.pool().url().as_str())
            .finish()
    }
}

#[cfg(test)]
mod tests;
