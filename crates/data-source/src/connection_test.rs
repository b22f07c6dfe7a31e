//! The connection test: what a tenant's route can do at this moment, each answer measured on a live connection.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use sea_orm::{DbBackend, Statement};
use serde::Serialize;
use tenantry_connection::{DataSourceUrl, Engine, Error, Mode, Pool, Session, Transaction};
use uuid::Uuid;

use crate::{DataSourceManager, Isolation, IsolationReport, RouteError, TenantHandle, handle::sealed};

/// What was measured over a tenant's restricted access.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectionTest {
    /// The tenant.
    pub tenant: Uuid,
    /// Where its route leads; none when it has none.
    pub data_source: Option<DataSourceUrl>,
    /// The engine behind it.
    pub engine: Option<Engine>,
    /// A connection was made with the tenant's restricted login.
    pub can_connect: bool,
    /// A statement was answered on it.
    pub can_query: bool,
    /// Row-level security holds, by the catalogs and but for the exceptions of the settings: see [`IsolationReport`]. None where
    /// the engine has none.
    pub rls_enabled: Option<bool>,
    /// What keeps the tenant apart.
    pub isolation: Option<Isolation>,
    /// What the measurement of row-level security found.
    pub isolation_report: Option<IsolationReport>,
    /// The time of one round trip, in milliseconds.
    pub response_time_ms: Option<f64>,
    /// The server's version.
    pub server_version: Option<String>,
    /// What went wrong, with its causes.
    pub error: Option<String>,
}

impl ConnectionTest {
    /// Whether the route works and, where it must, row-level security holds.
    pub fn passed(&self) -> bool {
        self.can_query && self.rls_enabled != Some(false)
    }

    fn new(tenant: Uuid) -> Self {
        Self {
            tenant,
            data_source: None,
            engine: None,
            can_connect: false,
            can_query: false,
            rls_enabled: None,
            isolation: None,
            isolation_report: None,
            response_time_ms: None,
            server_version: None,
            error: None,
        }
    }
}

/// How long one tenant's test may take: a black hole must not hold up a report over many tenants.
const DEADLINE: Duration = Duration::from_secs(15);

impl DataSourceManager {
    /// Tests a tenant's restricted access, also of a suspended tenant. Never fails: what went wrong is part of the answer.
    pub async fn test_connection(&self, tenant: Uuid) -> ConnectionTest {
        let mut test = ConnectionTest::new(tenant);
        match self.tenant_for_test(tenant).await {
            Err(error) => test.error = Some(with_causes(&error)),
            Ok((route, db)) => {
                let pool = sealed::Handle::context(&db).pool.pool();
                test.data_source = Some(pool.url().clone());
                test.engine = Some(pool.engine());
                test.isolation = Some(db.isolation());
                let role = match (route.placed(), pool.engine()) {
                    (Some(_), Engine::Postgres) => {
                        self.restricted_login(tenant).await.ok().flatten().map(|login| login.user)
                    }
                    _ => None,
                };
                match tokio::time::timeout(DEADLINE, self.measure(&mut test, pool, role)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => test.error = Some(with_causes(&error)),
                    Err(_) => test.error = Some(format!("no answer within {} s", DEADLINE.as_secs())),
                }
            }
        }
        test
    }

    /// Tests the given tenants, at most `concurrency` at a time, in the given order.
    pub async fn test_connections(&self, tenants: &[Uuid], concurrency: usize) -> Vec<ConnectionTest> {
        stream::iter(tenants).map(|tenant| self.test_connection(*tenant)).buffered(concurrency.max(1)).collect().await
    }

    /// Measures row-level security of a tenant's data source over its service login. None where the engine has none.
    ///
    /// # Errors
    /// [`RouteError`] when there is no way in.
    pub async fn measure_isolation(&self, tenant: Uuid) -> Result<Option<Result<IsolationReport, Error>>, RouteError> {
        let pool = self.service_pool(tenant).await?;
        let Some(login) = self.restricted_login(tenant).await? else { return Ok(None) };
        let measured = async {
            let mut transaction = pool.begin(&Session::default(), Mode::Read).await?;
            let report = IsolationReport::measure(&mut transaction, &login.user, self.tenant_column()).await?;
            transaction.commit().await?;
            Ok(report)
        };
        Ok(Some(measured.await))
    }

    async fn measure(&self, test: &mut ConnectionTest, pool: &Pool, role: Option<String>) -> Result<(), Error> {
        let mut transaction = pool.begin(&Session::default(), Mode::Read).await?;
        test.can_connect = true;
        let started = Instant::now();
        test.server_version = Some(server_version(&mut transaction).await?);
        test.response_time_ms = Some(started.elapsed().as_secs_f64() * 1000.0);
        test.can_query = true;
        if let Some(role) = role {
            let report = IsolationReport::measure(&mut transaction, &role, self.tenant_column()).await?;
            let found = report.findings_except(self.isolation_exceptions()).next().is_some();
            test.rls_enabled = Some(!found && !report.tables.is_empty());
            test.isolation_report = Some(report);
        }
        transaction.commit().await
    }
}

async fn server_version(transaction: &mut Transaction) -> Result<String, Error> {
    let (backend, sql) = match transaction.engine() {
        Engine::Postgres => (DbBackend::Postgres, "SELECT 'PostgreSQL ' || current_setting('server_version')"),
        // The version alone would be answered without a look at the file.
        Engine::Sqlite => (DbBackend::Sqlite, "SELECT 'SQLite ' || sqlite_version(), count(*) FROM sqlite_schema"),
    };
    let row = transaction.query_one(Statement::from_string(backend, sql)).await?;
    row.and_then(|row| row.try_get_by_index(0).ok())
        .ok_or_else(|| Error::Catalog { source: sea_orm::DbErr::RecordNotFound("the server's version".to_owned()) })
}

/// An error and its causes on one line, for reports.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
