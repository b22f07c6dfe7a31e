//! Rows into SQLite: many per statement, each value in the form that the column stores.

use sqlx::{AssertSqlSafe, Sqlite, query::Query, sqlite::SqliteArguments};
use tenantry_connection::Transaction;

use super::Table;
use crate::{Error, canonical::Stored, plan::stored, quote};

/// From either engine, as canonical texts.
pub(super) async fn into(table: &Table<'_>, from: &mut Transaction, to: &mut Transaction) -> Result<(u64, u64), Error> {
    let names = table.names();
    let most = stored::most_rows(names.len());
    let tenant = tenant(table)?;
    let reading = table.reading();
    let mut rows = reading.open(from).await?;
    let (mut read, mut inserted, mut bytes) = (0, 0, 0);
    let mut batch: Vec<Stored> = Vec::with_capacity(most * names.len());
    let full = insert(table, &names, most);
    loop {
        let row = rows.next().await?;
        let ended = row.is_none();
        if let Some(row) = row {
            let row = table.sound(&reading, row)?;
            table
                .pair
                .store(&row, &mut batch)
                .map_err(|(position, problem)| table.value(&reading, &row, position, problem))?;
            batch.push(tenant.clone());
            bytes += row.values.iter().flatten().map(String::len).sum::<usize>();
        }
        let count = batch.len() / names.len();
        if count == most || bytes >= stored::BYTES || (ended && count > 0) {
            bytes = 0;
            let sql = if count == most { full.clone() } else { insert(table, &names, count) };
            inserted += execute(table, to, sql, std::mem::take(&mut batch)).await?;
            read += count as u64;
            table.progress.advance(&table.pair.name, count as u64);
        }
        if ended {
            return Ok((read, inserted));
        }
    }
}

/// The tenant's id as its column stores it.
fn tenant(table: &Table<'_>) -> Result<Stored, Error> {
    let shape = &table.structure.target;
    table.pair.stored_tenant(table.structure).map_err(|problem| Error::Value {
        side: crate::Side::Target,
        table: table.pair.name.clone(),
        column: shape.tenant_column.clone(),
        key: shape.tenant.to_string(),
        problem,
    })
}

fn insert(table: &Table<'_>, names: &[&str], rows: usize) -> String {
    let mut sql = stored::insert(&table.pair.target.into, names, rows);
    if !table.empty {
        let key = quote::identifiers(table.pair.target.primary_key.iter().map(String::as_str));
        sql.push_str(&format!(" ON CONFLICT ({key}) DO NOTHING"));
    }
    sql
}

async fn execute(table: &Table<'_>, to: &mut Transaction, sql: String, values: Vec<Stored>) -> Result<u64, Error> {
    let doing = || table.doing("inserting into");
    let ended = || Error::database(doing())(tenantry_connection::Error::Ended);
    let connection = to.raw_sqlite_connection().ok_or_else(ended)?;
    let query = values.into_iter().fold(sqlx::query(AssertSqlSafe(sql)), bind);
    query.execute(connection).await.map(|done| done.rows_affected()).map_err(Error::driver(doing()))
}

/// The next value of a statement.
pub(crate) fn bind(
    query: Query<'static, Sqlite, SqliteArguments>,
    value: Stored,
) -> Query<'static, Sqlite, SqliteArguments> {
    match value {
        Stored::Null => query.bind(None::<String>),
        Stored::Integer(number) => query.bind(number),
        Stored::Real(number) => query.bind(number),
        Stored::Text(text) => query.bind(text),
        Stored::Blob(bytes) => query.bind(bytes),
    }
}
