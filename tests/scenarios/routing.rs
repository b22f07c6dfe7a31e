//! From a tenant's id to its rows: what is closed, what is cached and for how long, what becomes of writes to a tenant that is
//! moved, what the connection test and the routing probe see, and that a tenant is created whole or not at all.

mod announced;
mod caches;
mod closed;
mod connection_test;
mod creation;
mod moved;
mod probe;

use sea_orm::ActiveValue::Set;
use tenantry_data_source::TenantDb;
use tenantry_entities::accounts;
use tenantry_repository::{Error, Query, RepositoryExt};

/// Writes an account through a tenant's handle.
pub(crate) async fn write(db: &TenantDb, name: &str) -> Result<accounts::Model, Error> {
    let account = accounts::ActiveModel { name: Set(name.to_owned()), ..Default::default() };
    db.repository::<accounts::Entity>().create(account).await
}

/// The names of a tenant's accounts.
async fn names(db: &TenantDb) -> Vec<String> {
    try_names(db).await.unwrap()
}

async fn try_names(db: &TenantDb) -> Result<Vec<String>, Error> {
    let accounts = db.repository::<accounts::Entity>().find_many(&Query::new()).await?;
    let mut names: Vec<String> = accounts.into_iter().map(|account| account.name).collect();
    names.sort();
    Ok(names)
}
