//! The migrator of the application database: `tenants`, `users`, `audit_log`, `data_sources`, and the table of transfers.
//!
//! It creates the tables on an empty database and adopts them on an existing one: columns, constraints, indexes and triggers
//! that are missing are added, no value of a row is touched, and rows that the rules would refuse are named before anything
//! is changed. What was created is recorded, and rolling back removes that alone.
//!
//! By trigger, whatever client writes: a tenant's changed data source leaves an audit row, its placement epoch grows with
//! every change of where or how it is reached, audit rows are only ever added, `updated_at` is kept. SQLSTATEs of refusals:
//! `TN003` (audit_log only grows), `TN005` (placement_epoch was set by hand).
//!
//! Every change of a placement is announced to the processes that have cached it.
//!
//! It knows no business table.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbErr, DynIden};
use sea_orm_migration::sea_query::{Alias, IntoIden};
use sea_orm_migration::{IntoSchemaManagerConnection, MigrationTrait, MigratorTrait, SchemaManager};

use crate::migrator::{self, Direction};

mod announce;
mod book;
mod dictionary;
mod fit;
mod inspect;
mod migration;
mod postgres;
mod sqlite;
mod transfers;

/// Creates or adopts `tenants`, `users`, `audit_log` and `data_sources`. Its history is in `tenantry_app_db_migrations`.
#[derive(Debug, Clone, Copy)]
pub struct AppDbMigrator;

#[async_trait]
impl MigratorTrait for AppDbMigrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(migration::AppDb), Box::new(announce::Announce), Box::new(transfers::Transfers)]
    }

    fn migration_table_name() -> DynIden {
        Alias::new("tenantry_app_db_migrations").into_iden()
    }

    async fn install<C: ConnectionTrait>(db: &C) -> Result<(), DbErr> {
        migrator::install::<Self>(db).await
    }

    async fn up<'c, C: IntoSchemaManagerConnection<'c>>(db: C, steps: Option<u32>) -> Result<(), DbErr> {
        migrator::run::<Self>(&SchemaManager::new(db.into_database_executor()), Direction::Up, steps).await
    }

    async fn down<'c, C: IntoSchemaManagerConnection<'c>>(db: C, steps: Option<u32>) -> Result<(), DbErr> {
        migrator::run::<Self>(&SchemaManager::new(db.into_database_executor()), Direction::Down, steps).await
    }

    async fn reset<'c, C: IntoSchemaManagerConnection<'c>>(db: C) -> Result<(), DbErr> {
        let manager = SchemaManager::new(db.into_database_executor());
        migrator::run::<Self>(&manager, Direction::Down, None).await?;
        migrator::uninstall::<Self>(manager.get_connection()).await
    }

    async fn refresh<'c, C: IntoSchemaManagerConnection<'c>>(db: C) -> Result<(), DbErr> {
        let manager = SchemaManager::new(db.into_database_executor());
        migrator::run::<Self>(&manager, Direction::Down, None).await?;
        migrator::run::<Self>(&manager, Direction::Up, None).await
    }

    async fn fresh<'c, C: IntoSchemaManagerConnection<'c>>(_db: C) -> Result<(), DbErr> {
        migrator::refuse_fresh()
    }
}
