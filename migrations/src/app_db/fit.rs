//! Whether existing tables and rows fit: every problem at once, before anything is changed.

use sea_orm_migration::sea_orm::ConnectionTrait;

use super::dictionary::{Column, Index, Table};
use super::inspect::{self, Existing};
use crate::Error;
use crate::dialect::{Engine, quote, sqlite};

/// How many rows a problem names.
const NAMED_ROWS: usize = 5;

/// What keeps this table from being adopted.
pub(super) async fn problems(
    connection: &impl ConnectionTrait,
    table: &Table,
    existing: &Existing,
) -> Result<Vec<String>, Error> {
    let engine = Engine::of(connection)?;
    if let Some(owner) = &existing.foreign_owner {
        return Ok(vec![format!("table {} belongs to {owner}; migrate as {owner}", table.name)]);
    }
    let mut problems = structure(engine, table, existing);
    if !problems.is_empty() || existing.rows == 0 {
        return Ok(problems);
    }
    let look = Look { connection, engine, table, existing };
    for column in &table.columns {
        if existing.column(column.name).is_some_and(|existing| existing.nullable && !column.nullable) {
            let what = format!("column {} must have a value", column.name);
            problems.extend(look.rows(&what, &format!("{} IS NULL", quote(column.name))).await?);
        }
        if engine == Engine::Sqlite && existing.column(column.name).is_some() {
            let what = format!("column {} must be stored as docs/storage.md says", column.name);
            problems
                .extend(look.rows(&what, &format!("NOT ({})", column.shape.check_adopted(&quote(column.name)))).await?);
        }
    }
    for rule in &table.rules {
        let condition = format!("NOT ({})", rule.sql(engine).replace("{row}", ""));
        problems.extend(look.rows(rule.name, &condition).await?);
    }
    for index in table.indexes.iter().filter(|index| index.unique) {
        problems.extend(look.duplicates(index).await?);
    }
    if !existing.unique_columns.iter().any(|unique| unique == table.key) {
        let key =
            Index { name: "the primary key", unique: true, postgres: table.key, sqlite: table.key, predicate: None };
        problems.extend(look.duplicates(&key).await?);
    }
    if table.name == "users" && existing.tenant_references.is_empty() {
        let tenants = if engine == Engine::Postgres { "public.tenants" } else { "tenants" };
        let orphan = format!("NOT EXISTS (SELECT 1 FROM {tenants} AS t WHERE t.id = r.tenant_id)");
        problems.extend(look.rows("tenant_id must be the id of a tenant", &orphan).await?);
    }
    Ok(problems)
}

/// Problems that show without looking at rows.
fn structure(engine: Engine, table: &Table, existing: &Existing) -> Vec<String> {
    let mut problems = Vec::new();
    for column in &table.columns {
        match existing.column(column.name) {
            Some(found) if engine == Engine::Postgres && !column.serves(&found.type_name) => problems.push(format!(
                "table {}: column {} is of type {} and must be {}",
                table.name,
                column.name,
                found.type_name,
                column.declared(engine)
            )),
            None if cannot_add(column) && existing.rows > 0 => problems.push(format!(
                "table {} has {} row(s) and no column {}, which must have a value; add and fill it",
                table.name, existing.rows, column.name
            )),
            _ => {}
        }
    }
    if table.name == "audit_log" {
        problems.extend(unwritable(table, existing));
    }
    problems
}

/// Columns of the audit log that the database could not fill, so that no tenant could change its data source any more.
fn unwritable(table: &Table, existing: &Existing) -> Vec<String> {
    let filled = |name: &str| table.columns.iter().any(|column| column.name == name && !column.nullable);
    existing
        .columns
        .iter()
        .filter(|column| !column.nullable && !column.has_default && !filled(&column.name))
        .filter(|column| !matches!(column.name.as_str(), "tenant_id" | "entity_id" | "changes"))
        .map(|column| {
            format!(
                "table audit_log: column {} must have a value, which the database does not know when it audits; \
                 make it nullable or give it a default",
                column.name
            )
        })
        .collect()
}

fn cannot_add(column: &Column) -> bool {
    !column.nullable && column.default.sql(Engine::Postgres).is_none()
}

struct Look<'a, C> {
    connection: &'a C,
    engine: Engine,
    table: &'a Table,
    existing: &'a Existing,
}

impl<C: ConnectionTrait> Look<'_, C> {
    /// The rows that meet a condition, as a problem.
    async fn rows(&self, rule: &str, condition: &str) -> Result<Option<String>, Error> {
        let sql = format!(
            "SELECT {} AS row_key FROM {} WHERE {condition} ORDER BY 1",
            self.key_text(),
            self.with_missing_columns()
        );
        let keys = inspect::texts(self.connection, sql).await?;
        Ok(self.problem(rule, &keys))
    }

    /// The rows that are equal to another one under a unique index, as a problem.
    async fn duplicates(&self, index: &Index) -> Result<Option<String>, Error> {
        let expressions = match self.engine {
            Engine::Postgres => index.postgres,
            Engine::Sqlite => index.sqlite,
        };
        let predicate = index.predicate.unwrap_or("true");
        let sql = format!(
            "SELECT row_key FROM (SELECT {} AS row_key, count(*) OVER (PARTITION BY {expressions}) AS equals \
             FROM {} WHERE {predicate}) AS d WHERE equals > 1 ORDER BY 1",
            self.key_text(),
            self.with_missing_columns()
        );
        let keys = inspect::texts(self.connection, sql).await?;
        Ok(self.problem(&format!("{} (unique {expressions})", index.name), &keys))
    }

    fn problem(&self, rule: &str, keys: &[String]) -> Option<String> {
        if keys.is_empty() {
            return None;
        }
        let named = keys.iter().take(NAMED_ROWS).cloned().collect::<Vec<_>>().join(", ");
        let more = if keys.len() > NAMED_ROWS { ", …" } else { "" };
        Some(format!(
            "table {}: {rule}: {} row(s) do not fit ({}: {named}{more})",
            self.table.name,
            keys.len(),
            self.table.key
        ))
    }

    fn key_text(&self) -> String {
        let key = quote(self.table.key);
        match self.engine {
            Engine::Postgres => format!("coalesce({key}::pg_catalog.text, 'null')"),
            Engine::Sqlite => format!(
                "coalesce(CASE typeof({key}) WHEN 'blob' THEN {} ELSE CAST({key} AS TEXT) END, 'null')",
                sqlite::uuid_text(&key)
            ),
        }
    }

    /// The rows as they will be: columns that are still missing hold their defaults.
    fn with_missing_columns(&self) -> String {
        let missing: String = self
            .table
            .columns
            .iter()
            .filter(|column| self.existing.column(column.name).is_none())
            .map(|column| {
                let value = column.default.sql(self.engine).unwrap_or_else(|| "NULL".to_owned());
                let value = match self.engine {
                    Engine::Postgres => format!("({value})::{}", column.declared(self.engine)),
                    Engine::Sqlite => value,
                };
                format!(", {value} AS {}", quote(column.name))
            })
            .collect();
        let target = match self.engine {
            Engine::Postgres => format!("public.{}", quote(self.table.name)),
            Engine::Sqlite => quote(self.table.name),
        };
        format!("(SELECT t.*{missing} FROM {target} AS t) AS r")
    }
}
