//! The application database's migrator on a database that has tables and rows already.

use sea_orm_migration::MigratorTrait;
use tenantry_migrations::AppDbMigrator;
use tenantry_test_support::cluster::{Cluster, Database};

use super::{A, B, connect, migrate_app_db, service, service_refused};

fn existing() -> Database {
    let database = Cluster::shared().unwrap().create_database("schema_adopted").unwrap();
    service(
        &database,
        &format!(
            "CREATE TABLE tenants (id uuid PRIMARY KEY, name varchar(255) NOT NULL, subdomain varchar(63) NOT NULL UNIQUE,
                 plan text DEFAULT 'starter', status text, settings json, created_at timestamptz DEFAULT now(), legacy int);
             CREATE TABLE users (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id uuid, email text NOT NULL, role text);
             CREATE TABLE audit_log (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id uuid, user_id uuid REFERENCES users (id),
                 action text NOT NULL, entity_type text NOT NULL, created_at timestamptz DEFAULT now());
             CREATE TABLE deals (id serial PRIMARY KEY, tenant_id uuid REFERENCES tenants (id), title text);
             INSERT INTO tenants (id, name, subdomain, status, settings, legacy)
                 VALUES ('{A}', 'Acme', 'acme', 'active', '{{\"a\" :1}}', 1), ('{B}', 'Beta', 'beta', 'active', '{{}}', 2);
             INSERT INTO users (id, tenant_id, email, role) VALUES ('{A}', '{A}', 'me@x.io', 'user');
             INSERT INTO audit_log (tenant_id, action, entity_type) VALUES ('{A}', 'created', 'tenant');
             INSERT INTO deals (tenant_id, title) VALUES ('{A}', 'one'), ('{B}', 'two');"
        ),
    );
    database
}

fn rows(database: &Database) -> String {
    service(
        database,
        "SELECT id, name, subdomain, plan, status, settings, created_at, legacy, xmin FROM tenants ORDER BY id;
         SELECT id, tenant_id, email, role, xmin FROM users ORDER BY id;
         SELECT id, tenant_id, user_id, action, entity_type, created_at, xmin FROM audit_log ORDER BY id;
         SELECT *, xmin FROM deals ORDER BY id;",
    )
}

/// Columns, constraints, indexes and triggers, without the migrator's history.
fn schema(database: &Database) -> String {
    service(
        database,
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
           FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
           LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
          WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped AND c.relname NOT LIKE '%migrations%' ORDER BY 1, 2;
         SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint
          WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text NOT LIKE '%migrations%' ORDER BY 1, 2;
         SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2;
         SELECT nspname FROM pg_namespace WHERE nspname = 'tenantry';",
    )
}

// Catches an adoption that rewrites rows (their xmin would tell), and a rollback that takes the owner's columns along.
#[tokio::test(flavor = "multi_thread")]
async fn up_touches_no_row_and_down_leaves_what_was_there() {
    let database = existing();
    let (before, objects) = (rows(&database), schema(&database));
    migrate_app_db(&database).await.unwrap();
    assert_eq!(rows(&database), before);
    assert_eq!(
        service(
            &database,
            "SELECT data_source_url, data_source_anon_key, placement_epoch, connection_pool_config FROM tenants LIMIT 1;"
        ),
        r#"||0|{"max": 10, "min": 2}"#
    );
    let connection = connect(&database, &database.service).await;
    AppDbMigrator::down(&connection, None).await.unwrap();
    connection.close().await.unwrap();
    assert_eq!(rows(&database), before);
    assert_eq!(schema(&database), objects);
}

// Catches promises that hold for new tables only.
#[tokio::test(flavor = "multi_thread")]
async fn adopted_tables_keep_the_same_promises() {
    let database = existing();
    migrate_app_db(&database).await.unwrap();
    for (change, sqlstate) in [
        ("UPDATE tenants SET plan = 'gold';", "23514"),
        ("UPDATE tenants SET plan = NULL;", "23502"),
        ("UPDATE tenants SET data_source_anon_key = 'k';", "23514"),
        ("UPDATE tenants SET subdomain = 'BETA' WHERE subdomain = 'acme';", "23505"),
        ("UPDATE tenants SET placement_epoch = 9;", "TN005"),
        ("DELETE FROM audit_log;", "TN003"),
        ("INSERT INTO users (tenant_id, email) VALUES (gen_random_uuid(), 'x');", "23503"),
    ] {
        assert_eq!(service_refused(&database, change), sqlstate, "{change}");
    }
    // The old log refers to users; an actor who is none must not keep the change from being made or recorded.
    service(
        &database,
        &format!("SET app.current_user_id = '{B}'; UPDATE tenants SET data_source_region = 'eu' WHERE id = '{A}';"),
    );
    service(
        &database,
        &format!("SET app.current_user_id = '{A}'; UPDATE tenants SET data_source_region = 'us' WHERE id = '{A}';"),
    );
    assert_eq!(
        service(&database, "SELECT user_id FROM audit_log WHERE action = 'data_source_updated' ORDER BY created_at;"),
        A,
        "the first has no user"
    );
    assert_eq!(service(&database, "SELECT count(*) FROM audit_log WHERE action = 'data_source_updated';"), "2");
    let connection = connect(&database, &database.service).await;
    let refusal = AppDbMigrator::down(&connection, None).await.unwrap_err().to_string();
    assert!(refusal.contains("column data_source_region of tenants has values of its own in 1 row(s)"), "{refusal}");
    connection.close().await.unwrap();
}

// Catches an adoption that stops half-way through, or that does not say which rows are in its way.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_fit_are_named_before_anything_changes() {
    let database = existing();
    service(
        &database,
        &format!(
            "UPDATE tenants SET plan = 'gold' WHERE id = '{A}';
             UPDATE tenants SET status = NULL WHERE id = '{B}';
             INSERT INTO tenants (id, name, subdomain, status, settings) VALUES (gen_random_uuid(), 'x', 'ACME', 'active', '{{}}');
             INSERT INTO users (tenant_id, email, role) VALUES (gen_random_uuid(), 'x', 'root');
             ALTER TABLE audit_log ADD COLUMN ip_address inet, ADD COLUMN source text NOT NULL DEFAULT 'x';
             ALTER TABLE audit_log ALTER COLUMN source DROP DEFAULT;"
        ),
    );
    let objects = schema(&database);
    let refusal = migrate_app_db(&database).await.unwrap_err().to_string();
    assert!(refusal.contains("column ip_address is of type inet and must be text"), "{refusal}");
    assert!(
        refusal.contains("audit_log: column source must have a value, which the database does not know"),
        "{refusal}"
    );
    for part in [
        format!("tenants_plan_check: 1 row(s) do not fit (id: {A})"),
        format!("column status must have a value: 1 row(s) do not fit (id: {B})"),
        "tenants_subdomain_key".to_owned(),
        "users_role_check: 1 row(s)".to_owned(),
        "tenant_id must be the id of a tenant: 1 row(s)".to_owned(),
    ] {
        assert!(refusal.contains(&part), "expected {part:?} in: {refusal}");
    }
    assert_eq!(schema(&database), objects);
}
