//! Few rows, as arrays of texts: all small tables are read by one statement, and each is written by one.
//!
//! A COPY takes three round trips for each table, and one wait more: the driver sends the last rows and their end in two packets, and
//! TCP holds the second back until the other side has acknowledged the first, which it puts off for some 40 ms. For a tenant of a few hundred
//! rows that would be nearly all of its transfer. A text is as exact as the binary format in the session that is set for it, as
//! dumps rely on; the verification would tell.

use futures_util::StreamExt;
use sea_orm::{DbBackend, Statement, Value};
use tenantry_connection::{Engine, Transaction};

use super::{Table, tenant_type};
use crate::{Error, kind::Kind, quote};

/// The most rows of a table.
const ROWS: u64 = 1_000;

/// The most bytes of a table's texts. They are in memory a few times over, with those of the other tables.
const BYTES: usize = 256 << 10;

/// The most bytes of a row as it is stored, perhaps compressed.
const STORED: usize = 64 << 10;

/// The most tables at once.
const TABLES: usize = 32;

/// What a table has: each row an array of its values that are copied, as PostgreSQL writes one.
#[derive(Default)]
pub(super) struct Parcel {
    rows: Vec<String>,
    bytes: usize,
}

impl Parcel {
    pub(super) fn rows(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Adds a row, unless it is too much; then what there is goes, too.
    fn add(parcel: &mut Option<Self>, row: String) {
        if let Some(kept) = parcel {
            kept.bytes += row.len();
            if kept.bytes <= BYTES && kept.rows() < ROWS {
                kept.rows.push(row);
                return;
            }
        }
        *parcel = None;
    }
}

/// How many of the first groups are read together: small ones, whose rows nobody else may have brought already, and whose values a
/// text stands for.
pub(super) fn together(groups: &[Vec<Table<'_>>]) -> usize {
    let mut left = TABLES;
    let small = |group: &&Vec<Table<'_>>| {
        let reads = |table: &Table<'_>| !table.pair.target.columns.iter().any(|column| column.own_cast);
        let is_small = |table: &Table<'_>| table.empty && table.planned <= ROWS && reads(table);
        let fits = group.len() <= left && group.iter().all(is_small);
        left -= if fits { group.len() } else { 0 };
        fits
    };
    groups.iter().take_while(small).count()
}

/// Reads some tables; `None` of those that are too large for it.
pub(super) async fn read(tables: &[Table<'_>], from: &mut Transaction) -> Result<Vec<Option<Parcel>>, Error> {
    match from.engine() {
        Engine::Postgres => read_postgres(tables, from).await,
        Engine::Sqlite => {
            let mut parcels = Vec::new();
            for table in tables {
                parcels.push(read_sqlite(table, from).await?);
            }
            Ok(parcels)
        }
    }
}

async fn read_postgres(tables: &[Table<'_>], from: &mut Transaction) -> Result<Vec<Option<Parcel>>, Error> {
    const DOING: &str = "reading small tables";
    let queries = tables.iter().enumerate().map(|(place, table)| {
        let columns: Vec<String> = table.copied().map(|(_, column)| quote::identifier(&column.name)).collect();
        // As the types write their values: a cast may leave something out, as that of trailing blanks does.
        let texts = columns
            .iter()
            .map(|c| format!("CASE WHEN {c} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', {c}) END"));
        // As they are stored: whoever is too large must not become a text first, which may be more than a server can hold.
        let large = table.copied().zip(&columns).filter(|((_, column), _)| !column.source.is_short());
        let stored = large.map(|(_, c)| format!(" + coalesce(pg_catalog.pg_column_size({c}), 0)"));
        format!(
            "(SELECT {place} AS place, CASE WHEN 0{} <= {STORED} THEN ARRAY[{}]::text[]::text END AS texts \
             FROM {} WHERE {} LIMIT {})",
            stored.collect::<String>(),
            texts.collect::<Vec<_>>().join(", "),
            table.pair.source.from,
            table.structure.source.filter(),
            ROWS + 1,
        )
    });
    let sql = queries.collect::<Vec<_>>().join(" UNION ALL ");
    let mut parcels: Vec<Option<Parcel>> = tables.iter().map(|_| Some(Parcel::default())).collect();
    // Row after row: a single value may be a gigabyte, and what is too much is not kept.
    let mut rows = std::pin::pin!(from.stream(Statement::from_string(DbBackend::Postgres, sql)));
    while let Some(row) = rows.next().await {
        let row = row.map_err(Error::database(DOING))?;
        let place: i32 = row.try_get("", "place").map_err(Error::answer(DOING))?;
        let Some(parcel) = usize::try_from(place).ok().and_then(|place| parcels.get_mut(place)) else { continue };
        match row.try_get::<Option<String>>("", "texts") {
            Ok(Some(texts)) => Parcel::add(parcel, texts),
            // A server without an encoding may have texts that are none; the binary format knows no encoding.
            Ok(None) | Err(_) => *parcel = None,
        }
    }
    Ok(parcels)
}

async fn read_sqlite(table: &Table<'_>, from: &mut Transaction) -> Result<Option<Parcel>, Error> {
    let reading = table.reading();
    let mut parcel = Some(Parcel::default());
    let mut stream = reading.open(from).await?;
    // Read to its end in any case: who has too much is read anew.
    while let Some(row) = stream.next().await? {
        let row = table.sound(&reading, row)?;
        let mut array = String::from("{");
        for (position, column) in table.copied() {
            if array.len() > 1 {
                array.push(',');
            }
            element(row.values.get(position).and_then(Option::as_deref), column.target, &mut array);
        }
        array.push('}');
        Parcel::add(&mut parcel, array);
    }
    Ok(parcel)
}

/// An element of an array, as PostgreSQL reads it.
fn element(text: Option<&str>, kind: Kind, array: &mut String) {
    let Some(text) = text else { return array.push_str("NULL") };
    array.push('"');
    if kind == Kind::Bytes {
        array.push_str("\\\\x");
    }
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            array.push('\\');
        }
        array.push(character);
    }
    array.push('"');
}

/// The statement that writes these tables. The rows are its values: a server shows and logs the text of a statement, and not what is
/// bound to it.
fn statement(tables: &[&Filled<'_>]) -> Statement {
    let inserts: Vec<String> =
        tables.iter().enumerate().map(|(number, filled)| insert(&filled.table, number + 1)).collect();
    let sql = match inserts.as_slice() {
        [insert] => insert.clone(),
        // Foreign keys are looked at when the statement ends.
        inserts => {
            let parts = inserts.iter().enumerate().map(|(number, insert)| format!("t{number} AS ({insert})"));
            format!("WITH {} SELECT 1", parts.collect::<Vec<_>>().join(", "))
        }
    };
    let values = tables.iter().map(|filled| Value::from(filled.rows.as_str()));
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

/// All rows of a table, each of them an array, as elements of one.
fn array(parcel: &Parcel) -> String {
    let mut array = String::with_capacity(2 * parcel.bytes);
    array.push('{');
    for (number, row) in parcel.rows.iter().enumerate() {
        if number > 0 {
            array.push(',');
        }
        element(Some(row), Kind::Text, &mut array);
    }
    array.push('}');
    array
}

fn insert(table: &Table<'_>, parameter: usize) -> String {
    let target = &table.pair.target;
    // Without its modifiers: a cast would cut a text that is too long, where an assignment refuses it.
    let values = table.copied().enumerate().map(|(number, (_, column))| {
        let plain = target.column(&column.name).map_or("text", |column| column.plain.as_str());
        format!("r.c[{}]::{plain}", number + 1)
    });
    let tenant = quote::postgres_literal(&table.structure.target.tenant.to_string());
    let values = values.chain([format!("{tenant}::{}", tenant_type(table))]);
    // OFFSET keeps the planner from reading the whole row anew for each of its columns.
    format!(
        "INSERT INTO {} ({}) {}SELECT {} FROM \
         (SELECT x::text[] AS c FROM pg_catalog.unnest(${parameter}::text[]) AS u (x) OFFSET 0) AS r",
        target.into,
        quote::identifiers(table.names()),
        if target.columns.iter().any(|column| column.identity) { "OVERRIDING SYSTEM VALUE " } else { "" },
        values.collect::<Vec<_>>().join(", "),
    )
}

/// A table that has rows, as one array.
struct Filled<'a> {
    table: Table<'a>,
    rows: String,
}

/// What has been read and waits to be written: tables, or the tables of a circle together.
#[derive(Default)]
pub(super) struct Waiting<'a>(Vec<Vec<Filled<'a>>>);

impl<'a> Waiting<'a> {
    /// Adds a table, or the tables of a circle.
    pub(super) fn add(&mut self, tables: &[Table<'a>], parcels: &[Parcel]) {
        let filled = tables.iter().zip(parcels).filter(|(_, parcel)| !parcel.rows.is_empty());
        let group: Vec<_> = filled.map(|(table, parcel)| Filled { table: *table, rows: array(parcel) }).collect();
        if !group.is_empty() {
            self.0.push(group);
        }
    }

    /// Writes all of it: by one statement where no trigger could miss what one before it has written, otherwise table after
    /// table.
    pub(super) async fn write(&mut self, silenced: bool, to: &mut Transaction) -> Result<(), Error> {
        const SEVERAL: &str = "copying small tables";
        let groups = std::mem::take(&mut self.0);
        if silenced && groups.len() > 1 {
            to.execute_raw_sql("SAVEPOINT tenantry_parcels").await.map_err(Error::database(SEVERAL))?;
            let all: Vec<&Filled<'_>> = groups.iter().flatten().collect();
            if to.execute(statement(&all)).await.is_ok() {
                return Ok(());
            }
            // One by one, to say which table it is.
            to.execute_raw_sql("ROLLBACK TO SAVEPOINT tenantry_parcels").await.map_err(Error::database(SEVERAL))?;
        }
        for group in groups {
            let names: Vec<&str> = group.iter().map(|filled| filled.table.pair.name.as_str()).collect();
            let doing = format!("copying {}", names.join(", "));
            to.execute(statement(&group.iter().collect::<Vec<_>>())).await.map_err(Error::database(doing))?;
        }
        Ok(())
    }
}
