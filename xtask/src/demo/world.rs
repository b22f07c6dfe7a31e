//! The demo's databases: SQLite files in a folder, or databases on private servers.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use secrecy::SecretString;
use tempfile::TempDir;
use tenantry::{
    connection::{DataSourceUrl, Pool, PoolOptions},
    credential::{Keyring, Login},
    operations::{Logins, TransferTarget},
    settings::{ApplicationDatabase, DefaultDataSource, DefaultLogins, Settings, UrlTemplate},
};
use tenantry_test_support::{
    cluster::{Cluster, Database},
    sample::{self, SampleTenant},
};
use uuid::Uuid;

use crate::failure::Failure;

/// Where the demo's databases are.
pub(crate) struct World {
    settings: Settings,
    place: Place,
}

enum Place {
    Files { folder: PathBuf, temporary: Option<TempDir> },
    Servers(Box<Servers>),
}

/// The servers stop when this is dropped.
struct Servers {
    legacy: Database,
    shared: Database,
    dedicated: Database,
    own: Database,
}

impl World {
    /// Files in a folder that is kept, or in a temporary one.
    pub(crate) fn sqlite(keep: Option<PathBuf>) -> Result<Self, Failure> {
        let (folder, temporary) = match keep {
            Some(folder) => {
                std::fs::create_dir_all(&folder).map_err(Failure::file("create", &folder))?;
                let folder = folder.canonicalize().map_err(Failure::file("find", &folder))?;
                let legacy = folder.join("legacy.db");
                if legacy.exists() {
                    let text = format!("{} exists already; give --keep an empty folder", legacy.display());
                    return Err(Failure::Argument(text));
                }
                (folder, None)
            }
            None => {
                let temporary = TempDir::new().map_err(Failure::file("create", std::env::temp_dir()))?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let url = DataSourceUrl::parse(&format!("sqlite:{}", folder.join("legacy.db").display()));
        let application = ApplicationDatabase { url: url.map_err(Failure::demo)?, login: None };
        let template = format!("sqlite:{}", folder.join("tenants/{tenant_id}.db").display());
        let settings = Settings {
            default_data_source: Some(DefaultDataSource {
                url: UrlTemplate::parse(&template).map_err(Failure::demo)?,
                logins: None,
                region: Some("local".to_owned()),
            }),
            ..Settings::new(application)
        };
        Ok(Self { settings, place: Place::Files { folder, temporary } })
    }

    /// Two private servers: one with the legacy database and the shared data source, one with the dedicated one.
    pub(crate) async fn postgres() -> Result<Self, Failure> {
        let started = tokio::task::spawn_blocking(|| {
            let (first, second) = (Cluster::start()?, Cluster::start()?);
            Ok::<_, tenantry_test_support::cluster::ClusterError>(Servers {
                legacy: first.create_database("legacy")?,
                shared: first.create_database("shared")?,
                dedicated: second.create_database("dedicated")?,
                own: second.create_database("own")?,
            })
        });
        let servers = started.await.map_err(Failure::demo)?.map_err(Failure::demo)?;
        let application =
            ApplicationDatabase { url: url(&servers.legacy)?, login: Some(login(&servers.legacy.service)?) };
        let shared = logins(&servers.shared)?;
        let settings = Settings {
            default_data_source: Some(DefaultDataSource {
                url: UrlTemplate::parse(&servers.shared.url()).map_err(Failure::demo)?,
                logins: Some(DefaultLogins { restricted: shared.restricted, service: shared.service }),
                region: Some("local".to_owned()),
            }),
            keyring: Some(Arc::new(random_keyring()?)),
            ..Settings::new(application)
        };
        Ok(Self { settings, place: Place::Servers(Box::new(servers)) })
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Fills the legacy database.
    pub(crate) async fn create_sample(&self) -> Result<(), Failure> {
        match &self.place {
            Place::Files { folder, .. } => sample::create_sqlite(&folder.join("legacy.db")).await,
            Place::Servers(servers) => sample::create_postgres(&servers.legacy.url_with(&servers.legacy.service)).await,
        }
        .map_err(Failure::demo)
    }

    /// Where a tenant goes: to the default data source; on servers, globex to one of its own.
    pub(crate) fn target(&self, tenant: &SampleTenant) -> TransferTarget {
        match &self.place {
            Place::Servers(servers) if tenant.subdomain == "globex" => TransferTarget {
                data_source: url(&servers.dedicated).ok().map(|url| (url, logins(&servers.dedicated).ok())),
                kind: Some(tenantry::app_db::entities::SourceKind::Dedicated),
                prepare: true,
                ..TransferTarget::default()
            },
            _ => TransferTarget::default(),
        }
    }

    /// A database of its own for a tenant that is in the default data source.
    pub(crate) fn own(&self, tenant: &SampleTenant) -> Result<TransferTarget, Failure> {
        let data_source = match &self.place {
            Place::Servers(servers) => (url(&servers.own)?, Some(logins(&servers.own)?)),
            Place::Files { folder, .. } => {
                let file = folder.join("tenants").join(format!("{}-own.db", tenant.subdomain));
                (DataSourceUrl::parse(&format!("sqlite:{}", file.display())).map_err(Failure::demo)?, None)
            }
        };
        Ok(TransferTarget {
            data_source: Some(data_source),
            kind: Some(tenantry::app_db::entities::SourceKind::Dedicated),
            prepare: true,
            ..TransferTarget::default()
        })
    }

    /// A pool for each data source, with a login that sees every row.
    pub(crate) fn data_sources(&self) -> Result<Vec<Pool>, Failure> {
        let options = PoolOptions::default();
        match &self.place {
            Place::Files { folder, .. } => {
                let files = folder.join("tenants");
                let entries = std::fs::read_dir(&files).map_err(Failure::file("read", &files))?;
                let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
                let databases = paths.filter(|path| path.extension().is_some_and(|extension| extension == "db"));
                databases
                    .map(|path| {
                        let url = DataSourceUrl::parse(&format!("sqlite:{}", path.display())).map_err(Failure::demo)?;
                        Pool::new(&url, None, &options).map_err(Failure::demo)
                    })
                    .collect()
            }
            Place::Servers(servers) => [&servers.shared, &servers.dedicated, &servers.own]
                .into_iter()
                .map(|database| {
                    let login = login(&database.service)?;
                    Pool::new(&url(database)?, Some(&login), &options).map_err(Failure::demo)
                })
                .collect(),
        }
    }

    /// How to go on with the files that are kept.
    pub(crate) fn keep_hint(&self) -> Result<Option<String>, Failure> {
        let Place::Files { folder, temporary: None } = &self.place else { return Ok(None) };
        let settings = HashMap::from([
            ("APPLICATION_DATABASE_URL", self.settings.application_database.url.to_string()),
            ("DEFAULT_TENANT_DATA_URL", format!("sqlite:{}", folder.join("tenants/{tenant_id}.db").display())),
        ]);
        let path = folder.join("demo.env");
        let mut lines: Vec<_> =
            settings.iter().map(|(name, value)| format!("{name}='{}'\n", value.replace('\'', r"'\''"))).collect();
        lines.sort();
        std::fs::write(&path, lines.concat()).map_err(Failure::file("write", &path))?;
        Ok(Some(format!(
            "The files stay in {}. To go on with them:\n  set -a; . '{}'; set +a\n  cargo xtask test-dual-database",
            folder.display(),
            path.display()
        )))
    }
}

fn url(database: &Database) -> Result<DataSourceUrl, Failure> {
    DataSourceUrl::parse(&database.url()).map_err(Failure::demo)
}

fn login(login: &tenantry_test_support::cluster::Login) -> Result<Login, Failure> {
    Login::new(&login.user, SecretString::from(login.password.clone())).map_err(Failure::demo)
}

fn logins(database: &Database) -> Result<Logins, Failure> {
    Ok(Logins { restricted: login(&database.restricted)?, service: login(&database.service)? })
}

/// A key of this run alone, from the random part of version 4 uuids.
fn random_keyring() -> Result<Keyring, Failure> {
    let bytes = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes).concat();
    let hex: String = bytes.iter().skip(9).take(32).map(|byte| format!("{byte:02x}")).collect();
    Keyring::from_hex(&SecretString::from(hex)).map_err(Failure::demo)
}
