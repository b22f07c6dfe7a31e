//! Where a tenant is by now, asked for a write that a fence refused.
//!
//! It goes past the cache and leaves it as it is until the answer is another: while the application database is away, reads are
//! served from the cache as before. Of many writers of a tenant one asks, and whoever was refused before it asked takes its
//! answer; so there is at most one question of a tenant at a time, however many wait.
//!
//! It knows nothing of pauses and patience.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use moka::future::Cache;
use uuid::Uuid;

use super::{Cached, DataSourceManager, NoAccess, RouteError, Shared, refuse_inactive};
use crate::handle::{Access, TenantContext};

/// An answer, and when the question was asked.
#[derive(Clone)]
pub(super) struct Relocation {
    asked: Instant,
    cached: Arc<Cached>,
}

/// Answers are kept for those who were refused before they were asked, and who come within this time.
const KEPT: Duration = Duration::from_secs(1);

pub(super) fn cache() -> Cache<Uuid, Relocation> {
    Cache::builder().time_to_live(KEPT).max_capacity(10_000).build()
}

impl DataSourceManager {
    /// The manager that a handle came from, while there is one.
    pub(crate) fn behind(shared: &Weak<Shared>) -> Option<Self> {
        shared.upgrade().map(|shared| Self { shared })
    }

    pub(crate) fn fenced_write_patience(&self) -> Duration {
        self.shared.options.fenced_write_patience
    }

    /// Where the tenant of a handle is, asked after `refused`; none when it is where the handle leads. The same access, the
    /// same actor.
    ///
    /// # Errors
    /// [`RouteError`], as of a new handle.
    pub(crate) async fn relocated(
        &self,
        from: &TenantContext,
        refused: Instant,
    ) -> Result<Option<Arc<TenantContext>>, RouteError> {
        let (tenant, shared) = (from.tenant_id, &self.shared);
        let cached = self.asked_since(tenant, refused).await?;
        if from.access == Access::Restricted {
            refuse_inactive(&cached.route)?;
        }
        if cached.route.epoch == from.epoch {
            return Ok(None);
        }
        let db = match from.access {
            Access::Restricted => cached.restricted.clone().map_err(|none: NoAccess| none.into_error(tenant))?,
            Access::Service => shared.handle(&cached.route, shared.service_pool_of(&cached.route)?, Access::Service),
        };
        Ok(Some(db.as_user(from.session.actor.clone()).into_context()))
    }

    async fn asked_since(&self, tenant: Uuid, since: Instant) -> Result<Arc<Cached>, RouteError> {
        let relocations = &self.shared.relocations;
        let mut joined_before = false;
        loop {
            let joined = AtomicBool::new(true);
            let ask = async {
                joined.store(false, Ordering::Relaxed);
                let asked = Instant::now();
                let cached = Arc::new(self.shared.read(tenant).await?);
                if self.shared.routes.get(&tenant).await.is_some_and(|kept| kept.route.epoch != cached.route.epoch) {
                    self.clear_tenant(tenant).await;
                }
                Ok(Relocation { asked, cached })
            };
            match relocations.try_get_with(tenant, ask).await {
                Ok(relocation) if relocation.asked >= since => return Ok(relocation.cached),
                Ok(_) => relocations.invalidate(&tenant).await,
                Err(error) => {
                    let error = Arc::try_unwrap(error).unwrap_or_else(RouteError::Shared);
                    if !joined.into_inner() || joined_before {
                        return Err(error);
                    }
                    // Of a question that was asked before.
                    joined_before = true;
                }
            }
        }
    }
}
