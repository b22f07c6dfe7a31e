//! Parents before children.

use std::collections::{BTreeMap, BTreeSet};

/// Orders tables so that each comes after the tables it refers to, alphabetically where that leaves a choice. A table that
/// refers to itself is no obstacle: its rows are written in one statement.
///
/// # Errors
/// The tables of every circle of references, which no order satisfies.
pub(super) fn parents_first(
    tables: &BTreeSet<String>,
    references: &BTreeSet<(String, String)>,
) -> Result<Vec<String>, Vec<String>> {
    let mut parents: BTreeMap<&str, BTreeSet<&str>> =
        tables.iter().map(|table| (table.as_str(), BTreeSet::new())).collect();
    for (child, parent) in references {
        if child != parent
            && tables.contains(parent)
            && let Some(parents) = parents.get_mut(child.as_str())
        {
            parents.insert(parent);
        }
    }
    let mut ordered = Vec::with_capacity(tables.len());
    while let Some(next) = parents.iter().find(|(_, parents)| parents.is_empty()).map(|(table, _)| *table) {
        remove(&mut parents, next);
        ordered.push(next.to_owned());
    }
    // What is left is in a circle or behind one; taking away what nothing refers to leaves the circles.
    while let Some(leaf) = parents.keys().find(|table| !parents.values().any(|of| of.contains(**table))).copied() {
        remove(&mut parents, leaf);
    }
    if parents.is_empty() && ordered.len() == tables.len() {
        Ok(ordered)
    } else {
        Err(parents.into_keys().map(str::to_owned).collect())
    }
}

fn remove<'a>(parents: &mut BTreeMap<&'a str, BTreeSet<&'a str>>, table: &str) {
    parents.remove(table);
    parents.values_mut().for_each(|of| {
        of.remove(table);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(tables: &[&str], references: &[(&str, &str)]) -> Result<Vec<String>, Vec<String>> {
        let tables = tables.iter().map(|table| (*table).to_owned()).collect();
        let references = references.iter().map(|(child, parent)| ((*child).to_owned(), (*parent).to_owned())).collect();
        parents_first(&tables, &references)
    }

    #[test]
    fn parents_come_first_and_references_to_itself_or_elsewhere_do_not_matter() {
        assert_eq!(
            order(&["a", "b", "c", "d"], &[("a", "d"), ("d", "b"), ("a", "a"), ("c", "elsewhere")]),
            Ok(["b", "c", "d", "a"].map(str::to_owned).to_vec())
        );
    }

    #[test]
    fn a_circle_is_named_without_what_merely_hangs_on_it() {
        assert_eq!(
            order(
                &["a", "b", "c", "child", "parent"],
                &[("a", "b"), ("b", "c"), ("c", "a"), ("child", "a"), ("a", "parent")]
            ),
            Err(["a", "b", "c"].map(str::to_owned).to_vec())
        );
    }
}
