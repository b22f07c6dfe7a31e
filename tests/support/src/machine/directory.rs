//! A server's directory, which only its account can enter.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::account::Account;
use super::{MachineError, command, run};

/// The longest socket path that every Unix takes, less the socket's own name.
const LONGEST_DIRECTORY: usize = 100 - "/.s.PGSQL.65535".len();

/// A directory and the account that a server in it runs as. Nothing removes it by itself.
#[derive(Debug, Clone)]
pub(crate) struct PrivateDirectory {
    pub(crate) path: PathBuf,
    account: Option<Account>,
}

impl PrivateDirectory {
    /// Makes one, with a path short enough for a socket.
    pub(crate) fn create() -> Result<Self, MachineError> {
        Self::create_for(Account::to_drop_to()?)
    }

    /// Makes another one for the same account.
    pub(crate) fn create_sibling(&self) -> Result<Self, MachineError> {
        Self::create_for(self.account.clone())
    }

    fn create_for(account: Option<Account>) -> Result<Self, MachineError> {
        let usual = std::env::temp_dir();
        let bases = [usual.as_path(), Path::new("/tmp"), Path::new("/var/tmp")];
        let base = bases.into_iter().find(|base| is_usable(base, account.as_ref())).unwrap_or(&usual);
        let prepare = |source| MachineError::Prepare { path: base.to_owned(), source };
        let mut builder = tempfile::Builder::new();
        builder.prefix("tenantry-").permissions(fs::Permissions::from_mode(0o700));
        let directory = builder.tempdir_in(base).map_err(prepare)?;
        if let Some(account) = &account {
            account.own(directory.path()).map_err(prepare)?;
        }
        Ok(Self { path: directory.keep(), account })
    }

    /// A command that runs as the account, in the directory.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = command(program);
        command.current_dir(&self.path);
        if let Some(account) = &self.account {
            account.run(&mut command, &self.path);
        }
        command
    }

    /// How a person runs a command line as the account.
    pub(crate) fn by_hand(&self, line: &str) -> String {
        match &self.account {
            Some(account) => format!("runuser -u {} -- {line}", account.name),
            None => line.to_owned(),
        }
    }

    /// Sends a process of the account a signal, given without `SIG`.
    pub(crate) fn signal(&self, pid: u32, signal: &str) -> Result<(), MachineError> {
        // The shell's own `kill`, because not every system has a program of that name.
        let mut kill = self.command(Path::new("sh"));
        kill.args(["-c", r#"kill -"$1" "$2""#, "sh", signal, &pid.to_string()]);
        run(kill).map(drop)
    }

    /// Writes a file that only the account reads, or replaces the text of one.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), MachineError> {
        let path = self.path.join(name);
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        let owned = written.and_then(|()| self.account.as_ref().map_or(Ok(()), |account| account.own(&path)));
        owned.map_err(|source| MachineError::Prepare { path, source })
    }

    /// The last two kilobytes of what the server printed.
    pub(crate) fn end_of_log(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = fs::File::open(self.path.join("log"))?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(2048)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_default()
    }

    /// Tells the watchdog to leave the directory behind.
    pub(crate) fn keep(&self) {
        let _ = fs::write(self.path.join("keep"), "");
    }

    /// Whether the directory stays behind.
    pub(crate) fn is_kept(&self) -> bool {
        self.path.join("keep").exists()
    }

    /// Removes the directory, unless it is kept. Only for a directory without a watchdog.
    pub(crate) fn remove(&self) {
        if !self.is_kept() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Whether a directory below this one can hold a server: the socket's path fits, and the account gets there.
fn is_usable(base: &Path, account: Option<&Account>) -> bool {
    let fits = base.is_absolute() && base.as_os_str().len() + "/tenantry-XXXXXX".len() <= LONGEST_DIRECTORY;
    let enters = |account: &Account| {
        let mut test = command(Path::new("sh"));
        test.args(["-c", r#"test -x "$1""#, "sh"]).arg(base).current_dir("/");
        account.run(&mut test, Path::new("/"));
        run(test).is_ok()
    };
    fits && account.is_none_or(enters)
}
