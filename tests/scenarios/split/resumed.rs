//! What a run that goes on knows of the one before it: nothing has to be told again, and what it prints is true of both.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tenantry_app_db::entities::transfers;
use tenantry_connection::Engine;
use tenantry_transfer::{Done, Error, Options, Progress, Refusal, Request, Step, Transfer, Unwatched};

use super::world::{World, chain, tenant};

/// Ends a run at the point of this name, the first or a later time that it comes there, as the end of its process would.
struct DiesAt(&'static str, AtomicUsize);

impl Progress for DiesAt {
    fn point(&self, name: &'static str) {
        if name == self.0 && self.1.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Not `panic!`, whose message would look like a failure.
            std::panic::resume_unwind(Box::new("died"));
        }
    }
}

fn dies_at(name: &'static str, times: usize) -> DiesAt {
    DiesAt(name, AtomicUsize::new(times))
}

async fn dies<T>(run: impl Future<Output = T>) {
    assert!(AssertUnwindSafe(run).catch_unwind().await.is_err(), "it comes to that point");
}

fn recorded<'a>(request: &Request<'a>, record: transfers::Model) -> Transfer<'a> {
    let Request { app_db, source, target, actor, options, .. } = request.clone();
    Transfer { app_db, record, source, target, actor, options }
}

/// Goes on once the lease of the run that died is given up.
async fn resume(transfer: &Transfer<'_>) -> Result<Done, Error> {
    loop {
        match transfer.resume(&Unwatched).await {
            Err(Error::Busy { .. }) => tokio::task::yield_now().await,
            done => return done,
        }
    }
}

/// What the rows refer to is copied beforehand because the operator said so, once: who goes on does not have to know of it.
#[tokio::test(flavor = "multi_thread")]
async fn reference_tables_need_not_be_told_again() {
    let world = World::new(Engine::Postgres, Engine::Postgres).await;
    let acme = tenant("acme");
    for db in [&world.source, &world.target] {
        db.execute(
            "CREATE TABLE countries (code text PRIMARY KEY); \
             CREATE TABLE offices (tenant_id uuid NOT NULL, id int NOT NULL, country text REFERENCES countries, \
               PRIMARY KEY (tenant_id, id))",
        )
        .await
        .unwrap();
    }
    let countries = "SELECT count(*) AS n FROM countries";
    let insert = format!("INSERT INTO countries VALUES ('DE'); INSERT INTO offices VALUES ('{}', 1, 'DE')", acme.id);
    world.source.execute(&insert).await.unwrap();
    let mut request = world.request(acme).await;
    let Err(Error::Refused(plan)) = request.run(&Unwatched).await else { panic!("nobody said it") };
    assert!(matches!(&plan.refusals[..], [Refusal::Dangling { .. }]), "{:?}", plan.refusals);

    request.options.reference_tables = vec!["countries".to_owned()];
    dies(request.run(&dies_at("fenced", 1))).await;
    assert_eq!(world.target.number(countries).await, 0);
    let record = world.app_db.transfer_under_way(acme.id).await.unwrap().unwrap();
    assert_eq!(record.reference_tables().unwrap(), ["countries"]);
    request.options = Options::default();
    let transfer = recorded(&request, record);
    let done = resume(&transfer).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(done.report.unwrap().agrees());
    assert_eq!(world.target.number(countries).await, 1);

    // What was added since is referred to by rows that go back.
    let insert = format!("INSERT INTO countries VALUES ('FR'); INSERT INTO offices VALUES ('{}', 2, 'FR')", acme.id);
    world.target.execute(&insert).await.unwrap();
    world.rollback(acme, &Unwatched).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(world.source.number(countries).await, 2);
    assert_eq!(world.source.number("SELECT count(*) AS n FROM offices").await, 2);
    let records = world.app_db.transfers(Some(acme.id), 9).await.unwrap();
    assert!(records.iter().all(|record| record.reference_tables().unwrap() == ["countries"]), "also of the way back");
}

const HOUR: Duration = Duration::from_secs(3600);
/// What is true of how long writes were held.
type IsTrue = fn(Option<Duration>) -> bool;
/// Where a run died, and what is true then of writes that were held for an hour before, as the record says.
const LEFT: [(&str, usize, IsTrue); 9] = [
    // The source was not fenced yet: only the run that went on held anything.
    ("source unfenced", 1, |held| held.is_some_and(|held| held < HOUR)),
    ("fenced", 1, |held| held.is_some_and(|held| held >= HOUR)),
    ("fenced", 2, |held| held.is_some_and(|held| held >= HOUR)),
    ("copied", 2, |held| held.is_some_and(|held| held >= HOUR)),
    ("verified", 2, |held| held.is_some_and(|held| held >= HOUR)),
    ("placed", 1, |held| held.is_some_and(|held| held >= HOUR)),
    // Writes went through, and nobody has said since when.
    ("target open", 1, |held| held.is_none()),
    // It was said before the record was changed.
    ("placed", 2, |held| held.is_some_and(|held| held < HOUR)),
    ("source kept", 1, |held| held.is_some_and(|held| held < HOUR)),
];

/// A run that went on after the copy said that nothing was copied, and one that went on after the cutover that writes were held
/// until then.
#[tokio::test(flavor = "multi_thread")]
async fn its_figures_are_true_of_both_runs() {
    for engine in [Engine::Postgres, Engine::Sqlite] {
        for (at, times, is_true) in LEFT {
            let told = format!("to {engine}, at \"{at}\", {times}");
            let world = World::new(Engine::Postgres, engine).await;
            let acme = tenant("acme");
            let request = world.request(acme).await;
            dies(request.run(&dies_at(at, times))).await;
            world.source.execute("UPDATE tenantry_transfers SET held_since = now() - interval '1 hour'").await.unwrap();
            let record = world.app_db.transfer_under_way(acme.id).await.unwrap().unwrap();
            let done = resume(&recorded(&request, record)).await;
            let done = done.unwrap_or_else(|error| panic!("{told}: {}", chain(&error)));
            assert!(is_true(done.held), "{told}: {:?}", done.held);
            let record = world.app_db.transfers(Some(acme.id), 1).await.unwrap().remove(0);
            assert_eq!(record.held_ms.map(i64::unsigned_abs), done.held.map(|held| held.as_millis() as u64), "{told}");
            let report = done.report.expect(&told);
            let copied: u64 = report.tables.iter().filter(|table| !table.log).map(|table| table.copied).sum();
            assert_eq!(copied, acme.total(), "{told}");
        }
    }
}

/// The rows that were kept are replaced in one transaction. A run that died after it had them replaced, and before it could say how
/// many there were, is not believed to have found them all there.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_died_after_its_copy_has_copied() {
    for times in [1, 2] {
        let world = World::new(Engine::Postgres, Engine::Postgres).await;
        let acme = tenant("acme");
        world.split(acme).await;
        let id = world.target.uuid(acme.id);
        let insert = format!("INSERT INTO locations (tenant_id, name) VALUES ({id}, 'written since')");
        world.target.execute(&insert).await.unwrap();
        dies(world.rollback(acme, &dies_at("copied", times))).await;
        let record = world.app_db.transfer_under_way(acme.id).await.unwrap().unwrap();
        let transfer = world.returning(acme, record).await;
        let done = resume(&transfer).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        let copied: u64 = done.report.unwrap().tables.iter().filter(|table| !table.log).map(|table| table.copied).sum();
        assert_eq!(copied, acme.total() + 1, "{times}");
    }
}

/// What whoever watches is told: each step, with the rows that it has done.
#[derive(Default)]
struct Told(Mutex<Vec<(Step, u64)>>);

impl Progress for Told {
    fn step(&self, step: Step) {
        self.0.lock().unwrap().push((step, 0));
    }

    fn advance(&self, _table: &str, rows: u64) {
        self.0.lock().unwrap().last_mut().unwrap().1 += rows;
    }
}

/// Comparing takes as long as verifying does, and nobody was told of it.
#[tokio::test(flavor = "multi_thread")]
async fn who_watches_sees_every_comparison() {
    let world = World::new(Engine::Postgres, Engine::Postgres).await;
    let acme = tenant("acme");
    let steps = |told: &Told| told.0.lock().unwrap().iter().map(|(step, _)| *step).collect::<Vec<_>>();
    let rows = |told: &Told, of: Step| told.0.lock().unwrap().iter().find(|(step, _)| *step == of).unwrap().1;

    world.split(acme).await;
    let unchanged = Told::default();
    world.rollback(acme, &unchanged).await.unwrap();
    let expected = [Step::Plan, Step::Fence, Step::Compare, Step::Verify, Step::CutOver, Step::Reopen, Step::Purge];
    assert_eq!(steps(&unchanged), expected);
    assert!(rows(&unchanged, Step::Compare) >= acme.total(), "{:?}", unchanged.0);

    world.split(acme).await;
    let update = format!("UPDATE accounts SET notes = 'since' WHERE tenant_id = {}", world.target.uuid(acme.id));
    world.target.execute(&update).await.unwrap();
    let changed = Told::default();
    world.rollback(acme, &changed).await.unwrap();
    assert_eq!(steps(&changed)[..4], [Step::Plan, Step::Fence, Step::Compare, Step::Copy]);

    // What another run has verified is verified again by the one that goes on.
    let request = world.request(acme).await;
    dies(request.run(&dies_at("verified", 2))).await;
    let record = world.app_db.transfer_under_way(acme.id).await.unwrap().unwrap();
    let transfer = recorded(&request, record);
    let again = loop {
        let again = Told::default();
        match transfer.resume(&again).await {
            Err(Error::Busy { .. }) => tokio::task::yield_now().await,
            done => break done.map(|_| again).unwrap_or_else(|error| panic!("{}", chain(&error))),
        }
    };
    assert_eq!(steps(&again), [Step::Verify, Step::CutOver, Step::Reopen]);
    assert!(rows(&again, Step::Verify) >= acme.total(), "{:?}", again.0);
}
