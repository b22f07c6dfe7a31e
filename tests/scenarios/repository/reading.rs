//! Order, conditions, relations and pages.

use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, Condition, Order};
use tenantry_data_source::TenantDb;
use tenantry_entities::{accounts, contacts};
use tenantry_repository::{Error, MAX_PAGE_LIMIT, Query, RepositoryExt};

use super::{on_both_engines, world::World};

on_both_engines!(
    nulls_come_last_in_either_direction,
    limits_and_offsets_cut_where_they_say,
    pages_neither_repeat_nor_skip_a_row,
    a_page_and_its_count_come_from_one_snapshot,
    related_rows_narrow_within_the_tenant,
    one_query_serves_every_tenant,
);

async fn create(db: &TenantDb, name: &str, employees: Option<i32>, city: Option<&str>) -> accounts::Model {
    let model = accounts::ActiveModel {
        name: Set(name.to_owned()),
        employee_count: Set(employees),
        billing_city: Set(city.map(str::to_owned)),
        ..Default::default()
    };
    db.repository::<accounts::Entity>().create(model).await.unwrap()
}

async fn names(db: &TenantDb, query: &Query<accounts::Entity>) -> Vec<String> {
    let rows = db.repository::<accounts::Entity>().find_many(query).await.unwrap();
    rows.into_iter().map(|row| row.name).collect()
}

/// PostgreSQL puts nulls first in a descending order, SQLite in an ascending one.
async fn nulls_come_last_in_either_direction(world: World) {
    for (name, employees, city) in
        [("a", Some(2), Some("Zürich")), ("b", None, Some("Aachen")), ("c", Some(1), None), ("d", Some(2), Some("Ulm"))]
    {
        create(&world.one, name, employees, city).await;
    }
    let by = |order| {
        Query::new()
            .order_by(accounts::Column::EmployeeCount, order)
            .order_by(accounts::Column::BillingCity, Order::Asc)
    };
    assert_eq!(names(&world.one, &by(Order::Asc)).await, ["c", "d", "a", "b"]);
    assert_eq!(names(&world.one, &by(Order::Desc)).await, ["d", "a", "c", "b"]);
    let by_city = Query::new().order_by(accounts::Column::BillingCity, Order::Desc);
    assert_eq!(names(&world.one, &by_city).await, ["a", "d", "b", "c"]);
    let some = Query::new()
        .filter(
            Condition::any()
                .add(accounts::Column::EmployeeCount.is_null())
                .add(accounts::Column::BillingCity.eq("Ulm")),
        )
        .order_by(accounts::Column::Name, Order::Asc);
    assert_eq!(names(&world.one, &some).await, ["b", "d"]);
    assert_eq!(world.one.repository::<accounts::Entity>().count(&some).await.unwrap(), 2);
    assert!(world.one.repository::<accounts::Entity>().exists_where(&some).await.unwrap());
}

async fn limits_and_offsets_cut_where_they_say(world: World) {
    for name in ["a", "b", "c", "d"] {
        create(&world.one, name, None, None).await;
    }
    let by_name = || Query::new().order_by(accounts::Column::Name, Order::Asc);
    assert_eq!(names(&world.one, &by_name().limit(2)).await, ["a", "b"]);
    assert_eq!(names(&world.one, &by_name().offset(3)).await, ["d"]);
    assert_eq!(names(&world.one, &by_name().limit(2).offset(1)).await, ["b", "c"]);
    assert!(names(&world.one, &by_name().limit(0)).await.is_empty());
    assert!(names(&world.one, &by_name().offset(u64::MAX)).await.is_empty(), "more than a database can count to");
    let accounts = world.one.repository::<accounts::Entity>();
    assert_eq!(accounts.find_one(&by_name().offset(2)).await.unwrap().unwrap().name, "c");
    assert_eq!(accounts.find_one(&by_name().offset(4)).await.unwrap(), None);
    assert_eq!(accounts.count(&by_name().limit(1)).await.unwrap(), 4, "a count has no limit");
}

/// Rows that are equal in what was asked to be ordered by come in the order of their ids.
async fn pages_neither_repeat_nor_skip_a_row(world: World) {
    for index in 0..23 {
        create(&world.one, &format!("n{index}"), Some(index % 2), None).await;
        create(&world.two, "theirs", Some(0), None).await;
    }
    let accounts = world.one.repository::<accounts::Entity>();
    // Its own limit and offset are disregarded.
    let query = Query::new().order_by(accounts::Column::EmployeeCount, Order::Desc).limit(1).offset(5);
    let mut seen = Vec::new();
    for page in 1..=5 {
        let result = accounts.paginate(&query, page, 5).await.unwrap();
        assert_eq!((result.total, result.total_pages, result.page, result.limit), (23, 5, page, 5));
        assert_eq!((result.has_previous, result.has_next), (page > 1, page < 5));
        assert_eq!(result.items.len(), if page < 5 { 5 } else { 3 });
        seen.extend(result.items);
    }
    assert!(seen.windows(2).all(|pair| (pair[1].employee_count, pair[0].id) < (pair[0].employee_count, pair[1].id)));
    assert_eq!(seen.len(), 23);
    let behind = accounts.paginate(&query, 6, 5).await.unwrap();
    assert_eq!((behind.items.len(), behind.total, behind.has_previous, behind.has_next), (0, 23, true, false));
    for (page, limit) in [(0, 5), (1, 0), (1, MAX_PAGE_LIMIT + 1), (u64::MAX, MAX_PAGE_LIMIT)] {
        assert!(matches!(accounts.paginate(&query, page, limit).await, Err(Error::InvalidPage { .. })));
    }
    let none = accounts.paginate(&Query::new().filter(accounts::Column::Name.eq("theirs")), 1, 5).await.unwrap();
    assert_eq!((none.items.len(), none.total, none.total_pages, none.has_next), (0, 0, 0, false));
}

/// While rows come and go in pairs, the count of a page that holds everything is the number of its items.
async fn a_page_and_its_count_come_from_one_snapshot(world: World) {
    let writer = {
        let db = world.one.clone();
        tokio::spawn(async move {
            for round in 0..40 {
                let model = |n| accounts::ActiveModel { name: Set(format!("{round}-{n}")), ..Default::default() };
                db.repository::<accounts::Entity>().bulk_create([model(0), model(1)]).await.unwrap();
            }
        })
    };
    let accounts = world.one.repository::<accounts::Entity>();
    while !writer.is_finished() {
        let page = accounts.paginate(&Query::new(), 1, MAX_PAGE_LIMIT).await.unwrap();
        assert_eq!(page.total, page.items.len() as u64);
        assert_eq!(page.total % 2, 0, "a bulk write is seen whole or not at all");
    }
    writer.await.unwrap();
}

async fn related_rows_narrow_within_the_tenant(world: World) {
    let with = create(&world.one, "with", None, None).await;
    create(&world.one, "without", None, None).await;
    // The other tenant's contact belongs to an account with the same id.
    let theirs = accounts::ActiveModel { id: Set(with.id), name: Set("theirs".to_owned()), ..Default::default() };
    world.two.repository::<accounts::Entity>().create(theirs).await.unwrap();
    for (db, last_name) in [(&world.one, "Own"), (&world.two, "Theirs")] {
        let model = contacts::ActiveModel {
            account_id: Set(Some(with.id)),
            first_name: Set("A".to_owned()),
            last_name: Set(last_name.to_owned()),
            ..Default::default()
        };
        db.repository::<contacts::Entity>().create(model).await.unwrap();
    }
    let having = |last_name| Query::new().where_exists::<contacts::Entity>(contacts::Column::LastName.eq(last_name));
    assert_eq!(names(&world.one, &having("Own")).await, ["with"]);
    assert!(names(&world.one, &having("Theirs")).await.is_empty());
    let lacking = Query::new().where_not_exists::<contacts::Entity>(contacts::Column::LastName.eq("Own"));
    assert_eq!(names(&world.one, &lacking).await, ["without"]);
    assert_eq!(names(&world.two, &lacking).await, ["theirs"]);
}

/// A query is kept and used by many requests; it must not remember whose it was first (trap 25).
async fn one_query_serves_every_tenant(world: World) {
    create(&world.one, "same", Some(1), None).await;
    create(&world.two, "same", Some(2), None).await;
    let query = Query::new().filter(accounts::Column::Name.eq("same"));
    for _ in 0..3 {
        for (db, employees) in [(&world.one, 1), (&world.two, 2)] {
            let rows = db.repository::<accounts::Entity>().find_many(&query).await.unwrap();
            assert_eq!(rows.iter().map(|row| row.employee_count).collect::<Vec<_>>(), [Some(employees)]);
        }
    }
}
