//! What the guard lets through, and what stands behind it.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, Query as Sql};
use sea_orm::{ColumnTrait, Condition};
use tenantry_connection::{Actor, Engine};
use tenantry_data_source::{Access, Error as DataSourceError, Isolation, TenantHandle};
use tenantry_entities::{accounts, contacts};
use tenantry_repository::{Error, Query, RepositoryExt};

use super::{on_both_engines, world::World};

on_both_engines!(
    a_condition_reaches_no_other_table_and_no_other_tenant,
    sql_text_needs_a_policy_behind_it,
    raw_sql_needs_a_policy_behind_it
);

async fn fill(world: &World) {
    for (db, name) in [(&world.one, "one"), (&world.two, "two")] {
        let model = accounts::ActiveModel { name: Set(name.to_owned()), ..Default::default() };
        db.repository::<accounts::Entity>().create(model).await.unwrap();
    }
}

async fn a_condition_reaches_no_other_table_and_no_other_tenant(world: World) {
    fill(&world).await;
    let service = world.manager.tenant_as_service(world.one.tenant(), &Actor::default(), "a test").await.unwrap();
    assert_eq!((service.access(), service.isolation()), (Access::Service, Isolation::PredicateOnly));
    for db in [&world.one, &service] {
        let accounts = db.repository::<accounts::Entity>();
        let loose = Condition::any()
            .add(accounts::Column::TenantId.ne(uuid::Uuid::nil()))
            .add(accounts::Column::Name.is_not_null());
        let names: Vec<_> =
            accounts.find_many(&Query::new().filter(loose)).await.unwrap().into_iter().map(|row| row.name).collect();
        assert_eq!(names, ["one"]);
        let foreign = accounts::Column::Id
            .in_subquery(Sql::select().column(contacts::Column::AccountId).from(contacts::Entity).to_owned());
        let own = accounts::Column::Id
            .in_subquery(Sql::select().column(accounts::Column::Id).from(accounts::Entity).to_owned());
        let refused = accounts.find_many(&Query::new().filter(foreign.clone())).await.unwrap_err();
        assert!(matches!(refused, Error::DataSource(DataSourceError::ForeignTable { .. })), "{refused}");
        let refused = accounts.bulk_delete_where(foreign).await.unwrap_err();
        assert!(matches!(refused, Error::DataSource(DataSourceError::ForeignTable { .. })), "{refused}");
        let refused = accounts.bulk_delete_where(own).await.unwrap_err();
        assert!(matches!(refused, Error::DataSource(DataSourceError::UnscopedSubquery { .. })), "{refused}");
    }
    assert_eq!(world.two.repository::<accounts::Entity>().count(&Query::new()).await.unwrap(), 1);
}

/// A parenthesis too many leads out of the predicate; only a policy still holds then.
async fn sql_text_needs_a_policy_behind_it(world: World) {
    fill(&world).await;
    let escaping = || Query::new().filter(Expr::cust("1=1) OR (1=1"));
    let service = world.manager.tenant_as_service(world.one.tenant(), &Actor::default(), "a test").await.unwrap();
    let refused = service.repository::<accounts::Entity>().find_many(&escaping()).await.unwrap_err();
    assert!(matches!(refused, Error::DataSource(DataSourceError::CustomExpression { .. })), "{refused}");
    let restricted = world.one.repository::<accounts::Entity>().find_many(&escaping()).await;
    match world.engine {
        Engine::Postgres => {
            assert_eq!(world.one.isolation(), Isolation::Policy);
            let names: Vec<_> = restricted.unwrap().into_iter().map(|row| row.name).collect();
            assert_eq!(names, ["one"], "the policy holds");
        }
        Engine::Sqlite => {
            let refused = restricted.unwrap_err();
            assert!(matches!(refused, Error::DataSource(DataSourceError::CustomExpression { .. })), "{refused}");
        }
    }
}

async fn raw_sql_needs_a_policy_behind_it(world: World) {
    fill(&world).await;
    let transaction = world.one.begin().await.unwrap();
    let rows = transaction
        .query_raw_sql_outside_the_tenant_guard("SELECT name FROM accounts WHERE name <> $1", ["x".into()])
        .await;
    match world.engine {
        Engine::Postgres => {
            let names: Vec<String> = rows.unwrap().iter().map(|row| row.try_get("", "name").unwrap()).collect();
            assert_eq!(names, ["one"], "the policy holds");
            let deleted =
                transaction.execute_raw_sql_outside_the_tenant_guard("DELETE FROM accounts", []).await.unwrap();
            assert_eq!(deleted, 1);
            transaction.commit().await.unwrap();
        }
        Engine::Sqlite => {
            assert!(matches!(rows, Err(DataSourceError::RawSqlRefused { .. })));
            transaction.commit().await.unwrap();
        }
    }
    assert_eq!(world.two.repository::<accounts::Entity>().count(&Query::new()).await.unwrap(), 1);
}
