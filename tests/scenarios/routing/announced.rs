//! A placement is changed by one process: another one notices without being told, and believes nothing old for long.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use tenantry::{Tenantry, settings::Settings};
use tenantry_connection::{Actor, Engine};
use tenantry_data_source::RouteError;
use tenantry_test_support::{
    cluster::Database,
    pooler::{Pooler, PoolerOptions, or_skip},
};
use uuid::Uuid;

use super::{caches::sealed_placement, names, write};
use crate::world::{World, on_both_engines};

on_both_engines!(
    a_tenant_that_another_process_moves_is_read_in_its_new_place,
    a_suspension_and_a_deletion_are_noticed,
    what_is_changed_of_one_tenant_makes_no_other_be_looked_up,
    a_change_between_the_first_look_up_and_the_next_is_noticed,
);

/// Long enough for a busy machine: what takes so long never comes.
const LONG: Duration = Duration::from_secs(60);

/// A process that believes its cache, unless it notices.
fn believing(settings: &mut Settings) {
    settings.placement_cache = Duration::from_secs(3600);
    settings.placement_poll = Duration::from_millis(100);
}

/// Changes the tenant's placement by another process, and returns the epoch afterwards.
async fn change(world: &World, tenant: Uuid) -> i64 {
    static CHANGES: AtomicU32 = AtomicU32::new(0);
    let max = 20 + CHANGES.fetch_add(1, Ordering::Relaxed) % 50;
    let id = id_of(world, tenant);
    let sql = format!("UPDATE tenants SET connection_pool_config = '{{\"min\":1,\"max\":{max}}}' WHERE id = {id}");
    world.app_sql(&sql).await;
    world.tenantry.app_db().tenant(tenant).await.unwrap().unwrap().placement_epoch
}

fn id_of(world: &World, tenant: Uuid) -> String {
    match world.engine {
        Engine::Postgres => format!("'{tenant}'"),
        Engine::Sqlite => format!("x'{}'", tenant.simple()),
    }
}

/// Waits until a process knows the placement of this epoch; how long it took.
async fn knows(tenantry: &Tenantry, tenant: Uuid, epoch: i64) -> Duration {
    let began = Instant::now();
    while tenantry.manager().route(tenant).await.unwrap().epoch != epoch {
        assert!(began.elapsed() < LONG, "the change of the placement is not noticed");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    began.elapsed()
}

async fn a_tenant_that_another_process_moves_is_read_in_its_new_place(mut world: World) {
    let (old, new) = (world.place("old"), world.place("new"));
    let tenant = world.tenant_on("acme", &old).await.id;
    world.tenant_on("globex", &new).await;
    let here = world.restarted(believing);
    write(&here.tenant(tenant).await.unwrap(), "in the old place").await.unwrap();
    assert_eq!(names(&here.tenant(tenant).await.unwrap()).await, ["in the old place"]);

    let app_db = world.tenantry.app_db();
    let epoch = app_db.tenant(tenant).await.unwrap().unwrap().placement_epoch;
    let epoch = app_db.place(tenant, epoch, &sealed_placement(&new, tenant), &Actor::default()).await.unwrap();
    knows(&here, tenant, epoch).await;
    assert!(names(&here.tenant(tenant).await.unwrap()).await.is_empty());

    let mut took = Vec::new();
    for _ in 0..20 {
        let epoch = change(&world, tenant).await;
        took.push(knows(&here, tenant, epoch).await);
    }
    took.sort();
    println!("a change was noticed {:?} after it, at most {:?} ({:?})", took[10], took[19], world.engine);
}

async fn a_suspension_and_a_deletion_are_noticed(world: World) {
    let (acme, globex) = (world.tenant("acme").await.id, world.tenant("globex").await.id);
    let here = world.restarted(believing);
    for tenant in [acme, globex] {
        here.tenant(tenant).await.unwrap();
    }
    world.app_sql("UPDATE tenants SET status = 'suspended' WHERE subdomain = 'acme'").await;
    world.app_sql("DELETE FROM tenants WHERE subdomain = 'globex'").await;
    let began = Instant::now();
    while here.tenant(acme).await.is_ok() || here.tenant(globex).await.is_ok() {
        assert!(began.elapsed() < LONG, "it is not noticed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(matches!(here.tenant(acme).await, Err(RouteError::Inactive { .. })));
    assert!(here.tenant(globex).await.unwrap_err().to_string().contains("no tenant has the id"));
}

async fn what_is_changed_of_one_tenant_makes_no_other_be_looked_up(world: World) {
    let (acme, globex) = (world.tenant("acme").await.id, world.tenant("globex").await.id);
    let here = world.restarted(believing);
    for tenant in [acme, globex] {
        here.tenant(tenant).await.unwrap();
    }
    let epoch = change(&world, acme).await;
    knows(&here, acme, epoch).await;
    let misses = here.manager().cache_stats().await.placement_misses;
    here.tenant(globex).await.unwrap();
    assert_eq!(here.manager().cache_stats().await.placement_misses, misses, "nothing of it was forgotten");
}

/// What is changed while the process connects to be told is found by the version that it knew before it cached anything.
async fn a_change_between_the_first_look_up_and_the_next_is_noticed(world: World) {
    let tenant = world.tenant("acme").await.id;
    for _ in 0..10 {
        let here = world.restarted(believing);
        here.tenant(tenant).await.unwrap();
        let epoch = change(&world, tenant).await;
        knows(&here, tenant, epoch).await;
        here.close().await;
    }
}

fn superuser(database: &Database, sql: &str) -> String {
    database.psql(&database.superuser, sql).unwrap().trim().to_owned()
}

/// How many connections to this database stay open to notice changes.
fn watchers(database: &Database) -> String {
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tenantry watcher' \
                 AND datname = current_database();";
    superuser(database, count)
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LONG, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One connection for each process that looks tenants up, for as long as it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_has_one_connection_for_it_and_closes_it() {
    let world = World::postgres().await;
    let tenant = world.tenant("acme").await.id;
    world.tenantry.close().await;
    let database = &world.databases[0];
    until("a closed process keeps its connection", || watchers(database) == "0").await;
    let (one, two) = (world.restarted(believing), world.restarted(believing));
    assert_eq!(watchers(database), "0", "nothing is connected before it is needed");
    for process in [&one, &two] {
        process.tenant(tenant).await.unwrap();
        process.tenant(tenant).await.unwrap();
    }
    until("no connection is made", || watchers(database) == "2").await;
    one.close().await;
    until("close leaves the connection", || watchers(database) == "1").await;
    drop(two);
    until("it outlives its process", || watchers(database) == "0").await;
}

/// Whatever happened while nobody listened was missed, and is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_made_again_and_nothing_is_missed() {
    let world = World::postgres().await;
    let tenant = world.tenant("acme").await.id;
    let database = &world.databases[0];
    let here = world.restarted(believing);
    here.tenant(tenant).await.unwrap();
    for _ in 0..5 {
        until("there is no connection", || watchers(database) != "0").await;
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE application_name = 'tenantry watcher' AND datname = current_database();";
        superuser(database, end);
        let epoch = change(&world, tenant).await;
        knows(&here, tenant, epoch).await;
    }
}

/// With one connection for everything, the one that notices changes takes no turn; it cannot know then whether it would be
/// notified, and asks.
#[tokio::test(flavor = "multi_thread")]
async fn a_cap_of_one_connection_is_enough() {
    let world = World::postgres().await;
    let tenant = world.tenant("acme").await.id;
    let here = world.restarted(|settings| {
        believing(settings);
        settings.max_connections = 1;
    });
    write(&here.tenant(tenant).await.unwrap(), "mine").await.unwrap();
    let epoch = change(&world, tenant).await;
    knows(&here, tenant, epoch).await;
}

/// A listener behind a pooler in transaction mode hears nothing.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_it_is_asked() {
    let world = World::postgres().await;
    let tenant = world.tenant("acme").await.id;
    let database = &world.databases[0];
    let name = "noticing placements behind a pooler";
    let Some(pooler) = or_skip(name, Pooler::start(&[database], &PoolerOptions::default())).unwrap() else { return };
    let here = world.restarted(|settings| {
        believing(settings);
        settings.application_database.url = pooler.url_of(database).parse().unwrap();
    });
    here.tenant(tenant).await.unwrap();
    for _ in 0..3 {
        let epoch = change(&world, tenant).await;
        knows(&here, tenant, epoch).await;
    }
}

/// Without the application database, what is cached is served; and what was changed meanwhile is noticed when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_application_database_the_cache_serves() {
    let world = World::postgres().await;
    let tenant = world.tenant("acme").await.id;
    let here = world.restarted(believing);
    write(&here.tenant(tenant).await.unwrap(), "mine").await.unwrap();
    let (app, shared) = (&world.databases[0], &world.databases[1]);
    until("there is no connection", || watchers(app) != "0").await;
    superuser(shared, &format!("ALTER DATABASE \"{}\" ALLOW_CONNECTIONS false;", app.name));
    let end = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}';", app.name);
    superuser(shared, &end);
    for _ in 0..20 {
        assert_eq!(names(&here.tenant(tenant).await.unwrap()).await, ["mine"]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    superuser(shared, &format!("ALTER DATABASE \"{}\" ALLOW_CONNECTIONS true;", app.name));
    world.app_sql("UPDATE tenants SET status = 'suspended' WHERE subdomain = 'acme'").await;
    let began = Instant::now();
    while here.tenant(tenant).await.is_ok() {
        assert!(began.elapsed() < LONG, "the change is not noticed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
