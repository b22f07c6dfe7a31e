//! What a request holds of its tenant's connections, and that it lets go of it however it ends.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, extract::State, http::StatusCode, routing::get as route};
use sea_orm::ActiveValue::Set;
use tenantry_axum::{OneLease, OneRead, Problem, ProblemKind, RequestLayer, Tenancy, Tenant, TenantResolver};
use tenantry_connection::PoolStatus;
use tenantry_entities::accounts;
use tenantry_repository::{Query, RepositoryExt};
use tokio::sync::Semaphore;

use super::{call, get};
use crate::{
    routing::write,
    world::{World, on_both_engines},
};

on_both_engines!(
    a_request_lets_go_of_its_connection_however_it_ends,
    one_read_is_one_snapshot_and_writes_nothing,
    a_tenant_whose_source_is_lost_is_told_to_come_back,
);

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct App {
    tenancy: Tenancy,
    /// One permit for each handler that has begun to wait.
    waiting: Arc<Semaphore>,
}

impl axum::extract::FromRef<App> for Tenancy {
    fn from_ref(app: &App) -> Self {
        app.tenancy.clone()
    }
}

fn app(world: &World) -> (App, Router) {
    let resolver = TenantResolver::new().subdomain_of("example.com");
    let tenancy = Tenancy::new(world.tenantry.manager().clone(), resolver).unwrap();
    let state = App { tenancy, waiting: Arc::new(Semaphore::new(0)) };
    let router = Router::new()
        .route("/lease/ok", route(async |lease: OneLease| count_leased(&lease).await))
        .route("/lease/err", route(async |lease: OneLease| refuse(count_leased(&lease).await)))
        .route("/lease/panic", route(async |lease: OneLease| panicking(count_leased(&lease).await)))
        .route("/lease/wait", route(async |app: State<App>, lease: OneLease| wait(app, lease).await))
        .route("/read/ok", route(async |read: OneRead| count_read(&read).await))
        .route("/read/err", route(async |read: OneRead| refuse(count_read(&read).await)))
        .route("/read/panic", route(async |read: OneRead| panicking(count_read(&read).await)))
        .route("/read/wait", route(async |app: State<App>, read: OneRead| wait(app, read).await))
        .route("/read/finish", route(async |read: OneRead| read.finish().await.map_err(Problem::from)))
        .with_state(state.clone())
        .layer(RequestLayer);
    (state, router)
}

async fn count_leased(lease: &OneLease) -> Result<String, Problem> {
    Ok(lease.0.repository::<accounts::Entity>().count(&Query::new()).await?.to_string())
}

async fn count_read(read: &OneRead) -> Result<String, Problem> {
    Ok((**read).repository::<accounts::Entity>().count(&Query::new()).await?.to_string())
}

fn refuse(counted: Result<String, Problem>) -> Result<String, Problem> {
    counted?;
    Err(Problem::new(ProblemKind::Conflict))
}

fn panicking(counted: Result<String, Problem>) -> Result<String, Problem> {
    counted?;
    panic!("a handler's own mistake")
}

async fn wait<T>(State(app): State<App>, _held: T) -> StatusCode {
    app.waiting.add_permits(1);
    std::future::pending().await
}

async fn pools(world: &World) -> Vec<PoolStatus> {
    world.tenantry.manager().cache_stats().await.pools.into_iter().map(|pool| pool.status).collect()
}

/// Waits until nobody holds a connection, and returns how many were ever opened.
async fn at_rest(world: &World) -> u64 {
    let begin = Instant::now();
    loop {
        let pools = pools(world).await;
        if pools.iter().all(|pool| pool.in_use == 0) {
            return pools.iter().map(|pool| pool.opened).sum();
        }
        assert!(begin.elapsed() < PATIENCE, "{pools:#?}");
        tokio::task::yield_now().await;
    }
}

async fn a_request_lets_go_of_its_connection_however_it_ends(world: World) {
    let tenant = world.tenant("acme").await.id;
    write(&world.tenantry.tenant(tenant).await.unwrap(), "one").await.unwrap();
    let (state, app) = app(&world);
    for kind in ["lease", "read"] {
        let opened = at_rest(&world).await;
        for (end, status) in [("ok", 200), ("err", 409), ("panic", 500), ("ok", 200)] {
            let answer = call(&app, get("acme.example.com", &format!("/{kind}/{end}"))).await;
            assert_eq!(answer.status, status, "{answer:?}");
            assert_eq!(at_rest(&world).await, opened, "/{kind}/{end} closed its connection");
        }
        // The client goes away while the handler waits for something.
        for _ in 0..3 {
            let gone = tokio::spawn({
                let app = app.clone();
                async move { call(&app, get("acme.example.com", &format!("/{kind}/wait"))).await }
            });
            let waits = tokio::time::timeout(PATIENCE, state.waiting.acquire()).await.unwrap().unwrap();
            waits.forget();
            assert!(pools(&world).await.iter().any(|pool| pool.in_use == 1), "{kind} holds no connection");
            gone.abort();
            assert!(gone.await.unwrap_err().is_cancelled());
            assert_eq!(at_rest(&world).await, opened, "/{kind}/wait closed its connection");
        }
    }
    let answer = call(&app, get("acme.example.com", "/read/finish")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    at_rest(&world).await;
}

/// SQLite's connections are not counted by tenant.
#[tokio::test(flavor = "multi_thread")]
async fn one_lease_is_one_connection() {
    let world = World::postgres().await;
    world.tenant("acme").await;
    let tenancy = app(&world).0.tenancy;
    let several = async |lease: OneLease| -> Result<(), Problem> {
        for number in 0..5 {
            let account = accounts::ActiveModel { name: Set(format!("account {number}")), ..Default::default() };
            lease.0.repository::<accounts::Entity>().create(account).await?;
        }
        Ok(())
    };
    let app = Router::new().route("/", route(several)).with_state(tenancy).layer(RequestLayer);
    assert_eq!(call(&app, get("acme.example.com", "/")).await.status, 200);
    let before: u64 = pools(&world).await.iter().map(|pool| pool.tag_hits + pool.tag_misses).sum();
    assert_eq!(call(&app, get("acme.example.com", "/")).await.status, 200);
    let after: u64 = pools(&world).await.iter().map(|pool| pool.tag_hits + pool.tag_misses).sum();
    assert_eq!(after - before, 1, "five statements took {} connections", after - before);
}

async fn one_read_is_one_snapshot_and_writes_nothing(world: World) {
    world.tenant("acme").await;
    let tenancy = app(&world).0.tenancy;
    let twice = async |Tenant(db): Tenant, read: OneRead| -> Result<String, Problem> {
        let before = count_read(&read).await?;
        write(&db, "meanwhile").await?;
        let after = count_read(&read).await?;
        Ok(format!("{before} {after}"))
    };
    let writing = async |read: OneRead| -> Result<(), Problem> {
        let account = accounts::ActiveModel { name: Set("refused".to_owned()), ..Default::default() };
        (*read).repository::<accounts::Entity>().create(account).await?;
        Ok(())
    };
    let app = Router::new()
        .route("/", route(twice))
        .route("/writing", route(writing))
        .with_state(tenancy)
        .layer(RequestLayer);
    for counted in ["0 0", "1 1"] {
        let answer = call(&app, get("acme.example.com", "/")).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, counted));
    }
    let answer = call(&app, get("acme.example.com", "/writing")).await;
    assert_eq!(
        answer.problem(),
        (500, "internal".to_owned()),
        "reading and writing at once is the application's error"
    );
    assert_eq!(call(&app, get("acme.example.com", "/")).await.text, "2 2");
}

async fn a_tenant_whose_source_is_lost_is_told_to_come_back(mut world: World) {
    let place = world.place("lost");
    world.tenant_on("acme", &place).await;
    world.tenant("globex").await;
    // An open SQLite file outlives its name.
    world.tenantry.manager().clear_all();
    at_rest(&world).await;
    world.lose(&place);
    let (_, app) = app(&world);
    for path in ["/read/ok", "/lease/ok", "/read/ok"] {
        let answer = call(&app, get("acme.example.com", path)).await;
        assert_eq!(answer.problem(), (503, "unavailable".to_owned()), "{path}");
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1, "{answer:?}");
        assert!(!answer.text.contains("lost") && !answer.text.contains("sqlite"), "{answer:?}");
        assert_eq!(call(&app, get("globex.example.com", path)).await.status, 200, "its neighbour is served");
    }
}

/// A tenant that uses its whole share waits for itself, and is told to slow down; its neighbour is served.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_at_its_share_is_told_to_slow_down() {
    let mut world = World::postgres().await;
    world.tenant("acme").await;
    world.tenant("globex").await;
    world.app_sql(r#"UPDATE tenants SET connection_pool_config = '{"min": 1, "max": 1}'"#).await;
    // Long enough to connect on a busy machine, which the same deadline bounds.
    world.tenantry = world.restarted(|settings| settings.acquire_timeout = Duration::from_secs(2));
    let (state, app) = app(&world);
    let first = tokio::spawn({
        let app = app.clone();
        async move { call(&app, get("acme.example.com", "/lease/wait")).await }
    });
    tokio::time::timeout(PATIENCE, state.waiting.acquire()).await.unwrap().unwrap().forget();
    let answer = call(&app, get("acme.example.com", "/read/ok")).await;
    assert_eq!(answer.problem(), (429, "too-many-requests".to_owned()));
    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1, "{answer:?}");
    assert_eq!(call(&app, get("globex.example.com", "/read/ok")).await.status, 200);
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    at_rest(&world).await;
    assert_eq!(call(&app, get("acme.example.com", "/read/ok")).await.status, 200);
}
