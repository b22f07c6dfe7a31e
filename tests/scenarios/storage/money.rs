//! Money is exact over its whole range, and compares as Decimal does.

use std::fmt::Debug;

use futures_util::TryStreamExt;
use proptest::collection::vec;
use proptest::prelude::*;
use rust_decimal::Decimal;
use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait, ColumnTrait, Condition, ModelTrait, Order, Value};
use serde::Serialize;
use tenantry_connection::Engine;
use tenantry_data_source::{ConnectionError, TenantDb};
use tenantry_entities::{accounts, opportunities};
use tenantry_realm::TenantEntity;
use tenantry_repository::{Error, Query, RepositoryExt};
use uuid::Uuid;

use super::world::{World, connection_error};

/// A REAL column holds money as a double: a digit lost at either end of the range, or an order that differs, shows here.
#[tokio::test(flavor = "multi_thread")]
async fn money_is_exact_and_ordered_over_its_whole_range() {
    let world = World::new().await;
    property::<accounts::Entity>(&world, accounts::Column::CreditLimit, 10, &account());
    property::<accounts::Entity>(&world, accounts::Column::AnnualRevenue, 12, &account());
    let opportunity = opportunities::ActiveModel { name: Set("Deal".to_owned()), ..Default::default() };
    property::<opportunities::Entity>(&world, opportunities::Column::Amount, 15, &opportunity);
}

fn property<E>(world: &World, column: E::Column, precision: u32, template: &E::ActiveModel)
where
    E: TenantEntity,
    E::ActiveModel: Send + Sync,
    E::Model: PartialEq + Debug + Serialize,
{
    let limit = 10_i64.pow(precision) - 1;
    // The last two are read from a double with a third digit behind the point, which it never had.
    let edges = [0, 1, 10, 100, limit / 3, limit, 440_520_044_128_723 % limit, 442_247_576_608_148 % limit];
    let cents = prop_oneof![
        2 => -limit..=limit,
        1 => (0..edges.len(), any::<bool>()).prop_map(move |(at, negative)| if negative { -edges[at] } else { edges[at] }),
        1 => (-limit / 100..=limit / 100).prop_map(|whole| whole * 100),
    ];
    // The same amount may be given with fewer digits.
    let amount = (cents, any::<bool>()).prop_map(|(cents, short)| {
        let amount = Decimal::new(cents, 2);
        if short { amount.normalize() } else { amount }
    });
    world.for_all(12, vec(amount, 1..24), async |amounts: Vec<Decimal>| {
        world.clear::<E>().await;
        let row = |amount: &Decimal| {
            let mut row = template.clone();
            row.set(column, (*amount).into());
            row
        };
        world.write::<E>(amounts.iter().map(row).collect()).await;

        let mut sorted = amounts.clone();
        sorted.sort_unstable();
        let ascending = world.read(&Query::<E>::new().order_by(column, Order::Asc)).await;
        let read: Vec<String> = ascending.iter().map(|row| spelled(row.get(column))).collect();
        let expected: Vec<String> =
            sorted.iter().map(|amount| format!("{amount:.2}").replace("-0.00", "0.00")).collect();
        assert_eq!(read, expected, "every cent, in Decimal's order, with two digits");

        let pivot = amounts[0];
        let other = amounts[amounts.len() - 1];
        let (low, high) = (pivot.min(other), pivot.max(other));
        let cent = Decimal::new(1, 2);
        for (condition, holds) in [
            (column.gt(pivot), &(|amount: Decimal| amount > pivot) as &dyn Fn(Decimal) -> bool),
            (column.gte(pivot), &|amount| amount >= pivot),
            (column.eq(pivot), &|amount| amount == pivot),
            (column.ne(pivot), &|amount| amount != pivot),
            (column.lt(pivot + cent), &|amount| amount < pivot + cent),
            (column.between(low, high), &|amount| low <= amount && amount <= high),
            (column.is_in([pivot, other]), &|amount| amount == pivot || amount == other),
        ] {
            let expected = amounts.iter().filter(|amount| holds(**amount)).count();
            let counted = world.count::<E>(Condition::all().add(condition.clone())).await;
            assert_eq!(counted, u64::try_from(expected).unwrap(), "{condition:?}");
        }
    });
}

/// PostgreSQL rounds what has too many digits behind the point; SQLite refuses it. Neither stores what is out of range.
#[tokio::test]
async fn an_amount_that_does_not_fit_is_never_stored_as_it_is() {
    let world = World::new().await;
    let create = async |credit_limit: &str| {
        let row = accounts::ActiveModel { credit_limit: Set(Some(credit_limit.parse().unwrap())), ..account() };
        world.each(async |db| db.repository::<accounts::Entity>().create(row.clone()).await).await
    };
    let refused_by_check = |result: Result<accounts::Model, Error>| {
        let error = result.unwrap_err();
        assert!(
            matches!(&error, Error::CheckViolation { constraint } if constraint == "accounts_credit_limit_check"),
            "{error:?}"
        );
    };
    for (given, rounded) in [("1.005", "1.01"), ("-1.005", "-1.01"), ("0.001", "0.00"), ("99999999.994", "99999999.99")]
    {
        let [sqlite, postgres] = create(given).await;
        refused_by_check(sqlite);
        assert_eq!(spelled(postgres.unwrap().credit_limit.into()), rounded);
    }
    for given in ["100000000.00", "-100000000.00", "99999999.995", "9999999999999"] {
        let [sqlite, postgres] = create(given).await;
        refused_by_check(sqlite);
        let error = connection_error(postgres.unwrap_err());
        assert_eq!(error.sqlstate().as_deref(), Some("22003"), "{error:?}");
    }
    // More digits than a double holds are refused before the file is asked, also in a condition.
    let third: Decimal = "0.3333333333333333333333333333".parse().unwrap();
    let above = Query::new().filter(accounts::Column::CreditLimit.gt(third));
    let [sqlite, postgres] = world.each(async |db| db.repository::<accounts::Entity>().count(&above).await).await;
    assert!(matches!(connection_error(sqlite.unwrap_err()), ConnectionError::UnstorableValue { .. }));
    assert_eq!(postgres.unwrap(), 2);
}

/// Amounts that clients of other programs wrote: a driver loses the scale of zero, another that of every amount.
#[tokio::test]
async fn an_amount_that_others_wrote_is_read_with_two_digits() {
    let world = World::new().await;
    let row = accounts::ActiveModel { id: Set(Uuid::nil()), ..account() };
    world.write::<accounts::Entity>(vec![row]).await;
    for (written, read) in [("0", "0.00"), ("0.0", "0.00"), ("-0.0", "0.00"), ("12.5", "12.50"), ("-7", "-7.00")] {
        for engine in [Engine::Sqlite, Engine::Postgres] {
            world.by_hand(engine, &format!("UPDATE accounts SET credit_limit = {written}")).await.unwrap();
        }
        // A query, a stream and a write return it in the same spelling.
        let touch = accounts::ActiveModel { phone: Set(Some(written.to_owned())), ..Default::default() };
        let amounts = async |db: &TenantDb| {
            let accounts = db.repository::<accounts::Entity>();
            let found = accounts.find_by_id(Uuid::nil()).await.unwrap().unwrap();
            let streamed = accounts.stream(&Query::new()).try_next().await.unwrap().unwrap();
            let updated = accounts.update(Uuid::nil(), touch.clone()).await.unwrap();
            [found, streamed, updated].map(|row| spelled(row.credit_limit.into()))
        };
        assert_eq!(world.same(amounts).await, [read; 3]);
    }
}

fn account() -> accounts::ActiveModel {
    accounts::ActiveModel { name: Set("Acme".to_owned()), ..Default::default() }
}

fn spelled(value: Value) -> String {
    match value {
        Value::Decimal(Some(amount)) => amount.to_string(),
        other => panic!("no amount: {other:?}"),
    }
}
