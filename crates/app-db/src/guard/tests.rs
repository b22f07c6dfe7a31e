//! Each refused statement below passed one of the two checks alone.

use sea_orm::sea_query::{
    Alias, Condition, Expr, ExprTrait, Func, IntoCondition, LikeExpr, OnConflict, Order, Query, SelectStatement,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QueryTrait};

use super::*;
use crate::entities::{data_sources, tenants, users};

const BACKENDS: [DbBackend; 2] = [DbBackend::Postgres, DbBackend::Sqlite];

fn users_where(condition: impl IntoCondition) -> SelectStatement {
    users::Entity::find().filter(condition.into_condition()).into_query()
}

fn accounts() -> SelectStatement {
    Query::select().column("tenant_id").from("accounts").take()
}

fn refused(statement: &impl StatementBuilder, refusal: &Refusal) {
    for backend in BACKENDS {
        assert_eq!(Guard::default().build(backend, statement).err().as_ref(), Some(refusal), "{backend:?}");
    }
}

fn allowed(statement: &impl StatementBuilder) {
    for backend in BACKENDS {
        assert_eq!(Guard::default().build(backend, statement).err(), None, "{}", statement.build(&backend).sql);
    }
}

#[test]
fn known_words_are_sorted_for_the_search() {
    // `binary_search` on an unsorted list would refuse words at random.
    for sql in ["SELECT", "WHERE", "ABS", "UUID", "JOIN \"users\"", "LIKE", "NOT", "SUBSTR"] {
        assert_eq!(words::check(DbBackend::Postgres, sql, &Guard::default().tables), Ok(()), "{sql}");
    }
}

#[test]
fn what_the_store_and_ordinary_conditions_build_is_allowed() {
    allowed(&users_where(users::Column::Email.eq("a@example.com").and(users::Column::LastLogin.is_not_null())));
    allowed(&users_where(
        Condition::any()
            .add(users::Column::Email.like(LikeExpr::new("a\\_%").escape('\\')))
            .add(users::Column::Role.is_in([users::UserRole::Admin, users::UserRole::User]))
            .add(users::Column::TenantId.is_in([uuid::Uuid::nil()]))
            .add(users::Column::CreatedAt.between(chrono::DateTime::UNIX_EPOCH, chrono::DateTime::UNIX_EPOCH))
            .not(),
    ));
    allowed(&users_where(Func::lower(Expr::col(users::Column::Email)).eq("a")));
    allowed(&users::Entity::find().order_by(users::Column::Email, Order::Desc).into_query());
    let suspended = Query::select()
        .column(tenants::Column::Id)
        .from(tenants::Entity)
        .and_where(tenants::Column::Status.eq(tenants::TenantStatus::Suspended))
        .take();
    allowed(&users_where(users::Column::TenantId.in_subquery(suspended)));
    let mut upsert = Query::insert();
    upsert
        .into_table(data_sources::Entity)
        .columns([data_sources::Column::Url, data_sources::Column::Region])
        .values_panic([Expr::val("sqlite:/a"), Expr::val("eu")])
        .on_conflict(
            OnConflict::column(data_sources::Column::Url).update_column(data_sources::Column::Region).to_owned(),
        );
    allowed(&upsert);
}

/// Regression: routes queried business tables through the application database, because nothing stood between.
#[test]
fn a_sub_query_on_a_business_table_is_refused() {
    let foreign = Refusal::ForeignTable("accounts".to_owned());
    refused(&users_where(users::Column::TenantId.in_subquery(accounts())), &foreign);
    refused(&users_where(Expr::exists(accounts())), &foreign);
    refused(&accounts(), &foreign);
}

/// sea-query's own audit does not look into these places.
#[test]
fn a_sub_query_that_the_audit_does_not_see_is_refused() {
    let foreign = Refusal::ForeignTable("accounts".to_owned());
    let scalar = || Expr::SubQuery(None, Box::new(accounts().into()));
    let tenants = || Query::select().column(tenants::Column::Id).from(tenants::Entity).take();
    for inner in [
        tenants().order_by_expr(scalar(), Order::Asc).take(),
        tenants().add_group_by([scalar()]).take(),
        tenants().and_having(scalar().is_not_null()).take(),
        tenants().inner_join(data_sources::Entity, scalar().is_not_null()).take(),
    ] {
        assert!(
            inner
                .audit()
                .is_ok_and(|audit| audit.selected_tables().iter().all(|table| table.to_string() != "accounts"))
        );
        refused(&users_where(users::Column::TenantId.in_subquery(inner)), &foreign);
    }
    let mut update = Query::update();
    update.table(users::Entity).value(users::Column::FirstName, scalar());
    refused(&update, &foreign);
    let mut delete = Query::delete();
    delete.from_table(users::Entity).and_where(Expr::exists(accounts()));
    refused(&delete, &foreign);
}

#[test]
fn custom_text_does_not_get_past() {
    for (text, refusal) in [
        ("EXISTS (SELECT 1 FROM accounts)", Refusal::UnknownWord("ACCOUNTS".to_owned())),
        ("EXISTS (SELECT 1 FROM \"accounts\")", Refusal::ForeignTable("accounts".to_owned())),
        ("EXISTS (SELECT 1 FROM \"users\", \"accounts\")", Refusal::ForeignTable("accounts".to_owned())),
        ("EXISTS (SELECT 1 FROM (\"users\" JOIN \"accounts\" ON TRUE))", Refusal::ForeignTable("accounts".to_owned())),
        ("EXISTS (SELECT 1 FROM (SELECT 1) AS \"x\", \"accounts\")", Refusal::ForeignTable("accounts".to_owned())),
        ("EXISTS (SELECT 1 FROM \"crm\".\"users\")", Refusal::ForeignTable("crm".to_owned())),
        ("EXISTS (SELECT 1 FROM \"users\".\"accounts\")", Refusal::QualifiedTable("users".to_owned())),
        ("EXISTS (TABLE \"accounts\")", Refusal::UnknownWord("TABLE".to_owned())),
        ("EXISTS (WITH \"x\" AS (SELECT 1) SELECT 1)", Refusal::UnknownWord("WITH".to_owned())),
        ("query_to_xml($1) IS NULL", Refusal::UnknownWord("QUERY_TO_XML".to_owned())),
        ("\"query_to_xml\"($1) IS NULL", Refusal::UnknownWord("query_to_xml".to_owned())),
        ("TRUE; DELETE FROM \"users\"", Refusal::Unreadable(';')),
        ("TRUE -- ", Refusal::Unreadable('-')),
        ("TRUE /* */", Refusal::Unreadable('/')),
        ("$$x$$ IS NULL", Refusal::Unreadable('$')),
        ("'a''b' IS NULL", Refusal::Unreadable('\'')),
        ("[accounts] IS NULL", Refusal::Unreadable('[')),
        ("`accounts` IS NULL", Refusal::Unreadable('`')),
    ] {
        let statement =
            Query::select().column(users::Column::Id).from(users::Entity).and_where(Expr::cust(text)).take();
        refused(&statement, &refusal);
    }
}

/// With `standard_conforming_strings` off, PostgreSQL would read the quote after the backslash as part of the literal.
#[test]
fn a_backslash_in_a_literal_is_refused_on_postgres() {
    for text in [r"'\' IS NULL", r"E'\'' IS NULL"] {
        let statement =
            Query::select().column(users::Column::Id).from(users::Entity).and_where(Expr::cust(text)).take();
        assert!(Guard::default().build(DbBackend::Postgres, &statement).is_err(), "{text}");
    }
}

#[test]
fn a_qualified_table_is_refused() {
    let elsewhere = Query::select().column("id").from((Alias::new("crm"), Alias::new("tenants"))).take();
    refused(&elsewhere, &Refusal::QualifiedTable("tenants".to_owned()));
}

#[test]
fn an_admitted_table_is_allowed() {
    let mut guard = Guard::default();
    guard.admit("invoices");
    let statement = Query::select().column("id").from("invoices").take();
    assert!(guard.build(DbBackend::Postgres, &statement).is_ok());
}
