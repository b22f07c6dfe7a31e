//! The schema of both kinds of database, for PostgreSQL 15 or newer and for SQLite.
//!
//! ```text
//! AppDbMigrator        tenants, users, audit_log, data_sources           on an empty or an existing database
//! Migrator             foundation (installation, fence, write_log, routing_probe), then the tables of a TenantSchema
//! TenantDataMigrator   that of the 13 reference tables
//! TenantTable          one tenant table of an application's own: keys, policies, grants, triggers
//! fence                holds one tenant's writes, also on tables that this crate did not create
//! ```
//!
//! A migrator runs on one connection and in one transaction, so a failed or killed run leaves nothing behind, and two
//! runs at once wait for each other. On PostgreSQL the service login runs it: it becomes the owner.
//!
//! This crate knows no entity, no pool, no credential and no tenant.

pub mod app_db;
mod dialect;
mod error;
pub mod fence;
mod migrator;
mod shape;
pub mod tables;
pub mod tenant_data;
pub mod tenant_table;
mod write_log;

pub use app_db::AppDbMigrator;
pub use error::Error;
pub use tenant_data::{
    Migrator, ReferenceSchema, TenantDataMigrator, TenantDataSettings, TenantSchema, create_tables, prepare_tenant_data,
};
pub use tenant_table::{OnDelete, TenantTable};
