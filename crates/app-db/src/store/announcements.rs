//! What the application database announces: whose placement has changed.
//!
//! Its triggers number the transactions that change a placement, and keep with each tenant the number of its latest change. A
//! process that knows a number asks for the tenants that were changed after it, whether or not it was notified.

use sea_orm::Statement;
use tenantry_connection::{Engine, Watcher};
use uuid::Uuid;

use crate::{AppDb, Error};

/// The channel that PostgreSQL notifies.
const CHANNEL: &str = "tenantry_placement";

/// More changes than this are not told one by one.
const MOST: usize = 1_000;

const DOING: &str = "ask for changed placements";

/// The tenants whose placement changed after a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedPlacements {
    /// These, and no other.
    Of(Vec<Uuid>),
    /// Any: the version is not known here, or too many were changed.
    Any,
}

/// A connection that stays open to notice changed placements.
#[derive(Debug)]
pub struct PlacementWatch {
    watcher: Watcher,
    engine: Engine,
}

impl AppDb {
    /// The version of all placements. It grows with every transaction that changes any, and is seen when the changes are.
    ///
    /// # Errors
    /// [`Error::Database`], also where the application database has not been migrated to announce them.
    pub async fn placement_version(&self) -> Result<i64, Error> {
        let mut read = self.read(DOING).await?;
        let statement = Statement::from_string(read.backend(), version(self.engine()));
        let row = read.row_unguarded(statement).await?;
        read.commit().await?;
        version_in(row.as_ref())
    }

    /// Opens a connection of its own, beside the pool and its cap, that notices changed placements.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn watch_placements(&self) -> Result<PlacementWatch, Error> {
        let watcher = self.watcher(CHANNEL).await;
        let watcher = watcher.map_err(|source| Error::Database { attempt: DOING, source })?;
        Ok(PlacementWatch { watcher, engine: self.engine() })
    }
}

impl PlacementWatch {
    /// Whether it is notified. Else it has to be asked now and then.
    pub fn listens(&self) -> bool {
        self.watcher.listens()
    }

    /// Waits for a notification; without end where there is none. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Database`] when the connection broke: open another, and ask it for the changes.
    pub async fn notified(&mut self) -> Result<(), Error> {
        self.watcher.heard().await.map_err(|source| Error::Database { attempt: DOING, source })
    }

    /// The version now, and what was changed after the one that is known.
    ///
    /// # Errors
    /// As [`AppDb::placement_version`].
    pub async fn changed_since(&mut self, known: Option<i64>) -> Result<(i64, ChangedPlacements), Error> {
        let failed = |source| Error::Database { attempt: DOING, source };
        let rows = self.watcher.query_all(version(self.engine)).await.map_err(failed)?;
        let now = version_in(rows.first())?;
        if known == Some(now) {
            return Ok((now, ChangedPlacements::Of(Vec::new())));
        }
        // A version that is behind the known one is that of a restored backup.
        let Some(known) = known.filter(|known| *known < now) else { return Ok((now, ChangedPlacements::Any)) };
        // The latest first, as many as are told one by one and one more.
        let rows = self.watcher.query_all(changes(self.engine)).await.map_err(failed)?;
        let mut changed = Vec::new();
        for row in &rows {
            let read = row.try_get_by_index(0).and_then(|tenant| Ok((tenant, row.try_get_by_index::<i64>(1)?)));
            let (tenant, version) = read.map_err(|source| Error::Decode { table: "placement_changes", source })?;
            if version > known {
                changed.push(tenant);
            }
        }
        Ok((now, if changed.len() > MOST { ChangedPlacements::Any } else { ChangedPlacements::Of(changed) }))
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.watcher.close().await;
    }
}

fn version(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => "SELECT version FROM tenantry.placement_version",
        Engine::Sqlite => "SELECT version FROM tenantry_placement_version",
    }
}

fn changes(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => "SELECT tenant, version FROM tenantry.placement_changes ORDER BY version DESC LIMIT 1001",
        Engine::Sqlite => "SELECT tenant, version FROM tenantry_placement_changes ORDER BY version DESC LIMIT 1001",
    }
}

fn version_in(row: Option<&sea_orm::QueryResult>) -> Result<i64, Error> {
    let missing = || sea_orm::DbErr::RecordNotFound("placement_version has no row".to_owned());
    let version = row.ok_or_else(missing).and_then(|row| row.try_get_by_index(0));
    version.map_err(|source| Error::Decode { table: "placement_version", source })
}
