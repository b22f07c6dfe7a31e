//! Finding accounts: conditions, search, order, and pages by cursor, in the language of `docs/json-conditions.md`.

use std::sync::LazyLock;

use axum::{Json, extract::RawQuery};
use sea_orm::{IdenStatic, Iterable};
use serde::Serialize;
use tenantry::{
    entities::accounts::{Column, Entity},
    repository::{Exposed, RepositoryExt},
};
use tenantry_axum::{Problem, ProblemKind, Tenant};
use utoipa::{IntoParams, ToSchema};

use super::Account;
use crate::document::Refused;

/// What can be asked for: what an [`Account`] shows.
const SHOWN: [Column; 13] = [
    Column::Id,
    Column::Name,
    Column::AccountType,
    Column::Industry,
    Column::Website,
    Column::Phone,
    Column::Email,
    Column::CreditLimit,
    Column::EmployeeCount,
    Column::Status,
    Column::Notes,
    Column::CreatedAt,
    Column::UpdatedAt,
];

static EXPOSED: LazyLock<Exposed<Entity>> = LazyLock::new(|| {
    let hidden = Column::iter().filter(|column| SHOWN.iter().all(|shown| shown.as_str() != column.as_str()));
    Exposed::new().private(hidden).searchable([Column::Name, Column::Email, Column::Industry])
});

/// Which accounts, in which order.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the document's form of what is read pair by pair")]
pub(crate) struct Listing {
    /// Conditions as JSON: `{"status":"active","credit_limit":{"gte":"100"},"industry":null}`.
    #[param(value_type = String, required = false)]
    filter: Option<String>,
    /// Text that the name, the e-mail address or the industry contains, in whatever case.
    #[param(value_type = String, required = false, min_length = 1, max_length = 1000, pattern = "^[^\\x00]*$")]
    search: Option<String>,
    /// Columns to order by, descending with a minus in front: `-created_at,name`.
    #[param(value_type = String, required = false, example = "name")]
    order: Option<String>,
    /// The most accounts of a page.
    #[param(value_type = u64, required = false, minimum = 1, maximum = 100, default = 20)]
    limit: Option<u64>,
    /// Where the page begins: `next` of the page before, with the same order.
    #[param(value_type = String, required = false)]
    after: Option<String>,
}

/// A page of accounts.
#[derive(Serialize, ToSchema)]
pub(crate) struct AccountPage {
    items: Vec<Account>,
    /// The cursor of the next page; null on the last one.
    next: Option<String>,
}

/// Lists accounts page by page. Pages neither repeat nor skip an account, whatever is written meanwhile.
#[utoipa::path(
    get, path = "/api/accounts", operation_id = "list_accounts", tag = "accounts",
    security(("session" = [])), params(Listing),
    responses((status = 200, body = AccountPage), Refused),
)]
pub(crate) async fn list(Tenant(db): Tenant, RawQuery(raw): RawQuery) -> Result<Json<AccountPage>, Problem> {
    let pairs = pairs(raw.as_deref().unwrap_or_default())?;
    let list = EXPOSED.list_of_pairs(pairs).map_err(Problem::of_query)?;
    if list.page.is_some() {
        // Counting one's way to a page costs the more the further it is.
        return Err(Problem::new(ProblemKind::BadRequest).field("/page", "unknown_parameter", "page on with `after`"));
    }
    let page = db.repository::<Entity>().page_after(&list.query, list.after.as_ref(), list.limit).await?;
    let next = page.next.map(|cursor| cursor.to_string());
    Ok(Json(AccountPage { items: page.items.into_iter().map(Account::from).collect(), next }))
}

fn pairs(raw: &str) -> Result<Vec<(String, String)>, Problem> {
    let uri = format!("/?{raw}").parse();
    let read = uri.ok().and_then(|uri| axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri).ok());
    read.map(|query| query.0).ok_or_else(|| Problem::new(ProblemKind::BadRequest).detail("The query cannot be read."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_asked_for_and_nothing_else() {
        let asked: Vec<_> = EXPOSED.columns().map(|column| column.name.to_owned()).collect();
        assert_eq!(asked, SHOWN.map(|column| column.as_str().to_owned()));
        for hidden in ["tax_id", "tenant_id", "assigned_to"] {
            assert!(EXPOSED.filter(&serde_json::json!({ hidden: null })).is_err(), "{hidden}");
        }
    }
}
