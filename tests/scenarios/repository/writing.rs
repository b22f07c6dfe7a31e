//! Writing one row.

use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::ColumnTrait;
use tenantry_connection::{Actor, Engine};
use tenantry_data_source::{Error as DataSourceError, TenantHandle, WriteOperation};
use tenantry_entities::{accounts, contacts};
use tenantry_repository::{Error, Query, RepositoryExt};
use uuid::Uuid;

use super::{entities::validated, on_both_engines, world::World};

on_both_engines!(
    a_row_is_created_read_changed_and_deleted,
    the_same_id_is_another_row_for_each_tenant,
    another_tenant_can_neither_be_named_nor_reached,
    a_violation_names_the_constraint_and_no_value,
    hooks_see_the_row_and_no_database,
    the_write_log_knows_who_did_what,
);

fn account(name: &str) -> accounts::ActiveModel {
    accounts::ActiveModel { name: Set(name.to_owned()), ..Default::default() }
}

async fn a_row_is_created_read_changed_and_deleted(world: World) {
    let accounts = world.one.repository::<accounts::Entity>();
    let created = accounts
        .create(accounts::ActiveModel { credit_limit: Set(Some("12.50".parse().unwrap())), ..account("Ärger GmbH") })
        .await
        .unwrap();
    assert_ne!(created.id, Uuid::nil(), "an id is made where none is set");
    assert_eq!(created.tenant_id.to_string(), world.one.key().to_string());
    assert_eq!(created.status.as_deref(), Some("active"), "the database's default comes back");
    assert!(created.created_at.is_some());
    assert_eq!(accounts.find_by_id(created.id).await.unwrap().unwrap(), created);
    assert!(accounts.exists(created.id).await.unwrap());

    let update = accounts::ActiveModel { phone: Set(Some("+49 1".to_owned())), name: NotSet, ..Default::default() };
    let updated = accounts.update(created.id, update).await.unwrap();
    assert_eq!((updated.phone.as_deref(), &*updated.name), (Some("+49 1"), "Ärger GmbH"));
    // On SQLite RETURNING would show the time before the trigger that sets it.
    assert!(updated.updated_at > created.updated_at, "{:?} {:?}", updated.updated_at, created.updated_at);
    assert_eq!(accounts.find_by_id(created.id).await.unwrap().unwrap(), updated);
    let untouched = accounts.update(created.id, accounts::ActiveModel::default()).await.unwrap();
    assert_eq!(untouched, updated, "with nothing to set the row is only read");

    assert!(accounts.delete(created.id).await.unwrap());
    assert!(!accounts.delete(created.id).await.unwrap());
    assert_eq!(accounts.find_by_id(created.id).await.unwrap(), None);
}

/// Ids are only unique within a tenant, so that a copied tenant can live beside its original (trap 24).
async fn the_same_id_is_another_row_for_each_tenant(world: World) {
    let id = Uuid::new_v4();
    for (db, name) in [(&world.one, "one's"), (&world.two, "two's")] {
        db.repository::<accounts::Entity>()
            .create(accounts::ActiveModel { id: Set(id), ..account(name) })
            .await
            .unwrap();
    }
    let (one, two) = (world.one.repository::<accounts::Entity>(), world.two.repository::<accounts::Entity>());
    let renamed = one.update(id, account("renamed")).await.unwrap();
    assert_eq!(renamed.name, "renamed");
    assert_eq!(two.find_by_id(id).await.unwrap().unwrap().name, "two's");
    assert!(one.delete(id).await.unwrap());
    assert!(two.exists(id).await.unwrap());
    assert_eq!((one.count(&Query::new()).await.unwrap(), two.count(&Query::new()).await.unwrap()), (0, 1));
}

/// Insert, update and bulk update that name another tenant, and ids of its rows (traps 21, 23, 24). There is no upsert to try.
async fn another_tenant_can_neither_be_named_nor_reached(world: World) {
    let theirs = world.two.repository::<accounts::Entity>().create(account("theirs")).await.unwrap();
    let accounts = world.one.repository::<accounts::Entity>();
    let own = accounts.create(account("own")).await.unwrap();
    let forged = || accounts::ActiveModel { tenant_id: Set(theirs.tenant_id), ..account("forged") };
    let is_forged =
        |error: Error| assert!(matches!(error, Error::DataSource(DataSourceError::ForgedTenant { .. })), "{error}");
    is_forged(accounts.create(forged()).await.unwrap_err());
    is_forged(accounts.bulk_create([account("fine"), forged()]).await.unwrap_err());
    is_forged(accounts.update(own.id, forged()).await.unwrap_err());
    is_forged(accounts.bulk_update([own.id], forged()).await.unwrap_err());
    is_forged(accounts.bulk_update_where(accounts::Column::Name.eq("own"), forged()).await.unwrap_err());
    let rekeyed = accounts::ActiveModel { id: Set(Uuid::new_v4()), ..account("rekeyed") };
    assert!(matches!(
        accounts.update(own.id, rekeyed).await.unwrap_err(),
        Error::DataSource(DataSourceError::PrimaryKeyUpdate { .. })
    ));
    let own_key = accounts::ActiveModel { tenant_id: Set(own.tenant_id), id: Set(own.id), ..account("own key") };
    assert_eq!(accounts.update(own.id, own_key).await.unwrap().name, "own key");

    // Whether another tenant has the row cannot be told from the answers.
    let missing = Uuid::new_v4();
    let told = |error: Error, id: Uuid| error.to_string().replace(&id.to_string(), "ID");
    assert_eq!(
        told(accounts.update(theirs.id, account("x")).await.unwrap_err(), theirs.id),
        told(accounts.update(missing, account("x")).await.unwrap_err(), missing),
    );
    assert_eq!(accounts.find_by_id(theirs.id).await.unwrap(), None);
    assert!(!accounts.exists(theirs.id).await.unwrap());
    assert!(!accounts.delete(theirs.id).await.unwrap());
    assert_eq!(accounts.bulk_update([theirs.id, own.id], account("mine")).await.unwrap(), 1);
    assert_eq!(accounts.bulk_delete([theirs.id]).await.unwrap(), 0);
    let contacts = world.one.repository::<contacts::Entity>();
    let contact = |account_id| contacts::ActiveModel {
        first_name: Set("A".to_owned()),
        last_name: Set("B".to_owned()),
        account_id: Set(Some(account_id)),
        ..Default::default()
    };
    let to_theirs = contacts.create(contact(theirs.id)).await.unwrap_err();
    let to_nothing = contacts.create(contact(missing)).await.unwrap_err();
    assert!(matches!(to_theirs, Error::ForeignKeyViolation { .. }), "{to_theirs}");
    assert_eq!(to_theirs.to_string(), to_nothing.to_string());
    contacts.create(contact(own.id)).await.unwrap();
    assert_eq!(world.two.repository::<accounts::Entity>().find_by_id(theirs.id).await.unwrap().unwrap(), theirs);
}

async fn a_violation_names_the_constraint_and_no_value(world: World) {
    let accounts = world.one.repository::<accounts::Entity>();
    let created = accounts.create(account("secret value")).await.unwrap();
    let again =
        accounts.create(accounts::ActiveModel { id: Set(created.id), ..account("secret value") }).await.unwrap_err();
    assert!(matches!(&again, Error::UniqueViolation { constraint } if constraint.contains("accounts")), "{again}");
    let nameless = accounts.create(accounts::ActiveModel::default()).await.unwrap_err();
    assert!(matches!(&nameless, Error::NotNullViolation { column } if column.contains("name")), "{nameless}");
    for error in [again, nameless] {
        let told = format!("{error} {error:?}");
        assert!(!told.contains("secret value") && !told.contains(&created.id.to_string()), "{told}");
        assert!(!error.is_retryable());
    }
}

async fn hooks_see_the_row_and_no_database(world: World) {
    let accounts = world.one.repository::<validated::Entity>();
    let named = |name: &str| validated::ActiveModel { name: Set(name.to_owned()), ..Default::default() };
    let created = accounts.create(named("fine")).await.unwrap();
    assert_eq!((&*created.name, created.notes.as_deref()), ("fine!", Some("inserted")));
    let updated = accounts.update(created.id, named("better")).await.unwrap();
    assert_eq!((&*updated.name, updated.notes.as_deref()), ("better!", Some("updated")));
    let refused = accounts.create(named("")).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Hook { source, .. } if source.to_string().contains("needs a name")),
        "{refused:?}"
    );
    assert!(matches!(accounts.bulk_create([named("x"), named("")]).await, Err(Error::Hook { .. })));
    let asked = accounts.create(named("ask the database")).await.unwrap_err();
    assert!(matches!(&asked, Error::Hook { source, .. } if source.to_string().contains("cannot query")), "{asked:?}");
    // A hook that refuses after the write undoes a transaction. Outside one the row was written, as SeaORM has it.
    let transaction = world.one.begin().await.unwrap();
    let in_transaction = transaction.repository::<validated::Entity>();
    let refused = in_transaction.create(named("refused afterwards")).await;
    assert!(matches!(refused, Err(Error::HookAfterwards { .. })), "{refused:?}");
    assert!(transaction.commit().await.is_err());
    let refused = accounts.update(created.id, named("refused afterwards")).await;
    assert!(matches!(refused, Err(Error::HookAfterwards { .. })), "{refused:?}");
    let kept = accounts.find_by_id(created.id).await.unwrap().unwrap();
    assert_eq!(kept.name, "refused afterwards");
    accounts.update(created.id, named("better")).await.unwrap();
    let names: Vec<_> = accounts.find_many(&Query::new()).await.unwrap().into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["better"]);
}

async fn the_write_log_knows_who_did_what(world: World) {
    let user = Uuid::new_v4();
    let db = world.one.as_user(Actor::user(user));
    let accounts = db.repository::<accounts::Entity>();
    let created = accounts.create(account("logged")).await.unwrap();
    accounts.update(created.id, account("renamed")).await.unwrap();
    accounts.delete(created.id).await.unwrap();
    world.two.repository::<accounts::Entity>().create(account("theirs")).await.unwrap();
    let log = db.write_log(10).await.unwrap();
    let told: Vec<_> = log.iter().map(|entry| (entry.operation, &*entry.table)).collect();
    assert_eq!(
        told,
        [
            (WriteOperation::Delete, "accounts"),
            (WriteOperation::Update, "accounts"),
            (WriteOperation::Insert, "accounts")
        ]
    );
    assert!(log.iter().all(|entry| entry.row_id.contains(&created.id.to_string())), "{log:?}");
    assert!(log.iter().all(|entry| entry.actor.as_deref() == Some(&*user.to_string())));
    let (before, after) = (log[1].before.as_ref().unwrap(), log[1].after.as_ref().unwrap());
    assert_eq!((&before["name"], &after["name"]), (&"logged".into(), &"renamed".into()));
    assert_eq!(db.write_log(1).await.unwrap().len(), 1);
    assert_eq!(world.two.write_log(10).await.unwrap().len(), 1);
}

/// The driver would panic on the first and read the second as midnight.
#[tokio::test]
async fn a_value_without_a_rust_form_is_an_error_that_names_its_column() {
    let world = World::postgres().await;
    assert_eq!(world.engine, Engine::Postgres);
    let accounts = world.one.repository::<accounts::Entity>();
    let created = accounts.create(account("endless")).await.unwrap();
    world.sql(&format!("UPDATE accounts SET created_at = 'infinity' WHERE id = '{}'", created.id)).await;
    let read = accounts.find_by_id(created.id).await.unwrap_err();
    let written = accounts.update(created.id, account("x")).await.unwrap_err();
    for (error, of_reading) in [(read, true), (written, false)] {
        // What was written and cannot be read back is told apart from what could not be read.
        let source = match &error {
            Error::DataSource(source) if of_reading => source,
            Error::ReadBack { source, .. } if !of_reading => source,
            other => panic!("{other:?}"),
        };
        assert!(
            matches!(source, DataSourceError::Connection(tenantry_connection::Error::Unrepresentable { column, .. })
                if column == "created_at"),
            "{error:?}"
        );
    }
    let updated = accounts.count(&Query::new().filter(accounts::Column::Name.eq("x"))).await.unwrap();
    assert_eq!(updated, 1, "the update is a transaction of its own; what it returned could not be read");
}
