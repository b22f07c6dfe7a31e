//! Several statements on one connection, and one snapshot for several reads.

use std::time::Duration;

use futures_util::StreamExt;
use sea_orm::{ActiveValue::Set, ColumnTrait};
use tenantry_data_source::{ConnectionError, Error as DataSourceError, TenantDb};
use tenantry_entities::accounts;
use tenantry_repository::{Error, Query, RepositoryExt};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    answer, names,
    world::{Observer, Setup, World, name_of},
    write,
};

/// The one session that has run something since its connection was opened for the last statement.
async fn the_session(observer: &mut Observer) -> i32 {
    let sessions = observer.sessions("true").await;
    let newest = observer.sessions(
        "state_change = (SELECT max(state_change) FROM pg_stat_activity AS other WHERE \
         other.datname = pg_stat_activity.datname AND other.backend_type = 'client backend')",
    );
    let newest = newest.await;
    assert_eq!(newest.len(), 1, "of {sessions:?}");
    newest.into_iter().next().unwrap()
}

/// One connection for a request: its statements, a transaction, a stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_keeps_one_connection_for_everything() {
    let world = World::new(Setup::default()).await.with_accounts().await;
    let mut observer = world.observer().await;
    // So that there are others which a statement could wander to.
    let others = [world.db(1).await.lease().await.unwrap(), world.db(1).await.lease().await.unwrap()];
    for other in &others {
        names(other).await.unwrap();
    }
    drop(others);

    let db = world.db(0).await;
    let lease = db.lease().await.unwrap();
    assert_eq!(names(&lease).await.unwrap(), [name_of(0)]);
    let session = the_session(&mut observer).await;
    write(&lease, "by the lease").await.unwrap();
    assert_eq!(the_session(&mut observer).await, session);
    let transaction = lease.begin().await.unwrap();
    write(&transaction, "in its transaction").await.unwrap();
    assert_eq!(the_session(&mut observer).await, session);
    transaction.commit().await.unwrap();
    let mut rows = lease.repository::<accounts::Entity>().stream(&Query::new());
    let mut streamed = 0;
    while let Some(row) = rows.next().await {
        row.unwrap();
        streamed += 1;
    }
    drop(rows);
    assert_eq!((streamed, the_session(&mut observer).await), (3, session));
    let page = lease.repository::<accounts::Entity>().paginate(&Query::new(), 1, 2).await.unwrap();
    assert_eq!((page.total, the_session(&mut observer).await), (3, session));
    assert!(lease.begin_read().await.unwrap().rollback().await.is_ok());
    let in_use = world.status().await;
    assert_eq!(in_use.in_use, 1);
    drop(lease);
    let status = world.status().await;
    assert_eq!((status.in_use, status.closed.abandoned), (0, 0));
    assert_eq!(names(&db).await.unwrap().len(), 3);
}

/// A statement that was given up, and one that failed, cost the lease nothing but its connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_works_on_after_a_cancelled_statement() {
    let world = World::new(Setup { cap: 2, ..Setup::default() }).await.with_accounts().await;
    let lease = world.db(0).await.lease().await.unwrap();
    let first = lease.begin().await.unwrap();
    let pid: i32 = answer(&first, "SELECT pg_backend_pid()").await;
    let sleeping = answer::<String>(&first, "SELECT pg_sleep(5)::text");
    timeout(Duration::from_millis(20), sleeping).await.unwrap_err();
    drop(first);
    assert_eq!(names(&lease).await.unwrap(), [name_of(0)]);
    let second = lease.begin().await.unwrap();
    assert_ne!(answer::<i32>(&second, "SELECT pg_backend_pid()").await, pid);
    second.commit().await.unwrap();

    let mut observer = world.observer().await;
    names(&lease).await.unwrap();
    let session = the_session(&mut observer).await;
    let taken = names(&lease).await.unwrap();
    assert_eq!(taken, [name_of(0)]);
    let nameless =
        accounts::ActiveModel { name: Set("x".to_owned()), id: Set(uuid::Uuid::nil()), ..Default::default() };
    lease.repository::<accounts::Entity>().create(nameless.clone()).await.unwrap();
    let twice = lease.repository::<accounts::Entity>().create(nameless).await.unwrap_err();
    assert!(matches!(twice, Error::UniqueViolation { .. }), "{twice:?}");
    assert_eq!(names(&lease).await.unwrap().len(), 2);
    assert_eq!(the_session(&mut observer).await, session, "a refused row costs no connection");
}

/// `begin_read`: what others write meanwhile is not seen, and what it would write is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_transaction_is_one_snapshot_and_writes_nothing() {
    let world = World::new(Setup::default()).await.with_accounts().await;
    let db = world.db(0).await;
    let reading = db.begin_read().await.unwrap();
    assert_eq!(names(&reading).await.unwrap(), [name_of(0)]);
    write(&db, "meanwhile").await.unwrap();
    assert_eq!(names(&reading).await.unwrap(), [name_of(0)], "not the same snapshot");
    reading.commit().await.unwrap();
    assert_eq!(names(&db).await.unwrap().len(), 2);

    let reading = db.begin_read().await.unwrap();
    let refused = write(&reading, "refused").await.unwrap_err();
    assert!(tenantry_data_source::with_causes(&refused).contains("read-only transaction"), "{refused:?}");
    reading.commit().await.unwrap_err();
    assert_eq!(names(&db).await.unwrap().len(), 2);
}

/// A column's type is changed under prepared statements: one statement of the process fails and may be made again, however
/// many connections have prepared it.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_column_type_fails_one_statement_at_most() {
    let world = World::new(Setup { cap: 4, ..Setup::default() }).await.with_accounts().await;
    let db = world.db(0).await;
    let mut leases = Vec::new();
    for _ in 0..4 {
        let lease = db.lease().await.unwrap();
        names(&lease).await.unwrap();
        leases.push(lease);
    }
    drop(leases);
    let service = &world.database.service;
    world.database.psql(service, "ALTER TABLE accounts ALTER COLUMN industry TYPE varchar(80)").unwrap();
    let mut conflicts = 0;
    for _ in 0..12 {
        match names(&db).await {
            Ok(found) => assert_eq!(found, [name_of(0)]),
            Err(error) => {
                let conflict =
                    matches!(&error, Error::DataSource(DataSourceError::Connection(ConnectionError::Conflict { .. })));
                assert!(conflict && error.is_retryable(), "{error:?}");
                conflicts += 1;
            }
        }
    }
    assert_eq!(conflicts, 1);

    // The same in a transaction on a lease, which goes on with another connection.
    let lease = db.lease().await.unwrap();
    names(&lease).await.unwrap();
    world.database.psql(service, "ALTER TABLE accounts ALTER COLUMN industry TYPE text").unwrap();
    let transaction = lease.begin().await.unwrap();
    assert!(names(&transaction).await.unwrap_err().is_retryable());
    transaction.rollback().await.unwrap();
    assert_eq!(names(&lease).await.unwrap(), [name_of(0)]);
    drop(lease);
    let leases = futures_util::future::join_all((0..4).map(|_| db.lease())).await;
    for lease in leases {
        assert_eq!(names(&lease.unwrap()).await.unwrap(), [name_of(0)]);
    }
}

/// Statements that are issued at once on a lease whose tenant may hold no second connection take turns: none is refused.
#[tokio::test(flavor = "multi_thread")]
async fn statements_at_once_on_a_lease_take_turns() {
    let setup = Setup { pool_config: Some(r#"{"min": 1, "max": 1}"#), ..Setup::default() };
    let world = World::new(setup).await.with_accounts().await;
    let lease = world.db(0).await.lease().await.unwrap();
    let together = async { tokio::join!(names(&lease), names(&lease), names(&lease)) };
    let (a, b, c) = timeout(Duration::from_secs(10), together).await.expect("they wait for each other");
    for found in [a, b, c] {
        assert_eq!(found.unwrap(), [name_of(0)]);
    }
}

/// Row 15: a worker serves tenants in turn over one connection, and a job that failed, panicked or was dropped is not the next
/// one's context. That a job without a tenant gets no handle, and none is turned to another tenant, is a matter of types: a
/// manager's handle takes a tenant's id, there is no other way to make one, and no method that changes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_keeps_no_tenant() {
    let world = World::new(Setup { tenants: 3, cap: 1, ..Setup::default() }).await.with_accounts().await;
    let (jobs, mut queue) = tokio::sync::mpsc::channel::<(usize, TenantDb)>(1);
    let worker = tokio::spawn(async move {
        let mut done = 0;
        while let Some((number, db)) = queue.recv().await {
            let job = tokio::spawn(async move {
                let transaction = db.begin().await.unwrap();
                assert_eq!(names(&transaction).await.unwrap(), [name_of(number % 3)], "job {number}");
                match number % 4 {
                    0 => transaction.commit().await.unwrap(),
                    1 => drop(transaction),
                    2 => assert!(write(&transaction, "undone").await.is_ok() && number % 2 == 1, "on purpose"),
                    _ => transaction.rollback().await.unwrap(),
                }
            });
            assert_eq!(job.await.is_err(), number % 4 == 2, "job {number}");
            done += 1;
        }
        done
    });
    for number in 0..24 {
        jobs.send((number, world.db(number % 3).await)).await.unwrap();
    }
    drop(jobs);
    assert_eq!(worker.await.unwrap(), 24);
    assert_eq!(names(&world.db(0).await).await.unwrap(), [name_of(0)]);
}

/// Attack: with texts that differ from request to request a tenant fills the sessions that all share with prepared statements, each
/// of which takes as much memory on the server as it has values.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_with_many_values_leaves_nothing_prepared() {
    let world = World::new(Setup::default()).await.with_accounts().await;
    let lease = world.db(0).await.lease().await.unwrap();
    for values in [900_u128, 1_001] {
        let ids = (0..values).map(Uuid::from_u128);
        let query = Query::new().filter(accounts::Column::Id.is_in(ids));
        assert_eq!(lease.repository::<accounts::Entity>().find_many(&query).await.unwrap(), []);
    }
    let transaction = lease.begin().await.unwrap();
    let kept = "SELECT array_agg(cardinality(parameter_types) ORDER BY name)::text FROM pg_prepared_statements \
                WHERE cardinality(parameter_types) > 500";
    assert_eq!(answer::<String>(&transaction, kept).await, "{901}");
}
