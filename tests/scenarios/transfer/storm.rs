//! Writers that do not stop while their tenant is moved and brought back: from two processes, in transactions, and with psql as
//! the restricted role. What each was told is written down, and a program compares it with what is there afterwards.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use sea_orm::ActiveValue::Set;
use tenantry::{
    Tenantry,
    operations::{TransferAction, TransferTarget, continue_transfer, run_transfer, transfer_status},
};
use tenantry_connection::{Actor, Error as ConnectionError};
use tenantry_data_source::Error as DataSourceError;
use tenantry_entities::accounts;
use tenantry_migrations::TenantDataMigrator;
use tenantry_repository::{Error, RepositoryExt};
use tenantry_test_support::cluster::Database;
use tenantry_transfer::{Options, Unwatched};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::world::{Place, World, place_of};

/// What writers were told, by the ids that they gave their rows.
#[derive(Default)]
struct History {
    acknowledged: Mutex<BTreeSet<Uuid>>,
    refused: Mutex<BTreeSet<Uuid>>,
    /// Writes of the neighbour.
    neighbours: AtomicU64,
    stop: AtomicBool,
}

impl History {
    fn tell(&self, ids: &[Uuid], acknowledged: bool) {
        let told = if acknowledged { &self.acknowledged } else { &self.refused };
        told.lock().unwrap().extend(ids);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Writers that never draw breath would leave no processor to the move itself, and it would fail for want of a connection.
    async fn breathe(&self) -> bool {
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.goes_on()
    }
}

fn account(id: Uuid) -> accounts::ActiveModel {
    accounts::ActiveModel { id: Set(id), name: Set(format!("written {id}")), ..Default::default() }
}

/// Refused for certain. Anything else in a storm would be a fault of its own.
fn is_refused(error: &Error) -> bool {
    matches!(
        error,
        Error::DataSource(DataSourceError::Moved { .. } | DataSourceError::Connection(ConnectionError::Fenced { .. }))
    )
}

/// One row at a time, by statements of their own: the move must not show at all.
async fn write_rows(tenantry: Tenantry, tenant: Uuid, history: Arc<History>) {
    while history.breathe().await {
        let id = Uuid::new_v4();
        let db = tenantry.tenant(tenant).await.unwrap();
        let written = db.repository::<accounts::Entity>().create(account(id)).await;
        match written {
            Ok(_) => history.tell(&[id], true),
            Err(error) if is_refused(&error) => history.tell(&[id], false),
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// The same with one handle for ever, as a process has that never looks again.
async fn write_with_one_handle(tenantry: Tenantry, tenant: Uuid, history: Arc<History>) {
    let db = tenantry.tenant(tenant).await.unwrap();
    while history.breathe().await {
        let id = Uuid::new_v4();
        match db.repository::<accounts::Entity>().create(account(id)).await {
            Ok(_) => history.tell(&[id], true),
            Err(error) if is_refused(&error) => history.tell(&[id], false),
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Two rows or none. A transaction that met the fence is run again by who began it.
async fn write_pairs(tenantry: Tenantry, tenant: Uuid, history: Arc<History>) {
    while history.breathe().await {
        let ids = [Uuid::new_v4(), Uuid::new_v4()];
        let db = tenantry.tenant(tenant).await.unwrap();
        let written = async {
            let transaction = db.begin().await.map_err(Error::from)?;
            for id in ids {
                transaction.repository::<accounts::Entity>().create(account(id)).await?;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            transaction.commit().await.map_err(Error::from)
        };
        match written.await {
            Ok(()) => history.tell(&ids, true),
            Err(error) if is_refused(&error) => history.tell(&ids, false),
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Past every process: psql, as the restricted role, in the place that the tenant leaves. Nobody tells it where to go.
struct Psql {
    program: PathBuf,
    url: String,
}

impl Psql {
    fn of(database: &Database) -> Self {
        Self { program: database.cluster().bindir().join("psql"), url: database.url_with(&database.restricted) }
    }

    fn write(&self, tenant: Uuid, history: &History) {
        while history.goes_on() {
            let id = Uuid::new_v4();
            let set = format!("SET app.tenant_id = '{tenant}'");
            let insert = format!("INSERT INTO accounts (tenant_id, id, name) VALUES ('{tenant}', '{id}', 'psql')");
            let mut psql = Command::new(&self.program);
            psql.args([
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-v",
                "VERBOSITY=verbose",
                "-c",
                &set,
                "-c",
                &insert,
                &self.url,
            ]);
            let ended = psql.output().unwrap();
            let told = String::from_utf8_lossy(&ended.stderr);
            match ended.status.success() {
                true => history.tell(&[id], true),
                false if told.contains("TN001") => history.tell(&[id], false),
                false => panic!("{told}"),
            }
        }
    }
}

/// Somebody else in the shared data source: whose writes are neither refused nor moved.
async fn write_beside(tenantry: Tenantry, neighbour: Uuid, history: Arc<History>) {
    let db = tenantry.tenant(neighbour).await.unwrap();
    while history.breathe().await {
        db.repository::<accounts::Entity>().create(account(Uuid::new_v4())).await.unwrap();
        history.neighbours.fetch_add(1, Ordering::Relaxed);
    }
}

struct Storm {
    history: Arc<History>,
    tasks: JoinSet<()>,
}

impl Storm {
    /// Begins, and returns once every kind of writer has written.
    async fn begin(world: &World, shared: &Database, tenant: Uuid, neighbour: Uuid) -> Self {
        let history = Arc::new(History::default());
        let mut tasks = JoinSet::new();
        for process in [world.restarted(|_| {}), world.restarted(|_| {})] {
            for _ in 0..2 {
                tasks.spawn(write_rows(process.clone(), tenant, Arc::clone(&history)));
            }
            tasks.spawn(write_pairs(process.clone(), tenant, Arc::clone(&history)));
            tasks.spawn(write_with_one_handle(process.clone(), tenant, Arc::clone(&history)));
            tasks.spawn(write_beside(process, neighbour, Arc::clone(&history)));
        }
        let (psql, told) = (Psql::of(shared), Arc::clone(&history));
        tasks.spawn_blocking(move || psql.write(tenant, &told));
        let mut storm = Self { history, tasks };
        storm.rages(40).await;
        storm
    }

    /// Waits for this many more acknowledged writes.
    async fn rages(&mut self, more: usize) {
        let history = Arc::clone(&self.history);
        let count = || history.acknowledged.lock().unwrap().len();
        let until = count() + more;
        while count() < until {
            // A writer that ended has found something that no storm should do.
            if let Some(ended) = self.tasks.try_join_next() {
                ended.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(mut self) -> Arc<History> {
        self.history.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        Arc::clone(&self.history)
    }
}

impl Drop for Storm {
    /// A failure must not leave psql writing for ever.
    fn drop(&mut self) {
        self.history.stop.store(true, Ordering::Relaxed);
    }
}

fn ids(database: &Database, tenant: Uuid) -> BTreeSet<Uuid> {
    let sql = format!("SELECT id FROM accounts WHERE tenant_id = '{tenant}'");
    let rows = database.psql(&database.superuser, &sql).unwrap();
    rows.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// The history against what is there: `home` is where the tenant is, `other` where it is not.
fn check(history: &History, home: &BTreeSet<Uuid>, other: &BTreeSet<Uuid>, phase: &str) {
    let acknowledged = history.acknowledged.lock().unwrap().clone();
    let refused = history.refused.lock().unwrap().clone();
    let lost: Vec<_> = acknowledged.difference(home).collect();
    assert!(lost.is_empty(), "{phase}: {} of {} acknowledged writes are lost", lost.len(), acknowledged.len());
    let ghosts = refused.iter().filter(|id| home.contains(id) || other.contains(id)).count();
    assert_eq!(ghosts, 0, "{phase}: of {} refused writes some were done", refused.len());
    let stray: Vec<_> = other.difference(home).collect();
    assert!(stray.is_empty(), "{phase}: {} rows are only where the tenant is not", stray.len());
    // Every row is somebody's: none was made up on the way.
    let unknown = home.difference(&acknowledged).count();
    assert_eq!(unknown, 0, "{phase}: rows that nobody was told of");
}

/// A worker that held its pool lost half of its acknowledged writes during a move that reported success.
#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_write_is_lost_when_its_tenant_is_moved_and_brought_back() {
    let mut world = World::postgres().await;
    let place = world.place("dedicated");
    let tenant = world.tenant("acme").await.id;
    let neighbour = world.tenant("globex").await.id;
    let (shared, dedicated) = (&world.databases[1], &world.databases[2]);
    let target = target(&place);
    let (options, actor) = (Options::default(), Actor::default());
    let mover = world.restarted(|_| {});

    let mut storm = Storm::begin(&world, shared, tenant, neighbour).await;
    let moved = run_transfer::<TenantDataMigrator>(&mover, tenant, &target, None, &options, &actor, &Unwatched).await;
    let moved = moved.unwrap();
    assert_eq!((moved.outcome, moved.passed()), ("moved", true), "{moved:#?}");
    storm.rages(40).await;
    let first = storm.end().await;
    assert!(first.neighbours.load(Ordering::Relaxed) > 0);
    let written = ids(dedicated, tenant);
    check(&first, &written, &ids(shared, tenant), "moved");
    assert!(moved.held_ms.is_some());

    // And back, with writers that begin in the new place.
    let mut storm = Storm::begin_at(&world, dedicated, tenant, neighbour, &first).await;
    let transfer = moved.transfer.unwrap();
    let back = continue_transfer(&mover, transfer, TransferAction::RollBack, &options, &actor, &Unwatched).await;
    let back = back.unwrap();
    assert_eq!((back.outcome, back.passed()), ("returned", true), "{back:#?}");
    storm.rages(40).await;
    let both = storm.end().await;
    check(&both, &ids(shared, tenant), &ids(dedicated, tenant), "returned");
    assert!(ids(dedicated, tenant).is_empty(), "nothing is left where the tenant was");
    let beside = ids(shared, neighbour).len() as u64;
    let told = first.neighbours.load(Ordering::Relaxed) + both.neighbours.load(Ordering::Relaxed);
    assert_eq!(beside, told, "the neighbour has exactly what it wrote");
}

impl Storm {
    /// A second storm, which remembers what the first was told.
    async fn begin_at(world: &World, at: &Database, tenant: Uuid, neighbour: Uuid, first: &History) -> Self {
        let storm = Self::begin(world, at, tenant, neighbour).await;
        let known = first.acknowledged.lock().unwrap().clone();
        storm.history.acknowledged.lock().unwrap().extend(known);
        let refused = first.refused.lock().unwrap().clone();
        storm.history.refused.lock().unwrap().extend(refused);
        storm
    }
}

pub(super) fn target(place: &Place) -> TransferTarget {
    TransferTarget {
        data_source: Some((place.url.clone(), place.logins.clone())),
        kind: Some(tenantry_app_db::entities::SourceKind::Dedicated),
        prepare: true,
        ..TransferTarget::default()
    }
}

/// The kept rows go once the tenant is known to have them, whatever it has changed since; and only then.
#[tokio::test(flavor = "multi_thread")]
async fn kept_rows_are_purged_when_the_tenant_has_them_and_not_before() {
    let mut world = World::postgres().await;
    let place = world.place("dedicated");
    let (tenant, neighbour) = (world.tenant("acme").await.id, world.tenant("globex").await.id);
    let (shared, dedicated) = (&world.databases[1], &world.databases[2]);
    let (options, actor) = (Options::default(), Actor::default());
    let rows: Vec<Uuid> = (0..4).map(|_| Uuid::new_v4()).collect();
    for owner in [tenant, neighbour] {
        let db = world.tenantry.tenant(owner).await.unwrap();
        for id in &rows {
            db.repository::<accounts::Entity>().create(account(*id)).await.unwrap();
        }
    }
    let run = run_transfer::<TenantDataMigrator>;
    let moved = run(&world.tenantry, tenant, &target(&place), None, &options, &actor, &Unwatched).await.unwrap();
    assert!(moved.passed(), "{moved:#?}");
    let transfer = moved.transfer.unwrap();
    assert_eq!(ids(shared, tenant).len(), 4, "they are kept");

    // Changed and deleted by the tenant: the write log says so.
    let db = world.tenantry.tenant(tenant).await.unwrap();
    db.repository::<accounts::Entity>().delete(rows[0]).await.unwrap();
    let renamed = accounts::ActiveModel { name: Set("renamed".to_owned()), ..Default::default() };
    db.repository::<accounts::Entity>().update(rows[1], renamed).await.unwrap();
    // And one that got lost where nobody looked.
    let lose = format!(
        "SET session_replication_role = replica; DELETE FROM accounts WHERE tenant_id = '{tenant}' AND id = '{}'",
        rows[2]
    );
    dedicated.psql(&dedicated.superuser, &lose).unwrap();
    let purge = || continue_transfer(&world.tenantry, transfer, TransferAction::Purge, &options, &actor, &Unwatched);
    let refused = purge().await.unwrap();
    let error = refused.error.as_deref().unwrap_or_default();
    assert!(!refused.passed() && error.contains(&rows[2].to_string()), "{refused:#?}");
    assert!(!error.contains(&rows[0].to_string()) && !error.contains(&rows[1].to_string()), "{error}");
    assert_eq!(ids(shared, tenant).len(), 4, "nothing is deleted while one row is missing");
    let status = async || transfer_status(&world.tenantry, transfer).await.unwrap();
    assert!(status().await.problem.is_some_and(|problem| problem.starts_with("rows are missing")), "it is told");
    assert!(refused.to_string().ends_with("the rows that were kept are still there"), "{refused}");

    let mend = format!(
        "SET session_replication_role = replica; INSERT INTO accounts SELECT * FROM jsonb_populate_record(NULL::accounts, '{}')",
        {
            let row = format!("SELECT to_jsonb(a) FROM accounts a WHERE tenant_id = '{tenant}' AND id = '{}'", rows[2]);
            shared.psql(&shared.superuser, &row).unwrap().trim().to_owned()
        }
    );
    dedicated.psql(&dedicated.superuser, &mend).unwrap();
    let purged = purge().await.unwrap();
    assert_eq!((purged.outcome, purged.passed()), ("purged", true), "{purged:#?}");
    assert_eq!(status().await.problem, None, "what was mended is no problem of a transfer that has ended well");
    assert!(ids(shared, tenant).is_empty());
    assert_eq!(ids(shared, neighbour).len(), 4, "a purge is of one tenant");
    assert_eq!(ids(dedicated, tenant).len(), 3, "and of one place");
    // Who still has the old route is refused, and a rollback has nothing to go back to.
    let stray =
        format!("SET app.tenant_id = '{tenant}'; INSERT INTO accounts (tenant_id, name) VALUES ('{tenant}', 'stray')");
    let refused = shared.psql(&shared.restricted, &stray).unwrap_err();
    assert_eq!(refused.sqlstate(), Some("TN001"), "{refused}");
    let back =
        continue_transfer(&world.tenantry, transfer, TransferAction::RollBack, &options, &actor, &Unwatched).await;
    assert!(!back.unwrap().passed());
    // A place that was left can be moved to again.
    let shared_place = place_of(shared);
    let home =
        TransferTarget { data_source: Some((shared_place.url, shared_place.logins)), ..TransferTarget::default() };
    let again = run(&world.tenantry, tenant, &home, None, &options, &actor, &Unwatched).await.unwrap();
    assert!(again.passed(), "{again:#?}");
    assert_eq!(ids(shared, tenant).len(), 3);
}
