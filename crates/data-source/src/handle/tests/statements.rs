//! What scoped statements reach, and what they refuse.

use futures_util::TryStreamExt;
use sea_orm::{ActiveValue::Set, ColumnTrait, Condition, Order, sea_query::Query};

use super::{
    entities::{documents, folders},
    *,
};

fn ids(rows: &[documents::Model]) -> Vec<i64> {
    rows.iter().map(|row| row.id).collect()
}

#[tokio::test]
async fn a_tenant_sees_its_own_rows_though_another_has_the_same_ids() {
    let world = World::new().await;
    for org in [1, 2] {
        let rows = world.db(org).select::<documents::Entity>().all(&world.db(org)).await.unwrap();
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|row| row.org_id == org));
    }
    let theirs = world.db(1).select::<documents::Entity>().filter(documents::Column::Id.eq(4));
    assert_eq!(theirs.one(&world.db(1)).await.unwrap(), None);
    assert_eq!(theirs.count(&world.db(1)).await.unwrap(), 0);
    assert!(!theirs.exists(&world.db(1)).await.unwrap());
    let streamed: Vec<_> = world.db(1).select::<documents::Entity>().stream(&world.db(1)).try_collect().await.unwrap();
    assert_eq!(streamed.len(), 3);
}

/// A disjunction beside the predicate instead of under it would show every tenant's rows.
#[tokio::test]
async fn no_condition_loosens_the_predicate() {
    let world = World::new().await;
    let before = world.everything().await;
    let db = world.db(1);
    let loose = Condition::any().add(documents::Column::OrgId.eq(2)).add(documents::Column::Id.gt(0));
    let rows = db.select::<documents::Entity>().filter(loose.clone()).all(&db).await.unwrap();
    assert!(rows.len() == 3 && rows.iter().all(|row| row.org_id == 1));
    let named = db.select::<documents::Entity>().filter(documents::Column::OrgId.eq(2)).all(&db).await.unwrap();
    assert!(named.is_empty());
    let update =
        db.update::<documents::Entity>().set(&documents::ActiveModel { rank: Set(Some(0)), ..Default::default() });
    assert_eq!(update.filter(loose.clone()).execute(&db).await.unwrap(), 3);
    assert_eq!(db.delete::<documents::Entity>().filter(loose).execute(&db).await.unwrap(), 3);
    let theirs = |rows: Vec<String>| rows.into_iter().filter(|row| row.starts_with("2|")).collect::<Vec<_>>();
    assert_eq!(theirs(world.everything().await), theirs(before));
}

#[tokio::test]
async fn no_write_names_another_tenant_or_changes_a_key() {
    let world = World::new().await;
    let before = world.everything().await;
    let db = world.db(1);
    let forged = documents::ActiveModel { org_id: Set(2), id: Set(99), ..Default::default() };
    let insert = db.insert::<documents::Entity>([forged.clone()]);
    assert!(matches!(insert.execute(&db).await, Err(Error::ForgedTenant { .. })));
    let insert = db.insert::<documents::Entity>([forged.clone()]);
    assert!(matches!(insert.returning(&db).await, Err(Error::ForgedTenant { .. })));
    let moved = documents::ActiveModel { org_id: Set(2), rank: Set(None), ..Default::default() };
    assert!(matches!(db.update::<documents::Entity>().set(&moved).execute(&db).await, Err(Error::ForgedTenant { .. })));
    let renumbered = documents::ActiveModel { id: Set(5), ..Default::default() };
    assert!(matches!(
        db.update::<documents::Entity>().set(&renumbered).execute(&db).await,
        Err(Error::PrimaryKeyUpdate { column, .. }) if column == "id"
    ));
    let nothing = documents::ActiveModel { org_id: Set(1), ..Default::default() };
    assert!(matches!(
        db.update::<documents::Entity>().set(&nothing).execute(&db).await,
        Err(Error::NothingToWrite { .. })
    ));
    assert_eq!(world.everything().await, before);

    let own = documents::ActiveModel { org_id: Set(1), id: Set(99), ..Default::default() };
    let stored = db.insert::<documents::Entity>([own]).returning(&db).await.unwrap();
    assert_eq!((stored[0].org_id, stored[0].id), (1, 99));
}

/// A statement kept from one tenant's request and run in another's.
#[tokio::test]
async fn a_statement_runs_on_no_other_tenants_handle() {
    let world = World::new().await;
    let (one, two) = (world.db(1), world.db(2));
    let select = one.select::<documents::Entity>();
    assert!(matches!(select.all(&two).await, Err(Error::OtherTenant { .. })));
    let transaction = two.begin().await.unwrap();
    assert!(matches!(select.count(&transaction).await, Err(Error::OtherTenant { .. })));
    assert!(matches!(one.delete::<documents::Entity>().execute(&transaction).await, Err(Error::OtherTenant { .. })));
    transaction.commit().await.expect("a refusal leaves the transaction as it was");
    assert_eq!(select.all(&one.as_user(Actor::user(Uuid::nil()))).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_condition_with_a_query_reaches_no_statement() {
    let world = World::new().await;
    let before = world.everything().await;
    let db = world.db(1);
    let foreign = || documents::Column::Id.in_subquery(Query::select().column("id").from("tenants").to_owned());
    let own = documents::Column::Id.in_subquery(Query::select().column("id").from("documents").to_owned());
    let is_foreign = |error: Error| matches!(error, Error::ForeignTable { foreign, .. } if foreign == "tenants");
    assert!(is_foreign(db.select::<documents::Entity>().filter(foreign()).all(&db).await.unwrap_err()));
    assert!(is_foreign(db.delete::<documents::Entity>().filter(foreign()).execute(&db).await.unwrap_err()));
    let set = documents::ActiveModel { rank: Set(None), ..Default::default() };
    let update = db.update::<documents::Entity>().set(&set).filter(foreign());
    assert!(is_foreign(update.execute(&db).await.unwrap_err()));
    let exists = db.select::<documents::Entity>().where_exists::<folders::Entity>(foreign());
    assert!(is_foreign(exists.all(&db).await.unwrap_err()));
    let unscoped = db.delete::<documents::Entity>().filter(own).execute(&db).await;
    assert!(matches!(unscoped, Err(Error::UnscopedSubquery { .. })));
    assert_eq!(world.everything().await, before);
}

/// The relation joins by the id alone, which both organisations have.
#[tokio::test]
async fn joins_stay_within_the_tenant_on_both_sides() {
    let world = World::new().await;
    let db = world.db(1);
    let select = || db.select::<documents::Entity>().order_by(documents::Column::Id, Order::Asc);
    assert_eq!(ids(&select().join::<folders::Entity>().all(&db).await.unwrap()), [1, 2], "one folder each, not two");
    assert_eq!(ids(&select().left_join::<folders::Entity>().all(&db).await.unwrap()), [1, 2, 3]);
    let theirs = || folders::Column::Name.eq("theirs");
    assert!(select().join::<folders::Entity>().filter(theirs()).all(&db).await.unwrap().is_empty());
    assert!(select().where_exists::<folders::Entity>(theirs()).all(&db).await.unwrap().is_empty());
    assert_eq!(ids(&select().where_not_exists::<folders::Entity>(theirs()).all(&db).await.unwrap()), [1, 2, 3]);
    let root = || folders::Column::Name.eq("root");
    assert_eq!(ids(&select().where_exists::<folders::Entity>(root()).all(&db).await.unwrap()), [1]);
    assert_eq!(ids(&select().where_not_exists::<folders::Entity>(root()).all(&db).await.unwrap()), [2, 3]);
    assert!(matches!(
        select().join::<folders::Entity>().join::<folders::Entity>().all(&db).await,
        Err(Error::Join { .. })
    ));
    let holders = db.select::<folders::Entity>().where_exists::<documents::Entity>(documents::Column::Title.eq("b"));
    assert_eq!(holders.all(&db).await.unwrap().iter().map(|folder| folder.id).collect::<Vec<_>>(), [11]);
    assert_eq!(holders.count(&db).await.unwrap(), 1);
}

/// The inner table must not be taken for the outer one.
#[tokio::test]
async fn a_relation_of_a_table_to_itself_means_the_related_row() {
    let world = World::new().await;
    let db = world.db(1);
    let children = db.select::<folders::Entity>().where_exists::<folders::Entity>(folders::Column::Name.eq("root"));
    assert_eq!(children.all(&db).await.unwrap().iter().map(|folder| folder.id).collect::<Vec<_>>(), [11]);
    let tops = db.select::<folders::Entity>().where_not_exists::<folders::Entity>(Condition::all());
    assert_eq!(tops.all(&db).await.unwrap().iter().map(|folder| folder.id).collect::<Vec<_>>(), [10]);
    assert!(matches!(db.select::<folders::Entity>().join::<folders::Entity>().all(&db).await, Err(Error::Join { .. })));
}

#[tokio::test]
async fn nulls_come_last_and_an_offset_needs_no_limit() {
    let world = World::new().await;
    let db = world.db(1);
    let by_rank = |order| db.select::<documents::Entity>().order_by(documents::Column::Rank, order);
    assert_eq!(ids(&by_rank(Order::Asc).all(&db).await.unwrap()), [3, 1, 2]);
    assert_eq!(ids(&by_rank(Order::Desc).all(&db).await.unwrap()), [1, 3, 2]);
    assert_eq!(ids(&by_rank(Order::Asc).offset(1).all(&db).await.unwrap()), [1, 2]);
    assert_eq!(by_rank(Order::Asc).offset(1).one(&db).await.unwrap().unwrap().id, 1);
    assert!(by_rank(Order::Asc).offset(u64::MAX).limit(u64::MAX).all(&db).await.unwrap().is_empty());
}

/// More values than a statement can bind, with columns that differ from row to row; all or nothing.
#[tokio::test]
async fn a_large_insert_is_several_statements_and_one_transaction() {
    let world = World::new().await;
    let db = world.db(1);
    let row = |id: i64| documents::ActiveModel {
        id: Set(id),
        rank: if id % 5_000 == 0 { Set(Some(id)) } else { sea_orm::ActiveValue::NotSet },
        title: Set(Some(format!("t{id}"))),
        ..Default::default()
    };
    let inserted = db.insert::<documents::Entity>((100..30_100).map(row)).execute(&db).await.unwrap();
    assert_eq!(inserted, 30_000);
    assert_eq!(db.select::<documents::Entity>().count(&db).await.unwrap(), 30_003);
    let duplicate_at_the_end = (40_000..60_000).chain([100]).map(row);
    let failed = db.insert::<documents::Entity>(duplicate_at_the_end).execute(&db).await;
    assert!(matches!(failed, Err(Error::Connection(tenantry_connection::Error::UniqueViolation { .. }))));
    assert_eq!(db.select::<documents::Entity>().count(&db).await.unwrap(), 30_003);
}
