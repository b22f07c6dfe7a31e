//! Random schemas and rows, moved, interrupted and moved again, and compared by something that knows nothing of transfers:
//! the texts that the server makes of the rows.
//!
//! `TENANTRY_RANDOM_CASES` sets how many cases are tried, `TENANTRY_RANDOM_SEED` repeats the one that a failure named.

mod rng;
mod schema;

use std::{
    env,
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::FutureExt as _;
use tenantry_connection::Engine;
use tenantry_transfer::{
    Endpoint, Options, Progress, Step, Unwatched,
    copy::{Copying, copy},
    prepare, verify,
};
use tokio::sync::Notify;
use uuid::Uuid;

use self::{rng::Rng, schema::Schema};
use super::world::{Db, agreed, chain, moved, planned};

const CASES: u64 = 6;

/// Each case for itself, shrunk when it fails: tables and columns are taken away while the rest still fails.
async fn each_case(way: &str, case: impl AsyncFn(&Schema, u64)) {
    let seeds: Vec<u64> = match env::var("TENANTRY_RANDOM_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => {
            let cases = env::var("TENANTRY_RANDOM_CASES").map_or(CASES, |cases| cases.parse().unwrap());
            let first = Uuid::new_v4().as_u64_pair().0;
            (0..cases).map(|case| first.wrapping_add(case)).collect()
        }
    };
    for seed in seeds {
        let fails = async |schema: &Schema| AssertUnwindSafe(case(schema, seed)).catch_unwind().await.is_err();
        let mut schema = Schema::random(&mut Rng::new(seed), way);
        if !fails(&schema).await {
            continue;
        }
        let mut smaller = true;
        while smaller {
            smaller = false;
            for candidate in schema.smaller() {
                if fails(&candidate).await {
                    (schema, smaller) = (candidate, true);
                    break;
                }
            }
        }
        eprintln!("repeat with TENANTRY_RANDOM_SEED={seed}; what is left of its schema:\n{}", schema.describe());
        case(&schema, seed).await;
        panic!("seed {seed} failed, and its smallest form does not fail every time");
    }
}

/// Gives the copy up when so many tables have begun.
struct GiveUp {
    left: AtomicUsize,
    now: Notify,
}

impl Progress for GiveUp {
    fn step(&self, _: Step) {}

    fn table(&self, _: &str, _: u64) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.now.notify_one();
        }
    }
}

/// Copies; or begins to, gives up in the middle, and copies again over what is there.
async fn copied(from: &Endpoint, to: &Endpoint, rng: &mut Rng) {
    let options = Options::default();
    let prepared = prepare(from, to, &options, &Unwatched).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let mut copying = Copying { atomic: rng.chance(3), clear: false };
    if rng.chance(2) {
        let left = AtomicUsize::new(1 + rng.below(prepared.plan().tables.len() + 1));
        let give_up = GiveUp { left, now: Notify::new() };
        tokio::select! {
            biased;
            () = give_up.now.notified() => copying.clear = true,
            done = copy(from, to, &prepared, copying, &options, &give_up) => {
                done.unwrap_or_else(|error| panic!("{}", chain(&error)));
                return;
            }
        }
    }
    let done = copy(from, to, &prepared, copying, &options, &Unwatched).await;
    done.unwrap_or_else(|error| panic!("{}", chain(&error)));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_schema_moves_between_two_postgresql_databases() {
    each_case("postgres", async |schema, seed| {
        let mut rng = Rng::new(seed ^ 1);
        let (source, target) = (Db::new(Engine::Postgres).await, Db::new(Engine::Postgres).await);
        let [mine, theirs] = [rng.uuid(), rng.uuid()];
        let there = if rng.chance(3) { rng.uuid() } else { mine };
        source.execute(&schema.create(false)).await;
        target.execute(&schema.create(true)).await;
        for (db, tenant) in [(&source, mine), (&source, theirs), (&target, theirs)] {
            db.execute(&schema.fill(tenant, &mut rng)).await;
        }
        let (from, to) = match rng.chance(2) {
            true => (source.end(mine), target.superuser_end(there)),
            false => (source.end(mine), target.end(there)),
        };
        let before = (schema.rows(&source, mine).await, schema.rows(&source, theirs).await);
        let neighbours = schema.rows(&target, theirs).await;

        let plan = planned(&from, &to).await;
        assert_eq!(plan.refusals, []);
        copied(&from, &to, &mut rng).await;

        assert_eq!(schema.rows(&target, there).await, before.0, "the tenant's rows");
        assert_eq!(schema.rows(&target, theirs).await, neighbours, "the neighbour's rows in the target");
        let after = (schema.rows(&source, mine).await, schema.rows(&source, theirs).await);
        assert_eq!(after, before, "rows in the source");
        assert_eq!(planned(&from, &to).await.fingerprint, plan.fingerprint);
        let report = agreed(verify(&from, &to, &Options::default(), &Unwatched).await);
        assert_eq!(report.records(), before.0.len() as u64);
        schema.can_go_on(&target, there, &mut rng).await;

        // What is lost is found, and only that.
        let Some(table) = schema.lose_one(&target, there, mine).await else { return };
        let report = verify(&from, &to, &Options::default(), &Unwatched).await.unwrap();
        let found: Vec<_> = report.tables.iter().filter(|found| !found.agrees()).collect();
        assert!(found.iter().any(|found| found.table == table && found.missing == 1), "{table}: {}", report.summary());
    })
    .await;
}

/// Portable types, into a file and out of it into another server.
#[tokio::test(flavor = "multi_thread")]
async fn any_portable_schema_moves_to_sqlite_and_back() {
    each_case("sqlite", async |schema, seed| {
        let mut rng = Rng::new(seed ^ 1);
        let (source, file, target) =
            (Db::new(Engine::Postgres).await, Db::new(Engine::Sqlite).await, Db::new(Engine::Postgres).await);
        let [mine, theirs] = [rng.uuid(), rng.uuid()];
        source.execute(&schema.create(false)).await;
        file.execute(&schema.create_in_file()).await;
        target.execute(&schema.create(true)).await;
        for (db, tenant) in [(&source, mine), (&source, theirs), (&target, theirs)] {
            db.execute(&schema.fill(tenant, &mut rng)).await;
        }
        let before = schema.rows(&source, mine).await;
        let neighbours = schema.rows(&target, theirs).await;
        copied(&source.end(mine), &file.end(mine), &mut rng).await;
        let report = moved(&file.end(mine), &target.end(mine), &Options::default(), Copying::default()).await;
        assert_eq!(agreed(report).records(), before.len() as u64);
        assert_eq!(schema.rows(&target, mine).await, before, "the tenant's rows");
        assert_eq!(schema.rows(&target, theirs).await, neighbours, "the neighbour's rows in the target");
        agreed(verify(&source.end(mine), &file.end(mine), &Options::default(), &Unwatched).await);
    })
    .await;
}
