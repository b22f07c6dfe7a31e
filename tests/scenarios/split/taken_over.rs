//! A run that stands still until it is taken for dead, and then goes on as if nothing had been: it may do no harm any more, at
//! whichever point it stood.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
    mpsc::{Receiver, Sender, channel},
};

use tenantry_app_db::entities::TransferStep;
use tenantry_connection::Engine;
use tenantry_transfer::{Outcome, Progress, Unwatched};

use super::world::{PAIRS, World, chain, tenant};

/// Stands still at one point, the first or a later time that it comes there, until it is told to go on.
struct Standing {
    at: &'static str,
    times: AtomicUsize,
    reached: Mutex<Option<Sender<()>>>,
    go_on: Mutex<Receiver<()>>,
}

impl Standing {
    /// With what tells that it stands there, and what lets it go on.
    fn at(at: &'static str, times: usize) -> (Self, Receiver<()>, Sender<()>) {
        let ((reached, arrives), (free, go_on)) = (channel(), channel());
        let (reached, go_on) = (Mutex::new(Some(reached)), Mutex::new(go_on));
        (Self { at, times: AtomicUsize::new(times), reached, go_on }, arrives, free)
    }
}

impl Progress for Standing {
    fn point(&self, name: &'static str) {
        if name == self.at
            && self.times.fetch_sub(1, Ordering::Relaxed) == 1
            && let Some(reached) = self.reached.lock().unwrap().take()
        {
            reached.send(()).unwrap();
            tokio::task::block_in_place(|| self.go_on.lock().unwrap().recv().unwrap());
        }
    }
}

/// What was done and not recorded yet, and, the second time, what was recorded and nothing more: then the next thing that the run
/// does is to delete and to copy.
const POINTS: [(&str, usize); 11] = [
    ("target unfenced", 1),
    ("source unfenced", 1),
    ("fenced", 1),
    ("fenced", 2),
    ("copied", 1),
    ("copied", 2),
    ("verified", 1),
    ("verified", 2),
    ("unplaced", 1),
    ("placed", 1),
    ("target open", 1),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_that_was_taken_over_does_no_harm() {
    for (from, to) in [(Engine::Postgres, Engine::Postgres), (Engine::Postgres, Engine::Sqlite)] {
        for (at, times) in POINTS {
            let told = format!("{from} to {to}, at \"{at}\", {times}");
            let world = Arc::new(World::new(from, to).await);
            let globex = tenant("globex");
            let (standing, arrives, free) = Standing::at(at, times);
            let first = {
                let world = world.clone();
                tokio::spawn(async move { world.request(globex).await.run(&standing).await })
            };
            tokio::task::block_in_place(|| arrives.recv().unwrap());
            // As if it had said nothing for longer than its lease.
            let expire = "UPDATE tenantry_transfers SET lease_until = created_at WHERE owner IS NOT NULL";
            world.source.execute(expire).await.unwrap();
            let second = world.request(globex).await.run(&Unwatched).await;
            let second = second.unwrap_or_else(|error| panic!("{told}: {}", chain(&error)));
            assert!(
                matches!(&second, Outcome::Placed(done) if done.step == TransferStep::Finished),
                "{told}: {second:?}"
            );
            let insert = format!(
                "INSERT INTO locations (tenant_id, name) VALUES ({}, 'written after the move')",
                world.target.uuid(globex.id)
            );
            world.target.execute(&insert).await.unwrap_or_else(|error| panic!("{told}: {error}"));

            free.send(()).unwrap();
            assert!(first.await.unwrap().is_err(), "{told}: the first run takes its work for done");
            assert_eq!(world.placed_at(globex).await.as_deref(), Some(world.target.pool.url().as_str()), "{told}");
            let step = world.app_db.transfers(Some(globex.id), 9).await.unwrap()[0].step;
            assert_eq!(step, TransferStep::Finished, "{told}");
            // The tenant writes where it is, has everything there, and is held where it was.
            world.target.execute(&insert).await.unwrap_or_else(|error| panic!("{told}: {error}"));
            let written = "SELECT count(*) AS n FROM locations WHERE name = 'written after the move'";
            assert_eq!(world.target.number(written).await, 2, "{told}");
            for (table, records) in globex.counts().iter().filter(|(table, _)| *table != "locations") {
                assert_eq!(world.target.count(table, globex).await as u64, *records, "{told}: {table}");
            }
            let write =
                format!("UPDATE accounts SET notes = 'stray' WHERE tenant_id = {}", world.source.uuid(globex.id));
            assert!(world.source.execute(&write).await.is_err(), "{told}: the kept rows stay fenced");
        }
    }
}

/// A rollback that slept while another run brought the tenant back held the tenant's writes where it was by then, for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rollback_that_was_taken_over_does_no_harm() {
    for (from, to) in [(Engine::Postgres, Engine::Postgres), (Engine::Postgres, Engine::Sqlite)] {
        for (at, times) in [("target unfenced", 1), ("source unfenced", 1), ("fenced", 1), ("copied", 2), ("placed", 1)]
        {
            let told = format!("{from} to {to}, at \"{at}\", {times}");
            let world = Arc::new(World::new(from, to).await);
            let globex = tenant("globex");
            world.split(globex).await;
            let insert = |db: &super::world::Db| {
                format!("INSERT INTO locations (tenant_id, name) VALUES ({}, 'written')", db.uuid(globex.id))
            };
            world.target.execute(&insert(&world.target)).await.unwrap();
            let (standing, arrives, free) = Standing::at(at, times);
            let first = {
                let world = world.clone();
                tokio::spawn(async move { world.rollback(globex, &standing).await })
            };
            tokio::task::block_in_place(|| arrives.recv().unwrap());
            let expire = "UPDATE tenantry_transfers SET lease_until = created_at WHERE owner IS NOT NULL";
            world.source.execute(expire).await.unwrap();
            let open = world.app_db.transfer_under_way(globex.id).await.unwrap().expect(&told);
            let done = world.returning(globex, open).await.resume(&Unwatched).await;
            let done = done.unwrap_or_else(|error| panic!("{told}: {}", chain(&error)));
            assert_eq!(done.step, TransferStep::Purged, "{told}");

            free.send(()).unwrap();
            assert!(first.await.unwrap().is_err(), "{told}: the first run takes its work for done");
            assert_eq!(world.placed_at(globex).await, None, "{told}");
            world.source.execute(&insert(&world.source)).await.unwrap_or_else(|error| panic!("{told}: {error}"));
            let written = "SELECT count(*) AS n FROM locations WHERE name = 'written'";
            assert_eq!(world.source.number(written).await, 2, "{told}");
            assert!(world.target.execute(&insert(&world.target)).await.is_err(), "{told}: what was left stays fenced");
        }
    }
}

/// Stands still at the first table of its plan, when both databases have been read.
struct Planning {
    reached: Mutex<Option<Sender<()>>>,
    go_on: Mutex<Receiver<()>>,
}

impl Progress for Planning {
    fn table(&self, _: &str, _: u64) {
        if let Some(reached) = self.reached.lock().unwrap().take() {
            reached.send(()).unwrap();
            tokio::task::block_in_place(|| self.go_on.lock().unwrap().recv().unwrap());
        }
    }
}

/// Regression: a run that had planned while another one moved the tenant fenced it where it lived by then, took the rows there for
/// somebody's, and left the fence up.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_that_was_overtaken_before_it_began_does_no_harm() {
    for (from, to) in PAIRS {
        let told = format!("{from} to {to}");
        let world = Arc::new(World::new(from, to).await);
        let globex = tenant("globex");
        let (reached, arrives) = channel();
        let (free, go_on) = channel();
        let planning = Planning { reached: Mutex::new(Some(reached)), go_on: Mutex::new(go_on) };
        let first = {
            let world = world.clone();
            tokio::spawn(async move { world.request(globex).await.run(&planning).await })
        };
        tokio::task::block_in_place(|| arrives.recv().unwrap());
        let second = world.request(globex).await.run(&Unwatched).await.unwrap();
        assert!(matches!(&second, Outcome::Placed(done) if done.step == TransferStep::Finished), "{told}: {second:?}");
        free.send(()).unwrap();
        let first = first.await.unwrap().unwrap_or_else(|error| panic!("{told}: {}", chain(&error)));
        assert!(matches!(&first, Outcome::AlreadyPlaced { report, .. } if report.agrees()), "{told}: {first:?}");
        assert_eq!(world.app_db.transfers(Some(globex.id), 9).await.unwrap().len(), 1, "{told}");
        let write = format!("UPDATE accounts SET notes = 'here' WHERE tenant_id = {}", world.target.uuid(globex.id));
        world.target.execute(&write).await.unwrap_or_else(|error| panic!("{told}: {error}"));
    }
}
