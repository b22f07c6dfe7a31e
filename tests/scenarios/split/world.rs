//! The single database that the CRM had, as the application database of an installation, and an empty data source.

use std::sync::Mutex;

use sea_orm::{DbBackend, QueryResult, Statement};
use sea_orm_migration::MigratorTrait;
use tempfile::TempDir;
use tenantry_app_db::{AppDb, NewPlacement, entities::transfers};
use tenantry_connection::{Actor, DataSourceUrl, Engine, Mode, Pool, PoolOptions, Session, Transaction};
use tenantry_credential::Login;
use tenantry_migrations::{AppDbMigrator, TenantDataMigrator, TenantDataSettings, prepare_tenant_data};
use tenantry_test_support::{
    cluster::{self, Cluster, Database},
    sample::{self, SampleTenant},
};
use tenantry_transfer::{
    Done, Endpoint, Error, Options, Outcome, Progress, Report, Request, Step, Transfer, Unwatched,
};
use tokio::sync::{OnceCell, watch};

/// Every pair of engines.
pub(super) const PAIRS: [(Engine, Engine); 4] = [
    (Engine::Postgres, Engine::Postgres),
    (Engine::Sqlite, Engine::Sqlite),
    (Engine::Postgres, Engine::Sqlite),
    (Engine::Sqlite, Engine::Postgres),
];

/// Looks like a sealed login; nothing here opens it.
const SEALED: &str = "v1:default:aXZpdml2:dGFndGFn:c2VhbGVk";

pub(super) struct World {
    pub(super) app_db: AppDb,
    pub(super) source: Db,
    pub(super) target: Db,
    _directory: TempDir,
}

/// One of the two databases.
pub(super) struct Db {
    pub(super) pool: Pool,
    pub(super) database: Option<Database>,
}

impl World {
    /// The sample in a database that has become the application database, and a migrated target.
    pub(super) async fn new(source: Engine, target: Engine) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster::shared().unwrap();
        let source = match source {
            Engine::Postgres => SINGLE.get_or_init(|| Db::single(source, &cluster, &directory)).await.copy(),
            Engine::Sqlite => Db::single(source, &cluster, &directory).await,
        };
        let target = match target {
            Engine::Postgres => TARGET.get_or_init(|| Db::target(target, &cluster, &directory)).await.copy(),
            Engine::Sqlite => Db::target(target, &cluster, &directory).await,
        };
        Self { app_db: AppDb::new(source.pool.clone()), source, target, _directory: directory }
    }

    /// The same with the target on a server that may be taken down.
    pub(super) async fn with_target_on(cluster: &Cluster, source: Engine) -> Self {
        let mut world = Self::new(source, Engine::Sqlite).await;
        world.target = Db::target(Engine::Postgres, cluster, &world._directory).await;
        world
    }

    /// The request to move a tenant of the sample.
    pub(super) async fn request(&self, tenant: &SampleTenant) -> Request<'_> {
        let sealed = self.target.database.is_some().then(|| SEALED.to_owned());
        let placement = NewPlacement {
            url: Some(self.target.pool.url().clone()),
            anon_key: sealed.clone(),
            service_key: sealed,
            ..NewPlacement::default()
        };
        Request {
            app_db: &self.app_db,
            tenant: tenant.id,
            source: Endpoint::new(self.source.pool.clone(), tenant.id),
            target: Endpoint::new(self.target.pool.clone(), tenant.id),
            expected_epoch: self.app_db.placement(tenant.id).await.unwrap().unwrap().epoch,
            from: NewPlacement::default(),
            to: placement,
            data_source: None,
            actor: Actor::default(),
            options: Options::default(),
        }
    }

    /// The request to move a tenant on that is in a data source already, as the application database is told here.
    pub(super) async fn request_from(&self, tenant: &SampleTenant, source: Pool) -> Request<'_> {
        let mut request = self.request(tenant).await;
        let from = NewPlacement { url: Some(source.url().clone()), ..request.to.clone() };
        let placed = self.app_db.place(tenant.id, request.expected_epoch, &from, &Actor::default()).await;
        request.expected_epoch = placed.unwrap();
        request.from = from;
        request.source = Endpoint::new(source, tenant.id);
        request
    }

    /// Splits a tenant off and answers with what was found.
    pub(super) async fn split(&self, tenant: &SampleTenant) -> Report {
        placed(self.request(tenant).await.run(&Unwatched).await)
    }

    /// Takes the tenant's last transfer back: undoes it where it is under way, brings the tenant back where it has finished.
    pub(super) async fn rollback(&self, tenant: &SampleTenant, progress: &dyn Progress) -> Result<Done, Error> {
        let record = self.app_db.transfers(Some(tenant.id), 9).await.unwrap();
        let record = record.into_iter().find(|transfer| transfer.undoes.is_none()).expect("a transfer");
        let Request { app_db, source, target, actor, options, .. } = self.request(tenant).await;
        let transfer = Transfer { app_db, record, source, target, actor, options };
        match transfer.record.step.is_under_way() {
            true => transfer.abort(progress).await,
            false => transfer.rollback(progress).await,
        }
    }

    /// A recorded transfer in the other direction.
    pub(super) async fn returning(&self, tenant: &SampleTenant, record: transfers::Model) -> Transfer<'_> {
        let Request { app_db, source, target, actor, options, .. } = self.request(tenant).await;
        Transfer { app_db, record, source: target, target: source, actor, options }
    }

    pub(super) async fn verify(&self, tenant: &SampleTenant) -> Report {
        self.request(tenant).await.verify(&Unwatched).await.unwrap()
    }

    /// The data source that the application database names for the tenant.
    pub(super) async fn placed_at(&self, tenant: &SampleTenant) -> Option<String> {
        self.app_db.placement(tenant.id).await.unwrap().unwrap().url
    }
}

/// Made once and copied for each world: copying a database takes a tenth of the time of migrating one.
static SINGLE: OnceCell<Db> = OnceCell::const_new();
static TARGET: OnceCell<Db> = OnceCell::const_new();

impl Db {
    /// The sample, adopted as the application database.
    async fn single(engine: Engine, cluster: &Cluster, directory: &TempDir) -> Self {
        let db = Self::new(engine, "single", cluster, directory);
        match &db.database {
            Some(database) => sample::create_postgres(&database.url_with(&database.service)).await.unwrap(),
            None => sample::create_sqlite(db.pool.url().sqlite_path().unwrap()).await.unwrap(),
        }
        let connection = db.pool.migration_connection(db.login().as_ref()).await.unwrap();
        AppDbMigrator::up(&connection, None).await.unwrap();
        connection.close().await.unwrap();
        db
    }

    /// A migrated tenant data database without a row.
    async fn target(engine: Engine, cluster: &Cluster, directory: &TempDir) -> Self {
        let db = Self::new(engine, "target", cluster, directory);
        let connection = db.pool.migration_connection(db.login().as_ref()).await.unwrap();
        let restricted_role =
            db.database.as_ref().map_or_else(String::new, |database| database.restricted.user.clone());
        let settings = TenantDataSettings { restricted_role, ..TenantDataSettings::default() };
        prepare_tenant_data(&connection, &settings).await.unwrap();
        TenantDataMigrator::up(&connection, None).await.unwrap();
        connection.close().await.unwrap();
        db
    }

    fn new(engine: Engine, name: &str, cluster: &Cluster, directory: &TempDir) -> Self {
        match engine {
            Engine::Postgres => Self::on(cluster.create_database(name).unwrap()),
            Engine::Sqlite => {
                let options = PoolOptions { create_if_missing: true, ..PoolOptions::default() };
                let url: DataSourceUrl = format!("sqlite:{}/{name}.db", directory.path().display()).parse().unwrap();
                Self { pool: Pool::new(&url, None, &options).unwrap(), database: None }
            }
        }
    }

    fn on(database: Database) -> Self {
        let url = database.url().parse().unwrap();
        let pool = Pool::new(&url, Some(&login_of(&database.service)), &PoolOptions::default()).unwrap();
        Self { pool, database: Some(database) }
    }

    fn copy(&self) -> Self {
        let template = self.database.as_ref().unwrap();
        Self::on(template.cluster().create_database_from(template).unwrap())
    }

    fn login(&self) -> Option<Login> {
        self.database.as_ref().map(|database| login_of(&database.service))
    }

    /// A pool of the server's superuser, whom no policy holds back.
    pub(super) fn superuser(&self) -> Pool {
        let login = login_of(&self.database.as_ref().unwrap().superuser);
        Pool::new(self.pool.url(), Some(&login), &PoolOptions::default()).unwrap()
    }

    pub(super) async fn begin(&self) -> Transaction {
        self.pool.begin(&Session::default(), Mode::Write).await.unwrap()
    }

    /// As someone with psql or sqlite3 would.
    pub(super) async fn execute(&self, sql: &str) -> Result<(), tenantry_connection::Error> {
        let mut transaction = self.begin().await;
        transaction.execute_raw_sql(sql).await?;
        transaction.commit().await
    }

    pub(super) async fn query(&self, sql: &str) -> Vec<QueryResult> {
        let mut transaction = self.begin().await;
        let statement = Statement::from_string(backend(&self.pool), sql);
        let rows = transaction.query_all(statement).await.unwrap();
        transaction.rollback().await.unwrap();
        rows
    }

    /// The one number that a query answers with, as column `n`.
    pub(super) async fn number(&self, sql: &str) -> i64 {
        self.query(sql).await[0].try_get("", "n").unwrap()
    }

    /// How many rows a tenant has in a table.
    pub(super) async fn count(&self, table: &str, tenant: &SampleTenant) -> i64 {
        self.number(&format!("SELECT count(*) AS n FROM {table} WHERE tenant_id = {}", self.uuid(tenant.id))).await
    }

    /// A uuid as a literal.
    pub(super) fn uuid(&self, id: uuid::Uuid) -> String {
        match self.pool.engine() {
            Engine::Postgres => format!("'{id}'::uuid"),
            Engine::Sqlite => format!("x'{}'", id.simple()),
        }
    }
}

pub(super) fn backend(pool: &Pool) -> DbBackend {
    match pool.engine() {
        Engine::Postgres => DbBackend::Postgres,
        Engine::Sqlite => DbBackend::Sqlite,
    }
}

pub(super) fn login_of(login: &cluster::Login) -> Login {
    Login::new(login.user.clone(), login.password.clone()).unwrap()
}

pub(super) fn tenant(subdomain: &str) -> &'static SampleTenant {
    SampleTenant::by_subdomain(subdomain).unwrap()
}

/// The report of a split that moved its tenant.
#[track_caller]
pub(super) fn placed(outcome: Result<Outcome, Error>) -> Report {
    match outcome {
        Ok(Outcome::Placed(done)) => done.report.expect("both sides were compared"),
        Ok(other) => panic!("not moved now: {other:?}"),
        Err(error) => panic!("{}", chain(&error)),
    }
}

/// An error with its sources, as an operator sees it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

/// Tells a test when a step, or a table within one, begins.
pub(super) struct Watch {
    at: watch::Sender<Option<(Step, String)>>,
    step: Mutex<Option<Step>>,
}

impl Watch {
    pub(super) fn new() -> (Self, watch::Receiver<Option<(Step, String)>>) {
        let (at, receiver) = watch::channel(None);
        (Self { at, step: Mutex::new(None) }, receiver)
    }
}

impl Progress for Watch {
    fn step(&self, step: Step) {
        *self.step.lock().unwrap() = Some(step);
        self.at.send_replace(Some((step, String::new())));
    }

    fn table(&self, table: &str, _rows: u64) {
        let step = self.step.lock().unwrap().unwrap();
        self.at.send_replace(Some((step, table.to_owned())));
    }
}
