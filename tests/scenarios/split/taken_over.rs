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

use super::world::{World, chain, tenant};

/// Stands still at one point, the first or a later time that it comes there, until it is told to go on.
struct Standing {
    at: &'static str,
    times: AtomicUsize,
    reached: Mutex<Option<Sender<()>>>,
    go_on: Mutex<Receiver<()>>,
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
            let (reached, arrives) = channel();
            let (free, go_on) = channel();
            let standing = Standing {
                at,
                times: AtomicUsize::new(times),
                reached: Mutex::new(Some(reached)),
                go_on: Mutex::new(go_on),
            };
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
