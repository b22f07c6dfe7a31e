//! What a plan was made against, in a digest: the tenant's ids at both ends, and the structure of their tables. Where the ends
//! are is told in the plan itself, because an SQLite file that is not there yet is planned for by another one of its structure.
//!
//! Rows are not in it, and neither are this project's own triggers, which a transfer itself may add.

use sha2::{Digest as _, Sha256};
use tenantry_realm::TenantKey;

use crate::{
    Endpoint,
    canonical::hex,
    catalog::{Catalog, Details, Table, TableDetails},
};

/// The fingerprint of both ends.
pub(super) fn of(source: (&Endpoint, &Catalog, &Details), target: (&Endpoint, &Catalog, &Details)) -> String {
    let mut digest = Fields::default();
    for (endpoint, catalog, details) in [source, target] {
        let tenant = match &endpoint.tenant {
            TenantKey::Uuid(id) => format!("uuid {id}"),
            TenantKey::BigInt(id) => format!("bigint {id}"),
            TenantKey::Text(id) => format!("text {id}"),
        };
        for text in [catalog.schema.as_str(), &tenant, &endpoint.tenant_column, &details.encoding] {
            digest.field(Some(text));
        }
        let unknown = TableDetails::default();
        for table in catalog.tables.values().chain(catalog.others.values()) {
            add(&mut digest, table, details.tables.get(&table.name).unwrap_or(&unknown));
        }
        for (table, references) in &catalog.unscoped {
            digest.field(Some(table));
            digest.field(Some(references));
        }
        // Behind each end: nothing of the one may pass for something of the other.
        digest.field(None);
    }
    hex(&digest.finish())
}

fn add(digest: &mut Fields, table: &Table, details: &TableDetails) {
    digest.field(None);
    digest.field(Some(&table.name));
    for column in &table.columns {
        let flags = [column.not_null, column.has_default, column.generated, column.identity]
            .map(|flag| if flag { 'y' } else { 'n' });
        digest.field(Some(&format!("column {}", flags.iter().collect::<String>())));
        digest.field(Some(&column.name));
        digest.field(Some(&column.declared));
        for part in [&column.definition, &column.collation, &column.expression] {
            digest.field(part.as_deref());
        }
    }
    let mut list = |what: &str, names: &mut dyn Iterator<Item = &String>| {
        digest.field(Some(what));
        names.for_each(|name| digest.field(Some(name)));
    };
    list("primary key", &mut table.primary_key.iter());
    for unique in &table.unique {
        list("unique", &mut [&unique.name].into_iter().chain(&unique.columns));
    }
    for key in &table.foreign_keys {
        let columns = key.columns.iter().flat_map(|(child, parent)| [child, parent]);
        list("foreign key", &mut [&key.name, &key.parent].into_iter().chain(&key.binds).chain(columns));
    }
    for (what, checks) in [("check", &details.checks), ("exclusion", &details.exclusions)] {
        for check in checks {
            list(what, &mut [&check.name, &check.text].into_iter());
        }
    }
    if let Some(bounds) = &details.partitions {
        list("partitions", &mut bounds.iter());
    }
    list("triggers", &mut table.triggers.iter().filter(|trigger| !trigger.ours).map(|trigger| &trigger.name));
}

/// SHA-256 over texts, each with a flag for none and its length before it, so that no two lists are written as the same bytes.
#[derive(Default)]
struct Fields(Sha256);

impl Fields {
    fn field(&mut self, text: Option<&str>) {
        match text {
            None => self.0.update([0]),
            Some(text) => {
                self.0.update([1]);
                self.0.update((text.len() as u64).to_le_bytes());
                self.0.update(text.as_bytes());
            }
        }
    }

    fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Fields;

    proptest! {
        /// Null and empty, and where one text ends and the next begins, must tell two structures apart.
        #[test]
        fn different_lists_have_different_digests(a in any::<Vec<Option<String>>>(), b in any::<Vec<Option<String>>>()) {
            let digest = |fields: &[Option<String>]| {
                let mut digest = Fields::default();
                fields.iter().for_each(|field| digest.field(field.as_deref()));
                digest.finish()
            };
            prop_assert_eq!(a == b, digest(&a) == digest(&b));
        }
    }
}
