//! What a comparison found: counts, digests, keys and columns. No value is ever in it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Refusal, copy::CopiedTable};

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
    /// The digest of the source's rows, in hexadecimal digits: two sums of 64 bits over two hashes of each row's values, so that it
    /// depends on no order, on no tenant's id and on no setting. Empty where rows were not compared.
    pub source_digest: String,
    /// The same of the target. Tables with equal digests and counts are equal; of any others every row is compared, because two
    /// servers of other encodings may write one value differently.
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
    /// A report in which nothing has been found yet.
    pub(super) fn new(table: &str, log: bool) -> Self {
        Self {
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
        }
    }

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
