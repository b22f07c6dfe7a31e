//! No password and no key leaves the process: not in a log at trace level, a report, an error with its causes, `Debug`, or a
//! row that an administrator reads.
//!
//! The scenario runs in a process of its own, started by the test with everything that it prints and logs captured: a
//! subscriber for a whole process would listen to the other tests as well, and one for a thread would miss the driver's.

use std::{
    error::Error,
    fmt::Debug,
    process::{Command, Stdio},
};

use sea_orm::ActiveValue::Set;
use secrecy::ExposeSecret;
use serde::Serialize;
use tenantry::{
    Tenantry,
    operations::{
        Direction, Logins, MigrateScope, SealMode, check_config, checklist, migrate, seal_keys, test_data_sources,
        test_routing,
    },
};
use tenantry_connection::{Actor, DataSourceUrl};
use tenantry_credential::{CredentialColumn, Keyring, Login};
use tenantry_data_source::TenantHandle;
use tenantry_entities::accounts;
use tenantry_migrations::TenantDataMigrator;
use tenantry_repository::{Query, RepositoryExt};

use crate::world::{KEYS, Place, World, keyring};

/// Set in the process that runs the scenario.
const SCENARIO: &str = "TENANTRY_SECRETS_SCENARIO";

/// Printed before each secret, on lines that the test takes out of what it looks through.
const SECRET: &str = "the secret is: ";

/// Passwords of the scenario's own. Those of the logins come with it.
const WRONG: &str = "wrong-b51c7d0e9f";
const REPLACED: &str = "replaced-77a0c4e1d2";
const IN_A_URL: &str = "inaurl-90e1f2a3b4";

#[test]
fn no_secret_leaves_the_process() {
    let mut scenario = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "secrets::the_scenario", "--nocapture", "--test-threads", "1"])
        .env(SCENARIO, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = scenario.stderr.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut errors, &mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    });
    let output = scenario.wait_with_output().unwrap();
    let logged = reading.join().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "the scenario failed:\n{printed}\n{logged}");

    let (told, printed): (Vec<&str>, Vec<&str>) = printed.lines().partition(|line| line.contains(SECRET));
    let mut secrets: Vec<String> =
        told.iter().filter_map(|line| Some(line.split_once(SECRET)?.1.trim().to_owned())).collect();
    assert!(secrets.len() >= 6, "the logins' passwords: {secrets:?}");
    secrets.extend([WRONG, REPLACED, IN_A_URL].map(str::to_owned));
    secrets.extend(KEYS.map(|(_, hex)| hex.to_owned()));
    let everything = format!("{}\n{logged}", printed.join("\n"));
    for secret in &secrets {
        let at = everything.to_lowercase().find(&secret.to_lowercase());
        assert!(at.is_none(), "{secret} was told: …{}…", around(&everything, at.unwrap_or_default()));
    }
    // The scenario did what it was to do.
    for (sign, what) in [
        ("listening at trace level", "the log is captured down to the finest level"),
        ("sqlx::postgres", "the driver's log is captured"),
        ("the login was refused", "a wrong login was tried"),
        ("does not authenticate", "a sealed value was damaged"),
        ("\"section\":\"isolation\"", "the checklist is among the reports"),
        ("data_source_updated", "the audit log is among what was looked through"),
        ("UniqueViolation", "a statement failed"),
    ] {
        assert!(everything.contains(sign), "{what}: {sign:?} is missing in {} bytes", everything.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scenario() {
    if std::env::var_os(SCENARIO).is_none() {
        return;
    }
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(std::io::stderr).init();
    tracing::trace!("listening at trace level");
    let mut world = World::postgres().await;
    let own = world.place("own");
    for place in [world.shared(), own.clone()] {
        let logins = place.logins.as_ref().unwrap();
        for login in [&logins.restricted, &logins.service] {
            reveal(login);
        }
    }
    reveal(world.tenantry.settings().application_database.login.as_ref().unwrap());
    reveal(&crate::world::login_of(&world.databases[0].restricted));

    show(world.tenantry.settings());
    show(&world.tenantry);
    create_tenants(&world, &own).await;
    seal_what_lay_open(&world, &own).await;
    fail_statements(&world).await;
    connect_with_wrong_logins(&world, &own).await;
    report_everything(&world.tenantry).await;
    let mut other = world.tenantry.settings().clone();
    let key = secrecy::SecretString::from("5e".repeat(32));
    other.keyring = Some(std::sync::Arc::new(Keyring::new("new", [("new".to_owned(), key)]).unwrap()));
    report_everything(&Tenantry::connect(other).unwrap()).await;
}

async fn create_tenants(world: &World, own: &Place) {
    show(&world.tenant("acme").await);
    show(&world.tenant_on("globex", own).await);
    let logins = own.logins.clone().unwrap();
    let wrong = |login: &Login| Login::new(&login.user, WRONG.to_owned()).unwrap();
    for logins in [
        None,
        Some(Logins { restricted: wrong(&logins.restricted), service: logins.service.clone() }),
        Some(Logins { restricted: logins.restricted.clone(), service: wrong(&logins.service) }),
        Some(Logins { restricted: logins.service.clone(), service: logins.service.clone() }),
    ] {
        show(&logins);
        show_error(&world.try_tenant("initech", Some(&Place { logins, ..own.clone() })).await.unwrap_err());
    }
    show_error(&world.try_tenant("acme", None).await.unwrap_err());
    show_error(&DataSourceUrl::parse(&format!("postgresql://me:{IN_A_URL}@127.0.0.1/crm")).unwrap_err());
    world.app_sql("UPDATE tenants SET data_source_notes = 'moved' WHERE subdomain = 'acme'").await;
}

/// Logins in plain text, as the original left some, and under a retired key.
async fn seal_what_lay_open(world: &World, own: &Place) {
    let logins = own.logins.as_ref().unwrap();
    let tenants = world.tenantry.app_db().tenants().await.unwrap();
    let globex = tenants.iter().find(|tenant| tenant.subdomain == "globex").unwrap();
    let old = keyring("old").seal(globex.id, CredentialColumn::Service, &logins.service).unwrap();
    let plain = format!("{}:{}", logins.restricted.user, logins.restricted.password.expose_secret());
    let set = format!(
        "UPDATE tenants SET data_source_anon_key = '{}', data_source_service_key = '{old}' WHERE subdomain = 'globex'",
        plain.replace('\'', "''")
    );
    world.app_sql(&set).await;
    world.tenantry.manager().clear_all();
    report_everything(&world.tenantry).await;
    for mode in [SealMode::DryRun, SealMode::Apply, SealMode::Apply] {
        report(&seal_keys(&world.tenantry, mode, &Actor::default()).await.unwrap());
    }
    // A token instead of a login, and a neighbour's value: neither opens.
    let acme = tenants.iter().find(|tenant| tenant.subdomain == "acme").unwrap();
    let foreign = keyring("new").seal(acme.id, CredentialColumn::Anon, &logins.restricted).unwrap();
    let before = world.tenantry.app_db().tenant(globex.id).await.unwrap().unwrap().data_source_anon_key.unwrap();
    for value in [REPLACED, foreign.as_str()] {
        world.app_sql(&format!("UPDATE tenants SET data_source_anon_key = '{value}' WHERE subdomain = 'globex'")).await;
        world.tenantry.manager().clear_all();
        show_error(&world.tenantry.tenant(globex.id).await.unwrap_err());
        report(&seal_keys(&world.tenantry, SealMode::Apply, &Actor::default()).await.unwrap());
        report_everything(&world.tenantry).await;
    }
    let back = format!("UPDATE tenants SET data_source_anon_key = '{}' WHERE subdomain = 'globex'", before.as_str());
    world.app_sql(&back).await;
    world.tenantry.manager().clear_all();
}

async fn fail_statements(world: &World) {
    let tenants = world.tenantry.app_db().tenants().await.unwrap();
    let db = world.tenantry.tenant(tenants[0].id).await.unwrap();
    show(&db);
    let account = |id| accounts::ActiveModel { id: Set(id), name: Set("twice".to_owned()), ..Default::default() };
    let id = uuid::Uuid::new_v4();
    db.repository::<accounts::Entity>().create(account(id)).await.unwrap();
    show_error(&db.repository::<accounts::Entity>().create(account(id)).await.unwrap_err());
    let transaction = db.begin().await.unwrap();
    let raw = transaction.query_raw_sql_outside_the_tenant_guard("SELECT * FROM pg_authid", []).await;
    show_error(&raw.unwrap_err());
    show_error(&transaction.commit().await.unwrap_err());
    show(&db.select::<accounts::Entity>().all(&db).await.unwrap());
    show(&db.write_log(10).await.unwrap());
}

async fn connect_with_wrong_logins(world: &World, own: &Place) {
    let logins = own.logins.as_ref().unwrap();
    let app_db = world.tenantry.app_db();
    let tenant = app_db.tenant_by_subdomain("globex").await.unwrap().unwrap();
    let wrong = Login::new(&logins.restricted.user, WRONG.to_owned()).unwrap();
    let mut epoch = tenant.placement_epoch;
    for login in [&wrong, &logins.restricted] {
        let sealed = keyring("new").seal(tenant.id, CredentialColumn::Anon, login).unwrap();
        epoch = app_db.replace_credentials(tenant.id, epoch, Some(sealed), None, &Actor::default()).await.unwrap();
        world.tenantry.manager().clear_tenant(tenant.id).await;
        let db = world.tenantry.tenant(tenant.id).await.unwrap();
        match db.repository::<accounts::Entity>().count(&Query::new()).await {
            Ok(count) => println!("{count}"),
            Err(error) => show_error(&error),
        }
        report_everything(&world.tenantry).await;
    }
    // The application database itself.
    let mut settings = world.tenantry.settings().clone();
    let login = settings.application_database.login.take().unwrap();
    settings.application_database.login = Some(Login::new(login.user, WRONG.to_owned()).unwrap());
    let refused = Tenantry::connect(settings).unwrap();
    show_error(&refused.app_db().tenants().await.unwrap_err());
    report(&checklist::<TenantDataMigrator>(&refused).await);
    let all = MigrateScope { app_db: true, data_sources: true };
    report(&migrate::<TenantDataMigrator>(&refused, all, Direction::Status).await.unwrap());
}

async fn report_everything(tenantry: &Tenantry) {
    report(&checklist::<TenantDataMigrator>(tenantry).await);
    report(&check_config(tenantry).await.unwrap());
    report(&test_data_sources(tenantry, &[]).await.unwrap());
    match test_routing(tenantry, &[]).await {
        Ok(routing) => report(&routing),
        Err(error) => show_error(&error),
    }
    let all = MigrateScope { app_db: true, data_sources: true };
    report(&migrate::<TenantDataMigrator>(tenantry, all, Direction::Status).await.unwrap());
    report(&tenantry.manager().cache_stats().await);
    show(tenantry.manager());
    for tenant in tenantry.app_db().tenants().await.unwrap() {
        show(&tenant);
        show(&tenantry.app_db().placement(tenant.id).await.unwrap());
        match tenantry.manager().connection_info(tenant.id).await {
            Ok(info) => report(&info),
            Err(error) => show_error(&error),
        }
        if let Ok(route) = tenantry.manager().route(tenant.id).await {
            // A route keeps its credentials sealed.
            show(&route);
        }
    }
    for entry in tenantry.app_db().audit_entries(None, 1000).await.unwrap() {
        println!("{} {}", entry.action, entry.changes.unwrap_or_default());
    }
}

/// Names a secret. The passwords end in 32 digits that are in no other text, however the rest is escaped.
fn reveal(login: &Login) {
    let password = login.password.expose_secret();
    println!("{SECRET}{}", &password[password.len() - 32..]);
}

fn report(report: &(impl Serialize + Debug)) {
    println!("{}", serde_json::to_string(report).unwrap());
    show(report);
}

fn show(value: &impl Debug) {
    println!("{value:?}");
    println!("{value:#?}");
}

fn show_error(error: &(dyn Error + 'static)) {
    println!("{error:?}\n{error:#?}");
    let mut cause = Some(error);
    while let Some(error) = cause {
        println!("{error}");
        cause = error.source();
    }
}

fn around(text: &str, at: usize) -> String {
    let from = (0..=at.saturating_sub(200)).rev().find(|from| text.is_char_boundary(*from)).unwrap_or_default();
    text[from..].chars().take(400).collect()
}
