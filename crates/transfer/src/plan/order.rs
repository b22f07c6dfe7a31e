//! Parents before children, and circles together.

use std::collections::{BTreeMap, BTreeSet};

/// Orders tables so that each comes after the tables it refers to, alphabetically where that leaves a choice. Tables that refer
/// to each other in a circle come as one group; most groups are one table. A table that refers to itself is no circle: its
/// rows are written in one statement.
pub(super) fn parents_first(
    tables: &BTreeSet<String>,
    references: &BTreeSet<(String, String)>,
) -> Vec<BTreeSet<String>> {
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
    let above: BTreeMap<&str, BTreeSet<&str>> =
        parents.keys().map(|table| (*table, reached_from(table, &parents))).collect();
    let is_above = |table: &str, other: &str| above.get(table).is_some_and(|above| above.contains(other));
    let mut ordered: Vec<BTreeSet<String>> = Vec::new();
    let mut left: BTreeSet<&str> = parents.keys().copied().collect();
    // A table is next when whatever stands above it has been, or stands above it and below it at once. There always is one.
    while let Some(next) = left.iter().copied().find(|table| {
        above.get(table).into_iter().flatten().all(|parent| !left.contains(parent) || is_above(parent, table))
    }) {
        let group: BTreeSet<&str> = left
            .iter()
            .copied()
            .filter(|other| *other == next || (is_above(next, other) && is_above(other, next)))
            .collect();
        left.retain(|table| !group.contains(table));
        ordered.push(group.into_iter().map(str::to_owned).collect());
    }
    ordered
}

/// Every table that a table refers to, over however many others.
fn reached_from<'a>(table: &str, parents: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&'a str> = parents.get(table).into_iter().flatten().copied().collect();
    while let Some(table) = next.pop() {
        if reached.insert(table) {
            next.extend(parents.get(table).into_iter().flatten().copied());
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(tables: &[&str], references: &[(&str, &str)]) -> Vec<String> {
        let tables = tables.iter().map(|table| (*table).to_owned()).collect();
        let references = references.iter().map(|(child, parent)| ((*child).to_owned(), (*parent).to_owned())).collect();
        let groups = parents_first(&tables, &references).into_iter();
        groups.map(|group| group.into_iter().collect::<Vec<_>>().join("+")).collect()
    }

    #[test]
    fn parents_come_first_and_references_to_itself_or_elsewhere_do_not_matter() {
        assert_eq!(
            order(&["a", "b", "c", "d"], &[("a", "d"), ("d", "b"), ("a", "a"), ("c", "elsewhere")]),
            ["b", "c", "d", "a"]
        );
    }

    #[test]
    fn a_circle_is_one_group_between_what_it_hangs_on_and_what_hangs_on_it() {
        assert_eq!(
            order(
                &["a", "b", "c", "child", "parent", "d", "e"],
                &[
                    ("a", "b"),
                    ("b", "c"),
                    ("c", "a"),
                    ("child", "a"),
                    ("a", "parent"),
                    ("d", "e"),
                    ("e", "d"),
                    ("d", "child")
                ]
            ),
            ["parent", "a+b+c", "child", "d+e"]
        );
    }
}
