//! What a column accepts: the canonical forms of docs/storage.md and nothing else.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    blob_null, date_null, decimal_len_null, decimal_null, double_null, json_binary_null, json_null, text, time_null,
    timestamp_with_time_zone_null,
};
use tenantry_migrations::TenantTable;

use crate::database::{A, Database};

async fn with_samples() -> Database {
    let database = Database::tenant_data().await;
    let table = TenantTable::new("samples")
        .column(decimal_len_null("money", 15, 2))
        .column(decimal_len_null("share", 15, 15))
        .column(date_null("day"))
        .column(time_null("hour"))
        .column(timestamp_with_time_zone_null("instant"))
        .column(json_binary_null("detail"))
        .column(blob_null("bytes"));
    table.create(&SchemaManager::new(&database.connection)).await.unwrap();
    database
}

// Catches money that is not the decimal that was written.
#[tokio::test]
async fn money_is_exact_over_its_whole_range() {
    let database = with_samples().await;
    let mut digits: u64 = 0x2545_f491_4f6c_dd1d;
    let mut amounts = vec!["9999999999999.99".to_owned(), "-9999999999999.99".to_owned(), "0.01".to_owned()];
    let mut lengths = (1..=15_u32).cycle();
    for _ in 0..2_000 {
        // xorshift: the same amounts in every run.
        digits ^= digits << 13;
        digits ^= digits >> 7;
        digits ^= digits << 17;
        let cents = digits % 10_u64.pow(lengths.next().unwrap());
        amounts.push(format!("{}.{:02}", cents / 100, cents % 100));
    }
    let values = amounts.iter().map(|amount| format!("({A}, {amount})")).collect::<Vec<_>>().join(", ");
    database.run(&format!("INSERT INTO samples (tenant_id, money) VALUES {values}")).await;
    assert_eq!(database.rows("SELECT printf('%.2f', money) FROM samples ORDER BY rowid").await, amounts);
    let logged =
        database.rows("SELECT substr(after, instr(after, '\"money\":') + 8) FROM write_log ORDER BY rowid").await;
    for (logged, amount) in logged.iter().zip(&amounts) {
        assert!(logged.starts_with(&format!("{amount},")), "{logged} is not {amount}");
    }
    for (column, value) in
        [("money", "0.001"), ("money", "10000000000000"), ("money", "'abc'"), ("money", "1e400"), ("share", "1.0")]
    {
        let why = format!("samples_{column}_check");
        database
            .assert_refused(&format!("INSERT INTO samples (tenant_id, {column}) VALUES ({A}, {value})"), &why)
            .await;
    }
}

// Catches a form that sorts or compares differently from the canonical one.
#[tokio::test]
async fn times_have_one_form() {
    let database = with_samples().await;
    let insert = |column: &str, value: &str| format!("INSERT INTO samples (tenant_id, {column}) VALUES ({A}, {value})");
    for (column, value) in [
        ("day", "'2024-02-29'"),
        ("day", "'infinity'"),
        ("day", "'-infinity'"),
        ("hour", "'00:00:00.000000'"),
        ("hour", "'24:00:00.000000'"),
        ("instant", "'2026-11-21T23:59:59.999999+00:00'"),
        ("instant", "'infinity'"),
        ("detail", "'[1, {\"a\": null}]'"),
        ("bytes", "x'00ff'"),
    ] {
        database.run(&insert(column, value)).await;
    }
    for (column, value) in [
        ("day", "'2023-02-29'"),
        ("day", "'2026-1-1'"),
        ("day", "'now'"),
        ("day", "20260101"),
        ("hour", "'10:00:00'"),
        ("hour", "'24:00:00.000001'"),
        ("hour", "'10:60:00.000000'"),
        ("instant", "'2026-11-21T23:59:59.999999Z'"),
        ("instant", "'2026-11-21 23:59:59.999999+00:00'"),
        ("instant", "'2026-11-21T24:00:00.000000+00:00'"),
        ("instant", "'2026-02-30T00:00:00.000000+00:00'"),
        ("detail", "'{a:1}'"),
        ("detail", "x'7b7d'"),
        ("bytes", "'text'"),
    ] {
        database.assert_refused(&insert(column, value), &format!("samples_{column}_check")).await;
    }
}

// Catches a type whose value SQLite would change, accepted in silence.
#[tokio::test]
async fn types_without_an_exact_form_are_refused() {
    let database = Database::tenant_data().await;
    let manager = SchemaManager::new(&database.connection);
    let mut naive = ColumnDef::new("c");
    for (column, why) in [
        (decimal_len_null("c", 16, 2), "at most 15 digits"),
        (decimal_null("c"), "without a precision"),
        (double_null("c"), "no canonical text"),
        (json_null("c"), "use json_binary"),
        (naive.timestamp().take(), "use timestamp_with_time_zone"),
        (ColumnDef::new("c").array(ColumnType::Text).take(), "has no form on SQLite"),
        (text("c").unique_key().take(), "use unique([\"c\"])"),
        (text("tenant_id"), "defined twice"),
    ] {
        let message = TenantTable::new("refused").column(column).create(&manager).await.unwrap_err().to_string();
        assert!(message.contains(why), "expected {why:?} in: {message}");
    }
}
