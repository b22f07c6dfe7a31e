//! The application database: rules, audit, epoch.

use sea_orm_migration::MigratorTrait;
use tenantry_migrations::AppDbMigrator;

use crate::database::{A, A_TEXT, B, Database};

const PLACED: &str = "data_source_url = 'postgresql://host:5432/db', data_source_anon_key = 'SEALED-A', \
                      data_source_service_key = 'SEALED-S', data_source_region = 'eu-1'";

async fn with_tenant() -> Database {
    let database = Database::app_db().await;
    database.run(&format!("INSERT INTO tenants (id, name, subdomain) VALUES ({A}, 'Acme', 'acme')")).await;
    database
}

async fn epoch(database: &Database) -> i64 {
    database.text("SELECT placement_epoch FROM tenants WHERE subdomain = 'acme'").await.parse().unwrap()
}

// Catches a rule that only PostgreSQL has.
#[tokio::test]
async fn rules_refuse_what_they_refuse_on_postgresql() {
    let database = with_tenant().await;
    for (subdomain, why) in [
        ("ACME", "UNIQUE constraint failed"),
        ("-a", "tenants_subdomain_check"),
        ("a-", "tenants_subdomain_check"),
        ("a_b", "tenants_subdomain_check"),
        ("", "tenants_subdomain_check"),
        (&"a".repeat(64), "tenants_subdomain_check"),
    ] {
        database
            .assert_refused(&format!("INSERT INTO tenants (name, subdomain) VALUES ('x', '{subdomain}')"), why)
            .await;
    }
    for (change, why) in [
        ("plan = 'gold'", "tenants_plan_check"),
        ("status = 'gone'", "tenants_status_check"),
        ("data_source_url = 'postgresql://h/db'", "tenants_data_source_keys_check"),
        ("data_source_anon_key = 'k'", "tenants_data_source_keys_check"),
        ("data_source_url = 'sqlite:/a.db', data_source_anon_key = 'k', data_source_service_key = 'k'", "keys_check"),
        (
            "data_source_url = 'postgresql://u:p@h/db', data_source_anon_key = 'k', data_source_service_key = 'k'",
            "tenants_data_source_url_check",
        ),
        (
            "data_source_url = 'postgresql://h/db?password=p', data_source_anon_key = 'k', data_source_service_key = 'k'",
            "tenants_data_source_url_check",
        ),
        ("settings = '{'", "tenants_settings_check"),
        ("created_at = '2026-01-01'", "tenants_created_at_check"),
    ] {
        database.assert_refused(&format!("UPDATE tenants SET {change}"), why).await;
    }
    database.run("UPDATE tenants SET data_source_url = 'sqlite:/dir/a@b.db'").await;
    database.run(&format!("INSERT INTO users (tenant_id, email) VALUES ({A}, 'Me@x.io')")).await;
    let again = format!("INSERT INTO users (tenant_id, email) VALUES ({A}, 'mE@X.io')");
    database.assert_refused(&again, "UNIQUE constraint failed").await;
    let orphan = format!("INSERT INTO users (tenant_id, email) VALUES ({B}, 'a@x.io')");
    database.assert_refused(&orphan, "FOREIGN KEY constraint failed").await;
    database.assert_refused("UPDATE users SET role = 'root'", "users_role_check").await;
    let url = "INSERT INTO data_sources (url) VALUES ('postgresql://u@h/db')";
    database.assert_refused(url, "data_sources_url_check").await;
}

// Catches an audit row that is missing, doubled, or tells a key.
#[tokio::test]
async fn a_changed_data_source_leaves_one_audit_row_and_no_secret() {
    let database = with_tenant().await;
    assert_eq!(database.text("SELECT count(*) FROM audit_log").await, "0");
    database.run(&format!("UPDATE tenants SET {PLACED}")).await;
    database
        .run(&format!(
            "INSERT INTO tenantry_session VALUES ('app.current_user_id', '{}'), ('app.client_ip', '10.0.0.1'), ('app.user_agent', '')",
            A_TEXT.to_uppercase()
        ))
        .await;
    database.run("UPDATE tenants SET data_source_region = 'us-1', data_source_service_key = 'SEALED-2'").await;
    database.run("UPDATE tenants SET data_source_region = 'us-1', name = 'Acme 2'").await;
    database.run("UPDATE tenantry_session SET value = 'nobody' WHERE name = 'app.current_user_id'").await;
    database.run("UPDATE tenants SET data_source_notes = 'n'").await;
    let rows = database
        .rows(
            "SELECT action, entity_type, entity_id, coalesce(hex(user_id), ''), ip_address, user_agent, changes
               FROM audit_log ORDER BY rowid",
        )
        .await;
    let expected = [
        format!(
            r#"data_source_updated|tenant|{A_TEXT}||||{{"previous":{{"data_source_url":null,"data_source_region":null}},"new":{{"data_source_url":"postgresql://host:5432/db","data_source_region":"eu-1"}},"changed":["data_source_url","data_source_anon_key","data_source_service_key","data_source_region"]}}"#
        ),
        format!(
            r#"data_source_updated|tenant|{A_TEXT}|AAAAAAAA00004000800000000000000A|10.0.0.1||{{"previous":{{"data_source_url":"postgresql://host:5432/db","data_source_region":"eu-1"}},"new":{{"data_source_url":"postgresql://host:5432/db","data_source_region":"us-1"}},"changed":["data_source_service_key","data_source_region"]}}"#
        ),
        format!(
            r#"data_source_updated|tenant|{A_TEXT}||10.0.0.1||{{"previous":{{"data_source_url":"postgresql://host:5432/db","data_source_region":"us-1"}},"new":{{"data_source_url":"postgresql://host:5432/db","data_source_region":"us-1"}},"changed":["data_source_notes"]}}"#
        ),
    ];
    assert_eq!(rows, expected);

    database.run("INSERT INTO tenants (name, subdomain, data_source_url) VALUES ('B', 'b', 'sqlite:/b.db')").await;
    assert_eq!(
        database.text("SELECT json_extract(changes, '$.changed') FROM audit_log ORDER BY rowid DESC LIMIT 1").await,
        r#"["data_source_url"]"#
    );
}

// Catches an audit log that can be rewritten.
#[tokio::test]
async fn audit_rows_are_only_ever_added() {
    let database = with_tenant().await;
    database.run("INSERT INTO audit_log (action, entity_type) VALUES ('x', 'y')").await;
    database.assert_refused("UPDATE audit_log SET action = 'z'", "only ever added").await;
    database.assert_refused("DELETE FROM audit_log", "only ever added").await;
}

// Catches a cached route that outlives the change of where or how the tenant is reached.
#[tokio::test]
async fn the_epoch_grows_with_every_change_of_how_a_tenant_is_reached() {
    let database = with_tenant().await;
    let mut expected = 0;
    for (change, step) in [
        ("UPDATE tenants SET name = 'Acme 2', data_source_notes = 'n', data_source_region = 'eu'", 0),
        (&format!("UPDATE tenants SET {PLACED}"), 1),
        (&format!("UPDATE tenants SET {PLACED}"), 0),
        ("UPDATE tenants SET status = 'suspended'", 1),
        (r#"UPDATE tenants SET connection_pool_config = '{"min":1,"max":2}'"#, 1),
        ("UPDATE tenants SET tenant_id_in_data_source = '7'", 1),
        ("UPDATE tenants SET data_source_service_key = 'SEALED-2'", 1),
        ("INSERT INTO data_sources (url) VALUES ('postgresql://host:5432/db')", 0),
        ("UPDATE data_sources SET notes = 'n', region = 'eu', schema_version = '1'", 0),
        ("UPDATE data_sources SET max_connections = 5", 1),
        ("UPDATE data_sources SET pooler_mode = 'transaction', direct_url = 'postgresql://d/db'", 1),
        ("UPDATE data_sources SET settings = '{\"a\":1}'", 1),
        ("UPDATE data_sources SET url = 'postgresql://other/db'", 1),
        ("DELETE FROM data_sources", 0),
    ] {
        database.run(change).await;
        expected += step;
        assert_eq!(epoch(&database).await, expected, "{change}");
    }
    for by_hand in ["placement_epoch = 0", "placement_epoch = placement_epoch + 1", "placement_epoch = NULL"] {
        let message = database.refused(&format!("UPDATE tenants SET {by_hand}")).await;
        assert!(message.contains("placement_epoch"), "{message}");
    }
    let preset = "INSERT INTO tenants (name, subdomain, placement_epoch) VALUES ('x', 'x', 3)";
    database.assert_refused(preset, "kept by the database").await;
    assert_eq!(database.text("SELECT count(*) FROM tenantry_session").await, "0");
}

#[tokio::test]
async fn updated_at_is_kept_and_users_go_with_their_tenant() {
    let database = with_tenant().await;
    database.run(&format!("INSERT INTO users (tenant_id, email) VALUES ({A}, 'me@x.io')")).await;
    let old = "'2020-01-01T00:00:00.000000+00:00'";
    database.run(&format!("UPDATE tenants SET name = 'n', updated_at = {old}")).await;
    database.run(&format!("UPDATE users SET first_name = 'n', updated_at = {old}")).await;
    assert_eq!(
        database
            .text("SELECT count(*) FROM tenants, users WHERE tenants.updated_at > '2026' AND users.updated_at > '2026'")
            .await,
        "1"
    );
    database.run("DELETE FROM tenants").await;
    assert_eq!(database.text("SELECT count(*) FROM users").await, "0");
}

// Catches a rollback that throws rows away, and one that leaves objects behind.
#[tokio::test]
async fn down_refuses_rows_and_otherwise_leaves_nothing() {
    let database = with_tenant().await;
    let message = AppDbMigrator::down(&database.connection, None).await.unwrap_err().to_string();
    assert!(message.contains("table tenants has 1 row(s)"), "{message}");
    database.run("DELETE FROM tenants").await;
    AppDbMigrator::down(&database.connection, None).await.unwrap();
    assert_eq!(database.schema().await, Vec::<String>::new());
    AppDbMigrator::up(&database.connection, None).await.unwrap();
    AppDbMigrator::up(&database.connection, None).await.unwrap();
}

// Catches SeaORM's `fresh`, which drops every table of the database.
#[tokio::test]
async fn fresh_is_refused() {
    let database = with_tenant().await;
    let message = AppDbMigrator::fresh(&database.connection).await.unwrap_err().to_string();
    assert!(message.contains("use `down`, then `up`"), "{message}");
    assert_eq!(database.text("SELECT count(*) FROM tenants").await, "1");
}

// Catches a change of a placement that no process hears of, and a noise that makes every process ask for nothing.
#[tokio::test]
async fn every_change_of_a_placement_is_announced_and_nothing_else() {
    let database = with_tenant().await;
    let mut expected = 0;
    for (change, announced) in [
        ("UPDATE tenants SET name = 'Acme 2', data_source_notes = 'n'", false),
        (&format!("UPDATE tenants SET {PLACED}") as &str, true),
        (&format!("UPDATE tenants SET {PLACED}"), false),
        ("UPDATE tenants SET status = 'suspended'", true),
        ("INSERT INTO data_sources (url, max_connections) VALUES ('postgresql://host:5432/db', 5)", true),
        ("INSERT INTO tenants (name, subdomain) VALUES ('Beta', 'beta')", false),
        ("DELETE FROM tenants WHERE subdomain = 'acme'", true),
    ] {
        database.run(change).await;
        expected += i64::from(announced);
        let version = database.text("SELECT version FROM tenantry_placement_version").await;
        assert_eq!(version, expected.to_string(), "{change}");
    }
    let changed = database.rows("SELECT hex(tenant), CAST(version AS text) FROM tenantry_placement_changes").await;
    assert_eq!(changed, [format!("{}|{expected}", A_TEXT.replace('-', "").to_uppercase())]);
}
