//! The bookings of hotels: an application of its own trade on Tenantry. Its tenants are organisations, numbered in a column
//! `org_id` of type bigint.
//!
//! Here is what an application writes once: its tables ([`Bookings`]), its entities ([`entities`]), what it decides instead of
//! the operator ([`settings`]). `src/main.rs` uses it, `src/bin/bookings-operator.rs` gives it the operators' commands.

pub mod entities;

use sea_orm_migration::{
    MigrationTrait,
    schema::{date, integer, text, text_null, uuid},
    sea_query::{Expr, ExprTrait},
};
use tenantry::{
    migrations::{Migrator, OnDelete, TenantSchema, TenantTable, create_tables},
    realm::TenantKeyType,
    settings::Settings,
};

/// The application's tables.
#[derive(Debug, Clone, Copy)]
pub struct Bookings;

impl TenantSchema for Bookings {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![create_tables("m20261122_000001_bookings", || [rooms(), guests(), reservations()])]
    }
}

/// Their migrator.
pub type BookingsMigrator = Migrator<Bookings>;

/// The operator's settings, with the tenant column, which is not the operator's to choose.
pub fn settings(operator: Settings) -> Settings {
    Settings { tenant_column: "org_id".to_owned(), tenant_key_type: TenantKeyType::BigInt, ..operator }
}

fn rooms() -> TenantTable {
    TenantTable::new("rooms")
        .column(text("name"))
        .column(integer("beds").default(2))
        .between("beds", 1, 20)
        .unique(["name"])
}

fn guests() -> TenantTable {
    TenantTable::new("guests").column(text("name")).column(text_null("email"))
}

fn reservations() -> TenantTable {
    TenantTable::new("reservations")
        .column(uuid("room_id"))
        .column(uuid("guest_id"))
        .columns([date("arrival"), date("departure")])
        .references("room_id", "rooms", OnDelete::NoAction)
        .references("guest_id", "guests", OnDelete::NoAction)
        .check("stay", Expr::col("arrival").lt(Expr::col("departure")))
        .index(["arrival"])
}
