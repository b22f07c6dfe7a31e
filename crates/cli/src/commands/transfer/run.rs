//! `transfer run`: one tenant or many.

use std::{collections::HashMap, fs, path::PathBuf, sync::Arc};

use serde::Deserialize;
use tenantry::{
    Tenantry,
    operations::{self, TransferReport, TransfersReport},
    transfer::{Plan, Progress},
};
use uuid::Uuid;

use super::{
    super::migrate_tenant_data::add_report,
    plan::add_plan,
    request::{Chosen, Manner, Tables, Where, Who},
};
use crate::{
    Application, Failure, Outcome, answer,
    interrupt::Signals,
    progress::Bars,
    text::{Cell, Mark, Text},
    with_tenantry,
};

const COMMAND: &str = "transfer";

/// Moves tenants: copies their rows, compares every one of them, and only then routes the tenants there
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  {program} transfer run acme --to postgresql://db2:5432/acme --kind dedicated --prepare\n  \
                  {program} transfer run acme --to sqlite:/srv/data/acme.db --plan acme.plan.json\n  \
                  {program} transfer run --all-from single --to default --at-a-time 4\n\n\
                  Run again, it goes on where it was interrupted; a tenant that is there already is left alone. Of several\n\
                  tenants, one that fails does not keep the others from being moved.\n\
                  The logins of a PostgreSQL --to are read from DATA_SOURCE_ANON_KEY and DATA_SOURCE_SERVICE_KEY, also where\n\
                  other tenants live there already, whose logins are sealed for them; those of the default data source are\n\
                  known.\n\n\
                  Interrupted (Ctrl-C, SIGTERM), it takes back what it has begun and exits with 1; a second signal ends it at\n\
                  once, with 128 and the signal's number.\n\n\
                  Exit status: 0 every tenant was moved and every row agrees, 1 one was refused or failed, 2 could not run."
)]
pub(super) struct Args {
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    to: Where,
    #[command(flatten)]
    tables: Tables,
    #[command(flatten)]
    manner: Manner,
    /// Only where everything still is as it was when `transfer plan --json` wrote this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all_from", "tenants"])]
    plan: Option<PathBuf>,
    /// How many tenants are moved at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    at_a_time: u16,
}

/// As much of the answer of `transfer plan --json` as is needed to hold a transfer to it.
#[derive(Deserialize)]
struct Written {
    plan: Option<Plan>,
}

pub(super) async fn run<A: Application>(args: Args, json: bool) -> Result<Outcome, Failure> {
    let plan = args.plan.as_ref().map(read).transpose()?;
    with_tenantry::<A, _, _>(async |tenantry| {
        let (target, actor, bars) = (args.to.target(tenantry)?, A::actor(COMMAND), Bars::new());
        let options = args.manner.over(args.tables.options());
        let _signals = Signals::ask::<A>(&options.interrupt);
        match args.who.choose(tenantry).await? {
            Chosen::One(tenant) => {
                let bar = bars.tenant(&tenant.subdomain);
                let plan = plan.as_ref();
                let done = operations::run_transfer::<A::TenantData>(
                    tenantry, tenant.id, &target, plan, &options, &actor, &bar,
                );
                let report = done.await?;
                drop(bar);
                told::<A>(&report, json)
            }
            Chosen::Many(tenants) => {
                let ids: Vec<Uuid> = tenants.iter().map(|tenant| tenant.id).collect();
                let names: HashMap<Uuid, String> =
                    tenants.into_iter().map(|tenant| (tenant.id, tenant.subdomain)).collect();
                let watch = |tenant: Uuid| -> Arc<dyn Progress> {
                    Arc::new(bars.tenant(names.get(&tenant).map(String::as_str).unwrap_or_default()))
                };
                let at_a_time = args.at_a_time.into();
                let done = operations::run_transfers::<A::TenantData>(
                    tenantry, &ids, &target, at_a_time, &options, &actor, watch,
                );
                let mut report = done.await;
                // Also of one that was removed since.
                for tenant in &mut report.tenants {
                    if let Some(name) = names.get(&tenant.tenant) {
                        tenant.subdomain.clone_from(name);
                    }
                }
                answer::<A, _>(&report, json, many)?;
                Ok(Outcome::of(report.passed()))
            }
        }
    })
    .await
}

fn read(file: &PathBuf) -> Result<Plan, Failure> {
    let problem = |problem: String| Failure::Argument {
        argument: "--plan",
        problem: format!("{} {problem}", file.display()),
        help: Some("write it with `transfer plan … --json`".to_owned()),
    };
    let text = fs::read_to_string(file).map_err(|error| problem(format!("cannot be read: {error}")))?;
    let written: Written =
        serde_json::from_str(&text).map_err(|error| problem(format!("is no plan of one tenant: {error}")))?;
    written.plan.ok_or_else(|| problem("has no plan in it".to_owned()))
}

/// Answers with the report of one tenant.
pub(super) fn told<A: Application>(report: &TransferReport, json: bool) -> Result<Outcome, Failure> {
    answer::<A, _>(report, json, |report| {
        let mut text = Text::new();
        add(&mut text, report);
        text.line(report.to_string());
        text
    })?;
    Ok(Outcome::of(report.passed()))
}

/// The name of a tenant's transfer, if a message is to name one.
pub(super) async fn subdomain(tenantry: &Tenantry, tenant: Uuid) -> Result<String, Failure> {
    let tenant = tenantry.app_db().tenant(tenant).await.map_err(tenantry::Error::from)?;
    Ok(tenant.map(|tenant| tenant.subdomain).unwrap_or_default())
}

fn add(text: &mut Text, report: &TransferReport) {
    if let (Some(source), Some(target)) = (&report.source, &report.target) {
        let verdict = if report.passed() { report.outcome.replace('_', " ") } else { report.outcome.to_uppercase() };
        text.ending(format!("{}: {source} → {target}: ", report.subdomain), Mark::of(report.passed()), &verdict);
    }
    if let Some(plan) = &report.plan {
        add_plan(text, plan);
    }
    // What is purged was compared when it was moved.
    if let Some(found) = report.report.as_ref().filter(|_| !matches!(report.outcome, "purged" | "aborted")) {
        add_report(text, found);
    }
    add_why(text, report);
    if let Some(transfer) = report.transfer {
        text.line(format!("transfer {transfer}: {}", report.step.unwrap_or_default()));
    }
    if let Some(log) = report.write_log() {
        text.line(log);
    }
}

fn add_why(text: &mut Text, report: &TransferReport) {
    // What a plan refuses is listed with the plan.
    if let Some(error) = report.error.as_ref().filter(|_| report.plan.is_none()) {
        text.marked(Mark::Bad, "failed", error);
    }
    if let Some(remedy) = &report.remedy {
        text.help(remedy);
    }
}

fn many(report: &TransfersReport) -> Text {
    let rows: Vec<_> = report
        .tenants
        .iter()
        .map(|tenant| {
            let records = tenant.report.as_ref().map(tenantry::transfer::Report::records);
            let held = tenant.held_ms.map(|held| format!("{held} ms"));
            [
                Cell::from(tenant.subdomain.as_str()),
                Cell::marked(Mark::of(tenant.passed()), tenant.outcome.replace('_', " ")),
                Cell::optional(records),
                Cell::optional(held),
                Cell::optional(tenant.source.as_ref()),
                Cell::optional(tenant.target.as_ref()),
            ]
        })
        .collect();
    let mut text = Text::new();
    text.table(["tenant", "outcome", "records", "writes held", "from", "to"], &rows);
    for tenant in report.tenants.iter().filter(|tenant| !tenant.passed()) {
        text.line("");
        for refusal in tenant.plan.iter().flat_map(|plan| &plan.refusals) {
            text.marked(Mark::Bad, "refused", refusal.to_string());
        }
        add_why(&mut text, tenant);
        text.line(tenant.to_string());
    }
    text.line("");
    text.line(report.to_string());
    text
}
