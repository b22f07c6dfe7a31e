//! The second migration: the 13 business tables, all or none.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use super::{business, query_text};
use crate::Error;
use crate::dialect::{Engine, literal, quote};

/// See the module's documentation.
pub(super) struct BusinessTables;

impl MigrationName for BusinessTables {
    fn name(&self) -> &'static str {
        "m20261121_000002_business_tables"
    }
}

#[async_trait]
impl MigrationTrait for BusinessTables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = business::tables();
        let mut existing = Vec::new();
        for table in &tables {
            if exists(manager.get_connection(), table.name()).await? {
                existing.push(table.name().to_owned());
            }
        }
        if !existing.is_empty() {
            return Err(Error::TablesExist { tables: existing }.into());
        }
        for table in tables {
            table.create(manager).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = business::tables();
        let mut losses = Vec::new();
        for table in &tables {
            losses.extend(table.loss(manager.get_connection()).await?);
        }
        if !losses.is_empty() {
            return Err(Error::WouldLose { losses }.into());
        }
        for table in tables.iter().rev() {
            table.drop(manager).await?;
        }
        Ok(())
    }
}

async fn exists(connection: &impl ConnectionTrait, table: &str) -> Result<bool, Error> {
    let sql = match Engine::of(connection)? {
        Engine::Postgres => {
            format!("SELECT pg_catalog.to_regclass({})::pg_catalog.text", literal(&format!("public.{}", quote(table))))
        }
        Engine::Sqlite => format!("SELECT name FROM sqlite_master WHERE name = {}", literal(table)),
    };
    Ok(query_text(connection, &sql, "looking for existing tables").await?.is_some())
}
