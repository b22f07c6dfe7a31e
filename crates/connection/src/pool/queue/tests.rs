//! The queue by itself: no connection, no time, no runtime.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use futures_util::Future;
use proptest::prelude::*;

use super::*;

/// A connection as the queue sees it.
#[derive(Debug)]
struct Fake {
    login: u8,
    tenant: Option<Arc<str>>,
}

impl Pooled for Fake {
    type Login = u8;

    fn login(&self) -> &u8 {
        &self.login
    }

    fn tenant(&self) -> Option<&Arc<str>> {
        self.tenant.as_ref()
    }
}

fn asker(login: u8, tenant: &str, share: u32) -> Asker<u8> {
    Asker { login, tenant: Some(tenant.into()), share: Some(share) }
}

fn now(queue: &Arc<Queue<Fake>>, asker: &Asker<u8>) -> Permit<Fake> {
    match queue.ask(asker) {
        Answer::Now(permit) => permit,
        Answer::Wait(_) => panic!("has to wait"),
        Answer::Closed => panic!("closed"),
    }
}

fn waits(queue: &Arc<Queue<Fake>>, asker: &Asker<u8>) -> Ticket<Fake> {
    match queue.ask(asker) {
        Answer::Now(_) => panic!("need not wait"),
        Answer::Wait(ticket) => ticket,
        Answer::Closed => panic!("closed"),
    }
}

fn back(permit: Permit<Fake>, login: u8, tenant: Option<&str>) {
    assert!(permit.put_back(Fake { login, tenant: tenant.map(Into::into) }, Instant::now()).is_ok());
}

/// The permit of a ticket that was granted by now; none while it is not.
fn granted(ticket: Ticket<Fake>) -> Result<Option<Permit<Fake>>, ()> {
    match pin!(ticket.granted()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(permit) => Ok(permit),
        Poll::Pending => Err(()),
    }
}

fn tenant_of(permit: &mut Permit<Fake>) -> Option<String> {
    permit.take_idle().unwrap().connection.tenant.map(|tenant| tenant.to_string())
}

#[test]
fn a_lease_prefers_its_tenants_connection_then_an_untagged_one_then_room_then_the_oldest() {
    let queue = Queue::new(4);
    let permits: Vec<_> = (0..4).map(|_| now(&queue, &asker(0, "x", 9))).collect();
    for (permit, tenant) in permits.into_iter().zip([Some("a"), Some("b"), None, Some("a")]) {
        back(permit, 0, tenant);
    }
    let mut a = now(&queue, &asker(0, "a", 9));
    assert_eq!(tenant_of(&mut a).as_deref(), Some("a"));
    let mut c = now(&queue, &asker(0, "c", 9));
    assert_eq!(tenant_of(&mut c), None, "an untagged one before somebody else's");
    let mut d = now(&queue, &asker(0, "d", 9));
    assert_eq!(tenant_of(&mut d).as_deref(), Some("a"), "the one whose last use is longest ago");
    drop((a, c, d));
    let mut d = now(&queue, &asker(0, "d", 9));
    assert!(d.take_idle().is_none(), "room for a new one before somebody else's: {:?}", queue.counts());
}

#[test]
fn another_logins_connection_is_only_ever_replaced() {
    let queue = Queue::new(2);
    let first = now(&queue, &asker(1, "a", 9));
    back(first, 1, Some("a"));
    let mut other = now(&queue, &asker(2, "a", 9));
    assert!(other.take_idle().is_none(), "there is room beside it");
    let mut third = now(&queue, &asker(2, "a", 9));
    assert_eq!(third.take_idle().unwrap().connection.login, 1, "there is no room: it is handed out to be closed");
    assert_eq!(queue.counts().slots, 2);
}

/// A burst of one tenant does not make a neighbour wait for all of it, and a tenant at its share holds nobody up (trap 8).
#[test]
fn waiting_goes_in_turns_between_tenants_and_in_order_within_one() {
    let queue = Queue::new(2);
    let mut held: VecDeque<_> = (0..2).map(|_| now(&queue, &asker(0, "busy", 2))).collect();
    let busy: Vec<_> = (0..3).map(|_| waits(&queue, &asker(0, "busy", 2))).collect();
    let quiet = waits(&queue, &asker(0, "quiet", 2));
    let other = waits(&queue, &asker(0, "other", 2));
    assert_eq!(queue.counts().waiting, 5);

    drop(held.pop_front());
    let mut busy = busy.into_iter();
    let first = granted(busy.next().unwrap()).expect("first come, first served").unwrap();
    drop(held.pop_front());
    let quiet = granted(quiet).expect("the next turn is the neighbour's").unwrap();
    drop(first);
    let other = granted(other).expect("and the next the other's").unwrap();
    drop((quiet, other));
    let rest: Vec<_> = busy.map(|ticket| granted(ticket).expect("its turn again")).collect();
    assert_eq!(queue.held_by("busy"), 2);
    drop(rest);
    assert_eq!((queue.counts().slots, queue.counts().waiting, queue.held_by("busy")), (0, 0, 0));
}

#[test]
fn a_tenant_at_its_share_waits_while_there_is_room_and_is_passed_over() {
    let queue = Queue::new(10);
    let held = now(&queue, &asker(0, "small", 1));
    let ticket = waits(&queue, &asker(0, "small", 1));
    let others: Vec<_> = (0..9).map(|_| now(&queue, &asker(0, "large", 9))).collect();
    drop(others);
    drop(held);
    assert!(granted(ticket).is_ok());
}

/// Trap 2: whatever becomes of a permit or of who waits for it, its slot comes back.
#[test]
fn a_permit_comes_back_from_who_went_away() {
    let queue = Queue::new(1);
    let held = now(&queue, &asker(0, "a", 1));
    let gone = waits(&queue, &asker(0, "b", 1));
    let granted_and_gone = waits(&queue, &asker(0, "c", 1));
    let patient = waits(&queue, &asker(0, "d", 1));
    drop(gone);
    back(held, 0, Some("a"));
    drop(granted_and_gone);
    let mut permit = granted(patient).expect("passed on").unwrap();
    assert_eq!(tenant_of(&mut permit).as_deref(), Some("a"), "and the connection with it");
    drop(permit);
    assert_eq!(queue.counts(), Counts { slots: 0, idle: 0, waiting: 0, cap: 1 });
}

#[test]
fn a_closed_queue_refuses_and_takes_nothing_back() {
    let queue = Queue::new(1);
    let held = now(&queue, &asker(0, "a", 1));
    let waiting = waits(&queue, &asker(0, "b", 1));
    queue.close();
    assert!(granted(waiting).unwrap().is_none(), "who waits learns of it");
    assert!(matches!(queue.ask(&asker(0, "a", 1)), Answer::Closed));
    let Err((permit, _)) = held.put_back(Fake { login: 0, tenant: None }, Instant::now()) else {
        panic!("a closed queue keeps no connection")
    };
    assert_eq!(queue.counts().slots, 1);
    drop(permit);
    assert!(pin!(queue.drained()).poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

/// A connection on its way to somebody who goes away would stay in a queue that is closed, and its end be waited for for ever.
#[test]
fn a_closed_queue_is_drained_of_what_was_granted_and_not_taken() {
    let queue = Queue::new(1);
    let held = now(&queue, &asker(0, "a", 1));
    let granted_and_gone = waits(&queue, &asker(0, "b", 1));
    back(held, 0, Some("a"));
    queue.close();
    drop(granted_and_gone);
    assert_eq!((queue.counts().slots, queue.counts().idle), (0, 0));
    assert!(pin!(queue.drained()).poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

/// A lower cap holds at once for what is idle, and for the rest as it comes back; what is being closed already counts as gone, so
/// that no more are closed than have to be.
#[test]
fn connections_above_a_lowered_cap_are_not_kept() {
    let queue = Queue::new(6);
    let mut held: Vec<_> = (0..6).map(|_| now(&queue, &asker(0, "a", 9))).collect();
    for permit in held.split_off(4) {
        back(permit, 0, None);
    }
    let idle = queue.set_cap(5);
    assert_eq!((idle.len(), queue.counts().idle), (1, 1), "the sixth");
    let more = queue.set_cap(2);
    assert_eq!((more.len(), queue.counts().idle, queue.counts().slots), (1, 0, 6), "all that are idle");
    let mut leaving = Vec::new();
    for permit in held {
        match permit.put_back(Fake { login: 0, tenant: None }, Instant::now()) {
            Ok(()) => {}
            Err((permit, _)) => leaving.push(permit),
        }
    }
    assert_eq!((leaving.len(), queue.counts().idle), (2, 2), "two too many, and two to keep");
    drop((idle, more, leaving));
    assert_eq!(queue.counts(), Counts { slots: 2, idle: 2, waiting: 0, cap: 2 });
}

/// What somebody does.
#[derive(Debug, Clone)]
enum Step {
    Ask { login: u8, tenant: u8 },
    GiveBack(usize),
    Drop(usize),
    LeaveTheLine(usize),
    Expire,
    Cap(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2u8, 0..4u8).prop_map(|(login, tenant)| Step::Ask { login, tenant }),
        4 => any::<usize>().prop_map(Step::GiveBack),
        2 => any::<usize>().prop_map(Step::Drop),
        2 => any::<usize>().prop_map(Step::LeaveTheLine),
        1 => Just(Step::Expire),
        1 => (1..6usize).prop_map(Step::Cap),
    ]
}

proptest! {
    /// Whatever happens in whatever order: no more slots than the cap ever allowed, no more permits of a tenant than its share,
    /// nobody gets a connection of another login as its own, nobody waits whom there is room for, and in the end all is back.
    #[test]
    fn nothing_is_lost_and_nothing_is_too_much(steps in proptest::collection::vec(step(), 1..200)) {
        let queue: Arc<Queue<Fake>> = Queue::new(3);
        let mut held: Vec<(Permit<Fake>, Asker<u8>)> = Vec::new();
        let mut waiting: Vec<(Ticket<Fake>, Asker<u8>)> = Vec::new();
        let mut highest_cap = 3;
        for step in steps {
            match step {
                Step::Ask { login, tenant } => {
                    let asker = asker(login, &format!("tenant {tenant}"), u32::from(tenant) + 1);
                    match queue.ask(&asker) {
                        Answer::Now(permit) => held.push((permit, asker)),
                        Answer::Wait(ticket) => waiting.push((ticket, asker)),
                        Answer::Closed => prop_assert!(false),
                    }
                }
                Step::GiveBack(which) if !held.is_empty() => {
                    let (mut permit, asker) = held.swap_remove(which % held.len());
                    let _closed = permit.take_idle();
                    let connection = Fake { login: asker.login, tenant: asker.tenant.clone() };
                    drop(permit.put_back(connection, Instant::now()));
                }
                Step::Drop(which) if !held.is_empty() => drop(held.swap_remove(which % held.len())),
                Step::LeaveTheLine(which) if !waiting.is_empty() => drop(waiting.swap_remove(which % waiting.len())),
                Step::Expire => drop(queue.remove_idle(|idle| idle.connection.login == 0)),
                Step::Cap(cap) => {
                    highest_cap = highest_cap.max(cap);
                    drop(queue.set_cap(cap));
                }
                _ => {}
            }
            let mut index = 0;
            while index < waiting.len() {
                match waiting[index].0.granted.try_recv() {
                    Ok(permit) => {
                        let (mut ticket, asker) = waiting.swap_remove(index);
                        ticket.over = true;
                        held.push((permit, asker));
                    }
                    Err(_) => index += 1,
                }
            }
            let counts = queue.counts();
            prop_assert!(counts.slots <= highest_cap, "{counts:?}");
            prop_assert_eq!(counts.waiting, waiting.len());
            for (_, asker) in &waiting {
                let tenant = asker.tenant.as_deref().unwrap();
                let room = counts.idle > 0 || counts.slots < counts.cap;
                prop_assert!(!room || queue.held_by(tenant) >= asker.share.unwrap(), "{tenant} waits, {counts:?}");
            }
            for tenant in 0..4 {
                let name = format!("tenant {tenant}");
                let count = held.iter().filter(|(_, asker)| asker.tenant.as_deref() == Some(&*name)).count();
                prop_assert_eq!(queue.held_by(&name) as usize, count);
            }
        }
        drop(waiting);
        drop(held);
        drop(queue.remove_idle(|_| true));
        prop_assert_eq!(queue.counts().slots, 0);
        prop_assert_eq!(queue.lock().turns.len(), 0);
        prop_assert_eq!(queue.lock().leaving, 0);
    }
}
