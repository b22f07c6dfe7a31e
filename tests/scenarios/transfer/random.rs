//! Random schemas and rows, moved and interrupted by random faults, gone on with, brought back or purged; and compared by
//! something that knows nothing of transfers: the texts that the server makes of the rows.
//!
//! `TENANTRY_RANDOM_CASES` sets how many cases are tried, `TENANTRY_RANDOM_SEED` repeats the one that a failure named.

mod acts;
mod faults;
mod rng;
mod schema;
mod world;

use std::{
    env,
    panic::{AssertUnwindSafe, resume_unwind},
    thread,
};

use futures_util::FutureExt as _;
use tenantry_transfer::{Options, Unwatched, verify};
use uuid::Uuid;

use self::{
    acts::Act,
    rng::Rng,
    schema::{Form, Schema},
    world::World,
};

const CASES: u64 = 4;

/// On a thread with room: a run of a transfer that dies or fails deep within is more than two MiB of frames where nothing is
/// optimised.
fn each_case(portable: bool, case: impl AsyncFn(&Schema, u64) + Send + 'static) {
    let run = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(each_seed(portable, case));
    };
    if let Err(panic) = thread::Builder::new().stack_size(32 << 20).spawn(run).unwrap().join() {
        resume_unwind(panic);
    }
}

/// Each case for itself, shrunk when it fails: tables and columns are taken away while the rest still fails.
async fn each_seed(portable: bool, case: impl AsyncFn(&Schema, u64)) {
    let seeds: Vec<u64> = match env::var("TENANTRY_RANDOM_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => {
            let cases = env::var("TENANTRY_RANDOM_CASES").map_or(CASES, |cases| cases.parse().unwrap());
            let first = Uuid::new_v4().as_u64_pair().0;
            (0..cases).map(|case| first.wrapping_add(case)).collect()
        }
    };
    for seed in seeds {
        let fails =
            async |schema: &Schema| AssertUnwindSafe(Box::pin(case(schema, seed))).catch_unwind().await.is_err();
        let mut schema = Schema::random(&mut Rng::new(seed), portable);
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

/// A tenant's life: it is moved from place to place, there and back, and writes in between.
async fn lives(schema: &Schema, forms: &[Form], seed: u64) {
    // Each of its own, so that one draw more of one changes nothing of the others.
    let [mut rows, mut writes, mut faults, mut acts] = [1, 2, 3, 4].map(|stream| Rng::new(seed ^ stream));
    let mut world = World::new(schema, forms, &mut rows).await;
    world.check().await;
    for number in 0..2 + acts.below(4) {
        if number > 0 || acts.chance(2) {
            world.write(&mut writes).await;
        }
        let act = *acts.one_of(&world.acts());
        Box::pin(world.act(act, &mut faults)).await;
        world.check().await;
    }

    // What is lost is found, and what finds it is not deleted.
    let Some(number) = (0..world.kept.len()).last() else { return };
    let Some(table) = world.lose_one().await else { return };
    let (kept, here) = (world.places[world.kept[number].place].end(), world.places[world.at].end());
    let report = verify(&kept, &here, &Options::default(), &Unwatched).await.unwrap();
    let found = report.tables.iter().find(|found| found.table == table).unwrap();
    assert!(found.missing >= 1, "{table}: {}", report.summary());
    Box::pin(world.act(Act::Purge(number), &mut faults)).await;
    world.check().await;
}

#[test]
fn any_schema_moves_between_two_postgresql_databases() {
    each_case(false, async |schema, seed| lives(schema, &[Form::Plain, Form::Turned], seed).await);
}

/// Portable types, into a file and out of it into another server.
#[test]
fn any_portable_schema_moves_to_sqlite_and_back() {
    each_case(true, async |schema, seed| lives(schema, &[Form::Plain, Form::File, Form::Turned], seed).await);
}
