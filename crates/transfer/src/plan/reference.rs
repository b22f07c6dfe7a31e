//! Reference tables: tables without a tenant column that tenants' rows refer to, like a list of countries. They belong to
//! everybody, so a transfer leaves them alone unless it is told to copy them; then it copies them whole, and only adds.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use serde::{Deserialize, Serialize};
use tenantry_connection::{Engine, Transaction};

use super::{Note, Pair, Refusal, Structure, order, structure::access_refusals};
use crate::{Error, Options, Side, catalog::ForeignKey, rows::Reading};

/// A reference table to be copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedReference {
    /// Its name, on both sides.
    pub name: String,
    /// Its rows in the source.
    pub rows: u64,
    /// Those of them that the target does not have.
    pub missing: u64,
}

impl Structure {
    /// The reference tables of these names, parents before children.
    pub(crate) fn reference_tables(&self, names: &[String], refusals: &mut Vec<Refusal>) -> Vec<Pair> {
        let across = self.is_across_engines();
        let mut pairs = BTreeMap::new();
        for name in names.iter().collect::<BTreeSet<_>>() {
            let found = (self.source_others.get(name), self.target_others.get(name));
            let problem = match found {
                _ if self.source.tenant_tables.contains(name) => {
                    "it has the tenant column, so only the tenant's rows are copied"
                }
                (None, _) => "the source has no such table whose rows belong to nobody",
                (_, None) => "the target has no such table; migrate it to the schema of the source",
                (Some(source), Some(target)) => {
                    access_refusals(Side::Source, source, refusals);
                    access_refusals(Side::Target, target, refusals);
                    let fires: Vec<String> = target
                        .triggers
                        .iter()
                        .filter(|trigger| trigger.on_insert && trigger.fires && !trigger.ours)
                        .map(|trigger| trigger.name.clone())
                        .collect();
                    if !fires.is_empty() {
                        refusals.push(Refusal::Triggers { table: name.clone(), triggers: fires });
                    }
                    let pair = Pair::match_up(source, target, &self.source, &self.target, across, refusals);
                    pairs.insert(name.clone(), pair);
                    continue;
                }
            };
            refusals.push(Refusal::ReferenceTable { table: name.clone(), problem: problem.to_owned() });
        }
        let tables: BTreeSet<String> = pairs.keys().cloned().collect();
        let references = pairs.iter().flat_map(|(name, pair)| {
            let keys = pair.source.foreign_keys.iter().chain(&pair.target.foreign_keys);
            keys.map(|key| (name.clone(), key.parent.clone()))
        });
        let mut ordered = Vec::new();
        for group in order::parents_first(&tables, &references.collect()) {
            // A transaction's rows arrive table by table, and nobody's rows are worth more than that.
            if let [first, _, ..] = group.iter().collect::<Vec<_>>().as_slice() {
                let problem = "it and other reference tables refer to each other in a circle; fill them in yourself";
                refusals.push(Refusal::ReferenceTable { table: (*first).clone(), problem: problem.to_owned() });
            }
            ordered.extend(group.iter().filter_map(|name| pairs.remove(name)));
        }
        ordered
    }

    /// A foreign key to a table whose rows are nobody's, as the target's names have it; `None` where nothing is to be looked
    /// up, because the rows come along or the table is missing, which is refused once.
    pub(super) fn found_in_target(
        &self,
        side: Side,
        key: &ForeignKey,
        options: &Options,
        refusals: &mut Vec<Refusal>,
    ) -> Option<ForeignKey> {
        if options.reference_tables.contains(&key.parent) {
            return None;
        }
        let found = self.target_others.get(&key.parent);
        if let Some(table) = found.filter(|table| !table.access.select) {
            let missing = format!("select from {}", table.name);
            refusals.push(Refusal::Privilege { side: Side::Target, missing });
            return None;
        }
        if side == Side::Target {
            return Some(key.clone());
        }
        // The application database's own tables stay there.
        self.source_others.get(&key.parent)?;
        let complete =
            |table: &&crate::catalog::Table| key.columns.iter().all(|(_, referred)| table.column(referred).is_some());
        let Some(table) = found.filter(complete) else {
            let problem = "rows of the tenant refer to it, and the target has no such table or not its columns; create it \
                           there, with the rows that are referred to, or have it copied as a reference table";
            let refusal = Refusal::ReferenceTable { table: key.parent.clone(), problem: problem.to_owned() };
            if !refusals.contains(&refusal) {
                refusals.push(refusal);
            }
            return None;
        };
        Some(ForeignKey { parent_from: table.from.clone(), ..key.clone() })
    }

    /// What is told about reference tables that are not copied.
    pub(super) fn referred_to(&self, options: &Options) -> Vec<Note> {
        let mut from: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
        for pair in &self.pairs {
            for key in pair.source.foreign_keys.iter().chain(&pair.target.foreign_keys) {
                let known =
                    self.source_others.contains_key(&key.parent) || self.target_others.contains_key(&key.parent);
                if known && !options.reference_tables.contains(&key.parent) {
                    from.entry(&key.parent).or_default().insert(&pair.name);
                }
            }
        }
        let note = |(table, from): (&String, BTreeSet<&String>)| Note::ReferenceTable {
            table: table.clone(),
            from: from.into_iter().cloned().collect(),
        };
        from.into_iter().map(note).collect()
    }

    /// What to read of a reference table at one end: all of it.
    pub(crate) fn whole(&self, side: Side, pair: &Pair, ordered: bool) -> Reading {
        let filter = match self.shape(side).engine {
            Engine::Postgres => "true".to_owned(),
            Engine::Sqlite => "1".to_owned(),
        };
        Reading { filter, ..self.reading(side, pair, ordered) }
    }
}

/// Compares both sides of a reference table.
pub(super) async fn inspect(
    structure: &Structure,
    pair: &Pair,
    (from, to): (&mut Transaction, &mut Transaction),
    options: &Options,
    refusals: &mut Vec<Refusal>,
) -> Result<PlannedReference, Error> {
    let mut planned = PlannedReference { name: pair.name.clone(), rows: 0, missing: 0 };
    if pair.key.is_none() || !pair.source.access.select || !pair.target.access.select {
        return Ok(planned);
    }
    let reading = structure.whole(Side::Source, pair, true);
    let mut left_rows = reading.open(from).await?;
    let mut right_rows = structure.whole(Side::Target, pair, true).open(to).await?;
    let (mut left, mut right) = (left_rows.next().await?, right_rows.next().await?);
    let (mut different, mut keys) = (0, Vec::new());
    while let Some(row) = &left {
        planned.rows += 1;
        loop {
            match right.as_ref().map(|right| reading.compare(right, row)) {
                Some(Ordering::Less) => right = right_rows.next().await?,
                Some(Ordering::Equal) => {
                    if right.as_ref().is_some_and(|right| right.values != row.values) {
                        different += 1;
                        if keys.len() < options.samples {
                            keys.push(reading.print_key(row));
                        }
                    }
                    break;
                }
                Some(Ordering::Greater) | None => {
                    planned.missing += 1;
                    break;
                }
            }
        }
        left = left_rows.next().await?;
    }
    // To the end, so that the connection may be used again.
    while right.is_some() {
        right = right_rows.next().await?;
    }
    if different > 0 {
        refusals.push(Refusal::ReferenceDiffers { table: pair.name.clone(), rows: different, keys });
    }
    Ok(planned)
}
