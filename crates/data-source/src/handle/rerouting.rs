//! What becomes of a write that the fence refused: it is run again where its tenant is by now, or waits a little for that.
//!
//! ```text
//! refused (TN001) ── where is the tenant? ──┬── elsewhere ──────────> the handle goes there; run again
//!                                           ├── here ── a pause ────> run again, while there is patience
//!                                           └── suspended, unknown ─> that error
//! ```
//!
//! Only what the fence refused is run again: the database has answered that nothing was written. A broken connection leaves
//! that open, so that its error is the caller's. Who waits holds no connection, and delays no other tenant.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::TenantContext;
use crate::{Error, RouteError, TenantHandle, manager::DataSourceManager};

/// The first pause; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// The longest pause: so long may a write lie after the end of the move.
const LONGEST_PAUSE: Duration = Duration::from_millis(80);

/// What one write of a caller has been through, over all its attempts. For a write of several statements that begins and ends
/// its own transaction; the scoped statements do this by themselves.
#[derive(Debug, Default)]
pub struct Rerouting {
    /// When its patience is over; none before its first refusal.
    until: Option<Instant>,
    pauses: u32,
    followed: bool,
}

impl Rerouting {
    /// Returns once the write is to be run again, by this handle, which leads to where the tenant is by then. The failed attempt
    /// has to be over as a whole, and to hold no connection. Cancel-safe.
    ///
    /// # Errors
    /// The given one where the fence is not its reason, where the handle is a transaction or a lease, which cannot go elsewhere,
    /// and where the patience is over; [`Error::Route`] when the tenant cannot be routed any more.
    pub async fn run_again<H: TenantHandle>(&mut self, handle: &H, error: Error) -> Result<(), Error> {
        handle.rerouted(error, self).await
    }

    /// Returns once the write, which holds no connection, is to be run again.
    ///
    /// # Errors
    /// The refusal, when nothing changed for as long as the manager's patience; [`Error::Route`].
    pub(super) async fn again(&mut self, context: &Arc<TenantContext>, refused: Error) -> Result<(), Error> {
        // The usual write never comes here, and its future need not have room for this.
        Box::pin(self.wait(context, refused)).await
    }

    async fn wait(&mut self, context: &Arc<TenantContext>, refused: Error) -> Result<(), Error> {
        let now = Instant::now();
        let Some(manager) = DataSourceManager::behind(&context.router) else { return Err(refused) };
        let until = *self.until.get_or_insert(now + manager.fenced_write_patience());
        // Once in any case: the write could not know.
        let follows = !std::mem::replace(&mut self.followed, true) || now < until;
        // A transaction that was this write's own has asked already, and the handle has gone there.
        if matches!(refused, Error::Moved { .. }) {
            return if follows { Ok(()) } else { Err(refused) };
        }
        match manager.relocated(context, now).await {
            Ok(Some(there)) => {
                // Somebody else who shares the handle may have been faster.
                let _ = context.moved_to.set(there);
                if follows { Ok(()) } else { Err(refused) }
            }
            Ok(None) => {
                self.followed = false;
                drop(manager);
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(refused);
                }
                let pause = FIRST_PAUSE.saturating_mul(1 << self.pauses.min(10)).min(LONGEST_PAUSE);
                self.pauses += 1;
                sleep(pause.min(left)).await;
                Ok(())
            }
            Err(error) => Err(told(error, refused)),
        }
    }

    /// The error of a transaction that the fence refused and that holds no connection any more. The next look-up is a fresh
    /// one.
    pub(super) async fn ended(context: &Arc<TenantContext>, refused: Error) -> Error {
        Box::pin(async {
            let Some(manager) = DataSourceManager::behind(&context.router) else { return refused };
            let tenant = context.tenant_id;
            match manager.relocated(context, Instant::now()).await {
                Ok(there) => {
                    manager.clear_tenant(tenant).await;
                    let Some(there) = there else { return refused };
                    let _ = context.moved_to.set(there);
                    Error::Moved { tenant }
                }
                Err(error) => told(error, refused),
            }
        })
        .await
    }
}

/// Where the application database does not answer, the refusal is all that is known; what is cached stays.
fn told(error: RouteError, refused: Error) -> Error {
    if error.is_retryable() { refused } else { error.into() }
}
