//! A split is taken back exactly, or not at all.

use tenantry_connection::Engine;
use tenantry_test_support::sample::TENANTS;
use tenantry_transfer::{Error, FenceAfter, Outcome, Unwatched, rollback, split};

use super::world::{PAIRS, World, chain, tenant};

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_puts_everything_back_and_touches_no_neighbour() {
    for (from, to) in PAIRS {
        let world = World::new(from, to).await;
        for tenant in &TENANTS {
            world.split(tenant).await;
        }
        let [default, acme, globex] = &TENANTS;
        let done = rollback(&world.request(acme).await, &Unwatched).await;
        let done = done.unwrap_or_else(|error| panic!("{from} to {to}: {}", chain(&error)));
        assert!(done.report.unwrap().agrees());
        assert_eq!(done.purged.iter().map(|(_, rows)| rows).sum::<u64>(), acme.total());
        assert_eq!(done.epoch, world.request(acme).await.expected_epoch);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_would_lose_a_write_is_refused_and_the_tenant_goes_on() {
    for (from, to) in PAIRS {
        let world = World::new(from, to).await;
        let acme = tenant("acme");
        world.split(acme).await;
        let id = world.target.uuid(acme.id);
        let insert = format!("INSERT INTO locations (tenant_id, name) VALUES ({id}, 'new')");
        world.target.execute(&insert).await.unwrap();
        let error = rollback(&world.request(acme).await, &Unwatched).await.unwrap_err();
        let Error::Failed { fence: FenceAfter::Lowered, source, .. } = error else { panic!("{error:?}") };
        let Error::WrittenSince(report) = *source else { panic!("{source:?}") };
        assert_eq!(report.tables.iter().map(|table| table.extra).sum::<u64>(), 1);
        assert_eq!(world.placed_at(acme).await.as_deref(), Some(world.target.pool.url().as_str()));
        world.target.execute(&insert).await.unwrap();

        // Written and taken away again: the rows agree, the log tells.
        world.target.execute(&format!("DELETE FROM locations WHERE tenant_id = {id} AND name = 'new'")).await.unwrap();
        assert!(world.verify(acme).await.agrees());
        let error = rollback(&world.request(acme).await, &Unwatched).await.unwrap_err();
        assert!(chain(&error).contains("since the cutover"), "{}", chain(&error));

        let outcome = split(&world.request(acme).await, &Unwatched).await.unwrap();
        assert!(matches!(outcome, Outcome::AlreadyPlaced { .. }));
    }
}

/// An epoch that was read before somebody else changed the placement must not decide.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_of_another_placement_is_refused() {
    let world = World::new(Engine::Sqlite, Engine::Sqlite).await;
    let acme = tenant("acme");
    let before = world.request(acme).await;
    world.split(acme).await;
    assert!(matches!(rollback(&before, &Unwatched).await, Err(Error::Request { .. })));
    assert!(world.placed_at(acme).await.is_some());
}

/// A tenant that was made at its data source has nothing in the single database: its rows there are the only ones.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_nowhere_else_are_never_deleted() {
    for (from, to) in PAIRS {
        let world = World::new(from, to).await;
        let acme = tenant("acme");
        let id = world.target.uuid(acme.id);
        world
            .target
            .execute(&format!("INSERT INTO locations (tenant_id, name) VALUES ({id}, 'only here')"))
            .await
            .unwrap();
        let error = rollback(&world.request(acme).await, &Unwatched).await.unwrap_err();
        assert!(matches!(error, Error::WrittenSince(_)), "{}", chain(&error));
        assert_eq!(world.target.count("locations", acme).await, 1);
    }
}
