//! Values without a Rust form, which only another client can have written: a typed error on both engines, never a panic and
//! never another value, and no obstacle for the rest.

use futures_util::TryStreamExt;
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, Condition};
use tenantry_connection::Engine;
use tenantry_data_source::{ConnectionError, TenantDb};
use tenantry_entities::{accounts, events};
use tenantry_repository::{Error, Query, RepositoryExt};
use uuid::Uuid;

use super::world::{World, connection_error};

#[tokio::test]
async fn infinity_and_24_hours_are_a_typed_error_and_the_rest_is_readable() {
    let world = World::new().await;
    let row = |title: &str| events::ActiveModel {
        id: Set(Uuid::new_v4()),
        title: Set(title.to_owned()),
        event_type: Set("fair".to_owned()),
        start_date: Set("2024-02-29".parse().ok()),
        ..Default::default()
    };
    let (odd, even) = (row("odd"), row("even"));
    let id = odd.id.clone().unwrap();
    world.write::<events::Entity>(vec![odd, even]).await;
    let title = |title: &str| Query::<events::Entity>::new().filter(events::Column::Title.eq(title));
    let ordinary = world.read(&title("odd")).await;

    for (column, on_server, in_file, value) in [
        ("start_date", "infinity", "infinity", "infinity"),
        ("start_date", "-infinity", "-infinity", "-infinity"),
        ("created_at", "infinity", "infinity", "infinity"),
        ("created_at", "-infinity", "-infinity", "-infinity"),
        ("start_time", "24:00:00", "24:00:00.000000", "24:00:00"),
    ] {
        for (engine, stored) in [(Engine::Postgres, on_server), (Engine::Sqlite, in_file)] {
            let sql = format!("UPDATE events SET {column} = '{stored}' WHERE title = 'odd'");
            world.by_hand(engine, &sql).await.unwrap();
        }
        let told = async |error: Error| match connection_error(error) {
            ConnectionError::Unrepresentable { column, value } => (column, value),
            other => panic!("{other:?}"),
        };
        let expected = (column.to_owned(), value);
        let all = Query::new();
        let reads = async |db: &_| {
            let events = RepositoryExt::repository::<events::Entity>(db);
            let streamed: Result<Vec<_>, _> = events.stream(&all).try_collect().await;
            [
                told(events.find_many(&all).await.unwrap_err()).await,
                told(events.find_by_id(id).await.unwrap_err()).await,
                told(events.find_one(&title("odd")).await.unwrap_err()).await,
                told(events.paginate(&all, 1, 10).await.unwrap_err()).await,
                told(streamed.unwrap_err()).await,
            ]
        };
        assert_eq!(world.same(reads).await, [(); 5].map(|()| expected.clone()));

        // The rest is as it was: other rows, counts, conditions on the very column, writes that do not read the row back.
        assert_eq!(world.read(&title("even")).await.len(), 1);
        assert_eq!(world.count::<events::Entity>(Condition::all()).await, 2);
        let date: chrono::NaiveDate = "2024-02-29".parse().unwrap();
        let later = match (column, value) {
            ("start_date", "infinity") => 1,
            _ => 0,
        };
        let condition = Condition::all().add(events::Column::StartDate.gt(date));
        assert_eq!(world.count::<events::Entity>(condition).await, later, "{column} {value}");
        // A write that reads the row back tells so when it is done, and does not last in a transaction; one that does not read
        // back is done.
        let touch = events::ActiveModel { status: Set(Some("confirmed".to_owned())), ..Default::default() };
        let touched = async |db: &TenantDb| {
            let events = RepositoryExt::repository::<events::Entity>(db);
            let untouched =
                async || events.count(&Query::new().filter(events::Column::Status.eq("scheduled"))).await.unwrap();
            let transaction = db.begin().await.unwrap();
            let undone = RepositoryExt::repository::<events::Entity>(&transaction).update(id, touch.clone()).await;
            let undone = told(read_back(undone.unwrap_err())).await;
            let refused = transaction.commit().await.is_err();
            let before = untouched().await;
            let done = told(read_back(events.update(id, touch.clone()).await.unwrap_err())).await;
            let after = untouched().await;
            (undone, refused, before, done, after, events.bulk_update([id], touch.clone()).await.unwrap())
        };
        assert_eq!(world.same(touched).await, (expected.clone(), true, 2, expected, 1, 1));
        // The row is put right through the repository.
        let right = events::ActiveModel {
            start_date: Set(ordinary[0].start_date),
            start_time: Set(None),
            created_at: Set(ordinary[0].created_at),
            status: Set(Some("scheduled".to_owned())),
            ..Default::default()
        };
        let repaired = async |db: &_| {
            let row = RepositoryExt::repository::<events::Entity>(db).update(id, right.clone()).await.unwrap();
            events::Model { updated_at: ordinary[0].updated_at, ..row }
        };
        assert_eq!(world.same(repaired).await, ordinary[0]);
    }
}

/// The error, which has to say that the row is written.
fn read_back(error: Error) -> Error {
    assert!(matches!(error, Error::ReadBack { .. }), "{error:?}");
    error
}

/// What only PostgreSQL can hold.
#[tokio::test]
async fn values_beyond_sqlite_are_a_typed_error_on_postgresql_and_refused_by_the_file() {
    let world = World::new().await;
    world
        .write::<events::Entity>(vec![events::ActiveModel {
            title: Set("Fair".to_owned()),
            event_type: Set("fair".to_owned()),
            ..Default::default()
        }])
        .await;
    world
        .write::<accounts::Entity>(vec![accounts::ActiveModel { name: Set("Acme".to_owned()), ..Default::default() }])
        .await;
    for (table, column, stored, in_file, value) in [
        ("events", "start_date", "5874897-12-31", "5874897-12-31", "a date outside the supported range"),
        ("events", "created_at", "294276-12-31", "294276-12-31", "a date outside the supported range"),
        ("accounts", "credit_limit", "NaN", "NaN", "NaN"),
        ("accounts", "annual_revenue", "NaN", "NaN", "NaN"),
    ] {
        let update = |stored| format!("UPDATE {table} SET {column} = '{stored}'");
        world.by_hand(Engine::Postgres, &update(stored)).await.unwrap();
        let refused = world.by_hand(Engine::Sqlite, &update(in_file)).await.unwrap_err();
        assert!(refused.contains(&format!("{table}_{column}_check")), "{refused}");

        let error = match table {
            "events" => world.postgres.repository::<events::Entity>().find_many(&Query::new()).await.unwrap_err(),
            _ => world.postgres.repository::<accounts::Entity>().find_many(&Query::new()).await.unwrap_err(),
        };
        match connection_error(error) {
            ConnectionError::Unrepresentable { column: found, value: told } => {
                assert_eq!((found.as_str(), told), (column, value));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(world.count::<events::Entity>(Condition::all()).await, 1);
        world.by_hand(Engine::Postgres, &format!("UPDATE {table} SET {column} = NULL")).await.unwrap();
    }
}
