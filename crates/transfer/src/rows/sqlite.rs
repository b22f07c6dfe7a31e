//! Rows out of SQLite: each value as it is stored, whatever the column declares.

use futures_util::{Stream, StreamExt};
use sqlx::{AssertSqlSafe, Decode, Row as _, Sqlite, TypeInfo, ValueRef, sqlite::SqliteRow};
use std::pin::Pin;
use tenantry_connection::Transaction;

use super::{Reading, Row};
use crate::{
    Error,
    canonical::{self, Problem, Stored},
};

type Fetched<'c> = Pin<Box<dyn Stream<Item = Result<SqliteRow, sqlx::Error>> + Send + 'c>>;

pub(crate) struct Rows<'c> {
    reading: Reading,
    rows: Fetched<'c>,
}

impl<'c> Rows<'c> {
    pub(super) async fn open(reading: Reading, transaction: &'c mut Transaction, sql: String) -> Result<Self, Error> {
        let connection = transaction.raw_sqlite_connection().ok_or_else(super::ended)?;
        Ok(Self { reading, rows: sqlx::query(AssertSqlSafe(sql)).fetch(connection) })
    }

    pub(super) async fn next(&mut self) -> Result<Option<Row>, Error> {
        let Some(row) = self.rows.next().await else { return Ok(None) };
        let row = row.map_err(Error::driver(self.reading.doing()))?;
        let kinds = self.reading.columns.iter().map(|(_, kind)| *kind).enumerate();
        Ok(Some(self.reading.row(kinds.map(|(position, kind)| {
            let stored = stored(&row, position).map_err(|problem| (problem, String::new()))?;
            canonical::from_sqlite(kind, stored.clone()).map_err(|problem| (problem, format!("{stored:?}")))
        }))))
    }
}

fn stored(row: &SqliteRow, position: usize) -> Result<Stored, Problem> {
    fn decode<'r, T: Decode<'r, Sqlite>>(row: &'r SqliteRow, position: usize) -> Result<T, Problem> {
        let value = row.try_get_raw(position).map_err(|_| Problem::Text)?;
        T::decode(value).map_err(|_| Problem::Text)
    }
    let value = row.try_get_raw(position).map_err(|_| Problem::Text)?;
    if value.is_null() {
        return Ok(Stored::Null);
    }
    let storage = value.type_info().name().to_owned();
    Ok(match storage.as_str() {
        "INTEGER" => Stored::Integer(decode(row, position)?),
        "REAL" => Stored::Real(decode(row, position)?),
        "BLOB" => Stored::Blob(decode(row, position)?),
        _ => Stored::Text(decode(row, position)?),
    })
}
