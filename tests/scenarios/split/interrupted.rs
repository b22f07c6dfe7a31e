//! A transfer that is asked to end, at whichever point: the tenant is where it was with nothing left behind, or where it goes, and
//! writes there.

use std::sync::atomic::{AtomicUsize, Ordering};

use tenantry_app_db::entities::TransferStep;
use tenantry_connection::Engine;
use tenantry_transfer::{Error, FenceAfter, Interrupt, Outcome, Progress, Unwatched, purge};

use super::world::{World, chain, tenant};

/// Asks at its n-th point.
struct AsksAt {
    interrupt: Interrupt,
    at: usize,
    passed: AtomicUsize,
}

impl AsksAt {
    fn new(interrupt: &Interrupt, at: usize) -> Self {
        Self { interrupt: interrupt.clone(), at, passed: AtomicUsize::new(0) }
    }

    fn has_asked(&self) -> bool {
        self.passed.load(Ordering::Relaxed) > self.at
    }
}

impl Progress for AsksAt {
    fn point(&self, _: &'static str) {
        if self.passed.fetch_add(1, Ordering::Relaxed) == self.at {
            self.interrupt.ask();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_at_any_point_it_is_taken_back_or_done() {
    for (from, to) in [(Engine::Postgres, Engine::Postgres), (Engine::Sqlite, Engine::Sqlite)] {
        let world = World::new(from, to).await;
        let globex = tenant("globex");
        let write = |db: &super::world::Db| {
            format!("UPDATE accounts SET notes = 'open' WHERE tenant_id = {}", db.uuid(globex.id))
        };
        let (mut taken_back, mut moved) = (0, 0);
        for at in 0.. {
            let told = format!("{from} to {to}, point {at}");
            let request = world.request(globex).await;
            let asks = AsksAt::new(&request.options.interrupt, at);
            let done = request.run(&asks).await;
            let record = world.app_db.transfers(Some(globex.id), 1).await.unwrap().remove(0);
            // Nobody has to wait for a lease to run out.
            assert_eq!(record.owner, None, "{told}");
            match done {
                Err(Error::Failed { fence: FenceAfter::Lowered, source, .. }) => {
                    assert!(matches!(*source, Error::Interrupted), "{told}: {source}");
                    assert_eq!(record.step, TransferStep::Aborted, "{told}");
                    assert_eq!(record.problem.as_deref(), Some("it was interrupted"), "{told}");
                    assert_eq!(world.placed_at(globex).await, None, "{told}");
                    assert_eq!(world.target.count("accounts", globex).await, 0, "{told}");
                    world.source.execute(&write(&world.source)).await.unwrap_or_else(|error| panic!("{told}: {error}"));
                    taken_back += 1;
                }
                Ok(Outcome::Placed(done)) => {
                    assert_eq!(done.step, TransferStep::Finished, "{told}");
                    world.target.execute(&write(&world.target)).await.unwrap_or_else(|error| panic!("{told}: {error}"));
                    world
                        .rollback(globex, &Unwatched)
                        .await
                        .unwrap_or_else(|error| panic!("{told}: {}", chain(&error)));
                    if !asks.has_asked() {
                        break;
                    }
                    moved += 1;
                }
                other => panic!("{told}: {other:?}"),
            }
            // Asked once, it begins nothing more.
            let again = request.run(&Unwatched).await;
            assert!(matches!(again, Err(Error::Interrupted)), "{told}: {again:?}");
        }
        assert!(taken_back > 5 && moved > 2, "{from} to {to}: {taken_back} taken back, {moved} moved");
    }
}

/// The way back: before its cutover the tenant stays, after it what is left behind waits for the next run.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_is_asked_to_end_is_taken_back_or_resumed() {
    let world = World::new(Engine::Postgres, Engine::Postgres).await;
    let globex = tenant("globex");
    let (mut stayed, mut resumed) = (0, 0);
    for at in 0.. {
        let told = format!("point {at}");
        world.split(globex).await;
        let record = world.app_db.transfers(Some(globex.id), 1).await.unwrap().remove(0);
        let mut back = world.returning(globex, record).await;
        (back.source, back.target) = (back.target, back.source);
        let asks = AsksAt::new(&back.options.interrupt, at);
        let done = back.rollback(&asks).await;
        let open = world.app_db.transfer_under_way(globex.id).await.unwrap();
        if world.placed_at(globex).await.is_some() {
            assert!(matches!(&done, Err(Error::Failed { fence: FenceAfter::Lowered, .. })), "{told}: {done:?}");
            assert!(open.is_none(), "{told}: {open:?}");
            let write =
                format!("UPDATE accounts SET notes = 'open' WHERE tenant_id = {}", world.target.uuid(globex.id));
            world.target.execute(&write).await.unwrap_or_else(|error| panic!("{told}: {error}"));
            world.rollback(globex, &Unwatched).await.unwrap_or_else(|error| panic!("{told}: {}", chain(&error)));
            stayed += 1;
        } else if let Some(open) = open {
            assert!(matches!(&done, Err(Error::Failed { fence: FenceAfter::Placed, .. })), "{told}: {done:?}");
            assert_eq!((open.step, open.owner), (TransferStep::Placed, None), "{told}");
            let transfer = world.returning(globex, open).await;
            transfer.resume(&Unwatched).await.unwrap_or_else(|error| panic!("{told}: {}", chain(&error)));
            resumed += 1;
        } else {
            done.unwrap_or_else(|error| panic!("{told}: {}", chain(&error)));
        }
        assert_eq!(world.target.count("accounts", globex).await, 0, "{told}");
        if !asks.has_asked() {
            break;
        }
    }
    assert!(stayed > 3 && resumed > 0, "{stayed} stayed, {resumed} resumed");
}

/// What was not deleted is kept, and can be gone back to.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_is_asked_to_end_deletes_nothing() {
    let world = World::new(Engine::Postgres, Engine::Postgres).await;
    let globex = tenant("globex");
    world.split(globex).await;
    let record = world.app_db.transfers(Some(globex.id), 1).await.unwrap().remove(0);
    let mut transfer = world.returning(globex, record).await;
    (transfer.source, transfer.target) = (transfer.target, transfer.source);
    transfer.options.interrupt.ask();
    let asked = purge(&transfer, &transfer.target, &Unwatched).await;
    assert!(matches!(asked, Err(Error::Interrupted)), "{asked:?}");
    let record = world.app_db.transfers(Some(globex.id), 1).await.unwrap().remove(0);
    assert_eq!((record.step, record.owner), (TransferStep::Finished, None));
    assert!(world.source.count("accounts", globex).await > 0);
    transfer.options.interrupt = Interrupt::default();
    let done = purge(&transfer, &transfer.target, &Unwatched).await.unwrap();
    assert_eq!(done.step, TransferStep::Purged);
    assert_eq!(world.source.count("accounts", globex).await, 0);
}
