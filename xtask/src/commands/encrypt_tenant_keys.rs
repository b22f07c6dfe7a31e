//! `cargo xtask encrypt-tenant-keys`: seals logins that lie in plain text and rewraps old forms.

use tenantry::operations::{self, SealAction, SealMode, SealReport};

use super::Outcome;
use crate::{failure::Failure, operator, table};

/// Seals the tenants' plain logins and seals anew what is in an old form or under a retired key; a dry run unless --apply
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask encrypt-tenant-keys\n  cargo xtask encrypt-tenant-keys --apply\n\n\
                  The dry run does everything but write. Applied twice, it changes nothing the second time. No login is shown.\n\n\
                  Exit status: 0 every login is or could be sealed with the active key, 1 one cannot be, 2 could not run.")]
pub(crate) struct Args {
    /// Write what was sealed
    #[arg(long)]
    apply: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(Args { apply, json }: Args) -> Result<Outcome, Failure> {
    let mode = if apply { SealMode::Apply } else { SealMode::DryRun };
    operator::with_tenantry(async |tenantry| {
        let report = operations::seal_keys(tenantry, mode, &operator::actor("encrypt-tenant-keys")).await?;
        operator::answer(&report, json, text)?;
        Ok(Outcome::of(report.passed()))
    })
    .await
}

fn text(report: &SealReport) -> String {
    let rows: Vec<_> = report
        .keys
        .iter()
        .map(|key| {
            let action = match (key.action, key.error.is_some()) {
                (SealAction::Refuse, _) | (_, true) => "REFUSED",
                (SealAction::Keep, _) => "keep",
                (SealAction::Seal, _) => "seal",
                (SealAction::Rewrap, _) => "rewrap",
            };
            [key.subdomain.clone(), key.column.to_owned(), key.before.clone(), action.to_owned()]
        })
        .collect();
    let mut text = table::render(["tenant", "column", "holds", "action"], &rows);
    for (key, error) in report.keys.iter().filter_map(|key| Some((key, key.error.as_ref()?))) {
        text += &format!("\n{} {}: {error}", key.subdomain, key.column);
    }
    let (all, changes) = (report.keys.len(), report.changes());
    text + &match (report.applied, changes) {
        (_, 0) => format!("\n{all} logins, nothing to change"),
        (true, _) => format!("\n{all} logins, {changes} changed"),
        (false, _) => format!("\n{all} logins, {changes} would be changed; run it again with --apply"),
    }
}
