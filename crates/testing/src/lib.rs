//! What an application on Tenantry tests itself with: a world of tenants with databases of its own for every test, and the
//! proof that no tenant reaches another's rows through the application's own entities.
//!
//! ```no_run
//! use tenantry_testing::World;
//! # use tenantry::migrations::TenantDataMigrator as Migrator;
//!
//! # #[tokio::test] async fn a_test() -> Result<(), Box<dyn std::error::Error>> {
//! let mut world = World::<Migrator>::postgres().await?; // or sqlite(), which needs no server
//! let [one, two] = world.tenants(["one", "two"]).await?;
//! // one.db and two.db are handles as a request gets them
//! # Ok(())
//! # }
//! ```
//!
//! The databases are real. PostgreSQL is a private server, started from the system's programs when the first test asks for it
//! and stopped with the process; its first database is migrated once per process and copied for every test, as SQLite's files
//! are. A world takes its databases away when it is dropped.
//!
//! This crate knows no table: an application's migrator and entities are all it is told.

mod isolation;
mod template;
mod world;

pub use isolation::{Attempt, IsolationProof};
pub use tenantry_test_support::cluster;
pub use world::{TestTenant, World, WorldError};
