//! Handles and scoped statements on an SQLite file with two tenants in the same tables, where nothing but the predicate and the
//! guard keeps them apart. The entities are deliberately unlike the reference schema: another tenant column, numbers as keys,
//! and relations that forget the tenant.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod entities;
mod statements;
mod transactions;

use std::time::Duration;

use tempfile::TempDir;
use tenantry_connection::{DataSourceUrl, Pool, PoolOptions};

use super::*;

/// Two organisations with the same ids.
struct World {
    pool: Pool,
    _directory: TempDir,
}

const SCHEMA: &str = "
    CREATE TABLE tenantry_session (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE folders (org_id INTEGER NOT NULL, id INTEGER NOT NULL, parent_id INTEGER, name TEXT NOT NULL,
        PRIMARY KEY (org_id, id));
    CREATE TABLE documents (org_id INTEGER NOT NULL, id INTEGER NOT NULL, folder_id INTEGER, title TEXT, rank INTEGER,
        PRIMARY KEY (org_id, id), UNIQUE (org_id, title),
        FOREIGN KEY (org_id, folder_id) REFERENCES folders (org_id, id));
    CREATE TABLE tenants (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    INSERT INTO tenants VALUES (1, 'one'), (2, 'two');
    INSERT INTO folders VALUES (1, 10, NULL, 'root'), (1, 11, 10, 'leaf'), (2, 10, NULL, 'theirs'), (2, 11, 10, 'their leaf');
    INSERT INTO documents VALUES
        (1, 1, 10, 'a', 3), (1, 2, 11, 'b', NULL), (1, 3, NULL, NULL, 1),
        (2, 1, 10, 'a', 9), (2, 2, 11, 'secret', NULL), (2, 4, 10, 'only theirs', 2);
";

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url: DataSourceUrl = format!("sqlite:{}", directory.path().join("world.db").display()).parse().unwrap();
        let options =
            PoolOptions { create_if_missing: true, acquire_timeout: Duration::from_secs(2), ..PoolOptions::default() };
        let pool = Pool::new(&url, None, &options).unwrap();
        let mut transaction = pool.begin(&Session::default(), Mode::Write).await.unwrap();
        transaction.execute_raw_sql(SCHEMA).await.unwrap();
        transaction.commit().await.unwrap();
        Self { pool, _directory: directory }
    }

    /// A handle on the rows of organisation `org`.
    fn db(&self, org: i64) -> TenantDb {
        TenantDb::new(TenantContext {
            tenant_id: Uuid::from_u128(org.unsigned_abs().into()),
            key: TenantKey::BigInt(org),
            tenant_column: "org_id".into(),
            access: Access::Restricted,
            isolation: Isolation::PredicateOnly,
            engine: Engine::Sqlite,
            session: Session { tenant: Some(org.to_string().into()), ..Session::default() },
            pool: AdmittedPool::trusted(self.pool.clone()),
            epoch: 0,
            router: Weak::new(),
            moved_to: OnceLock::new(),
        })
    }

    /// What the database holds, whoever's it is.
    async fn raw(&self, sql: &str) -> Vec<String> {
        let mut transaction = self.pool.begin(&Session::default(), Mode::Read).await.unwrap();
        let rows = transaction.query_all(Statement::from_string(DbBackend::Sqlite, sql)).await.unwrap();
        transaction.commit().await.unwrap();
        rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
    }

    async fn everything(&self) -> Vec<String> {
        self.raw(
            "SELECT concat_ws('|', org_id, id, folder_id, title, rank) FROM documents UNION ALL
             SELECT concat_ws('|', 'f', org_id, id, parent_id, name) FROM folders ORDER BY 1",
        )
        .await
    }
}
