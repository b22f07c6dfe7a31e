//! The application database is lost while a transfer runs: what is said of the tenant then is true, and the same command ends it.

use std::sync::atomic::{AtomicBool, Ordering};

use sea_orm::ActiveValue::Set;
use tenantry::operations::{
    TransferAction, TransferReport, continue_transfer, list_transfers, run_transfer, transfer_status,
};
use tenantry_connection::Actor;
use tenantry_entities::accounts;
use tenantry_migrations::TenantDataMigrator;
use tenantry_repository::RepositoryExt;
use tenantry_transfer::{Options, Progress, Step, Unwatched};
use uuid::Uuid;

use super::storm::target;
use crate::world::{Place, World};

/// Loses the application database, once, at the point of this name.
struct LosesAt<'w>(&'static str, &'w World, AtomicBool);

impl Progress for LosesAt<'_> {
    fn point(&self, name: &'static str) {
        if name == self.0 && !self.2.swap(true, Ordering::Relaxed) {
            may_connect(self.1, false);
        }
    }
}

fn loses_at<'w>(name: &'static str, world: &'w World) -> LosesAt<'w> {
    LosesAt(name, world, AtomicBool::new(false))
}

/// Closes the application database to everybody, or opens it again.
fn may_connect(world: &World, may: bool) {
    let (app, other) = (&world.databases[0], &world.databases[1]);
    let run = |sql: &str| tokio::task::block_in_place(|| other.psql(&other.superuser, sql)).unwrap();
    run(&format!("ALTER DATABASE \"{}\" WITH ALLOW_CONNECTIONS {may}", app.name));
    if !may {
        let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity";
        run(&format!("{end} WHERE datname = '{}'", app.name));
    }
}

/// It is there again, and the run that could not give its lease up is not waited for.
async fn found_again(world: &World) {
    may_connect(world, true);
    world.app_sql("UPDATE tenantry_transfers SET lease_until = created_at WHERE owner IS NOT NULL").await;
}

async fn tenant(world: &World) -> Uuid {
    let tenant = world.tenant("acme").await.id;
    let db = world.tenantry.tenant(tenant).await.unwrap();
    for name in ["one", "two", "three"] {
        let account = accounts::ActiveModel { name: Set(name.to_owned()), ..Default::default() };
        db.repository::<accounts::Entity>().create(account).await.unwrap();
    }
    tenant
}

async fn run(world: &World, tenant: Uuid, place: &Place, progress: &dyn Progress) -> TransferReport {
    let run = run_transfer::<TenantDataMigrator>;
    let (options, actor) = (Options::default(), Actor::default());
    run(&world.tenantry, tenant, &target(place), None, &options, &actor, progress).await.unwrap()
}

async fn purge(world: &World, transfer: Uuid, progress: &dyn Progress) -> TransferReport {
    let (options, actor) = (Options::default(), Actor::default());
    let purge = continue_transfer(&world.tenantry, transfer, TransferAction::Purge, &options, &actor, progress);
    purge.await.unwrap()
}

#[track_caller]
fn ends(report: &TransferReport, with: &str) {
    assert!(!report.passed(), "{report:#?}");
    assert_eq!(report.to_string(), format!("transfer: failed, tenant acme, {with}"), "{report:#?}");
}

/// Whoever was moved, or cannot write, was told to be where they were.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_knows_is_told_and_nothing_else() {
    let points = [
        ("fenced", "it is where it was, and its transfer is not taken back to the end: abort it"),
        ("copied", "its writes are held, and how far its transfer is is not known: see `transfer status`"),
        ("target open", "it has moved and its transfer is not finished: resume it"),
    ];
    for (at, left) in points {
        let mut world = World::postgres().await;
        let place = world.place("dedicated");
        let tenant = tenant(&world).await;
        let failed = run(&world, tenant, &place, &loses_at(at, &world)).await;
        assert_eq!((failed.outcome, failed.step), ("failed", Some("unknown")), "{at}: {failed:#?}");
        ends(&failed, left);
        found_again(&world).await;
        let done = run(&world, tenant, &place, &Unwatched).await;
        assert_eq!((done.outcome, done.passed()), ("moved", true), "{at}: {done:#?}");
        let listed = list_transfers(&world.tenantry, Some(tenant), 9).await.unwrap();
        assert_eq!((listed.len(), listed[0].step, &listed[0].problem), (1, "finished", &None), "{at}: {listed:#?}");
    }
}

/// The rows were deleted, the tenant was told to be where it was, and the next purge had deleted none.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_purge_has_deleted_is_told() {
    let mut world = World::postgres().await;
    let place = world.place("dedicated");
    let tenant = tenant(&world).await;
    let transfer = run(&world, tenant, &place, &Unwatched).await.transfer.unwrap();
    let kept = format!("SELECT count(*) FROM accounts WHERE tenant_id = '{tenant}'");
    let log = kept.replace("accounts", "write_log");
    let (shared, rows) = (world.shared(), world.count(&world.shared(), &kept).await);
    assert_eq!(rows, 3);
    let rows = rows + world.count(&shared, &log).await;

    let lost = purge(&world, transfer, &loses_at("purged", &world)).await;
    assert_eq!(lost.step, Some("unknown"), "{lost:#?}");
    ends(&lost, &format!("{rows} kept rows deleted, which is not recorded: purge it again"));
    assert_eq!(world.count(&shared, &kept).await, 0);
    found_again(&world).await;
    let status = transfer_status(&world.tenantry, transfer).await.unwrap();
    assert_eq!(status.step, "finished");
    assert!(status.problem.is_some_and(|problem| problem.contains("the rows that were kept may be deleted")));
    let purged = purge(&world, transfer, &Unwatched).await;
    assert_eq!(purged.to_string(), "transfer: ok, tenant acme, no kept rows were left to delete", "{purged:#?}");
    let status = transfer_status(&world.tenantry, transfer).await.unwrap();
    assert_eq!((status.step, status.problem), ("purged", None));
}

/// What is lost before anything was deleted is told as what nobody knows, and not as what was.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knows_is_told_so() {
    /// Loses the application database when rows are looked at.
    struct LosesWhenVerifying<'w>(&'w World, AtomicBool);

    impl Progress for LosesWhenVerifying<'_> {
        fn step(&self, step: Step) {
            if step == Step::Verify && !self.1.swap(true, Ordering::Relaxed) {
                may_connect(self.0, false);
            }
        }
    }

    let mut world = World::postgres().await;
    let place = world.place("dedicated");
    let tenant = tenant(&world).await;
    let transfer = run(&world, tenant, &place, &Unwatched).await.transfer.unwrap();
    let lost = purge(&world, transfer, &LosesWhenVerifying(&world, AtomicBool::new(false))).await;
    ends(&lost, "what became of it is not known: see `transfer status`");
    found_again(&world).await;
    let purged = purge(&world, transfer, &Unwatched).await;
    assert!(purged.passed() && purged.purged.is_some_and(|rows| rows >= 3), "{purged:#?}");
}
