//! What every command does around its operation: read the settings, open Tenantry, show the report, close.
//!
//! Knows no operation. A report goes to standard output, as JSON where a script asked for it; nothing else does.

use std::io::{self, Write};

use serde::Serialize;
use tenantry::Tenantry;

use crate::{Application, Failure, command::called, text::Text};

/// Opens Tenantry as the application does, works with it and closes it, however the work ended. For an application's own
/// commands as well.
///
/// # Errors
/// What is wrong with the settings, or what the work answers.
pub async fn with_tenantry<A: Application, T, E: From<Failure>>(
    work: impl AsyncFnOnce(&Tenantry) -> Result<T, E>,
) -> Result<T, E> {
    let settings = A::settings().map_err(Failure::from)?;
    let tenantry = A::tenantry(settings).map_err(Failure::from)?;
    let done = work(&tenantry).await;
    tenantry.close().await;
    done
}

/// Prints a report to standard output: as JSON, or as the text that is made only then. Commands that the text names in
/// backticks are shown as this program is called.
///
/// # Errors
/// [`Failure::Report`], [`Failure::Output`]. A reader that has seen enough (`… | head`) is no error.
pub fn answer<A: Application, R: Serialize>(
    report: &R,
    json: bool,
    text: impl FnOnce(&R) -> Text,
) -> Result<(), Failure> {
    let answer = if json {
        serde_json::to_string_pretty(report).map_err(Failure::Report)?
    } else {
        called(&text(report).to_string(), A::NAME)
    };
    write(&answer)
}

/// A line, or several, to standard output. Styles are taken away where they are not wanted.
pub(crate) fn write(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(()),
    }
}
