//! Which table is next, and how many at a time. This module knows no connection and no row.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{Endpoint, plan::Group};

/// What is to be copied: each group when those it refers to are done, of several the one with the most rows.
pub(super) struct Schedule<'a> {
    groups: &'a [Group],
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    /// By the number of rows, the largest last.
    waiting: Vec<usize>,
    done: BTreeSet<usize>,
}

impl<'a> Schedule<'a> {
    pub(super) fn new(groups: &'a [Group], rows: impl Fn(&Group) -> u64) -> Self {
        let mut waiting: Vec<usize> = (0..groups.len()).collect();
        waiting.sort_by_key(|number| groups.get(*number).map(&rows));
        let state = State { waiting, done: BTreeSet::new() };
        Self { groups, state: Mutex::new(state), changed: Notify::new() }
    }

    /// The next group, or `None` when none is left to begin. Waits while what is left refers to what is being copied.
    pub(super) async fn next(&self) -> Option<(usize, &'a Group)> {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state();
                if state.waiting.is_empty() {
                    return None;
                }
                let ready =
                    |number: &usize| self.groups.get(*number).is_some_and(|group| group.parents.is_subset(&state.done));
                if let Some(place) = state.waiting.iter().rposition(ready) {
                    let number = state.waiting.remove(place);
                    let last = state.waiting.is_empty();
                    drop(state);
                    if last {
                        self.changed.notify_waiters();
                    }
                    return self.groups.get(number).map(|group| (number, group));
                }
            }
            changed.await;
        }
    }

    /// A group has been committed.
    pub(super) fn done(&self, number: usize) {
        self.state().done.insert(number);
        self.changed.notify_waiters();
    }

    /// Waits until no group is left to begin.
    pub(super) async fn nothing_left(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state().waiting.is_empty() {
                return;
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many tables at a time, when a first connection to the source is open: as many as asked for, but at either end no more
/// than leave half of the connections that are free now to others.
pub(crate) fn workers(source: &Endpoint, target: &Endpoint, parallel: usize) -> usize {
    let spare = |endpoint: &Endpoint, needed: u32| {
        let status = endpoint.pool.status();
        status.max.saturating_sub(status.in_use + needed) as usize / 2
    };
    parallel.clamp(1, 1 + spare(source, 0).min(spare(target, 1)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    fn group(place: usize, parents: &[usize]) -> Group {
        Group { tables: place..place + 1, parents: parents.iter().copied().collect() }
    }

    #[tokio::test]
    async fn the_largest_of_what_is_ready_comes_first_and_children_wait() {
        let groups = [group(0, &[]), group(1, &[]), group(2, &[0]), group(3, &[])];
        let rows = [1, 50, 1000, 100];
        let schedule = Schedule::new(&groups, |group| rows[group.tables.start]);
        let mut order = Vec::new();
        for _ in 0..3 {
            order.push(schedule.next().await.unwrap().0);
        }
        assert_eq!(order, [3, 1, 0]);
        let (child, ()) = tokio::join!(schedule.next(), async { schedule.done(0) });
        assert_eq!(child.unwrap().0, 2);
        schedule.nothing_left().await;
        assert!(schedule.next().await.is_none());
    }
}
