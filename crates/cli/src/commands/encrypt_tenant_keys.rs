//! `encrypt-tenant-keys`: seals logins that lie in plain text and rewraps old forms.

use tenantry::operations::{self, SealAction, SealMode, SealReport, SealedKey};

use super::Format;
use crate::{
    Application, Failure, Outcome, answer,
    text::{Cell, Mark, Text},
    with_tenantry,
};

/// Seals the tenants' plain logins and seals anew what is in an old form or under a retired key, also of recorded transfers;
/// a dry run unless --apply
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  {program} encrypt-tenant-keys\n  {program} encrypt-tenant-keys --apply\n\n\
                  The dry run does everything but write. Applied twice, it changes nothing the second time. No login is shown.\n\n\
                  Exit status: 0 every login is or could be sealed with the active key, 1 one cannot be, 2 could not run.")]
pub(crate) struct Args {
    /// Write what was sealed
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    pub(super) format: Format,
}

pub(crate) async fn run<A: Application>(Args { apply, format }: Args) -> Result<Outcome, Failure> {
    let mode = if apply { SealMode::Apply } else { SealMode::DryRun };
    with_tenantry::<A, _, _>(async |tenantry| {
        let report = operations::seal_keys(tenantry, mode, &A::actor("encrypt-tenant-keys")).await?;
        answer::<A, _>(&report, format.json, text)?;
        Ok(Outcome::of(report.passed()))
    })
    .await
}

/// The column, and the transfer whose record it is in.
fn held_in(key: &SealedKey) -> String {
    match key.transfer {
        None => key.column.to_owned(),
        Some(transfer) => format!("{} of transfer {transfer}", key.column),
    }
}

fn text(report: &SealReport) -> Text {
    let rows: Vec<_> = report
        .keys
        .iter()
        .map(|key| {
            let action = match (key.action, key.error.is_some()) {
                (SealAction::Refuse, _) | (_, true) => Cell::marked(Mark::Bad, "REFUSED"),
                (SealAction::Keep, _) => Cell::from("keep"),
                (SealAction::Seal, _) => Cell::marked(Mark::Warning, "seal"),
                (SealAction::Rewrap, _) => Cell::marked(Mark::Warning, "rewrap"),
            };
            [Cell::from(key.subdomain.as_str()), Cell::from(held_in(key)), Cell::from(key.before.as_str()), action]
        })
        .collect();
    let mut text = Text::new();
    text.table(["tenant", "column", "holds", "action"], &rows);
    for (key, error) in report.keys.iter().filter_map(|key| Some((key, key.error.as_ref()?))) {
        text.line(format!("{} {}: {error}", key.subdomain, held_in(key)));
    }
    let (all, changes) = (report.keys.len(), report.changes());
    text.line(match (report.applied, changes) {
        (_, 0) => format!("{all} logins, nothing to change"),
        (true, _) => format!("{all} logins, {changes} changed"),
        (false, _) => format!("{all} logins, {changes} would be changed; run it again with --apply"),
    });
    text
}
