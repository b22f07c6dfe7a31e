//! Nothing that is given out shows the pool or the connection under it, not even to a generic function.

use tenantry_app_db::AppDb;
use tenantry_data_source::{TenantDb, TenantHandle, TenantTransaction};

fn reach(db: &TenantDb, transaction: &TenantTransaction, app_db: &AppDb) {
    let _ = &db.context;
    let _ = &transaction.state;
    let _ = &app_db.pool;
}

fn reach_generically<H: TenantHandle>(handle: &H) {
    let _ = &handle.context().pool;
}

fn main() {}
