//! What gets no handle, by whichever way it is asked for.

use sea_orm_migration::MigratorTrait;
use tenantry::Tenantry;
use tenantry_app_db::{NewTenant, entities::tenants};
use tenantry_connection::{Actor, Engine};
use tenantry_data_source::{Isolation, RouteError, TenantHandle};
use tenantry_migrations::{TenantDataMigrator, TenantDataSettings, prepare_tenant_data};
use uuid::Uuid;

use super::{names, write};
use crate::world::{World, login_of, on_both_engines};

on_both_engines!(
    an_unknown_tenant_is_closed_everywhere,
    a_suspended_tenant_has_service_access_only,
    an_unplaced_tenant_is_closed_unless_the_settings_say_otherwise,
    the_fallback_is_explicit_and_told_as_predicate_only,
);

/// Every way to ask, and the error it ended with.
async fn ask_everywhere(tenantry: &Tenantry, tenant: Uuid) -> Vec<(&'static str, Option<RouteError>)> {
    let manager = tenantry.manager();
    let actor = Actor::default();
    vec![
        ("tenant", tenantry.tenant(tenant).await.err()),
        ("tenant_as_service", tenantry.tenant_as_service(tenant, &actor, "a test").await.err()),
        ("service_pool", manager.service_pool(tenant).await.err()),
        ("service_login", manager.service_login(tenant).await.err()),
        ("restricted_login", manager.restricted_login(tenant).await.err()),
        ("measure_isolation", manager.measure_isolation(tenant).await.err()),
    ]
}

/// Regression (trap 17): an unknown tenant fell back to the default store.
async fn an_unknown_tenant_is_closed_everywhere(world: World) {
    let neighbour = world.tenant("acme").await;
    write(&world.tenantry.tenant(neighbour.id).await.unwrap(), "a neighbour's").await.unwrap();
    for fallback in [false, true] {
        let tenantry = world.restarted(|settings| settings.fallback_to_application_database = fallback);
        for unknown in [Uuid::nil(), Uuid::from_u128(u128::MAX), Uuid::new_v4()] {
            for (way, error) in ask_everywhere(&tenantry, unknown).await {
                let error = error.unwrap_or_else(|| panic!("{way} gave an unknown tenant something"));
                assert!(error.to_string().contains(&format!("no tenant has the id {unknown}")), "{way}: {error}");
            }
            assert!(tenantry.manager().route(unknown).await.is_err());
            assert!(tenantry.manager().connection_info(unknown).await.is_err());
            let test = tenantry.manager().test_connection(unknown).await;
            assert!(!test.passed() && !test.can_connect && test.data_source.is_none(), "{test:?}");
            let probe = tenantry.manager().probe_routing(unknown, &[]).await;
            assert!(!probe.passed() && !probe.written && !probe.skipped, "{probe:?}");
        }
        assert_eq!(tenantry.manager().cache_stats().await.placements, 0, "absence is not cached");
    }
}

async fn a_suspended_tenant_has_service_access_only(world: World) {
    let tenant = world.tenant("acme").await;
    let manager = world.tenantry.manager();
    write(&world.tenantry.tenant(tenant.id).await.unwrap(), "before").await.unwrap();
    for status in ["suspended", "cancelled"] {
        world.app_sql(&format!("UPDATE tenants SET status = '{status}' WHERE subdomain = 'acme'")).await;
        manager.clear_tenant(tenant.id).await;
        let error = world.tenantry.tenant(tenant.id).await.unwrap_err();
        assert!(matches!(error, RouteError::Inactive { .. }) && error.to_string().contains(status), "{error}");
        let actor = Actor::user(Uuid::new_v4());
        let db = world.tenantry.tenant_as_service(tenant.id, &actor, "closing the account").await.unwrap();
        assert_eq!(names(&db).await, ["before"]);
        let log = world.tenantry.app_db().audit_entries(Some(tenant.id), 1).await.unwrap();
        assert_eq!((log[0].action.as_str(), log[0].user_id), ("service_access", actor.user_id));
        assert_eq!(log[0].changes.as_ref().unwrap()["reason"], "closing the account");
    }
    assert!(manager.test_connection(tenant.id).await.passed(), "the connection is tested all the same");
    world.app_sql("UPDATE tenants SET status = 'active' WHERE subdomain = 'acme'").await;
    manager.clear_tenant(tenant.id).await;
    assert_eq!(names(&world.tenantry.tenant(tenant.id).await.unwrap()).await, ["before"]);
}

async fn an_unplaced_tenant_is_closed_unless_the_settings_say_otherwise(world: World) {
    let tenant = unplaced(&world, "acme").await;
    for (way, error) in ask_everywhere(&world.tenantry, tenant.id).await {
        assert!(matches!(error, Some(RouteError::NoDataSource(id)) if id == tenant.id), "{way}: {error:?}");
    }
    let info = world.tenantry.manager().connection_info(tenant.id).await.unwrap();
    assert!(info.data_source.is_none() && !info.has_restricted_credential);
    assert!(world.tenantry.manager().probe_routing(tenant.id, &[]).await.skipped);
}

/// A gradual way out of a single database: the rows are read where they still are, and nobody is told that policies hold.
/// A mapping is for a data source; in the application database a tenant's id is its own.
async fn the_fallback_is_explicit_and_told_as_predicate_only(world: World) {
    let tenant = unplaced(&world, "acme").await;
    let neighbour = unplaced(&world, "globex").await;
    migrate_business_tables_beside_the_application_tables(&world).await;
    world.app_sql("UPDATE tenants SET tenant_id_in_data_source = '7' WHERE subdomain = 'acme'").await;
    let tenantry = world.restarted(|settings| settings.fallback_to_application_database = true);
    let db = tenantry.tenant(tenant.id).await.unwrap();
    assert_eq!(db.isolation(), Isolation::PredicateOnly);
    assert_eq!(db.key().to_string(), tenant.id.to_string(), "the mapping does not count without a data source");
    let info = tenantry.manager().connection_info(tenant.id).await.unwrap();
    assert_eq!((info.isolation, info.data_source), (Isolation::PredicateOnly, None));
    write(&db, "in the single database").await.unwrap();
    assert_eq!(names(&db).await, ["in the single database"]);
    assert!(names(&tenantry.tenant(neighbour.id).await.unwrap()).await.is_empty());
    let transaction = db.begin().await.unwrap();
    let raw = transaction.execute_raw_sql_outside_the_tenant_guard("DELETE FROM accounts", []).await;
    assert!(raw.unwrap_err().to_string().contains("raw SQL is refused"));
    let test = tenantry.manager().test_connection(tenant.id).await;
    assert_eq!((test.passed(), test.rls_enabled, test.isolation), (true, None, Some(Isolation::PredicateOnly)));
}

pub(super) async fn unplaced(world: &World, subdomain: &str) -> tenants::Model {
    let new = NewTenant::new(subdomain, subdomain);
    world.tenantry.app_db().create_tenant(&new, &Actor::default()).await.unwrap()
}

async fn migrate_business_tables_beside_the_application_tables(world: &World) {
    let application = &world.tenantry.settings().application_database;
    let pool = tenantry_connection::Pool::new(
        &application.url,
        application.login.as_ref(),
        &tenantry_connection::PoolOptions::default(),
    )
    .unwrap();
    let connection = pool.migration_connection(application.login.as_ref()).await.unwrap();
    let restricted_role = match world.engine {
        Engine::Postgres => login_of(&world.databases[0].restricted).user,
        Engine::Sqlite => String::new(),
    };
    let settings = TenantDataSettings { restricted_role, ..TenantDataSettings::default() };
    prepare_tenant_data(&connection, &settings).await.unwrap();
    TenantDataMigrator::up(&connection, None).await.unwrap();
    connection.close().await.unwrap();
    pool.close().await;
}
