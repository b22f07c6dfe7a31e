//! `users`: the people of a tenant who may log in.

use sea_orm::entity::prelude::*;

use super::{Hidden, tenants};

/// What a user may do within the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum UserRole {
    /// `admin`.
    #[sea_orm(string_value = "admin")]
    Admin,
    /// `manager`.
    #[sea_orm(string_value = "manager")]
    Manager,
    /// `user`, the default.
    #[sea_orm(string_value = "user")]
    User,
}

impl UserRole {
    /// The value as the column holds it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Manager => "manager",
            Self::User => "user",
        }
    }
}

/// Whether a user may log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum UserStatus {
    /// `active`.
    #[sea_orm(string_value = "active")]
    Active,
    /// `inactive`.
    #[sea_orm(string_value = "inactive")]
    Inactive,
    /// `suspended`.
    #[sea_orm(string_value = "suspended")]
    Suspended,
}

impl UserStatus {
    /// The value as the column holds it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Suspended => "suspended",
        }
    }
}

/// One user of one tenant.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub struct Model {
    /// The user's id; `app.current_user_id` is set to it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The tenant the user belongs to.
    pub tenant_id: Uuid,
    /// Unique per tenant without regard to case.
    #[sea_orm(column_type = "Text")]
    pub email: String,
    /// Given name.
    #[sea_orm(column_type = "Text", nullable)]
    pub first_name: Option<String>,
    /// Family name.
    #[sea_orm(column_type = "Text", nullable)]
    pub last_name: Option<String>,
    /// What the user may do.
    pub role: UserRole,
    /// The application's finer permissions.
    #[sea_orm(column_type = "JsonBinary")]
    pub permissions: Json,
    /// Whether the user may log in.
    pub status: UserStatus,
    /// The hash that the application's own password check made; null where another service signs in.
    pub password_hash: Option<Hidden>,
    /// The last successful login.
    pub last_login: Option<DateTimeUtc>,
    /// When the row was written.
    pub created_at: DateTimeUtc,
    /// When the row last changed; kept by the database.
    pub updated_at: DateTimeUtc,
}

/// A user's tenant.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// `tenant_id` → `tenants.id`, on delete cascade.
    #[sea_orm(
        belongs_to = "super::tenants::Entity",
        from = "Column::TenantId",
        to = "super::tenants::Column::Id",
        on_delete = "Cascade"
    )]
    Tenant,
}

impl Related<tenants::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Tenant.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}
