//! `migrate`: every database once, and a status that changes nothing.

use tenantry::operations::{DatabaseKind, Direction, MigrateScope, migrate};
use tenantry_connection::Engine;
use tenantry_migrations::TenantDataMigrator;

use crate::world::{World, on_both_engines};

on_both_engines!(every_database_is_migrated_once, one_that_fails_does_not_keep_the_others);

const ALL: MigrateScope = MigrateScope { app_db: true, data_sources: true };

async fn every_database_is_migrated_once(mut world: World) {
    let own = world.place("own");
    world.tenant("acme").await;
    world.tenant("globex").await;
    world.tenant_on("initech", &own).await;
    // On SQLite a file for each of three tenants; on PostgreSQL the shared one, once, and one of its own.
    let sources = if world.engine == Engine::Sqlite { 3 } else { 2 };
    let report = migrate::<TenantDataMigrator>(&world.tenantry, ALL, Direction::Status).await.unwrap();
    assert!(report.is_complete(), "{report:#?}");
    assert_eq!(report.databases.len(), 1 + sources);
    assert_eq!(report.databases[0].kind, DatabaseKind::ApplicationDatabase);
    let down = migrate::<TenantDataMigrator>(
        &world.tenantry,
        MigrateScope { app_db: false, data_sources: true },
        Direction::Down(1),
    )
    .await
    .unwrap();
    assert!(down.passed() && !down.is_complete(), "{down:#?}");
    let up = migrate::<TenantDataMigrator>(&world.tenantry, ALL, Direction::Up).await.unwrap();
    assert!(up.is_complete(), "{up:#?}");
    assert!(up.databases[1..].iter().all(|database| database.changed.len() == 1), "{up:#?}");
}

async fn one_that_fails_does_not_keep_the_others(mut world: World) {
    let (broken, sound) = (world.place("broken"), world.place("sound"));
    world.tenant_on("acme", &broken).await;
    world.tenant_on("globex", &sound).await;
    migrate::<TenantDataMigrator>(
        &world.tenantry,
        MigrateScope { app_db: false, data_sources: true },
        Direction::Down(1),
    )
    .await
    .unwrap();
    // A table that is in the way.
    world.place_sql(&broken, "CREATE TABLE accounts (id integer)").await;
    let up = migrate::<TenantDataMigrator>(&world.tenantry, ALL, Direction::Up).await.unwrap();
    assert!(!up.passed());
    let of = |place: &crate::world::Place| up.databases.iter().find(|entry| entry.database == place.url).unwrap();
    assert!(of(&broken).error.as_deref().unwrap().contains("accounts"), "{up:#?}");
    assert!(of(&sound).error.is_none() && of(&sound).pending.is_empty(), "{up:#?}");
    world.place_sql(&broken, "DROP TABLE accounts").await;
    assert!(migrate::<TenantDataMigrator>(&world.tenantry, ALL, Direction::Up).await.unwrap().is_complete());
}

/// Regression: asking for the status created the table of the history, in a database that was only looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_changes_nothing() {
    let world = World::postgres().await;
    let report = migrate::<TenantDataMigrator>(&world.tenantry, ALL, Direction::Status).await.unwrap();
    let shared = report.databases.iter().find(|entry| entry.kind == DatabaseKind::DataSource).unwrap();
    assert_eq!((shared.applied.len(), shared.pending.len(), &shared.error), (0, 2, &None));
    let relations =
        world.count(&world.shared(), "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace").await;
    assert_eq!(relations, 0);
}

/// A data source with many tenants was unreachable for every operation as soon as the first one's credential was damaged.
#[tokio::test(flavor = "multi_thread")]
async fn one_tenants_damaged_credential_does_not_close_the_data_source() {
    let world = World::postgres().await;
    let (first, second) = (world.tenant("first").await, world.tenant("second").await);
    // Each in turn, since which of them is asked first is not promised.
    for damaged in [&first, &second] {
        let app = &world.databases[0];
        let copy = "UPDATE tenants SET data_source_service_key = (SELECT t.data_source_service_key FROM tenants t \
                    WHERE t.id <> tenants.id AND t.subdomain IN ('first', 'second'))";
        let before =
            app.psql(&app.service, &format!("SELECT data_source_service_key FROM tenants WHERE id = '{}'", damaged.id));
        app.psql(&app.service, &format!("{copy} WHERE id = '{}'", damaged.id)).unwrap();
        let scope = MigrateScope { app_db: false, data_sources: true };
        let fresh = world.restarted(|_| {});
        let report = migrate::<TenantDataMigrator>(&fresh, scope, Direction::Status).await.unwrap();
        assert!(report.is_complete(), "{report:#?}");
        let sealed = before.unwrap();
        let mend =
            format!("UPDATE tenants SET data_source_service_key = '{}' WHERE id = '{}'", sealed.trim(), damaged.id);
        app.psql(&app.service, &mend).unwrap();
    }
}
