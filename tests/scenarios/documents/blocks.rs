//! Every block of code in the book is held to something: Rust is compiled as a doc test, shell parses (and is run where it is to
//! be run), SQL is run on an application database, TOML is read as settings or as a manifest's dependencies. A block that nothing
//! holds is an error here.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use tenantry::{
    migrations::TenantDataMigrator,
    settings::{Settings, SettingsFile},
};
use tenantry_testing::World;

use super::page::{Page, root};

/// The doc tests of the book: one line for each page that has Rust in it.
const DOC_TESTS: &str = "tests/src/lib.rs";
/// A block of TOML that begins so is of a manifest, every other one is of the settings.
const MANIFEST: &str = "[dependencies]";
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
    let blocks: Vec<_> = blocks("toml").into_iter().filter(|(_, text)| !text.starts_with(MANIFEST)).collect();
    assert!(!blocks.is_empty());
    for (page, text) in blocks {
        let file = SettingsFile { path: PathBuf::from("tenantry.toml"), text: text.clone() };
        let read = Settings::from_sources(Some(&file), &HashMap::new());
        assert!(read.is_ok(), "{page}:\n{text}\n{}", read.unwrap_err());
    }
}

/// Catches a crate or a feature that a page tells to depend on and that is not there. A line that is commented out is a choice
/// in place of the others.
#[test]
fn every_dependency_can_be_had() {
    let ours = packages(root());
    for (page, text) in blocks("toml").into_iter().filter(|(_, text)| text.starts_with(MANIFEST)) {
        let choices =
            text.lines().filter_map(|line| line.strip_prefix("# ")).map(|line| format!("{MANIFEST}\n{line}\n"));
        for choice in std::iter::once(text.clone()).chain(choices) {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("src")).unwrap();
            std::fs::write(folder.path().join("src/lib.rs"), "").unwrap();
            let manifest = format!("[package]\nname = \"page\"\nedition = \"2024\"\n[workspace]\n{choice}");
            std::fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
            for wanted in packages(folder.path())[0]["dependencies"].as_array().unwrap() {
                let found = ours.iter().find(|package| package["name"] == wanted["name"]);
                let found = found.unwrap_or_else(|| panic!("{page}: {} is no package here", wanted["name"]));
                for feature in wanted["features"].as_array().unwrap() {
                    let there = found["features"].get(feature.as_str().unwrap()).is_some();
                    assert!(there, "{page}: {} has no feature {feature}", wanted["name"]);
                }
            }
        }
    }
}

/// The packages of a manifest, as cargo understands it.
fn packages(folder: &Path) -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = Command::new(cargo).args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
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
