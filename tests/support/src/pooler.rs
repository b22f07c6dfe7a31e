//! Private PgBouncer processes in front of a [cluster]'s databases, for what holds on a direct connection
//! and may not hold behind a pooler.
//!
//! ```text
//! client ──SCRAM──▶ pgbouncer in <temp dir>/tenantry-XXXXXX/{pgbouncer.ini, userlist.txt, log, pid} ──SCRAM──▶ postgres
//! ```
//! Each is PgBouncer as its package brings it: what it refuses by default it refuses here, such as a startup parameter
//! that it does not know. A watchdog stops it as one stops a cluster's server.
//!
//! All calls block. This module knows no table and no driver. Unix only.

mod program;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use uuid::Uuid;

use self::program::Program;
pub use self::program::ensure_pooler;
use crate::cluster::{self, ClusterError, Database, HOST, Login};
use crate::machine::{MachineError, PrivateDirectory, Watchdog, lock, on_free_port};

/// How long a client keeps a server connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PoolerMode {
    /// Until its transaction ends. What it left in the session, the next client finds.
    #[default]
    Transaction,
    /// Until it disconnects; then the session is reset.
    Session,
}

/// What a pooler may be asked for.
#[derive(Debug, Clone)]
pub struct PoolerOptions {
    /// How long a client keeps a server connection.
    pub mode: PoolerMode,
    /// The most server connections, for each database and login of its own (`default_pool_size`).
    pub server_connections: u32,
    /// PgBouncer's settings that override this module's own, as `("query_wait_timeout", "5")`.
    pub settings: Vec<(String, String)>,
}

impl Default for PoolerOptions {
    /// Transaction mode and PgBouncer's own number of server connections.
    fn default() -> Self {
        Self { mode: PoolerMode::default(), server_connections: 20, settings: Vec::new() }
    }
}

/// A running PgBouncer. It stops and its directory goes when it is dropped, or when the process ends in whatever way.
#[derive(Debug)]
pub struct Pooler {
    directory: PrivateDirectory,
    program: Program,
    psql: PathBuf,
    port: u16,
    administrator: Login,
    /// `None` between a kill and the restart.
    process: Mutex<Option<Watchdog>>,
}

impl Pooler {
    /// Starts PgBouncer in front of databases of one cluster. It lets in each one's service and restricted login with
    /// their passwords, and nobody else.
    ///
    /// # Errors
    /// [`PoolerError::NoProgram`] says which command installs it; [`or_skip`] is for scenarios that can do without.
    /// The others show what PgBouncer printed.
    pub fn start(databases: &[&Database], options: &PoolerOptions) -> Result<Self, PoolerError> {
        let &[first, ..] = databases else { return Err(PoolerError::NotOneCluster) };
        if databases.iter().any(|database| database.port != first.port) {
            return Err(PoolerError::NotOneCluster);
        }
        let program = Program::find()?;
        let directory = PrivateDirectory::create()?;
        let administrator = Login { user: "tenantry-pooler".into(), password: Uuid::new_v4().simple().to_string() };
        let users = directory.write("userlist.txt", &user_list(databases, &administrator));
        let started = users.map_err(PoolerError::from).and_then(|()| {
            on_free_port(|port| {
                let configuration = configuration(&directory.path, port, &administrator, databases, options);
                directory.write("pgbouncer.ini", &configuration)?;
                run(&program, &directory)
            })
        });
        match started {
            Ok((port, process)) => Ok(Self {
                directory,
                program,
                psql: first.cluster().psql_program().to_owned(),
                port,
                administrator,
                process: Mutex::new(Some(process)),
            }),
            Err(error) => {
                directory.remove();
                Err(error)
            }
        }
    }

    /// The TCP port on [`HOST`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As [`Database::url`], by way of this pooler.
    pub fn url_of(&self, database: &Database) -> String {
        format!("postgresql://{}", database.place(self.port))
    }

    /// As [`Database::url_with`], by way of this pooler.
    pub fn url_with(&self, database: &Database, login: &Login) -> String {
        format!("postgresql://{}@{}", login.user_information(), database.place(self.port))
    }

    /// PgBouncer's version, such as `PgBouncer 1.18.0`.
    pub fn version(&self) -> &str {
        &self.program.version
    }

    /// The private directory: the configuration and `log` are in it.
    pub fn directory(&self) -> &Path {
        &self.directory.path
    }

    /// Runs a command of the administration console, such as `SHOW POOLS` or `PAUSE`. Returns the rows, each with its
    /// values by column name; what columns there are depends on the version.
    ///
    /// # Errors
    /// [`PoolerError::Psql`] when PgBouncer is down or refuses.
    pub fn admin(&self, sql: &str) -> Result<Vec<BTreeMap<String, String>>, PoolerError> {
        let format = ["-A", "-F", "\u{1f}", "-R", "\u{1e}", "-P", "footer=off"];
        let output = cluster::psql(&self.psql, self.port, "pgbouncer", &self.administrator, &format, sql)?;
        let mut lines = output.trim_end_matches('\n').split('\u{1e}').map(|line| line.split('\u{1f}'));
        let names: Vec<&str> = lines.next().into_iter().flatten().collect();
        let row = |values: std::str::Split<'_, char>| {
            names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), value.to_owned())).collect()
        };
        Ok(lines.map(row).collect())
    }

    /// PgBouncer's process id, for tests that stop it; none when it is down.
    pub fn pid(&self) -> Option<u32> {
        lock(&self.process).as_ref().and_then(|_| pid(&self.directory.path))
    }

    /// Kills PgBouncer: every connection of its clients and to the server breaks. Returns when it is gone. Does nothing
    /// when it is already down.
    ///
    /// # Errors
    /// [`PoolerError::Machine`] when the signal could not be sent.
    pub fn kill(&self) -> Result<(), PoolerError> {
        let Some(mut process) = lock(&self.process).take() else { return Ok(()) };
        if let Some(pid) = pid(&self.directory.path) {
            self.directory.signal(pid, "KILL")?;
        }
        // The watchdog ends with its server, and finds the pipe still open.
        process.wait();
        Ok(())
    }

    /// Starts PgBouncer again on the same port after [`Pooler::kill`]. Does nothing when it is up.
    ///
    /// # Errors
    /// As [`Pooler::start`].
    pub fn restart(&self) -> Result<(), PoolerError> {
        let mut process = lock(&self.process);
        if process.is_none() {
            *process = Some(run(&self.program, &self.directory)?);
        }
        Ok(())
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the pooler's log ends:\n{}", self.directory.end_of_log());
        }
        let process = lock(&self.process).take();
        match process {
            Some(process) => drop(process),
            // It was killed and not restarted, so there is no watchdog that would remove the directory.
            None => self.directory.remove(),
        }
    }
}

/// Why there is no pooler, or why it refused.
#[derive(Debug, thiserror::Error)]
pub enum PoolerError {
    /// PgBouncer is not installed.
    #[error("no PgBouncer found; install it with `{command}`, or name its program in PGBOUNCER")]
    NoProgram {
        /// The one command that installs it.
        command: String,
    },
    /// The package manager failed.
    #[error("PgBouncer cannot be installed")]
    Install(#[source] MachineError),
    /// A program was found that is not PgBouncer, or does not run.
    #[error("{} is unusable: {reason}; name PgBouncer's program in PGBOUNCER", program.display())]
    Unusable {
        /// The program.
        program: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Databases of several clusters may have the same name; and without one there is nothing to be in front of.
    #[error("a pooler needs databases of one cluster: at least one, and all on the same port")]
    NotOneCluster,
    /// PgBouncer ended, or was not ready in time.
    #[error("PgBouncer in {} {what}; its log ends:\n{log}", directory.display())]
    NotReady {
        /// The pooler's directory.
        directory: PathBuf,
        /// "ended before it was ready" or the like.
        what: &'static str,
        /// The end of its log.
        log: String,
    },
    /// The administration console could not be reached or refused a command.
    #[error(transparent)]
    Psql(#[from] ClusterError),
    /// This machine lacks or refuses something.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// For scenarios that a machine without PgBouncer may do without: says in one line what is skipped and how to install
/// it, and returns none. Where the environment variable `CI` is set, nothing may be skipped.
///
/// # Errors
/// Whatever the attempt failed with, unless PgBouncer is only missing and `CI` is not set (or empty, `0`, `false`).
pub fn or_skip<T>(scenario: &str, attempt: Result<T, PoolerError>) -> Result<Option<T>, PoolerError> {
    let may_skip = may_skip(std::env::var("CI").ok().as_deref());
    // Not `eprintln!`, which a passing test swallows.
    skip(scenario, attempt, may_skip, |line| drop(writeln!(std::io::stderr(), "{line}")))
}

fn may_skip(ci: Option<&str>) -> bool {
    matches!(ci, None | Some("" | "0" | "false"))
}

fn skip<T>(
    scenario: &str,
    attempt: Result<T, PoolerError>,
    may_skip: bool,
    say: impl FnOnce(&str),
) -> Result<Option<T>, PoolerError> {
    match attempt {
        Ok(done) => Ok(Some(done)),
        Err(error @ PoolerError::NoProgram { .. }) if may_skip => {
            say(&format!("SKIPPED {scenario}: {error}"));
            Ok(None)
        }
        Err(PoolerError::Install(error)) if may_skip => {
            say(&format!("SKIPPED {scenario}: PgBouncer cannot be installed: {error}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Starts the program and waits until it accepts connections.
fn run(program: &Program, directory: &PrivateDirectory) -> Result<Watchdog, PoolerError> {
    // A killed one's file would say that the new one is ready.
    let _ = fs::remove_file(directory.path.join("pid"));
    let mut pgbouncer = Command::new(&program.path);
    pgbouncer.arg(directory.path.join("pgbouncer.ini"));
    // Its other signals differ between versions, and some wait for the clients.
    let mut watchdog = Watchdog::over_server(directory, "KILL", &pgbouncer)?;
    watchdog.wait_until(|| pid(&directory.path).is_some()).map_err(|what| PoolerError::NotReady {
        directory: directory.path.clone(),
        what,
        log: directory.end_of_log(),
    })?;
    Ok(watchdog)
}

/// From the file that PgBouncer writes once it listens.
fn pid(directory: &Path) -> Option<u32> {
    fs::read_to_string(directory.join("pid")).ok()?.strip_suffix('\n')?.parse().ok()
}

fn configuration(
    directory: &Path,
    port: u16,
    administrator: &Login,
    databases: &[&Database],
    options: &PoolerOptions,
) -> String {
    let mut text = String::from("[databases]\n");
    for database in databases {
        // Version 1.18 takes no quotes here, whatever its manual says; a cluster's names do without.
        let _ = writeln!(text, "{} = host={} port={}", database.name, database.host, database.port);
    }
    let path = |name: &str| directory.join(name).display().to_string();
    let mode = match options.mode {
        PoolerMode::Transaction => "transaction",
        PoolerMode::Session => "session",
    };
    let own = [
        ("listen_addr", HOST.to_owned()),
        ("listen_port", port.to_string()),
        // With a socket besides, a port that is taken would be a warning only.
        ("unix_socket_dir", String::new()),
        ("pidfile", path("pid")),
        ("auth_type", "scram-sha-256".to_owned()),
        ("auth_file", path("userlist.txt")),
        ("admin_users", administrator.user.clone()),
        ("pool_mode", mode.to_owned()),
        ("default_pool_size", options.server_connections.to_string()),
        // With the server's side, below the 1024 files that most systems allow a process.
        ("max_client_conn", "500".to_owned()),
        // The default of 15 seconds is what a test would wait after its server's restart.
        ("server_login_retry", "1".to_owned()),
    ];
    text.push_str("[pgbouncer]\n");
    let own = own.iter().map(|(name, value)| (*name, value));
    // The last line for a setting is the one that counts.
    for (name, value) in own.chain(options.settings.iter().map(|(name, value)| (name.as_str(), value))) {
        let _ = writeln!(text, "{name} = {value}");
    }
    text
}

/// Passwords in plain: PgBouncer cannot log in to the server with a stored SCRAM verifier that is not the server's own.
fn user_list(databases: &[&Database], administrator: &Login) -> String {
    let of_databases = databases.iter().flat_map(|database| [&database.service, &database.restricted]);
    // Copies of a database share their logins.
    let logins: BTreeMap<&str, &str> =
        of_databases.chain([administrator]).map(|login| (login.user.as_str(), login.password.as_str())).collect();
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    logins.into_iter().map(|(user, password)| format!("{} {}\n", quoted(user), quoted(password))).collect()
}
