//! The user that a server runs as: PostgreSQL and PgBouncer refuse to run as root, so root drops to another one.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::MachineError;

/// A user of this machine.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) name: String,
    uid: u32,
    gid: u32,
    home: PathBuf,
}

impl Account {
    /// The account to drop to; none when this process is an ordinary user's already.
    pub(super) fn to_drop_to() -> Result<Option<Self>, MachineError> {
        let prepare = |source| MachineError::Prepare { path: std::env::temp_dir(), source };
        // What a new file belongs to is the effective user, without a system call that needs unsafe code.
        if tempfile::tempfile().and_then(|file| file.metadata()).map_err(prepare)?.uid() != 0 {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| Self::parse(&users, name))
            .map(Some)
            .ok_or(MachineError::NoAccount)
    }

    /// Whether this process is root's.
    pub(super) fn is_root() -> bool {
        Self::to_drop_to().is_ok_and(|account| account.is_some())
    }

    fn parse(users: &str, name: &str) -> Option<Self> {
        users.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let &[user, _, uid, gid, _, home, ..] = fields.as_slice() else { return None };
            (user == name).then_some(())?;
            Some(Self { name: name.to_owned(), uid: uid.parse().ok()?, gid: gid.parse().ok()?, home: home.into() })
        })
    }

    /// Lets the command run as this account. The standard library also clears root's supplementary groups.
    pub(super) fn run(&self, command: &mut Command, directory: &Path) {
        // With root's home left in HOME, libpq inside the server fails to read its certificate folder.
        let home = if self.home.is_dir() { &self.home } else { directory };
        command.uid(self.uid).gid(self.gid).env("HOME", home).env("USER", &self.name).env("LOGNAME", &self.name);
    }

    /// Gives a file or directory to this account.
    pub(super) fn own(&self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
    }
}
