//! The proof that one tenant reaches nothing of another's through an application's own entities.
//!
//! Two tenants in one data source; the first has rows. The second tries every method of the repository on them, by their ids,
//! by their values, and with the first one's id in its own rows. What must come of each attempt is known, and afterwards the
//! first tenant's rows have to be what they were. On PostgreSQL the data source is then measured and attacked as
//! `check-isolation` does, so that a table that the repository never touches is found as well.

use std::fmt;

use futures_util::TryStreamExt;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ColumnType, Condition, IdenStatic, IntoActiveModel, Iterable, ModelTrait,
};
use sea_orm_migration::MigratorTrait;
use tenantry::{
    connection::Engine,
    data_source::{Error as DataSourceError, TenantDb, TenantHandle},
    operations::{IsolationScope, check_isolation},
    realm::TenantEntity,
    repository::{Error, IdValue, Query, RepositoryExt, SearchOptions},
};

use crate::{TestTenant, World, WorldError};

/// One thing that was tried, and what came of it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// What was tried.
    pub what: String,
    /// What it had to come to.
    pub expected: &'static str,
    /// What it came to.
    pub found: String,
}

impl Attempt {
    /// Whether it came to what it had to.
    pub fn holds(&self) -> bool {
        self.found == self.expected
    }
}

/// Everything that was tried on one entity.
#[derive(Debug, Clone)]
pub struct IsolationProof {
    /// The entity's table.
    pub table: String,
    /// What was tried, in order.
    pub attempts: Vec<Attempt>,
}

impl IsolationProof {
    /// Whether every attempt came to what it had to.
    pub fn holds(&self) -> bool {
        self.attempts.iter().all(Attempt::holds)
    }

    /// For tests: ends them with the list where something did not hold.
    ///
    /// # Panics
    /// When an attempt did not come to what it had to.
    #[track_caller]
    pub fn assert(&self) {
        assert!(self.holds(), "{self}");
    }
}

/// A line for each attempt; what does not hold begins with `NO`.
impl fmt::Display for IsolationProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: another tenant's rows", self.table)?;
        for attempt in &self.attempts {
            let holds = if attempt.holds() { "ok" } else { "NO" };
            write!(f, "  {holds} {}: {}", attempt.what, attempt.found)?;
            match attempt.holds() {
                true => writeln!(f)?,
                false => writeln!(f, " (has to be: {})", attempt.expected)?,
            }
        }
        Ok(())
    }
}

impl<M: MigratorTrait> World<M> {
    /// Tries everything on an entity that one tenant could try to reach another's rows. `make` makes a row that can be inserted,
    /// different for every number, for the tenant whose handle it gets; it may insert other rows first that it refers to.
    ///
    /// Ask [`IsolationProof::assert`] of the result in a test.
    ///
    /// # Errors
    /// [`WorldError`] when the attempt itself could not be made, for example because a row could not be inserted.
    pub async fn prove_isolation<E>(
        &mut self,
        make: impl AsyncFn(&TenantDb, usize) -> E::ActiveModel,
    ) -> Result<IsolationProof, WorldError>
    where
        E: TenantEntity,
        E::Model: Clone + PartialEq + Send + Sync + IntoActiveModel<E::ActiveModel>,
        E::ActiveModel: Clone + Send + Sync,
    {
        let table = sea_orm::EntityName::table_name(&E::default()).to_owned();
        let serial = self.count();
        let [owner, other] = self.together(["owner", "other"].map(|role| format!("{role}-{serial}"))).await?;
        let mut rows = Vec::new();
        for number in 0..3 {
            let row = make(&owner.db, number).await;
            rows.push(
                owner.db.repository::<E>().create(row).await.map_err(WorldError::doing("insert the owner's row"))?,
            );
        }
        let own = other.db.repository::<E>().create(make(&other.db, 3).await).await;
        let own = own.map_err(WorldError::doing("insert the other tenant's row"))?;

        let mut proof = Proof::<E> { owner, other, rows, own, attempts: Vec::new() };
        proof.reads().await;
        proof.reads_in_a_transaction().await?;
        proof.writes(&make).await;
        proof.forgeries(&make).await;
        let mut attempts = proof.aftermath().await?;
        if self.engine() == Engine::Postgres {
            attempts.push(self.measured().await?);
        }
        Ok(IsolationProof { table, attempts })
    }

    /// The data source, as `check-isolation` sees it.
    async fn measured(&self) -> Result<Attempt, WorldError> {
        let check = check_isolation(self.tenantry(), &IsolationScope::default()).await?;
        let mut found: Vec<String> = Vec::new();
        for source in &check.data_sources {
            found.extend(source.findings.iter().map(|one| format!("{}: {}", one.finding.object, one.finding.problem)));
        }
        if !check.passed() && found.is_empty() {
            found.push("could not be measured".to_owned());
        }
        let found = if found.is_empty() { "nothing found".to_owned() } else { found.join("; ") };
        Ok(Attempt { what: "measure and attack the data source".to_owned(), expected: "nothing found", found })
    }
}

/// An error that is expected, by what it says.
const NOT_FOUND: &str = "not found";
const FORGED: &str = "refused: another tenant's id";
const NOTHING: &str = "nothing";

struct Proof<E: TenantEntity> {
    owner: TestTenant,
    other: TestTenant,
    rows: Vec<E::Model>,
    own: E::Model,
    attempts: Vec<Attempt>,
}

impl<E> Proof<E>
where
    E: TenantEntity,
    E::Model: Clone + PartialEq + Send + Sync + IntoActiveModel<E::ActiveModel>,
    E::ActiveModel: Clone + Send + Sync,
{
    fn tried(&mut self, what: &str, expected: &'static str, found: String) {
        self.attempts.push(Attempt { what: what.to_owned(), expected, found });
    }

    fn id(&self) -> IdValue {
        IdValue::of::<E>(&self.rows[0])
    }

    /// Which of the owner's rows it is, by every column of its key but the tenant's.
    fn theirs(&self) -> Condition {
        let keys = E::PrimaryKey::iter().map(sea_orm::PrimaryKeyToColumn::into_column);
        let tenant = E::tenant_column();
        let keys = keys.filter(|column: &E::Column| column.as_str() != tenant.as_str());
        keys.fold(Condition::all(), |all, column| all.add(column.eq(self.rows[0].get(column))))
    }

    async fn reads(&mut self) {
        let db = self.other.db.clone();
        for (what, found) in self.read(&db).await {
            self.tried(what, NOTHING, found);
        }
        let own = db.repository::<E>().find_many(&Query::new()).await;
        let mine = vec![self.own.clone()];
        self.tried(
            "find_many without a condition",
            "its own row",
            match own {
                Ok(rows) if rows == mine => "its own row".to_owned(),
                Ok(rows) => format!("{} rows", rows.len()),
                Err(error) => error.to_string(),
            },
        );
    }

    async fn reads_in_a_transaction(&mut self) -> Result<(), WorldError> {
        for read_only in [false, true] {
            let db = &self.other.db;
            let begun = if read_only { db.begin_read().await } else { db.begin().await };
            let transaction = begun.map_err(WorldError::doing("begin a transaction"))?;
            let found = self.read(&transaction).await;
            transaction.rollback().await.map_err(WorldError::doing("roll a transaction back"))?;
            let place = if read_only { "a read transaction" } else { "a transaction" };
            for (what, found) in found {
                self.tried(&format!("{what} in {place}"), NOTHING, found);
            }
        }
        let lease = self.other.db.lease().await.map_err(WorldError::doing("lease a connection"))?;
        for (what, found) in self.read(&lease).await {
            self.tried(&format!("{what} on a lease"), NOTHING, found);
        }
        Ok(())
    }

    /// Every way to read the owner's rows, and what each came to.
    async fn read<H: TenantHandle>(&self, handle: &H) -> Vec<(&'static str, String)> {
        let rows = handle.repository::<E>();
        let theirs = Query::new().filter(self.theirs());
        let some = |count: usize| if count == 0 { NOTHING.to_owned() } else { format!("{count} rows") };
        let mut found = vec![
            ("find_by_id", told(rows.find_by_id(self.id()).await, |row| some(usize::from(row.is_some())))),
            ("find_one", told(rows.find_one(&theirs).await, |row| some(usize::from(row.is_some())))),
            ("find_many", told(rows.find_many(&theirs).await, |rows| some(rows.len()))),
            ("exists", told(rows.exists(self.id()).await, |there| some(usize::from(there)))),
            ("exists_where", told(rows.exists_where(&theirs).await, |there| some(usize::from(there)))),
            ("count", told(rows.count(&theirs).await, |count| some(usize::try_from(count).unwrap_or(usize::MAX)))),
            ("paginate", told(rows.paginate(&theirs, 1, 10).await, |page| some(page.items.len()))),
            ("page_after", told(rows.page_after(&theirs, None, 10).await, |page| some(page.items.len()))),
            ("stream", told(rows.stream(&theirs).try_collect::<Vec<_>>().await, |rows| some(rows.len()))),
        ];
        // Theirs by its tenant: the condition contradicts the predicate that is always there.
        let tenant = E::tenant_column();
        let by_tenant = Query::new().filter(tenant.eq(self.rows[0].get(tenant)));
        found.push(("find_many by the owner's id", told(rows.find_many(&by_tenant).await, |rows| some(rows.len()))));
        for column in E::Column::iter().filter(is_text) {
            if let sea_orm::Value::String(Some(text)) = self.rows[0].get(column) {
                let search = rows.search(SearchOptions::contains(text, [column])).await;
                let without_own = |rows: Vec<E::Model>| some(rows.iter().filter(|row| **row != self.own).count());
                found.push(("search", told(search, without_own)));
            }
        }
        found
    }

    async fn writes(&mut self, make: &impl AsyncFn(&TenantDb, usize) -> E::ActiveModel) {
        let db = self.other.db.clone();
        let rows = db.repository::<E>();
        let changed = without_key::<E>(make(&db, 4).await);
        let none = |count: u64| if count == 0 { NOTHING.to_owned() } else { format!("{count} rows") };
        let update = told(rows.update(self.id(), changed.clone()).await, |_| "the row".to_owned());
        self.tried("update", NOT_FOUND, update);
        let update = told(rows.bulk_update([self.id()], changed.clone()).await, none);
        self.tried("bulk_update", NOTHING, update);
        let update = told(rows.bulk_update_where(self.theirs(), changed).await, none);
        self.tried("bulk_update_where", NOTHING, update);
        let delete = told(rows.delete(self.id()).await, |done| none(u64::from(done)));
        self.tried("delete", NOTHING, delete);
        let delete = told(rows.bulk_delete([self.id()]).await, none);
        self.tried("bulk_delete", NOTHING, delete);
        let delete = told(rows.bulk_delete_where(self.theirs()).await, none);
        self.tried("bulk_delete_where", NOTHING, delete);
    }

    /// Rows of the other tenant's that carry the owner's id.
    async fn forgeries(&mut self, make: &impl AsyncFn(&TenantDb, usize) -> E::ActiveModel) {
        let db = self.other.db.clone();
        let rows = db.repository::<E>();
        let tenant = E::tenant_column();
        let theirs = self.rows[0].get(tenant);
        let forged = async |number| {
            let mut row = make(&db, number).await;
            row.set(tenant, theirs.clone());
            row
        };
        let created = told(rows.create(forged(5).await).await, |_| "a row".to_owned());
        self.tried("create a row of the owner's", FORGED, created);
        let created = told(rows.bulk_create([forged(6).await]).await, |count| format!("{count} rows"));
        self.tried("bulk_create a row of the owner's", FORGED, created);
        let own = IdValue::of::<E>(&self.own);
        let moved = told(rows.update(own, without_id::<E>(forged(7).await)).await, |_| "the row".to_owned());
        self.tried("update its own row to be the owner's", FORGED, moved);
    }

    /// The owner's rows are what they were.
    async fn aftermath(mut self) -> Result<Vec<Attempt>, WorldError> {
        for row in self.rows.clone() {
            let found = self.owner.db.repository::<E>().find_by_id(IdValue::of::<E>(&row)).await;
            let found = found.map_err(WorldError::doing("read the owner's rows"))?;
            let found = match found {
                Some(found) if found == row => "unchanged",
                Some(_) => "changed",
                None => "gone",
            };
            self.tried("the owner's row afterwards", "unchanged", found.to_owned());
        }
        Ok(self.attempts)
    }
}

fn told<T>(result: Result<T, Error>, some: impl FnOnce(T) -> String) -> String {
    match result {
        Ok(value) => some(value),
        Err(Error::NotFound { .. }) => NOT_FOUND.to_owned(),
        Err(Error::DataSource(DataSourceError::ForgedTenant { .. })) => FORGED.to_owned(),
        Err(error) => error.to_string(),
    }
}

fn is_text<C: ColumnTrait>(column: &C) -> bool {
    matches!(column.def().get_column_type(), ColumnType::Text | ColumnType::String(_))
}

/// A change: everything but the tenant and the id.
fn without_key<E: TenantEntity>(row: E::ActiveModel) -> E::ActiveModel {
    let mut row = without_id::<E>(row);
    row.not_set(E::tenant_column());
    row
}

fn without_id<E: TenantEntity>(mut row: E::ActiveModel) -> E::ActiveModel {
    for column in E::PrimaryKey::iter().map(sea_orm::PrimaryKeyToColumn::into_column) {
        if IdenStatic::as_str(&column) != E::tenant_column().as_str() {
            row.not_set(column);
        }
    }
    row
}
