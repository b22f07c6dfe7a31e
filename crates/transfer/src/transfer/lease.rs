//! The lease of a transfer while a run of it lives. Knows no database but the application database.

use std::time::{Duration, Instant};

use tenantry_app_db::{AppDb, Error as AppDbError, TransferLease};
use tokio::task::AbortHandle;

/// A lease is renewed this many times before it would run out.
const RENEWALS: u32 = 4;
/// What ends a run has often ended its sessions in the application database as well, and a pool notices that of each when it is
/// used. Giving a lease up is tried again for so long, and no longer: whoever waits for the run's end waits for this.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);

/// The lease while a run lives: renewed in the background, given up at the latest when the run is dropped.
pub(super) struct Lease {
    app_db: AppDb,
    pub(super) held: TransferLease,
    renewing: AbortHandle,
    ended: bool,
}

impl Lease {
    pub(super) fn keep(app_db: &AppDb, held: TransferLease, lasts: Duration) -> Self {
        let renewing = {
            let app_db = app_db.clone();
            tokio::spawn(async move {
                let mut every = tokio::time::interval((lasts / RENEWALS).max(Duration::from_millis(1)));
                every.tick().await;
                loop {
                    every.tick().await;
                    match app_db.renew_transfer(&held, lasts).await {
                        Ok(()) => {}
                        // The next step will say so.
                        Err(AppDbError::LeaseLost { .. }) => return,
                        Err(error) => tracing::warn!(transfer = %held.transfer, %error, "a lease was not renewed"),
                    }
                }
            })
        };
        Self { app_db: app_db.clone(), held, renewing: renewing.abort_handle(), ended: false }
    }

    /// The record has ended, and the lease with it.
    pub(super) fn ended(&mut self) {
        self.renewing.abort();
        self.ended = true;
    }

    pub(super) async fn release(&mut self, problem: Option<String>) {
        self.ended();
        if let Err(error) = give_up(&self.app_db, &self.held, problem).await {
            tracing::warn!(transfer = %self.held.transfer, %error, "a lease was not given up; it runs out by itself");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
        // Best effort: without it the next run waits until the lease has run out.
        if !self.ended
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (app_db, held) = (self.app_db.clone(), self.held);
            runtime.spawn(async move { give_up(&app_db, &held, None).await });
        }
    }
}

/// Doing it twice is doing it once.
async fn give_up(app_db: &AppDb, held: &TransferLease, problem: Option<String>) -> Result<(), AppDbError> {
    let began = Instant::now();
    loop {
        match app_db.release_transfer(held, problem.clone()).await {
            Err(error) if error.is_retryable() && began.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
    }
}
