//! Signing in and out: `POST` and `DELETE /api/session`, and what every other request is authenticated by.
//!
//! A session is a signed cookie; the rows of the user and the tenant are read for each request, so that who is suspended, or
//! whose password was changed, is out at once.

mod cookie;

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use chrono::Utc;
use ring::digest;
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait,
    sea_query::{Expr, ExprTrait, Func},
};
use serde::{Deserialize, Serialize};
use tenantry::{
    app_db::{
        AppDb,
        entities::{TenantStatus, UserStatus, users},
    },
    connection::Actor,
};
use tenantry_axum::{Problem, ProblemKind, TenantClaim};
use utoipa::ToSchema;
use uuid::Uuid;

use self::cookie::Session;
pub use self::cookie::{InvalidKeys, SessionKeys, Sessions};
use crate::{Api, HashError, body::Fields, document::Refused};

/// Who has signed in, for as long as a request lasts.
#[derive(Debug, Clone)]
pub(crate) struct SignedIn(Session);

/// Where to sign in, as whom.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document's form of what is read field by field")]
pub(crate) struct Credentials {
    /// The tenant's subdomain.
    #[schema(min_length = 1, max_length = 63, pattern = "^[^\\x00]*$")]
    tenant: String,
    #[schema(min_length = 1, max_length = 320, pattern = "^[^\\x00]*$")]
    email: String,
    #[schema(min_length = 1, max_length = 1000, pattern = "^[^\\x00]*$")]
    password: String,
}

/// A session that was begun.
#[derive(Serialize, ToSchema)]
pub(crate) struct Begun {
    user: Uuid,
    tenant: Uuid,
    expires_at: chrono::DateTime<Utc>,
}

/// Begins a session, which the cookie of the response carries. The answer to a wrong password is that to an unknown user.
#[utoipa::path(
    post, path = "/api/session", operation_id = "sign_in", tag = "session",
    request_body = Credentials,
    responses(
        (status = 201, body = Begun, headers(("set-cookie" = String, description = "The session"))),
        Refused,
    ),
)]
pub(crate) async fn sign_in(
    State(api): State<Api>,
    mut fields: Fields,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Begun>), Problem> {
    let tenant = fields.required_text("tenant", 63);
    let email = fields.required_text("email", 320);
    let password = fields.required_text("password", 1_000);
    fields.finish()?;

    let app_db = api.tenantry.app_db();
    let tenant = app_db.tenant_by_subdomain(&tenant).await?;
    // The same two queries and the same hash, whoever is asked for.
    let user = user_by_email(app_db, tenant.as_ref().map_or(Uuid::nil(), |tenant| tenant.id), &email).await?;
    let stored = user.as_ref().and_then(|user| user.password_hash.clone()).map(|hash| hash.into_string());
    let same = api.passwords.verify(password, stored).await.map_err(hash_problem)?;
    let (Some(tenant), Some(user)) = (tenant, user.filter(|user| same && user.status == UserStatus::Active)) else {
        return Err(Problem::new(ProblemKind::Unauthenticated)
            .detail("There is no such user, or the password is another.")
            .because("a sign-in was refused"));
    };
    // Only who knows the password learns how the tenant is doing.
    if tenant.status != TenantStatus::Active {
        return Err(Problem::new(ProblemKind::TenantInactive).because("a sign-in to an inactive tenant"));
    }
    let signed_in = users::ActiveModel { id: Set(user.id), last_login: Set(Some(Utc::now())), ..Default::default() };
    app_db.update::<users::Entity, _>(&Actor::user(user.id), signed_in).await?;
    let session = api.sessions.begin(tenant.id, user.id, fingerprint(&user));
    let cookie = api.sessions.cookie(&session);
    let begun = Begun { user: user.id, tenant: tenant.id, expires_at: session.expires_at() };
    Ok((StatusCode::CREATED, [(header::SET_COOKIE, cookie)], Json(begun)))
}

/// Ends the session: its cookie is worth nothing to this process afterwards, whoever has kept it.
#[utoipa::path(
    delete, path = "/api/session", operation_id = "sign_out", tag = "session",
    security(("session" = [])),
    responses(
        (status = 204, headers(("set-cookie" = String, description = "An empty session"))),
        Refused,
    ),
)]
pub(crate) async fn sign_out(
    State(api): State<Api>,
    signed_in: Option<Extension<SignedIn>>,
) -> Result<Response, Problem> {
    let Some(Extension(SignedIn(session))) = signed_in else {
        return Err(Problem::new(ProblemKind::Unauthenticated));
    };
    api.sessions.end(&session);
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, api.sessions.no_cookie())]).into_response())
}

/// Turns the session of a request, if it has a valid one, into its tenant's claim. Requests without go on: whether they need one
/// is theirs to say.
pub(crate) async fn authenticate(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let session = cookies(request.headers()).find_map(|cookie| api.sessions.read(cookie));
    if let Some(session) = session {
        match user_of(&api, &session).await {
            Ok(Some(user)) => {
                request.extensions_mut().insert(TenantClaim::verified(session.tenant(), Some(user)));
                request.extensions_mut().insert(SignedIn(session));
            }
            Ok(None) => {}
            Err(problem) => return problem.into_response(),
        }
    }
    let mut response = next.run(request).await;
    // The paths are the same for all tenants: what stores answers on the way must not give one's to another.
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The user of a session, if it is still one: active, of the same tenant and with the same password.
async fn user_of(api: &Api, session: &Session) -> Result<Option<Uuid>, Problem> {
    let app_db = api.tenantry.app_db();
    let user = app_db.find::<users::Entity>().filter(users::Column::Id.eq(session.user())).one().await?;
    let valid = |user: &users::Model| {
        user.status == UserStatus::Active
            && user.tenant_id == session.tenant()
            && fingerprint(user) == session.fingerprint()
    };
    let user = user.filter(valid).map(|user| user.id);
    // Routing believes what it has read for minutes. What it would serve meanwhile is known better here.
    if user.is_some()
        && app_db.tenant(session.tenant()).await?.is_none_or(|tenant| tenant.status != TenantStatus::Active)
    {
        api.tenantry.manager().clear_tenant(session.tenant()).await;
    }
    Ok(user)
}

async fn user_by_email(app_db: &AppDb, tenant: Uuid, email: &str) -> Result<Option<users::Model>, Problem> {
    let lower = Func::lower(Expr::col(users::Column::Email.as_column_ref()));
    let same = Expr::from(lower).eq(Func::lower(Expr::val(email)));
    Ok(app_db.find::<users::Entity>().filter(users::Column::TenantId.eq(tenant)).filter(same).one().await?)
}

/// Changes with the password.
fn fingerprint(user: &users::Model) -> Uuid {
    let hash = user.password_hash.as_ref().map(|hash| hash.as_str()).unwrap_or_default();
    let mut start = [0; 16];
    start.copy_from_slice(&digest::digest(&digest::SHA256, hash.as_bytes()).as_ref()[..16]);
    Uuid::from_bytes(start)
}

/// The values of the session's cookie; a client may send several.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == cookie::NAME).map(|(_, value)| value)
}

fn hash_problem(error: HashError) -> Problem {
    let problem = match error {
        HashError::Busy => Problem::new(ProblemKind::Unavailable).retry_after(Duration::from_secs(2)),
        HashError::Hash => Problem::new(ProblemKind::Internal),
    };
    problem.caused_by(&error)
}
