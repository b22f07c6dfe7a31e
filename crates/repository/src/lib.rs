//! The generic repository over any tenant entity.
//!
//! ```text
//! handle.repository::<accounts::Entity>() -> Repository -> scoped statements of tenantry-data-source
//! ```
//!
//! A repository works for the tenant of the handle that it was made from, be it a `TenantDb` or a `TenantTransaction`, and
//! borrows that handle: one that outlives its tenant's scope does not compile. [`Query`] and [`SearchOptions`] belong to no
//! tenant and can be kept and used with any.
//!
//! [`Exposed`] makes queries and rows of a client's JSON, held to what the application shows of an entity.
//!
//! This crate never sees a connection, a credential or a tenant's route; it offers no upsert and no SQL text.

mod cursor;
mod error;
mod exposed;
mod filter;
mod hooks;
mod id;
mod keyset;
mod page;
mod query;
mod repository;
mod search;

pub use cursor::{Cursor, CursorPage, CursorProblem};
pub use error::Error;
pub use exposed::{ColumnKind, Exposed, ExposedColumn, Fault, FaultCode, JsonFaults, Limits, ListRequest};
pub use filter::Filter;
pub use id::IdValue;
pub use page::{MAX_PAGE_LIMIT, PageResult};
pub use query::Query;
pub use repository::{Repository, RepositoryExt};
pub use search::{MAX_SEARCH_CHARACTERS, Matching, SearchOptions};
