//! The migrator of the application database.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbErr, DynIden};
use sea_orm_migration::sea_query::{Alias, IntoIden};
use sea_orm_migration::{IntoSchemaManagerConnection, MigrationTrait, MigratorTrait, SchemaManager};

use crate::migrator::{self, Direction};

/// Creates or adopts `tenants`, `users`, `audit_log` and `data_sources`. Its history is in `tenantry_app_db_migrations`.
#[derive(Debug, Clone, Copy)]
pub struct AppDbMigrator;

#[async_trait]
impl MigratorTrait for AppDbMigrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![]
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

    async fn fresh<'c, C: IntoSchemaManagerConnection<'c>>(_db: C) -> Result<(), DbErr> {
        migrator::refuse_fresh()
    }
}
