//! The canonical URL of a database. It never holds a user or a password: those are a sealed credential beside it.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Component, Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
#[cfg(feature = "postgres")]
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tenantry_credential::Login;
use url::Url;

/// What `sslmode` can say, in either case.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// The database engine behind a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// PostgreSQL 15 or newer, or anything that speaks its protocol and keeps its rules.
    Postgres,
    /// An SQLite file.
    Sqlite,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::Sqlite => "SQLite",
        })
    }
}

/// Where a database is, in one canonical spelling, so that two spellings of one place compare equal: the scheme is
/// `postgresql` or `sqlite`, the host lower-case, the port explicit, parameters sorted, a file's path absolute.
///
/// ```
/// # use tenantry_connection::DataSourceUrl;
/// let url = DataSourceUrl::parse("postgres://DB.example.com/crm")?;
/// assert_eq!(url.to_string(), "postgresql://db.example.com:5432/crm");
/// assert!(DataSourceUrl::parse("postgres://user:secret@db.example.com/crm").is_err());
/// # Ok::<(), tenantry_connection::UrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DataSourceUrl(Arc<Parts>);

/// Behind one pointer, because the URL goes into every error and every cache key.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Parts {
    text: String,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Place {
    Postgres { host: Host, port: u16, database: String, ssl_mode: Option<String>, ssl_root_cert: Option<PathBuf> },
    Sqlite { path: PathBuf },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Host {
    Name(String),
    SocketDirectory(String),
}

/// What is wrong with a data source URL. The text of the URL is not repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL at all.
    #[error("not a database URL; expected postgresql://host:port/database or sqlite:/path/to/file.db")]
    Malformed,
    /// Another scheme.
    #[error("unknown scheme {0:?} in a database URL; expected postgresql or sqlite")]
    Scheme(String),
    /// A user or password inside.
    #[error("the URL carries a user or password; remove it: logins are kept as sealed credentials beside the URL")]
    CarriesLogin,
    /// No database name.
    #[error("the URL names no database; expected postgresql://host:port/database")]
    NoDatabase,
    /// No host and no socket directory.
    #[error("the URL names no host; expected postgresql://host:port/database or ?host=/socket/directory")]
    NoHost,
    /// A parameter outside the allowed list.
    #[error(
        "the URL has the parameter {0:?}, which is not allowed; allowed are sslmode, sslrootcert, and host and port for a socket directory"
    )]
    Parameter(String),
    /// A parameter with a value that is not allowed, or given twice.
    #[error("the URL's parameter {0:?} has a value that is not allowed, or is given twice")]
    ParameterValue(&'static str),
    /// An SQLite path that cannot name a file of its own.
    #[error(
        "the SQLite URL does not name a file ({0}); expected sqlite:/path/to/file.db without parameters, not a memory database"
    )]
    SqlitePath(&'static str),
}

impl DataSourceUrl {
    /// Reads a URL and brings it into its canonical spelling. A relative SQLite path is made absolute against the current
    /// directory.
    ///
    /// # Errors
    /// [`UrlError`] names what is wrong; the URL has to be corrected.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (url, login) = Self::read(text)?;
        if login { Err(UrlError::CarriesLogin) } else { Ok(url) }
    }

    /// Splits a URL that may carry a login, as settings have it, into the URL without and the login.
    ///
    /// # Errors
    /// [`UrlError`] names what is wrong, without repeating the text.
    pub fn split_login(text: &SecretString) -> Result<(Self, Option<Login>), UrlError> {
        let text = text.expose_secret();
        let (url, carries_login) = Self::read(text)?;
        if !carries_login {
            return Ok((url, None));
        }
        let parsed = Url::parse(text).map_err(|_| UrlError::Malformed)?;
        let user = percent_decode(parsed.username()).ok_or(UrlError::Malformed)?;
        let password = percent_decode(parsed.password().unwrap_or_default()).ok_or(UrlError::Malformed)?;
        let login = Login::new(user, SecretString::from(password)).map_err(|_| UrlError::Malformed)?;
        Ok((url, Some(login)))
    }

    /// The engine behind the URL.
    pub fn engine(&self) -> Engine {
        match self.0.place {
            Place::Postgres { .. } => Engine::Postgres,
            Place::Sqlite { .. } => Engine::Sqlite,
        }
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The part of the canonical text that says which database it is: without how the connection is secured, which does not
    /// make it another one. Two URLs of one address are one database.
    pub fn address(&self) -> &str {
        let text = self.as_str();
        if self.engine() == Engine::Sqlite {
            return text;
        }
        // The canonical text has these parameters last, in this order, and a socket's parameters before them.
        ["?sslmode=", "&sslmode=", "?sslrootcert=", "&sslrootcert="]
            .iter()
            .filter_map(|parameter| text.find(parameter))
            .min()
            .map_or(text, |end| &text[..end])
    }

    /// The file of an SQLite source.
    pub fn sqlite_path(&self) -> Option<&Path> {
        match &self.0.place {
            Place::Sqlite { path } => Some(path),
            Place::Postgres { .. } => None,
        }
    }

    fn of(text: String, place: Place) -> Self {
        Self(Arc::new(Parts { text, place }))
    }

    fn read(text: &str) -> Result<(Self, bool), UrlError> {
        if text.contains('\0') {
            return Err(UrlError::Malformed);
        }
        let scheme = text.split_once(':').ok_or(UrlError::Malformed)?.0.to_ascii_lowercase();
        match scheme.as_str() {
            "sqlite" => Ok((Self::read_sqlite(&text["sqlite:".len()..])?, false)),
            "postgres" | "postgresql" => Self::read_postgres(text),
            _ if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) => {
                Err(UrlError::Scheme(scheme))
            }
            _ => Err(UrlError::Malformed),
        }
    }

    fn read_sqlite(rest: &str) -> Result<Self, UrlError> {
        let path = rest.strip_prefix("//").unwrap_or(rest);
        if path.is_empty() || path.ends_with('/') {
            return Err(UrlError::SqlitePath("no file name"));
        }
        if path.contains(":memory:") {
            return Err(UrlError::SqlitePath("a memory database is gone when its connection closes"));
        }
        if path.contains(['?', '#']) {
            return Err(UrlError::SqlitePath("it has parameters"));
        }
        let absolute =
            std::path::absolute(path).map_err(|_| UrlError::SqlitePath("its path cannot be made absolute"))?;
        let path = canonical_path(&absolute);
        let text = path.to_str().ok_or(UrlError::SqlitePath("its path is not UTF-8"))?;
        if path.file_name().is_none() {
            return Err(UrlError::SqlitePath("no file name"));
        }
        let text = format!("sqlite:{text}");
        Ok(Self::of(text, Place::Sqlite { path }))
    }

    fn read_postgres(text: &str) -> Result<(Self, bool), UrlError> {
        let url = Url::parse(text).map_err(|_| UrlError::Malformed)?;
        let carries_login = !url.username().is_empty() || url.password().is_some();
        if url.fragment().is_some() {
            return Err(UrlError::Malformed);
        }
        let mut parameters = BTreeMap::new();
        for (name, value) in url.query_pairs() {
            let name = match name.as_ref() {
                "sslmode" => "sslmode",
                "sslrootcert" => "sslrootcert",
                "host" => "host",
                "port" => "port",
                "user" | "password" => return Err(UrlError::CarriesLogin),
                other => return Err(UrlError::Parameter(other.to_owned())),
            };
            if parameters.insert(name, value.into_owned()).is_some() {
                return Err(UrlError::ParameterValue(name));
            }
        }
        let database = percent_decode(url.path().trim_start_matches('/')).ok_or(UrlError::Malformed)?;
        if database.is_empty() || database.contains(['\0', '/']) {
            return Err(UrlError::NoDatabase);
        }
        let named = url.host_str().filter(|host| !host.is_empty()).map(str::to_ascii_lowercase);
        let socket = parameters.remove("host");
        let parameter_port = parameters.remove("port");
        let (host, port) = match (named, socket) {
            (Some(_), Some(_)) => return Err(UrlError::ParameterValue("host")),
            (Some(name), None) if parameter_port.is_none() => (Host::Name(name), url.port().unwrap_or(5432)),
            (Some(_), None) => return Err(UrlError::ParameterValue("port")),
            (None, Some(directory)) if directory.starts_with('/') => {
                let port = parameter_port.as_deref().unwrap_or("5432");
                (Host::SocketDirectory(directory), port.parse().map_err(|_| UrlError::ParameterValue("port"))?)
            }
            (None, Some(_)) => return Err(UrlError::ParameterValue("host")),
            (None, None) => return Err(UrlError::NoHost),
        };
        let ssl_mode = parameters.remove("sslmode");
        if ssl_mode.as_deref().is_some_and(|mode| !SSL_MODES.contains(&mode.to_ascii_lowercase().as_str())) {
            return Err(UrlError::ParameterValue("sslmode"));
        }
        let ssl_root_cert = parameters.remove("sslrootcert").map(PathBuf::from);

        let encoded = percent_encode(&database);
        let mut text = match &host {
            Host::Name(name) => format!("postgresql://{name}:{port}/{encoded}"),
            Host::SocketDirectory(_) => format!("postgresql:///{encoded}"),
        };
        let mut query = Vec::new();
        if let Host::SocketDirectory(directory) = &host {
            query.push(format!("host={}", percent_encode(directory)));
            query.push(format!("port={port}"));
        }
        query.extend(ssl_mode.iter().map(|mode| format!("sslmode={mode}")));
        query.extend(
            ssl_root_cert.iter().map(|path| format!("sslrootcert={}", percent_encode(&path.to_string_lossy()))),
        );
        if !query.is_empty() {
            text = format!("{text}?{}", query.join("&"));
        }
        Ok((Self::of(text, Place::Postgres { host, port, database, ssl_mode, ssl_root_cert }), carries_login))
    }

    #[cfg(feature = "postgres")]
    /// Connect options built from parts, so that no URL with a password is ever put together.
    pub(crate) fn postgres_options(&self, login: &Login) -> Option<PgConnectOptions> {
        let Place::Postgres { host, port, database, ssl_mode, ssl_root_cert } = &self.0.place else { return None };
        let mut options = PgConnectOptions::new_without_pgpass()
            .username(&login.user)
            .password(login.password.expose_secret())
            .database(database)
            .port(*port);
        options = match host {
            Host::Name(name) => options.host(name.trim_start_matches('[').trim_end_matches(']')),
            Host::SocketDirectory(directory) => options.socket(directory),
        };
        let mode = match ssl_mode {
            Some(mode) => PgSslMode::from_str(mode).unwrap_or(PgSslMode::VerifyFull),
            None if self.is_local() => PgSslMode::Prefer,
            // A password and a customer's rows do not cross a network unverified unless the URL says so.
            None => PgSslMode::VerifyFull,
        };
        options = options.ssl_mode(mode);
        Some(match ssl_root_cert {
            Some(path) => options.ssl_root_cert(path),
            None => options,
        })
    }

    fn is_local(&self) -> bool {
        match &self.0.place {
            Place::Postgres { host: Host::Name(name), .. } => {
                name == "localhost"
                    || name
                        .trim_matches(['[', ']'])
                        .parse::<std::net::IpAddr>()
                        .is_ok_and(|address| address.is_loopback())
            }
            _ => true,
        }
    }
}

impl fmt::Display for DataSourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for DataSourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.text, f)
    }
}

impl FromStr for DataSourceUrl {
    type Err = UrlError;
    fn from_str(text: &str) -> Result<Self, UrlError> {
        Self::parse(text)
    }
}

impl From<DataSourceUrl> for String {
    fn from(url: DataSourceUrl) -> Self {
        url.0.text.clone()
    }
}

impl TryFrom<String> for DataSourceUrl {
    type Error = UrlError;
    fn try_from(text: String) -> Result<Self, UrlError> {
        Self::parse(&text)
    }
}

/// Resolves `.` and `..`, and symbolic links as far as the path exists, so that one file has one spelling.
fn canonical_path(absolute: &Path) -> PathBuf {
    let mut lexical = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => {
                lexical.pop();
            }
            Component::CurDir => {}
            other => lexical.push(other),
        }
    }
    if let Ok(path) = lexical.canonicalize() {
        return path;
    }
    match (lexical.parent().map(Path::canonicalize), lexical.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => lexical,
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        if bytes[index] == b'%' {
            let hex = text.get(index + 1..index + 3)?;
            decoded.push(u8::from_str_radix(hex, 16).ok()?);
            index += 3;
        } else {
            decoded.push(bytes[index]);
            index += 1;
        }
    }
    String::from_utf8(decoded).ok()
}

fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    #[test]
    fn spellings_of_one_place_are_one_url() {
        for (given, canonical) in [
            ("postgres://DB.Example.com/crm", "postgresql://db.example.com:5432/crm"),
            ("POSTGRESQL://db.example.com:5432/crm", "postgresql://db.example.com:5432/crm"),
            ("postgres://[::1]:5433/a%20b?sslmode=require", "postgresql://[::1]:5433/a%20b?sslmode=require"),
            ("postgres:///crm?port=6000&host=/run/pg", "postgresql:///crm?host=/run/pg&port=6000"),
            ("sqlite:///srv/../srv/./a.db", "sqlite:/srv/a.db"),
            ("sqlite:/srv/a.db", "sqlite:/srv/a.db"),
        ] {
            let url = DataSourceUrl::parse(given).unwrap();
            assert_eq!(url.to_string(), canonical, "{given}");
            assert_eq!(DataSourceUrl::parse(canonical).unwrap(), url, "canonical text reads back as itself");
        }
    }

    /// Regression: `?sslmode=require` was a way into a neighbour's dedicated database.
    #[test]
    fn an_address_leaves_out_how_the_connection_is_secured() {
        for (given, address) in [
            ("postgres://db/crm?sslmode=require&sslrootcert=/ca.pem", "postgresql://db:5432/crm"),
            ("postgres://db/crm?sslrootcert=/ca.pem", "postgresql://db:5432/crm"),
            ("postgres:///crm?host=/run/pg&sslmode=disable", "postgresql:///crm?host=/run/pg&port=5432"),
            ("sqlite:/srv/a.db", "sqlite:/srv/a.db"),
        ] {
            assert_eq!(DataSourceUrl::parse(given).unwrap().address(), address, "{given}");
        }
    }

    #[test]
    fn a_login_is_refused_in_a_url_and_never_repeated() {
        for text in [
            "postgres://me:hunter2@db/crm",
            "postgres://me@db/crm",
            "postgres://db/crm?password=hunter2",
            "postgres://:hunter2@db/x",
        ] {
            let error = DataSourceUrl::parse(text).unwrap_err();
            assert_eq!(error, UrlError::CarriesLogin, "{text}");
            assert!(!error.to_string().contains("hunter2"));
        }
        let (url, login) =
            DataSourceUrl::split_login(&SecretString::from("postgres://me:p%40ss%2F@db/crm".to_owned())).unwrap();
        assert_eq!(url.as_str(), "postgresql://db:5432/crm");
        let login = login.unwrap();
        assert_eq!((login.user.as_str(), login.password.expose_secret()), ("me", "p@ss/"));
    }

    #[test]
    fn what_does_not_name_one_database_is_refused() {
        for text in [
            "",
            "crm",
            "mysql://db/crm",
            "postgres://db",
            "postgres://db/",
            "postgres:///crm",
            "postgres://db/crm?options=-c%20role%3Dx",
            "postgres://db/crm?sslmode=never",
            "postgres://db/crm?sslmode=require&sslmode=disable",
            "postgres://db/crm#x",
            "sqlite::memory:",
            "sqlite:",
            "sqlite:dir/",
            "sqlite:a.db?mode=ro",
            "postgres://db/a/b",
            "postgres://db/%zz",
        ] {
            assert!(DataSourceUrl::parse(text).is_err(), "{text}");
        }
    }
}
