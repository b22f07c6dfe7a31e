//! Errors as a client sees them: problem details (RFC 9457), which say what the client can do and nothing of how the
//! application is built or who else is there.
//!
//! What happened in full goes to the log, under the id that the response has as `instance`.

mod causes;

use std::{borrow::Cow, time::Duration};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tenantry_data_source::with_causes;
use uuid::Uuid;

/// The media type of problem details.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Kinds of problems. `code` and `type` of a kind never change; a client may go by either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// 400 `bad-request`: the request cannot be read.
    BadRequest,
    /// 401 `unauthenticated`: nobody has signed in.
    Unauthenticated,
    /// 403 `forbidden`: whoever has signed in may not do this.
    Forbidden,
    /// 403 `tenant-inactive`: the tenant is suspended or cancelled.
    TenantInactive,
    /// 403 `tenant-mismatch`: the address is not that of the signed-in tenant.
    TenantMismatch,
    /// 404 `tenant-unknown`: the address is no tenant's.
    TenantUnknown,
    /// 404 `not-found`: the tenant has no such thing. Another tenant's is no such thing.
    NotFound,
    /// 405 `method-not-allowed`.
    MethodNotAllowed,
    /// 409 `conflict`: the request does not fit the state that things are in.
    Conflict,
    /// 409 `already-exists`: the tenant has such a row.
    AlreadyExists,
    /// 409 `reference-conflict`: what is referred to is not there, or the row is still referred to.
    ReferenceConflict,
    /// 409 `concurrent-change`: something else changed meanwhile. The same request may succeed when it is made again.
    ConcurrentChange,
    /// 409 `tenant-moving`: the tenant's rows are being moved, and writes are held. The same request succeeds a little later.
    TenantMoving,
    /// 413 `too-large`.
    TooLarge,
    /// 415 `unsupported-media-type`.
    UnsupportedMediaType,
    /// 422 `invalid`: the request can be read and its values are not allowed; `errors` names them.
    Invalid,
    /// 429 `too-many-requests`: the tenant has as many requests under way as it may.
    TooManyRequests,
    /// 500 `internal`: an error of the application.
    Internal,
    /// 503 `unavailable`: the tenant's data cannot be reached now.
    Unavailable,
}

impl ProblemKind {
    /// The status it is answered with.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::TenantInactive | Self::TenantMismatch => StatusCode::FORBIDDEN,
            Self::TenantUnknown | Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict
            | Self::AlreadyExists
            | Self::ReferenceConflict
            | Self::ConcurrentChange
            | Self::TenantMoving => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What programs go by; the end of `type`.
    pub fn code(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::TenantInactive => "tenant-inactive",
            Self::TenantMismatch => "tenant-mismatch",
            Self::TenantUnknown => "tenant-unknown",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::Conflict => "conflict",
            Self::AlreadyExists => "already-exists",
            Self::ReferenceConflict => "reference-conflict",
            Self::ConcurrentChange => "concurrent-change",
            Self::TenantMoving => "tenant-moving",
            Self::TooLarge => "too-large",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::Invalid => "invalid",
            Self::TooManyRequests => "too-many-requests",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
        }
    }

    /// What people read.
    pub fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "The request cannot be read",
            Self::Unauthenticated => "Sign in first",
            Self::Forbidden => "This is not allowed",
            Self::TenantInactive => "This account is not active",
            Self::TenantMismatch => "This address is not that of your account",
            Self::TenantUnknown => "There is nobody at this address",
            Self::NotFound => "There is no such thing",
            Self::MethodNotAllowed => "This method is not allowed here",
            Self::Conflict => "The request does not fit the present state",
            Self::AlreadyExists => "There is one already",
            Self::ReferenceConflict => "Something referred to is missing, or this is still referred to",
            Self::ConcurrentChange => "Something else changed meanwhile; try again",
            Self::TenantMoving => "Your data is being moved; try again shortly",
            Self::TooLarge => "The request is too large",
            Self::UnsupportedMediaType => "The request's media type is not supported",
            Self::Invalid => "Some values are not allowed",
            Self::TooManyRequests => "Too many requests at once; try again",
            Self::Internal => "Something went wrong",
            Self::Unavailable => "Your data cannot be reached now; try again later",
        }
    }
}

/// A value that is not allowed, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where it is in the request's body (RFC 6901), or the query parameter's name behind a slash.
    pub pointer: String,
    /// What programs go by, in the words of [`FaultCode`](tenantry_repository::FaultCode).
    pub code: Cow<'static, str>,
    /// What people read.
    pub message: Cow<'static, str>,
}

/// An error as a client sees it. It is made from the errors of the lower crates with `?`, and turned into a response, and
/// written to the log, by axum.
#[derive(Debug, Clone)]
#[must_use = "a problem is nothing until it is answered"]
pub struct Problem {
    id: Uuid,
    kind: ProblemKind,
    status: StatusCode,
    detail: Option<Cow<'static, str>>,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
    /// For the log alone.
    cause: Option<String>,
}

/// The members of RFC 9457, `code`, and `errors` as its section 3 shows it.
#[derive(Serialize)]
struct Body<'p> {
    r#type: String,
    title: &'p str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'p str>,
    instance: String,
    code: &'p str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'p [FieldError],
}

impl Problem {
    /// A problem of this kind, with an id of its own.
    pub fn new(kind: ProblemKind) -> Self {
        let retry_after = match kind {
            ProblemKind::TooManyRequests | ProblemKind::TenantMoving => Some(Duration::from_secs(1)),
            ProblemKind::Unavailable => Some(Duration::from_secs(5)),
            _ => None,
        };
        let (status, detail, errors, cause) = (kind.status(), None, Vec::new(), None);
        Self { id: Uuid::new_v4(), kind, status, detail, errors, retry_after, cause }
    }

    /// The problem that a status alone tells of.
    pub fn from_status(status: StatusCode) -> Self {
        let kind = match status {
            StatusCode::UNAUTHORIZED => ProblemKind::Unauthenticated,
            StatusCode::FORBIDDEN => ProblemKind::Forbidden,
            StatusCode::NOT_FOUND => ProblemKind::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => ProblemKind::MethodNotAllowed,
            StatusCode::CONFLICT => ProblemKind::Conflict,
            StatusCode::PAYLOAD_TOO_LARGE => ProblemKind::TooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => ProblemKind::UnsupportedMediaType,
            StatusCode::UNPROCESSABLE_ENTITY => ProblemKind::Invalid,
            StatusCode::TOO_MANY_REQUESTS => ProblemKind::TooManyRequests,
            StatusCode::SERVICE_UNAVAILABLE => ProblemKind::Unavailable,
            other if other.is_client_error() => ProblemKind::BadRequest,
            _ => ProblemKind::Internal,
        };
        Self { status, ..Self::new(kind) }
    }

    /// What is particular to this case, for people. The client reads it: nothing of other tenants, nothing of the database.
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Names a value that is not allowed. The pointer is RFC 6901's, of the body; see [`pointer_to`].
    pub fn field(
        mut self,
        pointer: impl Into<String>,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.errors.push(FieldError { pointer: pointer.into(), code: code.into(), message: message.into() });
        self
    }

    /// When the client may try again, in whole seconds and at least one.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// What happened, for the log and nobody else. Never a secret.
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The error that led to it and all of its causes, for the log and nobody else.
    pub fn caused_by(self, error: &(dyn std::error::Error + 'static)) -> Self {
        self.because(with_causes(error))
    }

    /// What it is.
    pub fn kind(&self) -> ProblemKind {
        self.kind
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The id that log and response have in common.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The values that are not allowed.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    fn body(&self) -> Body<'_> {
        Body {
            r#type: format!("urn:problem-type:tenantry:{}", self.kind.code()),
            title: self.kind.title(),
            status: self.status.as_u16(),
            detail: self.detail.as_deref(),
            instance: self.id.urn().to_string(),
            code: self.kind.code(),
            errors: &self.errors,
        }
    }

    /// Here it is handled, so here it is logged, once.
    fn log(&self) {
        let (problem, status, code) = (self.id, self.status.as_u16(), self.kind.code());
        let cause = self.cause.as_deref().unwrap_or_default();
        match self.status.as_u16() {
            503 | 429 => tracing::warn!(%problem, status, code, cause, "a request could not be served now"),
            500.. => tracing::error!(%problem, status, code, cause, "a request failed"),
            _ => tracing::info!(%problem, status, code, cause, "a request was refused"),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.log();
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        // An error of now is not one of later.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110, section 15.5.2 wants a challenge, and the registry has no scheme for sessions.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Session"));
        }
        response
    }
}

/// The pointer to a member of the body's object.
pub fn pointer_to(member: &str) -> String {
    format!("/{}", member.replace('~', "~0").replace('/', "~1"))
}
