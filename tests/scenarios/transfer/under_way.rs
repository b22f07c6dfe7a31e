//! What an operator asks of a tenant while a transfer of it is under way that nobody runs: nothing sends it elsewhere than asked.

use std::{
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::FutureExt;
use tenantry::operations::{
    SplitAction, TransferAction, TransferPlan, TransferReport, TransferTarget, continue_transfer, list_transfers,
    plan_transfer, run_transfer, split_tenants,
};
use tenantry_connection::Actor;
use tenantry_migrations::TenantDataMigrator;
use tenantry_transfer::{Note, Options, Progress, Refusal, Unwatched};
use uuid::Uuid;

use crate::world::{Place, World, on_both_engines};

on_both_engines!(
    who_asks_for_where_a_tenant_is_does_not_send_it_elsewhere,
    who_asks_for_a_rollback_gets_one_also_after_one_that_was_given_up,
    a_plan_says_what_a_run_would_make_of_a_transfer_under_way,
);

/// Ends a run at the point of this name, the first or a later time that it comes there, as the end of its process would.
struct DiesAt(&'static str, AtomicUsize);

impl Progress for DiesAt {
    fn point(&self, name: &'static str) {
        if name == self.0 && self.1.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Not `panic!`, whose message would look like a failure.
            std::panic::resume_unwind(Box::new("died"));
        }
    }
}

fn to(place: &Place) -> TransferTarget {
    TransferTarget {
        data_source: Some((place.url.clone(), place.logins.clone())),
        prepare: true,
        ..TransferTarget::default()
    }
}

async fn run(world: &World, tenant: Uuid, place: &Place, progress: &dyn Progress) -> TransferReport {
    let run = run_transfer::<TenantDataMigrator>;
    run(&world.tenantry, tenant, &to(place), None, &Options::default(), &Actor::default(), progress).await.unwrap()
}

/// Begins to move the tenant and dies; answers the transfer that it leaves, which nobody is believed to run.
async fn left(world: &World, tenant: Uuid, place: &Place, (at, times): (&'static str, usize)) -> Uuid {
    dies(at, run(world, tenant, place, &DiesAt(at, AtomicUsize::new(times)))).await;
    open(world, tenant).await
}

async fn dies<T>(at: &str, run: impl Future<Output = T>) {
    assert!(AssertUnwindSafe(run).catch_unwind().await.is_err(), "it comes to {at:?}");
}

/// Leaves what was begun where it is being taken back.
async fn given_up(world: &World, tenant: Uuid, transfer: Uuid) -> Uuid {
    let at = "source open again";
    let progress = DiesAt(at, AtomicUsize::new(1));
    let (options, actor) = (Options::default(), Actor::default());
    let abort = continue_transfer(&world.tenantry, transfer, TransferAction::Abort, &options, &actor, &progress);
    dies(at, abort).await;
    open(world, tenant).await
}

/// The transfer of the tenant that is under way, once the run that died has given its lease up.
async fn open(world: &World, tenant: Uuid) -> Uuid {
    loop {
        let transfers = list_transfers(&world.tenantry, Some(tenant), 9).await.unwrap();
        let open = transfers.iter().find(|transfer| transfer.under_way).unwrap_or_else(|| panic!("{transfers:#?}"));
        if open.run_until.is_none() {
            return open.id;
        }
        tokio::task::yield_now().await;
    }
}

async fn act(world: &World, transfer: Uuid, action: TransferAction) -> TransferReport {
    let (options, actor) = (Options::default(), Actor::default());
    continue_transfer(&world.tenantry, transfer, action, &options, &actor, &Unwatched).await.unwrap()
}

async fn placed_at(world: &World, tenant: Uuid) -> Option<String> {
    world.tenantry.app_db().tenant(tenant).await.unwrap().unwrap().data_source_url
}

/// What was begun, and not cut over: from nothing done to both sides compared, and taking back.
const BEFORE: [(&str, usize, &str); 4] = [
    ("target unfenced", 1, "planned"),
    ("fenced", 2, "fenced"),
    ("verified", 2, "verified"),
    ("fenced", 2, "aborting"),
];

/// A run to where the tenant was went on with whatever was under way, and moved it away with exit status 0.
async fn who_asks_for_where_a_tenant_is_does_not_send_it_elsewhere(mut world: World) {
    let (home, away) = (world.place("home"), world.place("away"));
    let tenant = world.tenant_on("acme", &home).await.id;
    for (at, times, step) in BEFORE {
        let transfer = match step {
            "aborting" => {
                let transfer = left(&world, tenant, &away, (at, times)).await;
                given_up(&world, tenant, transfer).await
            }
            _ => left(&world, tenant, &away, (at, times)).await,
        };
        let refused = run(&world, tenant, &home, &Unwatched).await;
        assert_eq!((refused.outcome, refused.passed()), ("failed", false), "{step}: {refused:#?}");
        assert_eq!((refused.transfer, refused.step), (Some(transfer), Some(step)), "{refused:#?}");
        let error = refused.error.as_deref().unwrap();
        let said = format!("to {}, is under way; resume or abort it first", away.url);
        assert!(error.contains(&said), "{step}: {error}");
        let asked = refused.to_string();
        assert!(asked.ends_with(&format!("its transfer is {step}: resume or abort it")), "{asked}");
        // The same of a command that takes tenants to the default place and finds this one in another.
        for action in [SplitAction::DryRun, SplitAction::Run] {
            let (target, actor) = (TransferTarget::default(), Actor::default());
            let split = split_tenants::<TenantDataMigrator>;
            let split = split(&world.tenantry, &[tenant], &target, action, &actor, &Unwatched).await;
            let error = split.tenants[0].error.as_deref().unwrap_or_else(|| panic!("{step}: {split:#?}"));
            assert!(!split.passed() && error.contains(&said), "{step}: {split:#?}");
        }
        assert_eq!(placed_at(&world, tenant).await.as_deref(), Some(home.url.as_str()), "{step}");
        let aborted = act(&world, transfer, TransferAction::Abort).await;
        assert_eq!((aborted.outcome, aborted.passed()), ("aborted", true), "{step}: {aborted:#?}");
        assert_eq!(run(&world, tenant, &home, &Unwatched).await.outcome, "already_placed", "{step}");
    }
    // Cut over: whoever asks for where the tenant is by now asks for its writes as well.
    left(&world, tenant, &away, ("placed", 2)).await;
    let refused = run(&world, tenant, &home, &Unwatched).await;
    assert!(refused.error.is_some_and(|error| error.contains("is under way; resume or abort it first")));
    let finished = run(&world, tenant, &away, &Unwatched).await;
    assert_eq!((finished.outcome, finished.step), ("moved", Some("finished")), "{finished:#?}");
    assert_eq!(placed_at(&world, tenant).await.as_deref(), Some(away.url.as_str()));
}

/// It took back what was left of the earlier one, said "ok" and left the tenant where it was.
async fn who_asks_for_a_rollback_gets_one_also_after_one_that_was_given_up(mut world: World) {
    let (home, away) = (world.place("home"), world.place("away"));
    let tenant = world.tenant_on("acme", &home).await.id;
    let moved = run(&world, tenant, &away, &Unwatched).await;
    let transfer = moved.transfer.unwrap_or_else(|| panic!("{moved:#?}"));
    let (at, progress) = ("fenced", DiesAt("fenced", AtomicUsize::new(2)));
    let (options, actor) = (Options::default(), Actor::default());
    let back = continue_transfer(&world.tenantry, transfer, TransferAction::RollBack, &options, &actor, &progress);
    dies(at, back).await;
    let begun = open(&world, tenant).await;
    given_up(&world, tenant, begun).await;

    let back = act(&world, transfer, TransferAction::RollBack).await;
    assert_eq!((back.outcome, back.step, back.passed()), ("returned", Some("purged"), true), "{back:#?}");
    assert_ne!(back.transfer, Some(begun), "another one has brought it back");
    assert_eq!(placed_at(&world, tenant).await.as_deref(), Some(home.url.as_str()));
    let steps = list_transfers(&world.tenantry, Some(tenant), 9).await.unwrap();
    let steps: Vec<_> = steps.iter().map(|transfer| transfer.step).collect();
    assert_eq!(steps, ["purged", "aborted", "returned"]);
}

async fn plan(world: &World, tenant: Uuid, place: &Place) -> TransferPlan {
    let plan = plan_transfer::<TenantDataMigrator>;
    plan(&world.tenantry, tenant, &to(place), &Options::default(), &Unwatched).await.unwrap()
}

/// What a plan says of transfers under way, wherever it says it.
fn remarks(planned: &TransferPlan) -> (Vec<&Note>, Vec<&Refusal>) {
    let plan = planned.plan.iter();
    let notes = planned.notes.iter().chain(plan.clone().flat_map(|plan| &plan.notes));
    let refusals = planned.refusals.iter().chain(plan.flat_map(|plan| &plan.refusals));
    (notes.filter(|note| matches!(note, Note::GoesOn { .. })).collect(), refusals.collect())
}

/// It refused for the fences of the one and said nothing of it, or said that the tenant would be moved.
async fn a_plan_says_what_a_run_would_make_of_a_transfer_under_way(mut world: World) {
    let (home, away, other) = (world.place("home"), world.place("away"), world.place("other"));
    let tenant = world.tenant_on("acme", &home).await.id;
    let before = plan(&world, tenant, &away).await;
    assert!(before.passed() && remarks(&before).0.is_empty(), "{before:#?}");
    for (at, times, step) in BEFORE {
        let mut transfer = left(&world, tenant, &away, (at, times)).await;
        if step == "aborting" {
            transfer = given_up(&world, tenant, transfer).await;
        }
        let refusal = Refusal::UnderWay { transfer, target: away.url.to_string() };
        for place in [&home, &other] {
            let planned = plan(&world, tenant, place).await;
            assert!(!planned.passed() && remarks(&planned).1.contains(&&refusal), "{step}: {planned:#?}");
            let refused = run(&world, tenant, place, &Unwatched).await;
            let error = refused.error.unwrap_or_default();
            assert!(error.contains(&format!("{transfer} of tenant {tenant}")), "{step}: {error}");
        }
        // Where it goes itself, nothing stands against it as long as nobody runs it.
        let planned = plan(&world, tenant, &away).await;
        let note = Note::GoesOn { transfer, step: step.to_owned() };
        assert_eq!(remarks(&planned), (vec![&note], vec![]), "{step}: {planned:#?}");
        let app_db = world.tenantry.app_db();
        let (_, lease) = app_db.take_transfer(transfer, std::time::Duration::from_secs(600)).await.unwrap();
        let planned = plan(&world, tenant, &away).await;
        assert_eq!(remarks(&planned), (vec![], vec![&refusal]), "{step}: {planned:#?}");
        let busy = run(&world, tenant, &away, &Unwatched).await.error.unwrap_or_default();
        assert!(busy.contains("is running; if its process is dead"), "{step}: {busy}");
        app_db.release_transfer(&lease, None).await.unwrap();
        let moved = run(&world, tenant, &away, &Unwatched).await;
        assert_eq!((moved.outcome, moved.passed()), ("moved", true), "{step}: {moved:#?}");
        let transfer = moved.transfer.unwrap();
        let planned = plan(&world, tenant, &away).await;
        assert!(planned.already_placed && planned.passed() && planned.notes.is_empty(), "{step}: {planned:#?}");
        let back = act(&world, transfer, TransferAction::RollBack).await;
        assert_eq!(back.outcome, "returned", "a rollback is not in its own way: {step}: {back:#?}");
    }
    let transfer = left(&world, tenant, &away, ("placed", 2)).await;
    let planned = plan(&world, tenant, &away).await;
    let note = Note::GoesOn { transfer, step: "placed".to_owned() };
    assert_eq!((planned.already_placed, remarks(&planned)), (true, (vec![&note], vec![])), "{planned:#?}");
    let planned = plan(&world, tenant, &other).await;
    let refusal = Refusal::UnderWay { transfer, target: away.url.to_string() };
    assert!(remarks(&planned).1.contains(&&refusal), "{planned:#?}");
}
