//! `cargo xtask generate-entities`: migrates a scratch PostgreSQL and writes its business tables as entities.

use std::collections::BTreeSet;

use sea_orm::{ConnectOptions, Database};
use sea_orm_migration::MigratorTrait;
use tenantry_migrations::{TenantDataMigrator, TenantDataSettings, prepare_tenant_data, tables::BUSINESS_TABLES};
use tenantry_test_support::cluster::Cluster;

use super::Outcome;
use crate::{
    entities::{self, Files},
    failure::Failure,
    workspace::Workspace,
};

const FOLDER: &str = "crates/entities/src";

/// Generates the entities of crates/entities from the migrated schema, in a private PostgreSQL that is thrown away
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo xtask generate-entities --check\n\nExit status: 0 written or up to date, 1 a file differs, 2 could not run."
)]
pub(crate) struct Args {
    /// Only compare: exit 1 and name the files that differ
    #[arg(long)]
    check: bool,
}

pub(crate) async fn run(Args { check }: Args) -> Result<Outcome, Failure> {
    let workspace = Workspace::here();
    let generated = generate().await?;
    if check {
        let findings = differences(&workspace, &generated)?;
        for finding in &findings {
            println!("{finding}; run `cargo xtask generate-entities`");
        }
        return Ok(Outcome::of(findings.is_empty()));
    }
    for (name, text) in &generated {
        workspace.write(&format!("{FOLDER}/{name}"), text)?;
    }
    for path in left_over(&workspace, &generated)? {
        std::fs::remove_file(workspace.path(&path)).map_err(Failure::file("remove", path))?;
    }
    println!("{} entities in {FOLDER}", generated.len() - 1);
    Ok(Outcome::Done)
}

async fn generate() -> Result<Files, Failure> {
    let cluster = Cluster::start().map_err(Failure::scratch("start"))?;
    let database = cluster.create_database("entities").map_err(Failure::scratch("create"))?;
    // The migrator's settings are those of one connection.
    let mut options = ConnectOptions::new(database.url_with(&database.service));
    options.max_connections(1).sqlx_logging(false);
    let connection = Database::connect(options).await.map_err(Failure::scratch("connect to"))?;
    let settings = TenantDataSettings { restricted_role: database.restricted.user.clone(), ..Default::default() };
    prepare_tenant_data(&connection, &settings).await.map_err(Failure::scratch("prepare"))?;
    TenantDataMigrator::up(&connection, None).await.map_err(Failure::scratch("migrate"))?;
    let files = entities::generate(connection.get_postgres_connection_pool(), &BUSINESS_TABLES).await;
    connection.close().await.map_err(Failure::scratch("close"))?;
    files
}

fn differences(workspace: &Workspace, generated: &Files) -> Result<Vec<String>, Failure> {
    let mut findings = Vec::new();
    for (name, text) in generated {
        let path = format!("{FOLDER}/{name}");
        if !workspace.exists(&path) || workspace.read(&path)? != *text {
            findings.push(format!("{path} is not what the migrated schema says"));
        }
    }
    let left_over = left_over(workspace, generated)?;
    findings.extend(left_over.iter().map(|path| format!("{path} has no table in the migrated schema")));
    Ok(findings)
}

/// Files that a table had which is gone.
fn left_over(workspace: &Workspace, generated: &Files) -> Result<Vec<String>, Failure> {
    let wanted: BTreeSet<String> = generated.keys().map(|name| format!("{FOLDER}/{name}")).collect();
    Ok(workspace.files(FOLDER, ".rs")?.into_iter().filter(|path| !wanted.contains(path)).collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    /// Catches a check that overlooks a file by hand-editing, a missing file or one left behind.
    #[test]
    fn differences_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(directory.path());
        std::fs::create_dir_all(workspace.path(FOLDER)).unwrap();
        let generated = Files::from(["a", "b", "c"].map(|name| (format!("{name}.rs"), format!("// {name}\n"))));
        workspace.write("crates/entities/src/a.rs", "// a\n").unwrap();
        workspace.write("crates/entities/src/b.rs", "// b, by hand\n").unwrap();
        workspace.write("crates/entities/src/d.rs", "// d\n").unwrap();
        assert_eq!(
            differences(&workspace, &generated).unwrap(),
            [
                "crates/entities/src/b.rs is not what the migrated schema says",
                "crates/entities/src/c.rs is not what the migrated schema says",
                "crates/entities/src/d.rs has no table in the migrated schema",
            ]
        );
    }
}
