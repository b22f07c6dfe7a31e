//! How much there is to copy, how long it may take, and whether both servers have room for it and the letters to write it.

use serde::{Deserialize, Serialize};
use tenantry_connection::Engine;

use super::{Note, PlannedTable, Refusal, Structure};
use crate::{Endpoint, Side, catalog::Details};

/// What a copy and its verification get through, both servers being idle and near: bytes of the source's tables each second.
/// Lower than what was measured, since nobody minds being early.
const RATE: u64 = 20 * 1024 * 1024;

/// What a table costs however few rows it has, in milliseconds.
const PER_TABLE: u64 = 10;

/// How much there is to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// The bytes of all tables, each of them an estimate.
    pub bytes: u64,
    /// The bytes a second that are assumed.
    pub rate: u64,
    /// How long copying and verifying may take, in milliseconds. An estimate: what else the servers do, and how far away they
    /// are, is not in it.
    pub milliseconds: u64,
}

impl Estimate {
    pub(super) fn of(tables: &[PlannedTable]) -> Self {
        let bytes: u64 = tables.iter().map(|table| table.bytes).sum();
        let milliseconds = bytes.saturating_mul(1000) / RATE + tables.len() as u64 * PER_TABLE;
        Self { bytes, rate: RATE, milliseconds }
    }
}

/// What the two servers are.
pub(super) fn servers(
    structure: &Structure,
    (source, target): (&Details, &Details),
    refusals: &mut Vec<Refusal>,
    notes: &mut Vec<Note>,
) {
    // What PostgreSQL calls the encoding that is none.
    const ANY: &str = "SQL_ASCII";
    for (side, details) in [(Side::Source, source), (Side::Target, target)] {
        if details.encoding == ANY {
            notes.push(Note::AnyEncoding { side });
        }
    }
    if ![&source.encoding, "UTF8", ANY].contains(&target.encoding.as_str()) {
        refusals.push(Refusal::Encoding { source: source.encoding.clone(), target: target.encoding.clone() });
    }
    if structure.is_across_engines() {
        return;
    }
    if target.number / 10_000 < source.number / 10_000 {
        notes.push(Note::OlderServer { source: source.version.clone(), target: target.version.clone() });
    }
    for pair in &structure.pairs {
        for column in &pair.columns {
            let (Some(own), Some(other)) = (pair.source.column(&column.name), pair.target.column(&column.name)) else {
                continue;
            };
            let (table, column) = (pair.name.clone(), column.name.clone());
            if own.collation != other.collation {
                let name = |collation: &Option<String>| collation.clone().unwrap_or_else(|| "the default".to_owned());
                let (source, target) = (name(&own.collation), name(&other.collation));
                notes.push(Note::Collation { table: table.clone(), column: column.clone(), source, target });
            }
            if other.generated && own.expression != other.expression {
                notes.push(Note::Computed { table, column });
            }
        }
    }
}

/// Whether the target has room: known of a file's file system, not of a server.
pub(super) fn space(target: &Endpoint, estimate: &Estimate, refusals: &mut Vec<Refusal>, notes: &mut Vec<Note>) {
    let free = match target.engine() {
        Engine::Sqlite => target.pool.url().sqlite_path().and_then(free),
        Engine::Postgres => None,
    };
    // Once in the journal, once in the file, and an index for every key.
    let needed = estimate.bytes.saturating_mul(3);
    match free {
        None => notes.push(Note::SpaceUnknown),
        Some(free) if free < needed => refusals.push(Refusal::Space { needed, free }),
        Some(_) => {}
    }
}

#[cfg(unix)]
fn free(file: &std::path::Path) -> Option<u64> {
    let found = rustix::fs::statvfs(file.parent()?).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(not(unix))]
fn free(_: &std::path::Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use tenantry_connection::{Pool, PoolOptions};

    use super::*;

    #[tokio::test]
    async fn a_file_that_would_not_fit_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/tenant.db", directory.path().display()).parse().unwrap();
        let target = Endpoint::new(Pool::new(&url, None, &PoolOptions::default()).unwrap(), uuid::Uuid::nil());
        let of = |bytes| {
            let (mut refusals, mut notes) = (Vec::new(), Vec::new());
            space(&target, &Estimate { bytes, rate: RATE, milliseconds: 0 }, &mut refusals, &mut notes);
            assert_eq!(notes, []);
            refusals
        };
        assert_eq!(of(0), []);
        assert!(matches!(of(u64::MAX / 4)[..], [Refusal::Space { needed, free }] if needed > free));
    }
}
