//! JSON, flags and identifiers: every kind of value reads back as what it was.

use proptest::prelude::*;
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, Condition, ExprTrait, Order};
use serde_json::{Value, json};
use tenantry_data_source::ConnectionError;
use tenantry_entities::{accounts, contact_accounts, contacts};
use tenantry_repository::{Query, RepositoryExt};
use uuid::Uuid;

use super::world::{World, connection_error};

type Column = accounts::Column;

/// `jsonb` spells a document anew and SQLite keeps its text, so that they are compared by value.
#[tokio::test(flavor = "multi_thread")]
async fn json_of_every_kind_means_the_same() {
    let world = World::new().await;
    let mut documents = vec![
        json!(null),
        json!(true),
        json!(""),
        json!("null"),
        json!([]),
        json!({}),
        json!([null, [], {}, [[false]]]),
        json!({ "": "", "b": 1, "a": { "z": null, "ä": "Ä" }, "A": [1, "1", 1.5] }),
        json!([0, -1, i64::MIN, i64::MAX, u64::MAX, 0.1, -0.0, 1.0, 1e-7, 1e15, 1e16, 1e21, 1e300, -2.5e-300]),
        json!("quotes ' \" \\ / \u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}\u{2028}\u{feff} e\u{301} 😀 שלום"),
        json!({ "' OR 1=1 --": "%_\\" }),
    ];
    documents.push(nested(127, json!(1)));
    documents.push(nested(126, json!({})));
    documents.push(json!({ "long": "x".repeat(1 << 20) }));
    same_documents(&world, documents).await;

    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 1_000.0)),
        text().prop_map(Value::from),
    ];
    let document = leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(text(), inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    world.for_all(16, prop::collection::vec(document, 1..16), async |documents: Vec<Value>| {
        same_documents(&world, documents).await;
    });
}

async fn same_documents(world: &World, documents: Vec<Value>) {
    world.clear::<accounts::Entity>().await;
    let row = |(at, document): (usize, &Value)| accounts::ActiveModel {
        name: Set(format!("{at:04}")),
        billing_address: Set(Some(document.clone())),
        ..Default::default()
    };
    world.write::<accounts::Entity>(documents.iter().enumerate().map(row).collect()).await;
    let query = Query::<accounts::Entity>::new().order_by(Column::Name, Order::Asc);
    for rows in world.each(async |db| db.repository::<accounts::Entity>().find_many(&query).await.unwrap()).await {
        for (row, document) in rows.iter().zip(&documents) {
            let read = row.billing_address.as_ref().unwrap();
            assert!(same_value(read, document), "{read} is not {document}");
        }
    }
}

/// Numbers are compared as numbers: PostgreSQL spells 1e16 as an integer.
fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same_value(a, b)))
        }
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

#[tokio::test]
async fn json_null_is_no_sql_null() {
    let world = World::new().await;
    let row = |name: &str, document| accounts::ActiveModel {
        name: Set(name.to_owned()),
        billing_address: Set(document),
        ..Default::default()
    };
    let rows = vec![
        row("json null", Some(Value::Null)),
        row("sql null", None),
        row("ordered", Some(json!({ "b": [1, 2], "a": "ä" }))),
    ];
    world.write::<accounts::Entity>(rows).await;
    let name = async |condition| {
        let query = Query::<accounts::Entity>::new().filter(Condition::all().add(condition));
        world.read(&query.order_by(Column::Name, Order::Asc)).await.into_iter().map(|row| row.name).collect::<Vec<_>>()
    };
    assert_eq!(name(Column::BillingAddress.is_null()).await, ["sql null"]);
    assert_eq!(name(Column::BillingAddress.eq(Value::Null)).await, ["json null"]);
    let rows = world.read(&Query::<accounts::Entity>::new().order_by(Column::Name, Order::Asc)).await;
    assert_eq!(rows[0].billing_address, Some(Value::Null));
    assert_eq!(rows[2].billing_address, None);
    // A document is found whatever the order of its keys …
    assert_eq!(name(Column::BillingAddress.eq(json!({ "a": "ä", "b": [1, 2] }))).await, ["ordered"]);
    // … but in a condition SQLite compares the spelling of numbers as well.
    let respelled = Query::new().filter(Column::BillingAddress.eq(json!({ "a": "ä", "b": [1.0, 2] })));
    let counts = world.each(async |db| db.repository::<accounts::Entity>().count(&respelled).await.unwrap()).await;
    assert_eq!(counts, [0, 1]);
}

/// A text inside of JSON can hold what no text column holds; PostgreSQL refuses it when it parses, SQLite would not. What is
/// nested too deep would be stored by both and read by none.
#[tokio::test]
async fn json_with_a_nul_or_too_deep_to_read_is_refused_alike() {
    let world = World::new().await;
    let create = async |document: &Value| {
        let row = accounts::ActiveModel {
            name: Set("Acme".to_owned()),
            billing_address: Set(Some(document.clone())),
            ..Default::default()
        };
        world.each(async |db| db.repository::<accounts::Entity>().create(row.clone()).await).await
    };
    for document in
        [json!("a\0"), json!([{ "a": ["\0"] }]), json!({ "\0": 1 }), nested(128, json!(1)), nested(127, json!({}))]
    {
        for created in create(&document).await {
            let error = connection_error(created.unwrap_err());
            assert!(matches!(error, ConnectionError::UnstorableValue { .. }), "{error:?}");
        }
    }
    let backslash = json!("a backslash, a u and four zeros: \\u0000");
    for created in create(&backslash).await {
        assert_eq!(created.unwrap().billing_address.as_ref(), Some(&backslash));
    }
    assert_eq!(world.count::<accounts::Entity>(Condition::all()).await, 1, "only the backslash was stored");
}

#[tokio::test]
async fn a_flag_has_three_values_and_an_id_sixteen_bytes() {
    let world = World::new().await;
    let ids = [0, 1, u128::MAX / 3, u128::MAX].map(Uuid::from_u128);
    let account = |id: &Uuid| accounts::ActiveModel {
        id: Set(*id),
        name: Set(id.to_string()),
        assigned_to: Set(Some(*id).filter(|id| !id.is_nil())),
        ..Default::default()
    };
    world.write::<accounts::Entity>(ids.iter().map(account).rev().collect()).await;
    for (order, expected) in [(Order::Asc, [1, 2, 3, 0]), (Order::Desc, [3, 2, 1, 0])] {
        let rows = world.read(&Query::<accounts::Entity>::new().order_by(Column::AssignedTo, order)).await;
        assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), expected.map(|at| ids[at]));
    }
    assert_eq!(world.count::<accounts::Entity>(Condition::all().add(Column::Id.gt(ids[1]))).await, 2);

    let contact = contacts::ActiveModel {
        id: Set(ids[3]),
        first_name: Set("Ada".to_owned()),
        last_name: Set(String::new()),
        ..Default::default()
    };
    world.write::<contacts::Entity>(vec![contact]).await;
    let link = |(id, is_primary): (&Uuid, Option<bool>)| contact_accounts::ActiveModel {
        contact_id: Set(ids[3]),
        account_id: Set(*id),
        is_primary: Set(is_primary),
        ..Default::default()
    };
    let flags = [Some(true), None, Some(false), Some(true)];
    world.write::<contact_accounts::Entity>(ids.iter().zip(flags).map(link).collect()).await;
    let flag = contact_accounts::Column::IsPrimary;
    for (order, expected) in [
        (Order::Asc, [Some(false), Some(true), Some(true), None]),
        (Order::Desc, [Some(true), Some(true), Some(false), None]),
    ] {
        let query = Query::<contact_accounts::Entity>::new()
            .order_by(flag, order)
            .order_by(contact_accounts::Column::AccountId, Order::Asc);
        let rows = world.read(&query).await;
        assert_eq!(rows.iter().map(|row| row.is_primary).collect::<Vec<_>>(), expected);
    }
    for (condition, expected) in [
        (flag.eq(false), 1),
        (flag.ne(true), 1),
        (flag.is_null(), 1),
        (flag.eq(true).or(flag.is_null()), 3),
        (flag.eq(true).not(), 1),
    ] {
        assert_eq!(world.count::<contact_accounts::Entity>(Condition::all().add(condition)).await, expected);
    }
}

fn nested(levels: usize, innermost: Value) -> Value {
    (0..levels).fold(innermost, |inner, _| json!([inner]))
}

/// Short text of awkward characters, without NUL.
fn text() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        prop::sample::select("aZ0 '\"\\/%_\n\u{1}\u{7f}äß\u{301}😀\u{2028}\u{ffff}".chars().collect::<Vec<_>>()),
        any::<char>().prop_filter("NUL", |character| *character != '\0'),
    ];
    prop::collection::vec(character, 0..8).prop_map(String::from_iter)
}
