//! The store and the typed access on an SQLite file.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::error::Error as _;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, Query};
use sea_orm::{ActiveValue::Set, ColumnTrait, IntoActiveModel, Order};
use serde_json::json;
use tempfile::TempDir;
use tenantry_connection::{Actor, DataSourceUrl, Engine, Mode, Pool, PoolOptions, Session};
use uuid::Uuid;

use crate::entities::{Hidden, PoolerMode, SourceKind, TenantStatus, audit_log, data_sources, tenants, users};
use crate::{AppDb, AuditEntry, Error, NewDataSource, NewPlacement, NewTenant, Refusal};

mod transfers;

const SEALED: &str = "v1:default:aXZpdml2:dGFndGFn:c2VhbGVk";

struct World {
    app_db: AppDb,
    pool: Pool,
    _folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = DataSourceUrl::parse(&format!("sqlite:{}/app.db", folder.path().display())).unwrap();
        let pool = Pool::new(&url, None, &PoolOptions { create_if_missing: true, ..PoolOptions::default() }).unwrap();
        let world = Self { app_db: AppDb::new(pool.clone()), pool, _folder: folder };
        // The session table is part of the schema, so the first transaction carries no session.
        world.sql(include_str!("tests/schema.sql")).await;
        world
    }

    async fn sql(&self, sql: &str) {
        let mut transaction = self.pool.begin(&Session::default(), Mode::Write).await.unwrap();
        transaction.execute_raw_sql(sql).await.unwrap();
        transaction.commit().await.unwrap();
    }

    async fn tenant(&self, subdomain: &str) -> Uuid {
        let new = NewTenant::new(subdomain.to_uppercase(), subdomain);
        self.app_db.create_tenant(&new, &system()).await.unwrap().id
    }

    async fn epoch(&self, tenant: Uuid) -> i64 {
        self.app_db.placement(tenant).await.unwrap().unwrap().epoch
    }

    async fn place(&self, tenant: Uuid, url: &str) -> Result<i64, Error> {
        let epoch = self.epoch(tenant).await;
        self.app_db.place(tenant, epoch, &at(url), &system()).await
    }

    async fn declare(&self, url: &str, kind: SourceKind) -> Result<data_sources::Model, Error> {
        let new = NewDataSource { kind, ..NewDataSource::new(parse(url)) };
        self.app_db.upsert_data_source(&new, &system()).await
    }
}

fn system() -> Actor {
    Actor::default()
}

fn parse(url: &str) -> DataSourceUrl {
    DataSourceUrl::parse(url).unwrap()
}

/// Placed there, with logins where the engine has them.
fn at(url: &str) -> NewPlacement {
    let key = (parse(url).engine() == Engine::Postgres).then(|| SEALED.to_owned());
    NewPlacement { url: Some(parse(url)), anon_key: key.clone(), service_key: key, ..NewPlacement::default() }
}

fn new_user(tenant: Uuid, email: &str) -> users::ActiveModel {
    users::ActiveModel { tenant_id: Set(tenant), email: Set(email.to_owned()), ..Default::default() }
}

#[tokio::test]
async fn rows_are_inserted_read_changed_and_deleted() {
    let World { app_db, .. } = &World::new().await;
    let tenant = app_db.create_tenant(&NewTenant::new("Acme", "acme"), &system()).await.unwrap().id;
    for email in ["c@acme.test", "a@acme.test", "b@acme.test"] {
        app_db.insert(&system(), new_user(tenant, email)).await.unwrap();
    }
    let page = app_db.find::<users::Entity>().order_by(users::Column::Email, Order::Asc).limit(2).offset(1);
    let emails: Vec<String> = page.all().await.unwrap().into_iter().map(|user| user.email).collect();
    assert_eq!(emails, ["b@acme.test", "c@acme.test"]);
    let of_tenant = || app_db.find::<users::Entity>().filter(users::Column::TenantId.eq(tenant));
    assert_eq!(of_tenant().count().await.unwrap(), 3);
    assert_eq!(of_tenant().filter(users::Column::Email.eq("none")).count().await.unwrap(), 0);

    let user = of_tenant().filter(users::Column::Email.eq("a@acme.test")).one().await.unwrap().unwrap();
    let id = user.id;
    let last_login: DateTime<Utc> = "2026-03-04T05:06:07.123456Z".parse().unwrap();
    let change = users::ActiveModel {
        last_login: Set(Some(last_login)),
        permissions: Set(json!({ "export": true })),
        password_hash: Set(Some("$argon2id$x".into())),
        ..user.clone().into_active_model()
    };
    let changed = app_db.update(&system(), change).await.unwrap();
    assert_eq!(changed.last_login, Some(last_login));
    assert_eq!(changed.permissions, json!({ "export": true }));
    assert_eq!(changed.email, user.email);
    // Regression: RETURNING shows the row as it was before an AFTER trigger.
    assert!(changed.updated_at > user.updated_at);

    assert!(app_db.delete::<users::Entity>(&system(), id).await.unwrap());
    assert!(!app_db.delete::<users::Entity>(&system(), id).await.unwrap());
    let gone = users::ActiveModel { id: Set(id), status: Set(users::UserStatus::Inactive), ..Default::default() };
    assert!(matches!(app_db.update(&system(), gone).await, Err(Error::NoRow { .. })));
    let without_key = users::ActiveModel { status: Set(users::UserStatus::Inactive), ..Default::default() };
    assert!(matches!(app_db.update(&system(), without_key).await, Err(Error::Build { .. })));
}

/// Business tables may share the database while a single database is being split.
#[tokio::test]
async fn a_condition_does_not_reach_a_business_table() {
    let World { app_db, .. } = &World::new().await;
    let accounts = Query::select().column("tenant_id").from("accounts").take();
    let query = app_db.find::<users::Entity>().filter(users::Column::TenantId.in_subquery(accounts));
    let error = query.all().await.unwrap_err();
    assert_eq!(error.to_string(), "the statement on users is refused");
    assert_eq!(
        error.source().unwrap().to_string(),
        "it reaches the table accounts, which is not part of the application database"
    );
    let text = app_db.find::<users::Entity>().filter(Expr::cust("1 IN (SELECT 1 FROM accounts)"));
    assert!(matches!(text.count().await, Err(Error::Refused { source: Refusal::UnknownWord(_), .. })));
}

/// The rules of these tables reach beyond a row, so a generic write would go round them.
#[tokio::test]
async fn what_has_rules_is_not_written_generically() {
    let world = World::new().await;
    let app_db = &world.app_db;
    let id = world.tenant("acme").await;
    let tenant = app_db.tenant(id).await.unwrap().unwrap();

    let renamed = tenants::ActiveModel { name: Set("New".to_owned()), ..tenant.clone().into_active_model() };
    assert_eq!(app_db.update(&system(), renamed).await.unwrap().name, "New");
    for change in [
        tenants::ActiveModel { data_source_url: Set(None), ..tenant.clone().into_active_model() },
        tenants::ActiveModel { data_source_anon_key: Set(None), ..tenant.clone().into_active_model() },
        tenants::ActiveModel { tenant_id_in_data_source: Set(None), ..tenant.clone().into_active_model() },
        tenants::ActiveModel { placement_epoch: Set(7), ..tenant.clone().into_active_model() },
    ] {
        assert!(matches!(app_db.update(&system(), change).await, Err(Error::Reserved { table: "tenants", .. })));
    }
    assert!(matches!(app_db.delete::<tenants::Entity>(&system(), id).await, Err(Error::Reserved { .. })));
    assert!(matches!(app_db.insert(&system(), tenant.into_active_model()).await, Err(Error::Reserved { .. })));
    assert!(matches!(app_db.delete::<data_sources::Entity>(&system(), "x").await, Err(Error::Reserved { .. })));
    let entry = app_db.audit_entries(Some(id), 1).await.unwrap().remove(0);
    let change = audit_log::ActiveModel { action: Set("x".to_owned()), ..entry.clone().into_active_model() };
    assert!(matches!(app_db.update(&system(), change).await, Err(Error::Reserved { .. })));
    assert!(matches!(app_db.delete::<audit_log::Entity>(&system(), entry.id).await, Err(Error::Reserved { .. })));
}

#[tokio::test]
async fn a_placement_is_one_record_of_tenant_and_data_source() {
    let world = World::new().await;
    let app_db = &world.app_db;
    let tenant = world.tenant("acme").await;
    let nowhere = app_db.placement(tenant).await.unwrap().unwrap();
    assert_eq!((nowhere.epoch, nowhere.url, nowhere.source), (0, None, None));
    assert_eq!((nowhere.pool_min, nowhere.pool_max, nowhere.status), (2, 10, TenantStatus::Active));
    assert_eq!(app_db.placement(Uuid::new_v4()).await.unwrap(), None);

    let placement = NewPlacement {
        region: Some("us-east-1".to_owned()),
        tenant_id_in_data_source: Some("42".to_owned()),
        notes: Some("moved by hand".to_owned()),
        ..at("postgresql://db/crm")
    };
    assert_eq!(app_db.place(tenant, 0, &placement, &system()).await.unwrap(), 1);
    let placed = app_db.placement(tenant).await.unwrap().unwrap();
    assert_eq!(placed.url.as_deref(), Some("postgresql://db:5432/crm"));
    assert_eq!(placed.source, None);
    assert_eq!(placed.anon_key.as_deref(), Some(SEALED));
    assert_eq!((placed.tenant_id_in_data_source.as_deref(), placed.epoch), (Some("42"), 1));

    let source = NewDataSource {
        pooler_mode: PoolerMode::Transaction,
        direct_url: Some(parse("postgresql://db:5433/crm")),
        max_connections: 40,
        settings: json!({ "statement_timeout_ms": 5000 }),
        ..NewDataSource::new(parse("postgresql://db/crm"))
    };
    let written = app_db.upsert_data_source(&source, &system()).await.unwrap();
    let placed = app_db.placement(tenant).await.unwrap().unwrap();
    assert_eq!(placed.source, Some(written));
    assert_eq!(app_db.data_source(&source.url).await.unwrap(), placed.source);
    assert_eq!(app_db.data_sources().await.unwrap().len(), 1);

    // Placed again without notes: an administrator's notes stay, all else is replaced.
    assert_eq!(app_db.place(tenant, 1, &at("sqlite:/tmp/a.db"), &system()).await.unwrap(), 2);
    let tenant = app_db.tenant(tenant).await.unwrap().unwrap();
    assert_eq!(tenant.data_source_notes.as_deref(), Some("moved by hand"));
    assert_eq!((tenant.data_source_anon_key, tenant.tenant_id_in_data_source), (None, None));
}

/// Regression: two movers of one tenant overwrote each other; the later one sent it to where its rows no longer were.
#[tokio::test]
async fn a_stale_epoch_changes_nothing() {
    let world = World::new().await;
    let app_db = &world.app_db;
    let tenant = world.tenant("acme").await;
    world.place(tenant, "sqlite:/tmp/first.db").await.unwrap();
    let error = app_db.place(tenant, 0, &at("sqlite:/tmp/second.db"), &system()).await.unwrap_err();
    assert!(matches!(error, Error::Moved { expected: 0, found: 1, .. }), "{error:?}");
    assert!(!error.is_retryable());
    let error = app_db.replace_credentials(tenant, 0, None, Some(SEALED.to_owned()), &system()).await.unwrap_err();
    assert!(matches!(error, Error::Moved { .. }));
    let record = app_db.placement(tenant).await.unwrap().unwrap();
    assert!(record.url.unwrap().ends_with("first.db") && record.service_key.is_none());

    let unknown = Uuid::new_v4();
    let error = app_db.place(unknown, 0, &at("sqlite:/tmp/first.db"), &system()).await.unwrap_err();
    assert!(matches!(error, Error::UnknownTenant { tenant } if tenant == unknown));
}

#[tokio::test]
async fn logins_are_replaced_one_by_one() {
    let world = World::new().await;
    let app_db = &world.app_db;
    let tenant = world.tenant("acme").await;
    world.place(tenant, "postgresql://db/crm").await.unwrap();
    let other = "v1:default:aXZpdml2:dGFndGFn:b3RoZXI=";
    let epoch = app_db.replace_credentials(tenant, 1, None, Some(other.to_owned()), &system()).await.unwrap();
    let record = app_db.placement(tenant).await.unwrap().unwrap();
    assert_eq!((record.anon_key.as_deref(), record.service_key.as_deref()), (Some(SEALED), Some(other)));
    assert_eq!((epoch, record.epoch), (2, 2));
    let plain = app_db.replace_credentials(tenant, 2, Some("app:password".to_owned()), None, &system()).await;
    assert!(matches!(plain, Err(Error::InvalidPlacement { .. })));
}

/// Trap: the rival checked when a database was registered only, so an edit pointed a tenant at a neighbour's.
#[tokio::test]
async fn a_data_source_for_one_tenant_gets_no_second() {
    for kind in [SourceKind::Dedicated, SourceKind::Customer] {
        let world = World::new().await;
        let (first, second) = (world.tenant("first").await, world.tenant("second").await);
        let source = NewDataSource {
            kind,
            direct_url: Some(parse("postgresql://db:5433/crm")),
            ..NewDataSource::new(parse("postgresql://pooler:6432/crm"))
        };
        world.app_db.upsert_data_source(&source, &system()).await.unwrap();
        world.place(first, "postgresql://pooler:6432/crm").await.unwrap();
        // The same database under any name that is known for it.
        for url in [
            "postgresql://pooler:6432/crm",
            "postgresql://pooler:6432/crm?sslmode=require",
            "postgresql://db:5433/crm",
            "postgresql://db:5433/crm?sslrootcert=/ca.pem",
        ] {
            let error = world.place(second, url).await.unwrap_err();
            assert!(matches!(error, Error::DedicatedTaken { holder, .. } if holder == first), "{url}: {error:?}");
            let new = NewTenant { placement: at(url), ..NewTenant::new("Third", "third") };
            let error = world.app_db.create_tenant(&new, &system()).await.unwrap_err();
            assert!(matches!(error, Error::DedicatedTaken { .. }), "{url}: {error:?}");
        }
        assert_eq!(world.epoch(second).await, 0);
        world.place(second, "postgresql://pooler:6432/crm2").await.unwrap();
        // Who is there may be placed there again, and others once it has left.
        let epoch = world.epoch(first).await;
        let renewed = at("postgresql://pooler:6432/crm?sslmode=require");
        world.app_db.place(first, epoch, &renewed, &system()).await.unwrap();
        world.place(first, "postgresql://elsewhere/crm").await.unwrap();
        world.place(second, "postgresql://pooler:6432/crm").await.unwrap();
    }
}

#[tokio::test]
async fn a_shared_data_source_with_two_tenants_does_not_become_dedicated() {
    let world = World::new().await;
    let url = "postgresql://db/crm";
    for subdomain in ["first", "second"] {
        let tenant = world.tenant(subdomain).await;
        world.place(tenant, url).await.unwrap();
    }
    let error = world.declare(url, SourceKind::Dedicated).await.unwrap_err();
    assert!(matches!(error, Error::DedicatedTaken { .. }), "{error:?}");
    let error = world.declare("postgresql://db/crm?sslmode=require", SourceKind::Dedicated).await.unwrap_err();
    assert!(matches!(error, Error::DedicatedTaken { .. }), "{error:?}");
    assert_eq!(world.declare(url, SourceKind::Shared).await.unwrap().kind, SourceKind::Shared);
}

/// Two tenants with one id in one data source would read each other's rows through policies that hold.
#[tokio::test]
async fn two_tenants_do_not_share_an_id_in_one_data_source() {
    let world = World::new().await;
    let (first, second, third) =
        (world.tenant("first").await, world.tenant("second").await, world.tenant("third").await);
    let with_id = |id: &str, url: &str| NewPlacement { tenant_id_in_data_source: Some(id.to_owned()), ..at(url) };
    let url = "postgresql://db/crm";
    world.place(first, url).await.unwrap();
    for id in [first.to_string(), first.simple().to_string().to_uppercase()] {
        let error = world.app_db.place(second, 0, &with_id(&id, url), &system()).await.unwrap_err();
        assert!(matches!(error, Error::KeyTaken { holder, .. } if holder == first), "{error:?}");
    }
    world.app_db.place(second, 0, &with_id("7", url), &system()).await.unwrap();
    let same = with_id("007", "postgresql://db/crm?sslmode=require");
    let error = world.app_db.place(third, 0, &same, &system()).await.unwrap_err();
    assert!(matches!(error, Error::KeyTaken { holder, .. } if holder == second), "{error:?}");
    world.app_db.place(third, 0, &with_id("7", "postgresql://other/crm"), &system()).await.unwrap();
}

#[tokio::test]
async fn a_contradictory_placement_is_refused() {
    let world = World::new().await;
    let tenant = world.tenant("acme").await;
    for placement in [
        NewPlacement { anon_key: Some(SEALED.to_owned()), ..at("sqlite:/tmp/a.db") },
        NewPlacement { tenant_id_in_data_source: Some(String::new()), ..at("sqlite:/tmp/a.db") },
        NewPlacement { service_key: Some("app:password".to_owned()), ..at("postgresql://db/crm") },
        NewPlacement { service_key: None, ..at("postgresql://db/crm") },
        NewPlacement { url: None, ..at("postgresql://db/crm") },
    ] {
        let result = world.app_db.place(tenant, 0, &placement, &system()).await;
        assert!(matches!(result, Err(Error::InvalidPlacement { .. })), "{placement:?}");
    }
}

#[tokio::test]
async fn a_tenant_is_created_once() {
    let world = World::new().await;
    let app_db = &world.app_db;
    let new = NewTenant { placement: at("postgresql://db/crm"), ..NewTenant::new("Acme", "Acme") };
    let created = app_db.create_tenant(&new, &Actor::user(Uuid::new_v4())).await.unwrap();
    assert_eq!((created.id, created.subdomain.as_str()), (new.id, "acme"));
    assert_eq!(app_db.tenant_by_subdomain("ACME").await.unwrap(), Some(created.clone()));
    assert_eq!(app_db.tenants().await.unwrap(), [created]);

    let error = app_db.create_tenant(&NewTenant::new("Other", "acme"), &system()).await.unwrap_err();
    assert!(matches!(error, Error::SubdomainTaken { .. }), "{error:?}");
    let again = NewTenant { id: new.id, ..NewTenant::new("Other", "other") };
    let error = app_db.create_tenant(&again, &system()).await.unwrap_err();
    assert!(matches!(error, Error::TenantExists { .. }), "{error:?}");
    let error = app_db.create_tenant(&NewTenant::new("Other", "other.test"), &system()).await.unwrap_err();
    assert!(matches!(error, Error::InvalidSubdomain { .. }), "{error:?}");
    // What failed left neither a tenant nor an audit entry.
    assert_eq!(app_db.tenants().await.unwrap().len(), 1);
    assert_eq!(app_db.audit_entries(None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn unusable_pool_limits_are_named_with_their_tenant() {
    let world = World::new().await;
    let tenant = world.tenant("acme").await;
    world.sql(r#"UPDATE tenants SET connection_pool_config = '{"min": 5, "max": 2}'"#).await;
    let error = world.app_db.placement(tenant).await.unwrap_err();
    assert_eq!(error.to_string(), format!("the connection limits of tenant {tenant} are unusable"));
    assert_eq!(
        error.source().unwrap().to_string(),
        "connection_pool_config.min is 5, above max, which is 2: lower min or raise max"
    );
}

#[tokio::test]
async fn an_audit_entry_says_who_and_never_a_secret() {
    let World { app_db, .. } = &World::new().await;
    let (tenant, user) = (Uuid::new_v4(), Uuid::new_v4());
    let actor =
        Actor { user_id: Some(user), client_ip: Some("192.0.2.1".to_owned()), user_agent: Some("test".to_owned()) };
    let entry = AuditEntry::new("login_replaced", "tenant")
        .tenant(tenant)
        .entity(tenant)
        .changes(&json!({ "after": { "anon_key": SEALED, "region": "eu" } }))
        .unwrap();
    app_db.audit(&entry, &actor).await.unwrap();
    app_db.audit(&AuditEntry::new("other", "tenant"), &system()).await.unwrap();
    let [written] = app_db.audit_entries(Some(tenant), 10).await.unwrap().try_into().unwrap();
    assert_eq!((written.user_id, written.tenant_id), (Some(user), Some(tenant)));
    assert_eq!(written.ip_address.as_deref(), Some("192.0.2.1"));
    assert_eq!(written.entity_id, Some(tenant.to_string()));
    assert_eq!(written.changes, Some(json!({ "after": { "anon_key": "(not recorded)", "region": "eu" } })));
    assert_eq!(app_db.audit_entries(None, 10).await.unwrap().len(), 2);
    assert_eq!(app_db.audit_entries(None, 1).await.unwrap().len(), 1);
}

/// Regression: a `{:?}` of a tenant in a log line printed its sealed keys.
#[tokio::test]
async fn debug_never_prints_a_sealed_key_or_a_hash() {
    let world = World::new().await;
    let tenant = world.tenant("acme").await;
    let placement = at("postgresql://db/crm");
    world.app_db.place(tenant, 0, &placement, &system()).await.unwrap();
    let model = world.app_db.tenant(tenant).await.unwrap().unwrap();
    let record = world.app_db.placement(tenant).await.unwrap().unwrap();
    let user = users::ActiveModel { password_hash: Set(Some(Hidden::from(SEALED))), ..new_user(tenant, "a@b.test") };
    let new = NewTenant { placement: placement.clone(), ..NewTenant::new("A", "a") };
    for text in [
        format!("{model:?}"),
        format!("{:?}", model.clone().into_active_model()),
        format!("{record:?}"),
        format!("{placement:?} {new:?}"),
        format!("{user:?}"),
        format!("{:?}", world.app_db.insert(&system(), user.clone()).await.unwrap()),
    ] {
        assert!(text.contains("Hidden(..)") && !text.contains(SEALED), "{text}");
    }
}

/// Every call's future goes to other threads, as a web server's do.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_placements_have_one_winner() {
    let world = World::new().await;
    let tenant = world.tenant("acme").await;
    let calls: Vec<_> = (0..8)
        .map(|number| {
            let app_db = world.app_db.clone();
            tokio::spawn(
                async move { app_db.place(tenant, 0, &at(&format!("sqlite:/tmp/{number}.db")), &system()).await },
            )
        })
        .collect();
    let mut winners = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(epoch) => {
                assert_eq!(epoch, 1);
                winners += 1;
            }
            Err(error) => assert!(matches!(error, Error::Moved { found: 1, .. }), "{error:?}"),
        }
    }
    assert_eq!(winners, 1);
}
