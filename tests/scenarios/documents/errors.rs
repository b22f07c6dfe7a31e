//! The page about errors is held to the sources: what it quotes is in them, and every error of a library is on it.

use std::path::Path;

use super::page::{Page, root};

const PAGE: &str = "docs/troubleshooting.md";

/// A text in a source file.
struct Literal {
    text: String,
    /// It is what an error type says: it stands in `#[error(…)]`.
    error: bool,
}

impl Literal {
    /// Whether the text has this part. SQL within it doubles its quotes.
    fn says(&self, part: &str) -> bool {
        self.text.contains(part) || (self.text.contains("''") && self.text.replace("''", "'").contains(part))
    }
}

/// Catches a message that was reworded and is looked for in vain.
#[test]
fn what_the_page_quotes_is_in_the_sources() {
    let literals = literals();
    let page = Page::read(PAGE);
    let quoted = quoted(page.text());
    assert!(quoted.len() > 150, "{PAGE} quotes {} messages only", quoted.len());
    let mut wrong = Vec::new();
    for message in &quoted {
        let fragments: Vec<&str> = message.split('…').map(plain_ends).filter(|part| !part.is_empty()).collect();
        let telling = fragments.iter().map(|part| part.len()).max().unwrap_or_default();
        if telling < 6 {
            wrong.push(format!("{message:?} quotes too little to be found"));
        }
        for part in fragments.iter().filter(|part| !literals.iter().any(|literal| literal.says(part))) {
            wrong.push(format!("{message:?}: no source says {part:?}"));
        }
    }
    assert!(wrong.is_empty(), "{PAGE}:\n{}", wrong.join("\n"));
}

/// Catches an error that nobody explained.
#[test]
fn every_error_is_on_the_page() {
    let page = Page::read(PAGE);
    let quoted = quoted(page.text());
    let missing: Vec<String> = literals()
        .into_iter()
        .filter(|literal| literal.error)
        .filter(|literal| {
            let longest = parts_of_template(&literal.text).max_by_key(|part| part.len()).unwrap_or_default().to_owned();
            longest.len() >= 6 && !quoted.iter().any(|message| message.contains(&longest))
        })
        .map(|literal| literal.text)
        .collect();
    assert!(missing.is_empty(), "{PAGE} does not explain:\n{}", missing.join("\n"));
}

/// What a message says literally: between its placeholders, and around quotes that a page cannot show within its own.
fn parts_of_template(template: &str) -> impl Iterator<Item = &str> {
    template.split(['{', '`']).map(|part| part.split_once('}').map_or(part, |(_, after)| after)).map(plain_ends)
}

/// Without the punctuation that joins a part to its neighbours.
fn plain_ends(text: &str) -> &str {
    text.trim_matches(|character: char| !character.is_alphanumeric())
}

/// The messages that the page is keyed by: headings, and first cells of tables, that are code. `…` stands for what differs.
fn quoted(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let heading = line.strip_prefix("### `").and_then(|rest| rest.strip_suffix('`'));
            let cell = || line.strip_prefix("| `").and_then(|rest| rest.split_once("` |")).map(|(cell, _)| cell);
            heading.or_else(cell).map(str::to_owned)
        })
        .collect()
}

/// Every text in the sources of the libraries, the migrations and the commands.
fn literals() -> Vec<Literal> {
    let mut found = Vec::new();
    for folder in ["crates", "migrations/src", "xtask/src"] {
        read_folder(&root().join(folder), &mut found);
    }
    assert!(found.iter().filter(|literal| literal.error).count() > 100, "the sources were not found");
    found
}

fn read_folder(folder: &Path, found: &mut Vec<Literal>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && name != "tests" {
            read_folder(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests.rs" {
            let library = !path.starts_with(root().join("xtask"));
            read_source(&std::fs::read_to_string(&path).unwrap(), library, found);
        }
    }
}

/// Finds the string literals. A lexer for as much of Rust as matters: comments, quotes as characters, plain and raw strings.
fn read_source(text: &str, library: bool, found: &mut Vec<Literal>) {
    // Tests quote messages, too, and would keep a text alive that nothing says any more.
    let begin = text.match_indices("#[cfg(test)]\nmod ").find(|(at, _)| {
        let line = text[*at..].lines().nth(1).unwrap_or_default();
        line.ends_with('{')
    });
    let text = begin.map_or(text, |(at, _)| &text[..at]);
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let raw = rest.strip_prefix('r').map(|after| after.len() - after.trim_start_matches('#').len());
        if rest.starts_with("//") {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(character) = ["'\"'", "'\\\"'", "'\\''"].iter().find(|quote| rest.starts_with(**quote)) {
            rest = &rest[character.len()..];
        } else if let Some(marks) = raw.filter(|marks| rest[1 + marks..].starts_with('"')) {
            let end = format!("\"{}", "#".repeat(marks));
            let (literal, after) = rest[2 + marks..].split_once(&end).unwrap_or_default();
            found.push(Literal { text: literal.to_owned(), error: false });
            rest = after;
        } else if next == '"' {
            let before = &text[..text.len() - rest.len()];
            let error = library && before.trim_end().ends_with("#[error(");
            let (literal, after) = quoted_literal(&rest[1..]);
            found.push(Literal { text: literal, error });
            rest = after;
        } else {
            rest = &rest[next.len_utf8()..];
        }
    }
}

/// A literal from behind its opening quote, and what follows its closing one.
fn quoted_literal(text: &str) -> (String, &str) {
    let mut literal = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return (literal, characters.as_str()),
            '\\' => match characters.next() {
                // A line that goes on: the line ending and the indentation after it are not part of the text.
                Some('\n') => characters = characters.as_str().trim_start().chars(),
                Some('n') => literal.push('\n'),
                Some(other) => literal.push(other),
                None => break,
            },
            other => literal.push(other),
        }
    }
    (literal, "")
}
