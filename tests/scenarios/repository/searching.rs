//! Text search: the same answers on both engines.

use sea_orm::ActiveValue::Set;
use sea_orm::ColumnTrait;
use tenantry_entities::accounts::{self, Column};
use tenantry_repository::{Error, MAX_SEARCH_CHARACTERS, Query, RepositoryExt, SearchOptions};

use tenantry_test_support::cluster::{Cluster, ClusterOptions, Locale};

use super::{on_both_engines, world::World};

on_both_engines!(
    every_character_stands_for_itself,
    case_is_folded_alike_for_every_script,
    several_columns_and_conditions_go_together,
    what_cannot_be_searched_is_said,
);

async fn fill(world: &World, names: &[&str]) {
    let model = |name: &&str| accounts::ActiveModel { name: Set((*name).to_owned()), ..Default::default() };
    world.one.repository::<accounts::Entity>().bulk_create(names.iter().map(model)).await.unwrap();
    world.two.repository::<accounts::Entity>().bulk_create(names.iter().map(model)).await.unwrap();
}

async fn found(world: &World, search: SearchOptions<accounts::Entity>) -> Vec<String> {
    let rows = world.one.repository::<accounts::Entity>().find_many(&Query::new().search(search)).await.unwrap();
    let mut names: Vec<_> = rows.into_iter().map(|row| row.name).collect();
    // By code point; the database's collation is another matter.
    names.sort_unstable();
    names
}

/// Characters with a meaning in LIKE, GLOB or regular expressions, and in SQL. Each has to find itself and only itself.
async fn every_character_stands_for_itself(world: World) {
    let special = "%_\\*?[]^$.|()+{}-'\"/#~&:;,<>=!@` \t\n";
    let names: Vec<String> = special.chars().map(|special| format!("x{special}y")).collect();
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.extend(["xy", "xay", "***xa", "(?i)xa"]);
    fill(&world, &all).await;
    for (special, name) in special.chars().zip(&names) {
        for text in [format!("x{special}y"), format!("{special}y"), format!("X{special}")] {
            assert_eq!(
                found(&world, SearchOptions::contains(text, [Column::Name])).await,
                [name.as_str()],
                "{special:?}"
            );
        }
        assert_eq!(found(&world, SearchOptions::exact(format!("X{special}Y"), [Column::Name])).await, [name.as_str()]);
    }
    for directive in ["***xa", "(?i)xa"] {
        assert_eq!(found(&world, SearchOptions::contains(directive, [Column::Name])).await, [directive]);
        assert_eq!(found(&world, SearchOptions::exact(directive, [Column::Name])).await, [directive]);
    }
    assert_eq!(found(&world, SearchOptions::contains("", [Column::Name])).await.len(), all.len());
    assert!(found(&world, SearchOptions::contains("", [Column::Phone])).await.is_empty(), "a null contains nothing");
}

/// SQLite and a PostgreSQL with the C locale fold ASCII only; others fold by their own tables.
async fn case_is_folded_alike_for_every_script(world: World) {
    fill(
        &world,
        &["Ärger", "ärgerlich", "STRASSE", "Straße", "ΣΟΦΌΣ", "σοφός", "Жук", "İstanbul", "istanbul", "Iğdır"],
    )
    .await;
    let contains = |text: &str| SearchOptions::contains(text, [Column::Name]);
    assert_eq!(found(&world, contains("ÄRGER")).await, ["Ärger", "ärgerlich"]);
    assert_eq!(found(&world, contains("arger")).await, [""; 0], "accents count");
    assert_eq!(found(&world, contains("σοφόσ")).await, ["ΣΟΦΌΣ", "σοφός"]);
    assert_eq!(found(&world, contains("ЖУК")).await, ["Жук"]);
    assert_eq!(found(&world, contains("STRAẞE")).await, ["Straße"]);
    assert_eq!(found(&world, contains("strasse")).await, ["STRASSE"]);
    assert_eq!(found(&world, contains("ISTANBUL")).await, ["istanbul"]);
    assert_eq!(found(&world, SearchOptions::exact("ärger", [Column::Name])).await, ["Ärger"]);
    assert_eq!(found(&world, contains("ärger").case_sensitive()).await, ["ärgerlich"]);
    assert_eq!(found(&world, SearchOptions::exact("Ärger", [Column::Name]).case_sensitive()).await, ["Ärger"]);
    assert_eq!(
        found(&world, contains("s").case_sensitive()).await,
        ["istanbul", "İstanbul"],
        "SQLite's LIKE would ignore ASCII case"
    );
}

async fn several_columns_and_conditions_go_together(world: World) {
    let accounts = world.one.repository::<accounts::Entity>();
    for (name, city) in [("Nord", Some("Kiel")), ("Kieler Werft", None), ("Süd", Some("Ulm"))] {
        let model = accounts::ActiveModel {
            name: Set(name.to_owned()),
            billing_city: Set(city.map(str::to_owned)),
            ..Default::default()
        };
        accounts.create(model).await.unwrap();
    }
    let search = || SearchOptions::contains("kiel", [Column::Name, Column::BillingCity]);
    assert_eq!(found(&world, search()).await, ["Kieler Werft", "Nord"]);
    assert_eq!(accounts.search(search()).await.unwrap().len(), 2);
    let narrowed = Query::new().search(search()).filter(Column::BillingCity.is_not_null());
    assert_eq!(accounts.count(&narrowed).await.unwrap(), 1);
    assert_eq!(accounts.paginate(&Query::new().search(search()), 1, 1).await.unwrap().total, 2);
    assert!(world.two.repository::<accounts::Entity>().search(search()).await.unwrap().is_empty());
}

async fn what_cannot_be_searched_is_said(world: World) {
    let accounts = world.one.repository::<accounts::Entity>();
    let long = "x".repeat(MAX_SEARCH_CHARACTERS);
    assert!(accounts.search(SearchOptions::contains(long.as_str(), [Column::Name])).await.unwrap().is_empty());
    for invalid in [
        SearchOptions::contains(long + "x", [Column::Name]),
        SearchOptions::contains("a\0b", [Column::Name]),
        SearchOptions::contains("x", []),
        SearchOptions::contains("x", [Column::Name, Column::EmployeeCount]),
        SearchOptions::exact("x", [Column::Id]),
    ] {
        let error = accounts.search(invalid).await.unwrap_err();
        assert!(matches!(error, Error::InvalidSearch { .. }), "{error}");
    }
}

/// A locale of its own must not change what is found: ICU folds İ and ς its own way.
#[tokio::test(flavor = "multi_thread")]
async fn the_servers_locale_changes_nothing() {
    let options = ClusterOptions { locale: Locale::Icu("tr-TR".to_owned()), ..ClusterOptions::default() };
    let cluster = Cluster::start_with(&options).unwrap();
    case_is_folded_alike_for_every_script(World::on(&cluster).await).await;
    every_character_stands_for_itself(World::on(&cluster).await).await;
}
