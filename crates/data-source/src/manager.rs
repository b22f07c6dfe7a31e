//! `DataSourceManager`: tenant id → placement → pool → handle.
//!
//! ```text
//! tenant(id) ── placement cache ──(miss, single flight)── application database
//!                    │
//!                    └── handle ── connections of the data source (one cap), by login
//! ```
//!
//! A placement is cached for a stated time and dropped at once by [`DataSourceManager::clear_tenant`]. Absence and failure are
//! never cached. Nothing is connected before the first statement.

mod relocation;
mod watch;

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use moka::{future::Cache, policy::EvictionPolicy};
use serde::Serialize;
use serde_json::json;
use tenantry_app_db::{AppDb, AuditEntry, entities::tenants::TenantStatus};
use tenantry_connection::{Actor, DataSourceUrl, Engine, Pool, PoolOptions, Session};
use tenantry_credential::{CredentialColumn, Keyring, Login, OpenError};
use tokio::sync::OnceCell;
use uuid::Uuid;

use self::watch::Watch;
use crate::{
    TenantColumn,
    admission::AdmissionRules,
    handle::{Access, Isolation, TenantContext, TenantDb},
    pools::{AdmittedPool, PoolStats, Pools},
    recent::{Handle, Recent},
    route::{Destination, Placed, Route, RouteError},
};

/// How the manager caches and connects.
#[derive(Debug, Clone)]
pub struct ManagerOptions {
    /// How long a placement is believed. Also the longest time that another process's change goes unnoticed where the
    /// application database cannot tell it.
    pub placement_ttl: Duration,
    /// How often the application database is asked for changed placements where it cannot notify: an SQLite file, and
    /// PostgreSQL behind a pooler in transaction mode.
    pub placement_poll: Duration,
    /// How long a single write that a fence refuses waits for its tenant to be moved, or the fence to be lowered; then it gets
    /// the retryable error. Zero: it waits for nothing, and is run again only where the tenant has moved already. Who waits
    /// holds no connection.
    pub fenced_write_patience: Duration,
    /// After how long a data source that no placement and no handle refers to any more is let go.
    pub pool_idle: Duration,
    /// How every pool behaves; the cap of connections comes from the data source.
    pub pool: PoolOptions,
    /// The tenant column of the data sources.
    pub tenant_column: TenantColumn,
    /// Serve a tenant without a data source from the application database, kept apart by the tenant predicate only.
    pub fallback_to_application_database: bool,
    /// Objects that may be as they are, named as findings of the isolation report name them. Whatever else is found of a
    /// PostgreSQL data source, nothing is run there.
    pub isolation_exceptions: Vec<String>,
}

impl Default for ManagerOptions {
    fn default() -> Self {
        Self {
            placement_ttl: Duration::from_secs(300),
            placement_poll: Duration::from_secs(2),
            fenced_write_patience: Duration::from_secs(1),
            pool_idle: Duration::from_secs(3600),
            pool: PoolOptions::default(),
            tenant_column: TenantColumn::default(),
            fallback_to_application_database: false,
            isolation_exceptions: Vec::new(),
        }
    }
}

/// Routes tenants to their data sources; a handle that is cheap to clone.
#[derive(Clone)]
pub struct DataSourceManager {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    /// For the handles, which find back here by it.
    this: Weak<Shared>,
    app_db: AppDb,
    /// The application database, for tenants that fall back to it.
    fallback: Arc<AdmittedPool>,
    tenant_column: Arc<str>,
    keyring: Option<Arc<Keyring>>,
    options: ManagerOptions,
    routes: Cache<Uuid, Arc<Cached>>,
    /// What notices changes that other processes make; from the first look-up on.
    watch: OnceCell<Watch>,
    /// What was looked up for writes that a fence refused, whatever `routes` believes.
    relocations: Cache<Uuid, relocation::Relocation>,
    /// The handles of what is in `routes`, for reading.
    recent: Arc<Recent>,
    pools: Pools,
    hits: AtomicU64,
    misses: AtomicU64,
    /// Grows with every clear. A look-up that was under way while a placement was cleared brings the old one back into the
    /// cache after it; by this number it is told from what was read since.
    clears: AtomicU64,
    /// The number that each tenant's latest clear had, for as long as something older can be in the cache.
    cleared: moka::sync::Cache<Uuid, u64>,
    /// The number that the latest clear of everything had.
    all_cleared: AtomicU64,
}

/// A route, and what restricted access to it gives, made once for as long as the route is believed.
struct Cached {
    /// How many clears there had been when reading it began.
    read_at: u64,
    /// Until when it is believed.
    expires: Instant,
    route: Route,
    restricted: Result<TenantDb, NoAccess>,
}

/// Why there is no restricted access, kept with the route.
#[derive(Clone)]
enum NoAccess {
    NoDataSource,
    NoCredential,
    Unopened(Unopened),
    Pool(Arc<tenantry_connection::Error>),
}

impl NoAccess {
    fn into_error(self, tenant: Uuid) -> RouteError {
        let column = CredentialColumn::Anon;
        match self {
            Self::NoDataSource => RouteError::NoDataSource(tenant),
            Self::NoCredential => RouteError::NoCredential { tenant, column },
            Self::Unopened(unopened) => unopened.into_error(tenant, column),
            Self::Pool(source) => RouteError::Pool { tenant, source },
        }
    }
}

/// Why a sealed credential was not opened.
#[derive(Clone)]
enum Unopened {
    NoKeyring,
    Refused(OpenError),
}

impl Unopened {
    fn into_error(self, tenant: Uuid, column: CredentialColumn) -> RouteError {
        match self {
            Self::NoKeyring => RouteError::NoKeyring { tenant },
            Self::Refused(source) => RouteError::Credential { tenant, column, source },
        }
    }
}

impl Shared {
    fn open(&self, tenant: Uuid, column: CredentialColumn, sealed: &str) -> Result<Login, Unopened> {
        let keyring = self.keyring.as_ref().ok_or(Unopened::NoKeyring)?;
        keyring.open(tenant, column, sealed).map_err(Unopened::Refused)
    }

    /// Numbers a clear.
    fn next_clear(&self) -> u64 {
        self.clears.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Whether a placement was read after the tenant's latest clear.
    fn is_current(&self, tenant: Uuid, read_at: u64) -> bool {
        // The usual case costs one load: nothing was cleared since.
        read_at >= self.clears.load(Ordering::SeqCst)
            || (read_at >= self.all_cleared.load(Ordering::SeqCst)
                && self.cleared.get(&tenant).is_none_or(|cleared| read_at >= cleared))
    }
}

/// What is known of a tenant's connection, without any secret.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectionInfo {
    /// The tenant.
    pub tenant: Uuid,
    /// Its data source; none while its rows are in the application database.
    pub data_source: Option<DataSourceUrl>,
    /// The engine behind it.
    pub engine: Engine,
    /// `shared`, `dedicated` or `customer`.
    pub kind: Option<&'static str>,
    /// Where in the world it is.
    pub region: Option<String>,
    /// The tenant's id there.
    pub tenant_id_in_data_source: String,
    /// What keeps it apart from others under restricted access.
    pub isolation: Isolation,
    /// Whether a credential of the restricted role is sealed.
    pub has_restricted_credential: bool,
    /// Whether a credential of the service role is sealed.
    pub has_service_credential: bool,
    /// The placement epoch.
    pub placement_epoch: i64,
}

/// The caches at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct CacheStats {
    /// Placements held.
    pub placements: u64,
    /// Look-ups answered from the cache since start.
    pub placement_hits: u64,
    /// Look-ups that asked the application database since start.
    pub placement_misses: u64,
    /// The pools and their connections.
    pub pools: Vec<PoolStats>,
}

/// The most placements held at a time.
const MAX_PLACEMENTS: u64 = 100_000;

impl DataSourceManager {
    /// A manager over an application database. `app_db_pool` serves tenants that fall back to it. The keyring may be
    /// absent while every data source is an SQLite file.
    pub fn new(app_db: AppDb, app_db_pool: Pool, keyring: Option<Arc<Keyring>>, options: ManagerOptions) -> Self {
        let recent = Arc::new(Recent::new());
        let leaving = Arc::clone(&recent);
        let routes = Cache::builder()
            .time_to_live(options.placement_ttl)
            .max_capacity(MAX_PLACEMENTS)
            // It does not see who is read, so that it can only go by who came first.
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |tenant: Arc<Uuid>, cached: Arc<Cached>, _| {
                if let Ok(db) = &cached.restricted {
                    leaving.remove_handle(*tenant, db);
                }
            })
            .build();
        let rules =
            AdmissionRules { column: options.tenant_column.clone(), exceptions: options.isolation_exceptions.clone() };
        let pools = Pools::new(options.pool_idle, options.pool.clone(), rules);
        // Longer than a placement can be in the cache, the time of reading it included.
        let cleared =
            moka::sync::Cache::builder().time_to_live(options.placement_ttl * 2 + Duration::from_secs(60)).build();
        Self {
            shared: Arc::new_cyclic(|this| Shared {
                this: Weak::clone(this),
                app_db,
                fallback: AdmittedPool::trusted(app_db_pool),
                tenant_column: options.tenant_column.name.as_str().into(),
                keyring,
                options,
                routes,
                watch: OnceCell::new(),
                relocations: relocation::cache(),
                recent,
                pools,
                hits: AtomicU64::new(0),
                misses: AtomicU64::new(0),
                clears: AtomicU64::new(0),
                cleared,
                all_cleared: AtomicU64::new(0),
            }),
        }
    }

    /// A restricted handle on the tenant's rows: what a request gets. Connects nothing yet.
    ///
    /// # Errors
    /// [`RouteError`], always closed: an unknown, suspended or unplaced tenant gets no handle.
    pub async fn tenant(&self, tenant: Uuid) -> Result<TenantDb, RouteError> {
        let shared = &self.shared;
        if let Some(db) = shared.recent.get(tenant, |read_at| shared.is_current(tenant, read_at)) {
            shared.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(db);
        }
        let cached = Box::pin(self.cached(tenant)).await?;
        refuse_inactive(&cached.route)?;
        let db = cached.restricted.clone().map_err(|none| none.into_error(tenant))?;
        shared.recent.insert(tenant, Handle { read_at: cached.read_at, expires: cached.expires, db: db.clone() });
        Ok(db)
    }

    /// A handle of the service role, for migrations, transfers and administration: row-level security lets it through, so
    /// that only the tenant predicate keeps its statements apart. Each call is recorded in the audit log, with its reason,
    /// before the handle is given.
    ///
    /// # Errors
    /// [`RouteError`]; [`RouteError::Audit`] when it could not be recorded.
    pub async fn tenant_as_service(&self, tenant: Uuid, actor: &Actor, reason: &str) -> Result<TenantDb, RouteError> {
        let cached = self.cached(tenant).await?;
        let pool = self.shared.service_pool_of(&cached.route)?;
        let entry = AuditEntry {
            tenant: Some(tenant),
            action: "service_access".to_owned(),
            entity_type: "tenant".to_owned(),
            entity_id: Some(tenant.to_string()),
            changes: Some(json!({ "reason": reason })),
        };
        self.shared.app_db.audit(&entry, actor).await.map_err(|source| RouteError::Audit { tenant, source })?;
        Ok(self.shared.handle(&cached.route, pool, Access::Service).as_user(actor.clone()))
    }

    /// The tenant's placement, from the cache where it is there.
    ///
    /// # Errors
    /// [`RouteError`] when the tenant is unknown or its placement unusable.
    pub async fn route(&self, tenant: Uuid) -> Result<Route, RouteError> {
        Ok(self.cached(tenant).await?.route.clone())
    }

    /// The pool of the service role of the tenant's data source, for operators' commands.
    ///
    /// # Errors
    /// [`RouteError`] when there is no data source, or its credential is missing or does not open.
    pub async fn service_pool(&self, tenant: Uuid) -> Result<Pool, RouteError> {
        let pool = self.shared.service_pool_of(&self.cached(tenant).await?.route)?;
        Ok(pool.pool().clone())
    }

    /// The login of the service role, for the migrators, which open a connection of their own. None for an SQLite file.
    ///
    /// # Errors
    /// As [`DataSourceManager::service_pool`].
    pub async fn service_login(&self, tenant: Uuid) -> Result<Option<Login>, RouteError> {
        let cached = self.cached(tenant).await?;
        let placed = cached.route.placed().ok_or(RouteError::NoDataSource(tenant))?;
        self.shared.login(tenant, placed, CredentialColumn::Service)
    }

    /// The login of the restricted role. None for an SQLite file.
    ///
    /// # Errors
    /// As [`DataSourceManager::service_pool`].
    pub async fn restricted_login(&self, tenant: Uuid) -> Result<Option<Login>, RouteError> {
        let cached = self.cached(tenant).await?;
        let placed = cached.route.placed().ok_or(RouteError::NoDataSource(tenant))?;
        self.shared.login(tenant, placed, CredentialColumn::Anon)
    }

    /// What is known of a tenant's connection, without any secret and without connecting.
    ///
    /// # Errors
    /// [`RouteError`] when the tenant is unknown or its placement unusable.
    pub async fn connection_info(&self, tenant: Uuid) -> Result<ConnectionInfo, RouteError> {
        let route = self.route(tenant).await?;
        let placed = route.placed();
        let url = placed.map_or(self.shared.fallback.pool().url(), |placed| &placed.url);
        Ok(ConnectionInfo {
            tenant,
            data_source: placed.map(|placed| placed.url.clone()),
            engine: url.engine(),
            kind: placed.map(|placed| placed.kind.as_str()),
            region: placed.and_then(|placed| placed.region.clone()),
            tenant_id_in_data_source: route.key.to_string(),
            isolation: isolation(&route, url.engine(), Access::Restricted),
            has_restricted_credential: placed.is_some_and(|placed| placed.has_credential(CredentialColumn::Anon)),
            has_service_credential: placed.is_some_and(|placed| placed.has_credential(CredentialColumn::Service)),
            placement_epoch: route.epoch,
        })
    }

    /// The caches now.
    pub async fn cache_stats(&self) -> CacheStats {
        self.shared.routes.run_pending_tasks().await;
        CacheStats {
            placements: self.shared.routes.entry_count(),
            placement_hits: self.shared.hits.load(Ordering::Relaxed),
            placement_misses: self.shared.misses.load(Ordering::Relaxed),
            pools: self.shared.pools.stats(),
        }
    }

    /// Forgets one tenant's placement; the next request asks the application database. Pools stay, since other tenants may
    /// use them; a changed placement has another pool.
    pub async fn clear_tenant(&self, tenant: Uuid) {
        let shared = &self.shared;
        let clear = shared.next_clear();
        // Of two clears at once the later one counts, whichever is noted last.
        let later = |noted: Option<moka::Entry<Uuid, u64>>| noted.map_or(clear, |noted| noted.into_value().max(clear));
        shared.cleared.entry(tenant).and_upsert_with(later);
        shared.recent.remove(tenant);
        shared.routes.invalidate(&tenant).await;
    }

    /// Forgets every placement and every pool. Transactions under way go on to their end.
    pub fn clear_all(&self) {
        self.clear_placements();
        self.shared.pools.clear();
    }

    /// Forgets every placement. Pools stay.
    fn clear_placements(&self) {
        self.shared.all_cleared.fetch_max(self.shared.next_clear(), Ordering::SeqCst);
        self.shared.recent.clear();
        self.shared.routes.invalidate_all();
    }

    /// Closes every pool, waiting for the transactions under way.
    pub async fn close(&self) {
        if let Some(watch) = self.shared.watch.get() {
            watch.end().await;
        }
        self.shared.recent.clear();
        self.shared.routes.invalidate_all();
        self.shared.pools.close().await;
    }

    /// The tenant column of the data sources.
    pub fn tenant_column(&self) -> &TenantColumn {
        &self.shared.options.tenant_column
    }

    /// Objects that may be as they are, named as findings of the isolation report name them.
    pub(crate) fn isolation_exceptions(&self) -> &[String] {
        &self.shared.options.isolation_exceptions
    }

    /// The application database.
    pub fn app_db(&self) -> &AppDb {
        &self.shared.app_db
    }

    /// A restricted handle whatever the tenant's status, for tests of the connection.
    pub(crate) async fn tenant_for_test(&self, tenant: Uuid) -> Result<(Route, TenantDb), RouteError> {
        let cached = self.cached(tenant).await?;
        let db = cached.restricted.clone().map_err(|none| none.into_error(tenant))?;
        Ok((cached.route.clone(), db))
    }

    async fn cached(&self, tenant: Uuid) -> Result<Arc<Cached>, RouteError> {
        let shared = &self.shared;
        if let Some(cached) = shared.routes.get(&tenant).await
            && cached.expires > Instant::now()
            && shared.is_current(tenant, cached.read_at)
        {
            shared.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(cached);
        }
        let mut joined_before = false;
        loop {
            let (loaded, joined) = self.load(tenant).await;
            match loaded {
                Ok(loaded) if joined && loaded.expires <= Instant::now() => shared.routes.invalidate(&tenant).await,
                Ok(loaded) if shared.is_current(tenant, loaded.read_at) => return Ok(loaded),
                Ok(_) => shared.routes.invalidate(&tenant).await,
                // A look-up that was under way before this call may have missed a tenant that was created before it.
                Err(_) if joined && !joined_before => joined_before = true,
                Err(error) => return Err(error),
            }
        }
    }

    /// Single flight: of many callers one asks, the others join it and wait for its answer. An error is handed to all of
    /// them and forgotten, so that a tenant created a moment later is found. Returns whether this call joined another's.
    async fn load(&self, tenant: Uuid) -> (Result<Arc<Cached>, RouteError>, bool) {
        let shared = &self.shared;
        let joined = AtomicBool::new(true);
        let load = async {
            joined.store(false, Ordering::Relaxed);
            shared.read(tenant).await.map(Arc::new)
        };
        let loaded = shared
            .routes
            .try_get_with(tenant, load)
            .await
            .map_err(|error: Arc<RouteError>| Arc::try_unwrap(error).unwrap_or_else(RouteError::Shared));
        (loaded, joined.into_inner())
    }
}

impl Shared {
    /// Asks the application database.
    async fn read(&self, tenant: Uuid) -> Result<Cached, RouteError> {
        self.misses.fetch_add(1, Ordering::Relaxed);
        let watching =
            self.watch.get_or_try_init(|| Watch::begin(&self.this, &self.app_db, self.options.placement_poll));
        watching.await.map_err(|source| RouteError::Lookup { tenant, source: Arc::new(source) })?;
        let read_at = self.clears.load(Ordering::SeqCst);
        let route = Route::load(&self.app_db, tenant, self.options.tenant_column.key_type).await?;
        let restricted = self.restricted(&route);
        let expires = Instant::now() + self.options.placement_ttl;
        Ok(Cached { read_at, expires, route, restricted })
    }

    fn restricted(&self, route: &Route) -> Result<TenantDb, NoAccess> {
        let pool = match &route.destination {
            Destination::ApplicationDatabase if self.options.fallback_to_application_database => {
                Arc::clone(&self.fallback)
            }
            Destination::ApplicationDatabase => return Err(NoAccess::NoDataSource),
            Destination::DataSource(placed) => {
                let column = CredentialColumn::Anon;
                let login = match (placed.url.engine(), placed.sealed(column)) {
                    (Engine::Sqlite, _) => None,
                    (Engine::Postgres, None) => return Err(NoAccess::NoCredential),
                    (Engine::Postgres, Some(sealed)) => {
                        Some(self.open(route.tenant, column, sealed).map_err(NoAccess::Unopened)?)
                    }
                };
                let pool = self.pools.get(&placed.url, Access::Restricted, login.as_ref(), &placed.connections);
                let pool = pool.map_err(|error| NoAccess::Pool(Arc::new(error)))?;
                if placed.kind.holds_one_tenant() {
                    pool.pool().keep_warm(placed.pool_min);
                }
                pool
            }
        };
        Ok(self.handle(route, pool, Access::Restricted))
    }

    fn service_pool_of(&self, route: &Route) -> Result<Arc<AdmittedPool>, RouteError> {
        let tenant = route.tenant;
        match &route.destination {
            Destination::ApplicationDatabase if self.options.fallback_to_application_database => {
                Ok(Arc::clone(&self.fallback))
            }
            Destination::ApplicationDatabase => Err(RouteError::NoDataSource(tenant)),
            Destination::DataSource(placed) => {
                let login = self.login(tenant, placed, CredentialColumn::Service)?;
                let pool = self.pools.get(&placed.url, Access::Service, login.as_ref(), &placed.connections);
                pool.map_err(|source| RouteError::Pool { tenant, source: Arc::new(source) })
            }
        }
    }

    fn handle(&self, route: &Route, pool: Arc<AdmittedPool>, access: Access) -> TenantDb {
        let engine = pool.pool().engine();
        // What is one tenant's alone is not divided.
        let share = route.placed().filter(|placed| !placed.kind.holds_one_tenant()).map(|placed| placed.pool_max);
        TenantDb::new(TenantContext {
            tenant_id: route.tenant,
            key: route.key.clone(),
            tenant_column: Arc::clone(&self.tenant_column),
            access,
            isolation: isolation(route, engine, access),
            engine,
            session: Session {
                tenant: Some(route.key.to_string().into()),
                max_connections: share,
                ..Session::default()
            },
            pool,
            epoch: route.epoch,
            router: Weak::clone(&self.this),
            moved_to: OnceLock::new(),
        })
    }

    fn login(&self, tenant: Uuid, placed: &Placed, column: CredentialColumn) -> Result<Option<Login>, RouteError> {
        if placed.url.engine() == Engine::Sqlite {
            return Ok(None);
        }
        let sealed = placed.sealed(column).ok_or(RouteError::NoCredential { tenant, column })?;
        let login = self.open(tenant, column, sealed);
        login.map(Some).map_err(|unopened| unopened.into_error(tenant, column))
    }
}

impl std::fmt::Debug for DataSourceManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataSourceManager").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

fn refuse_inactive(route: &Route) -> Result<(), RouteError> {
    let status = match route.status {
        TenantStatus::Active => return Ok(()),
        TenantStatus::Suspended => "suspended",
        TenantStatus::Cancelled => "cancelled",
    };
    Err(RouteError::Inactive { tenant: route.tenant, status })
}

/// Row-level security stands behind restricted access to a PostgreSQL data source and behind nothing else.
fn isolation(route: &Route, engine: Engine, access: Access) -> Isolation {
    match (&route.destination, engine, access) {
        (Destination::DataSource(_), Engine::Postgres, Access::Restricted) => Isolation::Policy,
        _ => Isolation::PredicateOnly,
    }
}
