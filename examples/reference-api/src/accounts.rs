//! A tenant's accounts over HTTP.

mod listing;

use axum::{
    Json,
    extract::Path,
    http::{StatusCode, header},
    response::IntoResponse,
};
use chrono::{DateTime, FixedOffset};
use sea_orm::ActiveValue::{NotSet, Set, Unchanged};
use serde::{Deserialize, Serialize};
use tenantry::{entities::accounts, repository::RepositoryExt};
use tenantry_axum::{Problem, ProblemKind, Tenant};
use utoipa::ToSchema;
use uuid::Uuid;

pub(crate) use self::listing::{__path_list, list};
use crate::{
    body::Fields,
    document::{ChangeRefused, Refused},
};

/// What an account's `status` may be.
const STATUSES: [&str; 3] = ["active", "inactive", "suspended"];
/// What an account's `account_type` may be.
const TYPES: [&str; 2] = ["individual", "company"];

/// An account.
#[derive(Serialize, ToSchema)]
pub(crate) struct Account {
    id: Uuid,
    name: String,
    account_type: Option<String>,
    industry: Option<String>,
    website: Option<String>,
    phone: Option<String>,
    email: Option<String>,
    /// An amount of money, exact.
    #[schema(example = "1200.50")]
    credit_limit: Option<String>,
    employee_count: Option<i32>,
    status: Option<String>,
    notes: Option<String>,
    created_at: Option<DateTime<FixedOffset>>,
    updated_at: Option<DateTime<FixedOffset>>,
}

/// An account to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document's form of what is read field by field")]
pub(crate) struct NewAccount {
    /// Made by the server where it is left out. With one of your own a repeated request creates nothing twice.
    #[schema(nullable = false)]
    id: Option<Uuid>,
    #[schema(min_length = 1, max_length = 200, pattern = "^[^\\x00]*$")]
    name: String,
    #[schema(value_type = AccountType, required = false)]
    account_type: Option<AccountType>,
    #[schema(max_length = 100, pattern = "^[^\\x00]*$")]
    industry: Option<String>,
    #[schema(max_length = 2000, pattern = "^[^\\x00]*$")]
    website: Option<String>,
    #[schema(max_length = 50, pattern = "^[^\\x00]*$")]
    phone: Option<String>,
    #[schema(max_length = 320, pattern = "^[^\\x00]*$")]
    email: Option<String>,
    /// An amount of money, exact.
    #[schema(pattern = "^-?[0-9]{1,8}(\\.[0-9]{1,2})?$", example = "1200.50")]
    credit_limit: Option<String>,
    #[schema(minimum = 0, maximum = 2147483647)]
    employee_count: Option<i32>,
    #[schema(value_type = AccountStatus, required = false)]
    status: Option<AccountStatus>,
    #[schema(max_length = 10000, pattern = "^[^\\x00]*$")]
    notes: Option<String>,
}

/// Changes of an account: what is left out stays, and null empties a field.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document's form of what is read field by field")]
pub(crate) struct AccountChanges {
    #[schema(value_type = String, required = false, min_length = 1, max_length = 200, pattern = "^[^\\x00]*$")]
    name: Option<String>,
    #[schema(value_type = AccountType, required = false)]
    account_type: Option<AccountType>,
    #[schema(max_length = 100, pattern = "^[^\\x00]*$")]
    industry: Option<String>,
    #[schema(max_length = 2000, pattern = "^[^\\x00]*$")]
    website: Option<String>,
    #[schema(max_length = 50, pattern = "^[^\\x00]*$")]
    phone: Option<String>,
    #[schema(max_length = 320, pattern = "^[^\\x00]*$")]
    email: Option<String>,
    /// An amount of money, exact.
    #[schema(pattern = "^-?[0-9]{1,8}(\\.[0-9]{1,2})?$", example = "1200.50")]
    credit_limit: Option<String>,
    #[schema(minimum = 0, maximum = 2147483647)]
    employee_count: Option<i32>,
    #[schema(value_type = AccountStatus, required = false)]
    status: Option<AccountStatus>,
    #[schema(max_length = 10000, pattern = "^[^\\x00]*$")]
    notes: Option<String>,
}

/// What an account is.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AccountType {
    Individual,
    Company,
}

/// How an account is doing.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AccountStatus {
    Active,
    Inactive,
    Suspended,
}

/// Creates an account.
#[utoipa::path(
    post, path = "/api/accounts", operation_id = "create_account", tag = "accounts",
    security(("session" = [])), request_body = NewAccount,
    responses(
        (status = 201, body = Account, headers(("location" = String, description = "The account's path"))),
        Refused, ChangeRefused,
    ),
)]
pub(crate) async fn create(Tenant(db): Tenant, mut fields: Fields) -> Result<impl IntoResponse, Problem> {
    let id = fields.id("id");
    let name = fields.required_text("name", 200);
    let account = accounts::ActiveModel { id, ..read(&mut fields) };
    fields.finish()?;
    let account = accounts::ActiveModel { name: Set(name), ..account };
    let account = Account::from(db.repository::<accounts::Entity>().create(account).await?);
    Ok((StatusCode::CREATED, [(header::LOCATION, format!("/api/accounts/{}", account.id))], Json(account)))
}

/// One account.
#[utoipa::path(
    get, path = "/api/accounts/{id}", operation_id = "get_account", tag = "accounts",
    security(("session" = [])), params(("id" = Uuid, Path)),
    responses((status = 200, body = Account), Refused),
)]
pub(crate) async fn get(Tenant(db): Tenant, Path(id): Path<String>) -> Result<Json<Account>, Problem> {
    let found = db.repository::<accounts::Entity>().find_by_id(known(&id)?).await?;
    found.map(|account| Json(account.into())).ok_or_else(|| Problem::new(ProblemKind::NotFound))
}

/// Changes an account.
#[utoipa::path(
    patch, path = "/api/accounts/{id}", operation_id = "change_account", tag = "accounts",
    security(("session" = [])), params(("id" = Uuid, Path)), request_body = AccountChanges,
    responses((status = 200, body = Account), Refused, ChangeRefused),
)]
pub(crate) async fn change(
    Tenant(db): Tenant,
    Path(id): Path<String>,
    mut fields: Fields,
) -> Result<Json<Account>, Problem> {
    let id = known(&id)?;
    let name = fields.some_text("name", 200);
    let account = accounts::ActiveModel { id: Unchanged(id), name, ..read(&mut fields) };
    fields.finish()?;
    Ok(Json(db.repository::<accounts::Entity>().update(id, account).await?.into()))
}

/// Deletes an account.
#[utoipa::path(
    delete, path = "/api/accounts/{id}", operation_id = "delete_account", tag = "accounts",
    security(("session" = [])), params(("id" = Uuid, Path)),
    responses((status = 204), Refused, ChangeRefused),
)]
pub(crate) async fn delete(Tenant(db): Tenant, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let deleted = db.repository::<accounts::Entity>().delete(known(&id)?).await?;
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::new(ProblemKind::NotFound)) }
}

/// What both a new account and a change may have.
fn read(fields: &mut Fields) -> accounts::ActiveModel {
    accounts::ActiveModel {
        account_type: fields.word("account_type", &TYPES),
        industry: fields.optional_text("industry", 100),
        website: fields.optional_text("website", 2_000),
        phone: fields.optional_text("phone", 50),
        email: fields.optional_text("email", 320),
        credit_limit: fields.amount("credit_limit"),
        employee_count: fields.count("employee_count"),
        status: fields.word("status", &STATUSES),
        notes: fields.optional_text("notes", 10_000),
        id: NotSet,
        name: NotSet,
        ..Default::default()
    }
}

/// An id in its one usual form; what is none is nobody's.
pub(crate) fn id_of(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|_| text.len() == 36)
}

fn known(id: &str) -> Result<Uuid, Problem> {
    id_of(id).ok_or_else(|| Problem::new(ProblemKind::NotFound))
}

impl From<accounts::Model> for Account {
    fn from(account: accounts::Model) -> Self {
        Self {
            id: account.id,
            name: account.name,
            account_type: account.account_type,
            industry: account.industry,
            website: account.website,
            phone: account.phone,
            email: account.email,
            credit_limit: account.credit_limit.map(|amount| amount.to_string()),
            employee_count: account.employee_count,
            status: account.status,
            notes: account.notes,
            created_at: account.created_at,
            updated_at: account.updated_at,
        }
    }
}
