//! Transactions: what they keep, undo and refuse.

use futures_util::TryStreamExt;
use sea_orm::{ActiveValue::Set, ColumnTrait};

use super::{entities::documents, *};

fn titled(id: i64, title: &str) -> documents::ActiveModel {
    documents::ActiveModel { id: Set(id), title: Set(Some(title.to_owned())), ..Default::default() }
}

async fn insert<H: TenantHandle>(handle: &H, id: i64, title: &str) -> Result<u64, Error> {
    handle.insert::<documents::Entity>([titled(id, title)]).execute(handle).await
}

async fn count<H: TenantHandle>(handle: &H) -> u64 {
    handle.select::<documents::Entity>().count(handle).await.unwrap()
}

#[tokio::test]
async fn a_transaction_is_kept_by_commit_only() {
    let world = World::new().await;
    let db = world.db(1);
    let rolled_back = db.begin().await.unwrap();
    insert(&rolled_back, 50, "x").await.unwrap();
    assert_eq!(count(&rolled_back).await, 4);
    rolled_back.rollback().await.unwrap();
    assert_eq!(count(&db).await, 3);

    let dropped = db.begin().await.unwrap();
    insert(&dropped, 50, "x").await.unwrap();
    drop(dropped);
    assert_eq!(count(&db).await, 3);

    let committed = db.begin().await.unwrap();
    insert(&committed, 50, "x").await.unwrap();
    committed.commit().await.unwrap();
    assert_eq!(count(&db).await, 4);
}

/// SQLite would go on after a failed statement and commit the rest; PostgreSQL would not.
#[tokio::test]
async fn after_a_failed_statement_nothing_more_is_done() {
    let world = World::new().await;
    let db = world.db(1);
    let transaction = db.begin().await.unwrap();
    insert(&transaction, 50, "x").await.unwrap();
    insert(&transaction, 51, "a").await.expect_err("the title is taken");
    assert!(matches!(insert(&transaction, 52, "y").await, Err(Error::TransactionFailed)));
    assert!(matches!(transaction.commit().await, Err(Error::TransactionFailed)));
    assert_eq!(count(&db).await, 3);
}

/// A cancelled statement may or may not have written.
#[tokio::test]
async fn after_a_cancelled_statement_nothing_more_is_done() {
    let world = World::new().await;
    let db = world.db(1);
    let transaction = db.begin().await.unwrap();
    // One statement that takes its time, so that it is on its way when it was polled once.
    let rows = (100..10_000).map(|id| titled(id, &format!("t{id}")));
    let mut statement = Box::pin(transaction.insert::<documents::Entity>(rows).execute(&transaction));
    assert!(futures_util::poll!(statement.as_mut()).is_pending());
    drop(statement);
    assert!(matches!(insert(&transaction, 51, "y").await, Err(Error::TransactionFailed)));
    assert!(matches!(transaction.commit().await, Err(Error::TransactionFailed)));
    assert_eq!(count(&db).await, 3);
}

#[tokio::test]
async fn the_closure_form_commits_rolls_back_and_can_be_spawned() {
    let world = World::new().await;
    let db = world.db(1);
    let spawned = tokio::spawn({
        let db = db.clone();
        async move {
            db.transaction(async |transaction| {
                insert(transaction, 50, "x").await?;
                tokio::task::yield_now().await;
                insert(transaction, 51, "y").await
            })
            .await
        }
    });
    assert_eq!(spawned.await.unwrap().unwrap(), 1);
    assert_eq!(count(&db).await, 5);

    let failed: Result<(), Error> = db
        .transaction(async |transaction| {
            insert(transaction, 60, "z").await?;
            Err(Error::TransactionFailed)
        })
        .await;
    failed.expect_err("what the work returned");
    assert_eq!(count(&db).await, 5);
}

/// A unit that wrote and then failed leaves half of itself in the caller's transaction.
#[tokio::test]
async fn a_failed_unit_gives_the_callers_transaction_up_once_it_has_written() {
    let world = World::new().await;
    let db = world.db(1);
    let transaction = db.begin().await.unwrap();
    let unit = transaction.begin_unit(Mode::Write).await.unwrap();
    let refused: Result<(), _> = unit.finish(Err(Error::StreamOpen)).await;
    refused.unwrap_err();
    insert(&transaction, 50, "x").await.expect("nothing was written before");
    let unit = transaction.begin_unit(Mode::Write).await.unwrap();
    insert(unit.transaction(), 51, "y").await.unwrap();
    let failed: Result<(), _> = unit.finish(Err(Error::StreamOpen)).await;
    failed.unwrap_err();
    assert!(matches!(transaction.commit().await, Err(Error::TransactionFailed)));
    assert_eq!(count(&db).await, 3);
}

#[tokio::test]
async fn a_stream_has_its_transaction_to_itself() {
    let world = World::new().await;
    let db = world.db(1);
    let transaction = db.begin().await.unwrap();
    let mut stream = transaction.select::<documents::Entity>().stream(&transaction);
    stream.try_next().await.unwrap().unwrap();
    // Waiting would never end.
    assert!(matches!(insert(&transaction, 50, "x").await, Err(Error::StreamOpen)));
    while stream.try_next().await.unwrap().is_some() {}
    insert(&transaction, 50, "x").await.expect("the stream was read to its end");
    drop(stream);
    let mut stream = transaction.select::<documents::Entity>().stream(&transaction);
    stream.try_next().await.unwrap().unwrap();
    drop(stream);
    assert!(matches!(transaction.commit().await, Err(Error::TransactionFailed)));
}

/// A dropped stream, a failed statement and a cancelled one each leave a connection that nobody may get.
#[tokio::test]
async fn the_pool_lends_no_connection_that_is_inside_a_transaction() {
    let world = World::new().await;
    let db = world.db(1);
    for _ in 0..20 {
        let mut stream = db.select::<documents::Entity>().stream(&db);
        stream.try_next().await.unwrap().unwrap();
        drop(stream);
        insert(&db, 70, "a").await.expect_err("the title is taken");
        let transaction = db.begin().await.unwrap();
        let mut statement = Box::pin(insert(&transaction, 70, "fresh"));
        let _ = futures_util::poll!(statement.as_mut());
        drop(statement);
        drop(transaction);
    }
    assert_eq!(count(&db).await, 3);
    insert(&db, 70, "fresh").await.unwrap();
}

/// A handle is a value: nothing that a task or a `select!` does can exchange its tenant.
#[tokio::test]
async fn the_tenant_stays_across_tasks_and_select() {
    let world = World::new().await;
    let tasks = (0..40).map(|n| {
        let org = 1 + n % 2;
        let db = world.db(org);
        tokio::spawn(async move {
            for _ in 0..5 {
                let titled = db.select::<documents::Entity>().filter(documents::Column::Title.is_not_null());
                tokio::select! {
                    rows = titled.all(&db) => assert!(rows.unwrap().iter().all(|row| row.org_id == org)),
                    () = tokio::task::yield_now() => {}
                }
                let rows = titled.all(&db).await.unwrap();
                assert!(!rows.is_empty() && rows.iter().all(|row| row.org_id == org));
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn raw_sql_is_refused_where_no_policy_stands_behind() {
    let world = World::new().await;
    let db = world.db(1);
    let transaction = db.begin().await.unwrap();
    let refused = transaction.execute_raw_sql_outside_the_tenant_guard("DELETE FROM documents", []).await;
    assert!(matches!(refused, Err(Error::RawSqlRefused { .. })));
    let refused = transaction.query_raw_sql_outside_the_tenant_guard("SELECT * FROM documents", []).await;
    assert!(matches!(refused, Err(Error::RawSqlRefused { .. })));
    transaction.commit().await.unwrap();

    let service = TenantDb::new(TenantContext { access: Access::Service, ..TenantContext::clone(&db.context) });
    let transaction = service.begin().await.unwrap();
    let rows = transaction
        .query_raw_sql_outside_the_tenant_guard(
            "SELECT title FROM documents WHERE org_id = $1 AND id = $2",
            [1.into(), 2.into()],
        )
        .await
        .unwrap();
    assert_eq!(rows[0].try_get_by_index::<String>(0).unwrap(), "b");
    transaction.rollback().await.unwrap();
}
