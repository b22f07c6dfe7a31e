//! One call of a repository: chosen at random, made, and held to the model.

use futures_util::TryStreamExt;
use proptest::{prelude::RngExt, test_runner::TestRng};
use sea_orm::{ActiveValue::Set, ColumnTrait, Condition, Order, sea_query::Expr};
use tenantry_data_source::{Engine, Error as DataSourceError, TenantHandle};
use tenantry_entities::notes;
use tenantry_repository::{Error, Query, RepositoryExt, SearchOptions};
use uuid::Uuid;

use super::model::{Expected, Rows, Whose};

/// A lane keeps about so many rows.
const ROWS: usize = 8;

#[derive(Debug, Clone)]
pub(super) enum Step {
    ById(Uuid),
    Exists(Uuid),
    Many,
    Anyones(u64),
    Count,
    ExistsWhere,
    Page(u64, u64),
    Stream,
    Search,
    /// Names another tenant in its condition.
    ReadForeign(Uuid),
    DeleteForeign(Uuid),
    Create(Uuid, u64),
    CreateAgain(Uuid),
    CreateForeign(Uuid),
    Update(Uuid, u64),
    UpdateForeign(Uuid, Uuid),
    UpdateUnknown(Uuid),
    Delete(Uuid),
    BulkCreate(Vec<Uuid>, u64),
    BulkUpdate(Vec<Uuid>, u64),
    BulkUpdateWhere(Vec<Uuid>, u64),
    BulkDelete(Vec<Uuid>),
    BulkDeleteWhere(Vec<Uuid>),
    /// Changes the tenant of the session from within a condition.
    Custom(String),
}

/// What lanes choose with.
pub(super) struct Choice<'a> {
    pub(super) rng: &'a mut TestRng,
    pub(super) tenants: &'a [Uuid],
    /// The next id and the next version that the lane has not used.
    pub(super) next: &'a mut u64,
}

impl Choice<'_> {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    /// Another tenant.
    pub(super) fn victim(&mut self, whose: &Whose) -> Uuid {
        let own = self.tenants.iter().position(|tenant| *tenant == whose.tenant).unwrap();
        let at = own + 1 + self.below(self.tenants.len() - 1);
        self.tenants[at % self.tenants.len()]
    }

    fn next(&mut self) -> u64 {
        *self.next += 1;
        *self.next
    }

    /// An id of the lane: one that it has, has had, or will have.
    fn any_id(&mut self, whose: &Whose) -> Uuid {
        let known = usize::try_from(*self.next).unwrap() + 2;
        whose.id(self.below(known) as u64)
    }

    /// Some of the rows that are there, of which there is one at least.
    fn some(&mut self, rows: &Rows) -> Vec<Uuid> {
        let take = 1 + self.below(rows.len().min(5));
        let skip = self.below(rows.len() + 1 - take);
        rows.keys().copied().skip(skip).take(take).collect()
    }

    fn one(&mut self, rows: &Rows) -> Uuid {
        let at = self.below(rows.len());
        rows.keys().copied().nth(at).unwrap()
    }

    pub(super) fn step(&mut self, whose: &Whose, rows: &Rows) -> Step {
        if self.below(5) < 2 { self.write(whose, rows) } else { self.read(whose, rows) }
    }

    pub(super) fn read(&mut self, whose: &Whose, rows: &Rows) -> Step {
        match self.below(16) {
            0..=3 if !rows.is_empty() => Step::ById(self.one(rows)),
            0..=4 => Step::ById(self.any_id(whose)),
            5 => Step::Exists(self.any_id(whose)),
            6..=7 => Step::Many,
            8 => Step::Anyones(1 + self.below(20) as u64),
            9 => Step::Count,
            10 => Step::ExistsWhere,
            11..=12 => Step::Page(1 + self.below(3) as u64, 1 + self.below(8) as u64),
            13 => Step::Stream,
            14 => Step::Search,
            _ => Step::ReadForeign(self.victim(whose)),
        }
    }

    fn write(&mut self, whose: &Whose, rows: &Rows) -> Step {
        let many = rows.len() > ROWS;
        match self.below(16) {
            0..=2 if !rows.is_empty() => Step::Update(self.one(rows), self.next()),
            3 if !rows.is_empty() => Step::CreateAgain(self.one(rows)),
            4 if !rows.is_empty() => Step::UpdateForeign(self.one(rows), self.victim(whose)),
            5 if !rows.is_empty() => Step::BulkUpdate(self.some(rows), self.next()),
            6 if !rows.is_empty() => Step::BulkUpdateWhere(self.some(rows), self.next()),
            7 if rows.len() > ROWS / 2 => Step::Delete(self.one(rows)),
            8 if many => Step::BulkDelete(self.some(rows)),
            9 if many => Step::BulkDeleteWhere(self.some(rows)),
            10 => Step::CreateForeign(self.victim(whose)),
            11 => Step::DeleteForeign(self.victim(whose)),
            12 => Step::UpdateUnknown(whose.id(u64::MAX)),
            13.. if many => Step::Delete(self.one(rows)),
            14.. => {
                let ids = (0..2 + self.below(4)).map(|_| whose.id(self.next())).collect();
                Step::BulkCreate(ids, self.next())
            }
            _ => Step::Create(whose.id(self.next()), self.next()),
        }
    }
}

impl Step {
    /// What the rows are once the step went through.
    pub(super) fn apply(&self, rows: &mut Rows) {
        match self {
            Self::Create(id, version) | Self::Update(id, version) => drop(rows.insert(*id, *version)),
            Self::BulkCreate(ids, version) | Self::BulkUpdate(ids, version) | Self::BulkUpdateWhere(ids, version) => {
                rows.extend(ids.iter().map(|id| (*id, *version)));
            }
            Self::Delete(id) => drop(rows.remove(id)),
            Self::BulkDelete(ids) | Self::BulkDeleteWhere(ids) => rows.retain(|id, _| !ids.contains(id)),
            _ => {}
        }
    }

    /// Whether the database refuses the step, so that its transaction can only be rolled back.
    pub(super) fn fails_a_transaction(&self) -> bool {
        matches!(self, Self::CreateAgain(_))
    }

    /// Makes the call. The rows of `expected` are those from before it.
    pub(super) async fn run<H: TenantHandle>(&self, handle: &H, expected: &Expected) -> Result<(), String> {
        let whose = &expected.whose;
        let repository = handle.repository::<notes::Entity>();
        let lane = || Query::new().filter(whose.condition());
        let of = |ids: &[Uuid]| whose.condition().add(notes::Column::Id.is_in(ids.iter().copied()));
        let foreign = |victim: Uuid| Condition::all().add(notes::Column::TenantId.eq(victim));
        match self {
            Self::ById(id) => expected.check_row(*id, done(repository.find_by_id(*id).await)?.as_ref()),
            Self::Exists(id) => {
                let exists = done(repository.exists(*id).await)?;
                if expected.may_exist(*id, exists) { Ok(()) } else { Err(format!("{id} exists: {exists}")) }
            }
            Self::Many => expected.check(&done(repository.find_many(&lane()).await)?, true),
            Self::Anyones(limit) => {
                let query = Query::new().order_by(notes::Column::Content, Order::Asc).limit(*limit);
                expected.check(&done(repository.find_many(&query).await)?, false)
            }
            Self::Count => expected.check_count(done(repository.count(&lane()).await)?),
            Self::ExistsWhere => {
                let exists = done(repository.exists_where(&lane()).await)?;
                if exists || expected.rows.is_empty() { Ok(()) } else { Err("no row exists".to_owned()) }
            }
            Self::Page(page, limit) => {
                let page = done(repository.paginate(&lane(), *page, *limit).await)?;
                expected.check_count(page.total)?;
                expected.check(&page.items, false)
            }
            Self::Stream => {
                let rows: Vec<_> = done(repository.stream(&lane()).try_collect().await)?;
                expected.check(&rows, true)
            }
            Self::Search => {
                let options = SearchOptions::contains(whose.label(), [notes::Column::Content]);
                expected.check(&done(repository.search(options).await)?, true)
            }
            Self::ReadForeign(victim) => {
                let either = Condition::any().add(foreign(*victim)).add(whose.condition());
                expected.check(&done(repository.find_many(&Query::new().filter(either)).await)?, true)
            }
            Self::DeleteForeign(victim) => written(repository.bulk_delete_where(foreign(*victim)).await, 0),
            Self::Create(id, version) => {
                let row = done(repository.create(whose.model(*id, *version)).await)?;
                self.stored(&row, *id, expected)
            }
            Self::CreateAgain(id) => match repository.create(whose.model(*id, 0)).await {
                Err(Error::UniqueViolation { .. }) => Ok(()),
                other => Err(format!("a second row of the same id came to {other:?}")),
            },
            Self::CreateForeign(victim) => {
                let forged = notes::ActiveModel { tenant_id: Set(*victim), ..whose.model(whose.id(u64::MAX), 0) };
                forged_is_refused(repository.create(forged).await)
            }
            Self::Update(id, version) => {
                let row = done(repository.update(*id, whose.change(*version)).await)?;
                self.stored(&row, *id, expected)
            }
            Self::UpdateForeign(id, victim) => {
                let forged = notes::ActiveModel { tenant_id: Set(*victim), ..whose.change(0) };
                forged_is_refused(repository.update(*id, forged).await)
            }
            Self::UpdateUnknown(id) => match repository.update(*id, whose.change(0)).await {
                Err(Error::NotFound { .. }) => Ok(()),
                other => Err(format!("an update of no row came to {other:?}")),
            },
            Self::Delete(id) => match done(repository.delete(*id).await)? {
                true => Ok(()),
                false => Err(format!("{id} was not there to be deleted")),
            },
            Self::BulkCreate(ids, version) => {
                let models = ids.iter().map(|id| whose.model(*id, *version));
                written(repository.bulk_create(models.collect::<Vec<_>>()).await, ids.len())
            }
            Self::BulkUpdate(ids, version) => {
                written(repository.bulk_update(ids.clone(), whose.change(*version)).await, ids.len())
            }
            Self::BulkUpdateWhere(ids, version) => {
                written(repository.bulk_update_where(of(ids), whose.change(*version)).await, ids.len())
            }
            Self::BulkDelete(ids) => written(repository.bulk_delete(ids.clone()).await, ids.len()),
            Self::BulkDeleteWhere(ids) => written(repository.bulk_delete_where(of(ids)).await, ids.len()),
            Self::Custom(sql) => {
                let rows = repository.find_many(&lane().filter(Expr::cust(sql.clone()))).await;
                match (rows, handle.engine()) {
                    (Err(Error::DataSource(DataSourceError::CustomExpression { .. })), Engine::Sqlite) => Ok(()),
                    (rows, Engine::Postgres) => expected.check(&done(rows)?, false),
                    (rows, Engine::Sqlite) => Err(format!("SQL text was let through: {rows:?}")),
                }
            }
        }
    }

    /// The row that a write answers with is the one that was written.
    fn stored(&self, row: &notes::Model, id: Uuid, expected: &Expected) -> Result<(), String> {
        let mut expected = expected.clone();
        self.apply(&mut expected.rows);
        expected.check_row(id, Some(row))
    }
}

fn done<T>(result: Result<T, Error>) -> Result<T, String> {
    result.map_err(|error| format!("{error}: {error:?}"))
}

fn written(result: Result<u64, Error>, rows: usize) -> Result<(), String> {
    let written = done(result)?;
    if written == rows as u64 { Ok(()) } else { Err(format!("{written} rows were written, and not {rows}")) }
}

fn forged_is_refused<T: std::fmt::Debug>(result: Result<T, Error>) -> Result<(), String> {
    match result {
        Err(Error::DataSource(DataSourceError::ForgedTenant { .. })) => Ok(()),
        other => Err(format!("a row that names another tenant came to {other:?}")),
    }
}
