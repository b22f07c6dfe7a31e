//! A cluster's files and the server that runs on them.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use uuid::Uuid;

use super::binaries::Binaries;
use super::{ClusterError, HOST, Locale, Login};
use crate::machine::{MachineError, PrivateDirectory, Watchdog, lock, run};

/// Settings of every server. Nothing here survives a power cut, and nothing needs to; but what was committed survives a
/// crash of the server, so `synchronous_commit` stays on (without `fsync` it costs next to nothing).
const SETTINGS: [(&str, &str); 11] = [
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("wal_level", "logical"),
    ("max_connections", "200"),
    ("shared_buffers", "32MB"),
    ("password_encryption", "scram-sha-256"),
    ("unix_socket_permissions", "0700"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
    ("jit", "off"),
    // Not UTC, and a form that needs no time zone database.
    ("TimeZone", "<+0545>-05:45"),
    ("log_timezone", "UTC"),
];

const HOST_BASED_AUTHENTICATION: &str = "\
# Only the bootstrap superuser, and only on the private socket, is trusted.
local all,replication postgres trust
local all,replication all scram-sha-256
host all,replication all 127.0.0.1/32 scram-sha-256
";

/// A cluster's directory and what belongs to it.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) directory: PrivateDirectory,
    pub(super) binaries: Binaries,
}

impl Files {
    /// Makes a directory with a fresh cluster in it: a copy of one that this process made by `initdb` once.
    pub(super) fn create(locale: &Locale) -> Result<(Self, Login), ClusterError> {
        static TEMPLATES: LazyLock<Mutex<HashMap<Locale, Template>>> = LazyLock::new(Mutex::default);
        let mut templates = lock(&TEMPLATES);
        let template = match templates.get(locale) {
            Some(template) => template,
            None => templates.entry(locale.clone()).or_insert(Template::create(locale)?),
        };
        let files = Self { directory: template.files.directory.create_sibling()?, ..template.files.clone() };
        let superuser = template.superuser.clone();
        let from = template.files.data();
        drop(templates);
        let mut copy = files.directory.command(Path::new("cp"));
        copy.arg("-Rp").arg(from).arg(files.data());
        if let Err(error) = run(copy) {
            files.directory.remove();
            return Err(error.into());
        }
        Ok((files, superuser))
    }

    /// Tells the watchdog to leave the directory behind, and returns how a person starts the server again.
    pub(super) fn keep(&self, port: u16) -> String {
        self.directory.keep();
        self.directory.by_hand(&format!(
            "{} -D {} -k {} -p {port} -h {HOST}",
            self.binaries.bindir.join("postgres").display(),
            self.data().display(),
            self.directory.path.display()
        ))
    }

    /// The server's process id, from the file it keeps while it runs.
    pub(super) fn server_pid(&self) -> Option<u32> {
        fs::read_to_string(self.data().join("postmaster.pid")).ok()?.lines().next()?.trim().parse().ok()
    }

    fn data(&self) -> PathBuf {
        self.directory.path.join("data")
    }

    /// The status line that the server keeps in its process id file, as `pg_ctl --wait` reads it.
    fn is_ready(&self) -> bool {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        file.lines().nth(7).is_some_and(|status| status.trim() == "ready")
    }
}

/// A server that runs. Dropped: it is stopped at once and its directory removed.
#[derive(Debug)]
pub(super) struct Server {
    watchdog: Watchdog,
}

impl Server {
    /// Starts the server and waits until it accepts connections.
    pub(super) fn start(files: &Files, port: u16, settings: &[(String, String)]) -> Result<Self, ClusterError> {
        // A crashed server's file would say that the new one is ready.
        let _ = fs::remove_file(files.data().join("postmaster.pid"));
        let mut postgres = Command::new(files.binaries.bindir.join("postgres"));
        postgres.arg("-D").arg(files.data());
        postgres.args(["-p", &port.to_string(), "-h", HOST, "-k"]).arg(&files.directory.path);
        for (name, value) in settings {
            postgres.args(["-c", &format!("{name}={value}")]);
        }
        let mut watchdog = Watchdog::over_server(&files.directory, "QUIT", &postgres)?;
        watchdog.wait_until(|| files.is_ready()).map_err(|what| ClusterError::NotReady {
            directory: files.directory.path.clone(),
            what,
            log: files.directory.end_of_log(),
        })?;
        Ok(Self { watchdog })
    }

    /// Stops the server at once and keeps its directory.
    pub(super) fn crash(mut self, files: &Files) -> Result<(), ClusterError> {
        if let Some(pid) = files.server_pid() {
            files.directory.signal(pid, "QUIT")?;
            // For a server that a test has stopped; any other may be gone by now.
            let _ = files.directory.signal(pid, "CONT");
        }
        // The watchdog ends with its server, and finds the pipe still open.
        self.watchdog.wait();
        Ok(())
    }
}

/// A cluster that `initdb` made and no server runs on.
struct Template {
    files: Files,
    superuser: Login,
    /// Held, never dropped: it removes the directory when the process ends.
    _remover: Watchdog,
}

impl Template {
    fn create(locale: &Locale) -> Result<Self, ClusterError> {
        let binaries = Binaries::find()?;
        let files = Files { directory: PrivateDirectory::create()?, binaries };
        let remover = Watchdog::over_directory(&files.directory)?;
        let superuser = Login { user: "postgres".into(), password: Uuid::new_v4().simple().to_string() };
        files.directory.write("password", &superuser.password)?;
        let mut initdb = files.directory.command(&files.binaries.bindir.join("initdb"));
        initdb.args(["-U", &superuser.user, "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"]);
        initdb.args(locale_arguments(locale, files.binaries.major_version));
        initdb.args(["--pwfile", "password", "-D"]).arg(files.data());
        run(initdb)?;
        append(&files.data().join("postgresql.conf"), &configuration())?;
        files.directory.write("data/pg_hba.conf", HOST_BASED_AUTHENTICATION)?;
        Ok(Self { files, superuser, _remover: remover })
    }
}

fn locale_arguments(locale: &Locale, major_version: u32) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match locale {
        // From version 17 the server brings C.UTF-8 itself; before that the system's library must have it.
        Locale::CodePoint if major_version >= 17 => {
            words(&["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"])
        }
        Locale::CodePoint => words(&["--locale=C.UTF-8", "--lc-messages=C"]),
        Locale::Icu(tag) => words(&["--locale=C", "--locale-provider=icu", &format!("--icu-locale={tag}")]),
    }
}

fn configuration() -> String {
    let line = |(name, value): &(&str, &str)| format!("{name} = '{value}'\n");
    SETTINGS.iter().map(line).collect()
}

fn append(path: &Path, text: &str) -> Result<(), MachineError> {
    let file = fs::OpenOptions::new().append(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| MachineError::Prepare { path: path.to_owned(), source })
}
