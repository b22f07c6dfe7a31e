//! The same tables in two databases, with nothing around them.

use sea_orm::{DbBackend, QueryResult, Statement};
use sea_orm_migration::MigratorTrait;
use tempfile::TempDir;
use tenantry_connection::{Engine, Mode, Pool, PoolOptions, Session};
use tenantry_migrations::{TenantDataMigrator, TenantDataSettings, fence, prepare_tenant_data};
use tenantry_test_support::cluster::{Cluster, Database, Login};
use tenantry_transfer::{
    Endpoint, Error, Options, Prepared, Report, Unwatched,
    copy::{CopiedTable, Copying, copy},
    prepare, verify,
};
use uuid::Uuid;

use crate::world::login_of;

pub(super) const TENANT: Uuid = Uuid::from_u128(0xaaaa_0000_0000_4000_8000_0000_0000_0001);
/// The tenant's id in the target.
pub(super) const MOVED: Uuid = Uuid::from_u128(0xaaaa_0000_0000_4000_8000_0000_0000_0002);
pub(super) const NEIGHBOUR: Uuid = Uuid::from_u128(0xbbbb_0000_0000_4000_8000_0000_0000_0003);

/// Deletes first, as a transfer does.
pub(super) const CLEAR: Copying = Copying { atomic: false, clear: true };

/// The same tables in two databases, and a tenant that has another id in the target.
pub(super) struct Ends {
    pub(super) source: Endpoint,
    pub(super) target: Endpoint,
    pub(super) databases: Vec<Database>,
    pub(super) _directory: TempDir,
}

impl Ends {
    pub(super) async fn new(engines: (Engine, Engine), tables: [&str; 2]) -> Self {
        let ends = Self::empty(engines);
        execute(&ends.target, &fence::install_sql(backend(&ends.target)).unwrap()).await;
        execute(&ends.source, tables[0]).await;
        execute(&ends.target, tables[1]).await;
        ends
    }

    /// Both with the reference tables and the write log.
    pub(super) async fn migrated(engines: (Engine, Engine)) -> Self {
        let ends = Self::empty(engines);
        for end in [&ends.source, &ends.target] {
            let database = ends.databases.iter().find(|database| end.pool.url().as_str().contains(&database.name));
            let login = database.map(|database| login_of(&database.service));
            let restricted_role = database.map_or_else(String::new, |database| database.restricted.user.clone());
            let connection = end.pool.migration_connection(login.as_ref()).await.unwrap();
            let settings = TenantDataSettings { restricted_role, ..TenantDataSettings::default() };
            prepare_tenant_data(&connection, &settings).await.unwrap();
            TenantDataMigrator::up(&connection, None).await.unwrap();
            connection.close().await.unwrap();
        }
        ends
    }

    fn empty(engines: (Engine, Engine)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut databases = Vec::new();
        let mut pool = |engine: Engine, name: &str| match engine {
            Engine::Postgres => {
                let database = Cluster::shared().unwrap().create_database(name).unwrap();
                let pool = pool_of(&database, &database.service, PoolOptions::default());
                databases.push(database);
                pool
            }
            Engine::Sqlite => {
                let options = PoolOptions { create_if_missing: true, ..PoolOptions::default() };
                let url = format!("sqlite:{}/{name}.db", directory.path().display()).parse().unwrap();
                Pool::new(&url, None, &options).unwrap()
            }
        };
        let (source, target) = (pool(engines.0, "source"), pool(engines.1, "target"));
        let (source, target) = (Endpoint::new(source, TENANT), Endpoint::new(target, MOVED));
        Self { source, target, databases, _directory: directory }
    }

    pub(super) async fn postgres(tables: &str) -> Self {
        Self::new((Engine::Postgres, Engine::Postgres), [tables, tables]).await
    }

    /// The target's pool with another login.
    pub(super) fn target_as(&self, login: impl Fn(&Database) -> &Login, options: PoolOptions) -> Endpoint {
        let database = self.databases.last().unwrap();
        Endpoint::new(pool_of(database, login(database), options), MOVED)
    }

    pub(super) async fn prepare(&self) -> Prepared {
        prepare(&self.source, &self.target, &Options::default(), &Unwatched).await.unwrap()
    }

    /// Into a target that has none of the tenant's rows.
    pub(super) async fn copy(&self) -> Vec<CopiedTable> {
        let prepared = self.prepare().await;
        assert_eq!(prepared.plan().refusals, []);
        self.apply(&prepared, CLEAR).await.unwrap()
    }

    pub(super) async fn apply(&self, prepared: &Prepared, copying: Copying) -> Result<Vec<CopiedTable>, Error> {
        copy(&self.source, &self.target, prepared, copying, &Options::default(), &Unwatched).await
    }

    pub(super) async fn verify(&self) -> Report {
        verify(&self.source, &self.target, &Options::default(), &Unwatched).await.unwrap()
    }

    #[track_caller]
    pub(super) fn assert_agree(&self, report: &Report) {
        assert!(report.agrees(), "{}", report.summary());
        for table in &report.tables {
            assert_eq!((table.source, &table.source_digest), (table.target, &table.target_digest), "{}", table.table);
        }
    }
}

pub(super) fn pool_of(database: &Database, login: &Login, options: PoolOptions) -> Pool {
    Pool::new(&database.url().parse().unwrap(), Some(&login_of(login)), &options).unwrap()
}

fn backend(end: &Endpoint) -> DbBackend {
    match end.pool.engine() {
        Engine::Postgres => DbBackend::Postgres,
        Engine::Sqlite => DbBackend::Sqlite,
    }
}

pub(super) async fn execute(end: &Endpoint, sql: &str) {
    let mut transaction = end.pool.begin(&Session::default(), Mode::Write).await.unwrap();
    transaction.execute_raw_sql(sql).await.unwrap();
    transaction.commit().await.unwrap();
}

pub(super) async fn query(end: &Endpoint, sql: &str) -> Vec<QueryResult> {
    let mut transaction = end.pool.begin(&Session::default(), Mode::Read).await.unwrap();
    let rows = transaction.query_all(Statement::from_string(backend(end), sql)).await.unwrap();
    transaction.rollback().await.unwrap();
    rows
}

pub(super) async fn number(end: &Endpoint, sql: &str) -> i64 {
    query(end, sql).await[0].try_get_by_index(0).unwrap()
}
