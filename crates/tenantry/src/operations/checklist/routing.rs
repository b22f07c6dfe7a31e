//! Does every tenant's route lead where it should, by a probe that is looked for in every database.

use tenantry_data_source::{RoutingProbe, with_causes};

use super::{Items, Section, data_sources::Reached};
use crate::{Tenantry, operations::routing::test_routing};

const SECTION: Section = Section::Routing;

pub(super) async fn check(tenantry: &Tenantry, all: &[Reached], list: &mut Items) {
    // A probe that is not looked for everywhere proves nothing.
    let unreached: Vec<String> = all
        .iter()
        .filter(|reached| !reached.answers() || !reached.migrated)
        .map(|reached| reached.source.url.to_string())
        .collect();
    if !unreached.is_empty() {
        let because = format!(
            "a probe has to be looked for in every database, and these cannot be used: {}",
            unreached.join(", ")
        );
        return list.skip(SECTION, "all", because);
    }
    let report = match test_routing(tenantry, &[]).await {
        Ok(report) => report,
        Err(error) => return list.fail(SECTION, "all", with_causes(&error), "see the sections above"),
    };
    if report.probes.is_empty() {
        list.note(SECTION, "all", "there is no tenant yet");
    }
    for probe in &report.probes {
        let name = format!("route of {}", probe.tenant);
        if probe.skipped {
            list.note(SECTION, &name, "the tenant has no data source: nothing was probed");
        } else if probe.passed() {
            let place = probe.data_source.as_ref().map(ToString::to_string).unwrap_or_default();
            let detail =
                format!("the probe was in {place} and in none of the other {}", probe.looked_into.saturating_sub(1));
            list.pass(SECTION, &name, detail);
        } else {
            let remedy = "correct the tenant's data source; `test-routing` shows the probe in full";
            list.fail(SECTION, &name, told(probe), remedy);
        }
    }
}

fn told(probe: &RoutingProbe) -> String {
    if let Some(error) = &probe.error {
        return error.clone();
    }
    if !probe.written {
        return "the probe was not written".to_owned();
    }
    if !probe.read_back {
        return "the probe was not read back through the route".to_owned();
    }
    if !probe.removed {
        return "the probe was not removed".to_owned();
    }
    let found: Vec<String> = probe.found_in.iter().map(ToString::to_string).collect();
    format!("the probe was found in {}", if found.is_empty() { "no database".to_owned() } else { found.join(", ") })
}
