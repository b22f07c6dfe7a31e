//! Whatever breaks midway: nothing is placed by half, nothing half-copied stays, and running it again finishes.

use std::{panic::AssertUnwindSafe, sync::Mutex};

use futures_util::FutureExt;
use tenantry_connection::Engine;
use tenantry_test_support::cluster::Cluster;
use tenantry_transfer::{Error, Outcome, Progress, Step, Unwatched, rollback, split};
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
        let error = split(&world.request(acme).await, &killer).await.unwrap_err();
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

/// Ends the transfer where the step begins, as the end of its process would: nothing after that point runs.
struct Die(Step);

impl Progress for Die {
    fn step(&self, step: Step) {
        if step == self.0 {
            // Not `panic!`, whose message would look like a failure.
            std::panic::resume_unwind(Box::new("died"));
        }
    }
}

async fn dies<T>(transfer: impl Future<Output = T>) {
    assert!(AssertUnwindSafe(transfer).catch_unwind().await.is_err(), "the step was never reached");
}

/// A process can die between any two steps. Then the same command must go on, from whatever it finds.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_at_any_step_is_continued_by_the_next() {
    for (from, to) in PAIRS {
        let world = World::new(from, to).await;
        let globex = tenant("globex");
        for step in [Step::Plan, Step::Fence, Step::Copy, Step::Verify, Step::CutOver] {
            let request = world.request(globex).await;
            dies(split(&request, &Die(step))).await;
        }
        let report = match split(&world.request(globex).await, &Unwatched).await {
            Ok(Outcome::Placed { report, .. }) => report,
            Ok(other) => panic!("placed by a run that had died: {other:?}"),
            Err(error) => panic!("{from} to {to}: {}", chain(&error)),
        };
        assert_eq!((report.agrees(), report.records()), (true, globex.total()), "{from} to {to}");
        assert_eq!(world.placed_at(globex).await.as_deref(), Some(world.target.pool.url().as_str()));
    }
}

/// The same for the way back, and for a split that nobody wants to continue.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_dies_at_any_step_is_continued_by_the_next() {
    for (from, to) in PAIRS {
        let world = World::new(from, to).await;
        let globex = tenant("globex");
        for step in [Step::Fence, Step::Verify, Step::CutOver, Step::Reopen, Step::Purge] {
            if world.placed_at(globex).await.is_none() {
                world.split(globex).await;
            }
            let request = world.request(globex).await;
            dies(rollback(&request, &Die(step))).await;
            match rollback(&world.request(globex).await, &Unwatched).await {
                Ok(_) => {}
                Err(error) => panic!("{from} to {to}, {step}: {}", chain(&error)),
            }
            assert_eq!(world.placed_at(globex).await, None);
            assert_eq!(world.target.count("accounts", globex).await, 0);
            let write =
                format!("UPDATE accounts SET notes = 'open' WHERE tenant_id = {}", world.source.uuid(globex.id));
            world.source.execute(&write).await.unwrap();
        }

        // Copied, verified, not placed: the rollback of what never happened opens the source and removes the copy.
        let request = world.request(globex).await;
        dies(split(&request, &Die(Step::Verify))).await;
        assert_eq!(world.target.count("accounts", globex).await, 2);
        rollback(&world.request(globex).await, &Unwatched).await.unwrap();
        assert_eq!(world.target.count("accounts", globex).await, 0);
        let write = format!("UPDATE accounts SET notes = 'again' WHERE tenant_id = {}", world.source.uuid(globex.id));
        world.source.execute(&write).await.unwrap();
    }
}

/// A row that only the target refuses (its check is narrower than the source's) must take the whole copy with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_fails_in_its_last_table_leaves_nothing_behind() {
    let world = World::new(Engine::Postgres, Engine::Postgres).await;
    let acme = tenant("acme");
    world.target.execute("ALTER TABLE communications ADD CHECK (communication_type <> 'email')").await.unwrap();
    let error = split(&world.request(acme).await, &Unwatched).await.unwrap_err();
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
            runs.spawn(async move { split(&world.request(tenant("acme")).await, &Unwatched).await });
        }
        let mut moved = 0;
        for outcome in runs.join_all().await {
            match outcome {
                Ok(Outcome::Placed { report, .. }) => {
                    assert!(report.agrees());
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
        placed(split(&world.request(tenant("globex")).await, &Unwatched).await);
    }
}
