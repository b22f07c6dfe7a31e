//! Writes the sample into an SQLite file, in the forms that SeaORM and SQLite's own defaults leave behind.

use std::path::Path;

use chrono::{DateTime, Datelike, FixedOffset, SecondsFormat, Utc};
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::cell::Cell;
use super::dictionary::{Kind, all_tables};
use super::{SampleError, TENANTS};

/// Creates the legacy database as a file; it may exist, but without tables of the same names.
///
/// # Errors
/// [`SampleError::Sqlite`]; no row or table is left behind then.
pub async fn create_sqlite(path: &Path) -> Result<(), SampleError> {
    write(path).await.map_err(|source| SampleError::Sqlite { path: path.to_owned(), source })
}

async fn write(path: &Path) -> Result<(), sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).foreign_keys(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let mut transaction = connection.begin().await?;
    // Timestamps take turns through the whole file, so that every column has every form.
    let mut timestamps = 0_usize;
    for table in all_tables() {
        let create = table.create(Kind::sqlite, [("random uuid", ""), ("now", "CURRENT_TIMESTAMP")]);
        transaction.execute(AssertSqlSafe(create)).await?;
        let insert = table.insert(|_, _| "?".to_owned());
        for row in TENANTS.iter().flat_map(|tenant| table.rows(tenant)) {
            let query = sqlx::query(AssertSqlSafe(insert.clone()));
            let query = row.into_iter().fold(query, |query, cell| bind(query, cell, &mut timestamps));
            query.execute(&mut *transaction).await?;
        }
    }
    transaction.commit().await?;
    connection.close().await
}

fn bind<'q>(
    query: Query<'q, Sqlite, SqliteArguments>,
    cell: Cell,
    timestamps: &mut usize,
) -> Query<'q, Sqlite, SqliteArguments> {
    match cell {
        Cell::Null => query.bind(None::<String>),
        Cell::Uuid(uuid) => query.bind(uuid),
        Cell::Text(text) => query.bind(text),
        Cell::Integer(integer) => query.bind(integer),
        Cell::Boolean(boolean) => query.bind(boolean),
        // At most 15 digits, so the nearest double has no other decimal of this scale nearer.
        Cell::Hundredths(hundredths) => query.bind(hundredths as f64 / 100.0),
        Cell::Date(date) => query.bind(date),
        Cell::Time(time) => query.bind(time),
        Cell::Timestamp(instant) => {
            *timestamps += 1;
            query.bind(legacy_timestamp(instant, *timestamps))
        }
        Cell::Json(text) => query.bind(text),
    }
}

/// The same instant as SQLx writes a UTC value, as `CURRENT_TIMESTAMP` does (whole seconds only), or as SQLx writes a
/// value with another offset.
fn legacy_timestamp(instant: DateTime<Utc>, turn: usize) -> String {
    let is_whole = instant.timestamp_subsec_micros() == 0;
    // The offset must not lead out of the years of four digits.
    let offset = FixedOffset::east_opt(5 * 3600 + 1800).filter(|_| (2..9999).contains(&instant.year()));
    match (turn % 4, offset) {
        (0 | 1, _) if is_whole => instant.format("%Y-%m-%d %H:%M:%S").to_string(),
        (2, Some(offset)) => instant.with_timezone(&offset).to_rfc3339_opts(SecondsFormat::AutoSi, false),
        _ => instant.to_rfc3339_opts(SecondsFormat::AutoSi, false),
    }
}
