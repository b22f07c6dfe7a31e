//! A data source that several tenants share, and somebody neutral who looks at it: a connection of the tests' own that goes past
//! Tenantry, past the pooler and past row-level security.

use std::time::{Duration, Instant};

use sea_orm_migration::MigratorTrait;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection, raw_sql, sqlite::SqliteConnectOptions};
use tenantry::{Tenantry, operations::Logins};
use tenantry_app_db::{
    NewDataSource, NewPlacement, NewTenant,
    entities::{PoolerMode, TenantStatus},
};
use tenantry_connection::{Actor, Engine, Pool, PoolOptions};
use tenantry_credential::CredentialColumn;
use tenantry_migrations::{TenantDataMigrator, TenantDataSettings, prepare_tenant_data};
use tenantry_test_support::{
    cluster::{Cluster, Database},
    pooler::{Pooler, PoolerOptions, or_skip},
};
use uuid::Uuid;

use crate::world::{Place, World, keyring, place_of};

/// Longer than anything here takes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// What stands between Tenantry and the tenants' rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Source {
    Direct,
    Pooled,
    Sqlite,
}

impl Source {
    pub(super) const ALL: [Self; 3] = [Self::Direct, Self::Pooled, Self::Sqlite];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "PostgreSQL",
            Self::Pooled => "PostgreSQL behind PgBouncer",
            Self::Sqlite => "SQLite",
        }
    }

    pub(super) fn engine(self) -> Engine {
        match self {
            Self::Direct | Self::Pooled => Engine::Postgres,
            Self::Sqlite => Engine::Sqlite,
        }
    }
}

/// A data source and its tenants, whose rows are in the same tables.
pub(super) struct Shared {
    pub(super) source: Source,
    pub(super) tenants: Vec<Uuid>,
    pub(super) world: World,
    place: Place,
    pooler: Option<Pooler>,
    pub(super) database: Option<Database>,
}

impl Shared {
    /// A migrated data source with tenants in it, reached over at most `connections` connections. None where it needs a pooler
    /// that this machine does not have, which is said.
    pub(super) async fn start(source: Source, tenants: usize, connections: u32) -> Option<Self> {
        // The application database is not what is looked at here: a file does.
        let world = World::new(Engine::Sqlite, |settings| {
            settings.max_connections = connections;
            // Waiting for a connection is part of the plan; giving up is not.
            settings.acquire_timeout = PATIENCE;
        })
        .await;
        let (mut place, database) = match source.engine() {
            Engine::Sqlite => {
                let url = format!("sqlite:{}", world.directory.path().join("shared.db").display());
                (Place { url: url.parse().unwrap(), logins: None }, None)
            }
            Engine::Postgres => {
                let database = Cluster::shared().unwrap().create_database("matrix").unwrap();
                make_logging_in_cheap(&database);
                (place_of(&database), Some(database))
            }
        };
        migrate(&place).await;
        let mut row = NewDataSource::new(place.url.clone());
        row.max_connections = i32::try_from(connections).unwrap();
        let pooler = match (source, &database) {
            (Source::Pooled, Some(database)) => {
                // Fewer than Tenantry has of its own, so that the pooler changes them.
                let server_connections = connections.div_ceil(2);
                let settings = vec![("auth_type".to_owned(), "plain".to_owned())];
                let options = PoolerOptions { server_connections, settings, ..PoolerOptions::default() };
                let pooler = or_skip(source.name(), Pooler::start(&[database], &options)).unwrap()?;
                // The mode has to be found out.
                row.direct_url = Some(place.url);
                place.url = pooler.url_of(database).parse().unwrap();
                row.url = place.url.clone();
                Some(pooler)
            }
            _ => {
                // With one connection it cannot be found out that there is no pooler.
                row.pooler_mode = PoolerMode::Direct;
                None
            }
        };
        world.tenantry.app_db().upsert_data_source(&row, &Actor::default()).await.unwrap();
        let mut shared = Self { source, tenants: Vec::new(), world, place, pooler, database };
        for number in 0..tenants {
            shared.admit(&format!("tenant-{number}"), TenantStatus::Active).await;
        }
        Some(shared)
    }

    pub(super) fn tenantry(&self) -> &Tenantry {
        &self.world.tenantry
    }

    /// Places one more tenant here.
    pub(super) async fn admit(&mut self, subdomain: &str, status: TenantStatus) -> Uuid {
        let mut tenant = NewTenant { status, ..NewTenant::new(subdomain, subdomain) };
        let seal = |column| {
            let Logins { restricted, service } = self.place.logins.as_ref()?;
            let login = if column == CredentialColumn::Anon { restricted } else { service };
            Some(keyring("new").seal(tenant.id, column, login).unwrap())
        };
        tenant.placement = NewPlacement {
            url: Some(self.place.url.clone()),
            anon_key: seal(CredentialColumn::Anon),
            service_key: seal(CredentialColumn::Service),
            ..NewPlacement::default()
        };
        self.tenantry().app_db().create_tenant(&tenant, &Actor::default()).await.unwrap();
        self.tenants.push(tenant.id);
        tenant.id
    }

    /// Closes every connection and waits until the server has nothing left to do for any of them.
    pub(super) async fn come_to_rest(&self, observer: &mut Observer) {
        self.tenantry().close().await;
        self.pooler.as_ref().map_or(Ok(()), Pooler::kill).unwrap();
        let Observer::Postgres(_) = observer else { return };
        let others = "SELECT count(*)::text FROM pg_stat_activity \
                      WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        let since = Instant::now();
        while observer.texts(others).await != [["0"]] {
            assert!(since.elapsed() < PATIENCE, "the server still serves connections that were closed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) async fn observer(&self) -> Observer {
        match (&self.database, self.place.url.sqlite_path()) {
            (Some(database), _) => Observer::Postgres(PgConnection::connect(&database.superuser_url()).await.unwrap()),
            (None, path) => {
                let options = SqliteConnectOptions::new().filename(path.unwrap()).busy_timeout(PATIENCE);
                Observer::Sqlite(SqliteConnection::connect_with(&options).await.unwrap())
            }
        }
    }
}

/// Every connection that is cut off here has to be made anew, and deriving a key from the password, 4096 times over and without
/// optimisation, is what that would mostly be. Once is enough for logins that live for a test.
fn make_logging_in_cheap(database: &Database) {
    let literal = |text: &str| text.replace('\'', "''");
    for login in [&database.restricted, &database.service] {
        let (user, password) = (literal(&login.user), literal(&login.password));
        // The verifier of RFC 5802, section 3, with one iteration.
        let sql = format!(
            r"CREATE FUNCTION pg_temp.hmac(key bytea, message bytea) RETURNS bytea LANGUAGE plpgsql AS $$
            DECLARE
                inner_key bytea := CASE WHEN length(key) > 64 THEN sha256(key) ELSE key END;
                outer_key bytea;
            BEGIN
                inner_key := inner_key || decode(repeat('00', 64 - length(inner_key)), 'hex');
                outer_key := inner_key;
                FOR at IN 0..63 LOOP
                    inner_key := set_byte(inner_key, at, get_byte(inner_key, at) # 54);
                    outer_key := set_byte(outer_key, at, get_byte(outer_key, at) # 92);
                END LOOP;
                RETURN sha256(outer_key || sha256(inner_key || message));
            END $$;
            SELECT format('ALTER ROLE %I PASSWORD %L', '{user}', format('SCRAM-SHA-256$1:%s$%s:%s', encode(salt, 'base64'),
                encode(sha256(pg_temp.hmac(salted, 'Client Key')), 'base64'),
                encode(pg_temp.hmac(salted, 'Server Key'), 'base64')))
            FROM (VALUES (uuid_send(gen_random_uuid()))) AS salts (salt),
                LATERAL (SELECT pg_temp.hmac(convert_to('{password}', 'UTF8'), salt || '\x00000001')) AS keys (salted)"
        );
        let alter = database.psql(&database.superuser, &sql).unwrap();
        database.psql(&database.superuser, &alter).unwrap();
    }
}

async fn migrate(place: &Place) {
    let service = place.logins.as_ref().map(|logins| &logins.service);
    let options = PoolOptions { create_if_missing: true, ..PoolOptions::default() };
    let pool = Pool::new(&place.url, service, &options).unwrap();
    let connection = pool.migration_connection(service).await.unwrap();
    let restricted_role = place.logins.as_ref().map(|logins| logins.restricted.user.clone());
    let settings = TenantDataSettings {
        restricted_role: restricted_role.unwrap_or_default(),
        tenant_column: "tenant_id".to_owned(),
        tenant_type: "uuid".to_owned(),
    };
    prepare_tenant_data(&connection, &settings).await.unwrap();
    TenantDataMigrator::up(&connection, None).await.unwrap();
    connection.close().await.unwrap();
    pool.close().await;
}

/// Sees every tenant's rows.
pub(super) enum Observer {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Observer {
    /// Runs one or more statements.
    pub(super) async fn run(&mut self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Postgres(connection) => raw_sql(sql).execute(connection).await.map(drop).unwrap(),
            Self::Sqlite(connection) => raw_sql(sql).execute(connection).await.map(drop).unwrap(),
        }
    }

    /// The rows of a query whose columns are all text and none null.
    pub(super) async fn texts(&mut self, sql: &str) -> Vec<Vec<String>> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Postgres(connection) => {
                let rows = raw_sql(sql).fetch_all(connection).await.unwrap();
                rows.iter().map(|row| (0..row.len()).map(|column| row.get(column)).collect()).collect()
            }
            Self::Sqlite(connection) => {
                let rows = raw_sql(sql).fetch_all(connection).await.unwrap();
                rows.iter().map(|row| (0..row.len()).map(|column| row.get(column)).collect()).collect()
            }
        }
    }

    /// A uuid as a literal.
    pub(super) fn literal(&self, id: Uuid) -> String {
        match self {
            Self::Postgres(_) => format!("'{id}'"),
            Self::Sqlite(_) => format!("x'{}'", id.simple()),
        }
    }

    /// A uuid column as text.
    pub(super) fn text_of(&self, column: &str) -> String {
        match self {
            Self::Postgres(_) => format!("{column}::text"),
            Self::Sqlite(_) => format!("lower(hex({column}))"),
        }
    }

    /// A whole row as text.
    pub(super) fn row_text(&self, table: &str, columns: &[&str]) -> String {
        match self {
            Self::Postgres(_) => format!("{table}::text"),
            Self::Sqlite(_) => {
                columns.iter().map(|column| format!("quote({column})")).collect::<Vec<_>>().join(" || ',' || ")
            }
        }
    }
}
