//! `test-dual-database`: the checklist. Everything that "two databases, and every tenant kept apart" claims, measured.
//!
//! ```text
//! settings ── application database ── data sources ── keys ── schema ── isolation ── routing ── mapping
//! ```
//!
//! A section that cannot be run, because one before it failed, is skipped and says so: it is never passed. It reads, but for
//! the routing probe, which has a table of its own and leaves nothing, and for the migrations of a scratch SQLite file, which
//! tell what the schema should be.

mod app_db;
mod data_sources;
mod isolation;
mod residents;
mod routing;
mod schema;

use std::fmt;

use sea_orm_migration::MigratorTrait;
use serde::Serialize;
use tenantry_credential::CredentialColumn;
use tenantry_data_source::with_causes;

use super::check_config::{ConfigFinding, ConfigReport, Severity, check_config};
use crate::Tenantry;

/// What was measured, in order.
#[derive(Debug, Clone, Serialize)]
pub struct Checklist {
    /// The items, section by section.
    pub items: Vec<ChecklistItem>,
}

/// One thing that was measured, or could not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChecklistItem {
    /// Its section.
    pub section: Section,
    /// What was looked at.
    pub name: String,
    /// How it went.
    pub outcome: Outcome,
    /// What was found. Never a secret.
    pub detail: String,
    /// What to do, where something is to be done.
    pub remedy: Option<String>,
}

/// A part of the checklist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// What is set.
    Settings,
    /// It answers, is migrated, and holds no business rows that a tenant's route does not lead to.
    ApplicationDatabase,
    /// Each answers to both logins, is migrated, and holds no rows of tenants that are elsewhere.
    DataSources,
    /// Every sealed login opens.
    Keys,
    /// Every data source has the tables that the migrator makes, each with what keeps tenants apart.
    Schema,
    /// Row-level security holds wherever two tenants could meet.
    Isolation,
    /// A row written through a tenant's route is in its database and in no other.
    Routing,
    /// What the application database says about tenants fits together.
    Mapping,
}

/// How an item went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not hold.
    Failed,
    /// It was not measured, because something before it failed.
    Skipped,
    /// Worth knowing; nothing is wrong.
    Note,
}

impl Checklist {
    /// Whether everything was measured and holds.
    pub fn passed(&self) -> bool {
        self.items.iter().all(|item| matches!(item.outcome, Outcome::Passed | Outcome::Note))
    }

    /// How many items went this way.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.items.iter().filter(|item| item.outcome == outcome).count()
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Settings => "settings",
            Self::ApplicationDatabase => "application database",
            Self::DataSources => "data sources",
            Self::Keys => "keys",
            Self::Schema => "schema",
            Self::Isolation => "isolation",
            Self::Routing => "routing",
            Self::Mapping => "mapping",
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Note => "note",
        })
    }
}

/// Goes through the checklist with the application's own tenant data migrator `M`. Never fails: what went wrong is an item.
pub async fn checklist<M: MigratorTrait>(tenantry: &Tenantry) -> Checklist {
    let mut list = Items::default();
    settings(tenantry, &mut list);
    if !app_db::check(tenantry, &mut list).await {
        for section in [
            Section::DataSources,
            Section::Keys,
            Section::Schema,
            Section::Isolation,
            Section::Routing,
            Section::Mapping,
        ] {
            list.skip(section, "all", "the application database cannot be used, and it says where the tenants are");
        }
        return Checklist { items: list.items };
    }
    let config = check_config(tenantry).await;
    let reached = data_sources::check::<M>(tenantry, &mut list).await;
    report_config(&config, Section::Keys, &mut list);
    schema::check::<M>(tenantry, &reached, &mut list).await;
    isolation::check(tenantry, &reached, &mut list).await;
    routing::check(tenantry, &reached, &mut list).await;
    report_config(&config, Section::Mapping, &mut list);
    data_sources::close(reached).await;
    Checklist { items: list.items }
}

fn settings(tenantry: &Tenantry, list: &mut Items) {
    const SECTION: Section = Section::Settings;
    let settings = tenantry.settings();
    list.pass(SECTION, "application database", settings.application_database.url.to_string());
    match &settings.default_data_source {
        Some(default) if default.url.is_per_tenant() => {
            list.pass(SECTION, "default data source", "one SQLite file per tenant");
        }
        Some(default) => {
            let url = default.url.for_tenant(uuid::Uuid::nil()).map(|url| url.to_string()).unwrap_or_default();
            list.pass(SECTION, "default data source", url);
        }
        None => list.note(SECTION, "default data source", "none: every new tenant has to be given one"),
    }
    match &settings.keyring {
        Some(keyring) => {
            let detail = format!("{} key(s), {} is active", keyring.key_ids().count(), keyring.active_key_id());
            list.pass(SECTION, "encryption keys", detail);
        }
        None => list.note(SECTION, "encryption keys", "none: no data source may have a login"),
    }
    if settings.fallback_to_application_database {
        let detail =
            "tenants without a data source are served from the application database, kept apart by the predicate only";
        list.note(SECTION, "fallback", detail);
    }
}

/// The findings on the sealed logins are the section of the keys; everything else is the mapping.
fn report_config(config: &Result<ConfigReport, crate::Error>, section: Section, list: &mut Items) {
    let config = match config {
        Ok(config) => config,
        Err(error) => return list.fail(section, "tenants", with_causes(error), "run `migrate up`"),
    };
    let is_key = |finding: &ConfigFinding| CredentialColumn::ALL.iter().any(|key| key.as_str() == finding.setting);
    let mut wrong = false;
    for finding in config.findings.iter().filter(|finding| is_key(finding) == (section == Section::Keys)) {
        let name = match &finding.subdomain {
            Some(subdomain) => format!("{} of {subdomain}", finding.setting),
            None => finding.setting.clone(),
        };
        let outcome = if finding.severity == Severity::Error { Outcome::Failed } else { Outcome::Note };
        wrong |= outcome == Outcome::Failed;
        list.push(section, &name, outcome, finding.problem.clone(), Some(finding.remedy.clone()));
    }
    if !wrong {
        let detail = match section {
            Section::Keys => "every sealed login opens",
            _ => "nothing contradicts itself",
        };
        list.pass(section, "all", format!("{detail}; {} tenant(s)", config.tenants.len()));
    }
}

/// The items so far.
#[derive(Default)]
struct Items {
    items: Vec<ChecklistItem>,
}

impl Items {
    fn pass(&mut self, section: Section, name: &str, detail: impl Into<String>) {
        self.push(section, name, Outcome::Passed, detail.into(), None);
    }

    fn note(&mut self, section: Section, name: &str, detail: impl Into<String>) {
        self.push(section, name, Outcome::Note, detail.into(), None);
    }

    fn skip(&mut self, section: Section, name: &str, because: impl Into<String>) {
        self.push(section, name, Outcome::Skipped, format!("not measured: {}", because.into()), None);
    }

    fn fail(&mut self, section: Section, name: &str, detail: impl Into<String>, remedy: impl Into<String>) {
        self.push(section, name, Outcome::Failed, detail.into(), Some(remedy.into()));
    }

    fn push(&mut self, section: Section, name: &str, outcome: Outcome, detail: String, remedy: Option<String>) {
        self.items.push(ChecklistItem { section, name: name.to_owned(), outcome, detail, remedy });
    }
}
