//! The logic of the operators' commands. Each takes a [`Tenantry`] and returns a report that can be printed, serialised, and
//! asked whether anything was found wrong. None of them prints.
//!
//! A text that names a command puts it in backticks and no program before it: `` run `migrate up` ``. How the program is called is
//! the application's business, and whoever shows the text puts the name there.

mod check_config;
mod checklist;
mod create_tenant;
mod databases;
mod isolation;
mod list_tenants;
mod migrate;
mod place;
mod routing;
mod seal_keys;
mod split;
mod transfers;

pub use check_config::{ConfigFinding, ConfigReport, ConfigState, Severity, TenantConfig, check_config};
pub use checklist::{Checklist, ChecklistItem, Outcome, Section, checklist};
pub use create_tenant::{Logins, NewTenantRequest, create_tenant};
pub use databases::{DataSourceInUse, data_sources_in_use, find_tenant};
pub use isolation::{
    CheckedFinding, DataSourceIsolation, IsolationCheck, IsolationScope, IsolationVerdict, check_isolation,
};
pub use list_tenants::{ListedTenant, TenantList, list_tenants};
pub use migrate::{
    DatabaseKind, DatabaseMigrations, Direction, MigrateReport, MigrateScope, migrate, migrate_with_own_tables,
};
pub use routing::{ConnectionReport, RoutingReport, test_data_sources, test_routing};
pub use seal_keys::{SealAction, SealMode, SealReport, SealedKey, seal_keys};
pub use split::{SplitAction, SplitReport, TenantSplit, split_tenants};
pub use transfers::{
    TransferAction, TransferPlan, TransferReport, TransferStatus, TransferTarget, TransfersReport, continue_transfer,
    list_transfers, plan_transfer, run_transfer, run_transfers, transfer_status,
};

#[cfg(doc)]
use crate::Tenantry;
