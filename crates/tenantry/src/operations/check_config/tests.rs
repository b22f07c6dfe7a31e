//! Each thing that can be wrong with a configuration, found without a database; also what no database would accept.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::sync::Arc;

use chrono::Utc;
use sea_orm::JsonValue;
use secrecy::SecretString;
use serde_json::json;
use tenantry_app_db::entities::{Plan, PoolerMode, SourceKind};
use tenantry_credential::{CredentialColumn, Keyring};
use tenantry_realm::TenantKeyType;

use super::*;
use crate::settings::{ApplicationDatabase, DefaultDataSource, DefaultLogins, UrlTemplate};

const SHARED: &str = "postgresql://db.example.com:5432/crm";

fn settings() -> Settings {
    let url = DataSourceUrl::parse("sqlite:/srv/app.db").unwrap();
    let mut settings = Settings::new(ApplicationDatabase { url, login: None });
    settings.keyring = Some(Arc::new(ring("new", &[("old", "a5"), ("new", "c3")])));
    settings.default_data_source = Some(DefaultDataSource {
        url: UrlTemplate::parse("sqlite:/srv/{tenant_id}.db").unwrap(),
        logins: None,
        region: None,
    });
    settings
}

fn ring(active: &str, keys: &[(&str, &str)]) -> Keyring {
    let keys = keys.iter().map(|(id, pair)| ((*id).to_owned(), SecretString::from(pair.repeat(32))));
    Keyring::new(active, keys).unwrap()
}

fn login(user: &str) -> Login {
    Login::new(user, format!("password of {user}")).unwrap()
}

fn unplaced(number: u128, subdomain: &str) -> tenants::Model {
    tenants::Model {
        id: Uuid::from_u128(number),
        name: subdomain.to_owned(),
        subdomain: subdomain.to_owned(),
        domain: None,
        plan: Plan::Starter,
        status: TenantStatus::Active,
        settings: json!({}),
        subscription_id: None,
        data_source_url: None,
        data_source_anon_key: None,
        data_source_service_key: None,
        data_source_region: None,
        connection_pool_config: json!({ "min": 2, "max": 10 }),
        data_source_notes: None,
        tenant_id_in_data_source: None,
        created_at: Utc::now(),
        updated_at: Utc::now(),
        placement_epoch: 0,
    }
}

fn in_file(number: u128, subdomain: &str, url: &str) -> tenants::Model {
    tenants::Model { data_source_url: Some(url.to_owned()), ..unplaced(number, subdomain) }
}

fn placed(number: u128, subdomain: &str, url: &str) -> tenants::Model {
    let mut row = in_file(number, subdomain, url);
    let keyring = ring("new", &[("new", "c3")]);
    row.data_source_anon_key = Some(keyring.seal(row.id, CredentialColumn::Anon, &login("restricted")).unwrap().into());
    row.data_source_service_key =
        Some(keyring.seal(row.id, CredentialColumn::Service, &login("service")).unwrap().into());
    row
}

fn source(url: &str, kind: SourceKind) -> data_sources::Model {
    data_sources::Model {
        url: url.to_owned(),
        region: None,
        kind,
        pooler_mode: PoolerMode::Auto,
        direct_url: None,
        max_connections: 10,
        settings: JsonValue::Null,
        notes: None,
        admitted_at: None,
        schema_version: None,
        created_at: Utc::now(),
        updated_at: Utc::now(),
    }
}

/// `severity setting: problem`, of one tenant or of none.
fn told(report: &ConfigReport, subdomain: Option<&str>) -> Vec<String> {
    let about = |finding: &&ConfigFinding| finding.subdomain.as_deref() == subdomain;
    let line = |finding: &ConfigFinding| format!("{:?} {}: {}", finding.severity, finding.setting, finding.problem);
    report.findings.iter().filter(about).map(line).collect()
}

fn only(report: &ConfigReport, subdomain: &str) -> String {
    let told = told(report, Some(subdomain));
    assert_eq!(told.len(), 1, "{told:#?}");
    told[0].clone()
}

#[test]
fn what_is_right_is_placed_and_has_no_findings() {
    let report = inspect(&settings(), &[placed(1, "acme", SHARED), placed(2, "globex", SHARED)], &[]);
    assert!(report.passed());
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    assert!(report.tenants.iter().all(|tenant| tenant.state == ConfigState::Placed && tenant.kind == Some("shared")));
}

/// An unsplit tenant is no error: before the split all of them are like this.
#[test]
fn a_tenant_without_a_data_source_is_told_apart_by_the_fallback() {
    let mut settings = settings();
    let tenants = [unplaced(1, "acme")];
    let report = inspect(&settings, &tenants, &[]);
    assert!(report.passed());
    assert_eq!(report.tenants[0].state, ConfigState::Unplaced);
    assert!(only(&report, "acme").starts_with("Warning data_source_url: the tenant has no data source"));
    settings.fallback_to_application_database = true;
    let report = inspect(&settings, &tenants, &[]);
    assert_eq!(report.tenants[0].state, ConfigState::Fallback);
    assert!(only(&report, "acme").contains("kept apart by the predicate only"));
}

/// A URL that is not usable may hold a password, so it is not repeated anywhere.
#[test]
fn an_unusable_url_is_named_and_never_shown() {
    let report = inspect(&settings(), &[placed(1, "acme", "postgresql://me:hunter2@db/crm")], &[]);
    assert!(!report.passed());
    assert_eq!(report.tenants[0].state, ConfigState::Broken);
    assert!(only(&report, "acme").starts_with("Error data_source_url: the URL carries a user or password"));
    assert!(!serde_json::to_string(&report).unwrap().contains("hunter2"));
}

/// Regression: the row of `data_sources` is joined by text, so that another spelling lost the tenant its kind and cap.
#[test]
fn a_url_that_is_not_canonical_is_a_warning() {
    let report = inspect(&settings(), &[placed(1, "acme", "postgres://DB.example.com/crm")], &[]);
    assert!(report.passed());
    assert!(only(&report, "acme").starts_with("Warning data_source_url: the URL is not in its canonical spelling"));
}

#[test]
fn the_application_database_is_no_data_source() {
    let report = inspect(&settings(), &[in_file(1, "acme", "sqlite:/srv/app.db")], &[]);
    assert!(only(&report, "acme").starts_with("Error data_source_url: the data source is the application database"));
}

/// The database's constraint refuses these; a database that was never migrated has no constraint.
#[test]
fn half_set_columns_are_each_named() {
    let without_service = tenants::Model { data_source_service_key: None, ..placed(1, "a", SHARED) };
    let without_url = tenants::Model { data_source_url: None, ..placed(2, "b", SHARED) };
    let file_with_key =
        tenants::Model { data_source_url: Some("sqlite:/srv/c.db".to_owned()), ..placed(3, "c", SHARED) };
    let report = inspect(&settings(), &[without_service, without_url, file_with_key], &[]);
    assert_eq!(told(&report, Some("a")), ["Error data_source_service_key: it is null while data_source_url is set"]);
    let b = told(&report, Some("b"));
    assert!(b.contains(&"Error data_source_anon_key: it is set while data_source_url is null".to_owned()), "{b:#?}");
    assert!(b.contains(&"Error data_source_service_key: it is set while data_source_url is null".to_owned()), "{b:#?}");
    assert_eq!(told(&report, Some("c")).len(), 2, "both keys of an SQLite file");
}

#[test]
fn keys_that_do_not_open_are_told_apart() {
    let right = placed(1, "acme", SHARED);
    let right_key = right.data_source_anon_key.clone().unwrap();
    let with = |text: &str| tenants::Model { data_source_anon_key: Some(text.into()), ..right.clone() };
    let tampered = format!("{}AAAA", &right_key.as_str()[..right_key.len() - 4]);
    let foreign = ring("lost", &[("lost", "11")]).seal(right.id, CredentialColumn::Anon, &login("restricted")).unwrap();
    let neighbours = placed(2, "globex", SHARED).data_source_anon_key.unwrap();
    let other_column = right.data_source_service_key.clone().unwrap();
    for (text, problem) in [
        ("", "is empty"),
        ("sk_live_token", "is not sealed"),
        ("v2:new:AAAA:BBBB:CCCC", "envelope version 2"),
        ("v1:new:!:BBBB:CCCC", "is not padded standard base64"),
        (foreign.as_str(), "needs key `lost`"),
        (tampered.as_str(), "does not authenticate"),
        (neighbours.as_str(), "does not authenticate"),
        (other_column.as_str(), "does not authenticate"),
        ("restricted:in plain text", "a login in plain text"),
        (r#"{"user":"restricted","password":"in plain text"}"#, "a login in plain text"),
    ] {
        let report = inspect(&settings(), &[with(text)], &[]);
        let told = only(&report, "acme");
        assert!(told.starts_with("Error data_source_anon_key: ") && told.contains(problem), "{text}: {told}");
        assert!(!told.contains("in plain text\""), "the value is not shown");
        assert!(!report.findings[0].remedy.is_empty());
    }
}

#[test]
fn without_a_key_nothing_opens_and_it_says_so() {
    let report = inspect(&Settings { keyring: None, ..settings() }, &[placed(1, "acme", SHARED)], &[]);
    let told = told(&report, Some("acme"));
    assert_eq!(told.len(), 2);
    assert!(told[0].contains("no encryption key is configured"), "{told:#?}");
}

/// What opens works: an old form is a warning, and the report passes.
#[test]
fn a_retired_key_is_a_warning() {
    let mut row = placed(1, "acme", SHARED);
    let old = ring("old", &[("old", "a5")]);
    row.data_source_anon_key = Some(old.seal(row.id, CredentialColumn::Anon, &login("restricted")).unwrap().into());
    let report = inspect(&settings(), &[row], &[]);
    assert!(report.passed());
    assert_eq!(only(&report, "acme"), "Warning data_source_anon_key: it is sealed with the retired key `old`");
}

/// The service login as the restricted one: every policy lets it through.
#[test]
fn one_login_for_both_accesses_is_an_error() {
    let mut row = placed(1, "acme", SHARED);
    let keyring = ring("new", &[("new", "c3")]);
    row.data_source_anon_key = Some(keyring.seal(row.id, CredentialColumn::Anon, &login("service")).unwrap().into());
    let report = inspect(&settings(), &[row], &[]);
    assert!(only(&report, "acme").contains("the restricted login is the service login"));
}

#[test]
fn a_mapping_that_does_not_fit_is_an_error_only_where_it_counts() {
    let mapped = |row| tenants::Model { tenant_id_in_data_source: Some("7".to_owned()), ..row };
    let report = inspect(&settings(), &[mapped(placed(1, "acme", SHARED)), mapped(unplaced(2, "globex"))], &[]);
    assert!(only(&report, "acme").starts_with("Error tenant_id_in_data_source: tenant id \"7\" is not a valid uuid"));
    assert!(told(&report, Some("globex")).iter().all(|told| !told.starts_with("Error")));
    let bigint = Settings { tenant_key_type: TenantKeyType::BigInt, ..settings() };
    let report = inspect(&bigint, &[mapped(placed(1, "acme", SHARED)), placed(2, "globex", SHARED)], &[]);
    assert_eq!(report.tenants[0].tenant_id_in_data_source.as_deref(), Some("7"));
    assert!(only(&report, "globex").contains("is not a valid bigint"), "its own id is a uuid");
}

/// Two tenants with one id in one database read each other's rows, whatever the policies say. Compared as the column does.
#[test]
fn one_id_for_two_tenants_of_a_data_source_is_an_error_for_both() {
    let acme = placed(1, "acme", SHARED);
    let globex = tenants::Model {
        tenant_id_in_data_source: Some(acme.id.to_string().to_uppercase()),
        ..placed(2, "globex", "postgresql://db.example.com:5432/crm?sslmode=require")
    };
    let elsewhere = tenants::Model {
        tenant_id_in_data_source: Some(acme.id.to_string()),
        ..placed(3, "initech", "postgresql://db.example.com:5432/other")
    };
    let report = inspect(&settings(), &[acme, globex, elsewhere], &[]);
    assert!(only(&report, "acme").contains("tenant globex has the id"));
    assert!(only(&report, "globex").contains("tenant acme has the id"));
    assert!(told(&report, Some("initech")).is_empty());
}

/// Trap 38: an edited URL that points at a neighbour's own database, also by its way past the pooler.
#[test]
fn a_data_source_for_one_tenant_with_two_is_an_error_for_both() {
    let pooled = "postgresql://pooler.example.com:6432/crm";
    for kind in [SourceKind::Dedicated, SourceKind::Customer] {
        let row = data_sources::Model { direct_url: Some(SHARED.to_owned()), ..source(pooled, kind) };
        let report = inspect(&settings(), &[placed(1, "acme", SHARED), placed(2, "globex", pooled)], &[row]);
        assert!(only(&report, "acme").contains("also holds tenant globex"));
        assert!(only(&report, "globex").contains("also holds tenant acme"));
    }
    let report = inspect(
        &settings(),
        &[placed(1, "acme", SHARED), placed(2, "globex", SHARED)],
        &[source(SHARED, SourceKind::Shared)],
    );
    assert!(report.findings.is_empty());
}

#[test]
fn one_file_for_two_tenants_is_a_warning() {
    let report =
        inspect(&settings(), &[in_file(1, "acme", "sqlite:/srv/a.db"), in_file(2, "globex", "sqlite:/srv/a.db")], &[]);
    assert!(report.passed());
    assert!(only(&report, "acme").contains("also holds tenant globex: only the predicate"));
}

/// The policies are written for one role: a tenant with another login would see nothing, or be refused.
#[test]
fn another_restricted_role_than_the_neighbours_is_a_warning() {
    let mut globex = placed(2, "globex", SHARED);
    let keyring = ring("new", &[("new", "c3")]);
    globex.data_source_anon_key =
        Some(keyring.seal(globex.id, CredentialColumn::Anon, &login("other")).unwrap().into());
    let report = inspect(&settings(), &[placed(1, "acme", SHARED), globex], &[]);
    assert!(only(&report, "globex").contains("it logs in as other"));
}

#[test]
fn limits_are_read_and_compared_with_the_cap() {
    let with = |config| tenants::Model { connection_pool_config: config, ..placed(1, "acme", SHARED) };
    let report = inspect(&settings(), &[with(json!({ "max": 0 }))], &[]);
    assert!(only(&report, "acme").starts_with("Error connection_pool_config: connection_pool_config.max is 0"));
    let report = inspect(&settings(), &[with(json!({ "max": 11 }))], &[]);
    assert_eq!(
        only(&report, "acme"),
        "Warning connection_pool_config: max is 11, above the 10 connections that the data source may have at all"
    );
    let wide = data_sources::Model { max_connections: 20, ..source(SHARED, SourceKind::Shared) };
    assert!(inspect(&settings(), &[with(json!({ "max": 11 }))], &[wide]).findings.is_empty());
}

#[test]
fn rows_of_data_sources_that_nobody_uses_or_finds_are_told() {
    let unused = source("postgresql://db.example.com:5432/unused", SourceKind::Shared);
    let misspelt = source("postgres://DB.example.com/crm", SourceKind::Dedicated);
    let bad = data_sources::Model { direct_url: Some("mysql://x/y".to_owned()), ..source(SHARED, SourceKind::Shared) };
    let report = inspect(&settings(), &[placed(1, "acme", SHARED)], &[unused, misspelt, bad]);
    let told = told(&report, None);
    assert!(
        told.contains(&"Note data_sources.url: no tenant is in postgresql://db.example.com:5432/unused".to_owned())
    );
    assert!(told.iter().any(|line| line.starts_with("Warning data_sources.url: the row of postgresql://db.example")));
    assert!(told.iter().any(|line| line.starts_with("Error data_sources.direct_url: unknown scheme \"mysql\"")));
    let login_inside = source("postgresql://me:hunter2@db/crm", SourceKind::Shared);
    let report = inspect(&settings(), &[], &[login_inside]);
    assert!(!serde_json::to_string(&report).unwrap().contains("hunter2"));
}

#[test]
fn a_default_data_source_that_no_tenant_could_be_created_on_is_an_error() {
    let with = |url: &str, logins| {
        let url = UrlTemplate::parse(url).unwrap();
        Settings { default_data_source: Some(DefaultDataSource { url, logins, region: None }), ..settings() }
    };
    let logins = |restricted: &str, service: &str| {
        Some(DefaultLogins { restricted: login(restricted), service: login(service) })
    };
    let first =
        |settings: &Settings, sources: &[data_sources::Model]| told(&inspect(settings, &[], sources), None)[0].clone();
    assert!(first(&with(SHARED, None), &[]).contains("has no logins"));
    assert!(first(&with(SHARED, logins("one", "one")), &[]).contains("the restricted login is the service login"));
    let without_key = Settings { keyring: None, ..with(SHARED, logins("restricted", "service")) };
    assert!(first(&without_key, &[]).starts_with("Error ENCRYPTION_KEY"));
    assert!(first(&with("sqlite:/srv/app.db", None), &[]).contains("it is the application database"));
    assert!(first(&with("sqlite:/dev/null/{tenant_id}.db", None), &[]).contains("/dev/null is not a folder"));
    let dedicated = [source(SHARED, SourceKind::Dedicated)];
    assert!(first(&with(SHARED, logins("restricted", "service")), &dedicated).contains("takes one tenant only"));
    let none = Settings { default_data_source: None, ..settings() };
    assert!(inspect(&none, &[], &[]).passed());
}
