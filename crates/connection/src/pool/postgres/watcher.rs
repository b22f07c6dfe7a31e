//! The connection that stays open to notice changes, on PostgreSQL: a listener where it has a server session of its own.

use sea_orm::QueryResult;
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    postgres::{PgListener, PgPoolOptions},
};

use super::PostgresPool;
use crate::{ConnectFailure, DataSourceUrl, Error};

pub(crate) enum PostgresWatcher {
    /// With the driver's pool that it came from, which has this one connection.
    Listening(Box<PgListener>, PgPool),
    Asking(Box<PgConnection>),
}

impl PostgresPool {
    pub(crate) async fn watcher(&self, channel: &str) -> Result<PostgresWatcher, Error> {
        let failed = |source| Error::from_connect(self.url(), source);
        let name = format!("{} watcher", self.options().application_name);
        let options = self.opening.options.clone().application_name(&name);
        if !self.keeps_session().await? {
            return Ok(PostgresWatcher::Asking(Box::new(options.connect().await.map_err(failed)?)));
        }
        let pool = PgPoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
        let pool = pool.acquire_timeout(self.options().acquire_timeout).connect_with(options).await.map_err(failed)?;
        let mut listener = PgListener::connect_with(&pool).await.map_err(failed)?;
        // Who connects again by itself would not say what was missed.
        listener.eager_reconnect(false);
        listener.listen(channel).await.map_err(failed)?;
        Ok(PostgresWatcher::Listening(Box::new(listener), pool))
    }
}

impl PostgresWatcher {
    pub(crate) fn listens(&self) -> bool {
        matches!(self, Self::Listening(..))
    }

    pub(crate) async fn heard(&mut self, url: &DataSourceUrl) -> Result<(), Error> {
        let Self::Listening(listener, _) = self else { return std::future::pending().await };
        let heard = listener.try_recv().await.map_err(|source| Error::from_statement(url, source))?;
        // Several that came together are one.
        while heard.is_some() && listener.next_buffered().is_some() {}
        heard.map(drop).ok_or_else(|| Error::Connect {
            data_source: url.clone(),
            reason: ConnectFailure::Lost,
            source: None,
        })
    }

    pub(crate) async fn query_all(
        &mut self,
        sql: &'static str,
        url: &DataSourceUrl,
    ) -> Result<Vec<QueryResult>, Error> {
        // As text: through a pooler nothing may be prepared.
        let query = sqlx::raw_sql(sql);
        let rows = match self {
            Self::Listening(listener, _) => query.fetch_all(&mut **listener).await,
            Self::Asking(connection) => query.fetch_all(&mut **connection).await,
        };
        let rows = rows.map_err(|source| Error::from_statement(url, source))?;
        Ok(rows.into_iter().map(QueryResult::from).collect())
    }

    /// Failing to say goodbye, the connection is closed all the same.
    pub(crate) async fn close(self) {
        match self {
            Self::Listening(mut listener, pool) => {
                let _ = listener.unlisten_all().await;
                drop(listener);
                pool.close().await;
            }
            Self::Asking(connection) => {
                let _ = connection.close().await;
            }
        }
    }
}
