//! A test's own database on a cluster, with its two logins.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use uuid::Uuid;

use super::{Cluster, ClusterError, HOST};

/// Needs escaping wherever it goes: in a URL, an SQL literal, JSON, a shell, a settings file. The bugs show here.
const AWKWARD: &str = r#"p@ss:/%'"\ ?#&=+$é{},;"#;

/// Set to `1`, it keeps every test's database, as a failed test does.
const KEEP: &str = "TENANTRY_KEEP_DATABASES";

/// A user of the server and its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// Its password, full of characters that need escaping.
    pub password: String,
}

impl Login {
    fn new(user: String) -> Self {
        Self { user, password: format!("{AWKWARD}{}", Uuid::new_v4().simple()) }
    }

    /// The part of a URL before the `@`.
    pub(crate) fn user_information(&self) -> String {
        format!("{}:{}", percent_encode(&self.user), percent_encode(&self.password))
    }
}

/// A database of one test. Dropped at the end of the test with its logins, unless the test failed or
/// `TENANTRY_KEEP_DATABASES` is `1`: then the cluster's files stay, and where they are is printed.
#[derive(Debug)]
pub struct Database {
    /// Its name, which needs quotes in SQL.
    pub name: String,
    /// The server's address.
    pub host: String,
    /// The server's TCP port.
    pub port: u16,
    /// Owns the database; no superuser, creates no roles, bypasses no policy.
    pub service: Login,
    /// Owns nothing and is granted nothing; otherwise as the service login.
    pub restricted: Login,
    /// The server's bootstrap superuser.
    pub superuser: Login,
    logins: Arc<Logins>,
}

/// The two logins, dropped after the last database that uses them.
#[derive(Debug)]
struct Logins {
    cluster: Cluster,
    service: Login,
    restricted: Login,
}

impl Database {
    pub(super) fn create(cluster: &Cluster, name_hint: &str) -> Result<Self, ClusterError> {
        let name = unique_name(cluster, name_hint);
        let service = Login::new(format!("{name}.service"));
        let restricted = Login::new(format!("{name}.restricted"));
        let mut sql = String::new();
        for login in [&service, &restricted] {
            let (user, password) = (identifier(&login.user), literal(&login.password));
            let rights = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS";
            let _ = writeln!(sql, "CREATE ROLE {user} {rights} PASSWORD {password};");
        }
        let _ = writeln!(sql, "CREATE DATABASE {} OWNER {};", identifier(&name), identifier(&service.user));
        cluster.psql("postgres", cluster.superuser(), &sql)?;
        Ok(Self::new(name, Arc::new(Logins { cluster: cluster.clone(), service, restricted })))
    }

    pub(super) fn copy(cluster: &Cluster, template: &Self) -> Result<Self, ClusterError> {
        let hint = template.name.rsplit_once('-').map_or(template.name.as_str(), |(hint, _)| hint);
        let name = unique_name(cluster, hint);
        let sql = format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = {from_text};\n\
             CREATE DATABASE {name} TEMPLATE {from} OWNER {owner};\n\
             -- The privileges on a database are not copied with it.\n\
             UPDATE pg_database SET datacl = (SELECT datacl FROM pg_database WHERE datname = {from_text})\n\
             WHERE datname = {name_text};\n",
            name_text = literal(&name),
            from_text = literal(&template.name),
            name = identifier(&name),
            from = identifier(&template.name),
            owner = identifier(&template.service.user),
        );
        cluster.psql("postgres", cluster.superuser(), &sql)?;
        Ok(Self::new(name, template.logins.clone()))
    }

    /// The URL without a user: `postgresql://127.0.0.1:5433/name`.
    pub fn url(&self) -> String {
        format!("postgresql://{}", self.place(self.port))
    }

    /// The URL with a login, percent-encoded.
    pub fn url_with(&self, login: &Login) -> String {
        format!("postgresql://{}@{}", login.user_information(), self.place(self.port))
    }

    /// The URL with the superuser's login.
    pub fn superuser_url(&self) -> String {
        self.url_with(&self.superuser)
    }

    /// The URL of the server's socket, without a user: `postgresql:///name?host=/tmp/tenantry-ab12cd&port=5433`.
    pub fn socket_url(&self) -> String {
        let directory = self.cluster().directory().to_string_lossy();
        let directory: Vec<String> = directory.split('/').map(percent_encode).collect();
        format!("postgresql:///{}?host={}&port={}", self.name, directory.join("/"), self.port)
    }

    /// Runs SQL with psql as the given login, over TCP; one transaction per statement, stopping at the first error.
    /// Returns the rows, a line each, with `|` between columns.
    ///
    /// # Errors
    /// [`ClusterError::Psql`] with the SQLSTATE, where a statement failed.
    pub fn psql(&self, login: &Login, sql: &str) -> Result<String, ClusterError> {
        self.cluster().psql(&self.name, login, sql)
    }

    /// The cluster it is on.
    pub fn cluster(&self) -> &Cluster {
        &self.logins.cluster
    }

    /// The part of a URL after the `//` or the `@`, when the database is reached by the given port.
    pub(crate) fn place(&self, port: u16) -> String {
        format!("{}:{port}/{}", self.host, self.name)
    }

    fn new(name: String, logins: Arc<Logins>) -> Self {
        Self {
            name,
            host: HOST.to_owned(),
            port: logins.cluster.port(),
            service: logins.service.clone(),
            restricted: logins.restricted.clone(),
            superuser: logins.cluster.superuser().clone(),
            logins,
        }
    }

    fn keep(&self) {
        let cluster = self.cluster();
        let start = cluster.inner.files.keep(self.port);
        let directory = cluster.directory().display();
        // Not `eprintln!`, which a passing test swallows.
        let _ = writeln!(
            std::io::stderr(),
            "kept test database {name:?}: its cluster's files stay in {directory}; start it with\n  {start}\n\
             and look with\n  psql -h {directory} -p {port} -U postgres -d {name}",
            name = self.name,
            port = self.port,
        );
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if std::thread::panicking() || keeps_databases() {
            return self.keep();
        }
        let sql = format!("DROP DATABASE {} WITH (FORCE);", identifier(&self.name));
        report(self.cluster().psql("postgres", &self.superuser, &sql));
    }
}

impl Drop for Logins {
    fn drop(&mut self) {
        if self.cluster.inner.files.directory.is_kept() {
            return;
        }
        let [service, restricted] = [&self.service, &self.restricted].map(|login| identifier(&login.user));
        let sql = format!("DROP ROLE {service}; DROP ROLE {restricted};");
        report(self.cluster.psql("postgres", self.cluster.superuser(), &sql));
    }
}

/// Whether every test's database is to stay.
pub(super) fn keeps_databases() -> bool {
    std::env::var(KEEP).is_ok_and(|keep| keep == "1")
}

/// A name that needs quotes, so that SQL which forgets them fails.
fn unique_name(cluster: &Cluster, hint: &str) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() { character.to_ascii_lowercase() } else { '_' };
    let hint: String = hint.chars().take(40).map(plain).collect();
    format!("{hint}-{}", cluster.next_database())
}

/// A test that took the server down has nothing left to drop, so this is said and not more.
fn report(result: Result<String, ClusterError>) {
    if let Err(error) = result {
        eprintln!("cannot clean up: {error}");
    }
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
        encoded
    })
}
