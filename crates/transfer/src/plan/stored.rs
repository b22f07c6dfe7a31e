//! How a row is written into SQLite: the columns, their values as they are stored, the statement. The copy and the plan's trial of
//! constraints take it from here, so that the one meets what the other has tried.

use super::{Pair, Structure};
use crate::{
    canonical::{self, Problem, Stored},
    kind::Kind,
    quote,
    rows::Row,
};

/// SQLite's limit of bound values in one statement.
const VALUES: usize = 32_766;

/// More rows in one statement gain nothing.
const ROWS: usize = 200;

/// Bytes of canonical texts that go into one statement, but for its last row. What is in memory is a small multiple of this, or of one row.
pub(crate) const BYTES: usize = 1 << 20;

impl Pair {
    /// The columns to write, and the tenant column in the end.
    pub(crate) fn written<'a>(&'a self, structure: &'a Structure) -> Vec<&'a str> {
        let copied = self.columns.iter().filter(|column| column.copied).map(|column| column.name.as_str());
        copied.chain([structure.target.tenant_column.as_str()]).collect()
    }

    /// Adds a row's values in the order of [`Pair::written`], without the tenant's id.
    ///
    /// # Errors
    /// The first column whose value has no place there, and why; some values have been added then.
    pub(crate) fn store(&self, row: &Row, values: &mut Vec<Stored>) -> Result<(), (usize, Problem)> {
        for (position, column) in self.columns.iter().enumerate().filter(|(_, column)| column.copied) {
            values.push(match row.values.get(position).and_then(Option::as_deref) {
                None => Stored::Null,
                Some(text) => canonical::to_sqlite(column.target, text).map_err(|problem| (position, problem))?,
            });
        }
        Ok(())
    }

    /// The tenant's id as the target's column stores it.
    pub(crate) fn stored_tenant(&self, structure: &Structure) -> Result<Stored, Problem> {
        let shape = &structure.target;
        let kind = self.target.column(&shape.tenant_column).map_or(Kind::Text, |column| column.kind);
        canonical::to_sqlite(kind, &shape.tenant.to_string())
    }
}

/// How many rows of so many columns go into one statement.
pub(crate) fn most_rows(columns: usize) -> usize {
    (VALUES / columns.max(1)).clamp(1, ROWS)
}

/// A statement that inserts so many rows, without what is said of conflicts.
pub(crate) fn insert(into: &str, names: &[&str], rows: usize) -> String {
    let row = format!("({})", vec!["?"; names.len()].join(", "));
    format!("INSERT INTO {into} ({}) VALUES {}", quote::identifiers(names.iter().copied()), vec![row; rows].join(", "))
}
