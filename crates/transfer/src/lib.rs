//! Moves one tenant's rows from one database to another, and proves that they arrived.
//!
//! ```text
//! plan ──refusals──> nothing was touched
//!   │
//! fence the source ── copy in one transaction ── verify every row ── cut over (compare-and-set on the epoch)
//!   │                                                                   │
//!   └── on any failure before the cutover: the fence is lowered         └── rollback: while nothing was written since
//! ```
//!
//! The first transfer is the split: a single database that holds every tenant's rows is divided into the tenants' own data
//! sources. The source may be the application database itself, and at first it usually is: then its own tables (tenants,
//! users, audit_log, data_sources) stay where they are, the business tables are read from beside them, the fence is
//! installed beside them, and the copied rows are kept, fenced, until they are purged. A tenant whose placement is null is a
//! tenant of that single database; splitting it sets its placement, rolling back nulls it again.
//!
//! | module | what it holds |
//! |---|---|
//! | [`catalog`] | what tables a database has, from its own catalogs |
//! | [`canonical`] | one text for one value, on both engines |
//! | [`plan`](mod@plan) | what would be copied, and every reason not to |
//! | [`copy`](mod@copy) | the rows, from one snapshot, several tables at a time |
//! | [`verify`](mod@verify) | every row on both sides, by digest, and by key where that differs |
//! | [`transfer`] | the steps in their order, back, and the purge |
//!
//! This crate knows no entity: a table it has never heard of travels like any other. It knows no business table by name.

#![cfg_attr(
    not(all(feature = "postgres", feature = "sqlite")),
    allow(dead_code, reason = "what only the absent engine needs is small, and written once")
)]

pub mod canonical;
pub mod catalog;
pub mod copy;
mod endpoint;
mod error;
mod fence;
mod interrupt;
pub mod kind;
pub mod plan;
mod progress;
mod quote;
mod rows;
mod schedule;
pub mod transfer;
pub mod verify;

pub use endpoint::{Endpoint, Options, Side};
pub use error::{Error, FenceAfter};
pub use interrupt::Interrupt;
pub use plan::{Note, Plan, Prepared, Refusal, plan, prepare};
pub use progress::{Progress, Step, Unwatched};
pub use transfer::{Done, Outcome, Preview, Request, SourceRow, Transfer, purge};
pub use verify::{Report, TableReport, verify};
