//! The markers that keep the application database and tenant data apart.
//!
//! Every entity belongs to exactly one realm. `AppDb` accepts entities of the [`App`] realm only, `TenantDb` those of the
//! [`Tenant`] realm only, so that a business entity queried on the application database does not compile.
//!
//! This crate knows no connection, no credential and no table: it is what an application's entity crate depends on.

use std::fmt;

use sea_orm::{EntityTrait, Value};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

mod sealed {
    pub trait Sealed {}
}

/// One of the two kinds of database; sealed, because every rule of isolation is stated for exactly these two.
pub trait Realm: sealed::Sealed + 'static {
    /// The realm's name as errors print it.
    const NAME: &'static str;
}

/// The application database: tenants, users, audit log, data sources. Never business rows.
#[derive(Debug, Clone, Copy)]
pub enum App {}

/// A tenant data database: business rows, each with its tenant column.
#[derive(Debug, Clone, Copy)]
pub enum Tenant {}

impl sealed::Sealed for App {}
impl sealed::Sealed for Tenant {}
impl Realm for App {
    const NAME: &'static str = "application";
}
impl Realm for Tenant {
    const NAME: &'static str = "tenant";
}

/// Names the one realm an entity belongs to. An associated type, so that no entity can be in both.
#[diagnostic::on_unimplemented(
    message = "`{Self}` belongs to no realm",
    note = "declare it with `tenantry::tenant_entity!` or `tenantry::app_entity!`"
)]
pub trait InRealm: EntityTrait {
    /// [`App`] or [`Tenant`].
    type Realm: Realm;
}

/// A business entity: it lives in tenant data databases and names its tenant column.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a tenant entity, so it can't be used with a `TenantDb`",
    label = "not in the tenant realm"
)]
pub trait TenantEntity: InRealm<Realm = Tenant> {
    /// The column that every statement is filtered on and every inserted row is given.
    fn tenant_column() -> Self::Column;
}

/// An entity of the application database.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an application entity, so it can't be used with an `AppDb`",
    label = "not in the application realm"
)]
pub trait AppEntity: InRealm<Realm = App> {}

/// Declares the entities of the given modules as tenant entities: `tenant_entity!(accounts, contacts)`, or
/// `tenant_entity!(rooms => OrgId)` where the tenant column is not called `tenant_id`. Fails to compile for a table
/// that lacks the column.
#[macro_export]
macro_rules! tenant_entity {
    ($($entity:path),+ $(,)?) => { $( $crate::tenant_entity!(@one $entity, TenantId); )+ };
    ($($entity:path => $column:ident),+ $(,)?) => { $( $crate::tenant_entity!(@one $entity, $column); )+ };
    (@one $entity:path, $column:ident) => {
        const _: () = {
            use $entity as module;
            impl $crate::InRealm for module::Entity {
                type Realm = $crate::Tenant;
            }
            impl $crate::TenantEntity for module::Entity {
                fn tenant_column() -> module::Column {
                    module::Column::$column
                }
            }
        };
    };
}

/// Declares the entities of the given modules as application entities: `app_entity!(tenants, users)`.
#[macro_export]
macro_rules! app_entity {
    ($($entity:path),+ $(,)?) => { $(
        const _: () = {
            use $entity as module;
            impl $crate::InRealm for module::Entity {
                type Realm = $crate::App;
            }
            impl $crate::AppEntity for module::Entity {}
        };
    )+ };
}

/// The type of the tenant column in a data source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum TenantKeyType {
    /// `uuid`, the default.
    #[default]
    Uuid,
    /// `bigint`.
    BigInt,
    /// `text`.
    Text,
}

impl TenantKeyType {
    /// The PostgreSQL type's name.
    pub fn postgres_type(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::BigInt => "bigint",
            Self::Text => "text",
        }
    }
}

/// A tenant's id inside its data source: the value of the tenant column. It differs from the tenant's id in the
/// application database where `tenant_id_in_data_source` says so.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TenantKey {
    /// A uuid column's value.
    Uuid(Uuid),
    /// A bigint column's value.
    BigInt(i64),
    /// A text column's value; never empty.
    Text(String),
}

/// A text that is no tenant key of the expected type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tenant id {text:?} is not a valid {} for the tenant column", expected.postgres_type())]
pub struct InvalidTenantKey {
    /// What was given.
    pub text: String,
    /// The tenant column's type.
    pub expected: TenantKeyType,
}

impl TenantKey {
    /// Reads a key of the given type from its text.
    ///
    /// # Errors
    /// [`InvalidTenantKey`] when the text is empty or of another type: correct `tenant_id_in_data_source`.
    pub fn parse(expected: TenantKeyType, text: &str) -> Result<Self, InvalidTenantKey> {
        let invalid = || InvalidTenantKey { text: text.to_owned(), expected };
        match expected {
            TenantKeyType::Uuid => Uuid::parse_str(text).map(Self::Uuid).map_err(|_| invalid()),
            TenantKeyType::BigInt => text.parse().map(Self::BigInt).map_err(|_| invalid()),
            TenantKeyType::Text if text.is_empty() || text.contains('\0') => Err(invalid()),
            TenantKeyType::Text => Ok(Self::Text(text.to_owned())),
        }
    }

    /// The value to bind against the tenant column.
    pub fn value(&self) -> Value {
        match self {
            Self::Uuid(id) => (*id).into(),
            Self::BigInt(id) => (*id).into(),
            Self::Text(id) => id.clone().into(),
        }
    }
}

/// The text that `app.tenant_id` is set to and that the fence is keyed by.
impl fmt::Display for TenantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(id) => id.fmt(f),
            Self::BigInt(id) => id.fmt(f),
            Self::Text(id) => f.write_str(id),
        }
    }
}

impl From<Uuid> for TenantKey {
    fn from(id: Uuid) -> Self {
        Self::Uuid(id)
    }
}
