//! The machine that the servers run on: its accounts, packages, directories, ports and processes.
//!
//! Knows no server: what differs between PostgreSQL and PgBouncer is told by the caller.

mod account;
mod directory;
mod package;
mod process;
mod watchdog;

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use self::directory::PrivateDirectory;
pub(crate) use self::package::{Package, on_path};
pub(crate) use self::process::{command, run, run_with_input};
#[cfg(test)]
pub(crate) use self::process::{runs, wait_until};
pub(crate) use self::watchdog::Watchdog;

/// The address every server listens on.
pub const HOST: &str = "127.0.0.1";

/// What this machine lacks or refuses.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The package manager failed.
    #[error("`{command}` failed ({status}); run it by hand and read its output")]
    Install {
        /// The command.
        command: String,
        /// How it ended.
        status: String,
    },
    /// Database servers refuse to run as root, and there is no other user to run them as.
    #[error(
        "database servers do not run as root and there is neither a user `postgres` nor `nobody`; run as an ordinary user"
    )]
    NoAccount,
    /// A file or directory could not be made.
    #[error("cannot prepare {}", path.display())]
    Prepare {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program could not be run.
    #[error("cannot run {program}")]
    Run {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program ran and failed.
    #[error("{program} failed:\n{output}")]
    Failed {
        /// The program.
        program: String,
        /// What it printed.
        output: String,
    },
}

/// Starts a server on a port that was free when it was chosen; again on another, where another process was faster.
pub(crate) fn on_free_port<T, E: From<MachineError>>(
    mut start: impl FnMut(u16) -> Result<T, E>,
) -> Result<(u16, T), E> {
    for attempt in 0.. {
        let port = free_port()?;
        match start(port) {
            Ok(server) => return Ok((port, server)),
            Err(_) if attempt < 5 && TcpListener::bind((HOST, port)).is_err() => {}
            Err(error) => return Err(error),
        }
    }
    unreachable!("the loop ends by returning")
}

fn free_port() -> Result<u16, MachineError> {
    TcpListener::bind((HOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| MachineError::Prepare { path: HOST.into(), source })
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
