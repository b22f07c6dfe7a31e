//! What a client is told when something is wrong: every error there is, rendered and searched for what it holds.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::DefaultBodyLimit,
    http::{Request, StatusCode},
    response::IntoResponse,
    routing::get,
};
use sea_orm::DbErr;
use tenantry_app_db::{
    Error as AppDbError, PoolLimitsError, Refusal,
    entities::{SourceKind, TransferStep},
};
use tenantry_axum::{Problem, ProblemKind, RequestLayer, ResolveError, TenantSource};
use tenantry_connection::{ConnectFailure, DataSourceUrl, Engine, Error as ConnectionError, UrlError};
use tenantry_credential::{CredentialColumn, OpenError};
use tenantry_data_source::{Error as DataSourceError, Finding, RouteError};
use tenantry_entities::accounts;
use tenantry_realm::{InvalidTenantKey, TenantKeyType};
use tenantry_repository::{CursorProblem, Error as RepositoryError, Exposed};
use uuid::Uuid;

use super::{Answer, call};

/// In every text, name and URL that an error holds.
const SECRET: &str = "krypton";
const OTHER: Uuid = Uuid::from_u128(0x6f1c_2a34_5b6d_4e8f_9a01_2345_6789_abcd);

fn secret() -> String {
    SECRET.to_owned()
}

fn url() -> DataSourceUrl {
    format!("postgresql://{SECRET}.internal:5432/{SECRET}").parse().unwrap()
}

fn driver() -> Box<sqlx::Error> {
    Box::new(sqlx::Error::Protocol(format!("SELECT {SECRET} FROM {SECRET}")))
}

fn orm() -> DbErr {
    DbErr::Custom(secret())
}

fn connection_errors() -> Vec<(u16, ConnectionError)> {
    let data_source = url();
    let connect = |reason| ConnectionError::Connect { data_source: url(), reason, source: Some(driver()) };
    let exhausted = |held, share| ConnectionError::Exhausted {
        data_source: url(),
        cap: 4711,
        waiting: 4711,
        held,
        share,
        waited_ms: 4711,
    };
    let mut errors: Vec<_> = [
        ConnectFailure::Login,
        ConnectFailure::NoSuchDatabase,
        ConnectFailure::Unreachable,
        ConnectFailure::Tls,
        ConnectFailure::Unavailable,
        ConnectFailure::Lost,
        ConnectFailure::Closed,
        ConnectFailure::Other,
    ]
    .into_iter()
    .map(|reason| (503, connect(reason)))
    .collect();
    errors.extend([
        (429, exhausted(2, Some(2))),
        (503, exhausted(1, Some(2))),
        (503, exhausted(0, None)),
        (503, ConnectionError::NoDirectUrl { data_source: url() }),
        (503, ConnectionError::NoLogin { data_source: url() }),
        (503, ConnectionError::NoDriver { data_source: url(), engine: Engine::Postgres }),
        (500, ConnectionError::Ended),
        (500, ConnectionError::Aborted { data_source: url() }),
        (500, ConnectionError::EndsTransaction { data_source: url() }),
        (400, ConnectionError::SessionSetting { setting: "krypton" }),
        (422, ConnectionError::UnstorableValue { reason: "krypton" }),
        (500, ConnectionError::Unrepresentable { column: secret(), value: "krypton" }),
        (409, ConnectionError::Fenced { data_source: url() }),
        (409, ConnectionError::UniqueViolation { constraint: secret() }),
        (409, ConnectionError::ForeignKeyViolation { constraint: secret() }),
        (422, ConnectionError::CheckViolation { constraint: secret() }),
        (422, ConnectionError::NotNullViolation { column: "name".to_owned() }),
        (500, ConnectionError::PermissionDenied { data_source: url(), source: driver() }),
        (409, ConnectionError::Conflict { data_source: url(), source: driver() }),
        (500, ConnectionError::Catalog { source: orm() }),
        (500, ConnectionError::Statement { data_source, source: driver() }),
    ]);
    errors
}

fn app_db_errors() -> Vec<(u16, AppDbError)> {
    let database = |(status, source)| (status, AppDbError::Database { attempt: "krypton", source });
    let mut errors: Vec<_> = connection_errors().into_iter().map(database).collect();
    errors.extend([
        (500, AppDbError::Decode { table: "krypton", source: orm() }),
        (500, AppDbError::Refused { table: secret(), source: Refusal::ForeignTable(secret()) }),
        (500, AppDbError::Build { table: secret(), source: orm() }),
        (500, AppDbError::Reserved { table: "krypton", instead: "krypton" }),
        (404, AppDbError::NoRow { table: secret() }),
        (404, AppDbError::UnknownTenant { tenant: OTHER }),
        (409, AppDbError::Moved { tenant: OTHER, expected: 4711, found: 4711 }),
        (409, AppDbError::TransferUnderWay { tenant: OTHER, transfer: OTHER, step: TransferStep::Copied }),
        (409, AppDbError::TransferHeld { transfer: OTHER, until: chrono::DateTime::UNIX_EPOCH }),
        (409, AppDbError::LeaseLost { transfer: OTHER }),
        (404, AppDbError::UnknownTransfer { transfer: OTHER }),
        (409, AppDbError::DedicatedTaken { url: secret(), kind: SourceKind::Dedicated, holder: OTHER }),
        (409, AppDbError::KeyTaken { url: secret(), key: secret(), holder: OTHER }),
        (409, AppDbError::SubdomainTaken { subdomain: secret() }),
        (409, AppDbError::TenantExists { tenant: OTHER }),
        (422, AppDbError::InvalidSubdomain { subdomain: secret() }),
        (500, AppDbError::InvalidPlacement { tenant: OTHER, reason: "krypton" }),
        (500, AppDbError::PoolLimits { tenant: OTHER, source: PoolLimitsError::MinAboveMax { min: 4711, max: 4 } }),
        (500, AppDbError::MaxConnections { url: secret(), found: 4711 }),
        (
            500,
            AppDbError::Changes {
                action: secret(),
                source: serde_json::from_str::<u8>(&format!("\"{SECRET}\"")).unwrap_err(),
            },
        ),
    ]);
    errors
}

fn route_errors() -> Vec<(u16, RouteError)> {
    let tenant = OTHER;
    let key = || InvalidTenantKey { text: secret(), expected: TenantKeyType::BigInt };
    let column = CredentialColumn::Anon;
    let mut errors = vec![
        (404, RouteError::UnknownTenant(tenant)),
        (403, RouteError::Inactive { tenant, status: "krypton" }),
        (503, RouteError::NoDataSource(tenant)),
        (503, RouteError::Url { tenant, source: UrlError::Scheme(secret()) }),
        (503, RouteError::DirectUrl { tenant, source: UrlError::Parameter(secret()) }),
        (503, RouteError::Mapping { tenant, source: key() }),
        (503, RouteError::NoCredential { tenant, column }),
        (503, RouteError::NoKeyring { tenant }),
        (503, RouteError::Credential { tenant, column, source: OpenError::NotAnEnvelope }),
        (404, RouteError::Shared(Arc::new(RouteError::UnknownTenant(tenant)))),
        (503, RouteError::Shared(Arc::new(RouteError::Mapping { tenant, source: key() }))),
    ];
    let lookup = |(status, source)| (status, RouteError::Lookup { tenant, source: Arc::new(source) });
    errors.extend(app_db_errors().into_iter().map(lookup));
    errors.extend(app_db_errors().into_iter().map(|(status, source)| (status, RouteError::Audit { tenant, source })));
    let pool = |(status, source)| (status, RouteError::Pool { tenant, source: Arc::new(source) });
    errors.extend(connection_errors().into_iter().map(pool));
    errors
}

fn data_source_errors() -> Vec<(u16, DataSourceError)> {
    let table = secret;
    let finding = Finding { object: secret(), problem: secret(), remedy: secret(), attack: Some(secret()) };
    let mut errors: Vec<_> =
        connection_errors().into_iter().map(|(status, error)| (status, DataSourceError::Connection(error))).collect();
    errors.extend([
        (409, DataSourceError::Moved { tenant: OTHER }),
        (403, RouteError::Inactive { tenant: OTHER, status: "krypton" }.into()),
        (500, DataSourceError::OtherTenant { statement: OTHER, handle: OTHER }),
        (422, DataSourceError::ForgedTenant { table: table(), column: "tenant_id".to_owned() }),
        (422, DataSourceError::PrimaryKeyUpdate { table: table(), column: "id".to_owned() }),
        (500, DataSourceError::ForeignTable { table: table(), foreign: secret() }),
        (500, DataSourceError::UnscopedSubquery { table: table() }),
        (500, DataSourceError::CustomExpression { table: table(), what: "krypton" }),
        (500, DataSourceError::UnsupportedExpression { table: table(), what: "krypton" }),
        (500, DataSourceError::NotAuditable { table: table() }),
        (500, DataSourceError::Join { table: table(), related: secret(), reason: "krypton" }),
        (422, DataSourceError::NothingToWrite { table: table() }),
        (500, DataSourceError::RawSqlRefused { tenant: OTHER }),
        (500, DataSourceError::TransactionFailed),
        (500, DataSourceError::NotIsolated { data_source: url(), findings: Arc::from([finding]) }),
        (500, DataSourceError::StreamOpen),
        (500, DataSourceError::Decode { table: table(), source: orm() }),
    ]);
    errors
}

fn repository_errors() -> Vec<(u16, RepositoryError)> {
    let entity = secret;
    let mut errors: Vec<_> =
        data_source_errors().into_iter().map(|(status, error)| (status, RepositoryError::from(error))).collect();
    errors.extend([
        (404, RepositoryError::NotFound { entity: entity(), id: OTHER.to_string() }),
        (409, RepositoryError::UniqueViolation { constraint: secret() }),
        (409, RepositoryError::ForeignKeyViolation { constraint: secret() }),
        (422, RepositoryError::CheckViolation { constraint: secret() }),
        (422, RepositoryError::NotNullViolation { column: "name".to_owned() }),
        (400, RepositoryError::IdShape { entity: entity(), expected: 4711, given: 4711 }),
        (400, RepositoryError::InvalidPage { page: 0, limit: 5, max: 1_000 }),
        (400, RepositoryError::InvalidLimit { limit: 0, max: 1_000 }),
        (400, RepositoryError::InvalidCursor { entity: entity(), problem: CursorProblem::OtherQuery }),
        (400, RepositoryError::UnpageableOrder { entity: entity(), column: secret() }),
        (400, RepositoryError::InvalidSearch { entity: entity(), reason: secret() }),
        (422, RepositoryError::Hook { entity: entity(), source: orm() }),
        (500, RepositoryError::HookAfterwards { entity: entity(), source: orm() }),
        (
            500,
            RepositoryError::ReadBack { entity: entity(), source: DataSourceError::NotAuditable { table: secret() } },
        ),
        (500, RepositoryError::NotStored { entity: entity() }),
    ]);
    errors
}

fn resolve_errors() -> Vec<(u16, ResolveError)> {
    let by = TenantSource::Header;
    let mut errors = vec![
        (401, ResolveError::NoClaim),
        (403, ResolveError::Mismatch { by }),
        (400, ResolveError::Contradiction { first: TenantSource::Subdomain, second: by }),
        (404, ResolveError::UnknownTenant { by }),
        (404, ResolveError::Unnamed),
        (400, ResolveError::Malformed { part: "krypton", reason: "krypton" }),
        (503, ResolveError::Busy),
    ];
    let lookup = |(status, source)| (status, ResolveError::Lookup { by, source: Arc::new(source) });
    errors.extend(app_db_errors().into_iter().map(lookup));
    errors
}

async fn rendered(problem: Problem) -> Answer {
    let (parts, body) = problem.into_response().into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

async fn attacked<E: Into<Problem> + std::fmt::Debug>(errors: Vec<(u16, E)>) {
    for (status, error) in errors {
        let said = format!("{error:?}");
        let answer = rendered(error.into()).await;
        assert_eq!(answer.problem().0, status, "{said}");
        // The number of the answer is random, and may have any digits in it.
        let number = answer.text.find("urn:uuid:").map(|at| answer.text[at..at + 45].to_owned()).unwrap_or_default();
        let seen = format!("{:?} {}", answer.headers, answer.text.replace(&number, "")).to_lowercase();
        for hidden in [
            SECRET,
            "4711",
            &OTHER.to_string(),
            "postgres",
            "sqlite",
            "select",
            "database",
            "constraint",
            "schema",
            "role",
        ] {
            assert!(!seen.contains(hidden), "{hidden} is told: {seen}\nof {said}");
        }
        let later = matches!(status, 429 | 503) || answer.problem().1 == "tenant-moving";
        assert_eq!(later, answer.headers.contains_key("retry-after"), "{said}: {answer:?}");
        if later {
            assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1, "{answer:?}");
        }
    }
}

/// Catches an error whose text reaches a client, and a variant that nobody decided about.
#[tokio::test]
async fn no_error_tells_a_client_what_it_holds() {
    let variants = |errors: &[String]| {
        let names = errors.iter().map(|error| error.split([' ', '(', '{']).next().unwrap_or_default().to_owned());
        names.collect::<std::collections::BTreeSet<_>>().len()
    };
    macro_rules! all_of {
        ($errors:expr, $source:literal, $types:literal) => {
            let said: Vec<String> = $errors.iter().map(|(_, error)| format!("{error:?}")).collect();
            let defined = include_str!(concat!("../../../crates/", $source)).matches("    #[error(").count();
            assert_eq!(variants(&said) + $types, defined, "{} has variants that are not attacked", $source);
            attacked($errors).await;
        };
    }
    all_of!(connection_errors(), "connection/src/error.rs", 0);
    all_of!(app_db_errors(), "app-db/src/error.rs", 0);
    all_of!(route_errors(), "data-source/src/route.rs", 0);
    all_of!(data_source_errors(), "data-source/src/error.rs", 0);
    all_of!(repository_errors(), "repository/src/error.rs", 0);
    // The file also has the errors of setting up, which no request meets.
    all_of!(resolve_errors(), "axum/src/error.rs", 5);
}

#[tokio::test]
async fn a_column_is_named_by_a_pointer_into_the_body() {
    let missing = rendered(RepositoryError::NotNullViolation { column: "a/b~c".to_owned() }.into()).await;
    assert_eq!(missing.json()["errors"][0]["pointer"], "/a~1b~0c");
    assert_eq!(missing.json()["errors"][0]["code"], "required");
    let forged = DataSourceError::ForgedTenant { table: "accounts".to_owned(), column: "tenant_id".to_owned() };
    assert_eq!(rendered(forged.into()).await.json()["errors"][0]["pointer"], "/tenant_id");
}

/// Faults of a client's JSON are told in full: by their place, in the body and in the query.
#[tokio::test]
async fn faults_of_json_are_told_by_their_place() {
    let exposed = Exposed::<accounts::Entity>::new().private([accounts::Column::TaxId]);
    let faults = |json| exposed.new_row(&json).unwrap_err();
    let body = rendered(faults(serde_json::json!({ "tax_id": SECRET, "employee_count": SECRET })).into()).await;
    assert_eq!(body.problem(), (422, "invalid".to_owned()));
    let told: Vec<_> = body.json()["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["pointer"].as_str().unwrap().to_owned(), error["code"].as_str().unwrap().to_owned()))
        .collect();
    let told: Vec<_> = told.iter().map(|(pointer, code)| (pointer.as_str(), code.as_str())).collect();
    assert_eq!(told, [("/employee_count", "wrong_type"), ("/tax_id", "unknown_column"), ("/name", "required")]);
    assert!(!body.text.contains(SECRET), "{body:?}");
    let query = exposed.list_of_pairs([("filter", "{"), ("limit", "0")]).err().unwrap();
    let query = rendered(Problem::of_query(query)).await;
    assert_eq!((query.problem().0, &query.json()["errors"][0]["pointer"]), (400, &serde_json::json!("/filter")));
}

/// axum's own refusals tell of its parsers and the application's types, in plain text.
#[tokio::test]
async fn the_frameworks_own_errors_are_problems_too() {
    async fn number(Json(number): Json<u8>) -> Json<u8> {
        assert_ne!(number, 13, "a handler's own mistake");
        Json(number)
    }
    let teapot = || async { (axum::http::StatusCode::IM_A_TEAPOT, Json("short and stout")) };
    let app: Router = Router::new()
        .route("/", axum::routing::post(number).layer(DefaultBodyLimit::max(20)))
        .route("/own", get(teapot))
        .layer(RequestLayer);
    let post = |kind: &str, body: &str| {
        Request::post("/").header("content-type", kind).body(Body::from(body.to_owned())).unwrap()
    };
    let json = "application/json";
    for (request, problem) in [
        (post(json, "\"krypton\""), (422, "invalid")),
        (post(json, "7krypton"), (400, "bad-request")),
        (post("text/plain", "7"), (415, "unsupported-media-type")),
        (post(json, &"7".repeat(100)), (413, "too-large")),
        (Request::get("/nowhere").body(Body::empty()).unwrap(), (404, "not-found")),
        (post(json, "13"), (500, "internal")),
    ] {
        let answer = call(&app, request).await;
        assert_eq!(answer.problem(), (problem.0, problem.1.to_owned()));
        assert!(!answer.text.contains("u8") && !answer.text.contains("krypton"), "{answer:?}");
        assert!(!answer.header("x-request-id").is_empty(), "{answer:?}");
    }
    let method = call(&app, Request::put("/").body(Body::empty()).unwrap()).await;
    assert_eq!((method.problem().0, method.header("allow")), (405, "POST"), "{method:?}");
    let fine = call(&app, post(json, "7")).await;
    assert_eq!((fine.status.as_u16(), fine.text.as_str()), (200, "7"));
    let own = call(&app, Request::get("/own").body(Body::empty()).unwrap()).await;
    assert_eq!((own.status.as_u16(), own.text.as_str()), (418, "\"short and stout\""), "the application's own form");
}

/// A problem is not in the form that the text in its place was in.
#[tokio::test]
async fn a_problem_is_not_compressed_where_the_text_was() {
    let gzipped = || async { (StatusCode::BAD_REQUEST, [("content-encoding", "gzip"), ("allow", "GET")], "zipped") };
    let app = Router::new().route("/", get(gzipped)).layer(RequestLayer);
    let answer = call(&app, Request::get("/").body(Body::empty()).unwrap()).await;
    assert_eq!(answer.problem(), (400, "bad-request".to_owned()));
    assert_eq!((answer.header("content-encoding"), answer.header("allow")), ("", "GET"));
}

#[test]
fn a_kind_has_its_status_and_its_code() {
    let problem = Problem::from_status(axum::http::StatusCode::GONE);
    assert_eq!((problem.status().as_u16(), problem.kind()), (410, ProblemKind::BadRequest));
    assert_eq!(Problem::from_status(axum::http::StatusCode::BAD_GATEWAY).kind(), ProblemKind::Internal);
}
