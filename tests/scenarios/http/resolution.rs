//! Which tenant a request is for: the sources in their order, and what disagrees.

use std::net::SocketAddr;

use axum::{
    Json, Router,
    body::Body,
    extract::{ConnectInfo, Request},
    routing::get as route,
};
use tenantry_axum::{RequestLayer, Tenancy, Tenant, TenantClaim, TenantResolver, TrustedProxies};
use tenantry_data_source::TenantHandle;
use tower::ServiceBuilder;
use uuid::Uuid;

use super::{Answer, call, get};
use crate::world::{World, on_both_engines};

on_both_engines!(
    a_domain_that_merely_looks_alike_gets_no_visitors,
    the_longest_domain_counts,
    every_source_names_its_tenant,
    a_verified_claim_beats_the_rest_and_a_mismatch_is_refused,
    unsigned_sources_that_disagree_are_refused,
    what_names_nobody_is_closed,
    a_host_below_the_applications_domain_is_never_a_custom_one,
    a_forwarded_host_counts_only_from_a_trusted_proxy,
    a_nested_router_sees_the_path_that_the_client_sent,
    a_suspended_tenant_is_told_so,
);

fn everything() -> TenantResolver {
    TenantResolver::new()
        .subdomain_of("app.example.com")
        .reserve_subdomains(["www"])
        .custom_domains()
        .own_host("example.com")
        .header("x-tenant")
        .path_prefix("/t/{tenant}")
}

fn app(world: &World, resolver: TenantResolver) -> Router {
    let tenancy = Tenancy::new(world.tenantry.manager().clone(), resolver).unwrap();
    Router::new()
        .route("/", route(whose))
        .route("/t/{tenant}/accounts", route(whose))
        .layer(ServiceBuilder::new().layer(RequestLayer))
        .with_state(tenancy)
}

async fn whose(Tenant(db): Tenant) -> Json<Uuid> {
    Json(db.tenant())
}

async fn two_tenants(world: &World) -> (Uuid, Uuid) {
    let (acme, globex) = (world.tenant("acme").await.id, world.tenant("globex").await.id);
    world.app_sql("UPDATE tenants SET domain = 'CRM.Acme.example' WHERE subdomain = 'acme'").await;
    (acme, globex)
}

fn with_header(mut request: Request, name: &'static str, value: &str) -> Request {
    request.headers_mut().append(name, value.parse().unwrap());
    request
}

fn with_claim(mut request: Request, tenant: Uuid) -> Request {
    request.extensions_mut().insert(TenantClaim::verified(tenant, None));
    request
}

fn tenant_of(answer: &Answer) -> Uuid {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.text).unwrap()
}

async fn every_source_names_its_tenant(world: World) {
    let (acme, _) = two_tenants(&world).await;
    let app = app(&world, everything());
    let requests = [
        get("acme.app.example.com", "/"),
        get("ACME.App.Example.Com.:8443", "/"),
        get("crm.acme.example", "/"),
        get("CRM.ACME.example:80", "/"),
        with_header(get("app.example.com", "/"), "x-tenant", "Acme"),
        with_header(get("[::1]:3000", "/"), "x-tenant", &acme.to_string()),
        get("example.com", "/t/acme/accounts"),
        get("www.app.example.com", &format!("/t/{acme}/accounts")),
        with_header(get("acme.app.example.com", "/t/acme/accounts"), "x-tenant", "acme"),
        with_claim(get("example.com", "/"), acme),
        with_claim(get("acme.app.example.com", "/"), acme),
        with_claim(get("crm.acme.example", "/t/acme/accounts"), acme),
    ];
    for request in requests {
        let said = format!("{request:?}");
        assert_eq!(tenant_of(&call(&app, request).await), acme, "{said}");
    }
}

/// Regression (trap 39): a header named another tenant than the signed claim, and won.
async fn a_verified_claim_beats_the_rest_and_a_mismatch_is_refused(world: World) {
    let (acme, globex) = two_tenants(&world).await;
    let app = app(&world, everything());
    let mut answers = Vec::new();
    for request in [
        get("acme.app.example.com", "/"),
        get("crm.acme.example", "/"),
        with_header(get("example.com", "/"), "x-tenant", "acme"),
        with_header(get("example.com", "/"), "x-tenant", &acme.to_string()),
        get("example.com", "/t/acme/accounts"),
        with_header(get("globex.app.example.com", "/"), "x-tenant", "acme"),
        // Nobody's: told apart from Acme's, a signed-in client would learn which tenants there are.
        get("nobody.app.example.com", "/"),
        get("nobody.example", "/"),
        with_header(get("example.com", "/"), "x-tenant", &Uuid::new_v4().to_string()),
        with_header(get("example.com", "/"), "x-tenant", ""),
        get("example.com", "/t/nobody/accounts"),
    ] {
        let said = format!("{request:?}");
        let answer = call(&app, with_claim(request, globex)).await;
        assert_eq!(answer.problem(), (403, "tenant-mismatch".to_owned()), "{said}");
        let mut body = answer.json();
        body.as_object_mut().unwrap().remove("instance");
        answers.push(body);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    assert_eq!(tenant_of(&call(&app, with_claim(get("example.com", "/"), globex)).await), globex);
    // The claim counts even where the resolver asks for other things only, and where it asks for nothing.
    for resolver in [TenantResolver::new(), TenantResolver::new().header("x-tenant")] {
        let app = self::app(&world, resolver);
        assert_eq!(tenant_of(&call(&app, with_claim(get("acme.app.example.com", "/"), globex)).await), globex);
    }
    let app = self::app(&world, everything().require_claim());
    for path in ["/t/acme/accounts", "/t/nobody/accounts", "/"] {
        let answer = call(&app, get("acme.app.example.com", path)).await;
        assert_eq!(answer.problem(), (401, "unauthenticated".to_owned()));
        assert!(answer.headers.contains_key("www-authenticate"));
    }
}

/// Attack: a letter that the database folds to another, and its unique index does not, leads a neighbour's visitors astray.
async fn a_domain_that_merely_looks_alike_gets_no_visitors(world: World) {
    let (acme, _) = two_tenants(&world).await;
    world.app_sql("UPDATE tenants SET domain = '\u{212a}iel.example' WHERE subdomain = 'globex'").await;
    let app = app(&world, everything());
    assert_eq!(call(&app, get("kiel.example", "/")).await.problem(), (404, "tenant-unknown".to_owned()));
    world.app_sql("UPDATE tenants SET domain = 'Kiel.example' WHERE subdomain = 'acme'").await;
    let app = self::app(&world, everything());
    assert_eq!(tenant_of(&call(&app, get("kiel.example", "/")).await), acme);
}

/// Whichever of two domains, one below the other, was named first.
async fn the_longest_domain_counts(world: World) {
    let (acme, _) = two_tenants(&world).await;
    for domains in [["example.com", "app.example.com"], ["app.example.com", "example.com"]] {
        let resolver = domains.into_iter().fold(TenantResolver::new(), TenantResolver::subdomain_of);
        let app = app(&world, resolver.reserve_subdomains(["www"]).header("x-tenant"));
        for host in ["acme.app.example.com", "acme.example.com"] {
            assert_eq!(tenant_of(&call(&app, get(host, "/")).await), acme, "{host} {domains:?}");
        }
        let own = with_header(get("www.app.example.com", "/"), "x-tenant", "acme");
        assert_eq!(tenant_of(&call(&app, own).await), acme, "{domains:?}");
    }
}

async fn unsigned_sources_that_disagree_are_refused(world: World) {
    let (acme, globex) = two_tenants(&world).await;
    let app = app(&world, everything());
    for request in [
        with_header(get("acme.app.example.com", "/"), "x-tenant", &globex.to_string()),
        get("crm.acme.example", "/t/globex/accounts"),
        with_header(get("example.com", "/t/globex/accounts"), "x-tenant", &acme.to_string()),
    ] {
        let said = format!("{request:?}");
        assert_eq!(call(&app, request).await.problem(), (400, "bad-request".to_owned()), "{said}");
    }
    let twice = with_header(with_header(get("example.com", "/"), "x-tenant", "acme"), "x-tenant", "acme");
    assert_eq!(call(&app, twice).await.problem(), (400, "bad-request".to_owned()));
    let two_hosts = with_header(get("acme.app.example.com", "/"), "host", "globex.app.example.com");
    assert_eq!(call(&app, two_hosts).await.problem(), (400, "bad-request".to_owned()));
    let mut authority = get("globex.app.example.com", "/");
    *authority.uri_mut() = "http://acme.app.example.com/".parse().unwrap();
    assert_eq!(call(&app, authority).await.problem(), (400, "bad-request".to_owned()));
}

async fn what_names_nobody_is_closed(world: World) {
    let (acme, _) = two_tenants(&world).await;
    let app = app(&world, everything());
    for request in [
        get("example.com", "/"),
        get("app.example.com", "/"),
        get("127.0.0.1:3000", "/"),
        get("nobody.app.example.com", "/"),
        get("a.acme.app.example.com", "/"),
        get("nobody.example", "/"),
        get("app.example.com.evil.example", "/"),
        get("xapp.example.com", "/"),
        get("example.com", "/t/nobody/accounts"),
        get("example.com", "/t/%2e%2e/accounts"),
        get("example.com", "/t/acme%00/accounts"),
        with_header(get("example.com", "/"), "x-tenant", &Uuid::new_v4().to_string()),
        with_header(get("example.com", "/"), "x-tenant", ""),
        with_header(get("example.com", "/"), "x-tenant", &format!("{{{acme}}}")),
        with_header(get("example.com", "/"), "x-tenant", "' OR 1=1 --"),
    ] {
        let said = format!("{request:?}");
        assert_eq!(call(&app, request).await.problem(), (404, "tenant-unknown".to_owned()), "{said}");
    }
    for host in ["%61cme.app.example.com", "acme.app.example.com@evil", "acme.app.example.com:x", ""] {
        assert_eq!(call(&app, get(host, "/")).await.problem(), (400, "bad-request".to_owned()), "{host}");
    }
    // Nothing is asked for, and nothing is guessed.
    let app = self::app(&world, TenantResolver::new());
    let request = with_header(get("acme.app.example.com", "/t/acme/accounts"), "x-tenant", "acme");
    assert_eq!(call(&app, request).await.problem(), (404, "tenant-unknown".to_owned()));
}

/// A tenant enters its neighbour's address as its own domain.
async fn a_host_below_the_applications_domain_is_never_a_custom_one(world: World) {
    let (acme, globex) = two_tenants(&world).await;
    world.app_sql("UPDATE tenants SET domain = 'globex.app.example.com' WHERE subdomain = 'acme'").await;
    let app = app(&world, everything());
    assert_eq!(tenant_of(&call(&app, get("globex.app.example.com", "/")).await), globex);
    world.app_sql("UPDATE tenants SET domain = 'xn--mnchen-3ya.example' WHERE subdomain = 'acme'").await;
    assert_eq!(tenant_of(&call(&app, get("XN--MNCHEN-3ya.example", "/")).await), acme, "as a browser sends it");
}

async fn a_forwarded_host_counts_only_from_a_trusted_proxy(world: World) {
    let (acme, globex) = two_tenants(&world).await;
    let proxies = TrustedProxies::new(["10.0.0.0/8"]).unwrap();
    let trusting = app(&world, everything().trusted_proxies(proxies.clone()).trust_forwarded_host());
    let address_only = app(&world, everything().trusted_proxies(proxies));
    let request = |peer: &str| {
        let mut request = with_header(get("acme.app.example.com", "/"), "x-forwarded-host", "globex.app.example.com");
        request.extensions_mut().insert(ConnectInfo::<SocketAddr>(format!("{peer}:4711").parse().unwrap()));
        request
    };
    assert_eq!(tenant_of(&call(&trusting, request("10.1.2.3")).await), globex);
    assert_eq!(tenant_of(&call(&trusting, request("192.0.2.1")).await), acme, "a client's own invention");
    assert_eq!(tenant_of(&call(&address_only, request("10.1.2.3")).await), acme, "nobody asked for it");
    let unknown = with_header(get("acme.app.example.com", "/"), "x-forwarded-host", "globex.app.example.com");
    assert_eq!(tenant_of(&call(&trusting, unknown).await), acme, "who sent it is not known");
    let untrusted = Tenancy::new(world.tenantry.manager().clone(), everything().trust_forwarded_host());
    assert!(untrusted.unwrap_err().to_string().contains("no proxy is trusted"));
}

async fn a_nested_router_sees_the_path_that_the_client_sent(world: World) {
    let (acme, globex) = two_tenants(&world).await;
    let tenancy = Tenancy::new(world.tenantry.manager().clone(), everything()).unwrap();
    // Within the nested router the path is `/t/globex/accounts`, which only looks like a prefix.
    let inner = Router::new().route("/t/globex/accounts", route(whose)).route("/accounts", route(whose));
    let app: Router = Router::new()
        .nest("/t/{tenant}", inner.with_state(tenancy))
        .layer(ServiceBuilder::new().layer(RequestLayer).map_request(|request: Request| request));
    assert_eq!(tenant_of(&call(&app, get("example.com", "/t/acme/accounts")).await), acme);
    assert_eq!(tenant_of(&call(&app, get("example.com", "/t/acme/t/globex/accounts")).await), acme);
    assert_eq!(tenant_of(&call(&app, get("example.com", "/t/globex/accounts")).await), globex);
}

async fn a_suspended_tenant_is_told_so(world: World) {
    let (acme, globex) = two_tenants(&world).await;
    let app = app(&world, everything());
    for status in ["suspended", "cancelled"] {
        world.app_sql(&format!("UPDATE tenants SET status = '{status}' WHERE subdomain = 'acme'")).await;
        world.tenantry.manager().clear_tenant(acme).await;
        for request in [get("acme.app.example.com", "/"), with_claim(get("example.com", "/"), acme)] {
            let answer = call(&app, request).await;
            assert_eq!(answer.problem(), (403, "tenant-inactive".to_owned()));
            assert!(!answer.text.contains("acme") && !answer.text.contains(&acme.to_string()), "{answer:?}");
        }
        let neighbour = with_claim(get("acme.app.example.com", "/"), globex);
        assert_eq!(call(&app, neighbour).await.problem().1, "tenant-mismatch", "not how the other one is doing");
    }
}

/// A setting that cannot be used is told when the application starts.
#[tokio::test]
async fn what_a_resolver_cannot_use_is_refused_at_once() {
    let world = World::sqlite().await;
    let refused = |resolver| Tenancy::new(world.tenantry.manager().clone(), resolver).unwrap_err().to_string();
    for domain in ["https://app.example.com", "app.example.com:80", "", "127.0.0.1", "a b"] {
        assert!(refused(TenantResolver::new().subdomain_of(domain)).contains("is no domain name"), "{domain}");
        assert!(refused(TenantResolver::new().own_host(domain)).contains("is no domain name"), "{domain}");
    }
    assert!(refused(TenantResolver::new().header("x tenant")).contains("is no header name"));
    assert!(refused(TenantResolver::new().path_prefix("/t")).contains("write the tenant as one segment, {tenant}"));
}

/// A claim cannot come from outside: what looks like one in a header or a body is not read.
#[tokio::test]
async fn a_claim_comes_from_the_application_alone() {
    let world = World::sqlite().await;
    let (acme, _) = two_tenants(&world).await;
    let app = app(&world, TenantResolver::new().require_claim());
    for name in ["x-tenant", "x-tenant-claim", "tenantclaim", "authorization", "cookie", "x-tenant-id"] {
        let request = Request::get("/").header(name, acme.to_string()).body(Body::from(acme.to_string())).unwrap();
        assert_eq!(call(&app, request).await.problem().0, 401, "{name}");
    }
}
