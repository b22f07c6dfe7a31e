//! From a subdomain to its tenant: one look-up for many requests, and no room for strangers.

use std::time::{Duration, Instant};

use axum::{Json, Router, routing::get as route};
use tenantry_axum::{NameCache, RequestLayer, Tenancy, Tenant, TenantResolver};
use tenantry_data_source::TenantHandle;
use uuid::Uuid;

use super::{call, get};
use crate::world::{World, on_both_engines};

on_both_engines!(
    many_requests_ask_once,
    a_tenant_that_was_looked_for_too_early_is_found_soon,
    strangers_fill_nothing,
    a_name_that_was_given_away_is_forgotten_when_told,
    a_database_that_is_down_is_no_absence,
);

/// Long enough for anything that comes to pass at all.
const PATIENCE: Duration = Duration::from_secs(30);

fn app(world: &World, names: NameCache) -> (Tenancy, Router) {
    let resolver = TenantResolver::new().subdomain_of("example.com").name_cache(names);
    let tenancy = Tenancy::new(world.tenantry.manager().clone(), resolver).unwrap();
    let app = Router::new().route("/", route(whose)).with_state(tenancy.clone()).layer(RequestLayer);
    (tenancy, app)
}

async fn whose(Tenant(db): Tenant) -> Json<Uuid> {
    Json(db.tenant())
}

async fn many_requests_ask_once(world: World) {
    world.tenant("acme").await;
    let (tenancy, app) = app(&world, NameCache::default());
    let requests = (0..50).map(|_| call(&app, get("acme.example.com", "/")));
    for answer in futures_util::future::join_all(requests).await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let stats = tenancy.name_stats().await;
    assert_eq!((stats.found, stats.absent, stats.lookups), (1, 0, 1));
    for _ in 0..3 {
        assert_eq!(call(&app, get("nobody.example.com", "/")).await.status, 404);
    }
    assert!(tenancy.name_stats().await.lookups <= 4, "absence is remembered for a moment");
}

/// Regression (trap 11): a tenant that was asked for before it existed stayed unknown for as long as the cache liked.
async fn a_tenant_that_was_looked_for_too_early_is_found_soon(world: World) {
    let (_, app) = app(&world, NameCache::default());
    assert_eq!(call(&app, get("acme.example.com", "/")).await.status, 404);
    let tenant = world.tenant("acme").await;
    let begin = Instant::now();
    loop {
        let answer = call(&app, get("acme.example.com", "/")).await;
        if answer.status == 200 {
            assert_eq!(answer.json(), tenant.id.to_string());
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "{answer:?}");
        tokio::task::yield_now().await;
    }
}

/// Random hosts neither grow the process nor push out the tenants.
async fn strangers_fill_nothing(world: World) {
    world.tenant("acme").await;
    let names = NameCache { capacity: 20, found_for: PATIENCE * 10, absent_for: PATIENCE * 10, lookups: 2 };
    let (tenancy, app) = app(&world, names);
    assert_eq!(call(&app, get("acme.example.com", "/")).await.status, 200);
    let strangers: Vec<String> = (0..200).map(|number| format!("stranger-{number}.example.com")).collect();
    for answer in futures_util::future::join_all(strangers.iter().map(|host| call(&app, get(host, "/")))).await {
        assert_eq!(answer.status, 404, "{answer:?}");
    }
    let stats = tenancy.name_stats().await;
    assert!(stats.absent <= 20 && stats.found == 1, "{stats:?}");
    assert_eq!(call(&app, get("acme.example.com", "/")).await.status, 200);
    assert_eq!(tenancy.name_stats().await.lookups, stats.lookups, "the tenant was not asked for again");
    // What can be nobody's name is not asked for at all.
    for host in ["a_b.example.com", "a.b.example.com", "-a.example.com"] {
        assert_eq!(call(&app, get(host, "/")).await.status, 404, "{host}");
    }
    assert_eq!(tenancy.name_stats().await.lookups, stats.lookups);
}

async fn a_name_that_was_given_away_is_forgotten_when_told(world: World) {
    let (old, new) = (world.tenant("acme").await.id, world.tenant("globex").await.id);
    let (tenancy, app) = app(&world, NameCache { found_for: PATIENCE * 10, ..NameCache::default() });
    assert_eq!(call(&app, get("acme.example.com", "/")).await.json(), old.to_string());
    world.app_sql("UPDATE tenants SET subdomain = 'acme-old' WHERE subdomain = 'acme'").await;
    world.app_sql("UPDATE tenants SET subdomain = 'acme' WHERE subdomain = 'globex'").await;
    tenancy.forget_names();
    assert_eq!(call(&app, get("acme.example.com", "/")).await.json(), new.to_string());
}

/// A failed look-up is not remembered, and is told as what it is.
async fn a_database_that_is_down_is_no_absence(world: World) {
    let tenant = world.tenant("acme").await;
    let (tenancy, app) = app(&world, NameCache::default());
    world.app_sql("ALTER TABLE tenants RENAME TO hidden").await;
    let answer = call(&app, get("acme.example.com", "/")).await;
    assert_eq!(answer.problem(), (500, "internal".to_owned()));
    assert!(!answer.text.contains("tenants") && !answer.text.contains("hidden"), "{answer:?}");
    world.app_sql("ALTER TABLE hidden RENAME TO tenants").await;
    assert_eq!(call(&app, get("acme.example.com", "/")).await.json(), tenant.id.to_string());
    assert_eq!(tenancy.name_stats().await.absent, 0);
}
