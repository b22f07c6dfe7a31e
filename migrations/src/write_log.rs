//! The write log: a before/after row for every write to a tenant table, in the same transaction, by trigger.
//!
//! Rows come from the triggers alone: on PostgreSQL the restricted role may read the log and not write it, and the trigger
//! function runs in its owner's name. A change of nothing but `updated_at` leaves no entry, nor does a transfer, which
//! carries the entries themselves. It knows no business table.

use sea_orm_migration::schema::{json_binary_null, text, text_null, timestamp_with_time_zone};
use sea_orm_migration::sea_query::Expr;

use crate::TenantTable;
use crate::dialect::{literal, object_name, quote, sqlite};
use crate::fence;
use crate::shape::{Shape, json_object};
use crate::tables::WRITE_LOG;
use crate::tenant_data::Installation;

/// The log's own table. It is fenced like any tenant table and not logged.
pub(crate) fn table() -> TenantTable {
    TenantTable::new(WRITE_LOG)
        .column(text("table_name"))
        .column(text("row_id"))
        .column(text("operation"))
        .column(json_binary_null("before"))
        .column(json_binary_null("after"))
        .column(text_null("actor"))
        .column(text_null("client_ip"))
        .column(timestamp_with_time_zone("logged_at").default(Expr::current_timestamp()).take())
        .one_of("operation", ["insert", "update", "delete"])
        .index_newest_first(["logged_at", "id"])
        .index(["table_name", "row_id"])
        .without_timestamps()
        .without_write_log()
        .read_only_for_restricted()
}

/// PostgreSQL: the trigger function that tenant tables share. TimeZone is pinned because `to_jsonb` spells timestamps in it.
pub(crate) fn postgres_function(installation: &Installation) -> String {
    let tenant = quote(&installation.tenant_column);
    format!(
        r"CREATE OR REPLACE FUNCTION tenantry.write_log() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' AS $function$
DECLARE
    row_before jsonb;
    row_after jsonb;
    acting text := nullif(current_setting('app.current_user_id', true), '');
    client text := nullif(current_setting('app.client_ip', true), '');
BEGIN
    IF TG_OP <> 'INSERT' THEN
        row_before := to_jsonb(OLD);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        row_after := to_jsonb(NEW);
    END IF;
    IF TG_OP = 'UPDATE' AND row_before - 'updated_at' = row_after - 'updated_at' THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' THEN
        INSERT INTO public.write_log ({tenant}, table_name, row_id, operation, before, after, actor, client_ip, logged_at)
        VALUES (OLD.{tenant}, TG_TABLE_NAME, OLD.id::text, 'delete', row_before, NULL, acting, client, clock_timestamp());
    ELSE
        INSERT INTO public.write_log ({tenant}, table_name, row_id, operation, before, after, actor, client_ip, logged_at)
        VALUES (NEW.{tenant}, TG_TABLE_NAME, NEW.id::text, CASE TG_OP WHEN 'INSERT' THEN 'insert' ELSE 'update' END, row_before, row_after, acting, client, clock_timestamp());
    END IF;
    RETURN NULL;
END
$function$;

REVOKE ALL ON FUNCTION tenantry.write_log() FROM PUBLIC"
    )
}

/// Drops what [`postgres_function`] created.
pub(crate) const POSTGRES_DROP: &str = "DROP FUNCTION tenantry.write_log()";

/// PostgreSQL: the trigger of one table. WHEN asks whoever writes; inside the function it would be the owner.
pub(crate) fn postgres_trigger(target: &str) -> String {
    format!(
        "CREATE TRIGGER tenantry_write_log AFTER INSERT OR UPDATE OR DELETE ON {target} FOR EACH ROW WHEN ({}) \
         EXECUTE FUNCTION tenantry.write_log()",
        fence::postgres::NOT_TRANSFER
    )
}

/// SQLite: the triggers of one table. One trigger sets `updated_at` and logs the update, because the order of two is not
/// defined; its own update changes nothing else, so that it does not fire again even where triggers recurse.
pub(crate) fn sqlite_triggers(
    table: &str,
    tenant_column: &str,
    shapes: &[(String, Shape)],
    updated_at: bool,
    logged: bool,
) -> Vec<String> {
    let (target, tenant) = (quote(table), quote(tenant_column));
    let object = |row: &str, updated_at: Option<&str>| {
        json_object(shapes.iter().map(|(column, shape)| {
            let value = format!("{row}.{}", quote(column));
            let value = updated_at.filter(|_| column == "updated_at").unwrap_or(&value);
            (column.as_str(), shape.json(value))
        }))
    };
    let entry = |operation: &str, row: &str, before: &str, after: &str| {
        format!(
            "    INSERT INTO {WRITE_LOG} ({tenant}, table_name, row_id, operation, before, after, actor, client_ip, logged_at)
    VALUES ({row}.{tenant}, {}, {}, '{operation}', {before}, {after}, {}, {}, {});\n",
            literal(table),
            sqlite::uuid_text(&format!("{row}.id")),
            sqlite::setting("app.current_user_id"),
            sqlite::setting("app.client_ip"),
            sqlite::NOW,
        )
    };
    let trigger = |event: &str, when: &str, body: &str| {
        format!(
            "CREATE TRIGGER {} AFTER {event} ON {target} FOR EACH ROW WHEN {}{when} BEGIN\n{body}END",
            quote(&object_name(&["tenantry_write", table, &event.to_lowercase()])),
            sqlite::NOT_TRANSFER,
        )
    };

    let mut statements = Vec::new();
    if logged {
        statements.push(trigger("INSERT", "", &entry("insert", "NEW", "NULL", &object("NEW", None))));
        statements.push(trigger("DELETE", "", &entry("delete", "OLD", &object("OLD", None), "NULL")));
    }
    if updated_at || logged {
        let changed = shapes
            .iter()
            .filter(|(column, _)| !(updated_at && column == "updated_at"))
            .map(|(column, _)| format!("NEW.{0} IS NOT OLD.{0}", quote(column)))
            .collect::<Vec<_>>()
            .join(" OR ");
        let mut body = String::new();
        if updated_at {
            body.push_str(&format!(
                "    UPDATE {target} SET updated_at = {} WHERE {tenant} = NEW.{tenant} AND id = NEW.id;\n",
                sqlite::NOW
            ));
        }
        if logged {
            let after = object("NEW", updated_at.then_some(sqlite::NOW));
            body.push_str(&entry("update", "NEW", &object("OLD", None), &after));
        }
        statements.push(trigger("UPDATE", &format!(" AND ({changed})"), &body));
    }
    statements
}
