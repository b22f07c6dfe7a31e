//! Who acts travels with a request's statements, and with the work that goes on without it.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::Response,
    routing::post,
};
use sea_orm::ActiveValue::Set;
use tenantry_axum::{
    Problem, RequestLayer, Tenancy, Tenant, TenantClaim, TenantContextRef, TenantResolver, TrustedProxies,
};
use tenantry_connection::{Actor, Engine};
use tenantry_data_source::{RouteError, TenantHandle};
use tenantry_entities::accounts;
use tenantry_repository::RepositoryExt;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::call;
use crate::{
    routing::write,
    world::{Place, World, on_both_engines},
};

on_both_engines!(who_acts_arrives_in_the_tenants_database, a_spawned_task_keeps_its_tenant, a_job_carries_its_context,);

/// The application's authentication: here every token is the id of a tenant's user.
#[derive(Clone)]
struct Sessions(Arc<Vec<(Uuid, Uuid)>>);

async fn authenticate(State(Sessions(sessions)): State<Sessions>, mut request: Request, next: Next) -> Response {
    let token = request.headers().get("authorization").and_then(|value| value.to_str().ok()?.parse::<Uuid>().ok());
    if let Some((user, tenant)) = sessions.iter().find(|(user, _)| Some(*user) == token) {
        request.extensions_mut().insert(TenantClaim::verified(*tenant, Some(*user)));
    }
    next.run(request).await
}

async fn create(Tenant(db): Tenant, Json(name): Json<String>) -> Result<(StatusCode, Json<Uuid>), Problem> {
    let account = accounts::ActiveModel { name: Set(name), ..Default::default() };
    Ok((StatusCode::CREATED, Json(db.repository::<accounts::Entity>().create(account).await?.id)))
}

fn posted(user: Uuid, name: &str, peer: &str) -> Request {
    let mut request = Request::post("/accounts")
        .header("authorization", user.to_string())
        .header("content-type", "application/json")
        .header("user-agent", "a browser's \\'; name")
        .header("x-forwarded-for", "198.51.100.7, 203.0.113.5")
        .body(Body::from(serde_json::to_string(name).unwrap()))
        .unwrap();
    request.extensions_mut().insert(ConnectInfo::<SocketAddr>(format!("{peer}:4711").parse().unwrap()));
    request
}

/// The write log has the user and the address. The browser's name is in the same session, where the application's own triggers
/// and defaults read it: here a table of its own keeps all three.
async fn who_acts_arrives_in_the_tenants_database(mut world: World) {
    let place = world.place("acting");
    let (acme, globex) = (world.tenant_on("acme", &place).await.id, Uuid::new_v4());
    note_actors(&world, &place).await;
    let (ann, bob) = (Uuid::new_v4(), Uuid::new_v4());
    let resolver = TenantResolver::new().require_claim().trusted_proxies(TrustedProxies::new(["10.0.0.0/8"]).unwrap());
    let tenancy = Tenancy::new(world.tenantry.manager().clone(), resolver).unwrap();
    let sessions = Sessions(Arc::new(vec![(ann, acme), (bob, globex)]));
    let app = Router::new()
        .route("/accounts", post(create))
        .with_state(tenancy)
        .layer(middleware::from_fn_with_state(sessions, authenticate))
        .layer(RequestLayer);
    assert_eq!(call(&app, posted(ann, "behind the proxy", "10.0.0.9")).await.status, 201);
    assert_eq!(call(&app, posted(ann, "direct", "192.0.2.77")).await.status, 201);
    assert_eq!(call(&app, posted(Uuid::new_v4(), "nobody", "192.0.2.77")).await.problem().0, 401);

    let db = world.tenantry.tenant(acme).await.unwrap();
    let log = db.write_log(10).await.unwrap();
    assert_eq!(log.len(), 2, "{log:?}");
    assert!(log.iter().all(|entry| entry.actor.as_deref() == Some(&*ann.to_string())), "{log:?}");
    let mut addresses: Vec<_> = log.iter().filter_map(|entry| entry.client_ip.as_deref()).collect();
    addresses.sort_unstable();
    assert_eq!(addresses, ["192.0.2.77", "203.0.113.5"]);
    for (name, address) in [("behind the proxy", "203.0.113.5"), ("direct", "192.0.2.77")] {
        let noted = format!(
            "SELECT CAST(count(*) AS bigint) FROM noted_actors WHERE account = '{name}' AND client_ip = '{address}' \
             AND user_agent = 'a browser''s \\''; name' AND user_id = '{ann}'"
        );
        assert_eq!(world.count(&place, &noted).await, 1, "{name}");
    }
}

/// A trigger of the application's own, which notes what the session says.
async fn note_actors(world: &World, place: &Place) {
    world
        .place_sql(place, "CREATE TABLE noted_actors (account text, user_id text, client_ip text, user_agent text)")
        .await;
    let sql = match world.engine {
        Engine::Postgres => {
            "CREATE FUNCTION note_actor() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
             BEGIN
                 INSERT INTO public.noted_actors VALUES (NEW.name, current_setting('app.current_user_id', true),
                     current_setting('app.client_ip', true), current_setting('app.user_agent', true));
                 RETURN NULL;
             END $$;
             CREATE TRIGGER note_actor AFTER INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION note_actor()"
        }
        Engine::Sqlite => {
            "CREATE TRIGGER note_actor AFTER INSERT ON accounts FOR EACH ROW BEGIN
                 INSERT INTO noted_actors SELECT NEW.name,
                     (SELECT value FROM tenantry_session WHERE name = 'app.current_user_id'),
                     (SELECT value FROM tenantry_session WHERE name = 'app.client_ip'),
                     (SELECT value FROM tenantry_session WHERE name = 'app.user_agent');
             END"
        }
    };
    world.place_sql(place, sql).await;
}

/// Regression (trap 16): a context in a task-local is lost by `spawn`, and another request's where a worker is reused. The
/// handle is a value.
async fn a_spawned_task_keeps_its_tenant(world: World) {
    let tenants = [world.tenant("acme").await.id, world.tenant("globex").await.id];
    let mut tasks = Vec::new();
    for round in 0..10 {
        for tenant in tenants {
            let db = world.tenantry.tenant(tenant).await.unwrap();
            let name = format!("round {round}");
            tasks.push(tokio::spawn(async move {
                let db = tokio::spawn(async move { db }).await.unwrap();
                tokio::select! {
                    () = std::future::pending() => unreachable!(),
                    written = write(&db, &name) => written.map(|_| ()),
                }
            }));
        }
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for tenant in tenants {
        let db = world.tenantry.tenant(tenant).await.unwrap();
        assert_eq!(db.write_log(100).await.unwrap().len(), 10);
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Rename {
    context: TenantContextRef,
    name: String,
}

/// Regression (trap 15): a worker kept the tenant of the job before. Here a job without a context cannot be read.
async fn a_job_carries_its_context(world: World) {
    let (acme, globex) = (world.tenant("acme").await.id, world.tenant("globex").await.id);
    let user = Uuid::new_v4();
    let actor = Actor { user_id: Some(user), client_ip: Some("203.0.113.5".to_owned()), user_agent: None };
    let queue = Mutex::new(Vec::new());
    for (tenant, name) in [(acme, "for acme"), (globex, "for globex"), (acme, "for acme again")] {
        let job = Rename { context: TenantContextRef::new(tenant, actor.clone()), name: name.to_owned() };
        queue.lock().await.push(serde_json::to_string(&job).unwrap());
    }
    let work = async |payload: &str| -> Result<Uuid, String> {
        let job: Rename = serde_json::from_str(payload).map_err(|error| error.to_string())?;
        let db = job.context.open(world.tenantry.manager()).await.map_err(|error| error.to_string())?;
        assert_eq!(db.actor(), &actor);
        write(&db, &job.name).await.map_err(|error| error.to_string())?;
        Ok(db.tenant())
    };
    let jobs = queue.into_inner();
    for (job, tenant) in jobs.iter().zip([acme, globex, acme]) {
        assert_eq!(work(job).await.unwrap(), tenant);
    }
    for without in [
        r#"{"name":"whose?"}"#,
        r#"{"context":{},"name":"whose?"}"#,
        r#"{"context":null,"name":"whose?"}"#,
        r#"{"context":{"user":"00000000-0000-0000-0000-000000000001"},"name":"whose?"}"#,
        r#"{"context":{"tenant":"","name":"whose?"}}"#,
    ] {
        assert!(work(without).await.is_err(), "{without}");
    }
    assert_eq!(world.tenantry.tenant(globex).await.unwrap().write_log(10).await.unwrap().len(), 1);

    // Between a job's making and its doing the tenant may have been suspended.
    world.app_sql("UPDATE tenants SET status = 'suspended' WHERE subdomain = 'acme'").await;
    world.tenantry.manager().clear_tenant(acme).await;
    let context = TenantContextRef::new(acme, Actor::default());
    let refused = context.open(world.tenantry.manager()).await;
    assert!(matches!(refused, Err(RouteError::Inactive { .. })), "{refused:?}");
}
