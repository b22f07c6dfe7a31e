//! What one lane's rows have to be. A lane is one task of one tenant; it owns ids that no other task of its tenant writes, and that
//! the lanes of the same number of all other tenants have too.

use std::{collections::BTreeMap, sync::Arc};

use sea_orm::{ActiveValue::Set, ColumnTrait, Condition};
use tenantry_entities::notes;
use uuid::Uuid;

/// The rows that are there for certain, by id, with the version of their content.
pub(super) type Rows = BTreeMap<Uuid, u64>;

/// Who a lane is.
#[derive(Debug, Clone)]
pub(super) struct Whose {
    pub(super) tenant: Uuid,
    pub(super) lane: u64,
}

impl Whose {
    /// In every row of the lane, and of the lanes of that number of the other tenants.
    pub(super) fn label(&self) -> String {
        format!(" lane {} of ", self.lane)
    }

    /// The same as an id.
    fn label_id(&self) -> Uuid {
        Uuid::from_u64_pair(self.lane + 1, 0)
    }

    /// The lane's id of this number: every tenant has the same.
    pub(super) fn id(&self, number: u64) -> Uuid {
        Uuid::from_u64_pair(self.lane + 1, number)
    }

    pub(super) fn content(&self, version: u64) -> String {
        format!("{version}{}{}", self.label(), self.tenant)
    }

    pub(super) fn model(&self, id: Uuid, version: u64) -> notes::ActiveModel {
        notes::ActiveModel {
            id: Set(id),
            entity_type: Set("account".to_owned()),
            entity_id: Set(self.label_id()),
            created_by: Set(Some(self.tenant)),
            ..self.change(version)
        }
    }

    pub(super) fn change(&self, version: u64) -> notes::ActiveModel {
        notes::ActiveModel { content: Set(self.content(version)), ..Default::default() }
    }

    /// The lane's rows. Those of the other tenants' lanes of this number meet it as well.
    pub(super) fn condition(&self) -> Condition {
        Condition::all().add(notes::Column::EntityId.eq(self.label_id()))
    }

    /// The lane and the version of a row that is the tenant's own; anything else is a foreign row.
    fn read(&self, row: &notes::Model) -> Result<(u64, u64), String> {
        match parse(&row.content) {
            Some((version, lane, of))
                if [row.tenant_id, of] == [self.tenant; 2] && row.created_by == Some(self.tenant) =>
            {
                Ok((lane, version))
            }
            _ => Err(format!("tenant {} reads a foreign row: {row:?}", self.tenant)),
        }
    }
}

/// The version, the lane and the tenant that a row's content names.
pub(super) fn parse(content: &str) -> Option<(u64, u64, Uuid)> {
    let (version, rest) = content.split_once(" lane ")?;
    let (lane, tenant) = rest.split_once(" of ")?;
    Some((version.parse().ok()?, lane.parse().ok()?, tenant.parse().ok()?))
}

/// A row before and after a write.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Change {
    id: Uuid,
    before: Option<u64>,
    after: Option<u64>,
}

/// Rows whose last write was cancelled while it may have been committed: all of them are as they were before it, or all as after.
#[derive(Debug, Clone)]
struct Doubt(Vec<Change>);

impl Doubt {
    /// What differs between two states.
    fn between(before: &Rows, after: &Rows) -> Self {
        let ids = before.keys().chain(after.keys().filter(|id| !before.contains_key(*id)));
        let changes = ids.map(|id| Change { id: *id, before: before.get(id).copied(), after: after.get(id).copied() });
        Self(changes.filter(|change| change.before != change.after).collect())
    }
}

/// What one lane's rows have to be.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) whose: Whose,
    pub(super) rows: Rows,
    doubts: Arc<Vec<Doubt>>,
}

impl Expected {
    pub(super) fn new(whose: Whose) -> Self {
        Self { whose, rows: Rows::new(), doubts: Arc::default() }
    }

    /// A write that may have been committed and may not. Its rows are left alone from here on: it may still be on its way.
    pub(super) fn doubt(&mut self, after: &Rows) {
        let doubt = Doubt::between(&self.rows, after);
        self.rows.retain(|id, _| doubt.0.iter().all(|change| change.id != *id));
        if !doubt.0.is_empty() {
            Arc::make_mut(&mut self.doubts).push(doubt);
        }
    }

    /// Holds rows that were read to what they can be. `whole` says that they are all rows of the lane.
    pub(super) fn check(&self, read: &[notes::Model], whole: bool) -> Result<(), String> {
        let mut of_lane = Rows::new();
        for row in read {
            let (lane, version) = self.whose.read(row)?;
            if lane == self.whose.lane {
                of_lane.insert(row.id, version);
            } else if whole {
                return Err(format!("a row of another lane was read: {row:?}"));
            }
        }
        self.check_versions(&of_lane, whole)
    }

    fn check_versions(&self, read: &Rows, whole: bool) -> Result<(), String> {
        for (id, version) in read {
            let possible = self.rows.get(id) == Some(version) || self.in_doubt(*id).any(|one| one == Some(*version));
            if !possible {
                return Err(format!("{id} has version {version}, and not {:?}", self.rows.get(id)));
            }
        }
        let missing = self.rows.keys().find(|id| !read.contains_key(*id));
        missing.filter(|_| whole).map_or(Ok(()), |id| Err(format!("{id} is missing")))
    }

    /// Holds a number of rows of the lane to what it can be.
    pub(super) fn check_count(&self, count: u64) -> Result<(), String> {
        let possible = self.doubts.iter().map(|doubt| doubt.0.len()).sum::<usize>();
        let certain = self.rows.len() as u64;
        if (certain..=certain + possible as u64).contains(&count) {
            Ok(())
        } else {
            Err(format!("{count} rows were counted, of {certain} and {possible} in doubt"))
        }
    }

    pub(super) fn check_row(&self, id: Uuid, row: Option<&notes::Model>) -> Result<(), String> {
        let read = row.map(|row| self.whose.read(row)).transpose()?.map(|(_, version)| version);
        let doubtful: Vec<_> = self.in_doubt(id).collect();
        if read == self.rows.get(&id).copied() && doubtful.is_empty() || doubtful.contains(&read) {
            return Ok(());
        }
        Err(format!("{id} has version {read:?}, and not {:?}", self.rows.get(&id)))
    }

    /// Whether a row can be there, or can be missing.
    pub(super) fn may_exist(&self, id: Uuid, exists: bool) -> bool {
        let mut doubtful = self.in_doubt(id).peekable();
        if doubtful.peek().is_some() {
            return doubtful.any(|version| version.is_some() == exists);
        }
        self.rows.contains_key(&id) == exists
    }

    fn in_doubt(&self, id: Uuid) -> impl Iterator<Item = Option<u64>> {
        let of_id = self.doubts.iter().flat_map(|doubt| &doubt.0).filter(move |change| change.id == id);
        of_id.flat_map(|change| [change.before, change.after])
    }

    /// At the end: every row as it has to be, and every write in doubt whole or not at all.
    pub(super) fn check_end(&self, mut found: Rows) -> Result<(), String> {
        for Doubt(changes) in self.doubts.iter() {
            let nothing = changes.iter().all(|change| found.get(&change.id).copied() == change.before);
            let everything = changes.iter().all(|change| found.get(&change.id).copied() == change.after);
            if !nothing && !everything {
                return Err(format!("a cancelled write is half done: {changes:?} in {found:?}"));
            }
            found.retain(|id, _| changes.iter().all(|change| change.id != *id));
        }
        if found == self.rows { Ok(()) } else { Err(format!("the rows are {found:?}, and not {:?}", self.rows)) }
    }
}
