//! The isolation report over tenant columns of every type: what the migrations write is what the measurement accepts, and the
//! statement that it names mends what it found.

use sea_orm_migration::MigratorTrait;
use tenantry_connection::{DataSourceUrl, Mode, Pool, PoolOptions, Session};
use tenantry_credential::Login;
use tenantry_data_source::{IsolationReport, TenantColumn};
use tenantry_migrations::{TenantDataMigrator, TenantDataSettings, prepare_tenant_data};
use tenantry_realm::TenantKeyType;
use tenantry_test_support::cluster::Cluster;

/// The policy of a text column is written differently, and PostgreSQL prints each in its own way.
#[tokio::test]
async fn what_the_migrations_write_is_what_the_measurement_accepts() {
    for (name, key_type) in
        [("tenant_id", TenantKeyType::Uuid), ("org_id", TenantKeyType::BigInt), ("Kunde", TenantKeyType::Text)]
    {
        let database = Cluster::shared().unwrap().create_database("isolation").unwrap();
        let url = DataSourceUrl::parse(&database.url()).unwrap();
        let service = Login::new(&database.service.user, database.service.password.clone()).unwrap();
        let pool = Pool::new(&url, Some(&service), &PoolOptions::default()).unwrap();
        let connection = pool.migration_connection(Some(&service)).await.unwrap();
        let settings = TenantDataSettings {
            restricted_role: database.restricted.user.clone(),
            tenant_column: name.to_owned(),
            tenant_type: key_type.postgres_type().to_owned(),
        };
        prepare_tenant_data(&connection, &settings).await.unwrap();
        TenantDataMigrator::up(&connection, None).await.unwrap();
        connection.close().await.unwrap();

        let column = TenantColumn { name: name.to_owned(), key_type };
        let report = measure(&pool, &database.restricted.user, &column).await;
        assert!(report.holds(), "{name}: {:#?}", report.findings);
        assert_eq!(report.tables.len(), 15, "13 business tables, the write log and the probe");

        let drop = "DROP POLICY tenantry_restricted ON accounts";
        database.psql(&database.service, drop).unwrap();
        let report = measure(&pool, &database.restricted.user, &column).await;
        let [finding] = report.findings.as_slice() else { panic!("{:#?}", report.findings) };
        assert!(finding.object.ends_with("accounts"), "{finding:?}");
        database.psql(&database.service, &finding.remedy).unwrap();
        let report = measure(&pool, &database.restricted.user, &column).await;
        assert!(report.holds(), "{name}, after the remedy: {:#?}", report.findings);
        pool.close().await;
    }
}

async fn measure(pool: &Pool, role: &str, column: &TenantColumn) -> IsolationReport {
    let mut transaction = pool.begin(&Session::default(), Mode::Read).await.unwrap();
    let report = IsolationReport::measure(&mut transaction, role, column).await.unwrap();
    transaction.commit().await.unwrap();
    report
}
