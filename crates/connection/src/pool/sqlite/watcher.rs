//! The connection that stays open to notice changes, on SQLite: it can only be asked.

use sea_orm::QueryResult;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::{SqlitePool, connect_options};
use crate::{DataSourceUrl, Error};

pub(crate) struct SqliteWatcher(SqliteConnection);

impl SqlitePool {
    pub(crate) async fn watcher(&self, _: &str) -> Result<SqliteWatcher, Error> {
        let connection = connect_options(self.url(), self.options()).connect().await;
        connection.map(SqliteWatcher).map_err(|source| Error::from_connect(self.url(), source))
    }
}

impl SqliteWatcher {
    pub(crate) fn listens(&self) -> bool {
        false
    }

    pub(crate) async fn heard(&mut self, _: &DataSourceUrl) -> Result<(), Error> {
        std::future::pending().await
    }

    pub(crate) async fn query_all(
        &mut self,
        sql: &'static str,
        url: &DataSourceUrl,
    ) -> Result<Vec<QueryResult>, Error> {
        let rows = sqlx::raw_sql(sql).fetch_all(&mut self.0).await;
        let rows = rows.map_err(|source| Error::from_statement(url, source))?;
        Ok(rows.into_iter().map(QueryResult::from).collect())
    }

    pub(crate) async fn close(self) {
        let _ = self.0.close().await;
    }
}
