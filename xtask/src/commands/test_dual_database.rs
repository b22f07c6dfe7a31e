//! `cargo xtask test-dual-database`: the whole checklist.

use tenantry::{
    migrations::TenantDataMigrator,
    operations::{self, Checklist, Outcome as ItemOutcome},
};

use super::Outcome;
use crate::{failure::Failure, operator, table};

/// Goes through the checklist: settings, both kinds of database, keys, schema, isolation, routing, mapping
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask test-dual-database\n\n\
                  Everything is measured on live connections. What could not be measured, because something before it failed,\n\
                  is skipped and does not pass.\n\n\
                  Exit status: 0 everything holds, 1 something does not or could not be measured, 2 could not run.")]
pub(crate) struct Args {
    /// Print the checklist as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(Args { json }: Args) -> Result<Outcome, Failure> {
    operator::with_tenantry(async |tenantry| {
        let list = operations::checklist::<TenantDataMigrator>(tenantry).await;
        operator::answer(&list, json, text)?;
        Ok(Outcome::of(list.passed()))
    })
    .await
}

fn text(list: &Checklist) -> String {
    let rows: Vec<_> = list
        .items
        .iter()
        .map(|item| {
            let outcome = match item.outcome {
                ItemOutcome::Failed => "FAILED".to_owned(),
                other => other.to_string(),
            };
            [item.section.to_string(), item.name.clone(), outcome, item.detail.clone()]
        })
        .collect();
    let mut text = table::render(["section", "item", "result", "found"], &rows);
    for item in list.items.iter().filter(|item| item.outcome == ItemOutcome::Failed) {
        text += &format!("\nfailed: {}: {}: {}", item.section, item.name, item.detail);
        if let Some(remedy) = &item.remedy {
            text += &format!("; {remedy}");
        }
    }
    let count = |outcome| list.count(outcome);
    let (passed, failed, skipped) =
        (count(ItemOutcome::Passed), count(ItemOutcome::Failed), count(ItemOutcome::Skipped));
    text + &format!("\n{passed} hold, {failed} do not, {skipped} not measured")
}
