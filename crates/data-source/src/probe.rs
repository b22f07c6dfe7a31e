//! The routing probe: a row written through a tenant's route, read back through it, and then looked for directly in every
//! database, so that "routing works" is seen and not inferred. It uses a table of its own, `routing_probe`, and removes what
//! it wrote; a business table is never touched.

use sea_orm::{DbBackend, Statement, Value};
use serde::Serialize;
use tenantry_connection::{DataSourceUrl, Engine, Error, Mode, Pool, Session, Transaction};
use tenantry_realm::TenantKey;
use uuid::Uuid;

use crate::{DataSourceManager, TenantHandle, connection_test::with_causes, handle::sealed};

/// The probe's table in every tenant data database.
pub const PROBE_TABLE: &str = "routing_probe";

/// What one tenant's probe showed.
#[derive(Debug, Clone, Serialize)]
pub struct RoutingProbe {
    /// The tenant.
    pub tenant: Uuid,
    /// Where its route leads.
    pub data_source: Option<DataSourceUrl>,
    /// The probe was written through the route.
    pub written: bool,
    /// It was read back through the route, as written.
    pub read_back: bool,
    /// The databases in which it was found by a direct look.
    pub found_in: Vec<DataSourceUrl>,
    /// The databases that were looked into.
    pub looked_into: usize,
    /// Nothing of the probe is left anywhere.
    pub removed: bool,
    /// The tenant has no data source to route to: nothing was probed.
    pub skipped: bool,
    /// What went wrong, with its causes.
    pub error: Option<String>,
}

impl RoutingProbe {
    /// Whether the row was in the right database, under the right tenant, and in no other; also when there was nothing to
    /// probe.
    pub fn passed(&self) -> bool {
        if self.skipped {
            return true;
        }
        self.error.is_none()
            && self.written
            && self.read_back
            && self.removed
            && self.data_source.as_ref().is_some_and(|url| self.found_in == [url.clone()])
    }
}

/// A database to look into directly.
#[derive(Debug, Clone)]
pub struct ProbedDatabase {
    /// A pool whose login sees every row: the service role's, or the owner's of the application database.
    pub pool: Pool,
}

impl DataSourceManager {
    /// Probes a tenant's route and looks into `databases`, which are to be all of them, each once. Never fails: what went
    /// wrong is part of the answer. Dropped midway, it may leave a probe row behind; the next run removes it.
    pub async fn probe_routing(&self, tenant: Uuid, databases: &[ProbedDatabase]) -> RoutingProbe {
        let mut probe = RoutingProbe {
            tenant,
            data_source: None,
            written: false,
            read_back: false,
            found_in: Vec::new(),
            looked_into: databases.len(),
            removed: false,
            skipped: false,
            error: None,
        };
        if let Ok(route) = self.route(tenant).await
            && route.placed().is_none()
        {
            probe.skipped = true;
            return probe;
        }
        let id = Uuid::new_v4();
        if let Err(error) = self.write_probe(&mut probe, id, databases).await {
            probe.error = Some(error);
        }
        match remove(databases, id).await {
            Ok(()) => probe.removed = true,
            Err(error) => probe.error = Some(probe.error.take().unwrap_or(error)),
        }
        probe
    }

    async fn write_probe(
        &self,
        probe: &mut RoutingProbe,
        id: Uuid,
        databases: &[ProbedDatabase],
    ) -> Result<(), String> {
        let route = self.route(probe.tenant).await.map_err(|error| with_causes(&error))?;
        // A suspended tenant has a route as well; its probe is written through it all the same.
        let (_, db) = self.tenant_for_test(probe.tenant).await.map_err(|error| with_causes(&error))?;
        let url = sealed::Handle::context(&db).pool.pool().url().clone();
        probe.data_source = Some(url);
        let engine = db.engine();
        let column = &self.tenant_column().name;
        let insert = statement(
            engine,
            &format!("INSERT INTO {PROBE_TABLE} (\"{column}\", id, note) VALUES ($1, $2, $3)"),
            [route.key.value(), id.into(), NOTE.into()],
        );
        sealed::Handle::execute(&db, sealed::Checked::new(insert)).await.map_err(|error| with_causes(&error))?;
        probe.written = true;
        let read = statement(
            engine,
            &format!("SELECT note FROM {PROBE_TABLE} WHERE \"{column}\" = $1 AND id = $2"),
            [route.key.value(), id.into()],
        );
        let rows = sealed::Handle::query_all(&db, sealed::Checked::new(read), Mode::Read)
            .await
            .map_err(|error| with_causes(&error))?;
        probe.read_back = rows.len() == 1 && rows[0].try_get_by_index::<String>(0).is_ok_and(|note| note == NOTE);
        for database in databases {
            let found = look(&database.pool, column, id).await.map_err(|error| with_causes(&error))?;
            for key in found {
                if key != route.key {
                    return Err(format!("the probe is in {} under another tenant's id", database.pool.url()));
                }
                probe.found_in.push(database.pool.url().clone());
            }
        }
        Ok(())
    }
}

const NOTE: &str = "written by a routing test; safe to delete";

/// The tenants under which the probe is found in a database. A database without the table holds no probe.
async fn look(pool: &Pool, column: &str, id: Uuid) -> Result<Vec<TenantKey>, Error> {
    let mut transaction = pool.begin(&Session::default(), Mode::Read).await?;
    let mut found = Vec::new();
    if has_table(&mut transaction).await? {
        let sql = format!("SELECT \"{column}\" FROM {PROBE_TABLE} WHERE id = $1");
        for row in transaction.query_all(statement(pool.engine(), &sql, [id.into()])).await? {
            let key = row
                .try_get_by_index::<Uuid>(0)
                .map(TenantKey::Uuid)
                .or_else(|_| row.try_get_by_index::<i64>(0).map(TenantKey::BigInt))
                .or_else(|_| row.try_get_by_index::<String>(0).map(TenantKey::Text));
            found.push(key.map_err(|source| Error::Catalog { source })?);
        }
    }
    transaction.commit().await?;
    Ok(found)
}

async fn remove(databases: &[ProbedDatabase], id: Uuid) -> Result<(), String> {
    for database in databases {
        let removed = async {
            // As a transfer, past the fence: a neighbour that is fenced may have left a row of a killed run.
            let session = Session { transfer: true, ..Session::default() };
            let mut transaction = database.pool.begin(&session, Mode::Write).await?;
            if has_table(&mut transaction).await? {
                let sql = format!("DELETE FROM {PROBE_TABLE} WHERE id = $1 OR created_at < $2");
                // A run that was killed left its row; an hour is longer than any run takes.
                let stale = chrono::Utc::now() - chrono::Duration::hours(1);
                transaction.execute(statement(database.pool.engine(), &sql, [id.into(), stale.into()])).await?;
            }
            transaction.commit().await
        };
        removed.await.map_err(|error: Error| with_causes(&error))?;
    }
    Ok(())
}

async fn has_table(transaction: &mut Transaction) -> Result<bool, Error> {
    let engine = transaction.engine();
    let sql = match engine {
        Engine::Postgres => "SELECT 1 WHERE to_regclass('routing_probe') IS NOT NULL",
        Engine::Sqlite => "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'routing_probe'",
    };
    Ok(transaction.query_one(statement(engine, sql, [])).await?.is_some())
}

fn statement<const N: usize>(engine: Engine, sql: &str, values: [Value; N]) -> Statement {
    let backend = match engine {
        Engine::Postgres => DbBackend::Postgres,
        Engine::Sqlite => DbBackend::Sqlite,
    };
    Statement::from_sql_and_values(backend, sql, values)
}
