//! Connections at work, on real servers and behind a real pooler: what a lease finds, what it leaves behind, how many there
//! are, and who has to wait for one. A row of the list of traps is named where a test is its answer.

mod cancelled;
mod caps;
mod changes;
mod counters;
mod leasing;
mod leftovers;
mod lifetime;
mod poolers;
pub(crate) mod proxy;
mod unanswered;
mod world;

use sea_orm::{ActiveValue::Set, QueryResult, TryGetable};
use tenantry_data_source::{TenantDb, TenantHandle, TenantTransaction};
use tenantry_entities::accounts;
use tenantry_repository::{Error, Query, RepositoryExt};

/// The names of a tenant's accounts, through whichever handle.
async fn names<H: TenantHandle>(db: &H) -> Result<Vec<String>, Error> {
    let accounts = db.repository::<accounts::Entity>().find_many(&Query::new()).await?;
    let mut names: Vec<String> = accounts.into_iter().map(|account| account.name).collect();
    names.sort();
    Ok(names)
}

async fn write<H: TenantHandle>(db: &H, name: &str) -> Result<accounts::Model, Error> {
    let account = accounts::ActiveModel { name: Set(name.to_owned()), ..Default::default() };
    db.repository::<accounts::Entity>().create(account).await
}

/// Raw SQL, which costs its connection afterwards.
async fn raw(transaction: &TenantTransaction, sql: &str) -> Result<Vec<QueryResult>, tenantry_data_source::Error> {
    transaction.query_raw_sql_outside_the_tenant_guard(sql, []).await
}

async fn answer<T: TryGetable>(transaction: &TenantTransaction, sql: &str) -> T {
    raw(transaction, sql).await.unwrap()[0].try_get_by_index(0).unwrap()
}

/// The same, in a transaction of its own.
async fn ask<T: TryGetable>(db: &TenantDb, sql: &str) -> T {
    let transaction = db.begin().await.unwrap();
    let answer = answer(&transaction, sql).await;
    transaction.rollback().await.unwrap();
    answer
}
