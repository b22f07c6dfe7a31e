//! Repositories within a transaction.

use futures_util::TryStreamExt;
use sea_orm::ActiveValue::Set;
use tenantry_data_source::{Error as DataSourceError, TenantHandle};
use tenantry_entities::accounts;
use tenantry_repository::{Error, Query, Repository, RepositoryExt};
use uuid::Uuid;

use super::{on_both_engines, world::World};

on_both_engines!(
    what_a_transaction_wrote_lasts_with_its_commit_alone,
    a_failed_statement_gives_the_whole_transaction_up,
    not_found_is_an_answer_and_no_failure,
    the_closure_form_works_in_a_task,
);

fn account(name: &str) -> accounts::ActiveModel {
    accounts::ActiveModel { name: Set(name.to_owned()), ..Default::default() }
}

/// Written once for either kind of handle.
async fn create_two<H: TenantHandle>(accounts: Repository<'_, accounts::Entity, H>) -> Result<Uuid, Error> {
    let first = accounts.create(account("first")).await?;
    accounts.create(account("second")).await?;
    Ok(first.id)
}

async fn what_a_transaction_wrote_lasts_with_its_commit_alone(world: World) {
    let outside = world.one.repository::<accounts::Entity>();
    let transaction = world.one.begin().await.unwrap();
    let id = create_two(transaction.repository()).await.unwrap();
    let inside = transaction.repository::<accounts::Entity>();
    assert_eq!(inside.paginate(&Query::new(), 1, 10).await.unwrap().total, 2);
    assert_eq!(inside.stream(&Query::new()).try_collect::<Vec<_>>().await.unwrap().len(), 2);
    assert_eq!(inside.update(id, account("changed")).await.unwrap().name, "changed");
    assert_eq!(outside.count(&Query::new()).await.unwrap(), 0, "nobody else sees it yet");
    transaction.rollback().await.unwrap();
    assert_eq!(outside.count(&Query::new()).await.unwrap(), 0);

    let transaction = world.one.begin().await.unwrap();
    create_two(transaction.repository()).await.unwrap();
    drop(transaction);
    assert_eq!(outside.count(&Query::new()).await.unwrap(), 0);

    let transaction = world.one.begin().await.unwrap();
    create_two(transaction.repository()).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(outside.count(&Query::new()).await.unwrap(), 2);
}

/// SQLite alone would go on and commit half.
async fn a_failed_statement_gives_the_whole_transaction_up(world: World) {
    let transaction = world.one.begin().await.unwrap();
    let accounts = transaction.repository::<accounts::Entity>();
    let id = create_two(accounts).await.unwrap();
    let duplicate = accounts::ActiveModel { id: Set(id), ..account("again") };
    assert!(matches!(accounts.bulk_create([account("third"), duplicate]).await, Err(Error::UniqueViolation { .. })));
    let after = accounts.count(&Query::new()).await.unwrap_err();
    assert!(matches!(after, Error::DataSource(DataSourceError::TransactionFailed)), "{after}");
    assert!(matches!(transaction.commit().await, Err(DataSourceError::TransactionFailed)));
    assert_eq!(world.one.repository::<accounts::Entity>().count(&Query::new()).await.unwrap(), 0);
}

async fn not_found_is_an_answer_and_no_failure(world: World) {
    let transaction = world.one.begin().await.unwrap();
    let accounts = transaction.repository::<accounts::Entity>();
    assert!(matches!(accounts.update(Uuid::new_v4(), account("x")).await, Err(Error::NotFound { .. })));
    assert!(matches!(accounts.update((Uuid::new_v4(), 1), account("x")).await, Err(Error::IdShape { .. })));
    create_two(accounts).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(world.one.repository::<accounts::Entity>().count(&Query::new()).await.unwrap(), 2);
}

async fn the_closure_form_works_in_a_task(world: World) {
    let db = world.one.clone();
    let done = tokio::spawn(async move {
        let id = db.transaction(async |transaction| create_two(transaction.repository()).await).await?;
        let undone: Result<(), Error> = db
            .transaction(async |transaction| {
                let accounts = transaction.repository::<accounts::Entity>();
                accounts.delete(id).await?;
                accounts.update(id, account("gone")).await.map(drop)
            })
            .await;
        assert!(matches!(undone, Err(Error::NotFound { .. })));
        Ok::<_, Error>(id)
    });
    let id = done.await.unwrap().unwrap();
    assert!(world.one.repository::<accounts::Entity>().exists(id).await.unwrap(), "the delete was rolled back");
}
