//! What the operator decides: where the databases are, which keys seal, how long things are kept.
//!
//! Settings come from the environment and from an optional TOML file ([`mod@reference`] lists all of them); the environment
//! wins. A `.env` file is not read: `set -a; . ./.env; set +a` puts it into the environment. Everything that is wrong is
//! reported at once, with the setting's name, what was found and what is expected, and never with a secret.
//!
//! Knows how to read and to check; opens no database and seals nothing.

mod duration;
mod problem;
mod reader;
pub mod reference;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use tenantry_connection::{DataSourceUrl, Engine, UrlError};
use tenantry_credential::{DEFAULT_KEY_ID, Keyring, Login};
use tenantry_realm::TenantKeyType;
use uuid::Uuid;

pub use self::problem::{Origin, Problem, SettingsError};
use self::{
    reader::Reader,
    reference::{
        ACQUIRE_TIMEOUT, APPLICATION_DATABASE_URL, DEFAULT_TENANT_DATA_ANON_KEY, DEFAULT_TENANT_DATA_REGION,
        DEFAULT_TENANT_DATA_SERVICE_KEY, DEFAULT_TENANT_DATA_URL, ENCRYPTION_KEY, ENCRYPTION_KEY_ACTIVE,
        ENCRYPTION_KEYS, FALLBACK_TO_APPLICATION_DATABASE, FENCED_WRITE_PATIENCE, IDLE_TIMEOUT, ISOLATION_EXCEPTIONS,
        MAX_CONNECTIONS, PLACEMENT_CACHE, PLACEMENT_POLL, POOL_CACHE, SETTINGS, Setting, TENANT_COLUMN, TENANT_TYPE,
    },
};

/// The place in a URL of SQLite files that a tenant's id is put into.
const TENANT_PLACE: &str = "{tenant_id}";

/// Everything that is decided outside the program.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The application database.
    pub application_database: ApplicationDatabase,
    /// Where a new tenant's rows go unless it is told otherwise.
    pub default_data_source: Option<DefaultDataSource>,
    /// The keys that seal and open the tenants' logins; `None` while no data source has a login.
    pub keyring: Option<Arc<Keyring>>,
    /// Whether a tenant without a data source is served from the application database.
    pub fallback_to_application_database: bool,
    /// How long a placement that was read is trusted.
    pub placement_cache: Duration,
    /// How often changed placements are asked for where there is no notification of them.
    pub placement_poll: Duration,
    /// How long a single write waits while its tenant is being moved.
    pub fenced_write_patience: Duration,
    /// How long an unused pool is kept.
    pub pool_cache: Duration,
    /// The most connections of one pool.
    pub max_connections: u32,
    /// How long a request waits for a connection.
    pub acquire_timeout: Duration,
    /// How long an unused connection stays open.
    pub idle_timeout: Duration,
    /// The column of every tenant table that names the tenant.
    pub tenant_column: String,
    /// The type of that column.
    pub tenant_key_type: TenantKeyType,
    /// Objects of data sources that may be as they are, named as findings of the isolation report name them.
    pub isolation_exceptions: Vec<String>,
}

/// The application database: where it is, and as whom to log in.
#[derive(Debug, Clone)]
pub struct ApplicationDatabase {
    /// Without the login.
    pub url: DataSourceUrl,
    /// `None` for SQLite, and for a PostgreSQL server that asks for none.
    pub login: Option<Login>,
}

/// The data source of tenants that have not been given another.
#[derive(Debug, Clone)]
pub struct DefaultDataSource {
    /// One URL for all, or one SQLite file per tenant.
    pub url: UrlTemplate,
    /// The restricted and the service login; `None` for SQLite.
    pub logins: Option<DefaultLogins>,
    /// The region that is noted for those tenants.
    pub region: Option<String>,
}

/// The two logins of a PostgreSQL data source.
#[derive(Debug, Clone)]
pub struct DefaultLogins {
    /// Row-level security applies to it.
    pub restricted: Login,
    /// Owns the schema.
    pub service: Login,
}

/// A URL that is the same for every tenant, or one of SQLite files with the tenant's id in its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlTemplate(String);

impl UrlTemplate {
    /// Reads a URL in which `{tenant_id}` may stand in the path of an SQLite file.
    ///
    /// # Errors
    /// [`UrlError`] when what stands around the place is no URL of a data source.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let template = Self(text.to_owned());
        template.for_tenant(Uuid::nil())?;
        Ok(template)
    }

    /// The URL of one tenant's data source.
    ///
    /// # Errors
    /// None that [`UrlTemplate::parse`] has not ruled out, since every id is made of the same characters.
    pub fn for_tenant(&self, tenant: Uuid) -> Result<DataSourceUrl, UrlError> {
        DataSourceUrl::parse(&self.0.replace(TENANT_PLACE, &tenant.to_string()))
    }

    /// Whether every tenant gets a data source of its own.
    pub fn is_per_tenant(&self) -> bool {
        self.0.contains(TENANT_PLACE)
    }
}

/// A settings file that has been read.
#[derive(Clone)]
pub struct SettingsFile {
    /// Where it is, for errors.
    pub path: PathBuf,
    /// TOML; may hold secrets.
    pub text: String,
}

impl Settings {
    /// Settings that say where the application database is and leave the rest at its default.
    pub fn new(application_database: ApplicationDatabase) -> Self {
        Self {
            application_database,
            default_data_source: None,
            keyring: None,
            fallback_to_application_database: false,
            placement_cache: Duration::from_secs(5 * 60),
            placement_poll: Duration::from_secs(2),
            fenced_write_patience: Duration::from_secs(1),
            pool_cache: Duration::from_secs(60 * 60),
            max_connections: 10,
            acquire_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10 * 60),
            tenant_column: "tenant_id".to_owned(),
            tenant_key_type: TenantKeyType::Uuid,
            isolation_exceptions: Vec::new(),
        }
    }

    /// Settings without a server: the application database and a file for each tenant, all in one folder. For development, for
    /// tests, and for an application on one machine.
    ///
    /// # Errors
    /// [`UrlError`] when the folder's path is not UTF-8 or has a `?` or `#` in it.
    pub fn embedded(folder: &Path) -> Result<Self, UrlError> {
        let folder = folder.to_str().ok_or(UrlError::SqlitePath("its path is not UTF-8"))?;
        let url = DataSourceUrl::parse(&format!("sqlite:{folder}/application.db"))?;
        let template = UrlTemplate::parse(&format!("sqlite:{folder}/tenants/{TENANT_PLACE}.db"))?;
        let default_data_source = Some(DefaultDataSource { url: template, logins: None, region: None });
        Ok(Self { default_data_source, ..Self::new(ApplicationDatabase { url, login: None }) })
    }

    /// Reads the environment of this process and the settings file, where there is one.
    ///
    /// # Errors
    /// [`SettingsError`], which names every setting that has to be corrected.
    pub fn load() -> Result<Self, SettingsError> {
        let (environment, unreadable) = readable(std::env::vars_os());
        if !unreadable.is_empty() {
            return Err(SettingsError::Wrong { problems: unreadable });
        }
        Self::from_sources(reader::find_file(&environment)?.as_ref(), &environment)
    }

    /// Reads settings from what is given and from nowhere else.
    ///
    /// # Errors
    /// [`SettingsError`], which names every setting that has to be corrected.
    pub fn from_sources(
        file: Option<&SettingsFile>,
        environment: &HashMap<String, String>,
    ) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(file, environment)?;
        let application_database = read_application_database(&mut reader);
        let default_data_source = read_default_data_source(&mut reader);
        let needs_keys = default_data_source.as_ref().is_some_and(|source| source.logins.is_some());
        let keyring = read_keyring(&mut reader, needs_keys);
        // Everything is read before anything is given up, so that all problems are reported.
        let apply_limits = read_limits(&mut reader);

        let problems = reader.into_problems();
        match application_database {
            Some(application_database) if problems.is_empty() => {
                Ok(apply_limits(Self { default_data_source, keyring, ..Self::new(application_database) }))
            }
            _ => Err(SettingsError::Wrong { problems }),
        }
    }
}

fn read_application_database(reader: &mut Reader) -> Option<ApplicationDatabase> {
    let setting = &APPLICATION_DATABASE_URL;
    let Some((origin, text)) = reader.secret(setting) else {
        if !reader.has_problem_with(setting) {
            reader.missing(setting, "");
        }
        return None;
    };
    match DataSourceUrl::split_login(&text) {
        Ok((url, None)) if url.engine() == Engine::Postgres => {
            let expected = "`postgresql://user:password@host:5432/database`";
            reader.invalid(setting, origin, "the URL carries no login", expected);
            None
        }
        Ok((url, login)) => Some(ApplicationDatabase { url, login }),
        Err(error) => {
            reader.invalid(setting, origin, error.to_string(), setting.kind.expected());
            None
        }
    }
}

fn read_default_data_source(reader: &mut Reader) -> Option<DefaultDataSource> {
    let url = read_template(reader);
    let region = reader.text(&DEFAULT_TENANT_DATA_REGION);
    let restricted = read_login(reader, &DEFAULT_TENANT_DATA_ANON_KEY);
    let service = read_login(reader, &DEFAULT_TENANT_DATA_SERVICE_KEY);
    let Some(template) = url else {
        if !reader.has_problem_with(&DEFAULT_TENANT_DATA_URL) && (restricted.is_some() || service.is_some()) {
            reader.missing(&DEFAULT_TENANT_DATA_URL, "a login for it is set");
        }
        return None;
    };
    let engine = template.for_tenant(Uuid::nil()).ok()?.engine();
    let logins = match (engine, restricted, service) {
        (Engine::Postgres, Some((_, restricted)), Some((_, service))) => Some(DefaultLogins { restricted, service }),
        (Engine::Postgres, restricted, service) => {
            let absent = [
                (restricted.is_none(), &DEFAULT_TENANT_DATA_ANON_KEY),
                (service.is_none(), &DEFAULT_TENANT_DATA_SERVICE_KEY),
            ];
            for setting in absent.into_iter().filter(|(absent, _)| *absent).map(|(_, setting)| setting) {
                if !reader.has_problem_with(setting) {
                    reader.missing(setting, "DEFAULT_TENANT_DATA_URL is a PostgreSQL URL");
                }
            }
            None
        }
        (Engine::Sqlite, restricted, service) => {
            for (setting, login) in
                [(&DEFAULT_TENANT_DATA_ANON_KEY, restricted), (&DEFAULT_TENANT_DATA_SERVICE_KEY, service)]
            {
                if let Some((origin, _)) = login {
                    let found = "a login was found, but DEFAULT_TENANT_DATA_URL is an SQLite file, which has no logins";
                    reader.invalid(setting, origin, found, "nothing");
                }
            }
            None
        }
    };
    Some(DefaultDataSource { url: template, logins, region: region.map(|(_, region)| region) })
}

fn read_template(reader: &mut Reader) -> Option<UrlTemplate> {
    let setting = &DEFAULT_TENANT_DATA_URL;
    let (origin, text) = reader.secret(setting)?;
    let text = text.expose_secret();
    let expected = "`postgresql://host:5432/database` or `sqlite:/absolute/path/{tenant_id}.db`";
    let (found, expected) = match UrlTemplate::parse(text) {
        Err(UrlError::CarriesLogin) => (
            "the URL carries a login".to_owned(),
            "a URL without; its logins are DEFAULT_TENANT_DATA_ANON_KEY and DEFAULT_TENANT_DATA_SERVICE_KEY",
        ),
        Err(error) => (error.to_string(), expected),
        Ok(template) => match template.for_tenant(Uuid::nil()).map(|url| url.engine()) {
            Ok(Engine::Postgres) if text.contains(['{', '}']) => {
                ("the PostgreSQL URL contains a place for the tenant, which only SQLite paths may".to_owned(), expected)
            }
            _ if text.replace(TENANT_PLACE, "").contains(['{', '}']) => {
                ("the URL contains braces that are not `{tenant_id}`".to_owned(), expected)
            }
            _ => return Some(template),
        },
    };
    reader.invalid(setting, origin, found, expected);
    None
}

fn read_login(reader: &mut Reader, setting: &'static Setting) -> Option<(Origin, Login)> {
    let (origin, text) = reader.secret(setting)?;
    match Login::parse(&text) {
        Ok(login) => Some((origin, login)),
        Err(error) => {
            reader.invalid(setting, origin, error.to_string(), setting.kind.expected());
            None
        }
    }
}

/// The keys of both settings together. What is wrong with a key is asked of a ring that holds only that key, so that the
/// error names the setting and the key's id.
fn read_keyring(reader: &mut Reader, needed: bool) -> Option<Arc<Keyring>> {
    let mut keys: Vec<(String, SecretString)> = Vec::new();
    if let Some((origin, key)) = reader.secret(&ENCRYPTION_KEY) {
        match Keyring::from_hex(&key) {
            Ok(_) => keys.push((DEFAULT_KEY_ID.to_owned(), key)),
            Err(error) => reader.invalid(&ENCRYPTION_KEY, origin, error.to_string(), ENCRYPTION_KEY.kind.expected()),
        }
    }
    if let Some((origin, list)) = reader.secret(&ENCRYPTION_KEYS) {
        let setting = &ENCRYPTION_KEYS;
        for (index, item) in list.expose_secret().split(',').map(str::trim).filter(|item| !item.is_empty()).enumerate()
        {
            let Some((id, key)) = item.split_once('=') else {
                let found = format!("key {} of the list has no `=`", index + 1);
                reader.invalid(setting, origin.clone(), found, setting.kind.expected());
                continue;
            };
            let (id, key) = (id.trim().to_owned(), SecretString::from(key.trim().to_owned()));
            if keys.iter().any(|(known, _)| *known == id) {
                let found = format!("key {} of the list has the id of another key", index + 1);
                reader.invalid(setting, origin.clone(), found, "every id once; ENCRYPTION_KEY has the id `default`");
            } else if let Err(error) = Keyring::new(&id, [(id.clone(), key.clone())]) {
                let found = format!("key {} of the list: {error}", index + 1);
                reader.invalid(setting, origin.clone(), found, setting.kind.expected());
            } else {
                keys.push((id, key));
            }
        }
    }
    let active = reader.text(&ENCRYPTION_KEY_ACTIVE);
    if reader.has_problem_with(&ENCRYPTION_KEY) || reader.has_problem_with(&ENCRYPTION_KEYS) {
        return None;
    }
    let ids = keys.iter().map(|(id, _)| format!("`{id}`")).collect::<Vec<_>>().join(", ");
    let active = match (active, keys.as_slice()) {
        (None, []) => {
            if needed {
                reader.missing(&ENCRYPTION_KEY, "the default data source has logins, which have to be sealed");
            }
            return None;
        }
        (Some(_), []) => {
            reader.missing(&ENCRYPTION_KEYS, "ENCRYPTION_KEY_ACTIVE names one of them");
            return None;
        }
        (None, [(only, _)]) => only.clone(),
        (None, _) => {
            reader.missing(&ENCRYPTION_KEY_ACTIVE, &format!("there are several keys: {ids}"));
            return None;
        }
        (Some((_, id)), keys) if keys.iter().any(|(known, _)| *known == id) => id,
        (Some((origin, id)), _) => {
            // A key may have been put where its id belongs.
            let shown = if id.len() < 64 { format!("{id:?}") } else { format!("{} characters", id.chars().count()) };
            reader.invalid(&ENCRYPTION_KEY_ACTIVE, origin, format!("found {shown}, which is no key's id"), ids);
            return None;
        }
    };
    match Keyring::new(&active, keys) {
        Ok(ring) => Some(Arc::new(ring)),
        Err(error) => {
            let expected = ENCRYPTION_KEYS.kind.expected();
            reader.invalid(&ENCRYPTION_KEYS, Origin::Environment, error.to_string(), expected);
            None
        }
    }
}

/// Reads what has a default, and returns how it changes settings that have the defaults.
fn read_limits(reader: &mut Reader) -> impl FnOnce(Settings) -> Settings + use<> {
    let fallback_to_application_database = reader.flag(&FALLBACK_TO_APPLICATION_DATABASE);
    let placement_cache = reader.duration(&PLACEMENT_CACHE);
    let placement_poll = reader.duration(&PLACEMENT_POLL);
    let fenced_write_patience = reader.patience(&FENCED_WRITE_PATIENCE);
    let pool_cache = reader.duration(&POOL_CACHE);
    let max_connections = reader.count(&MAX_CONNECTIONS);
    let acquire_timeout = reader.duration(&ACQUIRE_TIMEOUT);
    let idle_timeout = reader.duration(&IDLE_TIMEOUT);
    let tenant_column = reader.identifier(&TENANT_COLUMN);
    let tenant_key_type = reader.parsed(&TENANT_TYPE, |text| match text {
        "uuid" => Ok(TenantKeyType::Uuid),
        "bigint" => Ok(TenantKeyType::BigInt),
        "text" => Ok(TenantKeyType::Text),
        _ => Err("it is no such type"),
    });
    let isolation_exceptions = reader.names(&ISOLATION_EXCEPTIONS);
    move |defaults| Settings {
        fallback_to_application_database: fallback_to_application_database
            .unwrap_or(defaults.fallback_to_application_database),
        placement_cache: placement_cache.unwrap_or(defaults.placement_cache),
        placement_poll: placement_poll.unwrap_or(defaults.placement_poll),
        fenced_write_patience: fenced_write_patience.unwrap_or(defaults.fenced_write_patience),
        pool_cache: pool_cache.unwrap_or(defaults.pool_cache),
        max_connections: max_connections.unwrap_or(defaults.max_connections),
        acquire_timeout: acquire_timeout.unwrap_or(defaults.acquire_timeout),
        idle_timeout: idle_timeout.unwrap_or(defaults.idle_timeout),
        tenant_column: tenant_column.unwrap_or(defaults.tenant_column),
        tenant_key_type: tenant_key_type.unwrap_or(defaults.tenant_key_type),
        isolation_exceptions: isolation_exceptions.unwrap_or(defaults.isolation_exceptions),
        ..defaults
    }
}

/// The variables that are text. One of ours that is not is a problem; anybody else's is left alone.
fn readable(variables: impl Iterator<Item = (OsString, OsString)>) -> (HashMap<String, String>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut environment = HashMap::new();
    for (name, value) in variables {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => {
                environment.insert(name, value);
            }
            Err(_) => {
                if let Some(setting) = SETTINGS.iter().find(|setting| setting.variable == name) {
                    let (setting, expected) = (setting.variable, setting.kind.expected().to_owned());
                    let found = "the value is not UTF-8".to_owned();
                    problems.push(Problem::Invalid { setting, origin: Origin::Environment, found, expected });
                }
            }
        }
    }
    (environment, problems)
}
