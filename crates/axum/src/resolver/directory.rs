//! From a subdomain or a custom domain to a tenant's id, through a cache that strangers cannot fill.
//!
//! Names that are found and names that are not are kept apart: whoever asks for random hosts pushes out others' random hosts
//! and no tenant. Absence is believed for a moment only, since the tenant may be created in the next one. Of many callers with
//! one name one asks; how many names are asked for at once is bounded, so that the application database stays free for the rest.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::future::Cache;
use sea_orm::{
    ColumnTrait,
    sea_query::{Expr, ExprTrait, Func},
};
use serde::Serialize;
use tenantry_app_db::{AppDb, entities::tenants};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// How names of tenants are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameCache {
    /// The most names that are remembered, of those found and of those not found each.
    pub capacity: u64,
    /// How long a name that was found is believed: so long a name that was given to another tenant may lead to the old one.
    pub found_for: Duration,
    /// How long a name that was not found is refused without asking again: so long a new tenant may stay unknown.
    pub absent_for: Duration,
    /// The most names that are looked up at once.
    pub lookups: usize,
}

impl Default for NameCache {
    fn default() -> Self {
        Self { capacity: 10_000, found_for: Duration::from_secs(30), absent_for: Duration::from_secs(1), lookups: 4 }
    }
}

/// The names that are remembered now, and the look-ups since start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NameStats {
    /// Names of tenants.
    pub found: u64,
    /// Names that were nobody's.
    pub absent: u64,
    /// How often the application database was asked.
    pub lookups: u64,
}

/// How long a caller waits for its turn to ask.
const PATIENCE: Duration = Duration::from_secs(2);

/// A name in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    Subdomain(String),
    Domain(String),
}

#[derive(Debug, Clone)]
pub(crate) enum NotAsked {
    Busy,
    Failed(Arc<tenantry_app_db::Error>),
}

#[derive(Debug, Clone)]
enum NotFound {
    Absent,
    NotAsked(NotAsked),
}

pub(crate) struct Directory {
    app_db: AppDb,
    found: Cache<Name, Uuid>,
    absent: Cache<Name, ()>,
    turns: Semaphore,
    lookups: AtomicU64,
}

impl Directory {
    pub(super) fn new(app_db: AppDb, options: NameCache) -> Self {
        Self {
            app_db,
            found: Cache::builder().max_capacity(options.capacity).time_to_live(options.found_for).build(),
            absent: Cache::builder().max_capacity(options.capacity).time_to_live(options.absent_for).build(),
            turns: Semaphore::new(options.lookups.clamp(1, Semaphore::MAX_PERMITS)),
            lookups: AtomicU64::new(0),
        }
    }

    /// The tenant with this name. Cancel-safe.
    pub(crate) async fn find(&self, name: Name) -> Result<Option<Uuid>, NotAsked> {
        if self.absent.contains_key(&name) {
            return Ok(None);
        }
        let mut joined_before = false;
        loop {
            let joined = AtomicBool::new(true);
            let ask = async {
                joined.store(false, Ordering::Relaxed);
                self.ask(&name).await
            };
            match self.found.try_get_with_by_ref(&name, ask).await.map_err(|error| NotFound::clone(&error)) {
                Ok(tenant) => return Ok(Some(tenant)),
                // A look-up that was under way before this call may have missed a tenant that was created before it.
                Err(_) if joined.into_inner() && !joined_before => joined_before = true,
                Err(NotFound::Absent) => {
                    self.absent.insert(name, ()).await;
                    return Ok(None);
                }
                Err(NotFound::NotAsked(error)) => return Err(error),
            }
        }
    }

    pub(crate) fn forget(&self) {
        self.found.invalidate_all();
        self.absent.invalidate_all();
    }

    pub(crate) async fn stats(&self) -> NameStats {
        self.found.run_pending_tasks().await;
        self.absent.run_pending_tasks().await;
        NameStats {
            found: self.found.entry_count(),
            absent: self.absent.entry_count(),
            lookups: self.lookups.load(Ordering::Relaxed),
        }
    }

    async fn ask(&self, name: &Name) -> Result<Uuid, NotFound> {
        let busy = |_| NotFound::NotAsked(NotAsked::Busy);
        let turn = tokio::time::timeout(PATIENCE, self.turns.acquire()).await.map_err(busy)?;
        let _turn = turn.map_err(|_| NotFound::NotAsked(NotAsked::Busy))?;
        self.lookups.fetch_add(1, Ordering::Relaxed);
        let tenant = match name {
            Name::Subdomain(label) => self.app_db.tenant_by_subdomain(label).await,
            Name::Domain(domain) => {
                let lower = Func::lower(Expr::col(tenants::Column::Domain.as_column_ref()));
                let similar = self.app_db.find::<tenants::Entity>().filter(Expr::from(lower).eq(domain.as_str())).all();
                // A database may take other letters for these, such as the Kelvin sign for a k, where its unique index does not:
                // nobody gets a neighbour's visitors with one.
                let same = |tenant: &tenants::Model| {
                    tenant.domain.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(domain))
                };
                similar.await.map(|similar| similar.into_iter().find(same))
            }
        };
        let tenant = tenant.map_err(|error| NotFound::NotAsked(NotAsked::Failed(Arc::new(error))))?;
        tenant.map(|tenant| tenant.id).ok_or(NotFound::Absent)
    }
}
