//! What has been begun: `transfer status`, `list`, `resume`, `abort`, `rollback` and `purge`.

use std::time::Duration;

use serde::Serialize;
use tenantry::{
    Tenantry,
    operations::{self, TransferAction, TransferStatus},
    transfer::Options,
};
use uuid::Uuid;

use super::{
    super::{migrate_tenant_data::add_report, tenants::Names},
    request::{Manner, Tables},
    run::{subdomain, told},
};
use crate::{
    Application, Failure, Outcome, answer,
    interrupt::Signals,
    progress::Bars,
    text::{Cell, Mark, Text},
    with_tenantry,
};

const COMMAND: &str = "transfer";

/// Shows how far a transfer is, who runs it, and what it found
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  {program} transfer status acme\n\n\
                  Exit status: 0 it has ended or somebody runs it, 1 it is under way and nobody runs it, 2 could not run.")]
pub(super) struct StatusArgs {
    /// The transfer by its id, or a tenant by id or subdomain: its transfer under way, or its latest one
    #[arg(value_name = "TRANSFER|TENANT")]
    transfer: String,
}

/// Lists transfers, the newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  {program} transfer list --tenant acme\n\n\
                  Exit status: 0 they are shown, 2 could not run.")]
pub(super) struct ListArgs {
    /// Those of this tenant, by id or subdomain
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// The most that are shown
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    limit: u32,
}

/// Goes on with a transfer that was interrupted, forward or, where it was given up, back
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  {program} transfer resume acme\n\n\
                  Where its process was killed, it is believed to run for up to 20 seconds more.\n\n\
                  Exit status: 0 it has come to its end, 1 it failed, 2 could not run.")]
pub(super) struct ResumeArgs {
    /// The transfer by its id, or a tenant by id or subdomain: its transfer under way
    #[arg(value_name = "TRANSFER|TENANT")]
    transfer: String,
    #[command(flatten)]
    manner: Manner,
}

/// Takes back what a transfer has done that has not moved its tenant yet: the copy is deleted, the fences are lowered
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  {program} transfer abort acme\n\n\
                  A transfer that has moved its tenant is not aborted but rolled back.\n\n\
                  Exit status: 0 everything is as it was, 1 it failed, 2 could not run.")]
pub(super) struct AbortArgs {
    /// The transfer by its id, or a tenant by id or subdomain: its transfer under way
    #[arg(value_name = "TRANSFER|TENANT")]
    transfer: String,
    #[command(flatten)]
    manner: Manner,
}

/// Brings a tenant back to where a transfer took it from, with everything that was written since
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  {program} transfer rollback acme\n\n\
                  It is a transfer in the other direction onto the rows that were kept, verified like any other.\n\
                  Reference tables that came along go back along; --reference-table names more of them.\n\n\
                  Exit status: 0 the tenant is back and every row agrees, 1 it failed, 2 could not run.")]
pub(super) struct RollbackArgs {
    /// The transfer by its id, or a tenant by id or subdomain: its latest finished one
    #[arg(value_name = "TRANSFER|TENANT")]
    transfer: String,
    #[command(flatten)]
    tables: Tables,
    #[command(flatten)]
    manner: Manner,
}

/// Deletes the rows that a transfer left behind, once the tenant is known to have them where it is; no rollback after that
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  {program} transfer purge acme\n\n\
                  Exit status: 0 they are deleted, 1 it was refused or failed, 2 could not run.")]
pub(super) struct PurgeArgs {
    /// The transfer by its id, or a tenant by id or subdomain: its latest finished one
    #[arg(value_name = "TRANSFER|TENANT")]
    transfer: String,
    /// How long to wait for open writers of the rows that were kept
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    deadline: u64,
}

#[derive(Debug, Serialize)]
struct Transfers {
    transfers: Vec<TransferStatus>,
}

pub(super) async fn status<A: Application>(args: StatusArgs, json: bool) -> Result<Outcome, Failure> {
    with_tenantry::<A, _, _>(async |tenantry| {
        let status = found(tenantry, &args.transfer, "has no transfer", |_| true).await?;
        let subdomain = subdomain(tenantry, status.tenant).await?;
        answer::<A, _>(&status, json, |status| shown(&subdomain, status))?;
        Ok(Outcome::of(!is_interrupted(&status)))
    })
    .await
}

pub(super) async fn list<A: Application>(args: ListArgs, json: bool) -> Result<Outcome, Failure> {
    with_tenantry::<A, _, _>(async |tenantry| {
        let tenant = match &args.tenant {
            Some(name) => Some(operations::find_tenant(tenantry, name).await?.id),
            None => None,
        };
        let transfers = operations::list_transfers(tenantry, tenant, args.limit.into()).await?;
        let names = Names::read(tenantry).await?;
        answer::<A, _>(&Transfers { transfers }, json, |report| listed(&names, &report.transfers))?;
        Ok(Outcome::Done)
    })
    .await
}

pub(super) async fn resume<A: Application>(args: ResumeArgs, json: bool) -> Result<Outcome, Failure> {
    let options = args.manner.over(Options::default());
    act::<A>(&args.transfer, TransferAction::Resume, options, json).await
}

pub(super) async fn abort<A: Application>(args: AbortArgs, json: bool) -> Result<Outcome, Failure> {
    let options = args.manner.over(Options::default());
    act::<A>(&args.transfer, TransferAction::Abort, options, json).await
}

pub(super) async fn rollback<A: Application>(args: RollbackArgs, json: bool) -> Result<Outcome, Failure> {
    let options = args.manner.over(args.tables.options());
    act::<A>(&args.transfer, TransferAction::RollBack, options, json).await
}

pub(super) async fn purge<A: Application>(args: PurgeArgs, json: bool) -> Result<Outcome, Failure> {
    let options = Options { fence_deadline: Duration::from_secs(args.deadline), ..Options::default() };
    act::<A>(&args.transfer, TransferAction::Purge, options, json).await
}

async fn act<A: Application>(
    name: &str,
    action: TransferAction,
    options: Options,
    json: bool,
) -> Result<Outcome, Failure> {
    with_tenantry::<A, _, _>(async |tenantry| {
        let status = match action {
            TransferAction::Resume | TransferAction::Abort => {
                found(tenantry, name, "has no transfer under way", |transfer| transfer.under_way).await?
            }
            TransferAction::RollBack | TransferAction::Purge => {
                let kept = |transfer: &TransferStatus| transfer.step == "finished";
                found(tenantry, name, "has no finished transfer whose rows were kept", kept).await?
            }
        };
        let bar = Bars::new().tenant(&subdomain(tenantry, status.tenant).await?);
        let actor = A::actor(COMMAND);
        let _signals = Signals::ask::<A>(&options.interrupt);
        let report = operations::continue_transfer(tenantry, status.id, action, &options, &actor, &bar).await?;
        drop(bar);
        told::<A>(&report, json)
    })
    .await
}

/// The transfer of this id; or of the tenant of this name the one under way if it fits, else the latest one that does.
async fn found(
    tenantry: &Tenantry,
    name: &str,
    none: &str,
    fits: impl Fn(&TransferStatus) -> bool,
) -> Result<TransferStatus, Failure> {
    if let Ok(id) = Uuid::parse_str(name)
        && tenantry.app_db().transfer(id).await.map_err(tenantry::Error::from)?.is_some()
    {
        return Ok(operations::transfer_status(tenantry, id).await?);
    }
    let tenant = operations::find_tenant(tenantry, name).await.map_err(|error| match error {
        tenantry::Error::UnknownTenant(_) => Failure::Argument {
            argument: "TRANSFER|TENANT",
            problem: format!("no transfer has the id {name:?}, and no tenant the id or subdomain"),
            help: Some("`transfer list` shows the transfers".to_owned()),
        },
        error => error.into(),
    })?;
    let mut transfers = operations::list_transfers(tenantry, Some(tenant.id), u64::MAX).await?;
    transfers.retain(fits);
    let at = transfers.iter().position(|transfer| transfer.under_way).unwrap_or_default();
    if at < transfers.len() {
        return Ok(transfers.swap_remove(at));
    }
    Err(Failure::Argument {
        argument: "TRANSFER|TENANT",
        problem: format!("tenant {} {none}", tenant.subdomain),
        help: Some(format!("`transfer list --tenant {}` shows what it has", tenant.subdomain)),
    })
}

fn is_interrupted(status: &TransferStatus) -> bool {
    status.under_way && status.run_until.is_none()
}

/// What it is to an operator: how far, and whether there is something to do.
fn state(status: &TransferStatus) -> Cell {
    if is_interrupted(status) {
        return Cell::marked(Mark::Bad, format!("{}, INTERRUPTED", status.step));
    }
    match status.step {
        "aborted" => Cell::marked(Mark::Warning, status.step),
        step if status.under_way => Cell::from(format!("{step}, running")),
        step => Cell::marked(Mark::Good, step),
    }
}

fn place(url: Option<&String>) -> &str {
    url.map_or("application database", String::as_str)
}

fn listed(names: &Names, transfers: &[TransferStatus]) -> Text {
    let rows: Vec<_> = transfers
        .iter()
        .map(|status| {
            [
                Cell::from(status.id.to_string()),
                Cell::from(names.of(status.tenant)),
                state(status),
                Cell::from(place(status.source.as_ref())),
                Cell::from(place(status.target.as_ref())),
                Cell::from(status.records.to_string()),
                Cell::optional(status.held_ms.map(|held| format!("{held} ms"))),
                Cell::from(status.created_at.format("%Y-%m-%d %H:%M:%S").to_string()),
            ]
        })
        .collect();
    let mut text = Text::new();
    text.table(["transfer", "tenant", "step", "from", "to", "records", "writes held", "begun (UTC)"], &rows);
    let interrupted = transfers.iter().filter(|status| is_interrupted(status)).count();
    let kept = transfers.iter().filter(|status| status.step == "finished").count();
    text.line(format!("{} transfers, {interrupted} interrupted, {kept} with kept rows", transfers.len()));
    text
}

fn shown(subdomain: &str, status: &TransferStatus) -> Text {
    let mut text = Text::new();
    let row = |name: &str, value: Cell| [Cell::from(name), value];
    let time = |time: chrono::DateTime<chrono::Utc>| Cell::from(time.format("%Y-%m-%d %H:%M:%S UTC").to_string());
    let mut rows = vec![
        row("transfer", Cell::from(status.id.to_string())),
        row("tenant", Cell::from(subdomain)),
        row("step", state(status)),
        row("from", Cell::from(place(status.source.as_ref()))),
        row("to", Cell::from(place(status.target.as_ref()))),
        row("planned", Cell::from(format!("{} records in {} tables", status.records, status.tables))),
        row("begun", time(status.created_at)),
        row("changed", time(status.updated_at)),
    ];
    if !status.reference_tables.is_empty() {
        rows.push(row("reference tables", Cell::from(status.reference_tables.join(", "))));
    }
    if let Some(undoes) = status.undoes {
        rows.push(row("takes back", Cell::from(undoes.to_string())));
    }
    if let Some(until) = status.run_until {
        rows.push(row("believed to run until", time(until)));
    }
    if let Some(since) = status.held_since {
        rows.push(row("writes held since", time(since)));
    }
    if let Some(held) = status.held_ms {
        rows.push(row("writes held for", Cell::from(format!("{held} ms"))));
    }
    text.table(["what", "value"], &rows);
    if let Some(report) = &status.report {
        add_report(&mut text, report);
    }
    if let Some(problem) = &status.problem {
        text.marked(Mark::Warning, "problem", problem);
    }
    let help = match status.step {
        "placed" => "`transfer resume` finishes it",
        // A purge that was begun may have deleted some.
        "finished" if status.problem.is_some() => {
            "`transfer purge` deletes what is left of the rows that were kept; `transfer rollback` brings the tenant back \
             while they are there"
        }
        "finished" => {
            "the rows stay where they were until `transfer purge`; `transfer rollback` brings the tenant back"
        }
        _ => "`transfer resume` goes on with it, `transfer abort` takes it back",
    };
    if is_interrupted(status) || status.step == "finished" {
        text.help(help);
    }
    text
}
