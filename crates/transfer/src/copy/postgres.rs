//! Rows into PostgreSQL, by COPY.
//!
//! Tables with few rows go together, as values of statements.
//!
//! COPY into a table is refused to a role that policies apply to, so rows arrive in a temporary table and are inserted from
//! there; the same way is taken where the target holds some of the rows already, and for tables that refer to each other in a
//! circle. A role that bypasses policies writes an empty target directly.

mod parcel;

use futures_util::StreamExt;
use sea_orm::{DbBackend, Statement};
use sqlx::PgConnection;
use tenantry_connection::{Engine, Transaction};
use tokio::sync::mpsc;

use self::parcel::Parcel;
use super::Table;
use crate::{
    Error,
    catalog::ForeignKey,
    kind::Kind,
    plan::{Pair, Structure},
    quote,
    rows::{ask, present},
};

/// What is sent at once. Larger gained nothing when measured, one row at a time cost a tenth.
const CHUNK: usize = 64 * 1024;

/// Chunks that may wait between reader and writer: what bounds the memory.
const WAITING: usize = 4;

/// Groups of tables in their order, and how many rows of each table were read and written. `silenced` where no trigger of the
/// target fires.
pub(super) async fn copy(
    groups: &[Vec<Table<'_>>],
    silenced: bool,
    from: &mut Transaction,
    to: &mut Transaction,
) -> Result<Vec<(u64, u64)>, Error> {
    let (mut counts, mut rest) = (Vec::new(), groups);
    while let Some((first, others)) = rest.split_first() {
        let (small, later) = rest.split_at(parcel::together(rest));
        if small.is_empty() {
            counts.extend(Box::pin(stream(first, from, to)).await?);
            rest = others;
        } else {
            counts.extend(Box::pin(carry(small, silenced, from, to)).await?);
            rest = later;
        }
    }
    Ok(counts)
}

/// Small tables, together; those that turn out not to be small as the others.
async fn carry(
    groups: &[Vec<Table<'_>>],
    silenced: bool,
    from: &mut Transaction,
    to: &mut Transaction,
) -> Result<Vec<(u64, u64)>, Error> {
    let tables: Vec<Table<'_>> = groups.iter().flatten().copied().collect();
    tables.iter().for_each(Table::announce);
    let parcels = parcel::read(&tables, from).await?;
    let (mut counts, mut waiting, mut written) = (Vec::new(), parcel::Waiting::default(), Vec::new());
    let mut parcels = parcels.into_iter();
    for group in groups {
        let read: Vec<Option<Parcel>> = parcels.by_ref().take(group.len()).collect();
        let read: Option<Vec<Parcel>> = read.into_iter().collect();
        let Some(read) = read else {
            waiting.write(silenced, to).await?;
            counts.extend(Box::pin(stream(group, from, to)).await?);
            continue;
        };
        waiting.add(group, &read);
        for (table, parcel) in group.iter().zip(&read) {
            counts.push((parcel.rows(), parcel.rows()));
            written.push((table, parcel.rows()));
        }
    }
    waiting.write(silenced, to).await?;
    for (table, rows) in written.into_iter().filter(|(_, rows)| *rows > 0) {
        advance_sequences(table, to).await?;
        table.progress.advance(&table.pair.name, rows);
    }
    Ok(counts)
}

/// One table, or the tables of a circle, each by a COPY.
async fn stream(tables: &[Table<'_>], from: &mut Transaction, to: &mut Transaction) -> Result<Vec<(u64, u64)>, Error> {
    let (mut arrivals, mut read) = (Vec::new(), Vec::new());
    for (number, table) in tables.iter().enumerate() {
        table.announce();
        let arrival = Arrival::prepare(table, number, tables.len() > 1, to).await?;
        read.push(match from.engine() {
            Engine::Postgres => between(table, &arrival, from, to).await?,
            Engine::Sqlite => from_sqlite(table, &arrival, from, to).await?,
        });
        arrivals.push(arrival);
    }
    let mut inserted = match (tables, &arrivals[..]) {
        ([table], [arrival]) => vec![arrival.insert(table, to, read.first().copied().unwrap_or(0)).await?],
        _ => insert_circle(tables, &arrivals, to).await?,
    };
    inserted.resize(tables.len(), 0);
    for (table, inserted) in tables.iter().zip(&inserted) {
        if *inserted > 0 {
            advance_sequences(table, to).await?;
        }
    }
    Ok(read.into_iter().zip(inserted).collect())
}

/// From PostgreSQL, in the binary format: no value is ever converted.
async fn between(
    table: &Table<'_>,
    arrival: &Arrival,
    from: &mut Transaction,
    to: &mut Transaction,
) -> Result<u64, Error> {
    let columns: Vec<String> = table.copied().map(|(_, column)| quote::identifier(&column.name)).collect();
    let target = &table.structure.target;
    let tenant = format!("{}::{}", quote::postgres_literal(&target.tenant.to_string()), tenant_type(table));
    let list = columns.into_iter().chain([tenant]).collect::<Vec<_>>().join(", ");
    let (source, filter) = (&table.pair.source.from, table.structure.source.filter());
    let out = format!("COPY (SELECT {list} FROM {source} WHERE {filter}) TO STDOUT (FORMAT binary)");
    let into = format!("COPY {} ({}) FROM STDIN (FORMAT binary)", arrival.at, quote::identifiers(table.names()));
    pump(table, connection(from)?, &out, connection(to)?, &into).await
}

/// From SQLite, in the text format, as canonical texts: the server reads each as the column's own type.
async fn from_sqlite(
    table: &Table<'_>,
    arrival: &Arrival,
    from: &mut Transaction,
    to: &mut Transaction,
) -> Result<u64, Error> {
    let sql = format!("COPY {} ({}) FROM STDIN (FORMAT text)", arrival.at, quote::identifiers(table.names()));
    let doing = || table.doing("copying");
    let tenant = table.structure.target.tenant.to_string();
    let reading = table.reading();
    let mut rows = reading.open(from).await?;
    let mut sink = connection(to)?.copy_in_raw(&sql).await.map_err(Error::driver(doing()))?;
    let (mut buffer, mut pending) = (Vec::with_capacity(2 * CHUNK), 0);
    while let Some(row) = rows.next().await? {
        let row = table.sound(&reading, row)?;
        for (position, column) in table.copied() {
            field(row.values.get(position).and_then(Option::as_deref), column.target, &mut buffer);
            buffer.push(b'\t');
        }
        field(Some(&tenant), Kind::Text, &mut buffer);
        buffer.push(b'\n');
        pending += 1;
        if buffer.len() >= CHUNK {
            sink.send(buffer.as_slice()).await.map_err(Error::driver(doing()))?;
            buffer.clear();
            table.progress.advance(&table.pair.name, std::mem::take(&mut pending));
        }
    }
    sink.send(buffer.as_slice()).await.map_err(Error::driver(doing()))?;
    let read = sink.finish().await.map_err(Error::driver(doing()))?;
    table.progress.advance(&table.pair.name, pending);
    Ok(read)
}

/// After the checks of foreign keys were silenced together with the triggers: every reference of the tenant's rows.
pub(super) async fn check_foreign_keys(
    structure: &Structure,
    pairs: impl Iterator<Item = &Pair>,
    to: &mut Transaction,
) -> Result<(), Error> {
    let keys: Vec<_> = pairs.flat_map(|pair| pair.target.foreign_keys.iter().map(move |key| (pair, key))).collect();
    let questions = keys.iter().map(|(pair, key)| {
        let present = |(child, _): &(String, String)| {
            format!(" AND {}", present(Engine::Postgres, &format!("c.{}", quote::identifier(child))))
        };
        let refers: String = key.columns.iter().map(present).collect();
        let found = key
            .columns
            .iter()
            .map(|(child, parent)| format!("p.{} = c.{}", quote::identifier(parent), quote::identifier(child)));
        let condition = format!(
            "{}{}{refers} AND NOT EXISTS (SELECT 1 FROM {} AS p WHERE {})",
            structure.target.filter(),
            binds(key),
            key.parent_from,
            found.collect::<Vec<_>>().join(" AND ")
        );
        (format!("{} AS c", pair.target.from), condition)
    });
    let questions: Vec<(String, String)> = questions.collect();
    hold_parents(structure, &keys, to).await?;
    let asked: Vec<_> = questions.iter().map(|(from, condition)| Some((from.as_str(), condition.as_str()))).collect();
    let lost = crate::rows::counts(to, &asked).await?;
    match keys.iter().zip(lost).find(|(_, rows)| *rows > 0) {
        None => Ok(()),
        Some(((pair, key), rows)) => {
            Err(Error::Unreferenced { table: pair.name.clone(), constraint: key.name.clone(), rows })
        }
    }
}

/// Holds what the tenant's rows refer to in tables that are not its own, until the transaction ends: whoever deletes one of them, and
/// began before these rows were seen, is waited for, and whoever begins later waits and then sees them. Only who may update a table
/// can hold its rows; a login that may not relies on the check that follows.
async fn hold_parents(structure: &Structure, keys: &[(&Pair, &ForeignKey)], to: &mut Transaction) -> Result<(), Error> {
    let is_copied = |name: &str| structure.pairs.iter().any(|pair| pair.name == name);
    for (pair, key) in keys.iter().filter(|(_, key)| !is_copied(&key.parent)) {
        let doing = || format!("holding the rows of {} that {} refers to", key.parent, pair.name);
        let may = format!(
            "SELECT pg_catalog.has_any_column_privilege({}, 'UPDATE') AS may",
            quote::postgres_literal(&key.parent_from)
        );
        let may = ask(to, &may, &doing()).await?.first().map(|row| row.try_get::<bool>("", "may")).transpose();
        if may.map_err(Error::answer(doing()))? != Some(true) {
            continue;
        }
        let same = |(child, parent): &(String, String)| {
            format!(" AND p.{} = c.{}", quote::identifier(parent), quote::identifier(child))
        };
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM (SELECT FROM {} AS p WHERE EXISTS (SELECT FROM {} AS c WHERE {}{}{}) FOR KEY SHARE OF p) AS held",
            key.parent_from,
            pair.target.from,
            structure.target.filter(),
            binds(key),
            key.columns.iter().map(same).collect::<String>(),
        );
        to.execute_raw_sql(&sql).await.map_err(Error::database(doing()))?;
    }
    Ok(())
}

/// What is asked of a row besides, so that the key binds it.
fn binds(key: &ForeignKey) -> String {
    key.binds.iter().map(|binds| format!(" AND {binds}")).collect()
}

/// Where rows arrive.
struct Arrival {
    at: String,
    staged: bool,
}

impl Arrival {
    async fn prepare(table: &Table<'_>, number: usize, circle: bool, to: &mut Transaction) -> Result<Self, Error> {
        let target = &table.pair.target;
        let bypasses = table.structure.target.rights.bypasses_policies;
        if bypasses && !circle && (table.empty || rows_there(table, to).await? == 0) {
            return Ok(Self { at: target.into.clone(), staged: false });
        }
        let at = format!("pg_temp.tenantry_stage_{number}");
        let sql = format!(
            "CREATE TEMPORARY TABLE {at} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA",
            quote::identifiers(table.names()),
            target.into
        );
        to.execute_raw_sql(&sql).await.map_err(Error::database(table.doing("preparing to copy")))?;
        Ok(Self { at, staged: true })
    }

    /// The statement that brings what arrived into the table.
    fn statement(&self, table: &Table<'_>) -> String {
        let target = &table.pair.target;
        let names = quote::identifiers(table.names());
        let identity = target.columns.iter().any(|column| column.identity);
        let overriding = if identity { "OVERRIDING SYSTEM VALUE " } else { "" };
        let mut sql = format!("INSERT INTO {} ({names}) {overriding}SELECT {names} FROM {}", target.into, self.at);
        if !table.empty {
            let key = quote::identifiers(target.primary_key.iter().map(String::as_str));
            sql.push_str(&format!(" ON CONFLICT ({key}) DO NOTHING"));
        }
        sql
    }

    /// Brings what arrived into the table. Returns the rows inserted.
    async fn insert(&self, table: &Table<'_>, to: &mut Transaction, read: u64) -> Result<u64, Error> {
        if !self.staged {
            return Ok(read);
        }
        let doing = || table.doing("inserting into");
        let statement = Statement::from_string(DbBackend::Postgres, self.statement(table));
        let inserted = to.execute(statement).await.map_err(Error::database(doing()))?;
        to.execute_raw_sql(&format!("DROP TABLE {}", self.at)).await.map_err(Error::database(doing()))?;
        Ok(inserted)
    }
}

/// Tables that refer to each other, in one statement: foreign keys, even those that cannot be deferred, are looked at when it
/// ends.
async fn insert_circle(tables: &[Table<'_>], arrivals: &[Arrival], to: &mut Transaction) -> Result<Vec<u64>, Error> {
    let names: Vec<&str> = tables.iter().map(|table| table.pair.name.as_str()).collect();
    let doing = || format!("inserting into {}", names.join(", "));
    let (parts, counts): (Vec<String>, Vec<String>) = tables
        .iter()
        .zip(arrivals)
        .enumerate()
        .map(|(number, (table, arrival))| {
            let part = format!("t{number} AS ({} RETURNING 1)", arrival.statement(table));
            (part, format!("(SELECT count(*) FROM t{number}) AS t{number}"))
        })
        .unzip();
    let sql = format!("WITH {} SELECT {}", parts.join(", "), counts.join(", "));
    let row = to.query_one(Statement::from_string(DbBackend::Postgres, sql)).await.map_err(Error::database(doing()))?;
    let stages: Vec<&str> = arrivals.iter().map(|arrival| arrival.at.as_str()).collect();
    let sql = format!("DROP TABLE {}", stages.join(", "));
    to.execute_raw_sql(&sql).await.map_err(Error::database(doing()))?;
    let count = |number: usize| -> Result<u64, Error> {
        let count = row.as_ref().map(|row| row.try_get::<i64>("", &format!("t{number}"))).transpose();
        Ok(count.map_err(Error::answer(doing()))?.unwrap_or(0).unsigned_abs())
    };
    (0..tables.len()).map(count).collect()
}

/// How many rows the tenant has in the target now.
async fn rows_there(table: &Table<'_>, to: &mut Transaction) -> Result<u64, Error> {
    let filter = table.structure.target.filter();
    crate::rows::count(to, &table.pair.target.from, &filter).await
}

/// A sequence does not notice rows that bring their own numbers, and would hand the same numbers out again. It is moved on
/// with `nextval`, which never moves one back that a neighbour has moved meanwhile; only a large gap is jumped.
async fn advance_sequences(table: &Table<'_>, to: &mut Transaction) -> Result<(), Error> {
    let target = &table.pair.target;
    let counted = target.columns.iter().filter_map(|column| Some((column, column.sequence.as_ref()?)));
    for (column, sequence) in counted {
        if !table.copied().any(|(_, copied)| copied.name == column.name) {
            continue;
        }
        let literal = quote::postgres_literal(sequence);
        let sql = format!(
            "SELECT CASE WHEN gap > 1000000 THEN setval({literal}, highest) \
             ELSE (SELECT max(nextval({literal})) FROM generate_series(1, gap)) END \
             FROM (SELECT m.highest, m.highest - s.last_value + (NOT s.is_called)::int AS gap FROM {sequence} AS s, \
             (SELECT max({})::bigint AS highest FROM {} WHERE {}) AS m) AS g WHERE gap > 0",
            quote::identifier(&column.name),
            target.from,
            table.structure.target.filter()
        );
        to.execute_raw_sql(&sql).await.map_err(Error::database(table.doing("moving on the sequences of")))?;
    }
    Ok(())
}

/// Streams one COPY into another, reading and writing at the same time.
///
/// The driver leaves a connection whose COPY was refused out of step with its server. Both transactions can only be dropped after
/// an error, which closes their connections.
async fn pump(
    table: &Table<'_>,
    from: &mut PgConnection,
    out: &str,
    to: &mut PgConnection,
    into: &str,
) -> Result<u64, Error> {
    let (send, mut receive) = mpsc::channel(WAITING);
    let read = async move {
        let doing = || table.doing("reading");
        let mut chunks = from.copy_out_raw(out).await.map_err(Error::driver(doing()))?;
        let (mut buffer, mut pending) = (Vec::with_capacity(2 * CHUNK), 0);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(Error::driver(doing()))?;
            // PostgreSQL sends a message per row.
            pending += 1;
            // A large one is sent on in slices of the memory that it arrived in, and the next is read when they are gone.
            let large = chunk.len() > CHUNK;
            if !large {
                buffer.extend_from_slice(&chunk);
            }
            let mut full = Vec::new();
            if buffer.len() >= CHUNK || (large && !buffer.is_empty()) {
                full.push(std::mem::replace(&mut buffer, Vec::with_capacity(2 * CHUNK)).into());
            }
            if large {
                full.extend((0..chunk.len()).step_by(CHUNK).map(|at| chunk.slice(at..chunk.len().min(at + CHUNK))));
            }
            drop(chunk);
            if full.is_empty() {
                continue;
            }
            for part in full {
                if send.send(part).await.is_err() {
                    // The writer has failed and says why.
                    return Ok(());
                }
            }
            table.progress.advance(&table.pair.name, std::mem::take(&mut pending));
        }
        // A closed channel is the writer's failure, once more.
        let _ = send.send(buffer.into()).await;
        table.progress.advance(&table.pair.name, pending);
        Ok(())
    };
    let write = async {
        let doing = || table.doing("copying");
        let mut sink = to.copy_in_raw(into).await.map_err(Error::driver(doing()))?;
        while let Some(chunk) = receive.recv().await {
            sink.send(chunk).await.map_err(Error::driver(doing()))?;
        }
        sink.finish().await.map_err(Error::driver(doing()))
    };
    // The reader comes first: when it fails, what the writer makes of half a stream does not matter.
    let ((), rows) = tokio::try_join!(biased; read, write)?;
    Ok(rows)
}

/// The tenant column's type in the target, as the cast of a literal. Only names that this program knows are written into a
/// statement for the source: the target's catalogs are another's to fill.
fn tenant_type(table: &Table<'_>) -> &'static str {
    let target = &table.structure.target;
    match table.pair.target.column(&target.tenant_column).map(|column| column.kind) {
        Some(Kind::Uuid) => "uuid",
        Some(Kind::BigInt) => "bigint",
        Some(Kind::Integer) => "integer",
        _ => "text",
    }
}

/// One field of COPY's text format.
fn field(text: Option<&str>, kind: Kind, buffer: &mut Vec<u8>) {
    let Some(text) = text else { return buffer.extend_from_slice(b"\\N") };
    if kind == Kind::Bytes {
        buffer.extend_from_slice(b"\\\\x");
    }
    for byte in text.bytes() {
        match byte {
            b'\\' => buffer.extend_from_slice(b"\\\\"),
            b'\t' => buffer.extend_from_slice(b"\\t"),
            b'\n' => buffer.extend_from_slice(b"\\n"),
            b'\r' => buffer.extend_from_slice(b"\\r"),
            byte => buffer.push(byte),
        }
    }
}

fn connection(transaction: &mut Transaction) -> Result<&mut PgConnection, Error> {
    let ended = || Error::database("copying")(tenantry_connection::Error::Ended);
    transaction.raw_postgres_connection().ok_or_else(ended)
}
