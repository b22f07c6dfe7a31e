//! A tenant is fenced and moved by another process: what becomes of the writes of this one, which has cached the old place.

use std::time::{Duration, Instant};

use sea_orm::ActiveValue::Set;
use tenantry::Tenantry;
use tenantry_connection::{Actor, Engine, Error as ConnectionError};
use tenantry_data_source::{Error as DataSourceError, RouteError, TenantDb, TenantHandle};
use tenantry_entities::accounts;
use tenantry_repository::{Error, Query, Repository, RepositoryExt};
use uuid::Uuid;

use super::{caches::sealed_placement, names, write};
use crate::world::{Place, World, on_both_engines};

on_both_engines!(
    every_write_of_a_stale_handle_lands_once_in_the_new_place,
    who_wrote_in_the_new_place_finds_it_there_under_its_own_name,
    a_tenant_with_another_id_in_the_new_place_is_written_under_that,
    a_write_waits_for_the_end_of_the_move,
    a_write_goes_on_in_the_old_place_when_the_fence_is_lowered,
    the_target_s_fence_is_waited_for_as_well,
    patience_ends_with_the_fence_s_error,
    an_open_transaction_is_told_that_the_tenant_has_moved,
    a_tenant_that_is_suspended_meanwhile_is_refused_as_such,
);

/// Long enough for a busy machine: what waits so long waits for ever.
const LONG: Duration = Duration::from_secs(60);

/// A tenant in one place, and another place that is migrated and empty.
struct Move {
    world: World,
    tenant: Uuid,
    old: Place,
    new: Place,
    /// The process that moves it.
    elsewhere: Tenantry,
    /// The process that does not know.
    here: Tenantry,
}

impl Move {
    async fn new(mut world: World, patience: Duration) -> Self {
        let (old, new) = (world.place("old"), world.place("new"));
        let tenant = world.tenant_on("acme", &old).await.id;
        // Somebody else's, so that the new place is migrated.
        world.tenant_on("globex", &new).await;
        let here = world.restarted(|settings| settings.fenced_write_patience = patience);
        let elsewhere = world.restarted(|_| {});
        Self { world, tenant, old, new, elsewhere, here }
    }

    async fn fence(&self, place: &Place, raised: bool) {
        self.fence_of(self.tenant, place, raised).await;
    }

    async fn fence_of(&self, tenant: Uuid, place: &Place, raised: bool) {
        let sql = match (self.world.engine, raised) {
            (Engine::Postgres, true) => format!("SELECT tenantry.raise_fence('{tenant}', 'moving')"),
            (Engine::Postgres, false) => format!("SELECT tenantry.lower_fence('{tenant}')"),
            (Engine::Sqlite, raised) => format!(
                "INSERT INTO tenantry_fence (tenant_id, fenced, changed_at) VALUES ('{tenant}', {0}, \
                 '2026-01-01T00:00:00.000000+00:00') ON CONFLICT (tenant_id) DO UPDATE SET fenced = {0}",
                i32::from(raised)
            ),
        };
        self.world.place_sql(place, &sql).await;
    }

    /// Another process places the tenant.
    async fn place(&self, place: &Place, id_there: Option<Uuid>) {
        let app_db = self.elsewhere.app_db();
        let epoch = app_db.tenant(self.tenant).await.unwrap().unwrap().placement_epoch;
        let mut placement = sealed_placement(place, self.tenant);
        placement.tenant_id_in_data_source = id_there.map(|id| id.to_string());
        app_db.place(self.tenant, epoch, &placement, &Actor::default()).await.unwrap();
        self.elsewhere.manager().clear_tenant(self.tenant).await;
    }

    async fn move_it(&self) {
        self.fence(&self.old, true).await;
        self.place(&self.new, None).await;
    }

    async fn db(&self) -> TenantDb {
        self.here.tenant(self.tenant).await.unwrap()
    }

    async fn accounts(&self, place: &Place) -> i64 {
        self.world.count(place, "SELECT count(*) FROM accounts").await
    }

    /// A write by a handle that leads to the old place, begun and not awaited.
    async fn writing(&self, name: &'static str) -> tokio::task::JoinHandle<Result<accounts::Model, Error>> {
        let db = self.db().await;
        let asked = self.asked().await;
        let writing = tokio::spawn(async move { write(&db, name).await });
        // It was refused, and has asked where its tenant is.
        let deadline = Instant::now() + LONG;
        while self.asked().await < asked + 2 {
            assert!(Instant::now() < deadline && !writing.is_finished(), "a refused write does not ask again");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        writing
    }

    async fn asked(&self) -> u64 {
        self.here.manager().cache_stats().await.placement_misses
    }
}

fn is_fenced(error: &Error) -> bool {
    matches!(error, Error::DataSource(DataSourceError::Connection(ConnectionError::Fenced { .. })))
}

fn account(id: Uuid, name: &str) -> accounts::ActiveModel {
    accounts::ActiveModel { id: Set(id), name: Set(name.to_owned()), ..Default::default() }
}

fn named(name: &str) -> accounts::ActiveModel {
    accounts::ActiveModel { name: Set(name.to_owned()), ..Default::default() }
}

fn repository(db: &TenantDb) -> Repository<'_, accounts::Entity, TenantDb> {
    db.repository()
}

/// Regression: a process that had cached the old place was refused until its cache expired.
async fn every_write_of_a_stale_handle_lands_once_in_the_new_place(world: World) {
    let it = Move::new(world, LONG).await;
    let ids: Vec<Uuid> = (0..8).map(|_| Uuid::new_v4()).collect();
    let rows = |prefix: &str| ids.iter().map(|id| account(*id, &format!("{prefix} {id}"))).collect::<Vec<_>>();
    let seeded = it.db().await;
    repository(&seeded).bulk_create(rows("row")).await.unwrap();
    let mut stale = Vec::new();
    for _ in 0..9 {
        // Each is told by the fence alone: none shares what another has found out.
        stale.push(it.db().await.as_user(Actor::default()));
    }
    it.move_it().await;
    // What a transfer does.
    let moved = it.elsewhere.tenant(it.tenant).await.unwrap();
    repository(&moved).bulk_create(rows("row")).await.unwrap();

    repository(&stale[0]).create(named("created")).await.unwrap();
    let updated = repository(&stale[1]).update(ids[0], named("updated")).await.unwrap();
    assert_eq!(updated.name, "updated");
    assert!(repository(&stale[2]).delete(ids[1]).await.unwrap());
    assert_eq!(repository(&stale[3]).bulk_create([named("bulk 1"), named("bulk 2")]).await.unwrap(), 2);
    assert_eq!(repository(&stale[4]).bulk_update([ids[2], ids[3]], named("bulk updated")).await.unwrap(), 2);
    let is = |id: Uuid| sea_orm::ColumnTrait::eq(&accounts::Column::Id, id);
    assert_eq!(repository(&stale[5]).bulk_update_where(is(ids[4]), named("where")).await.unwrap(), 1);
    assert_eq!(repository(&stale[6]).bulk_delete([ids[5], ids[6]]).await.unwrap(), 2);
    assert_eq!(repository(&stale[7]).bulk_delete_where(is(ids[7])).await.unwrap(), 1);
    // More rows than one statement binds values for: a transaction of the call's own.
    let many = (0..20_000).map(|number| named(&format!("many {number}")));
    assert_eq!(repository(&stale[8]).bulk_create(many).await.unwrap(), 20_000);

    let there: Vec<String> = names(&it.db().await).await.into_iter().filter(|name| !name.starts_with("many")).collect();
    assert_eq!(there, ["bulk 1", "bulk 2", "bulk updated", "bulk updated", "created", "updated", "where"]);
    assert_eq!(it.accounts(&it.new).await, 7 + 20_000);
    assert_eq!(it.world.count(&it.old, "SELECT count(*) FROM accounts WHERE name LIKE 'row %'").await, 8);
    assert_eq!(it.accounts(&it.old).await, 8, "nothing was written in the old place");
}

async fn who_wrote_in_the_new_place_finds_it_there_under_its_own_name(world: World) {
    let it = Move::new(world, LONG).await;
    let user = Uuid::new_v4();
    let db = it.db().await.as_user(Actor { user_id: Some(user), ..Actor::default() });
    let service = it.here.tenant_as_service(it.tenant, &Actor::default(), "a test").await.unwrap();
    it.move_it().await;
    let written = write(&db, "mine").await.unwrap();
    assert_eq!(names(&db).await, ["mine"], "the handle has gone where its write went");
    assert_eq!(db.begin().await.unwrap().repository::<accounts::Entity>().count(&Query::new()).await.unwrap(), 1);
    let log = db.write_log(10).await.unwrap();
    assert_eq!(log[0].row_id, written.id.to_string());
    assert_eq!(log[0].actor, Some(user.to_string()));
    write(&service, "the service's").await.unwrap();
    assert_eq!(it.accounts(&it.new).await, 2);
    assert_eq!(service.access().to_string(), "service");
}

async fn a_tenant_with_another_id_in_the_new_place_is_written_under_that(world: World) {
    let it = Move::new(world, LONG).await;
    let there = Uuid::new_v4();
    let db = it.db().await;
    let made_before = db.insert::<accounts::Entity>([named("made before")]);
    it.fence(&it.old, true).await;
    it.place(&it.new, Some(there)).await;
    write(&db, "mine").await.unwrap();
    assert_eq!(made_before.execute(&db).await.unwrap(), 1);
    assert_eq!(db.key().to_string(), there.to_string());
    let id = match it.world.engine {
        Engine::Postgres => format!("'{there}'"),
        Engine::Sqlite => format!("x'{}'", there.simple()),
    };
    let sql = format!("SELECT count(*) FROM accounts WHERE tenant_id = {id}");
    assert_eq!(it.world.count(&it.new, &sql).await, 2);
    // A query cannot be told whose rows it was made for; it is not run for somebody else's.
    let old = it.db().await;
    assert_eq!(names(&old).await, ["made before", "mine"]);
}

async fn a_write_waits_for_the_end_of_the_move(world: World) {
    let it = Move::new(world, LONG).await;
    it.db().await;
    it.fence(&it.old, true).await;
    let writing = it.writing("patient").await;
    it.place(&it.new, None).await;
    writing.await.unwrap().unwrap();
    assert_eq!((it.accounts(&it.old).await, it.accounts(&it.new).await), (0, 1));
}

async fn a_write_goes_on_in_the_old_place_when_the_fence_is_lowered(world: World) {
    let it = Move::new(world, LONG).await;
    it.db().await;
    it.fence(&it.old, true).await;
    let writing = it.writing("patient").await;
    it.fence(&it.old, false).await;
    writing.await.unwrap().unwrap();
    assert_eq!((it.accounts(&it.old).await, it.accounts(&it.new).await), (1, 0));
}

/// Between the cut over and the end of the move the tenant is fenced at both ends.
async fn the_target_s_fence_is_waited_for_as_well(world: World) {
    let it = Move::new(world, LONG).await;
    it.db().await;
    it.fence(&it.new, true).await;
    it.fence(&it.old, true).await;
    let writing = it.writing("patient").await;
    let asked = it.asked().await;
    it.place(&it.new, None).await;
    let deadline = Instant::now() + LONG;
    while it.asked().await < asked + 4 {
        assert!(Instant::now() < deadline && !writing.is_finished(), "it does not wait at the target");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    it.fence(&it.new, false).await;
    writing.await.unwrap().unwrap();
    assert_eq!((it.accounts(&it.old).await, it.accounts(&it.new).await), (0, 1));
}

async fn patience_ends_with_the_fence_s_error(world: World) {
    let it = Move::new(world, Duration::from_millis(100)).await;
    let db = it.db().await;
    it.fence(&it.old, true).await;
    let error = write(&db, "refused").await.unwrap_err();
    assert!(is_fenced(&error) && error.is_retryable(), "{error:?}");
    let at_once = it.world.restarted(|settings| settings.fenced_write_patience = Duration::ZERO);
    let impatient = at_once.tenant(it.tenant).await.unwrap();
    let error = write(&impatient, "refused").await.unwrap_err();
    assert!(is_fenced(&error) && error.is_retryable(), "{error:?}");
    assert_eq!(at_once.manager().cache_stats().await.placement_misses, 2, "it has asked once and has not waited");
    assert_eq!(it.accounts(&it.old).await, 0);
    // Without patience, but the tenant has moved already.
    it.place(&it.new, None).await;
    write(&impatient, "there").await.unwrap();
    assert_eq!(it.accounts(&it.new).await, 1);
}

async fn an_open_transaction_is_told_that_the_tenant_has_moved(world: World) {
    let it = Move::new(world, LONG).await;
    let db = it.db().await;
    // Fenced and still here: retryable, and nothing is waited for while a transaction is open.
    let transaction = db.begin().await.unwrap();
    if it.world.engine == Engine::Sqlite {
        // An SQLite file has one writer at a time, so that the fence comes before or after the whole transaction.
        transaction.rollback().await.unwrap();
        it.fence(&it.old, true).await;
        let transaction = db.begin().await.unwrap();
        assert!(is_fenced(&refused(&transaction).await));
        transaction.rollback().await.unwrap();
    } else {
        it.fence(&it.old, true).await;
        assert!(is_fenced(&refused(&transaction).await));
        transaction.rollback().await.unwrap();
    }
    let lease = db.lease().await.unwrap();
    let error = lease.repository::<accounts::Entity>().create(named("refused")).await.unwrap_err();
    assert!(is_fenced(&error) && error.is_retryable(), "{error:?}");

    it.place(&it.new, None).await;
    let transaction = db.begin().await.unwrap();
    let error = refused(&transaction).await;
    let moved =
        |error: &Error| matches!(error, Error::DataSource(DataSourceError::Moved { tenant }) if *tenant == it.tenant);
    assert!(moved(&error), "{error:?}");
    assert!(error.is_retryable());
    let after = transaction.repository::<accounts::Entity>().count(&Query::new()).await.unwrap_err();
    assert!(matches!(after, Error::DataSource(DataSourceError::TransactionFailed)), "{after:?}");
    let error = transaction.commit().await.unwrap_err();
    assert!(matches!(error, DataSourceError::TransactionFailed), "nothing passes for committed: {error:?}");

    let attempt = async || {
        db.transaction(async |transaction| {
            let accounts = transaction.repository::<accounts::Entity>();
            accounts.create(named("one")).await?;
            accounts.create(named("two")).await.map(drop)
        })
        .await
    };
    let again: Result<(), Error> = attempt().await;
    again.unwrap();
    assert_eq!(names(&it.db().await).await, ["one", "two"]);
    let error = lease.repository::<accounts::Entity>().create(named("refused")).await.unwrap_err();
    assert!(moved(&error), "{error:?}");
    assert_eq!((it.accounts(&it.old).await, it.accounts(&it.new).await), (0, 2));
}

async fn refused(transaction: &tenantry_data_source::TenantTransaction) -> Error {
    let error = transaction.repository::<accounts::Entity>().create(named("refused")).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    error
}

async fn a_tenant_that_is_suspended_meanwhile_is_refused_as_such(world: World) {
    let it = Move::new(world, LONG).await;
    it.db().await;
    it.fence(&it.old, true).await;
    let writing = it.writing("too late").await;
    it.world.app_sql("UPDATE tenants SET status = 'suspended' WHERE subdomain = 'acme'").await;
    let error = writing.await.unwrap().unwrap_err();
    let Error::DataSource(DataSourceError::Route(error)) = error else { panic!("{error:?}") };
    assert!(matches!(*error, RouteError::Inactive { status: "suspended", .. }), "{error:?}");
    assert_eq!(it.accounts(&it.old).await, 0);
}

/// Who waits holds no connection: of one connection for a data source, a neighbour gets it however many wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_fence_delays_no_neighbour() {
    let world = World::postgres().await;
    let mut it = Move::new(world, LONG).await;
    let neighbour = it.world.tenant_on("initech", &it.old).await.id;
    let cap = format!("INSERT INTO data_sources (url, max_connections) VALUES ('{}', 1)", it.old.url);
    it.world.app_sql(&cap).await;
    it.here = it.world.restarted(|settings| {
        settings.fenced_write_patience = LONG;
        settings.acquire_timeout = Duration::from_secs(30);
    });
    let (db, theirs) = (it.db().await, it.here.tenant(neighbour).await.unwrap());
    it.fence(&it.old, true).await;
    let asked = it.asked().await;
    let waiting: Vec<_> = (0..20)
        .map(|number| {
            let db = db.clone();
            tokio::spawn(async move { write(&db, &format!("waiting {number}")).await })
        })
        .collect();
    let deadline = Instant::now() + LONG;
    while it.asked().await == asked {
        assert!(Instant::now() < deadline, "nobody waits");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for number in 0..20 {
        write(&theirs, &format!("neighbour {number}")).await.unwrap();
    }
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
    it.fence(&it.old, false).await;
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
    assert_eq!(names(&db).await.len(), 20, "each of them once");
    assert_eq!(names(&theirs).await.len(), 20);
}
