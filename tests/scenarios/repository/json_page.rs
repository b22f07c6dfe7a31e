//! `docs/json-conditions.md`, carried out: every example is run on both engines, and the tables are held to the code.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Value as Json, json};
use tenantry_entities::accounts::{self, Column};
use tenantry_repository::{Exposed, FaultCode, JsonFaults, Limits, Query, RepositoryExt};

use super::{on_both_engines, world::World};

on_both_engines!(every_example_does_what_the_page_says);

fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/json-conditions.md")).unwrap()
}

/// A block of JSON and the line below it, without its arrow.
struct Example {
    kind: String,
    json: Json,
    result: Option<String>,
}

fn examples(page: &str) -> Vec<Example> {
    let mut blocks = page.split("\n```json ").skip(1);
    let example = |block: &str| {
        let (kind, rest) = block.split_once('\n').unwrap();
        let (text, below) = rest.split_once("\n```\n").unwrap();
        let json = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let result = below.lines().next().and_then(|line| line.strip_prefix("→ ")).map(str::to_owned);
        Example { kind: kind.to_owned(), json, result }
    };
    blocks.by_ref().map(example).collect()
}

fn told(faults: JsonFaults) -> String {
    let code = |code: FaultCode| json!(code).as_str().unwrap().to_owned();
    let mut told: Vec<_> =
        faults.faults.into_iter().map(|fault| format!("`{}` {}", fault.pointer, code(fault.code))).collect();
    told.sort();
    told.join(", ")
}

/// Catches an example that finds other rows, or is wrong in another way, than the page says.
async fn every_example_does_what_the_page_says(world: World) {
    let exposed = Exposed::<accounts::Entity>::new()
        .private([Column::TaxId])
        .read_only([Column::Id, Column::CreatedAt, Column::UpdatedAt])
        .searchable([Column::Name, Column::BillingCity]);
    let repository = world.one.repository::<accounts::Entity>();
    let names = |rows: Vec<accounts::Model>| rows.into_iter().map(|row| row.name).collect::<Vec<_>>();
    let mut first = None;
    let mut run = 0;
    for Example { kind, json, result } in examples(&page()) {
        let came = match kind.as_str() {
            "rows" => {
                for row in json.as_array().unwrap() {
                    let row = repository.create(exposed.new_row(row).unwrap()).await.unwrap();
                    first.get_or_insert(row.id);
                }
                None
            }
            "filter" => Some(match exposed.filter(&json) {
                Ok(filter) => {
                    let mut found = names(repository.find_many(&Query::new().matching(filter)).await.unwrap());
                    found.sort_unstable();
                    // The page has them in the order of a reader's alphabet, which is not that of code points.
                    let mut said: Vec<_> =
                        result.as_deref().unwrap_or_default().split(", ").map(str::to_owned).collect();
                    said.sort_unstable();
                    assert_eq!(found, said, "{json}");
                    result.clone().unwrap()
                }
                Err(faults) => told(faults),
            }),
            "list" => Some(match exposed.list(&json) {
                Ok(list) => {
                    let page = repository.page_after(&list.query, list.after.as_ref(), list.limit).await.unwrap();
                    names(page.items).join(", ")
                }
                Err(faults) => told(faults),
            }),
            "change" => match exposed.changes(&json) {
                Ok(changes) => {
                    let changed = exposed.render(&repository.update(first.unwrap(), changes).await.unwrap());
                    for (name, value) in json.as_object().unwrap() {
                        assert_eq!(&changed[name], value, "{json}");
                    }
                    None
                }
                Err(faults) => Some(told(faults)),
            },
            "row" => match exposed.new_row(&json) {
                Ok(row) => {
                    assert_eq!(repository.create(row).await.unwrap().name, json["name"].as_str().unwrap());
                    None
                }
                Err(faults) => Some(told(faults)),
            },
            other => panic!("nothing runs a block of {other:?}"),
        };
        assert_eq!(came, result, "{kind} {json}");
        run += 1;
    }
    assert!(run > 15, "{run} examples were found only");
}

/// Catches a code or a limit that the page does not know, and one that it knows and nobody else does.
#[test]
fn the_tables_are_those_of_the_code() {
    let page = page();
    let section = |heading: &str| page.split("\n## ").find(|part| part.starts_with(heading)).unwrap().to_owned();
    let first_cells = |section: &str| -> BTreeSet<String> {
        let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        cells.map(str::to_owned).collect()
    };
    let codes: BTreeSet<String> = FaultCode::ALL.iter().map(|code| json!(code).as_str().unwrap().to_owned()).collect();
    assert_eq!(codes.len(), FaultCode::ALL.len());
    assert_eq!(first_cells(&section("Faults")), codes);
    let Limits { conditions, list, depth, searches, text, order, page: rows, default_page, offset, faults, .. } =
        Limits::default();
    let limits = section("Limits");
    for (name, default) in [
        ("conditions", conditions as u64),
        ("list", list as u64),
        ("depth", depth as u64),
        ("searches", searches as u64),
        ("text", text as u64),
        ("order", order as u64),
        ("page", rows),
        ("default_page", default_page),
        ("offset", offset),
        ("faults", faults as u64),
    ] {
        let row = limits.lines().find(|line| line.starts_with(&format!("| `{name}`"))).unwrap();
        assert_eq!(row.split('|').nth(2).unwrap().trim(), default.to_string(), "{name}");
    }
    assert_eq!(first_cells(&limits).len(), 10);
}
