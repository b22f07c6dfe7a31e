//! Every block of code in the book is held to something: Rust is compiled as a doc test, shell parses (and is run where it is to
//! be run), SQL is run on an application database, TOML is read as settings. A block that nothing holds is an error here.

use std::{collections::HashMap, path::PathBuf, process::Command};

use tenantry::{
    migrations::TenantDataMigrator,
    settings::{Settings, SettingsFile},
};
use tenantry_testing::World;

use super::page::{Page, root};

/// The doc tests of the book: one line for each page that has Rust in it.
const DOC_TESTS: &str = "tests/src/lib.rs";
/// Its JSON is run by the scenario about JSON conditions.
const JSON_PAGE: &str = "docs/json-conditions.md";

fn pages() -> Vec<(String, Page)> {
    let mut names: Vec<String> = std::fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().into_string().unwrap()))
        .filter(|name| name.ends_with(".md"))
        .collect();
    names.sort();
    assert!(names.len() > 15, "the pages were not found");
    names.into_iter().map(|name| (name.clone(), Page::read(&name))).collect()
}

/// The blocks with this info string, each with its page.
fn blocks(info: &str) -> Vec<(String, String)> {
    let of_page = |(name, page): (String, Page)| page.blocks(info).into_iter().map(move |block| (name.clone(), block));
    pages().into_iter().flat_map(of_page).collect()
}

/// Catches a block that is written in good faith and read by nobody but the reader.
#[test]
fn every_block_is_held_to_something() {
    let doc_tests = std::fs::read_to_string(root().join(DOC_TESTS)).unwrap();
    let mut wrong = Vec::new();
    for (name, page) in pages() {
        for info in page.infos() {
            let held = match info.as_str() {
                "text" | "sh" | "sh no-run" | "sql" | "toml" => true,
                "rust" | "rust,no_run" | "rust,compile_fail" => {
                    doc_tests.contains(&format!("#[doc = include_str!(\"../../{name}\")]"))
                }
                json => json.starts_with("json ") && name == JSON_PAGE,
            };
            if !held {
                wrong
                    .push(format!("{name}: nothing holds a block of {info:?}; for Rust, name the page in {DOC_TESTS}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Catches a quote that is not closed in a block that is only shown.
#[test]
fn every_shell_block_parses() {
    for (page, block) in blocks("sh").into_iter().chain(blocks("sh no-run")) {
        let parsed = Command::new("bash").args(["-n", "-c", &block]).output().unwrap();
        assert!(parsed.status.success(), "{page}:\n{block}\n{}", String::from_utf8_lossy(&parsed.stderr));
    }
}

/// Catches a setting in an example file that was renamed, or a value that is refused.
#[test]
fn every_settings_file_is_read() {
    let blocks = blocks("toml");
    assert!(!blocks.is_empty());
    for (page, text) in blocks {
        let file = SettingsFile { path: PathBuf::from("tenantry.toml"), text: text.clone() };
        let read = Settings::from_sources(Some(&file), &HashMap::new());
        assert!(read.is_ok(), "{page}:\n{text}\n{}", read.unwrap_err());
    }
}

/// Catches a column of the application database that a page sets and that is not there.
#[tokio::test(flavor = "multi_thread")]
async fn every_statement_runs_on_an_application_database() {
    let world = World::<TenantDataMigrator>::postgres().await.unwrap();
    let application = &world.databases()[0];
    let blocks = blocks("sql");
    assert!(!blocks.is_empty());
    for (page, sql) in blocks {
        let run = application.psql(&application.superuser, &format!("BEGIN; {sql}; ROLLBACK"));
        assert!(run.is_ok(), "{page}:\n{sql}\n{}", run.unwrap_err());
    }
}
