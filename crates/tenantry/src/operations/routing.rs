//! `test-data-source` and `test-routing`: what every tenant's route does at this moment.

use serde::Serialize;
use tenantry_connection::DataSourceUrl;
use tenantry_data_source::{ConnectionTest, ProbedDatabase, RoutingProbe};
use uuid::Uuid;

use super::databases::{data_source_pool, data_sources_in_use, service_login};
use crate::{Error, Tenantry};

/// How many tenants are tested at a time.
const CONCURRENCY: usize = 8;

/// The connection tests of some tenants.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectionReport {
    /// One per tenant.
    pub tests: Vec<ConnectionTest>,
}

impl ConnectionReport {
    /// Whether every route works and row-level security holds wherever it must.
    pub fn passed(&self) -> bool {
        self.tests.iter().all(ConnectionTest::passed)
    }
}

/// The routing probes of some tenants.
#[derive(Debug, Clone, Serialize)]
pub struct RoutingReport {
    /// The databases that were looked into.
    pub databases: Vec<DataSourceUrl>,
    /// One per tenant.
    pub probes: Vec<RoutingProbe>,
}

impl RoutingReport {
    /// Whether every probe was in the right database and in no other, and nothing is left.
    pub fn passed(&self) -> bool {
        self.probes.iter().all(RoutingProbe::passed)
    }
}

/// Tests the connections of the given tenants, of all where none is given.
///
/// # Errors
/// [`Error::Store`] when the tenants could not be listed.
pub async fn test_data_sources(tenantry: &Tenantry, tenants: &[Uuid]) -> Result<ConnectionReport, Error> {
    let tenants = tenants_or_all(tenantry, tenants).await?;
    Ok(ConnectionReport { tests: tenantry.manager().test_connections(&tenants, CONCURRENCY).await })
}

/// Probes the routes of the given tenants, of all placed ones where none is given, and looks directly into every database
/// for each. Safe in production: it uses a table of its own and removes what it wrote.
///
/// # Errors
/// [`Error::Store`] when the tenants could not be listed; [`Error::Route`] when a database cannot be looked into, since a
/// probe that nobody looks for proves nothing.
pub async fn test_routing(tenantry: &Tenantry, tenants: &[Uuid]) -> Result<RoutingReport, Error> {
    let mut databases = vec![ProbedDatabase { pool: tenantry.app_db_pool().clone() }];
    let mut own_pools = Vec::new();
    for source in data_sources_in_use(tenantry).await? {
        // Also where a data source and the application database are one, each database is looked into once.
        if source.url == *tenantry.app_db_pool().url() {
            continue;
        }
        let login = service_login(tenantry, &source).await?;
        let pool = data_source_pool(tenantry, &source.url, login.as_ref(), false).await?;
        own_pools.push(pool.clone());
        databases.push(ProbedDatabase { pool });
    }
    let mut probes = Vec::new();
    for tenant in tenants_or_all(tenantry, tenants).await? {
        probes.push(tenantry.manager().probe_routing(tenant, &databases).await);
    }
    for pool in own_pools {
        pool.close().await;
    }
    let databases = databases.iter().map(|database| database.pool.url().clone()).collect();
    Ok(RoutingReport { databases, probes })
}

async fn tenants_or_all(tenantry: &Tenantry, tenants: &[Uuid]) -> Result<Vec<Uuid>, Error> {
    if tenants.is_empty() {
        Ok(tenantry.app_db().tenants().await?.iter().map(|tenant| tenant.id).collect())
    } else {
        Ok(tenants.to_vec())
    }
}
