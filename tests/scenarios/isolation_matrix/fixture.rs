//! The rows of one run, and how they stand before and after it.
//!
//! ```text
//!              both      own       foreign
//! tenant       contact ─ contact            ┐ each with an account under the same id;
//! neighbour    contact            contact   ┘ both tenants' rows carry the same marker
//! ```
//! Every run has ids of its own: what a cancelled call does late reaches no other run.

use std::collections::BTreeMap;

use sea_orm::{IdenStatic, Iterable};
use tenantry_entities::{accounts, contacts};
use uuid::Uuid;

use super::{cell::Effect, source::Observer};

/// The ids of one run.
#[derive(Debug, Clone)]
pub(super) struct Fixture {
    /// The tenant that calls.
    pub(super) tenant: Uuid,
    /// The one whose rows are in the same tables.
    pub(super) neighbour: Uuid,
    /// In every row of the run, whoever's it is.
    pub(super) marker: String,
    pub(super) both: Uuid,
    pub(super) own: Uuid,
    pub(super) foreign: Uuid,
    pub(super) unknown: Uuid,
    /// Unknown as well, for calls that take two ids.
    pub(super) spare: Uuid,
}

/// A row, by whose it is, its table and its id.
type Key = (Uuid, &'static str, Uuid);

/// The rows of a run, and how many of their writes each tenant's log has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    rows: BTreeMap<Key, String>,
    logged: BTreeMap<Uuid, usize>,
}

impl Fixture {
    /// Rows for as many runs as there are pairs of a tenant and its neighbour, and how they stand.
    pub(super) async fn lay_out<const N: usize>(
        observer: &mut Observer,
        pairs: [(Uuid, Uuid); N],
    ) -> [(Self, Snapshot); N] {
        let fixtures = pairs.map(|(tenant, neighbour)| Self::new(tenant, neighbour));
        let inserts: String = fixtures.iter().map(|fixture| fixture.inserts(observer)).collect();
        observer.run(&format!("BEGIN; {inserts} COMMIT")).await;
        let mut all = read(observer, &fixtures).await;
        fixtures.map(|fixture| {
            let before = fixture.part_of(&mut all);
            assert_eq!(before.rows.len(), 8, "{before:#?}");
            (fixture, before)
        })
    }

    fn new(tenant: Uuid, neighbour: Uuid) -> Self {
        let [both, own, foreign, unknown, spare] = [(); 5].map(|()| Uuid::new_v4());
        Self { tenant, neighbour, marker: Uuid::new_v4().to_string(), both, own, foreign, unknown, spare }
    }

    /// What the tenant's own rows say of themselves, and no other's do.
    pub(super) fn label(tenant: Uuid) -> String {
        format!("of {tenant}")
    }

    /// The same for all rows of this id.
    pub(super) fn name_of(id: Uuid) -> String {
        format!("contact {id}")
    }

    fn inserts(&self, observer: &Observer) -> String {
        let rows = [
            (self.tenant, self.both),
            (self.tenant, self.own),
            (self.neighbour, self.both),
            (self.neighbour, self.foreign),
        ];
        let mut sql = String::new();
        for (whose, id) in rows {
            let (tenant, key, marker, label) =
                (observer.literal(whose), observer.literal(id), &self.marker, Self::label(whose));
            let name = Self::name_of(id);
            sql += &format!(
                "INSERT INTO accounts (tenant_id, id, name, industry) VALUES ({tenant}, {key}, '{label}', '{marker}'); \
                 INSERT INTO contacts (tenant_id, id, account_id, first_name, last_name, job_title) \
                 VALUES ({tenant}, {key}, {key}, '{name}', '{label}', '{marker}');"
            );
        }
        sql
    }

    /// How the rows of this run stand.
    pub(super) async fn look(&self, observer: &mut Observer) -> Snapshot {
        self.part_of(&mut read(observer, std::slice::from_ref(self)).await)
    }

    /// How the rows of every run stand, by the id that they have.
    pub(super) async fn look_at_all(observer: &mut Observer) -> BTreeMap<Uuid, Snapshot> {
        read(observer, &[]).await
    }

    /// The part of this run.
    pub(super) fn part_of(&self, all: &mut BTreeMap<Uuid, Snapshot>) -> Snapshot {
        self.ids().iter().filter_map(|id| all.remove(id)).fold(Snapshot::default(), Snapshot::merged)
    }

    fn ids(&self) -> [Uuid; 5] {
        [self.both, self.own, self.foreign, self.unknown, self.spare]
    }

    /// Holds the rows to what they were: the neighbour's unchanged, the tenant's own changed as said and not further.
    pub(super) fn check(&self, before: &Snapshot, after: &Snapshot, effect: &Effect) -> Result<(), String> {
        let foreign = |snapshot: &Snapshot| {
            let rows = snapshot.rows.iter().filter(|((whose, ..), _)| *whose != self.tenant);
            let rows: Vec<_> = rows.map(|(key, text)| (*key, text.clone())).collect();
            let logged = snapshot.logged.iter().filter(|(whose, _)| **whose != self.tenant);
            (rows, logged.map(|(whose, writes)| (*whose, *writes)).collect::<Vec<_>>())
        };
        if foreign(before) != foreign(after) {
            return Err(format!("a foreign row was changed: {:#?} became {:#?}", foreign(before), foreign(after)));
        }
        let own = |snapshot: &Snapshot| {
            let rows = snapshot.rows.iter().filter(|((whose, ..), _)| *whose == self.tenant);
            rows.map(|((_, table, id), text)| ((*table, *id), text.clone())).collect::<BTreeMap<_, _>>()
        };
        let (mut expected, mut found) = (own(before), own(after));
        let contact = |id: &Uuid| ("contacts", *id);
        let (complete, writes) = match effect {
            Effect::Nothing => (true, 0),
            Effect::Creates(ids) => (ids.iter().all(|id| found.remove(&contact(id)).is_some()), ids.len()),
            Effect::Changes(id) => {
                let (old, new) = (expected.remove(&contact(id)), found.remove(&contact(id)));
                (old.is_some() && new.is_some() && old != new, 1)
            }
            Effect::Deletes(id) => (expected.remove(&contact(id)).is_some(), 1),
        };
        let logged = |snapshot: &Snapshot| snapshot.logged.get(&self.tenant).copied().unwrap_or_default();
        if !complete || expected != found || logged(after) != logged(before) + writes {
            return Err(format!("the effect is not {effect:?}: {before:#?} became {after:#?}"));
        }
        Ok(())
    }
}

impl Snapshot {
    fn merged(mut self, other: Self) -> Self {
        self.rows.extend(other.rows);
        for (whose, writes) in other.logged {
            *self.logged.entry(whose).or_default() += writes;
        }
        self
    }
}

/// The rows of these runs, or of all, in one statement: two would see what a cancelled call did late half.
async fn read(observer: &mut Observer, of: &[Fixture]) -> BTreeMap<Uuid, Snapshot> {
    let (tenant, id) = (observer.text_of("tenant_id"), observer.text_of("id"));
    let literals =
        |ids: &mut dyn Iterator<Item = Uuid>| ids.map(|id| observer.literal(id)).collect::<Vec<_>>().join(", ");
    // The tenants as well, because every index begins with them.
    let tenants = literals(&mut of.iter().flat_map(|rows| [rows.tenant, rows.neighbour]));
    let ids = literals(&mut of.iter().flat_map(Fixture::ids));
    let among = |condition: String| {
        if of.is_empty() { String::new() } else { format!("WHERE tenant_id IN ({tenants}) AND {condition}") }
    };
    let mut parts = Vec::new();
    for table in TABLES {
        let text = observer.row_text(table, &columns_of(table));
        let condition = among(format!("id IN ({ids})"));
        parts.push(format!("SELECT '{table}', {tenant}, {id}, {text} FROM {table} {condition}"));
    }
    let texts: Vec<_> = of.iter().flat_map(Fixture::ids).map(|id| format!("'{id}'")).collect();
    let condition = among(format!("table_name IN ('contacts', 'accounts') AND row_id IN ({})", texts.join(", ")));
    parts.push(format!("SELECT 'write_log', {tenant}, row_id, operation FROM write_log {condition}"));
    let mut found: BTreeMap<Uuid, Snapshot> = BTreeMap::new();
    for row in observer.texts(&parts.join(" UNION ALL ")).await {
        let [table, tenant, id, text] = <[String; 4]>::try_from(row).unwrap();
        let (tenant, id) = (tenant.parse().unwrap(), id.parse().unwrap());
        let snapshot = found.entry(id).or_default();
        match TABLES.iter().find(|known| **known == table) {
            Some(table) => drop(snapshot.rows.insert((tenant, table, id), text)),
            None => *snapshot.logged.entry(tenant).or_default() += 1,
        }
    }
    found
}

const TABLES: [&str; 2] = ["contacts", "accounts"];

fn columns_of(table: &str) -> Vec<&'static str> {
    match table {
        "contacts" => contacts::Column::iter().map(|column| column.as_str()).collect(),
        _ => accounts::Column::iter().map(|column| column.as_str()).collect(),
    }
}
