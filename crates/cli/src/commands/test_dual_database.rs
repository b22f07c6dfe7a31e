//! `test-dual-database`: the whole checklist.

use tenantry::operations::{self, Checklist, Outcome as ItemOutcome};

use super::Format;
use crate::{
    Application, Failure, Outcome, answer,
    text::{Cell, Mark, Text},
    with_tenantry,
};

/// Goes through the checklist: settings, both kinds of database, keys, schema, isolation, routing, mapping
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  {program} test-dual-database\n\n\
                  Everything is measured on live connections. What could not be measured, because something before it failed,\n\
                  is skipped and does not pass.\n\n\
                  Exit status: 0 everything holds, 1 something does not or could not be measured, 2 could not run.")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) format: Format,
}

pub(crate) async fn run<A: Application>(Args { format }: Args) -> Result<Outcome, Failure> {
    with_tenantry::<A, _, _>(async |tenantry| {
        let list = operations::checklist::<A::TenantData>(tenantry).await;
        answer::<A, _>(&list, format.json, text)?;
        Ok(Outcome::of(list.passed()))
    })
    .await
}

fn text(list: &Checklist) -> Text {
    let rows: Vec<_> = list
        .items
        .iter()
        .map(|item| {
            let outcome = match item.outcome {
                ItemOutcome::Failed => Cell::marked(Mark::Bad, "FAILED"),
                ItemOutcome::Passed => Cell::marked(Mark::Good, item.outcome.to_string()),
                ItemOutcome::Skipped => Cell::marked(Mark::Warning, item.outcome.to_string()),
                ItemOutcome::Note => Cell::from(item.outcome.to_string()),
            };
            [
                Cell::from(item.section.to_string()),
                Cell::from(item.name.as_str()),
                outcome,
                Cell::from(item.detail.as_str()),
            ]
        })
        .collect();
    let mut text = Text::new();
    text.table(["section", "item", "result", "found"], &rows);
    for item in list.items.iter().filter(|item| item.outcome == ItemOutcome::Failed) {
        let remedy = item.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        text.marked(Mark::Bad, "failed", format!("{}: {}: {}{remedy}", item.section, item.name, item.detail));
    }
    let count = |outcome| list.count(outcome);
    let (passed, failed, skipped) =
        (count(ItemOutcome::Passed), count(ItemOutcome::Failed), count(ItemOutcome::Skipped));
    text.line(format!("{passed} hold, {failed} do not, {skipped} not measured"));
    text
}
