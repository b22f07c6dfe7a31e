//! The legacy sample: the one database that the CRM had before its tenants were told apart, with all its tenants'
//! rows mixed in the same tables, on SQLite or on PostgreSQL.
//!
//! Its primary keys are `id` alone, its foreign keys too, and it has no policies and no data-source columns. The
//! content is the same in every run and on both engines. It is built to hurt: tenants that look alike (same names, same
//! e-mail addresses), nulls wherever they are allowed, values at the edges of every type, text that no one escapes right.
//! The tenant `default` has exactly the records of the system that Tenantry reimplements: 253.
//!
//! [`Table::rows`] gives the content without a database, so that a test has something to compare with which no code
//! under test has touched. This module knows nothing of the schema that the migrations make.

mod application;
mod cell;
mod dictionary;
mod postgres;
mod rows;
mod sqlite;
#[cfg(test)]
mod tests;
mod words;

use std::path::PathBuf;

use uuid::Uuid;

pub use self::cell::Cell;
pub use self::dictionary::{Check, Column, Kind, Reference, Table, application_tables, business_tables};
pub use self::postgres::create_postgres;
pub use self::sqlite::create_sqlite;

/// One tenant of the sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleTenant {
    /// Its id in the tenants table and in every row.
    pub id: Uuid,
    /// Its name.
    pub name: &'static str,
    /// Its subdomain.
    pub subdomain: &'static str,
    /// Records per business table, in the order of [`business_tables`].
    records: [u32; 13],
}

/// The sample's tenants: `default` with its 253 records; `acme`, which looks like it but is smaller; `globex`, which
/// has no row at all in some tables.
pub const TENANTS: [SampleTenant; 3] = [
    SampleTenant {
        id: Uuid::from_u128(0xdefa_0170_0000_4000_8000_0000_0000_0001),
        name: "Default Company",
        subdomain: "default",
        records: [13, 9, 7, 51, 49, 58, 9, 6, 8, 17, 12, 5, 9],
    },
    SampleTenant {
        id: Uuid::from_u128(0xacce_0000_0000_4000_8000_0000_0000_0002),
        name: "Acme & Søns",
        subdomain: "acme",
        records: [5, 4, 3, 7, 6, 9, 2, 2, 3, 8, 3, 3, 3],
    },
    SampleTenant {
        id: Uuid::from_u128(0x610b_e000_0000_4000_8000_0000_0000_0003),
        name: "Globex \"Worldwide\" 株式会社",
        subdomain: "globex",
        records: [2, 3, 1, 4, 2, 0, 1, 1, 0, 0, 2, 0, 1],
    },
];

/// Records per table of the tenant `default`, in an order in which parents come before their children.
pub fn expected_counts() -> Vec<(&'static str, u64)> {
    TENANTS[0].counts()
}

impl SampleTenant {
    /// The tenant of the given subdomain.
    pub fn by_subdomain(subdomain: &str) -> Option<&'static Self> {
        TENANTS.iter().find(|tenant| tenant.subdomain == subdomain)
    }

    /// Records per business table, in an order in which parents come before their children.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        business_tables().iter().zip(self.records).map(|(table, records)| (table.name, records.into())).collect()
    }

    /// The tenant's records in all business tables.
    pub fn total(&self) -> u64 {
        self.records.iter().copied().map(u64::from).sum()
    }

    fn records_in(&self, table: &str) -> u32 {
        let position = business_tables().iter().position(|candidate| candidate.name == table);
        position.map_or(0, |position| self.records[position])
    }
}

impl Table {
    /// A tenant's rows in this table, each with a cell per column. Tenants' own rows for `users` and `audit_log`, the
    /// tenant itself for `tenants`; the log's entries of no known tenant belong to `default`.
    pub fn rows(&self, tenant: &SampleTenant) -> Vec<Vec<Cell>> {
        match self.name {
            "tenants" | "users" | "audit_log" => application::rows(self, tenant),
            _ => rows::rows(self, tenant),
        }
    }
}

/// Why the sample could not be created. What was created until then is rolled back.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// The SQLite file could not be written, or has tables of the same names.
    #[error("cannot create the legacy sample in {}; give a file that does not exist yet", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// The PostgreSQL database refused, or has tables of the same names.
    #[error("cannot create the legacy sample on PostgreSQL; give an empty database and a login that may create tables")]
    Postgres {
        /// What the server said.
        source: sqlx::Error,
    },
}
