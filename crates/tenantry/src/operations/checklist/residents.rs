//! Whose rows a database holds, table by table, and which of them nobody can write: read from the database itself.
//!
//! Knows nothing of where a tenant should be; whoever asks compares.

use std::{collections::BTreeMap, fmt};

use sea_orm::{DbBackend, QueryResult, Statement};
use tenantry_connection::{Engine, Error, Transaction};
use tenantry_data_source::with_causes;
use tenantry_realm::TenantKey;
use tenantry_transfer::catalog::{self, Table};
use uuid::Uuid;

/// Whose rows a database holds.
pub(super) struct Residents {
    /// Each tenant that has rows, by the text of its key.
    pub(super) tenants: Vec<Resident>,
    /// Tables without the tenant column that refer to one with it, and to which.
    pub(super) unscoped: BTreeMap<String, String>,
    /// Tables with rows whose tenant column is null.
    pub(super) nobodys: Vec<String>,
}

/// A tenant that has rows.
pub(super) struct Resident {
    /// Its key's canonical text.
    pub(super) key: String,
    /// The tables with rows of it, by name.
    pub(super) tables: Vec<String>,
    /// Those of them that no fence holds for it.
    pub(super) unfenced: Vec<String>,
}

/// The database did not tell.
#[derive(Debug)]
pub(super) struct Unreadable(String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for Unreadable {
    fn from(error: Error) -> Self {
        Self(with_causes(&error))
    }
}

impl From<tenantry_transfer::Error> for Unreadable {
    fn from(error: tenantry_transfer::Error) -> Self {
        Self(with_causes(&error))
    }
}

/// Reads whose rows are where.
pub(super) async fn residents(transaction: &mut Transaction, tenant_column: &str) -> Result<Residents, Unreadable> {
    let catalog = catalog::read(transaction, tenant_column).await?;
    let fenced = fenced(transaction).await?;
    let mut tenants: BTreeMap<String, Resident> = BTreeMap::new();
    let mut nobodys = Vec::new();
    for table in catalog.tables.values() {
        let has_fence = table.has_fence();
        for key in keys(transaction, table, tenant_column).await? {
            let Some(key) = key else {
                nobodys.push(table.name.clone());
                continue;
            };
            let resident = tenants.entry(key.clone()).or_insert_with(|| Resident {
                key: key.clone(),
                tables: Vec::new(),
                unfenced: Vec::new(),
            });
            resident.tables.push(table.name.clone());
            if !has_fence || !fenced.contains(&key) {
                resident.unfenced.push(table.name.clone());
            }
        }
    }
    Ok(Residents { tenants: tenants.into_values().collect(), unscoped: catalog.unscoped, nobodys })
}

/// Some names, and how many more.
pub(super) fn listed(names: &[String]) -> String {
    match names {
        [] => "no table".to_owned(),
        names if names.len() <= 4 => names.join(", "),
        names => format!("{} and {} more tables", names[..3].join(", "), names.len() - 3),
    }
}

/// The distinct values of the tenant column, null among them.
async fn keys(
    transaction: &mut Transaction,
    table: &Table,
    tenant_column: &str,
) -> Result<Vec<Option<String>>, Unreadable> {
    let column = quoted(tenant_column);
    let from = &table.from;
    // Where an index begins with the tenant, one jump per tenant is all it takes, however many rows there are.
    let sql = if table.primary_key.first().is_some_and(|first| first == tenant_column) {
        format!(
            "WITH RECURSIVE seen(k) AS (SELECT (SELECT {column} FROM {from} ORDER BY {column} LIMIT 1) UNION ALL \
             SELECT (SELECT {column} FROM {from} WHERE {column} > seen.k ORDER BY {column} LIMIT 1) \
             FROM seen WHERE seen.k IS NOT NULL) SELECT k FROM seen WHERE k IS NOT NULL"
        )
    } else {
        format!("SELECT DISTINCT {column} FROM {from} ORDER BY {column}")
    };
    let rows = transaction.query_all(statement(transaction.engine(), &sql)).await?;
    rows.iter().map(key_of).collect()
}

fn key_of(row: &QueryResult) -> Result<Option<String>, Unreadable> {
    let uuid = row.try_get_by_index::<Option<Uuid>>(0).map(|key| key.map(TenantKey::Uuid));
    let key = uuid
        .or_else(|_| row.try_get_by_index::<Option<i64>>(0).map(|key| key.map(TenantKey::BigInt)))
        .or_else(|_| row.try_get_by_index::<Option<String>>(0).map(|key| key.map(TenantKey::Text)));
    match key {
        Ok(key) => Ok(key.map(|key| key.to_string())),
        Err(source) => Err(Error::Catalog { source }.into()),
    }
}

/// The tenants whose writes this database refuses, by the text of their keys.
async fn fenced(transaction: &mut Transaction) -> Result<Vec<String>, Unreadable> {
    let engine = transaction.engine();
    let (exists, read) = match engine {
        Engine::Postgres => (
            "SELECT 1 WHERE to_regclass('tenantry.fence') IS NOT NULL",
            "SELECT tenant_id FROM tenantry.fence WHERE fenced",
        ),
        Engine::Sqlite => (
            "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'tenantry_fence'",
            "SELECT tenant_id FROM tenantry_fence WHERE fenced",
        ),
    };
    if transaction.query_one(statement(engine, exists)).await?.is_none() {
        return Ok(Vec::new());
    }
    let rows = transaction.query_all(statement(engine, read)).await?;
    let keys = rows.iter().map(|row| row.try_get_by_index::<String>(0)).collect::<Result<_, _>>();
    keys.map_err(|source| Error::Catalog { source }.into())
}

pub(super) fn statement(engine: Engine, sql: &str) -> Statement {
    let backend = match engine {
        Engine::Postgres => DbBackend::Postgres,
        Engine::Sqlite => DbBackend::Sqlite,
    };
    Statement::from_string(backend, sql)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
