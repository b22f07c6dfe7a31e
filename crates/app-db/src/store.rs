//! The store: what the rest of Tenantry asks of the application database, and the rules that reach beyond one row.
//!
//! A tenant's placement is changed by compare-and-set on its epoch; a data source for one tenant never gets a second;
//! tenants are never deleted. What a trigger keeps (`placement_epoch`, `updated_at`, the audit of placements) is not
//! repeated here.

pub(crate) mod announcements;
pub(crate) mod audit;
pub(crate) mod data_sources;
mod occupancy;
pub(crate) mod placement;
pub(crate) mod tenants;
pub(crate) mod transfers;
