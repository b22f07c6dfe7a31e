//! A tenant table in SQL for PostgreSQL. Every name is qualified: where `search_path` points does not matter.

use super::definition::column_sql;
use super::{OnDelete, TenantTable};
use crate::dialect::{Engine, literal, object_name, quote, quote_list};
use crate::fence;
use crate::tenant_data::Installation;
use crate::write_log;

/// The trigger functions that tenant tables share.
pub(crate) const FUNCTIONS: &str = r"
-- updated_at is the database's: a value given by hand is ignored, and an update that changes nothing leaves it alone. Every
-- name is qualified instead of the function setting a search_path, which would cost an update more than the function does.
CREATE OR REPLACE FUNCTION tenantry.keep_updated_at() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    NEW.updated_at := OLD.updated_at;
    IF NEW OPERATOR(pg_catalog.*<>) OLD THEN
        NEW.updated_at := pg_catalog.clock_timestamp();
    END IF;
    RETURN NEW;
END
$function$;

CREATE OR REPLACE FUNCTION tenantry.keep_tenant() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'TN002',
        MESSAGE = format('a row of %I cannot change its tenant', TG_TABLE_NAME),
        COLUMN = TG_ARGV[0], TABLE = TG_TABLE_NAME, SCHEMA = TG_TABLE_SCHEMA,
        HINT = 'Insert a new row for the other tenant and delete this one.';
END
$function$;

REVOKE ALL ON FUNCTION tenantry.keep_updated_at(), tenantry.keep_tenant() FROM PUBLIC";

/// Drops [`FUNCTIONS`].
pub(crate) const DROP_FUNCTIONS: &str = "DROP FUNCTION tenantry.keep_updated_at(), tenantry.keep_tenant()";

pub(super) fn create(table: &TenantTable, installation: &Installation) -> Vec<String> {
    let target = target(table);
    let mut statements = vec![create_table(table, installation)];
    for (name, columns) in table.all_indexes(Engine::Postgres, installation) {
        statements.push(format!("CREATE INDEX {} ON {target} ({columns})", quote(&name)));
    }
    statements.extend(isolation(table, installation));
    statements.extend(triggers(table, installation));
    statements
}

pub(super) fn drop(table: &TenantTable) -> Vec<String> {
    vec![format!("DROP TABLE {}", target(table))]
}

fn create_table(table: &TenantTable, installation: &Installation) -> String {
    let name = table.name.as_str();
    let tenant = quote(&installation.tenant_column);
    let constraint = |parts: &[&str], body: String| format!("CONSTRAINT {} {body}", quote(&object_name(parts)));

    let mut lines: Vec<String> = table
        .all_columns(installation)
        .iter()
        .map(|column| {
            let sql = column_sql(column, Engine::Postgres);
            if column.get_column_name() == "id" { format!("{sql} DEFAULT pg_catalog.gen_random_uuid()") } else { sql }
        })
        .collect();
    lines.push(constraint(&[name, "pkey"], format!("PRIMARY KEY ({tenant}, id)")));
    for columns in &table.uniques {
        let columns_sql = with_tenant(columns, installation);
        lines.push(format!("CONSTRAINT {} UNIQUE ({columns_sql})", quote(&table.unique_name(columns))));
    }
    for (subject, condition) in table.conditions(Engine::Postgres) {
        lines.push(constraint(&[name, &subject, "check"], format!("CHECK ({condition})")));
    }
    if installation.tenant_type.is_text() {
        // An empty `app.tenant_id` is what a session has after its transaction; it must never be somebody's id.
        lines.push(constraint(&[name, &installation.tenant_column, "check"], format!("CHECK ({tenant} <> '')")));
    }
    for reference in &table.references {
        let column = quote(&reference.column);
        let action = match reference.on_delete {
            OnDelete::NoAction => String::new(),
            OnDelete::Cascade => " ON DELETE CASCADE".to_owned(),
            OnDelete::SetNull => format!(" ON DELETE SET NULL ({column})"),
        };
        lines.push(constraint(
            &[name, &reference.column, "fkey"],
            format!(
                "FOREIGN KEY ({tenant}, {column}) REFERENCES public.{} ({tenant}, id){action}",
                quote(&reference.parent)
            ),
        ));
    }
    format!("CREATE TABLE {} (\n    {}\n)", target(table), lines.join(",\n    "))
}

/// Policies and grants: row-level security forced, exactly two policies, and nothing for anyone else.
fn isolation(table: &TenantTable, installation: &Installation) -> Vec<String> {
    let target = target(table);
    let (restricted, service) = (quote(&installation.restricted_role), quote(&installation.service_role));
    let condition = installation.policy_condition();
    let privileges = if table.read_only { "SELECT" } else { "SELECT, INSERT, UPDATE, DELETE" };
    vec![
        format!("ALTER TABLE {target} ENABLE ROW LEVEL SECURITY"),
        format!("ALTER TABLE {target} FORCE ROW LEVEL SECURITY"),
        format!(
            "CREATE POLICY tenantry_restricted ON {target} AS PERMISSIVE FOR ALL TO {restricted} \
             USING ({condition}) WITH CHECK ({condition})"
        ),
        format!(
            "CREATE POLICY tenantry_service ON {target} AS PERMISSIVE FOR ALL TO {service} \
             USING (true) WITH CHECK (true)"
        ),
        format!("REVOKE ALL ON {target} FROM PUBLIC"),
        format!("GRANT {privileges} ON {target} TO {restricted}"),
    ]
}

/// Names in the order in which triggers of one event fire: the fence, the tenant, then the clock.
fn triggers(table: &TenantTable, installation: &Installation) -> Vec<String> {
    let target = target(table);
    let tenant = quote(&installation.tenant_column);
    let not_transfer = fence::postgres::NOT_TRANSFER;
    let mut statements = vec![
        fence::postgres::attach_own(&table.name, &installation.tenant_column, table.logged),
        format!(
            "CREATE TRIGGER tenantry_tenant BEFORE UPDATE ON {target} FOR EACH ROW \
             WHEN (OLD.{tenant} IS DISTINCT FROM NEW.{tenant} AND ({not_transfer})) \
             EXECUTE FUNCTION tenantry.keep_tenant({})",
            literal(&installation.tenant_column)
        ),
    ];
    if table.has_updated_at() {
        statements.push(format!(
            "CREATE TRIGGER tenantry_updated_at BEFORE UPDATE ON {target} FOR EACH ROW WHEN ({not_transfer}) \
             EXECUTE FUNCTION tenantry.keep_updated_at()"
        ));
    }
    if table.logged {
        statements.push(write_log::postgres_trigger(&target));
    }
    statements
}

fn with_tenant(columns: &[String], installation: &Installation) -> String {
    quote_list(std::iter::once(installation.tenant_column.as_str()).chain(columns.iter().map(String::as_str)))
}

fn target(table: &TenantTable) -> String {
    format!("public.{}", quote(&table.name))
}
