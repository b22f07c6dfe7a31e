//! Keeps a second transfer of the same tenant out for as long as one runs: what one raises the other must not lower.
//!
//! On PostgreSQL an advisory lock of an open transaction at the source, which ends with its connection, so that a process
//! that died holds nobody up, and which holds behind a transaction-mode pooler. On SQLite a lock on a file beside the
//! database; the system gives it up with the process.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use sea_orm::{DbBackend, Statement};
use tenantry_connection::{Engine, Mode, Session, Transaction};

use crate::{Endpoint, Error};

const DOING: &str = "keeping other transfers of the tenant out";

/// The server takes a moment to notice that the client of an earlier run is gone.
const PATIENCE_MS: u32 = 1000;

/// Held while a transfer runs.
pub(crate) struct Guard(Lock);

enum Lock {
    Postgres(Box<Transaction>),
    Sqlite { _file: LockFile },
}

impl Guard {
    /// Takes the lock, or says who has it.
    pub(crate) async fn take(source: &Endpoint) -> Result<Self, Error> {
        match source.engine() {
            Engine::Postgres => {
                let mut transaction =
                    source.pool.begin(&Session::default(), Mode::Write).await.map_err(Error::database(DOING))?;
                let sql = format!(
                    "SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL lock_timeout = {PATIENCE_MS}"
                );
                transaction.execute_raw_sql(&sql).await.map_err(Error::database(DOING))?;
                let statement = Statement::from_sql_and_values(
                    DbBackend::Postgres,
                    "SELECT pg_advisory_xact_lock(hashtextextended('tenantry.transfer:' || $1, 0))::text",
                    [source.tenant.to_string().into()],
                );
                match transaction.query_one(statement).await {
                    Ok(_) => Ok(Self(Lock::Postgres(Box::new(transaction)))),
                    Err(tenantry_connection::Error::Conflict { .. }) => {
                        Err(Error::Busy { tenant: source.tenant.clone() })
                    }
                    Err(error) => Err(Error::database(DOING)(error)),
                }
            }
            Engine::Sqlite => {
                let path = source.pool.url().sqlite_path().unwrap_or(Path::new(""));
                let mut name = path.as_os_str().to_owned();
                name.push("-transfer");
                let lock = LockFile::take(PathBuf::from(name)).map_err(Error::answer(DOING))?;
                lock.map(|_file| Self(Lock::Sqlite { _file }))
                    .ok_or_else(|| Error::Busy { tenant: source.tenant.clone() })
            }
        }
    }

    /// Fails when the lock was lost on the way; asked before what cannot be undone.
    pub(crate) async fn check(&mut self) -> Result<(), Error> {
        match &mut self.0 {
            Lock::Postgres(transaction) => transaction.execute_raw_sql("SELECT 1").await.map_err(|_| Error::LockLost),
            Lock::Sqlite { .. } => Ok(()),
        }
    }

    /// Gives the lock up. Dropping it does so, too, at the price of a connection.
    pub(crate) async fn release(self) {
        if let Lock::Postgres(transaction) = self.0
            && let Err(error) = transaction.rollback().await
        {
            tracing::debug!(%error, "the connection that held a transfer's lock was lost");
        }
    }
}

struct LockFile {
    path: PathBuf,
    _file: File,
}

impl LockFile {
    fn take(path: PathBuf) -> io::Result<Option<Self>> {
        loop {
            let file = File::options().create(true).truncate(false).write(true).open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Its last holder may have removed it between opening and locking; then the name is free for a third.
            if is_file_at(&file, &path) {
                return Ok(Some(Self { path, _file: file }));
            }
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Still locked, so that nobody takes a file that is about to go.
        if cfg!(unix)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, path = %self.path.display(), "a transfer's lock file could not be removed");
        }
    }
}

#[cfg(unix)]
fn is_file_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    matches!((file.metadata(), fs::metadata(path)), (Ok(held), Ok(named)) if (held.dev(), held.ino()) == (named.dev(), named.ino()))
}

#[cfg(not(unix))]
fn is_file_at(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::LockFile;

    #[test]
    fn a_lock_file_keeps_a_second_one_out_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.db-transfer");
        let first = LockFile::take(path.clone()).unwrap().unwrap();
        assert!(LockFile::take(path.clone()).unwrap().is_none());
        drop(first);
        assert!(!path.exists());
        assert!(LockFile::take(path.clone()).unwrap().is_some());
    }
}
