//! How long a connection lives: its age, its idleness, a server that was restarted, what is kept warm, and how it all ends.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tenantry_app_db::entities::{PoolerMode, SourceKind};
use tenantry_connection::{ConnectFailure, Error as ConnectionError, PoolOptions, PoolStatus};
use tenantry_data_source::Error;
use tenantry_test_support::cluster::Cluster;

use super::{
    names,
    world::{PATIENCE, Setup, World, migrated, name_of},
    write,
};

fn options(change: impl FnOnce(&mut PoolOptions)) -> PoolOptions {
    let mut options = PoolOptions { acquire_timeout: PATIENCE, ..PoolOptions::default() };
    change(&mut options);
    options
}

/// A connection in steady use is replaced when it is old, between two statements and never under one.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_connection_is_replaced_between_statements() {
    let options = options(|options| options.max_lifetime = Duration::from_millis(250));
    let world = World::new(Setup { cap: 1, options, ..Setup::default() }).await.with_accounts().await;
    let db = world.db(0).await;
    let deadline = Instant::now() + PATIENCE;
    while world.status().await.closed.age < 3 {
        assert_eq!(names(&db).await.unwrap(), [name_of(0)]);
        assert!(Instant::now() < deadline, "{:?}", world.status().await);
    }
    let PoolStatus { opened, closed, .. } = world.status().await;
    assert_eq!((closed.abandoned, closed.broken), (0, 0));
    assert!(opened <= closed.age + 1, "opened {opened}, closed {closed:?}");
}

/// What nobody uses goes, unasked, and one that waits for its use is not missed.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_unasked() {
    let options = options(|options| options.idle_timeout = Duration::from_millis(200));
    let world = World::new(Setup { options, ..Setup::default() }).await.with_accounts().await;
    let leases = join_all((0..3).map(|_| async { world.db(0).await.lease().await.unwrap() })).await;
    let mut observer = world.observer().await;
    assert!(observer.sessions("true").await.len() >= 3);
    drop(leases);
    observer.wait_for("no session left", "true", |sessions| sessions.is_empty()).await;
    let status = world.wait_for_status("no slot taken", |status| status.open == 0).await;
    assert!(status.closed.unused >= 3, "{status:?}");
    assert_eq!(names(&world.db(0).await).await.unwrap(), [name_of(0)]);
}

/// After a restart of the server the first statement fails and says that it may be made again; the other connections are asked
/// before they are used, so that no other statement fails.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_server_one_statement_fails() {
    let cluster = Cluster::start().unwrap();
    let database = migrated(&cluster).await;
    let url = database.url().parse().unwrap();
    let world = World::reached_by(Setup { tenants: 4, ..Setup::default() }, database, url).await.with_accounts().await;
    let leases = join_all((0..4).map(|tenant| {
        let world = &world;
        async move { world.db(tenant).await.lease().await.unwrap() }
    }))
    .await;
    for (tenant, lease) in leases.iter().enumerate() {
        assert_eq!(names(lease).await.unwrap(), [name_of(tenant)]);
    }
    drop(leases);
    cluster.crash().unwrap();
    cluster.restart().unwrap();
    let refused = names(&world.db(2).await).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused:?}");
    for round in 0..3 {
        for tenant in 0..4 {
            let found = names(&world.db(tenant).await).await;
            assert_eq!(found.unwrap(), [name_of(tenant)], "round {round}");
        }
    }
    let status = world.at_rest().await;
    assert!(status.closed.broken >= 2, "{status:?}");
}

/// One session that an administrator ends is one failed statement.
#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_session_is_one_failed_statement() {
    let world = World::new(Setup { cap: 1, ..Setup::default() }).await.with_accounts().await;
    let db = world.db(0).await;
    names(&db).await.unwrap();
    let mut observer = world.observer().await;
    let pid = observer.sessions("true").await.pop_first().unwrap();
    observer.terminate(pid).await;
    assert!(names(&db).await.unwrap_err().is_retryable());
    assert_eq!(names(&db).await.unwrap(), [name_of(0)]);
    assert_eq!(world.status().await.closed.broken, 1);
}

/// A dedicated data source keeps its tenant's minimum open before the first request, over the idle timeout, and after a loss.
#[tokio::test(flavor = "multi_thread")]
async fn a_dedicated_data_source_is_kept_warm() {
    let options = options(|options| options.idle_timeout = Duration::from_millis(200));
    let setup = Setup {
        tenants: 1,
        kind: SourceKind::Dedicated,
        pool_config: Some(r#"{"min": 2, "max": 4}"#),
        options,
        ..Setup::default()
    };
    let world = World::new(setup).await.with_accounts().await;
    let mut observer = world.observer().await;
    assert!(observer.sessions("true").await.is_empty());
    let db = world.db(0).await;
    let restricted = format!("usename = '{}'", world.database.restricted.user);
    let warm = observer.wait_for("two warm connections", &restricted, |sessions| sessions.len() == 2).await;
    // All four at once, and back to two.
    let leases = join_all((0..4).map(|_| db.lease())).await;
    assert!(leases.iter().all(Result::is_ok), "the maximum is no share where a tenant is alone");
    drop(leases);
    observer.wait_for("the two that are kept", &restricted, |sessions| sessions.len() == 2).await;
    for pid in warm {
        if observer.sessions(&format!("pid = {pid}")).await.len() == 1 {
            observer.terminate(pid).await;
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while names(&db).await.is_err() {
        assert!(Instant::now() < deadline);
    }
    observer.wait_for("two again", &restricted, |sessions| sessions.len() == 2).await;
}

/// Closing waits for what is under way, ends every session, and whoever comes later is told instead of left waiting.
#[tokio::test(flavor = "multi_thread")]
async fn closing_drains_and_refuses() {
    let world = World::new(Setup { cap: 3, ..Setup::default() }).await.with_accounts().await;
    let (db, other) = (world.db(0).await, world.db(1).await);
    names(&other).await.unwrap();
    let transaction = db.begin().await.unwrap();
    write(&transaction, "under way").await.unwrap();
    let held = [other.lease().await.unwrap(), other.lease().await.unwrap()];
    let waiting = {
        let db = db.clone();
        tokio::spawn(async move { db.lease().await.map(drop) })
    };
    world.wait_for_status("one waits", |status| status.waiting == 1).await;
    let closing = {
        let manager = world.manager.clone();
        tokio::spawn(async move { manager.close().await })
    };
    let is_closed = |error: &Error| {
        matches!(error, Error::Connection(ConnectionError::Connect { reason: ConnectFailure::Closed, .. }))
    };
    assert!(is_closed(&waiting.await.unwrap().unwrap_err()), "who waits is told");
    assert!(is_closed(&other.lease().await.unwrap_err()), "who comes is told");
    assert!(!closing.is_finished());
    write(&transaction, "and on").await.unwrap();
    transaction.commit().await.unwrap();
    assert!(!closing.is_finished());
    drop(held);
    closing.await.unwrap();
    let mut observer = world.observer().await;
    observer.wait_for("no session left", "true", |sessions| sessions.is_empty()).await;

    // Whoever routes anew gets no connection behind the closed manager's back.
    let served = match world.manager.tenant(world.tenants[0]).await {
        Ok(anew) => names(&anew).await.is_ok(),
        Err(_) => false,
    };
    assert!(!served, "a closed manager serves");
    assert!(observer.sessions("true").await.is_empty());
    let written = "SELECT count(*) FROM accounts WHERE name IN ('under way', 'and on')";
    assert_eq!(world.database.psql(&world.database.superuser, written).unwrap().trim(), "2");
}

/// Nothing keeps a manager's connections but the manager and its handles.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_manager_leaves_no_connection() {
    for mode in [PoolerMode::Direct, PoolerMode::Auto] {
        let setup = Setup { kind: SourceKind::Dedicated, tenants: 1, mode, ..Setup::default() };
        let world = World::new(setup).await.with_accounts().await;
        let mut observer = world.observer().await;
        let db = world.db(0).await;
        let transaction = db.begin().await.unwrap();
        write(&transaction, "undone").await.unwrap();
        observer.wait_for("it connects", "true", |sessions| !sessions.is_empty()).await;
        drop((db, transaction));
        let World { manager, database, .. } = world;
        drop(manager);
        observer.wait_for("no session left", "true", |sessions| sessions.is_empty()).await;
        assert_eq!(database.psql(&database.superuser, "SELECT count(*) FROM accounts").unwrap().trim(), "1");
    }
}
