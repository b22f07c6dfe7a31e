//! Finding the server's programs, and installing them where that is allowed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::ClusterError;
use crate::machine::{MachineError, Package, command, on_path};

const OLDEST_MAJOR_VERSION: u32 = 15;

/// Folders that packages put the programs in; `*` stands for any name.
const USUAL_FOLDERS: [&str; 9] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/usr/bin",
    "/usr/local/bin",
];

pub(super) const POSTGRESQL: Package = Package([
    ("apt-get", "apt-get update && apt-get install -y --no-install-recommends postgresql"),
    ("dnf", "dnf install -y postgresql-server"),
    ("zypper", "zypper install -y postgresql-server"),
    ("apk", "apk add postgresql"),
    ("pacman", "pacman -S --noconfirm postgresql"),
    ("brew", "brew install postgresql@17"),
]);

/// Where the programs are.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    pub(super) bindir: PathBuf,
    pub(super) psql: PathBuf,
    pub(super) major_version: u32,
}

impl Binaries {
    /// The folder named in `PG_BIN`, else the newest version found.
    pub(super) fn find() -> Result<Self, ClusterError> {
        if let Some(bindir) = std::env::var_os("PG_BIN") {
            return Self::in_folder(Path::new(&bindir));
        }
        let mut usable: Vec<Self> = Vec::new();
        let mut unusable = None;
        for folder in candidates().into_iter().filter(|folder| folder.join("initdb").exists()) {
            match Self::in_folder(&folder) {
                Ok(binaries) => usable.push(binaries),
                Err(error) => unusable = Some(error),
            }
        }
        // The first of equals wins: `max_by_key` would take the last, a link in /usr/local/bin.
        usable.into_iter().rev().max_by_key(|binaries| binaries.major_version).ok_or_else(|| {
            unusable.unwrap_or_else(|| ClusterError::NoServerBinaries { command: POSTGRESQL.install_command(on_path) })
        })
    }

    fn in_folder(folder: &Path) -> Result<Self, ClusterError> {
        let unusable = |reason: String| ClusterError::Unusable { bindir: folder.to_owned(), reason };
        let bindir = folder.canonicalize().map_err(|error| unusable(error.to_string()))?;
        if let Some(missing) = ["initdb", "postgres"].iter().find(|program| !bindir.join(program).exists()) {
            return Err(unusable(format!("`{missing}` is not there")));
        }
        let psql = Some(bindir.join("psql")).filter(|psql| psql.exists()).or_else(|| on_path("psql"));
        let psql = psql.ok_or_else(|| unusable("`psql` is neither there nor on the PATH".to_owned()))?;
        let version = command(&bindir.join("postgres")).arg("--version").output();
        let version = version.map_err(|source| MachineError::Run { program: "postgres --version".into(), source })?;
        let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        match major_version(&version) {
            Some(major_version) if major_version >= OLDEST_MAJOR_VERSION => Ok(Self { bindir, psql, major_version }),
            _ => Err(unusable(format!("`postgres --version` says {version:?}"))),
        }
    }
}

/// Finds the folder of the server's programs; where there are none and `allow_install` is set, installs them with the
/// system's package manager, whose output goes to this process's own. That needs root and `apt-get`.
///
/// # Errors
/// [`ClusterError::NoServerBinaries`] with the one command to run when it may not or cannot install,
/// [`ClusterError::Machine`] when the package manager failed, [`ClusterError::Unusable`] for a wrong `PG_BIN`.
pub fn ensure_server_binaries(allow_install: bool) -> Result<PathBuf, ClusterError> {
    let error = match Binaries::find() {
        Ok(binaries) => return Ok(binaries.bindir),
        Err(error) => error,
    };
    if !allow_install || !POSTGRESQL.can_install() || std::env::var_os("PG_BIN").is_some() {
        return Err(error);
    }
    POSTGRESQL.install()?;
    Ok(Binaries::find()?.bindir)
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` is 15, `postgres (PostgreSQL) 19beta1` is 19.
pub(super) fn major_version(version: &str) -> Option<u32> {
    let number = version.strip_prefix("postgres (PostgreSQL) ")?;
    let end = number.find(|character: char| !character.is_ascii_digit()).unwrap_or(number.len());
    number[..end].parse().ok()
}

fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(pg_config) = on_path("pg_config")
        && let Ok(output) = command(&pg_config).arg("--bindir").output()
        && output.status.success()
    {
        folders.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    folders.extend(USUAL_FOLDERS.iter().flat_map(|pattern| expand(pattern)));
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    folders
}

/// Expands the one `*` of a pattern.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![pattern.into()] };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let entries = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
    let matches =
        |path: &PathBuf| path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(prefix));
    entries.filter(matches).map(|path| path.join(after.trim_start_matches('/'))).collect()
}
