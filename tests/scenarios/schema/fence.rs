//! The fence between concurrent sessions.

use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection};
use tenantry_migrations::fence;
use tenantry_test_support::cluster::{Cluster, Database, Login};
use tokio::task::JoinHandle;

use super::{A, B, connect, insert_account, refused, restricted, service, service_refused, tenant_data};

async fn session(database: &Database, login: &Login, tenant: &str) -> PgConnection {
    let mut connection = PgConnection::connect(&database.url_with(login)).await.unwrap();
    connection.execute(sqlx::AssertSqlSafe(format!("SET app.tenant_id = '{tenant}'"))).await.unwrap();
    connection
}

/// Runs statements and answers with the SQLSTATE of the refusal.
async fn run(connection: &mut PgConnection, sql: &str) -> Result<(), String> {
    match connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.as_database_error().unwrap().code().unwrap().into_owned()),
    }
}

/// Raises the fence in a session of its own.
async fn raising(database: &Database, tenant: &'static str) -> JoinHandle<()> {
    let mut connection = session(database, &database.service, tenant).await;
    tokio::spawn(async move {
        run(&mut connection, &format!("SELECT tenantry.raise_fence('{tenant}', 'moving')")).await.unwrap();
    })
}

/// Returns once a session waits for an advisory lock.
async fn wait_for_waiter(database: &Database) {
    let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database());";
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while service(database, sql) != "1" {
        assert!(tokio::time::Instant::now() < deadline, "nobody waits for the fence");
        tokio::task::yield_now().await;
    }
}

// Traps 34 and 27. Catches a fence that overtakes an open writer, or that waits for a neighbour, or that holds one up.
#[tokio::test(flavor = "multi_thread")]
async fn raising_waits_for_the_tenant_s_open_writers_and_for_no_neighbour() {
    let database = tenant_data().await;
    let mut writer = session(&database, &database.restricted, A).await;
    let mut neighbour = session(&database, &database.restricted, B).await;
    run(&mut neighbour, &format!("BEGIN; {}", insert_account(B))).await.unwrap();
    run(&mut writer, &format!("BEGIN; {}", insert_account(A))).await.unwrap();

    let raise = raising(&database, A).await;
    wait_for_waiter(&database).await;
    run(&mut writer, &insert_account(A)).await.expect("an open writer goes on");
    run(&mut neighbour, &insert_account(B)).await.expect("a neighbour goes on");
    assert!(!raise.is_finished());
    run(&mut writer, "COMMIT").await.unwrap();
    raise.await.unwrap();

    assert_eq!(run(&mut writer, &insert_account(A)).await, Err("TN001".to_owned()));
    run(&mut neighbour, &format!("{} COMMIT", insert_account(B))).await.unwrap();
    assert_eq!(
        service(&database, "SELECT tenant_id, count(*) FROM accounts GROUP BY 1 ORDER BY 1;"),
        format!("{A}|2\n{B}|3")
    );
    assert_eq!(restricted(&database, A, "SELECT count(*) FROM accounts;"), "2", "reading is not fenced");
}

// Catches a writer whose snapshot is older than the fence, with and without a fence row that it can see.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_snapshot_does_not_slip_through() {
    let database = tenant_data().await;
    let mut writer = session(&database, &database.restricted, A).await;
    for isolation in ["REPEATABLE READ", "SERIALIZABLE", "REPEATABLE READ"] {
        run(&mut writer, &format!("BEGIN ISOLATION LEVEL {isolation}; SELECT * FROM accounts")).await.unwrap();
        service(&database, &format!("SELECT tenantry.raise_fence('{A}', 'moving');"));
        assert_eq!(run(&mut writer, &insert_account(A)).await, Err("40001".to_owned()));
        run(&mut writer, "ROLLBACK").await.unwrap();
        let begin = format!("BEGIN ISOLATION LEVEL {isolation}; {}", insert_account(A));
        assert_eq!(run(&mut writer, &begin).await, Err("TN001".to_owned()));
        run(&mut writer, "ROLLBACK").await.unwrap();
        service(&database, &format!("SELECT tenantry.lower_fence('{A}');"));
        run(&mut writer, &format!("BEGIN ISOLATION LEVEL {isolation}; {} COMMIT", insert_account(A))).await.unwrap();
    }
    // And an open writer of that kind is waited for.
    run(&mut writer, &format!("BEGIN ISOLATION LEVEL REPEATABLE READ; {}", insert_account(A))).await.unwrap();
    let raise = raising(&database, A).await;
    wait_for_waiter(&database).await;
    run(&mut writer, "COMMIT").await.unwrap();
    raise.await.unwrap();
    assert_eq!(service(&database, "SELECT count(*) FROM accounts;"), "4");
}

// Catches a fence that some role, some statement or some table passes by; and a forged transfer.
#[tokio::test(flavor = "multi_thread")]
async fn the_fence_holds_every_role_and_steps_aside_for_a_transfer_of_the_service_role_alone() {
    let database = tenant_data().await;
    restricted(&database, A, &insert_account(A));
    service(&database, &format!("SELECT tenantry.raise_fence('{}', 'moving');", A.to_uppercase()));
    for write in [
        &insert_account(A),
        "UPDATE accounts SET name = 'x';",
        "DELETE FROM accounts;",
        &format!("INSERT INTO routing_probe (tenant_id) VALUES ('{A}');"),
    ] {
        assert_eq!(refused(&database, A, write), "TN001", "{write}");
        assert_eq!(refused(&database, A, &format!("SET tenantry.transfer = 'on'; {write}")), "TN001", "{write}");
        assert_eq!(service_refused(&database, write), "TN001", "{write}");
    }
    let entry =
        format!("INSERT INTO write_log (tenant_id, table_name, row_id, operation) VALUES ('{A}', 't', 'r', 'insert');");
    assert_eq!(service_refused(&database, &entry), "TN001");
    service(&database, &format!("SET tenantry.transfer = 'on'; {} {entry} DELETE FROM accounts;", insert_account(A)));
    // A superuser that has become the restricted role is the restricted role.
    let disguised = format!(
        "SET ROLE \"{}\"; SET app.tenant_id = '{A}'; SET tenantry.transfer = 'on'; {}",
        database.restricted.user,
        insert_account(A)
    );
    assert_eq!(database.psql(&database.superuser, &disguised).unwrap_err().sqlstate(), Some("TN001"));
    service(&database, &insert_account(B));
}

// Catches a cascade, which runs as the tables' owner, taken for a transfer because the restricted role said so.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_transfer_does_not_silence_cascades() {
    let database = tenant_data().await;
    restricted(
        &database,
        A,
        &format!(
            "{} INSERT INTO opportunities (tenant_id, name, account_id) SELECT tenant_id, 'o', id FROM accounts;
             SET tenantry.transfer = 'on'; DELETE FROM accounts;",
            insert_account(A)
        ),
    );
    assert_eq!(
        service(&database, "SELECT operation, table_name FROM write_log ORDER BY operation, table_name;"),
        "delete|accounts\ndelete|opportunities\ninsert|accounts\ninsert|opportunities"
    );
}

// Catches a fence that needs this project's schema.
#[tokio::test(flavor = "multi_thread")]
async fn the_fence_holds_a_table_of_an_existing_database() {
    let database = Cluster::shared().unwrap().create_database("schema_fence").unwrap();
    service(
        &database,
        &format!(
            "CREATE TABLE deals (id serial PRIMARY KEY, \"Org\" text, title text); INSERT INTO deals (\"Org\", title) VALUES ('{A}', 'd'), ('{B}', 'd'), (NULL, 'd');"
        ),
    );
    let connection = connect(&database, &database.service).await;
    for _ in 0..2 {
        fence::install(&connection).await.unwrap();
        fence::attach(&connection, "deals", "Org").await.unwrap();
    }
    fence::raise(&connection, A, "moving").await.unwrap();
    assert!(fence::is_fenced(&connection, A).await.unwrap() && !fence::is_fenced(&connection, B).await.unwrap());
    let update = |tenant: &str| format!("UPDATE deals SET title = 'x' WHERE \"Org\" = '{tenant}';");
    assert_eq!(service_refused(&database, &update(A)), "TN001");
    assert_eq!(
        service_refused(&database, &format!("UPDATE deals SET \"Org\" = '{A}' WHERE \"Org\" = '{B}';")),
        "TN001"
    );
    assert_eq!(service_refused(&database, "TRUNCATE deals;"), "TN001");
    service(&database, &format!("{} UPDATE deals SET title = 'x' WHERE \"Org\" IS NULL;", update(B)));
    fence::lower(&connection, A).await.unwrap();
    service(&database, &update(A));
    fence::raise(&connection, A, "moving").await.unwrap();
    fence::detach(&connection, "deals").await.unwrap();
    service(&database, &format!("{} TRUNCATE deals;", update(A)));
    connection.close().await.unwrap();
}
