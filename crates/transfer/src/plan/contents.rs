//! Every reason that only the rows tell: nulls, duplicates, references to other tenants' rows or to nothing, values without a
//! place in the target. Counts the rows on the way.

use std::collections::{BTreeMap, BTreeSet};

use tenantry_connection::{Engine, Transaction};

use super::{
    Note, Pair, PlannedTable, Reference, Refusal, Structure,
    trial::{Trial, Trials},
};
use crate::{
    Error, Options, Progress, Side,
    canonical::{self, Problem},
    catalog::{Details, ForeignKey, TableDetails},
    kind::Kind,
    quote,
    rows::{Reading, comparable, count, counts, present, print_key},
};

/// Looks at the tenant's rows of every table, and adds what is found to the refusals.
pub(super) async fn inspect(
    structure: &Structure,
    from: &mut Transaction,
    to: &mut Transaction,
    (source, target): (&Details, &Details),
    options: &Options,
    progress: &dyn Progress,
    (refusals, notes): (&mut Vec<Refusal>, &mut Vec<Note>),
) -> Result<Vec<PlannedTable>, Error> {
    let unknown = TableDetails::default();
    let mut tables = Vec::new();
    // A role that cannot read, or not everything, has been refused already; asking would end the snapshot.
    let readable = |table: &crate::catalog::Table| table.access.select && !table.access.filtered;
    let filters = (structure.source.filter(), structure.target.filter());
    let asked = |side: Side| -> Vec<Option<(&str, &str)>> {
        let ends = structure.pairs.iter().map(|pair| match side {
            Side::Source => (&pair.source, filters.0.as_str()),
            Side::Target => (&pair.target, filters.1.as_str()),
        });
        ends.map(|(table, filter)| readable(table).then_some((table.from.as_str(), filter))).collect()
    };
    let (mut here, there) = (asked(Side::Source), asked(Side::Target));
    // A schema has a few references for each table, and hardly any has an answer: all are asked with the counts.
    let readables = structure.pairs.iter().filter(|pair| readable(&pair.source));
    let referring: Vec<Referring<'_>> = readables.flat_map(|pair| within_tenant(structure, pair)).collect();
    here.extend(referring.iter().map(|refers| Some((refers.child.as_str(), refers.not_here.as_str()))));
    let (mut here, there) = tokio::try_join!(counts(from, &here), counts(to, &there))?;
    let lost = here.split_off(structure.pairs.len());
    let lost: Vec<Referring<'_>> =
        referring.into_iter().zip(lost).filter_map(|(refers, rows)| (rows > 0).then_some(refers)).collect();
    let mut trials = Trials::of(to).await?;
    for (pair, (here, already_there)) in structure.pairs.iter().zip(here.into_iter().zip(there)) {
        if already_there > 0 {
            refusals.push(Refusal::RowsInTarget { table: pair.name.clone(), rows: already_there });
        }
        let own = source.tables.get(&pair.name).unwrap_or(&unknown);
        let other = target.tables.get(&pair.name).unwrap_or(&unknown);
        let (mut rows, mut bytes) = (0, 0);
        if readable(&pair.source) {
            rows = here;
            progress.table(&pair.name, rows);
            let mut inspection = Inspection { structure, pair, options, refusals };
            inspection.nulls(from).await?;
            inspection.duplicates(from).await?;
            for refers in lost.iter().filter(|refers| refers.pair.name == pair.name) {
                inspection.lost(from, refers).await?;
            }
            inspection.references_outside(from, to).await?;
            if readable(&pair.target) {
                inspection.taken(from, to).await?;
            }
            inspection.constraints(from, (own, other), notes).await?;
            if structure.is_across_engines() {
                let trial = trials.of_table(structure, pair, (own, other), options.samples);
                bytes = inspection.values(from, trial, notes, progress).await?;
            } else {
                bytes = share(own, rows);
                progress.advance(&pair.name, rows);
            }
        }
        let key = pair.key.iter().flatten().filter_map(|&position| pair.columns.get(position));
        tables.push(PlannedTable {
            name: pair.name.clone(),
            rows,
            bytes,
            already_there,
            log: pair.log,
            key: key.map(|column| column.name.clone()).collect(),
            columns: pair.columns.clone(),
        });
    }
    Ok(tables)
}

/// The tenant's share of what a table takes, by rows; all of it where the server never counted them.
fn share(table: &TableDetails, rows: u64) -> u64 {
    match table.rows {
        _ if rows == 0 => 0,
        Some(all) if all > rows => {
            u64::try_from(u128::from(table.bytes) * u128::from(rows) / u128::from(all)).unwrap_or(u64::MAX)
        }
        _ => table.bytes,
    }
}

/// One table, looked at.
pub(super) struct Inspection<'a> {
    pub(super) structure: &'a Structure,
    pub(super) pair: &'a Pair,
    pub(super) options: &'a Options,
    pub(super) refusals: &'a mut Vec<Refusal>,
}

impl Inspection<'_> {
    /// Rows without a value that the target requires.
    async fn nulls(&mut self, from: &mut Transaction) -> Result<(), Error> {
        let (table, filter) = (self.pair.name.clone(), self.structure.source.filter());
        for column in self.pair.columns.iter().filter(|column| column.copied) {
            let refuses =
                |table: &crate::catalog::Table| table.column(&column.name).is_some_and(|column| column.not_null);
            if !refuses(&self.pair.target) || refuses(&self.pair.source) {
                continue;
            }
            let condition =
                format!("{filter} AND NOT {}", present(self.structure.source.engine, &quote::identifier(&column.name)));
            let rows = count(from, &self.pair.source.from, &condition).await?;
            if rows > 0 {
                let samples = self.samples(from, self.pair.source.from.clone(), condition, &[]).await?;
                let keys = samples.into_iter().map(|sample| sample.key).collect();
                self.refusals.push(Refusal::Null { table: table.clone(), column: column.name.clone(), rows, keys });
            }
        }
        Ok(())
    }

    /// Rows that are alike in what the target wants to be unique and the source does not.
    async fn duplicates(&mut self, from: &mut Transaction) -> Result<(), Error> {
        let without = |columns: &[String], tenant_column: &str| -> BTreeSet<String> {
            columns.iter().filter(|column| *column != tenant_column).cloned().collect()
        };
        let (source, target) = (&self.structure.source, &self.structure.target);
        let kept: Vec<BTreeSet<String>> =
            self.pair.source.unique.iter().map(|unique| without(&unique.columns, &source.tenant_column)).collect();
        let mut seen = BTreeSet::new();
        for unique in &self.pair.target.unique {
            let columns = without(&unique.columns, &target.tenant_column);
            let known = columns.iter().all(|name| self.pair.columns.iter().any(|column| column.name == *name));
            if !known || kept.iter().any(|kept| kept.is_subset(&columns)) || !seen.insert(columns.clone()) {
                continue;
            }
            let expressions: Vec<String> = columns.iter().map(|name| self.comparable(name)).collect();
            let present: String = columns
                .iter()
                .map(|name| format!(" AND {}", present(source.engine, &quote::identifier(name))))
                .collect();
            let group = if expressions.is_empty() { "true".to_owned() } else { expressions.join(", ") };
            let groups = format!(
                "(SELECT 1 AS alike FROM {} WHERE {}{present} GROUP BY {group} HAVING count(*) > 1) AS alike",
                self.pair.source.from,
                source.filter()
            );
            let groups = count(from, &groups, "true").await?;
            if groups > 0 {
                self.refusals.push(Refusal::Duplicate {
                    table: self.pair.name.clone(),
                    constraint: unique.name.clone(),
                    columns: columns.into_iter().collect(),
                    groups,
                });
            }
        }
        Ok(())
    }

    /// References to tables that hold no tenant's rows, by the foreign keys of either side.
    async fn references_outside(&mut self, from: &mut Transaction, to: &mut Transaction) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        for (side, key, columns) in references(self.structure, self.pair) {
            // As within the tenant.
            let is_known = side == Side::Source || key.binds.is_none();
            if is_known
                && !self.structure.source.tenant_tables.contains(&key.parent)
                && seen.insert((&key.parent, &key.binds, columns))
                && let Some(key) = self.structure.found_in_target(side, key, self.options, self.refusals)
            {
                self.outside(from, to, &key, side).await?;
            }
        }
        Ok(())
    }

    /// Rows that refer to no row of this tenant, though to a table of tenants' rows.
    async fn lost(&mut self, from: &mut Transaction, refers: &Referring<'_>) -> Result<(), Error> {
        for foreign in [true, false] {
            let condition = format!("{} AND {}{}", refers.not_here, if foreign { "" } else { "NOT " }, refers.anywhere);
            let rows = count(from, &refers.child, &condition).await?;
            if rows == 0 {
                continue;
            }
            let children: Vec<&str> = refers.columns.iter().map(String::as_str).collect();
            let samples = self.samples(from, refers.child.clone(), condition, &children).await?;
            let (table, parent) = (self.pair.name.clone(), refers.parent.clone());
            self.refusals.push(if foreign {
                Refusal::ForeignTenant { table, parent, rows, samples }
            } else {
                Refusal::Dangling { table, parent, side: Side::Source, rows, samples }
            });
        }
        Ok(())
    }

    /// Values that have no canonical text, or no place in the target's column; the other rows are tried where that is to be.
    /// Returns the bytes of all texts.
    async fn values(
        &mut self,
        from: &mut Transaction,
        mut trial: Option<Trial<'_>>,
        notes: &mut Vec<Note>,
        progress: &dyn Progress,
    ) -> Result<u64, Error> {
        let reading = self.structure.reading(Side::Source, self.pair, false);
        let mut found: BTreeMap<(usize, Problem), (u64, Vec<String>)> = BTreeMap::new();
        let mut stream = reading.open(from).await?;
        let (mut pending, mut bytes) = (0, 0);
        while let Some(row) = stream.next().await? {
            bytes += row.values.iter().flatten().map(|value| value.len() as u64).sum::<u64>();
            let unfit =
                self.pair.columns.iter().zip(&row.values).enumerate().filter_map(|(position, (column, value))| {
                    let value = value.as_deref().filter(|_| column.copied && !column.target_is_other())?;
                    let readable = !row.problems.iter().any(|(problem, _)| *problem == position);
                    let problem = canonical::fits(column.target, self.structure.target.engine, value).err()?;
                    readable.then_some((position, problem))
                });
            let problems: Vec<(usize, Problem)> = row.problems.iter().copied().chain(unfit).collect();
            let sound = problems.is_empty();
            for problem in problems {
                let (rows, keys) = found.entry(problem).or_default();
                *rows += 1;
                if keys.len() < self.options.samples {
                    keys.push(reading.print_key(&row));
                }
            }
            if let Some(trial) = trial.as_mut().filter(|_| sound) {
                trial.row(&reading, row).await;
            }
            pending += 1;
            if pending == 1000 {
                progress.advance(&self.pair.name, pending);
                pending = 0;
            }
        }
        progress.advance(&self.pair.name, pending);
        if let Some(trial) = trial {
            trial.end(&reading, self.refusals, notes).await;
        }
        for ((position, problem), (rows, keys)) in found {
            let column = self.pair.columns.get(position).map(|column| column.name.clone()).unwrap_or_default();
            // A whole column of another type has been refused already, once.
            let table = self.pair.name.clone();
            let refused = |refusal: &Refusal| matches!(refusal, Refusal::TypeDiffers { table: t, column: c, .. } if *t == table && *c == column);
            if !self.refusals.iter().any(refused) {
                self.refusals.push(Refusal::Value { table, column, problem, rows, keys });
            }
        }
        Ok(bytes)
    }

    /// The keys of some rows, and what they refer to by the given columns.
    pub(super) async fn samples(
        &self,
        from: &mut Transaction,
        table: String,
        condition: String,
        referring: &[&str],
    ) -> Result<Vec<Reference>, Error> {
        let whole = self.structure.reading(Side::Source, self.pair, true);
        let column =
            |name: &str| (name.to_owned(), self.pair.source.column(name).map_or(Kind::Other, |column| column.kind));
        let mut columns: Vec<(String, Kind)> =
            whole.key.iter().filter_map(|&position| whole.columns.get(position).cloned()).collect();
        let key = columns.len();
        columns.extend(referring.iter().map(|name| column(name)));
        let reading = Reading {
            from: table,
            filter: condition,
            columns,
            key: (0..key).collect(),
            limit: Some(self.options.samples),
            ..whole
        };
        let mut samples = Vec::new();
        let mut rows = reading.open(from).await?;
        while let Some(row) = rows.next().await? {
            let referenced = print_key(row.values.iter().skip(key).map(Option::as_deref));
            samples.push(Reference { key: reading.print_key(&row), referenced });
        }
        Ok(samples)
    }

    fn comparable(&self, column: &str) -> String {
        let kind = self.pair.source.column(column).map_or(Kind::Other, |column| column.kind);
        comparable(self.structure.source.engine, &quote::identifier(column), kind)
    }
}

impl super::PlannedColumn {
    fn target_is_other(&self) -> bool {
        self.target == Kind::Other
    }
}

/// The foreign keys of either side, with their columns but for the tenant's own, which is the same on both ends of a reference by
/// construction. The target's come first: they say how its tables are read.
fn references<'a>(
    structure: &'a Structure,
    pair: &'a Pair,
) -> impl Iterator<Item = (Side, &'a ForeignKey, Vec<(String, String)>)> {
    let ends = [(Side::Target, &structure.target, &pair.target), (Side::Source, &structure.source, &pair.source)];
    ends.into_iter().flat_map(|(side, shape, table)| {
        table.foreign_keys.iter().map(move |key| {
            let mut columns: Vec<(String, String)> =
                key.columns.iter().filter(|(child, _)| *child != shape.tenant_column).cloned().collect();
            columns.sort();
            (side, key, columns)
        })
    })
}

/// References of one table to a table that holds tenants' rows: the row referred to must be this tenant's.
struct Referring<'a> {
    pair: &'a Pair,
    /// What to read them from.
    child: String,
    parent: String,
    columns: Vec<String>,
    /// Which of them refer to no row of the tenant.
    not_here: String,
    /// Which refer to a row of anybody.
    anywhere: String,
}

fn within_tenant<'a>(structure: &'a Structure, pair: &'a Pair) -> Vec<Referring<'a>> {
    let mut seen = BTreeSet::new();
    references(structure, pair)
        .filter(|(_, key, columns)| !columns.is_empty() && structure.source.tenant_tables.contains(&key.parent))
        // Which rows the target would have in a partition, only the target can tell.
        .filter(|(side, key, _)| *side == Side::Source || key.binds.is_none())
        .filter(|(_, key, columns)| seen.insert((key.parent.clone(), key.binds.clone(), columns.clone())))
        .filter_map(|(_, key, columns)| referring(structure, pair, key, &columns))
        .collect()
}

fn referring<'a>(
    structure: &'a Structure,
    pair: &'a Pair,
    key: &ForeignKey,
    columns: &[(String, String)],
) -> Option<Referring<'a>> {
    let parent = structure.pairs.iter().find(|pair| pair.name == key.parent).map(|pair| &pair.source);
    let parent = parent.filter(|parent| parent.access.select && !parent.access.filtered)?;
    let known = |table: &crate::catalog::Table, name: &str| table.column(name).is_some();
    if !columns.iter().all(|(child, referred)| known(&pair.source, child) && known(parent, referred)) {
        return None;
    }
    let shape = &structure.source;
    let found = |condition: Option<String>| {
        let pairs: Vec<(String, String)> = columns
            .iter()
            .map(|(child, referred)| {
                let kinds = [pair.source.column(child), parent.column(referred)]
                    .map(|column| column.map(|column| (column.kind, column.declared.as_str())));
                let same = kinds[0] == kinds[1];
                let kind = |index: usize| kinds[index].map_or(Kind::Other, |(kind, _)| kind);
                let expression = |alias: &str, name: &str, index: usize| {
                    let expression =
                        comparable(shape.engine, &format!("{alias}.{}", quote::identifier(name)), kind(index));
                    if same || shape.engine == Engine::Sqlite { expression } else { format!("{expression}::text") }
                };
                (expression("c", child, 0), expression("p", referred, 1))
            })
            .collect();
        let mut conditions: Vec<String> = condition.into_iter().collect();
        match shape.engine {
            Engine::Postgres => {
                conditions.extend(pairs.iter().map(|(child, referred)| format!("{referred} = {child}")));
                format!("EXISTS (SELECT 1 FROM {} AS p WHERE {})", parent.from, conditions.join(" AND "))
            }
            // SQLite has no index over these expressions; IN builds one, where EXISTS would read the table per row.
            Engine::Sqlite => {
                conditions.extend(pairs.iter().map(|(_, referred)| format!("{referred} IS NOT NULL")));
                let (children, referred): (Vec<String>, Vec<String>) = pairs.into_iter().unzip();
                format!(
                    "({}) IN (SELECT {} FROM {} AS p WHERE {})",
                    children.join(", "),
                    referred.join(", "),
                    parent.from,
                    conditions.join(" AND ")
                )
            }
        }
    };
    let (here, anywhere) = (found(Some(shape.filter())), found(None));
    let refers: String = columns
        .iter()
        .map(|(child, _)| format!(" AND {}", present(shape.engine, &format!("c.{}", quote::identifier(child)))))
        .collect();
    let binds = key.binds.iter().map(|binds| format!(" AND {binds}")).collect::<String>();
    let child = format!("{} AS c", pair.source.from);

    Some(Referring {
        pair,
        child,
        parent: key.parent.clone(),
        columns: columns.iter().map(|(child, _)| child.clone()).collect(),
        not_here: format!("{}{binds}{refers} AND NOT {here}", shape.filter()),
        anywhere,
    })
}
