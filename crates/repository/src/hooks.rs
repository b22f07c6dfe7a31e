//! The hooks of an entity's `ActiveModelBehavior`, run without a database.

use sea_orm::{
    ActiveModelBehavior, ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement, StatementBuilder,
};
use tenantry_data_source::{Engine, TenantHandle};
use tenantry_realm::TenantEntity;

use crate::Error;

/// What hooks get as their connection. It refuses every query: a hook's statements are SeaORM's own and carry no tenant
/// predicate. Hooks that look at the row alone, such as validation, work unchanged.
struct NoQueries {
    engine: Engine,
}

pub(crate) async fn before_save<E>(model: E::ActiveModel, engine: Engine, insert: bool) -> Result<E::ActiveModel, Error>
where
    E: TenantEntity,
    E::ActiveModel: Send,
{
    model.before_save(&NoQueries { engine }, insert).await.map_err(failed::<E>)
}

/// Runs when the row is written. Where the handle is a transaction, an error makes sure that the row does not last.
pub(crate) async fn after_save<E>(model: E::Model, handle: &impl TenantHandle, insert: bool) -> Result<E::Model, Error>
where
    E: TenantEntity,
    E::ActiveModel: Send,
{
    let run = E::ActiveModel::after_save(model, &NoQueries { engine: handle.engine() }, insert).await;
    run.map_err(|source| {
        handle.undo_if_in_transaction();
        Error::HookAfterwards { entity: E::default().table_name().to_owned(), source }
    })
}

fn failed<E: TenantEntity>(source: DbErr) -> Error {
    Error::Hook { entity: E::default().table_name().to_owned(), source }
}

fn refused<T>() -> Result<T, DbErr> {
    Err(DbErr::Custom(
        "a hook of a tenant entity cannot query: its statement would not carry the tenant; \
         do this work in the caller, in a transaction of the tenant's handle"
            .to_owned(),
    ))
}

#[async_trait::async_trait]
impl ConnectionTrait for NoQueries {
    fn get_database_backend(&self) -> DbBackend {
        match self.engine {
            Engine::Postgres => DbBackend::Postgres,
            Engine::Sqlite => DbBackend::Sqlite,
        }
    }

    async fn execute_raw(&self, _: Statement) -> Result<ExecResult, DbErr> {
        refused()
    }

    async fn execute_unprepared(&self, _: &str) -> Result<ExecResult, DbErr> {
        refused()
    }

    async fn query_one_raw(&self, _: Statement) -> Result<Option<QueryResult>, DbErr> {
        refused()
    }

    async fn query_all_raw(&self, _: Statement) -> Result<Vec<QueryResult>, DbErr> {
        refused()
    }

    async fn execute<S: StatementBuilder>(&self, _: &S) -> Result<ExecResult, DbErr> {
        refused()
    }

    async fn query_one<S: StatementBuilder>(&self, _: &S) -> Result<Option<QueryResult>, DbErr> {
        refused()
    }

    async fn query_all<S: StatementBuilder>(&self, _: &S) -> Result<Vec<QueryResult>, DbErr> {
        refused()
    }
}
