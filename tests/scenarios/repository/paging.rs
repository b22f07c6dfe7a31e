//! Pages by cursor: complete, stable under writes, and of one tenant whosever the cursor was.

use std::collections::BTreeSet;

use chrono::{DateTime, Duration, NaiveDate, NaiveTime, Utc};
use rust_decimal::Decimal;
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, Order};
use tenantry_data_source::{TenantDb, TenantHandle, TenantTransaction};
use tenantry_entities::{accounts, contacts, events, locations};
use tenantry_realm::TenantEntity;
use tenantry_repository::{Cursor, CursorProblem, Error, MAX_PAGE_LIMIT, Query, RepositoryExt};
use uuid::Uuid;

use super::{on_both_engines, world::World};

on_both_engines!(
    pages_end_to_end_are_the_whole_query,
    every_type_survives_in_a_cursor,
    writes_between_pages_neither_repeat_nor_skip_a_row,
    a_foreign_cursor_is_a_position_among_own_rows,
    a_cursor_of_something_else_is_refused,
    a_page_that_cannot_be_is_refused,
);

const ORDERS: [Order; 2] = [Order::Asc, Order::Desc];

fn name(number: usize) -> String {
    format!("n{number:03}")
}

/// Few distinct values and many nulls, so that every column of an order has to decide now and then.
async fn fill(db: &TenantDb, rows: usize) {
    let some = |number: usize, one_in: usize| (!number.is_multiple_of(one_in)).then_some(number);
    let model = |number: usize| accounts::ActiveModel {
        name: Set(name(number % 7)),
        employee_count: Set(some(number, 3).map(|number| i32::try_from(number % 4).unwrap() - 2)),
        credit_limit: Set(some(number, 4).map(|number| Decimal::new(i64::try_from(number % 5).unwrap() * 10 - 25, 2))),
        billing_city: Set(some(number, 2).map(|number| ["Ulm", "Kiel", "", "o'Neil\\\"%"][number / 2 % 4].to_owned())),
        ..Default::default()
    };
    db.repository::<accounts::Entity>().bulk_create((0..rows).map(model)).await.unwrap();
}

/// Every page to the last one, each asked for with the cursor of the one before.
async fn every_page<E: TenantEntity>(db: &TenantDb, query: &Query<E>, limit: u64) -> Vec<E::Model>
where
    E::Model: Sync,
{
    let (mut rows, mut cursor) = (Vec::new(), None);
    loop {
        let page = db.repository::<E>().page_after(query, cursor.as_ref(), limit).await.unwrap();
        assert!(page.items.len() as u64 <= limit);
        assert!(page.next.is_none() || page.items.len() as u64 == limit, "a page with a next one is full");
        rows.extend(page.items);
        // As it travels in a URL.
        cursor = page.next.map(|next| Cursor::new(next.to_string()));
        if cursor.is_none() {
            return rows;
        }
    }
}

async fn pages_end_to_end_are_the_whole_query(world: World) {
    use accounts::Column::{BillingCity, CreatedAt, CreditLimit, EmployeeCount, Id, Name};
    fill(&world.one, 40).await;
    fill(&world.two, 10).await;
    let columns: [&[accounts::Column]; 7] = [
        &[],
        &[Name],
        &[EmployeeCount],
        &[CreditLimit, Name],
        &[BillingCity, EmployeeCount],
        &[EmployeeCount, BillingCity, CreditLimit],
        &[CreatedAt, EmployeeCount],
    ];
    for columns in columns {
        for directions in 0..1_usize << columns.len() {
            let order = |(at, column): (usize, &accounts::Column)| (*column, ORDERS[directions >> at & 1].clone());
            let order: Vec<_> = columns.iter().enumerate().map(order).collect();
            let last = order.last().map_or(Order::Asc, |(_, order)| order.clone());
            let query = order.into_iter().fold(Query::new(), |query, (column, order)| query.order_by(column, order));
            let whole = query.clone().order_by(Id, last);
            let whole = world.one.repository::<accounts::Entity>().find_many(&whole).await.unwrap();
            assert_eq!(whole.len(), 40);
            for limit in [1, 3, 7, 39, 40, 41] {
                assert_eq!(every_page(&world.one, &query, limit).await, whole, "{columns:?} {directions:b} by {limit}");
            }
        }
    }
    // Conditions, search and a limit of the query's own.
    let narrowed = Query::new().filter(EmployeeCount.gte(0)).order_by(Name, Order::Desc).limit(1).offset(3);
    let count = world.one.repository::<accounts::Entity>().count(&narrowed).await.unwrap();
    assert_eq!(every_page(&world.one, &narrowed, 4).await.len() as u64, count);
    // The id in the order ends it: what is named behind it can decide nothing.
    let by_id = Query::new().order_by(Id, Order::Desc).order_by(Name, Order::Asc).order_by(Id, Order::Asc);
    let ids: Vec<Uuid> =
        every_page::<accounts::Entity>(&world.one, &by_id, 6).await.into_iter().map(|row| row.id).collect();
    assert!(ids.len() == 40 && ids.windows(2).all(|pair| pair[0] > pair[1]), "uuids are ordered by their bytes");
}

/// Values at their limits, where a form that loses anything would repeat a row or skip it.
async fn every_type_survives_in_a_cursor(world: World) {
    let instant: DateTime<Utc> = "2024-02-29T23:59:59.999998Z".parse().unwrap();
    let money = ["-9999999999.99", "-0.01", "0.00", "0.10", "1234567890.12", "9999999999.98", "9999999999.99"];
    let accounts = money.iter().enumerate().map(|(at, money)| accounts::ActiveModel {
        name: Set(format!("ß\u{1F600} \"{at}\"")),
        annual_revenue: Set(Some(money.parse().unwrap())),
        employee_count: Set(Some([i32::MIN, -1, 0, 1, i32::MAX - 1, i32::MAX, 7][at])),
        assigned_to: Set(Some(Uuid::from_u128(u128::MAX - at as u128))),
        created_at: Set(Some((instant + Duration::microseconds(i64::try_from(at).unwrap())).into())),
        ..Default::default()
    });
    world.one.repository::<accounts::Entity>().bulk_create(accounts).await.unwrap();
    use accounts::Column as A;
    for column in [A::Name, A::AnnualRevenue, A::EmployeeCount, A::AssignedTo, A::CreatedAt, A::Status] {
        for order in ORDERS {
            let query = Query::new().order_by(column, order);
            let rows: BTreeSet<Uuid> =
                every_page::<accounts::Entity>(&world.one, &query, 1).await.into_iter().map(|row| row.id).collect();
            assert_eq!(rows.len(), money.len(), "{column:?}");
        }
    }
    let day = |year, month, day| NaiveDate::from_ymd_opt(year, month, day).unwrap();
    let time = |microseconds| NaiveTime::from_hms_micro_opt(23, 59, 59, microseconds).unwrap();
    let dates = [day(1, 1, 1), day(1969, 12, 31), day(2000, 2, 29), day(9999, 12, 31)];
    let events = dates.iter().enumerate().map(|(at, date)| events::ActiveModel {
        title: Set("t".to_owned()),
        event_type: Set("e".to_owned()),
        start_date: Set(Some(*date)),
        start_time: Set(Some(time(999_990 + u32::try_from(at).unwrap()))),
        contract_signed: Set([Some(true), Some(false), None, Some(true)][at]),
        ..Default::default()
    });
    world.one.repository::<events::Entity>().bulk_create(events).await.unwrap();
    for column in [events::Column::StartDate, events::Column::StartTime, events::Column::ContractSigned] {
        for order in ORDERS {
            let query = Query::new().order_by(column, order);
            let rows: BTreeSet<Uuid> =
                every_page::<events::Entity>(&world.one, &query, 1).await.into_iter().map(|row| row.id).collect();
            assert_eq!(rows.len(), dates.len(), "{column:?}");
        }
    }
}

/// Rows come and go between any two pages, right before and behind the cursor too; those that stay come once each, in order.
async fn writes_between_pages_neither_repeat_nor_skip_a_row(world: World) {
    use accounts::Column::{EmployeeCount, Id, Name};
    let accounts = world.one.repository::<accounts::Entity>();
    fill(&world.one, 30).await;
    for (round, orders) in [[Order::Asc, Order::Desc], [Order::Desc, Order::Desc]].into_iter().enumerate() {
        let [first, second] = orders;
        let query = Query::new().order_by(EmployeeCount, first).order_by(Name, second.clone());
        let staying = accounts.find_many(&query.clone().order_by(Id, second)).await.unwrap();
        let (mut seen, mut cursor, mut passing) = (Vec::new(), None, Vec::new());
        loop {
            let page = accounts.page_after(&query, cursor.as_ref(), 4).await.unwrap();
            let last = page.items.last().unwrap().clone();
            seen.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
            // Those of the round before go, and with them the row that the cursor points at, where it was one of them.
            accounts.bulk_delete(passing.drain(..)).await.unwrap();
            for (employees, name) in [(last.employee_count, last.name), (None, "~".to_owned()), (Some(-9), name(round))]
            {
                let twin = accounts::ActiveModel {
                    name: Set(name),
                    employee_count: Set(employees),
                    notes: Set(Some("passing".to_owned())),
                    ..Default::default()
                };
                passing.push(accounts.create(twin).await.unwrap().id);
            }
        }
        accounts.bulk_delete(passing).await.unwrap();
        assert!(seen.iter().any(|row| row.notes.is_some()), "rows that came in front of the cursor's page are seen");
        let ids: BTreeSet<Uuid> = seen.iter().map(|row| row.id).collect();
        assert_eq!(ids.len(), seen.len(), "no row comes twice");
        seen.retain(|row| row.notes.is_none());
        assert_eq!(seen, staying);
    }
}

/// A cursor holds values and no tenant: taken to another tenant it opens nothing there that its own handle does not.
async fn a_foreign_cursor_is_a_position_among_own_rows(world: World) {
    let by_name = Query::new().order_by(accounts::Column::Name, Order::Asc);
    for (db, names) in [(&world.one, ["a", "c", "e"]), (&world.two, ["b", "d", "f"])] {
        let model = |name: &&str| accounts::ActiveModel { name: Set((*name).to_owned()), ..Default::default() };
        db.repository::<accounts::Entity>().bulk_create(names.iter().map(model)).await.unwrap();
    }
    let next = world.one.repository::<accounts::Entity>().page_after(&by_name, None, 2).await.unwrap().next;
    let theirs = world.two.repository::<accounts::Entity>().page_after(&by_name, next.as_ref(), 10).await.unwrap();
    assert_eq!(theirs.items.iter().map(|row| &*row.name).collect::<Vec<_>>(), ["d", "f"]);
    assert!(theirs.items.iter().all(|row| row.tenant_id == world.two.tenant()));
    assert_eq!(theirs.next, None);
}

async fn a_cursor_of_something_else_is_refused(world: World) {
    use accounts::Column::{EmployeeCount, Id, Name};
    fill(&world.one, 5).await;
    let accounts = world.one.repository::<accounts::Entity>();
    let query = Query::new().order_by(Name, Order::Asc).order_by(EmployeeCount, Order::Desc);
    let cursor = accounts.page_after(&query, None, 2).await.unwrap().next.unwrap();
    let problem = |error: Error| match error {
        Error::InvalidCursor { problem, .. } => problem,
        other => panic!("{other}"),
    };
    let by = |columns: &[(accounts::Column, Order)]| {
        columns.iter().fold(Query::new(), |query, (column, order)| query.order_by(*column, order.clone()))
    };
    for other in [
        by(&[]),
        by(&[(Name, Order::Asc)]),
        by(&[(Name, Order::Asc), (EmployeeCount, Order::Asc)]),
        by(&[(EmployeeCount, Order::Desc), (Name, Order::Asc)]),
        by(&[(Name, Order::Asc), (EmployeeCount, Order::Desc), (Id, Order::Asc)]),
    ] {
        let refused = accounts.page_after(&other, Some(&cursor), 2).await.unwrap_err();
        assert_eq!(problem(refused), CursorProblem::OtherQuery);
    }
    let of_contacts = Query::new().order_by(contacts::Column::City, Order::Asc);
    let of_locations = Query::new().order_by(locations::Column::City, Order::Asc);
    for city in ["a", "b"] {
        let name = Set(city.to_owned());
        let model = contacts::ActiveModel {
            city: Set(Some(city.to_owned())),
            first_name: name.clone(),
            last_name: name,
            ..Default::default()
        };
        world.one.repository::<contacts::Entity>().create(model).await.unwrap();
    }
    let contacts = world.one.repository::<contacts::Entity>().page_after(&of_contacts, None, 1).await.unwrap();
    let locations = world.one.repository::<locations::Entity>();
    let refused = locations.page_after(&of_locations, contacts.next.as_ref(), 1).await.unwrap_err();
    assert_eq!(problem(refused), CursorProblem::OtherQuery, "an order of the same names, of another entity");

    // Damage: any character changed, left out or added, any beginning of the text, and what never was a cursor.
    let text = cursor.as_str();
    let mut damaged: Vec<String> = (0..text.len()).map(|end| text[..end].to_owned()).collect();
    for at in 0..text.len() {
        let other = if &text[at..=at] == "x" { "y" } else { "x" };
        damaged.push(format!("{}{other}{}", &text[..at], &text[at + 1..]));
        damaged.push(format!("{}{}", &text[..at], &text[at + 1..]));
        damaged.push(format!("{}A{}", &text[..at], &text[at..]));
    }
    damaged.extend([format!("{text}="), format!("{text}A"), format!("{text} "), "ä".to_owned(), "null".to_owned()]);
    for text in damaged.iter().filter(|damaged| *damaged != text) {
        let refused = accounts.page_after(&query, Some(&Cursor::new(text.as_str())), 2).await.unwrap_err();
        let found = problem(refused);
        assert!(matches!(found, CursorProblem::Damaged | CursorProblem::OtherVersion), "{text}: {found:?}");
    }
    assert_eq!(accounts.page_after(&query, Some(&cursor), 2).await.unwrap().items.len(), 2);
}

async fn a_page_that_cannot_be_is_refused(world: World) {
    fill(&world.one, 1).await;
    let accounts = world.one.repository::<accounts::Entity>();
    for limit in [0, MAX_PAGE_LIMIT + 1, u64::MAX] {
        let refused = accounts.page_after(&Query::new(), None, limit).await.unwrap_err();
        assert!(matches!(refused, Error::InvalidLimit { .. }), "{refused}");
    }
    let whole = accounts.page_after(&Query::new(), None, MAX_PAGE_LIMIT).await.unwrap();
    assert_eq!((whole.items.len(), whole.next), (1, None));
    let by_json = Query::new().order_by(accounts::Column::BillingAddress, Order::Asc);
    let refused = accounts.page_after(&by_json, None, 1).await.unwrap_err();
    assert!(matches!(refused, Error::UnpageableOrder { ref column, .. } if column == "billing_address"), "{refused}");
}

/// Catches a condition that makes the server read everything before the page again, which no wrong row would show: with an index
/// for the order a page in the middle, and one among the nulls, reads about as many rows as it has. Row-level security is on.
#[tokio::test(flavor = "multi_thread")]
async fn with_an_index_a_page_reads_little_more_than_itself() {
    use accounts::Column::{CreatedAt, EmployeeCount, Name};
    let world = World::postgres().await;
    let start: DateTime<Utc> = "2024-01-01T00:00:00Z".parse().unwrap();
    let model = |number: i64| accounts::ActiveModel {
        name: Set(format!("{number:06}")),
        employee_count: Set(i32::try_from(number).ok().filter(|number| number % 2 == 0)),
        created_at: Set(Some((start + Duration::seconds(number)).into())),
        ..Default::default()
    };
    world.one.repository::<accounts::Entity>().bulk_create((0..4_000).map(model)).await.unwrap();
    world.two.repository::<accounts::Entity>().bulk_create((0..4_000).map(model)).await.unwrap();
    for columns in [
        "name, id",
        "created_at, id",
        "employee_count DESC NULLS LAST, id DESC NULLS LAST",
        "employee_count DESC NULLS LAST, name, id",
    ] {
        world.sql(&format!("CREATE INDEX ON accounts (tenant_id, {columns})")).await;
    }
    world.sql("ANALYZE accounts").await;
    let by = |columns: &[(accounts::Column, Order)]| {
        columns.iter().fold(Query::new(), |query, (column, order)| query.order_by(*column, order.clone()))
    };
    for order in [
        by(&[(Name, Order::Asc)]),
        by(&[(CreatedAt, Order::Asc)]),
        by(&[(EmployeeCount, Order::Desc)]),
        by(&[(EmployeeCount, Order::Desc), (Name, Order::Asc)]),
    ] {
        // The middle, and behind it, where an order has nulls, those.
        let mut cursor = None;
        for _ in 0..3 {
            let accounts = world.one.repository::<accounts::Entity>();
            cursor = accounts.page_after(&order, cursor.as_ref(), MAX_PAGE_LIMIT).await.unwrap().next;
            let transaction = world.one.begin().await.unwrap();
            let before = rows_read(&transaction).await;
            let page = transaction.repository().page_after(&order, cursor.as_ref(), 10).await.unwrap();
            let read = rows_read(&transaction).await - before;
            assert_eq!(page.items.len(), 10);
            let last = page.items.last().unwrap();
            assert!((10..100).contains(&read), "{read} rows were read for the page that ends with {}", last.name);
            transaction.rollback().await.unwrap();
        }
    }
}

/// What this session has read of the accounts, found or not; it counts on from what was read before on the same connection.
async fn rows_read(transaction: &TenantTransaction) -> i64 {
    let sql = "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS rows \
               FROM pg_stat_xact_user_tables WHERE relname = 'accounts'";
    let rows = transaction.query_raw_sql_outside_the_tenant_guard(sql, []).await.unwrap();
    rows[0].try_get("", "rows").unwrap()
}
