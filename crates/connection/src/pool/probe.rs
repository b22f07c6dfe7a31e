//! Whether a connection keeps its server session between transactions.
//!
//! A notification reaches an idle listener over a connection that has a server session of its own: a direct one, or one through
//! a pooler in session mode. Behind a pooler in transaction mode an idle client has no server connection, and nothing reaches
//! it. Asking the pooler does not work: it answers on an ordinary database as the server does, and a proxy that nobody knows of
//! would not answer at all.
//!
//! Notifying through a pooler in transaction mode has a price, though: the notification comes in the midst of whatever transaction
//! has the listening server connection by then, and the driver takes that for a broken connection. So the backends are compared
//! first. Two clients on one backend, or one client on two, say at once what is there; that they differ and stay proves nothing.

use std::time::Duration;

use sqlx::{
    ConnectOptions, Connection, Executor, PgConnection, Postgres, Row,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{DataSourceUrl, Error};

/// How long a notification may take. Whoever is slower is taken for a pooler in transaction mode, which is slower and safe.
const DELIVERY: Duration = Duration::from_secs(1);

/// Compares the backends of two connections, then listens on one and notifies on the other. False also where the server refuses
/// to listen, as a standby does.
pub(super) async fn keeps_session(url: &DataSourceUrl, options: &PgConnectOptions) -> Result<bool, Error> {
    // The driver's listener comes out of a pool of the driver; this one has the one connection.
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options.clone()).await;
    let pool = pool.map_err(|source| Error::from_connect(url, source))?;
    let found = async {
        let mut listener = PgListener::connect_with(&pool).await?;
        let mut notifier = options.connect().await?;
        let kept =
            stays_on_its_backend(&mut listener, &mut notifier).await? && hears(&mut listener, &mut notifier).await?;
        notifier.close().await?;
        // Else the driver would take its channels back in a task of its own.
        let _ = listener.unlisten_all().await;
        Ok(kept)
    };
    let found = found.await.map_err(|source| Error::from_connect(url, source));
    pool.close().await;
    found
}

/// Whether each of two clients has a backend to itself, as far as can be seen. The second holds its own in a transaction meanwhile,
/// so that a pooler which has another gives the first that one.
async fn stays_on_its_backend(first: &mut PgListener, second: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let before = backend(&mut *first, BACKEND).await?;
    let other = backend(&mut *second, IN_TRANSACTION).await?;
    // Where it is the one backend that there is, the first client would wait for it without end.
    let stays = other != before && backend(first, BACKEND).await? == before;
    second.execute("ROLLBACK").await?;
    Ok(stays)
}

const BACKEND: &str = "SELECT pg_backend_pid()";
const IN_TRANSACTION: &str = "BEGIN; SELECT pg_backend_pid()";

async fn backend<'c>(client: impl Executor<'c, Database = Postgres>, sql: &'static str) -> Result<i32, sqlx::Error> {
    client.fetch_one(sqlx::raw_sql(sql)).await?.try_get(0)
}

/// Whether an idle listener hears a notification. A refusal says no as well: a standby refuses to listen, and a client that is told
/// what it says itself has the listener's backend, which the driver does not put up with.
async fn hears(listener: &mut PgListener, notifier: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let channel = format!("tenantry_probe_{}", Uuid::new_v4().simple());
    let notify = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("NOTIFY {channel}")));
    let told = async {
        listener.listen(&channel).await?;
        notifier.execute(notify).await
    };
    match told.await {
        Ok(_) => Ok(matches!(timeout(DELIVERY, listener.recv()).await, Ok(Ok(_)))),
        Err(sqlx::Error::Database(_) | sqlx::Error::Protocol(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
