//! What belongs to a data source: its row in `data_sources`.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, EntityTrait, Insert, Order, QueryFilter, QueryTrait,
};
use serde_json::{Value, json};
use tenantry_connection::{Actor, DataSourceUrl};

use super::{audit, audit::AuditEntry, occupancy};
use crate::{
    AppDb, Error,
    app_db::{decode, table_of},
    entities::{
        PoolerMode, SourceKind,
        data_sources::{ActiveModel, Column, Entity, Model},
    },
};

/// The largest `max_connections` that a row may state.
const MAX_CONNECTIONS: i32 = 10_000;

/// A data source's row as it shall be.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDataSource {
    /// Where it is.
    pub url: DataSourceUrl,
    /// For example `us-east-1`.
    pub region: Option<String>,
    /// Whom it serves.
    pub kind: SourceKind,
    /// What stands in front of it.
    pub pooler_mode: PoolerMode,
    /// The way past the pooler, where `url` goes through one.
    pub direct_url: Option<DataSourceUrl>,
    /// 1 to 10000, per process, over both accesses.
    pub max_connections: i32,
    /// TLS, timeouts: an object.
    pub settings: Value,
    /// An administrator's notes.
    pub notes: Option<String>,
    /// When its checks passed; `None` leaves what is there.
    pub admitted_at: Option<DateTime<Utc>>,
    /// The last migration applied to it; `None` leaves what is there.
    pub schema_version: Option<String>,
}

impl NewDataSource {
    /// A data source with the defaults that a URL without a row has.
    pub fn new(url: DataSourceUrl) -> Self {
        Self {
            url,
            region: None,
            kind: SourceKind::Shared,
            pooler_mode: PoolerMode::Auto,
            direct_url: None,
            max_connections: 10,
            settings: json!({}),
            notes: None,
            admitted_at: None,
            schema_version: None,
        }
    }
}

impl AppDb {
    /// All rows, ordered by URL.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Decode`].
    pub async fn data_sources(&self) -> Result<Vec<Model>, Error> {
        self.find::<Entity>().order_by(Column::Url, Order::Asc).all().await
    }

    /// The row of this URL, if there is one; without, the data source has the defaults.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Decode`].
    pub async fn data_source(&self, url: &DataSourceUrl) -> Result<Option<Model>, Error> {
        self.find::<Entity>().filter(Column::Url.eq(url.as_str())).one().await
    }

    /// Writes a data source's row, new or changed, and returns it.
    ///
    /// # Errors
    /// [`Error::DedicatedTaken`] when it shall be for one tenant and its database holds two already: move one away first;
    /// [`Error::MaxConnections`]; [`Error::Database`].
    pub async fn upsert_data_source(&self, new: &NewDataSource, actor: &Actor) -> Result<Model, Error> {
        let url = new.url.as_str();
        let direct_url = new.direct_url.as_ref().map(DataSourceUrl::as_str);
        if !(1..=MAX_CONNECTIONS).contains(&new.max_connections) {
            return Err(Error::MaxConnections { url: url.to_owned(), found: new.max_connections });
        }
        let mut write = self.write(actor, "write a data source").await?;
        occupancy::lock(&mut write, &[&[url], direct_url.as_slice()].concat()).await?;
        occupancy::admit_kind(&mut write, url, direct_url, new.kind).await?;

        let find = Entity::find().filter(Column::Url.eq(url)).into_query();
        let before = write.row(table_of::<Entity>(), &find).await?.map(|row| decode::<Entity>(&row)).transpose()?;
        let mut changed = vec![
            Column::Region,
            Column::Kind,
            Column::PoolerMode,
            Column::DirectUrl,
            Column::MaxConnections,
            Column::Settings,
            Column::Notes,
        ];
        changed.extend(new.admitted_at.map(|_| Column::AdmittedAt));
        changed.extend(new.schema_version.as_ref().map(|_| Column::SchemaVersion));
        let row = ActiveModel {
            url: Set(url.to_owned()),
            region: Set(new.region.clone()),
            kind: Set(new.kind),
            pooler_mode: Set(new.pooler_mode),
            direct_url: Set(direct_url.map(str::to_owned)),
            max_connections: Set(new.max_connections),
            settings: Set(new.settings.clone()),
            notes: Set(new.notes.clone()),
            admitted_at: new.admitted_at.map_or(NotSet, |at| Set(Some(at))),
            schema_version: new.schema_version.clone().map_or(NotSet, |version| Set(Some(version))),
            created_at: NotSet,
            updated_at: NotSet,
        };
        let insert = Insert::one(row).on_conflict(OnConflict::column(Column::Url).update_columns(changed).to_owned());
        write.execute(table_of::<Entity>(), &insert.into_query()).await?;
        let after = write.row(table_of::<Entity>(), &find).await?;
        let after = decode::<Entity>(&after.ok_or_else(|| Error::NoRow { table: table_of::<Entity>().to_owned() })?)?;

        let entry = AuditEntry::new("data_source_saved", "data_source")
            .entity(url)
            .changes(&json!({ "before": before.as_ref().map(recorded), "after": recorded(&after) }))?;
        audit::add(&mut write, &entry, actor).await?;
        write.commit().await?;
        Ok(after)
    }
}

fn recorded(row: &Model) -> Value {
    json!({
        "region": row.region,
        "kind": row.kind.as_str(),
        "pooler_mode": row.pooler_mode.as_str(),
        "direct_url": row.direct_url,
        "max_connections": row.max_connections,
        "settings": row.settings,
        "notes": row.notes,
        "admitted_at": row.admitted_at,
        "schema_version": row.schema_version,
    })
}
