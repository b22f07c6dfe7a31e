//! `cargo xtask migrate`: the schema of the application database and of every data source, each once.

use clap::ValueEnum;
use tenantry::{
    migrations::TenantDataMigrator,
    operations::{self, DatabaseKind, Direction, MigrateReport, MigrateScope},
};

use super::Outcome;
use crate::{failure::Failure, operator, table};

/// Migrates the application database and every data source, each once
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask migrate status\n  cargo xtask migrate up --app-db\n\n\
                  Both kinds of database are migrated unless one is named. The application database goes first, since it\n\
                  names the others; a data source that fails does not keep the others from being migrated.\n\n\
                  Exit status: 0 done (status: nothing pending), 1 a database failed or has pending migrations,\n\
                  2 could not run.")]
pub(crate) struct Args {
    /// What to do
    direction: Way,
    /// Only the application database
    #[arg(long, conflicts_with = "data_sources")]
    app_db: bool,
    /// Only the data sources
    #[arg(long)]
    data_sources: bool,
    /// How many migrations `down` takes back per database
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    steps: u32,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// Apply what is pending
    Up,
    /// Take back the latest; refused where a table has rows
    Down,
    /// Change nothing, show what is applied and pending
    Status,
}

pub(crate) async fn run(args: Args) -> Result<Outcome, Failure> {
    let scope = MigrateScope { app_db: !args.data_sources, data_sources: !args.app_db };
    let direction = match args.direction {
        Way::Up => Direction::Up,
        Way::Down => Direction::Down(args.steps),
        Way::Status => Direction::Status,
    };
    operator::with_tenantry(async |tenantry| {
        let report = operations::migrate::<TenantDataMigrator>(tenantry, scope, direction).await?;
        operator::answer(&report, args.json, text)?;
        let expects_complete = args.direction != Way::Down;
        Ok(Outcome::of(report.passed() && (!expects_complete || report.is_complete())))
    })
    .await
}

fn text(report: &MigrateReport) -> String {
    let rows: Vec<_> = report
        .databases
        .iter()
        .map(|database| {
            let kind = match database.kind {
                DatabaseKind::ApplicationDatabase => "application database",
                DatabaseKind::DataSource => "data source",
            };
            let state = match &database.error {
                Some(_) => "FAILED".to_owned(),
                None if database.pending.is_empty() => "up to date".to_owned(),
                None => "pending".to_owned(),
            };
            let number = |names: &[String]| names.len().to_string();
            let numbers = [&database.changed, &database.applied, &database.pending].map(|names| number(names));
            let [changed, applied, pending] = numbers;
            [database.database.to_string(), kind.to_owned(), changed, applied, pending, state]
        })
        .collect();
    let mut text = table::render(["database", "kind", "changed", "applied", "pending", "state"], &rows);
    for database in &report.databases {
        let list =
            |verb: &str, names: &[String]| names.iter().fold(String::new(), |t, name| format!("{t}\n  {verb} {name}"));
        text += &list("changed", &database.changed);
        text += &list("pending", &database.pending);
        if let Some(error) = &database.error {
            text += &format!("\n{}: {error}", database.database);
        }
    }
    text
}
