//! An application database with many tenants, for what costs by the number of tenants and needs no row of theirs.
//!
//! Tenants are spread over shared PostgreSQL data sources and each has its own sealed logins, as [`super::World`]'s have.
//! Routing connects to none of them.

use std::path::{Path, PathBuf};

use sea_orm::sqlx::{self, AssertSqlSafe, Connection, SqliteConnection};
use tenantry::Tenantry;
use tenantry::credential::Login;
use tenantry::operations::Logins;
use uuid::Uuid;

use super::{CONNECTIONS, connect, keyring, schema, seal};
use crate::Error;

/// The tenants of a fleet.
pub const TENANTS: usize = 100_000;
/// The data sources that they share.
const DATA_SOURCES: usize = 20;
/// Rows of one statement.
const BATCH: usize = 1_000;
/// Look-ups of the hot tenants among a hundred.
pub const HOT_PERCENT: usize = 90;
/// The hot tenants.
pub const HOT: usize = 100;

/// The file of such an application database.
#[derive(Debug, Clone)]
pub struct Fleet {
    path: PathBuf,
}

impl Fleet {
    /// Makes the file. Tenants are inserted many at a time, past the facade, which creates one at a time.
    ///
    /// # Errors
    /// What could not be made.
    pub async fn create(directory: &Path) -> Result<Self, Error> {
        let fleet = Self { path: directory.join("fleet.db") };
        fleet.connect().await?.close().await;
        let filling = || Error::doing("fill the fleet's application database");
        let url = format!("sqlite:{}", fleet.path.display());
        let mut connection = SqliteConnection::connect(&url).await.map_err(filling())?;
        let keyring = keyring()?;
        let login = |user: &str| Login::new(user, Uuid::new_v4().to_string()).map_err(Error::doing("make a login"));
        let logins = Logins { restricted: login("restricted")?, service: login("service")? };
        let mut transaction = connection.begin().await.map_err(filling())?;
        for batch in 0..TENANTS / BATCH {
            let rows = vec!["(?, ?, ?, ?, ?, ?)"; BATCH].join(", ");
            let sql = format!(
                "INSERT INTO tenants (id, name, subdomain, data_source_url, data_source_anon_key, data_source_service_key)
                 VALUES {rows}"
            );
            let mut insert = sqlx::query(AssertSqlSafe(sql));
            for number in batch * BATCH..(batch + 1) * BATCH {
                let id = tenant(number);
                let (anon_key, service_key) = seal(&keyring, id, &logins)?;
                insert = insert
                    .bind(id)
                    .bind(format!("Tenant {number}"))
                    .bind(format!("tenant-{number}"))
                    .bind(format!("postgresql://db-{}.example.com:5432/tenants", number % DATA_SOURCES))
                    .bind(anon_key)
                    .bind(service_key);
            }
            insert.execute(&mut *transaction).await.map_err(filling())?;
        }
        transaction.commit().await.map_err(filling())?;
        connection.close().await.map_err(filling())?;
        Ok(fleet)
    }

    /// The one that another program made.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A facade over it with nothing cached.
    ///
    /// # Errors
    /// What the facade reports.
    pub async fn connect(&self) -> Result<Tenantry, Error> {
        connect(&self.path, CONNECTIONS).await
    }
}

/// A tenant's id.
pub fn tenant(number: usize) -> Uuid {
    schema::tenant_id(number)
}

/// The ids of tenants.
pub fn tenants(numbers: std::ops::Range<usize>) -> Vec<Uuid> {
    numbers.map(tenant).collect()
}
