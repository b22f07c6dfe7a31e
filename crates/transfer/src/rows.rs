//! One tenant's rows of one table as canonical texts, streamed in bounded memory, from either engine.
//!
//! Ordered by key, both engines give the same order: integers as numbers, everything else by the bytes of its text.

#[cfg(not(all(feature = "postgres", feature = "sqlite")))]
mod absent;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(not(feature = "postgres"))]
use self::absent as postgres;
#[cfg(not(feature = "sqlite"))]
use self::absent as sqlite;

use std::cmp::Ordering;

use sea_orm::{DbBackend, QueryResult, Statement};
use tenantry_connection::{Engine, Transaction};
use tenantry_realm::TenantKey;

use crate::{Error, Side, canonical::Problem, kind::Kind, quote};

/// What to read.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// Which end it is, for errors.
    pub(crate) side: Side,
    /// The table's name, for errors.
    pub(crate) table: String,
    /// What to select from, quoted.
    pub(crate) from: String,
    /// The condition that selects the tenant's rows, without an alias.
    pub(crate) filter: String,
    /// The columns, each with its kind at this end.
    pub(crate) columns: Vec<(String, Kind)>,
    /// The positions of the key's columns.
    pub(crate) key: Vec<usize>,
    /// Whether to order by key.
    pub(crate) ordered: bool,
    /// The most rows to read.
    pub(crate) limit: Option<usize>,
}

/// A row in canonical texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) values: Vec<Option<String>>,
    /// Columns that hold something else than their kind; their value is a stand-in that equals no canonical text.
    pub(crate) problems: Vec<(usize, Problem)>,
}

/// A stream of rows.
pub(crate) enum Rows<'c> {
    Postgres(postgres::Rows<'c>),
    Sqlite(sqlite::Rows<'c>),
}

impl Reading {
    /// Begins to read.
    pub(crate) async fn open<'c>(&self, transaction: &'c mut Transaction) -> Result<Rows<'c>, Error> {
        let engine = transaction.engine();
        let columns = self.columns.iter().enumerate().map(|(position, (name, kind))| match engine {
            // ORDER BY takes a name for the text that is selected rather than for the column: numbers came in the order of
            // their digits. So the texts have names of their own.
            Engine::Postgres => format!("{} AS \"tenantry.{position}\"", text(name, *kind)),
            Engine::Sqlite => quote::identifier(name),
        });
        let mut sql =
            format!("SELECT {} FROM {} WHERE {}", columns.collect::<Vec<_>>().join(", "), self.from, self.filter);
        if self.ordered && !self.key.is_empty() {
            let keys = self.key.iter().filter_map(|&position| self.columns.get(position));
            let order: Vec<String> = keys.map(|(name, kind)| order(engine, name, *kind)).collect();
            sql.push_str(" ORDER BY ");
            sql.push_str(&order.join(", "));
        }
        if let Some(limit) = self.limit {
            sql.push_str(&format!(" LIMIT {limit}"));
        }
        match engine {
            Engine::Postgres => postgres::Rows::open(self.clone(), transaction, sql).await.map(Rows::Postgres),
            Engine::Sqlite => sqlite::Rows::open(self.clone(), transaction, sql).await.map(Rows::Sqlite),
        }
    }

    fn doing(&self) -> String {
        format!("reading {} at the {}", self.table, self.side)
    }

    /// A row's key as errors and reports print it.
    pub(crate) fn print_key(&self, row: &Row) -> String {
        print_key(self.key.iter().map(|&position| row.values.get(position).and_then(Option::as_deref)))
    }

    /// The order of two rows by key.
    pub(crate) fn compare(&self, left: &Row, right: &Row) -> Ordering {
        for &position in &self.key {
            let kind = self.columns.get(position).map_or(Kind::Other, |(_, kind)| *kind);
            let [left, right] = [left, right].map(|row| row.values.get(position).and_then(Option::as_deref));
            let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
            let ordering = if kind.orders_as_number() { number(left).cmp(&number(right)) } else { left.cmp(&right) };
            if ordering != Ordering::Equal {
                return ordering;
            }
        }
        Ordering::Equal
    }

    /// Puts the raw fields of a row into their canonical form.
    fn row(&self, fields: impl Iterator<Item = Result<Option<String>, (Problem, String)>>) -> Row {
        let mut row = Row { values: Vec::with_capacity(self.columns.len()), problems: Vec::new() };
        for (position, field) in fields.enumerate() {
            row.values.push(match field {
                Ok(value) => value,
                Err((problem, raw)) => {
                    row.problems.push((position, problem));
                    // A comparison must not fail for it: it equals itself, and no canonical text begins like this.
                    Some(format!("\u{1}{raw}"))
                }
            });
        }
        row
    }
}

impl Rows<'_> {
    /// The next row, or `None` behind the last. Not cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Row>, Error> {
        match self {
            Self::Postgres(rows) => rows.next().await,
            Self::Sqlite(rows) => rows.next().await,
        }
    }
}

/// A column of PostgreSQL as text.
fn text(column: &str, kind: Kind) -> String {
    let column = quote::identifier(column);
    match kind {
        Kind::Bytes => format!("pg_catalog.encode({column}, 'hex')"),
        // As its type writes it: a cast may leave something out, as that of trailing blanks does.
        Kind::Other => format!("CASE WHEN {column} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', {column}) END"),
        _ => format!("{column}::text"),
    }
}

/// Whether PostgreSQL fills up the values of a column that is declared so with blanks, which count for nothing when they are compared.
pub(crate) fn is_padded(declared: &str) -> bool {
    declared == "character" || declared == "bpchar" || declared.starts_with("character(")
}

/// A key as errors and reports print it: its columns' texts, separated by slashes.
pub(crate) fn print_key<'a>(parts: impl Iterator<Item = Option<&'a str>>) -> String {
    let parts: Vec<&str> = parts.map(|part| part.unwrap_or("null")).collect();
    if parts.is_empty() { "(the tenant's only row)".to_owned() } else { parts.join("/") }
}

/// The condition that selects a tenant's rows. On SQLite a uuid may be stored as bytes or, in older databases, as text in
/// either case: all are the tenant's.
pub(crate) fn tenant_filter(engine: Engine, column: &str, tenant: &TenantKey) -> String {
    let quoted = quote::identifier(column);
    match (engine, tenant) {
        (Engine::Postgres, tenant) => format!("{quoted} = {}", quote::postgres_literal(&tenant.to_string())),
        (Engine::Sqlite, TenantKey::Uuid(id)) => {
            format!("{} = '{}'", comparable(engine, &quoted, Kind::Uuid), id.simple())
        }
        (Engine::Sqlite, TenantKey::BigInt(id)) => format!("{quoted} = {id}"),
        (Engine::Sqlite, TenantKey::Text(id)) => format!("{quoted} = {} COLLATE BINARY", quote::sqlite_literal(id)),
    }
}

/// An expression that is equal for equal values, whichever form SQLite stores them in.
pub(crate) fn comparable(engine: Engine, expression: &str, kind: Kind) -> String {
    match (engine, kind) {
        (Engine::Sqlite, Kind::Uuid) => format!(
            "CASE typeof({expression}) WHEN 'blob' THEN lower(hex({expression})) \
             ELSE lower(replace({expression}, '-', '')) END"
        ),
        _ => expression.to_owned(),
    }
}

/// The condition that an expression has a value. On PostgreSQL a composite value whose fields are null is one, and
/// `IS NOT NULL` says otherwise.
pub(crate) fn present(engine: Engine, expression: &str) -> String {
    match engine {
        Engine::Postgres => format!("({expression} IS DISTINCT FROM NULL)"),
        Engine::Sqlite => format!("({expression} IS NOT NULL)"),
    }
}

fn order(engine: Engine, column: &str, kind: Kind) -> String {
    let quoted = quote::identifier(column);
    match engine {
        // Their own order is that of their text, and there may be an index for it.
        Engine::Postgres if kind.orders_as_number() || matches!(kind, Kind::Uuid | Kind::Bytes | Kind::Boolean) => {
            quoted
        }
        Engine::Postgres => format!("({}) COLLATE \"C\"", text(column, kind)),
        Engine::Sqlite => format!("{} COLLATE BINARY", comparable(engine, &quoted, kind)),
    }
}

/// How many rows of a table, or of a query in parentheses, meet a condition.
pub(crate) async fn count(transaction: &mut Transaction, from: &str, condition: &str) -> Result<u64, Error> {
    let doing = "counting rows";
    let sql = format!("SELECT count(*) AS rows FROM {from} WHERE {condition}");
    let statement = Statement::from_string(backend(transaction.engine()), sql);
    let row = transaction.query_one(statement).await.map_err(Error::database(doing))?;
    let rows = row.map(|row| row.try_get::<i64>("", "rows")).transpose().map_err(Error::answer(doing))?;
    Ok(rows.unwrap_or(0).unsigned_abs())
}

/// How many rows of each table meet its condition, in as few statements as it takes; 0 of what is not to be asked.
pub(crate) async fn counts(transaction: &mut Transaction, tables: &[Option<(&str, &str)>]) -> Result<Vec<u64>, Error> {
    const AT_ONCE: usize = 100;
    let doing = "counting rows";
    let mut counted = vec![0; tables.len()];
    let asked: Vec<_> = tables.iter().enumerate().filter_map(|(place, table)| Some((place, (*table)?))).collect();
    for asked in asked.chunks(AT_ONCE) {
        let queries = asked.iter().map(|(place, (from, condition))| {
            format!("SELECT {place} AS place, count(*) AS rows FROM {from} WHERE {condition}")
        });
        let sql = queries.collect::<Vec<_>>().join(" UNION ALL ");
        for row in ask(transaction, &sql, doing).await? {
            let place: i32 = row.try_get("", "place").map_err(Error::answer(doing))?;
            let rows: i64 = row.try_get("", "rows").map_err(Error::answer(doing))?;
            if let Some(counted) = usize::try_from(place).ok().and_then(|place| counted.get_mut(place)) {
                *counted = rows.unsigned_abs();
            }
        }
    }
    Ok(counted)
}

/// Asks in one round trip. Only for SQL whose every name and value was quoted here: it may be several statements.
pub(crate) async fn ask(transaction: &mut Transaction, sql: &str, doing: &str) -> Result<Vec<QueryResult>, Error> {
    transaction.query_raw_sql(sql).await.map_err(Error::database(doing))
}

/// SeaORM's name of the engine.
pub(crate) fn backend(engine: Engine) -> DbBackend {
    match engine {
        Engine::Postgres => DbBackend::Postgres,
        Engine::Sqlite => DbBackend::Sqlite,
    }
}

/// A transaction without its driver's connection has been ended.
fn ended() -> Error {
    Error::database("reading rows")(tenantry_connection::Error::Ended)
}
