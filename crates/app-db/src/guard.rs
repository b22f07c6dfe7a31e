//! The audit of a built statement: it may touch the application database's own tables only.
//!
//! The types already keep business entities out of [`AppDb`](crate::AppDb). A condition can still carry a sub-query, and
//! where tenants' rows share a database with the application's (the gradual way out of a single database), that
//! sub-query would reach them without a tenant. Two checks, because neither sees everything:
//!
//! 1. SeaORM's `audit()` lists the tables of the statement's tree. sea-query 1.0.2 does not descend into `ORDER BY`,
//!    `HAVING`, `GROUP BY`, join conditions and an update's or delete's `WHERE`, nor into custom text.
//! 2. The words of the finished SQL are read: a table may stand only where a table belongs, every table must be on the
//!    list, and a word that is neither a known keyword nor a known function is refused. Whatever this reading does not
//!    understand is refused too.
//!
//! The guard knows no connection. It is a second line behind the types and no parser of SQL.

mod words;

use std::collections::BTreeSet;

use sea_orm::{DbBackend, Statement, StatementBuilder};

use crate::entities::TABLES;

/// Why a statement was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It touches a table that is none of the application database's.
    #[error("it reaches the table {0}, which is not part of the application database")]
    ForeignTable(String),
    /// It names a schema or a database.
    #[error("it names the schema of the table {0}; tables of the application database are named without one")]
    QualifiedTable(String),
    /// A word or function outside the known ones, usually from custom SQL text.
    #[error("it contains {0:?}, which statements on the application database may not use")]
    UnknownWord(String),
    /// Text that cannot be read for certain: a comment, a literal, a second statement.
    #[error("it contains {0:?}, which cannot be checked; bind values instead of writing them into the text")]
    Unreadable(char),
    /// SeaORM cannot tell which tables it touches.
    #[error("its tables cannot be told")]
    NotAuditable,
}

/// The tables that statements may touch.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    tables: BTreeSet<String>,
}

impl Default for Guard {
    fn default() -> Self {
        Self { tables: TABLES.into_iter().map(str::to_owned).collect() }
    }
}

impl Guard {
    /// Lets statements touch one more table.
    pub(crate) fn admit(&mut self, table: &str) {
        self.tables.insert(table.to_owned());
    }

    /// Builds the statement, if it touches nothing but admitted tables.
    pub(crate) fn build<S: StatementBuilder>(&self, backend: DbBackend, builder: &S) -> Result<Statement, Refusal> {
        let audit = builder.audit().map_err(|_| Refusal::NotAuditable)?;
        for request in audit.requests {
            let (schema, table) = (request.schema_table.0, request.schema_table.1.to_string());
            if !self.tables.contains(&table) {
                return Err(Refusal::ForeignTable(table));
            }
            if schema.is_some() {
                return Err(Refusal::QualifiedTable(table));
            }
        }
        let statement = builder.build(&backend);
        words::check(backend, &statement.sql, &self.tables)?;
        Ok(statement)
    }
}

#[cfg(test)]
mod tests;
