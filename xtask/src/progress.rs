//! How far a long command is: a bar on a terminal, plain lines elsewhere, always on standard error.
//!
//! A log of a build server or a pipe gets one line per finished part and none of a bar's control characters.

use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// One part of the work, of known or unknown size.
#[derive(Debug)]
pub(crate) struct Part {
    /// `None` where there is no terminal.
    bar: Option<ProgressBar>,
}

impl Part {
    /// Work whose size is not known.
    pub(crate) fn spinner(what: &str) -> Self {
        let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed:>4} {wide_msg:.dim}");
        Self::shown(ProgressBar::new_spinner, style.ok(), what)
    }

    /// Says what is being done at the moment.
    pub(crate) fn note(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    /// Ends the part and leaves one line.
    pub(crate) fn finish(self, line: &str) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{line}");
    }

    fn shown(make: impl FnOnce() -> ProgressBar, style: Option<ProgressStyle>, what: &str) -> Self {
        if !stderr().is_terminal() {
            return Self { bar: None };
        }
        let bar = make().with_prefix(what.to_owned());
        let bar = match style {
            Some(style) => bar.with_style(style),
            None => bar,
        };
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar: Some(bar) }
    }
}
