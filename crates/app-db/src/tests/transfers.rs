//! The record of transfers: one at a time, one owner at a time, and a cutover that is whole or not at all.

use std::time::Duration;

use tenantry_connection::{Actor, DataSourceUrl};
use uuid::Uuid;

use super::World;
use crate::entities::TransferStep;
use crate::{Advance, Error, NewPlacement, NewTenant, NewTransfer, TransferLease};

const LEASE: Duration = Duration::from_secs(30);

fn file(name: &str) -> NewPlacement {
    let url = DataSourceUrl::parse(&format!("sqlite:/var/lib/tenants/{name}.db")).unwrap();
    NewPlacement { url: Some(url), region: Some("here".to_owned()), ..NewPlacement::default() }
}

async fn new(world: &World) -> NewTransfer {
    let tenant = NewTenant { placement: file("first"), ..NewTenant::new("Acme", "acme") };
    world.app_db.create_tenant(&tenant, &Actor::default()).await.unwrap();
    let epoch = world.app_db.placement(tenant.id).await.unwrap().unwrap().epoch;
    NewTransfer {
        tenant: tenant.id,
        undoes: None,
        source: file("first"),
        source_key: tenant.id.to_string(),
        target: file("second"),
        target_key: tenant.id.to_string(),
        expected_epoch: epoch,
        tables: 13,
        records: 253,
        reference_tables: vec!["countries".to_owned(), "a \"quoted\" one".to_owned()],
    }
}

async fn advance(world: &World, lease: &TransferLease, to: TransferStep) -> Result<(), Error> {
    let from = world.app_db.transfer(lease.transfer).await.unwrap().unwrap().step;
    let advance = Advance::new(from, to);
    world.app_db.advance_transfer(lease, &advance, &Actor::default()).await
}

#[tokio::test]
async fn a_tenant_has_one_transfer_at_a_time() {
    let world = World::new().await;
    let new = new(&world).await;
    let (first, lease) = world.app_db.begin_transfer(&new, LEASE, &Actor::default()).await.unwrap();
    assert_eq!((first.step, first.records, first.source().unwrap()), (TransferStep::Planned, 253, file("first")));
    assert_eq!(first.reference_tables().unwrap(), new.reference_tables);
    let second = world.app_db.begin_transfer(&new, LEASE, &Actor::default()).await;
    assert!(matches!(second, Err(Error::TransferUnderWay { transfer, .. }) if transfer == first.id), "{second:?}");
    advance(&world, &lease, TransferStep::Aborted).await.unwrap();
    world.app_db.begin_transfer(&new, LEASE, &Actor::default()).await.unwrap();
    let actions: Vec<String> =
        world.app_db.audit_entries(Some(new.tenant), 10).await.unwrap().into_iter().map(|entry| entry.action).collect();
    assert_eq!(actions.iter().filter(|action| *action == "transfer_begun").count(), 2, "{actions:?}");
    assert_eq!(actions.iter().filter(|action| *action == "transfer_aborted").count(), 1, "{actions:?}");
}

/// A process that was taken for dead and is not must not write another step.
#[tokio::test]
async fn who_was_taken_over_can_do_nothing_more() {
    let world = World::new().await;
    let new = new(&world).await;
    let (transfer, first) = world.app_db.begin_transfer(&new, LEASE, &Actor::default()).await.unwrap();
    let held = world.app_db.take_transfer(transfer.id, LEASE).await;
    assert!(matches!(held, Err(Error::TransferHeld { .. })), "{held:?}");

    world.app_db.renew_transfer(&first, Duration::ZERO).await.unwrap();
    let (_, second) = world.app_db.take_transfer(transfer.id, LEASE).await.unwrap();
    assert_eq!(second.epoch, first.epoch + 1);
    let lost = |done: Result<(), Error>| assert!(matches!(done, Err(Error::LeaseLost { .. })), "{done:?}");
    lost(advance(&world, &first, TransferStep::Fenced).await);
    lost(world.app_db.renew_transfer(&first, LEASE).await);
    lost(world.app_db.warn_transfer(&first, "of a run that is no more").await);
    lost(world.app_db.cut_over(&first, &Actor::default()).await.map(drop));
    // Giving up what is lost is no error, and takes nothing from the new owner.
    world.app_db.release_transfer(&first, None).await.unwrap();
    advance(&world, &second, TransferStep::Fenced).await.unwrap();
    assert_eq!(world.app_db.transfer(transfer.id).await.unwrap().unwrap().step, TransferStep::Fenced);
    assert_eq!(world.app_db.placement(new.tenant).await.unwrap().unwrap().epoch, new.expected_epoch);

    world.app_db.release_transfer(&second, Some("stopped".to_owned())).await.unwrap();
    let (again, _) = world.app_db.take_transfer(transfer.id, LEASE).await.unwrap();
    assert_eq!(again.problem.as_deref(), Some("stopped"));
}

/// What was refused once, and done since, was told as the problem of what was done, in the audit log as well.
#[tokio::test]
async fn what_a_run_ended_with_is_forgotten_when_a_step_ends_well() {
    let world = World::new().await;
    let new = new(&world).await;
    let (transfer, mut lease) = world.app_db.begin_transfer(&new, LEASE, &Actor::default()).await.unwrap();
    let problem = async || world.app_db.transfer(transfer.id).await.unwrap().unwrap().problem;
    for (to, left) in [(TransferStep::Fenced, None), (TransferStep::Aborting, Some("stopped"))] {
        world.app_db.release_transfer(&lease, Some("stopped".to_owned())).await.unwrap();
        (_, lease) = world.app_db.take_transfer(transfer.id, LEASE).await.unwrap();
        let holding = Advance { holding: true, ..Advance::new(TransferStep::Planned, TransferStep::Planned) };
        if to == TransferStep::Fenced {
            world.app_db.advance_transfer(&lease, &holding, &Actor::default()).await.unwrap();
        }
        assert_eq!(problem().await.as_deref(), Some("stopped"), "no step has ended");
        advance(&world, &lease, to).await.unwrap();
        assert_eq!(problem().await.as_deref(), left, "{to:?}");
    }
    advance(&world, &lease, TransferStep::Aborted).await.unwrap();
    assert_eq!(problem().await.as_deref(), Some("stopped"), "why it was given up");
}

#[tokio::test]
async fn a_cutover_changes_placement_and_step_together_or_neither() {
    let world = World::new().await;
    let new = new(&world).await;
    let stale = NewTransfer { expected_epoch: new.expected_epoch + 7, ..new.clone() };
    let stale = world.app_db.begin_transfer(&stale, LEASE, &Actor::default()).await;
    assert!(matches!(stale, Err(Error::Moved { found, .. }) if found == new.expected_epoch), "{stale:?}");
    assert!(world.app_db.transfer_under_way(new.tenant).await.unwrap().is_none(), "nothing is recorded");
    // Placed by hand while it was under way.
    let (transfer, lease) = world.app_db.begin_transfer(&new, LEASE, &Actor::default()).await.unwrap();
    advance(&world, &lease, TransferStep::Verified).await.unwrap();
    let third = world.app_db.place(new.tenant, new.expected_epoch, &file("third"), &Actor::default()).await.unwrap();
    let moved = world.app_db.cut_over(&lease, &Actor::default()).await;
    assert!(matches!(moved, Err(Error::Moved { .. })), "{moved:?}");
    assert_eq!(world.app_db.transfer(transfer.id).await.unwrap().unwrap().step, TransferStep::Verified);
    advance(&world, &lease, TransferStep::Aborted).await.unwrap();
    let expected_epoch = world.app_db.place(new.tenant, third, &file("first"), &Actor::default()).await.unwrap();
    let new = NewTransfer { expected_epoch, ..new };

    let (transfer, lease) = world.app_db.begin_transfer(&new, LEASE, &Actor::default()).await.unwrap();
    let early = world.app_db.cut_over(&lease, &Actor::default()).await;
    assert!(matches!(early, Err(Error::LeaseLost { .. })), "what was not verified is not placed: {early:?}");
    assert_eq!(world.app_db.placement(new.tenant).await.unwrap().unwrap().epoch, new.expected_epoch);
    advance(&world, &lease, TransferStep::Verified).await.unwrap();
    let epoch = world.app_db.cut_over(&lease, &Actor::default()).await.unwrap();
    let placed = world.app_db.placement(new.tenant).await.unwrap().unwrap();
    assert_eq!((placed.epoch, placed.url.as_deref()), (epoch, Some("sqlite:/var/lib/tenants/second.db")));
    let after = world.app_db.transfer(transfer.id).await.unwrap().unwrap();
    assert_eq!((after.step, after.placed_epoch), (TransferStep::Placed, Some(epoch)));
    advance(&world, &lease, TransferStep::Finished).await.unwrap();

    let back = NewTransfer {
        undoes: Some(transfer.id),
        source: new.target.clone(),
        target: new.source.clone(),
        expected_epoch: epoch,
        ..new.clone()
    };
    let (_, lease) = world.app_db.begin_transfer(&back, LEASE, &Actor::default()).await.unwrap();
    advance(&world, &lease, TransferStep::Verified).await.unwrap();
    // A commit whose answer was lost, and a runner that gives up in its place: the record decides.
    let given_up = Advance::new(TransferStep::Copied, TransferStep::Aborting);
    let given_up = world.app_db.advance_transfer(&lease, &given_up, &Actor::default()).await;
    assert!(matches!(given_up, Err(Error::LeaseLost { .. })), "{given_up:?}");
    world.app_db.cut_over(&lease, &Actor::default()).await.unwrap();
    assert_eq!(world.app_db.transfer(transfer.id).await.unwrap().unwrap().step, TransferStep::Returned);
}

/// The record holds both placements; what is printed of it must not hold their logins.
#[tokio::test]
async fn sealed_logins_are_never_printed() {
    let world = World::new().await;
    let sealed = Some(super::SEALED.to_owned());
    let url = DataSourceUrl::parse("postgresql://db.example:5432/crm").unwrap();
    let target =
        NewPlacement { url: Some(url), anon_key: sealed.clone(), service_key: sealed, ..NewPlacement::default() };
    let new = NewTransfer { target, ..new(&world).await };
    let (transfer, _) = world.app_db.begin_transfer(&new, LEASE, &Actor::default()).await.unwrap();
    assert_eq!(transfer.target().unwrap(), new.target);
    let audit = world.app_db.audit_entries(Some(new.tenant), 10).await.unwrap();
    let printed = format!("{new:?} {transfer:?} {audit:?}");
    assert!(!printed.contains("c2VhbGVk"), "{printed}");
    assert!(world.app_db.transfer(Uuid::nil()).await.unwrap().is_none());
}
