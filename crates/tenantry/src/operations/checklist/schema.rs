//! Is the schema of every data source complete: the tables and columns that the migrator makes, and on each table what keeps
//! tenants apart.
//!
//! What the migrator makes is found out by running it on a scratch SQLite file, so that an application's own tables are
//! looked for as ours are, and a table that somebody dropped after its migration was recorded is missed.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm_migration::MigratorTrait;
use tenantry_connection::{DataSourceUrl, Mode, Session};
use tenantry_data_source::with_causes;
use tenantry_migrations::tables::ROUTING_PROBE;
use tenantry_transfer::catalog::{self, Catalog, Table};
use uuid::Uuid;

use super::{
    Items, Section,
    data_sources::Reached,
    residents::{Unreadable, listed},
};
use crate::{
    Tenantry,
    operations::{
        create_tenant::remove_database_file,
        databases::operation_pool,
        migrate::{has_roles, prepare_data_source, tenant_data_settings},
    },
};

const SECTION: Section = Section::Schema;

/// Tables and their columns.
type Tables = BTreeMap<String, BTreeSet<String>>;

pub(super) async fn check<M: MigratorTrait>(tenantry: &Tenantry, all: &[Reached], list: &mut Items) {
    if all.is_empty() {
        return list.note(SECTION, "all", "no tenant has a data source yet");
    }
    let expected = match expected::<M>(tenantry).await {
        Ok(expected) => Some(expected),
        Err(reason) => {
            let detail =
                format!("the migrator does not run on SQLite, so that missing tables are not noticed: {reason}");
            list.note(SECTION, "comparison with a fresh schema", detail);
            None
        }
    };
    for Reached { source, service, migrated, .. } in all {
        let name = format!("schema of {}", source.url);
        let Some(pool) = service.as_ref().filter(|_| *migrated) else {
            list.skip(SECTION, &name, "it was not reached, or its migrations are not complete");
            continue;
        };
        let read = async {
            let mut transaction = pool.begin(&Session::default(), Mode::Read).await?;
            let catalog = catalog::read(&mut transaction, &tenantry.settings().tenant_column).await?;
            transaction.commit().await?;
            Ok::<_, Unreadable>(catalog)
        };
        match read.await {
            Ok(catalog) => compare(&source.url, &catalog, expected.as_ref(), &tenantry.settings().tenant_column, list),
            Err(error) => list.fail(SECTION, &name, error.to_string(), "look at its tables"),
        }
    }
}

fn compare(url: &DataSourceUrl, catalog: &Catalog, expected: Option<&Tables>, tenant_column: &str, list: &mut Items) {
    let mut complete = true;
    let mut fail = |table: &str, problem: String, remedy: &str| {
        complete = false;
        list.fail(SECTION, &format!("table {table} of {url}"), problem, remedy);
    };
    for (table, columns) in expected.into_iter().flatten() {
        let Some(found) = catalog.tables.get(table) else {
            let remedy = "restore it from a backup, or migrate down and up again where nothing is in the database";
            fail(table, "it is missing, though its migration is recorded".to_owned(), remedy);
            continue;
        };
        let missing: Vec<String> = columns.iter().filter(|column| found.column(column).is_none()).cloned().collect();
        if !missing.is_empty() {
            fail(table, format!("its columns {} are missing", missing.join(", ")), "add them as its migration does");
        }
    }
    if !catalog.left_out.contains(ROUTING_PROBE) {
        fail(ROUTING_PROBE, "it is missing, so that no route can be tested".to_owned(), "run `migrate up`");
    }
    // With roles, the isolation section measures the triggers and the keys.
    let measured_here = !has_roles(url);
    for table in catalog.tables.values().filter(|_| measured_here) {
        if !table.has_fence() {
            let remedy = "attach it: tenantry_migrations::fence::attach";
            fail(&table.name, "it has no fence: a transfer would lose what is written meanwhile".to_owned(), remedy);
        }
        for problem in unbound(catalog, table, tenant_column) {
            fail(&table.name, problem, "make it with TenantTable, whose keys begin with the tenant column");
        }
    }
    for (table, parent) in &catalog.unscoped {
        let problem = format!("it refers to {parent} and has no {tenant_column}, so that nothing keeps its rows apart");
        fail(table, problem, "make it with TenantTable, or drop the reference");
    }
    if complete {
        let sound = if measured_here { ", each fenced and with keys of its tenant" } else { "" };
        let detail = format!("{} tenant tables{sound}", catalog.tables.len());
        list.pass(SECTION, &format!("schema of {url}"), detail);
    }
}

/// The constraints of a table that do not hold the tenant: constraint checks do not obey policies, so that one would tell a
/// tenant what another has, or tie their rows together.
fn unbound(catalog: &Catalog, table: &Table, tenant_column: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if table.primary_key.first().is_none_or(|first| first != tenant_column) {
        problems.push(format!("its primary key does not begin with {tenant_column}"));
    }
    let unique: Vec<String> = table
        .unique
        .iter()
        .filter(|unique| !unique.columns.iter().any(|column| column == tenant_column))
        .map(|unique| unique.name.clone())
        .collect();
    if !unique.is_empty() {
        problems.push(format!("{} are unique over all tenants", listed(&unique)));
    }
    let own = |column: &str| column == tenant_column;
    for key in table.foreign_keys.iter().filter(|key| catalog.tables.contains_key(&key.parent)) {
        if !key.columns.iter().any(|(column, referred)| own(column) && own(referred)) {
            problems.push(format!("its reference to {} can name another tenant's row", key.parent));
        }
    }
    problems
}

/// The tables that the migrator makes, found out on a scratch file.
async fn expected<M: MigratorTrait>(tenantry: &Tenantry) -> Result<Tables, String> {
    let path = std::env::temp_dir().join(format!("tenantry-schema-{}.db", Uuid::new_v4()));
    let url = DataSourceUrl::parse(&format!("sqlite:{}", path.display())).map_err(|error| error.to_string())?;
    let made = async {
        let pool = operation_pool(tenantry, &url, None, true).map_err(|error| with_causes(&error))?;
        let settings = tenant_data_settings(tenantry, None);
        prepare_data_source::<M>(&pool, None, &settings).await.map_err(|error| with_causes(&error))?;
        let read = async {
            let mut transaction = pool.begin(&Session::default(), Mode::Read).await?;
            let catalog = catalog::read(&mut transaction, &settings.tenant_column).await?;
            transaction.commit().await?;
            Ok::<_, Unreadable>(catalog)
        };
        let catalog = read.await.map_err(|error| error.to_string());
        pool.close().await;
        Ok(catalog?
            .tables
            .into_iter()
            .map(|(name, table)| (name, table.columns.into_iter().map(|column| column.name).collect()))
            .collect())
    };
    let made = made.await;
    remove_database_file(&path);
    made
}
