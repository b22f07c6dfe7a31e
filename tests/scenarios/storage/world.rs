//! One tenant on each engine, under the same id in both data sources, so that its rows can be compared whole.

use std::fmt::Debug;
use std::sync::Arc;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};
use sea_orm::{ActiveModelTrait, Condition, EntityTrait, IdenStatic, Iterable, Order, Value};
use sea_orm_migration::MigratorTrait;
use secrecy::SecretString;
use serde::Serialize;
use tempfile::TempDir;
use tenantry_app_db::{AppDb, NewPlacement, NewTenant};
use tenantry_connection::{Actor, DataSourceUrl, Engine, Mode, Pool, PoolOptions, Session};
use tenantry_credential::{CredentialColumn, Keyring, Login};
use tenantry_data_source::{ConnectionError, DataSourceManager, Error as DataSourceError, ManagerOptions, TenantDb};
use tenantry_migrations::{AppDbMigrator, TenantDataMigrator, TenantDataSettings, prepare_tenant_data};
use tenantry_realm::TenantEntity;
use tenantry_repository::{Error, Query, RepositoryExt};
use tenantry_test_support::cluster::{self, Cluster, Database};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// The tenant's id in both data sources.
pub(super) const KEY: Uuid = Uuid::from_u128(0x7e0a_0000_0000_4000_8000_0000_0000_0001);

pub(super) struct World {
    pub(super) sqlite: TenantDb,
    pub(super) postgres: TenantDb,
    file: Pool,
    database: Database,
    _folder: TempDir,
}

/// What every world is a copy of: migrating takes longer than copying.
pub(super) struct Template {
    app_db: Vec<u8>,
    data: Vec<u8>,
    database: Database,
}

impl Template {
    /// Migrated databases, the PostgreSQL one in this cluster.
    pub(super) async fn on(cluster: &Cluster) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [app_db, data] = ["app.db", "data.db"].map(|name| file(&folder, name));
        let connection = app_db.migration_connection(None).await.unwrap();
        AppDbMigrator::up(&connection, None).await.unwrap();
        connection.close().await.unwrap();
        migrate(&data, None, "").await;

        let database = cluster.create_database("template").unwrap();
        let service = login(&database.service);
        let owner = Pool::new(&database.url().parse().unwrap(), Some(&service), &PoolOptions::default()).unwrap();
        migrate(&owner, Some(&service), &database.restricted.user).await;
        let [app_db, data] = [app_db, data].map(|pool| std::fs::read(pool.url().sqlite_path().unwrap()).unwrap());
        Self { app_db, data, database }
    }

    /// The one of this process.
    async fn shared() -> &'static Self {
        static SHARED: OnceCell<Template> = OnceCell::const_new();
        SHARED.get_or_init(async || Self::on(&Cluster::shared().unwrap()).await).await
    }
}

impl World {
    pub(super) async fn new() -> Self {
        Self::copy_of(Template::shared().await).await
    }

    pub(super) async fn copy_of(template: &Template) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [app_pool, data] = [("app.db", &template.app_db), ("data.db", &template.data)].map(|(name, content)| {
            std::fs::write(folder.path().join(name), content).unwrap();
            file(&folder, name)
        });
        let database = template.database.cluster().create_database_from(&template.database).unwrap();

        let app_db = AppDb::new(app_pool.clone());
        let keyring = Keyring::from_hex(&SecretString::from("5a".repeat(32))).unwrap();
        let [mut in_file, mut on_server] = ["file", "server"].map(|name| NewTenant::new(name, name));
        let placed = |url: DataSourceUrl| NewPlacement {
            url: Some(url),
            tenant_id_in_data_source: Some(KEY.to_string()),
            ..NewPlacement::default()
        };
        let seal = |column, of| Some(keyring.seal(on_server.id, column, &login(of)).unwrap());
        let [anon_key, service_key] =
            [seal(CredentialColumn::Anon, &database.restricted), seal(CredentialColumn::Service, &database.service)];
        in_file.placement = placed(data.url().clone());
        on_server.placement = NewPlacement { anon_key, service_key, ..placed(database.url().parse().unwrap()) };
        for tenant in [&in_file, &on_server] {
            app_db.create_tenant(tenant, &Actor::default()).await.unwrap();
        }
        let manager = DataSourceManager::new(app_db, app_pool, Some(Arc::new(keyring)), ManagerOptions::default());
        Self {
            sqlite: manager.tenant(in_file.id).await.unwrap(),
            postgres: manager.tenant(on_server.id).await.unwrap(),
            file: data,
            database,
            _folder: folder,
        }
    }

    /// Asks both engines the same: SQLite's answer, then PostgreSQL's.
    pub(super) async fn each<T>(&self, ask: impl AsyncFn(&TenantDb) -> T) -> [T; 2] {
        [ask(&self.sqlite).await, ask(&self.postgres).await]
    }

    /// Asks both engines and insists on one answer.
    pub(super) async fn same<T: PartialEq + Debug>(&self, ask: impl AsyncFn(&TenantDb) -> T) -> T {
        let [sqlite, postgres] = self.each(ask).await;
        assert_eq!(sqlite, postgres, "SQLite says what is on the left");
        sqlite
    }

    /// Writes the rows to both engines. What the database would fill in is filled in here, so that rows are equal whole.
    pub(super) async fn write<E: TenantEntity>(&self, rows: Vec<E::ActiveModel>)
    where
        E::ActiveModel: Send + Sync,
    {
        let rows: Vec<_> = rows.into_iter().map(complete::<E>).collect();
        let written = self.same(async |db| db.repository::<E>().bulk_create(rows.clone()).await.unwrap()).await;
        assert_eq!(written, u64::try_from(rows.len()).unwrap());
    }

    /// The rows of a query, which must be the same, in the same order and with the same spelling when serialized. Rows that
    /// the query leaves in no order are ordered by their ids.
    pub(super) async fn read<E>(&self, query: &Query<E>) -> Vec<E::Model>
    where
        E: TenantEntity,
        E::Model: PartialEq + Debug + Serialize,
    {
        let id = E::Column::iter().find(|column| column.as_str() == "id").unwrap();
        let query = query.clone().order_by(id, Order::Asc);
        let read = async |db: &TenantDb| {
            let rows = db.repository::<E>().find_many(&query).await.unwrap();
            (serde_json::to_string(&rows).unwrap(), rows)
        };
        self.same(read).await.1
    }

    pub(super) async fn count<E: TenantEntity>(&self, condition: Condition) -> u64 {
        let query = Query::<E>::new().filter(condition);
        self.same(async |db| db.repository::<E>().count(&query).await.unwrap()).await
    }

    pub(super) async fn clear<E: TenantEntity>(&self)
    where
        E::ActiveModel: Send + Sync,
    {
        self.each(async |db| db.repository::<E>().bulk_delete_where(Condition::all()).await.unwrap()).await;
    }

    /// Runs SQL as someone with psql or sqlite3 would, on the engine that the handle is of.
    pub(super) async fn by_hand(&self, engine: Engine, sql: &str) -> Result<(), String> {
        match engine {
            Engine::Postgres => self.database.psql(&self.database.superuser, sql).map(drop).map_err(|e| e.to_string()),
            Engine::Sqlite => {
                let mut transaction = self.file.begin(&Session::default(), Mode::Write).await.unwrap();
                transaction.execute_raw_sql(sql).await.map_err(|e| e.to_string())?;
                transaction.commit().await.map_err(|e| e.to_string())
            }
        }
    }

    /// One value of the SQLite file as it is stored.
    pub(super) async fn stored_in_file(&self, sql: &str) -> Option<String> {
        let mut transaction = self.file.begin(&Session::default(), Mode::Read).await.unwrap();
        let connection = transaction.raw_sqlite_connection().unwrap();
        let value = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(connection).await.unwrap();
        transaction.commit().await.unwrap();
        value
    }

    /// Checks a property on a world that is made once. `check` panics where it does not hold.
    pub(super) fn for_all<S: Strategy>(&self, cases: u32, strategy: S, check: impl AsyncFn(S::Value)) {
        let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
        let held = tokio::task::block_in_place(|| {
            TestRunner::new(config).run(&strategy, |value| {
                tokio::runtime::Handle::current().block_on(check(value));
                Ok(())
            })
        });
        held.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

/// The connection's error behind a repository's, for the kinds that the repository passes on.
pub(super) fn connection_error(error: Error) -> ConnectionError {
    match error {
        Error::DataSource(DataSourceError::Connection(error))
        | Error::ReadBack { source: DataSourceError::Connection(error), .. } => error,
        other => panic!("no connection error: {other:?}"),
    }
}

fn file(folder: &TempDir, name: &str) -> Pool {
    let url = format!("sqlite:{}", folder.path().join(name).display()).parse().unwrap();
    Pool::new(&url, None, &PoolOptions { create_if_missing: true, ..PoolOptions::default() }).unwrap()
}

fn login(login: &cluster::Login) -> Login {
    Login::new(login.user.clone(), login.password.clone()).unwrap()
}

async fn migrate(pool: &Pool, login: Option<&Login>, restricted_role: &str) {
    let connection = pool.migration_connection(login).await.unwrap();
    let settings = TenantDataSettings { restricted_role: restricted_role.to_owned(), ..TenantDataSettings::default() };
    prepare_tenant_data(&connection, &settings).await.unwrap();
    TenantDataMigrator::up(&connection, None).await.unwrap();
    connection.close().await.unwrap();
}

/// The row with an id and timestamps of its own, where it has none.
fn complete<E: EntityTrait>(mut row: E::ActiveModel) -> E::ActiveModel {
    for column in E::Column::iter() {
        let value = match column.as_str() {
            "id" => Value::from(Uuid::new_v4()),
            "created_at" | "updated_at" => Value::from(chrono::DateTime::UNIX_EPOCH.fixed_offset()),
            _ => continue,
        };
        if row.is_not_set(column) {
            row.set(column, value);
        }
    }
    row
}
