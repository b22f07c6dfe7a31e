//! A transfer is taken back with everything that was written since, or not at all.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tenantry_app_db::entities::TransferStep;
use tenantry_connection::{Actor, Engine};
use tenantry_test_support::sample::TENANTS;
use tenantry_transfer::{Error, Progress, Unwatched};

use super::world::{PAIRS, World, chain, tenant};

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_puts_everything_back_and_touches_no_neighbour() {
    for (from, to) in PAIRS {
        let world = World::new(from, to).await;
        for tenant in &TENANTS {
            world.split(tenant).await;
        }
        let [default, acme, globex] = &TENANTS;
        let done = world.rollback(acme, &Unwatched).await;
        let done = done.unwrap_or_else(|error| panic!("{from} to {to}: {}", chain(&error)));
        assert!(done.report.unwrap().agrees());
        let records = done.purged.iter().filter(|(table, _)| table != "write_log").map(|(_, rows)| rows);
        assert_eq!(records.sum::<u64>(), acme.total());
        assert_eq!(done.epoch, Some(world.request(acme).await.expected_epoch));
        assert_eq!(world.placed_at(acme).await, None);
        for (table, records) in acme.counts() {
            assert_eq!(world.target.count(table, acme).await, 0, "{table}");
            assert_eq!(world.source.count(table, acme).await as u64, records, "{table}");
        }
        // A purge that took the neighbours along, or the wrong side, would show here.
        for neighbour in [default, globex] {
            assert!(world.verify(neighbour).await.agrees());
            assert_eq!(world.verify(neighbour).await.records(), neighbour.total());
        }
        let write = |id: &str, note: &str| format!("UPDATE accounts SET notes = '{note}' WHERE tenant_id = {id}");
        let (mine, theirs) = (world.source.uuid(acme.id), world.source.uuid(globex.id));
        world.source.execute(&write(&mine, "back")).await.unwrap();
        assert!(world.source.execute(&write(&theirs, "no")).await.is_err(), "who has moved stays fenced");
        // Who still has the old route must not write into a database that the tenant has left.
        let insert = format!("INSERT INTO accounts (tenant_id, name) VALUES ({}, 'stray')", world.target.uuid(acme.id));
        assert!(world.target.execute(&insert).await.is_err());

        // And forth again, with what was written in between; then the target takes writes.
        let report = world.split(acme).await;
        assert_eq!((report.agrees(), report.records()), (true, acme.total()));
        world.target.execute(&insert).await.unwrap();
    }
}

/// The end of the process before the tenant's writes are held.
struct Dies;

impl Progress for Dies {
    fn point(&self, name: &'static str) {
        if name == "source unfenced" {
            // Not `panic!`, whose message would look like a failure.
            std::panic::resume_unwind(Box::new("died"));
        }
    }
}

/// The fence that a transfer raises at a place takes the place of the one that was left there. Taken back before anything was
/// copied, it was lowered, and who still had the old route wrote into a database that the tenant had left.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_was_left_stays_closed_when_the_next_transfer_to_it_is_withdrawn() {
    for (from, to) in PAIRS {
        let world = World::new(from, to).await;
        let acme = tenant("acme");
        world.split(acme).await;
        world.rollback(acme, &Unwatched).await.unwrap_or_else(|error| panic!("{from} to {to}: {}", chain(&error)));

        let request = world.request(acme).await;
        assert!(AssertUnwindSafe(request.run(&Dies)).catch_unwind().await.is_err(), "{from} to {to}");
        // Until its lease is given up.
        while let Err(error) = world.rollback(acme, &Unwatched).await {
            assert!(matches!(error, Error::Busy { .. }), "{from} to {to}: {}", chain(&error));
        }
        let step = world.app_db.transfers(Some(acme.id), 1).await.unwrap()[0].step;
        assert_eq!(step, TransferStep::Aborted, "{from} to {to}");
        let insert = format!("INSERT INTO accounts (tenant_id, name) VALUES ({}, 'stray')", world.target.uuid(acme.id));
        assert!(world.target.execute(&insert).await.is_err(), "{from} to {to}");
        world.split(acme).await;
        world.target.execute(&insert).await.unwrap();
    }
}

/// Going back used to be refused once anything was written, because it would have lost it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_loses_nothing_that_was_written_since() {
    for (from, to) in PAIRS {
        let world = World::new(from, to).await;
        let acme = tenant("acme");
        world.split(acme).await;
        let id = world.target.uuid(acme.id);
        for write in [
            format!("INSERT INTO locations (tenant_id, name) VALUES ({id}, 'new')"),
            format!("UPDATE accounts SET notes = 'changed since' WHERE tenant_id = {id}"),
            format!("DELETE FROM communications WHERE tenant_id = {id}"),
        ] {
            world.target.execute(&write).await.unwrap();
        }
        let logged = world.target.count("write_log", acme).await;
        let done = world.rollback(acme, &Unwatched).await;
        done.unwrap_or_else(|error| panic!("{from} to {to}: {}", chain(&error)));
        assert_eq!(world.placed_at(acme).await, None);
        let mine = world.source.uuid(acme.id);
        let count = async |condition: &str| {
            world.source.number(&format!("SELECT count(*) AS n FROM {condition} AND tenant_id = {mine}")).await
        };
        assert_eq!(count("locations WHERE name = 'new'").await, 1, "{from} to {to}");
        let accounts = world.source.count("accounts", acme).await;
        assert_eq!(count("accounts WHERE notes = 'changed since'").await, accounts, "{from} to {to}");
        assert_eq!(world.source.count("communications", acme).await, 0, "{from} to {to}");
        if from == Engine::Postgres && to == Engine::Postgres {
            assert!(logged > 0);
        }
        world.source.execute(&format!("UPDATE accounts SET notes = 'at home' WHERE tenant_id = {mine}")).await.unwrap();
        // What was brought back can be moved again.
        assert!(world.split(acme).await.agrees());
    }
}

/// An epoch that was read before somebody else changed the placement must not decide.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_placed_elsewhere_since_is_not_brought_back() {
    let world = World::new(Engine::Sqlite, Engine::Sqlite).await;
    let acme = tenant("acme");
    world.split(acme).await;
    let now = world.app_db.placement(acme.id).await.unwrap().unwrap();
    let elsewhere = world.request(acme).await.to;
    let url = tenantry_connection::DataSourceUrl::parse("sqlite:/elsewhere.db").unwrap();
    let elsewhere = tenantry_app_db::NewPlacement { url: Some(url), ..elsewhere };
    world.app_db.place(acme.id, now.epoch, &elsewhere, &Actor::default()).await.unwrap();
    let error = world.rollback(acme, &Unwatched).await.unwrap_err();
    assert!(matches!(error, Error::NotPlaced { .. }), "{}", chain(&error));
}

/// A row that is only at the target, since before the transfer or behind its back, must not be taken for a copy of one.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_nowhere_else_are_never_deleted() {
    for (from, to) in PAIRS {
        let world = World::new(from, to).await;
        let acme = tenant("acme");
        let id = world.target.uuid(acme.id);
        let insert = format!("INSERT INTO locations (tenant_id, name) VALUES ({id}, 'only here')");
        world.target.execute(&insert).await.unwrap();
        let error = world.request(acme).await.run(&Unwatched).await.unwrap_err();
        assert!(matches!(error, Error::Refused(_)), "{}", chain(&error));
        assert_eq!(world.target.count("locations", acme).await, 1);
        assert!(world.app_db.transfers(Some(acme.id), 9).await.unwrap().is_empty(), "nothing was begun");

        world.target.execute(&format!("DELETE FROM locations WHERE tenant_id = {id}")).await.unwrap();
        world.target.execute(&format!("DELETE FROM write_log WHERE tenant_id = {id}")).await.unwrap();
        world.split(acme).await;
        let transfer = &world.app_db.transfers(Some(acme.id), 9).await.unwrap()[0];
        assert_eq!(transfer.step, TransferStep::Finished);
    }
}

/// Whether a column can be done without is not for a transfer to say, also where it is empty. It names it, and what to do is done
/// under the fence of the kept rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_was_added_since_is_added_to_the_former_place() {
    for engine in [Engine::Postgres, Engine::Sqlite] {
        let world = World::new(engine, engine).await;
        let globex = tenant("globex");
        world.split(globex).await;
        let add = "ALTER TABLE accounts ADD COLUMN tier text DEFAULT 'basic'";
        world.target.execute(add).await.unwrap();
        let update = format!("UPDATE accounts SET tier = 'gold' WHERE tenant_id = {}", world.target.uuid(globex.id));
        world.target.execute(&update).await.unwrap();
        let refused = chain(&world.rollback(globex, &Unwatched).await.unwrap_err());
        assert!(refused.contains("the target has no column accounts.tier; add it"), "{engine}: {refused}");
        assert!(world.placed_at(globex).await.is_some());

        world.source.execute(add).await.unwrap();
        world.rollback(globex, &Unwatched).await.unwrap_or_else(|error| panic!("{engine}: {}", chain(&error)));
        let gold = "SELECT count(*) AS n FROM accounts WHERE tier = 'gold'";
        assert!(world.source.number(gold).await > 0, "{engine}: its values come back");
    }
}
