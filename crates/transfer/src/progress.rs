//! What a long transfer tells whoever watches it. A command draws a bar, a test interrupts at a step, most callers do nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Plan;

/// The steps of a transfer, in their order. Between any two the process may die, and running it again continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Catalogs and rows are looked at; nothing is changed.
    Plan,
    /// The tenant's writes are held where its rows are now.
    Fence,
    /// Rows that were kept are compared with those that go back: where they are equal, nothing is copied.
    Compare,
    /// Rows are written to the target.
    Copy,
    /// Every row is compared on both sides.
    Verify,
    /// The placement is changed, by compare-and-set on the epoch.
    CutOver,
    /// The fence is lowered where the tenant is now.
    Reopen,
    /// The tenant's rows are deleted where it is no more.
    Purge,
    /// What was done is taken back.
    TakeBack,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plan => "plan",
            Self::Fence => "fence",
            Self::Compare => "compare",
            Self::Copy => "copy",
            Self::Verify => "verify",
            Self::CutOver => "cut over",
            Self::Reopen => "let writes through",
            Self::Purge => "purge",
            Self::TakeBack => "take back",
        })
    }
}

/// Watches a transfer. Every method is called from the transfer's own task and must not block.
pub trait Progress: Send + Sync {
    /// The transfer is between two of its effects, where its process may die. The names are for tests.
    fn point(&self, _name: &'static str) {}

    /// A step begins.
    fn step(&self, _step: Step) {}

    /// What is about to be copied. A run that goes on with a transfer knows it only where there is still something to copy.
    fn planned(&self, _plan: &Plan) {}

    /// The current step begins a table of this many rows.
    fn table(&self, _table: &str, _rows: u64) {}

    /// The current step has done this many more rows of the table.
    fn advance(&self, _table: &str, _rows: u64) {}
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Progress for Unwatched {}
