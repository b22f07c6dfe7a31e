//! Does row-level security hold, measured over the restricted login itself.

use tenantry_connection::{Mode, Session};
use tenantry_data_source::{IsolationReport, TenantColumn, with_causes};

use super::{Items, Section, data_sources::Reached};
use crate::{Tenantry, operations::migrate::has_roles};

const SECTION: Section = Section::Isolation;

pub(super) async fn check(tenantry: &Tenantry, all: &[Reached], list: &mut Items) {
    if all.is_empty() {
        return list.note(SECTION, "all", "no tenant has a data source yet");
    }
    for reached in all {
        let name = format!("isolation in {}", reached.source.url);
        if !has_roles(&reached.source.url) {
            check_file(reached, &name, list);
            continue;
        }
        match &reached.restricted {
            None => list.skip(SECTION, &name, "the restricted login does not get in"),
            Some(_) if !reached.migrated => list.skip(SECTION, &name, "the migrations are not complete"),
            Some((pool, login)) => {
                let measured = async {
                    let settings = tenantry.settings();
                    let column =
                        TenantColumn { name: settings.tenant_column.clone(), key_type: settings.tenant_key_type };
                    let mut transaction = pool.begin(&Session::default(), Mode::Read).await?;
                    let report = IsolationReport::measure(&mut transaction, &login.user, &column).await?;
                    transaction.commit().await?;
                    Ok::<_, tenantry_connection::Error>(report)
                };
                match measured.await {
                    Ok(report) => report_isolation(reached, &report, &name, list),
                    Err(error) => list.fail(SECTION, &name, with_causes(&error), "look at the data source's catalogs"),
                }
            }
        }
    }
}

fn report_isolation(reached: &Reached, report: &IsolationReport, name: &str, list: &mut Items) {
    for finding in &report.findings {
        let name = format!("{} in {}", finding.object, reached.source.url);
        list.fail(SECTION, &name, finding.problem.clone(), finding.remedy.clone());
    }
    if report.tables.is_empty() {
        list.fail(SECTION, name, "it has no tenant table, which proves nothing", "run `cargo xtask migrate`");
    } else if report.holds() {
        let detail = format!(
            "row-level security is enabled and forced on {} tables, and {} is held by it",
            report.tables.len(),
            report.role
        );
        list.pass(SECTION, name, detail);
    }
}

/// SQLite has no policies: what keeps tenants apart is that each has a file.
fn check_file(reached: &Reached, name: &str, list: &mut Items) {
    match reached.source.tenants.len() {
        0 | 1 => list.note(SECTION, name, "predicate only, as always with SQLite; one tenant in the file"),
        several => list.fail(
            SECTION,
            name,
            format!("{several} tenants in one SQLite file, kept apart by the predicate only"),
            "give every tenant a file of its own; one file for several is for development",
        ),
    }
}
