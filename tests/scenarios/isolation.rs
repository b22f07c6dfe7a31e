//! Isolation measured and attacked: what the migrations write is what the measurement accepts, each fault is named, and the
//! statement that a finding prints mends it.

mod attack;
mod check;
mod faults;
mod raw_sql;

use sea_orm_migration::MigratorTrait;
use tenantry_connection::{DataSourceUrl, Mode, Pool, PoolOptions, Session};
use tenantry_data_source::{IsolationReport, TenantColumn};
use tenantry_migrations::{TenantDataMigrator, TenantDataSettings, prepare_tenant_data};
use tenantry_realm::TenantKeyType;
use tenantry_test_support::cluster::{Cluster, Database};

use crate::world::login_of;

/// A data source with the reference schema.
struct Source {
    database: Database,
    column: TenantColumn,
    /// Connections of the restricted login.
    pool: Pool,
}

impl Source {
    async fn new() -> Self {
        Self::with_column(TenantColumn::default()).await
    }

    async fn with_column(column: TenantColumn) -> Self {
        let database = Cluster::shared().unwrap().create_database("isolation").unwrap();
        let url = DataSourceUrl::parse(&database.url()).unwrap();
        let service = login_of(&database.service);
        let pool = Pool::new(&url, Some(&service), &PoolOptions::default()).unwrap();
        let connection = pool.migration_connection(Some(&service)).await.unwrap();
        let settings = TenantDataSettings {
            restricted_role: database.restricted.user.clone(),
            tenant_column: column.name.clone(),
            tenant_type: column.key_type.postgres_type().to_owned(),
        };
        prepare_tenant_data(&connection, &settings).await.unwrap();
        TenantDataMigrator::up(&connection, None).await.unwrap();
        connection.close().await.unwrap();
        pool.close().await;
        let pool = Pool::new(&url, Some(&login_of(&database.restricted)), &PoolOptions::default()).unwrap();
        Self { database, column, pool }
    }

    async fn measure(&self) -> IsolationReport {
        let mut transaction = self.pool.begin(&Session::default(), Mode::Read).await.unwrap();
        let role = &self.database.restricted.user;
        let report = IsolationReport::measure(&mut transaction, role, &self.column).await.unwrap();
        transaction.commit().await.unwrap();
        report
    }

    /// Measured, and attacked over a connection of its own.
    async fn attack(&self) -> IsolationReport {
        let mut report = self.measure().await;
        let login = login_of(&self.database.restricted);
        let pool = Pool::new(self.pool.url(), Some(&login), &PoolOptions::default()).unwrap();
        report.attack(&pool, &self.column).await.unwrap();
        pool.close().await;
        report
    }

    /// Runs SQL as the superuser, with the names of this source put in.
    fn run(&self, sql: &str) {
        self.database.psql(&self.database.superuser, &self.fill(sql)).unwrap();
    }

    fn fill(&self, text: &str) -> String {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        text.replace("{restricted}", &quoted(&self.database.restricted.user))
            .replace("{service}", &quoted(&self.database.service.user))
            .replace("{database}", &quoted(&self.database.name))
            .replace("{service_name}", &self.database.service.user)
            .replace("{restricted_name}", &self.database.restricted.user)
            .replace("{database_name}", &self.database.name)
            .replace("{strict}", "tenant_id = (SELECT current_setting('app.tenant_id')::uuid)")
    }
}

/// The policy of a text column is written differently, and PostgreSQL prints each in its own way; a name that needs quotes, or is
/// a reserved word, is printed with them.
#[tokio::test]
async fn what_the_migrations_write_is_what_the_measurement_accepts() {
    for (name, key_type) in [
        ("tenant_id", TenantKeyType::Uuid),
        ("org_id", TenantKeyType::BigInt),
        ("Kunde", TenantKeyType::Text),
        ("user", TenantKeyType::Uuid),
        ("a \"quoted\" name", TenantKeyType::Text),
    ] {
        let source = Source::with_column(TenantColumn { name: name.to_owned(), key_type }).await;
        let report = source.measure().await;
        assert!(report.holds(), "{name}: {:#?}", report.findings);
        assert_eq!(report.tables.len(), 15, "13 business tables, the write log and the probe");

        source.run("DROP POLICY tenantry_restricted ON accounts");
        let report = source.measure().await;
        let [finding] = report.findings.as_slice() else { panic!("{:#?}", report.findings) };
        assert!(finding.object.ends_with("accounts"), "{finding:?}");
        source.run(&finding.remedy);
        let report = source.measure().await;
        assert!(report.holds(), "{name}, after the remedy: {:#?}", report.findings);
        source.pool.close().await;
    }
}
