//! Text is kept byte for byte, ordered by code point, and searched by Unicode.

use proptest::collection::vec;
use proptest::prelude::*;
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, Condition, Order, sea_query::LikeExpr};
use tenantry_data_source::{ConnectionError, TenantDb};
use tenantry_entities::accounts;
use tenantry_repository::{Query, RepositoryExt, SearchOptions};
use tenantry_test_support::cluster::{Cluster, ClusterOptions, Locale};

use super::world::{Template, World, connection_error};

type Column = accounts::Column;

/// Texts that SQL, patterns, collations and encodings trip over.
const AWKWARD: [&str; 26] = [
    "",
    " ",
    "\t\n\r",
    "'",
    "\"; DROP TABLE accounts; --",
    "%",
    "_",
    "\\",
    "\\u0000",
    "é",
    "e\u{301}",
    "שלום \u{202e}abc\u{202c}",
    "😀👩‍👩‍👧‍👦",
    "中文",
    "\u{1}\u{7f}\u{80}\u{feff}\u{ffff}\u{10ffff}",
    "\u{e000}",
    "𐀀",
    "Z",
    "a",
    "Ä",
    "ä",
    "ß",
    "Σ",
    "İ",
    "null",
    "1",
];

#[tokio::test(flavor = "multi_thread")]
async fn text_is_kept_and_ordered_by_code_point() {
    let world = World::new().await;
    let named = |texts: &[String]| texts.iter().map(|text| account(text, Some(text))).collect::<Vec<_>>();
    let awkward = prop::sample::select(AWKWARD.to_vec()).prop_map(str::to_owned);
    let random = any::<String>().prop_map(|text| text.replace('\0', ""));
    let texts = vec(prop_oneof![awkward, random], 1..32);
    let check = async |texts: Vec<String>| {
        world.clear::<accounts::Entity>().await;
        world.write::<accounts::Entity>(named(&texts)).await;
        let mut sorted = texts.clone();
        sorted.sort_unstable();
        let rows = world.read(&Query::<accounts::Entity>::new().order_by(Column::Name, Order::Asc)).await;
        assert_eq!(rows.iter().map(|row| &row.name).collect::<Vec<_>>(), sorted.iter().collect::<Vec<_>>());
        let pivot = texts[0].as_str();
        for (condition, expected) in [
            (Column::Notes.eq(pivot), texts.iter().filter(|text| *text == pivot).count()),
            (Column::Notes.gt(pivot), texts.iter().filter(|text| text.as_str() > pivot).count()),
            (Column::Notes.ne(""), texts.iter().filter(|text| !text.is_empty()).count()),
        ] {
            let counted = world.count::<accounts::Entity>(Condition::all().add(condition)).await;
            assert_eq!(counted, u64::try_from(expected).unwrap(), "{pivot:?}");
        }
    };
    check(AWKWARD.map(str::to_owned).to_vec()).await;
    world.for_all(12, texts, check);
}

#[tokio::test]
async fn an_empty_text_is_no_null_and_a_large_one_is_whole() {
    let world = World::new().await;
    let large: String = "äb😀\n".chars().cycle().take(600_000).collect();
    assert!(large.len() > 1 << 20);
    world
        .write::<accounts::Entity>(vec![
            account("empty", Some("")),
            account("null", None),
            account("large", Some(&large)),
        ])
        .await;
    let names = async |condition: Condition, column, order| {
        let query = Query::<accounts::Entity>::new().filter(condition).order_by(column, order);
        world.read(&query).await.into_iter().map(|row| row.name).collect::<Vec<_>>()
    };
    assert_eq!(names(Condition::all().add(Column::Notes.eq("")), Column::Name, Order::Asc).await, ["empty"]);
    assert_eq!(names(Condition::all().add(Column::Notes.is_null()), Column::Name, Order::Asc).await, ["null"]);
    assert_eq!(
        names(Condition::all().add(Column::Notes.eq(large.as_str())), Column::Name, Order::Asc).await,
        ["large"]
    );
    assert_eq!(names(Condition::all(), Column::Notes, Order::Asc).await, ["empty", "large", "null"]);
    assert_eq!(names(Condition::all(), Column::Notes, Order::Desc).await, ["large", "empty", "null"]);
}

/// PostgreSQL's protocol and SQLite's text functions both end at a NUL; neither may cut a text there.
#[tokio::test]
async fn a_nul_is_refused_with_one_error_wherever_it_is_bound() {
    let world = World::new().await;
    let bad = account("a\0b", None);
    let create = async |db: &_| RepositoryExt::repository::<accounts::Entity>(db).create(bad.clone()).await.map(drop);
    let by_text = Query::new().filter(Column::Name.eq("a\0b"));
    let by_character = Query::new().filter(Column::Name.eq('\0'));
    let count = async |query: &Query<accounts::Entity>| {
        world.each(async |db| db.repository::<accounts::Entity>().count(query).await.map(drop)).await
    };
    let results = [world.each(create).await, count(&by_text).await, count(&by_character).await];
    for result in results.into_iter().flatten() {
        let error = connection_error(result.unwrap_err());
        assert!(matches!(error, ConnectionError::UnstorableValue { .. }), "{error:?}");
    }
    assert_eq!(world.count::<accounts::Entity>(Condition::all()).await, 0);
}

/// A search by an engine's own folding finds other rows on each; a character with a meaning in one engine's patterns, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_search_finds_the_same_on_both_engines() {
    let world = World::new().await;
    let letters: Vec<char> = "aAkKsSſ\u{212a}äÄÅ\u{212b}åßẞΣσςiIİıЖжǅǆǄ%_*?[]^-\\.$()'e\u{301}😀 \n".chars().collect();
    let text = |most| vec(prop::sample::select(letters.clone()), 0..most).prop_map(String::from_iter);
    let strategy = (vec(text(8), 1..24), text(4), any::<bool>(), any::<bool>());
    world.for_all(24, strategy, async |(texts, wanted, exact, case_sensitive): (Vec<String>, String, bool, bool)| {
        world.clear::<accounts::Entity>().await;
        world.write::<accounts::Entity>(texts.iter().map(|text| account(text, None)).collect()).await;
        let make = if exact { SearchOptions::exact } else { SearchOptions::contains };
        let options: SearchOptions<accounts::Entity> = make(wanted.clone(), vec![Column::Name]);
        let options = if case_sensitive { options.case_sensitive() } else { options };
        let found = world.read(&Query::new().search(options).order_by(Column::Name, Order::Asc)).await;
        let fold = |text: &str| if case_sensitive { text.to_owned() } else { text.chars().map(folded).collect() };
        let mut expected: Vec<&String> = texts
            .iter()
            .filter(|text| if exact { fold(text) == fold(&wanted) } else { fold(text).contains(&fold(&wanted)) })
            .collect();
        expected.sort_unstable();
        assert_eq!(found.iter().map(|row| &row.name).collect::<Vec<_>>(), expected, "{wanted:?}");
    });
}

/// Written out, so that it is not the same code twice.
fn folded(letter: char) -> char {
    match letter {
        'A' => 'a',
        'K' | '\u{212a}' => 'k',
        'S' | 'ſ' => 's',
        'Ä' => 'ä',
        'Å' | '\u{212b}' => 'å',
        'ẞ' => 'ß',
        'Σ' | 'ς' => 'σ',
        'I' => 'i',
        'Ж' => 'ж',
        'Ǆ' | 'ǅ' => 'ǆ',
        other => other,
    }
}

/// LIKE in an application's condition is the engine's own. By default SQLite's ignores the case of ASCII letters alone.
#[tokio::test]
async fn like_tells_cases_apart_and_wants_its_escape_named() {
    let world = World::new().await;
    let names = ["Acme", "ACME", "Ärger", "ärger", "50%", "50\\%"];
    world.write::<accounts::Entity>(names.map(|name| account(name, None)).to_vec()).await;
    for (condition, expected) in [
        (Column::Name.like("ac%"), 0),
        (Column::Name.contains("cm"), 1),
        (Column::Name.starts_with("AC"), 1),
        (Column::Name.ends_with("rger"), 2),
        (Column::Name.like("Ä_ger"), 1),
        (Column::Name.like(LikeExpr::new("50\\%").escape('\\')), 1),
        (Column::Name.like(LikeExpr::new("50|%").escape('|')), 1),
    ] {
        let counted = world.count::<accounts::Entity>(Condition::all().add(condition.clone())).await;
        assert_eq!(counted, expected, "{condition:?}");
    }
    // Unnamed, it is the backslash on PostgreSQL, which then wants `50%`, and none in a file, which wants `50\…`.
    let unnamed = Query::<accounts::Entity>::new().filter(Column::Name.like("50\\%"));
    let found =
        async |db: &TenantDb| db.repository::<accounts::Entity>().find_one(&unnamed).await.unwrap().unwrap().name;
    assert_eq!(world.each(found).await, ["50\\%", "50%"]);
}

/// A database with a linguistic collation orders text by it, and so compares with `<`; equality, uniqueness and search stay.
#[tokio::test]
async fn a_linguistic_collation_changes_order_and_nothing_else() {
    let options = ClusterOptions { locale: Locale::Icu("und".to_owned()), ..ClusterOptions::default() };
    let cluster = Cluster::start_with(&options).unwrap();
    let world = World::copy_of(&Template::on(&cluster).await).await;
    let names = ["Z", "a", "B", "ä", "é", "e\u{301}", "-b", "ς"];
    world.write::<accounts::Entity>(names.map(|name| account(name, None)).to_vec()).await;
    let by_name = Query::<accounts::Entity>::new().order_by(Column::Name, Order::Asc);
    let [sqlite, postgres] = world
        .each(async |db| {
            let rows = db.repository::<accounts::Entity>().find_many(&by_name).await.unwrap();
            rows.into_iter().map(|row| row.name).collect::<Vec<_>>()
        })
        .await;
    assert_eq!(sqlite, ["-b", "B", "Z", "a", "e\u{301}", "ä", "é", "ς"]);
    assert_eq!(postgres, ["-b", "a", "ä", "B", "e\u{301}", "é", "Z", "ς"]);
    let above = Query::<accounts::Entity>::new().filter(Column::Name.gt("a"));
    let above = world.each(async |db| db.repository::<accounts::Entity>().count(&above).await.unwrap()).await;
    assert_eq!(above, [4, 6]);

    for name in names {
        assert_eq!(world.count::<accounts::Entity>(Condition::all().add(Column::Name.eq(name))).await, 1, "{name}");
    }
    for (wanted, found) in [("Ä", "ä"), ("Σ", "ς"), ("É", "é"), ("E\u{301}", "e\u{301}"), ("z", "Z")] {
        let rows =
            world.read(&Query::<accounts::Entity>::new().search(SearchOptions::exact(wanted, [Column::Name]))).await;
        assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), [found]);
    }
}

fn account(name: &str, notes: Option<&str>) -> accounts::ActiveModel {
    accounts::ActiveModel { name: Set(name.to_owned()), notes: Set(notes.map(str::to_owned)), ..Default::default() }
}
