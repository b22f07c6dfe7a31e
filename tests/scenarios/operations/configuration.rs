//! `check-tenant-config` against a real application database; the findings themselves are unit-tested beside it.

use tenantry::operations::{ConfigState, Severity, check_config};
use tenantry_app_db::{NewDataSource, NewTenant};
use tenantry_connection::{Actor, Engine};

use crate::world::{World, on_both_engines};

on_both_engines!(a_sound_installation_has_no_findings, what_somebody_broke_by_hand_is_found);

async fn a_sound_installation_has_no_findings(mut world: World) {
    let own = world.place("own");
    world.tenant("acme").await;
    world.tenant_on("globex", &own).await;
    let report = check_config(&world.tenantry).await.unwrap();
    assert!(report.passed() && report.findings.is_empty(), "{report:#?}");
    assert!(report.tenants.iter().all(|tenant| tenant.state == ConfigState::Placed));
    assert_eq!(report.tenants[1].data_source, Some(own.url));
}

async fn what_somebody_broke_by_hand_is_found(mut world: World) {
    let own = world.place("own");
    let acme = world.tenant("acme").await;
    world.tenant_on("globex", &own).await;
    let app_db = world.tenantry.app_db();
    app_db.create_tenant(&NewTenant::new("Waiting", "waiting"), &Actor::default()).await.unwrap();
    world.app_sql("UPDATE tenants SET connection_pool_config = '{\"max\":0}' WHERE subdomain = 'acme'").await;
    world.app_sql("UPDATE tenants SET tenant_id_in_data_source = 'seven' WHERE subdomain = 'globex'").await;
    let unused = NewDataSource::new("postgresql://db.example.com:5432/unused".parse().unwrap());
    app_db.upsert_data_source(&unused, &Actor::default()).await.unwrap();
    if world.engine == Engine::Postgres {
        // What a restore of one row from a backup of another does: the values of a neighbour.
        world
            .app_sql("UPDATE tenants SET data_source_service_key = (SELECT data_source_service_key FROM tenants WHERE subdomain = 'globex') WHERE subdomain = 'acme'")
            .await;
    }
    let report = check_config(&world.tenantry).await.unwrap();
    assert!(!report.passed());
    let of = |subdomain: Option<&str>, setting: &str| {
        let found = report.findings.iter().find(|one| one.subdomain.as_deref() == subdomain && one.setting == setting);
        found.unwrap_or_else(|| panic!("{subdomain:?} {setting}: {report:#?}")).severity
    };
    assert_eq!(of(Some("acme"), "connection_pool_config"), Severity::Error);
    assert_eq!(of(Some("globex"), "tenant_id_in_data_source"), Severity::Error);
    assert_eq!(of(Some("waiting"), "data_source_url"), Severity::Warning);
    assert_eq!(of(None, "data_sources.url"), Severity::Note);
    let states: Vec<_> = report.tenants.iter().map(|tenant| (tenant.subdomain.as_str(), tenant.state)).collect();
    assert_eq!(
        states,
        [("acme", ConfigState::Broken), ("globex", ConfigState::Broken), ("waiting", ConfigState::Unplaced)]
    );
    if world.engine == Engine::Postgres {
        assert_eq!(of(Some("acme"), "data_source_service_key"), Severity::Error);
    }
    // What is reported as broken is closed.
    world.tenantry.manager().clear_tenant(acme.id).await;
    assert!(world.tenantry.tenant(acme.id).await.is_err());
}
