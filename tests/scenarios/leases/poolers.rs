//! Behind PgBouncer, as its package brings it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use sea_orm_migration::MigratorTrait;
use tenantry_app_db::entities::PoolerMode as Stated;
use tenantry_connection::{DataSourceUrl, Error, Mode, Pool, PoolOptions, PoolerMode, Session};
use tenantry_migrations::TenantDataMigrator;
use tenantry_test_support::{
    cluster::{Cluster, Database},
    pooler::{Pooler, PoolerMode as PgBouncerMode, PoolerOptions, or_skip},
};

use super::{
    answer, ask, names,
    world::{PATIENCE, Setup, World, migrated_copy, name_of, pool},
    write,
};
use crate::world::login_of;

fn start(name: &str, database: &Database, mode: PgBouncerMode, server_connections: u32) -> Option<Pooler> {
    let options = PoolerOptions { mode, server_connections, ..PoolerOptions::default() };
    or_skip(name, Pooler::start(&[database], &options)).unwrap()
}

/// A world that finds out by itself what is between it and the server.
async fn behind(name: &str, server_connections: u32, setup: Setup) -> Option<(World, Pooler)> {
    let database = migrated_copy().await;
    let pooler = start(name, &database, PgBouncerMode::Transaction, server_connections)?;
    let url = pooler.url_of(&database).parse().unwrap();
    let setup = Setup { mode: Stated::Auto, ..setup };
    Some((World::reached_by(setup, database, url).await.with_accounts().await, pooler))
}

/// Rows 3 and 19: two tenants in turn over one and the same server session, and neither finds the other's tenant in it, nor anyone
/// one who has none. With a session setting, the second would read the first one's rows.
#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_share_a_server_session_and_nothing_else() {
    let Some((world, _pooler)) = behind("two tenants on one server connection", 1, Setup::default()).await else {
        return;
    };
    let mut backends = BTreeSet::new();
    for round in 0..10 {
        for tenant in [0, 1] {
            let db = world.db(tenant).await;
            backends.insert(ask::<i32>(&db, "SELECT pg_backend_pid()").await);
            assert_eq!(names(&db).await.unwrap(), [name_of(tenant)], "round {round}");
            write(&db, "one more").await.unwrap();
            let transaction = db.begin().await.unwrap();
            assert_eq!(names(&transaction).await.unwrap().len(), 2, "round {round}");
            transaction.rollback().await.unwrap();
            let gone = "DELETE FROM accounts WHERE name = 'one more'";
            world.database.psql(&world.database.superuser, gone).unwrap();
        }
        let pool = Pool::new(&world.url, Some(&login_of(&world.database.restricted)), &PoolOptions::default()).unwrap();
        let mut nobody = pool.begin(&Session::default(), Mode::Read).await.unwrap();
        let tenant = sea_orm::Statement::from_string(
            sea_orm::DbBackend::Postgres,
            "SELECT coalesce(current_setting('app.tenant_id', true), ''), pg_backend_pid()",
        );
        let row = nobody.query_one(tenant).await.unwrap().unwrap();
        assert_eq!(row.try_get_by_index::<String>(0).unwrap(), "", "round {round}");
        backends.insert(row.try_get_by_index(1).unwrap());
        nobody.commit().await.unwrap();
        pool.close().await;
    }
    assert_eq!(backends.len(), 1, "the test is about one server session");
    let status = world.status().await;
    assert_eq!(status.tag_hits, 0, "nothing is expected of a session that is anyone's: {status:?}");
}

/// The mode is found out: by what a connection does, not by what it says of itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_mode_is_found_out() {
    let database = Cluster::shared().unwrap().create_database("modes").unwrap();
    let login = login_of(&database.service);
    let keeps = async |url: &str, options: PoolOptions| {
        let pool = Pool::new(&url.parse().unwrap(), Some(&login), &options).unwrap();
        let keeps = pool.keeps_session().await.unwrap();
        assert!(pool.status().open == 0, "the probe's connections are gone");
        pool.close().await;
        keeps
    };
    let auto = PoolOptions::default;
    assert!(keeps(&database.url(), auto()).await, "direct");
    let one = PoolOptions { max_connections: 1, ..auto() };
    assert!(!keeps(&database.url(), one).await, "one connection cannot find it out, and takes the safe way");
    if let Some(pooler) = start("session mode", &database, PgBouncerMode::Session, 4) {
        assert!(keeps(&pooler.url_of(&database), auto()).await, "session mode");
    }
    if let Some(pooler) = start("transaction mode", &database, PgBouncerMode::Transaction, 4) {
        assert!(!keeps(&pooler.url_of(&database), auto()).await, "transaction mode");
        for (stated, kept) in [(PoolerMode::Session, true), (PoolerMode::Transaction, false)] {
            let told = PoolOptions { pooler: stated, ..auto() };
            assert_eq!(keeps(&pooler.url_of(&database), told).await, kept, "what is stated is not questioned");
        }
    }
}

/// Row 4: PgBouncer refuses startup parameters that it does not know, `search_path` and `options` among them. The schema is set all
/// the same, for every statement, and temporary objects are looked up last.
#[tokio::test(flavor = "multi_thread")]
async fn the_search_path_is_right_without_a_startup_parameter() {
    let database = migrated_copy().await;
    database
        .psql(&database.service, "CREATE SCHEMA \"odd \"\"schema\"; CREATE TABLE \"odd \"\"schema\".t AS SELECT 1 AS a")
        .unwrap();
    let mut urls = vec![database.url()];
    let pooler = start("search_path", &database, PgBouncerMode::Transaction, 1);
    urls.extend(pooler.as_ref().map(|pooler| pooler.url_of(&database)));
    for url in urls {
        for (schema, path) in [("public", "public, pg_temp"), ("odd \"schema", "\"odd \"\"schema\", pg_temp")] {
            let options = PoolOptions { schema: schema.to_owned(), ..PoolOptions::default() };
            let pool = Pool::new(&url.parse().unwrap(), Some(&login_of(&database.service)), &options).unwrap();
            for _ in 0..2 {
                let mut transaction = pool.begin(&Session::default(), Mode::Read).await.unwrap();
                let show = sea_orm::Statement::from_string(
                    sea_orm::DbBackend::Postgres,
                    "SELECT current_setting('search_path')",
                );
                let shown: String = transaction.query_one(show).await.unwrap().unwrap().try_get_by_index(0).unwrap();
                assert_eq!(shown.replace("\"public\"", "public"), path, "{url}");
                let found = sea_orm::Statement::from_string(
                    sea_orm::DbBackend::Postgres,
                    "SELECT to_regclass('t') IS NOT NULL",
                );
                let found: bool = transaction.query_one(found).await.unwrap().unwrap().try_get_by_index(0).unwrap();
                assert_eq!(found, schema != "public");
                transaction.commit().await.unwrap();
            }
            pool.close().await;
        }
    }
}

/// Row 5: named statements fail behind a pooler with 42P05 or 26000, and unnamed ones without a transaction as well. Two hundred
/// statements of several clients over few server connections: none fails, and nothing stays prepared.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_statements_of_several_clients_prepare_nothing() {
    let Some((world, _pooler)) = behind("many statements", 2, Setup { cap: 6, ..Setup::default() }).await else {
        return;
    };
    let clients = (0..8_usize).map(|client| {
        let world = &world;
        async move {
            let db = world.db(client % 2).await;
            for step in 0..25 {
                match step % 5 {
                    0 => drop(write(&db, &format!("by {client}")).await.unwrap()),
                    1 => {
                        let transaction = db.begin().await.unwrap();
                        names(&transaction).await.unwrap();
                        transaction.commit().await.unwrap();
                    }
                    2 => drop(names(&db.lease().await.unwrap()).await.unwrap()),
                    _ => assert!(names(&db).await.unwrap().contains(&name_of(client % 2))),
                }
            }
        }
    });
    join_all(clients).await;
    let mut looked_into = BTreeSet::new();
    let deadline = Instant::now() + PATIENCE;
    while looked_into.len() < 2 && Instant::now() < deadline {
        // At once, so that both server connections are needed.
        let both = join_all((0..2).map(|_| async {
            let transaction = world.db(0).await.begin().await.unwrap();
            let pid: i32 = answer(&transaction, "SELECT pg_backend_pid()").await;
            // The statement that asks is itself prepared while it asks, and has no name.
            let named = "SELECT count(*) FROM pg_prepared_statements WHERE name <> ''";
            let prepared: i64 = answer(&transaction, named).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            transaction.rollback().await.unwrap();
            (pid, prepared)
        }));
        for (pid, prepared) in both.await {
            assert_eq!(prepared, 0);
            looked_into.insert(pid);
        }
    }
    assert_eq!(looked_into.len(), 2, "every server connection was looked into");
}

/// `begin_read` behind a pooler: five reads are one transaction of the server, where each alone is one of its own.
#[tokio::test(flavor = "multi_thread")]
async fn several_reads_share_one_transaction_behind_a_pooler() {
    let Some((world, pooler)) = behind("begin_read", 2, Setup::default()).await else { return };
    let db = world.db(0).await;
    names(&db).await.unwrap();
    let transactions = || {
        let stats = pooler.admin("SHOW STATS").unwrap();
        let row = stats.into_iter().find(|row| row["database"] == world.database.name).unwrap();
        row["total_xact_count"].parse::<u64>().unwrap()
    };
    let before = transactions();
    for _ in 0..5 {
        names(&db).await.unwrap();
    }
    let each = transactions() - before;
    let before = transactions();
    let reading = db.begin_read().await.unwrap();
    for _ in 0..5 {
        names(&reading).await.unwrap();
    }
    write(&db, "meanwhile").await.unwrap();
    assert_eq!(names(&reading).await.unwrap(), [name_of(0)], "one snapshot as well");
    let refused = write(&reading, "refused").await.unwrap_err();
    assert!(tenantry_data_source::with_causes(&refused).contains("read-only transaction"), "{refused:?}");
    reading.rollback().await.unwrap();
    // The write in the middle is the other one.
    assert_eq!((each, transactions() - before), (5, 2));
}

/// A pooler that goes away and comes back, and server connections that it loses, cost the statements under way and no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_pooler_costs_one_statement() {
    let Some((world, pooler)) = behind("a restarted pooler", 2, Setup { cap: 3, ..Setup::default() }).await else {
        return;
    };
    let leases = join_all((0..3).map(|_| async { world.db(0).await.lease().await.unwrap() })).await;
    for lease in &leases {
        names(lease).await.unwrap();
    }
    drop(leases);
    pooler.kill().unwrap();
    pooler.restart().unwrap();
    let refused = names(&world.db(1).await).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused:?}");
    for tenant in [0, 1, 0, 1, 0, 1] {
        assert_eq!(names(&world.db(tenant).await).await.unwrap(), [name_of(tenant)]);
    }
    assert_eq!(world.status().await.in_use, 0);
}

/// What needs a session of its own (migrations, which hold an advisory lock between statements) goes past the pooler, and where no
/// way past it is stated says so before it does anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_goes_past_the_pooler_or_not_at_all() {
    let database = Cluster::shared().unwrap().create_database("migrated").unwrap();
    let Some(pooler) = start("migrations", &database, PgBouncerMode::Transaction, 1) else { return };
    let login = login_of(&database.service);
    let url: DataSourceUrl = pooler.url_of(&database).parse().unwrap();
    for stated in [PoolerMode::Auto, PoolerMode::Transaction] {
        let options = PoolOptions { pooler: stated, ..PoolOptions::default() };
        let closed = Pool::new(&url, Some(&login), &options).unwrap();
        let refused = closed.migration_connection(Some(&login)).await.unwrap_err();
        assert!(matches!(&refused, Error::NoDirectUrl { data_source } if *data_source == url), "{refused:?}");
        assert!(refused.to_string().contains("set direct_url") && !refused.is_retryable(), "{refused}");

        let options = PoolOptions { direct_url: Some(database.url().parse().unwrap()), ..options };
        let open = Pool::new(&url, Some(&login), &options).unwrap();
        let connection = open.migration_connection(Some(&login)).await.unwrap();
        let session = async |sql: &str| {
            use sea_orm::ConnectionTrait;
            let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, sql);
            connection.query_one_raw(statement).await.unwrap().unwrap()
        };
        session("SELECT pg_advisory_lock(4711)").await;
        let held = session("SELECT pg_advisory_unlock(4711)").await;
        assert!(held.try_get_by_index::<bool>(0).unwrap(), "the lock was taken in another session");
        connection.close().await.unwrap();
    }
    // A pool of requests is not a way for it.
    let direct = pool(&database, &PoolOptions::default());
    let connection = direct.migration_connection(Some(&login)).await.unwrap();
    assert!(TenantDataMigrator::get_pending_migrations(&connection).await.is_ok_and(|pending| !pending.is_empty()));
    connection.close().await.unwrap();
}
