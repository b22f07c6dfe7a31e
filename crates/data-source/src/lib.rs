//! A tenant's rows, and nothing else: typed handles whose every statement stays within one tenant.
//!
//! ```text
//! tenant id -> placement -> pool -> TenantDb -> scoped statement -> guard -> connection::Transaction
//! ```
//!
//! This crate knows no business table. Nothing that it gives out implements `ConnectionTrait` or shows a pool.

mod admission;
mod connection_test;
mod error;
mod guard;
mod handle;
mod isolation;
mod manager;
mod pools;
mod probe;
mod recent;
mod route;
mod scoped;

pub use connection_test::{ConnectionTest, with_causes};
pub use error::Error;
pub use handle::{
    Access, Isolation, Rerouting, TenantDb, TenantHandle, TenantLease, TenantTransaction, UnitOfWork, WriteLogEntry,
    WriteOperation,
};
pub use isolation::{Finding, IsolationReport, TenantColumn};
pub use manager::{CacheStats, ConnectionInfo, DataSourceManager, ManagerOptions};
pub use pools::{ConnectionRules, PoolStats};
pub use probe::{PROBE_TABLE, ProbedDatabase, RoutingProbe};
pub use route::{Destination, Placed, Route, RouteError};
pub use scoped::{ScopedDelete, ScopedInsert, ScopedSelect, ScopedUpdate};
// What the signatures above name, so that who uses them needs no edge to the connection layer.
pub use tenantry_connection::{Actor, Engine, Error as ConnectionError, Mode};
