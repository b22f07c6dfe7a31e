//! Links between documents: the file exists, the heading exists, and a page of the book leads to no place outside the book.
//!
//! ```text
//! ](isolation.md#what-is-measured)     docs/isolation.md has a heading of that name
//! {{#include ../SECURITY.md:keys}}     SECURITY.md has the part that ANCHOR and ANCHOR_END stand around
//! ```
//! Anchors are those that mdBook makes; the forge's are the same for the headings of these documents. Links to the web are
//! not followed.

use std::collections::{BTreeMap, BTreeSet};

use super::{beside, outside_fences};
use crate::{failure::Failure, tidy::Finding, workspace::Workspace};

/// The folder of the book's pages, and the page that lists them.
const BOOK: &str = "docs/";
const CONTENTS: &str = "docs/SUMMARY.md";
const INCLUDE: &str = "{{#include ";

pub(super) fn check(workspace: &Workspace, documents: &[String]) -> Result<Vec<Finding>, Failure> {
    let mut texts = BTreeMap::new();
    for document in documents {
        texts.insert(document.as_str(), workspace.read(document)?);
    }
    let mut findings = Vec::new();
    let mut linked = BTreeSet::new();
    let mut listed = BTreeSet::new();
    for (document, text) in &texts {
        for (index, target) in links(text) {
            let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
            if path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            let path = if path.is_empty() { (*document).to_owned() } else { beside(document, path) };
            let mut say = |message: String| findings.push(Finding::at(document, index, message));
            if !workspace.exists(&path) {
                say(format!("the link to {target} leads nowhere"));
            } else if document.starts_with(BOOK) && !path.starts_with(BOOK) {
                say(format!("the link to {target} leads out of the book; name the file in backticks instead"));
            } else if !fragment.is_empty()
                && texts.get(path.as_str()).is_some_and(|text| !anchors(text).contains(fragment))
            {
                say(format!("{path} has no heading #{fragment}"));
            }
            if *document == CONTENTS {
                listed.insert(path.clone());
            }
            if path != *document {
                linked.insert(path);
            }
        }
        findings.extend(check_includes(workspace, document, text)?);
    }
    let pages = texts.keys().filter(|document| document.starts_with(BOOK));
    for page in pages {
        if !linked.contains(*page) {
            findings.push(Finding::in_file(page, "no other document links to this page"));
        }
        if *page != CONTENTS && !listed.contains(*page) {
            findings.push(Finding::in_file(page, format!("{CONTENTS} does not list this page")));
        }
    }
    Ok(findings)
}

/// Where each link leads, with the index of its line.
fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    outside_fences(text).flat_map(|(index, line)| {
        line.match_indices("](").map(move |(at, opening)| {
            let target = &line[at + opening.len()..];
            (index, &target[..target.find([')', ' ']).unwrap_or(target.len())])
        })
    })
}

/// The ids of a page's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    headings(text).into_iter().map(|(_, _, id)| id).collect()
}

/// The headings of a page: index of the line, text, and the id that mdBook gives it. That is the text in lower case, letters,
/// digits, `-` and `_` alone, blanks as `-`, and a number behind what would be there twice.
pub(crate) fn headings(text: &str) -> Vec<(usize, String, String)> {
    let mut found: Vec<(usize, String, String)> = Vec::new();
    for (index, line) in outside_fences(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let title = shown(heading).trim().to_owned();
        let id: String = title
            .to_lowercase()
            .chars()
            .filter_map(|c| match c {
                c if c.is_alphanumeric() || matches!(c, '_' | '-') => Some(c),
                c if c.is_whitespace() => Some('-'),
                _ => None,
            })
            .collect();
        let numbered = (1..).map(|number| format!("{id}-{number}"));
        let unused = [id.clone()].into_iter().chain(numbered).find(|id| found.iter().all(|(_, _, other)| other != id));
        found.push((index, title, unused.unwrap_or(id)));
    }
    found
}

/// A heading as it is read: of a link its text alone.
fn shown(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading;
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(before);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    text + rest
}

/// What a page takes from another document is there.
fn check_includes(workspace: &Workspace, document: &str, text: &str) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some(target) = line.trim().strip_prefix(INCLUDE).and_then(|rest| rest.strip_suffix("}}")) else { continue };
        let (path, part) = target.split_once(':').unwrap_or((target, ""));
        let path = beside(document, path);
        if !workspace.exists(&path) {
            findings.push(Finding::at(document, index, format!("{path}, which is included here, does not exist")));
            continue;
        }
        let included = workspace.read(&path)?;
        let marked = |mark: &str| included.lines().any(|line| line.trim() == format!("<!-- {mark}: {part} -->"));
        let found = part.is_empty() || (marked("ANCHOR") && marked("ANCHOR_END"));
        if !found {
            findings.push(Finding::at(document, index, format!("{path} has no part {part:?} between two marks")));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches anchors that differ from the book's, with which every link would be held to the wrong ids.
    #[test]
    fn headings_have_the_ids_that_mdbook_gives_them() {
        let text = "# A `code` & more\n```sh\n# no heading\n```\n## 9. Go gradually\n### [Link](x.md#y) Ä\n## Twice\n## Twice\n\
                    #no heading\n### `a … b`, c_d\n";
        let expected = ["9-go-gradually", "a--b-c_d", "a-code--more", "link-ä", "twice", "twice-1"];
        assert_eq!(anchors(text).iter().map(String::as_str).collect::<Vec<_>>(), expected);
    }
}
