//! What tables a database has, read from its own catalogs: there is no list of business tables anywhere, so a table that
//! somebody added yesterday is seen.
//!
//! A tenant table is an ordinary or partitioned table of the connection's schema that has the tenant column. Left out are
//! Tenantry's bookkeeping, the routing probe and, where the database is an application database (it has a table `tenants`),
//! that database's own tables. This module knows no row.

mod details;
mod postgres;
mod sqlite;
pub(crate) mod statement;
mod types;

pub(crate) use details::{Check, Details, TableDetails, details};

use std::collections::{BTreeMap, BTreeSet};

use tenantry_connection::{Engine, Transaction};
use tenantry_migrations::tables::{APP_DB_TABLES, ROUTING_PROBE};

use crate::{Error, kind::Kind};

/// Tenantry's own tables that are not in PostgreSQL's schema `tenantry`: histories, the fence of SQLite and the like.
const BOOKKEEPING_PREFIX: &str = "tenantry_";

/// A database's tenant tables and what this connection's role may do with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// The engine.
    pub engine: Engine,
    /// The schema that was read; `main` on SQLite.
    pub schema: String,
    /// The tenant tables, by name.
    pub tables: BTreeMap<String, Table>,
    /// Tables that refer to a tenant table and are none, and to which: without the tenant column their rows belong to some tenant,
    /// but nothing says to which; with it they are in another schema, and called `schema.table`.
    pub unscoped: BTreeMap<String, String>,
    /// Tables that hold no tenant's rows. Those that tenant tables refer to are reference tables: their rows belong to
    /// everybody.
    pub others: BTreeMap<String, Table>,
    /// Tables that were looked at and left alone: the others, and this project's own.
    pub left_out: BTreeSet<String>,
    /// What the role may do in the database as a whole.
    pub rights: Rights,
}

/// What a role may do beside reading and writing tables. On SQLite, which has no roles, everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// No policy applies to it.
    pub bypasses_policies: bool,
    /// It may create temporary tables.
    pub temporary: bool,
    /// It may set `session_replication_role`, which silences triggers.
    pub silences_triggers: bool,
    /// It may install the fence where there is none.
    pub installs_fence: bool,
    /// Tenantry is installed, and its triggers step aside for this role.
    pub prepared: bool,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// What statements read from: schema and name in quotes, without inheriting tables.
    pub from: String,
    /// What statements write to: schema and name in quotes.
    pub into: String,
    /// Its columns in their order.
    pub columns: Vec<Column>,
    /// The columns of its primary key; empty without one, or where it is deferrable.
    pub primary_key: Vec<String>,
    /// Every unique constraint or index over plain columns of all rows, the primary key among them.
    pub unique: Vec<Unique>,
    /// Its foreign keys.
    pub foreign_keys: Vec<ForeignKey>,
    /// Triggers (and rules) that fire, by name.
    pub triggers: Vec<Trigger>,
    /// What the role may do with it.
    pub access: Access,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type as declared.
    pub declared: String,
    /// The same without its length or precision, as a cast names it.
    pub plain: String,
    /// What a type that somebody defined in the database consists of: an enum's labels, a domain's checks, a composite type's
    /// attributes, and so on down. Two types of one name that differ here hold other values, or spell them otherwise in the
    /// binary format.
    pub definition: Option<String>,
    /// Its collation, where it is not the type's own.
    pub collation: Option<String>,
    /// What it holds.
    pub kind: Kind,
    /// It refuses null.
    pub not_null: bool,
    /// A row that does not name it gets a value.
    pub has_default: bool,
    /// It is computed by the database.
    pub generated: bool,
    /// How, where the catalogs tell.
    pub expression: Option<String>,
    /// It counts by itself and refuses other values unless overridden.
    pub identity: bool,
    /// The sequence it counts with, in quotes.
    pub sequence: Option<String>,
    /// The role may read that sequence and move it on.
    pub counts: bool,
    /// Somebody has defined what a text becomes that is cast to its type: not what the type reads it as.
    pub own_cast: bool,
}

/// A unique constraint or index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// Its name.
    pub name: String,
    /// Its columns.
    pub columns: Vec<String>,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// Its name.
    pub name: String,
    /// The condition on a row of its table that the key binds it, where a single partition has the key.
    pub binds: Option<String>,
    /// The table it refers to.
    pub parent: String,
    /// What statements read that table from, or the partition of it that the key refers to.
    pub parent_from: String,
    /// Its columns, each with the column it refers to.
    pub columns: Vec<(String, String)>,
}

/// A trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// It is Tenantry's and steps aside for a transfer.
    pub ours: bool,
    /// It fires on insert.
    pub on_insert: bool,
    /// It fires on delete.
    pub on_delete: bool,
    /// It fires in an ordinary session.
    pub fires: bool,
    /// It fires even where triggers are silenced.
    pub fires_silenced: bool,
}

/// What the role may do with a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// It may read.
    pub select: bool,
    /// It may insert.
    pub insert: bool,
    /// It may delete.
    pub delete: bool,
    /// It may create triggers on the table.
    pub trigger: bool,
    /// Policies apply to it, and COPY into the table is refused.
    pub under_policies: bool,
    /// Policies hide rows from it, or may.
    pub filtered: bool,
    /// Policies keep it from inserting some rows, or may.
    pub insert_filtered: bool,
}

/// Reads the catalogs.
///
/// # Errors
/// [`Error::Database`] when the database does not answer.
pub async fn read(transaction: &mut Transaction, tenant_column: &str) -> Result<Catalog, Error> {
    match transaction.engine() {
        Engine::Postgres => postgres::read(transaction, tenant_column).await,
        Engine::Sqlite => sqlite::read(transaction, tenant_column).await,
    }
}

impl Table {
    /// Whether a fence holds its writes.
    pub fn has_fence(&self) -> bool {
        let named = |name: &str| name.starts_with("tenantry_fence") && !name.ends_with("_truncate");
        let fences = self.triggers.iter().filter(|trigger| trigger.ours && trigger.fires && named(&trigger.name));
        // PostgreSQL has one for every kind of write, SQLite one for each.
        let (whole, parts): (Vec<_>, Vec<_>) = fences.partition(|trigger| trigger.name == "tenantry_fence");
        !whole.is_empty() || parts.len() >= 3
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// Whether a table with the tenant column is Tenantry's own, in a database whose other tables were left alone.
pub(crate) fn is_ours(name: &str, left_out: &[String]) -> bool {
    let is_app_db = left_out.iter().any(|name| name == APP_DB_TABLES[0]);
    name == ROUTING_PROBE || name.starts_with(BOOKKEEPING_PREFIX) || (is_app_db && APP_DB_TABLES.contains(&name))
}

/// Sorts the tables that a database has into tenant tables, tables that hide tenants' rows, and others.
fn sort_tables(
    engine: Engine,
    schema: String,
    all: BTreeMap<String, Table>,
    outsiders: Vec<(String, String)>,
    tenant_column: &str,
    rights: Rights,
) -> Catalog {
    let is_app_db = all.contains_key(APP_DB_TABLES[0]);
    let is_ours = |name: &str| {
        name == ROUTING_PROBE || name.starts_with(BOOKKEEPING_PREFIX) || (is_app_db && APP_DB_TABLES.contains(&name))
    };
    let (mut tables, mut others) = (BTreeMap::new(), BTreeMap::new());
    for (name, table) in all {
        if table.column(tenant_column).is_some() && !is_ours(&name) {
            tables.insert(name, table);
        } else {
            others.insert(name, table);
        }
    }
    // Referring to a table that refers to a tenant table hides rows just as well, hence until nothing is added.
    let outsiders = outsiders.into_iter().filter(|(_, parent)| tables.contains_key(parent));
    let mut unscoped: BTreeMap<String, String> = outsiders.collect();
    loop {
        let found = others.iter().filter(|(name, _)| !is_ours(name) && !unscoped.contains_key(*name)).find_map(
            |(name, table)| {
                let parent = table.foreign_keys.iter().map(|key| &key.parent);
                let hides = |parent: &&String| tables.contains_key(*parent) || unscoped.contains_key(*parent);
                Some((name.clone(), parent.clone().find(hides)?.clone()))
            },
        );
        match found {
            Some((name, parent)) => unscoped.insert(name, parent),
            None => break,
        };
    }
    let left_out = others.keys().filter(|name| !unscoped.contains_key(*name)).cloned().collect();
    others.retain(|name, _| !unscoped.contains_key(name) && !is_ours(name));
    Catalog { engine, schema, tables, unscoped, others, left_out, rights }
}
