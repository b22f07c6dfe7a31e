//! Tenant data: keys within the tenant, references, the write log, rollback.

use sea_orm_migration::schema::{integer_null, text, uuid_null};
use sea_orm_migration::{MigratorTrait, SchemaManager};
use tenantry_migrations::{OnDelete, TenantDataMigrator, TenantDataSettings, TenantTable, prepare_tenant_data, tables};

use crate::database::{A, A_TEXT, B, Database};

const ACCOUNT: &str = "x'11111111000040008000000000000001'";
const ACCOUNT_TEXT: &str = "11111111-0000-4000-8000-000000000001";

async fn with_account() -> Database {
    let database = Database::tenant_data().await;
    database.run(&format!("INSERT INTO accounts (id, tenant_id, name) VALUES ({ACCOUNT}, {A}, 'one')")).await;
    database
}

// Catches a table of the dictionary that was forgotten.
#[tokio::test]
async fn every_table_is_there() {
    let database = Database::tenant_data().await;
    for table in tables::BUSINESS_TABLES.iter().chain(&[tables::WRITE_LOG, tables::ROUTING_PROBE]) {
        assert_eq!(database.text(&format!("SELECT count(*) FROM {table}")).await, "0");
    }
    assert_eq!(database.text("SELECT count(*) > 70 FROM pragma_table_info('events')").await, "1");
}

// Catches ids that collide between tenants, and references that cross them (trap 24).
#[tokio::test]
async fn keys_and_references_stay_within_the_tenant() {
    let database = with_account().await;
    database.run(&format!("INSERT INTO accounts (id, tenant_id, name) VALUES ({ACCOUNT}, {B}, 'same id')")).await;
    database.run(&format!("DELETE FROM accounts WHERE tenant_id = {B}")).await;
    let foreign = format!(
        "INSERT INTO contacts (tenant_id, first_name, last_name, account_id) VALUES ({B}, 'f', 'l', {ACCOUNT})"
    );
    database.assert_refused(&foreign, "FOREIGN KEY constraint failed").await;
    database.assert_refused(&format!("UPDATE accounts SET tenant_id = {B}"), "a row cannot change its tenant").await;
    let link = format!(
        "INSERT INTO contact_accounts (tenant_id, contact_id, account_id) SELECT {A}, id, {ACCOUNT} FROM contacts"
    );
    database.run(&format!("INSERT INTO contacts (tenant_id, first_name, last_name) VALUES ({A}, 'f', 'l')")).await;
    database.run(&link).await;
    database.assert_refused(&link, "UNIQUE constraint failed").await;
}

// Catches SET NULL that nulls the tenant, and a cascade that leaves rows or log entries out.
#[tokio::test]
async fn deletes_null_cascade_or_are_refused_and_are_logged() {
    let database = with_account().await;
    database
        .run(&format!(
            "INSERT INTO contacts (tenant_id, first_name, last_name, account_id) VALUES ({A}, 'f', 'l', {ACCOUNT});
             INSERT INTO opportunities (tenant_id, name, account_id) VALUES ({A}, 'o', {ACCOUNT});
             INSERT INTO opportunity_line_items (tenant_id, opportunity_id, description, unit_price, total) SELECT {A}, id, 'd', 1.5, 3.0 FROM opportunities;
             INSERT INTO leads (tenant_id, first_name, last_name, converted_account_id) VALUES ({A}, 'f', 'l', {ACCOUNT})"
        ))
        .await;
    database.assert_refused("DELETE FROM accounts", "FOREIGN KEY constraint failed").await;
    database.run("DELETE FROM leads; DELETE FROM write_log; INSERT INTO tenantry_session VALUES ('app.current_user_id', 'me'); DELETE FROM accounts").await;
    assert_eq!(
        database.rows("SELECT hex(tenant_id), hex(account_id) FROM contacts").await,
        [format!("{}|", &A[2..34])]
    );
    assert_eq!(
        database.rows("SELECT operation, table_name, actor FROM write_log ORDER BY table_name").await,
        ["delete|accounts|me", "update|contacts|me", "delete|opportunities|me", "delete|opportunity_line_items|me"]
    );
}

// Catches a log that misses a value, spells it differently from PostgreSQL, or logs what did not change.
#[tokio::test]
async fn the_log_tells_before_and_after() {
    let database = with_account().await;
    database
        .run(r#"UPDATE accounts SET name = 'two "x"', credit_limit = 12.5, billing_address = '{"b": [1, null]}'"#)
        .await;
    database.run("UPDATE accounts SET name = name").await;
    database.run("UPDATE accounts SET notes = json('{\"looks\": \"like JSON\"}')").await;
    let entries = database
        .rows(
            "SELECT operation, row_id, actor, json_extract(before, '$.name'), json_extract(after, '$.name'),
                    json_extract(after, '$.tenant_id'), CAST(json_extract(after, '$.credit_limit') AS text),
                    json_extract(after, '$.billing_address'), json_type(after, '$.notes'), json_type(after, '$.assigned_to')
               FROM write_log ORDER BY rowid",
        )
        .await;
    assert_eq!(
        entries,
        [
            format!("insert|{ACCOUNT_TEXT}|||one|{A_TEXT}|||null|null"),
            format!(r#"update|{ACCOUNT_TEXT}||one|two "x"|{A_TEXT}|12.5|{{"b":[1,null]}}|null|null"#),
            format!(r#"update|{ACCOUNT_TEXT}||two "x"|two "x"|{A_TEXT}|12.5|{{"b":[1,null]}}|text|null"#),
        ]
    );
    assert_eq!(
        database.text("SELECT json_extract(after, '$.updated_at') = (SELECT updated_at FROM accounts) FROM write_log ORDER BY rowid DESC LIMIT 1").await,
        "1"
    );
    database.run(&format!("INSERT INTO routing_probe (tenant_id, note) VALUES ({A}, 'n')")).await;
    assert_eq!(database.text("SELECT count(*) FROM write_log WHERE table_name = 'routing_probe'").await, "0");
}

// Catches an update trigger that fires itself where a client turns recursion on.
#[tokio::test]
async fn recursive_triggers_change_nothing() {
    let database = with_account().await;
    database.run("PRAGMA recursive_triggers = ON; UPDATE accounts SET name = 'two'").await;
    assert_eq!(database.text("SELECT count(*) FROM write_log").await, "2");
}

// Catches default ids that are not version 4 or repeat.
#[tokio::test]
async fn default_ids_are_random_uuids() {
    let database = Database::tenant_data().await;
    let values = vec![format!("({A}, 'n')"); 500].join(", ");
    database.run(&format!("INSERT INTO notes (tenant_id, content, entity_type, entity_id) SELECT column1, column2, 'lead', {A} FROM (VALUES {values})")).await;
    assert_eq!(
        database.rows("SELECT CAST(count(DISTINCT id) AS text), min(substr(hex(id), 13, 1)), max(substr(hex(id), 13, 1)), min(substr(hex(id), 17, 1)), max(substr(hex(id), 17, 1)), CAST(max(length(id)) AS text) FROM notes").await,
        ["500|4|4|8|B|16"]
    );
}

// Catches a rollback that throws rows away, and one that leaves objects behind.
#[tokio::test]
async fn down_refuses_rows_and_otherwise_leaves_nothing() {
    let database = with_account().await;
    let message = TenantDataMigrator::down(&database.connection, None).await.unwrap_err().to_string();
    assert!(message.contains("table accounts has 1 row(s)"), "{message}");
    database.run("DELETE FROM accounts").await;
    let message = TenantDataMigrator::down(&database.connection, None).await.unwrap_err().to_string();
    assert!(message.contains("table write_log has 2 row(s)"), "{message}");
    database.run("DELETE FROM write_log").await;
    TenantDataMigrator::down(&database.connection, None).await.unwrap();
    assert_eq!(database.schema().await, Vec::<String>::new());
}

// Catches two programs that migrate one file at once.
#[tokio::test]
async fn two_runners_wait_for_each_other() {
    let database = Database::empty().await;
    let (one, two) = (database.connection.clone(), database.again().await);
    let (first, second) = tokio::join!(TenantDataMigrator::up(&one, None), TenantDataMigrator::up(&two, None));
    first.unwrap();
    second.unwrap();
    assert_eq!(database.text("SELECT count(*) FROM tenantry_tenant_data_migrations").await, "2");
}

// Catches a second data source whose settings silently differ from the installed ones.
#[tokio::test]
async fn settings_are_those_of_the_first_run() {
    let database = Database::empty().await;
    let settings =
        TenantDataSettings { tenant_column: "org".to_owned(), tenant_type: "bigint".to_owned(), ..Default::default() };
    prepare_tenant_data(&database.connection, &settings).await.unwrap();
    TenantDataMigrator::up(&database.connection, None).await.unwrap();
    database.run("INSERT INTO accounts (org, name) VALUES (7, 'n')").await;
    assert_eq!(database.text("SELECT org || '|' || json_extract(after, '$.org') FROM write_log").await, "7|7");
    tenantry_migrations::fence::raise(&database.connection, "7", "moving").await.unwrap();
    database.assert_refused("DELETE FROM accounts", "tenant is fenced").await;
    let message =
        prepare_tenant_data(&database.connection, &TenantDataSettings::default()).await.unwrap_err().to_string();
    assert!(message.contains(r#"installed with tenant_column = "org" and not "tenant_id""#), "{message}");
}

// Catches a table of an application's own that gets less than ours, or that leaves triggers on its parents when it goes.
#[tokio::test]
async fn an_application_s_own_table_is_like_ours() {
    let database = Database::tenant_data().await;
    let manager = SchemaManager::new(&database.connection);
    let rooms = TenantTable::new("rooms")
        .column(text("name"))
        .column(uuid_null("location_id"))
        .column(integer_null("seats"))
        .references("location_id", "locations", OnDelete::SetNull)
        .between("seats", 1, 100)
        .unique(["name"]);
    rooms.create(&manager).await.unwrap();
    database
        .run(&format!(
            "INSERT INTO locations (id, tenant_id, name) VALUES ({ACCOUNT}, {A}, 'l');
             INSERT INTO rooms (tenant_id, name, location_id) VALUES ({A}, 'r', {ACCOUNT}); DELETE FROM locations"
        ))
        .await;
    assert_eq!(database.text("SELECT count(*) FROM rooms WHERE location_id IS NULL").await, "1");
    assert_eq!(database.text("SELECT count(*) FROM write_log WHERE table_name = 'rooms'").await, "2");
    database.assert_refused("UPDATE rooms SET seats = 101", "rooms_seats_check").await;
    let again = format!("INSERT INTO rooms (tenant_id, name) VALUES ({A}, 'r')");
    database.assert_refused(&again, "UNIQUE constraint failed").await;
    let message = rooms.drop(&manager).await.unwrap_err().to_string();
    assert!(message.contains("table rooms has 1 row(s)"), "{message}");
    database.run("DELETE FROM rooms; DELETE FROM write_log").await;
    let message = TenantDataMigrator::down(&database.connection, None).await.unwrap_err().to_string();
    assert!(message.contains("tenant tables stand on it (rooms)"), "{message}");
    rooms.drop(&manager).await.unwrap();
    database.run(&format!("INSERT INTO locations (tenant_id, name) VALUES ({A}, 'l'); DELETE FROM locations")).await;
}
