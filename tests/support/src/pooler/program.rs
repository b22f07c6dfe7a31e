//! Finding PgBouncer, and installing it where that is allowed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::PoolerError;
use crate::machine::{Package, command, on_path};

/// Where packages put the program, most of them outside an ordinary user's `PATH`.
const USUAL_FOLDERS: [&str; 5] =
    ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin", "/opt/homebrew/opt/pgbouncer/bin"];

const PGBOUNCER: Package = Package([
    ("apt-get", "apt-get update && apt-get install -y --no-install-recommends pgbouncer"),
    ("dnf", "dnf install -y pgbouncer"),
    ("zypper", "zypper install -y pgbouncer"),
    ("apk", "apk add pgbouncer"),
    ("pacman", "pacman -S --noconfirm pgbouncer"),
    ("brew", "brew install pgbouncer"),
]);

/// The program.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    /// The first line of what it says about itself.
    pub(super) version: String,
}

impl Program {
    /// The one named in `PGBOUNCER`, else the first found.
    pub(super) fn find() -> Result<Self, PoolerError> {
        if let Some(path) = std::env::var_os("PGBOUNCER") {
            return Self::at(Path::new(&path));
        }
        let usual =
            || USUAL_FOLDERS.iter().map(|folder| Path::new(folder).join("pgbouncer")).find(|path| path.is_file());
        match on_path("pgbouncer").or_else(usual) {
            Some(path) => Self::at(&path),
            None => Err(PoolerError::NoProgram { command: PGBOUNCER.install_command(on_path) }),
        }
    }

    fn at(path: &Path) -> Result<Self, PoolerError> {
        let unusable = |reason: String| PoolerError::Unusable { program: path.to_owned(), reason };
        // The server's account starts it elsewhere, so a relative path would not do.
        let path = path.canonicalize().map_err(|error| unusable(error.to_string()))?;
        let output = command(&path).arg("--version").output().map_err(|error| unusable(error.to_string()))?;
        let printed = String::from_utf8_lossy(&output.stdout);
        match printed.lines().next() {
            Some(version) if version.starts_with("PgBouncer ") => Ok(Self { path, version: version.to_owned() }),
            first => Err(unusable(format!("`--version` says {:?}", first.unwrap_or_default()))),
        }
    }
}

/// Finds PgBouncer; where there is none and `allow_install` is set, installs it with the system's package manager, whose
/// output goes to this process's own. That needs root and `apt-get`.
///
/// # Errors
/// [`PoolerError::NoProgram`] with the one command to run when it may not or cannot install, [`PoolerError::Install`]
/// when the package manager failed, [`PoolerError::Unusable`] for a wrong `PGBOUNCER`.
pub fn ensure_pooler(allow_install: bool) -> Result<PathBuf, PoolerError> {
    match Program::find() {
        Err(PoolerError::NoProgram { .. }) if allow_install && PGBOUNCER.can_install() => {
            PGBOUNCER.install().map_err(PoolerError::Install)?;
            // Debian starts what it installs, where it can, on a port that nobody asked for.
            let mut stop = Command::new("service");
            let _ = stop
                .args(["pgbouncer", "stop"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            Ok(Program::find()?.path)
        }
        found => Ok(found?.path),
    }
}
