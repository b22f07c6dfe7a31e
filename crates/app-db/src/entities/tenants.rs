//! `tenants`: who the tenants are, where each one's rows live and how they are reached.

use sea_orm::entity::prelude::*;

use super::Hidden;

/// What a tenant pays for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum Plan {
    /// `starter`, the default.
    #[sea_orm(string_value = "starter")]
    Starter,
    /// `professional`.
    #[sea_orm(string_value = "professional")]
    Professional,
    /// `enterprise`.
    #[sea_orm(string_value = "enterprise")]
    Enterprise,
}

impl Plan {
    /// The value as the column holds it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starter => "starter",
            Self::Professional => "professional",
            Self::Enterprise => "enterprise",
        }
    }
}

/// Whether a tenant is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum TenantStatus {
    /// `active`: served.
    #[sea_orm(string_value = "active")]
    Active,
    /// `suspended`: closed to requests; administration and transfers go on.
    #[sea_orm(string_value = "suspended")]
    Suspended,
    /// `cancelled`: closed to requests for good.
    #[sea_orm(string_value = "cancelled")]
    Cancelled,
}

impl TenantStatus {
    /// The value as the column holds it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One tenant.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "tenants")]
pub struct Model {
    /// Never reused: rows are never deleted by the store.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The name people read.
    #[sea_orm(column_type = "Text")]
    pub name: String,
    /// A DNS label, unique without regard to case.
    #[sea_orm(column_type = "Text")]
    pub subdomain: String,
    /// A custom domain, unique where set.
    #[sea_orm(column_type = "Text", nullable)]
    pub domain: Option<String>,
    /// What the tenant pays for.
    pub plan: Plan,
    /// Whether the tenant is served.
    pub status: TenantStatus,
    /// The application's settings for this tenant.
    #[sea_orm(column_type = "JsonBinary")]
    pub settings: Json,
    /// The id of the subscription in the billing system.
    #[sea_orm(column_type = "Text", nullable)]
    pub subscription_id: Option<String>,
    /// Where the tenant's rows live: a canonical URL without user or password; null while they have no home.
    #[sea_orm(column_type = "Text", nullable)]
    pub data_source_url: Option<String>,
    /// The sealed login of the restricted role.
    pub data_source_anon_key: Option<Hidden>,
    /// The sealed login of the service role.
    pub data_source_service_key: Option<Hidden>,
    /// For example `us-east-1`.
    #[sea_orm(column_type = "Text", nullable)]
    pub data_source_region: Option<String>,
    /// `{"min": 2, "max": 10}`; read it through [`PoolLimits`](crate::PoolLimits).
    #[sea_orm(column_type = "JsonBinary")]
    pub connection_pool_config: Json,
    /// An administrator's notes.
    #[sea_orm(column_type = "Text", nullable)]
    pub data_source_notes: Option<String>,
    /// The tenant's id in the data source where it differs from `id`; counts only while `data_source_url` is set.
    #[sea_orm(column_type = "Text", nullable)]
    pub tenant_id_in_data_source: Option<String>,
    /// When the row was written.
    pub created_at: DateTimeUtc,
    /// When the row last changed; kept by the database.
    pub updated_at: DateTimeUtc,
    /// Grows with every change of where or how the tenant is reached; kept by the database.
    pub placement_epoch: i64,
}

/// No foreign keys lead away from a tenant; `data_source_url` may name a data source that has no row.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
