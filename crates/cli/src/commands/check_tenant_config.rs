//! `check-tenant-config`: how every tenant is configured, without connecting to its data source.

use tenantry::operations::{self, ConfigReport, ConfigState, Severity};

use super::Format;
use crate::{
    Application, Failure, Outcome, answer,
    text::{Cell, Mark, Text},
    with_tenantry,
};

/// Shows every tenant's configuration and everything that is wrong with it, without connecting to any data source
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  {program} check-tenant-config\n\n\
                  Exit status: 0 nothing has to be corrected, 1 something has, 2 could not run.")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) format: Format,
}

pub(crate) async fn run<A: Application>(Args { format }: Args) -> Result<Outcome, Failure> {
    with_tenantry::<A, _, _>(async |tenantry| {
        let report = operations::check_config(tenantry).await?;
        answer::<A, _>(&report, format.json, text)?;
        Ok(Outcome::of(report.passed()))
    })
    .await
}

fn text(report: &ConfigReport) -> Text {
    let rows: Vec<_> = report
        .tenants
        .iter()
        .map(|tenant| {
            let state = match tenant.state {
                ConfigState::Placed => Cell::from("placed"),
                ConfigState::Fallback => Cell::from("fallback"),
                ConfigState::Unplaced => Cell::marked(Mark::Warning, "unplaced"),
                ConfigState::Broken => Cell::marked(Mark::Bad, "BROKEN"),
            };
            [
                Cell::from(tenant.subdomain.as_str()),
                Cell::from(tenant.status),
                state,
                Cell::optional(tenant.data_source.as_ref()),
                Cell::optional(tenant.kind),
                Cell::optional(tenant.region.as_ref()),
                Cell::optional(tenant.tenant_id_in_data_source.as_ref()),
            ]
        })
        .collect();
    let heading = ["tenant", "status", "state", "data source", "kind", "region", "id there"];
    let mut text = Text::new();
    text.table(heading, &rows);
    for finding in &report.findings {
        let (mark, severity) = match finding.severity {
            Severity::Error => (Mark::Bad, "error"),
            Severity::Warning => (Mark::Warning, "warning"),
            Severity::Note => (Mark::Good, "note"),
        };
        let subject = finding.subdomain.as_ref().map(|subdomain| format!("{subdomain}: ")).unwrap_or_default();
        let what = format!("{subject}{}: {}; {}", finding.setting, finding.problem, finding.remedy);
        text.marked(mark, severity, what);
    }
    let count = |severity| report.count(severity);
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    text.line(format!("{} tenants, {errors} errors, {warnings} warnings", report.tenants.len()));
    text
}
