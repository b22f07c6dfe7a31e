//! The fence as a transfer uses it: installed where a source has none, raised with a deadline, lowered again.
//!
//! A reason tells whose fence it is: one that a transfer raised may be taken over by the next run, any other may not.

use std::time::{Duration, Instant};

use sea_orm::{DbBackend, Statement};
use tenantry_connection::{Engine, Mode, Session, Transaction};
use tenantry_migrations::fence;
use tenantry_realm::TenantKey;

use crate::{Endpoint, Error, Side};

const INSTALLING: &str = "installing the fence";

/// What every reason of a transfer begins with.
const TRANSFER: &str = "transfer: ";

const LEFT: &str = "transfer: rolled back to";

/// What a target's fence says once its tenant was rolled back: whatever rows it still has are copies that may be deleted, and
/// the next transfer may write there.
pub(crate) fn left(source: &Endpoint) -> String {
    format!("{LEFT} {}", source.pool.url())
}

/// Whether a tenant was rolled back from here.
pub(crate) fn is_left(reason: &str) -> bool {
    reason.starts_with(LEFT)
}

/// What is done while a fence is raised, for the reason that its refusals print.
pub(crate) fn reason(doing: &str, other: &Endpoint) -> String {
    format!("{TRANSFER}{doing} {}", other.pool.url())
}

/// Whether a transfer gave this reason.
pub(crate) fn is_transfers(reason: &str) -> bool {
    reason.starts_with(TRANSFER)
}

/// The reason the tenant is fenced for, or `None` where it is not.
pub(crate) async fn state(transaction: &mut Transaction, tenant: &TenantKey) -> Result<Option<String>, Error> {
    const DOING: &str = "reading the fence";
    let engine = transaction.engine();
    let (backend, exists, read) = match engine {
        Engine::Postgres => (
            DbBackend::Postgres,
            // The planner may ask in any order, and asking for a table of a schema without USAGE is an error.
            "SELECT 1 AS found FROM pg_namespace n WHERE n.nspname = 'tenantry' \
             AND CASE WHEN has_schema_privilege(n.oid, 'USAGE') \
             THEN coalesce(has_table_privilege(to_regclass('tenantry.fence'), 'SELECT'), false) ELSE false END",
            "SELECT coalesce(reason, '') AS reason FROM tenantry.fence WHERE fenced AND tenant_id = $1",
        ),
        Engine::Sqlite => (
            DbBackend::Sqlite,
            "SELECT 1 AS found FROM sqlite_schema WHERE type = 'table' AND name = 'tenantry_fence'",
            "SELECT coalesce(reason, '') AS reason FROM tenantry_fence WHERE fenced = 1 AND tenant_id = ?",
        ),
    };
    let exists =
        transaction.query_one(Statement::from_string(backend, exists)).await.map_err(Error::database(DOING))?;
    if exists.is_none() {
        return Ok(None);
    }
    let statement = Statement::from_sql_and_values(backend, read, [tenant.to_string().into()]);
    let row = transaction.query_one(statement).await.map_err(Error::database(DOING))?;
    row.map(|row| row.try_get("", "reason")).transpose().map_err(Error::answer(DOING))
}

/// Installs the fence where it is missing and puts it on these tables. Each table is one transaction, since a new trigger
/// waits for every writer of its table, and no table should wait for another's.
pub(crate) async fn install(endpoint: &Endpoint, tables: &[String], deadline: Duration) -> Result<(), Error> {
    if tables.is_empty() {
        return Ok(());
    }
    let backend = match endpoint.engine() {
        Engine::Postgres => DbBackend::Postgres,
        Engine::Sqlite => DbBackend::Sqlite,
    };
    let failed = |source| Error::InstallFence { source: Box::new(source) };
    let mut statements = vec![fence::install_sql(backend).map_err(failed)?];
    for table in tables {
        statements.push(fence::attach_sql(backend, table, &endpoint.tenant_column).map_err(failed)?);
    }
    for sql in statements {
        patiently(Side::Source, endpoint, deadline, &[sql], INSTALLING).await?;
    }
    Ok(())
}

/// Holds the tenant's writes: returns once its open writers have ended.
pub(crate) async fn raise(side: Side, endpoint: &Endpoint, reason: &str, deadline: Duration) -> Result<(), Error> {
    let statements = forms(endpoint).into_iter().map(|tenant| match endpoint.engine() {
        Engine::Postgres => {
            format!("SELECT tenantry.raise_fence({tenant}, {})", crate::quote::postgres_literal(reason))
        }
        Engine::Sqlite => format!(
            "INSERT INTO tenantry_fence (tenant_id, fenced, reason, changed_at) \
             VALUES ({tenant}, 1, {}, strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')) ON CONFLICT (tenant_id) \
             DO UPDATE SET fenced = 1, reason = excluded.reason, changed_at = excluded.changed_at",
            crate::quote::sqlite_literal(reason)
        ),
    });
    patiently(side, endpoint, deadline, &statements.collect::<Vec<_>>(), "raising the fence").await
}

/// Lets the tenant's writes through again.
pub(crate) async fn lower(side: Side, endpoint: &Endpoint, deadline: Duration) -> Result<(), Error> {
    let statements = forms(endpoint).into_iter().map(|tenant| match endpoint.engine() {
        Engine::Postgres => format!("SELECT tenantry.lower_fence({tenant})"),
        Engine::Sqlite => format!("UPDATE tenantry_fence SET fenced = 0, reason = NULL WHERE tenant_id = {tenant}"),
    });
    patiently(side, endpoint, deadline, &statements.collect::<Vec<_>>(), "lowering the fence").await
}

/// The texts that the fence's triggers may see the tenant as. An older SQLite database may store a uuid as text in capitals,
/// which its trigger compares as it is.
fn forms(endpoint: &Endpoint) -> Vec<String> {
    let text = endpoint.tenant.to_string();
    match (endpoint.engine(), &endpoint.tenant) {
        (Engine::Postgres, _) => vec![crate::quote::postgres_literal(&text)],
        (Engine::Sqlite, TenantKey::Uuid(id)) => {
            let simple = id.simple().to_string();
            let forms = [text.to_uppercase(), simple.to_uppercase(), simple, text];
            forms.iter().map(|text| crate::quote::sqlite_literal(text)).collect()
        }
        (Engine::Sqlite, _) => vec![crate::quote::sqlite_literal(&text)],
    }
}

/// Runs statements in one transaction that waits for locks no longer than the deadline.
async fn patiently(
    side: Side,
    endpoint: &Endpoint,
    deadline: Duration,
    statements: &[String],
    doing: &str,
) -> Result<(), Error> {
    let started = Instant::now();
    loop {
        match once(endpoint, deadline.saturating_sub(started.elapsed()), statements).await {
            Ok(()) => return Ok(()),
            Err(tenantry_connection::Error::Conflict { .. }) if started.elapsed() < deadline => {
                // SQLite gives up after the pool's own time-out, PostgreSQL also for a deadlock; there is time left.
                tokio::task::yield_now().await;
            }
            Err(tenantry_connection::Error::Conflict { .. }) => {
                let whose = if doing == INSTALLING { "any tenant's" } else { "this tenant's" };
                return Err(Error::Writers { side, whose, waited_ms: started.elapsed().as_millis() });
            }
            Err(source) => return Err(Error::database(format!("{doing} at the {side}"))(source)),
        }
    }
}

async fn once(
    endpoint: &Endpoint,
    patience: Duration,
    statements: &[String],
) -> Result<(), tenantry_connection::Error> {
    let mut transaction = endpoint.pool.begin(&Session::default(), Mode::Write).await?;
    if transaction.engine() == Engine::Postgres {
        let patience = patience.as_millis().max(1);
        let settings = format!("SET LOCAL lock_timeout = {patience}; SET LOCAL statement_timeout = 0");
        transaction.execute_raw_sql(&settings).await?;
    }
    for sql in statements {
        transaction.execute_raw_sql(sql).await?;
    }
    transaction.commit().await
}
