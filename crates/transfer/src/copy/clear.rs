//! Takes the tenant's rows out of the target, children before the tables they refer to.
//!
//! This module knows of no reason to: whose rows they are is its caller's question.

use sea_orm::Statement;
use tenantry_connection::{Engine, Transaction};

use crate::{
    Error,
    plan::{Pair, Structure},
    rows::{ask, backend},
};

/// Tables that are asked in one statement.
const AT_ONCE: usize = 200;

/// Deletes the tenant's rows, and nobody else's, from every table of the target, and says how many each had. Where there are
/// none nothing is written.
///
/// # Errors
/// [`Error::Request`] where rows are left: nothing says so when a policy keeps a login from deleting what it may read.
pub(crate) async fn clear(structure: &Structure, to: &mut Transaction) -> Result<Vec<(String, u64)>, Error> {
    let mut deleted = Vec::new();
    if !any(structure, to).await? {
        return Ok(deleted);
    }
    for group in structure.groups.iter().rev() {
        let pairs = structure.pairs.get(group.tables.clone()).unwrap_or_default();
        let rows = match (pairs, to.engine()) {
            ([_, _, ..], Engine::Postgres) => circle(structure, pairs, to).await?,
            _ => {
                let mut rows = Vec::new();
                for pair in pairs {
                    let statement = Statement::from_string(backend(to.engine()), delete(structure, pair));
                    rows.push(to.execute(statement).await.map_err(Error::database(doing(&[pair.name.as_str()])))?);
                }
                rows
            }
        };
        deleted.extend(pairs.iter().map(|pair| pair.name.clone()).zip(rows));
    }
    if any(structure, to).await? {
        let problem = "rows of the tenant are there after they were deleted: a policy for DELETE hides them from the login, which \
             should bypass it, or a trigger keeps or writes them";
        return Err(Error::Request { problem: problem.to_owned() });
    }
    Ok(deleted)
}

/// Whether there is a single row.
pub(crate) async fn any(structure: &Structure, to: &mut Transaction) -> Result<bool, Error> {
    const DOING: &str = "looking for the tenant's rows in the target";
    let filter = structure.target.filter();
    for pairs in structure.pairs.chunks(AT_ONCE) {
        let exists = pairs.iter().map(|pair| format!("EXISTS (SELECT 1 FROM {} WHERE {filter})", pair.target.from));
        let sql = format!("SELECT 1 AS found WHERE {}", exists.collect::<Vec<_>>().join(" OR "));
        if !ask(to, &sql, DOING).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Tables that refer to each other, in one statement: foreign keys are looked at when it ends.
async fn circle(structure: &Structure, pairs: &[Pair], to: &mut Transaction) -> Result<Vec<u64>, Error> {
    let names: Vec<&str> = pairs.iter().map(|pair| pair.name.as_str()).collect();
    let (parts, counts): (Vec<String>, Vec<String>) = pairs
        .iter()
        .enumerate()
        .map(|(number, pair)| {
            let part = format!("t{number} AS ({} RETURNING 1)", delete(structure, pair));
            (part, format!("(SELECT count(*) FROM t{number}) AS t{number}"))
        })
        .unzip();
    let sql = format!("WITH {} SELECT {}", parts.join(", "), counts.join(", "));
    let row = to.query_one(Statement::from_string(backend(to.engine()), sql)).await;
    let row = row.map_err(Error::database(doing(&names)))?;
    let count = |number: usize| -> Result<u64, Error> {
        let count = row.as_ref().map(|row| row.try_get::<i64>("", &format!("t{number}"))).transpose();
        Ok(count.map_err(Error::answer(doing(&names)))?.unwrap_or(0).unsigned_abs())
    };
    (0..pairs.len()).map(count).collect()
}

fn delete(structure: &Structure, pair: &Pair) -> String {
    format!("DELETE FROM {} WHERE {}", pair.target.from, structure.target.filter())
}

fn doing(tables: &[&str]) -> String {
    format!("deleting the tenant's copied rows of {}", tables.join(", "))
}
