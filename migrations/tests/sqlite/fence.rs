//! The fence on a tenant data file.

use tenantry_migrations::fence;

use crate::database::{A, A_TEXT, B, Database};

// Catches a write of a tenant whose rows are being copied.
#[tokio::test]
async fn a_fenced_tenant_cannot_write_and_its_neighbour_can() {
    let database = Database::tenant_data().await;
    let insert = |tenant: &str| format!("INSERT INTO accounts (tenant_id, name) VALUES ({tenant}, 'n')");
    database.run(&insert(A)).await;
    assert!(!fence::is_fenced(&database.connection, A_TEXT).await.unwrap());
    fence::raise(&database.connection, A_TEXT, "moving").await.unwrap();
    fence::raise(&database.connection, A_TEXT, "moving").await.unwrap();
    assert!(fence::is_fenced(&database.connection, A_TEXT).await.unwrap());
    for write in [
        &insert(A),
        "UPDATE accounts SET name = 'x'",
        "DELETE FROM accounts",
        &format!("INSERT INTO routing_probe (tenant_id) VALUES ({A})"),
        &format!("INSERT INTO write_log (tenant_id, table_name, row_id, operation) VALUES ({A}, 't', 'r', 'insert')"),
    ] {
        database.assert_refused(write, fence::FENCED_SQLITE_MESSAGE).await;
    }
    database.run(&insert(B)).await;
    fence::lower(&database.connection, A_TEXT).await.unwrap();
    database.run(&insert(A)).await;
}

// Catches triggers that rewrite or log rows which a transfer carries over.
#[tokio::test]
async fn the_triggers_step_aside_for_a_transfer() {
    let database = Database::tenant_data().await;
    fence::raise(&database.connection, A_TEXT, "moving").await.unwrap();
    database.run("INSERT INTO tenantry_session VALUES ('tenantry.transfer', 'on')").await;
    database
        .run(&format!(
            "INSERT INTO accounts (tenant_id, name, updated_at) VALUES ({A}, 'n', '2001-01-01T00:00:00.000000+00:00');
             UPDATE accounts SET name = 'm'"
        ))
        .await;
    assert_eq!(database.text("SELECT updated_at FROM accounts").await, "2001-01-01T00:00:00.000000+00:00");
    assert_eq!(database.text("SELECT count(*) FROM write_log").await, "0");
}
