//! `cargo xtask test-routing`: a row written through every tenant's route, and looked for in every database.

use tenantry::operations::{self, RoutingReport};

use super::{Outcome, tenants};
use crate::{failure::Failure, operator, table};

/// Writes a probe through every tenant's route, reads it back, and looks directly into every database for it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask test-routing\n  cargo xtask test-routing --tenant acme --json\n\n\
                  Safe in production: the probe has a table of its own, no business table is touched, and nothing is left.\n\
                  A tenant without a data source is shown as skipped.\n\n\
                  Exit status: 0 every probe was in the right database and in no other, 1 one was not, 2 could not run.")]
pub(crate) struct Args {
    /// Only this tenant, by id or subdomain; may be given several times
    #[arg(long, value_name = "TENANT")]
    tenant: Vec<String>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> Result<Outcome, Failure> {
    operator::with_tenantry(async |tenantry| {
        let names = tenants::Names::read(tenantry).await?;
        let chosen = tenants::chosen(tenantry, &args.tenant).await?;
        let report = operations::test_routing(tenantry, &chosen).await?;
        operator::answer(&report, args.json, |report| text(report, &names))?;
        Ok(Outcome::of(report.passed()))
    })
    .await
}

fn text(report: &RoutingReport, names: &tenants::Names) -> String {
    let rows: Vec<_> = report
        .probes
        .iter()
        .map(|probe| {
            let result = match (probe.skipped, probe.passed()) {
                (true, _) => "skipped",
                (false, true) => "ok",
                (false, false) => "WRONG",
            };
            let found: Vec<_> = probe.found_in.iter().map(ToString::to_string).collect();
            let found = match (found.as_slice(), &probe.data_source) {
                ([], _) => "-".to_owned(),
                ([only], Some(route)) if *only == route.to_string() => "only there".to_owned(),
                (several, _) => several.join("\n"),
            };
            [
                names.of(probe.tenant),
                operator::place(probe.data_source.as_ref()),
                operator::yes_no((!probe.skipped).then_some(probe.read_back)),
                found,
                operator::yes_no((!probe.skipped).then_some(probe.removed)),
                result.to_owned(),
            ]
        })
        .collect();
    let mut text = table::render(["tenant", "route", "read back", "found in", "removed", "result"], &rows);
    for (tenant, error) in report.probes.iter().filter_map(|probe| Some((probe.tenant, probe.error.as_ref()?))) {
        text += &format!("\n{}: {error}", names.of(tenant));
    }
    let wrong = report.probes.iter().filter(|probe| !probe.passed()).count();
    text + &format!(
        "\n{} tenants, {} databases looked into, {wrong} wrong",
        report.probes.len(),
        report.databases.len()
    )
}
