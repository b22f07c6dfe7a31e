//! A data source of several tenants on a real server, and somebody who looks at it from outside.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm_migration::MigratorTrait;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, PgConnection, Row, postgres::PgConnectOptions};
use tempfile::TempDir;
use tenantry_app_db::{
    AppDb, NewDataSource, NewPlacement, NewTenant,
    entities::{PoolerMode, SourceKind},
};
use tenantry_connection::{Actor, ClosedCounts, DataSourceUrl, Mode, Pool, PoolOptions, PoolStatus, Session};
use tenantry_credential::{CredentialColumn, Keyring, Login};
use tenantry_data_source::{DataSourceManager, ManagerOptions, TenantDb};
use tenantry_migrations::{AppDbMigrator, TenantDataMigrator, TenantDataSettings, prepare_tenant_data};
use tenantry_test_support::cluster::{Cluster, Database};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::world::{keyring, login_of};

/// Long enough for anything that comes to pass at all.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Tenants of one data source, each with one account that has its name.
pub(super) struct World {
    pub(super) manager: DataSourceManager,
    pub(super) app_db: AppDb,
    pub(super) tenants: Vec<Uuid>,
    pub(super) database: Database,
    /// How the data source is reached.
    pub(super) url: DataSourceUrl,
    app_db_pool: Pool,
    keyring: Arc<Keyring>,
    _directory: TempDir,
}

/// What a world's data source and its manager are like.
pub(super) struct Setup {
    pub(super) tenants: usize,
    /// Of the data source.
    pub(super) cap: u32,
    /// `connection_pool_config` of every tenant; the default allows as many as the default cap.
    pub(super) pool_config: Option<&'static str>,
    pub(super) mode: PoolerMode,
    pub(super) kind: SourceKind,
    pub(super) pool_idle: Duration,
    pub(super) options: PoolOptions,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            tenants: 2,
            cap: 10,
            pool_config: None,
            mode: PoolerMode::Direct,
            kind: SourceKind::Shared,
            pool_idle: Duration::from_secs(3600),
            // What is refused at its deadline on this machine was not served.
            options: PoolOptions { acquire_timeout: PATIENCE, ..PoolOptions::default() },
        }
    }
}

impl World {
    /// On a copy of a database that was migrated once.
    pub(super) async fn new(setup: Setup) -> Self {
        let database = migrated_copy().await;
        let url = database.url().parse().unwrap();
        Self::reached_by(setup, database, url).await
    }

    /// Reached by another URL than the server's own: a pooler's or a proxy's.
    pub(super) async fn reached_by(setup: Setup, database: Database, url: DataSourceUrl) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = format!("sqlite:{}", directory.path().join("app.db").display()).parse().unwrap();
        let creating = PoolOptions { create_if_missing: true, ..PoolOptions::default() };
        let app_db_pool = Pool::new(&file, None, &creating).unwrap();
        let connection = app_db_pool.migration_connection(None).await.unwrap();
        AppDbMigrator::up(&connection, None).await.unwrap();
        connection.close().await.unwrap();
        let app_db = AppDb::new(app_db_pool.clone());
        let keyring = Arc::new(keyring("new"));
        let options = ManagerOptions { pool: setup.options, pool_idle: setup.pool_idle, ..ManagerOptions::default() };
        let manager = DataSourceManager::new(app_db.clone(), app_db_pool.clone(), Some(Arc::clone(&keyring)), options);
        let mut world =
            Self { manager, app_db, tenants: Vec::new(), database, url, app_db_pool, keyring, _directory: directory };
        world.set_data_source(setup.kind, setup.mode, setup.cap).await;
        for number in 0..setup.tenants {
            let mut tenant = NewTenant::new(format!("Tenant {number}"), format!("tenant-{number}"));
            tenant.placement = world.placement(tenant.id, &world.url, &world.database);
            world.app_db.create_tenant(&tenant, &Actor::default()).await.unwrap();
            world.tenants.push(tenant.id);
        }
        if let Some(config) = setup.pool_config {
            world.app_sql(&format!("UPDATE tenants SET connection_pool_config = '{config}'")).await;
        }
        world
    }

    /// Writes every tenant's account, as somebody else's process would: no connection of this world's is used.
    pub(super) async fn with_accounts(self) -> Self {
        let mut sql = String::new();
        for number in 0..self.tenants.len() {
            let (tenant, name) = (self.tenants[number], name_of(number));
            sql.push_str(&format!(
                "INSERT INTO accounts (tenant_id, id, name) VALUES ('{tenant}', gen_random_uuid(), '{name}');"
            ));
        }
        self.database.psql(&self.database.superuser, &sql).unwrap();
        self
    }

    /// The row of the data source. Who has read it before believes what it was.
    pub(super) async fn set_data_source(&self, kind: SourceKind, mode: PoolerMode, cap: u32) {
        let row = NewDataSource {
            kind,
            pooler_mode: mode,
            max_connections: i32::try_from(cap).unwrap(),
            ..NewDataSource::new(self.url.clone())
        };
        self.app_db.upsert_data_source(&row, &Actor::default()).await.unwrap();
    }

    /// A placement with the logins of a database, sealed anew.
    pub(super) fn placement(&self, tenant: Uuid, url: &DataSourceUrl, database: &Database) -> NewPlacement {
        let seal = |column, login| self.keyring.seal(tenant, column, &login_of(login)).unwrap();
        NewPlacement {
            url: Some(url.clone()),
            anon_key: Some(seal(CredentialColumn::Anon, &database.restricted)),
            service_key: Some(seal(CredentialColumn::Service, &database.service)),
            ..NewPlacement::default()
        }
    }

    /// Seals another restricted login for a tenant, as an operator does, and tells the manager.
    pub(super) async fn replace_restricted(&self, tenant: Uuid, login: &Login) {
        let sealed = self.keyring.seal(tenant, CredentialColumn::Anon, login).unwrap();
        let epoch = self.app_db.tenant(tenant).await.unwrap().unwrap().placement_epoch;
        self.app_db.replace_credentials(tenant, epoch, Some(sealed), None, &Actor::default()).await.unwrap();
        self.manager.clear_tenant(tenant).await;
    }

    /// A tenant's restricted handle.
    pub(super) async fn db(&self, tenant: usize) -> TenantDb {
        self.manager.tenant(self.tenants[tenant]).await.unwrap()
    }

    /// A tenant's service handle.
    pub(super) async fn service(&self, tenant: usize) -> TenantDb {
        self.manager.tenant_as_service(self.tenants[tenant], &Actor::default(), "a test").await.unwrap()
    }

    /// The data source's connections as the manager counts them. Its source must be in use.
    pub(super) async fn status(&self) -> PoolStatus {
        let stats = self.manager.cache_stats().await;
        stats.pools.into_iter().find(|pool| pool.data_source == self.url).unwrap().status
    }

    /// Waits until the data source's connections are as wanted.
    pub(super) async fn wait_for_status(&self, what: &str, wanted: impl Fn(&PoolStatus) -> bool) -> PoolStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status().await;
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{what} has not come to pass: {status:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until nothing is in use, and checks that every connection is accounted for.
    pub(super) async fn at_rest(&self) -> PoolStatus {
        let status = self.wait_for_status("every slot back", |status| status.in_use == 0 && status.waiting == 0).await;
        let ClosedCounts { abandoned, broken, raw_sql, age, unused, replaced, retired } = status.closed;
        let closed = abandoned + broken + raw_sql + age + unused + replaced + retired;
        assert_eq!(status.opened, closed + u64::from(status.open), "{status:#?}");
        status
    }

    /// Runs SQL in the application database, as somebody by hand would.
    pub(super) async fn app_sql(&self, sql: &str) {
        let mut transaction = self.app_db_pool.begin(&Session::default(), Mode::Write).await.unwrap();
        transaction.execute_raw_sql(sql).await.unwrap();
        transaction.commit().await.unwrap();
    }

    pub(super) async fn observer(&self) -> Observer {
        Observer::of(&self.database).await
    }
}

/// The name of a tenant's one account.
pub(super) fn name_of(tenant: usize) -> String {
    format!("account of tenant {tenant}")
}

/// A database with the reference schema, its own, but its logins those of every other copy.
pub(super) async fn migrated_copy() -> Database {
    static TEMPLATE: OnceCell<Database> = OnceCell::const_new();
    let cluster = Cluster::shared().unwrap();
    let template = TEMPLATE.get_or_init(async || migrated(&cluster).await).await;
    cluster.create_database_from(template).unwrap()
}

/// A database with the reference schema and logins of its own.
pub(super) async fn migrated(cluster: &Cluster) -> Database {
    let database = cluster.create_database("leases").unwrap();
    let url = database.url().parse().unwrap();
    let service = login_of(&database.service);
    let pool = Pool::new(&url, Some(&service), &PoolOptions::default()).unwrap();
    let connection = pool.migration_connection(Some(&service)).await.unwrap();
    let settings = TenantDataSettings {
        restricted_role: database.restricted.user.clone(),
        tenant_column: "tenant_id".to_owned(),
        tenant_type: "uuid".to_owned(),
    };
    prepare_tenant_data(&connection, &settings).await.unwrap();
    TenantDataMigrator::up(&connection, None).await.unwrap();
    connection.close().await.unwrap();
    pool.close().await;
    database
}

/// The superuser, on a connection to another database, which does not count.
pub(super) struct Observer {
    connection: PgConnection,
    database: String,
}

impl Observer {
    pub(super) async fn of(database: &Database) -> Self {
        let options: PgConnectOptions = database.superuser_url().parse().unwrap();
        let connection = options.database("postgres").connect().await.unwrap();
        Self { connection, database: database.name.clone() }
    }

    /// The server sessions in the database, whoever's but superusers', by process id. `which` narrows pg_stat_activity.
    pub(super) async fn sessions(&mut self, which: &str) -> BTreeSet<i32> {
        let sql = format!(
            "SELECT pid FROM pg_stat_activity WHERE datname = '{}' AND backend_type = 'client backend' \
             AND NOT (SELECT rolsuper FROM pg_roles WHERE oid = usesysid) AND {which}",
            self.database
        );
        let rows = self.connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Waits until the sessions are as wanted.
    pub(super) async fn wait_for(
        &mut self,
        what: &str,
        which: &str,
        wanted: impl Fn(&BTreeSet<i32>) -> bool,
    ) -> BTreeSet<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let sessions = self.sessions(which).await;
            if wanted(&sessions) {
                return sessions;
            }
            assert!(Instant::now() < deadline, "{what} has not come to pass: {sessions:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends a session as an administrator does.
    pub(super) async fn terminate(&mut self, pid: i32) {
        let sql = format!("SELECT pg_terminate_backend({pid}, 5000)");
        let row = self.connection.fetch_one(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
        assert!(row.get::<bool, _>(0), "session {pid} is still there");
    }

    /// Looks at the sessions again and again until it is told to stop.
    pub(super) fn watch(mut self) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let looking = tokio::spawn(async move {
            let mut seen = Seen::default();
            let mut recent: VecDeque<(Instant, BTreeSet<i32>)> = VecDeque::new();
            while !stopped.load(Ordering::Relaxed) {
                let (now, sessions) = (Instant::now(), self.sessions("true").await);
                seen.looks += 1;
                seen.at_once = seen.at_once.max(sessions.len());
                while recent.front().is_some_and(|(then, _)| now - *then >= STAYS) {
                    let (_, then) = recent.pop_front().unwrap();
                    seen.lasting = seen.lasting.max(then.intersection(&sessions).count());
                }
                recent.push_back((now, sessions));
            }
            seen
        });
        Watch { stop, looking }
    }
}

/// PostgreSQL shows a session until its process has gone, which on a busy machine is a while after its client was told goodbye.
/// One that is too many counts when it stays.
const STAYS: Duration = Duration::from_millis(300);

/// What somebody saw who kept looking.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The most sessions that stayed together.
    pub(super) lasting: usize,
    /// The most sessions at one moment, those on their way out included.
    pub(super) at_once: usize,
    pub(super) looks: u32,
}

/// Somebody who keeps looking.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    looking: tokio::task::JoinHandle<Seen>,
}

impl Watch {
    pub(super) async fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.looking.await.unwrap()
    }
}

/// A pool straight at a database.
pub(super) fn pool(database: &Database, options: &PoolOptions) -> Pool {
    Pool::new(&database.url().parse().unwrap(), Some(&login_of(&database.service)), options).unwrap()
}

/// Numbers that look random and are the same every time.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        // xorshift64.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    /// One of `count` things.
    pub(super) fn one_of(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).unwrap()
    }
}
