//! A SQLite file of its own for each test, gone afterwards.

use sea_orm_migration::MigratorTrait;
use sea_orm_migration::sea_orm::{
    ConnectOptions, ConnectionTrait, Database as SeaOrm, DatabaseConnection, DbBackend, DbErr, Statement,
};
use tempfile::TempDir;
use tenantry_migrations::{AppDbMigrator, TenantDataMigrator, TenantDataSettings, prepare_tenant_data};

/// Two tenants; as SQLite stores them, and as text.
pub(crate) const A: &str = "x'AAAAAAAA00004000800000000000000A'";
pub(crate) const A_TEXT: &str = "aaaaaaaa-0000-4000-8000-00000000000a";
pub(crate) const B: &str = "x'BBBBBBBB00004000800000000000000B'";

/// The file and one connection to it.
pub(crate) struct Database {
    pub(crate) connection: DatabaseConnection,
    directory: TempDir,
}

impl Database {
    pub(crate) async fn empty() -> Self {
        let directory = TempDir::new().unwrap();
        let url = format!("sqlite:{}?mode=rwc", directory.path().join("test.db").display());
        let mut options = ConnectOptions::new(url);
        options.max_connections(1).sqlx_logging(false);
        Self { connection: SeaOrm::connect(options).await.unwrap(), directory }
    }

    pub(crate) async fn app_db() -> Self {
        let database = Self::empty().await;
        AppDbMigrator::up(&database.connection, None).await.unwrap();
        database
    }

    pub(crate) async fn tenant_data() -> Self {
        let database = Self::empty().await;
        prepare_tenant_data(&database.connection, &TenantDataSettings::default()).await.unwrap();
        TenantDataMigrator::up(&database.connection, None).await.unwrap();
        database
    }

    /// A second connection to the same file.
    pub(crate) async fn again(&self) -> DatabaseConnection {
        let url = format!("sqlite:{}", self.directory.path().join("test.db").display());
        let mut options = ConnectOptions::new(url);
        options.max_connections(1).sqlx_logging(false);
        SeaOrm::connect(options).await.unwrap()
    }

    pub(crate) async fn run(&self, sql: &str) {
        if let Err(error) = self.try_run(sql).await {
            panic!("{sql}\n{error}");
        }
    }

    pub(crate) async fn try_run(&self, sql: &str) -> Result<(), DbErr> {
        self.connection.execute_unprepared(sql).await.map(|_| ())
    }

    /// The message of the refusal.
    pub(crate) async fn refused(&self, sql: &str) -> String {
        match self.try_run(sql).await {
            Ok(()) => panic!("not refused: {sql}"),
            Err(error) => error.to_string(),
        }
    }

    pub(crate) async fn assert_refused(&self, sql: &str, why: &str) {
        let message = self.refused(sql).await;
        assert!(message.contains(why), "{sql}\nexpected {why:?} in: {message}");
    }

    /// Every row as its columns' texts, joined by `|`; null is empty.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<String> {
        let rows =
            self.connection.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql.to_owned())).await.unwrap();
        rows.iter()
            .map(|row| {
                (0..row.column_names().len())
                    .map(|at| row.try_get_by_index::<Option<String>>(at).unwrap().unwrap_or_default())
                    .collect::<Vec<_>>()
                    .join("|")
            })
            .collect()
    }

    /// The one value of a query, as text.
    pub(crate) async fn text(&self, expression: &str) -> String {
        self.rows(&format!("SELECT CAST(({expression}) AS TEXT)")).await.remove(0)
    }

    /// Every object's definition but the history tables'.
    pub(crate) async fn schema(&self) -> Vec<String> {
        self.rows(
            "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE '%migrations%' AND name NOT LIKE 'sqlite_%' ORDER BY 1, 2",
        )
        .await
    }
}
