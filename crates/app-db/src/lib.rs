//! The application database: tenants and where their rows live, users, the audit log and the data sources.
//!
//! [`AppDb`] keeps its pool to itself and is no SeaORM connection: only entities of the application realm fit its methods,
//! so that a business entity queried here does not compile.
//!
//! ```compile_fail
//! # mod accounts {
//! #     use sea_orm::entity::prelude::*;
//! #     #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
//! #     #[sea_orm(table_name = "accounts")]
//! #     pub struct Model { #[sea_orm(primary_key)] pub id: Uuid, pub tenant_id: Uuid }
//! #     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
//! #     pub enum Relation {}
//! #     impl ActiveModelBehavior for ActiveModel {}
//! # }
//! tenantry_realm::tenant_entity!(accounts);
//!
//! fn read(app_db: &tenantry_app_db::AppDb) {
//!     let _ = app_db.find::<accounts::Entity>(); // `accounts::Entity` is not an application entity
//! }
//! # fn main() {}
//! ```
//!
//! Built statements are audited as well, because a condition can carry a sub-query (see `guard.rs`).
//!
//! | module | what it holds |
//! |---|---|
//! | [`entities`] | the tables |
//! | `select`, `write` | typed access to any application entity |
//! | `store` | tenants, placements, transfers, data sources and the audit log, with the rules that no single row can hold |
//! | `guard` | the audit of built statements |
//!
//! This crate knows no business table, no pool of a data source and no plain credential: what it stores is sealed.

mod app_db;
pub mod entities;
mod error;
mod guard;
mod pool_limits;
mod select;
mod store;
mod write;

pub use app_db::AppDb;
pub use error::Error;
pub use guard::Refusal;
pub use pool_limits::{PoolLimits, PoolLimitsError};
pub use select::AppSelect;
pub use store::announcements::{ChangedPlacements, PlacementWatch};
pub use store::audit::AuditEntry;
pub use store::data_sources::NewDataSource;
pub use store::placement::{NewPlacement, PlacementRecord};
pub use store::tenants::NewTenant;
pub use store::transfers::{Advance, NewLogins, NewTransfer, TransferLease};

#[cfg(test)]
mod tests;
