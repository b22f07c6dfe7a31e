//! The write log: triggers in two languages tell the same of a write.

use chrono::{DateTime, NaiveTime};
use sea_orm::ActiveValue::Set;
use serde_json::{Value, json};
use tenantry_connection::{Actor, canonical_timestamp};
use tenantry_data_source::TenantDb;
use tenantry_entities::{accounts, events, opportunities};
use tenantry_realm::TenantEntity;
use tenantry_repository::RepositoryExt;
use uuid::Uuid;

use super::world::World;

/// A log that was copied with its tenant is read by the same tools on the other engine.
#[tokio::test]
async fn an_entry_tells_the_same_values_on_both_engines() {
    let world = World::new().await;
    let epoch = DateTime::UNIX_EPOCH.fixed_offset();
    let account = accounts::ActiveModel {
        id: Set(Uuid::from_u128(1)),
        name: Set("quotes ' \" \\ ä \u{1} 😀".to_owned()),
        notes: Set(Some(String::new())),
        credit_limit: Set(Some("12.5".parse().unwrap())),
        annual_revenue: Set(Some("-9999999999.99".parse().unwrap())),
        employee_count: Set(Some(i32::MIN)),
        billing_address: Set(Some(json!({ "b": [1.5, null, true, "\u{2028}"], "a": {} }))),
        shipping_address: Set(Some(Value::Null)),
        created_at: Set(Some(epoch)),
        updated_at: Set(Some(epoch)),
        ..Default::default()
    };
    let event = events::ActiveModel {
        id: Set(Uuid::from_u128(2)),
        title: Set("Fair".to_owned()),
        event_type: Set("fair".to_owned()),
        start_date: Set("0001-02-03".parse().ok()),
        start_time: Set("09:05:00.25".parse().ok()),
        venue_confirmed: Set(Some(true)),
        staff_notified: Set(None),
        created_at: Set(DateTime::parse_from_rfc3339("1969-12-31T23:59:59.999999+02:00").ok()),
        updated_at: Set(Some(epoch)),
        ..Default::default()
    };
    let deal = opportunities::ActiveModel {
        id: Set(Uuid::from_u128(3)),
        name: Set("Deal".to_owned()),
        amount: Set(Some("9999999999999.99".parse().unwrap())),
        created_at: Set(Some(epoch)),
        updated_at: Set(Some(epoch)),
        ..Default::default()
    };
    let renamed = accounts::ActiveModel { name: Set("new".to_owned()), ..Default::default() };
    let told = async |db: &TenantDb| {
        let db = db.as_user(Actor { user_id: Some(Uuid::from_u128(9)), ..Actor::default() });
        create_and_delete(&db, event.clone(), 2).await;
        create_and_delete(&db, deal.clone(), 3).await;
        db.repository::<accounts::Entity>().create(account.clone()).await.unwrap();
        db.repository::<accounts::Entity>().update(Uuid::from_u128(1), renamed.clone()).await.unwrap();
        // Neither of these changes anything.
        db.repository::<accounts::Entity>().update(Uuid::from_u128(1), renamed.clone()).await.unwrap();
        db.repository::<accounts::Entity>().update(Uuid::from_u128(1), accounts::ActiveModel::default()).await.unwrap();
        let entries = db.write_log(100).await.unwrap();
        let by_value = |row: Option<Value>| row.map(|row| row.as_object().unwrap().clone()).map(by_value);
        let mut told: Vec<_> = entries
            .into_iter()
            .map(|entry| {
                let what = format!("{} {:?} by {:?}", entry.table, entry.operation, entry.actor);
                (what, entry.row_id, by_value(entry.before), by_value(entry.after))
            })
            .collect();
        told.sort_by(|a, b| a.0.cmp(&b.0));
        told
    };
    let told = world.same(told).await;
    assert_eq!(told.len(), 6, "{told:#?}");
    let inserted = told[0].3.as_ref().unwrap();
    for (column, value) in [
        ("credit_limit", json!(12.5)),
        ("annual_revenue", json!(-9_999_999_999.99)),
        ("shipping_address", Value::Null),
        ("notes", json!("")),
        ("id", json!(Uuid::from_u128(1))),
    ] {
        assert_eq!(inserted[column], value, "{column}");
    }
}

async fn create_and_delete<E>(db: &TenantDb, row: E, id: u128)
where
    E: sea_orm::ActiveModelTrait<Entity: TenantEntity<ActiveModel = E>> + Send + Sync,
{
    db.repository::<E::Entity>().create(row).await.map(drop).unwrap();
    assert!(db.repository::<E::Entity>().delete(Uuid::from_u128(id)).await.unwrap());
}

/// The row without the spelling of its instants and times, and without `updated_at`, which is when the test ran.
fn by_value(mut row: serde_json::Map<String, Value>) -> serde_json::Map<String, Value> {
    row.remove("updated_at");
    for value in row.values_mut() {
        let Some(text) = value.as_str() else { continue };
        if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
            *value = canonical_timestamp(&instant).into();
        } else if let Ok(time) = text.parse::<NaiveTime>() {
            *value = time.to_string().into();
        }
    }
    row
}
