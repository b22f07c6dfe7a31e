//! The logic of the operators' commands. Each takes a [`Tenantry`] and returns a report that can be printed, serialised, and
//! asked whether anything was found wrong. None of them prints.

mod create_tenant;
mod databases;
mod migrate;
mod routing;

pub use create_tenant::{Logins, NewTenantRequest, create_tenant};
pub use databases::{DataSourceInUse, data_sources_in_use, find_tenant};
pub use migrate::{DatabaseKind, DatabaseMigrations, Direction, MigrateReport, MigrateScope, migrate};
pub use routing::{ConnectionReport, RoutingReport, test_data_sources, test_routing};

#[cfg(doc)]
use crate::Tenantry;
