//! What a plan tells and does not refuse for.

use std::fmt;

use serde::{Deserialize, Serialize};
use tenantry_app_db::entities::{TransferStep, transfers::Model};
use uuid::Uuid;

use crate::Side;

/// Something that whoever decides on the transfer should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// Rows of tenants refer to a table that has no tenant column. It stays where it is; the rows that are referred to have
    /// been found in the target.
    ReferenceTable {
        /// The table.
        table: String,
        /// Tables that refer to it.
        from: Vec<String>,
    },
    /// Constraints of the target that the source does not have, and that could not be tried on the source's rows. A row that
    /// breaks one ends the copy, and nothing of it stays.
    NotChecked {
        /// The table.
        table: String,
        /// Their names.
        constraints: Vec<String>,
    },
    /// Tables of an SQLite target with CHECK constraints that could not be tried, or not on all of the source's rows: they call a
    /// function that is not there, or take too long. A row that breaks one ends the copy, and nothing of it stays.
    ChecksNotTried {
        /// The tables.
        tables: Vec<String>,
    },
    /// The target computes a column in its own way. Whether it comes to the same values is seen by the verification.
    Computed {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// Text of a column is ordered, and perhaps compared, by other rules in the target.
    Collation {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The collation in the source.
        source: String,
        /// The collation in the target.
        target: String,
    },
    /// The target's server is older than the source's.
    OlderServer {
        /// The source's version.
        source: String,
        /// The target's version.
        target: String,
    },
    /// Nobody checks the encoding of what this end stores: bytes that are no text of the other's encoding end the copy.
    AnyEncoding {
        /// Which end.
        side: Side,
    },
    /// How much room the target has cannot be known.
    SpaceUnknown,
    /// A transfer of the tenant to there is under way and nobody runs it: whoever asks for one goes on with it.
    GoesOn {
        /// The transfer.
        transfer: Uuid,
        /// Its step.
        step: String,
    },
}

impl Note {
    /// What a plan says of a transfer under way that is the one that is asked for.
    pub fn goes_on(open: &Model) -> Self {
        Self::GoesOn { transfer: open.id, step: open.step.as_str().to_owned() }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReferenceTable { table, from } => write!(
                f,
                "{} refer(s) to {table}, which has no tenant column and is not copied; what is referred to is in the target",
                from.join(", ")
            ),
            Self::NotChecked { table, constraints } => write!(
                f,
                "{} of {table} in the target could not be tried on the source's rows; a row that breaks it ends the copy",
                constraints.join(", ")
            ),
            Self::ChecksNotTried { tables } => write!(
                f,
                "the CHECK constraints of {} in the target could not be tried on every row; a row that breaks one ends the copy",
                tables.join(", ")
            ),
            Self::Computed { table, column } => write!(
                f,
                "the target computes {table}.{column} in its own way; whether it comes to the same is seen when rows are verified"
            ),
            Self::Collation { table, column, source, target } => {
                write!(
                    f,
                    "text of {table}.{column} is compared by {source} in the source and by {target} in the target"
                )
            }
            Self::OlderServer { source, target } => {
                write!(f, "the target's server ({target}) is older than the source's ({source})")
            }
            Self::AnyEncoding { side } => write!(
                f,
                "the {side} is encoded in SQL_ASCII, which checks nothing; bytes that are no text of the other's encoding end the copy"
            ),
            Self::SpaceUnknown => f.write_str("how much room the target has is not known"),
            Self::GoesOn { transfer, step } => {
                write!(f, "transfer {transfer} to there is {step} and nobody runs it; ")?;
                let given_up = step == TransferStep::Aborting.as_str();
                f.write_str(if given_up {
                    "`transfer run` takes it back first, and then begins anew"
                } else {
                    "`transfer run` goes on with it"
                })
            }
        }
    }
}
