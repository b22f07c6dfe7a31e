//! How far a long command is: a bar on a terminal, plain lines elsewhere, always on standard error.
//!
//! A log of a build server or a pipe gets one line per finished part and none of a bar's control characters.

use std::{
    io::{IsTerminal, Write, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use tenantry::transfer::{Progress, Step};

use crate::text::printable;

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

/// The transfer of one tenant: its step, the table that is worked on, and the rows done of it.
#[derive(Debug)]
pub(crate) struct TransferBar {
    tenant: String,
    bar: Option<ProgressBar>,
}

impl TransferBar {
    pub(crate) fn new(tenant: &str) -> Self {
        let style = ProgressStyle::with_template("{prefix:<24} {bar:30} {pos:>8} of {len:<8} {msg}");
        Self { tenant: tenant.to_owned(), bar: shown(|| ProgressBar::new(0), style.ok(), tenant) }
    }

    /// Ends the bar and leaves nothing: the report says what came of it.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress for TransferBar {
    fn step(&self, step: Step) {
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(format!("{}: {step}", self.tenant));
                bar.set_length(0);
                bar.set_message("");
            }
            None => tell(&format!("{}: {step}", self.tenant)),
        }
    }

    fn table(&self, table: &str, rows: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(0);
            bar.set_length(rows);
            bar.set_message(table.to_owned());
        }
    }

    fn advance(&self, _table: &str, rows: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(rows);
        }
    }
}

/// A line on standard error. That nobody reads it any more does not end the work.
fn tell(line: &str) {
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
    bar.enable_steady_tick(Duration::from_millis(120));
    Some(bar)
}
