//! JSON conditions, lists and rows, as an API layer uses them: the same meaning on both engines, within one tenant.

mod meaning;

use std::collections::BTreeSet;

use proptest::{strategy::Strategy as _, strategy::ValueTree as _, test_runner::TestRunner};
use sea_orm::ActiveValue::Set;
use serde_json::{Value as Json, json};
use tenantry_data_source::{TenantDb, TenantHandle};
use tenantry_entities::{accounts, opportunities};
use tenantry_repository::{Exposed, FaultCode, Query, RepositoryExt};
use uuid::Uuid;

use super::{on_both_engines, world::World};
use meaning::{AMOUNTS, DATES, INSTANTS, NUMBERS, TEXTS, UUIDS};

on_both_engines!(
    a_filter_finds_what_it_means,
    every_comparison_is_one_that_the_engine_has,
    a_client_pages_through_a_list,
    a_client_writes_what_it_may,
    no_json_leads_out_of_the_tenant,
);

/// Every combination of few values, nulls among them, though not all at once.
async fn fill(db: &TenantDb, rows: usize) {
    fn one<T: Clone>(values: &[T], number: usize) -> Option<T> {
        // Every so often none.
        values.get(number % (values.len() + 1)).cloned()
    }
    let model = |number: usize| opportunities::ActiveModel {
        stage: Set("s".to_owned()),
        name: Set(TEXTS[number % TEXTS.len()].to_owned()),
        description: Set(one(&TEXTS, number / 2).map(str::to_owned)),
        amount: Set(one(&AMOUNTS, number).map(|amount| amount.parse().unwrap())),
        probability: Set(one(&NUMBERS, number / 3)),
        is_converted: Set(one(&[true, false], number)),
        event_date: Set(one(&DATES, number / 2).map(|date| date.parse().unwrap())),
        converted_at: Set(one(&INSTANTS, number / 4).map(|instant| instant.parse().unwrap())),
        owner_id: Set(one(&UUIDS, number / 5).map(Uuid::from_u128)),
        ..Default::default()
    };
    db.repository::<opportunities::Entity>().bulk_create((0..rows).map(model)).await.unwrap();
}

/// Catches a comparison that an engine understands otherwise, a null that slips through a negation, and a value that changes on
/// its way.
async fn a_filter_finds_what_it_means(world: World) {
    fill(&world.one, 60).await;
    fill(&world.two, 7).await;
    let exposed = Exposed::<opportunities::Entity>::new();
    let repository = world.one.repository::<opportunities::Entity>();
    let all = repository.find_many(&Query::new()).await.unwrap();
    let mut runner = TestRunner::default();
    let (mut some, mut none) = (0, 0);
    for _ in 0..250 {
        let condition = meaning::condition().new_tree(&mut runner).unwrap().current();
        let found = |condition: &Json| {
            let filter = exposed.filter(condition).unwrap_or_else(|faults| panic!("{condition}: {faults}"));
            let query = Query::new().matching(filter);
            async move {
                let rows = repository.find_many(&query).await.unwrap();
                rows.into_iter().map(|row| row.id).collect::<BTreeSet<Uuid>>()
            }
        };
        let meant = |holds: bool| {
            let rows = all.iter().filter(|row| meaning::holds(&condition, row) == holds);
            rows.map(|row| row.id).collect::<BTreeSet<Uuid>>()
        };
        assert_eq!(found(&condition).await, meant(true), "{condition}");
        assert_eq!(found(&json!({"not": condition})).await, meant(false), "not {condition}: the other rows");
        if meant(true).is_empty() { none += 1 } else { some += 1 }
    }
    assert!(
        some > 50 && none > 5,
        "{some} conditions had rows and {none} had none: too few of a kind to tell anything"
    );
}

/// What the types of the reference tables have, each operator on each: catches a value that an engine cannot compare.
async fn every_comparison_is_one_that_the_engine_has(world: World) {
    let exposed = Exposed::<accounts::Entity>::new();
    let repository = world.one.repository::<accounts::Entity>();
    let name = |name: &str| accounts::ActiveModel { name: Set(name.to_owned()), ..Default::default() };
    let id = repository.create(name("a")).await.unwrap().id;
    let operands = [
        ("id", json!(id)),
        ("name", json!("a")),
        ("annual_revenue", json!("1.50")),
        ("employee_count", json!(3)),
        ("created_at", json!("2000-01-01T00:00:00Z")),
    ];
    for (column, operand) in operands {
        for operator in ["eq", "ne", "gt", "gte", "lt", "lte", "in", "not_in", "is_null", "contains", "starts_with"] {
            let operand = match operator {
                "in" | "not_in" => json!([operand, null]),
                "is_null" => json!(true),
                _ => operand.clone(),
            };
            let json = json!({column: {operator: operand}});
            match exposed.filter(&json) {
                Ok(filter) => {
                    let query = Query::new().matching(filter);
                    let found = repository.count(&query).await.unwrap_or_else(|error| panic!("{json}: {error}"));
                    assert!(found <= 1);
                    // The filter as a condition, for what takes one.
                    let condition = exposed.filter(&json).unwrap().condition(world.engine).unwrap();
                    let written = repository.bulk_update_where(condition, name("a")).await.unwrap();
                    assert_eq!(written, found, "{json}");
                }
                Err(faults) => {
                    assert!(matches!(operator, "contains" | "starts_with") && column != "name", "{json}: {faults}");
                }
            }
        }
    }
    // As many values as lists may have together, in one statement.
    let wide = Exposed::<accounts::Entity>::new().limits(|limits| {
        limits.list = 10_000;
        limits.conditions = 500;
        limits.searches = 30;
    });
    let ids: Vec<_> = (0..10_000_u128).map(|number| json!(Uuid::from_u128(number))).collect();
    let filter = wide.filter(&json!({"id": {"not_in": ids}})).unwrap();
    assert_eq!(repository.count(&Query::new().matching(filter)).await.unwrap(), 1);
    // Letters that have many forms make the longest patterns.
    for letter in ["k", "ι", "σ", "%", "[", "\\"] {
        let text = letter.repeat(1_000);
        let searches =
            |number: usize| json!({"or": vec![json!({"name": {"contains": text, "starts_with": text}}); number]});
        for (json, found) in [(searches(15), 0), (json!({"not": searches(15)}), 1)] {
            let filter = wide.filter(&json).unwrap();
            assert_eq!(repository.count(&Query::new().matching(filter)).await.unwrap(), found, "{letter}");
        }
    }
    for several in ["and", "or"] {
        let conditions: Vec<_> = (0..500).map(|number| json!({"employee_count": {"ne": number}})).collect();
        let filter = wide.filter(&json!({several: conditions})).unwrap();
        assert_eq!(repository.count(&Query::new().matching(filter)).await.unwrap(), 1, "a null is none of them");
    }
}

async fn a_client_pages_through_a_list(world: World) {
    fill(&world.one, 30).await;
    let exposed = Exposed::<opportunities::Entity>::new()
        .private([opportunities::Column::Description])
        .searchable([opportunities::Column::Name, opportunities::Column::Description]);
    let repository = world.one.repository::<opportunities::Entity>();
    let mut parameters = json!({
        "filter": {"probability": {"is_null": false}}, "search": "A", "order": "-amount,name", "limit": 4
    });
    let whole = exposed.list(&parameters).unwrap();
    let whole = repository.page_after(&whole.query, None, 100).await.unwrap().items;
    assert!(whole.len() > 8 && whole.iter().all(|row| row.name.to_lowercase().contains('a')), "{whole:?}");
    let mut seen: Vec<Json> = Vec::new();
    loop {
        let list = exposed.list(&parameters).unwrap();
        let page = repository.page_after(&list.query, list.after.as_ref(), list.limit).await.unwrap();
        seen.extend(page.items.iter().map(|row| exposed.render(row)));
        let Some(next) = page.next else { break };
        // As a client that follows a link: the cursor stands in a URL as it is.
        let pairs = [("after", next.as_str()), ("limit", "4"), ("order", "-amount,name"), ("search", "A")];
        let filter = parameters["filter"].to_string();
        let linked = exposed.list_of_pairs(pairs.into_iter().chain([("filter", filter.as_str())])).unwrap();
        assert_eq!(linked.after.as_ref(), Some(&next));
        parameters["after"] = json!(next);
        let mut reordered = parameters.clone();
        reordered["order"] = json!("amount,name");
        let faults = exposed.list(&reordered).err().unwrap().faults;
        assert_eq!((&*faults[0].pointer, faults[0].code), ("/after", FaultCode::InvalidCursor));
    }
    let whole: Vec<Json> = whole.iter().map(|row| exposed.render(row)).collect();
    assert_eq!(seen, whole);
    assert!(seen.iter().all(|row| row.get("description").is_none() && row.get("tenant_id").is_none()));
    let second = exposed.list(&json!({"page": 2, "limit": 7, "order": ["id"]})).unwrap();
    let page = repository.paginate(&second.query, second.page.unwrap(), second.limit).await.unwrap();
    assert_eq!((page.items.len(), page.total, page.page), (7, 30, 2));
}

async fn a_client_writes_what_it_may(world: World) {
    use accounts::Column::{AssignedTo, CreatedAt, Id, TaxId, UpdatedAt};
    let exposed = Exposed::<accounts::Entity>::new().private([TaxId, AssignedTo]).read_only([Id, CreatedAt, UpdatedAt]);
    let repository = world.one.repository::<accounts::Entity>();
    let new = json!({
        "name": "Werft", "annual_revenue": "1234567890.10", "billing_address": {"street": "Kai", "no": [1, null]},
        "employee_count": 7, "notes": "n"
    });
    let mut row = exposed.new_row(&new).unwrap();
    row.tax_id = Set(Some("kept".to_owned()));
    let created = repository.create(row).await.unwrap();
    let shown = exposed.render(&created);
    for (name, value) in new.as_object().unwrap() {
        assert_eq!(&shown[name], value, "{name}");
    }
    assert!(shown.get("tax_id").is_none() && shown["created_at"].is_string() && shown["id"] == json!(created.id));
    let changes = exposed.changes(&json!({"notes": null, "annual_revenue": 0.10, "billing_address": null})).unwrap();
    let changed = repository.update(created.id, changes).await.unwrap();
    assert_eq!((changed.notes, changed.billing_address, changed.tax_id.as_deref()), (None, None, Some("kept")));
    assert_eq!((changed.employee_count, changed.annual_revenue.unwrap().to_string()), (Some(7), "0.10".to_owned()));
    // What was shown is accepted again, but for what is read only.
    let mut back = shown.as_object().unwrap().clone();
    back.retain(|name, _| !["id", "created_at", "updated_at"].contains(&name.as_str()));
    let restored = repository.update(created.id, exposed.changes(&Json::Object(back)).unwrap()).await.unwrap();
    assert_eq!(accounts::Model { updated_at: created.updated_at, ..restored }, created);
}

/// The conditions, orders, cursors and rows that a client of one tenant would try on another's.
async fn no_json_leads_out_of_the_tenant(world: World) {
    let exposed = Exposed::<accounts::Entity>::new();
    let name = |name: &str| accounts::ActiveModel { name: Set(name.to_owned()), ..Default::default() };
    let [one, two] = [&world.one, &world.two].map(|db| db.repository::<accounts::Entity>());
    let own = one.create(name("own")).await.unwrap();
    let theirs = two.create(name("theirs")).await.unwrap();
    for json in [
        json!({}),
        json!({"or": [{"id": {"is_null": false}}, {"name": {"contains": ""}}, {"id": theirs.id}]}),
        json!({"not": {"id": {"in": []}}}),
        json!({"name": {"ne": "'; DELETE FROM accounts; --"}}),
        json!({"or": [{"name": "1=1) OR (1=1"}, {"not": {"name": "\") OR 1=1 --"}}]}),
    ] {
        let rows = one.find_many(&Query::new().matching(exposed.filter(&json).unwrap())).await.unwrap();
        assert_eq!(rows, std::slice::from_ref(&own), "{json}");
    }
    let of_theirs = exposed.filter(&json!({"id": theirs.id})).unwrap();
    assert!(!one.exists_where(&Query::new().matching(of_theirs)).await.unwrap());
    for json in [
        json!({"tenant_id": world.two.tenant()}),
        json!({"tenant_id": {"ne": world.one.tenant()}}),
        json!({"accounts.tenant_id": 1}),
        json!({"name\" = 'x' OR \"name": 1}),
    ] {
        let faults = exposed.filter(&json).err().unwrap().faults;
        assert_eq!(faults[0].code, FaultCode::UnknownColumn, "{json}");
        for answer in [exposed.changes(&json).err(), exposed.new_row(&json).err()] {
            assert_eq!(answer.unwrap().faults[0].code, FaultCode::UnknownColumn, "{json}");
        }
    }
    for order in ["tenant_id", "-tenant_id", "name;", "name DESC", "1", "(SELECT 1)"] {
        let faults = exposed.list(&json!({"order": order})).err().unwrap().faults;
        assert_eq!(faults[0].code, FaultCode::UnknownColumn, "{order}");
    }
    two.create(name("z")).await.unwrap();
    let list = exposed.list(&json!({"order": "name", "limit": 1})).unwrap();
    let next = two.page_after(&list.query, None, 1).await.unwrap().next.unwrap();
    let list = exposed.list(&json!({"order": "name", "after": next})).unwrap();
    assert!(one.page_after(&list.query, list.after.as_ref(), 10).await.unwrap().items.is_empty(), "own < theirs");
    assert_eq!(two.count(&Query::new()).await.unwrap(), 2);
}
