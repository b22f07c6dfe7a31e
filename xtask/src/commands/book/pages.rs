//! The pages of a built book: what each links to is there, the page and the place on it.
//!
//! tidy looks at the links of the Markdown; here are those that a reader gets, the contents and the included parts among them.
//! Knows enough of HTML for what mdBook writes. Links to the web are not followed.

use std::collections::{BTreeMap, BTreeSet};

use crate::{failure::Failure, workspace::Workspace};

/// One sentence for every link that leads nowhere.
pub(super) fn check(workspace: &Workspace, book: &str) -> Result<Vec<String>, Failure> {
    let mut pages = BTreeMap::new();
    for file in workspace.files(book, ".html")? {
        let text = workspace.read(&file)?;
        pages.insert(file, text);
    }
    let ids: BTreeMap<&str, BTreeSet<&str>> =
        pages.iter().map(|(file, text)| (file.as_str(), attributes(text, "id").collect())).collect();
    let mut wrong = Vec::new();
    for (page, text) in &pages {
        let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
        // The page for whatever is not found is shown under any address, and is written for the root.
        let targets = attributes(text, "href").chain(attributes(text, "src")).filter(|_| !page.ends_with("/404.html"));
        for target in targets.collect::<BTreeSet<_>>() {
            let (path, id) = target.split_once('#').unwrap_or((target, ""));
            if path.contains(':') {
                continue;
            }
            let path = if path.is_empty() { page.clone() } else { format!("{folder}/{path}") };
            if !workspace.exists(&path) {
                wrong.push(format!("{page}: the link to {target} leads nowhere"));
            } else if !id.is_empty() && ids.get(path.as_str()).is_some_and(|ids| !ids.contains(id)) {
                wrong.push(format!("{page}: the link to {target} leads to a page without that place"));
            }
        }
    }
    Ok(wrong)
}

/// The values of an attribute.
fn attributes<'a>(html: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let before = format!(" {name}=\"");
    let starts: Vec<_> = html.match_indices(&before).map(|(at, found)| at + found.len()).collect();
    starts.into_iter().filter_map(|start| html[start..].split('"').next())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    /// Catches a check that is content with whatever it is given.
    #[test]
    fn a_link_to_no_page_or_to_no_place_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(folder.path());
        workspace
            .write("book/a.html", "<h1 id=\"a\"><a class=\"header\" href=\"#a\">A</a> <a href=\"b.html#b\">")
            .unwrap();
        workspace.write("book/b.html", "<h1 id=\"b\"><a href=\"https://x.org/y\"><img src=\"a.html\">").unwrap();
        workspace.write("book/404.html", "<a href=\"none.html\">").unwrap();
        assert_eq!(check(&workspace, "book").unwrap(), [""; 0]);
        workspace.write("book/c.html", "<a href=\"a.html#b\"><a href=\"d.html\"><a href=\"#c\">").unwrap();
        assert_eq!(
            check(&workspace, "book").unwrap(),
            [
                "book/c.html: the link to #c leads to a page without that place",
                "book/c.html: the link to a.html#b leads to a page without that place",
                "book/c.html: the link to d.html leads nowhere",
            ]
        );
    }
}
