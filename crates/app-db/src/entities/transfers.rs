//! `tenantry_transfers`: one row for each move of a tenant between databases.

use sea_orm::entity::prelude::*;

use super::Hidden;

/// How far a transfer is: the last thing that is known to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum TransferStep {
    /// `planned`: decided; nothing of the tenant was touched.
    #[sea_orm(string_value = "planned")]
    Planned,
    /// `fenced`: the tenant's writes are held at both ends.
    #[sea_orm(string_value = "fenced")]
    Fenced,
    /// `copied`: its rows are in the target.
    #[sea_orm(string_value = "copied")]
    Copied,
    /// `verified`: both ends were found to hold the same rows.
    #[sea_orm(string_value = "verified")]
    Verified,
    /// `placed`: the tenant is routed to the target.
    #[sea_orm(string_value = "placed")]
    Placed,
    /// `aborting`: given up; what was done is being taken back.
    #[sea_orm(string_value = "aborting")]
    Aborting,
    /// `finished`: the tenant writes in the target; the source's rows are kept, fenced.
    #[sea_orm(string_value = "finished")]
    Finished,
    /// `purged`: the source's rows are deleted.
    #[sea_orm(string_value = "purged")]
    Purged,
    /// `returned`: another transfer has brought the tenant back.
    #[sea_orm(string_value = "returned")]
    Returned,
    /// `aborted`: taken back; the tenant is where it was.
    #[sea_orm(string_value = "aborted")]
    Aborted,
}

impl TransferStep {
    /// The value as the column holds it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Fenced => "fenced",
            Self::Copied => "copied",
            Self::Verified => "verified",
            Self::Placed => "placed",
            Self::Aborting => "aborting",
            Self::Finished => "finished",
            Self::Purged => "purged",
            Self::Returned => "returned",
            Self::Aborted => "aborted",
        }
    }

    /// Whether the transfer is still under way, so that the tenant is not free for another one.
    pub fn is_under_way(self) -> bool {
        match self {
            Self::Planned | Self::Fenced | Self::Copied | Self::Verified | Self::Placed | Self::Aborting => true,
            Self::Finished | Self::Purged | Self::Returned | Self::Aborted => false,
        }
    }
}

/// One transfer.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "tenantry_transfers")]
pub struct Model {
    /// Random.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The tenant; no foreign key, so that the record outlives it.
    pub tenant_id: Uuid,
    /// The transfer that this one takes back.
    pub undoes: Option<Uuid>,
    /// How far it is.
    pub step: TransferStep,
    /// Where the rows were; null is the application database.
    #[sea_orm(column_type = "Text", nullable)]
    pub source_url: Option<String>,
    /// The tenant's id there.
    #[sea_orm(column_type = "Text")]
    pub source_key: String,
    /// The whole placement there, as JSON.
    pub source_placement: Hidden,
    /// Where they go; null is the application database.
    #[sea_orm(column_type = "Text", nullable)]
    pub target_url: Option<String>,
    /// The tenant's id there.
    #[sea_orm(column_type = "Text")]
    pub target_key: String,
    /// The whole placement there, as JSON.
    pub target_placement: Hidden,
    /// The placement epoch that it was decided on.
    pub expected_epoch: i64,
    /// The placement epoch of the cutover.
    pub placed_epoch: Option<i64>,
    /// Who runs it; null while nobody does.
    pub owner: Option<Uuid>,
    /// Until when the owner is believed to run.
    pub lease_until: Option<DateTimeUtc>,
    /// Grows whenever somebody else takes it over.
    pub lease_epoch: i64,
    /// Since when the tenant's writes are held.
    pub held_since: Option<DateTimeUtc>,
    /// How long they were held, in milliseconds.
    pub held_ms: Option<i64>,
    /// Tables that were planned, without the write log.
    pub tables: i64,
    /// Records that were planned, without the write log.
    pub records: i64,
    /// The tables without a tenant column that are copied whole beforehand, as a JSON array of their names.
    #[sea_orm(column_type = "Text")]
    pub reference_tables: String,
    /// How many rows of each table were copied, as JSON; null where the copy was not needed or is not done.
    #[sea_orm(column_type = "Text", nullable)]
    pub copied: Option<String>,
    /// What was found on both ends, as JSON.
    #[sea_orm(column_type = "Text", nullable)]
    pub report: Option<String>,
    /// Why it ended early, or what the last run ended with.
    #[sea_orm(column_type = "Text", nullable)]
    pub problem: Option<String>,
    /// When it was decided.
    pub created_at: DateTimeUtc,
    /// When the row last changed.
    pub updated_at: DateTimeUtc,
}

/// No foreign keys: the record outlives what it tells about.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
