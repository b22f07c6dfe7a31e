//! The look-up of every request: a tenant's id to its restricted handle.
//!
//! The cache behind it decides what is kept and for how long, and lets one of many callers ask; it counts and queues every read,
//! which costs more than the read. Here a read takes a shared lock on one of many small maps and nothing else, and what it needs
//! lies in the map itself: among a hundred thousand tenants most of the time goes into fetching memory. What leaves the cache
//! leaves here as well. Only what a request gets is here: a tenant that is refused is refused by way of the cache.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{PoisonError, RwLock},
    time::Instant,
};

use uuid::Uuid;

use crate::handle::TenantDb;

/// So many that two threads rarely meet at one lock.
const SHARDS: usize = 64;

pub(crate) struct Recent {
    shards: [RwLock<HashMap<Uuid, Handle>>; SHARDS],
    hasher: RandomState,
}

/// A handle, for as long as its placement is believed.
pub(crate) struct Handle {
    /// How many clears there had been when reading the placement began.
    pub(crate) read_at: u64,
    pub(crate) expires: Instant,
    pub(crate) db: TenantDb,
}

impl Recent {
    pub(crate) fn new() -> Self {
        Self { shards: std::array::from_fn(|_| RwLock::default()), hasher: RandomState::new() }
    }

    /// The handle, if its placement is still believed and `is_current` says so of the number that it was read at.
    pub(crate) fn get(&self, tenant: Uuid, is_current: impl FnOnce(u64) -> bool) -> Option<TenantDb> {
        let shard = self.shard(tenant).read().unwrap_or_else(PoisonError::into_inner);
        let handle = shard.get(&tenant)?;
        (handle.expires > Instant::now() && is_current(handle.read_at)).then(|| handle.db.clone())
    }

    pub(crate) fn insert(&self, tenant: Uuid, handle: Handle) {
        self.shard(tenant).write().unwrap_or_else(PoisonError::into_inner).insert(tenant, handle);
    }

    pub(crate) fn remove(&self, tenant: Uuid) {
        self.shard(tenant).write().unwrap_or_else(PoisonError::into_inner).remove(&tenant);
    }

    /// Removes this handle and no later one.
    pub(crate) fn remove_handle(&self, tenant: Uuid, db: &TenantDb) {
        let mut shard = self.shard(tenant).write().unwrap_or_else(PoisonError::into_inner);
        if shard.get(&tenant).is_some_and(|kept| kept.db.is_same(db)) {
            shard.remove(&tenant);
        }
    }

    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            shard.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    fn shard(&self, tenant: Uuid) -> &RwLock<HashMap<Uuid, Handle>> {
        // Ids may be anything, also such as end alike.
        let hash = self.hasher.hash_one(tenant);
        &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)]
    }
}
