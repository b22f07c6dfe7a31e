//! How each method is called in each case, and what its answer comes to. An answer with a foreign row in it comes to nothing: it is
//! reported as what it is.

use futures_util::TryStreamExt;
use sea_orm::{ActiveValue::Set, ColumnTrait, Condition, Order, QueryResult, Value};
use tenantry_data_source::{
    ConnectionError, Error as DataSourceError, TenantDb, TenantHandle, TenantLease, TenantTransaction,
};
use tenantry_entities::{accounts, contacts};
use tenantry_repository::{Error, IdValue, Query, RepositoryExt, SearchOptions};
use uuid::Uuid;

use super::{
    cell::{Case, Effect, Outcome},
    fixture::Fixture,
    methods::Method,
};

/// A call: of which method, in which case, on which rows.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) case: Case,
    pub(super) rows: Fixture,
}

/// What a call came to, or what about it must never be.
pub(super) type Came = Result<Outcome, String>;

const CHANGED: &str = "changed";

impl Call {
    /// The call as a request makes it.
    pub(super) async fn on_database(&self, db: &TenantDb) -> Came {
        match self.method {
            Method::WriteLog => self.write_log(db).await,
            Method::QueryRawSql | Method::ExecuteRawSql => self.to_its_end(db.begin().await).await,
            _ => self.on_handle(db).await,
        }
    }

    /// The call between two reads on one connection.
    pub(super) async fn on_lease(&self, lease: &TenantLease) -> Came {
        let own = || lease.select::<contacts::Entity>().filter(self.marked());
        let before = own().count(lease).await.map_err(told)?;
        let came = match self.method {
            Method::QueryRawSql | Method::ExecuteRawSql => self.to_its_end(lease.begin().await).await?,
            _ => self.on_handle(lease).await?,
        };
        let reading = lease.begin_read().await.map_err(told)?;
        let after = self.all_own(own().all(&reading).await.map_err(told)?.iter().map(whose))?;
        reading.commit().await.map_err(told)?;
        let expected = match self.effect(came) {
            Effect::Nothing | Effect::Changes(_) => before,
            Effect::Creates(ids) => before + ids.len() as u64,
            Effect::Deletes(_) => before - 1,
        };
        match (before, after) {
            (2, after) if after == expected => Ok(came),
            _ => Err(format!("{before} own rows before the call and {after} after it, which came to {came}")),
        }
    }

    /// The call in a transaction of its own, which is rolled back when the call was refused.
    pub(super) async fn to_its_end(&self, begun: Result<TenantTransaction, DataSourceError>) -> Came {
        let transaction = begun.map_err(told)?;
        let came = self.on_transaction(&transaction).await?;
        let ended = if came.is_refusal() { transaction.rollback().await } else { transaction.commit().await };
        ended.map(|()| came).map_err(told)
    }

    pub(super) async fn on_transaction(&self, transaction: &TenantTransaction) -> Came {
        match self.method {
            Method::WriteLog => Ok(Outcome::NotApplicable),
            Method::QueryRawSql => {
                let forged = if self.case == Case::Forged { " OR tenant_id = $3" } else { "" };
                let sql = format!(
                    "SELECT tenant_id, last_name FROM contacts WHERE job_title = $1 AND (id = $2{forged}) ORDER BY id"
                );
                let mut values = vec![self.rows.marker.clone().into(), self.target().into()];
                values.extend((self.case == Case::Forged).then(|| Value::from(self.rows.neighbour)));
                let rows = transaction.query_raw_sql_outside_the_tenant_guard(&sql, values).await;
                self.came(rows.map_err(Error::from), |rows| {
                    let whose = rows
                        .iter()
                        .map(|row: &QueryResult| Ok((row.try_get("", "tenant_id")?, row.try_get("", "last_name")?)));
                    let whose: Result<Vec<(Uuid, String)>, sea_orm::DbErr> = whose.collect();
                    self.all_own(whose.map_err(|error| error.to_string())?).map(Outcome::Rows)
                })
            }
            Method::ExecuteRawSql => {
                let (sql, values): (_, Vec<Value>) = match self.case {
                    Case::Forged => (
                        "INSERT INTO contacts (tenant_id, id, first_name, last_name) VALUES ($1, $2, '', '')",
                        vec![self.rows.neighbour.into(), self.rows.unknown.into()],
                    ),
                    _ => (
                        "UPDATE contacts SET city = $1 WHERE job_title = $2 AND id = $3",
                        vec![CHANGED.into(), self.rows.marker.clone().into(), self.target().into()],
                    ),
                };
                let written = transaction.execute_raw_sql_outside_the_tenant_guard(sql, values).await;
                self.came(written.map_err(Error::from), |written| Ok(Outcome::Written(written)))
            }
            _ => self.on_handle(transaction).await,
        }
    }

    async fn on_handle<H: TenantHandle>(&self, handle: &H) -> Came {
        let contacts = handle.repository::<contacts::Entity>();
        let query = || Query::new().filter(self.condition()).order_by(contacts::Column::Id, Order::Asc);
        match self.method {
            Method::FindById => self.row(contacts.find_by_id(self.id()).await),
            Method::FindOne => self.row(contacts.find_one(&query()).await),
            Method::FindMany => self.rows(contacts.find_many(&query()).await),
            Method::Search => self.rows(contacts.search(self.search()).await),
            Method::Exists => self.came(contacts.exists(self.id()).await, |is| Ok(Outcome::Is(is))),
            Method::ExistsWhere => self.came(contacts.exists_where(&query()).await, |is| Ok(Outcome::Is(is))),
            Method::Count => self.came(contacts.count(&query()).await, |count| Ok(Outcome::Count(count))),
            Method::Paginate => self.came(contacts.paginate(&query(), 1, 10).await, |page| {
                self.all_own(page.items.iter().map(whose)).map(|rows| Outcome::Page(rows, page.total))
            }),
            Method::PageAfter => self.rows(contacts.page_after(&query(), None, 10).await.map(|page| page.items)),
            Method::Stream => self.rows(contacts.stream(&query()).try_collect().await),
            Method::Create => self.row(contacts.create(self.created(self.target())).await.map(Some)),
            Method::Update => self.row(contacts.update(self.target(), self.change()).await.map(Some)),
            Method::Delete => self.came(contacts.delete(self.id()).await, |deleted| Ok(Outcome::Is(deleted))),
            Method::BulkCreate => self.written(contacts.bulk_create(self.two_created()).await),
            Method::BulkUpdate => self.written(contacts.bulk_update(self.two_ids(), self.change()).await),
            Method::BulkUpdateWhere => self.written(contacts.bulk_update_where(self.of_target(), self.change()).await),
            Method::BulkDelete => self.written(match self.case {
                Case::Forged => contacts.bulk_delete([self.id()]).await,
                _ => contacts.bulk_delete(self.two_ids()).await,
            }),
            Method::BulkDeleteWhere => self.written(contacts.bulk_delete_where(self.condition()).await),
            _ => self.scoped(handle).await,
        }
    }

    /// The statements that the repository is made of.
    async fn scoped<H: TenantHandle>(&self, handle: &H) -> Came {
        let select = || handle.select::<contacts::Entity>().filter(self.marked());
        let narrowed = || select().filter(self.condition());
        let update = || handle.update::<contacts::Entity>().set(&self.change()).filter(self.of_target());
        let insert = || handle.insert::<contacts::Entity>(self.two_created());
        match self.method {
            Method::SelectAll => self.rows(narrowed().all(handle).await.map_err(Error::from)),
            Method::SelectOne => self.row(narrowed().one(handle).await.map_err(Error::from)),
            Method::SelectExists => {
                self.came(narrowed().exists(handle).await.map_err(Error::from), |is| Ok(Outcome::Is(is)))
            }
            Method::SelectCount => {
                self.came(narrowed().count(handle).await.map_err(Error::from), |count| Ok(Outcome::Count(count)))
            }
            Method::SelectStream => self.rows(narrowed().stream(handle).try_collect().await.map_err(Error::from)),
            Method::SelectJoin => {
                let joined = select().join::<accounts::Entity>().filter(self.of_account());
                self.rows(joined.all(handle).await.map_err(Error::from))
            }
            Method::SelectLeftJoin => {
                let joined = select().left_join::<accounts::Entity>().filter(self.of_account());
                self.rows(joined.all(handle).await.map_err(Error::from))
            }
            Method::SelectWhereExists => {
                let having = select().where_exists::<accounts::Entity>(self.of_account());
                self.rows(having.all(handle).await.map_err(Error::from))
            }
            Method::SelectWhereNotExists => {
                let lacking = select().where_not_exists::<accounts::Entity>(self.of_account());
                self.rows(lacking.all(handle).await.map_err(Error::from))
            }
            Method::InsertExecute => self.written(insert().execute(handle).await.map_err(Error::from)),
            Method::InsertReturning => self.rows(insert().returning(handle).await.map_err(Error::from)),
            Method::UpdateExecute => self.written(update().execute(handle).await.map_err(Error::from)),
            Method::UpdateReturning => self.rows(update().returning(handle).await.map_err(Error::from)),
            Method::DeleteExecute => {
                let delete = handle.delete::<contacts::Entity>().filter(self.condition());
                self.written(delete.execute(handle).await.map_err(Error::from))
            }
            other => Err(format!("nothing calls {other:?}")),
        }
    }

    async fn write_log(&self, db: &TenantDb) -> Came {
        let entries = db.write_log(100).await.map_err(told)?;
        let own = self.rows.tenant.to_string();
        for entry in &entries {
            for image in [&entry.before, &entry.after].into_iter().flatten() {
                if image["tenant_id"] != own.as_str() {
                    return Err(format!("a foreign entry was read: {entry:?}"));
                }
            }
        }
        if self.case == Case::Forged {
            return Ok(Outcome::NotApplicable);
        }
        let target = self.target().to_string();
        Ok(Outcome::Is(entries.iter().any(|entry| entry.row_id == target)))
    }

    /// What the call does to the tenant's own rows, having come to this.
    pub(super) fn effect(&self, outcome: Outcome) -> Effect {
        match self.method {
            _ if !outcome.wrote() => Effect::Nothing,
            Method::Create => Effect::Creates(vec![self.target()]),
            Method::BulkCreate | Method::InsertExecute | Method::InsertReturning => {
                Effect::Creates(vec![self.rows.spare, self.target()])
            }
            Method::Update
            | Method::BulkUpdate
            | Method::BulkUpdateWhere
            | Method::UpdateExecute
            | Method::UpdateReturning
            | Method::ExecuteRawSql => Effect::Changes(self.target()),
            Method::Delete | Method::BulkDelete | Method::BulkDeleteWhere | Method::DeleteExecute => {
                Effect::Deletes(self.target())
            }
            _ => Effect::Nothing,
        }
    }

    /// The id that the call is about.
    fn target(&self) -> Uuid {
        match (self.case, self.method) {
            (Case::Own | Case::Suspended, _) => self.rows.both,
            (Case::Foreign, _) => self.rows.foreign,
            // A row of the tenant's own that shall become the neighbour's.
            (Case::Forged, Method::Update | Method::BulkUpdate | Method::BulkUpdateWhere) => self.rows.own,
            (Case::Forged, Method::UpdateExecute | Method::UpdateReturning) => self.rows.own,
            (Case::Forged, Method::Create | Method::BulkCreate) => self.rows.unknown,
            (Case::Forged, Method::InsertExecute | Method::InsertReturning) => self.rows.unknown,
            (Case::Forged, _) => self.rows.foreign,
            (Case::Unknown, _) => self.rows.unknown,
        }
    }

    /// The id as a call names it: forged, it names the neighbour too.
    fn id(&self) -> IdValue {
        match self.case {
            Case::Forged => (self.rows.neighbour, self.rows.foreign).into(),
            _ => self.target().into(),
        }
    }

    fn two_ids(&self) -> [Uuid; 2] {
        [self.target(), self.rows.spare]
    }

    fn marked(&self) -> Condition {
        Condition::all().add(contacts::Column::JobTitle.eq(self.rows.marker.as_str()))
    }

    fn of_target(&self) -> Condition {
        self.marked().add(contacts::Column::Id.eq(self.target()))
    }

    /// The rows that the case is about; forged, those of the neighbour.
    fn condition(&self) -> Condition {
        let Case::Forged = self.case else { return self.of_target() };
        let forged = Condition::any()
            .add(contacts::Column::TenantId.eq(self.rows.neighbour))
            .add(contacts::Column::Id.eq(self.rows.foreign));
        self.marked().add(forged)
    }

    /// The same for a contact's account, which has the contact's id.
    fn of_account(&self) -> Condition {
        let Case::Forged = self.case else { return Condition::all().add(accounts::Column::Id.eq(self.target())) };
        Condition::any()
            .add(accounts::Column::TenantId.eq(self.rows.neighbour))
            .add(accounts::Column::Id.eq(self.rows.foreign))
    }

    fn search(&self) -> SearchOptions<contacts::Entity> {
        match self.case {
            Case::Forged => SearchOptions::exact(self.rows.neighbour.to_string(), [contacts::Column::TenantId]),
            _ => SearchOptions::contains(Fixture::name_of(self.target()), [contacts::Column::FirstName]),
        }
    }

    fn created(&self, id: Uuid) -> contacts::ActiveModel {
        let mut model = contacts::ActiveModel {
            id: Set(id),
            first_name: Set(Fixture::name_of(id)),
            last_name: Set(Fixture::label(self.rows.tenant)),
            job_title: Set(Some(self.rows.marker.clone())),
            ..Default::default()
        };
        if self.case == Case::Forged {
            model.tenant_id = Set(self.rows.neighbour);
        }
        model
    }

    /// The first of them is good in every case.
    fn two_created(&self) -> [contacts::ActiveModel; 2] {
        let first = contacts::ActiveModel { tenant_id: Set(self.rows.tenant), ..self.created(self.rows.spare) };
        [first, self.created(self.target())]
    }

    fn change(&self) -> contacts::ActiveModel {
        let mut model = contacts::ActiveModel { city: Set(Some(CHANGED.to_owned())), ..Default::default() };
        if self.case == Case::Forged {
            model.tenant_id = Set(self.rows.neighbour);
        }
        model
    }

    fn row(&self, row: Result<Option<contacts::Model>, Error>) -> Came {
        self.came(row, |row| {
            let found = self.all_own(row.iter().map(whose))?;
            Ok(if found == 0 { Outcome::NoRow } else { Outcome::Row })
        })
    }

    fn rows(&self, rows: Result<Vec<contacts::Model>, Error>) -> Came {
        self.came(rows, |rows| self.all_own(rows.iter().map(whose)).map(Outcome::Rows))
    }

    fn written(&self, written: Result<u64, Error>) -> Came {
        self.came(written, |written| Ok(Outcome::Written(written)))
    }

    fn came<T>(&self, result: Result<T, Error>, answer: impl FnOnce(T) -> Came) -> Came {
        match result {
            Ok(value) => answer(value),
            Err(error) => refusal(&error).ok_or_else(|| format!("{error}: {error:?}")),
        }
    }

    /// How many rows an answer has, all of them the tenant's own and of this run.
    fn all_own(&self, whose: impl IntoIterator<Item = (Uuid, String)>) -> Result<u64, String> {
        let label = Fixture::label(self.rows.tenant);
        whose.into_iter().try_fold(0, |rows, (tenant, of)| {
            if tenant == self.rows.tenant && of == label {
                Ok(rows + 1)
            } else {
                Err(format!("a row of tenant {tenant}, {of}, was read by {}", self.rows.tenant))
            }
        })
    }
}

fn told(error: DataSourceError) -> String {
    format!("{error}: {error:?}")
}

fn whose(row: &contacts::Model) -> (Uuid, String) {
    (row.tenant_id, row.last_name.clone())
}

fn refusal(error: &Error) -> Option<Outcome> {
    match error {
        Error::NotFound { .. } => Some(Outcome::NotFound),
        Error::UniqueViolation { .. } => Some(Outcome::UniqueViolation),
        Error::IdShape { .. } => Some(Outcome::IdShape),
        Error::InvalidSearch { .. } => Some(Outcome::InvalidSearch),
        Error::DataSource(DataSourceError::ForgedTenant { .. }) => Some(Outcome::ForgedTenant),
        Error::DataSource(DataSourceError::RawSqlRefused { .. }) => Some(Outcome::RawSqlRefused),
        Error::DataSource(DataSourceError::Connection(ConnectionError::PermissionDenied { .. })) => {
            Some(Outcome::PermissionDenied)
        }
        _ => None,
    }
}
