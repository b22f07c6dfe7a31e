//! A server that does not answer, and one that comes back.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tenantry_app_db::entities::PoolerMode;
use tenantry_connection::{ConnectFailure, Error, Mode, Pool, PoolOptions, Session};
use tenantry_credential::Login;
use tokio::time::timeout;

use super::{
    names,
    proxy::{Proxy, black_hole},
    world::{PATIENCE, Setup, World, migrated_copy, name_of},
};

/// Row 2: whoever cannot connect gets an error at its deadline, however many others are trying, and no slot stays taken. One
/// attempt after the other, forty callers would take ten seconds.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_black_hole_beyond_the_deadline() {
    let (url, accepting) = black_hole().await;
    let login = Login::new("somebody", "secret".to_owned()).unwrap();
    for pooler in [tenantry_connection::PoolerMode::Auto, tenantry_connection::PoolerMode::Direct] {
        let options = PoolOptions {
            acquire_timeout: Duration::from_millis(250),
            pooler,
            max_connections: 2,
            ..PoolOptions::default()
        };
        let pool = Pool::new(&url, Some(&login), &options).unwrap();
        let session = Session { tenant: Some("a".into()), ..Session::default() };
        let started = Instant::now();
        let refused = join_all((0..40).map(|_| pool.begin(&session, Mode::Read))).await;
        assert!(started.elapsed() < Duration::from_secs(5), "{pooler:?}: it took {:?}", started.elapsed());
        for refused in refused {
            let error = refused.unwrap_err();
            let told = matches!(
                error,
                Error::Connect { reason: ConnectFailure::Unreachable, .. } | Error::Exhausted { cap: 2, .. }
            );
            assert!(told && error.is_retryable(), "{pooler:?}: {error:?}");
        }
        let deadline = Instant::now() + PATIENCE;
        while pool.status().open > 0 {
            assert!(Instant::now() < deadline, "{pooler:?}: a slot is lost: {:?}", pool.status());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(pool.status().waiting, 0);
    }
    accepting.abort();
}

/// The same through a handle, where the first statement also measures row-level security: it fails once for all who wait for it
/// and not for each in turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_statement_into_a_black_hole_fails_for_all_at_once() {
    let (url, accepting) = black_hole().await;
    let options = PoolOptions { acquire_timeout: Duration::from_millis(250), ..PoolOptions::default() };
    let database = migrated_copy().await;
    let setup = Setup { mode: PoolerMode::Auto, options, ..Setup::default() };
    let world = World::reached_by(setup, database, url.as_ref().clone()).await;
    let dbs = [world.db(0).await, world.db(1).await];
    let started = Instant::now();
    let refused = join_all((0..40).map(|number| names(&dbs[number % 2]))).await;
    assert!(started.elapsed() < Duration::from_secs(5), "it took {:?}", started.elapsed());
    for refused in refused {
        let error = refused.unwrap_err();
        let told = tenantry_data_source::with_causes(&error);
        assert!(told.contains("nothing answers there") || told.contains("no connection to"), "{told}");
    }
    world.wait_for_status("every slot back", |status| status.open == 0 && status.waiting == 0).await;
    accepting.abort();
}

/// Row 2: connections whose answers never come. Whoever gives up a statement, or is refused at its deadline, takes no slot along,
/// and when the network is back, so is the pool.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_recovers_from_connections_that_went_silent() {
    let database = migrated_copy().await;
    let proxy = Proxy::before(&database).await;
    let options = PoolOptions { acquire_timeout: Duration::from_millis(800), ..PoolOptions::default() };
    let url = proxy.url.clone();
    let setup = Setup { tenants: 3, cap: 2, options, ..Setup::default() };
    let world = World::reached_by(setup, database, url).await.with_accounts().await;
    for round in 0..2 {
        let leases = [world.db(0).await.lease().await.unwrap(), world.db(1).await.lease().await.unwrap()];
        assert_eq!(names(&leases[0]).await.unwrap(), [name_of(0)]);
        assert_eq!(names(&leases[1]).await.unwrap(), [name_of(1)]);
        // The first time they are idle when it happens, the second time they are in use.
        let kept = (round == 1).then_some(leases);
        proxy.lose_the_way();
        let given_up = async |tenant: usize| {
            let db = world.db(tenant).await;
            match &kept {
                Some(leases) => timeout(Duration::from_millis(100), names(&leases[tenant])).await.is_err(),
                None => timeout(Duration::from_millis(100), names(&db)).await.is_err(),
            }
        };
        assert!(given_up(0).await && given_up(1).await, "round {round}: an answer from nowhere");
        // Now both slots are taken until it is certain that nothing is left of them, or the attempt to replace them fails.
        let refused = names(&world.db(2).await).await.unwrap_err();
        assert!(refused.is_retryable(), "round {round}: {refused:?}");
        drop(kept);
        proxy.find_the_way();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match names(&world.db(2).await).await {
                Ok(found) => break assert_eq!(found, [name_of(2)]),
                Err(error) => assert!(error.is_retryable() && Instant::now() < deadline, "round {round}: {error:?}"),
            }
        }
        world.at_rest().await;
        let leases = [world.db(0).await.lease().await.unwrap(), world.db(1).await.lease().await.unwrap()];
        assert_eq!(names(&leases[1]).await.unwrap(), [name_of(1)], "round {round}: both slots are there");
    }
}
