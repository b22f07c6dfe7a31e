//! SeaORM's own calls, which know no tenant, do not take the handles.

use sea_orm::EntityTrait;
use tenantry_app_db::AppDb;
use tenantry_data_source::{TenantDb, TenantTransaction};
use tenantry_entities::accounts;

async fn read(db: &TenantDb, transaction: &TenantTransaction, app_db: &AppDb) {
    let _ = accounts::Entity::find().one(db).await;
    let _ = accounts::Entity::find().one(transaction).await;
    let _ = accounts::Entity::find().one(app_db).await;
}

fn main() {}
