//! Keys that another tenant's row has already in the target. They can only meet in a constraint without the tenant column,
//! which a schema of this project does not have, and older ones do.

use std::collections::BTreeSet;

use sea_orm::Statement;
use tenantry_connection::{Engine, Transaction};

use super::{Refusal, contents::Inspection, outside::literal};
use crate::{
    Error, Side,
    catalog::Unique,
    quote,
    rows::{backend, comparable, count, present},
};

/// Keys that are looked up at once. SQLite takes 500 selects in one statement.
const BATCH: usize = 500;

impl Inspection<'_> {
    /// Rows that a neighbour's row stands in the way of. Says nothing of that row, nor of whose it is.
    pub(super) async fn taken(&mut self, from: &mut Transaction, to: &mut Transaction) -> Result<(), Error> {
        let target = &self.structure.target;
        let mut seen = BTreeSet::new();
        for unique in &self.pair.target.unique {
            let known =
                |name: &String| self.pair.columns.iter().position(|column| column.name == *name && column.copied);
            let positions: Option<Vec<usize>> = unique.columns.iter().map(known).collect();
            let Some(positions) = positions else { continue };
            if unique.columns.contains(&target.tenant_column) || !seen.insert(positions.clone()) {
                continue;
            }
            let others =
                format!("(SELECT 1 FROM {} WHERE NOT ({}) LIMIT 1) AS others", self.pair.target.from, target.filter());
            if count(to, &others, if to.engine() == Engine::Postgres { "true" } else { "1" }).await? == 0 {
                continue;
            }
            let mut reading = self.structure.reading(Side::Source, self.pair, false);
            for name in &unique.columns {
                reading.filter.push_str(&format!(" AND {}", present(from.engine(), &quote::identifier(name))));
            }
            let (mut rows, mut keys, mut batch) = (0, Vec::new(), Vec::new());
            let mut stream = reading.open(from).await?;
            loop {
                let row = stream.next().await?;
                if let Some(row) = &row {
                    let values = positions.iter().map(|position| row.values.get(*position).cloned().flatten());
                    batch
                        .extend(values.collect::<Option<Vec<String>>>().map(|values| (reading.print_key(row), values)));
                }
                if batch.len() == BATCH || (row.is_none() && !batch.is_empty()) {
                    for number in self.found(to, unique, &positions, &batch).await? {
                        rows += 1;
                        if keys.len() < self.options.samples {
                            keys.extend(batch.get(number).map(|(key, _)| key.clone()));
                        }
                    }
                    batch.clear();
                }
                if row.is_none() {
                    break;
                }
            }
            if rows > 0 {
                let (table, constraint) = (self.pair.name.clone(), unique.name.clone());
                self.refusals.push(Refusal::Taken { table, constraint, rows, keys });
            }
        }
        Ok(())
    }

    /// The numbers of those rows whose values another tenant's row has.
    async fn found(
        &self,
        to: &mut Transaction,
        unique: &Unique,
        positions: &[usize],
        batch: &[(String, Vec<String>)],
    ) -> Result<Vec<usize>, Error> {
        let (engine, target) = (to.engine(), &self.pair.target);
        let parts: Vec<_> = unique.columns.iter().zip(positions).collect();
        let others = format!("NOT ({})", self.structure.target.filter());
        let sql = match engine {
            Engine::Postgres => {
                let rows = batch.iter().enumerate().map(|(number, (_, values))| {
                    let values = parts.iter().zip(values).map(|((_, position), value)| {
                        let kind = self.pair.columns.get(**position).map(|column| column.target);
                        literal(engine, kind.unwrap_or(crate::kind::Kind::Other), value)
                    });
                    format!("({number}::bigint, {})", values.collect::<Vec<_>>().join(", "))
                });
                let rows = rows.collect::<Vec<_>>().join(", ");
                let names: String = (0..parts.len()).map(|number| format!(", c{number}")).collect();
                let same = parts.iter().enumerate().map(|(number, (name, _))| {
                    let declared = target.column(name).map_or("text", |column| column.declared.as_str());
                    format!("{} = v.c{number}::{declared}", quote::identifier(name))
                });
                let same = same.collect::<Vec<_>>().join(" AND ");
                format!(
                    "SELECT v.n FROM (VALUES {rows}) AS v (n{names}) WHERE EXISTS (SELECT 1 FROM {} WHERE {same} AND {others}) \
                     ORDER BY v.n",
                    target.from
                )
            }
            Engine::Sqlite => {
                let rows = batch.iter().enumerate().map(|(number, (_, values))| {
                    let same = parts.iter().zip(values).map(|((name, position), value)| {
                        let kind = self.pair.columns.get(**position).map(|column| column.target);
                        let kind = kind.unwrap_or(crate::kind::Kind::Other);
                        let column = comparable(engine, &quote::identifier(name), kind);
                        format!("{column} = {}", literal(engine, kind, value))
                    });
                    let same = same.collect::<Vec<_>>().join(" AND ");
                    format!(
                        "SELECT {number} AS n WHERE EXISTS (SELECT 1 FROM {} WHERE {same} AND {others})",
                        target.from
                    )
                });
                rows.collect::<Vec<_>>().join(" UNION ALL ")
            }
        };
        let doing = "looking for other tenants' rows with the same keys";
        let found = to.query_all(Statement::from_string(backend(engine), sql)).await.map_err(Error::database(doing))?;
        let number = |row: &sea_orm::QueryResult| row.try_get::<i64>("", "n").map_err(Error::answer(doing));
        found.iter().map(|row| number(row).map(|number| usize::try_from(number).unwrap_or(usize::MAX))).collect()
    }
}
