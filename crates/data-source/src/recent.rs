//! The look-up of every request: a tenant's id to what was made of its placement.
//!
//! The cache behind it decides what is kept and for how long, and lets one of many callers ask; it counts and queues every read,
//! which costs more than the read. Here a read takes a shared lock on one of many small maps and nothing else. What leaves the
//! cache leaves here as well.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, PoisonError, RwLock},
};

use uuid::Uuid;

/// So many that two threads rarely meet at one lock.
const SHARDS: usize = 64;

pub(crate) struct Recent<V> {
    shards: [RwLock<HashMap<Uuid, Arc<V>>>; SHARDS],
    hasher: RandomState,
}

impl<V> Recent<V> {
    pub(crate) fn new() -> Self {
        Self { shards: std::array::from_fn(|_| RwLock::default()), hasher: RandomState::new() }
    }

    pub(crate) fn get(&self, tenant: Uuid) -> Option<Arc<V>> {
        self.shard(tenant).read().unwrap_or_else(PoisonError::into_inner).get(&tenant).cloned()
    }

    pub(crate) fn insert(&self, tenant: Uuid, value: Arc<V>) {
        self.shard(tenant).write().unwrap_or_else(PoisonError::into_inner).insert(tenant, value);
    }

    pub(crate) fn remove(&self, tenant: Uuid) {
        self.shard(tenant).write().unwrap_or_else(PoisonError::into_inner).remove(&tenant);
    }

    /// Removes this value and no later one.
    pub(crate) fn remove_value(&self, tenant: Uuid, value: &Arc<V>) {
        let mut shard = self.shard(tenant).write().unwrap_or_else(PoisonError::into_inner);
        if shard.get(&tenant).is_some_and(|kept| Arc::ptr_eq(kept, value)) {
            shard.remove(&tenant);
        }
    }

    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            shard.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    fn shard(&self, tenant: Uuid) -> &RwLock<HashMap<Uuid, Arc<V>>> {
        // Ids may be anything, also such as end alike.
        let hash = self.hasher.hash_one(tenant);
        &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)]
    }
}
