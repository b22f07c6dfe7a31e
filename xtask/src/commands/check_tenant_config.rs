//! `cargo xtask check-tenant-config`: how every tenant is configured, without connecting to its data source.

use tenantry::operations::{self, ConfigReport, ConfigState, Severity};

use super::Outcome;
use crate::{failure::Failure, operator, table};

/// Shows every tenant's configuration and everything that is wrong with it, without connecting to any data source
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask check-tenant-config\n\n\
                  Exit status: 0 nothing has to be corrected, 1 something has, 2 could not run.")]
pub(crate) struct Args {
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(Args { json }: Args) -> Result<Outcome, Failure> {
    operator::with_tenantry(async |tenantry| {
        let report = operations::check_config(tenantry).await?;
        operator::answer(&report, json, text)?;
        Ok(Outcome::of(report.passed()))
    })
    .await
}

fn text(report: &ConfigReport) -> String {
    let text_or = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let rows: Vec<_> = report
        .tenants
        .iter()
        .map(|tenant| {
            let state = match tenant.state {
                ConfigState::Placed => "placed",
                ConfigState::Fallback => "fallback",
                ConfigState::Unplaced => "unplaced",
                ConfigState::Broken => "BROKEN",
            };
            [
                tenant.subdomain.clone(),
                tenant.status.to_owned(),
                state.to_owned(),
                operator::place(tenant.data_source.as_ref()),
                text_or(tenant.kind),
                text_or(tenant.region.as_deref()),
                text_or(tenant.tenant_id_in_data_source.as_deref()),
            ]
        })
        .collect();
    let heading = ["tenant", "status", "state", "data source", "kind", "region", "id there"];
    let mut text = table::render(heading, &rows);
    for finding in &report.findings {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let subject = finding.subdomain.as_ref().map(|subdomain| format!("{subdomain}: ")).unwrap_or_default();
        text += &format!("\n{severity}: {subject}{}: {}; {}", finding.setting, finding.problem, finding.remedy);
    }
    let count = |severity| report.count(severity);
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    text + &format!("\n{} tenants, {errors} errors, {warnings} warnings", report.tenants.len())
}
