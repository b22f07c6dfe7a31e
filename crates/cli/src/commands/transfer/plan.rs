//! `transfer plan`: what would be copied, and every reason not to.

use serde::Serialize;
use tenantry::{
    Tenantry,
    operations::{self, TransferPlan, TransferTarget},
    transfer::{Note, Options, Plan, Refusal},
};
use uuid::Uuid;

use super::request::{Chosen, Tables, Where, Who};
use crate::{
    Application, Failure, Outcome, answer,
    failure::with_causes,
    progress::{Bars, Bytes},
    text::{Mark, Text},
    with_tenantry,
};

/// Says what would be copied, how long it may take, and every reason why it would fail, before the first byte
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  {program} transfer plan acme --to sqlite:/srv/data/acme.db\n  \
                  {program} transfer plan acme --to default --json > acme.plan.json\n  \
                  {program} transfer plan --all-from postgresql://db1:5432/shared --to default\n\n\
                  Changes nothing, but for the schema with --prepare. The logins of a PostgreSQL --to are read from\n\
                  DATA_SOURCE_ANON_KEY and DATA_SOURCE_SERVICE_KEY, also where other tenants live there already, whose logins\n\
                  are sealed for them; those of the default data source are known.\n\n\
                  Exit status: 0 nothing stands against it, 1 one would be refused, 2 could not run.")]
pub(super) struct Args {
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    to: Where,
    #[command(flatten)]
    tables: Tables,
}

/// What would become of many tenants.
#[derive(Debug, Serialize)]
struct Plans {
    tenants: Vec<Planned>,
}

/// What would become of one of them.
#[derive(Debug, Serialize)]
struct Planned {
    tenant: Uuid,
    subdomain: String,
    plan: Option<TransferPlan>,
    /// Why none could be made.
    error: Option<String>,
}

pub(super) async fn run<A: Application>(args: Args, json: bool) -> Result<Outcome, Failure> {
    with_tenantry::<A, _, _>(async |tenantry| {
        let (target, options, bars) = (args.to.target(tenantry)?, args.tables.options(), Bars::new());
        match args.who.choose(tenantry).await? {
            Chosen::One(tenant) => {
                let planned = plan::<A>(tenantry, &tenant.subdomain, tenant.id, &target, &options, &bars).await?;
                answer::<A, _>(&planned, json, |planned| {
                    let mut text = Text::new();
                    add_planned(&mut text, planned);
                    text
                })?;
                Ok(Outcome::of(planned.passed()))
            }
            Chosen::Many(tenants) => {
                let mut plans = Plans { tenants: Vec::new() };
                for tenant in tenants {
                    let planned = plan::<A>(tenantry, &tenant.subdomain, tenant.id, &target, &options, &bars).await;
                    let (plan, error) = match planned {
                        Ok(plan) => (Some(plan), None),
                        Err(error) => (None, Some(with_causes(&error))),
                    };
                    plans.tenants.push(Planned { tenant: tenant.id, subdomain: tenant.subdomain, plan, error });
                }
                answer::<A, _>(&plans, json, text)?;
                Ok(Outcome::of(plans.tenants.iter().all(Planned::accepted)))
            }
        }
    })
    .await
}

async fn plan<A: Application>(
    tenantry: &Tenantry,
    subdomain: &str,
    tenant: Uuid,
    target: &TransferTarget,
    options: &Options,
    bars: &Bars,
) -> Result<TransferPlan, tenantry::Error> {
    let bar = bars.tenant(subdomain);
    operations::plan_transfer::<A::TenantData>(tenantry, tenant, target, options, &bar).await
}

impl Planned {
    fn accepted(&self) -> bool {
        self.error.is_none() && self.plan.as_ref().is_none_or(TransferPlan::passed)
    }
}

fn text(plans: &Plans) -> Text {
    let mut text = Text::new();
    for tenant in &plans.tenants {
        if let Some(planned) = &tenant.plan {
            add_planned(&mut text, planned);
        }
        if let Some(error) = &tenant.error {
            text.ending(format!("{}: ", tenant.subdomain), Mark::Bad, "FAILED");
            text.line(error);
        }
        text.line("");
    }
    let refused = plans.tenants.iter().filter(|tenant| !tenant.accepted()).count();
    let records = plans.tenants.iter().filter_map(|tenant| tenant.plan.as_ref()?.plan.as_ref()).map(Plan::records);
    text.line(format!("{} tenants, {} records, {refused} refused", plans.tenants.len(), records.sum::<u64>()));
    text
}

fn add_planned(text: &mut Text, planned: &TransferPlan) {
    let head = format!("{} → {}: ", planned.subdomain, planned.target);
    let word = match &planned.plan {
        _ if !planned.passed() => "REFUSED",
        Some(_) => "would be moved",
        None => "is there already",
    };
    text.ending(head, Mark::of(planned.passed()), word);
    match &planned.plan {
        Some(plan) => add_plan(text, plan),
        None => add_remarks(text, &planned.notes, &planned.refusals),
    }
}

/// The tables in their order, and what stands for and against it.
pub(super) fn add_plan(text: &mut Text, plan: &Plan) {
    let references = plan
        .reference_tables
        .iter()
        .map(|table| [format!("{} (whole)", table.name), table.rows.to_string(), "-".to_owned()]);
    let tables = plan.tables.iter().map(|table| {
        let name = if table.log { format!("{} (log)", table.name) } else { table.name.clone() };
        [name, table.rows.to_string(), Bytes(table.bytes).to_string()]
    });
    text.table(["table", "rows", "size"], &references.chain(tables).collect::<Vec<_>>());
    let tables = plan.tables.iter().filter(|table| !table.log).count();
    let seconds = plan.estimate.milliseconds.div_ceil(1000);
    text.line(format!(
        "{} records in {tables} tables, {}, about {seconds} s",
        plan.records(),
        Bytes(plan.estimate.bytes)
    ));
    add_remarks(text, &plan.notes, &plan.refusals);
}

fn add_remarks(text: &mut Text, notes: &[Note], refusals: &[Refusal]) {
    for note in notes {
        text.marked(Mark::Warning, "note", note.to_string());
    }
    for refusal in refusals {
        text.marked(Mark::Bad, "refused", refusal.to_string());
    }
}
