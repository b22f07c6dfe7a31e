//! A tenant is created whole or not at all (trap 30): whatever fails, there is no row that could be routed and no file that
//! nobody asked for.

use std::path::Path;

use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::async_trait::async_trait;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};
use tenantry::operations::{Logins, NewTenantRequest, create_tenant};
use tenantry_app_db::{
    NewDataSource, NewPlacement,
    entities::{Plan, SourceKind},
};
use tenantry_connection::{Actor, DataSourceUrl, Engine};
use tenantry_credential::Login;
use tenantry_migrations::{Migrator, ReferenceSchema, TenantSchema};

use super::{names, write};
use crate::world::{Place, World, login_of, on_both_engines};

on_both_engines!(
    a_new_tenant_is_ready_and_audited,
    a_taken_or_hostile_subdomain_leaves_nothing,
    a_migration_that_fails_leaves_nothing,
    a_second_tenant_on_a_data_source_for_one_is_refused,
    a_creation_that_is_dropped_leaves_no_half_made_tenant,
);

/// The subdomains of all tenants.
async fn subdomains(world: &World) -> Vec<String> {
    world.tenantry.app_db().tenants().await.unwrap().into_iter().map(|tenant| tenant.subdomain).collect()
}

/// Every file below the world's folder but the application database's own.
fn files(world: &World) -> Vec<String> {
    fn walk(folder: &Path, files: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, files);
            } else {
                files.push(path.display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    walk(world.directory.path(), &mut found);
    let app = world.directory.path().join("app.db").display().to_string();
    found.retain(|file| !file.starts_with(&app));
    found.sort();
    found
}

async fn a_new_tenant_is_ready_and_audited(world: World) {
    let tenant = world.tenant("Acme").await;
    assert_eq!(tenant.subdomain, "acme", "a DNS label has no case");
    let db = world.tenantry.tenant(tenant.id).await.unwrap();
    write(&db, "first").await.unwrap();
    assert_eq!(names(&db).await, ["first"]);
    if let Some(key) = &tenant.data_source_anon_key {
        assert!(key.as_str().starts_with("v1:new:"));
    }
    let log = world.tenantry.app_db().audit_entries(Some(tenant.id), 10).await.unwrap();
    assert!(log.iter().any(|entry| entry.action == "tenant_created"), "{log:?}");
}

async fn a_taken_or_hostile_subdomain_leaves_nothing(world: World) {
    world.tenant("acme").await;
    let before = files(&world);
    for subdomain in [
        "acme",
        "ACME",
        "",
        "../../etc/passwd",
        "a/b",
        "a.b",
        "a b",
        "-a",
        "a\0b",
        "'; DROP TABLE tenants; --",
        "{tenant_id}",
        "münchen",
        &"x".repeat(64),
    ] {
        let error = world.try_tenant(subdomain, None).await.unwrap_err();
        let told = tenantry_data_source::with_causes(&error);
        assert!(told.contains("is taken") || told.contains("is no subdomain"), "{subdomain:?}: {told}");
        assert_eq!(subdomains(&world).await, ["acme"], "{subdomain:?}");
        assert_eq!(files(&world), before, "{subdomain:?}");
    }
}

/// Our migrations, and one that fails after it has written.
struct Broken;

struct Fails;

impl MigrationName for Fails {
    fn name(&self) -> &str {
        "m9999_fails"
    }
}

#[async_trait]
impl MigrationTrait for Fails {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("CREATE TABLE half (id integer)").await?;
        manager.get_connection().execute_unprepared("CREATE TABLE half (id integer)").await.map(drop)
    }
}

impl TenantSchema for Broken {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations = ReferenceSchema::migrations();
        migrations.push(Box::new(Fails));
        migrations
    }
}

async fn a_migration_that_fails_leaves_nothing(world: World) {
    let request = NewTenantRequest {
        tenant_id_in_data_source: None,
        name: "Acme".to_owned(),
        subdomain: "acme".to_owned(),
        plan: Plan::Starter,
        data_source: None,
    };
    let error = create_tenant::<Migrator<Broken>>(&world.tenantry, request, &Actor::default()).await.unwrap_err();
    assert!(matches!(error, tenantry::Error::Migration { .. }), "{error}");
    assert!(subdomains(&world).await.is_empty());
    assert!(files(&world).is_empty());
    // The next one is not in the way of what was left.
    world.tenant("acme").await;
}

/// Trap 38: a URL that points at a neighbour's own database, at creation and at every later change, by whatever spelling.
async fn a_second_tenant_on_a_data_source_for_one_is_refused(mut world: World) {
    let place = world.place("dedicated");
    let first = world.tenant_on("acme", &place).await;
    let mut row = NewDataSource::new(place.url.clone());
    row.kind = SourceKind::Dedicated;
    let app_db = world.tenantry.app_db();
    app_db.upsert_data_source(&row, &Actor::default()).await.unwrap();
    let second = world.tenant("globex").await;

    let mut spellings = vec![place.clone()];
    if world.engine == Engine::Postgres {
        let url = DataSourceUrl::parse(&format!("{}?sslmode=disable", place.url)).unwrap();
        spellings.push(Place { url, ..place.clone() });
    }
    for spelling in spellings {
        let error = world.try_tenant("initech", Some(&spelling)).await.unwrap_err();
        let told = tenantry_data_source::with_causes(&error);
        assert!(told.contains("holds tenant") || told.contains("exists already"), "{told}");
        let keys = second.data_source_anon_key.clone().zip(second.data_source_service_key.clone());
        let (anon_key, service_key) = keys.map(|(anon, service)| (anon.into_string(), service.into_string())).unzip();
        let placement = NewPlacement { url: Some(spelling.url), anon_key, service_key, ..NewPlacement::default() };
        let error = app_db.place(second.id, second.placement_epoch, &placement, &Actor::default()).await.unwrap_err();
        assert!(error.to_string().contains(&format!("holds tenant {}", first.id)), "{error}");
    }
    assert_eq!(subdomains(&world).await, ["acme", "globex"]);
    let mut shared = NewDataSource::new(second.data_source_url.unwrap().parse().unwrap());
    shared.kind = SourceKind::Customer;
    app_db.upsert_data_source(&shared, &Actor::default()).await.unwrap();
    let third = match world.engine {
        Engine::Postgres => world.shared(),
        Engine::Sqlite => Place { url: shared.url, logins: None },
    };
    let told = tenantry_data_source::with_causes(&world.try_tenant("initech", Some(&third)).await.unwrap_err());
    assert!(told.contains(&format!("holds tenant {}", second.id)) || told.contains("exists already"), "{told}");
}

/// A request that is cancelled midway, at any moment: a tenant that can be seen can be served.
async fn a_creation_that_is_dropped_leaves_no_half_made_tenant(world: World) {
    // Migrated once, so that the moments lie close together on both engines.
    world.tenant("template").await;
    let mut created = 0;
    for round in 0_u64..24 {
        let subdomain = format!("tenant-{round}");
        let patience = std::time::Duration::from_millis(round * round / 3);
        let done = tokio::time::timeout(patience, world.try_tenant(&subdomain, None)).await;
        if let Ok(done) = done {
            done.unwrap();
            created += 1;
        }
    }
    let tenants = world.tenantry.app_db().tenants().await.unwrap();
    assert!(tenants.len() > created, "the template at least");
    for tenant in tenants {
        let test = world.tenantry.manager().test_connection(tenant.id).await;
        assert!(test.passed(), "{}: {test:?}", tenant.subdomain);
        write(&world.tenantry.tenant(tenant.id).await.unwrap(), "works").await.unwrap();
    }
}

/// Each step that a new tenant's logins and server can fail at.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_does_not_work_creates_nothing() {
    let mut world = World::postgres().await;
    let place = world.place("own");
    let logins = place.logins.clone().unwrap();
    let wrong = |login: &Login| Login::new(&login.user, "wrong".to_owned()).unwrap();
    let nobody = Login::new("nobody", "wrong".to_owned()).unwrap();
    let with = |restricted: Login, service: Login| Some(Logins { restricted, service });
    let unreachable = DataSourceUrl::parse("postgresql://127.0.0.1:1/crm").unwrap();
    let missing = DataSourceUrl::parse(&format!("{}-missing", place.url)).unwrap();
    for (what, url, logins, told) in [
        ("unknown role", place.url.clone(), with(nobody, logins.service.clone()), "nobody"),
        ("one login", place.url.clone(), with(logins.service.clone(), logins.service.clone()), "service role itself"),
        ("no logins", place.url.clone(), None, "needs a restricted and a service login"),
        (
            "nothing listens",
            unreachable,
            with(logins.restricted.clone(), logins.service.clone()),
            "nothing answers there",
        ),
        ("no such database", missing, with(logins.restricted.clone(), logins.service.clone()), "does not exist"),
        (
            "service",
            place.url.clone(),
            with(logins.restricted.clone(), wrong(&logins.service)),
            "the login was refused",
        ),
        (
            "restricted",
            place.url.clone(),
            with(wrong(&logins.restricted), logins.service.clone()),
            "the login was refused",
        ),
    ] {
        let error = world.try_tenant("acme", Some(&Place { url, logins })).await.unwrap_err();
        let cause = tenantry_data_source::with_causes(&error);
        assert!(cause.contains(told), "{what}: {cause}");
        assert!(!cause.contains("wrong"), "{what}: the password is not repeated: {cause}");
        assert!(subdomains(&world).await.is_empty(), "{what}");
    }
    // A role that policies do not hold back.
    let database = world.databases.last().unwrap();
    let role = format!("\"{}\"", logins.restricted.user);
    database.psql(&database.superuser, &format!("ALTER ROLE {role} BYPASSRLS")).unwrap();
    let error = world.try_tenant("acme", Some(&place)).await.unwrap_err();
    assert!(tenantry_data_source::with_causes(&error).contains("bypass"), "{error:?}");
    assert!(subdomains(&world).await.is_empty());
    database.psql(&database.superuser, &format!("ALTER ROLE {role} NOBYPASSRLS")).unwrap();
    assert_eq!(login_of(&database.restricted), logins.restricted);
    world.tenant_on("acme", &place).await;
}

/// A file that is there may hold another tenant's rows (trap 36): it is neither taken nor touched, nor is what a symbolic
/// link leads to.
#[tokio::test(flavor = "multi_thread")]
async fn an_existing_file_is_never_taken() {
    let mut world = World::sqlite().await;
    let place = world.place("existing");
    let path = place.url.sqlite_path().unwrap().to_owned();
    std::fs::write(&path, "somebody's").unwrap();
    let link = world.directory.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let dangling = world.directory.path().join("dangling.db");
    std::os::unix::fs::symlink(world.directory.path().join("elsewhere.db"), &dangling).unwrap();
    let linked = |path: &Path| format!("sqlite:{}", path.display()).parse().unwrap();
    for url in [place.url.clone(), linked(&link), linked(&dangling)] {
        let error = world.try_tenant("acme", Some(&Place { url, logins: None })).await.unwrap_err();
        assert!(matches!(error, tenantry::Error::FileExists(_)), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "somebody's");
    }
    assert!(subdomains(&world).await.is_empty());
    for text in ["sqlite::memory:", "sqlite:", "sqlite:dir/", "sqlite:a.db?mode=memory", "sqlite:a\0.db", "sqlite:/"] {
        assert!(DataSourceUrl::parse(text).is_err(), "{text}");
    }
}
