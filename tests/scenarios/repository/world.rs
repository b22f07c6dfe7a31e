//! Two tenants of one data source, reached as an application reaches them.

use std::sync::Arc;

use sea_orm_migration::MigratorTrait;
use secrecy::SecretString;
use tempfile::TempDir;
use tenantry_app_db::{AppDb, NewPlacement, NewTenant};
use tenantry_connection::{Actor, DataSourceUrl, Engine, Mode, Pool, PoolOptions, Session};
use tenantry_credential::{CredentialColumn, Keyring, Login};
use tenantry_data_source::{DataSourceManager, ManagerOptions, TenantColumn, TenantDb};
use tenantry_migrations::{AppDbMigrator, TenantDataMigrator, TenantDataSettings, prepare_tenant_data};
use tenantry_realm::TenantKeyType;
use tenantry_test_support::cluster::{self, Cluster, Database};
use tokio::sync::OnceCell;
use uuid::Uuid;

pub(super) struct World {
    /// Two tenants whose rows are in the same tables.
    pub(super) one: TenantDb,
    pub(super) two: TenantDb,
    pub(super) engine: Engine,
    pub(super) manager: DataSourceManager,
    service: Pool,
    _database: Option<Database>,
    _directory: TempDir,
}

/// What differs from the reference schema.
pub(super) struct Layout {
    pub(super) tenant_column: &'static str,
    pub(super) key_type: TenantKeyType,
    /// The tenants' ids in the data source, where they differ.
    pub(super) keys: [Option<&'static str>; 2],
}

const REFERENCE: Layout = Layout { tenant_column: "tenant_id", key_type: TenantKeyType::Uuid, keys: [None, None] };

impl World {
    pub(super) async fn sqlite() -> Self {
        Self::new::<TenantDataMigrator>(None, REFERENCE).await
    }

    /// On a copy of a database that was migrated once.
    pub(super) async fn postgres() -> Self {
        static TEMPLATE: OnceCell<Database> = OnceCell::const_new();
        let cluster = Cluster::shared().unwrap();
        let migrated = async {
            let database = cluster.create_database("repository").unwrap();
            migrate::<TenantDataMigrator>(&Place::of(&database), &REFERENCE).await.close().await;
            database
        };
        let template = TEMPLATE.get_or_init(|| migrated).await;
        let database = cluster.create_database_from(template).unwrap();
        let place = Place::of(&database);
        let service = place.service_pool();
        Self::over(place, service, Some(database), tempfile::tempdir().unwrap(), REFERENCE).await
    }

    pub(super) async fn on(cluster: &Cluster) -> Self {
        Self::new::<TenantDataMigrator>(Some(cluster), REFERENCE).await
    }

    pub(super) async fn new<M: MigratorTrait>(cluster: Option<&Cluster>, layout: Layout) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = cluster.map(|cluster| cluster.create_database("repository").unwrap());
        let place = match &database {
            None => Place { url: file(&directory, "data.db"), restricted: None, service: None },
            Some(database) => Place::of(database),
        };
        let service = migrate::<M>(&place, &layout).await;
        Self::over(place, service, database, directory, layout).await
    }

    /// Two tenants at a place that is migrated.
    async fn over(
        place: Place,
        service_pool: Pool,
        database: Option<Database>,
        directory: TempDir,
        layout: Layout,
    ) -> Self {
        let Place { url, restricted, service } = place;
        let engine = url.engine();
        let app_db_pool = Pool::new(&file(&directory, "app.db"), None, &creating()).unwrap();
        let connection = app_db_pool.migration_connection(None).await.unwrap();
        AppDbMigrator::up(&connection, None).await.unwrap();
        connection.close().await.unwrap();
        let app_db = AppDb::new(app_db_pool.clone());
        let keyring = Keyring::from_hex(&SecretString::from("0b".repeat(32))).unwrap();
        let mut tenants = [Uuid::nil(); 2];
        for (index, key) in layout.keys.into_iter().enumerate() {
            let mut tenant = NewTenant::new(format!("Tenant {index}"), format!("tenant-{index}"));
            let seal = |login: &Option<Login>, column| {
                login.as_ref().map(|login| keyring.seal(tenant.id, column, login).unwrap())
            };
            tenant.placement = NewPlacement {
                url: Some(url.clone()),
                anon_key: seal(&restricted, CredentialColumn::Anon),
                service_key: seal(&service, CredentialColumn::Service),
                tenant_id_in_data_source: key.map(str::to_owned),
                ..NewPlacement::default()
            };
            app_db.create_tenant(&tenant, &Actor::default()).await.unwrap();
            tenants[index] = tenant.id;
        }
        let options = ManagerOptions {
            tenant_column: TenantColumn { name: layout.tenant_column.to_owned(), key_type: layout.key_type },
            ..ManagerOptions::default()
        };
        let manager = DataSourceManager::new(app_db, app_db_pool, Some(Arc::new(keyring)), options);
        Self {
            one: manager.tenant(tenants[0]).await.unwrap(),
            two: manager.tenant(tenants[1]).await.unwrap(),
            engine,
            manager,
            service: service_pool,
            _database: database,
            _directory: directory,
        }
    }

    /// Runs SQL as the owner of the schema, for what no repository would write.
    pub(super) async fn sql(&self, sql: &str) {
        let mut transaction = self.service.begin(&Session::default(), Mode::Write).await.unwrap();
        transaction.execute_raw_sql(sql).await.unwrap();
        transaction.commit().await.unwrap();
    }
}

/// A data source and its logins.
struct Place {
    url: DataSourceUrl,
    restricted: Option<Login>,
    service: Option<Login>,
}

impl Place {
    fn of(database: &Database) -> Self {
        let login = |login: &cluster::Login| Some(Login::new(login.user.clone(), login.password.clone()).unwrap());
        Self {
            url: database.url().parse().unwrap(),
            restricted: login(&database.restricted),
            service: login(&database.service),
        }
    }

    fn service_pool(&self) -> Pool {
        Pool::new(&self.url, self.service.as_ref(), &creating()).unwrap()
    }
}

async fn migrate<M: MigratorTrait>(place: &Place, layout: &Layout) -> Pool {
    let pool = place.service_pool();
    let connection = pool.migration_connection(place.service.as_ref()).await.unwrap();
    let settings = TenantDataSettings {
        restricted_role: place.restricted.as_ref().map(|login| login.user.clone()).unwrap_or_default(),
        tenant_column: layout.tenant_column.to_owned(),
        tenant_type: layout.key_type.postgres_type().to_owned(),
    };
    prepare_tenant_data(&connection, &settings).await.unwrap();
    M::up(&connection, None).await.unwrap();
    connection.close().await.unwrap();
    pool
}

fn creating() -> PoolOptions {
    PoolOptions { create_if_missing: true, ..PoolOptions::default() }
}

fn file(directory: &TempDir, name: &str) -> DataSourceUrl {
    format!("sqlite:{}", directory.path().join(name).display()).parse().unwrap()
}
