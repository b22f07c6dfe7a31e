//! An installation as an operator has one: an application database, a default data source, settings, and everything else made
//! through the facade. On SQLite every tenant has a file of its own; on PostgreSQL tenants share a data source.

use std::sync::Arc;

use secrecy::SecretString;
use tempfile::TempDir;
use tenantry::{
    Tenantry,
    operations::{Direction, Logins, MigrateScope, NewTenantRequest, create_tenant, migrate},
    settings::{ApplicationDatabase, DefaultDataSource, DefaultLogins, Settings, UrlTemplate},
};
use tenantry_app_db::entities::{Plan, tenants};
use tenantry_connection::{Actor, DataSourceUrl, Engine, Mode, Pool, PoolOptions, Session};
use tenantry_credential::{Keyring, Login};
use tenantry_migrations::TenantDataMigrator;
use tenantry_test_support::{
    cluster::{self, Cluster, Database},
    sample::{create_postgres, create_sqlite},
};

/// The keys of every world, by id; `new` is active.
pub(crate) const KEYS: [(&str, &str); 2] = [
    ("old", "a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90"),
    ("new", "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"),
];

pub(crate) struct World {
    pub(crate) tenantry: Tenantry,
    pub(crate) engine: Engine,
    /// On PostgreSQL the application database, the default data source, and what was made since.
    pub(crate) databases: Vec<Database>,
    pub(crate) directory: TempDir,
}

/// A place for tenants' rows.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) url: DataSourceUrl,
    pub(crate) logins: Option<Logins>,
}

/// Runs each scenario on both engines.
macro_rules! on_both_engines {
    ($($scenario:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $scenario() {
                    super::$scenario(crate::world::World::sqlite().await).await;
                }
            )+
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $scenario() {
                    super::$scenario(crate::world::World::postgres().await).await;
                }
            )+
        }
    };
}
pub(crate) use on_both_engines;

impl World {
    pub(crate) async fn sqlite() -> Self {
        Self::new(Engine::Sqlite, |_| {}).await
    }

    pub(crate) async fn postgres() -> Self {
        Self::new(Engine::Postgres, |_| {}).await
    }

    /// A world whose application database is migrated, with settings changed before anything is made.
    pub(crate) async fn new(engine: Engine, change: impl FnOnce(&mut Settings)) -> Self {
        Self::build(engine, false, change).await
    }

    /// A world that begins with the legacy sample: the single database has become the application database.
    pub(crate) async fn with_sample(engine: Engine) -> Self {
        Self::build(engine, true, |_| {}).await
    }

    async fn build(engine: Engine, sample: bool, change: impl FnOnce(&mut Settings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut databases = Vec::new();
        if engine == Engine::Postgres {
            for hint in ["app", "shared"] {
                databases.push(Cluster::shared().unwrap().create_database(hint).unwrap());
            }
        }
        let mut settings = match databases.as_slice() {
            [app, shared] => {
                let (url, login) = (app.url().parse().unwrap(), Some(login_of(&app.service)));
                let mut settings = Settings::new(ApplicationDatabase { url, login });
                let logins = Some(DefaultLogins {
                    restricted: login_of(&shared.restricted),
                    service: login_of(&shared.service),
                });
                settings.default_data_source =
                    Some(DefaultDataSource { url: UrlTemplate::parse(&shared.url()).unwrap(), logins, region: None });
                settings
            }
            _ => {
                let url = file_url(&directory, "app.db");
                let mut settings = Settings::new(ApplicationDatabase { url, login: None });
                let template = format!("sqlite:{}/tenants/{{tenant_id}}.db", directory.path().display());
                settings.default_data_source =
                    Some(DefaultDataSource { url: UrlTemplate::parse(&template).unwrap(), logins: None, region: None });
                settings
            }
        };
        settings.keyring = Some(Arc::new(keyring("new")));
        change(&mut settings);
        match (sample, databases.first()) {
            (false, _) => {}
            (true, Some(app)) => create_postgres(&app.url_with(&app.service)).await.unwrap(),
            (true, None) => create_sqlite(&directory.path().join("app.db")).await.unwrap(),
        }
        let tenantry = Tenantry::connect(settings).unwrap();
        let world = Self { tenantry, engine, databases, directory };
        let scope = MigrateScope { app_db: true, data_sources: false };
        let report = migrate::<TenantDataMigrator>(&world.tenantry, scope, Direction::Up).await.unwrap();
        assert!(report.is_complete(), "{report:#?}");
        world
    }

    /// The same installation in another process: other settings, empty caches.
    pub(crate) fn restarted(&self, change: impl FnOnce(&mut Settings)) -> Tenantry {
        let mut settings = self.tenantry.settings().clone();
        change(&mut settings);
        Tenantry::connect(settings).unwrap()
    }

    /// A tenant on the default data source.
    pub(crate) async fn tenant(&self, subdomain: &str) -> tenants::Model {
        self.try_tenant(subdomain, None).await.unwrap()
    }

    /// A tenant in a place of its own.
    pub(crate) async fn tenant_on(&self, subdomain: &str, place: &Place) -> tenants::Model {
        self.try_tenant(subdomain, Some(place)).await.unwrap()
    }

    pub(crate) async fn try_tenant(
        &self,
        subdomain: &str,
        place: Option<&Place>,
    ) -> Result<tenants::Model, tenantry::Error> {
        let request = NewTenantRequest {
            tenant_id_in_data_source: None,
            name: format!("{subdomain} Inc."),
            subdomain: subdomain.to_owned(),
            plan: Plan::Starter,
            data_source: place.map(|place| (place.url.clone(), place.logins.clone())),
        };
        create_tenant::<TenantDataMigrator>(&self.tenantry, request, &Actor::default()).await
    }

    /// A new place, not migrated yet.
    pub(crate) fn place(&mut self, hint: &str) -> Place {
        match self.engine {
            Engine::Sqlite => Place { url: file_url(&self.directory, &format!("{hint}.db")), logins: None },
            Engine::Postgres => {
                let database = Cluster::shared().unwrap().create_database(hint).unwrap();
                let place = place_of(&database);
                self.databases.push(database);
                place
            }
        }
    }

    /// The default data source of PostgreSQL.
    pub(crate) fn shared(&self) -> Place {
        place_of(&self.databases[1])
    }

    /// Takes a place away, as a server that lost its disk does. The logins stay.
    pub(crate) fn lose(&self, place: &Place) {
        if let Some(path) = place.url.sqlite_path() {
            return std::fs::remove_file(path).unwrap();
        }
        let lost = self.databases.iter().find(|database| place_of(database).url == place.url).unwrap();
        let other = &self.databases[0];
        other.psql(&other.superuser, &format!("DROP DATABASE \"{}\" WITH (FORCE)", lost.name)).unwrap();
    }

    /// Runs SQL in the application database, as somebody with psql would.
    pub(crate) async fn app_sql(&self, sql: &str) {
        let application = &self.tenantry.settings().application_database;
        run(&application.url, application.login.as_ref(), sql).await;
    }

    /// Runs SQL in a place as the owner of its schema.
    pub(crate) async fn place_sql(&self, place: &Place, sql: &str) {
        run(&place.url, place.logins.as_ref().map(|logins| &logins.service), sql).await;
    }

    /// Counts the rows that a query of one number tells, as the owner of the schema.
    pub(crate) async fn count(&self, place: &Place, sql: &str) -> i64 {
        let pool = Pool::new(&place.url, place.logins.as_ref().map(|logins| &logins.service), &PoolOptions::default())
            .unwrap();
        let mut transaction = pool.begin(&Session::default(), Mode::Read).await.unwrap();
        let backend = match self.engine {
            Engine::Postgres => sea_orm::DbBackend::Postgres,
            Engine::Sqlite => sea_orm::DbBackend::Sqlite,
        };
        let row = transaction.query_one(sea_orm::Statement::from_string(backend, sql)).await.unwrap().unwrap();
        let count = row.try_get_by_index(0).unwrap();
        transaction.commit().await.unwrap();
        pool.close().await;
        count
    }
}

/// A ring of all keys with one of them active.
pub(crate) fn keyring(active: &str) -> Keyring {
    Keyring::new(active, KEYS.map(|(id, hex)| (id.to_owned(), SecretString::from(hex)))).unwrap()
}

pub(crate) fn login_of(login: &cluster::Login) -> Login {
    Login::new(login.user.clone(), login.password.clone()).unwrap()
}

pub(crate) fn place_of(database: &Database) -> Place {
    let logins = Logins { restricted: login_of(&database.restricted), service: login_of(&database.service) };
    Place { url: database.url().parse().unwrap(), logins: Some(logins) }
}

fn file_url(directory: &TempDir, name: &str) -> DataSourceUrl {
    format!("sqlite:{}", directory.path().join(name).display()).parse().unwrap()
}

async fn run(url: &DataSourceUrl, login: Option<&Login>, sql: &str) {
    let pool = Pool::new(url, login, &PoolOptions::default()).unwrap();
    let mut transaction = pool.begin(&Session::default(), Mode::Write).await.unwrap();
    transaction.execute_raw_sql(sql).await.unwrap();
    transaction.commit().await.unwrap();
    pool.close().await;
}
