//! The rows: read in one snapshot of the source, written in one transaction of the target. A copy that fails anywhere leaves
//! nothing behind, and a row that is in the target already is never overwritten.

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

use serde::{Deserialize, Serialize};
use tenantry_connection::{Engine, Transaction};

use crate::{
    Endpoint, Error, Plan, Progress,
    canonical::Problem,
    plan::{Pair, Structure, read_structure},
    rows::{Reading, Row},
};

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

/// Copies what the plan says.
///
/// Cancel-safe: until the last statement nothing is committed.
///
/// # Errors
/// [`Error::Refused`] when the plan was; [`Error::Request`] when either schema has changed since; [`Error::Value`],
/// [`Error::Database`], [`Error::Driver`], [`Error::Unreferenced`]. The target is as it was, except when its connection
/// broke during the commit: then run it again, which finds the rows already there.
pub async fn copy(
    source: &Endpoint,
    target: &Endpoint,
    plan: &Plan,
    progress: &dyn Progress,
) -> Result<Vec<CopiedTable>, Error> {
    if !plan.refusals.is_empty() {
        return Err(Error::Refused(Box::new(plan.clone())));
    }
    let (mut from, mut to) = (source.snapshot().await?, target.write().await?);
    let (structure, _) = read_structure(source, target, &mut from, &mut to).await?;
    same_structure(plan, &structure)?;
    if structure.silence {
        let sql = "SET LOCAL session_replication_role = replica";
        to.execute_raw_sql(sql).await.map_err(Error::database("silencing the target's triggers"))?;
    }
    let mut copied = Vec::new();
    for pair in &structure.pairs {
        let planned = plan.tables.iter().find(|table| table.name == pair.name).map_or(0, |table| table.rows);
        progress.table(&pair.name, planned);
        let table = Table { structure: &structure, pair, progress };
        let (read, inserted) = match (from.engine(), to.engine()) {
            (Engine::Postgres, Engine::Postgres) => postgres::between(&table, &mut from, &mut to).await?,
            (Engine::Sqlite, Engine::Postgres) => postgres::into(&table, &mut from, &mut to).await?,
            (_, Engine::Sqlite) => sqlite::into(&table, &mut from, &mut to).await?,
        };
        copied.push(CopiedTable {
            table: pair.name.clone(),
            log: pair.log,
            read,
            copied: inserted,
            already_there: read - inserted.min(read),
        });
    }
    if structure.silence {
        postgres::check_foreign_keys(&structure, &mut to).await?;
    }
    to.commit().await.map_err(Error::database("committing the copied rows"))?;
    from.rollback().await.map_err(Error::database("ending the snapshot"))?;
    Ok(copied)
}

/// A plan is applied to what it was made against, and to nothing else.
fn same_structure(plan: &Plan, structure: &Structure) -> Result<(), Error> {
    let same = plan.tables.len() == structure.pairs.len()
        && plan.tables.iter().zip(&structure.pairs).all(|(planned, pair)| {
            planned.name == pair.name
                && planned.columns == pair.columns
                && pair.key.as_ref().is_some_and(|key| {
                    let names = key.iter().filter_map(|&position| pair.columns.get(position));
                    names.map(|column| &column.name).eq(&planned.key)
                })
        });
    if same {
        Ok(())
    } else {
        Err(Error::Request { problem: "a schema has changed since the plan was made; plan again".to_owned() })
    }
}

struct Table<'a> {
    structure: &'a Structure,
    pair: &'a Pair,
    progress: &'a dyn Progress,
}

impl Table<'_> {
    /// The columns to write, without the tenant column.
    fn copied(&self) -> impl Iterator<Item = (usize, &crate::plan::PlannedColumn)> {
        self.pair.columns.iter().enumerate().filter(|(_, column)| column.copied)
    }

    /// Their names, and the tenant column's in the end.
    fn names(&self) -> Vec<&str> {
        let tenant = self.structure.target.tenant_column.as_str();
        self.copied().map(|(_, column)| column.name.as_str()).chain([tenant]).collect()
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

/// How many rows the tenant has in the target now.
async fn rows_there(table: &Table<'_>, to: &mut Transaction) -> Result<u64, Error> {
    let filter = table.structure.target.filter();
    crate::rows::count(to, &table.pair.target.from, &filter).await
}
