//! `data_sources`: what belongs to a data source rather than to a tenant. A URL without a row has the defaults.

use sea_orm::entity::prelude::*;

/// Whom a data source serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum SourceKind {
    /// `shared`, the default: many tenants' rows in the same tables.
    #[sea_orm(string_value = "shared")]
    Shared,
    /// `dedicated`: one tenant.
    #[sea_orm(string_value = "dedicated")]
    Dedicated,
    /// `customer`: the customer's own PostgreSQL, one tenant.
    #[sea_orm(string_value = "customer")]
    Customer,
}

impl SourceKind {
    /// True for a data source that must never hold a second tenant. A customer's own database is one: pointing a
    /// neighbour at it would hand that neighbour's rows to the customer.
    pub fn holds_one_tenant(self) -> bool {
        match self {
            Self::Shared => false,
            Self::Dedicated | Self::Customer => true,
        }
    }

    /// The value as the column holds it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Dedicated => "dedicated",
            Self::Customer => "customer",
        }
    }
}

/// What stands between Tenantry and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum PoolerMode {
    /// `auto`, the default: found out by probing.
    #[sea_orm(string_value = "auto")]
    Auto,
    /// `direct`: nothing.
    #[sea_orm(string_value = "direct")]
    Direct,
    /// `session`: a pooler that keeps a server connection for the whole session.
    #[sea_orm(string_value = "session")]
    Session,
    /// `transaction`: a pooler that may change the server connection between transactions.
    #[sea_orm(string_value = "transaction")]
    Transaction,
}

impl PoolerMode {
    /// The value as the column holds it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Direct => "direct",
            Self::Session => "session",
            Self::Transaction => "transaction",
        }
    }
}

/// One data source.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "data_sources")]
pub struct Model {
    /// The canonical URL, no user or password.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub url: String,
    /// For example `us-east-1`.
    #[sea_orm(column_type = "Text", nullable)]
    pub region: Option<String>,
    /// Whom it serves.
    pub kind: SourceKind,
    /// What stands in front of it.
    pub pooler_mode: PoolerMode,
    /// The way past the pooler, where `url` goes through one.
    #[sea_orm(column_type = "Text", nullable)]
    pub direct_url: Option<String>,
    /// Per process, over both accesses.
    pub max_connections: i32,
    /// TLS, timeouts.
    #[sea_orm(column_type = "JsonBinary")]
    pub settings: Json,
    /// An administrator's notes.
    #[sea_orm(column_type = "Text", nullable)]
    pub notes: Option<String>,
    /// When its checks passed and tenants were let in.
    pub admitted_at: Option<DateTimeUtc>,
    /// The last tenant-data migration that was applied to it.
    #[sea_orm(column_type = "Text", nullable)]
    pub schema_version: Option<String>,
    /// When the row was written.
    pub created_at: DateTimeUtc,
    /// When the row last changed; kept by the database.
    pub updated_at: DateTimeUtc,
}

/// Tenants name data sources by URL and without a foreign key, because a URL needs no row.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
