//! How fast rows travel. Run by hand: `cargo test --release -p tenantry-tests -- --ignored rows_per_second --nocapture`.

use std::time::{Duration, Instant};

use tenantry_connection::Engine;
use tenantry_transfer::{Endpoint, Unwatched, copy, prepare, verify};

use super::world::{PAIRS, World, tenant};

const ROWS: u64 = 100_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes and measures; nothing is asserted but that the rows arrive"]
async fn rows_per_second() {
    for (from, to) in PAIRS {
        let world = World::new(from, to).await;
        let acme = tenant("acme");
        let id = world.source.uuid(acme.id);
        let (series, row_id, now) = match from {
            Engine::Postgres => (format!("generate_series(1, {ROWS}) AS n"), "gen_random_uuid()", "now()"),
            Engine::Sqlite => (
                format!(
                    "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {ROWS}) SELECT n FROM s)"
                ),
                "randomblob(16)",
                "'2024-01-01T00:00:00+00:00'",
            ),
        };
        let fill = format!(
            "INSERT INTO leads (id, tenant_id, first_name, last_name, email, company, notes, created_at, updated_at) \
             SELECT {row_id}, {id}, 'Ada', 'Lovelace', 'ada' || n || '@example.com', 'Analytical Engines', \
             'A note of ordinary length, as people write them into a lead.', {now}, {now} FROM {series}"
        );
        world.source.execute(&fill).await.unwrap();
        let request = world.request(acme).await;
        let mut targets = vec![("staged", request.target.clone())];
        if to == Engine::Postgres {
            targets.insert(0, ("direct", Endpoint::new(world.target.superuser(), acme.id)));
        }
        for (way, target) in targets {
            let options = &request.options;
            let mut laps = Laps::new();
            let made = prepare(&request.source, &target, options, &Unwatched).await.unwrap();
            let planned = laps.lap();
            let copied = copy::copy(&request.source, &target, &made, copy::Copying::default(), options, &Unwatched)
                .await
                .unwrap();
            let copied_in = laps.lap();
            let report = verify(&request.source, &target, options, &Unwatched).await.unwrap();
            let verified = laps.lap();
            assert!(report.agrees());
            let rows = copied.iter().map(|table| table.copied).sum::<u64>();
            let per_second = |time: Duration| rows as f64 / time.as_secs_f64();
            println!(
                "{from} to {to}, {way}: {rows} rows; plan {planned:?}, copy {copied_in:?} ({:.0}/s), verify {verified:?} ({:.0}/s)",
                per_second(copied_in),
                per_second(verified)
            );
            for (table, _) in acme.counts().into_iter().rev() {
                let purge = format!("DELETE FROM {table} WHERE tenant_id = {}", world.target.uuid(acme.id));
                world.target.execute(&purge).await.unwrap();
            }
        }
    }
}

struct Laps(Instant);

impl Laps {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn lap(&mut self) -> Duration {
        std::mem::replace(&mut self.0, Instant::now()).elapsed()
    }
}
