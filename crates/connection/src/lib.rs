//! How a connection to any of the databases is opened, leased, begun, bound and closed.
//!
//! ```text
//! DataSourceUrl + Login -> Pool -> lease(Session) -> Lease -> statement
//!                                                       └──> begin(Session, Mode) -> Transaction -> statements -> commit
//! ```
//!
//! Every statement runs with a [`Session`]: the tenant that row-level security compares with, and the acting user that the
//! write log and the audit log record. A connection of PostgreSQL that keeps its server session remembers what it is set to,
//! and a lease prefers one that is set to its tenant: then a statement costs one round trip. Behind a pooler in transaction
//! mode the session travels with `BEGIN` in one message as `SET LOCAL`, and statements are unnamed. A connection that is
//! dropped while anything goes on in its session (an error, a cancelled future), or on which raw SQL ran, is closed: no other
//! borrower ever sees it.
//!
//! Features: `postgres` and `sqlite`, either or both; neither is on by default here, and the facade turns both on.
//!
//! This crate knows no tenant, no entity and no table but `tenantry_session`, which stands in for session settings on SQLite.

#![cfg_attr(
    not(all(feature = "postgres", feature = "sqlite")),
    expect(dead_code, reason = "what only the absent engine needs is small, and written once")
)]

mod bind;
mod error;
mod lease;
mod pool;
#[cfg(feature = "postgres")]
mod representable;
mod session;
mod transaction;
mod url;

pub use bind::canonical_timestamp;
pub use error::{ConnectFailure, Error};
pub use lease::Lease;
pub use pool::{ClosedCounts, Pool, PoolOptions, PoolStatus, PoolerMode, Watcher};
pub use session::{Actor, Mode, SESSION_TABLE, Session};
pub use transaction::Transaction;
pub use url::{DataSourceUrl, Engine, UrlError};
