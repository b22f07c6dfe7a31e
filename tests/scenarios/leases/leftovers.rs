//! What one tenant's SQL leaves behind in a server session, through every door that lets SQL in, and that the next tenant does
//! not find it: on a connection that keeps its session, and behind a pooler with one server connection for everybody.

use futures_util::StreamExt;
use sea_orm::{ActiveValue::Set, DbBackend, Statement, sea_query::Expr};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, postgres::PgConnectOptions};
use tenantry_app_db::entities::PoolerMode;
use tenantry_connection::{Mode, Pool, PoolOptions, Session};
use tenantry_data_source::{TenantDb, TenantHandle, with_causes};
use tenantry_entities::accounts;
use tenantry_repository::{Query, RepositoryExt};
use tenantry_test_support::pooler::{Pooler, PoolerOptions, or_skip};

use super::{
    answer, names, raw,
    world::{Setup, World, migrated_copy, name_of},
    write,
};
use crate::world::login_of;

/// The two ways to a server: on the first a connection keeps its session, on the second the session is anyone's.
async fn both_ways(name: &str) -> Vec<(World, Option<Pooler>)> {
    let direct = World::new(Setup { tenants: 3, cap: 1, ..Setup::default() }).await.with_accounts().await;
    let mut worlds = vec![(direct, None)];
    let database = migrated_copy().await;
    let options = PoolerOptions { server_connections: 1, ..PoolerOptions::default() };
    if let Some(pooler) = or_skip(name, Pooler::start(&[&database], &options)).unwrap() {
        let url = pooler.url_of(&database).parse().unwrap();
        let setup = Setup { tenants: 3, cap: 3, mode: PoolerMode::Auto, ..Setup::default() };
        let world = World::reached_by(setup, database, url).await.with_accounts().await;
        worlds.push((world, Some(pooler)));
    }
    worlds
}

/// How raw SQL gets in, and how it ends.
#[derive(Debug, Clone, Copy)]
enum Door {
    Committed,
    RolledBack,
    Dropped,
    Closure,
    LeaseCommitted,
    Reading,
}

const DOORS: [Door; 6] =
    [Door::Committed, Door::RolledBack, Door::Dropped, Door::Closure, Door::LeaseCommitted, Door::Reading];

async fn enter(db: &TenantDb, door: Door, sql: &str) {
    match door {
        Door::Committed | Door::RolledBack | Door::Dropped => {
            let transaction = db.begin().await.unwrap();
            raw(&transaction, sql).await.unwrap();
            match door {
                Door::Committed => transaction.commit().await.unwrap(),
                Door::RolledBack => transaction.rollback().await.unwrap(),
                _ => drop(transaction),
            }
        }
        Door::Closure => db.transaction(async |transaction| raw(transaction, sql).await.map(drop)).await.unwrap(),
        Door::LeaseCommitted => {
            let lease = db.lease().await.unwrap();
            let transaction = lease.begin().await.unwrap();
            raw(&transaction, sql).await.unwrap();
            transaction.commit().await.unwrap();
            names(&lease).await.unwrap();
        }
        Door::Reading => {
            let transaction = db.begin_read().await.unwrap();
            raw(&transaction, sql).await.unwrap();
            transaction.commit().await.unwrap();
        }
    }
}

/// What raw SQL of the restricted role can leave behind, and how the next one would find it.
const LEFT: [(&str, &str); 9] = [
    ("SELECT set_config('app.tenant_id', '{other}', false)", "SELECT current_setting('app.tenant_id') = '{other}'"),
    (
        "SELECT set_config('app.current_user_id', '{other}', false)",
        "SELECT coalesce(current_setting('app.current_user_id', true), '') <> ''",
    ),
    ("SET statement_timeout = '7s'", "SELECT current_setting('statement_timeout') = '7s'"),
    ("SET search_path = pg_catalog", "SELECT current_setting('search_path') NOT LIKE '%public%'"),
    ("SET TimeZone = 'Asia/Tokyo'", "SELECT current_setting('TimeZone') = 'Asia/Tokyo'"),
    (
        "SELECT pg_advisory_lock(4711)",
        "SELECT EXISTS (SELECT FROM pg_locks WHERE objid = 4711 AND locktype = 'advisory' \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
    ),
    (
        "LISTEN left_behind",
        "SELECT EXISTS (SELECT FROM pg_listening_channels() AS channel WHERE channel = 'left_behind')",
    ),
    (
        "PREPARE left_behind AS SELECT 1",
        "SELECT EXISTS (SELECT FROM pg_prepared_statements WHERE name = 'left_behind')",
    ),
    (
        "DECLARE left_behind CURSOR WITH HOLD FOR SELECT name FROM accounts",
        "SELECT EXISTS (SELECT FROM pg_cursors WHERE name = 'left_behind')",
    ),
];

/// Row 3, and what is left in a session besides settings: whatever the door and the end, the next tenant finds nothing.
#[tokio::test(flavor = "multi_thread")]
async fn raw_sql_leaves_nothing_through_any_door() {
    for (world, pooler) in both_ways("leftovers of raw SQL").await {
        let (one, two) = (world.db(0).await, world.db(1).await);
        for (leave, look) in LEFT {
            let [leave, look] = [leave, look].map(|sql| sql.replace("{other}", &world.tenants[2].to_string()));
            for door in DOORS {
                // A transaction that reads cannot listen.
                if matches!(door, Door::Reading) && leave.starts_with("LISTEN") {
                    continue;
                }
                enter(&one, door, &leave).await;
                let what = format!("{leave} by {door:?}, pooled: {}", pooler.is_some());
                let next = two.begin().await.unwrap();
                assert!(!answer::<bool>(&next, &look).await, "{what}");
                assert_eq!(names(&next).await.unwrap(), [name_of(1)], "{what}");
                next.rollback().await.unwrap();
                assert_eq!(names(&two).await.unwrap(), [name_of(1)], "{what}");
            }
        }
    }
}

/// Behind a pooler the session is cleaned in the message that ends the transaction. What makes a commit fail (a held cursor is
/// run to its end there) or cuts the message off (a time limit) would keep it from being cleaned: a rollback undoes neither locks
/// of the session nor what is prepared.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_leaves_nothing() {
    const LOCKED: &str = "SELECT EXISTS (SELECT FROM pg_locks WHERE objid = 4712 AND locktype = 'advisory' \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
    const PREPARED: &str = "SELECT EXISTS (SELECT FROM pg_prepared_statements WHERE name = 'left_behind')";
    const LIMITED: &str = "SELECT current_setting('statement_timeout') <> '0'";
    for (world, pooler) in both_ways("commits that fail").await {
        let (one, two) = (world.db(0).await, world.db(1).await);
        for fails in [
            "DECLARE late CURSOR WITH HOLD FOR SELECT 1 / (n - n) FROM generate_series(1, 3) AS n",
            "DECLARE late CURSOR WITH HOLD FOR SELECT pg_sleep(0.05)",
        ] {
            let transaction = one.begin().await.unwrap();
            raw(&transaction, "SELECT pg_advisory_lock(4712)").await.unwrap();
            raw(&transaction, "PREPARE left_behind AS SELECT 1").await.unwrap();
            raw(&transaction, fails).await.unwrap();
            raw(&transaction, "SET statement_timeout = '20ms'").await.unwrap();
            let ended = transaction.commit().await;
            let next = two.begin().await.unwrap();
            for left in [LOCKED, PREPARED, LIMITED] {
                let what = format!("{fails}: {left}, pooled: {}: {ended:?}", pooler.is_some());
                assert!(!answer::<bool>(&next, left).await, "{what}");
            }
            next.rollback().await.unwrap();
        }
    }
}

/// A temporary table in place of a real one was read by the rival's next tenant. The restricted role may make none; the service
/// role may.
#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_table_is_nobody_elses() {
    for (world, pooler) in both_ways("temporary tables").await {
        let (one, two) = (world.service(0).await, world.service(1).await);
        let shadow = "CREATE TEMPORARY TABLE accounts AS SELECT * FROM public.accounts";
        for door in DOORS {
            if matches!(door, Door::Reading) {
                continue;
            }
            enter(&one, door, shadow).await;
            let next = two.begin().await.unwrap();
            let temporary = "SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND relname = 'accounts'";
            assert_eq!(answer::<i64>(&next, temporary).await, 0, "{door:?}, pooled: {}", pooler.is_some());
            next.rollback().await.unwrap();
            assert_eq!(names(&two).await.unwrap(), [name_of(1)], "{door:?}");
        }
        // Not even its own statements are led astray.
        let transaction = one.begin().await.unwrap();
        raw(&transaction, "CREATE TEMPORARY TABLE accounts (LIKE public.accounts)").await.unwrap();
        assert_eq!(names(&transaction).await.unwrap(), [name_of(0)]);
        transaction.rollback().await.unwrap();
        let refused = world.db(0).await.begin().await.unwrap();
        let refused = raw(&refused, "CREATE TEMPORARY TABLE mine (id int)").await.unwrap_err();
        assert!(tenantry_data_source::with_causes(&refused).contains("permission denied"), "{refused:?}");
    }
}

/// SQL text in a condition: it may change the very setting that the policy compares with, for the rest of its statement and of
/// its session. It shows no other tenant's rows then, and none to whoever comes next, whichever method it went into.
#[tokio::test(flavor = "multi_thread")]
async fn sql_in_a_condition_leaves_nothing() {
    for (world, pooler) in both_ways("SQL in conditions").await {
        let (one, two, other) = (world.db(0).await, world.db(1).await, world.tenants[2]);
        for local in [false, true] {
            let text = format!("set_config('app.tenant_id', '{other}', {local}) IS NOT NULL");
            let query = || Query::<accounts::Entity>::new().filter(Expr::cust(text.clone()));
            for method in 0..9 {
                let found = match method {
                    0 => found(&one, query()).await,
                    1 => found(&one.lease().await.unwrap(), query()).await,
                    2 => {
                        let transaction = one.begin().await.unwrap();
                        let mut all = found(&transaction, query()).await;
                        all.extend(names(&transaction).await.unwrap_or_default());
                        let _ = transaction.commit().await;
                        all
                    }
                    3 => {
                        let mut rows = one.repository::<accounts::Entity>().stream(&query());
                        let mut all = Vec::new();
                        while let Some(Ok(row)) = rows.next().await {
                            all.push(row.name);
                        }
                        all
                    }
                    4 => {
                        // Dropped in the middle.
                        let lease = one.lease().await.unwrap();
                        let mut rows = lease.repository::<accounts::Entity>().stream(&query());
                        rows.next().await.into_iter().flatten().map(|row| row.name).collect()
                    }
                    5 => {
                        let page = one.repository::<accounts::Entity>().paginate(&query(), 1, 10).await;
                        page.map(|page| page.items.into_iter().map(|row| row.name).collect()).unwrap_or_default()
                    }
                    6 => {
                        let lease = one.lease().await.unwrap();
                        let count = lease.repository::<accounts::Entity>().count(&query()).await;
                        assert!(count.is_ok_and(|count| count <= 1));
                        Vec::new()
                    }
                    7 => {
                        let reading = one.begin_read().await.unwrap();
                        let all = found(&reading, query()).await;
                        let _ = reading.commit().await;
                        all
                    }
                    _ => {
                        let accounts = one.repository::<accounts::Entity>();
                        let change =
                            accounts::ActiveModel { industry: Set(Some("x".to_owned())), ..Default::default() };
                        let changed = accounts.bulk_update_where(Expr::cust(text.clone()), change).await;
                        assert!(changed.is_err() || changed.is_ok_and(|rows| rows <= 1));
                        Vec::new()
                    }
                };
                let what = format!("method {method}, local: {local}, pooled: {}", pooler.is_some());
                assert!(found.iter().all(|name| *name == name_of(0)), "{what}: {found:?}");
                assert_eq!(names(&two).await.unwrap(), [name_of(1)], "{what}");
                let written = write(&two, "written next").await.unwrap();
                assert_eq!(written.tenant_id, world.tenants[1], "{what}: written for somebody else");
                assert!(two.repository::<accounts::Entity>().delete(written.id).await.unwrap(), "{what}");
            }
        }
        let written = format!("SELECT count(*) FROM accounts WHERE tenant_id = '{other}'");
        assert_eq!(world.database.psql(&world.database.superuser, &written).unwrap().trim(), "1");
    }
}

async fn found<H: TenantHandle>(db: &H, query: Query<accounts::Entity>) -> Vec<String> {
    let rows = db.repository::<accounts::Entity>().find_many(&query).await.unwrap_or_default();
    rows.into_iter().map(|row| row.name).collect()
}

/// Raw `COMMIT` in the middle of a transaction would let out what is set in its session, and behind a pooler what follows would
/// run in somebody else's: it is refused, and so is what follows. No other tenant's rows are seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_raw_commit_is_refused_and_shows_nothing() {
    for (world, pooler) in both_ways("raw COMMIT").await {
        for (tenant, neighbour) in [(0, 1), (1, 2), (2, 0)] {
            let (db, other) = (world.db(tenant).await, world.db(neighbour).await);
            assert_eq!(names(&other).await.unwrap(), [name_of(neighbour)]);
            for end in ["COMMIT", "/* now */ rollback", "END WORK", "COMMIT AND CHAIN", "ABORT"] {
                let what = format!("{end}, pooled: {}", pooler.is_some());
                let transaction = db.begin().await.unwrap();
                write(&transaction, "undone").await.unwrap();
                raw(&transaction, "SELECT set_config('app.client_ip', 'left behind', false)").await.unwrap();
                let refused = raw(&transaction, end).await.unwrap_err();
                assert!(with_causes(&refused).contains("raw SQL cannot end its transaction"), "{what}: {refused:?}");
                raw(&transaction, "SELECT name FROM accounts").await.unwrap_err();
                transaction.commit().await.unwrap_err();
                let next = other.begin().await.unwrap();
                let left = "SELECT coalesce(current_setting('app.client_ip', true), '') <> ''";
                assert!(!answer::<bool>(&next, left).await, "{what}");
                assert_eq!(names(&next).await.unwrap(), [name_of(neighbour)], "{what}");
                next.rollback().await.unwrap();
                assert_eq!(names(&db).await.unwrap(), [name_of(tenant)], "{what}");
            }
            // A savepoint is no end.
            let transaction = db.begin().await.unwrap();
            for sql in ["SAVEPOINT here", "SELECT 1", "ROLLBACK TO SAVEPOINT here", "RELEASE here"] {
                raw(&transaction, sql).await.unwrap();
            }
            transaction.commit().await.unwrap();
        }
    }
}

/// Whatever somebody else has left in a pooler's session, a tenant's transaction is its own, a transaction without a tenant sees
/// nothing, and nobody acts as somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_left_behind_a_pooler_is_believed_by_nobody() {
    for (world, pooler) in both_ways("settings that others left").await {
        let Some(pooler) = pooler else { continue };
        // Another application behind the same pooler, with the same login, that knows no better.
        let url = pooler.url_with(&world.database, &world.database.restricted);
        let options: PgConnectOptions = url.parse().unwrap();
        let mut careless = options.extra_float_digits(None).connect().await.unwrap();
        let other = world.tenants[2];
        for setting in ["app.tenant_id", "app.current_user_id"] {
            let set = format!("SET {setting} = '{other}'");
            careless.execute(sqlx::raw_sql(AssertSqlSafe(set))).await.unwrap();
        }
        careless.close().await.unwrap();
        assert_eq!(names(&world.db(1).await).await.unwrap(), [name_of(1)]);
        write(&world.db(1).await, "nobody known").await.unwrap();
        let actors = "SELECT count(*) FROM write_log WHERE actor IS NOT NULL";
        assert_eq!(world.database.psql(&world.database.superuser, actors).unwrap().trim(), "0");

        let pool = Pool::new(&world.url, Some(&login_of(&world.database.restricted)), &PoolOptions::default()).unwrap();
        let mut nobody = pool.begin(&Session::default(), Mode::Read).await.unwrap();
        let sql = Statement::from_string(DbBackend::Postgres, "SELECT name FROM accounts");
        let shown = nobody.query_all(sql).await;
        assert!(shown.is_err(), "a session without a tenant sees {} rows", shown.unwrap().len());
        drop(nobody);
        pool.close().await;
    }
}
