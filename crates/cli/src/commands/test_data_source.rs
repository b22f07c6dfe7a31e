//! `test-data-source`: what a tenant's route can do at this moment.

use tenantry::operations::{self, ConnectionReport};

use super::{Format, tenants};
use crate::{
    Application, Failure, Outcome, answer,
    text::{Cell, Text},
    with_tenantry,
};

/// Connects as a tenant would and measures what is there: connection, query, row-level security, response time, version
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  {program} test-data-source --tenant acme\n  {program} test-data-source --all --json\n\n\
                  `rls` is measured in the catalogs: the policy pair on every tenant table, enabled and forced, and what the\n\
                  role may do. SQLite has none and shows `-`.\n\n\
                  Exit status: 0 every route works and is kept apart, 1 one does not or is not, 2 could not run.",
    group = clap::ArgGroup::new("which").required(true).args(["tenant", "all"])
)]
pub(crate) struct Args {
    /// This tenant, by id or subdomain; may be given several times
    #[arg(long, value_name = "TENANT")]
    tenant: Vec<String>,
    /// Every tenant
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    pub(super) format: Format,
}

pub(crate) async fn run<A: Application>(args: Args) -> Result<Outcome, Failure> {
    with_tenantry::<A, _, _>(async |tenantry| {
        let names = tenants::Names::read(tenantry).await?;
        let chosen = tenants::chosen(tenantry, &args.tenant).await?;
        let report = operations::test_data_sources(tenantry, &chosen).await?;
        answer::<A, _>(&report, args.format.json, |report| text(report, &names))?;
        Ok(Outcome::of(report.passed()))
    })
    .await
}

fn text(report: &ConnectionReport, names: &tenants::Names) -> Text {
    let rows: Vec<_> = report
        .tests
        .iter()
        .map(|test| {
            [
                Cell::from(names.of(test.tenant)),
                Cell::optional(test.data_source.as_ref()),
                Cell::yes_no(test.can_connect),
                Cell::yes_no(test.can_query),
                Cell::yes_no(test.rls_enabled),
                Cell::optional(test.isolation),
                Cell::optional(test.response_time_ms.map(|time| format!("{time:.1} ms"))),
                Cell::optional(test.server_version.as_ref()),
            ]
        })
        .collect();
    let heading = ["tenant", "data source", "connects", "queries", "rls", "isolation", "round trip", "server"];
    let mut text = Text::new();
    text.table(heading, &rows);
    for test in &report.tests {
        if let Some(error) = &test.error {
            text.line(format!("{}: {error}", names.of(test.tenant)));
        }
        for finding in test.isolation_report.iter().flat_map(|report| &report.findings) {
            let tenant = names.of(test.tenant);
            text.line(format!("{tenant}: {}: {}; {}", finding.object, finding.problem, finding.remedy));
        }
    }
    let wrong = report.tests.iter().filter(|test| !test.passed()).count();
    text.line(format!("{} tenants, {wrong} wrong", report.tests.len()));
    text
}
