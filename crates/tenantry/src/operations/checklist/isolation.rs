//! Does row-level security hold, measured in the catalogs over the restricted login itself. The attack is `check-isolation`'s.

use tenantry_data_source::{IsolationReport, with_causes};

use super::{Items, Section, data_sources::Reached};
use crate::{
    Tenantry,
    operations::{isolation::measure, migrate::has_roles},
};

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
            Some((pool, login)) => match measure(pool, login, tenantry.manager().tenant_column()).await {
                Ok(report) => {
                    let exceptions = &tenantry.settings().isolation_exceptions;
                    report_isolation(reached, &report, exceptions, &name, list);
                }
                Err(error) => list.fail(SECTION, &name, with_causes(&error), "look at the data source's catalogs"),
            },
        }
    }
}

fn report_isolation(reached: &Reached, report: &IsolationReport, exceptions: &[String], name: &str, list: &mut Items) {
    let mut holds = true;
    for finding in &report.findings {
        let name = format!("{} in {}", finding.object, reached.source.url);
        if exceptions.contains(&finding.object) {
            list.note(SECTION, &name, format!("accepted by the settings: {}", finding.problem));
        } else {
            holds = false;
            list.fail(SECTION, &name, finding.problem.clone(), finding.remedy.clone());
        }
    }
    if report.tables.is_empty() {
        list.fail(SECTION, name, "it has no tenant table, which proves nothing", "run `migrate up`");
    } else if holds {
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
