//! Every row on both sides, by key and digest.
//!
//! Both sides are streamed in the order of the key and merged, so that memory does not grow with the tables. What is read is
//! committed state, in snapshots of their own: not what a copy believes it wrote.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tenantry_connection::Transaction;
use tenantry_migrations::tables::WRITE_LOG;

use crate::{
    Endpoint, Error, Options, Progress, Refusal, Side,
    canonical::{RowDigest, hex},
    copy::CopiedTable,
    plan::{Pair, Structure, read_structure},
    rows::{Reading, Row, count},
};

/// What a comparison of both sides found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The source's canonical URL.
    pub source: String,
    /// The target's canonical URL.
    pub target: String,
    /// Every table, in the order of the plan; the write log last.
    pub tables: Vec<TableReport>,
    /// What could not be compared, and why. While there is anything, the sides do not agree.
    pub not_compared: Vec<Refusal>,
}

/// One table on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableReport {
    /// The table.
    pub table: String,
    /// It is the write log, which is counted apart.
    pub log: bool,
    /// Whether its rows were compared; false for a write log that the source does not have.
    pub compared: bool,
    /// The tenant's rows in the source.
    pub source: u64,
    /// The tenant's rows in the target.
    pub target: u64,
    /// Rows that the copy just before wrote; zero where there was none.
    pub copied: u64,
    /// Rows that the copy just before found there already; zero where there was none.
    pub already_there: u64,
    /// Rows of the source that the target does not have.
    pub missing: u64,
    /// Rows of the target that the source does not have.
    pub extra: u64,
    /// Rows that both have, with different values.
    pub different: u64,
    /// Some of the rows that are missing, extra or different.
    pub samples: Vec<Difference>,
    /// SHA-256 over the digests of the source's rows in the order of their keys.
    pub source_digest: String,
    /// The same of the target; equal exactly when the tables are. Empty where the source has no such table.
    pub target_digest: String,
}

/// A row that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Its key.
    pub key: String,
    /// How it differs.
    pub found: Found,
}

/// How a row differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// The target does not have it.
    Missing,
    /// The source does not have it.
    Extra,
    /// These columns have other values. The values themselves are never reported.
    Different(Vec<String>),
}

impl Report {
    /// Whether both sides hold exactly the same rows.
    pub fn agrees(&self) -> bool {
        self.not_compared.is_empty() && self.tables.iter().all(TableReport::agrees)
    }

    /// Whether every row of the source is in the target as it is there.
    pub(crate) fn holds_source(&self) -> bool {
        self.not_compared.is_empty()
            && self.tables.iter().all(|table| !table.compared || (table.missing == 0 && table.different == 0))
    }

    /// Rows of the source, without the write log.
    pub fn records(&self) -> u64 {
        self.tables.iter().filter(|table| !table.log).map(|table| table.source).sum()
    }

    /// What differs, in a line for each table.
    pub fn summary(&self) -> String {
        let tables = self.tables.iter().filter(|table| !table.agrees()).map(ToString::to_string);
        let problems = self.not_compared.iter().map(ToString::to_string);
        let lines: Vec<String> = tables.chain(problems).collect();
        if lines.is_empty() { "nothing differs".to_owned() } else { lines.join("; ") }
    }

    /// Adds what a copy just before reported.
    pub(crate) fn with_copied(mut self, copied: &[CopiedTable]) -> Self {
        for table in &mut self.tables {
            if let Some(copied) = copied.iter().find(|copied| copied.table == table.table) {
                table.copied = copied.copied;
                table.already_there = copied.already_there;
            }
        }
        self
    }
}

impl TableReport {
    /// Whether both sides hold exactly the same rows of this table.
    pub fn agrees(&self) -> bool {
        !self.compared || (self.missing == 0 && self.extra == 0 && self.different == 0)
    }
}

impl fmt::Display for TableReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, missing, extra, different, samples, .. } = self;
        write!(f, "{table}: {missing} missing, {extra} extra, {different} different")?;
        for (index, sample) in samples.iter().enumerate() {
            f.write_str(if index == 0 { " (" } else { ", " })?;
            match &sample.found {
                Found::Missing => write!(f, "{} missing", sample.key)?,
                Found::Extra => write!(f, "{} extra", sample.key)?,
                Found::Different(columns) => write!(f, "{} differs in {}", sample.key, columns.join(", "))?,
            }
        }
        if !samples.is_empty() {
            f.write_str(if (samples.len() as u64) < missing + extra + different { ", …)" } else { ")" })?;
        }
        Ok(())
    }
}

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
pub(crate) async fn compare_all(
    source: &Endpoint,
    target: &Endpoint,
    structure: &Structure,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, Error> {
    let (mut from, mut to) = tokio::try_join!(source.snapshot(), target.snapshot())?;
    let mut not_compared = Vec::new();
    let mut tables = Vec::new();
    for pair in &structure.pairs {
        let [left, right] = [pair.source.access, pair.target.access];
        for (side, access) in [(Side::Source, left), (Side::Target, right)] {
            if !access.select {
                not_compared.push(Refusal::Privilege { side, missing: format!("select from {}", pair.name) });
            }
        }
        let readable = left.select && right.select && !left.filtered && !right.filtered && pair.key.is_some();
        if readable {
            tables.push(compare(structure, pair, &mut from, &mut to, options, progress).await?);
        }
    }
    tables.extend(only_in_target(structure, &mut to).await?);
    for transaction in [from, to] {
        transaction.rollback().await.map_err(Error::database("ending a snapshot"))?;
    }
    Ok(Report { source: source.pool.url().to_string(), target: target.pool.url().to_string(), tables, not_compared })
}

/// Whether a reason not to copy is also a reason why rows cannot be compared.
fn prevents_comparison(refusal: &Refusal) -> bool {
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
        | Refusal::ForeignTenant { .. }
        | Refusal::Dangling { .. }
        | Refusal::Placement { .. }
        | Refusal::PlacedElsewhere { .. }
        | Refusal::Moved { .. }
        | Refusal::DataSourceTaken { .. }
        | Refusal::TenantIdTaken { .. } => false,
    }
}

/// Tenant tables that the source does not have. Whatever they hold of this tenant is extra; but a source without a write log
/// has nothing to compare one with.
async fn only_in_target(structure: &Structure, to: &mut Transaction) -> Result<Vec<TableReport>, Error> {
    let mut reports = Vec::new();
    for table in &structure.only_in_target {
        let name = table.name.as_str();
        if !table.access.select || table.access.filtered {
            continue;
        }
        let rows = count(to, &table.from, &structure.target.filter()).await?;
        let log = name == WRITE_LOG;
        let empty = Tally::new(name, log).finish();
        if log {
            reports.push(TableReport { compared: false, target: rows, ..empty });
        } else if rows > 0 {
            reports.push(TableReport { target: rows, extra: rows, target_digest: String::new(), ..empty });
        }
    }
    reports.sort_by_key(|report| report.log);
    Ok(reports)
}

async fn compare(
    structure: &Structure,
    pair: &Pair,
    from: &mut Transaction,
    to: &mut Transaction,
    options: &Options,
    progress: &dyn Progress,
) -> Result<TableReport, Error> {
    progress.table(&pair.name, count(from, &pair.source.from, &structure.source.filter()).await?);
    let reading = structure.reading(Side::Source, pair, true);
    let mut left_rows = reading.open(from).await?;
    let mut right_rows = structure.reading(Side::Target, pair, true).open(to).await?;
    let mut tally = Tally::new(&pair.name, pair.log);
    let (mut left, mut right) = tokio::try_join!(left_rows.next(), right_rows.next())?;
    let mut pending = 0;
    loop {
        let ordering = match (&left, &right) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => reading.compare(left, right),
        };
        tally.add(&reading, ordering, left.as_ref(), right.as_ref(), options.samples);
        let (advance_left, advance_right) = (ordering != Ordering::Greater, ordering != Ordering::Less);
        if advance_left {
            left = left_rows.next().await?;
            pending += 1;
        }
        if advance_right {
            right = right_rows.next().await?;
        }
        if pending == 1000 {
            progress.advance(&pair.name, std::mem::take(&mut pending));
        }
    }
    progress.advance(&pair.name, pending);
    Ok(tally.finish())
}

struct Tally {
    report: TableReport,
    source: Sha256,
    target: Sha256,
}

impl Tally {
    fn new(table: &str, log: bool) -> Self {
        let report = TableReport {
            table: table.to_owned(),
            log,
            compared: true,
            source: 0,
            target: 0,
            copied: 0,
            already_there: 0,
            missing: 0,
            extra: 0,
            different: 0,
            samples: Vec::new(),
            source_digest: String::new(),
            target_digest: String::new(),
        };
        Self { report, source: Sha256::new(), target: Sha256::new() }
    }

    /// Counts the row, or the two rows of one key, that come next.
    fn add(&mut self, reading: &Reading, ordering: Ordering, left: Option<&Row>, right: Option<&Row>, samples: usize) {
        let left = left.filter(|_| ordering != Ordering::Greater);
        let right = right.filter(|_| ordering != Ordering::Less);
        let source = left.map(digest);
        // Comparing is cheaper than digesting, and equal rows have equal digests.
        let equal = left.zip(right).is_some_and(|(left, right)| left.values == right.values);
        let target = if equal { source } else { right.map(digest) };
        if let Some(source) = source {
            self.report.source += 1;
            self.source.update(source);
        }
        if let Some(target) = target {
            self.report.target += 1;
            self.target.update(target);
        }
        let found = match (left, right) {
            (Some(_), None) => {
                self.report.missing += 1;
                Found::Missing
            }
            (None, Some(_)) => {
                self.report.extra += 1;
                Found::Extra
            }
            (Some(left), Some(right)) if !equal => {
                self.report.different += 1;
                let values = reading.columns.iter().zip(left.values.iter().zip(&right.values));
                let columns = values.filter(|(_, (left, right))| left != right).map(|((name, _), _)| name.clone());
                Found::Different(columns.collect())
            }
            _ => return,
        };
        if self.report.samples.len() < samples
            && let Some(row) = left.or(right)
        {
            self.report.samples.push(Difference { key: reading.print_key(row), found });
        }
    }

    fn finish(self) -> TableReport {
        let [source_digest, target_digest] = [self.source, self.target].map(|digest| hex(&digest.finalize()));
        TableReport { source_digest, target_digest, ..self.report }
    }
}

fn digest(row: &Row) -> [u8; 32] {
    let mut digest = RowDigest::default();
    row.values.iter().for_each(|value| digest.field(value.as_deref()));
    digest.finish()
}
