//! Private PostgreSQL clusters: started from the system's binaries, used by one test process, thrown away.
//!
//! ```text
//! test process ──pipe──▶ sh (watchdog) ──▶ postgres ──▶ <temp dir>/tenantry-XXXXXX/{data, log, .s.PGSQL.<port>}
//! ```
//! The watchdog waits for the end of the pipe, which comes when the [`Cluster`] is dropped and also when the process is
//! killed: it then stops the server and removes the directory. So there is one way down, and every test exercises it.
//!
//! Every login but the bootstrap superuser on the socket needs its password (SCRAM), because tests prove that a wrong
//! one fails. The locale is `C.UTF-8` unless said otherwise: it orders text by code point, as SQLite does. The server's
//! time zone is deliberately not UTC and no identifier goes without quotes, so that code relying on either shows itself.
//!
//! All calls block (the longest, [`Cluster::start`], for about half a second). This module knows no table and no
//! migration. Unix only.

mod binaries;
mod database;
mod server;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

pub use self::binaries::ensure_server_binaries;
pub use self::database::{Database, Login};
use self::server::{Files, Server};
pub use crate::machine::HOST;
use crate::machine::{MachineError, command, lock, on_free_port, run_with_input};

/// How text is ordered and folded in a cluster's databases.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Locale {
    /// `C.UTF-8`: by code point, with Unicode's case mapping.
    #[default]
    CodePoint,
    /// An ICU locale such as `und` or `en-US`: by Unicode's collation.
    Icu(String),
}

/// What a cluster may be asked for beyond the usual.
#[derive(Debug, Clone, Default)]
pub struct ClusterOptions {
    /// The databases' locale.
    pub locale: Locale,
    /// Server settings that override this module's own, as `("max_connections", "20")`.
    pub settings: Vec<(String, String)>,
}

/// A running private server. A cheap handle: the server stops and its directory goes when the last handle and the last
/// [`Database`] made from it are gone, or when the process ends in whatever way.
#[derive(Debug, Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    files: Files,
    port: u16,
    superuser: Login,
    settings: Vec<(String, String)>,
    /// `None` between a crash and the restart.
    server: Mutex<Option<Server>>,
    databases: AtomicU32,
}

impl Cluster {
    /// Starts a cluster with the usual options.
    ///
    /// # Errors
    /// [`ClusterError::NoServerBinaries`] says which command installs them; the others show what the server printed.
    pub fn start() -> Result<Self, ClusterError> {
        Self::start_with(&ClusterOptions::default())
    }

    /// Starts a cluster.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_with(options: &ClusterOptions) -> Result<Self, ClusterError> {
        let (files, superuser) = Files::create(&options.locale)?;
        match on_free_port(|port| Server::start(&files, port, &options.settings)) {
            Ok((port, server)) => Ok(Self {
                inner: Arc::new(Inner {
                    files,
                    port,
                    superuser,
                    settings: options.settings.clone(),
                    server: Mutex::new(Some(server)),
                    databases: AtomicU32::new(0),
                }),
            }),
            Err(error) => {
                files.directory.remove();
                Err(error)
            }
        }
    }

    /// The one cluster of this process, started by whoever asks first. It stops when the process ends.
    ///
    /// # Errors
    /// As [`Cluster::start`]; the next call tries again.
    pub fn shared() -> Result<Self, ClusterError> {
        static SHARED: Mutex<Option<Cluster>> = Mutex::new(None);
        let mut shared = lock(&SHARED);
        if let Some(cluster) = &*shared {
            return Ok(cluster.clone());
        }
        Ok(shared.insert(Self::start()?).clone())
    }

    /// Creates an empty database, owned by a fresh service login and with a fresh restricted login that owns nothing.
    /// Its name begins with the hint.
    ///
    /// # Errors
    /// [`ClusterError::Psql`] when the server refuses.
    pub fn create_database(&self, name_hint: &str) -> Result<Database, ClusterError> {
        Database::create(self, name_hint)
    }

    /// Creates a copy of a database, migrated and filled once, for tests that each want their own. The copy shares the
    /// template's logins, since they own and are granted what is in it. Connections to the template are closed.
    ///
    /// # Errors
    /// [`ClusterError::Psql`] when the server refuses.
    pub fn create_database_from(&self, template: &Database) -> Result<Database, ClusterError> {
        Database::copy(self, template)
    }

    /// The TCP port on [`HOST`].
    pub fn port(&self) -> u16 {
        self.inner.port
    }

    /// The private directory: `data`, `log` and the socket are in it.
    pub fn directory(&self) -> &Path {
        &self.inner.files.directory.path
    }

    /// The folder of the server's programs.
    pub fn bindir(&self) -> &Path {
        &self.inner.files.binaries.bindir
    }

    /// The server's major version, such as 15.
    pub fn major_version(&self) -> u32 {
        self.inner.files.binaries.major_version
    }

    /// The bootstrap superuser. On the socket it needs no password, over TCP it does.
    pub fn superuser(&self) -> &Login {
        &self.inner.superuser
    }

    /// The process id of the server's parent process, for tests that stop or kill it.
    pub fn server_pid(&self) -> Option<u32> {
        self.inner.files.server_pid()
    }

    /// Stops the server as a crash would (no checkpoint, every connection breaks), keeping its files. Returns
    /// when it is gone. Does nothing when it is already down.
    ///
    /// # Errors
    /// [`ClusterError::Machine`] when the signal could not be sent.
    pub fn crash(&self) -> Result<(), ClusterError> {
        match lock(&self.inner.server).take() {
            Some(server) => server.crash(&self.inner.files),
            None => Ok(()),
        }
    }

    /// Starts the server again on the same port after [`Cluster::crash`]. Does nothing when it is up.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn restart(&self) -> Result<(), ClusterError> {
        let mut server = lock(&self.inner.server);
        if server.is_none() {
            *server = Some(Server::start(&self.inner.files, self.inner.port, &self.inner.settings)?);
        }
        Ok(())
    }

    fn next_database(&self) -> u32 {
        self.inner.databases.fetch_add(1, Ordering::Relaxed)
    }

    /// psql; where its package is not the server's, it is elsewhere than [`Cluster::bindir`].
    pub(crate) fn psql_program(&self) -> &Path {
        &self.inner.files.binaries.psql
    }

    fn psql(&self, database: &str, login: &Login, sql: &str) -> Result<String, ClusterError> {
        psql(self.psql_program(), self.port(), database, login, &["-A", "-t"], sql)
    }
}

/// Runs SQL with psql over TCP and returns what it prints in the format that the arguments ask for.
pub(crate) fn psql(
    program: &Path,
    port: u16,
    database: &str,
    login: &Login,
    format: &[&str],
    sql: &str,
) -> Result<String, ClusterError> {
    let mut psql = command(program);
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-f", "-"])
        .args(format)
        .args(["-h", HOST, "-p", &port.to_string(), "-U", &login.user, "-d", database])
        .env("PGPASSWORD", &login.password)
        .env("PGCLIENTENCODING", "UTF8");
    let output = run_with_input(psql, sql)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ClusterError::Psql {
        user: login.user.clone(),
        database: database.to_owned(),
        sqlstate: sqlstate(&message),
        output: message,
    })
}

impl Drop for Inner {
    fn drop(&mut self) {
        let server = lock(&self.server).take();
        match server {
            Some(server) => drop(server),
            // It crashed and was not restarted, so there is no watchdog that would remove the directory.
            None => self.files.directory.remove(),
        }
    }
}

/// Why there is no cluster, or why it refused.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No PostgreSQL server is installed.
    #[error(
        "no PostgreSQL server programs (15 or newer) found; install them with `{command}`, or name their folder in PG_BIN"
    )]
    NoServerBinaries {
        /// The one command that installs them.
        command: String,
    },
    /// Programs were found, but none is usable.
    #[error("the PostgreSQL server programs in {} are unusable: {reason}; name the folder of version 15 or newer in PG_BIN", bindir.display())]
    Unusable {
        /// Their folder.
        bindir: PathBuf,
        /// What is wrong with them.
        reason: String,
    },
    /// This machine lacks or refuses something.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The server ended, or was not ready in time.
    #[error("the PostgreSQL server in {} {what}; its log ends:\n{log}", directory.display())]
    NotReady {
        /// The cluster's directory.
        directory: PathBuf,
        /// "ended before it was ready" or the like.
        what: &'static str,
        /// The end of its log.
        log: String,
    },
    /// psql could not connect or the server refused a statement.
    #[error("psql as {user} on {database} failed:\n{output}")]
    Psql {
        /// The login's name.
        user: String,
        /// The database.
        database: String,
        /// The SQLSTATE of the statement that failed; none when the connection did.
        sqlstate: Option<String>,
        /// What psql printed.
        output: String,
    },
}

impl ClusterError {
    /// The SQLSTATE of a statement that psql saw fail.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Psql { sqlstate, .. } => sqlstate.as_deref(),
            _ => None,
        }
    }
}

/// psql's verbose form is `…ERROR:  42501: permission denied…`.
fn sqlstate(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("ERROR:  ")?;
    let (code, _) = rest.split_once(':')?;
    (code.len() == 5).then(|| code.to_owned())
}
