//! What isolation costs: figures taken on a private server, each against what an application would have without it.
//!
//! ```text
//! main ──▶ world    a cluster, a database under row-level security and its unprotected twin, tenants
//!      ──▶ cases    what is compared with what
//!      ──▶ method   rounds, medians, spread        ──▶ report   lines, table, JSON, targets
//! memory (a program of its own): the same look-ups under an allocator that counts
//! ```
//! The sides are ordinary programs: ours is the public facade and its repositories with every check on, the other is SeaORM,
//! SQLx or pgbench as their users have them. This crate is not part of the library and decides nothing about it.

pub mod cases;
mod error;
pub mod method;
pub mod report;
pub mod world;

pub use error::Error;
