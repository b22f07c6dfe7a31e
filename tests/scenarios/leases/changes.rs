//! What changes while connections are in use: the caches, the URL, the credential, the cap, the pooler.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tenantry_app_db::entities::{PoolerMode, SourceKind};
use tenantry_connection::Actor;
use tenantry_credential::Login;
use tenantry_test_support::cluster::Cluster;

use super::{
    names,
    world::{PATIENCE, Setup, World, migrated, migrated_copy, name_of},
    write,
};

/// Row 9: nothing that forgets a pool ends a transaction on it, and when the transaction has ended the old connections go.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_forgotten_in_use_goes_when_it_is_not() {
    let setup = Setup { tenants: 3, pool_idle: Duration::ZERO, ..Setup::default() };
    let world = World::new(setup).await.with_accounts().await;
    let elsewhere = migrated_copy().await;
    // Whoever asks for one data source lets go of the others that nobody wants.
    place(&world, 2, &elsewhere).await;
    let evict = async || {
        world.manager.clear_tenant(world.tenants[2]).await;
        assert!(names(&world.db(2).await).await.unwrap().is_empty());
    };
    let mut observer = world.observer().await;
    for forget in ["clear_all", "eviction", "another URL"] {
        let db = world.db(0).await;
        let transaction = db.begin().await.unwrap();
        write(&transaction, forget).await.unwrap();
        let old = observer.sessions("true").await;
        match forget {
            "clear_all" => world.manager.clear_all(),
            "eviction" => {}
            _ => place(&world, 0, &elsewhere).await,
        }
        evict().await;
        write(&transaction, forget).await.unwrap();
        assert_eq!(names(&transaction).await.unwrap().len(), 3, "{forget}");
        transaction.commit().await.unwrap();
        let written = format!(
            "WITH gone AS (DELETE FROM accounts WHERE name = '{forget}' RETURNING 1) SELECT count(*) FROM gone"
        );
        assert_eq!(world.database.psql(&world.database.superuser, &written).unwrap().trim(), "2", "{forget}");
        drop(db);
        world.manager.clear_tenant(world.tenants[0]).await;
        let deadline = Instant::now() + PATIENCE;
        while !observer.sessions("true").await.is_disjoint(&old) {
            assert!(Instant::now() < deadline, "{forget}: its connections stay");
            // The cache lets go of what it has forgotten in its own time.
            world.manager.cache_stats().await;
            evict().await;
        }
        place(&world, 0, &world.database).await;
        assert_eq!(names(&world.db(0).await).await.unwrap(), [name_of(0)]);
    }
}

/// Another process moves a tenant to another database of the same logins; this one is told.
async fn place(world: &World, tenant: usize, database: &tenantry_test_support::cluster::Database) {
    let id = world.tenants[tenant];
    let placement = world.placement(id, &database.url().parse().unwrap(), database);
    let epoch = world.app_db.tenant(id).await.unwrap().unwrap().placement_epoch;
    world.app_db.place(id, epoch, &placement, &Actor::default()).await.unwrap();
    world.manager.clear_tenant(id).await;
}

/// Row 7 while everything is forgotten: the old connections and the new ones are one data source's.
#[tokio::test(flavor = "multi_thread")]
async fn clearing_everything_does_not_double_the_cap() {
    let world = World::new(Setup { cap: 3, ..Setup::default() }).await.with_accounts().await;
    let db = world.db(0).await;
    let held = join_all((0..2).map(|_| db.lease())).await;
    let watch = world.observer().await.watch();
    for _ in 0..3 {
        world.manager.clear_all();
        let again = world.db(1).await;
        let found = join_all((0..6).map(|_| names(&again))).await;
        assert!(found.into_iter().all(|found| found.unwrap() == [name_of(1)]));
    }
    // As long as what was too many would have to stay to be seen.
    tokio::time::sleep(Duration::from_millis(400)).await;
    let seen = watch.end().await;
    assert!(seen.lasting <= 3 && seen.looks > 10, "more than the cap of 3: {seen:?}");
    drop(held);
}

/// Row 12: a password is changed while requests are served. Once the new one is sealed and the tenant's placement cleared, no
/// request fails, also not one that needs a new connection, and no session that the old password opened stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_credential_fails_no_request_after_the_clear() {
    let database = migrated(&Cluster::shared().unwrap()).await;
    let url = database.url().parse().unwrap();
    let world = World::reached_by(Setup { cap: 4, ..Setup::default() }, database, url).await.with_accounts().await;
    let world = Arc::new(world);
    let (over, cleared) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let served = Arc::new(AtomicUsize::new(0));
    let load: Vec<_> = (0..8_usize)
        .map(|worker| {
            let (world, over, cleared, served) =
                (Arc::clone(&world), Arc::clone(&over), Arc::clone(&cleared), Arc::clone(&served));
            tokio::spawn(async move {
                let mut failed = Vec::new();
                while !over.load(Ordering::SeqCst) {
                    let was_cleared = cleared.load(Ordering::SeqCst);
                    match names(&world.db(worker % 2).await).await {
                        Ok(found) => assert_eq!(found, [name_of(worker % 2)]),
                        Err(error) if was_cleared => failed.push(tenantry_data_source::with_causes(&error)),
                        Err(_) => {}
                    }
                    served.fetch_add(1, Ordering::SeqCst);
                }
                failed
            })
        })
        .collect();
    let more = async |requests: usize| {
        let before = served.load(Ordering::SeqCst);
        while served.load(Ordering::SeqCst) < before + requests {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    more(20).await;
    let mut observer = world.observer().await;
    let restricted = format!("usename = '{}'", world.database.restricted.user);
    let old = observer.sessions(&restricted).await;
    assert!(!old.is_empty());
    let user = world.database.restricted.user.clone();
    let alter = format!("ALTER ROLE \"{user}\" PASSWORD 'another password'");
    world.database.psql(&world.database.superuser, &alter).unwrap();
    let new = Login::new(&user, "another password".to_owned()).unwrap();
    for tenant in &world.tenants {
        world.replace_restricted(*tenant, &new).await;
    }
    cleared.store(true, Ordering::SeqCst);
    more(100).await;
    observer.wait_for("the old password's sessions are gone", &restricted, |now| now.is_disjoint(&old)).await;
    more(20).await;
    over.store(true, Ordering::SeqCst);
    for worker in load {
        assert_eq!(worker.await.unwrap(), [""; 0]);
    }

    // Sealed once more, the same login looks different and is the same.
    world.wait_for_status("at rest", |status| status.in_use == 0).await;
    let before = world.status().await.opened;
    let sessions = observer.sessions(&restricted).await;
    for tenant in &world.tenants {
        world.replace_restricted(*tenant, &new).await;
    }
    for tenant in [0, 1] {
        assert_eq!(names(&world.db(tenant).await).await.unwrap(), [name_of(tenant)]);
    }
    assert_eq!((observer.sessions(&restricted).await, world.status().await.opened), (sessions, before));
}

/// Row 14: a lower cap closes what is idle above it, at once and without a request; a higher one is there at once. Who has a
/// connection keeps it.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_cap_holds_at_once() {
    let world = World::new(Setup { cap: 6, ..Setup::default() }).await.with_accounts().await;
    let db = world.db(0).await;
    let leases = join_all((0..6).map(|_| db.lease())).await;
    let mut leases: Vec<_> = leases.into_iter().map(Result::unwrap).collect();
    let mut observer = world.observer().await;
    assert_eq!(observer.sessions("true").await.len(), 6);
    leases.truncate(1);
    world.wait_for_status("five are idle", |status| status.idle == 5).await;

    let change = async |cap: u32| {
        world.set_data_source(SourceKind::Shared, PoolerMode::Direct, cap).await;
        world.manager.clear_tenant(world.tenants[0]).await;
        world.db(0).await
    };
    change(2).await;
    observer.wait_for("as many as the cap", "true", |sessions| sessions.len() <= 2).await;
    assert_eq!(names(&leases[0]).await.unwrap(), [name_of(0)], "who has one keeps it");
    assert_eq!(names(&db).await.unwrap(), [name_of(0)], "an old handle goes on");
    assert!(observer.sessions("true").await.len() <= 2);

    let db = change(4).await;
    let more = join_all((0..3).map(|_| db.lease())).await;
    assert!(more.iter().all(Result::is_ok));
    assert_eq!(observer.sessions("true").await.len(), 4);
    let status = world.status().await;
    assert!(status.max == 4 && status.closed.retired >= 4, "{status:?}");
}

/// Row 14: another pooler mode in the row makes other connections. Who is at work on an old one is not disturbed, the old ones
/// go, and both together are never more than the cap.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_pooler_mode_replaces_the_connections() {
    let world = World::new(Setup { cap: 4, ..Setup::default() }).await.with_accounts().await;
    let before = world.db(0).await;
    let leases = join_all((0..3).map(|_| before.lease())).await;
    let mut leases: Vec<_> = leases.into_iter().map(Result::unwrap).collect();
    let transaction = leases.remove(0).begin().await.unwrap();
    write(&transaction, "under way").await.unwrap();
    drop(leases);
    let mut observer = world.observer().await;
    let old = observer.sessions("true").await;
    let hits = world.status().await.tag_hits;
    world.set_data_source(SourceKind::Shared, PoolerMode::Transaction, 4).await;
    world.manager.clear_tenant(world.tenants[0]).await;
    world.manager.clear_tenant(world.tenants[1]).await;
    let watch = world.observer().await.watch();
    let after = world.db(1).await;
    for _ in 0..5 {
        let found = join_all((0..5).map(|_| names(&after))).await;
        assert!(found.into_iter().all(|found| found.unwrap() == [name_of(1)]));
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    let seen = watch.end().await;
    assert!(seen.lasting <= 4 && seen.looks > 10, "more than the cap of 4: {seen:?}");
    transaction.commit().await.unwrap();
    drop(before);
    world.manager.cache_stats().await;
    observer.wait_for("the old sessions are gone", "true", |now| now.is_disjoint(&old)).await;
    assert_eq!(names(&world.db(0).await).await.unwrap(), [name_of(0), "under way".to_owned()]);
    let status = world.status().await;
    assert_eq!(status.tag_hits, hits, "nothing is kept in a session that may be another's: {status:?}");
}
