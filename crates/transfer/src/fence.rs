//! The fence as a transfer uses it: installed where a source has none, raised with a deadline, given from one run to the next,
//! lowered again.
//!
//! A reason tells whose fence it is. That of a transfer carries the epoch of its run, and every transaction in which a transfer
//! writes makes sure that the fence is still its run's: a run that was taken for dead and is not can then do no harm.

use std::time::{Duration, Instant};

use sea_orm::QueryResult;
use tenantry_connection::{Engine, Mode, Session, Transaction};
use tenantry_migrations::fence;
use tenantry_realm::TenantKey;
use uuid::Uuid;

use crate::{
    Endpoint, Error, Options, Side,
    quote::{postgres_literal, sqlite_literal},
    rows::{ask, backend},
};

const INSTALLING: &str = "installing the fence";

/// What every reason of a transfer begins with.
const TRANSFER: &str = "transfer ";

/// How long sessions that were ended may take to be gone.
const ENDING: Duration = Duration::from_secs(10);

/// The run of a transfer that a fence belongs to. The epoch is that of the run's lease: of two runs the later one has the higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) transfer: Uuid,
    pub(crate) epoch: i64,
}

/// Whose a raised fence is, as its reason says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A transfer's that is under way.
    Moving(Stamp),
    /// The rows are those that the transfer left behind. They are kept until they are purged or the tenant comes back.
    Kept(Uuid),
    /// The tenant has been here, and none of its rows is. Who still has the old route must not write.
    Left(Uuid),
    /// Somebody else's.
    Other(String),
}

impl Holder {
    /// Reads a reason.
    pub(crate) fn of(reason: &str) -> Self {
        let read = || {
            let (head, state) = reason.strip_prefix(TRANSFER)?.split_once(": ")?;
            if let Some((transfer, epoch)) = head.split_once('/') {
                return Some(Self::Moving(Stamp { transfer: transfer.parse().ok()?, epoch: epoch.parse().ok()? }));
            }
            let transfer = head.parse().ok()?;
            match state.split_once(',').map_or(state, |(state, _)| state) {
                "kept" => Some(Self::Kept(transfer)),
                "left" => Some(Self::Left(transfer)),
                _ => None,
            }
        };
        read().unwrap_or_else(|| Self::Other(reason.to_owned()))
    }

    /// Whether it is a run of this transfer.
    pub(crate) fn is_moving(&self, transfer: Uuid) -> bool {
        matches!(self, Self::Moving(stamp) if stamp.transfer == transfer)
    }

    /// Whether it is this run's, or an earlier one's of the same transfer. A later run's is not to be touched.
    pub(crate) fn is_of(&self, run: Stamp) -> bool {
        matches!(self, Self::Moving(stamp) if stamp.transfer == run.transfer && stamp.epoch <= run.epoch)
    }

    /// The reason, as it is stored and as refusals of writes print it. `other` is where the rows are going, or have gone.
    pub(crate) fn reason(&self, other: &Endpoint) -> String {
        let url = other.pool.url();
        match self {
            Self::Moving(Stamp { transfer, epoch }) => {
                format!("{TRANSFER}{transfer}/{epoch}: moving, to or from {url}")
            }
            Self::Kept(transfer) => format!("{TRANSFER}{transfer}: kept, moved to {url}"),
            Self::Left(transfer) => format!("{TRANSFER}{transfer}: left, for {url}"),
            Self::Other(reason) => reason.clone(),
        }
    }
}

/// Whose the tenant's fence is, or `None` where none is raised.
pub(crate) async fn holder(transaction: &mut Transaction, tenant: &TenantKey) -> Result<Option<Holder>, Error> {
    Ok(state(transaction, tenant).await?.as_deref().map(Holder::of))
}

/// The reason the tenant is fenced for, or `None` where it is not.
async fn state(transaction: &mut Transaction, tenant: &TenantKey) -> Result<Option<String>, Error> {
    const DOING: &str = "reading the fence";
    let exists = match transaction.engine() {
        // The planner may ask in any order, and asking for a table of a schema without USAGE is an error.
        Engine::Postgres => {
            "SELECT 1 AS found FROM pg_namespace n WHERE n.nspname = 'tenantry' \
             AND CASE WHEN has_schema_privilege(n.oid, 'USAGE') \
             THEN coalesce(has_table_privilege(to_regclass('tenantry.fence'), 'SELECT'), false) ELSE false END"
        }
        Engine::Sqlite => "SELECT 1 AS found FROM sqlite_schema WHERE type = 'table' AND name = 'tenantry_fence'",
    };
    if ask(transaction, exists, DOING).await?.is_empty() {
        return Ok(None);
    }
    let sql = read(transaction.engine(), tenant, "");
    reason(&ask(transaction, &sql, DOING).await?)
}

/// The statement that reads the fence's row, where the fence exists, and locks it if it is told how.
fn read(engine: Engine, tenant: &TenantKey, lock: &str) -> String {
    let tenant = tenant.to_string();
    match engine {
        Engine::Postgres => format!(
            "SELECT fenced AS raised, coalesce(reason, '') AS reason FROM tenantry.fence \
             WHERE tenant_id = tenantry.fence_key({}){lock}",
            postgres_literal(&tenant)
        ),
        Engine::Sqlite => format!(
            "SELECT fenced = 1 AS raised, coalesce(reason, '') AS reason FROM tenantry_fence WHERE tenant_id = {}",
            sqlite_literal(&tenant)
        ),
    }
}

/// What that statement said, which was the last of those that were asked with it.
fn reason(rows: &[QueryResult]) -> Result<Option<String>, Error> {
    const DOING: &str = "reading the fence";
    let Some(row) = rows.last().filter(|row| row.column_names().iter().any(|name| name == "raised")) else {
        return Ok(None);
    };
    let raised: bool = row.try_get("", "raised").map_err(Error::answer(DOING))?;
    let reason = row.try_get("", "reason").map_err(Error::answer(DOING))?;
    Ok(raised.then_some(reason))
}

/// Installs the fence where it is missing and puts it on these tables. Each table is one transaction, since a new trigger
/// waits for every writer of its table, and no table should wait for another's.
pub(crate) async fn install(endpoint: &Endpoint, tables: &[String], deadline: Duration) -> Result<(), Error> {
    if tables.is_empty() {
        return Ok(());
    }
    let backend = backend(endpoint.engine());
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

/// What [`change`] shall do with the fence that it found.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Raise it, or give a raised one to this holder: returns once the tenant's open writers have ended.
    Raise(Holder),
    /// Lower it.
    Lower,
    /// Leave it as it is.
    Nothing,
}

/// Changes the tenant's fence at one end, in one transaction that holds off every other change of it. `decide` sees whose it is.
///
/// Whatever a transfer's own transactions have open there is waited for, since they hold the fence's row. With `look` it is looked
/// at first whether there is anything to do: where there is nothing nobody is waited for, and there may be no fence to lock.
pub(crate) async fn change(
    (side, look): (Side, bool),
    endpoint: &Endpoint,
    other: &Endpoint,
    options: &Options,
    decide: impl Fn(Option<Holder>) -> Result<Change, Error>,
) -> Result<(), Error> {
    const DOING: &str = "changing the fence";
    if look {
        let mut snapshot = endpoint.snapshot().await?;
        let found = holder(&mut snapshot, &endpoint.tenant).await?;
        snapshot.rollback().await.map_err(Error::database(DOING))?;
        if matches!(decide(found)?, Change::Nothing) {
            return Ok(());
        }
    }
    let started = Instant::now();
    let (mut deadline, mut ended) = (options.fence_deadline, false);
    loop {
        let left = deadline.saturating_sub(started.elapsed());
        let done = async {
            // Until here nothing was written, so that this may be broken off.
            let mut transaction = options.interrupt.ends(begin_patiently(endpoint, left)).await?;
            let found = options.interrupt.ends(lock(&mut transaction, endpoint)).await?;
            match decide(found)? {
                Change::Raise(holder) => set(&mut transaction, endpoint, Some(&holder.reason(other))).await?,
                Change::Lower => set(&mut transaction, endpoint, None).await?,
                Change::Nothing => {}
            }
            transaction.commit().await.map_err(Error::database(DOING))
        };
        match done.await {
            Ok(()) => return Ok(()),
            Err(Error::Database { source: tenantry_connection::Error::Conflict { .. }, .. }) => {
                if started.elapsed() < deadline {
                    // SQLite gives up after the pool's own time-out, PostgreSQL also for a deadlock; there is time left.
                    tokio::task::yield_now().await;
                } else if options.end_writers && !ended && endpoint.engine() == Engine::Postgres {
                    (deadline, ended) = (started.elapsed() + ENDING, true);
                    end_writers(endpoint).await?;
                } else {
                    return Err(Error::Writers {
                        side,
                        whose: "this tenant's",
                        waited_ms: started.elapsed().as_millis(),
                    });
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Takes the tenant's lock as raising a fence does, before the fence is looked at: so it waits for the tenant's open writers
/// and for no neighbour, and nobody changes it in between. Says whose it is.
async fn lock(transaction: &mut Transaction, endpoint: &Endpoint) -> Result<Option<Holder>, Error> {
    let engine = transaction.engine();
    let mut sql = read(engine, &endpoint.tenant, " FOR UPDATE");
    // On SQLite there is one writer at a time: the transaction is the lock.
    if engine == Engine::Postgres {
        sql = format!(
            "SELECT pg_advisory_xact_lock_shared(hashtextextended('tenantry.fence', 0)); \
             SELECT pg_advisory_xact_lock(hashtextextended('tenantry.fence:' || tenantry.fence_key({}), 0)); {sql}",
            postgres_literal(&endpoint.tenant.to_string())
        );
    }
    let found = reason(&ask(transaction, &sql, "locking the fence").await?)?;
    Ok(found.as_deref().map(Holder::of))
}

async fn set(transaction: &mut Transaction, endpoint: &Endpoint, reason: Option<&str>) -> Result<(), Error> {
    let statements = forms(endpoint).into_iter().map(|tenant| match (endpoint.engine(), reason) {
        (Engine::Postgres, Some(reason)) => {
            format!("SELECT tenantry.raise_fence({tenant}, {})", postgres_literal(reason))
        }
        (Engine::Postgres, None) => format!("SELECT tenantry.lower_fence({tenant})"),
        (Engine::Sqlite, Some(reason)) => format!(
            "INSERT INTO tenantry_fence (tenant_id, fenced, reason, changed_at) \
             VALUES ({tenant}, 1, {}, strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')) ON CONFLICT (tenant_id) \
             DO UPDATE SET fenced = 1, reason = excluded.reason, changed_at = excluded.changed_at",
            sqlite_literal(reason)
        ),
        (Engine::Sqlite, None) => {
            format!(
                "UPDATE tenantry_fence SET fenced = 0, reason = NULL, \
                 changed_at = strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now') WHERE tenant_id = {tenant} AND fenced = 1"
            )
        }
    });
    for sql in statements {
        transaction.execute_raw_sql(&sql).await.map_err(Error::database("changing the fence"))?;
    }
    Ok(())
}

/// Makes sure, until the transaction ends, that the tenant's fence is this run's: another run of the transfer that raises it
/// anew waits for this transaction, and what comes later of an earlier run is refused here.
pub(crate) async fn hold(transaction: &mut Transaction, tenant: &TenantKey, stamp: Stamp) -> Result<(), Error> {
    let sql = read(transaction.engine(), tenant, " FOR SHARE");
    match reason(&ask(transaction, &sql, "holding the fence").await?)?.as_deref().map(Holder::of) {
        Some(Holder::Moving(found)) if found == stamp => Ok(()),
        _ => Err(Error::TakenOver { transfer: stamp.transfer }),
    }
}

/// Ends the sessions that hold the tenant's lock with a write that is not committed. Their transactions are rolled back.
async fn end_writers(endpoint: &Endpoint) -> Result<(), Error> {
    const DOING: &str = "ending the tenant's open writers";
    let sql = format!(
        "SELECT count(pg_terminate_backend(l.pid)) AS ended FROM pg_locks AS l, \
         (SELECT hashtextextended('tenantry.fence:' || tenantry.fence_key({}), 0) AS key) AS k \
         WHERE l.locktype = 'advisory' AND l.granted AND l.mode = 'ShareLock' AND l.objsubid = 1 \
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         AND (l.classid::bigint << 32) | l.objid::bigint = k.key AND l.pid <> pg_backend_pid()",
        postgres_literal(&endpoint.tenant.to_string())
    );
    let mut transaction =
        endpoint.pool.begin(&Session::default(), Mode::Write).await.map_err(Error::database(DOING))?;
    transaction.execute_raw_sql(&sql).await.map_err(Error::database(DOING))?;
    transaction.commit().await.map_err(Error::database(DOING))
}

/// The texts that the fence's triggers may see the tenant as. An older SQLite database may store a uuid as text in capitals,
/// which its trigger compares as it is.
fn forms(endpoint: &Endpoint) -> Vec<String> {
    let text = endpoint.tenant.to_string();
    match (endpoint.engine(), &endpoint.tenant) {
        (Engine::Postgres, _) => vec![postgres_literal(&text)],
        (Engine::Sqlite, TenantKey::Uuid(id)) => {
            let simple = id.simple().to_string();
            let forms = [text.to_uppercase(), simple.to_uppercase(), simple, text];
            forms.iter().map(|text| sqlite_literal(text)).collect()
        }
        (Engine::Sqlite, _) => vec![sqlite_literal(&text)],
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
        transaction.execute_raw_sql(&patient(patience)).await?;
    }
    for sql in statements {
        transaction.execute_raw_sql(sql).await?;
    }
    transaction.commit().await
}

async fn begin_patiently(endpoint: &Endpoint, patience: Duration) -> Result<Transaction, Error> {
    const DOING: &str = "changing the fence";
    let first = if endpoint.engine() == Engine::Postgres { patient(patience) } else { String::new() };
    let begun = endpoint.pool.begin_with(&Session::default(), Mode::Write, &first).await;
    begun.map_err(Error::database(DOING))
}

fn patient(patience: Duration) -> String {
    format!("SET LOCAL lock_timeout = {}; SET LOCAL statement_timeout = 0", patience.as_millis().max(1))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use tenantry_connection::{DataSourceUrl, Pool, PoolOptions};

    use super::*;

    /// What one run writes another must read, or a crash would leave a fence that nobody may lower.
    #[tokio::test]
    async fn a_reason_says_whose_the_fence_is() {
        let url = DataSourceUrl::parse("sqlite:/tmp/there: a, b/c.db").unwrap();
        let pool = Pool::new(&url, None, &PoolOptions::default()).unwrap();
        let other = Endpoint::new(pool, Uuid::nil());
        let transfer = Uuid::from_u128(7);
        for holder in [
            Holder::Moving(Stamp { transfer, epoch: 12 }),
            Holder::Kept(transfer),
            Holder::Left(transfer),
            Holder::Other("maintenance".to_owned()),
            Holder::Other("transfer of the furniture: kept, in a shed".to_owned()),
        ] {
            assert_eq!(Holder::of(&holder.reason(&other)), holder);
        }
    }
}
