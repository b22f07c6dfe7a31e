//! Runs a migrator's pending migrations in one transaction, under a lock.
//!
//! SeaORM's own runner takes no lock, commits every migration by itself and, on SQLite, statement by statement; and it
//! creates its history table wherever `search_path` points. It knows nothing of what a migration does.

use std::time::SystemTime;

use sea_orm_migration::sea_orm::{
    ConnectionTrait, DbErr, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
};
use sea_orm_migration::{MigrationTrait, MigratorTrait, SchemaManager};

use crate::Error;
use crate::dialect::{Engine, literal, quote};

/// Which way to go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// Applies or rolls back up to `steps` migrations of `M` (`None`: all) in one transaction.
pub(crate) async fn run<M: MigratorTrait>(
    manager: &SchemaManager<'_>,
    direction: Direction,
    steps: Option<u32>,
) -> Result<(), DbErr> {
    let engine = Engine::of(manager.get_connection())?;
    // SQLite: a deferred transaction that has read cannot always become a writer.
    let options =
        TransactionOptions { sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate), ..Default::default() };
    let transaction = manager.get_connection().begin_with_options(options).await?;
    if engine == Engine::Postgres {
        lock(&transaction).await?;
    }
    M::install(&transaction).await?;

    let applied: Vec<String> =
        M::get_migration_models(&transaction).await?.into_iter().map(|model| model.version).collect();
    let known = M::migrations();
    if let Some(unknown) = applied.iter().find(|name| known.iter().all(|migration| migration.name() != **name)) {
        return Err(DbErr::Migration(format!(
            "migration {unknown} was applied to this database and is unknown to this program; use a newer release"
        )));
    }
    let mut chosen: Vec<Box<dyn MigrationTrait>> = known
        .into_iter()
        .filter(|migration| applied.iter().any(|name| name == migration.name()) == (direction == Direction::Down))
        .collect();
    if direction == Direction::Down {
        chosen.reverse();
    }
    let steps = steps.map_or(usize::MAX, |steps| usize::try_from(steps).unwrap_or(usize::MAX));
    let inner = SchemaManager::new(&transaction);
    for migration in chosen.into_iter().take(steps) {
        match direction {
            Direction::Up => {
                migration.up(&inner).await?;
                record::<M>(&transaction, migration.name()).await?;
            }
            Direction::Down => {
                migration.down(&inner).await?;
                forget::<M>(&transaction, migration.name()).await?;
            }
        }
    }
    transaction.commit().await
}

/// Creates the history table, on PostgreSQL in schema `public` whatever `search_path` says.
pub(crate) async fn install<M: MigratorTrait>(connection: &impl ConnectionTrait) -> Result<(), DbErr> {
    let table = quote(&M::migration_table_name().to_string());
    let create = match Engine::of(connection)? {
        Engine::Postgres => format!(
            "CREATE TABLE IF NOT EXISTS public.{table} (version character varying NOT NULL PRIMARY KEY, applied_at bigint NOT NULL)"
        ),
        Engine::Sqlite => format!(
            "CREATE TABLE IF NOT EXISTS {table} (version varchar NOT NULL PRIMARY KEY, applied_at integer NOT NULL)"
        ),
    };
    connection.execute_unprepared(&create).await.map(|_| ())
}

/// Drops the history table.
pub(crate) async fn uninstall<M: MigratorTrait>(connection: &impl ConnectionTrait) -> Result<(), DbErr> {
    let table = quote(&M::migration_table_name().to_string());
    let schema = if Engine::of(connection)? == Engine::Postgres { "public." } else { "" };
    connection.execute_unprepared(&format!("DROP TABLE {schema}{table}")).await.map(|_| ())
}

/// `drop_everything` would take the tables of an adopted database with it.
pub(crate) fn refuse_fresh() -> Result<(), DbErr> {
    Err(Error::FreshRefused.into())
}

/// Two runners wait for each other, whichever migrator they run; the lock is the database's, not the server's. The search
/// path is pinned so that the unqualified history table is the one in `public`.
async fn lock(transaction: &impl ConnectionTrait) -> Result<(), DbErr> {
    let sql = "SELECT pg_catalog.set_config('search_path', 'public', true), \
               pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('tenantry.migrations', 0))::text";
    transaction.query_one_raw(Statement::from_string(transaction.get_database_backend(), sql)).await.map(|_| ())
}

async fn record<M: MigratorTrait>(transaction: &impl ConnectionTrait, name: &str) -> Result<(), DbErr> {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let (table, name) = (quote(&M::migration_table_name().to_string()), literal(name));
    let sql = format!("INSERT INTO {table} (version, applied_at) VALUES ({name}, {seconds})");
    transaction.execute_unprepared(&sql).await.map(|_| ())
}

async fn forget<M: MigratorTrait>(transaction: &impl ConnectionTrait, name: &str) -> Result<(), DbErr> {
    let (table, name) = (quote(&M::migration_table_name().to_string()), literal(name));
    transaction.execute_unprepared(&format!("DELETE FROM {table} WHERE version = {name}")).await.map(|_| ())
}
