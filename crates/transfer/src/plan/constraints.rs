//! Constraints that a PostgreSQL target has and the source has not: tried on the source's rows where their text can be carried
//! over, otherwise named as not tried. The bounds of a partitioned table's partitions are such a constraint.

use std::collections::BTreeSet;

use tenantry_connection::{Engine, Transaction};
use tenantry_realm::TenantKey;

use super::{Note, Refusal, condition, contents::Inspection};
use crate::{
    Error,
    catalog::{Check, TableDetails},
    quote,
    rows::count,
};

/// The longest that one condition may take over the tenant's rows: it is the target's idea, and the source does other work.
const PATIENCE: &str = "60s";

fn known(own: &[Check], check: &Check) -> bool {
    own.iter().any(|own| own.text == check.text && own.validated)
}

/// The constraints of a table whose rows nobody tries: a reference table's, which belong to everybody.
pub(super) fn not_tried(table: &str, (source, target): (&TableDetails, &TableDetails)) -> Option<Note> {
    if target.checked_by.is_some() && target.checked_by != source.checked_by {
        return Some(Note::ChecksNotTried { tables: vec![table.to_owned()] });
    }
    let checks = target.checks.iter().filter(|check| !known(&source.checks, check));
    let exclusions = target.exclusions.iter().filter(|check| !known(&source.exclusions, check));
    let mut constraints: Vec<String> = checks.chain(exclusions).map(|check| check.name.clone()).collect();
    if target.partitions.is_some() && target.partitions != source.partitions {
        constraints.push("its partitions".to_owned());
    }
    (!constraints.is_empty()).then(|| Note::NotChecked { table: table.to_owned(), constraints })
}

impl Inspection<'_> {
    /// Rows that a constraint of the target refuses.
    pub(super) async fn constraints(
        &mut self,
        from: &mut Transaction,
        (source, target): (&TableDetails, &TableDetails),
        notes: &mut Vec<Note>,
    ) -> Result<(), Error> {
        let mut untried: Vec<String> = target
            .exclusions
            .iter()
            .filter(|check| !known(&source.exclusions, check))
            .map(|check| check.name.clone())
            .collect();
        for check in target.checks.iter().filter(|check| !known(&source.checks, check)) {
            let table = self.pair.name.clone();
            match self.breaking(from, &check.text).await? {
                None => untried.push(check.name.clone()),
                Some((0, _)) => {}
                Some((rows, keys)) => {
                    self.refusals.push(Refusal::Check { table, constraint: check.name.clone(), rows, keys });
                }
            }
        }
        if let Some(bounds) = target
            .partitions
            .as_ref()
            .filter(|bounds| source.partitions.as_ref() != Some(bounds) && !has_every_remainder(bounds))
        {
            // A row without a partition is a row that is within no bounds; null bounds are bounds that do not hold.
            let bounds: Vec<String> = bounds.iter().map(|bound| format!("(({bound}) IS TRUE)")).collect();
            let within = if bounds.is_empty() { "false".to_owned() } else { bounds.join(" OR ") };
            match self.breaking(from, &within).await? {
                None => untried.push("its partitions".to_owned()),
                Some((0, _)) => {}
                Some((rows, keys)) => {
                    self.refusals.push(Refusal::NoPartition { table: self.pair.name.clone(), rows, keys });
                }
            }
        }
        if !untried.is_empty() {
            notes.push(Note::NotChecked { table: self.pair.name.clone(), constraints: untried });
        }
        Ok(())
    }

    /// How many rows make the condition false, with some of their keys; `None` where that cannot be told.
    async fn breaking(&self, from: &mut Transaction, text: &str) -> Result<Option<(u64, Vec<String>)>, Error> {
        if self.structure.source.engine != Engine::Postgres {
            return Ok(None);
        }
        let (own, other) = (&self.structure.source, &self.structure.target);
        let tenant_column = self.pair.target.column(&other.tenant_column);
        let column = |name: &str| {
            if name == other.tenant_column {
                let kind = match &other.tenant {
                    TenantKey::Uuid(_) => "uuid",
                    TenantKey::BigInt(_) => "bigint",
                    TenantKey::Text(_) => "text",
                };
                let literal = quote::postgres_literal(&other.tenant.to_string());
                return tenant_column.map(|_| format!("{literal}::{kind}"));
            }
            let copied = self.pair.columns.iter().any(|column| column.name == name && column.copied);
            copied.then(|| quote::identifier(name))
        };
        let types: BTreeSet<&str> = self
            .pair
            .source
            .columns
            .iter()
            .filter(|column| column.definition.is_some())
            .map(|column| column.declared.trim_end_matches("[]"))
            .collect();
        let Some(condition) = condition::translate(text, &column, &types) else { return Ok(None) };
        let broken = format!("{} AND NOT ({condition})", own.filter());
        let doing = "trying a constraint of the target on the source's rows";
        let begin = format!("SAVEPOINT tenantry_condition; SET LOCAL statement_timeout = '{PATIENCE}'");
        from.execute_raw_sql(&begin).await.map_err(Error::database(doing))?;
        let found = match count(from, &self.pair.source.from, &broken).await {
            Ok(0) => Ok((0, Vec::new())),
            Ok(rows) => self
                .samples(from, self.pair.source.from.clone(), broken, &[])
                .await
                .map(|samples| (rows, samples.into_iter().map(|sample| sample.key).collect())),
            Err(error) => Err(error),
        };
        // Whether the condition has no meaning here, takes too long, or the connection is gone: the last shows itself now.
        let end = "ROLLBACK TO SAVEPOINT tenantry_condition; RELEASE SAVEPOINT tenantry_condition";
        from.execute_raw_sql(end).await.map_err(Error::database(doing))?;
        Ok(found.ok())
    }
}

/// Whether a table partitioned by hash has a partition for every remainder, which nothing but the moduli tells.
fn has_every_remainder(bounds: &[String]) -> bool {
    let share = |bound: &String| -> Option<f64> {
        let arguments = bound.strip_prefix("satisfies_hash_partition(")?.strip_suffix(')')?;
        // With another condition behind it there are further levels.
        (!arguments.contains(" AND ")).then_some(())?;
        Some(1.0 / arguments.split(',').nth(1)?.trim().parse::<f64>().ok()?)
    };
    let shares: Option<Vec<f64>> = bounds.iter().map(share).collect();
    shares.is_some_and(|shares| (shares.iter().sum::<f64>() - 1.0).abs() < 1e-9)
}

#[cfg(test)]
mod tests {
    use super::has_every_remainder;

    #[test]
    fn moduli_tell_whether_a_remainder_is_missing() {
        let bounds = |moduli: &[u32]| -> Vec<String> {
            moduli
                .iter()
                .map(|modulus| format!("satisfies_hash_partition('16400'::oid, {modulus}, 0, tenant_id)"))
                .collect()
        };
        assert!(has_every_remainder(&bounds(&[2, 4, 4])));
        assert!(!has_every_remainder(&bounds(&[2, 4])));
        assert!(!has_every_remainder(&[]));
        assert!(!has_every_remainder(&["(a = 1)".to_owned()]));
    }
}
