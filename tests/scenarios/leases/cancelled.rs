//! Work that is dropped anywhere in the middle.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, future::join_all};
use tenantry_connection::{Mode, Pool, PoolOptions, Session};
use tenantry_data_source::TenantDb;
use tenantry_entities::accounts;
use tenantry_repository::{Query, RepositoryExt};

use super::{
    names, raw,
    world::{Dice, Setup, World, name_of},
    write,
};

/// What is never committed by whoever writes it: committed by the next borrower, it would be there.
const VICTIM: &str = "written by a victim";

/// One of the things that a request does, all the way through. None of them leaves anything behind when it is dropped.
async fn victim(db: TenantDb, what: u64) {
    match what {
        0 => {
            let transaction = db.begin().await.unwrap();
            write(&transaction, VICTIM).await.unwrap();
            names(&transaction).await.unwrap();
            transaction.rollback().await.unwrap();
        }
        1 => {
            let undone = db.transaction(async |transaction| {
                write(transaction, VICTIM).await?;
                Err::<(), _>(tenantry_repository::Error::DataSource(tenantry_data_source::Error::TransactionFailed))
            });
            undone.await.unwrap_err();
        }
        2 => drop(names(&db).await.unwrap()),
        3 => {
            let lease = db.lease().await.unwrap();
            names(&lease).await.unwrap();
            names(&lease).await.unwrap();
        }
        4 => {
            let transaction = db.begin_read().await.unwrap();
            names(&transaction).await.unwrap();
            transaction.commit().await.unwrap();
        }
        5 => {
            let query = Query::<accounts::Entity>::new();
            let mut rows = db.repository::<accounts::Entity>().stream(&query);
            while let Some(row) = rows.next().await {
                row.unwrap();
            }
        }
        _ => {
            let transaction = db.begin().await.unwrap();
            raw(&transaction, "SELECT pg_sleep(0.004)").await.unwrap();
            transaction.rollback().await.unwrap();
        }
    }
}

/// Row 1: work of every kind is dropped at a random moment, and whoever gets the connection next is another tenant. It finds its
/// own rows and no others, and never commits what the victim wrote: it is in no transaction but its own.
async fn storm(cap: u32, rounds: u64, at_once: usize) {
    let world = World::new(Setup { tenants: 4, cap, ..Setup::default() }).await.with_accounts().await;
    let world = Arc::new(world);
    let mut dice = Dice::new(u64::from(cap));
    for round in 0..rounds {
        let mut victims = Vec::new();
        for _ in 0..at_once {
            let (tenant, what, after) = (dice.one_of(3), dice.below(7), Duration::from_micros(dice.below(6_000)));
            let world = Arc::clone(&world);
            let running = tokio::spawn(async move { victim(world.db(tenant).await, what).await });
            victims.push((running, after));
        }
        join_all(victims.iter().map(|(victim, after)| async {
            tokio::time::sleep(*after).await;
            victim.abort();
        }))
        .await;
        let next = dice.one_of(4);
        let found = names(&world.db(next).await).await.unwrap();
        assert_eq!(found, [name_of(next)], "round {round}");
        for (victim, _) in victims {
            match victim.await {
                Ok(()) => {}
                Err(error) => assert!(error.is_cancelled(), "round {round}: a victim failed by itself: {error}"),
            }
        }
    }
    // Every slot is free again: as many as there are can be had at once, and none is in a transaction.
    world.at_rest().await;
    let leases = join_all((0..cap).map(|number| {
        let world = Arc::clone(&world);
        async move { world.db(number as usize).await.lease().await.unwrap() }
    }));
    let leases = leases.await;
    for (number, lease) in leases.iter().enumerate() {
        assert_eq!(names(lease).await.unwrap(), [name_of(number)]);
    }
    let mut observer = world.observer().await;
    observer
        .wait_for("no session in a transaction", "state LIKE 'idle in transaction%'", |found| found.is_empty())
        .await;
    drop(leases);
    let written = world
        .database
        .psql(&world.database.superuser, &format!("SELECT count(*) FROM accounts WHERE name = '{VICTIM}'"));
    assert_eq!(written.unwrap().trim(), "0");
    assert!(world.status().await.closed.abandoned > 0, "nothing was cut in the middle");
}

/// Row 1, where every victim's connection is the next borrower's.
#[tokio::test(flavor = "multi_thread")]
async fn cancelled_work_reaches_nobody_over_the_one_connection() {
    storm(1, 40, 1).await;
}

/// Row 1, where tags, turns and new connections mix.
#[tokio::test(flavor = "multi_thread")]
async fn cancelled_work_reaches_nobody_over_three_connections() {
    storm(3, 40, 6).await;
}

/// A panic takes the same way as a cancellation.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_middle_closes_the_connection_and_frees_its_slot() {
    let world = World::new(Setup { cap: 1, ..Setup::default() }).await.with_accounts().await;
    let db = world.db(0).await;
    let panicked = tokio::spawn(async move {
        let transaction = db.begin().await.unwrap();
        write(&transaction, VICTIM).await.unwrap();
        panic!("on purpose");
    });
    assert!(panicked.await.unwrap_err().is_panic());
    assert_eq!(names(&world.db(1).await).await.unwrap(), [name_of(1)]);
    assert_eq!(names(&world.db(0).await).await.unwrap(), [name_of(0)]);
    assert_eq!(world.status().await.closed.abandoned, 1);
}

/// Whoever drops a handle in a thread without a runtime (a destructor at the end of a program) neither panics nor keeps a slot.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_may_be_dropped_outside_a_runtime() {
    let world = World::new(Setup { cap: 1, ..Setup::default() }).await.with_accounts().await;
    let lease = world.db(0).await.lease().await.unwrap();
    names(&lease).await.unwrap();
    std::thread::spawn(move || drop(lease)).join().unwrap();
    let transaction = world.db(0).await.begin().await.unwrap();
    write(&transaction, VICTIM).await.unwrap();
    std::thread::spawn(move || drop(transaction)).join().unwrap();
    assert_eq!(names(&world.db(1).await).await.unwrap(), [name_of(1)]);
    assert_eq!(names(&world.db(0).await).await.unwrap(), [name_of(0)]);
}

/// The same of a file, whose connections the driver gives back in a task.
#[tokio::test(flavor = "multi_thread")]
async fn a_files_lease_may_be_dropped_outside_a_runtime() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("data.db").display()).parse().unwrap();
    let options = PoolOptions { create_if_missing: true, max_connections: 1, ..PoolOptions::default() };
    let pool = Pool::new(&url, None, &options).unwrap();
    for round in 0..3 {
        let lease = pool.lease(&Session::default()).await.unwrap();
        std::thread::spawn(move || drop(lease)).join().unwrap();
        let mut transaction = pool.begin(&Session::default(), Mode::Write).await.unwrap();
        transaction.execute_raw_sql("CREATE TABLE left_behind (id int)").await.unwrap();
        std::thread::spawn(move || drop(transaction)).join().unwrap_or_else(|_| panic!("round {round}"));
    }
    pool.close().await;
}

/// A waiter that gives up takes nothing along: neither a slot nor its neighbours' turns.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_waiter_loses_nothing() {
    let world = World::new(Setup { cap: 1, ..Setup::default() }).await.with_accounts().await;
    for round in 0..20_u64 {
        let held = world.db(0).await.lease().await.unwrap();
        let mut waiting = Vec::new();
        for number in 0..6 {
            let db = world.db(number % 2).await;
            waiting.push(tokio::spawn(async move { names(&db).await.map(drop) }));
        }
        world.wait_for_status("six waiters", |status| status.waiting == 6).await;
        // Some before the slot is free, some after, some at that moment.
        for (number, waiter) in waiting.iter().enumerate() {
            if number == 3 {
                tokio::time::sleep(Duration::from_micros(round * 53 % 700)).await;
                break;
            }
            waiter.abort();
        }
        drop(held);
        waiting[3].abort();
        for waiter in waiting {
            match waiter.await {
                Ok(read) => read.unwrap(),
                Err(error) => assert!(error.is_cancelled(), "round {round}: {error}"),
            }
        }
        let status = world.wait_for_status("nobody waits", |status| status.in_use == 0 && status.waiting == 0).await;
        assert!(status.open <= 1, "{status:?}");
    }
    assert_eq!(names(&world.db(1).await).await.unwrap(), [name_of(1)]);
}
