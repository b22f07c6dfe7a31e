//! References to tables whose rows are not the tenant's, and are not copied with them: the rows referred to must be in the
//! target already, or come from a reference table that is copied beforehand.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::Statement;
use tenantry_connection::{Engine, Transaction};

use super::{Reference, Refusal, contents::Inspection};
use crate::{
    Error, Side,
    canonical::{self, Stored},
    catalog::ForeignKey,
    kind::Kind,
    quote,
    rows::{backend, comparable, count, is_padded, present, print_key},
};

/// Keys that are looked up at once.
const BATCH: usize = 500;

/// A column that refers, with its position among the columns that are read and its kind in the target; or the tenant column,
/// whose one value is known.
struct Part {
    position: Option<usize>,
    kind: Kind,
    /// Blanks at its end are none of its value.
    padded: bool,
    referred: String,
}

impl Inspection<'_> {
    /// Rows whose parent is not in the target.
    pub(super) async fn outside(
        &mut self,
        from: &mut Transaction,
        to: &mut Transaction,
        key: &ForeignKey,
        side: Side,
    ) -> Result<(), Error> {
        let (own, other) = (&self.structure.source, &self.structure.target);
        let tenant_column = if side == Side::Source { &own.tenant_column } else { &other.tenant_column };
        let mut parts = Vec::new();
        for (child, referred) in &key.columns {
            let referred = referred.clone();
            if child == tenant_column {
                let kind = self.pair.target.column(&other.tenant_column).map_or(Kind::Other, |column| column.kind);
                parts.push(Part { position: None, kind, padded: false, referred });
                continue;
            }
            let position = self.pair.columns.iter().position(|column| column.name == *child);
            // A column that the source does not have gets its default, which is the target's own affair.
            let Some((position, column)) = position.and_then(|at| Some((at, self.pair.columns.get(at)?))) else {
                return Ok(());
            };
            let padded = self.pair.source.column(child).is_some_and(|column| is_padded(&column.declared));
            parts.push(Part { position: Some(position), kind: column.target, padded, referred });
        }
        let tenant = other.tenant.to_string();
        let binds = key.binds.iter().map(|binds| format!(" AND {binds}")).collect::<String>();
        let (mut rows, mut samples) = (0, Vec::new());
        let mut batch: Vec<(String, Vec<String>)> = Vec::new();
        if parts.iter().all(|part| part.position.is_none()) {
            if count(from, &self.pair.source.from, &format!("{}{binds}", own.filter())).await? > 0 {
                batch.push((other.tenant_column.clone(), parts.iter().map(|_| tenant.clone()).collect()));
                rows = self.missing(to, key, &parts, &batch).await?.len() as u64;
                let referenced = tenant.clone();
                samples = batch.into_iter().map(|(key, _)| Reference { key, referenced: referenced.clone() }).collect();
            }
        } else {
            let mut reading = self.structure.reading(Side::Source, self.pair, false);
            reading.filter.push_str(&binds);
            for (child, _) in key.columns.iter().filter(|(child, _)| child != tenant_column) {
                reading.filter.push_str(&format!(" AND {}", present(from.engine(), &quote::identifier(child))));
            }
            let mut stream = reading.open(from).await?;
            loop {
                let row = stream.next().await?;
                if let Some(row) = &row {
                    let values = parts.iter().map(|part| match part.position {
                        None => Some(tenant.clone()),
                        Some(position) => row.values.get(position).cloned().flatten(),
                    });
                    if let Some(values) = values.collect() {
                        batch.push((reading.print_key(row), values));
                    }
                }
                if batch.len() == BATCH || row.is_none() {
                    let missing = self.missing(to, key, &parts, &batch).await?;
                    for (key, values) in batch.drain(..).filter(|(_, values)| missing.contains(values)) {
                        rows += 1;
                        if samples.len() < self.options.samples {
                            let referenced = print_key(values.iter().map(|value| Some(value.as_str())));
                            samples.push(Reference { key, referenced });
                        }
                    }
                }
                if row.is_none() {
                    break;
                }
            }
        }
        if rows > 0 {
            let (table, parent) = (self.pair.name.clone(), key.parent.clone());
            self.refusals.push(Refusal::Dangling { table, parent, side: Side::Target, rows, samples });
        }
        Ok(())
    }

    /// Which of these keys no row of the target's parent has.
    async fn missing(
        &self,
        to: &mut Transaction,
        key: &ForeignKey,
        parts: &[Part],
        batch: &[(String, Vec<String>)],
    ) -> Result<BTreeSet<Vec<String>>, Error> {
        let wanted: BTreeSet<&Vec<String>> = batch.iter().map(|(_, values)| values).collect();
        let wanted: BTreeMap<usize, &Vec<String>> = wanted.into_iter().enumerate().collect();
        if wanted.is_empty() {
            return Ok(BTreeSet::new());
        }
        let engine = to.engine();
        let lookups: Vec<String> = wanted
            .iter()
            .map(|(number, values)| {
                let same = parts.iter().zip(*values).map(|(part, value)| {
                    let column = format!("p.{}", quote::identifier(&part.referred));
                    let value = if part.padded { value.trim_end_matches(' ') } else { value };
                    format!("{} = {}", comparable(engine, &column, part.kind), literal(engine, part.kind, value))
                });
                let same = same.collect::<Vec<_>>().join(" AND ");
                let number = if engine == Engine::Postgres { format!("{number}::bigint") } else { number.to_string() };
                format!("SELECT {number} AS n WHERE NOT EXISTS (SELECT 1 FROM {} AS p WHERE {same})", key.parent_from)
            })
            .collect();
        let doing = "looking for referenced rows in the target";
        let statement = Statement::from_string(backend(engine), lookups.join(" UNION ALL "));
        let mut missing = BTreeSet::new();
        for row in to.query_all(statement).await.map_err(Error::database(doing))? {
            let number: i64 = row.try_get("", "n").map_err(Error::answer(doing))?;
            let values = usize::try_from(number).ok().and_then(|number| wanted.get(&number));
            missing.extend(values.map(|values| (*values).clone()));
        }
        Ok(missing)
    }
}

/// A canonical text as a literal that equals what the column stores.
pub(super) fn literal(engine: Engine, kind: Kind, value: &str) -> String {
    match (engine, kind) {
        (Engine::Postgres, Kind::Bytes) => quote::postgres_literal(&format!("\\x{value}")),
        (Engine::Postgres, _) => quote::postgres_literal(value),
        (Engine::Sqlite, Kind::Uuid) => quote::sqlite_literal(&value.replace('-', "")),
        (Engine::Sqlite, kind) => match canonical::to_sqlite(kind, value) {
            Ok(Stored::Integer(number)) => number.to_string(),
            Ok(Stored::Real(number)) => format!("{number:?}"),
            Ok(Stored::Blob(bytes)) => format!("x'{}'", canonical::hex(&bytes)),
            Ok(Stored::Text(text)) => quote::sqlite_literal(&text),
            // What the column cannot hold equals nothing in it.
            Ok(Stored::Null) | Err(_) => "NULL".to_owned(),
        },
    }
}
