//! Leases and transactions against a real server: what a cancelled or failed one leaves behind.

use std::time::{Duration, Instant};

use sea_orm::{DbBackend, Statement};
use tenantry_connection::{DataSourceUrl, Error, Mode, Pool, PoolOptions, PoolerMode, Session};
use tenantry_credential::Login;
use tenantry_test_support::cluster::{Cluster, Database};

fn pool(database: &Database, max_connections: u32) -> Pool {
    pool_of(database, max_connections, PoolerMode::Auto)
}

fn pool_of(database: &Database, max_connections: u32, pooler: PoolerMode) -> Pool {
    let url = DataSourceUrl::parse(&database.url()).unwrap();
    let login = Login::new(&database.service.user, database.service.password.clone()).unwrap();
    let acquire_timeout = Duration::from_secs(30);
    let options = PoolOptions { max_connections, acquire_timeout, pooler, ..PoolOptions::default() };
    Pool::new(&url, Some(&login), &options).unwrap()
}

/// Sessions that keep their tenant between transactions, and sessions that are anybody's then.
const BOTH: [PoolerMode; 2] = [PoolerMode::Direct, PoolerMode::Transaction];

fn tenant(name: &str) -> Session {
    Session { tenant: Some(name.into()), ..Session::default() }
}

fn sql(text: &str) -> Statement {
    Statement::from_string(DbBackend::Postgres, text)
}

/// The driver hands a connection back with its transaction open when `begin` is cancelled (trap 1). One connection, so that
/// every victim's connection would be the next borrower's.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_transaction_never_reaches_the_next_borrower() {
    let database = Cluster::shared().unwrap().create_database("cancelled").unwrap();
    let pools = BOTH.map(|mode| pool_of(&database, 1, mode));
    for round in 0..80_u64 {
        let pool = &pools[usize::try_from(round % 2).unwrap()];
        let victim = {
            let pool = pool.clone();
            tokio::spawn(async move {
                let mut transaction = pool.begin(&tenant("victim"), Mode::Write).await?;
                transaction.query_all(sql("SELECT pg_sleep(0.01)")).await?;
                transaction.commit().await
            })
        };
        // Somewhere between the first byte of BEGIN and the middle of the statement.
        tokio::time::sleep(Duration::from_micros(round * 97 % 9_000)).await;
        victim.abort();
        let mut next = pool.begin(&Session::default(), Mode::Read).await.unwrap();
        let row = next
            .query_one(sql("SELECT coalesce(current_setting('app.tenant_id', true), ''), \
                            (SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND pid <> pg_backend_pid() AND datname = current_database())"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(row.try_get_by_index::<String>(0).unwrap(), "", "round {round}: the victim's tenant is still set");
        next.commit().await.unwrap();
    }
    assert!(pools.iter().all(|pool| pool.status().open <= 1));
}

/// An aborted transaction given back would fail the next borrower with 25P02 (trap 6), and a COMMIT of it is answered with
/// ROLLBACK and no error: the caller would believe its rows were written.
#[tokio::test]
async fn a_failed_transaction_is_no_success_and_nobody_elses_trouble() {
    let database = Cluster::shared().unwrap().create_database("failed").unwrap();
    let pool = pool(&database, 1);
    let mut transaction = pool.begin(&Session::default(), Mode::Write).await.unwrap();
    transaction.execute_raw_sql("CREATE TABLE written (id int)").await.unwrap();
    assert!(transaction.execute(sql("SELECT 1/0")).await.is_err());
    let error = transaction.commit().await.unwrap_err();
    assert!(matches!(error, Error::Aborted { .. }), "{error}");

    let mut next = pool.begin(&Session::default(), Mode::Read).await.unwrap();
    let row = next.query_one(sql("SELECT to_regclass('written') IS NULL")).await.unwrap().unwrap();
    assert!(row.try_get_by_index::<bool>(0).unwrap());
    next.commit().await.unwrap();
}

/// A tenant's setting ends with its transaction, also after a commit (trap 3, 19).
#[tokio::test]
async fn a_session_ends_with_its_transaction() {
    let database = Cluster::shared().unwrap().create_database("session").unwrap();
    for mode in BOTH {
        a_session_ends(&pool_of(&database, 1, mode)).await;
    }
}

async fn a_session_ends(pool: &Pool) {
    let mut first = pool.begin(&tenant("first"), Mode::Write).await.unwrap();
    let row = first.query_one(sql("SELECT current_setting('app.tenant_id'), pg_backend_pid()")).await.unwrap().unwrap();
    assert_eq!(row.try_get_by_index::<String>(0).unwrap(), "first");
    let pid: i32 = row.try_get_by_index(1).unwrap();
    first.commit().await.unwrap();

    let mut second = pool.begin(&Session::default(), Mode::Read).await.unwrap();
    let row =
        second.query_one(sql("SELECT current_setting('app.tenant_id'), pg_backend_pid()")).await.unwrap().unwrap();
    assert_eq!(row.try_get_by_index::<i32>(1).unwrap(), pid, "the test is about one server session");
    assert_eq!(row.try_get_by_index::<String>(0).unwrap(), "", "which no tenant column's type accepts");
    second.commit().await.unwrap();
}

/// `infinity` panics the driver's decoder and `24:00:00` reads as midnight of the wrong day.
#[tokio::test]
async fn values_without_a_rust_form_are_a_typed_error() {
    let database = Cluster::shared().unwrap().create_database("unrepresentable").unwrap();
    let pool = pool(&database, 1);
    for (expression, value) in [
        ("'infinity'::date", "infinity"),
        ("'-infinity'::timestamptz", "-infinity"),
        ("'infinity'::timestamp", "infinity"),
        ("'24:00:00'::time", "24:00:00"),
        ("'5874897-12-31'::date", "a date outside the supported range"),
    ] {
        let mut transaction = pool.begin(&Session::default(), Mode::Read).await.unwrap();
        let error = transaction.query_all(sql(&format!("SELECT 1, {expression} AS due"))).await.unwrap_err();
        assert!(
            matches!(&error, Error::Unrepresentable { column, value: found } if column == "due" && *found == value),
            "{expression}: {error}"
        );
    }
}

/// Another wrong password would be "sticky" in some poolers (trap 13); the errors tell the cases apart and hold no secret.
#[tokio::test]
async fn a_refused_login_says_so_and_a_right_one_works_at_once() {
    let database = Cluster::shared().unwrap().create_database("refused").unwrap();
    let url = DataSourceUrl::parse(&database.url()).unwrap();
    let wrong = Login::new(&database.service.user, "wrong-password".to_owned()).unwrap();
    let refused = Pool::new(&url, Some(&wrong), &PoolOptions::default()).unwrap();
    let error = refused.begin(&Session::default(), Mode::Read).await.unwrap_err();
    assert!(error.to_string().contains("the login was refused"), "{error}");
    assert!(!format!("{error:?}").contains("wrong-password"));
    assert!(!error.is_retryable());
    pool(&database, 1).begin(&Session::default(), Mode::Read).await.unwrap().commit().await.unwrap();

    let missing =
        DataSourceUrl::parse(&format!("postgresql://{}:{}/no_such_database", database.host, database.port)).unwrap();
    let login = Login::new(&database.service.user, database.service.password.clone()).unwrap();
    let error = Pool::new(&missing, Some(&login), &PoolOptions::default())
        .unwrap()
        .begin(&Session::default(), Mode::Read)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
}

/// A server that is gone is reported as unreachable and not as an exhausted pool; the pool recovers with the server.
#[tokio::test]
async fn a_crashed_server_is_told_apart_from_a_full_pool() {
    let cluster = Cluster::start().unwrap();
    let database = cluster.create_database("crashed").unwrap();
    let url = DataSourceUrl::parse(&database.url()).unwrap();
    let login = Login::new(&database.service.user, database.service.password.clone()).unwrap();
    let options = PoolOptions { max_connections: 1, acquire_timeout: Duration::from_secs(2), ..PoolOptions::default() };
    let pool = Pool::new(&url, Some(&login), &options).unwrap();

    let held = pool.begin(&Session::default(), Mode::Read).await.unwrap();
    let full = pool.begin(&Session::default(), Mode::Read).await.unwrap_err();
    assert!(matches!(full, Error::Exhausted { cap: 1, .. }), "{full}");
    held.commit().await.unwrap();

    cluster.crash().unwrap();
    let gone = pool.begin(&Session::default(), Mode::Read).await.unwrap_err();
    assert!(matches!(gone, Error::Connect { .. }) && gone.is_retryable(), "{gone:?}");
    cluster.restart().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let back = loop {
        match pool.begin(&Session::default(), Mode::Read).await {
            Ok(transaction) => break transaction,
            Err(error) => assert!(error.is_retryable() && Instant::now() < deadline, "{error:?}"),
        }
    };
    back.commit().await.unwrap();
}
