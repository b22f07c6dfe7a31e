//! Whatever breaks midway: nothing is placed by half, nothing half-copied stays, and running it again finishes.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::FutureExt;
use tenantry_app_db::{AppDb, entities::TransferStep};
use tenantry_connection::Engine;
use tenantry_test_support::{
    cluster::{Cluster, Database},
    sample::SampleTenant,
};
use tenantry_transfer::{Error, Outcome, Progress, Step, Unwatched, purge};
use tokio::task::JoinSet;

use super::world::{PAIRS, World, chain, placed, tenant};

/// A move that lost its target midway was taken for a success, and the tenant was routed to half of its rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_dies_during_the_copy_places_nothing_and_a_rerun_finishes() {
    /// Takes the target down when the copy reaches a table in the middle.
    struct Killer(Cluster, Mutex<Option<Step>>);

    impl Progress for Killer {
        fn step(&self, step: Step) {
            *self.1.lock().unwrap() = Some(step);
        }

        fn table(&self, table: &str, _rows: u64) {
            if *self.1.lock().unwrap() == Some(Step::Copy) && table == "opportunities" {
                self.0.crash().unwrap();
            }
        }
    }

    for from in [Engine::Postgres, Engine::Sqlite] {
        let targets = Cluster::start().unwrap();
        let world = World::with_target_on(&targets, from).await;
        let acme = tenant("acme");
        let killer = Killer(targets.clone(), Mutex::new(None));
        let error = world.request(acme).await.run(&killer).await.unwrap_err();
        assert!(matches!(error, Error::Failed { step: Step::Copy, .. }), "{}", chain(&error));
        assert_eq!(world.placed_at(acme).await, None);

        targets.restart().unwrap();
        assert_eq!(world.target.count("accounts", acme).await, 0, "what was copied before the crash is gone");
        // Nothing was moved, so the tenant writes where it did.
        let write = format!("UPDATE accounts SET notes = 'open' WHERE tenant_id = {}", world.source.uuid(acme.id));
        world.source.execute(&write).await.unwrap();
        let report = world.split(acme).await;
        assert_eq!((report.agrees(), report.records()), (true, acme.total()));
    }
}

/// Ends every other session of a database when the first table is compared.
struct EndsSessions<'d>(&'d Database, AtomicUsize);

impl Progress for EndsSessions<'_> {
    fn table(&self, _: &str, _rows: u64) {
        if self.1.fetch_add(1, Ordering::Relaxed) == 0 {
            let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid()";
            tokio::task::block_in_place(|| self.0.psql(&self.0.superuser, end)).unwrap();
        }
    }
}

/// A lease was given up over the very connection whose loss had ended the run, and whoever tried again at once was told to wait
/// for a run that was no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_lost_its_sessions_gives_up_its_lease() {
    let world = World::new(Engine::Postgres, Engine::Postgres).await;
    let acme = tenant("acme");
    world.split(acme).await;
    let record = world.app_db.transfers(Some(acme.id), 1).await.unwrap().remove(0);
    let mut transfer = world.returning(acme, record).await;
    (transfer.source, transfer.target) = (transfer.target, transfer.source);
    // With sessions of its own, none of which a comparison notices.
    let app_db = AppDb::new(world.source.superuser());
    transfer.app_db = &app_db;
    let ends = EndsSessions(world.source.database.as_ref().unwrap(), AtomicUsize::new(0));
    purge(&transfer, &transfer.target, &ends).await.unwrap_err();
    assert!(ends.1.into_inner() > 0, "it came to comparing");
    let record = world.app_db.transfers(Some(acme.id), 1).await.unwrap().remove(0);
    assert_eq!((record.step, record.owner), (TransferStep::Finished, None));
    let done = purge(&transfer, &transfer.target, &Unwatched).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(done.step, TransferStep::Purged);
}

/// Ends the transfer at its n-th point, as the end of its process would: nothing after that point runs.
struct Die {
    at: usize,
    passed: AtomicUsize,
}

impl Die {
    fn at(at: usize) -> Self {
        Self { at, passed: AtomicUsize::new(0) }
    }
}

impl Progress for Die {
    fn point(&self, _: &'static str) {
        if self.passed.fetch_add(1, Ordering::Relaxed) == self.at {
            // Not `panic!`, whose message would look like a failure.
            std::panic::resume_unwind(Box::new("died"));
        }
    }
}

/// Whether it died on the way. One that failed did not.
async fn dies<T>(transfer: impl Future<Output = Result<T, Error>>) -> bool {
    match AssertUnwindSafe(transfer).catch_unwind().await {
        Ok(Ok(_)) => false,
        Ok(Err(error)) => panic!("{}", chain(&error)),
        Err(_) => true,
    }
}

/// Runs it again until the lease of the one that died is given up.
async fn again<T, F: Future<Output = Result<T, Error>>>(run: impl Fn() -> F) -> Result<T, Error> {
    loop {
        match run().await {
            Err(Error::Busy { .. }) => tokio::task::yield_now().await,
            done => return done,
        }
    }
}

async fn assert_writes(db: &super::world::Db, tenant: &SampleTenant, may: bool, told: &str) {
    let write = format!("UPDATE accounts SET notes = 'open' WHERE tenant_id = {}", db.uuid(tenant.id));
    assert_eq!(db.execute(&write).await.is_ok(), may, "{told}");
}

/// Every point between two servers; of the other pairs, which differ in little but how rows are written, the three see a third
/// of them each.
fn points(pair: usize) -> impl Iterator<Item = usize> {
    let every = if pair == 0 { 1 } else { PAIRS.len() - 1 };
    (pair.saturating_sub(1)..).step_by(every)
}

/// A process can die between any two of its effects. Then the same call must go on, from whatever it finds, or take it all back.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_at_any_point_is_continued_or_undone() {
    for (number, (from, to)) in PAIRS.into_iter().enumerate() {
        let world = World::new(from, to).await;
        let globex = tenant("globex");
        for abort in [false, true] {
            for at in points(number) {
                let told = format!("{from} to {to}, point {at}, abort {abort}");
                let died = dies(world.request(globex).await.run(&Die::at(at))).await;
                let step = world.app_db.transfers(Some(globex.id), 1).await.unwrap()[0].step;
                if abort && died && step.is_under_way() && step != TransferStep::Placed {
                    let undone = again(|| world.rollback(globex, &Unwatched)).await;
                    undone.unwrap_or_else(|error| panic!("{told}: {}", chain(&error)));
                    assert_eq!(world.placed_at(globex).await, None, "{told}");
                    assert_eq!(world.target.count("accounts", globex).await, 0, "{told}");
                    assert_writes(&world.source, globex, true, &told).await;
                    assert_writes(&world.target, globex, true, "an update of no row").await;
                    continue;
                }
                let done = again(async || world.request(globex).await.run(&Unwatched).await).await;
                let done = done.unwrap_or_else(|error| panic!("{told}: {}", chain(&error)));
                let report = match done {
                    Outcome::Placed(done) => done.report.expect(&told),
                    Outcome::AlreadyPlaced { report, .. } => report,
                };
                assert_eq!((report.agrees(), report.records()), (true, globex.total()), "{told}");
                assert_eq!(world.placed_at(globex).await.as_deref(), Some(world.target.pool.url().as_str()), "{told}");
                assert_writes(&world.source, globex, false, &told).await;
                assert_writes(&world.target, globex, true, &told).await;
                world.rollback(globex, &Unwatched).await.unwrap_or_else(|error| panic!("{told}: {}", chain(&error)));
                if !died {
                    assert!(at > 8, "{told}: there are more points than that");
                    break;
                }
            }
        }
    }
}

/// The same for the way back, with something written meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_dies_at_any_point_is_continued_by_the_next() {
    for (number, (from, to)) in PAIRS.into_iter().enumerate() {
        let world = World::new(from, to).await;
        let globex = tenant("globex");
        for at in points(number) {
            let told = format!("{from} to {to}, point {at}");
            world.split(globex).await;
            let id = world.target.uuid(globex.id);
            let insert = format!("INSERT INTO locations (tenant_id, name) VALUES ({id}, 'written at {at}')");
            world.target.execute(&insert).await.unwrap();
            let died = dies(world.rollback(globex, &Die::at(at))).await;
            if world.placed_at(globex).await.is_some() {
                let done = again(|| world.rollback(globex, &Unwatched)).await;
                done.unwrap_or_else(|error| panic!("{told}: {}", chain(&error)));
            } else if let Some(record) = world.app_db.transfer_under_way(globex.id).await.unwrap() {
                let transfer = world.returning(globex, record).await;
                let done = again(|| transfer.resume(&Unwatched)).await;
                done.unwrap_or_else(|error| panic!("{told}: {}", chain(&error)));
            }
            assert_eq!(world.placed_at(globex).await, None, "{told}");
            assert_eq!(world.target.count("accounts", globex).await, 0, "{told}");
            let written = format!("SELECT count(*) AS n FROM locations WHERE name = 'written at {at}'");
            assert_eq!(world.source.number(&written).await, 1, "{told}");
            assert_writes(&world.source, globex, true, &told).await;
            if !died {
                assert!(at > 8, "{told}: there are more points than that");
                break;
            }
        }
    }
}

/// A row that only the target refuses (its check is narrower than the source's) must take the whole copy with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_fails_in_its_last_table_leaves_nothing_behind() {
    let world = World::new(Engine::Postgres, Engine::Postgres).await;
    let acme = tenant("acme");
    world.target.execute("ALTER TABLE communications ADD CHECK (communication_type <> 'email')").await.unwrap();
    let error = world.request(acme).await.run(&Unwatched).await.unwrap_err();
    assert!(chain(&error).contains("communications"), "{}", chain(&error));
    for (table, _) in acme.counts() {
        assert_eq!(world.target.count(table, acme).await, 0, "{table}");
    }
    assert_eq!(world.placed_at(acme).await, None);
    let write = format!("UPDATE accounts SET notes = 'open' WHERE tenant_id = {}", world.source.uuid(acme.id));
    world.source.execute(&write).await.unwrap();
}

/// Two operators, one tenant: one moves it, the other is told. What one of them has fenced the other must not open.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_splits_at_once_one_moves_the_tenant() {
    for (from, to) in PAIRS {
        let world = std::sync::Arc::new(World::new(from, to).await);
        let mut runs = JoinSet::new();
        for _ in 0..3 {
            let world = world.clone();
            runs.spawn(async move { world.request(tenant("acme")).await.run(&Unwatched).await });
        }
        let mut moved = 0;
        for outcome in runs.join_all().await {
            match outcome {
                Ok(Outcome::Placed(done)) => {
                    assert!(done.report.unwrap().agrees());
                    moved += 1;
                }
                Ok(Outcome::AlreadyPlaced { report, .. }) => assert!(report.agrees()),
                Err(Error::Busy { .. }) => {}
                Err(error) => panic!("{from} to {to}: {}", chain(&error)),
            }
        }
        assert_eq!(moved, 1, "{from} to {to}");
        let write =
            format!("UPDATE accounts SET notes = 'late' WHERE tenant_id = {}", world.source.uuid(tenant("acme").id));
        assert!(world.source.execute(&write).await.is_err(), "the source stays fenced");
        placed(world.request(tenant("globex")).await.run(&Unwatched).await);
    }
}
