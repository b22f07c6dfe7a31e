//! `cargo xtask test-data-source`: what a tenant's route can do at this moment.

use tenantry::operations::{self, ConnectionReport};

use super::{Outcome, tenants};
use crate::{failure::Failure, operator, table};

/// Connects as a tenant would and measures what is there: connection, query, row-level security, response time, version
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo xtask test-data-source --tenant acme\n  cargo xtask test-data-source --all --json\n\n\
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
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> Result<Outcome, Failure> {
    operator::with_tenantry(async |tenantry| {
        let names = tenants::Names::read(tenantry).await?;
        let chosen = tenants::chosen(tenantry, &args.tenant).await?;
        let report = operations::test_data_sources(tenantry, &chosen).await?;
        operator::answer(&report, args.json, |report| text(report, &names))?;
        Ok(Outcome::of(report.passed()))
    })
    .await
}

fn text(report: &ConnectionReport, names: &tenants::Names) -> String {
    let rows: Vec<_> = report
        .tests
        .iter()
        .map(|test| {
            [
                names.of(test.tenant),
                operator::place(test.data_source.as_ref()),
                operator::yes_no(test.can_connect),
                operator::yes_no(test.can_query),
                operator::yes_no(test.rls_enabled),
                test.isolation.map_or_else(|| "-".to_owned(), |isolation| isolation.to_string()),
                test.response_time_ms.map_or_else(|| "-".to_owned(), |time| format!("{time:.1} ms")),
                test.server_version.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    let heading = ["tenant", "data source", "connects", "queries", "rls", "isolation", "round trip", "server"];
    let mut text = table::render(heading, &rows);
    for test in &report.tests {
        if let Some(error) = &test.error {
            text += &format!("\n{}: {error}", names.of(test.tenant));
        }
        for finding in test.isolation_report.iter().flat_map(|report| &report.findings) {
            text +=
                &format!("\n{}: {}: {}; {}", names.of(test.tenant), finding.object, finding.problem, finding.remedy);
        }
    }
    let wrong = report.tests.iter().filter(|test| !test.passed()).count();
    text + &format!("\n{} tenants, {wrong} wrong", report.tests.len())
}
