//! An entity of the application database through a tenant's handle.

use tenantry_app_db::entities::tenants;
use tenantry_data_source::{TenantDb, TenantHandle};

fn read(db: &TenantDb) {
    let _ = db.select::<tenants::Entity>();
}

fn main() {}
