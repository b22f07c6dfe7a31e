//! What happened to the connections of a data source since it was first used.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::Serialize;

/// Why a connection was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// Its lease was dropped in the middle of a statement or a transaction.
    Abandoned,
    /// It broke, or the server ended it.
    Broken,
    /// Raw SQL ran on it, whatever that left behind.
    RawSql,
    /// It reached its greatest age.
    Age,
    /// Nobody used it for long.
    Unused,
    /// It made room for a connection of another login, or nobody has its login any more.
    Replaced,
    /// The pool was closed, renewed or succeeded by another, or its cap lowered.
    Retired,
}

/// Connections closed, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ClosedCounts {
    /// A lease was dropped in the middle of a statement or a transaction.
    pub abandoned: u64,
    /// The connection broke, or the server ended it.
    pub broken: u64,
    /// Raw SQL ran on it.
    pub raw_sql: u64,
    /// It reached its greatest age.
    pub age: u64,
    /// Nobody used it for long.
    pub unused: u64,
    /// It made room for a connection of another login, or nobody has its login any more.
    pub replaced: u64,
    /// The pool was closed, renewed or succeeded by another, or its cap lowered.
    pub retired: u64,
}

/// The connections of one data source: now, and since it was first used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PoolStatus {
    /// Connections that are open, being opened or being closed. Never more than `max`.
    pub open: u32,
    /// Open connections that nobody uses.
    pub idle: u32,
    /// Connections that a lease holds, or that are being opened or closed.
    pub in_use: u32,
    /// Callers that wait for a connection.
    pub waiting: u32,
    /// The cap.
    pub max: u32,
    /// Leases of a connection that was set to the tenant already.
    pub tag_hits: u64,
    /// Leases of a connection that had to be set to the tenant first.
    pub tag_misses: u64,
    /// Leases that had to wait.
    pub waits: u64,
    /// How long they waited, all together, in microseconds.
    pub wait_us: u64,
    /// Leases that were refused at their deadline.
    pub exhaustions: u64,
    /// Connections opened.
    pub opened: u64,
    /// Connections closed, and why.
    pub closed: ClosedCounts,
}

#[derive(Default)]
pub(super) struct Stats {
    tag_hits: AtomicU64,
    tag_misses: AtomicU64,
    waits: AtomicU64,
    wait_us: AtomicU64,
    exhaustions: AtomicU64,
    opened: AtomicU64,
    closed: [AtomicU64; 7],
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Stats {
    pub(super) fn tag_hit(&self) {
        add(&self.tag_hits, 1);
    }

    pub(super) fn tag_miss(&self) {
        add(&self.tag_misses, 1);
    }

    pub(super) fn waited(&self, time: Duration) {
        add(&self.waits, 1);
        add(&self.wait_us, u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn exhausted(&self) {
        add(&self.exhaustions, 1);
    }

    pub(super) fn opened(&self) {
        add(&self.opened, 1);
    }

    pub(super) fn closed(&self, why: Closed) {
        add(&self.closed[why as usize], 1);
    }

    /// The counters; the connections of the moment are the caller's to fill in.
    pub(super) fn read(&self) -> PoolStatus {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let closed = |why: Closed| count(&self.closed[why as usize]);
        PoolStatus {
            tag_hits: count(&self.tag_hits),
            tag_misses: count(&self.tag_misses),
            waits: count(&self.waits),
            wait_us: count(&self.wait_us),
            exhaustions: count(&self.exhaustions),
            opened: count(&self.opened),
            closed: ClosedCounts {
                abandoned: closed(Closed::Abandoned),
                broken: closed(Closed::Broken),
                raw_sql: closed(Closed::RawSql),
                age: closed(Closed::Age),
                unused: closed(Closed::Unused),
                replaced: closed(Closed::Replaced),
                retired: closed(Closed::Retired),
            },
            ..PoolStatus::default()
        }
    }
}
