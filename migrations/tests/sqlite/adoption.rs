//! The application database's migrator on a database that has tables and rows already.

use sea_orm_migration::MigratorTrait;
use tenantry_migrations::{AppDbMigrator, fence};

use crate::database::{A, A_TEXT, B, Database};

const TIME: &str = "'2026-01-01T00:00:00.000000+00:00'";

/// Fewer columns, no constraints worth the name, and a business table beside them.
async fn existing() -> Database {
    let database = Database::empty().await;
    database
        .run(&format!(
            "CREATE TABLE tenants (id blob PRIMARY KEY, name text NOT NULL, subdomain text NOT NULL UNIQUE, plan text DEFAULT 'starter', status text, created_at text, legacy integer);
             CREATE TABLE users (id blob PRIMARY KEY, tenant_id blob, email text NOT NULL, role text);
             CREATE TABLE audit_log (id blob PRIMARY KEY, tenant_id blob, action text NOT NULL, entity_type text NOT NULL, created_at text);
             CREATE TABLE deals (id integer PRIMARY KEY, tenant_id blob REFERENCES tenants (id), title text);
             INSERT INTO tenants VALUES ({A}, 'Acme', 'acme', 'starter', 'active', {TIME}, 1), ({B}, 'Beta', 'beta', 'starter', 'active', {TIME}, 2);
             INSERT INTO users VALUES ({A}, {A}, 'me@x.io', 'user');
             INSERT INTO audit_log VALUES ({A}, {A}, 'created', 'tenant', {TIME});
             INSERT INTO deals VALUES (1, {A}, 'one'), (2, {B}, 'two')"
        ))
        .await;
    database
}

const ROWS: &str = "SELECT hex(id), name, subdomain, plan, status, created_at, CAST(legacy AS text) FROM tenants
     UNION ALL SELECT hex(id), hex(tenant_id), email, role, '', '', '' FROM users
     UNION ALL SELECT hex(id), hex(tenant_id), action, entity_type, created_at, '', '' FROM audit_log
     UNION ALL SELECT CAST(id AS text), hex(tenant_id), title, '', '', '', '' FROM deals";

// Catches an adoption that rewrites rows, and a rollback that takes the owner's tables or columns along.
#[tokio::test]
async fn up_touches_no_value_and_down_leaves_what_was_there() {
    let database = existing().await;
    let (rows, schema) = (database.rows(ROWS).await, database.schema().await);
    AppDbMigrator::up(&database.connection, None).await.unwrap();
    assert_eq!(database.rows(ROWS).await, rows);
    assert_eq!(
        database.rows("SELECT data_source_url, data_source_anon_key, CAST(placement_epoch AS text), connection_pool_config FROM tenants LIMIT 1").await,
        [r#"||0|{"min":2,"max":10}"#]
    );
    AppDbMigrator::down(&database.connection, None).await.unwrap();
    assert_eq!(database.rows(ROWS).await, rows);
    assert_eq!(database.schema().await, schema);
}

// Catches rules that hold for new tables only.
#[tokio::test]
async fn adopted_tables_keep_the_same_promises() {
    let database = existing().await;
    AppDbMigrator::up(&database.connection, None).await.unwrap();
    for (change, why) in [
        ("UPDATE tenants SET plan = 'gold'", "tenants_plan_check"),
        ("UPDATE tenants SET plan = NULL", "NOT NULL constraint failed: tenants.plan"),
        ("UPDATE tenants SET data_source_anon_key = 'k'", "tenants_data_source_keys_check"),
        (
            "UPDATE tenants SET data_source_url = 'postgresql://u:p@h/d', data_source_anon_key = 'k', data_source_service_key = 'k'",
            "url_check",
        ),
        ("UPDATE tenants SET subdomain = 'BETA' WHERE subdomain = 'acme'", "UNIQUE constraint failed"),
        ("UPDATE tenants SET placement_epoch = 9", "kept by the database"),
        ("UPDATE audit_log SET action = 'x'", "only ever added"),
        ("INSERT INTO users (id, tenant_id, email) VALUES (randomblob(16), randomblob(16), 'x')", "users.tenant_id"),
        ("UPDATE users SET tenant_id = 'text'", "users_tenant_id_check"),
    ] {
        database.assert_refused(change, why).await;
    }
    // What the old table has no default for is filled in.
    database.run("INSERT INTO tenants (id, name, subdomain) VALUES (randomblob(16), 'New', 'new')").await;
    database.run("INSERT INTO audit_log (id, action, entity_type) VALUES (randomblob(16), 'x', 'y')").await;
    assert_eq!(
        database.rows("SELECT status, plan FROM tenants WHERE subdomain = 'new' AND created_at > '2026' AND updated_at > '2026'").await,
        ["active|starter"]
    );
    database.run("UPDATE tenants SET data_source_url = 'sqlite:/a.db' WHERE subdomain = 'acme'").await;
    assert_eq!(database.text("SELECT placement_epoch FROM tenants WHERE subdomain = 'acme'").await, "1");
    assert_eq!(database.text("SELECT count(*) FROM audit_log WHERE action = 'data_source_updated'").await, "1");
    database.run("DELETE FROM deals; DELETE FROM tenants").await;
    assert_eq!(database.text("SELECT count(*) FROM users").await, "0");
}

// Catches a rollback of adoption that drops values somebody has written since.
#[tokio::test]
async fn down_refuses_to_lose_values_in_added_columns() {
    let database = existing().await;
    AppDbMigrator::up(&database.connection, None).await.unwrap();
    database.run("UPDATE tenants SET data_source_url = 'sqlite:/a.db' WHERE subdomain = 'acme'").await;
    let message = AppDbMigrator::down(&database.connection, None).await.unwrap_err().to_string();
    assert!(message.contains("column data_source_url of tenants has values of its own in 1 row(s)"), "{message}");
}

// Catches an adoption that stops half-way through.
#[tokio::test]
async fn rows_that_do_not_fit_are_named_before_anything_changes() {
    let database = existing().await;
    database
        .run(&format!(
            "UPDATE tenants SET plan = 'gold' WHERE id = {A};
             INSERT INTO tenants (id, name, subdomain, status) VALUES (x'01', 'x', 'ACME', NULL);
             INSERT INTO users VALUES ({B}, x'CCCCCCCC00004000800000000000000C', 'x', 'root')"
        ))
        .await;
    let schema = database.schema().await;
    let message = AppDbMigrator::up(&database.connection, None).await.unwrap_err().to_string();
    for part in [
        &format!("tenants_plan_check: 1 row(s) do not fit (id: {A_TEXT})"),
        "tenants_subdomain_key",
        "column status must have a value: 1 row(s)",
        "column id must be stored as docs/storage.md says: 1 row(s)",
        "users_role_check: 1 row(s)",
        "tenant_id must be the id of a tenant: 1 row(s)",
    ] {
        assert!(message.contains(part), "expected {part:?} in: {message}");
    }
    assert_eq!(database.schema().await, schema);
}

// Catches a fence that holds this project's own tables only.
#[tokio::test]
async fn the_fence_holds_an_adopted_business_table() {
    let database = existing().await;
    fence::install(&database.connection).await.unwrap();
    fence::install(&database.connection).await.unwrap();
    fence::attach(&database.connection, "deals", "tenant_id").await.unwrap();
    fence::attach(&database.connection, "deals", "tenant_id").await.unwrap();
    fence::raise(&database.connection, A_TEXT, "moving").await.unwrap();
    database.assert_refused("UPDATE deals SET title = 'x' WHERE id = 1", fence::FENCED_SQLITE_MESSAGE).await;
    database.run("UPDATE deals SET title = 'x' WHERE id = 2").await;
    database
        .assert_refused(&format!("UPDATE deals SET tenant_id = {A} WHERE id = 2"), fence::FENCED_SQLITE_MESSAGE)
        .await;
    fence::detach(&database.connection, "deals").await.unwrap();
    database.run("UPDATE deals SET title = 'x' WHERE id = 1").await;
}

// A dot was read as the end of a schema's name: the fence went to another table, or to none.
#[tokio::test]
async fn the_fence_holds_a_table_with_a_dot_in_its_name() {
    let database = existing().await;
    database.run("CREATE TABLE \"archive.deals\" (tenant_id uuid_text NOT NULL, title text)").await;
    fence::install(&database.connection).await.unwrap();
    fence::attach(&database.connection, "archive.deals", "tenant_id").await.unwrap();
    fence::raise(&database.connection, A_TEXT, "moving").await.unwrap();
    let insert = format!("INSERT INTO \"archive.deals\" (tenant_id) VALUES ({A})");
    database.assert_refused(&insert, fence::FENCED_SQLITE_MESSAGE).await;
    database.run("UPDATE deals SET title = 'x' WHERE id = 1").await;
    fence::detach(&database.connection, "archive.deals").await.unwrap();
    database.run(&insert).await;
}
