//! `audit_log`: who did what to tenants, users and data sources. Rows are only ever added.

use sea_orm::entity::prelude::*;

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_log")]
pub struct Model {
    /// Random.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The tenant concerned; no foreign key, so that the entry survives its tenant.
    pub tenant_id: Option<Uuid>,
    /// The acting user; null is the system.
    pub user_id: Option<Uuid>,
    /// For example `data_source_updated`.
    #[sea_orm(column_type = "Text")]
    pub action: String,
    /// The kind of thing it was done to, for example `tenant`.
    #[sea_orm(column_type = "Text")]
    pub entity_type: String,
    /// That thing's id.
    #[sea_orm(column_type = "Text", nullable)]
    pub entity_id: Option<String>,
    /// Before and after, never a secret.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub changes: Option<Json>,
    /// Where the request came from.
    #[sea_orm(column_type = "Text", nullable)]
    pub ip_address: Option<String>,
    /// What the request was made with.
    #[sea_orm(column_type = "Text", nullable)]
    pub user_agent: Option<String>,
    /// When it was done.
    pub created_at: DateTimeUtc,
}

/// No foreign keys: an entry outlives what it tells about.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
