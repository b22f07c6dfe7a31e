//! How far a long command is: a bar on a terminal, plain lines elsewhere, always on standard error.
//!
//! A log of a build server or a pipe gets one line per part, one every few seconds of a long one, and none of a bar's control
//! characters.

mod work;

use std::{
    io::{IsTerminal, Write, stderr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tenantry::transfer::{Plan, Progress, Step};

use crate::text::printable;
pub(crate) use work::Bytes;
use work::Work;

/// How often a bar moves by itself.
const TICK: Duration = Duration::from_millis(120);

/// How often a long step is told of where there is no bar.
const LINES: Duration = Duration::from_secs(5);

/// One part of the work, of known or unknown size.
#[derive(Debug)]
pub struct Part {
    /// `None` where there is no terminal.
    bar: Option<ProgressBar>,
}

impl Part {
    /// Work whose size is not known.
    pub fn spinner(what: &str) -> Self {
        let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed:>4} {wide_msg:.dim}");
        Self { bar: shown(ProgressBar::new_spinner, style.ok(), what) }
    }

    /// Says what is being done at the moment.
    pub fn note(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    /// Ends the part and leaves one line.
    pub fn finish(self, line: &str) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        tell(line);
    }
}

/// The transfers of several tenants, a bar for each.
#[derive(Debug)]
pub(crate) struct Bars {
    /// `None` where there is no terminal.
    bars: Option<MultiProgress>,
}

impl Bars {
    pub(crate) fn new() -> Self {
        Self { bars: stderr().is_terminal().then(MultiProgress::new) }
    }

    /// The transfer of one more tenant. Its bar is gone with this value, and leaves nothing: the report says what came of it.
    pub(crate) fn tenant(&self, subdomain: &str) -> TransferBar {
        let style = ProgressStyle::with_template("{prefix:<16} {bar:30} {msg}").ok();
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(0)).with_prefix(printable(subdomain).into_owned());
            bar.enable_steady_tick(TICK);
            match style {
                Some(style) => bar.with_style(style),
                None => bar,
            }
        });
        let state = State { work: Work::default(), told: Instant::now() };
        TransferBar { tenant: subdomain.to_owned(), bar, state: Mutex::new(state) }
    }
}

/// The transfer of one tenant: its step, how much of it is done, and the tables that are worked on.
#[derive(Debug)]
pub(crate) struct TransferBar {
    tenant: String,
    bar: Option<ProgressBar>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    work: Work,
    /// When a line was last told.
    told: Instant,
}

impl TransferBar {
    pub(crate) fn new(tenant: &str) -> Self {
        Bars::new().tenant(tenant)
    }

    fn change(&self, change: impl FnOnce(&mut Work)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state.work);
        match &self.bar {
            Some(bar) => {
                let (done, all) = state.work.rows();
                bar.set_length(all);
                bar.set_position(done);
                bar.set_message(printable(&state.work.to_string()).into_owned());
            }
            None if state.told.elapsed() >= LINES => {
                state.told = Instant::now();
                tell(&format!("{}: {}", self.tenant, state.work));
            }
            None => {}
        }
    }
}

impl Progress for TransferBar {
    fn step(&self, step: Step) {
        // A line of its own tells of it: the next one has time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner).told = Instant::now();
        self.change(|work| work.step(step));
        if self.bar.is_none() {
            tell(&format!("{}: {step}", self.tenant));
        }
    }

    fn planned(&self, plan: &Plan) {
        self.change(|work| work.planned(plan));
    }

    fn table(&self, table: &str, rows: u64) {
        self.change(|work| work.table(table, rows));
    }

    fn advance(&self, table: &str, rows: u64) {
        self.change(|work| work.advance(table, rows));
    }
}

impl Drop for TransferBar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line on standard error. That nobody reads it any more does not end the work.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{}", printable(line));
}

/// A bar on a terminal, nothing elsewhere.
fn shown(make: impl FnOnce() -> ProgressBar, style: Option<ProgressStyle>, what: &str) -> Option<ProgressBar> {
    if !stderr().is_terminal() {
        return None;
    }
    let bar = make().with_prefix(what.to_owned());
    let bar = match style {
        Some(style) => bar.with_style(style),
        None => bar,
    };
    bar.enable_steady_tick(TICK);
    Some(bar)
}
