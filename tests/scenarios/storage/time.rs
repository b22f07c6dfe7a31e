//! Instants, dates and times: microseconds in UTC, one order, and the same row found whatever the offset asked with.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveTime, TimeZone, Timelike, Utc};
use proptest::collection::vec;
use proptest::prelude::*;
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{ColumnTrait, Condition, Order};
use tenantry_connection::canonical_timestamp;
use tenantry_data_source::ConnectionError;
use tenantry_entities::{accounts, events, leads};
use tenantry_repository::{Query, RepositoryExt};

use super::world::{World, connection_error};

type Instant = DateTime<FixedOffset>;

/// Instants before 2000 have negative microseconds on PostgreSQL, where cutting off is not rounding down; text order fails
/// where one stored form has another offset or another number of digits.
#[tokio::test(flavor = "multi_thread")]
async fn an_instant_keeps_its_microseconds_and_its_order() {
    let world = World::new().await;
    let edges: Vec<Instant> = [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00-14:00",
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59.999999999Z",
        "1969-12-31T23:59:59.999999500Z",
        "1999-12-31T23:59:59.9999995Z",
        "1999-12-31T23:59:59.9999995-11:30",
        "2000-01-01T00:00:00.0000005+05:45",
        "1582-10-10T12:00:00.000001999Z",
        "2016-12-31T23:59:60.5Z",
        "2024-02-29T23:59:59.999999+14:00",
    ]
    .iter()
    .map(|text| DateTime::parse_from_rfc3339(text).unwrap())
    .collect();
    let (first, last) = (edges[0].timestamp(), edges[2].timestamp());
    let any_instant =
        (first..=last, 0..1_000_000_000_u32, -14 * 60..=14 * 60_i32).prop_map(|(second, nano, offset)| {
            let offset = FixedOffset::east_opt(offset * 60).unwrap();
            DateTime::from_timestamp(second, nano).unwrap().with_timezone(&offset)
        });
    let edge = (0..edges.len()).prop_map(move |at| edges[at]);
    let instants = vec(prop::option::weighted(0.9, prop_oneof![2 => any_instant, 1 => edge]), 1..24);
    world.for_all(16, instants, async |instants: Vec<Option<Instant>>| {
        world.clear::<leads::Entity>().await;
        world.write::<leads::Entity>(instants.iter().map(|instant| lead(*instant)).collect()).await;

        let mut ordered: Vec<_> = instants.iter().flatten().map(microseconds).collect();
        ordered.sort_unstable();
        assert_eq!(converted(&world, Order::Asc).await, nulls_last(&ordered, instants.len()));
        ordered.reverse();
        assert_eq!(converted(&world, Order::Desc).await, nulls_last(&ordered, instants.len()));

        let Some(given) = instants.iter().flatten().next() else { return };
        let elsewhere = given.with_timezone(&FixedOffset::west_opt(9 * 3600 + 1800).unwrap());
        let column = leads::Column::ConvertedAt;
        for (condition, expected) in [
            (column.eq(elsewhere), ordered.iter().filter(|instant| **instant == microseconds(given)).count()),
            (column.gt(elsewhere), ordered.iter().filter(|instant| **instant > microseconds(given)).count()),
            (column.lte(given.to_utc()), ordered.iter().filter(|instant| **instant <= microseconds(given)).count()),
        ] {
            let counted = world.count::<leads::Entity>(Condition::all().add(condition)).await;
            assert_eq!(counted, u64::try_from(expected).unwrap(), "compared with {elsewhere}");
        }
    });
}

/// What the database's clock fills in must be as comparable as what is bound.
#[tokio::test]
async fn the_database_s_own_timestamps_have_the_canonical_form_and_move() {
    let world = World::new().await;
    let id = uuid::Uuid::new_v4();
    let row = accounts::ActiveModel { id: Set(id), name: Set("Acme".to_owned()), ..Default::default() };
    let before = Utc::now();
    let created = world.each(async |db| db.repository::<accounts::Entity>().create(row.clone()).await.unwrap()).await;
    for row in &created {
        let [created_at, updated_at] = [row.created_at.unwrap(), row.updated_at.unwrap()];
        assert_eq!(created_at, updated_at);
        // SQLite's clock has milliseconds.
        assert!(created_at > before - chrono::Duration::milliseconds(2) && created_at <= Utc::now(), "{created_at}");
    }
    let stored = world.stored_in_file("SELECT created_at FROM accounts").await.unwrap();
    assert_eq!(stored, canonical_timestamp(&created[0].created_at.unwrap()));
    assert!(stored.ends_with("000+00:00"), "{stored}");

    let latest = created.iter().filter_map(|row| row.updated_at).max().unwrap();
    while Utc::now() < latest + chrono::Duration::milliseconds(2) {
        tokio::task::yield_now().await;
    }
    let change = accounts::ActiveModel { phone: Set(Some("1".to_owned())), ..Default::default() };
    let updated =
        world.each(async |db| db.repository::<accounts::Entity>().update(id, change.clone()).await.unwrap()).await;
    let read = world.each(async |db| db.repository::<accounts::Entity>().find_by_id(id).await.unwrap().unwrap()).await;
    assert_eq!(updated, read, "what an update returns is what is stored");
    for (created, updated) in created.iter().zip(&updated) {
        assert_eq!(updated.created_at, created.created_at);
        assert!(updated.updated_at > created.updated_at, "{updated:?}");
    }
    let stored = world.stored_in_file("SELECT updated_at FROM accounts").await.unwrap();
    assert_eq!(stored, canonical_timestamp(&updated[0].updated_at.unwrap()));

    // An update that changes nothing leaves the clock alone, and one by hand does not count beside a change.
    let again =
        world.each(async |db| db.repository::<accounts::Entity>().update(id, change.clone()).await.unwrap()).await;
    assert_eq!(again, updated);
    let by_hand = accounts::ActiveModel {
        phone: Set(Some("2".to_owned())),
        updated_at: Set(Some(DateTime::UNIX_EPOCH.fixed_offset())),
        ..Default::default()
    };
    let moved =
        world.each(async |db| db.repository::<accounts::Entity>().update(id, by_hand.clone()).await.unwrap()).await;
    for (moved, updated) in moved.iter().zip(&updated) {
        assert!(moved.updated_at >= updated.updated_at, "{moved:?}");
    }
    // Alone it is kept in a file: there a trigger can only run after the update, and cannot tell it from its own.
    let alone = accounts::ActiveModel { phone: NotSet, ..by_hand };
    let kept =
        world.each(async |db| db.repository::<accounts::Entity>().update(id, alone.clone()).await.unwrap()).await;
    assert_eq!(kept.each_ref().map(|row| row.updated_at), [alone.updated_at.unwrap(), moved[1].updated_at]);
}

#[tokio::test]
async fn dates_and_times_keep_their_edges_and_their_order() {
    let world = World::new().await;
    let dates = ["0001-01-01", "0001-12-31", "1582-10-10", "1900-02-28", "1999-12-31", "2000-02-29", "9999-12-31"];
    let times = ["00:00:00", "00:00:00.000001", "09:05:00", "12:00:00.5", "23:59:59.999998", "23:59:59.999999", ""];
    let dates = dates.map(|text| text.parse::<NaiveDate>().unwrap());
    let times = times.map(|text| text.parse::<NaiveTime>().ok());
    let row = |(date, time): (&NaiveDate, &Option<NaiveTime>)| events::ActiveModel {
        title: Set("Fair".to_owned()),
        event_type: Set("fair".to_owned()),
        start_date: Set(Some(*date)),
        start_time: Set(*time),
        ..Default::default()
    };
    world.write::<events::Entity>(dates.iter().zip(&times).map(row).rev().collect()).await;

    let query = Query::<events::Entity>::new();
    let by_date = world.read(&query.clone().order_by(events::Column::StartDate, Order::Asc)).await;
    assert_eq!(by_date.iter().filter_map(|row| row.start_date).collect::<Vec<_>>(), dates);
    assert_eq!(by_date.iter().map(|row| row.start_time).collect::<Vec<_>>(), times);
    let by_time = world.read(&query.order_by(events::Column::StartTime, Order::Asc)).await;
    assert_eq!(by_time.iter().map(|row| row.start_time).collect::<Vec<_>>(), times, "without a time comes last");
    for (condition, expected) in [
        (events::Column::StartDate.lt(dates[2]), 2),
        (events::Column::StartDate.between(dates[1], dates[4]), 4),
        (events::Column::StartTime.eq(times[3]), 1),
        (events::Column::StartTime.gt(times[4]), 1),
        (events::Column::StartTime.is_null(), 1),
    ] {
        assert_eq!(world.count::<events::Entity>(Condition::all().add(condition)).await, expected);
    }
    // Below a microsecond nothing is kept, in a row or in a condition; a leap second has no place in a day's clock.
    let finer = NaiveTime::from_hms_nano_opt(9, 5, 0, 999).unwrap();
    let condition = Condition::all().add(events::Column::StartTime.eq(finer));
    assert_eq!(world.count::<events::Entity>(condition).await, 1);
    let leap = NaiveTime::from_hms_nano_opt(23, 59, 59, 1_500_000_000).unwrap();
    unstorable(&world, Condition::all().add(events::Column::StartTime.lt(leap))).await;
}

/// Text order ends where a year has five digits or a sign, so that SQLite refuses such a value even in a condition, which
/// would otherwise find the wrong rows. PostgreSQL goes on to its own limits, and what is behind them is refused alike.
#[tokio::test]
async fn years_before_1_and_after_9999_are_postgresql_s_alone() {
    let world = World::new().await;
    let row = events::ActiveModel {
        title: Set("Fair".to_owned()),
        event_type: Set("fair".to_owned()),
        start_date: Set(NaiveDate::from_ymd_opt(2024, 2, 29)),
        ..Default::default()
    };
    world.write::<events::Entity>(vec![row.clone()]).await;
    let [before, after] = [(0, 12, 31), (10_000, 1, 1)].map(|(y, m, d)| NaiveDate::from_ymd_opt(y, m, d).unwrap());
    let instant = |date: NaiveDate| Utc.from_utc_datetime(&date.and_hms_opt(0, 0, 0).unwrap());
    for condition in [
        Condition::all().add(events::Column::StartDate.gt(before)).add(events::Column::StartDate.lt(after)),
        Condition::all().add(events::Column::StartDate.lt(NaiveDate::MAX)),
        Condition::all().add(events::Column::CreatedAt.gt(instant(before))),
        Condition::all().add(events::Column::CreatedAt.lt(instant(after))),
    ] {
        let query = Query::<events::Entity>::new().filter(condition);
        let [sqlite, postgres] = world.each(async |db| db.repository::<events::Entity>().count(&query).await).await;
        let error = connection_error(sqlite.unwrap_err());
        assert!(matches!(error, ConnectionError::UnstorableValue { .. }), "{error:?}");
        assert_eq!(postgres.unwrap(), 1);
    }
    for date in [before, after, NaiveDate::MAX] {
        let row = events::ActiveModel { start_date: Set(Some(date)), ..row.clone() };
        let [sqlite, postgres] =
            world.each(async |db| db.repository::<events::Entity>().create(row.clone()).await).await;
        let error = connection_error(sqlite.unwrap_err());
        assert!(matches!(error, ConnectionError::UnstorableValue { .. }), "{error:?}");
        assert_eq!(postgres.unwrap().start_date, Some(date));
    }
    unstorable(&world, Condition::all().add(events::Column::StartDate.gt(NaiveDate::MIN))).await;
    unstorable(&world, Condition::all().add(events::Column::CreatedAt.gt(DateTime::<Utc>::MIN_UTC))).await;
}

async fn unstorable(world: &World, condition: Condition) {
    let query = Query::<events::Entity>::new().filter(condition);
    for counted in world.each(async |db| db.repository::<events::Entity>().count(&query).await).await {
        let error = connection_error(counted.unwrap_err());
        assert!(matches!(error, ConnectionError::UnstorableValue { .. }), "{error:?}");
    }
}

async fn converted(world: &World, order: Order) -> Vec<Option<Instant>> {
    let query = Query::<leads::Entity>::new().order_by(leads::Column::ConvertedAt, order);
    let read = async |db: &_| {
        let rows = RepositoryExt::repository::<leads::Entity>(db).find_many(&query).await.unwrap();
        rows.into_iter().map(|row| row.converted_at).collect::<Vec<_>>()
    };
    world.same(read).await
}

fn nulls_last(ordered: &[Instant], rows: usize) -> Vec<Option<Instant>> {
    let nulls = std::iter::repeat_n(None, rows - ordered.len());
    ordered.iter().copied().map(Some).chain(nulls).collect()
}

/// The microsecond that an instant is in; a leap second is the one after it.
fn microseconds(instant: &Instant) -> Instant {
    let whole = if instant.nanosecond() >= 1_000_000_000 { 1 } else { 0 };
    let micro = instant.nanosecond() % 1_000_000_000 / 1_000;
    DateTime::from_timestamp(instant.timestamp() + whole, micro * 1_000).unwrap().fixed_offset()
}

fn lead(converted_at: Option<Instant>) -> leads::ActiveModel {
    leads::ActiveModel {
        first_name: Set("Ada".to_owned()),
        last_name: Set("L".to_owned()),
        converted_at: Set(converted_at),
        ..Default::default()
    }
}
