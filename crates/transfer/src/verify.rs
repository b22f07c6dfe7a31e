//! Every row on both sides, by digest, and by key where digests differ.
//!
//! PostgreSQL digests its tables itself, both servers at the same time and several tables at a time; SQLite's rows are digested
//! here. Only a table that differs is read row by row. What is read is committed state, in snapshots of their own: not what a
//! copy believes it wrote.

mod digest;
mod merge;
mod report;
mod sides;
mod unexplained;

use tenantry_connection::Transaction;
use tenantry_migrations::tables::WRITE_LOG;

pub use self::{
    report::{Difference, Found, Report, TableReport},
    unexplained::{Unexplained, unexplained},
};
use crate::{
    Endpoint, Error, Options, Progress, Refusal, Side,
    plan::{Group, Pair, Structure, read_structure},
    rows::counts,
    schedule::{self, FEW, Schedule},
};

/// Compares every row of the tenant on both sides.
///
/// # Errors
/// [`Error::Database`] or [`Error::Driver`] when one of them does not answer. That they differ is no error: it is in the
/// report.
pub async fn verify(
    source: &Endpoint,
    target: &Endpoint,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, Error> {
    let (mut from, mut to) = tokio::try_join!(source.snapshot(), target.snapshot())?;
    let (structure, refusals) = read_structure(source, target, &mut from, &mut to).await?;
    for transaction in [from, to] {
        transaction.rollback().await.map_err(Error::database("ending a snapshot"))?;
    }
    let mut report = compare_all(source, target, &structure, options, progress).await?;
    let prevented = refusals.into_iter().filter(prevents_comparison);
    report.not_compared = prevented.chain(report.not_compared).collect();
    Ok(report)
}

/// The same with catalogs that have been read before.
///
/// # Errors
/// As [`verify`]; [`Error::Request`] when a table has other columns since the catalogs were read.
pub(crate) async fn compare_all(
    source: &Endpoint,
    target: &Endpoint,
    structure: &Structure,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, Error> {
    let (mut from, mut to) = tokio::try_join!(source.snapshot(), target.snapshot())?;
    tokio::try_join!(
        sides::check_columns(structure, Side::Source, &mut from),
        sides::check_columns(structure, Side::Target, &mut to)
    )?;
    let (mut not_compared, mut pairs) = (Vec::new(), Vec::new());
    for pair in &structure.pairs {
        let [left, right] = [pair.source.access, pair.target.access];
        for (side, access) in [(Side::Source, left), (Side::Target, right)] {
            if !access.select {
                not_compared.push(Refusal::Privilege { side, missing: format!("select from {}", pair.name) });
            }
        }
        if left.select && right.select && !left.filtered && !right.filtered && pair.key.is_some() {
            pairs.push(pair);
        }
    }
    let rows = sides::rows(structure, &pairs, &mut from).await?;
    let only_in_target = only_in_target(structure, &mut to).await?;
    let comparison = Comparison { source, target, structure, rows: &rows, options, progress };
    let mut tables = comparison.tables(&pairs, from, to).await?;
    let place = |report: &TableReport| pairs.iter().position(|pair| pair.name == report.table);
    tables.sort_by_key(place);
    tables.extend(only_in_target);
    Ok(Report { source: source.pool.url().to_string(), target: target.pool.url().to_string(), tables, not_compared })
}

struct Comparison<'a> {
    source: &'a Endpoint,
    target: &'a Endpoint,
    structure: &'a Structure,
    /// How many rows the source has of each, as far as known.
    rows: &'a [u64],
    options: &'a Options,
    progress: &'a dyn Progress,
}

impl Comparison<'_> {
    async fn tables(
        &self,
        pairs: &[&Pair],
        mut from: Transaction,
        mut to: Transaction,
    ) -> Result<Vec<TableReport>, Error> {
        if self.rows.iter().sum::<u64>() < FEW {
            // One question to each side.
            let reports = self.compare(pairs, self.rows, &mut from, &mut to).await?;
            end(from, to).await?;
            return Ok(reports);
        }
        let alone = |place: usize| Group { tables: place..place + 1, parents: Default::default() };
        let groups: Vec<Group> = (0..pairs.len()).map(alone).collect();
        let rows = |group: &Group| self.rows.get(group.tables.start).copied().unwrap_or(0);
        let schedule = Schedule::new(&groups, rows);
        // One reader of SQLite has one snapshot.
        let workers = match self.structure.is_across_engines() {
            true => 1,
            false => {
                let rows = self.rows.iter().copied();
                schedule::workers((self.source, 0), (self.target, 0), self.options.parallel, rows)
            }
        };
        let mut exported = None;
        if workers > 1 {
            exported = Some(tokio::try_join!(schedule::export(&mut from), schedule::export(&mut to))?);
        }
        let mut first = Some((from, to));
        let workers = (0..workers).map(|_| self.worker(pairs, first.take(), exported.as_ref(), &schedule));
        let reports = futures_util::future::try_join_all(workers).await?;
        Ok(reports.into_iter().flatten().collect())
    }

    /// Compares whatever is next until nothing is left.
    async fn worker(
        &self,
        pairs: &[&Pair],
        first: Option<(Transaction, Transaction)>,
        exported: Option<&(String, String)>,
        schedule: &Schedule<'_>,
    ) -> Result<Vec<TableReport>, Error> {
        let ends = match (first, exported) {
            (Some(first), _) => Some(first),
            (None, Some((source, target))) => {
                let both = (schedule.another(self.source, Some(source)), schedule.another(self.target, Some(target)));
                let (from, to) = tokio::try_join!(both.0, both.1)?;
                from.zip(to)
            }
            (None, None) => None,
        };
        let Some((mut from, mut to)) = ends else { return Ok(Vec::new()) };
        let mut reports = Vec::new();
        while let Some((number, group)) = schedule.next().await {
            let pairs = pairs.get(group.tables.clone()).unwrap_or_default();
            let rows = self.rows.get(group.tables.clone()).unwrap_or_default();
            reports.extend(self.compare(pairs, rows, &mut from, &mut to).await?);
            schedule.done(number);
        }
        end(from, to).await?;
        Ok(reports)
    }

    /// Some tables on both sides at once.
    async fn compare(
        &self,
        pairs: &[&Pair],
        rows: &[u64],
        from: &mut Transaction,
        to: &mut Transaction,
    ) -> Result<Vec<TableReport>, Error> {
        pairs.iter().zip(rows).for_each(|(pair, rows)| self.progress.table(&pair.name, *rows));
        let (left, right) = tokio::try_join!(
            sides::digests(self.structure, Side::Source, pairs, from, Some(self.progress)),
            sides::digests(self.structure, Side::Target, pairs, to, None)
        )?;
        let mut reports = Vec::new();
        for ((pair, left), right) in pairs.iter().zip(left).zip(right) {
            let mut report = TableReport::new(&pair.name, pair.log);
            (report.source, report.target) = (left.rows, right.rows);
            if left != right {
                report = merge::name(self.structure, pair, from, to, self.options).await?;
            }
            (report.source_digest, report.target_digest) = (left.print(), right.print());
            reports.push(report);
        }
        Ok(reports)
    }
}

async fn end(from: Transaction, to: Transaction) -> Result<(), Error> {
    tokio::try_join!(from.rollback(), to.rollback()).map_err(Error::database("ending a snapshot"))?;
    Ok(())
}

/// Whether a reason not to copy is also a reason why rows cannot be compared.
pub(crate) fn prevents_comparison(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::NothingToCopy { .. }
        | Refusal::TableMissing { .. }
        | Refusal::Unscoped { .. }
        | Refusal::ColumnMissing { .. }
        | Refusal::TypeDiffers { .. }
        | Refusal::TenantColumn { .. }
        | Refusal::NoKey { .. }
        | Refusal::Filtered { .. } => true,
        Refusal::SameDatabase
        | Refusal::DefinitionDiffers { .. }
        | Refusal::ReferenceTable { .. }
        | Refusal::ReferenceDiffers { .. }
        | Refusal::Encoding { .. }
        | Refusal::Space { .. }
        | Refusal::Check { .. }
        | Refusal::NoPartition { .. }
        | Refusal::NotPrepared { .. }
        | Refusal::RowsInTarget { .. }
        | Refusal::ColumnRequired { .. }
        | Refusal::Privilege { .. }
        | Refusal::Triggers { .. }
        | Refusal::Fenced { .. }
        | Refusal::Null { .. }
        | Refusal::Value { .. }
        | Refusal::Duplicate { .. }
        | Refusal::Taken { .. }
        | Refusal::ForeignTenant { .. }
        | Refusal::Dangling { .. }
        | Refusal::Placement { .. }
        | Refusal::PlacedElsewhere { .. }
        | Refusal::UnderWay { .. }
        | Refusal::Moved { .. }
        | Refusal::DataSourceTaken { .. }
        | Refusal::TenantIdTaken { .. } => false,
    }
}

/// Tenant tables that the source does not have. Whatever they hold of this tenant is extra; but a source without a write log
/// has nothing to compare one with.
async fn only_in_target(structure: &Structure, to: &mut Transaction) -> Result<Vec<TableReport>, Error> {
    let filter = structure.target.filter();
    let asked = structure.only_in_target.iter().map(|table| {
        let readable = table.access.select && !table.access.filtered;
        readable.then_some((table.from.as_str(), filter.as_str()))
    });
    let asked: Vec<_> = asked.collect();
    let counted = counts(to, &asked).await?;
    let mut reports = Vec::new();
    for ((table, asked), rows) in structure.only_in_target.iter().zip(asked).zip(counted) {
        let name = table.name.as_str();
        if asked.is_none() {
            continue;
        }
        let log = name == WRITE_LOG;
        let empty = TableReport::new(name, log);
        if log {
            reports.push(TableReport { compared: false, target: rows, ..empty });
        } else if rows > 0 {
            reports.push(TableReport { target: rows, extra: rows, ..empty });
        }
    }
    reports.sort_by_key(|report| report.log);
    Ok(reports)
}
