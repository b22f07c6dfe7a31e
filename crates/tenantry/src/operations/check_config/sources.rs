//! The rows of `data_sources`, and the default data source of the settings.

use tenantry_app_db::entities::data_sources;
use tenantry_connection::{DataSourceUrl, Engine};
use uuid::Uuid;

use super::{Findings, Subject};
use crate::settings::{DefaultDataSource, Settings};

pub(super) fn check(
    settings: &Settings,
    subjects: &[Subject<'_>],
    sources: &[data_sources::Model],
    findings: &mut Findings,
) {
    let default = settings.default_data_source.as_ref().and_then(|default| default.url.for_tenant(Uuid::nil()).ok());
    for source in sources {
        check_row(source, findings);
        let used = subjects.iter().any(|subject| subject.row.data_source_url.as_deref() == Some(source.url.as_str()))
            || default.as_ref().is_some_and(|default| default.as_str() == source.url);
        if !used {
            findings.note(
                "data_sources.url",
                format!("no tenant is in {}", shown(&source.url)),
                "nothing, if tenants are to follow",
            );
        }
    }
    match &settings.default_data_source {
        None => findings.note(
            "DEFAULT_TENANT_DATA_URL",
            "there is no default data source: every new tenant has to be given one",
            "set it, unless that is meant",
        ),
        Some(default) => check_default(settings, default, subjects, sources, findings),
    }
}

fn check_row(source: &data_sources::Model, findings: &mut Findings) {
    match DataSourceUrl::parse(&source.url) {
        Err(error) => findings.error("data_sources.url", error.to_string(), "correct the row's URL, or delete the row"),
        Ok(url) if url.as_str() != source.url => findings.warning(
            "data_sources.url",
            format!("the row of {url} has another spelling, so that it is found for no tenant"),
            format!("write it as {url}"),
        ),
        Ok(_) => {}
    }
    if let Some(Err(error)) = source.direct_url.as_deref().map(DataSourceUrl::parse) {
        findings.error("data_sources.direct_url", error.to_string(), "correct it, or set it to null");
    }
}

fn check_default(
    settings: &Settings,
    default: &DefaultDataSource,
    subjects: &[Subject<'_>],
    sources: &[data_sources::Model],
    findings: &mut Findings,
) {
    const URL: &str = "DEFAULT_TENANT_DATA_URL";
    let url = match default.url.for_tenant(Uuid::nil()) {
        Ok(url) => url,
        Err(error) => return findings.error(URL, error.to_string(), "correct the URL"),
    };
    if url.address() == settings.application_database.url.address() {
        findings.error(
            URL,
            "it is the application database, which never holds business rows",
            "name another database for the tenants' rows",
        );
    }
    match (url.engine(), &default.logins) {
        (Engine::Postgres, None) => findings.error(
            "DEFAULT_TENANT_DATA_ANON_KEY",
            "the default data source is a PostgreSQL URL and has no logins",
            "set DEFAULT_TENANT_DATA_ANON_KEY and DEFAULT_TENANT_DATA_SERVICE_KEY",
        ),
        (Engine::Postgres, Some(logins)) => {
            if logins.restricted.user == logins.service.user {
                findings.error(
                    "DEFAULT_TENANT_DATA_ANON_KEY",
                    "the restricted login is the service login, which row-level security lets through",
                    "make a role that owns nothing, and set its login here",
                );
            }
            if settings.keyring.is_none() {
                findings.error(
                    "ENCRYPTION_KEY",
                    "the default data source has logins, and there is no key to seal them with for a new tenant",
                    "set ENCRYPTION_KEY",
                );
            }
        }
        (Engine::Sqlite, _) => check_folder(&url, default.url.is_per_tenant(), subjects, findings),
    }
    let row = sources.iter().find(|source| source.url == url.as_str());
    if let Some(source) = row.filter(|source| source.kind.holds_one_tenant()) {
        findings.error(
            URL,
            format!("it is a {} data source, which takes one tenant only", source.kind.as_str()),
            "name a shared data source, or make this one shared",
        );
    }
}

/// Whether a new tenant's file could be made, without making it.
fn check_folder(url: &DataSourceUrl, per_tenant: bool, subjects: &[Subject<'_>], findings: &mut Findings) {
    let Some(path) = url.sqlite_path() else { return };
    let existing = path.ancestors().skip(1).find(|folder| folder.exists());
    if existing.is_some_and(|folder| !folder.is_dir()) {
        let found = existing.map(|folder| folder.display().to_string()).unwrap_or_default();
        findings.error(
            "DEFAULT_TENANT_DATA_URL",
            format!("no file can be made there: {found} is not a folder"),
            "name a path below a folder",
        );
    }
    if !per_tenant && subjects.iter().any(|subject| subject.url.as_ref() == Some(url)) {
        findings.warning(
            "DEFAULT_TENANT_DATA_URL",
            "it is one SQLite file, and a tenant is in it: the next tenant is refused, or not kept apart by policies",
            "put {tenant_id} into the path, so that every tenant has a file of its own",
        );
    }
}

/// A URL that may not be one: what cannot be read could hold a password.
fn shown(url: &str) -> &str {
    if DataSourceUrl::parse(url).is_ok() { url } else { "a data source whose URL is not usable" }
}
