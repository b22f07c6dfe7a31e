//! The reasons not to copy.

use std::fmt;

use serde::{Deserialize, Serialize};
use tenantry_app_db::entities::transfers::Model;
use tenantry_migrations::tables::WRITE_LOG;
use tenantry_realm::TenantKey;
use uuid::Uuid;

use crate::{Side, canonical::Problem, fence::Holder};

/// A reason not to copy: what is wrong, where, and what to do about it. Names rows by their keys and never shows another
/// tenant's values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "refusal", rename_all = "snake_case")]
pub enum Refusal {
    /// Source and target are one database.
    SameDatabase,
    /// The source has no tenant table at all.
    NothingToCopy {
        /// The schema that was read.
        schema: String,
        /// The column that was looked for.
        tenant_column: String,
    },
    /// The target is not prepared for transfers.
    NotPrepared {
        /// Which end.
        side: Side,
        /// What is missing.
        missing: String,
    },
    /// A tenant table of the source has no counterpart.
    TableMissing {
        /// The table.
        table: String,
    },
    /// A table refers to a tenant table and is none: it does not say whose its rows are, or is in another schema.
    Unscoped {
        /// Which end.
        side: Side,
        /// The table.
        table: String,
        /// The tenant table it refers to.
        references: String,
    },
    /// A column of the source has no counterpart.
    ColumnMissing {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The target requires a column that the source does not have.
    ColumnRequired {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A column has another type in the target.
    TypeDiffers {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its type in the source.
        source: String,
        /// Its type in the target.
        target: String,
    },
    /// A column's type has the same name on both sides and is another one.
    DefinitionDiffers {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The type's name.
        declared: String,
        /// What it consists of in the source.
        source: String,
        /// What it consists of in the target.
        target: String,
    },
    /// A table was declared a reference table and cannot be copied as one; or tenants' rows refer to a table that the target
    /// does not have.
    ReferenceTable {
        /// The table.
        table: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A reference table has rows of the same key on both sides that are not equal.
    ReferenceDiffers {
        /// The table.
        table: String,
        /// How many rows.
        rows: u64,
        /// Some of their keys.
        keys: Vec<String>,
    },
    /// The target stores text in an encoding that does not have every character.
    Encoding {
        /// The source's encoding.
        source: String,
        /// The target's encoding.
        target: String,
    },
    /// The file system of the target has too little room.
    Space {
        /// About how many bytes the rows take, with the journal of writing them.
        needed: u64,
        /// How many are free.
        free: u64,
    },
    /// The tenant column cannot hold this tenant's id.
    TenantColumn {
        /// Which end.
        side: Side,
        /// The table.
        table: String,
        /// The column's type.
        declared: String,
        /// The id.
        tenant: TenantKey,
    },
    /// The target holds rows of this tenant before anything was copied. They may be the only ones there are.
    RowsInTarget {
        /// The table.
        table: String,
        /// How many.
        rows: u64,
    },
    /// Nothing tells the table's rows apart, so that they could not be compared.
    NoKey {
        /// The table.
        table: String,
        /// What is wrong with its key.
        problem: String,
    },
    /// Row-level security hides rows from the role.
    Filtered {
        /// Which end.
        side: Side,
        /// The table.
        table: String,
    },
    /// The role lacks a privilege.
    Privilege {
        /// Which end.
        side: Side,
        /// What it may not do.
        missing: String,
    },
    /// Triggers of the application would fire for copied rows and cannot be silenced.
    Triggers {
        /// The table.
        table: String,
        /// Their names.
        triggers: Vec<String>,
    },
    /// The tenant is fenced.
    Fenced {
        /// Which end.
        side: Side,
        /// The reason that was given.
        reason: String,
    },
    /// Rows have no value where the target requires one.
    Null {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// How many rows.
        rows: u64,
        /// Some of their keys.
        keys: Vec<String>,
    },
    /// Rows hold values that have no place in the target.
    Value {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// What is wrong.
        problem: Problem,
        /// How many rows.
        rows: u64,
        /// Some of their keys.
        keys: Vec<String>,
    },
    /// Rows break a CHECK constraint that only the target has.
    Check {
        /// The table.
        table: String,
        /// The constraint's name in the target; in an SQLite file that gives it none, its expression.
        constraint: String,
        /// How many rows.
        rows: u64,
        /// Some of their keys.
        keys: Vec<String>,
    },
    /// Rows belong to no partition of the target.
    NoPartition {
        /// The table.
        table: String,
        /// How many rows.
        rows: u64,
        /// Some of their keys.
        keys: Vec<String>,
    },
    /// Rows are alike in what the target wants to be unique.
    Duplicate {
        /// The table.
        table: String,
        /// The constraint's name in the target.
        constraint: String,
        /// Its columns.
        columns: Vec<String>,
        /// How many groups of rows are alike.
        groups: u64,
    },
    /// Rows have values that must be unique in the target across all tenants, and another tenant's row has them there.
    Taken {
        /// The table.
        table: String,
        /// The constraint's name in the target.
        constraint: String,
        /// How many rows.
        rows: u64,
        /// Some of their keys.
        keys: Vec<String>,
    },
    /// Rows refer to rows of another tenant.
    ForeignTenant {
        /// The table.
        table: String,
        /// The table they refer to.
        parent: String,
        /// How many rows.
        rows: u64,
        /// Some of them.
        samples: Vec<Reference>,
    },
    /// Rows refer to rows that do not exist.
    Dangling {
        /// The table.
        table: String,
        /// The table they refer to.
        parent: String,
        /// Where the row referred to is missing.
        side: Side,
        /// How many rows.
        rows: u64,
        /// Some of them.
        samples: Vec<Reference>,
    },
    /// The placement to be made contradicts itself.
    Placement {
        /// What is wrong and what to do.
        problem: String,
    },
    /// The tenant is somewhere else than the request assumes.
    PlacedElsewhere {
        /// Where it is.
        url: String,
    },
    /// Another transfer of the tenant is under way, or somebody runs the one that is asked for.
    UnderWay {
        /// The transfer.
        transfer: Uuid,
        /// Where it goes.
        target: String,
    },
    /// The tenant's placement has changed since the request was made.
    Moved {
        /// The epoch the request was made against.
        expected: i64,
        /// The epoch now.
        found: i64,
    },
    /// The target belongs to another tenant.
    DataSourceTaken {
        /// Which tenant is there.
        tenant: String,
    },
    /// Another tenant has the same id in the target.
    TenantIdTaken {
        /// Which tenant has it.
        tenant: String,
    },
}

/// A row and the key it refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The row's key.
    pub key: String,
    /// The key it refers to.
    pub referenced: String,
}

impl Refusal {
    /// What a plan says of a transfer under way that keeps the tenant from having the one that is asked for.
    pub fn under_way(open: &Model) -> Self {
        let target = open.target_url.clone().unwrap_or_else(|| "the application database".to_owned());
        Self::UnderWay { transfer: open.id, target }
    }

    /// Whether it is but about the rows that this transfer has left there, and about its fence over them.
    pub(crate) fn is_of_kept_rows(&self, transfer: Uuid) -> bool {
        match self {
            Self::Fenced { side: Side::Target, reason } => Holder::of(reason) == Holder::Kept(transfer),
            // A single database never had a log: the entries stay where they were made.
            Self::TableMissing { table } => table == WRITE_LOG,
            _ => self.is_of_rows_there(),
        }
    }

    /// Whether it is but about what a transfer that is under way has done itself.
    pub(crate) fn is_of_transfer(&self, transfer: Uuid) -> bool {
        match self {
            Self::Fenced { reason, .. } => Holder::of(reason).is_moving(transfer),
            _ => self.is_of_rows_there(),
        }
    }

    fn is_of_rows_there(&self) -> bool {
        matches!(self, Self::RowsInTarget { .. })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameDatabase => f.write_str("source and target are the same database; choose another target"),
            Self::NothingToCopy { schema, tenant_column } => write!(
                f,
                "no table of schema {schema} in the source has a column {tenant_column}; check the schema and the column's name"
            ),
            Self::NotPrepared { side, missing } => {
                write!(f, "the {side} is not prepared: {missing}; migrate it with the service login first")
            }
            Self::TableMissing { table } => {
                write!(f, "the target has no tenant table {table}; migrate it to the schema of the source")
            }
            Self::Unscoped { side, table, references } => write!(
                f,
                "table {table} at the {side} refers to {references} but is no tenant table, so its rows would stay behind, and go \
                 or dangle when those are deleted; give it the tenant column, in the same schema"
            ),
            Self::ColumnMissing { table, column } => {
                write!(f, "the target has no column {table}.{column}; add it, or drop it from the source")
            }
            Self::ColumnRequired { table, column } => {
                write!(
                    f,
                    "the target requires column {table}.{column}, which the source does not have; give it a default"
                )
            }
            Self::TypeDiffers { table, column, source, target } => write!(
                f,
                "column {table}.{column} is {source} in the source and {target} in the target, which do not hold the same \
                 values; change one of them"
            ),
            Self::DefinitionDiffers { table, column, declared, source, target } => write!(
                f,
                "the type {declared} of {table}.{column} is not the same type on both sides ({source} in the source, {target} \
                 in the target); change one of them"
            ),
            Self::ReferenceTable { table, problem } => write!(f, "reference table {table}: {problem}"),
            Self::ReferenceDiffers { table, rows, keys } => write!(
                f,
                "{rows} row(s) of reference table {table} have other values in the target, which other tenants may rely on: {}",
                Samples(keys, *rows)
            ),
            Self::Encoding { source, target } => write!(
                f,
                "the target stores text as {target}, the source as {source}, so some text might have no place there; \
                 use a target in UTF8"
            ),
            Self::Space { needed, free } => write!(
                f,
                "the target's file system has {free} bytes free, and the rows need about {needed}; make room first"
            ),
            Self::TenantColumn { side, table, declared, tenant } => write!(
                f,
                "the tenant column of {table} at the {side} is {declared} and cannot hold {tenant}; correct the tenant's id there"
            ),
            Self::RowsInTarget { table, rows } => write!(
                f,
                "{table} in the target holds {rows} row(s) of this tenant already; see whether they are needed, and delete \
                 them there"
            ),
            Self::NoKey { table, problem } => {
                write!(
                    f,
                    "the rows of {table} cannot be compared: {problem}; give the table a primary key on both sides"
                )
            }
            Self::Filtered { side, table } => write!(
                f,
                "row-level security limits which rows of {table} the login can use at the {side}; \
                 use the service login, or give its role a policy USING (true) WITH CHECK (true)"
            ),
            Self::Privilege { side, missing } => {
                write!(f, "the login at the {side} may not {missing}; grant it, or use the service login")
            }
            Self::Triggers { table, triggers } => write!(
                f,
                "trigger(s) {} on {table} in the target would change or repeat copied rows and cannot be silenced; \
                 drop them for the transfer, or grant SET ON PARAMETER session_replication_role",
                triggers.join(", ")
            ),
            Self::Fenced { side, reason } => {
                write!(
                    f,
                    "the tenant is fenced at the {side} ({reason}); end what fenced it first, or run its rollback again"
                )
            }
            Self::Null { table, column, rows, keys } => {
                write!(
                    f,
                    "{rows} row(s) of {table} have no {column}, which the target requires: {}",
                    Samples(keys, *rows)
                )
            }
            Self::Value { table, column, problem, rows, keys } => {
                write!(f, "in {rows} row(s) of {table} the value of {column} {problem}: {}", Samples(keys, *rows))
            }
            Self::Check { table, constraint, rows, keys } => write!(
                f,
                "{rows} row(s) of {table} break {constraint}, which only the target has: {}",
                Samples(keys, *rows)
            ),
            Self::NoPartition { table, rows, keys } => write!(
                f,
                "{rows} row(s) of {table} belong to no partition of the target's table; add one: {}",
                Samples(keys, *rows)
            ),
            Self::Duplicate { table, constraint, columns, groups } => write!(
                f,
                "{groups} group(s) of rows of {table} are alike in {}, which {constraint} of the target wants to be unique",
                columns.join(", ")
            ),
            Self::Taken { table, constraint, rows, keys } => write!(
                f,
                "{rows} row(s) of {table} have what a row of another tenant has in {constraint} of the target, which lacks the \
                 tenant column: {}",
                Samples(keys, *rows)
            ),
            Self::ForeignTenant { table, parent, rows, samples } => write!(
                f,
                "{rows} row(s) of {table} refer to another tenant's row of {parent}: {}",
                Samples(&print(samples), *rows)
            ),
            Self::Dangling { table, parent, side, rows, samples } => write!(
                f,
                "{rows} row(s) of {table} refer to a row of {parent} that does not exist at the {side}: {}",
                Samples(&print(samples), *rows)
            ),
            Self::Placement { problem } => f.write_str(problem),
            Self::PlacedElsewhere { url } => {
                write!(f, "the tenant is placed at {url}; a split begins from the single database, use a move instead")
            }
            Self::UnderWay { transfer, target } => write!(
                f,
                "transfer {transfer} of the tenant, to {target}, is under way; wait for its end, or resume or abort it first"
            ),
            Self::Moved { expected, found } => {
                write!(
                    f,
                    "the tenant's placement has changed (epoch {found}, not {expected}); look at it and begin again"
                )
            }
            Self::DataSourceTaken { tenant } => {
                write!(f, "the target is a data source for one tenant and holds tenant {tenant}; choose another target")
            }
            Self::TenantIdTaken { tenant } => {
                write!(f, "tenant {tenant} has the same id in the target; choose another tenant_id_in_data_source")
            }
        }
    }
}

fn print(samples: &[Reference]) -> Vec<String> {
    samples.iter().map(|sample| format!("{} -> {}", sample.key, sample.referenced)).collect()
}

/// Some of so many.
struct Samples<'a>(&'a [String], u64);

impl fmt::Display for Samples<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))?;
        if self.0.len() as u64 == self.1 { Ok(()) } else { f.write_str(", …") }
    }
}
