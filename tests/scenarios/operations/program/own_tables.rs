//! An application's own tables and tenant column, operated from migration to isolation check.

use serde_json::json;
use tenantry::operations::{Direction, MigrateScope, NewTenantRequest, create_tenant, migrate, test_routing};
use tenantry_app_db::{Error as StoreError, entities::Plan};
use tenantry_connection::{Actor, Engine};
use tenantry_migrations::TenantDataMigrator;
use tenantry_realm::TenantKeyType;

use super::Program;
use crate::world::{World, on_both_engines};

on_both_engines!(every_command_works_on_tables_of_the_applications_own, a_tenant_keeps_its_id_in_the_data_source);

/// Catches a command that knows the reference schema, a report that no script can read, and one that tells a login.
async fn every_command_works_on_tables_of_the_applications_own(world: World) {
    let depot = Program::of(&world);
    // Tenantry's tables were there; the depot's own in the application database were not.
    let before = depot.json(1, &["migrate", "status", "--app-db"]);
    assert_eq!(before["databases"][0]["pending"], json!(["depot"]), "{before:#}");
    let up = depot.json(0, &["migrate", "up"]);
    assert_eq!(up["databases"][0]["changed"], json!(["depot"]), "{up:#}");
    assert_eq!(depot.exits(0, &["open", "north"]).stdout, "1 halls\n");
    let down = depot.json(0, &["migrate", "down", "--app-db"]);
    assert_eq!(down["databases"][0]["changed"], json!(["depot"]), "its own go first: {down:#}");
    depot.exits(2, &["open", "south"]);
    depot.exits(0, &["migrate", "up", "--app-db"]);
    assert_eq!(depot.exits(0, &["open", "south"]).stdout, "1 halls\n");
    let new = |subdomain, id| {
        let arguments =
            ["create-tenant", "--name", "A Ltd", "--subdomain", subdomain, "--tenant-id-in-data-source", id];
        depot.json(0, &arguments)
    };
    let acme = new("acme", "42");
    assert_eq!(acme["tenant_id_in_data_source"], "42", "{acme:#}");
    let globex = new("globex", "43");

    // The attack: each of two tenants, in one data source on PostgreSQL, counts what it can see.
    depot.exits(0, &["receive", "--tenant", "acme", "crates"]);
    assert_eq!(depot.exits(0, &["stock", "--tenant", "acme"]).stdout, "1 goods\n");
    assert_eq!(depot.exits(0, &["stock", "--tenant", "globex"]).stdout, "0 goods\n");

    let migrations = depot.json(0, &["migrate", "status"]);
    let sources = if world.engine == Engine::Sqlite { 2 } else { 1 };
    let databases = migrations["databases"].as_array().unwrap();
    assert_eq!(databases.len(), 1 + sources, "{migrations:#}");
    assert!(databases[1]["applied"].as_array().unwrap().len() == 2, "foundation and goods: {migrations:#}");

    let listed = depot.json(0, &["list-tenants"]);
    let subdomains: Vec<_> = listed["tenants"].as_array().unwrap().iter().map(|tenant| &tenant["subdomain"]).collect();
    assert_eq!(subdomains, [&json!("acme"), &json!("globex")]);
    assert_eq!(listed["tenants"][0]["tenant_id_in_data_source"], "42");

    let reports = [
        depot.json(0, &["check-tenant-config"]),
        depot.json(0, &["encrypt-tenant-keys"]),
        depot.json(0, &["test-data-source", "--all"]),
        depot.json(0, &["test-routing"]),
        depot.json(0, &["test-dual-database"]),
        depot.json(0, &["check-isolation"]),
        listed,
        migrations,
    ];
    let attacked = reports[5]["data_sources"][0]["attacks"].as_u64().unwrap();
    assert!((attacked > 0) == (world.engine == Engine::Postgres), "{:#}", reports[5]);
    for database in &world.databases {
        for login in [&database.restricted, &database.service] {
            assert!(reports.iter().all(|report| !report.to_string().contains(&login.password)), "a password was told");
        }
    }
    let entries = world.tenantry.app_db().audit_entries(None, 100).await.unwrap();
    assert!(entries.iter().any(|entry| entry.user_agent.as_deref() == Some("depot create-tenant")), "{entries:#?}");

    // Something wrong is exit status 1, in words and as a report.
    world.app_sql("UPDATE tenants SET tenant_id_in_data_source = 'forty-two' WHERE subdomain = 'acme'").await;
    let found = depot.exits(1, &["check-tenant-config"]);
    assert!(found.stdout.contains("BROKEN") && !found.stdout.contains("xtask"), "{found:#?}");
    // One tenant's fault ends nothing for its neighbour.
    let tested = depot.json(1, &["test-data-source", "--all"]);
    assert_eq!(tested["tests"].as_array().unwrap().len(), 2, "{tested:#}");
    let probed = depot.json(1, &["test-routing"]);
    let probe = |name: &str| {
        let tenant = if name == "acme" { &acme["tenant"] } else { &globex["tenant"] };
        probed["probes"].as_array().unwrap().iter().find(|probe| probe["tenant"] == *tenant).unwrap()
    };
    assert!(probe("acme")["error"].as_str().unwrap().contains("not a valid bigint"), "{probed:#}");
    assert!(probe("globex")["error"].is_null() && probe("globex")["read_back"] == true, "{probed:#}");
    depot.exits(0, &["migrate", "up"]);
    let refused = depot.json(1, &["migrate-tenant-data", "--tenant", "acme", "--verify"]);
    assert_eq!(refused["tenants"][0]["outcome"], "failed", "{refused:#}");
}

/// Regression: the id in the data source was checked and then forgotten, so that a tenant whose column is no uuid was made and
/// could never be reached.
async fn a_tenant_keeps_its_id_in_the_data_source(world: World) {
    let tenantry = world.restarted(|settings| settings.tenant_key_type = TenantKeyType::Text);
    let scope = MigrateScope { app_db: true, data_sources: true };
    assert!(migrate::<TenantDataMigrator>(&tenantry, scope, Direction::Up).await.unwrap().is_complete());
    let request = |subdomain: &str, id: &str| NewTenantRequest {
        name: subdomain.to_owned(),
        subdomain: subdomain.to_owned(),
        plan: Plan::Starter,
        tenant_id_in_data_source: Some(id.to_owned()),
        data_source: None,
    };
    let create = async |subdomain, id| {
        create_tenant::<TenantDataMigrator>(&tenantry, request(subdomain, id), &Actor::default()).await
    };
    let acme = create("acme", "ACME-1").await.unwrap();
    assert_eq!(acme.tenant_id_in_data_source.as_deref(), Some("ACME-1"));
    let handle = tenantry.tenant(acme.id).await.unwrap();
    assert_eq!(tenantry_data_source::TenantHandle::key(&handle).to_string(), "ACME-1");
    assert!(test_routing(&tenantry, &[]).await.unwrap().passed());

    // The attack: a neighbour with the same id in the same data source would see acme's rows.
    let taken = create("globex", "ACME-1").await;
    match world.engine {
        Engine::Sqlite => assert!(taken.is_ok(), "a file of its own: {taken:?}"),
        Engine::Postgres => {
            assert!(matches!(taken, Err(tenantry::Error::Store(StoreError::KeyTaken { .. }))), "{taken:?}");
        }
    }
}
