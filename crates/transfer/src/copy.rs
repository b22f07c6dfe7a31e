//! The rows: read in one snapshot of the source, written into the target, tables before the tables that refer to them.
//!
//! Into PostgreSQL several tables are copied at a time, each in a transaction of its own: a copy that is interrupted leaves whole
//! tables behind, and the next one deletes them before it begins. Few rows, and rows that replace others, go in one
//! transaction; into SQLite all do, since it has one writer. This module knows nothing of fences: that the tenant's rows in
//! the target may be deleted is for its caller to know.

#[cfg(not(all(feature = "postgres", feature = "sqlite")))]
mod absent;
mod clear;
#[cfg(feature = "postgres")]
mod postgres;
mod reference;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

#[cfg(not(feature = "postgres"))]
use self::absent as postgres;
#[cfg(not(feature = "sqlite"))]
use self::absent as sqlite;

use serde::{Deserialize, Serialize};
use tenantry_connection::{Engine, Transaction};

pub(crate) use self::clear::{any, clear};
use crate::{
    Endpoint, Error, Options, Progress,
    canonical::Problem,
    catalog::ForeignKey,
    plan::{Group, Pair, Prepared, Structure},
    rows::{Reading, Row},
    schedule::{self, FEW, Schedule},
};

/// How a copy goes about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copying {
    /// Everything in one transaction of the target, deletions too: all of it is seen at once, or nothing.
    pub atomic: bool,
    /// The tenant's rows that the target has are deleted first. Only for who knows them to be an earlier copy's, or to be
    /// replaced. Otherwise they stay, and where one has the key of a row of the source it is kept in its place.
    pub clear: bool,
}

/// What was copied of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedTable {
    /// The table.
    pub table: String,
    /// It is the write log.
    pub log: bool,
    /// The tenant's rows that the source had in the snapshot.
    pub read: u64,
    /// Rows that were written.
    pub copied: u64,
    /// Rows whose key the target had already. Whether they are equal is for the verification to say.
    pub already_there: u64,
}

/// Copies what was planned.
///
/// Cancel-safe: what was not committed is undone, and a copy that clears first may be run again.
///
/// # Errors
/// [`Error::Refused`] when the plan was; [`Error::Value`], [`Error::Database`], [`Error::Driver`], [`Error::Unreferenced`]. The
/// target may then hold some tables whole, and the others not at all; in one transaction it is as it was, except when its
/// connection broke during the commit.
pub async fn copy(
    source: &Endpoint,
    target: &Endpoint,
    prepared: &Prepared,
    copying: Copying,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<CopiedTable>, Error> {
    if !prepared.plan.refusals.is_empty() {
        return Err(Error::Refused(Box::new(prepared.plan.clone())));
    }
    reference::copy(source, target, prepared, progress).await?;
    let rows: u64 = prepared.plan.tables.iter().map(|table| table.rows).sum();
    let silence = prepared.structure.silence || may_silence(&prepared.structure);
    let work = Work { source, target, prepared, clear: copying.clear, silence, progress };
    let mut copied = if copying.atomic || target.engine() == Engine::Sqlite || rows < FEW {
        Box::pin(work.at_once()).await?
    } else {
        Box::pin(work.table_by_table(options.parallel)).await?
    };
    let place = |table: &CopiedTable| prepared.structure.pairs.iter().position(|pair| pair.name == table.table);
    copied.sort_by_key(place);
    Ok(copied)
}

/// Whether triggers may be silenced where nothing requires it. Tenantry's own step aside in any case, but the server asks each of them
/// for each row, which takes longer than the row itself. Foreign keys are silenced with them and are looked at afterwards,
/// which holds only while nobody else can delete what they refer to: the tenant's own rows, whose writes are fenced.
fn may_silence(structure: &Structure) -> bool {
    // Where a key refers to a partition, another one may have the row.
    let is_copied = |key: &ForeignKey| {
        structure.pairs.iter().any(|pair| pair.name == key.parent && pair.target.into == key.parent_from)
    };
    structure.target.engine == Engine::Postgres
        && structure.target.rights.silences_triggers
        && structure.pairs.iter().all(|pair| {
            pair.target.foreign_keys.iter().all(is_copied)
                && !pair.target.triggers.iter().any(|trigger| trigger.fires_silenced)
        })
}

/// One copy.
struct Work<'a> {
    source: &'a Endpoint,
    target: &'a Endpoint,
    prepared: &'a Prepared,
    clear: bool,
    /// Triggers and foreign keys are silenced, and these looked at afterwards.
    silence: bool,
    progress: &'a dyn Progress,
}

impl<'a> Work<'a> {
    /// In one transaction of the target.
    async fn at_once(&self) -> Result<Vec<CopiedTable>, Error> {
        let structure = &self.prepared.structure;
        let (mut from, mut to) = tokio::try_join!(self.source.snapshot(), self.write())?;
        if self.clear {
            clear(structure, &mut to).await?;
        }
        let copied = self.groups(&structure.groups, &mut from, &mut to).await?;
        to.commit().await.map_err(Error::database("committing the copied rows"))?;
        from.rollback().await.map_err(Error::database("ending the snapshot"))?;
        Ok(copied)
    }

    /// Each table, or circle of tables, in a transaction of its own, several at a time.
    async fn table_by_table(&self, parallel: usize) -> Result<Vec<CopiedTable>, Error> {
        let structure = &self.prepared.structure;
        let (mut first, mut others) = (self.source.snapshot().await?, None);
        if self.clear {
            let mut to = self.write().await?;
            clear(structure, &mut to).await?;
            to.commit().await.map_err(Error::database("deleting what an earlier copy left"))?;
        }
        let rows = |group: &Group| -> u64 {
            let pairs = structure.pairs.get(group.tables.clone()).unwrap_or_default();
            pairs.iter().map(|pair| self.planned(pair)).sum()
        };
        let workers = match first.engine() {
            Engine::Postgres => {
                schedule::workers((self.source, 0), (self.target, 1), parallel, structure.groups.iter().map(rows))
            }
            // One reader has one snapshot.
            Engine::Sqlite => 1,
        };
        if workers > 1 {
            others = Some(schedule::export(&mut first).await?);
        }
        let schedule = Schedule::new(&structure.groups, rows);
        let mut first_first = Some(first);
        let workers = (0..workers).map(|_| self.worker(first_first.take(), others.as_deref(), &schedule));
        let copied = futures_util::future::try_join_all(workers).await?;
        Ok(copied.into_iter().flatten().collect())
    }

    /// Copies whatever is next until nothing is left.
    async fn worker(
        &self,
        first: Option<Transaction>,
        exported: Option<&str>,
        schedule: &Schedule<'a>,
    ) -> Result<Vec<CopiedTable>, Error> {
        let from = match first {
            Some(first) => Some(first),
            None => schedule.another(self.source, exported).await?,
        };
        let Some(mut from) = from else { return Ok(Vec::new()) };
        let mut copied = Vec::new();
        while let Some((number, group)) = schedule.next().await {
            let mut to = self.write().await?;
            copied.extend(self.groups(std::slice::from_ref(group), &mut from, &mut to).await?);
            to.commit().await.map_err(Error::database("committing the copied rows"))?;
            schedule.done(number);
        }
        from.rollback().await.map_err(Error::database("ending the snapshot"))?;
        Ok(copied)
    }

    async fn write(&self) -> Result<Transaction, Error> {
        let mut to = self.target.write().await?;
        if self.silence {
            let sql = "SET LOCAL session_replication_role = replica";
            to.execute_raw_sql(sql).await.map_err(Error::database("silencing the target's triggers"))?;
        }
        Ok(to)
    }

    /// Groups of tables, those that others refer to first.
    async fn groups(
        &self,
        groups: &[Group],
        from: &mut Transaction,
        to: &mut Transaction,
    ) -> Result<Vec<CopiedTable>, Error> {
        let structure = &self.prepared.structure;
        let pairs = |group: &Group| structure.pairs.get(group.tables.clone()).unwrap_or_default();
        let table = |pair: &'a Pair| {
            let planned = self.planned(pair);
            Table { structure, pair, progress: self.progress, empty: self.clear, planned }
        };
        let groups: Vec<Vec<Table<'_>>> = groups.iter().map(|group| pairs(group).iter().map(table).collect()).collect();
        let tables: Vec<Table<'_>> = groups.iter().flatten().copied().collect();
        let counts = match to.engine() {
            Engine::Postgres => postgres::copy(&groups, self.silence, from, to).await?,
            Engine::Sqlite => {
                let mut counts = Vec::new();
                for table in &tables {
                    table.announce();
                    counts.push(sqlite::into(table, from, to).await?);
                }
                counts
            }
        };
        if self.silence {
            postgres::check_foreign_keys(structure, tables.iter().map(|table| table.pair), to).await?;
        }
        let copied = tables.iter().zip(counts).map(|(table, (read, copied))| CopiedTable {
            table: table.pair.name.clone(),
            log: table.pair.log,
            read,
            copied,
            already_there: read - copied.min(read),
        });
        Ok(copied.collect())
    }

    fn planned(&self, pair: &Pair) -> u64 {
        self.prepared.plan.tables.iter().find(|table| table.name == pair.name).map_or(0, |table| table.rows)
    }
}

/// A table on its way.
#[derive(Clone, Copy)]
struct Table<'a> {
    structure: &'a Structure,
    pair: &'a Pair,
    progress: &'a dyn Progress,
    /// The target is known to hold none of the tenant's rows.
    empty: bool,
    /// How many rows the plan has counted.
    planned: u64,
}

impl Table<'_> {
    fn announce(&self) {
        self.progress.table(&self.pair.name, self.planned);
    }

    /// The columns to write, without the tenant column.
    fn copied(&self) -> impl Iterator<Item = (usize, &crate::plan::PlannedColumn)> {
        self.pair.columns.iter().enumerate().filter(|(_, column)| column.copied)
    }

    /// Their names, and the tenant column's in the end.
    fn names(&self) -> Vec<&str> {
        self.pair.written(self.structure)
    }

    fn reading(&self) -> Reading {
        self.structure.reading(crate::Side::Source, self.pair, false)
    }

    /// A row whose values all mean something, or the first one that does not.
    fn sound(&self, reading: &Reading, row: Row) -> Result<Row, Error> {
        match row.problems.first() {
            None => Ok(row),
            Some(&(position, problem)) => Err(self.value(reading, &row, position, problem)),
        }
    }

    fn value(&self, reading: &Reading, row: &Row, position: usize, problem: Problem) -> Error {
        Error::Value {
            side: crate::Side::Source,
            table: self.pair.name.clone(),
            column: self.pair.columns.get(position).map(|column| column.name.clone()).unwrap_or_default(),
            key: reading.print_key(row),
            problem,
        }
    }

    fn doing(&self, doing: &str) -> String {
        format!("{doing} {}", self.pair.name)
    }
}
