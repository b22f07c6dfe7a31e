//! A key is rotated while transfers are recorded that it has sealed the logins of: one can still go on with them.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use secrecy::SecretString;
use tenantry::{
    Tenantry,
    operations::{
        SealAction, SealMode, SealReport, TransferAction, TransferReport, TransferTarget, continue_transfer,
        run_transfer, seal_keys,
    },
};
use tenantry_app_db::{
    NewLogins,
    entities::{tenants, transfers},
};
use tenantry_connection::{Actor, Engine};
use tenantry_credential::Keyring;
use tenantry_migrations::TenantDataMigrator;
use tenantry_transfer::{Options, Progress, Unwatched};

use crate::world::{KEYS, World, keyring};

/// Ends a run after its copy, as the end of its process would.
struct Dies;

impl Progress for Dies {
    fn point(&self, name: &'static str) {
        if name == "copied" {
            // Not `panic!`, whose message would look like a failure.
            std::panic::resume_unwind(Box::new("died"));
        }
    }
}

async fn run(world: &mut World, tenant: &tenants::Model, progress: &dyn Progress) -> TransferReport {
    let own = world.place(&tenant.subdomain);
    let target =
        TransferTarget { data_source: Some((own.url, own.logins)), prepare: true, ..TransferTarget::default() };
    let (options, actor) = (Options::default(), Actor::default());
    let run = run_transfer::<TenantDataMigrator>(&world.tenantry, tenant.id, &target, None, &options, &actor, progress);
    run.await.unwrap()
}

async fn latest(tenantry: &Tenantry, tenant: &tenants::Model) -> transfers::Model {
    tenantry.app_db().transfers(Some(tenant.id), 1).await.unwrap().remove(0)
}

async fn act(tenantry: &Tenantry, tenant: &tenants::Model, action: TransferAction) -> TransferReport {
    let transfer = latest(tenantry, tenant).await.id;
    let (options, actor) = (Options::default(), Actor::default());
    loop {
        let report = continue_transfer(tenantry, transfer, action, &options, &actor, &Unwatched).await.unwrap();
        // The run that died gives its lease up in its own time.
        if !report.error.as_ref().is_some_and(|error| error.contains("is running")) {
            return report;
        }
        tokio::task::yield_now().await;
    }
}

fn of_transfers(report: &SealReport, action: SealAction) -> usize {
    report.keys.iter().filter(|key| key.transfer.is_some() && key.action == action).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_outlives_the_key_that_it_was_recorded_with() {
    let mut world = World::new(Engine::Postgres, |settings| settings.keyring = Some(Arc::new(keyring("old")))).await;
    let mut tenants = Vec::new();
    for subdomain in ["a-resumed", "b-returned", "c-purged"] {
        tenants.push(world.tenant(subdomain).await);
    }
    let [resumed, returned, purged] = &tenants[..] else { panic!("three") };
    let died = AssertUnwindSafe(run(&mut world, resumed, &Dies)).catch_unwind().await;
    assert!(died.is_err(), "{died:?}");
    for tenant in [returned, purged] {
        let report = run(&mut world, tenant, &Unwatched).await;
        assert!(report.passed(), "{report:#?}");
    }

    let both = world.restarted(|settings| settings.keyring = Some(Arc::new(keyring("new"))));
    let dry = seal_keys(&both, SealMode::DryRun, &Actor::default()).await.unwrap();
    assert!(dry.passed() && of_transfers(&dry, SealAction::Rewrap) == 12 && dry.changes() == 18, "{dry:#?}");
    let before = latest(&both, returned).await;
    let applied = seal_keys(&both, SealMode::Apply, &Actor::default()).await.unwrap();
    assert_eq!(applied.keys, dry.keys, "the dry run said exactly what was done");
    assert_ne!(latest(&both, returned).await.source_placement, before.source_placement);
    let again = seal_keys(&both, SealMode::Apply, &Actor::default()).await.unwrap();
    assert!(again.changes() == 0 && of_transfers(&again, SealAction::Keep) == 12, "{again:#?}");
    // What was read before is not what is recorded any more.
    let (logins, nobody) = (NewLogins::default(), Actor::default());
    let stale = both.app_db().reseal_transfer(&before, &logins, &logins, &nobody);
    assert!(!stale.await.unwrap());

    let only = Keyring::new("new", [("new".to_owned(), SecretString::from(KEYS[1].1))]).unwrap();
    let only = world.restarted(|settings| settings.keyring = Some(Arc::new(only)));
    for (tenant, action, outcome) in [
        (resumed, TransferAction::Resume, "moved"),
        (returned, TransferAction::RollBack, "returned"),
        (purged, TransferAction::Purge, "purged"),
    ] {
        let report = act(&only, tenant, action).await;
        assert!(report.passed() && report.outcome == outcome, "{report:#?}");
        let test = only.manager().test_connection(tenant.id).await;
        assert!(test.passed(), "{outcome}: {test:?}");
    }

    // Nobody opens the record of what has ended; a key that is gone for good is no reason to fail for ever.
    let ended = latest(&only, purged).await;
    let foreign = ended.source_placement.replace("v1:new:", "v1:gone:");
    world
        .app_sql(&format!("UPDATE tenantry_transfers SET source_placement = '{foreign}' WHERE id = '{}'", ended.id))
        .await;
    let report = seal_keys(&only, SealMode::Apply, &Actor::default()).await.unwrap();
    assert!(report.passed() && report.changes() == 0, "{report:#?}");
    let finished = latest(&only, resumed).await;
    world
        .app_sql(&format!("UPDATE tenantry_transfers SET source_placement = '{foreign}' WHERE id = '{}'", finished.id))
        .await;
    let report = seal_keys(&only, SealMode::Apply, &Actor::default()).await.unwrap();
    let refused: Vec<_> = report.keys.iter().filter(|key| key.error.is_some()).map(|key| key.column).collect();
    assert_eq!(refused, ["source_placement.anon_key", "source_placement.service_key"], "{report:#?}");
}
