//! What only a plan asks of a database: its constraints, the bounds of its partitions, how large its tables are, and which
//! server it is. Kept apart from the tables because a copy and a comparison read those again and need none of this.
//!
//! Sizes are the server's own figures: no row is read for them.

use std::collections::BTreeMap;

use tenantry_connection::{Engine, Transaction};

use super::{
    postgres::{get, queries},
    sqlite, statement,
};
use crate::Error;

/// Constraints of kind `c` (check) and `x` (exclusion), and the bounds (`p`) of every partition that holds rows, which
/// include those of the partitions above it. A default partition's bound is the negation of the others.
const CONSTRAINTS: &str = "
SELECT c.relname::text AS table_name, k.contype::text AS kind, k.conname::text AS name, k.convalidated AS validated,
       CASE k.contype WHEN 'c' THEN pg_catalog.pg_get_expr(k.conbin, k.conrelid)
                      ELSE pg_catalog.pg_get_constraintdef(k.oid) END AS text
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = pg_catalog.current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND k.contype IN ('c', 'x')
UNION ALL
SELECT c.relname::text, 'p', p.relname::text, true,
       coalesce(pg_catalog.pg_get_partition_constraintdef(p.oid), 'true')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL pg_catalog.pg_partition_tree(c.oid) t JOIN pg_catalog.pg_class p ON p.oid = t.relid
WHERE n.nspname = pg_catalog.current_schema() AND c.relkind = 'p' AND NOT c.relispartition AND t.isleaf AND p.relkind <> 'p'
ORDER BY 1, 2, 3";

const SIZES: &str = "
SELECT c.relname::text AS table_name, c.relkind = 'p' AS partitioned,
       s.bytes::bigint AS bytes, s.rows::bigint AS rows
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
  SELECT coalesce(sum(pg_catalog.pg_table_size(p.oid)), 0) AS bytes,
         CASE WHEN bool_and(p.reltuples >= 0) THEN sum(p.reltuples) ELSE -1 END AS rows
  FROM (SELECT c.oid AS id WHERE c.relkind = 'r'
        UNION ALL SELECT t.relid FROM pg_catalog.pg_partition_tree(c.oid) t WHERE c.relkind = 'p') AS m
  JOIN pg_catalog.pg_class p ON p.oid = m.id AND p.relkind = 'r') AS s
WHERE n.nspname = pg_catalog.current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition";

const SERVER: &str = "
SELECT pg_catalog.current_setting('server_version') AS version,
       pg_catalog.current_setting('server_version_num')::int AS number,
       pg_catalog.pg_encoding_to_char(d.encoding)::text AS encoding
FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";

/// A database, beyond its tables.
#[derive(Debug, Clone, Default)]
pub(crate) struct Details {
    /// The server's version, as it prints it.
    pub(crate) version: String,
    /// The same as a number, comparable within one engine.
    pub(crate) number: i32,
    /// PostgreSQL's name of the encoding that the database stores text in.
    pub(crate) encoding: String,
    /// The tables, by name.
    pub(crate) tables: BTreeMap<String, TableDetails>,
}

/// A table, beyond its columns and keys. Of SQLite, whose catalogs tell nothing of it but the text it was made with, only that.
#[derive(Debug, Clone, Default)]
pub(crate) struct TableDetails {
    /// Its CHECK constraints.
    pub(crate) checks: Vec<Check>,
    /// Of SQLite, the statement that made it, where there is a CHECK in it.
    pub(crate) checked_by: Option<String>,
    /// Its exclusion constraints.
    pub(crate) exclusions: Vec<Check>,
    /// The bounds of the partitions that hold its rows; `None` where it is not partitioned.
    pub(crate) partitions: Option<Vec<String>>,
    /// What it takes on disk, without its indexes.
    pub(crate) bytes: u64,
    /// How many rows the server believes it has; `None` where it never looked.
    pub(crate) rows: Option<u64>,
}

/// A constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// Its name.
    pub(crate) name: String,
    /// Its expression, or its whole definition.
    pub(crate) text: String,
    /// Every row that is there meets it.
    pub(crate) validated: bool,
}

/// Reads them.
///
/// # Errors
/// [`Error::Database`] when the database does not answer.
pub(crate) async fn details(transaction: &mut Transaction) -> Result<Details, Error> {
    if transaction.engine() == Engine::Sqlite {
        let statement =
            sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, "SELECT sqlite_version() AS version");
        let row = transaction.query_one(statement).await.map_err(Error::database("reading the server's version"))?;
        let version = row.map(|row| get(&row, "version")).transpose()?.unwrap_or_default();
        let mut details = Details { version, encoding: "UTF8".to_owned(), ..Details::default() };
        for row in sqlite::query(transaction, sqlite::MADE_BY, None).await? {
            let (name, sql): (String, String) = (get(&row, "name")?, get(&row, "sql")?);
            let checked_by = statement::has_check(&sql).then_some(sql);
            details.tables.insert(name, TableDetails { checked_by, ..TableDetails::default() });
        }
        return Ok(details);
    }
    let mut details = Details::default();
    let [server, sizes, constraints] = queries(transaction, [SERVER, SIZES, CONSTRAINTS]).await?;
    if let Some(row) = server.first() {
        (details.version, details.number) = (get(row, "version")?, get(row, "number")?);
        details.encoding = get(row, "encoding")?;
    }
    for row in sizes {
        let table = details.tables.entry(get(&row, "table_name")?).or_default();
        table.bytes = get::<i64>(&row, "bytes")?.unsigned_abs();
        table.rows = u64::try_from(get::<i64>(&row, "rows")?).ok();
        table.partitions = get::<bool>(&row, "partitioned")?.then(Vec::new);
    }
    for row in constraints {
        let table = details.tables.entry(get(&row, "table_name")?).or_default();
        let (kind, text): (String, String) = (get(&row, "kind")?, get(&row, "text")?);
        let check = Check { name: get(&row, "name")?, text, validated: get(&row, "validated")? };
        match kind.as_str() {
            "c" => table.checks.push(check),
            "x" => table.exclusions.push(check),
            _ => table.partitions.get_or_insert_with(Vec::new).push(check.text),
        }
    }
    Ok(details)
}
