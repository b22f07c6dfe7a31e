//! What befalls a run, at a place of it that was drawn: its process dies, is dropped, or loses a server's sessions.

use std::{
    fmt,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures_util::FutureExt as _;
use tenantry_test_support::cluster::Database;
use tenantry_transfer::{Error, Progress, Step};
use tokio::sync::Notify;

use super::rng::Rng;

/// What is done to a run.
#[derive(Clone, Copy)]
enum What<'d> {
    /// Nothing after this line runs.
    Dies,
    /// It is dropped when it waits for something next.
    IsDropped,
    /// Every session in this database is ended, as by an administrator or a server that restarts.
    IsCutOff(&'d Database),
}

/// Where it is done.
#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    /// Between two effects.
    Point,
    /// When this step begins a table.
    Table(Step),
}

/// Lets it happen once, at the n-th such place.
pub(super) struct Fault<'d> {
    what: What<'d>,
    at: At,
    left: AtomicUsize,
    step: Mutex<Option<Step>>,
    struck: AtomicBool,
    drop: Notify,
    last: Mutex<String>,
}

/// What became of a run.
pub(super) enum Run<T> {
    Done(T),
    Failed(Error),
    Died,
}

impl<'d> Fault<'d> {
    /// Any of them, in a transfer of so many tables between these databases. Those that come late may not come at all.
    pub(super) fn random(rng: &mut Rng, tables: usize, databases: &[&'d Database]) -> Self {
        let what = match rng.below(3) {
            0 => What::Dies,
            1 => What::IsDropped,
            _ if databases.is_empty() => What::Dies,
            _ => What::IsCutOff(databases[rng.below(databases.len())]),
        };
        let (at, left) = match rng.chance(2) {
            true => (At::Point, 1 + rng.below(16)),
            false => {
                let step =
                    *rng.one_of(&[Step::Plan, Step::Copy, Step::Copy, Step::Verify, Step::TakeBack, Step::Purge]);
                (At::Table(step), 1 + rng.below(tables + 1))
            }
        };
        Self::new(what, at, left)
    }

    pub(super) fn none() -> Self {
        Self::new(What::Dies, At::Point, usize::MAX)
    }

    fn new(what: What<'d>, at: At, left: usize) -> Self {
        Self {
            what,
            at,
            left: AtomicUsize::new(left),
            step: Mutex::new(None),
            struck: AtomicBool::new(false),
            drop: Notify::new(),
            last: Mutex::new(String::new()),
        }
    }

    /// Whether sessions were ended, so that the run may have failed of it.
    pub(super) fn cut_off(&self) -> bool {
        self.struck.load(Ordering::SeqCst) && matches!(self.what, What::IsCutOff(_))
    }

    pub(super) async fn strikes<T>(&self, run: impl Future<Output = Result<T, Error>>) -> Run<T> {
        tokio::select! {
            biased;
            () = self.drop.notified() => Run::Died,
            done = AssertUnwindSafe(run).catch_unwind() => match done {
                Ok(Ok(done)) => Run::Done(done),
                Ok(Err(error)) => Run::Failed(error),
                Err(_) if self.struck.load(Ordering::SeqCst) => Run::Died,
                Err(panic) => resume_unwind(panic),
            },
        }
    }

    fn comes(&self, at: At, name: &str) {
        if at != self.at || self.left.load(Ordering::SeqCst) == 0 || self.left.fetch_sub(1, Ordering::SeqCst) > 1 {
            return;
        }
        self.struck.store(true, Ordering::SeqCst);
        name.clone_into(&mut self.last.lock().unwrap());
        match self.what {
            // Not `panic!`, whose message would look like a failure.
            What::Dies => resume_unwind(Box::new("died")),
            What::IsDropped => self.drop.notify_one(),
            What::IsCutOff(database) => {
                let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                     WHERE datname = current_database() AND pid <> pg_backend_pid()";
                tokio::task::block_in_place(|| database.psql(&database.superuser, end)).unwrap();
            }
        }
    }
}

impl fmt::Display for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.struck.load(Ordering::SeqCst) {
            return f.write_str("no fault");
        }
        match self.what {
            What::Dies => f.write_str("died")?,
            What::IsDropped => f.write_str("dropped")?,
            What::IsCutOff(database) => write!(f, "cut off from {}", database.name)?,
        }
        let place = self.last.lock().unwrap();
        match self.at {
            At::Point => write!(f, " at \"{place}\""),
            At::Table(step) => write!(f, " at \"{step}\" of {place}"),
        }
    }
}

impl Progress for Fault<'_> {
    fn point(&self, name: &'static str) {
        self.comes(At::Point, name);
    }

    fn step(&self, step: Step) {
        *self.step.lock().unwrap() = Some(step);
    }

    fn table(&self, table: &str, _: u64) {
        let step = *self.step.lock().unwrap();
        if let Some(step) = step {
            self.comes(At::Table(step), table);
        }
    }
}
