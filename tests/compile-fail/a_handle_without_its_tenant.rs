//! A job without a tenant has no handle to work with: there is no way to make one but to route a tenant (trap 15).

use tenantry_data_source::TenantDb;

fn none_to_begin_with() -> TenantDb {
    TenantDb::default()
}

fn main() {}
