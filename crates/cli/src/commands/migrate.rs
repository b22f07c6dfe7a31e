//! `migrate`: the schema of the application database and of every data source, each once.

use clap::ValueEnum;
use tenantry::operations::{DatabaseKind, Direction, MigrateReport, MigrateScope};

use super::Format;
use crate::{
    Application, Failure, Outcome, answer,
    text::{Cell, Mark, Text},
    with_tenantry,
};

/// Migrates the application database and every data source, each once
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  {program} migrate status\n  {program} migrate up --app-db\n\n\
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
    #[command(flatten)]
    pub(super) format: Format,
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

pub(crate) async fn run<A: Application>(args: Args) -> Result<Outcome, Failure> {
    let scope = MigrateScope { app_db: !args.data_sources, data_sources: !args.app_db };
    let direction = match args.direction {
        Way::Up => Direction::Up,
        Way::Down => Direction::Down(args.steps),
        Way::Status => Direction::Status,
    };
    with_tenantry::<A, _, _>(async |tenantry| {
        let report = A::migrate(tenantry, scope, direction).await?;
        answer::<A, _>(&report, args.format.json, text)?;
        let expects_complete = args.direction != Way::Down;
        Ok(Outcome::of(report.passed() && (!expects_complete || report.is_complete())))
    })
    .await
}

fn text(report: &MigrateReport) -> Text {
    let rows: Vec<_> = report
        .databases
        .iter()
        .map(|database| {
            let kind = match database.kind {
                DatabaseKind::ApplicationDatabase => "application database",
                DatabaseKind::DataSource => "data source",
            };
            let state = match &database.error {
                Some(_) => Cell::marked(Mark::Bad, "FAILED"),
                None if database.pending.is_empty() => Cell::marked(Mark::Good, "up to date"),
                None => Cell::marked(Mark::Warning, "pending"),
            };
            let numbers = [&database.changed, &database.applied, &database.pending];
            let [changed, applied, pending] = numbers.map(|names| Cell::from(names.len()));
            [Cell::from(database.database.to_string()), Cell::from(kind), changed, applied, pending, state]
        })
        .collect();
    let mut text = Text::new();
    text.table(["database", "kind", "changed", "applied", "pending", "state"], &rows);
    for database in &report.databases {
        for (verb, names) in [("changed", &database.changed), ("pending", &database.pending)] {
            names.iter().for_each(|name| text.line(format!("  {verb} {name}")));
        }
        if let Some(error) = &database.error {
            text.marked(Mark::Bad, "failed", format!("{}: {error}", database.database));
        }
        if let Some(remedy) = &database.remedy {
            text.help(remedy);
        }
    }
    text
}
