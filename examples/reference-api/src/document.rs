//! The OpenAPI document, made from the handlers themselves: a route that is not in it does not exist.

use axum::Json;
use serde_json::Value;
use utoipa::{
    IntoResponses, Modify, OpenApi, ToSchema,
    openapi::security::{ApiKey, ApiKeyValue, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{Api, accounts, session};

#[derive(OpenApi)]
#[openapi(
    info(title = "Accounts of a tenant", description = "The reference API of Tenantry. Errors are problem details (RFC 9457)."),
    modifiers(&CookieSession),
    components(schemas(ProblemDetails)),
    tags((name = "session", description = "Signing in and out"), (name = "accounts", description = "The tenant's accounts")),
)]
struct Document;

struct CookieSession;

impl Modify for CookieSession {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let cookie = ApiKeyValue::with_description("__Host-session", "Given by POST /api/session");
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    }
}

/// A problem (RFC 9457).
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's form of what tenantry-axum answers")]
pub(crate) struct ProblemDetails {
    r#type: String,
    title: String,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    #[schema(nullable = false)]
    detail: Option<String>,
    /// The id that the log has it under.
    instance: String,
    /// What programs go by.
    code: String,
    #[schema(nullable = false)]
    errors: Option<Vec<FieldError>>,
}

/// A value that is not allowed, and why.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's form of what tenantry-axum answers")]
pub(crate) struct FieldError {
    /// RFC 6901.
    pointer: String,
    code: String,
    message: String,
}

/// What any request may be told.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "the document's form of what tenantry-axum answers")]
pub(crate) enum Refused {
    /// The request cannot be read.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(#[to_schema] ProblemDetails),
    /// Nobody has signed in.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthenticated(#[to_schema] ProblemDetails),
    /// The tenant is suspended.
    #[response(status = 403, content_type = "application/problem+json")]
    Inactive(#[to_schema] ProblemDetails),
    /// The tenant has no such thing.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(#[to_schema] ProblemDetails),
    /// The body is too large.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] ProblemDetails),
    /// The body is not JSON.
    #[response(status = 415, content_type = "application/problem+json")]
    UnsupportedMediaType(#[to_schema] ProblemDetails),
    /// Values that are not allowed; `errors` names them.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(#[to_schema] ProblemDetails),
    /// The tenant has as many requests under way as it may.
    #[response(status = 429, content_type = "application/problem+json")]
    TooManyRequests(#[to_schema] ProblemDetails),
    /// An error of the application.
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(#[to_schema] ProblemDetails),
    /// The tenant's data cannot be reached now.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] ProblemDetails),
}

/// What a request that changes something may be told.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "the document's form of what tenantry-axum answers")]
pub(crate) enum ChangeRefused {
    /// It does not fit what is there.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(#[to_schema] ProblemDetails),
}

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(session::sign_in, session::sign_out))
        .routes(routes!(accounts::list, accounts::create))
        .routes(routes!(accounts::get, accounts::change, accounts::delete))
        .routes(routes!(openapi))
}

/// This document.
#[utoipa::path(get, path = "/api/openapi.json", operation_id = "openapi", responses((status = 200, body = Object)))]
async fn openapi() -> Json<Value> {
    Json(document())
}

/// The OpenAPI 3.1 document.
pub fn document() -> Value {
    let (_, document) = routes().split_for_parts();
    serde_json::to_value(document).unwrap_or_default()
}
