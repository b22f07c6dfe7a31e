//! What a purge must know first: whether the target still has every row of the source, or a reason not to.
//!
//! After the cut over the tenant goes on writing in the target. A row that differs there, or is gone, is explained by the
//! target's write log: by an entry of that record which the source's log does not have, hence one written since. Whatever no
//! entry explains was lost or changed by something else, and the source may be the last place that has it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use tenantry_connection::{Engine, Transaction};
use tenantry_migrations::tables::WRITE_LOG;

use super::{
    merge::Merge,
    report::{Difference, Found},
    sides,
};
use crate::{
    Endpoint, Error, Options, Side,
    catalog::Table,
    kind::Kind,
    plan::{Pair, Prepared, Structure},
    quote,
    rows::{Reading, comparable, is_padded},
    schedule,
};

/// Records, or entries, that are asked about in one statement.
const AT_ONCE: usize = 500;

/// Rows of one table that nothing explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexplained {
    /// The table.
    pub table: String,
    /// Rows of the source that the target does not have.
    pub missing: u64,
    /// Rows that both have, with different values.
    pub different: u64,
    /// Some of them.
    pub samples: Vec<Difference>,
}

/// Looks for rows of the source that the target lacks or has differently, and that its write log does not explain. Empty means
/// that the source's rows may go. Rows that only the target has do not matter.
///
/// A table without the log's trigger is never explained, nor one whose rows are told apart by anything but `id`. Uses two
/// connections of each pool, in bounded memory.
///
/// # Errors
/// [`Error::Database`] or [`Error::Driver`] when a side does not answer; [`Error::Request`] when a table has other columns since
/// the catalogs were read.
pub async fn unexplained(
    source: &Endpoint,
    target: &Endpoint,
    prepared: &Prepared,
    options: &Options,
) -> Result<Vec<Unexplained>, Error> {
    let structure = &prepared.structure;
    let (mut from, mut to) = tokio::try_join!(source.snapshot(), target.snapshot())?;
    tokio::try_join!(
        sides::check_columns(structure, Side::Source, &mut from),
        sides::check_columns(structure, Side::Target, &mut to)
    )?;
    let pairs: Vec<&Pair> = structure.pairs.iter().collect();
    let (left, right) = tokio::try_join!(
        sides::digests(structure, Side::Source, &pairs, &mut from, None),
        sides::digests(structure, Side::Target, &pairs, &mut to, None)
    )?;
    let differing = pairs.iter().zip(left.iter().zip(right)).filter(|(_, (left, right))| **left != *right);
    let differing: Vec<&Pair> = differing.map(|(pair, _)| *pair).collect();
    let mut found = Vec::new();
    if !differing.is_empty() {
        let (asked_from, asked_to) = (beside(source, &mut from).await?, beside(target, &mut to).await?);
        let mut log = Log { structure, from: asked_from, to: asked_to };
        for pair in differing {
            found.extend(table(structure, pair, &mut from, &mut to, &mut log, options).await?);
        }
        super::end(log.from, log.to).await?;
    }
    super::end(from, to).await?;
    Ok(found)
}

/// A second transaction that sees what the first does; on SQLite, what is there now.
async fn beside(end: &Endpoint, first: &mut Transaction) -> Result<Transaction, Error> {
    match first.engine() {
        Engine::Postgres => end.snapshot_of(&schedule::export(first).await?).await,
        Engine::Sqlite => end.snapshot().await,
    }
}

async fn table(
    structure: &Structure,
    pair: &Pair,
    from: &mut Transaction,
    to: &mut Transaction,
    log: &mut Log<'_>,
    options: &Options,
) -> Result<Option<Unexplained>, Error> {
    let mut counted = Unexplained { table: pair.name.clone(), missing: 0, different: 0, samples: Vec::new() };
    let id = record_id(pair);
    let declared = id.and_then(|id| pair.source.column(&pair.columns.get(id)?.name));
    let declared = declared.map_or("", |column| column.declared.as_str());
    // By the text that the log has for them.
    let mut waiting: BTreeMap<String, Difference> = BTreeMap::new();
    let mut merge = Merge::begin(structure, pair, from, to).await?;
    while let Some(met) = merge.next().await? {
        let found = match met.found(&merge.reading) {
            None | Some(Found::Extra) => continue,
            // Setting a row to what it was leaves this trace and no entry.
            Some(Found::Different(columns))
                if id.is_some() && columns == ["updated_at"] && met.is_later(&merge.reading, "updated_at") =>
            {
                continue;
            }
            Some(found) => found,
        };
        let difference = Difference { key: met.key(&merge.reading), found };
        let record = id.and_then(|id| Some(as_logged(met.source.as_ref()?.values.get(id)?.as_deref()?, declared)));
        match record {
            Some(record) => drop(waiting.insert(record, difference)),
            None => counted.add(difference, options),
        }
        if waiting.len() == AT_ONCE {
            settle(&mut waiting, &mut counted, pair, log, options).await?;
        }
    }
    settle(&mut waiting, &mut counted, pair, log, options).await?;
    Ok((counted.missing + counted.different > 0).then_some(counted))
}

/// An id as the log has it, whose triggers cast it to a text: of two types that is not what they write.
fn as_logged(id: &str, declared: &str) -> String {
    match declared {
        "inet" if !id.contains('/') => format!("{id}/{}", if id.contains(':') { 128 } else { 32 }),
        declared if is_padded(declared) => id.trim_end_matches(' ').to_owned(),
        _ => id.to_owned(),
    }
}

/// Counts those of the records that wait for which the log has no entry.
async fn settle(
    waiting: &mut BTreeMap<String, Difference>,
    counted: &mut Unexplained,
    pair: &Pair,
    log: &mut Log<'_>,
    options: &Options,
) -> Result<(), Error> {
    let (gone, changed): (Vec<_>, Vec<_>) =
        waiting.iter().partition(|(_, difference)| difference.found == Found::Missing);
    let mut explained = BTreeSet::new();
    // That a row was once changed is no reason why it is gone.
    for (records, deleted) in [(gone, true), (changed, false)] {
        if !records.is_empty() {
            let records = records.into_iter().map(|(record, _)| record);
            explained.extend(log.explains(&pair.name, records, deleted).await?);
        }
    }
    for (record, difference) in std::mem::take(waiting) {
        if !explained.contains(&record) {
            counted.add(difference, options);
        }
    }
    Ok(())
}

/// The place of the column that the log knows records by, where it has entries of this table and the column tells rows apart.
fn record_id(pair: &Pair) -> Option<usize> {
    let logged = pair.target.triggers.iter().any(|trigger| trigger.ours && trigger.name.starts_with("tenantry_write"));
    let id = pair.columns.iter().position(|column| column.name == "id")?;
    (logged && !pair.log && pair.key.as_deref() == Some(&[id])).then_some(id)
}

impl fmt::Display for Unexplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, missing, different, samples } = self;
        write!(f, "{table}: {missing} missing, {different} different without an entry in the write log")?;
        let keys: Vec<&str> = samples.iter().map(|sample| sample.key.as_str()).collect();
        if !keys.is_empty() {
            write!(f, " ({}{})", keys.join(", "), if keys.len() as u64 == missing + different { "" } else { ", …" })?;
        }
        Ok(())
    }
}

impl Unexplained {
    fn add(&mut self, difference: Difference, options: &Options) {
        match difference.found {
            Found::Missing => self.missing += 1,
            Found::Different(_) => self.different += 1,
            Found::Extra => return,
        }
        if self.samples.len() < options.samples {
            self.samples.push(difference);
        }
    }
}

/// Where the source has no log to compare with, entries of an earlier stay must not explain anything: only those count that
/// were made after the fence of the target was last changed, which the cutover did, by the target's own clock.
fn since(engine: Engine, tenant: &str) -> String {
    match engine {
        Engine::Postgres => format!(
            " AND logged_at > (SELECT f.changed_at FROM tenantry.fence AS f WHERE f.tenant_id = tenantry.fence_key({}))",
            quote::postgres_literal(tenant)
        ),
        Engine::Sqlite => format!(
            " AND logged_at > (SELECT f.changed_at FROM tenantry_fence AS f WHERE f.tenant_id = {})",
            quote::sqlite_literal(tenant)
        ),
    }
}

/// The condition that an entry is of this table. A trigger of a partitioned table knows the partition that a row is in, and nothing of its
/// schema: in another one than the table's, it may have the name of another table.
fn named(engine: Engine, structure: &Structure, table: &str) -> String {
    let name = text(engine, table);
    let into = structure.pairs.iter().find(|pair| pair.name == table).map(|pair| pair.target.into.as_str());
    match (engine, into) {
        (Engine::Postgres, Some(into)) => format!(
            "(table_name = {name} OR table_name IN (SELECT c.relname::text FROM pg_catalog.pg_partition_tree({0}) AS t \
             JOIN pg_catalog.pg_class AS c ON c.oid = t.relid \
             JOIN pg_catalog.pg_class AS p ON p.oid = {0}::pg_catalog.regclass AND p.relnamespace = c.relnamespace))",
            text(engine, into)
        ),
        _ => format!("table_name = {name}"),
    }
}

/// The write logs of both ends.
struct Log<'a> {
    structure: &'a Structure,
    from: Transaction,
    to: Transaction,
}

impl Log<'_> {
    /// Which of these records the target's log has an entry of that the source's log does not have.
    async fn explains(
        &mut self,
        table: &str,
        records: impl Iterator<Item = &String>,
        deleted: bool,
    ) -> Result<BTreeSet<String>, Error> {
        let structure = self.structure;
        let pair = structure.pairs.iter().find(|pair| pair.name == WRITE_LOG);
        let alone = structure.only_in_target.iter().find(|table| table.name == WRITE_LOG);
        let mut explained = BTreeSet::new();
        let Some(target) = pair.map(|pair| &pair.target).or(alone) else { return Ok(explained) };
        let Some(id) = target.column("id") else { return Ok(explained) };
        let engine = structure.target.engine;
        let literals: Vec<String> = records.map(|record| text(engine, record)).collect();
        let reading = Reading {
            side: Side::Target,
            table: WRITE_LOG.to_owned(),
            from: target.from.clone(),
            filter: format!(
                "{} AND {} AND row_id IN ({}){}{}",
                structure.target.filter(),
                named(engine, structure, table),
                literals.join(", "),
                if deleted { " AND operation = 'delete'" } else { "" },
                if pair.is_none() { since(engine, &structure.target.tenant.to_string()) } else { String::new() }
            ),
            columns: vec![("row_id".to_owned(), Kind::Text), ("id".to_owned(), id.kind)],
            key: Vec::new(),
            ordered: false,
            limit: None,
        };
        let mut entries = reading.open(&mut self.to).await?;
        let mut batch: Vec<(String, String)> = Vec::new();
        loop {
            let row = entries.next().await?;
            let ended = row.is_none();
            if let Some([Some(record), Some(entry)]) = row.as_ref().map(|row| &row.values[..])
                && !explained.contains(record)
            {
                batch.push((record.clone(), entry.clone()));
            }
            if batch.len() == AT_ONCE || (ended && !batch.is_empty()) {
                let known = match pair {
                    Some(pair) => in_source(structure, &pair.source, id.kind, &batch, &mut self.from).await?,
                    None => BTreeSet::new(),
                };
                let new = batch.drain(..).filter(|(_, entry)| !known.contains(entry));
                explained.extend(new.map(|(record, _)| record));
            }
            if ended {
                return Ok(explained);
            }
        }
    }
}

/// Which of these entries the source's log has.
async fn in_source(
    structure: &Structure,
    log: &Table,
    kind: Kind,
    entries: &[(String, String)],
    from: &mut Transaction,
) -> Result<BTreeSet<String>, Error> {
    let engine = structure.source.engine;
    let literals = entries.iter().map(|(_, entry)| match (engine, kind) {
        (Engine::Sqlite, Kind::Uuid) => text(engine, &entry.replace('-', "")),
        (Engine::Sqlite, kind) if kind.orders_as_number() => entry.clone(),
        _ => text(engine, entry),
    });
    let reading = Reading {
        side: Side::Source,
        table: WRITE_LOG.to_owned(),
        from: log.from.clone(),
        filter: format!(
            "{} AND {} IN ({})",
            structure.source.filter(),
            comparable(engine, "id", kind),
            literals.collect::<Vec<_>>().join(", ")
        ),
        columns: vec![("id".to_owned(), kind)],
        key: Vec::new(),
        ordered: false,
        limit: None,
    };
    let mut known = BTreeSet::new();
    let mut rows = reading.open(from).await?;
    while let Some(row) = rows.next().await? {
        known.extend(row.values.into_iter().flatten());
    }
    Ok(known)
}

fn text(engine: Engine, text: &str) -> String {
    match engine {
        Engine::Postgres => quote::postgres_literal(text),
        Engine::Sqlite => quote::sqlite_literal(text),
    }
}
