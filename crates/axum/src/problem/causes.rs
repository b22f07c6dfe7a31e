//! What each error of the lower crates is to a client.

use std::time::Duration;

use tenantry_app_db::Error as AppDbError;
use tenantry_connection::Error as ConnectionError;
use tenantry_data_source::{Error as DataSourceError, RouteError};
use tenantry_repository::{Error as RepositoryError, Fault, JsonFaults};

use super::{FieldError, Problem, ProblemKind, pointer_to};
use crate::ResolveError;

/// When a source that is misconfigured may be well again: somebody has to do something first.
const AFTER_REPAIR: Duration = Duration::from_secs(60);

impl From<ResolveError> for Problem {
    fn from(error: ResolveError) -> Self {
        let problem = match &error {
            ResolveError::NoClaim => Self::new(ProblemKind::Unauthenticated),
            ResolveError::Mismatch { .. } => Self::new(ProblemKind::TenantMismatch),
            ResolveError::Contradiction { .. } => {
                Self::new(ProblemKind::BadRequest).detail("The request is addressed to two accounts.")
            }
            ResolveError::UnknownTenant { .. } | ResolveError::Unnamed => Self::new(ProblemKind::TenantUnknown),
            ResolveError::Malformed { .. } => {
                Self::new(ProblemKind::BadRequest).detail("The address of the request cannot be read.")
            }
            ResolveError::Busy => Self::new(ProblemKind::Unavailable),
            ResolveError::Lookup { source, .. } => by_app_db(source),
        };
        problem.caused_by(&error)
    }
}

impl From<RouteError> for Problem {
    fn from(error: RouteError) -> Self {
        by_route(&error).caused_by(&error)
    }
}

impl From<AppDbError> for Problem {
    fn from(error: AppDbError) -> Self {
        by_app_db(&error).caused_by(&error)
    }
}

impl From<ConnectionError> for Problem {
    fn from(error: ConnectionError) -> Self {
        by_connection(&error).caused_by(&error)
    }
}

impl From<DataSourceError> for Problem {
    fn from(error: DataSourceError) -> Self {
        by_data_source(&error).caused_by(&error)
    }
}

impl From<RepositoryError> for Problem {
    fn from(error: RepositoryError) -> Self {
        by_repository(&error).caused_by(&error)
    }
}

/// Of a request's body. Faults repeat no value and tell no private column, so that the client gets all of them.
impl From<JsonFaults> for Problem {
    fn from(faults: JsonFaults) -> Self {
        Self::new(ProblemKind::Invalid).faults(faults)
    }
}

impl Problem {
    /// What is wrong with a request's query: 400, where the same in a body is 422.
    pub fn of_query(faults: JsonFaults) -> Self {
        Self::new(ProblemKind::BadRequest).faults(faults)
    }

    fn faults(mut self, JsonFaults { faults, more, .. }: JsonFaults) -> Self {
        self.errors.extend(faults.into_iter().map(FieldError::from));
        if more { self.detail("There is more that is wrong than is told here.") } else { self }
    }
}

impl From<Fault> for FieldError {
    fn from(fault: Fault) -> Self {
        // Its own name, as it is serialised everywhere else.
        let code = serde_json::to_value(fault.code).ok().and_then(|code| code.as_str().map(str::to_owned));
        Self { pointer: fault.pointer, code: code.unwrap_or_default().into(), message: fault.message.into() }
    }
}

fn by_route(error: &RouteError) -> Problem {
    match error {
        RouteError::UnknownTenant(_) => Problem::new(ProblemKind::TenantUnknown),
        RouteError::Inactive { .. } => Problem::new(ProblemKind::TenantInactive),
        RouteError::Lookup { source, .. } => by_app_db(source),
        RouteError::Audit { source, .. } => by_app_db(source),
        RouteError::Pool { source, .. } => by_connection(source),
        RouteError::Shared(error) => by_route(error),
        // The tenant's data is somewhere, and an operator has to say where or give the key to it.
        RouteError::NoDataSource(_)
        | RouteError::Url { .. }
        | RouteError::DirectUrl { .. }
        | RouteError::Mapping { .. }
        | RouteError::NoCredential { .. }
        | RouteError::NoKeyring { .. }
        | RouteError::Credential { .. } => Problem::new(ProblemKind::Unavailable).retry_after(AFTER_REPAIR),
        _ => Problem::new(ProblemKind::Internal),
    }
}

fn by_app_db(error: &AppDbError) -> Problem {
    match error {
        AppDbError::Database { source, .. } => by_connection(source),
        AppDbError::NoRow { .. } => Problem::new(ProblemKind::NotFound),
        AppDbError::UnknownTenant { .. } => Problem::new(ProblemKind::TenantUnknown),
        AppDbError::Moved { .. } => Problem::new(ProblemKind::ConcurrentChange),
        AppDbError::TransferUnderWay { .. } | AppDbError::TransferHeld { .. } | AppDbError::LeaseLost { .. } => {
            Problem::new(ProblemKind::Conflict)
        }
        AppDbError::UnknownTransfer { .. } => Problem::new(ProblemKind::NotFound),
        AppDbError::DedicatedTaken { .. } | AppDbError::KeyTaken { .. } => Problem::new(ProblemKind::Conflict),
        AppDbError::SubdomainTaken { .. } | AppDbError::TenantExists { .. } => Problem::new(ProblemKind::AlreadyExists),
        AppDbError::InvalidSubdomain { .. } => Problem::new(ProblemKind::Invalid).field(
            "/subdomain",
            "invalid_value",
            "Use 1 to 63 letters, digits and hyphens, no hyphen at either end.",
        ),
        AppDbError::InvalidPlacement { .. }
        | AppDbError::Decode { .. }
        | AppDbError::Refused { .. }
        | AppDbError::Build { .. }
        | AppDbError::Reserved { .. }
        | AppDbError::PoolLimits { .. }
        | AppDbError::MaxConnections { .. }
        | AppDbError::Changes { .. } => Problem::new(ProblemKind::Internal),
    }
}

fn by_connection(error: &ConnectionError) -> Problem {
    match error {
        // Also a login that is refused: to the client the source is down, and an operator reads the rest in the log.
        ConnectionError::Connect { .. } => Problem::new(ProblemKind::Unavailable),
        ConnectionError::Exhausted { held, share, .. } => match share {
            Some(share) if held >= share => Problem::new(ProblemKind::TooManyRequests),
            _ => Problem::new(ProblemKind::Unavailable).retry_after(Duration::from_secs(1)),
        },
        ConnectionError::NoDirectUrl { .. } | ConnectionError::NoLogin { .. } | ConnectionError::NoDriver { .. } => {
            Problem::new(ProblemKind::Unavailable).retry_after(AFTER_REPAIR)
        }
        ConnectionError::Fenced { .. } => Problem::new(ProblemKind::TenantMoving),
        ConnectionError::Conflict { .. } => Problem::new(ProblemKind::ConcurrentChange),
        ConnectionError::UniqueViolation { .. } => Problem::new(ProblemKind::AlreadyExists),
        ConnectionError::ForeignKeyViolation { .. } => Problem::new(ProblemKind::ReferenceConflict),
        ConnectionError::CheckViolation { .. } => not_allowed(),
        ConnectionError::NotNullViolation { column } => missing(column),
        ConnectionError::UnstorableValue { .. } => {
            Problem::new(ProblemKind::Invalid).detail("A value cannot be stored exactly.")
        }
        ConnectionError::SessionSetting { .. } => Problem::new(ProblemKind::BadRequest),
        ConnectionError::Statement { .. } => by_sqlstate(error.sqlstate().as_deref()),
        ConnectionError::Ended
        | ConnectionError::Aborted { .. }
        | ConnectionError::EndsTransaction { .. }
        | ConnectionError::Unrepresentable { .. }
        | ConnectionError::PermissionDenied { .. }
        | ConnectionError::Catalog { .. } => Problem::new(ProblemKind::Internal),
    }
}

/// PostgreSQL's classes: 22 data exception, 54 program limit exceeded (a text that is too long for an index), 53 insufficient
/// resources, 57014 statement timeout. SQLite has no such codes, and a colliding one would have five characters.
fn by_sqlstate(state: Option<&str>) -> Problem {
    match state {
        Some(state) if state.len() == 5 && (state.starts_with("22") || state == "54000") => not_allowed(),
        Some(state) if state.len() == 5 && (state.starts_with("53") || state == "57014") => {
            Problem::new(ProblemKind::Unavailable)
        }
        _ => Problem::new(ProblemKind::Internal),
    }
}

fn by_data_source(error: &DataSourceError) -> Problem {
    match error {
        DataSourceError::Connection(error) => by_connection(error),
        // It is there already, so that the same request succeeds at once.
        DataSourceError::Moved { .. } => Problem::new(ProblemKind::TenantMoving),
        DataSourceError::Route(error) => by_route(error),
        DataSourceError::ForgedTenant { column, .. } => not_settable(column),
        DataSourceError::PrimaryKeyUpdate { column, .. } => not_settable(column),
        DataSourceError::NothingToWrite { .. } => {
            Problem::new(ProblemKind::Invalid).detail("There is nothing to write.")
        }
        // The rest is the application's own mistake.
        _ => Problem::new(ProblemKind::Internal),
    }
}

fn by_repository(error: &RepositoryError) -> Problem {
    match error {
        RepositoryError::NotFound { .. } => Problem::new(ProblemKind::NotFound),
        RepositoryError::UniqueViolation { .. } => Problem::new(ProblemKind::AlreadyExists),
        RepositoryError::ForeignKeyViolation { .. } => Problem::new(ProblemKind::ReferenceConflict),
        RepositoryError::CheckViolation { .. } => not_allowed(),
        RepositoryError::NotNullViolation { column } => missing(column),
        RepositoryError::IdShape { .. } => Problem::new(ProblemKind::BadRequest).detail("The id cannot be read."),
        RepositoryError::InvalidPage { page, limit, max } => Problem::new(ProblemKind::BadRequest).detail(format!(
            "Page {page} of {limit} rows cannot be read: pages count from 1 and have 1 to {max} rows."
        )),
        RepositoryError::InvalidLimit { limit, max } => Problem::new(ProblemKind::BadRequest)
            .detail(format!("A page of {limit} rows cannot be read: it has 1 to {max} rows.")),
        RepositoryError::InvalidCursor { .. } => Problem::new(ProblemKind::BadRequest)
            .detail("The cursor does not belong to this list; begin again without one."),
        RepositoryError::UnpageableOrder { .. } => {
            Problem::new(ProblemKind::BadRequest).detail("This list cannot be read page by page in this order.")
        }
        RepositoryError::InvalidSearch { .. } => {
            Problem::new(ProblemKind::BadRequest).detail("The text cannot be searched for.")
        }
        // A hook is the application's rule; its words are for the log, since nobody knows what they hold.
        RepositoryError::Hook { .. } => not_allowed(),
        RepositoryError::DataSource(error) => by_data_source(error),
        RepositoryError::HookAfterwards { .. }
        | RepositoryError::ReadBack { .. }
        | RepositoryError::NotStored { .. } => Problem::new(ProblemKind::Internal),
        _ => Problem::new(ProblemKind::Internal),
    }
}

/// Without the constraint's name: it may be that of another table, which a trigger wrote.
fn not_allowed() -> Problem {
    Problem::new(ProblemKind::Invalid).detail("A value is not allowed.")
}

fn missing(column: &str) -> Problem {
    let problem = Problem::new(ProblemKind::Invalid);
    if column.is_empty() { problem } else { problem.field(pointer_to(column), "required", "This must have a value.") }
}

fn not_settable(column: &str) -> Problem {
    Problem::new(ProblemKind::Invalid).field(pointer_to(column), "read_only", "This cannot be set.")
}
