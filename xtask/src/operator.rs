//! What every operator's command does around its operation: read the settings, open Tenantry, show the report, close.
//!
//! Knows no operation. A report goes to standard output, as JSON where a script asked for it; nothing else does.

use serde::Serialize;
use tenantry::{
    Tenantry,
    connection::{Actor, DataSourceUrl},
    settings::Settings,
};

use crate::failure::Failure;

/// Opens Tenantry with this environment's settings, works with it and closes it, however the work ended.
pub(crate) async fn with_tenantry<T>(work: impl AsyncFnOnce(&Tenantry) -> Result<T, Failure>) -> Result<T, Failure> {
    let tenantry = Tenantry::connect(Settings::load()?)?;
    let done = work(&tenantry).await;
    tenantry.close().await;
    done
}

/// Who acts, as the audit log will have it: no user of the application, but this command.
pub(crate) fn actor(command: &str) -> Actor {
    Actor { user_agent: Some(format!("cargo xtask {command}")), ..Actor::default() }
}

/// Prints a report: as JSON, or as the text that is made only then.
pub(crate) fn answer<R: Serialize>(report: &R, json: bool, text: impl FnOnce(&R) -> String) -> Result<(), Failure> {
    if json {
        let json = serde_json::to_string_pretty(report).map_err(Failure::Report)?;
        println!("{json}");
    } else {
        println!("{}", text(report));
    }
    Ok(())
}

/// A place as a table shows it; `-` where there is none.
pub(crate) fn place(url: Option<&DataSourceUrl>) -> String {
    url.map_or_else(|| "-".to_owned(), ToString::to_string)
}

/// `yes`, `NO`, or `-` where the question does not arise: what is wrong stands out.
pub(crate) fn yes_no(answer: impl Into<Option<bool>>) -> String {
    match answer.into() {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "-",
    }
    .to_owned()
}
