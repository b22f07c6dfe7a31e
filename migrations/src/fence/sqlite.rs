//! The fence in SQL for SQLite.

use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::FENCED_SQLITE_MESSAGE;
use crate::Error;
use crate::dialect::{literal, object_name, quote, sqlite};

pub(crate) const RAISE: &str = "INSERT INTO tenantry_fence (tenant_id, fenced, reason, changed_at) \
     VALUES (?, 1, ?, strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')) \
     ON CONFLICT (tenant_id) DO UPDATE SET fenced = 1, reason = excluded.reason, changed_at = excluded.changed_at";

pub(crate) const LOWER: &str = "UPDATE tenantry_fence SET fenced = 0, reason = NULL, \
     changed_at = strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now') WHERE tenant_id = ? AND fenced = 1";

pub(crate) const IS_FENCED: &str =
    "SELECT EXISTS (SELECT 1 FROM tenantry_fence WHERE tenant_id = ? AND fenced = 1) AS fenced";

pub(crate) fn install() -> String {
    format!(
        "{};\nCREATE TABLE IF NOT EXISTS tenantry_fence (
    tenant_id text PRIMARY KEY NOT NULL,
    fenced integer NOT NULL CONSTRAINT tenantry_fence_fenced_check CHECK (fenced IN (0, 1)),
    reason text,
    changed_at timestamp_with_timezone_text NOT NULL
)",
        sqlite::CREATE_SESSION
    )
}

/// The triggers, one for each kind of write.
pub(crate) fn attach(table: &str, column: &str) -> String {
    ["insert", "update", "delete"].map(|event| trigger(table, column, event)).join(";\n")
}

pub(crate) fn detach(table: &str) -> String {
    ["insert", "update", "delete"]
        .map(|event| format!("DROP TRIGGER IF EXISTS {}", quote(&trigger_name(table, event))))
        .join(";\n")
}

/// Drops the fence, unless a table still has its triggers.
pub(crate) async fn drop_if_unused(connection: &impl ConnectionTrait) -> Result<(), Error> {
    drop_unless_mentioned(connection, "tenantry_fence").await
}

/// Drops the session's table, unless a trigger reads it.
pub(crate) async fn drop_session_if_unused(connection: &impl ConnectionTrait) -> Result<(), Error> {
    drop_unless_mentioned(connection, "tenantry_session").await
}

async fn drop_unless_mentioned(connection: &impl ConnectionTrait, table: &str) -> Result<(), Error> {
    let doing = || Error::doing(format!("dropping {table}"));
    let sql = format!("SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND instr(sql, 'FROM {table} ') > 0");
    let row = connection.query_one_raw(Statement::from_string(DbBackend::Sqlite, sql)).await.map_err(doing())?;
    let mentions: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0)).map_err(doing())?;
    if mentions == 0 {
        connection.execute_unprepared(&format!("DROP TABLE IF EXISTS {table}")).await.map_err(doing())?;
    }
    Ok(())
}

fn trigger(table: &str, column: &str, event: &str) -> String {
    let field = quote(column);
    let key = |row: &str| {
        let value = format!("{row}.{field}");
        format!("CASE typeof({value}) WHEN 'blob' THEN {} ELSE CAST({value} AS TEXT) END", sqlite::uuid_text(&value))
    };
    let keys = match event {
        "insert" => key("NEW"),
        "delete" => key("OLD"),
        // Where an application lets a row change its tenant, neither side may be fenced.
        _ => format!("{}, {}", key("OLD"), key("NEW")),
    };
    format!(
        "CREATE TRIGGER {} BEFORE {} ON {} FOR EACH ROW WHEN {} BEGIN
    SELECT RAISE(ABORT, {}) WHERE EXISTS (SELECT 1 FROM tenantry_fence WHERE fenced = 1 AND tenant_id IN ({keys}));
END",
        quote(&trigger_name(table, event)),
        event.to_uppercase(),
        quote(table),
        sqlite::NOT_TRANSFER,
        literal(FENCED_SQLITE_MESSAGE),
    )
}

fn trigger_name(table: &str, event: &str) -> String {
    object_name(&["tenantry_fence", table, event])
}
