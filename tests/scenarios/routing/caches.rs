//! What is remembered, for how long, and what makes it forgotten at once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use secrecy::SecretString;
use tenantry_app_db::{NewPlacement, NewTenant, entities::tenants};
use tenantry_connection::{Actor, Engine};
use tenantry_credential::{CredentialColumn, Login};
use tenantry_data_source::{DataSourceManager, RouteError};
use uuid::Uuid;

use super::{names, try_names, write};
use crate::world::{Place, World, keyring, on_both_engines};

on_both_engines!(
    many_look_ups_at_once_ask_once,
    a_placement_is_believed_for_the_stated_time,
    a_tenant_created_after_it_was_looked_for_is_found_at_once,
    a_look_up_after_the_creation_joins_none_from_before,
    a_changed_url_leads_to_another_pool,
    a_look_up_under_way_does_not_bring_a_cleared_placement_back,
    clearing_everything_ends_no_transaction,
);

async fn misses(manager: &DataSourceManager) -> u64 {
    manager.cache_stats().await.placement_misses
}

async fn many_look_ups_at_once_ask_once(world: World) {
    let tenant = world.tenant("acme").await.id;
    let tenantry = world.restarted(|_| {});
    let start = Arc::new(tokio::sync::Barrier::new(50));
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let (tenantry, start) = (tenantry.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                tenantry.tenant(tenant).await.map(drop)
            })
        })
        .collect();
    for asked in asking {
        asked.await.unwrap().unwrap();
    }
    assert_eq!(misses(tenantry.manager()).await, 1, "fifty look-ups, one question");
    let pools = tenantry.manager().cache_stats().await.pools;
    assert_eq!(pools.len(), 1, "and one pool: {pools:?}");
}

/// Regression: a cache without an end serves a moved tenant from its old place until the process is restarted.
async fn a_placement_is_believed_for_the_stated_time(world: World) {
    let tenant = world.tenant("acme").await.id;
    let tenantry = world.restarted(|settings| settings.placement_cache = Duration::from_millis(200));
    let manager = tenantry.manager();
    tenantry.tenant(tenant).await.unwrap();
    tenantry.tenant(tenant).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while misses(manager).await < 2 {
        assert!(Instant::now() < deadline, "the placement is believed for ever");
        tenantry.tenant(tenant).await.unwrap();
        tokio::task::yield_now().await;
    }
}

/// Trap 11: a negative entry outlived the creation.
async fn a_tenant_created_after_it_was_looked_for_is_found_at_once(world: World) {
    let template = world.tenant("template").await;
    let id = Uuid::new_v4();
    let unknown = |error: RouteError| error.to_string().contains("no tenant has the id");
    assert!(unknown(world.tenantry.tenant(id).await.unwrap_err()));
    let mut new = NewTenant { id, ..NewTenant::new("Acme", "acme") };
    let place = place_of(&world, &template);
    new.placement = sealed_placement(&place, id);
    world.tenantry.app_db().create_tenant(&new, &Actor::default()).await.unwrap();
    world.tenantry.tenant(id).await.unwrap();
}

/// The same while others keep looking: whoever asks after the creation must not be given the answer to a question that was
/// asked before it.
async fn a_look_up_after_the_creation_joins_none_from_before(world: World) {
    let template = world.tenant("template").await;
    let place = place_of(&world, &template);
    for round in 0..20 {
        let id = Uuid::new_v4();
        let found = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let looking = {
            let (tenantry, found) = (world.tenantry.clone(), Arc::clone(&found));
            tokio::spawn(async move {
                while !found.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = tenantry.tenant(id).await;
                    tokio::task::yield_now().await;
                }
            })
        };
        let mut new = NewTenant { id, ..NewTenant::new("Acme", format!("acme-{round}")) };
        new.placement = sealed_placement(&place, id);
        world.tenantry.app_db().create_tenant(&new, &Actor::default()).await.unwrap();
        let asked = world.tenantry.tenant(id).await;
        found.store(true, std::sync::atomic::Ordering::Relaxed);
        looking.await.unwrap();
        assert!(asked.is_ok(), "round {round}: {asked:?}");
    }
}

/// Trap 10: a pool kept under the tenant's name served the old database after the URL was edited.
async fn a_changed_url_leads_to_another_pool(mut world: World) {
    let (old, new) = (world.place("old"), world.place("new"));
    let tenant = world.tenant_on("acme", &old).await;
    // Somebody else's tenant, so that the new place is migrated.
    world.tenant_on("globex", &new).await;
    let before = world.tenantry.tenant(tenant.id).await.unwrap();
    write(&before, "in the old place").await.unwrap();

    // Another process moves the tenant.
    let elsewhere = world.restarted(|_| {});
    let placement = sealed_placement(&new, tenant.id);
    let epoch = elsewhere.app_db().tenant(tenant.id).await.unwrap().unwrap().placement_epoch;
    elsewhere.app_db().place(tenant.id, epoch, &placement, &Actor::default()).await.unwrap();
    world.tenantry.manager().clear_tenant(tenant.id).await;

    let after = world.tenantry.tenant(tenant.id).await.unwrap();
    assert!(names(&after).await.is_empty(), "nothing was copied, so nothing is there");
    write(&after, "in the new place").await.unwrap();
    assert_eq!(world.count(&old, "SELECT count(*) FROM accounts").await, 1);
    assert_eq!(world.count(&new, "SELECT count(*) FROM accounts").await, 1);
    let info = world.tenantry.manager().connection_info(tenant.id).await.unwrap();
    assert_eq!(info.data_source, Some(new.url.clone()));
    assert_eq!(names(&before).await, ["in the old place"], "an old handle stays what it was");

    // The same by hand, as with psql, and back.
    world.app_sql(&format!("UPDATE tenants SET data_source_url = '{}' WHERE subdomain = 'acme'", old.url)).await;
    world.tenantry.manager().clear_tenant(tenant.id).await;
    if world.engine == Engine::Sqlite {
        assert_eq!(names(&world.tenantry.tenant(tenant.id).await.unwrap()).await, ["in the old place"]);
    } else {
        // The logins are those of the new place; they do not get in, and no pool of the old place is lent instead.
        assert!(try_names(&world.tenantry.tenant(tenant.id).await.unwrap()).await.is_err());
    }
}

/// A look-up that began before the clear would put what it read into the cache after it.
async fn a_look_up_under_way_does_not_bring_a_cleared_placement_back(world: World) {
    let tenant = world.tenant("acme").await.id;
    for round in 0..50_u32 {
        let tenantry = world.restarted(|_| {});
        let looking = {
            let tenantry = tenantry.clone();
            tokio::spawn(async move { tenantry.manager().route(tenant).await.map(|route| route.epoch) })
        };
        for _ in 0..round % 5 {
            tokio::task::yield_now().await;
        }
        let region = format!("region-{round}");
        world.app_sql(&format!("UPDATE tenants SET data_source_region = '{region}' WHERE subdomain = 'acme'")).await;
        tenantry.manager().clear_tenant(tenant).await;
        let route = tenantry.manager().route(tenant).await.unwrap();
        assert_eq!(route.placed().unwrap().region.as_deref(), Some(region.as_str()), "round {round}");
        looking.await.unwrap().unwrap();
        let route = tenantry.manager().route(tenant).await.unwrap();
        assert_eq!(route.placed().unwrap().region.as_deref(), Some(region.as_str()), "round {round}, afterwards");
        tenantry.close().await;
    }
}

async fn clearing_everything_ends_no_transaction(world: World) {
    let tenant = world.tenant("acme").await.id;
    let manager = world.tenantry.manager();
    let db = world.tenantry.tenant(tenant).await.unwrap();
    let transaction = db.begin().await.unwrap();
    let written = {
        use sea_orm::ActiveValue::Set;
        use tenantry_entities::accounts;
        use tenantry_repository::RepositoryExt;
        let account = accounts::ActiveModel { name: Set("under way".to_owned()), ..Default::default() };
        transaction.repository::<accounts::Entity>().create(account).await
    };
    written.unwrap();
    manager.clear_all();
    let stats = manager.cache_stats().await;
    assert_eq!((stats.placements, stats.pools.len()), (0, 0));
    transaction.commit().await.unwrap();
    assert_eq!(names(&world.tenantry.tenant(tenant).await.unwrap()).await, ["under way"]);
}

/// Trap 13: the first bad password stuck. And the other way round: a tenant whose password is wrong must not ride on the
/// connections that a neighbour's right one opened.
#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_each_tenants_own() {
    let world = World::postgres().await;
    let (one, two) = (world.tenant("acme").await, world.tenant("globex").await);
    let neighbour = world.tenantry.tenant(one.id).await.unwrap();
    write(&neighbour, "the neighbour's").await.unwrap();
    write(&world.tenantry.tenant(two.id).await.unwrap(), "its own").await.unwrap();
    assert_eq!(world.tenantry.manager().cache_stats().await.pools.len(), 1, "two tenants, one login, one pool");

    let shared = world.shared();
    let right = shared.logins.as_ref().unwrap().restricted.clone();
    let wrong = Login::new(&right.user, "wrong".to_owned()).unwrap();
    for (login, works) in [(&wrong, false), (&right, true), (&wrong, false), (&right, true)] {
        replace_restricted(&world, two.id, login).await;
        let db = world.tenantry.tenant(two.id).await.unwrap();
        match try_names(&db).await {
            Ok(names) => assert!(works && names == ["its own"], "{names:?}"),
            Err(error) => {
                let told = tenantry_data_source::with_causes(&error);
                assert!(!works && told.contains("the login was refused"), "{told}");
            }
        }
        assert_eq!(names(&neighbour).await, ["the neighbour's"], "the neighbour notices nothing");
    }
    let test = world.tenantry.manager().test_connection(two.id).await;
    assert!(test.passed(), "{test:?}");
}

/// One cap per data source, over both accesses and whatever the number of tenants: pools per tenant exhaust the server.
#[tokio::test(flavor = "multi_thread")]
async fn tenants_of_a_data_source_share_its_pools() {
    let world = World::postgres().await;
    let mut tenants = Vec::new();
    for number in 0..5 {
        tenants.push(world.tenant(&format!("tenant-{number}")).await.id);
    }
    for tenant in &tenants {
        names(&world.tenantry.tenant(*tenant).await.unwrap()).await;
        let service = world.tenantry.tenant_as_service(*tenant, &Actor::default(), "a test").await.unwrap();
        names(&service).await;
    }
    let stats = world.tenantry.manager().cache_stats().await;
    let [source] = stats.pools.as_slice() else { panic!("{stats:?}") };
    assert_eq!((source.status.max, source.status.in_use), (10, 0));
    assert!(source.status.open <= 10, "{source:?}");
    assert_eq!(stats.placements, 5);
}

/// Regression: the setting had no effect, since a URL without a row of its own always got ten.
#[tokio::test(flavor = "multi_thread")]
async fn the_cap_is_the_rows_or_the_settings() {
    let world = World::new(Engine::Sqlite, |settings| settings.max_connections = 3).await;
    let tenant = world.tenant("acme").await;
    let cap = async |tenantry: &tenantry::Tenantry| {
        names(&tenantry.tenant(tenant.id).await.unwrap()).await;
        tenantry.manager().cache_stats().await.pools[0].status.max
    };
    assert_eq!(cap(&world.tenantry).await, 3);
    let url = tenant.data_source_url.clone().unwrap();
    world.app_sql(&format!("INSERT INTO data_sources (url, max_connections) VALUES ('{url}', 2)")).await;
    assert_eq!(cap(&world.restarted(|_| {})).await, 2);
}

async fn replace_restricted(world: &World, tenant: Uuid, login: &Login) {
    let app_db = world.tenantry.app_db();
    let sealed = keyring("new").seal(tenant, CredentialColumn::Anon, login).unwrap();
    let epoch = app_db.tenant(tenant).await.unwrap().unwrap().placement_epoch;
    app_db.replace_credentials(tenant, epoch, Some(sealed), None, &Actor::default()).await.unwrap();
    world.tenantry.manager().clear_tenant(tenant).await;
}

pub(super) fn sealed_placement(place: &Place, tenant: Uuid) -> NewPlacement {
    let seal = |column, login: &Login| keyring("new").seal(tenant, column, login).unwrap();
    NewPlacement {
        url: Some(place.url.clone()),
        anon_key: place.logins.as_ref().map(|logins| seal(CredentialColumn::Anon, &logins.restricted)),
        service_key: place.logins.as_ref().map(|logins| seal(CredentialColumn::Service, &logins.service)),
        ..NewPlacement::default()
    }
}

fn place_of(world: &World, tenant: &tenants::Model) -> Place {
    match world.engine {
        Engine::Postgres => world.shared(),
        Engine::Sqlite => Place { url: tenant.data_source_url.as_deref().unwrap().parse().unwrap(), logins: None },
    }
}

#[test]
fn the_worlds_keys_are_no_placeholders() {
    for (_, hex) in crate::world::KEYS {
        assert!(tenantry_credential::Keyring::from_hex(&SecretString::from(hex)).is_ok());
    }
}
