//! The application database audits itself and keeps the placement epoch, whatever client writes.

use super::{A, app_db, service, service_refused};

async fn with_tenant() -> tenantry_test_support::cluster::Database {
    let database = app_db().await;
    service(&database, &format!("INSERT INTO tenants (id, name, subdomain) VALUES ('{A}', 'Acme', 'acme');"));
    database
}

const PLACED: &str = "data_source_url = 'postgresql://host:5432/db', data_source_anon_key = 'SEALED-A', \
                      data_source_service_key = 'SEALED-S', data_source_region = 'eu-1'";

// Catches an audit row that is missing, doubled, or tells a key; and an actor that keeps the change from being made.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_data_source_leaves_one_row_and_no_secret() {
    let database = with_tenant().await;
    assert_eq!(service(&database, "SELECT count(*) FROM audit_log;"), "0");
    service(
        &database,
        &format!(
            "UPDATE tenants SET {PLACED};
             SET app.current_user_id = '{A}'; SET app.client_ip = '10.0.0.1'; SET app.user_agent = '';
             UPDATE tenants SET data_source_region = 'us-1', data_source_service_key = 'SEALED-2';
             UPDATE tenants SET data_source_region = 'us-1', name = 'Acme 2';
             SET app.current_user_id = 'nobody';
             UPDATE tenants SET data_source_notes = 'n';
             INSERT INTO tenants (name, subdomain, data_source_url) VALUES ('B', 'b', 'sqlite:/b.db');"
        ),
    );
    let rows = service(
        &database,
        "SELECT action, entity_type, entity_id = tenant_id::text, user_id, ip_address, user_agent,
                changes -> 'previous' ->> 'data_source_region', changes -> 'new' ->> 'data_source_region', changes -> 'changed'
           FROM audit_log ORDER BY created_at;",
    );
    assert_eq!(
        rows.lines().collect::<Vec<_>>(),
        [
            "data_source_updated|tenant|t|||||eu-1|[\"data_source_url\", \"data_source_anon_key\", \"data_source_service_key\", \"data_source_region\"]".to_owned(),
            format!("data_source_updated|tenant|t|{A}|10.0.0.1||eu-1|us-1|[\"data_source_service_key\", \"data_source_region\"]"),
            "data_source_updated|tenant|t||10.0.0.1||us-1|us-1|[\"data_source_notes\"]".to_owned(),
            "data_source_updated|tenant|t||10.0.0.1||||[\"data_source_url\"]".to_owned(),
        ]
    );
    assert_eq!(service(&database, "SELECT count(*) FROM audit_log WHERE changes::text LIKE '%SEALED%';"), "0");
}

// Catches an audit log that can be rewritten, and one that dies with its tenant.
#[tokio::test(flavor = "multi_thread")]
async fn audit_rows_are_only_ever_added() {
    let database = with_tenant().await;
    service(&database, "UPDATE tenants SET data_source_region = 'eu';");
    for attack in ["UPDATE audit_log SET action = 'x';", "DELETE FROM audit_log;", "TRUNCATE audit_log;"] {
        assert_eq!(service_refused(&database, attack), "TN003", "{attack}");
    }
    service(&database, "DELETE FROM tenants;");
    assert_eq!(service(&database, "SELECT tenant_id FROM audit_log;"), A);
}

// Trap 10. Catches a cached route that outlives the change of where or how the tenant is reached.
#[tokio::test(flavor = "multi_thread")]
async fn the_epoch_grows_with_every_change_of_how_a_tenant_is_reached() {
    let database = with_tenant().await;
    let mut expected = 0;
    for (change, step) in [
        ("UPDATE tenants SET name = 'Acme 2', data_source_notes = 'n', data_source_region = 'eu'", 0),
        (&format!("UPDATE tenants SET {PLACED}"), 1),
        (&format!("UPDATE tenants SET {PLACED}"), 0),
        ("UPDATE tenants SET status = 'suspended'", 1),
        (r#"UPDATE tenants SET connection_pool_config = '{"min":1,"max":2}'"#, 1),
        (r#"UPDATE tenants SET connection_pool_config = '{"max": 2, "min": 1}'"#, 0),
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
        service(&database, &format!("{change};"));
        expected += step;
        assert_eq!(service(&database, "SELECT placement_epoch FROM tenants;"), expected.to_string(), "{change}");
    }
    for by_hand in ["placement_epoch = 0", "placement_epoch = placement_epoch + 1", "placement_epoch = NULL"] {
        assert_eq!(service_refused(&database, &format!("UPDATE tenants SET {by_hand};")), "TN005", "{by_hand}");
    }
    let preset = "INSERT INTO tenants (name, subdomain, placement_epoch) VALUES ('x', 'x', 3);";
    assert_eq!(service_refused(&database, preset), "TN005");
}

// Catches a URL with a password in it, half a pair of keys, and names that are no DNS labels or are taken.
#[tokio::test(flavor = "multi_thread")]
async fn rules_refuse_what_cannot_be_routed() {
    let database = with_tenant().await;
    let keys = "data_source_anon_key = 'k', data_source_service_key = 'k'";
    for (change, sqlstate) in [
        ("data_source_url = 'postgresql://host/db'".to_owned(), "23514"),
        ("data_source_anon_key = 'k'".to_owned(), "23514"),
        (format!("data_source_url = 'sqlite:/a.db', {keys}"), "23514"),
        (format!("data_source_url = 'postgresql://u:p@host/db', {keys}"), "23514"),
        (format!("data_source_url = 'postgresql://host/db?password=p', {keys}"), "23514"),
        ("plan = 'gold'".to_owned(), "23514"),
        ("status = 'gone'".to_owned(), "23514"),
        ("subdomain = 'a_b'".to_owned(), "23514"),
        ("subdomain = '-a'".to_owned(), "23514"),
        (format!("subdomain = '{}'", "a".repeat(64)), "23514"),
    ] {
        assert_eq!(service_refused(&database, &format!("UPDATE tenants SET {change};")), sqlstate, "{change}");
    }
    assert_eq!(service_refused(&database, "INSERT INTO tenants (name, subdomain) VALUES ('x', 'ACME');"), "23505");
    service(&database, &format!("INSERT INTO users (tenant_id, email) VALUES ('{A}', 'Me@x.io');"));
    let again = format!("INSERT INTO users (tenant_id, email) VALUES ('{A}', 'mE@X.io');");
    assert_eq!(service_refused(&database, &again), "23505");
}
