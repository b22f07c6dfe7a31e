//! One pool per data source, access and login; never one per tenant.

use std::time::Duration;

use moka::sync::Cache;
use serde::Serialize;
use tenantry_connection::{DataSourceUrl, Error, Pool, PoolOptions, PoolStatus};
use tenantry_credential::Login;

use crate::handle::Access;

/// What a pool is kept under. The login is part of it: a tenant whose credential is wrong must not ride on a connection that
/// another tenant's right one opened, and a rotated credential gets a new pool while the old one drains.
#[derive(Clone, PartialEq, Eq, Hash)]
struct PoolKey {
    url: DataSourceUrl,
    access: Access,
    login: Option<[u8; 32]>,
}

/// The pools in use. An evicted pool closes when its last lease ends, not before.
pub(crate) struct Pools {
    cache: Cache<PoolKey, Pool>,
    options: PoolOptions,
}

/// One pool as `cache_stats` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct PoolStats {
    /// The data source.
    pub data_source: DataSourceUrl,
    /// The access it serves.
    pub access: Access,
    /// Its connections now.
    #[serde(flatten)]
    pub status: PoolStatus,
}

/// The most pools kept at a time: past it, the least used is evicted.
const MAX_POOLS: u64 = 10_000;

impl Pools {
    pub(crate) fn new(idle: Duration, options: PoolOptions) -> Self {
        Self { cache: Cache::builder().time_to_idle(idle).max_capacity(MAX_POOLS).build(), options }
    }

    /// The pool of a data source, made if it is not there; connects nothing.
    pub(crate) fn get(
        &self,
        url: &DataSourceUrl,
        access: Access,
        login: Option<&Login>,
        max_connections: u32,
    ) -> Result<Pool, Error> {
        let key = PoolKey { url: url.clone(), access, login: login.map(Login::fingerprint) };
        if let Some(pool) = self.cache.get(&key) {
            return Ok(pool);
        }
        // Making a pool connects nothing, so that losing a race here costs nothing: entry keeps the first.
        let pool = Pool::new(url, login, &PoolOptions { max_connections, ..self.options.clone() })?;
        Ok(self.cache.entry(key).or_insert(pool).into_value())
    }

    pub(crate) fn stats(&self) -> Vec<PoolStats> {
        let mut stats: Vec<_> = self
            .cache
            .iter()
            .map(|(key, pool)| PoolStats { data_source: key.url.clone(), access: key.access, status: pool.status() })
            .collect();
        stats.sort_by(|a, b| (&a.data_source, a.access as u8).cmp(&(&b.data_source, b.access as u8)));
        stats
    }

    pub(crate) fn clear(&self) {
        self.cache.invalidate_all();
    }

    /// Refuses new work on every pool and waits for the work under way.
    pub(crate) async fn close(&self) {
        let pools: Vec<_> = self.cache.iter().map(|(_, pool)| pool).collect();
        self.cache.invalidate_all();
        for pool in pools {
            pool.close().await;
        }
    }
}
