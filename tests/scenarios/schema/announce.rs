//! The application database announces every change of a placement, when it is committed and in no other order.

use sea_orm::{ConnectionTrait, DatabaseConnection, Statement, TransactionTrait};
use tenantry_test_support::cluster::Database;

use super::{A, B, app_db, connect, service};

async fn with_tenants() -> Database {
    let database = app_db().await;
    let tenants =
        format!("INSERT INTO tenants (id, name, subdomain) VALUES ('{A}', 'Acme', 'acme'), ('{B}', 'Beta', 'beta');");
    service(&database, &tenants);
    database
}

const CHANGES: &str = "SELECT version, (SELECT string_agg(left(tenant::text, 1) || version, ' ' ORDER BY tenant)
    FROM tenantry.placement_changes) FROM tenantry.placement_version;";

// Catches a change that no process hears of, and a noise that makes every process ask for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_a_placement_is_announced_and_nothing_else() {
    let database = with_tenants().await;
    let suspended =
        |status: &str, tenant: &str| format!("UPDATE tenants SET status = '{status}' WHERE id = '{tenant}';");
    for (change, expected) in [
        ("UPDATE tenants SET name = 'Acme 2', data_source_notes = 'n';".to_owned(), "0|"),
        (suspended("suspended", A), "1|a1"),
        (suspended("suspended", A), "1|a1"),
        ("INSERT INTO tenants (name, subdomain) VALUES ('Gamma', 'gamma');".to_owned(), "1|a1"),
        (suspended("suspended", B), "2|a1 b2"),
        // One transaction, one version, however many tenants it changes.
        (format!("BEGIN; {} {} COMMIT;", suspended("active", A), suspended("active", B)), "3|a3 b3"),
        (format!("BEGIN; {} ROLLBACK;", suspended("suspended", A)), "3|a3 b3"),
        (format!("DELETE FROM tenants WHERE id = '{A}';"), "4|a4 b3"),
    ] {
        service(&database, &change);
        assert_eq!(service(&database, CHANGES), expected, "{change}");
    }
}

async fn run(connection: &impl ConnectionTrait, sql: &str) {
    connection.execute_unprepared(sql).await.unwrap();
}

async fn version(connection: &DatabaseConnection) -> i64 {
    let sql = "SELECT version FROM tenantry.placement_version";
    let row = connection.query_one_raw(Statement::from_string(sea_orm::DbBackend::Postgres, sql)).await.unwrap();
    row.unwrap().try_get_by_index(0).unwrap()
}

// Catches changes that wait for each other's transactions, and two that wait crosswise.
#[tokio::test(flavor = "multi_thread")]
async fn two_changes_at_once_do_not_hold_each_other_up() {
    let database = with_tenants().await;
    let (one, two) = (connect(&database, &database.service).await, connect(&database, &database.service).await);
    let reader = connect(&database, &database.service).await;
    let (first, second) = (one.begin().await.unwrap(), two.begin().await.unwrap());
    let limit = "SET LOCAL lock_timeout = '20s'";
    for transaction in [&first, &second] {
        run(transaction, limit).await;
    }
    run(&first, &format!("UPDATE tenants SET status = 'suspended' WHERE id = '{A}'")).await;
    run(&second, &format!("UPDATE tenants SET status = 'suspended' WHERE id = '{B}'")).await;
    assert_eq!(version(&reader).await, 0, "nothing is announced before its commit");
    second.commit().await.unwrap();
    assert_eq!(version(&reader).await, 1);
    first.commit().await.unwrap();
    assert_eq!(service(&database, CHANGES), "2|a2 b1", "numbered in the order of the commits");
    for connection in [one, two, reader] {
        connection.close().await.unwrap();
    }
}
