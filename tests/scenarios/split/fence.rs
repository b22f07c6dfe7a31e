//! While a tenant moves, nobody writes its rows at the source: not who was writing already, not who comes later, not who began
//! long ago.

use std::time::Duration;

use sea_orm::Statement;
use tenantry_connection::{Engine, Error as ConnectionError};
use tenantry_transfer::{Error, FenceAfter, Outcome, Step, Unwatched};

use super::world::{PAIRS, Watch, World, backend, chain, placed, tenant};

/// A move with a worker that held its connection lost 5,575 of 11,044 acknowledged rows and reported success.
#[tokio::test(flavor = "multi_thread")]
async fn what_writers_were_told_is_committed_is_in_the_target() {
    for (from, to) in PAIRS {
        let world = std::sync::Arc::new(World::new(from, to).await);
        let acme = tenant("acme");
        let before = world.source.count("leads", acme).await;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..3 {
            let (world, stopped) = (world.clone(), stopped.clone());
            writers.spawn(async move {
                let id = world.source.uuid(acme.id);
                let mut acknowledged = 0;
                while !*stopped.borrow() {
                    let row = world.source.uuid(uuid::Uuid::new_v4());
                    let insert = format!(
                        "INSERT INTO leads (id, tenant_id, first_name, last_name, created_at, updated_at) \
                         VALUES ({row}, {id}, 'writer {writer}', 'x', '2024-01-01 00:00:00', '2024-01-01 00:00:00')"
                    );
                    match world.source.execute(&insert).await {
                        Ok(()) => acknowledged += 1,
                        Err(ConnectionError::Fenced { .. }) => break,
                        Err(error) => assert!(error.is_retryable(), "{}", chain(&error)),
                    }
                }
                acknowledged
            });
        }
        let outcome = world.request(acme).await.run(&Unwatched).await;
        stop.send_replace(true);
        let report = placed(outcome);
        assert!(report.agrees());
        let acknowledged: i64 = writers.join_all().await.into_iter().sum();
        assert_eq!(world.target.count("leads", acme).await, before + acknowledged, "{from} to {to}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_writer_is_waited_for_and_its_rows_come_along() {
    let world = World::new(Engine::Postgres, Engine::Postgres).await;
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    // The fence is there from an earlier tenant's move; before the first one, its triggers wait for every writer.
    world.split(globex).await;
    let mut writer = world.source.begin().await;
    let insert = |name: &str| {
        format!("INSERT INTO accounts (id, tenant_id, name) VALUES (gen_random_uuid(), '{}', '{name}')", acme.id)
    };
    writer.execute_raw_sql(&insert("written before")).await.unwrap();

    let (watch, mut at) = Watch::new();
    let request = world.request(acme).await;
    let moving = request.run(&watch);
    let writing = async {
        at.wait_for(|at| matches!(at, Some((Step::Fence, _)))).await.unwrap();
        // The fence is being raised once somebody waits for the tenant's lock.
        while world
            .source
            .number("SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            .await
            == 0
        {
            tokio::task::yield_now().await;
        }
        writer.execute_raw_sql(&insert("written while it waits")).await.unwrap();
        writer.commit().await.unwrap();
    };
    let (outcome, ()) = tokio::join!(moving, writing);
    assert!(matches!(outcome, Ok(Outcome::Placed { .. })), "{outcome:?}");
    let arrived = world.target.number("SELECT count(*) AS n FROM accounts WHERE name LIKE 'written %'").await;
    assert_eq!(arrived, 2);
    let late = world.source.execute(&insert("too late")).await.unwrap_err();
    assert!(matches!(late, ConnectionError::Fenced { .. }), "{late:?}");
    // The neighbour that was not moved goes on writing at the source.
    let neighbour = format!("UPDATE accounts SET notes = 'mine' WHERE tenant_id = '{}'", tenant("default").id);
    world.source.execute(&neighbour).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_does_not_end_makes_the_split_give_up_and_change_nothing() {
    for (from, to) in PAIRS {
        let world = World::new(from, to).await;
        let acme = tenant("acme");
        let mut writer = world.source.begin().await;
        let write = format!("UPDATE accounts SET notes = 'long' WHERE tenant_id = {}", world.source.uuid(acme.id));
        writer.execute_raw_sql(&write).await.unwrap();
        let mut request = world.request(acme).await;
        request.options.fence_deadline = Duration::from_millis(200);
        let error = request.run(&Unwatched).await.unwrap_err();
        // A file has one writer at a time: there not even the transfer's own record is written.
        if from == Engine::Postgres {
            let Error::Failed { step: Step::Fence, source, fence } = &error else { panic!("{}", chain(&error)) };
            assert!(matches!(**source, Error::Writers { .. }), "{}", chain(&error));
            // The writer is still open, and giving up does not wait for it once more.
            assert!(matches!(fence, FenceAfter::Lowered), "{}", chain(&error));
        }
        assert!(error.is_retryable());
        writer.execute_raw_sql(&write).await.unwrap();
        writer.commit().await.unwrap();
        world.source.execute(&write).await.unwrap();
        assert_eq!(world.placed_at(acme).await, None);
        assert!(world.split(acme).await.agrees());
    }
}

/// A transaction whose snapshot is older than the fence would not see it, and would write rows that nobody copies.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_with_an_old_snapshot_does_not_slip_through() {
    for isolation in ["REPEATABLE READ", "SERIALIZABLE"] {
        let world = World::new(Engine::Postgres, Engine::Postgres).await;
        let acme = tenant("acme");
        let mut old = world.source.begin().await;
        old.execute_raw_sql(&format!("SET TRANSACTION ISOLATION LEVEL {isolation}")).await.unwrap();
        // Of no tenant table, so that its lock does not hold the fence's triggers up.
        let statement = Statement::from_string(backend(&world.source.pool), "SELECT count(*) FROM tenants");
        old.query_all(statement).await.unwrap();
        let report = world.split(acme).await;
        let insert =
            format!("INSERT INTO accounts (id, tenant_id, name) VALUES (gen_random_uuid(), '{}', 'slipped')", acme.id);
        let refused = old.execute_raw_sql(&insert).await;
        assert!(refused.is_err(), "{isolation}: an old snapshot wrote to a fenced tenant");
        drop(old);
        assert!(report.agrees());
        assert!(world.verify(acme).await.agrees());
    }
}

/// Older SQLite databases hold uuids as text, in whatever case somebody wrote them.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_id_is_stored_as_text_is_fenced_and_moved() {
    for capitals in [false, true] {
        let world = World::new(Engine::Sqlite, Engine::Postgres).await;
        let globex = tenant("globex");
        let id = globex.id.to_string();
        let id = if capitals { id.to_uppercase() } else { id };
        let blob = world.source.uuid(globex.id);
        let text = format!(
            "UPDATE notes SET tenant_id = '{id}' WHERE tenant_id = {blob}; UPDATE leads SET tenant_id = '{id}' WHERE tenant_id = {blob}"
        );
        world.source.execute(&text).await.unwrap();
        assert_eq!(world.split(globex).await.records(), globex.total());
        let write = format!("UPDATE notes SET content = 'late' WHERE tenant_id = '{id}'");
        assert!(matches!(world.source.execute(&write).await, Err(ConnectionError::Fenced { .. })));
    }
}
