//! The application database's triggers in SQL for SQLite.
//!
//! The same promises as on PostgreSQL, with two differences: the acting user comes from `tenantry_session`, and what an adopted
//! table has no constraint for, because SQLite cannot add one, is refused by a trigger.

use super::dictionary::{Column, DATA_SOURCE_COLUMNS, PLACEMENT_COLUMNS, REACH_COLUMNS, Table};
use super::inspect::Existing;
use crate::dialect::{Engine, literal, quote, sqlite};

/// A trigger's name and SQL.
pub(super) type Trigger = (String, String);

/// The row in `tenantry_session` that lets the triggers' own step of the epoch pass.
const EPOCH_STEP: &str = "tenantry.epoch_step";

/// The triggers of one table, whether it was created or adopted.
pub(super) fn triggers(table: &Table, columns: &[String]) -> Vec<Trigger> {
    let mut triggers = Vec::new();
    match table.name {
        "tenants" => triggers.extend(placement()),
        "data_sources" => triggers.extend(data_source()),
        "audit_log" => {
            for event in ["UPDATE", "DELETE"] {
                let body = abort(&format!("tenantry: {event} of audit_log is refused: its rows are only ever added"));
                // In an adopted table the clock is filled in by a trigger, right after the insert.
                let when = if event == "UPDATE" { "OLD.created_at IS NOT NULL" } else { "" };
                triggers.push(trigger(
                    "audit_log",
                    &format!("append_only_{event}"),
                    &format!("BEFORE {event}"),
                    when,
                    &body,
                ));
            }
        }
        _ => {}
    }
    if columns.iter().any(|column| column == "updated_at") {
        let changed = any_differs(columns.iter().map(String::as_str).filter(|column| *column != "updated_at"));
        let body =
            format!("UPDATE {} SET updated_at = {} WHERE {key} = NEW.{key};", table.name, sqlite::NOW, key = table.key);
        triggers.push(trigger(table.name, "updated_at", "AFTER UPDATE", &changed, &body));
    }
    triggers
}

/// What stands in for the constraints that cannot be added to an existing table, and for its missing defaults.
pub(super) fn adopted_triggers(table: &Table, existing: &Existing) -> Vec<Trigger> {
    let mut triggers = Vec::new();
    let filled: Vec<&Column> = table.columns.iter().filter(|column| is_filled(column, existing)).collect();
    for event in ["INSERT", "UPDATE"] {
        let mut refusals = Vec::new();
        for column in &table.columns {
            let value = format!("NEW.{}", quote(column.name));
            let filled_later = event == "INSERT" && filled.iter().any(|filled| filled.name == column.name);
            if !column.nullable && !filled_later {
                let message = format!("tenantry: NOT NULL constraint failed: {}.{}", table.name, column.name);
                refusals.push(refuse(&message, &format!("{value} IS NULL")));
            }
            let message = format!("tenantry: CHECK constraint failed: {}_{}_check", table.name, column.name);
            refusals.push(refuse(&message, &format!("NOT ({})", column.shape.check_adopted(&value))));
        }
        for rule in &table.rules {
            let message = format!("tenantry: CHECK constraint failed: {}", rule.name);
            refusals.push(refuse(&message, &format!("NOT ({})", rule.sql(Engine::Sqlite).replace("{row}", "NEW."))));
        }
        if table.name == "users" && existing.tenant_references.is_empty() {
            refusals.push(refuse(
                "tenantry: FOREIGN KEY constraint failed: users.tenant_id",
                "NOT EXISTS (SELECT 1 FROM tenants WHERE id = NEW.tenant_id)",
            ));
        }
        triggers.push(trigger(
            table.name,
            &format!("rules_{event}"),
            &format!("BEFORE {event}"),
            "",
            &refusals.join("\n    "),
        ));
    }
    if table.name == "users" && existing.tenant_references.is_empty() {
        let body = "DELETE FROM users WHERE tenant_id = OLD.id;";
        triggers.push(trigger("tenants", "delete_users", "AFTER DELETE", "", body));
    }
    if !filled.is_empty() {
        let columns = filled
            .iter()
            .filter_map(|column| {
                let default = column.default.sql(Engine::Sqlite)?;
                Some(format!("{0} = coalesce({0}, {default})", quote(column.name)))
            })
            .collect::<Vec<_>>()
            .join(", ");
        let missing =
            filled.iter().map(|column| format!("NEW.{} IS NULL", quote(column.name))).collect::<Vec<_>>().join(" OR ");
        let body = format!("UPDATE {} SET {columns} WHERE rowid = NEW.rowid;", table.name);
        triggers.push(trigger(table.name, "defaults", "AFTER INSERT", &missing, &body));
    }
    triggers
}

/// Whether an insert that leaves the column out gets its default from a trigger: an existing column has none, and a new one
/// cannot be added with a clock or a random value as its default.
fn is_filled(column: &Column, existing: &Existing) -> bool {
    let has_default = column.default.sql(Engine::Sqlite).is_some();
    match existing.column(column.name) {
        Some(found) => has_default && found.nullable && !found.has_default,
        None => has_default && !column.default.is_constant(),
    }
}

fn placement() -> Vec<Trigger> {
    let refusal = abort("tenantry: placement_epoch is kept by the database and cannot be set");
    let step = format!("EXISTS (SELECT 1 FROM tenantry_session WHERE name = '{EPOCH_STEP}')");
    let changed = any_differs(PLACEMENT_COLUMNS);
    let audited = any_differs(DATA_SOURCE_COLUMNS);
    vec![
        trigger("tenants", "epoch_insert", "BEFORE INSERT", "NEW.placement_epoch IS NOT 0", &refusal),
        trigger(
            "tenants",
            "epoch_guard",
            "BEFORE UPDATE OF placement_epoch",
            &format!("NEW.placement_epoch IS NOT OLD.placement_epoch AND NOT {step}"),
            &refusal,
        ),
        trigger("tenants", "placement_epoch", "AFTER UPDATE", &changed, &step_epoch("id = NEW.id")),
        trigger("tenants", "audit_insert", "AFTER INSERT", "NEW.data_source_url IS NOT NULL", &audit(false)),
        trigger("tenants", "audit_update", "AFTER UPDATE", &audited, &audit(true)),
    ]
}

fn data_source() -> Vec<Trigger> {
    let changed = any_differs(REACH_COLUMNS);
    let says_more = |row: &str| {
        format!(
            "({row}.kind IS NOT 'shared' OR {row}.pooler_mode IS NOT 'auto' OR {row}.direct_url IS NOT NULL \
             OR {row}.max_connections IS NOT 10 OR {row}.settings IS NOT '{{}}')"
        )
    };
    let (old, new) = (step_epoch("data_source_url = OLD.url"), step_epoch("data_source_url = NEW.url"));
    let moved = "NEW.url IS NOT OLD.url";
    vec![
        trigger("data_sources", "epoch_insert", "AFTER INSERT", &says_more("NEW"), &new),
        trigger("data_sources", "epoch_delete", "AFTER DELETE", &says_more("OLD"), &old),
        trigger("data_sources", "epoch_update", "AFTER UPDATE", &format!("NEW.url IS OLD.url AND ({changed})"), &new),
        trigger("data_sources", "epoch_left", "AFTER UPDATE", &format!("{moved} AND {}", says_more("OLD")), &old),
        trigger("data_sources", "epoch_reached", "AFTER UPDATE", &format!("{moved} AND {}", says_more("NEW")), &new),
    ]
}

/// SQLite's BEFORE triggers cannot change the row, so the step is an update of its own, which the guard lets pass by a mark.
fn step_epoch(tenants: &str) -> String {
    format!(
        "DELETE FROM tenantry_session WHERE name = '{EPOCH_STEP}';
    INSERT INTO tenantry_session (name, value) VALUES ('{EPOCH_STEP}', 'on');
    UPDATE tenants SET placement_epoch = placement_epoch + 1 WHERE {tenants};
    DELETE FROM tenantry_session WHERE name = '{EPOCH_STEP}';"
    )
}

fn audit(update: bool) -> String {
    let changed = DATA_SOURCE_COLUMNS
        .map(|column| {
            let condition = match (update, column) {
                (true, _) => format!("NEW.{column} IS NOT OLD.{column}"),
                // A new tenant's pool limits are its defaults or part of its creation, not a change of its data source.
                (false, "connection_pool_config") => "false".to_owned(),
                (false, _) => format!("NEW.{column} IS NOT NULL"),
            };
            format!("CASE WHEN {condition} THEN ',\"{column}\"' ELSE '' END")
        })
        .join(" || ");
    let previous = if update {
        "OLD.data_source_url, 'data_source_region', OLD.data_source_region"
    } else {
        "NULL, 'data_source_region', NULL"
    };
    format!(
        "INSERT INTO audit_log (id, tenant_id, user_id, action, entity_type, entity_id, changes, ip_address, user_agent, created_at)
    VALUES (
        {id}, NEW.id, {user}, 'data_source_updated', 'tenant', {entity},
        json_object(
            'previous', json_object('data_source_url', {previous}),
            'new', json_object('data_source_url', NEW.data_source_url, 'data_source_region', NEW.data_source_region),
            'changed', json('[' || substr({changed}, 2) || ']')
        ),
        {ip}, {agent}, {now}
    );",
        id = sqlite::RANDOM_UUID,
        user = sqlite::uuid_blob(&sqlite::setting("app.current_user_id")),
        entity = sqlite::uuid_text("NEW.id"),
        ip = sqlite::setting("app.client_ip"),
        agent = sqlite::setting("app.user_agent"),
        now = sqlite::NOW,
    )
}

fn any_differs<'a>(columns: impl IntoIterator<Item = &'a str>) -> String {
    let differs: Vec<String> =
        columns.into_iter().map(|column| format!("NEW.{0} IS NOT OLD.{0}", quote(column))).collect();
    format!("({})", differs.join(" OR "))
}

fn refuse(message: &str, condition: &str) -> String {
    format!("SELECT RAISE(ABORT, {}) WHERE {condition};", literal(message))
}

fn abort(message: &str) -> String {
    format!("SELECT RAISE(ABORT, {});", literal(message))
}

fn trigger(table: &str, purpose: &str, event: &str, when: &str, body: &str) -> Trigger {
    let name = format!("tenantry_{table}_{}", purpose.to_lowercase());
    let when = if when.is_empty() { String::new() } else { format!(" WHEN {when}") };
    let sql = format!("CREATE TRIGGER {} {event} ON {table} FOR EACH ROW{when} BEGIN\n    {body}\nEND", quote(&name));
    (name, sql)
}
