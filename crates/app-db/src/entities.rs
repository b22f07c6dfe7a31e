//! The tables of the application database as SeaORM entities.
//!
//! They are written by hand, unlike the business entities, because their columns are Tenantry's own contract: sealed
//! keys are [`Hidden`], and every column with a fixed set of values is an enum. They know no connection and no rule
//! about who may write what; that is the store's part.

use std::fmt;
use std::ops::Deref;

use sea_orm::DeriveValueType;

pub mod audit_log;
pub mod data_sources;
pub mod tenants;
pub mod transfers;
pub mod users;

pub use data_sources::{PoolerMode, SourceKind};
pub use tenants::{Plan, TenantStatus};
pub use transfers::TransferStep;
pub use users::{UserRole, UserStatus};

tenantry_realm::app_entity!(audit_log, data_sources, tenants, transfers, users);

/// The names of the tables that [`AppDb`](crate::AppDb) lets a statement touch.
pub const TABLES: [&str; 5] = ["audit_log", "data_sources", "tenants", "tenantry_transfers", "users"];

/// A text column whose value `Debug` never prints: a sealed credential or a password hash.
///
/// A type of its own rather than a hand-written `Debug` on the model, because SeaORM's active models and update
/// builders print their values too, and a type covers all of them.
#[derive(Clone, PartialEq, Eq, DeriveValueType)]
#[sea_orm(column_type = "Text")]
pub struct Hidden(String);

impl Hidden {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text itself, owned.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl From<&str> for Hidden {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Deref for Hidden {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(..)")
    }
}
