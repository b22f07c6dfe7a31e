//! What `cache_stats` tells: each counter is driven once.

use std::time::Duration;

use tenantry_app_db::entities::{PoolerMode, SourceKind};
use tenantry_connection::{ClosedCounts, PoolOptions};
use tokio::time::timeout;

use super::{
    names, raw,
    world::{Setup, World, name_of},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_counter_counts_what_it_says() {
    let options = PoolOptions { acquire_timeout: Duration::from_secs(3), ..PoolOptions::default() };
    let world = World::new(Setup { cap: 1, options, ..Setup::default() }).await.with_accounts().await;
    let (one, two) = (world.db(0).await, world.db(1).await);
    let mut observer = world.observer().await;

    // The first also measures row-level security, on the same connection and as no tenant.
    names(&one).await.unwrap();
    let first = world.status().await;
    assert_eq!((first.open, first.idle, first.in_use, first.max, first.opened), (1, 1, 0, 1, 1));
    for db in [&one, &one, &two, &one] {
        names(db).await.unwrap();
    }
    let next = world.status().await;
    assert_eq!((next.tag_hits - first.tag_hits, next.tag_misses - first.tag_misses), (2, 2));

    let held = one.lease().await.unwrap();
    let in_use = world.status().await;
    assert_eq!((in_use.idle, in_use.in_use, in_use.waits), (0, 1, 0));
    let waiting = {
        let two = two.clone();
        tokio::spawn(async move { names(&two).await })
    };
    world.wait_for_status("one waits", |status| status.waiting == 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(held);
    assert_eq!(waiting.await.unwrap().unwrap(), [name_of(1)]);
    let waited = world.status().await;
    assert_eq!((waited.waits, waited.exhaustions), (1, 0));
    assert!(waited.wait_us >= 20_000, "{waited:?}");

    let held = one.lease().await.unwrap();
    assert!(two.lease().await.unwrap_err().is_retryable());
    drop(held);
    let exhausted = world.status().await;
    assert_eq!((exhausted.waits, exhausted.exhaustions), (2, 1));
    assert!(exhausted.wait_us >= waited.wait_us + 3_000_000, "{exhausted:?}");

    assert_eq!(exhausted.closed, ClosedCounts::default(), "nothing was closed so far");
    let transaction = one.begin().await.unwrap();
    timeout(Duration::from_millis(20), raw(&transaction, "SELECT pg_sleep(5)")).await.unwrap_err();
    drop(transaction);
    names(&one).await.unwrap();
    assert_eq!(world.status().await.closed, ClosedCounts { abandoned: 1, ..ClosedCounts::default() });

    let pid = observer.sessions("true").await.pop_first().unwrap();
    observer.terminate(pid).await;
    names(&one).await.unwrap_err();
    names(&one).await.unwrap();
    assert_eq!(world.status().await.closed.broken, 1);

    let transaction = one.begin().await.unwrap();
    raw(&transaction, "SELECT 1").await.unwrap();
    transaction.commit().await.unwrap();
    names(&one).await.unwrap();
    assert_eq!(world.status().await.closed.raw_sql, 1);

    // The one place there is goes to the other login.
    names(&world.service(0).await).await.unwrap();
    assert_eq!(world.status().await.closed.replaced, 1);

    world.set_data_source(SourceKind::Shared, PoolerMode::Direct, 2).await;
    world.manager.clear_tenant(world.tenants[0]).await;
    let one = world.db(0).await;
    let leases = [one.lease().await.unwrap(), one.lease().await.unwrap()];
    world.set_data_source(SourceKind::Shared, PoolerMode::Direct, 1).await;
    world.manager.clear_tenant(world.tenants[0]).await;
    drop((world.db(0).await, leases));
    world.wait_for_status("one is enough", |status| status.open == 1).await;
    let status = world.at_rest().await;
    assert_eq!(status.closed.retired, 1);
    // Age and idleness have their own scenarios.
    assert_eq!((status.closed.age, status.closed.unused), (0, 0));
}
