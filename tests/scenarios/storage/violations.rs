//! What a constraint refuses is one typed error on both engines; what it is called may differ.

use sea_orm::ActiveValue::Set;
use tenantry_data_source::TenantDb;
use tenantry_entities::{accounts, contact_accounts, contacts, leads, opportunities};
use tenantry_realm::TenantEntity;
use tenantry_repository::{Error, RepositoryExt};
use uuid::Uuid;

use super::world::World;

const ACCOUNT: Uuid = Uuid::from_u128(1);
const CONTACT: Uuid = Uuid::from_u128(2);

/// An application that tells its user which field is wrong would tell another thing on each engine.
#[tokio::test]
async fn a_violated_constraint_is_the_same_error() {
    let world = World::new().await;
    world.write::<accounts::Entity>(vec![account()]).await;
    world.write::<contacts::Entity>(vec![contact()]).await;
    world.write::<contact_accounts::Entity>(vec![link()]).await;
    world
        .write::<leads::Entity>(vec![leads::ActiveModel {
            first_name: Set("Ada".to_owned()),
            last_name: Set("L".to_owned()),
            converted_account_id: Set(Some(ACCOUNT)),
            ..Default::default()
        }])
        .await;

    // PostgreSQL names the constraint, SQLite the columns.
    let [sqlite, postgres] = world.each(async |db| refused(db, account()).await).await;
    assert_eq!(sqlite, "unique: accounts.tenant_id, accounts.id");
    assert_eq!(postgres, "unique: accounts_pkey");
    let [sqlite, postgres] = world.each(async |db| refused(db, link()).await).await;
    assert_eq!(sqlite, "unique: contact_accounts.tenant_id, contact_accounts.contact_id, contact_accounts.account_id");
    assert_eq!(postgres, "unique: contact_accounts_contact_id_account_id_key");

    // SQLite does not tell which foreign key it was.
    let stray = contact_accounts::ActiveModel { account_id: Set(Uuid::from_u128(9)), ..link() };
    let [sqlite, postgres] = world.each(async |db| refused(db, stray.clone()).await).await;
    assert_eq!(sqlite, "foreign key: ");
    assert_eq!(postgres, "foreign key: contact_accounts_account_id_fkey");
    let [sqlite, postgres] =
        world.each(async |db| told(db.repository::<accounts::Entity>().delete(ACCOUNT).await.unwrap_err())).await;
    assert_eq!(sqlite, "foreign key: ");
    assert_eq!(postgres, "foreign key: leads_converted_account_id_fkey");

    // A check has one name, also the range of a number and the list of a status, in an insert and in an update.
    let opportunity = |probability| opportunities::ActiveModel {
        name: Set("Deal".to_owned()),
        probability: Set(Some(probability)),
        ..Default::default()
    };
    for probability in [-1, 101, i32::MIN, i32::MAX] {
        let refusal = world.same(async |db| refused(db, opportunity(probability)).await).await;
        assert_eq!(refusal, "check: opportunities_probability_check");
    }
    let status = contacts::ActiveModel { status: Set(Some("Active".to_owned())), ..Default::default() };
    let update = async |db: &TenantDb| {
        told(db.repository::<contacts::Entity>().update(CONTACT, status.clone()).await.unwrap_err())
    };
    assert_eq!(world.same(update).await, "check: contacts_status_check");

    let nameless = accounts::ActiveModel::default();
    assert_eq!(world.same(async |db| refused(db, nameless.clone()).await).await, "not null: name");
}

/// SQLite refuses one statement where PostgreSQL gives the whole transaction up; a caller must not come to rely on the former.
#[tokio::test]
async fn a_refused_row_in_a_bulk_insert_leaves_none() {
    let world = World::new().await;
    let rows = [account(), accounts::ActiveModel { id: Set(CONTACT), ..account() }, account()];
    let bulk = async |db: &TenantDb| {
        let accounts = db.repository::<accounts::Entity>();
        let error = accounts.bulk_create(rows.clone()).await.unwrap_err();
        assert!(matches!(error, Error::UniqueViolation { .. }) && !error.is_retryable(), "{error:?}");
        accounts.count(&tenantry_repository::Query::new()).await.unwrap()
    };
    assert_eq!(world.same(bulk).await, 0);
}

async fn refused<M>(db: &TenantDb, row: M) -> String
where
    M: sea_orm::ActiveModelTrait<Entity: TenantEntity<ActiveModel = M>> + Send + Sync,
{
    told(db.repository::<M::Entity>().create(row).await.map(drop).unwrap_err())
}

fn told(error: Error) -> String {
    assert!(!error.is_retryable());
    match error {
        Error::UniqueViolation { constraint } => format!("unique: {constraint}"),
        Error::ForeignKeyViolation { constraint } => format!("foreign key: {constraint}"),
        Error::CheckViolation { constraint } => format!("check: {constraint}"),
        Error::NotNullViolation { column } => format!("not null: {column}"),
        other => panic!("no violation: {other:?}"),
    }
}

fn account() -> accounts::ActiveModel {
    accounts::ActiveModel { id: Set(ACCOUNT), name: Set("Acme".to_owned()), ..Default::default() }
}

fn contact() -> contacts::ActiveModel {
    contacts::ActiveModel {
        id: Set(CONTACT),
        first_name: Set("Ada".to_owned()),
        last_name: Set("L".to_owned()),
        ..Default::default()
    }
}

fn link() -> contact_accounts::ActiveModel {
    contact_accounts::ActiveModel { contact_id: Set(CONTACT), account_id: Set(ACCOUNT), ..Default::default() }
}
