//! Many rows at once: counts, limits of the engines, all or nothing.

use sea_orm::ActiveValue::Set;
use sea_orm::ColumnTrait;
use tenantry_entities::accounts;
use tenantry_repository::{Error, Query, RepositoryExt};
use uuid::Uuid;

use super::{on_both_engines, world::World};

on_both_engines!(
    rows_beyond_the_limit_of_bound_values_go_in_one_transaction,
    ids_and_conditions_select_rows_of_the_tenant_alone
);

fn account(id: Uuid, name: &str) -> accounts::ActiveModel {
    accounts::ActiveModel {
        id: Set(id),
        name: Set(name.to_owned()),
        phone: Set(Some("1".to_owned())),
        email: Set(Some("a@b".to_owned())),
        notes: Set(None),
        ..Default::default()
    }
}

/// Six values a row: the second statement begins at row 5,462 on SQLite and 10,923 on PostgreSQL.
async fn rows_beyond_the_limit_of_bound_values_go_in_one_transaction(world: World) {
    let accounts = world.one.repository::<accounts::Entity>();
    let ids: Vec<Uuid> = (0..11_000).map(|_| Uuid::new_v4()).collect();
    let duplicate_at_the_end = ids.iter().chain(&ids[..1]).map(|id| account(*id, "x"));
    let failed = accounts.bulk_create(duplicate_at_the_end).await.unwrap_err();
    assert!(matches!(failed, Error::UniqueViolation { .. }), "{failed}");
    assert_eq!(accounts.count(&Query::new()).await.unwrap(), 0, "all or nothing");
    assert_eq!(accounts.bulk_create(ids.iter().map(|id| account(*id, "x"))).await.unwrap(), 11_000);
    let update = || accounts::ActiveModel { status: Set(Some("inactive".to_owned())), ..Default::default() };
    let twice = ids.iter().chain(&ids).copied();
    assert_eq!(accounts.bulk_update(twice.clone(), update()).await.unwrap(), 11_000, "a row is counted once");
    assert_eq!(accounts.bulk_delete(twice).await.unwrap(), 11_000);
    assert_eq!(accounts.bulk_create([]).await.unwrap(), 0);
    assert_eq!(accounts.bulk_update(Vec::<Uuid>::new(), update()).await.unwrap(), 0);
}

async fn ids_and_conditions_select_rows_of_the_tenant_alone(world: World) {
    let [a, b, c] = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
    for db in [&world.one, &world.two] {
        let models = [account(a, "a"), account(b, "b"), account(c, "c")];
        assert_eq!(db.repository::<accounts::Entity>().bulk_create(models).await.unwrap(), 3);
    }
    let accounts = world.one.repository::<accounts::Entity>();
    let set = |phone: &str| accounts::ActiveModel { phone: Set(Some(phone.to_owned())), ..Default::default() };
    assert_eq!(accounts.bulk_update([a, b, Uuid::new_v4()], set("2")).await.unwrap(), 2);
    assert_eq!(accounts.bulk_update_where(accounts::Column::Phone.eq("2"), set("3")).await.unwrap(), 2);
    assert_eq!(accounts.bulk_delete_where(accounts::Column::Phone.ne("3")).await.unwrap(), 1);
    assert_eq!(accounts.bulk_delete([a]).await.unwrap(), 1);
    let nothing = accounts.bulk_update([b], accounts::ActiveModel::default()).await.unwrap_err();
    assert!(nothing.to_string().contains("nothing to write"), "{nothing}");
    let left = accounts.find_many(&Query::new()).await.unwrap();
    assert_eq!(left.iter().map(|row| (row.id, row.phone.as_deref())).collect::<Vec<_>>(), [(b, Some("3"))]);
    let theirs = Query::new().filter(accounts::Column::Phone.eq("1"));
    assert_eq!(world.two.repository::<accounts::Entity>().count(&theirs).await.unwrap(), 3);
    let rows_of_different_columns = [
        accounts::ActiveModel { name: Set("only a name".to_owned()), ..Default::default() },
        account(Uuid::new_v4(), "more"),
        accounts::ActiveModel { name: Set("only a name".to_owned()), ..Default::default() },
    ];
    assert_eq!(accounts.bulk_create(rows_of_different_columns).await.unwrap(), 3);
}
