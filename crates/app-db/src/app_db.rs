//! The handle, and the guarded transaction that every statement of this crate runs in.

use sea_orm::{DbBackend, FromQueryResult, QueryResult, Statement, StatementBuilder};
use tenantry_connection::{Actor, DataSourceUrl, Engine, Mode, Pool, Session, Transaction, Watcher};
use tenantry_realm::AppEntity;

use crate::{AppSelect, Error, guard::Guard};

/// The application database. Cheap to clone; clones share one pool.
///
/// It implements neither SeaORM's `ConnectionTrait` nor `Deref`: there is no way from here to a raw connection.
#[derive(Clone)]
pub struct AppDb {
    pool: Pool,
    guard: Guard,
}

impl AppDb {
    /// The application database behind the pool. Nothing is connected yet.
    pub fn new(pool: Pool) -> Self {
        Self { pool, guard: Guard::default() }
    }

    /// Lets statements touch the table of an application's own entity of the application realm, beside
    /// [`entities::TABLES`](crate::entities::TABLES).
    #[must_use]
    pub fn admit<E: AppEntity>(mut self) -> Self {
        self.guard.admit(E::default().table_name());
        self
    }

    /// The engine of the application database.
    pub fn engine(&self) -> Engine {
        self.pool.engine()
    }

    /// Where the application database is.
    pub fn url(&self) -> &DataSourceUrl {
        self.pool.url()
    }

    /// A query for rows of `E`.
    pub fn find<E: AppEntity>(&self) -> AppSelect<E> {
        AppSelect::new(self.clone())
    }

    /// Begins a transaction that reads.
    pub(crate) async fn read(&self, attempt: &'static str) -> Result<Guarded<'_>, Error> {
        self.begin(&Actor::default(), Mode::Read, attempt).await
    }

    /// Begins a transaction that writes on behalf of the actor.
    pub(crate) async fn write(&self, actor: &Actor, attempt: &'static str) -> Result<Guarded<'_>, Error> {
        self.begin(actor, Mode::Write, attempt).await
    }

    pub(crate) async fn watcher(&self, channel: &str) -> Result<Watcher, tenantry_connection::Error> {
        self.pool.watcher(channel).await
    }

    async fn begin(&self, actor: &Actor, mode: Mode, attempt: &'static str) -> Result<Guarded<'_>, Error> {
        let session = Session { actor: actor.clone(), ..Session::default() };
        let transaction =
            self.pool.begin(&session, mode).await.map_err(|source| Error::Database { attempt, source })?;
        Ok(Guarded { transaction, guard: &self.guard, attempt })
    }
}

/// A transaction whose statements pass the guard first. Dropped without [`Guarded::commit`], it leaves nothing behind.
pub(crate) struct Guarded<'db> {
    transaction: Transaction,
    guard: &'db Guard,
    /// What the transaction is for, as errors say it.
    attempt: &'static str,
}

impl Guarded<'_> {
    /// The application database's own URL.
    pub(crate) fn url(&self) -> &DataSourceUrl {
        self.transaction.url()
    }

    pub(crate) fn engine(&self) -> Engine {
        self.transaction.engine()
    }

    pub(crate) fn backend(&self) -> DbBackend {
        match self.engine() {
            Engine::Postgres => DbBackend::Postgres,
            Engine::Sqlite => DbBackend::Sqlite,
        }
    }

    pub(crate) async fn execute<S: StatementBuilder>(&mut self, table: &str, builder: &S) -> Result<u64, Error> {
        let statement = self.build(table, builder)?;
        self.execute_unguarded(statement).await
    }

    /// Runs a statement of this crate's own text: the one on advisory locks, which touches no table.
    pub(crate) async fn execute_unguarded(&mut self, statement: Statement) -> Result<u64, Error> {
        let attempt = self.attempt;
        self.transaction.execute(statement).await.map_err(|source| Error::Database { attempt, source })
    }

    pub(crate) async fn rows<S: StatementBuilder>(
        &mut self,
        table: &str,
        builder: &S,
    ) -> Result<Vec<QueryResult>, Error> {
        let statement = self.build(table, builder)?;
        let attempt = self.attempt;
        self.transaction.query_all(statement).await.map_err(|source| Error::Database { attempt, source })
    }

    pub(crate) async fn row<S: StatementBuilder>(
        &mut self,
        table: &str,
        builder: &S,
    ) -> Result<Option<QueryResult>, Error> {
        let statement = self.build(table, builder)?;
        let attempt = self.attempt;
        self.transaction.query_one(statement).await.map_err(|source| Error::Database { attempt, source })
    }

    /// Reads by this crate's own text: the version of placements, which is in no table of an entity.
    pub(crate) async fn row_unguarded(&mut self, statement: Statement) -> Result<Option<QueryResult>, Error> {
        let attempt = self.attempt;
        self.transaction.query_one(statement).await.map_err(|source| Error::Database { attempt, source })
    }

    pub(crate) async fn commit(self) -> Result<(), Error> {
        let attempt = self.attempt;
        self.transaction.commit().await.map_err(|source| Error::Database { attempt, source })
    }

    fn build<S: StatementBuilder>(&self, table: &str, builder: &S) -> Result<Statement, Error> {
        self.guard.build(self.backend(), builder).map_err(|source| Error::Refused { table: table.to_owned(), source })
    }
}

/// Reads one row of `E`.
pub(crate) fn decode<E: AppEntity>(row: &QueryResult) -> Result<E::Model, Error> {
    E::Model::from_query_result(row, "").map_err(|source| Error::Decode { table: table_of::<E>(), source })
}

/// The table of `E`.
pub(crate) fn table_of<E: AppEntity>() -> &'static str {
    E::default().table_name()
}
