//! SeaORM's own calls, which know no tenant, do not take the handles.

use sea_orm::EntityTrait;
use tenantry_app_db::AppDb;
use tenantry_data_source::{TenantDb, TenantTransaction};
use tenantry_entities::accounts;

fn read(db: &TenantDb, transaction: &TenantTransaction, app_db: &AppDb) {
    let _ = accounts::Entity::find().one(db);
    let _ = accounts::Entity::find().one(transaction);
    let _ = accounts::Entity::find().one(app_db);
}

fn main() {}
