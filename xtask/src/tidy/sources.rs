//! Rust files: each says what it is, stays readable in one sitting and is named after a thing.

use super::Finding;
use crate::{failure::Failure, workspace::Workspace};

/// A file longer than this holds two things.
const LONGEST: usize = 600;

/// Names that say nothing about what is inside, and where code goes that nobody looked for a place for.
const EMPTY_NAMES: [&str; 8] = ["utils", "util", "common", "helpers", "helper", "misc", "shared", "mod"];

/// Left behind while writing.
const LEFT_OVER: [&str; 3] = ["dbg!(", "todo!(", "unimplemented!("];

/// A library answers with values and logs with `tracing`; only programs print.
const PRINTING: [&str; 4] = ["println!(", "print!(", "eprintln!(", "eprint!("];

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    for file in workspace.files("", ".rs")? {
        findings.extend(check_file(&file, &workspace.read(&file)?));
    }
    Ok(findings)
}

fn check_file(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let stem = file.rsplit('/').next().unwrap_or(file).trim_end_matches(".rs");
    if EMPTY_NAMES.contains(&stem) {
        findings.push(Finding::in_file(file, format!("`{stem}` says nothing; name the file after what is in it")));
    }
    // Programs that must not compile are samples, not modules.
    if !file.contains("compile-fail/") && !begins_with_header(text) {
        findings.push(Finding::in_file(file, "no `//!` header; say what this is and what it does not know"));
    }
    let lines = text.lines().count();
    if lines > LONGEST {
        findings
            .push(Finding::in_file(file, format!("{lines} lines, at most {LONGEST}; it holds two things, part them")));
    }
    let library = (file.starts_with("crates/") || file.starts_with("migrations/")) && !file.contains("/examples/");
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.starts_with("//") {
            continue;
        }
        for word in LEFT_OVER.iter().filter(|word| has_call(line, word)) {
            findings.push(Finding::at(file, index, format!("`{word}…)` was left behind")));
        }
        for word in PRINTING.iter().filter(|word| library && has_call(line, word)) {
            findings.push(Finding::at(file, index, format!("`{word}…)` in a library; return a value or use tracing")));
        }
        for lint in ["[allow(", "[expect("] {
            let statement = || text.lines().skip(index).take(8).collect::<Vec<_>>().join(" ");
            if line.starts_with("#") && line.contains(lint) && !until_closed(&statement(), lint).contains("reason") {
                findings.push(Finding::at(file, index, format!("`#{lint}…)]` without a reason; add `reason = \"…\"`")));
            }
        }
    }
    findings
}

/// The first thing in a file, after attributes of the whole file, is its header.
fn begins_with_header(text: &str) -> bool {
    text.lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with("#!"))
        .is_some_and(|line| line.starts_with("//!"))
}

/// Whether the line calls this macro and not one whose name ends so, and does not only quote it.
fn has_call(line: &str, call: &str) -> bool {
    line.match_indices(call).any(|(at, _)| {
        let before = line[..at].replace("\\\"", "");
        let part_of_name = before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        !part_of_name && before.matches('"').count().is_multiple_of(2)
    })
}

/// The attribute from its name to the parenthesis that closes it.
fn until_closed(text: &str, opening: &str) -> String {
    let Some(at) = text.find(opening) else { return String::new() };
    let mut depth = 0;
    let mut attribute = String::new();
    for c in text[at..].chars() {
        attribute.push(c);
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => break,
            ')' => depth -= 1,
            _ => {}
        }
    }
    attribute
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(file: &str, text: &str) -> Vec<String> {
        check_file(file, text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_file_has_no_finding() {
        let text = "#![expect(missing_docs, reason = \"generated\")]\n//! What it is.\n\n/// `dbg!(1)`\nfn f() { let a = \"dbg!(\"; writeln!(\"x\"); }\n\
                    #[expect(\n    clippy::all,\n    reason = \"because\"\n)]\nfn g() {}\n";
        assert_eq!(messages("crates/a/src/lib.rs", text), [""; 0]);
    }

    #[test]
    fn each_rule_finds_what_breaks_it() {
        let header = "//! What it is.\n";
        for (file, text, expected) in [
            ("crates/a/src/utils.rs", header.to_owned(), "crates/a/src/utils.rs: `utils` says nothing"),
            ("crates/a/src/a/mod.rs", header.to_owned(), "crates/a/src/a/mod.rs: `mod` says nothing"),
            ("crates/a/src/b.rs", "use x;\n".to_owned(), "crates/a/src/b.rs: no `//!` header"),
            ("crates/a/src/b.rs", String::new(), "crates/a/src/b.rs: no `//!` header"),
            ("crates/a/src/b.rs", format!("{header}{}", "\n".repeat(600)), "crates/a/src/b.rs: 601 lines"),
            ("xtask/src/b.rs", format!("{header}let x = dbg!(1);"), "xtask/src/b.rs:2: `dbg!(…)` was left behind"),
            (
                "crates/a/src/b.rs",
                format!("{header}  println!(\"x\");"),
                "crates/a/src/b.rs:2: `println!(…)` in a library",
            ),
            (
                "xtask/src/b.rs",
                format!("{header}#[allow(dead_code)]"),
                "xtask/src/b.rs:2: `#[allow(…)]` without a reason",
            ),
            (
                "xtask/src/b.rs",
                format!("{header}#[expect(\n  dead_code\n)]\n#[expect(dead_code, reason = \"x\")]"),
                "xtask/src/b.rs:2: `#[expect(…)]` without a reason",
            ),
        ] {
            let found = messages(file, &text);
            assert_eq!(found.len(), 1, "{text:?}: {found:?}");
            assert!(found[0].starts_with(expected), "{found:?}");
        }
    }

    #[test]
    fn a_program_may_print_and_a_sample_needs_no_header() {
        assert_eq!(messages("xtask/src/b.rs", "//! X.\nprintln!(\"x\");"), [""; 0]);
        assert_eq!(messages("tests/compile-fail/a.rs", "fn main() {}"), [""; 0]);
    }
}
