//! Two tables row by row: both sides are streamed in the order of the key and merged, so that memory does not grow with them.

use std::cmp::Ordering;

use tenantry_connection::Transaction;

use super::report::{Difference, Found, TableReport};
use crate::{
    Error, Options, Side,
    plan::{Pair, Structure},
    rows::{Reading, Row, Rows},
};

/// One key in either or both of the tables.
pub(super) struct Met {
    /// The source's row.
    pub(super) source: Option<Row>,
    /// The target's.
    pub(super) target: Option<Row>,
}

/// A walk over both tables in the order of their keys.
pub(super) struct Merge<'c> {
    pub(super) reading: Reading,
    left: Rows<'c>,
    right: Rows<'c>,
    /// The next row of each side, which has not been met yet.
    next: (Option<Row>, Option<Row>),
}

impl<'c> Merge<'c> {
    pub(super) async fn begin(
        structure: &Structure,
        pair: &Pair,
        from: &'c mut Transaction,
        to: &'c mut Transaction,
    ) -> Result<Self, Error> {
        let reading = structure.reading(Side::Source, pair, true);
        let mut left = reading.open(from).await?;
        let mut right = structure.reading(Side::Target, pair, true).open(to).await?;
        let next = tokio::try_join!(left.next(), right.next())?;
        Ok(Self { reading, left, right, next })
    }

    /// The next key, or `None` behind the last.
    pub(super) async fn next(&mut self) -> Result<Option<Met>, Error> {
        let ordering = match &self.next {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => self.reading.compare(left, right),
        };
        let mut met = Met { source: None, target: None };
        if ordering != Ordering::Greater {
            met.source = std::mem::replace(&mut self.next.0, self.left.next().await?);
        }
        if ordering != Ordering::Less {
            met.target = std::mem::replace(&mut self.next.1, self.right.next().await?);
        }
        Ok(Some(met))
    }
}

/// Names what is missing, extra and different.
pub(super) async fn name(
    structure: &Structure,
    pair: &Pair,
    from: &mut Transaction,
    to: &mut Transaction,
    options: &Options,
) -> Result<TableReport, Error> {
    let mut report = TableReport::new(&pair.name, pair.log);
    let mut merge = Merge::begin(structure, pair, from, to).await?;
    while let Some(met) = merge.next().await? {
        report.source += u64::from(met.source.is_some());
        report.target += u64::from(met.target.is_some());
        let Some(found) = met.found(&merge.reading) else { continue };
        match found {
            Found::Missing => report.missing += 1,
            Found::Extra => report.extra += 1,
            Found::Different(_) => report.different += 1,
        }
        if report.samples.len() < options.samples {
            report.samples.push(Difference { key: met.key(&merge.reading), found });
        }
    }
    Ok(report)
}

impl Met {
    /// How the two rows differ, if they do.
    pub(super) fn found(&self, reading: &Reading) -> Option<Found> {
        match (&self.source, &self.target) {
            (Some(_), None) => Some(Found::Missing),
            (None, Some(_)) => Some(Found::Extra),
            (Some(left), Some(right)) if left.values != right.values => {
                let values = reading.columns.iter().zip(left.values.iter().zip(&right.values));
                let columns = values.filter(|(_, (left, right))| left != right).map(|((name, _), _)| name.clone());
                Some(Found::Different(columns.collect()))
            }
            _ => None,
        }
    }

    /// Whether the target's value of a column is the greater one.
    pub(super) fn is_later(&self, reading: &Reading, column: &str) -> bool {
        let place = reading.columns.iter().position(|(name, _)| name == column);
        let [left, right] = [&self.source, &self.target].map(|row| row.as_ref()?.values.get(place?)?.as_deref());
        left < right
    }

    /// The key, as reports print it.
    pub(super) fn key(&self, reading: &Reading) -> String {
        self.source.as_ref().or(self.target.as_ref()).map(|row| reading.print_key(row)).unwrap_or_default()
    }
}
