//! Many tenants in one go: whatever becomes of one of them, every other one has its turn and its line.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tenantry::operations::{SplitAction, TransferTarget, TransfersReport, run_transfers, split_tenants};
use tenantry_app_db::entities::SourceKind;
use tenantry_connection::{Actor, Engine, Mode, Pool, PoolOptions, Session};
use tenantry_migrations::TenantDataMigrator;
use tenantry_test_support::sample::TENANTS;
use tenantry_transfer::{Options, Progress, Step, Unwatched};
use tokio::{runtime::Handle, sync::Notify, task::block_in_place};
use uuid::Uuid;

use crate::world::{Place, World, on_both_engines};

on_both_engines!(who_was_removed_meanwhile_has_a_line_and_ends_nobody_elses_move,);

/// Runs SQL in the application database when a tenant's copy begins.
struct WhileCopied {
    world: Arc<World>,
    sql: String,
    struck: AtomicBool,
}

impl Progress for WhileCopied {
    fn step(&self, step: Step) {
        if step == Step::Copy && !self.struck.swap(true, Ordering::Relaxed) {
            block_in_place(|| Handle::current().block_on(self.world.app_sql(&self.sql)));
        }
    }
}

fn to(place: &Place) -> TransferTarget {
    TransferTarget {
        data_source: Some((place.url.clone(), place.logins.clone())),
        kind: Some(SourceKind::Shared),
        prepare: true,
        ..TransferTarget::default()
    }
}

fn outcomes(report: &TransfersReport) -> Vec<(Uuid, &'static str)> {
    report.tenants.iter().map(|one| (one.tenant, one.outcome)).collect()
}

fn literal(engine: Engine, id: Uuid) -> String {
    match engine {
        Engine::Postgres => format!("'{id}'"),
        Engine::Sqlite => format!("x'{}'", id.simple()),
    }
}

/// It ended the whole wave: no report of those that had moved, those in flight dropped, the others never tried.
async fn who_was_removed_meanwhile_has_a_line_and_ends_nobody_elses_move(mut world: World) {
    let place = world.place("own");
    let mut ids = Vec::new();
    for subdomain in ["acme", "globex", "initech"] {
        ids.push(world.tenant(subdomain).await.id);
    }
    let world = Arc::new(world);
    let removed = format!("DELETE FROM tenants WHERE id = {}", literal(world.engine, ids[1]));
    let watch = |tenant: Uuid| -> Arc<dyn Progress> {
        match tenant == ids[0] {
            true => {
                Arc::new(WhileCopied { world: world.clone(), sql: removed.clone(), struck: AtomicBool::new(false) })
            }
            false => Arc::new(Unwatched),
        }
    };
    let (target, options, actor) = (to(&place), Options::default(), Actor::default());
    let run = run_transfers::<TenantDataMigrator>;
    let report = run(&world.tenantry, &ids, &target, 1, &options, &actor, watch).await;
    assert_eq!(outcomes(&report), [(ids[0], "moved"), (ids[1], "failed"), (ids[2], "moved")], "{report:#?}");
    assert!(!report.passed());
    let gone = &report.tenants[1];
    assert!(gone.error.as_deref().is_some_and(|error| error.contains(&ids[1].to_string())), "{gone:#?}");
    assert_eq!(gone.to_string(), format!("transfer: failed, tenant {}, nothing was begun", ids[1]));
    assert!(report.to_string().starts_with("transfer: failed, 2 of 3 tenants, "), "{report}");
}

/// The same of tenants that are taken out of the single database.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_more_ends_no_split() {
    for engine in [Engine::Postgres, Engine::Sqlite] {
        let world = World::with_sample(engine).await;
        let (first, last) = (TENANTS[0].id, TENANTS[1].id);
        let gone = Uuid::new_v4();
        let target = TransferTarget { prepare: true, ..TransferTarget::default() };
        let split = split_tenants::<TenantDataMigrator>;
        let (ids, actor) = ([first, gone, last], Actor::default());
        let report = split(&world.tenantry, &ids, &target, SplitAction::Run, &actor, &Unwatched).await;
        let outcomes: Vec<_> = report.tenants.iter().map(|one| (one.tenant, one.outcome)).collect();
        assert_eq!(outcomes, [(first, "placed"), (gone, "failed"), (last, "placed")], "{engine}: {report:#?}");
        let error = report.tenants[1].error.as_deref();
        assert!(error.is_some_and(|error| error.contains(&gone.to_string())), "{engine}: {report:#?}");
        assert!(!report.passed());
    }
}

/// A tenant whose writers are waited for kept every tenant behind it from being begun, however many may be moved at a time.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_slow_holds_nobody_back_and_keeps_its_place_in_the_report() {
    let mut world = World::postgres().await;
    let place = world.place("own");
    let mut ids = Vec::new();
    for subdomain in ["acme", "globex", "initech"] {
        ids.push(world.tenant(subdomain).await.id);
    }
    let shared = world.shared();
    let pool =
        Pool::new(&shared.url, shared.logins.as_ref().map(|logins| &logins.service), &PoolOptions::default()).unwrap();
    let mut open = pool.begin(&Session::default(), Mode::Write).await.unwrap();
    let insert = format!("INSERT INTO accounts (tenant_id, name) VALUES ('{}', 'while it waits')", ids[0]);
    open.execute_raw_sql(&insert).await.unwrap();
    let last = Arc::new(Notify::new());
    let writer = {
        let last = last.clone();
        tokio::spawn(async move {
            last.notified().await;
            open.rollback().await.unwrap();
        })
    };
    let watch = |tenant: Uuid| -> Arc<dyn Progress> {
        if tenant == ids[2] {
            last.notify_one();
        }
        Arc::new(Unwatched)
    };
    let (target, actor) = (to(&place), Actor::default());
    let options = Options { fence_deadline: std::time::Duration::from_secs(60), ..Options::default() };
    let run = run_transfers::<TenantDataMigrator>;
    let report = run(&world.tenantry, &ids, &target, 2, &options, &actor, watch).await;
    assert_eq!(outcomes(&report), [(ids[0], "moved"), (ids[1], "moved"), (ids[2], "moved")], "{report:#?}");
    writer.await.unwrap();
    pool.close().await;
}
