//! Attacks on the walls between tenants, each of which once went through.

use tenantry::operations::test_routing;
use tenantry_app_db::{Error, NewPlacement, NewTenant};
use tenantry_connection::Actor;
use tenantry_credential::CredentialColumn;
use tenantry_data_source::TenantTransaction;
use uuid::Uuid;

use crate::{
    routing::write,
    world::{World, keyring, on_both_engines},
};

on_both_engines!(nobody_is_mapped_onto_a_tenant_in_the_application_database);

// Catches what an application's own SQL leaves on a connection, and the next borrower of it.
#[tokio::test(flavor = "multi_thread")]
async fn raw_sql_leaves_nothing_to_the_next_borrower() {
    let world = World::postgres().await;
    let [one, two] = [world.tenant("acme").await.id, world.tenant("globex").await.id];
    // A connection that keeps its session is closed; behind a pooler it is the pooler's, and is cleaned.
    for (mode, kept) in [("direct", false), ("transaction", true)] {
        let source = world.shared().url;
        world
            .app_sql(&format!(
                "INSERT INTO data_sources (url, pooler_mode, max_connections) VALUES ('{source}', '{mode}', 1)
                 ON CONFLICT (url) DO UPDATE SET pooler_mode = excluded.pooler_mode, max_connections = 1"
            ))
            .await;
        world.tenantry.manager().clear_all();
        raw_sql_leaves_nothing(&world, one, two, kept).await;
    }
}

async fn raw_sql_leaves_nothing(world: &World, one: Uuid, two: Uuid, kept: bool) {
    let (one, two) = (world.tenantry.tenant(one).await.unwrap(), world.tenantry.tenant(two).await.unwrap());
    for (leave, look) in [
        ("SET statement_timeout = '7s'", "SELECT current_setting('statement_timeout') = '7s'"),
        ("SET default_transaction_read_only = on", "SELECT current_setting('default_transaction_read_only') = 'on'"),
        (
            "SELECT set_config('app.current_user_id', 'somebody', false)",
            "SELECT coalesce(current_setting('app.current_user_id', true), '') <> ''",
        ),
        (
            "SELECT pg_advisory_lock(4711)",
            "SELECT EXISTS (SELECT FROM pg_locks WHERE objid = 4711 AND locktype = 'advisory')",
        ),
        ("PREPARE left_behind AS SELECT 1", "SELECT EXISTS (SELECT FROM pg_prepared_statements WHERE from_sql)"),
        (
            "DECLARE left_behind CURSOR WITH HOLD FOR SELECT name FROM accounts",
            "SELECT EXISTS (SELECT FROM pg_cursors WHERE name = 'left_behind')",
        ),
    ] {
        for commit in [true, false] {
            let transaction = one.begin().await.unwrap();
            let backend = answer::<i32>(&transaction, "SELECT pg_backend_pid()").await;
            transaction.execute_raw_sql_outside_the_tenant_guard(leave, []).await.unwrap();
            let ended = if commit { transaction.commit().await } else { transaction.rollback().await };
            ended.unwrap();
            let next = two.begin().await.unwrap();
            assert_eq!(answer::<i32>(&next, "SELECT pg_backend_pid()").await == backend, kept);
            assert!(!answer::<bool>(&next, look).await, "{leave}");
            next.rollback().await.unwrap();
        }
    }
    write(&two, "as ever").await.unwrap();
}

async fn answer<T: sea_orm::TryGetable>(transaction: &TenantTransaction, sql: &str) -> T {
    let rows = transaction.query_raw_sql_outside_the_tenant_guard(sql, []).await.unwrap();
    rows[0].try_get_by_index(0).unwrap()
}

// Catches a routing test that fails for everyone because a neighbour has moved away.
#[tokio::test(flavor = "multi_thread")]
async fn the_probe_row_of_a_fenced_neighbour_stops_nobody() {
    let world = World::postgres().await;
    let [tenant, neighbour] = [world.tenant("acme").await.id, world.tenant("globex").await.id];
    let place = world.shared();
    let left = format!(
        "INSERT INTO routing_probe (tenant_id, id, note, created_at) \
         VALUES ('{neighbour}', gen_random_uuid(), 'killed', now() - interval '2 hours'); \
         SELECT tenantry.raise_fence('{neighbour}', 'moved away')"
    );
    world.place_sql(&place, &left).await;
    let report = test_routing(&world.tenantry, &[tenant]).await.unwrap();
    assert!(report.passed(), "{report:#?}");
    assert_eq!(world.count(&place, "SELECT count(*) FROM routing_probe").await, 0);
}

// While a single database is being split, the rows of tenants without a data source are in the application database.
async fn nobody_is_mapped_onto_a_tenant_in_the_application_database(world: World) {
    let application = &world.tenantry.settings().application_database;
    let app_db = world.tenantry.app_db();
    let unplaced = NewTenant::new("Acme", "acme");
    app_db.create_tenant(&unplaced, &Actor::default()).await.unwrap();
    let mapped_onto = |id: Uuid, subdomain: &str| {
        let mut tenant = NewTenant::new(subdomain, subdomain);
        let seal =
            |column| application.login.as_ref().map(|login| keyring("new").seal(tenant.id, column, login).unwrap());
        tenant.placement = NewPlacement {
            url: Some(application.url.clone()),
            anon_key: seal(CredentialColumn::Anon),
            service_key: seal(CredentialColumn::Service),
            tenant_id_in_data_source: Some(id.to_string().to_uppercase()),
            ..NewPlacement::default()
        };
        tenant
    };
    let refused = app_db.create_tenant(&mapped_onto(unplaced.id, "globex"), &Actor::default()).await.unwrap_err();
    assert!(matches!(refused, Error::KeyTaken { holder, .. } if holder == unplaced.id), "{refused:?}");

    // The other way round: whoever loses its data source falls back to where somebody else has its id.
    let place = world.tenant("initech").await;
    let mapped = mapped_onto(place.id, "globex");
    app_db.create_tenant(&mapped, &Actor::default()).await.unwrap();
    let unplace = app_db.place(place.id, place.placement_epoch, &NewPlacement::default(), &Actor::default()).await;
    assert!(matches!(unplace, Err(Error::KeyTaken { holder, .. }) if holder == mapped.id), "{unplace:?}");
}
