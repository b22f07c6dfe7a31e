//! The migrated schema against a real PostgreSQL server, through psql and raw connections: what the database itself holds to,
//! whatever client comes. The same promises on SQLite are tested in `migrations/tests/sqlite`.

use sea_orm::{ConnectOptions, Database as SeaOrm, DatabaseConnection, DbErr};
use sea_orm_migration::MigratorTrait;
use tenantry_migrations::{AppDbMigrator, TenantDataMigrator, TenantDataSettings, prepare_tenant_data};
use tenantry_test_support::cluster::{Cluster, Database, Login};

mod adoption;
mod announce;
mod audit;
mod fence;
mod installation;
mod isolation;
mod write_log;

const A: &str = "aaaaaaaa-0000-4000-8000-00000000000a";
const B: &str = "bbbbbbbb-0000-4000-8000-00000000000b";
const ACCOUNT: &str = "11111111-0000-4000-8000-000000000001";

/// One connection, as the migrators want it.
async fn connect(database: &Database, login: &Login) -> DatabaseConnection {
    let mut options = ConnectOptions::new(database.url_with(login));
    options.max_connections(1).sqlx_logging(false);
    SeaOrm::connect(options).await.unwrap()
}

async fn migrate_tenant_data(database: &Database) -> Result<(), DbErr> {
    let connection = connect(database, &database.service).await;
    let settings = TenantDataSettings { restricted_role: database.restricted.user.clone(), ..Default::default() };
    prepare_tenant_data(&connection, &settings).await?;
    TenantDataMigrator::up(&connection, None).await?;
    connection.close().await
}

async fn migrate_app_db(database: &Database) -> Result<(), DbErr> {
    let connection = connect(database, &database.service).await;
    AppDbMigrator::up(&connection, None).await?;
    connection.close().await
}

async fn tenant_data() -> Database {
    let database = Cluster::shared().unwrap().create_database("schema_data").unwrap();
    migrate_tenant_data(&database).await.unwrap();
    database
}

async fn app_db() -> Database {
    let database = Cluster::shared().unwrap().create_database("schema_app").unwrap();
    migrate_app_db(&database).await.unwrap();
    database
}

/// Runs SQL as the service login.
fn service(database: &Database, sql: &str) -> String {
    database.psql(&database.service, sql).unwrap().trim().to_owned()
}

/// Runs SQL as the restricted login, on behalf of a tenant.
fn restricted(database: &Database, tenant: &str, sql: &str) -> String {
    database.psql(&database.restricted, &format!("SET app.tenant_id = '{tenant}';\n{sql}")).unwrap().trim().to_owned()
}

/// The SQLSTATE with which the restricted login is refused on behalf of a tenant.
fn refused(database: &Database, tenant: &str, sql: &str) -> String {
    let error = database.psql(&database.restricted, &format!("SET app.tenant_id = '{tenant}';\n{sql}")).unwrap_err();
    error.sqlstate().unwrap().to_owned()
}

/// The SQLSTATE with which the service login is refused.
fn service_refused(database: &Database, sql: &str) -> String {
    database.psql(&database.service, sql).unwrap_err().sqlstate().unwrap().to_owned()
}

fn insert_account(tenant: &str) -> String {
    format!("INSERT INTO accounts (tenant_id, name) VALUES ('{tenant}', 'n');")
}
