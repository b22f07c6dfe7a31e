//! Two databases without a table in them, and a tenant that moves from one to the other.

use sea_orm::{DbBackend, Statement};
use sea_orm_migration::MigratorTrait;
use tempfile::TempDir;
use tenantry_connection::{DataSourceUrl, Engine, Mode, Pool, PoolOptions, Session};
use tenantry_credential::Login;
use tenantry_migrations::{Migrator, TenantDataSettings, prepare_tenant_data};
use tenantry_realm::TenantKey;
use tenantry_test_support::cluster::{self, Cluster, Database};
use tenantry_transfer::{
    Endpoint, Error, Options, Plan, Refusal, Report, Unwatched,
    copy::{Copying, copy},
    plan, prepare, verify,
};
use tokio::sync::OnceCell;

/// One of the two databases.
pub(super) struct Db {
    pub(super) pool: Pool,
    pub(super) database: Option<Database>,
    _directory: Option<TempDir>,
}

/// Prepared once and copied: preparing takes longer.
static PREPARED: OnceCell<Db> = OnceCell::const_new();

impl Db {
    /// An empty database, prepared for tenants that are uuids.
    pub(super) async fn new(engine: Engine) -> Self {
        match engine {
            Engine::Postgres => {
                let template = PREPARED.get_or_init(|| Self::with(engine, "tenant_id", "uuid")).await;
                let template = template.database.as_ref().unwrap();
                Self::on(template.cluster().create_database_from(template).unwrap())
            }
            Engine::Sqlite => Self::with(engine, "tenant_id", "uuid").await,
        }
    }

    /// An empty database, prepared for tenants of another kind.
    pub(super) async fn with(engine: Engine, tenant_column: &str, tenant_type: &str) -> Self {
        let db = match engine {
            Engine::Postgres => Self::on(Cluster::shared().unwrap().create_database("transfer").unwrap()),
            Engine::Sqlite => {
                let directory = tempfile::tempdir().unwrap();
                let options = PoolOptions { create_if_missing: true, ..PoolOptions::default() };
                let url: DataSourceUrl = format!("sqlite:{}/tenant.db", directory.path().display()).parse().unwrap();
                Self { pool: Pool::new(&url, None, &options).unwrap(), database: None, _directory: Some(directory) }
            }
        };
        let login = db.database.as_ref().map(|database| login_of(&database.service));
        let connection = db.pool.migration_connection(login.as_ref()).await.unwrap();
        let restricted_role =
            db.database.as_ref().map_or_else(String::new, |database| database.restricted.user.clone());
        let settings = TenantDataSettings {
            restricted_role,
            tenant_column: tenant_column.to_owned(),
            tenant_type: tenant_type.to_owned(),
        };
        prepare_tenant_data(&connection, &settings).await.unwrap();
        Migrator::<()>::up(&connection, None).await.unwrap();
        connection.close().await.unwrap();
        db
    }

    pub(super) fn on(database: Database) -> Self {
        let pool = pool_of(&database, &database.service);
        Self { pool, database: Some(database), _directory: None }
    }

    /// This end, for the login that owns the tables.
    pub(super) fn end(&self, tenant: impl Into<TenantKey>) -> Endpoint {
        Endpoint::new(self.pool.clone(), tenant)
    }

    /// As someone with psql or sqlite3 would.
    pub(super) async fn execute(&self, sql: &str) {
        if let Err(error) = self.try_execute(sql).await {
            panic!("{}\n{}", chain(&error), sql.chars().take(1000).collect::<String>());
        }
    }

    pub(super) async fn try_execute(&self, sql: &str) -> Result<(), tenantry_connection::Error> {
        let mut transaction = self.pool.begin(&Session::default(), Mode::Write).await?;
        transaction.execute_raw_sql(sql).await?;
        transaction.commit().await
    }

    /// The texts that a query answers with, as column `t`.
    pub(super) async fn texts(&self, sql: &str) -> Vec<String> {
        let mut transaction = self.pool.begin(&Session::default(), Mode::Write).await.unwrap();
        let backend = match self.pool.engine() {
            Engine::Postgres => DbBackend::Postgres,
            Engine::Sqlite => DbBackend::Sqlite,
        };
        let rows = transaction.query_all(Statement::from_string(backend, sql)).await;
        let rows = rows.unwrap_or_else(|error| panic!("{}\n{sql}", chain(&error)));
        transaction.rollback().await.unwrap();
        rows.iter().map(|row| row.try_get("", "t").unwrap()).collect()
    }

    /// Rows of a table as texts, in the order of these.
    pub(super) async fn rows(&self, from: &str) -> Vec<String> {
        let mut rows = self.texts(&format!("SELECT x::text AS t FROM {from} AS x")).await;
        rows.sort();
        rows
    }
}

/// Two PostgreSQL databases, prepared.
pub(super) async fn two() -> (Db, Db) {
    (Db::new(Engine::Postgres).await, Db::new(Engine::Postgres).await)
}

pub(super) fn pool_of(database: &Database, login: &cluster::Login) -> Pool {
    let url = database.url().parse().unwrap();
    Pool::new(&url, Some(&login_of(login)), &PoolOptions::default()).unwrap()
}

pub(super) fn login_of(login: &cluster::Login) -> Login {
    Login::new(login.user.clone(), login.password.clone()).unwrap()
}

/// What a plan says.
pub(super) async fn planned(source: &Endpoint, target: &Endpoint) -> Plan {
    plan(source, target, &Options::default(), &Unwatched).await.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// What a plan refuses.
pub(super) async fn refused(source: &Endpoint, target: &Endpoint) -> Vec<Refusal> {
    planned(source, target).await.refusals
}

/// Plans, copies and verifies; and once more in place of what was copied, since few rows that nothing stands in the way of go
/// another way.
pub(super) async fn moved(
    source: &Endpoint,
    target: &Endpoint,
    options: &Options,
    copying: Copying,
) -> Result<Report, Error> {
    let prepared = prepare(source, target, options, &Unwatched).await?;
    copy(source, target, &prepared, copying, options, &Unwatched).await?;
    let report = verify(source, target, options, &Unwatched).await?;
    if !report.agrees() {
        return Ok(report);
    }
    let again = Copying { clear: true, ..copying };
    copy(source, target, &prepared, again, options, &Unwatched).await?;
    verify(source, target, options, &Unwatched).await
}

/// Moves the rows, which have to be there afterwards.
#[track_caller]
pub(super) fn agreed(report: Result<Report, Error>) -> Report {
    let report = report.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(report.agrees(), "{}", report.summary());
    report
}

/// An error with its sources, as an operator sees it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}
