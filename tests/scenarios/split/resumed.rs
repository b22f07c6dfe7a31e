//! What a run that goes on knows of the one before it: nothing has to be told again, and what it prints is true of both.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tenantry_connection::Engine;
use tenantry_transfer::{Done, Error, Options, Progress, Refusal, Transfer, Unwatched};

use super::world::{World, chain, tenant};

/// Ends a run at the point of this name, as the end of its process would.
struct DiesAt(&'static str);

impl Progress for DiesAt {
    fn point(&self, name: &'static str) {
        if name == self.0 {
            // Not `panic!`, whose message would look like a failure.
            std::panic::resume_unwind(Box::new("died"));
        }
    }
}

async fn dies<T>(run: impl Future<Output = T>) {
    assert!(AssertUnwindSafe(run).catch_unwind().await.is_err(), "it comes to that point");
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
    dies(request.run(&DiesAt("fenced"))).await;
    assert_eq!(world.target.number(countries).await, 0);
    let record = world.app_db.transfer_under_way(acme.id).await.unwrap().unwrap();
    assert_eq!(record.reference_tables().unwrap(), ["countries"]);
    let transfer = Transfer {
        app_db: &world.app_db,
        record,
        source: request.source.clone(),
        target: request.target.clone(),
        actor: request.actor.clone(),
        options: Options::default(),
    };
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
