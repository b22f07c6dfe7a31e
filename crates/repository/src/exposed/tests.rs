//! What is refused and how it is said, without a database; what filters find is in the scenarios.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use proptest::prelude::*;
use sea_orm::{ActiveValue, Value};
use serde_json::{Value as Json, json};
use tenantry_data_source::Engine;

use super::{Exposed, FaultCode, JsonFaults, value::ColumnKind};

mod goods {
    #![expect(unreachable_pub, reason = "the derives make items that have to be as public as the model")]
    use sea_orm::entity::prelude::*;
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, Serialize, Deserialize)]
    #[sea_orm(table_name = "goods")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub org_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        #[sea_orm(column_type = "String(StringLen::N(5))")]
        pub name: String,
        pub secret: Option<String>,
        pub secret_key: String,
        #[sea_orm(column_type = "Decimal(Some((10, 2)))")]
        pub amount: Decimal,
        #[sea_orm(column_type = "Decimal(None)", nullable)]
        pub wide: Option<Decimal>,
        pub small: Option<i16>,
        pub flag: Option<bool>,
        #[sea_orm(column_type = "Double", nullable)]
        pub ratio: Option<f64>,
        #[sea_orm(default_value = "new")]
        pub state: State,
        pub level: Option<Level>,
        #[serde(rename = "madeOn")]
        pub made_on: Option<Date>,
        pub at: Option<DateTimeWithTimeZone>,
        pub starts: Option<Time>,
        pub mark: Option<Uuid>,
        pub doc: Option<Json>,
        #[sea_orm(column_type = "Blob", nullable)]
        pub raw: Option<Vec<u8>>,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
    #[sea_orm(rs_type = "Enum", db_type = "Enum", enum_name = "state")]
    pub enum State {
        #[sea_orm(string_value = "new")]
        New,
        #[sea_orm(string_value = "sold out")]
        SoldOut,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
    #[sea_orm(rs_type = "String", db_type = "Text")]
    pub enum Level {
        #[sea_orm(string_value = "low")]
        Low,
        #[sea_orm(string_value = "high")]
        High,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
tenantry_realm::tenant_entity!(goods => OrgId);

use goods::Column;

fn exposed() -> Exposed<goods::Entity> {
    Exposed::new().private([Column::Secret, Column::SecretKey]).read_only([Column::At]).searchable([
        Column::Name,
        Column::Secret,
        Column::Small,
    ])
}

fn codes<T>(result: Result<T, JsonFaults>) -> Vec<(String, FaultCode)> {
    let faults = result.err().map(|faults| faults.faults).unwrap_or_default();
    faults.into_iter().map(|fault| (fault.pointer, fault.code)).collect()
}

fn assert_fault<T>(result: Result<T, JsonFaults>, pointer: &str, code: FaultCode, of: &Json) {
    assert_eq!(codes(result), [(pointer.to_owned(), code)], "{of}");
}

#[test]
fn every_fault_of_a_filter_is_named_by_its_place() {
    use FaultCode::{
        Empty, InvalidValue, NullNotAllowed, OperatorNotAllowed, TooLong, UnknownColumn, UnknownOperator, WrongType,
    };
    let exposed = exposed();
    for (json, pointer, code) in [
        (json!([]), "", WrongType),
        (json!("name"), "", WrongType),
        (json!({"nmae": 1}), "/nmae", UnknownColumn),
        (json!({"secret": "x"}), "/secret", UnknownColumn),
        (json!({"org_id": 1}), "/org_id", UnknownColumn),
        (json!({"made_on": "2024-01-01"}), "/made_on", UnknownColumn),
        (json!({"a/b~c": 1}), "/a~1b~0c", UnknownColumn),
        (json!({"name": {"like": "x"}}), "/name/like", UnknownOperator),
        (json!({"name": {}}), "/name", Empty),
        (json!({"name": ["a"]}), "/name", WrongType),
        (json!({"name": 1}), "/name", WrongType),
        (json!({"name": {"gt": null}}), "/name/gt", NullNotAllowed),
        (json!({"name": {"contains": null}}), "/name/contains", WrongType),
        (json!({"name": {"contains": "a\0"}}), "/name/contains", InvalidValue),
        (json!({"name": "a\0"}), "/name", InvalidValue),
        (json!({"name": {"eq": "x".repeat(1_001)}}), "/name/eq", TooLong),
        (json!({"name": {"starts_with": "x".repeat(1_001)}}), "/name/starts_with", TooLong),
        (json!({"small": {"contains": "1"}}), "/small/contains", OperatorNotAllowed),
        (json!({"small": 40_000}), "/small", InvalidValue),
        (json!({"small": 1.5}), "/small", InvalidValue),
        (json!({"small": "1"}), "/small", WrongType),
        (json!({"id": u64::MAX}), "/id", InvalidValue),
        (json!({"id": {"in": [1, "2", 3]}}), "/id/in/1", WrongType),
        (json!({"id": {"in": 1}}), "/id/in", WrongType),
        (json!({"id": {"in": vec![1; 201]}}), "/id/in", TooLong),
        (json!({"flag": {"gt": true}}), "/flag/gt", OperatorNotAllowed),
        (json!({"flag": {"is_null": 1}}), "/flag/is_null", WrongType),
        (json!({"amount": "1e3"}), "/amount", InvalidValue),
        (json!({"amount": "1234567890123456"}), "/amount", InvalidValue),
        (json!({"amount": 0.1 + 0.2}), "/amount", InvalidValue),
        (json!({"state": "old"}), "/state", InvalidValue),
        (json!({"state": {"in": ["new", "old"]}}), "/state/in/1", InvalidValue),
        (json!({"state": {"lt": "new"}}), "/state/lt", OperatorNotAllowed),
        (json!({"level": "middle"}), "/level", InvalidValue),
        (json!({"madeOn": "2023-02-29"}), "/madeOn", InvalidValue),
        (json!({"at": "2024-01-01T00:00:00"}), "/at", InvalidValue),
        (json!({"starts": "24:00:00"}), "/starts", InvalidValue),
        (json!({"mark": "no"}), "/mark", InvalidValue),
        (json!({"doc": {"eq": {}}}), "/doc/eq", OperatorNotAllowed),
        (json!({"doc": {"in": [null]}}), "/doc/in", OperatorNotAllowed),
        (json!({"raw": "AAAA"}), "/raw", OperatorNotAllowed),
        (json!({"or": {}}), "/or", WrongType),
        (json!({"or": []}), "/or", Empty),
        (json!({"and": [{}]}), "/and/0", Empty),
        (json!({"not": {}}), "/not", Empty),
        (json!({"not": []}), "/not", WrongType),
        (
            json!({"or": [{"name": "a"}, {"not": {"and": [{"id": null}, {"nope": 1}]}}]}),
            "/or/1/not/and/1/nope",
            UnknownColumn,
        ),
    ] {
        assert_fault(exposed.filter(&json), pointer, code, &json);
    }
}

#[test]
fn what_costs_too_much_is_refused_with_the_limit() {
    let nested = |depth| (0..depth).fold(json!({"id": 1}), |inner, _| json!({"not": inner}));
    assert!(exposed().filter(&nested(5)).is_ok());
    let deep = exposed().filter(&nested(6)).err().unwrap();
    assert_eq!(deep.faults[0].code, FaultCode::TooDeep);
    assert!(deep.faults[0].message.contains("at most 5"), "{deep}");

    let searches = |number: usize| json!({"or": vec![json!({"name": {"contains": "a"}}); number]});
    assert!(exposed().filter(&searches(10)).is_ok());
    assert_eq!(codes(exposed().filter(&searches(11))), [("/or/10/name/contains".to_owned(), FaultCode::TooMany)]);
    let conditions = |number: usize| json!({"and": vec![json!({"id": 1}); number]});
    assert!(exposed().filter(&conditions(50)).is_ok());
    assert_eq!(codes(exposed().filter(&conditions(51))), [("/and".to_owned(), FaultCode::TooMany)]);
    let operators = json!({"or": vec![json!({"id": {"gte": 1, "lte": 9, "ne": 5}, "small": 1}); 13]});
    let faults = exposed().filter(&operators).err().unwrap();
    assert_eq!((faults.faults.len(), faults.faults[0].code), (1, FaultCode::TooMany));

    let few = exposed().limits(|limits| {
        limits.conditions = 1_000_000;
        limits.depth = 1_000_000;
        limits.list = 1_000_000;
        limits.searches = 1_000_000;
        limits.faults = 3;
    });
    assert!(few.filter(&conditions(500)).is_ok());
    assert_eq!(codes(few.filter(&conditions(501)))[0].1, FaultCode::TooMany, "an engine has its own limits");
    assert_eq!(codes(few.filter(&nested(51)))[0].1, FaultCode::TooDeep);
    assert!(few.filter(&searches(30)).is_ok());
    assert_eq!(codes(few.filter(&searches(31)))[0].1, FaultCode::TooMany);
    assert_eq!(codes(few.filter(&json!({"id": {"in": vec![1; 10_001]}})))[0].1, FaultCode::TooMany);
    let all_wrong: serde_json::Map<_, _> = (0..9).map(|number| (format!("c{number}"), json!(1))).collect();
    let faults = few.filter(&Json::Object(all_wrong)).err().unwrap();
    assert_eq!((faults.faults.len(), faults.more), (3, true));
}

/// A client learns nothing from the answer about columns that are none of its business.
#[test]
fn a_private_column_is_answered_as_one_that_does_not_exist() {
    let exposed = exposed();
    // As long as each other, so that the answers are the same text.
    let same = |hidden: &str, missing: &str, ask: &dyn Fn(&str) -> JsonFaults| {
        let [hidden_answer, missing_answer] = [hidden, missing].map(|name| serde_json::to_string(&ask(name)).unwrap());
        assert_eq!(hidden_answer.replace(hidden, "?"), missing_answer.replace(missing, "?"));
        assert!(hidden_answer.contains(r#""code":"unknown_column""#), "{hidden_answer}");
    };
    for (hidden, missing) in [("secret", "absent"), ("secret_key", "absent_key"), ("org_id", "or_gid")] {
        for value in [json!(null), json!("x"), json!({"contains": "x"}), json!({"nope": 1}), json!([])] {
            same(hidden, missing, &|name| exposed.filter(&json!({name: value})).err().unwrap());
            same(hidden, missing, &|name| exposed.changes(&json!({name: value, "small": 1})).err().unwrap());
        }
        same(hidden, missing, &|name| exposed.list(&json!({"order": format!("-{name}")})).err().unwrap());
    }
    let row = exposed.new_row(&json!({})).err().unwrap();
    assert!(!serde_json::to_string(&row).unwrap().contains("secret"), "a private column is not asked for: {row}");
    assert!(exposed.columns().all(|column| !column.name.contains("secret") && column.name != "org_id"));
    let hidden = Exposed::<goods::Entity>::new().searchable([Column::Secret]).private([Column::Secret]);
    assert_eq!(codes(hidden.list(&json!({"search": "x"}))), [("/search".to_owned(), FaultCode::UnknownParameter)]);
}

#[test]
fn every_fault_of_a_list_is_named_by_its_place() {
    use FaultCode::{
        Conflict, Duplicate, Empty, InvalidCursor, InvalidJson, OperatorNotAllowed, OutOfRange, TooMany, UnknownColumn,
        UnknownParameter, WrongType,
    };
    let exposed = exposed();
    for (json, pointer, code) in [
        (json!([]), "", WrongType),
        (json!({"sort": "name"}), "/sort", UnknownParameter),
        (json!({"limit": 0}), "/limit", OutOfRange),
        (json!({"limit": 101}), "/limit", OutOfRange),
        (json!({"limit": -1}), "/limit", OutOfRange),
        (json!({"limit": "10"}), "/limit", WrongType),
        (json!({"page": 0}), "/page", OutOfRange),
        (json!({"page": u64::MAX}), "/page", OutOfRange),
        (json!({"page": 502}), "/page", OutOfRange),
        (json!({"after": 1}), "/after", WrongType),
        (json!({"after": "x"}), "/after", InvalidCursor),
        (json!({"search": 1}), "/search", WrongType),
        (json!({"search": ""}), "/search", Empty),
        (json!({"order": 1}), "/order", WrongType),
        (json!({"order": ""}), "/order", Empty),
        (json!({"order": []}), "/order", Empty),
        (json!({"order": "name,"}), "/order", Empty),
        (json!({"order": "name,-name"}), "/order", Duplicate),
        (json!({"order": ["name", "nope"]}), "/order/1", UnknownColumn),
        (json!({"order": ["name", 1]}), "/order/1", WrongType),
        (json!({"order": "--name"}), "/order", UnknownColumn),
        (json!({"order": "doc"}), "/order", OperatorNotAllowed),
        (json!({"order": "raw"}), "/order", OperatorNotAllowed),
        (json!({"order": "a,b,c,d,e"}), "/order", TooMany),
        (json!({"filter": {"name": {"nope": 1}}}), "/filter/name/nope", FaultCode::UnknownOperator),
    ] {
        assert_fault(exposed.list(&json), pointer, code, &json);
    }
    let both = codes(exposed.list(&json!({"after": "x", "page": 1})));
    assert!(both.contains(&("/page".to_owned(), Conflict)), "{both:?}");

    let list = exposed.list(&json!({"filter": {}, "order": "-name,madeOn", "limit": 100, "page": 101, "search": "x"}));
    let list = list.unwrap();
    assert_eq!((list.limit, list.page, list.after), (100, Some(101), None));
    assert_eq!(exposed.list(&json!({})).unwrap().limit, 20);

    let pairs = |pairs: &[(&str, &str)]| exposed.list_of_pairs(pairs.iter().copied());
    let list = pairs(&[("filter", r#"{"id":{"in":[1,2]}}"#), ("limit", "7"), ("page", "2"), ("order", "id")]).unwrap();
    assert_eq!((list.limit, list.page), (7, Some(2)));
    assert!(pairs(&[]).is_ok());
    for (given, pointer, code) in [
        (&[("filter", "{")][..], "/filter", InvalidJson),
        (&[("limit", "+7")], "/limit", WrongType),
        (&[("limit", "")], "/limit", WrongType),
        (&[("limit", "99999999999999999999")], "/limit", WrongType),
        (&[("limit", "1"), ("limit", "2")], "/limit", Duplicate),
        (&[("status", "x")], "/status", UnknownParameter),
    ] {
        assert_eq!(codes(pairs(given)), [(pointer.to_owned(), code)], "{given:?}");
    }
}

#[test]
fn a_change_sets_what_it_names_and_nothing_else() {
    let exposed = exposed();
    let json = json!({
        "name": "Äöüßé", "amount": "12345678.90", "wide": 0.1, "small": null, "state": "sold out", "level": "high",
        "madeOn": "2024-02-29", "starts": "23:59:59.5", "mark": "1b4e28ba-2fa1-41d2-883f-0016d3cca427",
        "doc": {"a": [null]}, "raw": "AAE=", "ratio": 0.5,
    });
    let row = exposed.changes(&json).unwrap();
    assert_eq!(row.name, ActiveValue::Set("Äöüßé".to_owned()));
    assert_eq!(row.amount, ActiveValue::Set("12345678.9".parse().unwrap()));
    assert_eq!(row.small, ActiveValue::Set(None));
    assert_eq!(row.state, ActiveValue::Set(goods::State::SoldOut));
    assert_eq!(row.level, ActiveValue::Set(Some(goods::Level::High)));
    assert_eq!(row.raw, ActiveValue::Set(Some(vec![0, 1])));
    assert_eq!(row.doc, ActiveValue::Set(Some(json!({"a": [null]}))));
    for (column, is_set) in [(row.id.is_set(), false), (row.secret_key.is_set(), false), (row.org_id.is_set(), false)] {
        assert_eq!(column, is_set);
    }
    let nulls = json!({"doc": null, "raw": null, "madeOn": null, "level": null, "ratio": null, "mark": null});
    let row = exposed.changes(&nulls).unwrap();
    assert_eq!((row.doc, row.raw, row.level), (ActiveValue::Set(None), ActiveValue::Set(None), ActiveValue::Set(None)));
}

#[test]
fn every_fault_of_a_row_is_named_by_its_place() {
    use FaultCode::{
        InvalidValue, NothingToSet, NullNotAllowed, ReadOnly, Required, TooLong, UnknownColumn, WrongType,
    };
    let exposed = exposed();
    for (json, pointer, code) in [
        (json!(null), "", WrongType),
        (json!({}), "", NothingToSet),
        (json!({"nope": 1}), "/nope", UnknownColumn),
        (json!({"secret": "x"}), "/secret", UnknownColumn),
        (json!({"org_id": 1}), "/org_id", UnknownColumn),
        (json!({"id": 1}), "/id", ReadOnly),
        (json!({"at": "2024-01-01T00:00:00Z"}), "/at", ReadOnly),
        (json!({"name": null}), "/name", NullNotAllowed),
        (json!({"name": 1}), "/name", WrongType),
        (json!({"name": "123456"}), "/name", TooLong),
        (json!({"amount": "1.005"}), "/amount", InvalidValue),
        (json!({"amount": "123456789"}), "/amount", InvalidValue),
        (json!({"amount": true}), "/amount", WrongType),
        (json!({"state": "old"}), "/state", InvalidValue),
        (json!({"level": "middle"}), "/level", InvalidValue),
        (json!({"raw": "%"}), "/raw", InvalidValue),
        (json!({"doc": {"a": ["\0"]}}), "/doc", InvalidValue),
        (json!({"doc": {"\0": 1}}), "/doc", InvalidValue),
        (json!({"doc": (0..200).fold(json!(1), |inner, _| json!([inner]))}), "/doc", InvalidValue),
    ] {
        assert_fault(exposed.changes(&json), pointer, code, &json);
    }
    let missing = |of: &[&str]| of.iter().map(|name| (format!("/{name}"), Required)).collect::<Vec<_>>();
    assert_eq!(codes(exposed.new_row(&json!({}))), missing(&["id", "name", "amount"]), "state has a default");
    let filled = exposed.clone().filled([Column::Id]).read_only([Column::Name]);
    assert_eq!(codes(filled.new_row(&json!({}))), missing(&["amount"]));
    let row = exposed.new_row(&json!({"id": 7, "name": "a", "amount": 1})).unwrap();
    assert_eq!((row.id, row.at), (ActiveValue::Set(7), ActiveValue::NotSet));
}

#[test]
fn what_is_rendered_can_be_sent_back() {
    let exposed = exposed();
    let row = goods::Model {
        org_id: 1,
        id: i64::MAX,
        name: "n".to_owned(),
        secret: Some("s".to_owned()),
        secret_key: "k".to_owned(),
        amount: "10.00".parse().unwrap(),
        wide: Some("-1234567890123456789.123456789".parse().unwrap()),
        small: Some(-1),
        flag: Some(false),
        ratio: Some(0.1 + 0.2),
        state: goods::State::SoldOut,
        level: Some(goods::Level::Low),
        made_on: Some("2024-02-29".parse().unwrap()),
        at: Some("2024-02-29T23:59:59.000001+02:00".parse().unwrap()),
        starts: Some("01:02:03.5".parse().unwrap()),
        mark: Some(uuid::Uuid::nil()),
        doc: Some(json!({"deep": [1.5, null]})),
        raw: Some(vec![255, 0]),
    };
    let rendered = exposed.render(&row);
    assert_eq!(
        rendered,
        json!({
            "id": i64::MAX, "name": "n", "amount": "10.00", "wide": "-1234567890123456789.123456789", "small": -1,
            "flag": false, "ratio": 0.1 + 0.2, "state": "sold out", "level": "low", "madeOn": "2024-02-29",
            "at": "2024-02-29T21:59:59.000001Z", "starts": "01:02:03.500", "mark": uuid::Uuid::nil(),
            "doc": {"deep": [1.5, null]}, "raw": "/wA=",
        })
    );
    let writable = Exposed::<goods::Entity>::new().private([Column::Secret, Column::SecretKey]);
    let sent_back = writable.new_row(&rendered).unwrap();
    for column in writable.columns.iter().filter(|rule| !rule.private).map(|rule| rule.column) {
        let (sent, was) = (sea_orm::ActiveModelTrait::get(&sent_back, column), sea_orm::ModelTrait::get(&row, column));
        assert_eq!(sent.into_value(), Some(was), "{column:?}");
    }
    let nothing = goods::Model { ratio: Some(f64::NAN), doc: None, raw: None, at: None, ..row };
    let rendered = exposed.render(&nothing);
    assert_eq!([&rendered["ratio"], &rendered["doc"], &rendered["raw"], &rendered["at"]], [&Json::Null; 4]);
}

#[test]
fn an_application_can_list_what_it_exposes() {
    let exposed = exposed();
    let names: Vec<_> = exposed.columns().filter(|column| column.required).map(|column| column.name).collect();
    assert_eq!(names, ["id", "name", "amount"]);
    let of = |name: &str| exposed.columns().find(|column| column.name == name).unwrap();
    assert!(of("id").insertable && !of("id").changeable && !of("at").insertable);
    assert_eq!(of("state").kind, &ColumnKind::Choice { names: vec!["new".to_owned(), "sold out".to_owned()] });
    assert_eq!(of("small").kind, &ColumnKind::Integer { least: -32_768, most: 32_767 });
    assert!(of("name").searchable && !of("small").searchable && of("small").nullable);
}

/// Any JSON at all, with the names that mean something among its names.
fn any_json() -> impl Strategy<Value = Json> {
    let names = prop_oneof![
        proptest::sample::select(vec![
            "and",
            "or",
            "not",
            "in",
            "not_in",
            "eq",
            "ne",
            "gt",
            "lte",
            "is_null",
            "contains",
            "starts_with",
            "id",
            "name",
            "amount",
            "small",
            "state",
            "level",
            "madeOn",
            "at",
            "starts",
            "mark",
            "doc",
            "raw",
            "ratio",
            "secret",
            "filter",
            "order",
            "limit",
            "after",
            "page",
            "search",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    let leaves = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        any::<String>().prop_map(Json::from),
        names.clone().prop_map(Json::from),
        "[-0-9TZ:.+e]{0,30}".prop_map(Json::from),
    ];
    leaves.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            proptest::collection::btree_map(names.clone(), inner, 0..6)
                .prop_map(|fields| Json::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever comes, the answer is a value or faults that point into what came.
    #[test]
    fn no_json_is_too_much(json in any_json()) {
        let exposed = exposed();
        let pointers = |faults: JsonFaults| faults.faults.into_iter().map(|fault| fault.pointer).collect::<Vec<_>>();
        let mut found = Vec::new();
        match exposed.filter(&json) {
            Ok(filter) => for engine in [Engine::Postgres, Engine::Sqlite] {
                prop_assert!(filter.condition(engine).is_ok());
            },
            Err(faults) => found.extend(pointers(faults)),
        }
        found.extend(exposed.list(&json).err().into_iter().flat_map(pointers));
        found.extend(exposed.changes(&json).err().into_iter().flat_map(pointers));
        for pointer in found.iter().filter(|pointer| !pointer.contains('…')) {
            prop_assert!(json.pointer(pointer).is_some(), "{pointer} into {json}");
        }
        let _ = exposed.new_row(&json);
        let _ = exposed.list_of_pairs([("filter", json.to_string()), ("after", json.to_string())]);
    }

    /// A value that was read is one that the entity's own field takes.
    #[test]
    fn a_row_that_is_read_holds_what_was_sent(small in any::<i16>(), cents in -999_999_999_i64..=999_999_999, name in "[^\0]{0,5}") {
        let amount = sea_orm::prelude::Decimal::new(cents, 2);
        for json in [json!(amount.to_string()), serde_json::from_str(&amount.to_string()).unwrap()] {
            let row = exposed().changes(&json!({"small": small, "amount": json, "name": name})).unwrap();
            prop_assert_eq!(row.small.as_ref(), &Some(small));
            prop_assert_eq!(row.amount.as_ref(), &amount);
            prop_assert_eq!(Value::from(row.name.as_ref().as_str()), Value::from(name.as_str()));
        }
    }
}
