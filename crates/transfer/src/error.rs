//! What can end a transfer.

use std::{error, fmt};

use uuid::Uuid;

use crate::{Plan, Refusal, Report, Side, Step, canonical::Problem, verify::Unexplained};

/// A transfer that ended before it was done. What state it left is said by [`Error::Failed`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something does not fit; every reason is in the plan. Nothing was touched.
    #[error("the transfer is refused and nothing was copied:{}", refusals(.0))]
    Refused(Box<Plan>),
    /// The request contradicts itself.
    #[error("the request does not fit together: {problem}")]
    Request {
        /// What contradicts what.
        problem: String,
    },
    /// A database failed.
    #[error("a database failed while {doing}")]
    Database {
        /// What was being done.
        doing: String,
        /// Its error.
        #[source]
        source: tenantry_connection::Error,
    },
    /// A driver's own operation (COPY, bulk insert) failed.
    #[error("a database failed while {doing}")]
    Driver {
        /// What was being done.
        doing: String,
        /// Its error.
        #[source]
        source: Box<sqlx::Error>,
    },
    /// What a database answered could not be read.
    #[error("an answer could not be read while {doing}")]
    Answer {
        /// What was being done.
        doing: String,
        /// Why.
        #[source]
        source: Box<dyn error::Error + Send + Sync>,
    },
    /// The application database failed or refused.
    #[error("the application database failed while {doing}")]
    AppDb {
        /// What was being done.
        doing: &'static str,
        /// Its error.
        #[source]
        source: tenantry_app_db::Error,
    },
    /// The fence could not be installed.
    #[error("the fence could not be installed at the source")]
    InstallFence {
        /// Why.
        #[source]
        source: Box<dyn error::Error + Send + Sync>,
    },
    /// Open writers did not end in time. Nothing was changed; run it again when they have.
    #[error(
        "transactions that write {whose} rows at the {side} were still open after {waited_ms} ms; \
         end them or allow more time, and run it again"
    )]
    Writers {
        /// Where.
        side: Side,
        /// Whose writers: this tenant's, or any tenant's in the tables that are given the fence for the first time.
        whose: &'static str,
        /// How long they were waited for.
        waited_ms: u128,
    },
    /// Somebody else holds this tenant's fence.
    #[error("the tenant is fenced at the {side} for another reason ({reason}); end that first")]
    Fenced {
        /// Where.
        side: Side,
        /// The reason that was given.
        reason: String,
    },
    /// Somebody else runs this tenant's transfer.
    #[error("another transfer of tenant {tenant} is running; if its process is dead, try again after {until}")]
    Busy {
        /// The tenant.
        tenant: Uuid,
        /// The time of day, in UTC, after which its process is given up for dead.
        until: String,
    },
    /// A transfer of this tenant to another place is under way.
    #[error("transfer {transfer} of tenant {tenant}, to {target}, is under way; resume or abort it first")]
    UnderWay {
        /// The tenant.
        tenant: Uuid,
        /// The transfer.
        transfer: Uuid,
        /// Where it goes.
        target: String,
    },
    /// Another run of the transfer has taken it over, after this one had said nothing for longer than its lease.
    #[error("transfer {transfer} was taken over by another run; look at its status")]
    TakenOver {
        /// The transfer.
        transfer: Uuid,
    },
    /// The transfer is not at a step where this can be done.
    #[error("transfer {transfer} is {step}, which cannot be {wanted}")]
    NotAt {
        /// The transfer.
        transfer: Uuid,
        /// Its step.
        step: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// Somebody has written rows of the tenant to the target since the plan was made. They may be the only ones there are.
    #[error("the target has come to hold rows of this tenant since the plan was made; plan again, which names them")]
    RowsInTarget,
    /// A server no longer answers.
    #[error(
        "the {side} has answered nothing for {waited_s} s; see whether its server and the network between are well"
    )]
    Silent {
        /// Which end.
        side: Side,
        /// For how long, in seconds.
        waited_s: u64,
    },
    /// It was asked to end early, by [`Interrupt`](crate::Interrupt). Nothing was recorded, or what was done is taken back.
    #[error("it was interrupted")]
    Interrupted,
    /// No fence of the transfer was found where it must be, so that somebody may have written there.
    #[error("the tenant's fence at the {side} is not the transfer's any more ({found}); the tenant was not placed")]
    FenceGone {
        /// Where.
        side: Side,
        /// Whose it is.
        found: String,
    },
    /// The rows that were kept are not all in the place that the tenant has now.
    #[error("the kept rows are not purged, since the tenant does not have all of them where it is now: {}", not_held(.0, .1))]
    NotHeld(Vec<Unexplained>, Vec<Refusal>),
    /// The kept rows were deleted, and what had to be done then was not: the fence over them, or the record of it.
    #[error("{rows} kept row(s) were deleted, which could not be recorded; purge again, which records it")]
    Deleted {
        /// How many.
        rows: u64,
        /// What failed.
        #[source]
        source: Box<Error>,
    },
    /// A value changed under the copy into one that cannot be copied.
    #[error("{table}.{column} of row {key} at the {side} {problem}; correct it and run it again")]
    Value {
        /// Where.
        side: Side,
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The row's key.
        key: String,
        /// What is wrong.
        problem: Problem,
    },
    /// A foreign key does not hold in the target after its checks were silenced.
    #[error("{rows} row(s) of {table} would break foreign key {constraint} in the target; nothing was copied")]
    Unreferenced {
        /// The table.
        table: String,
        /// The foreign key.
        constraint: String,
        /// How many rows.
        rows: u64,
    },
    /// A reference table has rows of the same key in the target that are not equal. None was changed there.
    #[error(
        "{rows} row(s) of reference table {table} differ from those that the target has already; nothing was copied"
    )]
    ReferenceDiffers {
        /// The table.
        table: String,
        /// How many rows.
        rows: u64,
    },
    /// The two sides differ after the copy. The placement was not changed.
    #[error("source and target differ: {}", .0.summary())]
    Different(Box<Report>),
    /// The tenant is not where the transfer took it.
    #[error("tenant {tenant} is at {placed}, and the transfer took it to {target}; nothing was changed")]
    NotPlaced {
        /// The tenant.
        tenant: Uuid,
        /// Where it is.
        placed: String,
        /// Where the transfer took it.
        target: String,
    },
    /// There is no such tenant.
    #[error("there is no tenant {tenant}")]
    UnknownTenant {
        /// The id that was given.
        tenant: Uuid,
    },
    /// A step failed.
    #[error("step \"{step}\" failed; {fence}")]
    Failed {
        /// The step.
        step: Step,
        /// What became of the fence.
        fence: FenceAfter,
        /// Why.
        #[source]
        source: Box<Error>,
    },
}

/// What became of the fence when a transfer ended early.
#[derive(Debug)]
pub enum FenceAfter {
    /// It was lowered again: the tenant writes where it did before, and nothing of the transfer is left.
    Lowered,
    /// It was lowered again, and something else could not be taken back: it waits for the next run.
    Unfinished {
        /// What could not be done.
        reason: String,
    },
    /// The tenant is placed, and its fence there may still be up.
    Placed,
    /// It stays raised, and why: the tenant cannot write until the transfer is run again.
    Raised {
        /// Why it could not, or must not, be lowered.
        reason: String,
    },
}

impl fmt::Display for FenceAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lowered => f.write_str("the tenant is where it was, and its fence is lowered again"),
            Self::Unfinished { reason } => {
                write!(
                    f,
                    "the tenant is where it was and writes there; what is left ({reason}) `transfer abort` takes back"
                )
            }
            Self::Placed => f.write_str(
                "the tenant is placed at the target and may still be fenced there: `transfer resume` lets its writes through",
            ),
            Self::Raised { reason } => {
                write!(
                    f,
                    "the tenant stays fenced ({reason}): `transfer resume` goes on, `transfer abort` takes it back"
                )
            }
        }
    }
}

impl Error {
    /// Whether the same call may succeed when it is made again, without anybody changing anything first.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Database { source, .. } => source.is_retryable(),
            Self::Driver { source, .. } => matches!(**source, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut),
            Self::Writers { .. } | Self::Busy { .. } | Self::Silent { .. } => true,
            Self::AppDb { source, .. } => source.is_retryable(),
            Self::Failed { source, .. } | Self::Deleted { source, .. } => source.is_retryable(),
            Self::Refused(_)
            | Self::Request { .. }
            | Self::Answer { .. }
            | Self::InstallFence { .. }
            | Self::Fenced { .. }
            | Self::Value { .. }
            | Self::Unreferenced { .. }
            | Self::ReferenceDiffers { .. }
            | Self::Different(_)
            | Self::UnderWay { .. }
            | Self::TakenOver { .. }
            | Self::NotAt { .. }
            | Self::FenceGone { .. }
            | Self::RowsInTarget
            | Self::Interrupted
            | Self::NotHeld(..)
            | Self::NotPlaced { .. }
            | Self::UnknownTenant { .. } => false,
        }
    }

    /// The same, of a purge that has deleted these rows before.
    pub(crate) fn after(self, deleted: &[(String, u64)]) -> Self {
        match deleted.iter().map(|(_, rows)| rows).sum() {
            0 => self,
            rows => Self::Deleted { rows, source: Box::new(self) },
        }
    }

    pub(crate) fn database(doing: impl Into<String>) -> impl FnOnce(tenantry_connection::Error) -> Self {
        move |source| Self::Database { doing: doing.into(), source }
    }

    pub(crate) fn driver(doing: impl Into<String>) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Driver { doing: doing.into(), source: Box::new(source) }
    }

    pub(crate) fn answer<E: error::Error + Send + Sync + 'static>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |source| Self::Answer { doing: doing.into(), source: Box::new(source) }
    }

    pub(crate) fn app_db(doing: &'static str) -> impl FnOnce(tenantry_app_db::Error) -> Self {
        move |source| Self::AppDb { doing, source }
    }
}

/// An error as the application database records it, which never holds business data: without keys of rows, and without what a
/// database said, which may quote a value.
pub(crate) fn recorded(error: &Error) -> String {
    match error {
        Error::Failed { step, source, .. } => format!("step \"{step}\" failed: {}", recorded(source)),
        Error::Deleted { rows, source } => format!("{rows} kept row(s) were deleted: {}", recorded(source)),
        Error::Different(report) => {
            let tables = report.tables.iter().filter(|table| !table.agrees());
            let tables: Vec<&str> = tables.map(|table| table.table.as_str()).collect();
            format!("source and target differ in {}", tables.join(", "))
        }
        Error::NotHeld(tables, _) => {
            let tables: Vec<&str> = tables.iter().map(|table| table.table.as_str()).collect();
            format!("rows are missing or differ where the tenant is now: {}", tables.join(", "))
        }
        Error::Refused(plan) => format!("the plan refused it for {} reason(s)", plan.refusals.len()),
        Error::Value { side, table, column, problem, .. } => {
            format!("a value of {table}.{column} at the {side} {problem}")
        }
        // Their own texts name tables, steps and places; what is below them stays with who ran it.
        error => error.to_string(),
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

fn not_held(tables: &[Unexplained], not_compared: &[Refusal]) -> String {
    let tables = tables.iter().map(ToString::to_string);
    tables.chain(not_compared.iter().map(ToString::to_string)).collect::<Vec<_>>().join("; ")
}

fn refusals(plan: &Plan) -> String {
    plan.refusals.iter().map(|refusal| format!("\n  - {refusal}")).collect()
}
