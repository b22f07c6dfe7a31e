//! `test-routing`: a row written through every tenant's route, and looked for in every database.

use tenantry::operations::{self, RoutingReport};

use super::{Format, tenants};
use crate::{
    Application, Failure, Outcome, answer,
    text::{Cell, Mark, Text},
    with_tenantry,
};

/// Writes a probe through every tenant's route, reads it back, and looks directly into every database for it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  {program} test-routing\n  {program} test-routing --tenant acme --json\n\n\
                  Safe in production: the probe has a table of its own, no business table is touched, and nothing is left.\n\
                  A tenant without a data source is shown as skipped.\n\n\
                  Exit status: 0 every probe was in the right database and in no other, 1 one was not, 2 could not run.")]
pub(crate) struct Args {
    /// Only this tenant, by id or subdomain; may be given several times
    #[arg(long, value_name = "TENANT")]
    tenant: Vec<String>,
    #[command(flatten)]
    pub(super) format: Format,
}

pub(crate) async fn run<A: Application>(args: Args) -> Result<Outcome, Failure> {
    with_tenantry::<A, _, _>(async |tenantry| {
        let names = tenants::Names::read(tenantry).await?;
        let chosen = tenants::chosen(tenantry, &args.tenant).await?;
        let report = operations::test_routing(tenantry, &chosen).await?;
        answer::<A, _>(&report, args.format.json, |report| text(report, &names))?;
        Ok(Outcome::of(report.passed()))
    })
    .await
}

fn text(report: &RoutingReport, names: &tenants::Names) -> Text {
    let rows: Vec<_> = report
        .probes
        .iter()
        .map(|probe| {
            let result = match (probe.skipped, probe.passed()) {
                (true, _) => Cell::from("skipped"),
                (false, true) => Cell::marked(Mark::Good, "ok"),
                (false, false) => Cell::marked(Mark::Bad, "WRONG"),
            };
            let found: Vec<_> = probe.found_in.iter().map(ToString::to_string).collect();
            let found = match (found.as_slice(), &probe.data_source) {
                ([], _) => "-".to_owned(),
                ([only], Some(route)) if *only == route.to_string() => "only there".to_owned(),
                (several, _) => several.join("\n"),
            };
            [
                Cell::from(names.of(probe.tenant)),
                Cell::optional(probe.data_source.as_ref()),
                Cell::yes_no((!probe.skipped).then_some(probe.read_back)),
                Cell::from(found),
                Cell::yes_no((!probe.skipped).then_some(probe.removed)),
                result,
            ]
        })
        .collect();
    let mut text = Text::new();
    text.table(["tenant", "route", "read back", "found in", "removed", "result"], &rows);
    for (tenant, error) in report.probes.iter().filter_map(|probe| Some((probe.tenant, probe.error.as_ref()?))) {
        text.line(format!("{}: {error}", names.of(tenant)));
    }
    let wrong = report.probes.iter().filter(|probe| !probe.passed()).count();
    let (probes, databases) = (report.probes.len(), report.databases.len());
    text.line(format!("{probes} tenants, {databases} databases looked into, {wrong} wrong"));
    text
}
