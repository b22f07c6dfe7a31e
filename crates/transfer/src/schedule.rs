//! Which table is next, and how many at a time: for what is copied and for what is compared. This module knows no row.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tenantry_connection::Transaction;
use tokio::sync::Notify;

use crate::{Endpoint, Error, plan::Group, rows::ask};

/// Fewer rows than these take longer to open connections for than to read over one.
pub(crate) const FEW: u64 = 20_000;

/// A table with fewer rows is read in the time in which a connection for it would be opened.
const LARGE: u64 = 2_000;

/// What is to be done: each group when those it refers to are done, of several the one with the most rows.
pub(crate) struct Schedule<'a> {
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
    pub(crate) fn new(groups: &'a [Group], rows: impl Fn(&Group) -> u64) -> Self {
        let mut waiting: Vec<usize> = (0..groups.len()).collect();
        waiting.sort_by_key(|number| groups.get(*number).map(&rows));
        let state = State { waiting, done: BTreeSet::new() };
        Self { groups, state: Mutex::new(state), changed: Notify::new() }
    }

    /// The next group, or `None` when none is left to begin. Waits while what is left refers to what is under way.
    pub(crate) async fn next(&self) -> Option<(usize, &'a Group)> {
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

    /// A group is done.
    pub(crate) fn done(&self, number: usize) {
        self.state().done.insert(number);
        self.changed.notify_waiters();
    }

    /// Waits until no group is left to begin.
    pub(crate) async fn nothing_left(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state().waiting.is_empty() {
                return;
            }
            changed.await;
        }
    }

    /// Another transaction on an exported snapshot, or `None` where its connections are taken or nothing is left to do by then:
    /// the transaction that exported the snapshot may have ended, and the snapshot with it.
    pub(crate) async fn another(&self, end: &Endpoint, exported: Option<&str>) -> Result<Option<Transaction>, Error> {
        let Some(exported) = exported else { return Ok(None) };
        tokio::select! {
            biased;
            () = self.nothing_left() => Ok(None),
            other = end.snapshot_of(exported) => match other {
                Err(Error::Database { source: tenantry_connection::Error::Exhausted { .. }, .. }) => {
                    tracing::debug!(database = %end.pool.url(), "fewer tables at a time, because the connections are taken");
                    Ok(None)
                }
                other => other.map(Some),
            },
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets other transactions read what this one sees, for as long as it lasts.
pub(crate) async fn export(from: &mut Transaction) -> Result<String, Error> {
    const DOING: &str = "sharing the snapshot";
    let rows = ask(from, "SELECT pg_catalog.pg_export_snapshot() AS snapshot", DOING).await?;
    let row = rows.into_iter().next();
    let name = row.map(|row| row.try_get("", "snapshot")).transpose().map_err(Error::answer(DOING))?;
    Ok(name.unwrap_or_default())
}

/// How many tables at a time: as many as asked for, but no more than have many rows, and at either end no more than leave half of
/// the connections that are free now to others. With each end stands how many connections the first table still needs of it.
pub(crate) fn workers(
    source: (&Endpoint, u32),
    target: (&Endpoint, u32),
    parallel: usize,
    rows: impl Iterator<Item = u64>,
) -> usize {
    let spare = |(endpoint, needed): (&Endpoint, u32)| {
        let status = endpoint.pool.status();
        status.max.saturating_sub(status.in_use + needed) as usize / 2
    };
    let large = rows.filter(|rows| *rows >= LARGE).count().max(1);
    parallel.min(large).clamp(1, 1 + spare(source).min(spare(target)))
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
