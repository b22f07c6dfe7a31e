//! What can go wrong with the application database.

use chrono::{DateTime, Utc};
use sea_orm::DbErr;
use uuid::Uuid;

use crate::{
    PoolLimitsError,
    entities::{SourceKind, TransferStep},
    guard::Refusal,
};

/// A failed use of the application database, one variant for each thing attempted. No message holds a credential.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database could not do it.
    #[error("the application database could not {attempt}")]
    Database {
        /// What was attempted.
        attempt: &'static str,
        /// Why it failed.
        source: tenantry_connection::Error,
    },
    /// A row does not fit its entity: the schema differs from the one this version was built for. Run the migrations.
    #[error(
        "a row of {table} in the application database does not fit its entity; check that its migrations are applied"
    )]
    Decode {
        /// The table.
        table: &'static str,
        /// What does not fit.
        source: DbErr,
    },
    /// The statement reaches past the application database's own tables.
    #[error("the statement on {table} is refused")]
    Refused {
        /// The table the statement was built for.
        table: String,
        /// Why.
        source: Refusal,
    },
    /// The statement could not be built from the given model.
    #[error("the statement on {table} cannot be built; set the whole primary key")]
    Build {
        /// The table.
        table: String,
        /// Why.
        source: DbErr,
    },
    /// A generic write of something that has rules of its own.
    #[error("{table} is not written this way: {instead}")]
    Reserved {
        /// The table.
        table: &'static str,
        /// What to call instead.
        instead: &'static str,
    },
    /// There was no row to change.
    #[error("no row of {table} has this primary key")]
    NoRow {
        /// The table.
        table: String,
    },
    /// No tenant has this id.
    #[error("no tenant has the id {tenant}")]
    UnknownTenant {
        /// The id.
        tenant: Uuid,
    },
    /// The tenant's placement changed since it was read. Read it again and decide anew.
    #[error(
        "tenant {tenant} was moved meanwhile: its placement epoch is {found}, expected was {expected}; read it again"
    )]
    Moved {
        /// The tenant.
        tenant: Uuid,
        /// The epoch that the caller had read.
        expected: i64,
        /// The epoch now.
        found: i64,
    },
    /// A transfer of the tenant is under way. Resume or abort it first.
    #[error("transfer {transfer} of tenant {tenant} is under way (step {}); resume or abort it first", step.as_str())]
    TransferUnderWay {
        /// The tenant.
        tenant: Uuid,
        /// The transfer.
        transfer: Uuid,
        /// How far it is.
        step: TransferStep,
    },
    /// Somebody else runs the transfer. Wait for it, or until the time when it is given up for dead.
    #[error("transfer {transfer} is run by somebody else; if that process is dead, try again after {}", until.format("%H:%M:%S UTC"))]
    TransferHeld {
        /// The transfer.
        transfer: Uuid,
        /// Until when its owner is believed to run.
        until: DateTime<Utc>,
    },
    /// Somebody else has taken the transfer over, or ended it. Nothing more may be done in its name.
    #[error("transfer {transfer} was taken over by somebody else; look at its status")]
    LeaseLost {
        /// The transfer.
        transfer: Uuid,
    },
    /// No transfer has this id.
    #[error("no transfer has the id {transfer}")]
    UnknownTransfer {
        /// The id.
        transfer: Uuid,
    },
    /// The data source is for one tenant and another one is there.
    #[error("{url} is a {} data source and holds tenant {holder}; choose another, or make it a shared one", kind.as_str())]
    DedicatedTaken {
        /// The data source.
        url: String,
        /// Dedicated or the customer's own.
        kind: SourceKind,
        /// The tenant that is there.
        holder: Uuid,
    },
    /// Another tenant in the same data source has the same id there: each would see the other's rows.
    #[error("in {url} the tenant id {key} is that of tenant {holder}; two tenants must not share one")]
    KeyTaken {
        /// The data source.
        url: String,
        /// The tenant column's value.
        key: String,
        /// The tenant that has it.
        holder: Uuid,
    },
    /// Another tenant has the subdomain.
    #[error("the subdomain {subdomain} is taken; choose another")]
    SubdomainTaken {
        /// The subdomain.
        subdomain: String,
    },
    /// A tenant with this id exists already.
    #[error("a tenant with the id {tenant} exists already; ids are never reused")]
    TenantExists {
        /// The id.
        tenant: Uuid,
    },
    /// Not a DNS label.
    #[error("{subdomain:?} is no subdomain: use 1 to 63 letters, digits and hyphens, no hyphen at either end")]
    InvalidSubdomain {
        /// What was given.
        subdomain: String,
    },
    /// A placement that contradicts itself.
    #[error("the placement of tenant {tenant} is refused: {reason}")]
    InvalidPlacement {
        /// The tenant.
        tenant: Uuid,
        /// What is wrong and what to do.
        reason: &'static str,
    },
    /// The tenant's `connection_pool_config` is unusable.
    #[error("the connection limits of tenant {tenant} are unusable")]
    PoolLimits {
        /// The tenant.
        tenant: Uuid,
        /// What is wrong with them.
        source: PoolLimitsError,
    },
    /// A data source's `max_connections` is out of range.
    #[error("max_connections of {url} is {found}: give a number from 1 to 10000")]
    MaxConnections {
        /// The data source.
        url: String,
        /// What was given.
        found: i32,
    },
    /// The changes of an audit entry cannot be written as JSON.
    #[error("the changes of the audit entry {action} cannot be written as JSON")]
    Changes {
        /// The entry's action.
        action: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl Error {
    /// Whether the same call may succeed when it is made again. [`Error::Moved`] is not: the caller has to read the
    /// placement and decide again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Database { source, .. } => source.is_retryable(),
            Self::Decode { .. }
            | Self::Refused { .. }
            | Self::Build { .. }
            | Self::Reserved { .. }
            | Self::NoRow { .. }
            | Self::UnknownTenant { .. }
            | Self::Moved { .. }
            | Self::TransferUnderWay { .. }
            | Self::TransferHeld { .. }
            | Self::LeaseLost { .. }
            | Self::UnknownTransfer { .. }
            | Self::DedicatedTaken { .. }
            | Self::KeyTaken { .. }
            | Self::SubdomainTaken { .. }
            | Self::TenantExists { .. }
            | Self::InvalidSubdomain { .. }
            | Self::InvalidPlacement { .. }
            | Self::PoolLimits { .. }
            | Self::MaxConnections { .. }
            | Self::Changes { .. } => false,
        }
    }
}
