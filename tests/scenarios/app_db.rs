//! The application database on its migrated schema: what its store promises must hold on both engines, also while others
//! write and when someone uses psql.

use std::sync::Arc;

use sea_orm::sea_query::Query;
use sea_orm::{ActiveValue::Set, ColumnTrait, DbBackend, Order, Statement};
use sea_orm_migration::MigratorTrait;
use serde_json::json;
use tempfile::TempDir;
use tenantry_app_db::entities::{Plan, SourceKind, TenantStatus, tenants, users};
use tenantry_app_db::{AppDb, AuditEntry, Error, NewDataSource, NewPlacement, NewTenant};
use tenantry_connection::{Actor, DataSourceUrl, Engine, Mode, Pool, PoolOptions, Session};
use tenantry_credential::Login;
use tenantry_migrations::AppDbMigrator;
use tenantry_test_support::cluster::{Cluster, Database};
use tokio::sync::Barrier;
use uuid::Uuid;

const SEALED: &str = "v1:default:aXZpdml2:dGFndGFn:c2VhbGVk";
const OTHER: &str = "v1:default:aXZpdml2:dGFndGFn:b3RoZXI=";

/// A migrated application database. What it is made of lives as long as it does.
struct World {
    app_db: AppDb,
    pool: Pool,
    _database: Option<Database>,
    _folder: Option<TempDir>,
}

impl World {
    /// One on each engine.
    async fn both(name: &str) -> [Self; 2] {
        [Self::postgres(name).await, Self::sqlite().await]
    }

    async fn postgres(name: &str) -> Self {
        let database = Cluster::shared().unwrap().create_database(name).unwrap();
        let login = Login::new(&database.service.user, database.service.password.clone()).unwrap();
        let url = DataSourceUrl::parse(&database.url()).unwrap();
        let pool = Pool::new(&url, Some(&login), &PoolOptions::default()).unwrap();
        Self::migrated(pool, Some(&login), Some(database), None).await
    }

    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = DataSourceUrl::parse(&format!("sqlite:{}/app.db", folder.path().display())).unwrap();
        let options = PoolOptions { create_if_missing: true, ..PoolOptions::default() };
        Self::migrated(Pool::new(&url, None, &options).unwrap(), None, None, Some(folder)).await
    }

    async fn migrated(pool: Pool, login: Option<&Login>, database: Option<Database>, folder: Option<TempDir>) -> Self {
        let connection = pool.migration_connection(login).await.unwrap();
        AppDbMigrator::up(&connection, None).await.unwrap();
        connection.close().await.unwrap();
        Self { app_db: AppDb::new(pool.clone()), pool, _database: database, _folder: folder }
    }

    fn engine(&self) -> Engine {
        self.app_db.engine()
    }

    async fn tenant(&self, subdomain: &str) -> Uuid {
        self.app_db.create_tenant(&NewTenant::new(subdomain, subdomain), &system()).await.unwrap().id
    }

    async fn epoch(&self, tenant: Uuid) -> i64 {
        self.app_db.placement(tenant).await.unwrap().unwrap().epoch
    }

    async fn place(&self, tenant: Uuid, url: &str) -> Result<i64, Error> {
        self.app_db.place(tenant, self.epoch(tenant).await, &at(url), &system()).await
    }

    async fn declare(&self, url: &str, kind: SourceKind) -> Result<(), Error> {
        let new = NewDataSource { kind, ..NewDataSource::new(DataSourceUrl::parse(url).unwrap()) };
        self.app_db.upsert_data_source(&new, &system()).await.map(drop)
    }

    /// As someone with psql or sqlite3 would.
    async fn by_hand(&self, sql: &str) -> Result<u64, tenantry_connection::Error> {
        let backend = match self.engine() {
            Engine::Postgres => DbBackend::Postgres,
            Engine::Sqlite => DbBackend::Sqlite,
        };
        let mut transaction = self.pool.begin(&Session::default(), Mode::Write).await.unwrap();
        let affected = transaction.execute(Statement::from_string(backend, sql)).await?;
        transaction.commit().await?;
        Ok(affected)
    }
}

fn system() -> Actor {
    Actor::default()
}

/// Placed on that PostgreSQL, with both logins.
fn at(url: &str) -> NewPlacement {
    NewPlacement {
        url: Some(DataSourceUrl::parse(url).unwrap()),
        anon_key: Some(SEALED.to_owned()),
        service_key: Some(SEALED.to_owned()),
        ..NewPlacement::default()
    }
}

/// Two movers of one tenant: the slower one would send it to where its rows no longer are.
#[tokio::test(flavor = "multi_thread")]
async fn of_concurrent_placements_one_wins_and_the_rest_are_told() {
    for world in World::both("place").await {
        let tenant = world.tenant("acme").await;
        let start = world.epoch(tenant).await;
        let calls: Vec<_> = (0..8)
            .map(|number| {
                let app_db = world.app_db.clone();
                let placement = at(&format!("postgresql://db-{number}.test/crm"));
                tokio::spawn(async move { app_db.place(tenant, start, &placement, &system()).await })
            })
            .collect();
        let mut winners = 0;
        for call in calls {
            match call.await.unwrap() {
                Ok(epoch) => {
                    assert!(epoch > start);
                    winners += 1;
                }
                Err(error) => assert!(matches!(error, Error::Moved { expected, .. } if expected == start), "{error:?}"),
            }
        }
        assert_eq!(winners, 1, "{}", world.engine());
    }
}

#[tokio::test]
async fn every_change_of_placement_raises_the_epoch_and_nothing_else_does() {
    for world in World::both("epoch").await {
        let tenant = world.tenant("acme").await;
        let start = world.epoch(tenant).await;
        let placed = world.place(tenant, "postgresql://db.test/crm").await.unwrap();
        assert!(placed > start);
        assert_eq!(placed, world.epoch(tenant).await);
        // The same placement once more changes nothing.
        assert_eq!(world.place(tenant, "postgresql://db.test/crm").await.unwrap(), placed);
        let rotated =
            world.app_db.replace_credentials(tenant, placed, Some(OTHER.to_owned()), None, &system()).await.unwrap();
        assert!(rotated > placed);
        let renamed = tenants::ActiveModel { id: Set(tenant), name: Set("New".to_owned()), ..Default::default() };
        let renamed = world.app_db.update(&system(), renamed).await.unwrap();
        assert_eq!((renamed.name.as_str(), renamed.placement_epoch), ("New", rotated));
        // Also by hand, so that a mover's compare-and-set sees it.
        world.by_hand("UPDATE tenants SET data_source_url = NULL, data_source_anon_key = NULL, data_source_service_key = NULL").await.unwrap();
        assert!(world.epoch(tenant).await > rotated);
        let stale = world.app_db.place(tenant, rotated, &at("postgresql://db.test/crm"), &system()).await;
        assert!(matches!(stale, Err(Error::Moved { .. })), "{stale:?}");
    }
}

/// A login without a data source would be taken for that of the next one.
#[tokio::test]
async fn a_tenant_without_a_data_source_is_given_no_login() {
    for world in World::both("login").await {
        let tenant = world.tenant("acme").await;
        let epoch = world.epoch(tenant).await;
        let key = Some(SEALED.to_owned());
        let error = world.app_db.replace_credentials(tenant, epoch, key.clone(), key, &system()).await.unwrap_err();
        assert!(matches!(error, Error::InvalidPlacement { .. }), "{}: {error:?}", world.engine());
        assert_eq!(world.epoch(tenant).await, epoch);
    }
}

/// Trap 38, under load: whoever comes second must be refused, whichever it is and however close they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_dedicated_data_source_takes_one_of_many_at_once() {
    for world in World::both("dedicated").await {
        let source = NewDataSource {
            kind: SourceKind::Dedicated,
            direct_url: at("postgresql://direct.test/crm").url,
            ..NewDataSource::new(DataSourceUrl::parse("postgresql://pooler.test/crm").unwrap())
        };
        world.app_db.upsert_data_source(&source, &system()).await.unwrap();
        let mut tenants = Vec::new();
        for number in 0..9 {
            tenants.push(world.tenant(&format!("tenant-{number}")).await);
        }
        let start = world.epoch(tenants[0]).await;
        // Under every URL of the one database, and all at once.
        let urls = [
            "postgresql://pooler.test/crm",
            "postgresql://pooler.test/crm?sslmode=require",
            "postgresql://direct.test/crm",
        ];
        let together = Arc::new(Barrier::new(tenants.len()));
        let calls: Vec<_> = tenants
            .into_iter()
            .zip(urls.into_iter().cycle())
            .map(|(tenant, url)| {
                let (app_db, together) = (world.app_db.clone(), together.clone());
                tokio::spawn(async move {
                    together.wait().await;
                    app_db.place(tenant, start, &at(url), &system()).await
                })
            })
            .collect();
        let mut placed = 0;
        for call in calls {
            match call.await.unwrap() {
                Ok(_) => placed += 1,
                Err(error) => assert!(matches!(error, Error::DedicatedTaken { .. }), "{error:?}"),
            }
        }
        assert_eq!(placed, 1, "{}", world.engine());
        let there = world.app_db.find::<tenants::Entity>().filter(tenants::Column::DataSourceUrl.is_not_null());
        assert_eq!(there.count().await.unwrap(), 1);
    }
}

/// The URL has no row yet, so there is no row to lock: two placements and the declaration race.
#[tokio::test(flavor = "multi_thread")]
async fn declaring_a_data_source_dedicated_races_with_placements_and_none_slips_through() {
    for world in World::both("declare").await {
        for round in 0..10 {
            let url = format!("postgresql://db-{round}.test/crm");
            let mut calls = Vec::new();
            for number in 0..2 {
                let tenant = world.tenant(&format!("tenant-{round}-{number}")).await;
                let (app_db, url, epoch) = (world.app_db.clone(), url.clone(), world.epoch(tenant).await);
                calls.push(tokio::spawn(
                    async move { app_db.place(tenant, epoch, &at(&url), &system()).await.map(drop) },
                ));
            }
            let new = NewDataSource {
                kind: SourceKind::Dedicated,
                ..NewDataSource::new(DataSourceUrl::parse(&url).unwrap())
            };
            let app_db = world.app_db.clone();
            calls.push(tokio::spawn(async move { app_db.upsert_data_source(&new, &system()).await.map(drop) }));
            for call in calls {
                if let Err(error) = call.await.unwrap() {
                    assert!(matches!(error, Error::DedicatedTaken { .. }), "{error:?}");
                }
            }
            let there = world
                .app_db
                .find::<tenants::Entity>()
                .filter(tenants::Column::DataSourceUrl.eq(at(&url).url.unwrap().as_str()));
            let declared = world.app_db.data_source(&at(&url).url.unwrap()).await.unwrap().is_some();
            assert!(
                !declared || there.count().await.unwrap() <= 1,
                "{}: two tenants in a dedicated data source",
                world.engine()
            );
        }
    }
}

#[tokio::test]
async fn two_tenants_never_share_an_id_in_one_data_source() {
    for world in World::both("key").await {
        let (first, second) = (world.tenant("first").await, world.tenant("second").await);
        let url = "postgresql://shared.test/crm";
        world.place(first, url).await.unwrap();
        let disguised = NewPlacement { tenant_id_in_data_source: Some(first.to_string()), ..at(url) };
        let error = world.app_db.place(second, world.epoch(second).await, &disguised, &system()).await.unwrap_err();
        assert!(matches!(error, Error::KeyTaken { holder, .. } if holder == first), "{error:?}");
        world.place(second, url).await.unwrap();
    }
}

#[tokio::test]
async fn a_tenant_that_could_not_be_created_leaves_nothing() {
    for world in World::both("create").await {
        let app_db = &world.app_db;
        let url = "postgresql://dedicated.test/crm";
        world.declare(url, SourceKind::Dedicated).await.unwrap();
        let new = NewTenant {
            plan: Plan::Enterprise,
            status: TenantStatus::Suspended,
            placement: at(url),
            ..NewTenant::new("Acme", "Acme")
        };
        let created = app_db.create_tenant(&new, &system()).await.unwrap();
        assert_eq!((created.id, created.subdomain.as_str(), created.plan), (new.id, "acme", Plan::Enterprise));
        assert_eq!(created.data_source_anon_key.as_deref(), Some(SEALED));
        let entries = app_db.audit_entries(None, 100).await.unwrap().len();

        let refused = [
            (NewTenant { placement: at(url), ..NewTenant::new("B", "b") }, "is a dedicated data source"),
            (NewTenant::new("B", "ACME"), "the subdomain acme is taken"),
            (NewTenant { id: new.id, ..NewTenant::new("B", "b") }, "exists already"),
            (NewTenant::new("B", "b_"), "is no subdomain"),
        ];
        for (new, message) in refused {
            let error = app_db.create_tenant(&new, &system()).await.unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
        }
        assert_eq!(app_db.tenants().await.unwrap().len(), 1, "{}", world.engine());
        assert_eq!(app_db.audit_entries(None, 100).await.unwrap().len(), entries);
    }
}

#[tokio::test]
async fn the_audit_log_says_who_moved_a_tenant_and_holds_no_key() {
    for world in World::both("audit").await {
        let actor = Actor {
            user_id: Some(Uuid::new_v4()),
            client_ip: Some("192.0.2.7".to_owned()),
            user_agent: Some("O'Hara \\ 1.0".to_owned()),
        };
        let tenant = world.tenant("acme").await;
        let other = world.tenant("other").await;
        let placement = at("postgresql://db.test/crm");
        world.app_db.place(tenant, world.epoch(tenant).await, &placement, &actor).await.unwrap();
        let entry = AuditEntry::new("looked_at", "tenant").tenant(tenant).entity(tenant);
        let entry = entry.changes(&json!({ "service_key": SEALED, "reason": "support" })).unwrap();
        world.app_db.audit(&entry, &actor).await.unwrap();

        let entries = world.app_db.audit_entries(Some(tenant), 10).await.unwrap();
        let by_actor: Vec<_> = entries.iter().filter(|entry| entry.user_id == actor.user_id).collect();
        assert_eq!(by_actor.len(), 2, "{}: {entries:#?}", world.engine());
        for entry in by_actor {
            assert_eq!(entry.ip_address, actor.client_ip);
            assert_eq!(entry.user_agent, actor.user_agent);
            assert_eq!(entry.entity_id, Some(tenant.to_string()));
            assert!(!entry.changes.as_ref().unwrap().to_string().contains(SEALED));
        }
        assert!(world.app_db.audit_entries(Some(other), 10).await.unwrap().iter().all(|entry| entry.user_id.is_none()));
        // Nor does anyone rewrite it, with whatever client.
        assert!(world.by_hand("UPDATE audit_log SET action = 'nothing'").await.is_err());
        assert!(world.by_hand("DELETE FROM audit_log").await.is_err());
    }
}

/// While a single database is being split, business tables lie beside the application's.
#[tokio::test]
async fn a_business_table_beside_the_application_s_is_out_of_reach() {
    for world in World::both("beside").await {
        world.by_hand("CREATE TABLE accounts (tenant_id text)").await.unwrap();
        let accounts = Query::select().column("tenant_id").from("accounts").take();
        let query = world.app_db.find::<users::Entity>().filter(users::Column::Email.in_subquery(accounts));
        assert!(matches!(query.all().await, Err(Error::Refused { .. })));
    }
}

#[tokio::test]
async fn users_are_written_and_read_in_a_stated_order() {
    for world in World::both("users").await {
        let tenant = world.tenant("acme").await;
        for (email, name) in [("a@acme.test", Some("Zoë")), ("b@acme.test", None), ("c@acme.test", Some("Anna"))] {
            let user = users::ActiveModel {
                tenant_id: Set(tenant),
                email: Set(email.to_owned()),
                first_name: Set(name.map(str::to_owned)),
                password_hash: Set(Some("$argon2id$hash".into())),
                permissions: Set(json!({ "export": [1, 2.5, null] })),
                ..Default::default()
            };
            let user = world.app_db.insert(&system(), user).await.unwrap();
            assert_eq!(user.permissions, json!({ "export": [1, 2.5, null] }));
            assert!(!format!("{user:?}").contains("argon2id"));
        }
        for (order, expected) in [(Order::Asc, ["c", "a", "b"]), (Order::Desc, ["a", "c", "b"])] {
            let users = world.app_db.find::<users::Entity>().order_by(users::Column::FirstName, order);
            let emails: Vec<String> = users.all().await.unwrap().into_iter().map(|user| user.email).collect();
            // A user without a first name comes last in either direction, on both engines.
            assert_eq!(emails, expected.map(|name| format!("{name}@acme.test")), "{}", world.engine());
        }
        let duplicate =
            users::ActiveModel { tenant_id: Set(tenant), email: Set("A@acme.test".to_owned()), ..Default::default() };
        let error = world.app_db.insert(&system(), duplicate).await.unwrap_err();
        let Error::Database { source: tenantry_connection::Error::UniqueViolation { .. }, .. } = error else {
            panic!("{error:?}");
        };
        let id = world.app_db.find::<users::Entity>().one().await.unwrap().unwrap().id;
        assert!(world.app_db.delete::<users::Entity>(&system(), id).await.unwrap());
        assert_eq!(world.app_db.find::<users::Entity>().count().await.unwrap(), 2);
    }
}
