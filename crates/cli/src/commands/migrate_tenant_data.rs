//! `migrate-tenant-data`: takes tenants out of the single database, each into its data source.

use clap::ArgGroup;
use tenantry::{
    Tenantry,
    app_db::entities::tenants,
    operations::{self, SplitAction, SplitReport, TenantSplit, TransferTarget},
    transfer::{Plan, Report},
};

use super::{
    Format,
    data_source::{self, Kind},
};
use crate::{
    Application, Failure, Outcome, answer,
    progress::TransferBar,
    text::{Cell, Mark, Text},
    with_tenantry,
};

const COMMAND: &str = "migrate-tenant-data";

/// Splits a single database: copies tenants' rows to their data sources, compares every row, and only then routes them there
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  {program} migrate-tenant-data --tenant acme --dry-run\n  \
                  {program} migrate-tenant-data --all\n  {program} migrate-tenant-data --all --verify\n\n\
                  Run again, it continues where it was interrupted; a tenant that is placed already is only compared.\n\
                  The logins of a PostgreSQL --data-source are read from DATA_SOURCE_ANON_KEY and DATA_SOURCE_SERVICE_KEY.\n\n\
                  Exit status: 0 every tenant is done and every row agrees, 1 one was refused, failed or differs,\n\
                  2 could not run.",
    group = ArgGroup::new("who").required(true).args(["tenant", "all"]),
    group = ArgGroup::new("what").args(["dry_run", "verify", "rollback"])
)]
pub(crate) struct Args {
    /// This tenant, by id or subdomain; may be given several times
    #[arg(long, value_name = "TENANT")]
    tenant: Vec<String>,
    /// Every tenant; with --verify and --rollback every one that has a data source
    #[arg(long)]
    all: bool,
    /// Say what would be copied and every reason not to; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Compare every row on both sides; change nothing
    #[arg(long)]
    verify: bool,
    /// Back to the single database, with what was written since
    #[arg(long)]
    rollback: bool,
    /// Where the rows go, instead of the default data source
    #[arg(long, value_name = "URL")]
    data_source: Option<String>,
    /// Whom the data source serves, where it is not known yet
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Bring the data source's schema up to date first
    #[arg(long)]
    prepare: bool,
    #[command(flatten)]
    pub(super) format: Format,
}

pub(crate) async fn run<A: Application>(args: Args) -> Result<Outcome, Failure> {
    let action = match (args.dry_run, args.verify, args.rollback) {
        (true, ..) => SplitAction::DryRun,
        (_, true, _) => SplitAction::Verify,
        (.., true) => SplitAction::Rollback,
        _ => SplitAction::Run,
    };
    let target = TransferTarget {
        data_source: args.data_source.as_deref().map(|url| data_source::read("--data-source", url)).transpose()?,
        kind: args.kind.map(Into::into),
        tenant_id: None,
        prepare: args.prepare,
    };
    with_tenantry::<A, _, _>(async |tenantry| {
        let tenants = chosen(tenantry, &args.tenant, action).await?;
        let actor = A::actor(COMMAND);
        let mut report = SplitReport { action, tenants: Vec::new() };
        for tenant in tenants {
            let bar = TransferBar::new(&tenant.subdomain);
            let id = [tenant.id];
            let one = operations::split_tenants::<A::TenantData>(tenantry, &id, &target, action, &actor, &bar);
            // Also of one that was removed since.
            report.tenants.extend(
                one.await.tenants.into_iter().map(|one| TenantSplit { subdomain: tenant.subdomain.clone(), ..one }),
            );
        }
        answer::<A, _>(&report, args.format.json, text)?;
        Ok(Outcome::of(report.passed()))
    })
    .await
}

/// The tenants by name; without names all, of whom one without a data source has nothing to compare or to take back.
async fn chosen(tenantry: &Tenantry, names: &[String], action: SplitAction) -> Result<Vec<tenants::Model>, Failure> {
    let mut tenants = Vec::new();
    for name in names {
        tenants.push(operations::find_tenant(tenantry, name).await?);
    }
    if names.is_empty() {
        tenants = tenantry.app_db().tenants().await.map_err(tenantry::Error::from)?;
        if matches!(action, SplitAction::Verify | SplitAction::Rollback) {
            tenants.retain(|tenant| tenant.data_source_url.is_some());
        }
    }
    Ok(tenants)
}

fn text(report: &SplitReport) -> Text {
    let mut text = Text::new();
    for tenant in &report.tenants {
        add_tenant(&mut text, tenant);
        text.line("");
    }
    let (all, failed) = (report.tenants.len(), report.tenants.iter().filter(|tenant| !tenant.passed()).count());
    text.line(format!("{all} tenants, {failed} not done"));
    text
}

fn add_tenant(text: &mut Text, tenant: &TenantSplit) {
    let verdict = match tenant.outcome {
        "refused" | "failed" => tenant.outcome.to_uppercase(),
        outcome if !tenant.passed() => format!("{}, WRONG", outcome.replace('_', " ")),
        outcome => outcome.replace('_', " "),
    };
    let target = tenant.target.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    text.ending(format!("{} → {target}: ", tenant.subdomain), Mark::of(tenant.passed()), &verdict);
    if let Some(plan) = &tenant.plan {
        add_plan(text, plan);
    }
    if let Some(report) = &tenant.report {
        add_report(text, report);
    }
    if let Some(purged) = tenant.purged {
        text.line(format!("{purged} rows were deleted from the data source"));
    }
    // What a plan refuses is listed with the plan.
    if let Some(error) = tenant.error.as_ref().filter(|_| tenant.plan.is_none()) {
        text.line(error);
    }
    if let Some(remedy) = &tenant.remedy {
        text.help(remedy);
    }
}

pub(super) fn add_plan(text: &mut Text, plan: &Plan) {
    let rows: Vec<_> = plan
        .tables
        .iter()
        .map(|table| [table.name.clone(), table.rows.to_string(), table.already_there.to_string()])
        .collect();
    text.table(["table", "source", "already there"], &rows);
    let tables = plan.tables.iter().filter(|table| !table.log).count();
    text.line(format!("{} records in {tables} tables", plan.records()));
    for refusal in &plan.refusals {
        text.marked(Mark::Bad, "refused", refusal.to_string());
    }
}

pub(super) fn add_report(text: &mut Text, report: &Report) {
    let rows: Vec<_> = report
        .tables
        .iter()
        .map(|table| {
            // Where nothing was copied just before, what both sides hold alike was there already.
            let there = match table.copied + table.already_there {
                0 => table.target.saturating_sub(table.extra + table.different),
                _ => table.already_there,
            };
            let counts = [table.source, table.copied, there].map(|count| Cell::from(count.to_string()));
            let wrong = [table.missing, table.extra, table.different].map(|count| match count {
                0 => Cell::from("0"),
                count => Cell::marked(Mark::Bad, count.to_string()),
            });
            let ([source, copied, already_there], [missing, extra, different]) = (counts, wrong);
            let name = if table.log { format!("{} (log)", table.table) } else { table.table.clone() };
            [Cell::from(name), source, copied, already_there, missing, extra, different]
        })
        .collect();
    let heading = ["table", "source", "copied", "already there", "missing", "extra", "different"];
    text.table(heading, &rows);
    for table in report.tables.iter().filter(|table| !table.agrees()) {
        text.line(table.to_string());
    }
    for reason in &report.not_compared {
        text.line(format!("not compared: {reason}"));
    }
    let tables = report.tables.iter().filter(|table| !table.log);
    text.line(format!("{} records in {} tables", report.records(), tables.count()));
}

#[cfg(test)]
mod tests {
    use tenantry::transfer::{
        TableReport,
        verify::{Difference, Found},
    };

    use super::*;

    /// Catches a verification that counts what is wrong and does not say which row it is.
    #[test]
    fn a_report_names_the_table_the_key_and_the_columns_that_differ() {
        let table = |table: &str, different, samples| TableReport {
            table: table.to_owned(),
            log: false,
            compared: true,
            source: 9,
            target: 9,
            copied: 0,
            already_there: 9,
            missing: 0,
            extra: 0,
            different,
            samples,
            source_digest: String::new(),
            target_digest: String::new(),
        };
        let sample = Difference { key: "k-1".to_owned(), found: Found::Different(vec!["amount".to_owned()]) };
        let tables = vec![table("accounts", 0, Vec::new()), table("notes", 1, vec![sample])];
        let report = Report { source: "a".to_owned(), target: "b".to_owned(), tables, not_compared: Vec::new() };
        let mut text = Text::new();
        add_report(&mut text, &report);
        let text = text.to_string();
        assert!(text.contains("\nnotes: 0 missing, 0 extra, 1 different (k-1 differs in amount)"), "{text}");
        assert!(!text.contains("\naccounts:"), "{text}");
        assert!(text.ends_with("\n18 records in 2 tables"), "{text}");
    }
}
