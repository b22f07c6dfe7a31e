//! One connection of its own that stays open to notice changes: it listens where it has a server session of its own, and can be
//! asked on any engine. It is outside the pool and its cap, so that it takes no turn from anybody.
//!
//! It knows no channel and no table.

use std::fmt;

use sea_orm::QueryResult;

use super::{Kind as PoolKind, Pool, PostgresWatcher, SqliteWatcher};
use crate::{DataSourceUrl, Error};

/// See [`Pool::watcher`]. Dropped, it closes its connection.
pub struct Watcher {
    kind: Kind,
    url: DataSourceUrl,
}

enum Kind {
    Postgres(PostgresWatcher),
    Sqlite(SqliteWatcher),
}

impl Pool {
    /// A connection of its own, beside the cap, that listens on this channel where that can be heard: not behind a pooler in
    /// transaction mode, and not on SQLite. PostgreSQL shows it under the pool's application name with `watcher` behind it.
    ///
    /// # Errors
    /// [`Error::Connect`] when it could not be made.
    pub async fn watcher(&self, channel: &str) -> Result<Watcher, Error> {
        let kind = match &self.kind {
            PoolKind::Postgres(pool) => Kind::Postgres(pool.watcher(channel).await?),
            PoolKind::Sqlite(pool) => Kind::Sqlite(pool.watcher(channel).await?),
        };
        Ok(Watcher { kind, url: self.url().clone() })
    }
}

impl Watcher {
    /// Whether it is told of changes. Else it has to be asked.
    pub fn listens(&self) -> bool {
        match &self.kind {
            Kind::Postgres(watcher) => watcher.listens(),
            Kind::Sqlite(watcher) => watcher.listens(),
        }
    }

    /// Waits until there was a notification, or several; without end where it does not listen. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Connect`] when the connection broke: anything may have been missed.
    pub async fn heard(&mut self) -> Result<(), Error> {
        match &mut self.kind {
            Kind::Postgres(watcher) => watcher.heard(&self.url).await,
            Kind::Sqlite(watcher) => watcher.heard(&self.url).await,
        }
    }

    /// Asks, in a transaction of its own. Only for text that Tenantry itself wrote.
    ///
    /// # Errors
    /// [`Error::Statement`], and [`Error::Connect`] when the connection broke.
    pub async fn query_all(&mut self, sql: &'static str) -> Result<Vec<QueryResult>, Error> {
        match &mut self.kind {
            Kind::Postgres(watcher) => watcher.query_all(sql, &self.url).await,
            Kind::Sqlite(watcher) => watcher.query_all(sql, &self.url).await,
        }
    }

    /// Closes the connection and says so to the server.
    pub async fn close(self) {
        match self.kind {
            Kind::Postgres(watcher) => watcher.close().await,
            Kind::Sqlite(watcher) => watcher.close().await,
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("url", &self.url.as_str()).field("listens", &self.listens()).finish()
    }
}
