//! What is measured on: a private server with a tenant data source and its unprotected twin, and an application database with
//! every tenant.
//!
//! ```text
//! PostgreSQL  protected   items, items_unlogged, naps    made by TenantTable: policies, grants, fence, write log
//!             plain       items                          the same columns, keys, indexes and rows, and nothing else
//! SQLite      app.db      1,000 tenants, placed in `protected` with sealed logins
//! ```
//! The twin is a database of its own, because a data source in which a table with a tenant column has no policy is refused.

pub mod fleet;
pub mod items;
pub mod moves;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;
use tempfile::TempDir;
use tenantry::Tenantry;
use tenantry::app_db::entities::{Plan, PoolerMode};
use tenantry::app_db::{NewDataSource, NewPlacement, NewTenant};
use tenantry::connection::{Actor, DataSourceUrl};
use tenantry::credential::{CredentialColumn, Keyring, Login};
use tenantry::migrations::Migrator;
use tenantry::operations::{Direction, Logins, MigrateScope, NewTenantRequest, create_tenant, migrate};
use tenantry::settings::{ApplicationDatabase, Settings};
use tenantry_test_support::cluster::{self, Cluster, ClusterOptions, Database};
use uuid::Uuid;

use crate::Error;

use schema::Items;

/// Tenants of the world, each with [`ROWS`] rows in each table.
pub const TENANTS: usize = 1_000;
/// Rows of each tenant.
pub const ROWS: usize = 1_000;
/// Connections of each side.
pub const CONNECTIONS: u32 = 8;

/// Where the server departs from the harness's settings: enough memory for all rows, and nothing that a checkpoint or a
/// vacuum would do in some rounds and not in others.
const SERVER_SETTINGS: [(&str, &str); 6] = [
    ("shared_buffers", "1GB"),
    ("wal_level", "replica"),
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "1h"),
    ("autovacuum", "off"),
    ("TimeZone", "UTC"),
];

/// What is shown of the server's settings.
const SHOWN_SETTINGS: [&str; 11] = [
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "wal_level",
    "shared_buffers",
    "max_connections",
    "max_wal_size",
    "checkpoint_timeout",
    "autovacuum",
    "jit",
    "password_encryption",
];

/// The key of every keyring here; it seals logins of a server that is thrown away.
const KEY: &str = "6b1f0c52a9d84e7396c5e2b07a41d8f36b1f0c52a9d84e7396c5e2b07a41d8f3";

/// The databases, the tenants, and our way to them.
pub struct World {
    /// Ours, with [`CONNECTIONS`] connections to the data source.
    pub tenantry: Tenantry,
    /// The tenants' ids; the same number means the same tenant on both sides.
    pub tenants: Vec<Uuid>,
    /// The data source.
    pub protected: Database,
    /// Its twin.
    pub plain: Database,
    /// For files.
    pub directory: TempDir,
    cluster: Cluster,
}

impl World {
    /// Starts the server and makes everything; takes some ten seconds.
    ///
    /// # Errors
    /// Whatever could not be made, and a world that is not what it should be.
    pub async fn new() -> Result<Self, Error> {
        let options = ClusterOptions {
            settings: SERVER_SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            ..ClusterOptions::default()
        };
        let start = move || {
            let cluster = Cluster::start_with(&options)?;
            Ok::<_, cluster::ClusterError>((
                cluster.create_database("protected")?,
                cluster.create_database("plain")?,
                cluster,
            ))
        };
        let (protected, plain, cluster) = blocking("start the server", start).await?;
        let directory = tempfile::tempdir().map_err(Error::doing("make a folder for the application database"))?;
        let tenantry = connect(&directory.path().join("app.db"), CONNECTIONS).await?;
        let mut world = Self { tenantry, tenants: Vec::new(), protected, plain, directory, cluster };
        world.migrate().await?;
        world.fill().await?;
        world.tenants = world.add_tenants(&world.tenantry, world.row(CONNECTIONS)?, TENANTS).await?;
        cache_placements(&world.tenantry, &world.tenants, TENANTS).await?;
        Ok(world)
    }

    /// The URL of the data source.
    ///
    /// # Errors
    /// None that the harness's URLs have.
    pub fn data_source(&self) -> Result<DataSourceUrl, Error> {
        self.protected.url().parse().map_err(Error::doing("read the data source's URL"))
    }

    /// The data source's row as this world needs it in an application database.
    ///
    /// # Errors
    /// None that the harness's URLs have.
    pub fn row(&self, connections: u32) -> Result<NewDataSource, Error> {
        let max_connections = i32::try_from(connections).unwrap_or(i32::MAX);
        // Without a probe for a pooler, which is no part of what is measured.
        Ok(NewDataSource {
            max_connections,
            pooler_mode: PoolerMode::Direct,
            ..NewDataSource::new(self.data_source()?)
        })
    }

    /// Another installation on the same data source: an application database of its own, with the first tenants.
    ///
    /// # Errors
    /// What could not be made.
    pub async fn installation(&self, row: NewDataSource, tenants: usize) -> Result<(Tenantry, PathBuf), Error> {
        let app_db = self.directory.path().join(format!("app-{}.db", Uuid::new_v4()));
        let tenantry = connect(&app_db, row.max_connections.unsigned_abs()).await?;
        self.add_tenants(&tenantry, row, tenants).await?;
        Ok((tenantry, app_db))
    }

    /// Brings the data source's schema up to date, by creating a tenant there as an operator would, which also proves that
    /// it is isolated.
    async fn migrate(&self) -> Result<(), Error> {
        let request = NewTenantRequest {
            name: "First".to_owned(),
            subdomain: "first".to_owned(),
            plan: Plan::Starter,
            tenant_id_in_data_source: None,
            data_source: Some((self.data_source()?, Some(self.logins()?))),
        };
        let created = create_tenant::<Migrator<Items>>(&self.tenantry, request, &Actor::default()).await;
        created.map(drop).map_err(Error::doing("migrate the data source and create its first tenant"))
    }

    /// Places the first tenants of the tables' rows in a data source.
    async fn add_tenants(&self, tenantry: &Tenantry, row: NewDataSource, count: usize) -> Result<Vec<Uuid>, Error> {
        let (url, logins, keyring) = (row.url.clone(), self.logins()?, keyring()?);
        let saved = tenantry.app_db().upsert_data_source(&row, &Actor::default()).await;
        saved.map_err(Error::doing("write the data source's row"))?;
        let mut tenants = Vec::with_capacity(count);
        for number in 0..count {
            let id = schema::tenant_id(number);
            let (anon_key, service_key) = seal(&keyring, id, &logins)?;
            let placement = NewPlacement {
                url: Some(url.clone()),
                anon_key: Some(anon_key),
                service_key: Some(service_key),
                ..NewPlacement::default()
            };
            let name = format!("tenant-{number}");
            let new = NewTenant { id, placement, ..NewTenant::new(name.clone(), name) };
            let created = tenantry.app_db().create_tenant(&new, &Actor::default()).await;
            created.map_err(Error::doing("create a tenant"))?;
            tenants.push(id);
        }
        Ok(tenants)
    }

    /// The server's settings that bear on the figures.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn server_settings(&self) -> Result<Vec<(String, String)>, Error> {
        let names = SHOWN_SETTINGS.map(|name| format!("'{name}'")).join(", ");
        let sql = format!(
            "SELECT name || '=' || current_setting(name) FROM pg_settings WHERE name IN ({names})
             ORDER BY array_position(ARRAY[{names}], name)"
        );
        let lines = self.superuser_sql(&self.protected, &sql)?;
        Ok(lines.lines().filter_map(|line| line.split_once('=')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect())
    }

    /// The server's version, such as `15.18`.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn server_version(&self) -> Result<String, Error> {
        let version = self.superuser_sql(&self.protected, "SHOW server_version")?;
        Ok(version.split_whitespace().next().unwrap_or_default().to_owned())
    }

    /// The server.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Runs SQL as the superuser, past every policy: for what is loaded and counted, never for what is measured.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn superuser_sql(&self, database: &Database, sql: &str) -> Result<String, Error> {
        database.psql(&database.superuser, sql).map_err(Error::doing("prepare the databases"))
    }

    /// The data source's two logins.
    ///
    /// # Errors
    /// None that the harness's logins have.
    pub fn logins(&self) -> Result<Logins, Error> {
        let login = |login: &cluster::Login| Login::new(login.user.clone(), login.password.clone());
        let read = Error::doing("read the data source's logins");
        let logins = (login(&self.protected.restricted), login(&self.protected.service));
        match logins {
            (Ok(restricted), Ok(service)) => Ok(Logins { restricted, service }),
            (Err(error), _) | (_, Err(error)) => Err(read(error)),
        }
    }

    /// Fills every table, both databases at once, and checks that the protected one is.
    async fn fill(&self) -> Result<(), Error> {
        let owner = &self.plain.service;
        self.plain.psql(owner, schema::PLAIN).map_err(Error::doing("make the twin's table"))?;
        let owner = &self.protected.service;
        self.protected.psql(owner, schema::NAPS).map_err(Error::doing("make inserts take a while"))?;
        std::thread::scope(|scope| {
            let jobs = [(&self.protected, "items"), (&self.protected, "items_unlogged"), (&self.plain, "items")];
            let jobs = jobs.map(|(database, table)| scope.spawn(|| self.superuser_sql(database, &schema::fill(table))));
            for job in jobs {
                job.join().map_err(|_| Error::Wrong("a thread that fills a table panicked".to_owned()))??;
            }
            Ok::<_, Error>(())
        })?;
        for database in [&self.protected, &self.plain] {
            self.superuser_sql(database, "VACUUM (ANALYZE, FREEZE)")?;
        }
        self.superuser_sql(&self.protected, "CHECKPOINT")?;
        schema::check(self)
    }
}

/// The facade over an application database in a file, migrated.
///
/// # Errors
/// What the operators' command would report.
pub async fn connect(app_db: &Path, connections: u32) -> Result<Tenantry, Error> {
    let url =
        format!("sqlite:{}", app_db.display()).parse().map_err(Error::doing("read the application database's URL"))?;
    let mut settings = Settings::new(ApplicationDatabase { url, login: None });
    settings.keyring = Some(Arc::new(keyring()?));
    settings.max_connections = connections;
    let tenantry = Tenantry::connect(settings).map_err(Error::doing("put the facade together"))?;
    let scope = MigrateScope { app_db: true, data_sources: false };
    let report = migrate::<Migrator<Items>>(&tenantry, scope, Direction::Up).await;
    let report = report.map_err(Error::doing("migrate the application database"))?;
    if report.is_complete() { Ok(tenantry) } else { Err(Error::Wrong(format!("not migrated: {report:?}"))) }
}

fn keyring() -> Result<Keyring, Error> {
    Keyring::from_hex(&SecretString::from(KEY)).map_err(Error::doing("make a keyring"))
}

/// The restricted and the service login, sealed for a tenant.
fn seal(keyring: &Keyring, tenant: Uuid, logins: &Logins) -> Result<(String, String), Error> {
    let seal = |column, login| keyring.seal(tenant, column, login).map_err(Error::doing("seal a login"));
    Ok((seal(CredentialColumn::Anon, &logins.restricted)?, seal(CredentialColumn::Service, &logins.service)?))
}

/// Routes tenants, so that their placements are cached as they are in a process that runs for a while; refuses a cache that
/// then holds another number than this.
///
/// # Errors
/// What routing reports.
pub async fn cache_placements(tenantry: &Tenantry, tenants: &[Uuid], cached: usize) -> Result<(), Error> {
    const AT_ONCE: usize = 8;
    let mut tasks = tokio::task::JoinSet::new();
    for share in tenants.chunks(tenants.len().div_ceil(AT_ONCE).max(1)) {
        let (tenantry, share) = (tenantry.clone(), share.to_vec());
        tasks.spawn(async move {
            for tenant in share {
                tenantry.tenant(tenant).await.map_err(Error::doing("route a tenant"))?;
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(Error::doing("route the tenants"))??;
    }
    let found = tenantry.manager().cache_stats().await.placements;
    if found == cached as u64 {
        Ok(())
    } else {
        Err(Error::Wrong(format!("{found} placements are cached and should be {cached}")))
    }
}

async fn blocking<T, E>(doing: &'static str, work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Error>
where
    T: Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    let done = tokio::task::spawn_blocking(work).await.map_err(Error::doing(doing))?;
    done.map_err(Error::doing(doing))
}
