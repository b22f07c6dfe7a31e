//! Rows of the three tables that later make the application database.

use uuid::Uuid;

use super::cell::Cell;
use super::dictionary::Table;
use super::rows::{email, instant, row_id};
use super::{SampleTenant, TENANTS};

/// 2024-01-01T00:00:00Z, in microseconds.
const NEW_YEAR: i64 = 1_704_067_200_000_000;
/// Of a tenant that is gone; its log entry is not.
const GONE: Uuid = Uuid::from_u128(0x907e_0000_0000_4000_8000_0000_0000_00ff);

pub(super) fn rows(table: &Table, tenant: &SampleTenant) -> Vec<Vec<Cell>> {
    let named = match table.name {
        "tenants" => vec![tenant_row(tenant)],
        "users" => (0..users(tenant)).map(|number| user(tenant, number)).collect(),
        _ => log(tenant),
    };
    let cell = |row: &[(&str, Cell)], name: &str| {
        row.iter().find(|(column, _)| *column == name).map_or(Cell::Null, |(_, cell)| cell.clone())
    };
    named.iter().map(|row| table.columns.iter().map(|column| cell(row, column.name)).collect()).collect()
}

/// Cells by column; what is not named is NULL.
type NamedRow = Vec<(&'static str, Cell)>;

fn tenant_row(tenant: &SampleTenant) -> NamedRow {
    let (plan, settings) = match tenant.subdomain {
        "default" => ("enterprise", r#"{"theme":"dark","currency":"USD","features":["booths","galleries"]}"#),
        "acme" => ("professional", r#"{ "currency" : "EUR", "limits": {"users": 25} }"#),
        _ => ("starter", "{}"),
    };
    let mut row = vec![
        ("id", Cell::Uuid(tenant.id)),
        ("name", text(tenant.name)),
        ("subdomain", text(tenant.subdomain)),
        ("plan", text(plan)),
        ("status", text("active")),
        ("settings", Cell::Json(settings)),
        ("created_at", Cell::Timestamp(instant(NEW_YEAR))),
        ("updated_at", Cell::Timestamp(instant(NEW_YEAR + 123_456))),
    ];
    if tenant.subdomain == "acme" {
        row.extend([("domain", text("crm.acme.example")), ("subscription_id", text("sub_0001'\"%"))]);
    }
    row
}

fn users(tenant: &SampleTenant) -> u32 {
    if tenant.subdomain == "default" { 3 } else { 2 }
}

/// The same people with the same addresses at every tenant.
fn user(tenant: &SampleTenant, number: u32) -> NamedRow {
    let mut row = vec![
        ("id", Cell::Uuid(row_id(tenant, "users", number))),
        ("tenant_id", Cell::Uuid(tenant.id)),
        ("email", text(&email(number.into()))),
        ("role", text(["admin", "manager", "user"][number as usize % 3])),
        ("permissions", Cell::Json([r#"{"all":true}"#, "{}", r#"{"leads":["read","write"]}"#][number as usize % 3])),
        ("status", text(["active", "inactive", "suspended"][number as usize % 3])),
        ("created_at", Cell::Timestamp(instant(NEW_YEAR + i64::from(number)))),
        ("updated_at", Cell::Timestamp(instant(NEW_YEAR))),
    ];
    if number != 1 {
        row.extend([
            ("first_name", text("Ada")),
            ("last_name", text("O'Connor \\ 李")),
            ("password_hash", text("$2b$12$abcdefghijklmnopqrstuuXr1dQ8Qe1V5mS8Qb0m9Q1Yy6o8fG7bW")),
            ("last_login", Cell::Timestamp(instant(NEW_YEAR - 1))),
        ]);
    }
    row
}

fn log(tenant: &SampleTenant) -> Vec<NamedRow> {
    let entry = |number: u32, tenant_id: Option<Uuid>, action: &str, entity_type: &str| {
        vec![
            ("id", Cell::Uuid(row_id(tenant, "audit_log", number))),
            ("tenant_id", tenant_id.map_or(Cell::Null, Cell::Uuid)),
            ("action", text(action)),
            ("entity_type", text(entity_type)),
            ("created_at", Cell::Timestamp(instant(NEW_YEAR + i64::from(number) * 1_000_000))),
        ]
    };
    let mut updated = entry(0, Some(tenant.id), "tenant_updated", "tenant");
    updated.extend([
        ("user_id", Cell::Uuid(row_id(tenant, "users", 0))),
        ("entity_id", text(&tenant.id.to_string())),
        ("changes", Cell::Json(r#"{"before":{"plan":"starter"},"after":{"plan":"professional"}}"#)),
        ("ip_address", text("2001:db8::1")),
        ("user_agent", text("Mozilla/5.0 (X11; \"quoted\") 👍")),
    ]);
    let mut entries = vec![updated, entry(1, Some(tenant.id), "login", "user")];
    if tenant == &TENANTS[0] {
        let mut nothing = entry(2, Some(GONE), "tenant_deleted", "tenant");
        nothing.push(("changes", Cell::Json("null")));
        entries.extend([nothing, entry(3, None, "maintenance", "system")]);
    }
    entries
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}
