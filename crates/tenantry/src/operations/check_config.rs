//! `check-tenant-config`: where every tenant's rows are said to be, and everything that is wrong with how it is said.
//!
//! It reads the application database and the settings and connects to no data source: what a data source itself has to say
//! is the business of [`checklist`](super::checklist()). The rules are those that routing applies, stated over all tenants
//! at once, and those that only a look at the neighbours can tell.

mod credentials;
mod neighbours;
mod sources;
#[cfg(test)]
mod tests;

use serde::Serialize;
use tenantry_app_db::{
    PoolLimits,
    entities::{TenantStatus, data_sources, tenants},
};
use tenantry_connection::{DataSourceUrl, Engine};
use tenantry_credential::Login;
use tenantry_realm::TenantKey;
use uuid::Uuid;

use crate::{Error, Tenantry, settings::Settings};

/// What is configured for every tenant, and what is wrong with it.
#[derive(Debug, Clone, Serialize)]
pub struct ConfigReport {
    /// One row per tenant, by subdomain.
    pub tenants: Vec<TenantConfig>,
    /// Everything that was found, the tenants' findings first.
    pub findings: Vec<ConfigFinding>,
}

/// One tenant's configuration.
#[derive(Debug, Clone, Serialize)]
pub struct TenantConfig {
    /// The tenant.
    pub tenant: Uuid,
    /// Its subdomain.
    pub subdomain: String,
    /// `active`, `suspended` or `cancelled`.
    pub status: &'static str,
    /// Whether it can be routed.
    pub state: ConfigState,
    /// Where its rows are; none where it has no data source, or one whose URL is not usable.
    pub data_source: Option<DataSourceUrl>,
    /// `shared`, `dedicated` or `customer`.
    pub kind: Option<&'static str>,
    /// Its region, as an administrator noted it.
    pub region: Option<String>,
    /// The tenant's id in the data source, where there is one and it can be told.
    pub tenant_id_in_data_source: Option<String>,
    /// How many findings of severity [`Severity::Error`] concern it.
    pub errors: usize,
    /// How many findings of severity [`Severity::Warning`] concern it.
    pub warnings: usize,
}

/// Whether a tenant can be routed, as far as its configuration tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigState {
    /// It has a data source and nothing is wrong with it.
    Placed,
    /// It has no data source and is served from the application database, because the settings allow it.
    Fallback,
    /// It has no data source: requests are refused.
    Unplaced,
    /// Something has to be corrected first: see the findings.
    Broken,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigFinding {
    /// The tenant that it concerns; none where it concerns the settings or a data source.
    pub tenant: Option<Uuid>,
    /// That tenant's subdomain.
    pub subdomain: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// The setting, or the column of `tenants` or `data_sources`.
    pub setting: String,
    /// What is wrong. Never a secret.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A tenant is not served, or not kept apart.
    Error,
    /// It works and should be changed.
    Warning,
    /// Worth knowing.
    Note,
}

impl ConfigReport {
    /// Whether nothing has to be corrected. Warnings and notes do not count.
    pub fn passed(&self) -> bool {
        self.count(Severity::Error) == 0
    }

    /// How many findings have this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

/// Looks at the configuration of every tenant, without connecting to any data source.
///
/// # Errors
/// [`Error::Store`] when the application database could not be read.
pub async fn check_config(tenantry: &Tenantry) -> Result<ConfigReport, Error> {
    let tenants = tenantry.app_db().tenants().await?;
    let sources = tenantry.app_db().data_sources().await?;
    Ok(inspect(tenantry.settings(), &tenants, &sources))
}

/// A tenant as far as its row can be understood.
struct Subject<'a> {
    row: &'a tenants::Model,
    url: Option<DataSourceUrl>,
    /// Its id in its data source.
    key: Option<TenantKey>,
    restricted: Option<Login>,
}

fn inspect(settings: &Settings, tenants: &[tenants::Model], sources: &[data_sources::Model]) -> ConfigReport {
    let mut findings = Findings::default();
    let subjects: Vec<Subject<'_>> = tenants.iter().map(|row| subject(settings, row, sources, &mut findings)).collect();
    neighbours::check(&subjects, sources, &mut findings);
    findings.about(None);
    sources::check(settings, &subjects, sources, &mut findings);
    let findings = findings.found;
    let rows = subjects.iter().map(|subject| config_of(settings, subject, sources, &findings)).collect();
    ConfigReport { tenants: rows, findings }
}

fn subject<'a>(
    settings: &Settings,
    row: &'a tenants::Model,
    sources: &[data_sources::Model],
    findings: &mut Findings,
) -> Subject<'a> {
    findings.about(Some(row));
    let url = match row.data_source_url.as_deref().map(DataSourceUrl::parse) {
        None => {
            check_unplaced(settings, row, findings);
            None
        }
        Some(Err(error)) => {
            findings.error("data_source_url", error.to_string(), "write a canonical URL without a login");
            None
        }
        Some(Ok(url)) => {
            check_url(settings, row, &url, findings);
            Some(url)
        }
    };
    let restricted = credentials::check(settings.keyring.as_deref(), row, url.as_ref(), findings);
    let key = row.data_source_url.as_ref().and_then(|_| check_mapping(settings, row, findings));
    check_limits(row, url.as_ref(), settings, sources, findings);
    Subject { row, url, key, restricted }
}

fn check_unplaced(settings: &Settings, row: &tenants::Model, findings: &mut Findings) {
    if settings.fallback_to_application_database {
        findings.note(
            "data_source_url",
            "the tenant has no data source and is served from the application database, kept apart by the predicate only",
            "split it with `migrate-tenant-data`, then turn FALLBACK_TO_APPLICATION_DATABASE off",
        );
    } else if row.status == TenantStatus::Active {
        findings.warning(
            "data_source_url",
            "the tenant has no data source: its requests are refused",
            "split it with `migrate-tenant-data`, or give it a data source",
        );
    }
    if row.tenant_id_in_data_source.is_some() {
        findings.note(
            "tenant_id_in_data_source",
            "it does not count while the tenant has no data source",
            "nothing, if a data source is to follow; else set it to null",
        );
    }
}

fn check_url(settings: &Settings, row: &tenants::Model, url: &DataSourceUrl, findings: &mut Findings) {
    if row.data_source_url.as_deref() != Some(url.as_str()) {
        findings.warning(
            "data_source_url",
            "the URL is not in its canonical spelling, so that the data source's row in data_sources is not found for it",
            format!("write it as {url}"),
        );
    }
    if url.address() == settings.application_database.url.address() {
        findings.error(
            "data_source_url",
            "the data source is the application database, which never holds business rows",
            "split the tenant into a data source of its own with `migrate-tenant-data`",
        );
    }
}

fn check_mapping(settings: &Settings, row: &tenants::Model, findings: &mut Findings) -> Option<TenantKey> {
    let key_type = settings.tenant_key_type;
    let own = row.id.to_string();
    match TenantKey::parse(key_type, row.tenant_id_in_data_source.as_deref().unwrap_or(&own)) {
        Ok(key) => Some(key),
        Err(error) => {
            let remedy = if row.tenant_id_in_data_source.is_some() {
                format!("write a {}, or set it to null where the tenant has its own id there", key_type.postgres_type())
            } else {
                format!("write the tenant's id in the data source, a {}", key_type.postgres_type())
            };
            findings.error("tenant_id_in_data_source", error.to_string(), remedy);
            None
        }
    }
}

fn check_limits(
    row: &tenants::Model,
    url: Option<&DataSourceUrl>,
    settings: &Settings,
    sources: &[data_sources::Model],
    findings: &mut Findings,
) {
    let limits = match PoolLimits::from_json(&row.connection_pool_config) {
        Ok(limits) => limits,
        Err(error) => {
            let remedy = "write an object such as {\"min\": 2, \"max\": 10}; until then the tenant is not routed";
            return findings.error("connection_pool_config", error.to_string(), remedy);
        }
    };
    // An SQLite file has no connections worth counting.
    let Some(url) = url.filter(|url| url.engine() == Engine::Postgres) else { return };
    let stated = sources.iter().find(|source| source.url == url.as_str()).map(|source| source.max_connections);
    let cap = stated.and_then(|cap| u32::try_from(cap).ok()).unwrap_or(settings.max_connections);
    if limits.max > cap {
        findings.warning(
            "connection_pool_config",
            format!("max is {}, above the {cap} connections that the data source may have at all", limits.max),
            format!("lower max to at most {cap}, or raise max_connections of the data source"),
        );
    }
}

fn config_of(
    settings: &Settings,
    subject: &Subject<'_>,
    sources: &[data_sources::Model],
    findings: &[ConfigFinding],
) -> TenantConfig {
    let row = subject.row;
    let count = |severity| {
        findings.iter().filter(|finding| finding.tenant == Some(row.id) && finding.severity == severity).count()
    };
    let errors = count(Severity::Error);
    let state = match (errors, &subject.url) {
        (1.., _) => ConfigState::Broken,
        (0, Some(_)) => ConfigState::Placed,
        (0, None) if settings.fallback_to_application_database => ConfigState::Fallback,
        (0, None) => ConfigState::Unplaced,
    };
    let kind = subject.url.as_ref().map(|url| {
        sources.iter().find(|source| source.url == url.as_str()).map_or("shared", |source| source.kind.as_str())
    });
    TenantConfig {
        tenant: row.id,
        subdomain: row.subdomain.clone(),
        status: row.status.as_str(),
        state,
        data_source: subject.url.clone(),
        kind,
        region: row.data_source_region.clone(),
        tenant_id_in_data_source: subject.key.as_ref().map(TenantKey::to_string),
        errors,
        warnings: count(Severity::Warning),
    }
}

/// What has been found so far, and whom the next finding is about.
#[derive(Default)]
struct Findings {
    about: Option<(Uuid, String)>,
    found: Vec<ConfigFinding>,
}

impl Findings {
    fn about(&mut self, tenant: Option<&tenants::Model>) {
        self.about = tenant.map(|row| (row.id, row.subdomain.clone()));
    }

    fn error(&mut self, setting: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.find(Severity::Error, setting, problem.into(), remedy.into());
    }

    fn warning(&mut self, setting: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.find(Severity::Warning, setting, problem.into(), remedy.into());
    }

    fn note(&mut self, setting: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.find(Severity::Note, setting, problem.into(), remedy.into());
    }

    fn find(&mut self, severity: Severity, setting: &str, problem: String, remedy: String) {
        let (tenant, subdomain) = self.about.clone().unzip();
        self.found.push(ConfigFinding { tenant, subdomain, severity, setting: setting.to_owned(), problem, remedy });
    }
}
