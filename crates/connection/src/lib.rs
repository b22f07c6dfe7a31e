//! How a connection to any of the databases is opened, leased, begun, bound and closed.
//!
//! ```text
//! DataSourceUrl + Login -> Pool -> begin(Session, Mode) -> Transaction -> commit
//! ```
//!
//! Every statement runs inside a [`Transaction`] that carries its [`Session`]: the tenant that row-level security compares
//! with, and the acting user that the write log and the audit log record. On PostgreSQL the session travels with `BEGIN` in
//! one message as `SET LOCAL`, and statements are unnamed; that is safe behind every pooler. A transaction that is dropped
//! before it ended (an error, a cancelled future) closes its connection: no other borrower ever sees it.
//!
//! This crate knows no tenant, no entity and no table but `tenantry_session`, which stands in for session settings on SQLite.

mod bind;
mod error;
mod pool;
mod representable;
mod session;
mod transaction;
mod url;

pub use bind::canonical_timestamp;
pub use error::{ConnectFailure, Error};
pub use pool::{Pool, PoolOptions, PoolStatus};
pub use session::{Actor, Mode, SESSION_TABLE, Session};
pub use transaction::Transaction;
pub use url::{DataSourceUrl, Engine, UrlError};
