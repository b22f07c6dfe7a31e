//! Whether a connection keeps its server session between transactions.
//!
//! A notification reaches an idle listener over a connection that has a server session of its own: a direct one, or one through
//! a pooler in session mode. Behind a pooler in transaction mode an idle client has no server connection, and nothing reaches
//! it. Asking the pooler does not work: it answers on an ordinary database as the server does, and a proxy that nobody knows of
//! would not answer at all.

use std::time::Duration;

use sqlx::{
    ConnectOptions, Connection, Executor,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{DataSourceUrl, Error};

/// How long a notification may take. Whoever is slower is taken for a pooler in transaction mode, which is slower and safe.
const DELIVERY: Duration = Duration::from_secs(1);

/// Listens on one connection and notifies on another. False also where the server refuses to listen, as a standby does.
pub(super) async fn keeps_session(url: &DataSourceUrl, options: &PgConnectOptions) -> Result<bool, Error> {
    let failed = |source| match source {
        sqlx::Error::Database(_) => Ok(false),
        source => Err(Error::from_connect(url, source)),
    };
    let connect = |source| Error::from_connect(url, source);
    // The driver's listener comes out of a pool of the driver; this one has the one connection.
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options.clone()).await.map_err(connect)?;
    let channel = format!("tenantry_probe_{}", Uuid::new_v4().simple());
    let heard = async {
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(&channel).await?;
        let mut notifier = options.connect().await?;
        let notify = format!("NOTIFY {channel}");
        notifier.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(notify))).await?;
        let heard = matches!(timeout(DELIVERY, listener.recv()).await, Ok(Ok(_)));
        notifier.close().await?;
        // Else the driver would take its channels back in a task of its own.
        let _ = listener.unlisten_all().await;
        Ok(heard)
    };
    let heard = heard.await.or_else(failed);
    pool.close().await;
    heard
}
