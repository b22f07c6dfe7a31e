//! A migration that creates tenant tables, all or none.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use super::query_text;
use crate::dialect::{Engine, literal, quote};
use crate::{Error, TenantTable};

/// A migration that creates these tables in this order, and whose `down` drops them in the opposite one. Refused where one of
/// them exists already, and `down` where one of them has rows.
pub fn create_tables<T>(name: &'static str, tables: impl Fn() -> T + Send + Sync + 'static) -> Box<dyn MigrationTrait>
where
    T: IntoIterator<Item = TenantTable>,
{
    Box::new(CreateTables { name, tables: move || tables().into_iter().collect() })
}

struct CreateTables<F> {
    name: &'static str,
    tables: F,
}

impl<F> MigrationName for CreateTables<F> {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait]
impl<F: Fn() -> Vec<TenantTable> + Send + Sync> MigrationTrait for CreateTables<F> {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = (self.tables)();
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
        let tables = (self.tables)();
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
