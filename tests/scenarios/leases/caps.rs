//! How many connections there are, who gets them, and who waits.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use sea_orm::ActiveValue::Set;
use sqlx::{Connection, Executor, PgConnection};
use tenantry_connection::{Error as ConnectionError, PoolOptions};
use tenantry_data_source::{Error, TenantDb, TenantLease, with_causes};
use tenantry_entities::accounts;
use tenantry_repository::{Query, RepositoryExt};
use tokio::time::timeout;

use super::{
    names, raw,
    world::{Dice, PATIENCE, Setup, World, name_of},
    write,
};

/// Row 7, and the rival that opened 212 connections for 50 tenants: the cap counts connections, not pools. Twelve tenants with
/// both logins in a storm of reads, writes, transactions, statements that sleep and statements that wait for a lock, many of
/// them given up in the middle: the server never shows more sessions than the cap, those included that still run what nobody
/// waits for.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_never_shows_more_sessions_than_the_cap() {
    const CAP: usize = 5;
    let world = World::new(Setup { tenants: 12, cap: CAP as u32, ..Setup::default() }).await.with_accounts().await;
    let world = Arc::new(world);
    let watch = world.observer().await.watch();
    // Somebody else's transaction, whose lock a few of the statements wait for.
    let locked = world.database.url_with(&world.database.superuser);
    let mut holder = PgConnection::connect(&locked).await.unwrap();
    let lock = "BEGIN; UPDATE accounts SET industry = 'held' WHERE name = 'account of tenant 0'";
    holder.execute(sqlx::raw_sql(lock)).await.unwrap();
    let workers = (0..10_u64).map(|worker| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let mut dice = Dice::new(worker + 1);
            for step in 0..14 {
                let tenant = 1 + dice.one_of(11);
                let db = match dice.below(3) {
                    0 => world.service(tenant).await,
                    _ => world.db(tenant).await,
                };
                let after = Duration::from_micros(dice.below(20_000));
                // The lock's waiters are few: each keeps its slot until the server has noticed that nobody waits for it.
                let what = if step == 7 && worker < 3 { 9 } else { dice.below(5) };
                storm_step(&world, &db, tenant, what, after).await;
            }
        })
    });
    for worker in join_all(workers).await {
        worker.unwrap();
    }
    world.at_rest().await;
    let seen = watch.end().await;
    assert!(seen.lasting <= CAP, "more sessions than the cap of {CAP}: {seen:?}");
    // How many there are at once is a matter of timing.
    assert!(seen.at_once + 2 >= CAP && seen.looks > 100, "the storm was a breeze: {seen:?}");
    let status = world.status().await;
    assert!(status.open as usize <= CAP && status.closed.abandoned > 5, "{status:#?}");
}

async fn storm_step(world: &World, db: &TenantDb, tenant: usize, what: u64, after: Duration) {
    match what {
        0 => assert!(names(db).await.unwrap().contains(&name_of(tenant))),
        1 => drop(write(db, "another").await.unwrap()),
        2 => drop(timeout(after, names(db)).await),
        3 => {
            let sleeping = async {
                let transaction = db.begin().await.unwrap();
                raw(&transaction, "SELECT pg_sleep(2)").await.unwrap();
                transaction.commit().await.unwrap();
            };
            drop(timeout(after, sleeping).await);
        }
        4 => {
            let transaction = db.begin().await.unwrap();
            write(&transaction, "undone").await.unwrap();
            if after.as_micros().is_multiple_of(2) {
                transaction.rollback().await.unwrap();
            }
        }
        _ => {
            let db = world.db(0).await;
            let waiting = async {
                let accounts = db.repository::<accounts::Entity>();
                let held = accounts.find_many(&Query::new()).await.unwrap().remove(0);
                let changed = accounts::ActiveModel { industry: Set(Some("mine".to_owned())), ..Default::default() };
                accounts.update(held.id, changed).await.unwrap();
            };
            timeout(Duration::from_millis(300), waiting).await.unwrap_err();
        }
    }
}

/// Row 8: of a burst of fifty tasks of one tenant, its neighbour waits for a turn and not for the burst, whether the burst may take
/// every connection or not. Turns are counted, not milliseconds.
async fn a_burst_delays_a_neighbour_by_a_turn(pool_config: &'static str) {
    const CAP: u32 = 4;
    let setup = Setup { cap: CAP, pool_config: Some(pool_config), ..Setup::default() };
    let world = Arc::new(World::new(setup).await.with_accounts().await);
    // Connected, so that what is counted below is waiting and not that.
    let quiet = [world.db(0).await.lease().await.unwrap(), world.db(1).await.lease().await.unwrap()];
    assert_eq!(names(&quiet[1]).await.unwrap(), [name_of(1)]);
    drop(quiet);
    let done = Arc::new(AtomicUsize::new(0));
    let burst = world.db(0).await;
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (burst, done) = (burst.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let lease = burst.lease().await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
                drop(lease);
                done.fetch_add(1, Ordering::SeqCst);
            })
        })
        .collect();
    world.wait_for_status("the burst waits", |status| status.waiting > 20).await;
    let neighbour = world.db(1).await;
    for _ in 0..4 {
        let before = done.load(Ordering::SeqCst);
        assert_eq!(names(&neighbour).await.unwrap(), [name_of(1)]);
        let turns = done.load(Ordering::SeqCst) - before;
        // It asks while up to four are at work; they, and those that are served in the same turn, may end before it has its rows.
        assert!(turns <= 3 * CAP as usize, "{pool_config}: the neighbour waited for {turns} of the burst");
    }
    assert!(done.load(Ordering::SeqCst) < 50, "{pool_config}: the burst was over before it could be in the way");
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_below_the_cap_delays_no_neighbour() {
    a_burst_delays_a_neighbour_by_a_turn(r#"{"min": 1, "max": 2}"#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_that_may_take_everything_delays_a_neighbour_by_a_turn() {
    a_burst_delays_a_neighbour_by_a_turn(r#"{"min": 1, "max": 4}"#).await;
}

/// In turns between tenants, and in order within one, whoever came first.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_is_in_turns() {
    let world = Arc::new(World::new(Setup { tenants: 4, cap: 1, ..Setup::default() }).await);
    let held = world.db(3).await.lease().await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for (number, tenant) in (0..).zip([0, 0, 0, 1, 1, 2]) {
        let (db, order) = (world.db(tenant).await, Arc::clone(&order));
        waiting.push(tokio::spawn(async move {
            let lease = db.lease().await.unwrap();
            order.lock().unwrap().push((tenant, number));
            drop(lease);
        }));
        world.wait_for_status("it waits", |status| status.waiting == number + 1).await;
    }
    drop(held);
    for waiting in waiting {
        waiting.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [(0, 0), (1, 3), (2, 5), (0, 1), (1, 4), (0, 2)]);
    let status = world.status().await;
    assert!(status.waits == 6 && status.wait_us > 0 && status.exhaustions == 0, "{status:?}");
}

/// A tenant's share of two of ten holds at most two, over both its logins, and nobody else notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_share_is_held_over_both_accesses() {
    let setup = Setup { pool_config: Some(r#"{"min": 1, "max": 2}"#), ..Setup::default() };
    let world = Arc::new(World::new(setup).await.with_accounts().await);
    let watch = world.observer().await.watch();
    let (restricted, service) = (world.db(0).await, world.service(0).await);
    let tasks = (0..20).map(|number| {
        let db = if number % 2 == 0 { restricted.clone() } else { service.clone() };
        tokio::spawn(async move {
            let lease = db.lease().await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
            names(&lease).await.unwrap()
        })
    });
    for found in join_all(tasks).await {
        assert_eq!(found.unwrap(), [name_of(0)]);
    }
    let seen = watch.end().await;
    // Those of either login stay open when they are given back; what measures row-level security is nobody's share.
    assert!(seen.lasting <= 4 && seen.looks > 10, "more than a share of two for each login: {seen:?}");
    let held = [restricted.lease().await.unwrap(), service.lease().await.unwrap()];
    let third = timeout(Duration::from_millis(50), restricted.lease()).await;
    assert!(third.is_err(), "a third connection of a share of two");
    let others: Vec<_> = join_all((0..2).map(|_| async { world.db(1).await.lease().await.unwrap() })).await;
    assert_eq!(names(&others[1]).await.unwrap(), [name_of(1)], "eight are left for the neighbours");
    drop(held);
    assert_eq!(names(&restricted).await.unwrap(), [name_of(0)]);
}

/// Whoever is refused learns where, why, and what would help.
#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_pool_says_what_it_is_short_of() {
    let options = PoolOptions { acquire_timeout: Duration::from_secs(1), ..PoolOptions::default() };
    let setup = Setup { cap: 3, pool_config: Some(r#"{"min": 1, "max": 2}"#), options, ..Setup::default() };
    let world = World::new(setup).await.with_accounts().await;
    let held = [connected(&world, 0).await, connected(&world, 0).await];
    let started = Instant::now();
    let refused = world.db(0).await.lease().await.unwrap_err();
    assert!(started.elapsed() >= Duration::from_secs(1), "refused before its deadline");
    let Error::Connection(ConnectionError::Exhausted { cap, waiting, held: by_itself, share, waited_ms, .. }) =
        &refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!((*cap, *waiting, *by_itself, *share), (3, 0, 2, Some(2)));
    assert!(*waited_ms >= 1000 && refused.is_retryable());
    let text = with_causes(&refused);
    for part in [
        world.url.as_str(),
        "at most 3 are allowed",
        "this tenant holds 2 of its share of 2",
        "raise max_connections of the data source or the tenant's connection_pool_config.max",
    ] {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }

    // The neighbour is short of connections and not of its share.
    let neighbours = connected(&world, 1).await;
    let neighbour = world.db(1).await;
    let refused = join_all((0..5).map(|_| neighbour.lease())).await;
    let others = refused.into_iter().map(|refused| match refused.unwrap_err() {
        Error::Connection(ConnectionError::Exhausted { waiting, held: 1, share: Some(2), .. }) => waiting,
        other => panic!("{other:?}"),
    });
    let most = others.max().unwrap();
    assert!((1..=4).contains(&most), "the others who wait, at most: {most}");
    drop((held, neighbours));
    assert_eq!(names(&world.db(0).await).await.unwrap(), [name_of(0)], "nothing was lost by it");
    let status = world.status().await;
    assert!(status.exhaustions == 6 && status.waits == 6 && status.wait_us >= 6 * 1_000_000, "{status:?}");
}

/// A lease, however often it takes: to connect may take longer than the deadline of this world.
async fn connected(world: &World, tenant: usize) -> TenantLease {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match world.db(tenant).await.lease().await {
            Ok(lease) => return lease,
            Err(error) => assert!(error.is_retryable() && Instant::now() < deadline, "{error:?}"),
        }
    }
}
