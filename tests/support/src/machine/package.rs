//! Installing what is missing, where that is allowed, and otherwise saying how.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::MachineError;
use super::account::Account;

/// A package under the names that the package managers know: each manager's program and the command that installs it.
/// `apt-get` comes first: it is the one that is run, and the one that is advised where no manager is found.
#[derive(Debug)]
pub(crate) struct Package(pub(crate) [(&'static str, &'static str); 6]);

impl Package {
    /// The one command for this machine: that of the first package manager present, with `sudo` where it needs it.
    pub(crate) fn install_command(&self, present: impl Fn(&str) -> Option<PathBuf>) -> String {
        let found = self.0.iter().find(|(program, _)| present(program).is_some());
        match *found.unwrap_or(&self.0[0]) {
            ("brew", install) => install.to_owned(),
            (_, install) if Account::is_root() => install.to_owned(),
            (_, install) => format!("sudo sh -c '{install}'"),
        }
    }

    /// Whether this process may install: that needs root and `apt-get`.
    pub(crate) fn can_install(&self) -> bool {
        Account::is_root() && on_path(self.0[0].0).is_some()
    }

    /// Installs with `apt-get`, whose output goes to this process's own.
    pub(crate) fn install(&self) -> Result<(), MachineError> {
        let (_, install) = self.0[0];
        let mut shell = Command::new("sh");
        shell.args(["-c", install]).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        let status = shell.status().map_err(|source| MachineError::Run { program: install.to_owned(), source })?;
        if status.success() {
            return Ok(());
        }
        Err(MachineError::Install { command: install.to_owned(), status: status.to_string() })
    }
}

pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
