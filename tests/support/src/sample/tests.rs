//! The sample's promises: its counts, its awkward rows, and the same content on both engines.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, Row};

use super::cell::{canonical_json, decimal};
use super::dictionary::all_tables;
use super::words::{AWKWARD_TEXTS, DATES, INSTANTS, JSON_TEXTS, TIMES};
use super::*;
use crate::cluster::Cluster;

/// Rows by id, a canonical text per cell.
type Content = BTreeMap<String, Vec<Option<String>>>;

fn expected(table: &Table) -> Content {
    let rows = TENANTS.iter().flat_map(|tenant| table.rows(tenant));
    let rows = rows.map(|row| row.iter().map(Cell::canonical).collect::<Vec<_>>());
    rows.map(|row| (row[0].clone().unwrap(), row)).collect()
}

fn assert_same(table: &Table, found: &Content, expected: &Content) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "ids of {}", table.name);
    for (id, row) in expected {
        for (column, (found, expected)) in table.columns.iter().zip(found[id].iter().zip(row)) {
            assert_eq!(found, expected, "{}.{} of {id}", table.name, column.name);
        }
    }
}

/// Each cell of the three tenants, with its column.
fn cells() -> impl Iterator<Item = (&'static SampleTenant, &'static Table, usize, &'static Column, Cell)> {
    TENANTS.iter().flat_map(|tenant| business_tables().iter().map(move |table| (tenant, table))).flat_map(
        |(tenant, table)| {
            table.rows(tenant).into_iter().enumerate().flat_map(move |(number, row)| {
                row.into_iter().zip(&table.columns).map(move |(cell, column)| (tenant, table, number, column, cell))
            })
        },
    )
}

/// Catches a sample that no longer is the one whose 253 records the original reported.
#[test]
fn the_default_tenant_has_the_originals_records() {
    let counts = include_str!("default-counts.tsv").lines().skip(1);
    let counts: Vec<(&str, u64)> =
        counts.map(|line| line.split_once('\t').unwrap()).map(|(table, n)| (table, n.parse().unwrap())).collect();
    assert_eq!(expected_counts(), counts);
    assert_eq!(TENANTS[0].total(), 253);
    assert!(TENANTS[2].counts().iter().any(|(_, records)| *records == 0));
    for tenant in &TENANTS {
        assert_eq!(SampleTenant::by_subdomain(tenant.subdomain), Some(tenant));
        for (table, (name, records)) in business_tables().iter().zip(tenant.counts()) {
            assert_eq!((table.name, table.rows(tenant).len() as u64), (name, records));
        }
    }
}

/// Catches content that depends on the run, or that changed without anyone meaning it: tests elsewhere name its rows.
#[test]
fn the_content_is_the_same_for_ever() {
    let mut digest: u64 = 0xcbf2_9ce4_8422_2325;
    for table in all_tables() {
        for cell in expected(table).values().flatten() {
            for byte in cell.as_deref().unwrap_or("\0").bytes().chain([0xff]) {
                digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    assert_eq!(
        format!("{digest:016x}"),
        "9963eb64171d671d",
        "the sample changed: if that was meant, note the new digest"
    );
}

/// Catches engines that were given different content, and a driver that changed a value on the way.
#[tokio::test]
async fn both_engines_hold_the_same_content() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("legacy.db");
    create_sqlite(&file).await.unwrap();
    let mut sqlite = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(&file)).await.unwrap();
    let database = Cluster::shared().unwrap().create_database("legacy").unwrap();
    create_postgres(&database.url_with(&database.service)).await.unwrap();
    let mut postgres = PgConnection::connect(&database.url_with(&database.service)).await.unwrap();
    for table in all_tables() {
        let expected = expected(table);
        assert_same(table, &read_sqlite(&mut sqlite, table).await, &expected);
        assert_same(table, &read_postgres(&mut postgres, table).await, &expected);
    }
}

async fn read_postgres(connection: &mut PgConnection, table: &Table) -> Content {
    let columns = table.columns.iter().map(|Column { name, kind, .. }| match kind {
        Kind::Timestamp => format!("to_char({name} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"+00:00\"')"),
        Kind::Time => format!("to_char({name}, 'HH24:MI:SS.US')"),
        Kind::Date => format!("to_char({name}, 'YYYY-MM-DD')"),
        _ => format!("{name}::text"),
    });
    let sql = format!("SELECT {} FROM {}", columns.collect::<Vec<_>>().join(", "), table.name);
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(connection).await.unwrap();
    let row = |row: sqlx::postgres::PgRow| -> Vec<Option<String>> {
        let cells = table.columns.iter().enumerate().map(|(position, column)| {
            let text: Option<String> = row.get(position);
            if column.kind == Kind::Json { text.map(|text| canonical_json(&text).unwrap()) } else { text }
        });
        cells.collect()
    };
    rows.into_iter().map(row).map(|row| (row[0].clone().unwrap(), row)).collect()
}

async fn read_sqlite(connection: &mut SqliteConnection, table: &Table) -> Content {
    let sql = format!("SELECT * FROM {}", table.name);
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(connection).await.unwrap();
    let row = |row: SqliteRow| -> Vec<Option<String>> {
        table.columns.iter().enumerate().map(|(position, column)| sqlite_text(&row, position, column.kind)).collect()
    };
    rows.into_iter().map(row).map(|row| (row[0].clone().unwrap(), row)).collect()
}

fn sqlite_text(row: &SqliteRow, position: usize, kind: Kind) -> Option<String> {
    let text = || row.get_unchecked::<Option<String>, _>(position);
    match kind {
        Kind::Uuid => row.get_unchecked::<Option<Uuid>, _>(position).map(|uuid| uuid.to_string()),
        Kind::Integer => row.get_unchecked::<Option<i64>, _>(position).map(|integer| integer.to_string()),
        Kind::Boolean => row.get_unchecked::<Option<bool>, _>(position).map(|boolean| boolean.to_string()),
        Kind::Numeric { .. } => {
            let hundredths = |value: f64| decimal((value * 100.0).round() as i64);
            row.get_unchecked::<Option<f64>, _>(position).map(hundredths)
        }
        Kind::Json => text().map(|text| canonical_json(&text).unwrap()),
        Kind::Timestamp => text().map(|text| {
            let with_offset = chrono::DateTime::parse_from_rfc3339(&text).map(|instant| instant.to_utc());
            let plain = || chrono::NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S").map(|at| at.and_utc());
            Cell::Timestamp(with_offset.or_else(|_| plain()).unwrap()).canonical().unwrap()
        }),
        Kind::Time => text().map(|text| Cell::Time(text.parse().unwrap()).canonical().unwrap()),
        Kind::Text | Kind::Date => text(),
    }
}

/// Catches a legacy file tidier than real ones: a transfer that reads only one form of a timestamp would pass.
#[tokio::test]
async fn sqlite_has_the_forms_that_applications_leave() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("legacy.db");
    create_sqlite(&file).await.unwrap();
    let error = create_sqlite(&file).await.unwrap_err();
    assert!(error.to_string().contains("legacy.db"), "{error}");
    let mut sqlite = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(&file)).await.unwrap();
    let count = async |sqlite: &mut SqliteConnection, table: &str, condition: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table} WHERE {condition}");
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(sqlite).await.unwrap()
    };
    for form in ["____-__-__ __:__:__", "____-__-__T__:__:__+00:00", "____-__-__T__:__:__.______+00:00", "%+05:30"] {
        let condition = format!("created_at LIKE '{form}'");
        assert!(count(&mut sqlite, "leads", &condition).await > 0, "no timestamp like {form}");
    }
    let stored = [
        ("leads", "typeof(id) <> 'blob' OR length(id) <> 16 OR typeof(tenant_id) <> 'blob'"),
        ("opportunity_line_items", "typeof(quantity) <> 'real' OR typeof(total) <> 'real'"),
        (
            "opportunities",
            "typeof(is_converted) NOT IN ('integer', 'null') OR typeof(event_date) NOT IN ('text', 'null')",
        ),
        // SQLx writes no fraction where there is none.
        ("event_dates", "start_time NOT LIKE '__:__:__' AND start_time NOT LIKE '__:__:__.%'"),
        ("accounts", "typeof(billing_address) NOT IN ('text', 'null')"),
    ];
    for (table, wrong) in stored {
        assert_eq!(count(&mut sqlite, table, wrong).await, 0, "{table}: {wrong}");
    }
}

/// Catches a reference to another tenant's row or to none, which the new schema's keys would refuse.
#[test]
fn references_stay_within_their_tenant() {
    let mut owners = HashMap::new();
    for tenant in &TENANTS {
        for table in business_tables() {
            for row in table.rows(tenant) {
                assert!(owners.insert((table.name, row[0].canonical()), tenant.id).is_none(), "an id twice");
            }
        }
    }
    let mut references = 0;
    for (tenant, table, _, column, cell) in cells() {
        if let (Some(reference), false) = (column.references, cell == Cell::Null) {
            let owner = owners.get(&(reference.table, cell.canonical()));
            assert_eq!(owner, Some(&tenant.id), "{}.{}", table.name, column.name);
            references += 1;
        }
    }
    assert!(references > 300, "only {references} references");
}

/// Catches rows that PostgreSQL accepts here but the new schema refuses: checks and the unique pair.
#[test]
fn values_satisfy_the_checks() {
    for (_, table, _, column, cell) in cells() {
        let name = format!("{}.{}", table.name, column.name);
        assert!(column.nullable || cell != Cell::Null, "{name}");
        match (&column.check, &cell) {
            (Some(Check::OneOf(values)), Cell::Text(text)) => {
                assert!(values.contains(&text.as_str()), "{name}: {text}")
            }
            (Some(Check::Between(first, last)), Cell::Integer(integer)) => {
                assert!((first..=last).contains(&integer), "{name}: {integer}");
            }
            _ => {}
        }
        assert!(!matches!(&cell, Cell::Text(text) if text.contains('\0')), "{name}");
    }
    let table = business_tables().iter().find(|table| table.name == "contact_accounts").unwrap();
    for tenant in &TENANTS {
        let rows = table.rows(tenant);
        let pairs: HashSet<_> = rows.iter().map(|row| (row[2].canonical(), row[3].canonical())).collect();
        assert_eq!(pairs.len(), rows.len());
    }
}

/// Catches a column that is never null or never set: a copy that loses it would not be noticed.
#[test]
fn every_table_has_a_full_and_an_empty_row() {
    for table in business_tables() {
        let rows = table.rows(&TENANTS[0]);
        assert!(rows.iter().any(|row| !row.contains(&Cell::Null)), "{} has no full row", table.name);
        let is_empty = |row: &Vec<Cell>| {
            row.iter().zip(&table.columns).all(|(cell, column)| column.nullable == (*cell == Cell::Null))
        };
        assert!(rows.iter().any(is_empty), "{} has no empty row", table.name);
    }
}

/// Catches an edge that fell out of the tenant that everyone copies.
#[test]
fn the_default_tenant_has_every_edge() {
    let mut seen: HashMap<&'static str, HashSet<String>> = HashMap::new();
    let mut booleans: HashMap<(&str, &str), HashSet<Option<String>>> = HashMap::new();
    let mut money: HashMap<u32, BTreeSet<i64>> = HashMap::new();
    let mut attached: HashSet<(&str, String)> = HashSet::new();
    for (tenant, table, _, column, cell) in cells() {
        if column.name == "entity_type" {
            attached.extend(cell.canonical().map(|kind| (table.name, kind)));
        }
        if tenant.subdomain != "default" {
            continue;
        }
        match (&cell, column.kind) {
            (Cell::Null | Cell::Boolean(_), Kind::Boolean) => {
                booleans.entry((table.name, column.name)).or_default().insert(cell.canonical());
            }
            (Cell::Hundredths(hundredths), Kind::Numeric { precision }) => {
                money.entry(precision).or_default().insert(*hundredths);
            }
            (Cell::Json(text), _) => drop(seen.entry("json").or_default().insert((*text).to_owned())),
            (Cell::Text(text), _) => drop(seen.entry("text").or_default().insert(text.clone())),
            (Cell::Date(_), _) => drop(seen.entry("date").or_default().insert(cell.canonical().unwrap())),
            (Cell::Time(_), _) => drop(seen.entry("time").or_default().insert(cell.canonical().unwrap())),
            (Cell::Timestamp(_), _) => drop(seen.entry("instant").or_default().insert(cell.canonical().unwrap())),
            _ => {}
        }
    }
    let missing = |kind: &str, wanted: Vec<String>| -> Vec<String> {
        wanted.into_iter().filter(|text| !seen[kind].contains(text)).collect()
    };
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    assert_eq!(missing("text", texts(&AWKWARD_TEXTS)), Vec::<String>::new());
    assert_eq!(missing("json", texts(&JSON_TEXTS)), Vec::<String>::new());
    assert_eq!(
        missing("date", DATES.iter().map(|(y, m, d)| format!("{y:04}-{m:02}-{d:02}")).collect()),
        Vec::<String>::new()
    );
    let time = |(seconds, micros): &(u32, u32)| {
        format!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    };
    assert_eq!(missing("time", TIMES.iter().map(time).collect()), Vec::<String>::new());
    let instant = |micros: &i64| Cell::Timestamp(rows::instant(*micros)).canonical().unwrap();
    assert_eq!(missing("instant", INSTANTS.iter().map(instant).collect()), Vec::<String>::new());
    assert_eq!(seen["text"].iter().filter(|text| text.len() >= 65_536).count(), 1);
    for (precision, hundredths) in &money {
        let limit = 10_i64.pow(*precision) - 1;
        for edge in [limit, -limit, 0, 1, -1] {
            assert!(hundredths.contains(&edge), "numeric({precision},2) lacks {}", decimal(edge));
        }
    }
    assert_eq!(money.keys().copied().collect::<BTreeSet<_>>(), BTreeSet::from([10, 12, 15]));
    for column in [("contact_accounts", "is_primary"), ("leads", "is_converted"), ("opportunities", "is_converted")] {
        assert_eq!(booleans[&column].len(), 3, "{column:?} has {:?}", booleans[&column]);
    }
    for table in business_tables() {
        for column in table.columns.iter().filter(|column| column.name == "entity_type") {
            let Some(Check::OneOf(kinds)) = &column.check else { panic!("{} has no check", table.name) };
            for kind in kinds {
                assert!(attached.contains(&(table.name, (*kind).to_owned())), "no {} on {kind}", table.name);
            }
        }
    }
}

/// Catches a sample too orderly: a copy in order of age, or one that skips what "was not changed since", would pass.
#[test]
fn some_rows_are_older_than_their_parents_and_some_were_updated_before_they_were_created() {
    let mut created = HashMap::new();
    let mut backwards = 0;
    let column = |table: &Table, name: &str| table.columns.iter().position(|column| column.name == name).unwrap();
    let mut older = 0;
    for table in business_tables() {
        let at = column(table, "created_at");
        for row in table.rows(&TENANTS[0]) {
            if let (Cell::Timestamp(created), Cell::Timestamp(updated)) = (&row[at], &row[column(table, "updated_at")])
            {
                backwards += usize::from(updated < created);
            }
            for (cell, _) in row.iter().zip(&table.columns).filter(|(_, column)| column.references.is_some()) {
                let parent = created.get(&cell.canonical());
                if let (Some(Cell::Timestamp(parent)), Cell::Timestamp(child)) = (parent, &row[at]) {
                    older += usize::from(child < parent);
                }
            }
            created.insert(row[0].canonical(), row[at].clone());
        }
    }
    assert!(older > 20 && backwards > 10, "{older} older than a parent, {backwards} updated before creation");
}

/// Catches conversions recorded on one side only.
#[test]
fn conversions_point_both_ways() {
    let find = |name: &str| business_tables().iter().find(|table| table.name == name).unwrap();
    let (opportunities, events) = (find("opportunities"), find("events"));
    let at = |table: &Table, name: &str| table.columns.iter().position(|column| column.name == name).unwrap();
    let forth = opportunities
        .rows(&TENANTS[0])
        .into_iter()
        .map(|row| (row[0].canonical(), row[at(opportunities, "converted_event_id")].canonical()));
    let back = events
        .rows(&TENANTS[0])
        .into_iter()
        .map(|row| (row[at(events, "converted_from_opportunity_id")].canonical(), row[0].canonical()));
    let forth: BTreeSet<_> = forth.filter(|(_, event)| event.is_some()).collect();
    let back: BTreeSet<_> = back.filter(|(opportunity, _)| opportunity.is_some()).collect();
    assert_eq!(forth, back);
    assert_eq!(forth.len(), 5);
    let leads = find("leads");
    let converted = leads.rows(&TENANTS[0]).into_iter().filter(|row| {
        row[at(leads, "converted_account_id")] != Cell::Null && row[at(leads, "converted_contact_id")] != Cell::Null
    });
    assert!(converted.count() >= 10);
}

/// Catches tenants that a mistaken filter would tell apart by their data.
#[test]
fn tenants_look_alike() {
    let emails = |tenant: &SampleTenant| -> HashSet<String> {
        let contacts = business_tables().iter().find(|table| table.name == "contacts").unwrap();
        let email = contacts.columns.iter().position(|column| column.name == "email").unwrap();
        contacts.rows(tenant).into_iter().filter_map(|row| row[email].canonical()).collect()
    };
    let [default, acme, globex] = TENANTS.each_ref().map(emails);
    assert!(acme.is_subset(&default) && globex.is_subset(&default));
    assert!(!acme.is_disjoint(&globex));
}

/// Catches two forms of one number, which would make equal content look different.
#[test]
fn json_is_compared_by_value() {
    let same = [("-0", "0"), ("1.0", "1"), ("1e0", "1"), ("1e30", "1000000000000000000000000000000"), ("-0.0", "0.0")];
    for (left, right) in same {
        assert_eq!(canonical_json(left), canonical_json(right), "{left} and {right}");
    }
    assert_eq!(canonical_json(r#"{ "b":1, "a":1, "a":2.50 }"#).as_deref(), Some(r#"{"a":2.5,"b":1}"#));
    assert_ne!(canonical_json("9007199254740993"), canonical_json("9007199254740992"));
}
