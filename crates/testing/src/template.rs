//! Migrated databases that worlds are copies of: copying takes a fraction of the time that migrating takes.

use std::{
    any::type_name,
    collections::HashMap,
    path::Path,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use sea_orm_migration::MigratorTrait;
use tenantry::{
    Tenantry,
    connection::Engine,
    credential::Login,
    settings::{ApplicationDatabase, DefaultDataSource, DefaultLogins, Settings, UrlTemplate},
};
use tenantry_test_support::cluster::{self, Cluster, Database};
use tokio::sync::OnceCell;

use crate::WorldError;

/// What a template is made of: worlds that agree in all of it share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    postgres: bool,
    migrator: &'static str,
    tenant_column: String,
    tenant_type: &'static str,
}

/// The databases of one kind of world, migrated and empty.
#[expect(clippy::large_enum_variant, reason = "there is one for each kind of world")]
pub(crate) enum Template {
    Postgres { app_db: Database, data: Database },
    Sqlite { app_db: Vec<u8>, data: Vec<u8> },
}

static TEMPLATES: LazyLock<Mutex<HashMap<Key, Arc<OnceCell<Template>>>>> = LazyLock::new(Mutex::default);

/// The template for this migrator and tenant column, which is made by whoever asks first.
pub(crate) async fn template<M: MigratorTrait>(
    engine: Engine,
    change: fn(Settings) -> Settings,
) -> Result<Arc<OnceCell<Template>>, WorldError> {
    let folder = tempfile::tempdir().map_err(WorldError::doing("make a folder"))?;
    let settings = change(Settings::embedded(folder.path()).map_err(WorldError::doing("name a file"))?);
    let key = Key {
        postgres: engine == Engine::Postgres,
        migrator: type_name::<M>(),
        tenant_column: settings.tenant_column.clone(),
        tenant_type: settings.tenant_key_type.postgres_type(),
    };
    let cell = Arc::clone(TEMPLATES.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
    let make = async || match engine {
        Engine::Postgres => on_server::<M>(change).await,
        Engine::Sqlite => in_files::<M>(settings, folder.path()).await,
    };
    cell.get_or_try_init(make).await?;
    Ok(cell)
}

async fn in_files<M: MigratorTrait>(mut settings: Settings, folder: &Path) -> Result<Template, WorldError> {
    let data = folder.join("data.db");
    let url = UrlTemplate::parse(&format!("sqlite:{}", data.display())).map_err(WorldError::doing("name a file"))?;
    settings.default_data_source = Some(DefaultDataSource { url, logins: None, region: None });
    let app_db = settings.application_database.url.sqlite_path().map(Path::to_owned).unwrap_or_default();
    let tenantry = Tenantry::connect(settings)?;
    let migrated = tenantry.migrate::<M>().await;
    // Closed before they are read, so that nothing is left in a write-ahead log.
    tenantry.close().await;
    migrated?;
    let read = |path| std::fs::read(path).map_err(WorldError::doing("read a migrated database"));
    Ok(Template::Sqlite { app_db: read(app_db)?, data: read(data)? })
}

async fn on_server<M: MigratorTrait>(change: fn(Settings) -> Settings) -> Result<Template, WorldError> {
    let cluster = Cluster::shared().map_err(WorldError::doing("start a PostgreSQL server"))?;
    let create = |hint| cluster.create_database(hint).map_err(WorldError::doing("create a database"));
    let (app_db, data) = (create("app")?, create("data")?);
    let tenantry = Tenantry::connect(change(settings_on(&app_db, &data)?))?;
    let migrated = tenantry.migrate::<M>().await;
    tenantry.close().await;
    migrated?;
    Ok(Template::Postgres { app_db, data })
}

/// Settings as an operator would make them for these two databases, with a keyring.
pub(crate) fn settings_on(app_db: &Database, data: &Database) -> Result<Settings, WorldError> {
    let url = app_db.url().parse().map_err(WorldError::doing("name a database"))?;
    let login = Some(login(&app_db.service)?);
    let mut settings = Settings::new(ApplicationDatabase { url, login });
    let logins =
        Some(DefaultLogins { restricted: self::login(&data.restricted)?, service: self::login(&data.service)? });
    let url = UrlTemplate::parse(&data.url()).map_err(WorldError::doing("name a database"))?;
    settings.default_data_source = Some(DefaultDataSource { url, logins, region: None });
    settings.keyring = Some(Arc::new(crate::world::keyring()?));
    Ok(settings)
}

pub(crate) fn login(login: &cluster::Login) -> Result<Login, WorldError> {
    Login::new(login.user.clone(), login.password.clone()).map_err(WorldError::doing("make a login"))
}
