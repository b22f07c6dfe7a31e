//! Who gets which connection: the state behind a data source's connections, apart from any input or output.
//!
//! A **slot** is a connection that is open, being opened or being closed; there are never more slots than the cap. A permit
//! is the right to one slot, and a tenant holds at most its share of permits. A permit that is dropped, in whatever way, gives
//! its slot back, and the connection with it if there is one.
//!
//! Whoever cannot be served waits. Waiting is first come, first served within a tenant, and round robin between tenants: of a
//! burst of one tenant, a neighbour waits for one turn and not for all of them. A tenant at its share is passed over. What is
//! kept true after every change: while there is room, nobody whom the room would serve is waiting. So who comes new may take
//! what is free without looking at the line.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::{Notify, oneshot};

/// What the queue has to know of a connection.
pub(super) trait Pooled {
    /// What tells logins apart.
    type Login: Eq + Clone;

    /// The login it was opened with.
    fn login(&self) -> &Self::Login;

    /// The tenant that its session is set to.
    fn tenant(&self) -> Option<&Arc<str>>;
}

/// Whom a permit is for.
#[derive(Clone)]
pub(super) struct Asker<L> {
    pub(super) login: L,
    /// Leases are counted by tenant; who has none is not counted.
    pub(super) tenant: Option<Arc<str>>,
    /// The most permits that the tenant may hold at a time.
    pub(super) share: Option<u32>,
}

/// A connection that nobody uses.
pub(super) struct Idle<C> {
    pub(super) connection: C,
    pub(super) since: Instant,
}

/// How many of what there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) slots: usize,
    pub(super) idle: usize,
    pub(super) waiting: usize,
    pub(super) cap: usize,
}

pub(super) struct Queue<C: Pooled> {
    state: Mutex<State<C>>,
    /// Told when the last slot of a closed queue was given back.
    drained: Notify,
}

struct State<C: Pooled> {
    cap: usize,
    slots: usize,
    /// Slots whose connection is being closed, and will not be used again.
    leaving: usize,
    /// Given back last stands last.
    idle: Vec<Idle<C>>,
    held: HashMap<Arc<str>, u32>,
    waiting: HashMap<Option<Arc<str>>, VecDeque<Waiter<C>>>,
    /// The tenants that wait, in the order in which they are served next.
    turns: VecDeque<Option<Arc<str>>>,
    next_ticket: u64,
    closed: bool,
}

struct Waiter<C: Pooled> {
    ticket: u64,
    asker: Asker<C::Login>,
    grant: oneshot::Sender<Permit<C>>,
}

/// The right to one slot of the cap and, for a tenant, to one of its share.
pub(super) struct Permit<C: Pooled> {
    /// None once it was disarmed.
    queue: Option<Arc<Queue<C>>>,
    tenant: Option<Arc<str>>,
    /// Its connection is being closed.
    leaving: bool,
    /// A connection that came with the permit and was not taken out yet. It may be of another login: then it is to be closed
    /// before another is opened in its place.
    idle: Option<Idle<C>>,
}

/// A place in the line. Dropped, it leaves the line; a permit that was granted meanwhile goes back.
pub(super) struct Ticket<C: Pooled> {
    queue: Arc<Queue<C>>,
    tenant: Option<Arc<str>>,
    number: u64,
    granted: oneshot::Receiver<Permit<C>>,
    over: bool,
}

/// The answer to somebody who asks.
pub(super) enum Answer<C: Pooled> {
    Now(Permit<C>),
    Wait(Ticket<C>),
    Closed,
}

impl<C: Pooled> Queue<C> {
    pub(super) fn new(cap: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                cap: cap.max(1),
                slots: 0,
                leaving: 0,
                idle: Vec::new(),
                held: HashMap::new(),
                waiting: HashMap::new(),
                turns: VecDeque::new(),
                next_ticket: 0,
                closed: false,
            }),
            drained: Notify::new(),
        })
    }

    pub(super) fn ask(self: &Arc<Self>, asker: &Asker<C::Login>) -> Answer<C> {
        let mut state = self.lock();
        if state.closed {
            return Answer::Closed;
        }
        if let Some(idle) = state.take(asker) {
            return Answer::Now(self.permit(asker, idle));
        }
        let (grant, granted) = oneshot::channel();
        let number = state.next_ticket;
        state.next_ticket += 1;
        let line = state.waiting.entry(asker.tenant.clone()).or_default();
        line.push_back(Waiter { ticket: number, asker: asker.clone(), grant });
        if line.len() == 1 {
            state.turns.push_back(asker.tenant.clone());
        }
        Answer::Wait(Ticket { queue: Arc::clone(self), tenant: asker.tenant.clone(), number, granted, over: false })
    }

    /// A permit to open a connection beside those that are there, if the cap allows and nobody has to wait for it.
    pub(super) fn ask_for_room(self: &Arc<Self>) -> Option<Permit<C>> {
        let mut state = self.lock();
        if state.closed || state.slots >= state.cap {
            return None;
        }
        state.slots += 1;
        Some(Permit { queue: Some(Arc::clone(self)), tenant: None, leaving: false, idle: None })
    }

    /// Takes out the idle connections that `unwanted` says so of, oldest first, each with the permit of its slot: to be closed.
    pub(super) fn remove_idle(self: &Arc<Self>, unwanted: impl FnMut(&Idle<C>) -> bool) -> Vec<(Permit<C>, C)> {
        self.remove_idle_of(&mut self.lock(), unwanted)
    }

    /// Changes the cap. Hands out the idle connections that are too many now, oldest first: to be closed.
    pub(super) fn set_cap(self: &Arc<Self>, cap: usize) -> Vec<(Permit<C>, C)> {
        let mut state = self.lock();
        state.cap = cap.max(1);
        let mut surplus = (state.slots - state.leaving).saturating_sub(state.cap);
        let gone = self.remove_idle_of(&mut state, |_| {
            let unwanted = surplus > 0;
            surplus -= usize::from(unwanted);
            unwanted
        });
        self.serve(&mut state);
        gone
    }

    fn remove_idle_of(
        self: &Arc<Self>,
        state: &mut State<C>,
        mut unwanted: impl FnMut(&Idle<C>) -> bool,
    ) -> Vec<(Permit<C>, C)> {
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.idle).into_iter().partition(|idle| unwanted(idle));
        state.idle = kept;
        state.leaving += gone.len();
        let permit = || Permit { queue: Some(Arc::clone(self)), tenant: None, leaving: true, idle: None };
        gone.into_iter().map(|idle| (permit(), idle.connection)).collect()
    }

    /// Refuses everyone from now on, those who wait included.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.turns.clear();
        let lines = std::mem::take(&mut state.waiting);
        let empty = state.slots == 0;
        drop(state);
        // Who waits learns of it by its sender's end.
        drop(lines);
        if empty {
            self.drained.notify_waiters();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits until every slot of a closed queue was given back.
    pub(super) async fn drained(&self) {
        loop {
            let drained = self.drained.notified();
            if self.lock().slots == 0 {
                return;
            }
            drained.await;
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let state = self.lock();
        Counts {
            slots: state.slots,
            idle: state.idle.len(),
            waiting: state.waiting.values().map(VecDeque::len).sum(),
            cap: state.cap,
        }
    }

    /// The permits that a tenant holds now.
    pub(super) fn held_by(&self, tenant: &str) -> u32 {
        self.lock().held.get(tenant).copied().unwrap_or(0)
    }

    fn permit(self: &Arc<Self>, asker: &Asker<C::Login>, idle: Option<Idle<C>>) -> Permit<C> {
        Permit { queue: Some(Arc::clone(self)), tenant: asker.tenant.clone(), leaving: false, idle }
    }

    /// Serves who waits, for as long as there is room for anyone.
    fn serve(self: &Arc<Self>, state: &mut State<C>) {
        while let Some(waiter) = state.next_waiter() {
            let Some(idle) = state.take(&waiter.asker) else { return };
            let permit = self.permit(&waiter.asker, idle);
            if let Err(mut unwanted) = waiter.grant.send(permit) {
                // Nobody waits there any more. Dropping the permit here would lock again.
                unwanted.queue = None;
                state.give_back(unwanted.tenant.as_ref(), unwanted.idle.take());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Pooled> State<C> {
    /// Takes a slot and what fits best: the connection that was last set to the tenant, one that is set to none, room for a
    /// new one, the one whose last use is longest ago, and last the one of another login, in whose place to open one.
    fn take(&mut self, asker: &Asker<C::Login>) -> Option<Option<Idle<C>>> {
        if !self.share_allows(asker) {
            return None;
        }
        let taken = if let Some(best) = self.best_idle(asker) {
            Some(self.idle.remove(best))
        } else if self.slots < self.cap {
            self.slots += 1;
            None
        } else if self.idle.is_empty() {
            return None;
        } else {
            let own = self.idle.iter().position(|idle| *idle.connection.login() == asker.login);
            Some(self.idle.remove(own.unwrap_or(0)))
        };
        if let Some(tenant) = &asker.tenant {
            match self.held.get_mut(tenant) {
                Some(held) => *held += 1,
                None => {
                    self.held.insert(Arc::clone(tenant), 1);
                }
            }
        }
        Some(taken)
    }

    fn best_idle(&self, asker: &Asker<C::Login>) -> Option<usize> {
        let mut untagged = None;
        for (index, Idle { connection, .. }) in self.idle.iter().enumerate().rev() {
            if *connection.login() != asker.login {
                continue;
            }
            match (connection.tenant(), &asker.tenant) {
                (Some(tenant), Some(asked)) if Arc::ptr_eq(tenant, asked) || tenant == asked => return Some(index),
                (None, None) => return Some(index),
                (None, Some(_)) if untagged.is_none() => untagged = Some(index),
                _ => {}
            }
        }
        untagged
    }

    fn share_allows(&self, asker: &Asker<C::Login>) -> bool {
        match (&asker.tenant, asker.share) {
            (Some(tenant), Some(share)) => self.held.get(tenant).is_none_or(|held| *held < share.max(1)),
            _ => true,
        }
    }

    /// The next in turn whom its share does not hold back, taken out of the line if there is room at all.
    fn next_waiter(&mut self) -> Option<Waiter<C>> {
        if self.idle.is_empty() && self.slots >= self.cap {
            return None;
        }
        let turn = self.turns.iter().position(|tenant| {
            let first = self.waiting.get(tenant).and_then(VecDeque::front);
            first.is_some_and(|waiter| self.share_allows(&waiter.asker))
        })?;
        let tenant = self.turns.remove(turn)?;
        let line = self.waiting.get_mut(&tenant)?;
        let waiter = line.pop_front();
        if line.is_empty() {
            self.waiting.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        waiter
    }

    /// Gives a slot back: with its connection, which is idle then, or without, and then the slot is free.
    fn give_back(&mut self, tenant: Option<&Arc<str>>, idle: Option<Idle<C>>) {
        match idle {
            Some(idle) => self.idle.push(idle),
            None => self.slots -= 1,
        }
        if let Some(tenant) = tenant
            && let Some(held) = self.held.get_mut(tenant)
        {
            *held -= 1;
            if *held == 0 {
                self.held.remove(tenant);
            }
        }
    }
}

impl<C: Pooled> Permit<C> {
    /// The connection that came with the permit.
    pub(super) fn take_idle(&mut self) -> Option<Idle<C>> {
        self.idle.take()
    }

    /// Says that the connection of this slot is being closed.
    pub(super) fn leave(&mut self) {
        if let (Some(queue), false) = (&self.queue, self.leaving) {
            queue.lock().leaving += 1;
            self.leaving = true;
        }
    }

    /// Says that another connection is to be opened in place of the one that was closed.
    pub(super) fn stay(&mut self) {
        if let (Some(queue), true) = (&self.queue, self.leaving) {
            queue.lock().leaving -= 1;
            self.leaving = false;
        }
    }

    /// Gives the slot back with a connection for the next one. Hands the connection out again when there are more than the
    /// cap allows or no more are wanted: close it and drop the permit then.
    pub(super) fn put_back(mut self, connection: C, now: Instant) -> Result<(), (Self, C)> {
        let Some(queue) = self.queue.take() else { return Ok(()) };
        let mut state = queue.lock();
        if state.closed || state.slots - state.leaving > state.cap {
            state.leaving += 1;
            drop(state);
            self.leaving = true;
            self.queue = Some(queue);
            return Err((self, connection));
        }
        state.give_back(self.tenant.take().as_ref(), Some(Idle { connection, since: now }));
        queue.serve(&mut state);
        Ok(())
    }
}

impl<C: Pooled> Drop for Permit<C> {
    fn drop(&mut self) {
        let Some(queue) = self.queue.take() else { return };
        let mut state = queue.lock();
        // It was granted to somebody who went away meanwhile. A queue that is closed keeps no connection: nobody would take it
        // out again, and the end would be waited for without end. It is dropped with the permit, after this lock.
        let idle = if state.closed { None } else { self.idle.take() };
        state.leaving -= usize::from(self.leaving);
        state.give_back(self.tenant.take().as_ref(), idle);
        queue.serve(&mut state);
        if state.closed && state.slots == 0 {
            queue.drained.notify_waiters();
        }
    }
}

impl<C: Pooled> Ticket<C> {
    /// Waits for the permit; none when the queue was closed. Cancel-safe: dropped, it leaves the line.
    pub(super) async fn granted(mut self) -> Option<Permit<C>> {
        let permit = (&mut self.granted).await.ok();
        self.over = true;
        permit
    }
}

impl<C: Pooled> Drop for Ticket<C> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut state = self.queue.lock();
        if let Some(line) = state.waiting.get_mut(&self.tenant) {
            line.retain(|waiter| waiter.ticket != self.number);
            if line.is_empty() {
                state.waiting.remove(&self.tenant);
                state.turns.retain(|tenant| *tenant != self.tenant);
            }
        }
        // A permit that was granted in the meantime is in the channel and goes back with it, after this lock.
    }
}

#[cfg(test)]
mod tests;
