//! The migration: creates what is missing, adopts what is there, and takes back exactly what it created.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use super::book::{self, Entry, Kind};
use super::dictionary::{self, Column, Index, Initial, Table};
use super::inspect::{self, Existing};
use super::{fit, postgres, sqlite};
use crate::Error;
use crate::dialect::{self, Engine, quote};
use crate::fence;

/// See the module's documentation.
pub(super) struct AppDb;

impl MigrationName for AppDb {
    fn name(&self) -> &'static str {
        "m20261121_000001_app_db"
    }
}

#[async_trait]
impl MigrationTrait for AppDb {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let engine = Engine::of(connection)?;
        let mut plan = Vec::new();
        let mut problems = Vec::new();
        for table in dictionary::tables() {
            let existing = inspect::find(connection, table.name).await?;
            if let Some(existing) = &existing {
                problems.extend(fit::problems(connection, &table, existing).await?);
            }
            plan.push((table, existing));
        }
        if !problems.is_empty() {
            return Err(Error::DoesNotFit { problems }.into());
        }

        let mut work = Work { connection, engine, entries: Vec::new() };
        match engine {
            Engine::Postgres => work.execute(fence::postgres::SCHEMA).await?,
            Engine::Sqlite => work.execute(dialect::sqlite::CREATE_SESSION).await?,
        }
        for (table, existing) in &plan {
            match existing {
                None => work.create(table).await?,
                Some(existing) => work.adopt(table, existing).await?,
            }
        }
        work.triggers(&plan).await?;
        book::write(connection, &work.entries).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let engine = Engine::of(connection)?;
        let entries = book::read(connection).await?;
        let mut losses = Vec::new();
        for entry in &entries {
            losses.extend(loss(connection, engine, entry).await?);
        }
        if !losses.is_empty() {
            return Err(Error::WouldLose { losses }.into());
        }
        for entry in &entries {
            connection
                .execute_unprepared(&entry.undo(engine))
                .await
                .map_err(Error::doing(format!("taking back {:?} {} {}", entry.kind, entry.table, entry.name)))?;
        }
        book::close(connection).await?;
        match engine {
            Engine::Postgres => {
                let sql = fence::postgres::DROP_SCHEMA_IF_EMPTY;
                connection.execute_unprepared(sql).await.map_err(Error::doing("dropping the support schema"))?;
            }
            Engine::Sqlite => fence::sqlite::drop_session_if_unused(connection).await?,
        }
        Ok(())
    }
}

/// What dropping the object would lose. The epoch grows by itself, so its values are nobody's data.
async fn loss(connection: &impl ConnectionTrait, engine: Engine, entry: &Entry) -> Result<Option<String>, Error> {
    let table = match engine {
        Engine::Postgres => format!("public.{}", quote(&entry.table)),
        Engine::Sqlite => quote(&entry.table),
    };
    let (condition, what) = match entry.kind {
        Kind::Table => ("true".to_owned(), format!("table {} has", entry.table)),
        Kind::Column if entry.name != "placement_epoch" => {
            let tables = dictionary::tables();
            let column = tables
                .iter()
                .find(|table| table.name == entry.table)
                .and_then(|table| table.columns.iter().find(|column| column.name == entry.name));
            let name = quote(&entry.name);
            let condition = match column.map(|column| column.default) {
                Some(Initial::Now | Initial::RandomUuid) => return Ok(None),
                Some(Initial::Json(text)) if engine == Engine::Postgres => {
                    format!("{name} IS DISTINCT FROM {}::jsonb", dialect::literal(text))
                }
                Some(default) => match default.sql(engine) {
                    Some(sql) => format!("{name} <> {sql}"),
                    None => format!("{name} IS NOT NULL"),
                },
                None => format!("{name} IS NOT NULL"),
            };
            (condition, format!("column {} of {} has values of its own in", entry.name, entry.table))
        }
        _ => return Ok(None),
    };
    let sql = format!("SELECT CAST(count(*) AS text) FROM {table} WHERE {condition}");
    let count = inspect::texts(connection, sql).await?.into_iter().next().unwrap_or_default();
    Ok((count != "0" && !count.is_empty()).then(|| format!("{what} {count} row(s)")))
}

struct Work<'a, C> {
    connection: &'a C,
    engine: Engine,
    entries: Vec<Entry>,
}

impl<C: ConnectionTrait> Work<'_, C> {
    async fn execute(&self, sql: &str) -> Result<(), Error> {
        let doing = Error::doing("creating the application database's schema");
        self.connection.execute_unprepared(sql).await.map(|_| ()).map_err(doing)
    }

    async fn made(&mut self, kind: Kind, table: &str, name: &str, sql: &str) -> Result<(), Error> {
        self.execute(sql).await?;
        self.entries.push(Entry::new(kind, table, name));
        Ok(())
    }

    fn target(&self, table: &str) -> String {
        match self.engine {
            Engine::Postgres => format!("public.{}", quote(table)),
            Engine::Sqlite => quote(table),
        }
    }

    async fn create(&mut self, table: &Table) -> Result<(), Error> {
        let engine = self.engine;
        let mut lines: Vec<String> =
            table.columns.iter().map(|column| column_sql(column, engine, column.nullable)).collect();
        lines.push(format!("CONSTRAINT {}_pkey PRIMARY KEY ({})", table.name, table.key));
        if engine == Engine::Sqlite {
            // One check for each column: its shape, and its own rule where the rule's name says so.
            for column in &table.columns {
                let name = format!("{}_{}_check", table.name, column.name);
                let rule = table.rules.iter().find(|rule| rule.name == name);
                let rule =
                    rule.map_or(String::new(), |rule| format!(" AND ({})", rule.sql(engine).replace("{row}", "")));
                lines.push(format!("CONSTRAINT {name} CHECK (({}){rule})", column.shape.check(&quote(column.name))));
            }
        }
        for rule in &table.rules {
            let covered =
                table.columns.iter().any(|column| rule.name == format!("{}_{}_check", table.name, column.name));
            if engine == Engine::Postgres || !covered {
                lines.push(format!("CONSTRAINT {} CHECK ({})", rule.name, rule.sql(engine).replace("{row}", "")));
            }
        }
        if table.name == "users" {
            let tenants = self.target("tenants");
            lines.push(format!(
                "CONSTRAINT users_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES {tenants} (id) ON DELETE CASCADE"
            ));
        }
        let mut sql = format!("CREATE TABLE {} (\n    {}\n)", self.target(table.name), lines.join(",\n    "));
        if engine == Engine::Postgres {
            sql.push_str(&format!(";\nREVOKE ALL ON {} FROM PUBLIC", self.target(table.name)));
        }
        self.made(Kind::Table, table.name, table.name, &sql).await?;
        for index in &table.indexes {
            self.index(table, index).await?;
        }
        Ok(())
    }

    /// Adds what is missing. No statement here writes to a row that has a value; a new column gets its default.
    async fn adopt(&mut self, table: &Table, existing: &Existing) -> Result<(), Error> {
        let engine = self.engine;
        let target = self.target(table.name);
        for column in &table.columns {
            match existing.column(column.name) {
                None if engine == Engine::Sqlite && !column.default.is_constant() => {
                    let sql =
                        format!("ALTER TABLE {target} ADD COLUMN {} {}", quote(column.name), column.declared(engine));
                    self.made(Kind::Column, table.name, column.name, &sql).await?;
                    let default = column.default.sql(engine).unwrap_or_else(|| "NULL".to_owned());
                    self.execute(&format!("UPDATE {target} SET {} = {default}", quote(column.name))).await?;
                }
                None => {
                    // SQLite refuses NOT NULL without a default even on an empty table; its trigger refuses the null instead.
                    let nullable =
                        column.nullable || (engine == Engine::Sqlite && column.default.sql(engine).is_none());
                    let sql = format!("ALTER TABLE {target} ADD COLUMN {}", column_sql(column, engine, nullable));
                    self.made(Kind::Column, table.name, column.name, &sql).await?;
                }
                Some(found) if engine == Engine::Postgres => {
                    let alter =
                        |what: String| format!("ALTER TABLE {target} ALTER COLUMN {} {what}", quote(column.name));
                    if let Some(default) = column.default.sql(engine).filter(|_| !found.has_default) {
                        let sql = alter(format!("SET DEFAULT {default}"));
                        self.made(Kind::Default, table.name, column.name, &sql).await?;
                    }
                    if found.nullable && !column.nullable {
                        let sql = alter("SET NOT NULL".to_owned());
                        self.made(Kind::NotNull, table.name, column.name, &sql).await?;
                    }
                }
                Some(_) => {}
            }
        }
        if !existing.unique_columns.iter().any(|column| column == table.key) {
            let name = format!("tenantry_{}_{}_key", table.name, table.key);
            let sql = format!("CREATE UNIQUE INDEX {name} ON {target} ({})", table.key);
            self.made(Kind::Index, table.name, &name, &sql).await?;
        }
        if engine == Engine::Postgres {
            for rule in &table.rules {
                // A constraint of that name may say something else; ours then stands beside it.
                let taken = existing.constraints.iter().any(|name| name == rule.name);
                let name = if taken { format!("tenantry_{}", rule.name) } else { rule.name.to_owned() };
                let condition = rule.sql(engine).replace("{row}", "");
                let sql = format!("ALTER TABLE {target} ADD CONSTRAINT {name} CHECK ({condition})");
                self.made(Kind::Constraint, table.name, &name, &sql).await?;
            }
            if table.name == "users" && existing.tenant_references.is_empty() {
                let name = "tenantry_users_tenant_id_fkey";
                let sql = format!(
                    "ALTER TABLE {target} ADD CONSTRAINT {name} FOREIGN KEY (tenant_id) REFERENCES public.tenants (id) ON DELETE CASCADE"
                );
                self.made(Kind::Constraint, table.name, name, &sql).await?;
            }
        }
        for index in &table.indexes {
            self.index(table, index).await?;
        }
        Ok(())
    }

    async fn index(&mut self, table: &Table, index: &Index) -> Result<(), Error> {
        let taken = match self.engine {
            Engine::Postgres => format!(
                "SELECT relname::pg_catalog.text FROM pg_catalog.pg_class WHERE relname = '{}' \
                 AND relnamespace = pg_catalog.to_regnamespace('public')",
                index.name
            ),
            Engine::Sqlite => format!("SELECT name FROM sqlite_master WHERE name = '{}'", index.name),
        };
        let taken = !inspect::texts(self.connection, taken).await?.is_empty();
        let name = if taken { format!("tenantry_{}", index.name) } else { index.name.to_owned() };
        let (unique, columns) = (
            if index.unique { "UNIQUE " } else { "" },
            match self.engine {
                Engine::Postgres => index.postgres,
                Engine::Sqlite => index.sqlite,
            },
        );
        let predicate = index.predicate.map_or(String::new(), |predicate| format!(" WHERE {predicate}"));
        let sql = format!("CREATE {unique}INDEX {name} ON {} ({columns}){predicate}", self.target(table.name));
        self.made(Kind::Index, table.name, &name, &sql).await
    }

    async fn triggers(&mut self, plan: &[(Table, Option<Existing>)]) -> Result<(), Error> {
        if self.engine == Engine::Postgres {
            for (name, sql) in postgres::functions() {
                self.made(Kind::Function, "", name, &sql).await?;
            }
            for (table, name, sql) in postgres::triggers() {
                self.made(Kind::Trigger, table, name, &sql).await?;
            }
            return Ok(());
        }
        for (table, existing) in plan {
            let mut columns: Vec<String> = table.columns.iter().map(|column| column.name.to_owned()).collect();
            let mut triggers = Vec::new();
            if let Some(existing) = existing {
                columns.extend(
                    existing
                        .columns
                        .iter()
                        .map(|column| column.name.clone())
                        .filter(|name| !columns.contains(name))
                        .collect::<Vec<_>>(),
                );
                triggers.extend(sqlite::adopted_triggers(table, existing));
            }
            triggers.extend(sqlite::triggers(table, &columns));
            for (name, sql) in triggers {
                self.made(Kind::Trigger, table.name, &name, &sql).await?;
            }
        }
        Ok(())
    }
}

fn column_sql(column: &Column, engine: Engine, nullable: bool) -> String {
    let null = if nullable { "" } else { " NOT NULL" };
    let default = column.default.sql(engine).map_or(String::new(), |default| format!(" DEFAULT {default}"));
    format!("{} {}{null}{default}", quote(column.name), column.declared(engine))
}
