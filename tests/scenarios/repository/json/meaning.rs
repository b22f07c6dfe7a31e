//! What a JSON condition means, said once more and without SQL: the rows of a table in memory, one look at each. Shares nothing
//! with the implementation but the language.

use chrono::{DateTime, NaiveDate, Utc};
use proptest::{prelude::*, sample::select};
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};
use tenantry_entities::opportunities::Model;
use uuid::Uuid;

/// A value of a row.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Cell {
    Null,
    Text(String),
    Number(Decimal),
    Bool(bool),
    Date(NaiveDate),
    Instant(DateTime<Utc>),
    Uuid(Uuid),
}

pub(super) const TEXTS: [&str; 12] =
    ["", "a", "Ab", "AB", "%_", "Ärger", "ärgerlich", "a*b?[c]", "\\", "it's \"so\"", "zz\nz", "(?i)a"];
const NEEDLES: [&str; 11] = ["", "A", "%", "_", "ÄR", "*", "[", "\\", "'", "z\nZ", "(?i)"];
pub(super) const AMOUNTS: [&str; 6] = ["-0.01", "0.00", "0.10", "100.00", "1234567890123.45", "9999999999999.99"];
pub(super) const NUMBERS: [i32; 4] = [0, 7, 50, 100];
pub(super) const DATES: [&str; 4] = ["0001-01-01", "1969-12-31", "2024-02-29", "9999-12-31"];
pub(super) const INSTANTS: [&str; 4] =
    ["1999-12-31T23:59:59.999999Z", "2000-01-01T00:00:00Z", "2000-01-01T00:00:00.000001Z", "2024-02-29T12:00:00Z"];
pub(super) const UUIDS: [u128; 3] = [0, 0x1234_5678_9abc_def0_1234_5678_9abc_def0, u128::MAX];

/// Whether the condition is true of the row.
pub(super) fn holds(condition: &Json, row: &Model) -> bool {
    condition.as_object().unwrap().iter().all(|(name, json)| match name.as_str() {
        "and" => json.as_array().unwrap().iter().all(|condition| holds(condition, row)),
        "or" => json.as_array().unwrap().iter().any(|condition| holds(condition, row)),
        "not" => !holds(json, row),
        column => match json {
            Json::Object(operators) => {
                operators.iter().all(|(operator, operand)| compare(row, column, operator, operand))
            }
            value => compare(row, column, "eq", value),
        },
    })
}

fn compare(row: &Model, column: &str, operator: &str, operand: &Json) -> bool {
    let cell = cell(row, column);
    let value = |json: &Json| read(column, json);
    let ordered = |holds: fn(&Cell, &Cell) -> bool| cell != Cell::Null && holds(&cell, &value(operand));
    match operator {
        "eq" => cell == value(operand),
        "ne" => cell != value(operand),
        "gt" => ordered(|a, b| a > b),
        "gte" => ordered(|a, b| a >= b),
        "lt" => ordered(|a, b| a < b),
        "lte" => ordered(|a, b| a <= b),
        "in" => operand.as_array().unwrap().iter().any(|item| cell == value(item)),
        "not_in" => operand.as_array().unwrap().iter().all(|item| cell != value(item)),
        "is_null" => (cell == Cell::Null) == operand.as_bool().unwrap(),
        "contains" => text(&cell).is_some_and(|text| text.contains(&folded(operand))),
        "starts_with" => text(&cell).is_some_and(|text| text.starts_with(&folded(operand))),
        other => panic!("{other}"),
    }
}

fn folded(operand: &Json) -> String {
    operand.as_str().unwrap().to_lowercase()
}

fn text(cell: &Cell) -> Option<String> {
    if let Cell::Text(text) = cell { Some(text.to_lowercase()) } else { None }
}

fn cell(row: &Model, column: &str) -> Cell {
    let text = |text: &Option<String>| text.clone().map(Cell::Text);
    let cell = match column {
        "name" => Some(Cell::Text(row.name.clone())),
        "description" => text(&row.description),
        "amount" => row.amount.map(Cell::Number),
        "probability" => row.probability.map(|number| Cell::Number(number.into())),
        "is_converted" => row.is_converted.map(Cell::Bool),
        "event_date" => row.event_date.map(Cell::Date),
        "converted_at" => row.converted_at.map(|instant| Cell::Instant(instant.to_utc())),
        "owner_id" => row.owner_id.map(Cell::Uuid),
        other => panic!("{other}"),
    };
    cell.unwrap_or(Cell::Null)
}

fn read(column: &str, json: &Json) -> Cell {
    let text = || json.as_str().unwrap();
    match (column, json) {
        (_, Json::Null) => Cell::Null,
        ("name" | "description", _) => Cell::Text(text().to_owned()),
        ("amount" | "probability", Json::Number(number)) => Cell::Number(number.to_string().parse().unwrap()),
        ("amount", _) => Cell::Number(text().parse().unwrap()),
        ("is_converted", _) => Cell::Bool(json.as_bool().unwrap()),
        ("event_date", _) => Cell::Date(text().parse().unwrap()),
        ("converted_at", _) => Cell::Instant(text().parse().unwrap()),
        _ => Cell::Uuid(text().parse().unwrap()),
    }
}

/// A condition that is valid, on values that rows have and values near them.
pub(super) fn condition() -> impl Strategy<Value = Json> {
    let comparison = column().prop_flat_map(|(name, values)| {
        let value = || values.clone();
        let items = proptest::collection::vec(prop_oneof![5 => value(), 1 => Just(Json::Null)], 0..4);
        let or_null = || prop_oneof![4 => value(), 1 => Just(Json::Null)];
        let ordering = if name == "is_converted" { vec!["eq", "ne"] } else { vec!["gt", "gte", "lt", "lte"] };
        let equal = (select(vec!["eq", "ne"]), or_null()).prop_map(|(operator, value)| json!({operator: value}));
        let one = (select(ordering), value()).prop_map(|(operator, value)| json!({operator: value}));
        let list = (select(vec!["in", "not_in"]), items).prop_map(|(operator, items)| json!({operator: items}));
        let null = any::<bool>().prop_map(|is| json!({"is_null": is}));
        let range = match name {
            "is_converted" => value().boxed(),
            _ => (value(), value()).prop_map(|(from, to)| json!({"gte": from, "lt": to})).boxed(),
        };
        let search = (select(vec!["contains", "starts_with"]), select(NEEDLES.to_vec()))
            .prop_map(|(operator, needle)| json!({operator: needle}));
        let search = if name == "name" || name == "description" { search.boxed() } else { list.clone().boxed() };
        prop_oneof![equal, one, list, null, range, search, or_null()].prop_map(move |said| json!({name: said}))
    });
    comparison.prop_recursive(3, 8, 3, |inner| {
        let several = proptest::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            several.clone().prop_map(|all| json!({"and": all})),
            several.prop_map(|any| json!({"or": any})),
            inner.clone().prop_map(|not| json!({"not": not})),
            (inner.clone(), inner).prop_map(|(one, other)| json!({"not": one, "or": [other]})),
        ]
    })
}

/// A column's name and its values in JSON.
fn column() -> impl Strategy<Value = (&'static str, BoxedStrategy<Json>)> {
    fn of<T: Into<Json> + Clone + std::fmt::Debug + 'static>(
        values: impl IntoIterator<Item = T>,
    ) -> BoxedStrategy<Json> {
        select(values.into_iter().map(Into::into).collect::<Vec<Json>>()).boxed()
    }
    let amounts = prop_oneof![
        of(AMOUNTS),
        of([0.1, 100.0, -0.01, 0.11]),
        of([0, 100]),
        of(["0.1", "0.100001", "123456789012345"])
    ];
    let instants = prop_oneof![of(INSTANTS), of(["2000-01-01T01:00:00+01:00", "2024-02-29T11:59:59.9-00:30"])];
    select(vec![
        ("name", of(TEXTS)),
        ("description", of(TEXTS)),
        ("amount", amounts.boxed()),
        ("probability", prop_oneof![of(NUMBERS), of([i32::MIN, -1, 8, i32::MAX])].boxed()),
        ("is_converted", of([true, false])),
        ("event_date", of(DATES)),
        ("converted_at", instants.boxed()),
        ("owner_id", of(UUIDS.map(|id| Uuid::from_u128(id).to_string()))),
    ])
}
