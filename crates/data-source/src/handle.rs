//! The handles that a tenant's rows are reached with.
//!
//! A handle is bound to one tenant for its whole life: it is an ordinary value, so it keeps its tenant across `spawn`,
//! `select!` and streams, and there is no call that switches it. A scope of another tenant inside a [`TenantTransaction`]
//! cannot be written down: statements are made from the transaction, and one that was made from another tenant's handle is
//! refused. Work on two tenants takes two handles, each with its own transaction.
//!
//! Neither handle implements `ConnectionTrait` or shows its pool.

mod transaction;
mod unit_of_work;
mod write_log;

use std::{fmt, future::Future, sync::Arc};

use futures_util::{StreamExt, stream::BoxStream};
use sea_orm::{DbBackend, QueryResult, Statement};
use serde::Serialize;
use tenantry_connection::{Actor, Engine, Mode, Pool, Session};
use tenantry_realm::{TenantEntity, TenantKey};
use uuid::Uuid;

pub use transaction::TenantTransaction;
pub use unit_of_work::UnitOfWork;
pub use write_log::{WriteLogEntry, WriteOperation};

use sealed::Checked;

use crate::{Error, ScopedDelete, ScopedInsert, ScopedSelect, ScopedUpdate};

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
    pub(crate) tenant_column: String,
    /// Which login is used.
    pub(crate) access: Access,
    /// What stands behind the predicate.
    pub(crate) isolation: Isolation,
    /// The engine of the data source.
    pub(crate) engine: Engine,
    /// Who acts; the write log records it.
    pub(crate) actor: Actor,
    /// Where connections come from.
    pub(crate) pool: Pool,
}

impl TenantContext {
    fn session(&self) -> Session {
        Session { tenant: Some(self.key.to_string()), actor: self.actor.clone(), transfer: false }
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
    }

    impl Checked {
        pub(crate) fn new(statement: Statement) -> Self {
            Self { statement, raw: false }
        }

        /// Text of the application's own, which may leave something behind on its connection.
        pub(crate) fn raw(statement: Statement) -> Self {
            Self { statement, raw: true }
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
        &self.context().actor
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
}

impl<H: sealed::Handle> TenantHandle for H {}

/// A tenant's data. Cheap to clone; keeps no connection between statements. Each statement is a transaction of its own.
#[derive(Clone)]
pub struct TenantDb {
    context: Arc<TenantContext>,
}

impl TenantDb {
    pub(crate) fn new(context: TenantContext) -> Self {
        Self { context: Arc::new(context) }
    }

    /// The same data, with writes recorded as done by `actor`.
    #[must_use]
    pub fn as_user(&self, actor: Actor) -> Self {
        Self::new(TenantContext { actor, ..TenantContext::clone(&self.context) })
    }

    /// Begins a transaction. Dropped before it is committed, it is rolled back by closing its connection.
    ///
    /// # Errors
    /// [`Error::Connection`] when no connection could be had; it says whether a retry makes sense.
    pub async fn begin(&self) -> Result<TenantTransaction, Error> {
        TenantTransaction::begin(Arc::clone(&self.context), Mode::Write).await
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
        &self.context
    }

    async fn query_all(&self, statement: Checked, mode: Mode) -> Result<Vec<QueryResult>, Error> {
        let mut transaction = self.context.pool.begin(&self.context.session(), mode).await?;
        match transaction.query_all(statement.into_statement()).await {
            Ok(rows) => {
                transaction.commit().await?;
                Ok(rows)
            }
            Err(error) => {
                let _ = transaction.rollback().await;
                Err(error.into())
            }
        }
    }

    async fn execute(&self, statement: Checked) -> Result<u64, Error> {
        let mut transaction = self.context.pool.begin(&self.context.session(), Mode::Write).await?;
        match transaction.execute(statement.into_statement()).await {
            Ok(affected) => {
                transaction.commit().await?;
                Ok(affected)
            }
            Err(error) => {
                let _ = transaction.rollback().await;
                Err(error.into())
            }
        }
    }

    fn stream(&self, statement: Checked) -> BoxStream<'_, Result<QueryResult, Error>> {
        // The stream owns its lease: the connection goes back when the last row was read, and is closed when it is dropped.
        async_stream::try_stream! {
            let mut transaction = self.context.pool.begin(&self.context.session(), Mode::Read).await?;
            {
                let mut rows = std::pin::pin!(transaction.stream(statement.into_statement()));
                while let Some(row) = rows.next().await {
                    yield row?;
                }
            }
            transaction.commit().await?;
        }
        .boxed()
    }

    async fn unit_of_work(&self, mode: Mode) -> Result<UnitOfWork<'_>, Error> {
        TenantTransaction::begin(Arc::clone(&self.context), mode).await.map(UnitOfWork::own)
    }
}

impl fmt::Debug for TenantDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.context.fmt_as(f, "TenantDb")
    }
}

impl TenantContext {
    fn fmt_as(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        f.debug_struct(name)
            .field("tenant", &self.tenant_id)
            .field("access", &self.access)
            .field("isolation", &self.isolation)
            .field("data_source", &self.pool.url().as_str())
            .finish()
    }
}

#[cfg(test)]
mod tests;
