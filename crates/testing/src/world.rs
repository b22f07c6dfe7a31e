//! A world: an application database, a data source, and tenants with handles, for one test alone.

use std::{error::Error as StdError, marker::PhantomData, path::Path, sync::Arc};

use sea_orm_migration::MigratorTrait;
use tempfile::TempDir;
use tenantry::{
    Tenantry,
    app_db::{NewPlacement, NewTenant},
    connection::{Actor, DataSourceUrl, Engine},
    credential::{CredentialColumn, Keyring},
    data_source::TenantDb,
    realm::TenantKeyType,
    settings::Settings,
};
use tenantry_test_support::cluster::{Cluster, Database};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::template::{Template, login, settings_on, template};

/// A world could not be made, or a tenant in it.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// Something outside the library did not work; the source says why.
    #[error("cannot {attempt}")]
    Outside {
        /// What was being done.
        attempt: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The library refused: the settings, a migration, a route.
    #[error(transparent)]
    Tenantry(#[from] tenantry::Error),
}

impl WorldError {
    pub(crate) fn doing<E: Into<Box<dyn StdError + Send + Sync>>>(attempt: &'static str) -> impl Fn(E) -> Self {
        move |source| Self::Outside { attempt, source: source.into() }
    }
}

/// Everything one test needs of Tenantry: an application database, a data source with the schema of the migrator `M`, and the
/// facade over both. What it made is taken away when it is dropped.
pub struct World<M> {
    tenantry: Tenantry,
    engine: Engine,
    template: Arc<OnceCell<Template>>,
    /// On PostgreSQL the application database, the shared data source, and those that tenants got of their own.
    databases: Vec<Database>,
    folder: TempDir,
    tenants: i64,
    migrator: PhantomData<fn() -> M>,
}

/// A tenant of a world.
#[derive(Debug, Clone)]
pub struct TestTenant {
    /// Its id in the application database.
    pub id: Uuid,
    /// Its name and subdomain.
    pub name: String,
    /// A restricted handle, as a request gets it.
    pub db: TenantDb,
}

impl<M: MigratorTrait> World<M> {
    /// A world in SQLite files: each tenant has one of its own, kept apart by the predicate alone.
    ///
    /// # Errors
    /// [`WorldError`], with what could not be done.
    pub async fn sqlite() -> Result<Self, WorldError> {
        Self::with(Engine::Sqlite, |settings| settings).await
    }

    /// A world on a private PostgreSQL server: tenants share a data source under row-level security. Needs PostgreSQL's server
    /// programs on the machine, and not to be root or to have a user to become.
    ///
    /// # Errors
    /// [`WorldError`], with what could not be done.
    pub async fn postgres() -> Result<Self, WorldError> {
        Self::with(Engine::Postgres, |settings| settings).await
    }

    /// A world whose settings are the application's own, such as another tenant column.
    ///
    /// # Errors
    /// [`WorldError`], with what could not be done.
    pub async fn with(engine: Engine, change: fn(Settings) -> Settings) -> Result<Self, WorldError> {
        let template = template::<M>(engine, change).await?;
        let folder = tempfile::tempdir().map_err(WorldError::doing("make a folder"))?;
        let (settings, databases) = match made(&template)? {
            Template::Sqlite { app_db, .. } => {
                let settings = Settings::embedded(folder.path()).map_err(WorldError::doing("name a file"))?;
                let path = settings.application_database.url.sqlite_path();
                write(path.unwrap_or(folder.path()), app_db)?;
                (settings, Vec::new())
            }
            Template::Postgres { app_db, data } => {
                let (app_db, data) = (copy(app_db)?, copy(data)?);
                (settings_on(&app_db, &data)?, vec![app_db, data])
            }
        };
        let tenantry = Tenantry::connect(change(settings))?;
        Ok(Self { tenantry, engine, template, databases, folder, tenants: 0, migrator: PhantomData })
    }

    /// The facade, as the application has it.
    pub fn tenantry(&self) -> &Tenantry {
        &self.tenantry
    }

    /// Which engine the data sources have.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Tenants by their names, which are DNS labels. On PostgreSQL they share the world's data source.
    ///
    /// # Errors
    /// [`WorldError`], for example when a name is taken or no DNS label.
    pub async fn tenants<const N: usize>(&mut self, names: [&str; N]) -> Result<[TestTenant; N], WorldError> {
        let mut tenants = Vec::with_capacity(N);
        for name in names {
            let place = self.default_place(name)?;
            tenants.push(self.tenant_on(name, place).await?);
        }
        tenants.try_into().map_err(|_| WorldError::doing("count the tenants")("their number changed".to_owned()))
    }

    /// A tenant on a data source of its own.
    ///
    /// # Errors
    /// As [`Self::tenants`].
    pub async fn tenant_apart(&mut self, name: &str) -> Result<TestTenant, WorldError> {
        let place = match made(&self.template)? {
            Template::Sqlite { .. } => self.default_place(name)?,
            Template::Postgres { data, .. } => {
                self.databases.push(copy(data)?);
                Place::Postgres(self.databases.len() - 1)
            }
        };
        self.tenant_on(name, place).await
    }

    /// Tenants that have their rows in one data source on every engine.
    pub(crate) async fn together<const N: usize>(&mut self, names: [String; N]) -> Result<[TestTenant; N], WorldError> {
        let mut file = None;
        let mut tenants = Vec::with_capacity(N);
        for name in names {
            let place = match (self.engine, &file) {
                (Engine::Sqlite, Some(url)) => Place::Sqlite(DataSourceUrl::clone(url)),
                _ => self.default_place(&name)?,
            };
            if let Place::Sqlite(url) = &place {
                file = Some(url.clone());
            }
            tenants.push(self.tenant_on(&name, place).await?);
        }
        tenants.try_into().map_err(|_| WorldError::doing("count the tenants")("their number changed".to_owned()))
    }

    /// How many tenants were made.
    pub(crate) fn count(&self) -> i64 {
        self.tenants
    }

    /// The world's databases on PostgreSQL: the application database, then the data sources. Empty on SQLite.
    pub fn databases(&self) -> &[Database] {
        &self.databases
    }

    fn default_place(&self, name: &str) -> Result<Place, WorldError> {
        let Template::Sqlite { data, .. } = made(&self.template)? else { return Ok(Place::Postgres(1)) };
        let path = self.folder.path().join(format!("{name}.db"));
        write(&path, data)?;
        let url = DataSourceUrl::parse(&format!("sqlite:{}", path.display()));
        Ok(Place::Sqlite(url.map_err(WorldError::doing("name a file"))?))
    }

    /// Placed by hand: the schema is there already, and to look for it again takes longer than everything else.
    async fn tenant_on(&mut self, name: &str, place: Place) -> Result<TestTenant, WorldError> {
        self.tenants += 1;
        let mut new = NewTenant::new(name, name);
        let (url, logins) = match place {
            Place::Sqlite(url) => (url, None),
            Place::Postgres(index) => {
                let database = &self.databases[index];
                let url = database.url().parse().map_err(WorldError::doing("name a database"))?;
                (url, Some((login(&database.restricted)?, login(&database.service)?)))
            }
        };
        let seal =
            |column, login| keyring()?.seal(new.id, column, login).map(Some).map_err(WorldError::doing("seal a login"));
        let (anon_key, service_key) = match &logins {
            Some((restricted, service)) => {
                (seal(CredentialColumn::Anon, restricted)?, seal(CredentialColumn::Service, service)?)
            }
            None => (None, None),
        };
        let tenant_id_in_data_source = match self.tenantry.settings().tenant_key_type {
            TenantKeyType::Uuid => None,
            TenantKeyType::BigInt => Some(self.tenants.to_string()),
            TenantKeyType::Text => Some(name.to_owned()),
        };
        new.placement =
            NewPlacement { url: Some(url), anon_key, service_key, tenant_id_in_data_source, ..NewPlacement::default() };
        let created = self.tenantry.app_db().create_tenant(&new, &Actor::default()).await;
        let tenant = created.map_err(tenantry::Error::from)?;
        let db = self.tenantry.tenant(tenant.id).await.map_err(tenantry::Error::from)?;
        Ok(TestTenant { id: tenant.id, name: tenant.name, db })
    }
}

/// Where a tenant's rows go.
enum Place {
    Sqlite(DataSourceUrl),
    /// An index into the world's databases.
    Postgres(usize),
}

/// Worlds are thrown away with everything in them; what is sealed there needs no secret key.
pub(crate) fn keyring() -> Result<Keyring, WorldError> {
    Keyring::from_hex(&"5a".repeat(32).into()).map_err(WorldError::doing("make a keyring"))
}

fn made(template: &OnceCell<Template>) -> Result<&Template, WorldError> {
    template.get().ok_or_else(|| WorldError::doing("copy a template")("it was not made".to_owned()))
}

fn copy(template: &Database) -> Result<Database, WorldError> {
    Cluster::create_database_from(template.cluster(), template).map_err(WorldError::doing("copy a database"))
}

fn write(path: &Path, content: &[u8]) -> Result<(), WorldError> {
    std::fs::write(path, content).map_err(WorldError::doing("copy a file"))
}
