//! The connections to every data source in use: one cap per data source, whatever the number of tenants and logins.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde::Serialize;
use tenantry_app_db::entities::data_sources;
use tenantry_connection::{
    ConnectFailure, DataSourceUrl, Engine, Error, Pool, PoolOptions, PoolStatus, PoolerMode, UrlError,
};
use tenantry_credential::Login;

use crate::{
    admission::{Admission, AdmissionRules},
    handle::Access,
};

/// The pools in use. A data source that no handle and no cached placement refers to any more is let go some time later.
pub(crate) struct Pools {
    sources: Mutex<Sources>,
    options: PoolOptions,
    rules: Arc<AdmissionRules>,
    idle: Duration,
}

#[derive(Default)]
struct Sources {
    by_url: HashMap<DataSourceUrl, Source>,
    closed: bool,
}

struct Source {
    /// Of whichever login came last; the others are made from it, so that they share its connections and its cap.
    pool: Pool,
    /// The login is part of the key: a tenant whose credential is wrong must not ride on a connection that another tenant's
    /// right one opened.
    logins: HashMap<LoginKey, Weak<AdmittedPool>>,
    /// Of each access the login that came last, which stays also while nobody has a handle. Any other goes with its handles,
    /// and its connections with it: it may be one that was replaced.
    latest: HashMap<Access, Arc<AdmittedPool>>,
    asked_for: Instant,
    /// It was forgotten, but for its cap: whoever asks gets another one under it.
    cleared: bool,
}

type LoginKey = (Access, Option<[u8; 32]>);

/// A pool, and whether what it leads to was found to keep tenants apart.
#[derive(Debug)]
pub(crate) struct AdmittedPool {
    pool: Pool,
    /// None where there is nothing to measure: an SQLite file, service access, the application database.
    admission: Option<Admission>,
}

/// What the row of a data source says of connections to it. Without a row: the defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionRules {
    /// The most connections of this process; none: what the settings say.
    pub max_connections: Option<u32>,
    /// What stands between this process and the server.
    pub pooler: PoolerMode,
    /// The way past a pooler.
    pub direct_url: Option<DataSourceUrl>,
}

impl ConnectionRules {
    /// What a row says.
    ///
    /// # Errors
    /// [`UrlError`] when its `direct_url` is unusable.
    pub fn of(row: Option<&data_sources::Model>) -> Result<Self, UrlError> {
        let Some(row) = row else { return Ok(Self::default()) };
        Ok(Self {
            max_connections: u32::try_from(row.max_connections).ok(),
            pooler: match row.pooler_mode {
                data_sources::PoolerMode::Auto => PoolerMode::Auto,
                data_sources::PoolerMode::Direct => PoolerMode::Direct,
                data_sources::PoolerMode::Session => PoolerMode::Session,
                data_sources::PoolerMode::Transaction => PoolerMode::Transaction,
            },
            direct_url: row.direct_url.as_deref().map(DataSourceUrl::parse).transpose()?,
        })
    }
}

/// One data source as `cache_stats` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct PoolStats {
    /// The data source.
    pub data_source: DataSourceUrl,
    /// Its connections.
    #[serde(flatten)]
    pub status: PoolStatus,
}

impl AdmittedPool {
    /// A pool that nothing has to be measured for.
    pub(crate) fn trusted(pool: Pool) -> Arc<Self> {
        Arc::new(Self { pool, admission: None })
    }

    /// The pool, for work on tenants' rows: before the first, row-level security is measured.
    pub(crate) async fn admitted(&self) -> Result<&Pool, crate::Error> {
        if let Some(admission) = &self.admission {
            admission.check(&self.pool).await?;
        }
        Ok(&self.pool)
    }

    /// The pool, for work that touches no tenant's rows.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }
}

impl Pools {
    pub(crate) fn new(idle: Duration, options: PoolOptions, rules: AdmissionRules) -> Self {
        Self { sources: Mutex::default(), options, rules: Arc::new(rules), idle }
    }

    /// The pool of a data source, made if it is not there; connects nothing.
    pub(crate) fn get(
        &self,
        url: &DataSourceUrl,
        access: Access,
        login: Option<&Login>,
        rules: &ConnectionRules,
    ) -> Result<Arc<AdmittedPool>, Error> {
        let options = PoolOptions {
            max_connections: rules.max_connections.unwrap_or(self.options.max_connections),
            pooler: rules.pooler,
            direct_url: rules.direct_url.clone(),
            ..self.options.clone()
        };
        let mut sources = self.lock();
        if sources.closed {
            return Err(Error::Connect { data_source: url.clone(), reason: ConnectFailure::Closed, source: None });
        }
        let now = Instant::now();
        sources.by_url.retain(|other, source| other == url || source.is_wanted(now, self.idle));
        let source = match sources.by_url.entry(url.clone()) {
            Entry::Vacant(vacant) => vacant.insert(Source::new(Pool::new(url, login, &options)?, now)),
            Entry::Occupied(known) => {
                let source = known.into_mut();
                let is = source.pool.options();
                if source.cleared || (is.pooler, &is.direct_url) != (options.pooler, &options.direct_url) {
                    // Another way to the server makes other connections, under one cap with those that are in use.
                    *source = Source::new(source.pool.succeeded_by(login, &options)?, now);
                }
                source
            }
        };
        source.pool.set_max_connections(options.max_connections);
        source.asked_for = now;
        let key = (access, login.map(Login::fingerprint));
        if let Some(pool) = source.logins.get(&key).and_then(Weak::upgrade) {
            return Ok(pool);
        }
        let pool = source.pool.with_login(login)?;
        let admission = match (url.engine(), access, login) {
            (Engine::Postgres, Access::Restricted, Some(login)) => Some(Admission::new(&login.user, &self.rules)),
            _ => None,
        };
        source.pool = pool.clone();
        let admitted = Arc::new(AdmittedPool { pool, admission });
        source.logins.retain(|_, pool| pool.strong_count() > 0);
        source.logins.insert(key, Arc::downgrade(&admitted));
        source.latest.insert(access, Arc::clone(&admitted));
        Ok(admitted)
    }

    pub(crate) fn stats(&self) -> Vec<PoolStats> {
        let sources = self.lock();
        let stats = sources.by_url.iter().filter(|(_, source)| !source.cleared);
        let stats = stats.map(|(url, source)| PoolStats { data_source: url.clone(), status: source.pool.status() });
        let mut stats: Vec<_> = stats.collect();
        drop(sources);
        stats.sort_by(|a, b| a.data_source.cmp(&b.data_source));
        stats
    }

    /// Closes what nobody uses now, and the rest as it is given back; forgets what was measured and found out. Only the cap
    /// holds for what is in use together with what comes.
    pub(crate) fn clear(&self) {
        self.lock().by_url.retain(|url, source| {
            source.pool.renew();
            source.logins.clear();
            source.latest.clear();
            source.cleared = true;
            // A file's connections have no cap that must outlast them.
            url.engine() == Engine::Postgres
        });
    }

    /// Refuses new work on every pool and waits for the work under way.
    pub(crate) async fn close(&self) {
        let sources = {
            let mut sources = self.lock();
            sources.closed = true;
            std::mem::take(&mut sources.by_url)
        };
        join_all(sources.values().map(|source| source.pool.close())).await;
    }

    fn lock(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    fn new(pool: Pool, now: Instant) -> Self {
        Self { pool, logins: HashMap::new(), latest: HashMap::new(), asked_for: now, cleared: false }
    }

    fn is_wanted(&self, now: Instant, idle: Duration) -> bool {
        let handles: usize = self.logins.values().map(Weak::strong_count).sum();
        now.duration_since(self.asked_for) < idle || handles > self.latest.len() || self.pool.status().in_use > 0
    }
}
