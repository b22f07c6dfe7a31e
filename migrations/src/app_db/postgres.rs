//! The application database's triggers in SQL for PostgreSQL.
//!
//! They fire for every client. The functions that write to another table run in their owner's name, so that a client that may
//! change a tenant cannot leave the audit row out by lacking a privilege.

use super::dictionary::{DATA_SOURCE_COLUMNS, PLACEMENT_COLUMNS, REACH_COLUMNS};

/// The trigger functions: name, SQL.
pub(super) fn functions() -> Vec<(&'static str, String)> {
    vec![
        ("app_db_placement_epoch", placement_epoch()),
        ("app_db_data_source_epoch", data_source_epoch()),
        ("app_db_audit_data_source", audit_data_source()),
        ("app_db_updated_at", UPDATED_AT.to_owned()),
        ("app_db_append_only", APPEND_ONLY.to_owned()),
    ]
}

/// The triggers: table, name, SQL. `updated_at` comes last in the alphabet, so that it sees what the others changed.
pub(super) fn triggers() -> Vec<(&'static str, &'static str, String)> {
    let row = |table: &'static str, name: &'static str, when: &str, function: &str| {
        let sql = format!(
            "CREATE TRIGGER {name} {when} ON public.{table} FOR EACH ROW EXECUTE FUNCTION tenantry.{function}()"
        );
        (table, name, sql)
    };
    let update = "BEFORE UPDATE";
    vec![
        row("tenants", "tenantry_placement_epoch", "BEFORE INSERT OR UPDATE", "app_db_placement_epoch"),
        row("tenants", "tenantry_updated_at", update, "app_db_updated_at"),
        row("tenants", "tenantry_audit_data_source", "AFTER INSERT OR UPDATE", "app_db_audit_data_source"),
        row("users", "tenantry_updated_at", update, "app_db_updated_at"),
        row("data_sources", "tenantry_updated_at", update, "app_db_updated_at"),
        row(
            "data_sources",
            "tenantry_data_source_epoch",
            "AFTER INSERT OR UPDATE OR DELETE",
            "app_db_data_source_epoch",
        ),
        row("audit_log", "tenantry_append_only", "BEFORE UPDATE OR DELETE", "app_db_append_only"),
        (
            "audit_log",
            "tenantry_append_only_truncate",
            "CREATE TRIGGER tenantry_append_only_truncate BEFORE TRUNCATE ON public.audit_log \
             FOR EACH STATEMENT EXECUTE FUNCTION tenantry.app_db_append_only()"
                .to_owned(),
        ),
    ]
}

fn function(name: &str, definer: bool, body: &str) -> String {
    let security = if definer { " SECURITY DEFINER" } else { "" };
    format!(
        "CREATE FUNCTION tenantry.{name}() RETURNS trigger LANGUAGE plpgsql{security}\n\
         SET search_path = pg_catalog, pg_temp AS $function$\n{body}\n$function$;\n\
         REVOKE ALL ON FUNCTION tenantry.{name}() FROM PUBLIC"
    )
}

/// A column's value for a comparison. `json`, which an adopted table may have, has no equality of its own.
fn comparable(row: &str, column: &str) -> String {
    let json = matches!(column, "connection_pool_config" | "settings");
    format!("{row}.{column}{}", if json { "::jsonb" } else { "" })
}

fn differs(column: &str) -> String {
    format!("{} IS DISTINCT FROM {}", comparable("NEW", column), comparable("OLD", column))
}

fn any_differs(columns: &[&str]) -> String {
    columns.iter().map(|column| differs(column)).collect::<Vec<_>>().join("\n       OR ")
}

fn placement_epoch() -> String {
    let changed = any_differs(&PLACEMENT_COLUMNS);
    let body = format!(
        r"DECLARE
    next_epoch bigint := 0;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        next_epoch := OLD.placement_epoch;
        IF {changed} THEN
            next_epoch := OLD.placement_epoch + 1;
        -- The trigger on data_sources asks for a step; a statement of its own cannot.
        ELSIF pg_trigger_depth() > 1 AND NEW.placement_epoch = OLD.placement_epoch + 1 THEN
            next_epoch := NEW.placement_epoch;
        END IF;
        IF NEW.placement_epoch IS NOT DISTINCT FROM OLD.placement_epoch THEN
            NEW.placement_epoch := next_epoch;
        END IF;
    END IF;
    IF NEW.placement_epoch IS DISTINCT FROM next_epoch THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TN005',
            MESSAGE = 'placement_epoch of tenants is kept by the database and cannot be set',
            TABLE = 'tenants', COLUMN = 'placement_epoch',
            HINT = 'Leave the column out of the statement.';
    END IF;
    RETURN NEW;
END"
    );
    function("app_db_placement_epoch", false, &body)
}

/// A data source without a row has the defaults, so a row that says the same changes nothing.
fn data_source_epoch() -> String {
    let changed = any_differs(&REACH_COLUMNS);
    let says_more = |row: &str| {
        format!(
            "{row}.kind <> 'shared' OR {row}.pooler_mode <> 'auto' OR {row}.direct_url IS NOT NULL \
             OR {row}.max_connections <> 10 OR {row}.settings::jsonb <> '{{}}'::jsonb"
        )
    };
    let bump = |row: &str| {
        format!(
            "UPDATE public.tenants AS t SET placement_epoch = t.placement_epoch + 1 WHERE t.data_source_url = {row}.url;"
        )
    };
    let body = format!(
        r"BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.url = OLD.url AND ({changed}) THEN
            {bump_new}
        END IF;
    END IF;
    IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND NEW.url IS DISTINCT FROM OLD.url) THEN
        IF {old_says_more} THEN
            {bump_old}
        END IF;
    END IF;
    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND NEW.url IS DISTINCT FROM OLD.url) THEN
        IF {new_says_more} THEN
            {bump_new}
        END IF;
    END IF;
    RETURN NULL;
END",
        bump_new = bump("NEW"),
        bump_old = bump("OLD"),
        old_says_more = says_more("OLD"),
        new_says_more = says_more("NEW"),
    );
    function("app_db_data_source_epoch", true, &body)
}

/// Never the value of a key, sealed or not: only that it changed.
fn audit_data_source() -> String {
    let changes: String = DATA_SOURCE_COLUMNS
        .iter()
        .map(|column| {
            // A new tenant's pool limits are its defaults or part of its creation, not a change of its data source.
            let inserted = if *column == "connection_pool_config" {
                String::new()
            } else {
                format!("(TG_OP = 'INSERT' AND NEW.{column} IS NOT NULL) OR ")
            };
            format!(
                "    IF {inserted}(TG_OP = 'UPDATE' AND {}) THEN\n        \
                 changed := changed || '{column}'::text;\n    END IF;\n",
                differs(column)
            )
        })
        .collect();
    let body = format!(
        r"DECLARE
    changed text[] := '{{}}';
    previous jsonb;
    detail jsonb;
    acting text := nullif(current_setting('app.current_user_id', true), '');
    acting_user uuid;
BEGIN
    IF TG_OP = 'INSERT' AND NEW.data_source_url IS NULL THEN
        RETURN NULL;
    END IF;
{changes}    IF cardinality(changed) = 0 THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        previous := jsonb_build_object('data_source_url', OLD.data_source_url, 'data_source_region', OLD.data_source_region);
    ELSE
        previous := jsonb_build_object('data_source_url', NULL, 'data_source_region', NULL);
    END IF;
    detail := jsonb_build_object(
        'previous', previous,
        'new', jsonb_build_object('data_source_url', NEW.data_source_url, 'data_source_region', NEW.data_source_region),
        'changed', to_jsonb(changed)
    );
    -- Whatever a client put there: an actor that cannot be recorded must not keep the change from being made, or recorded.
    IF acting ~ '^[0-9A-Fa-f]{{8}}(-[0-9A-Fa-f]{{4}}){{3}}-[0-9A-Fa-f]{{12}}$' THEN
        acting_user := acting::uuid;
    END IF;
    BEGIN
        INSERT INTO public.audit_log
            (id, tenant_id, user_id, action, entity_type, entity_id, changes, ip_address, user_agent, created_at)
        VALUES (gen_random_uuid(), NEW.id, acting_user, 'data_source_updated', 'tenant', NEW.id::text, detail,
                nullif(current_setting('app.client_ip', true), ''), nullif(current_setting('app.user_agent', true), ''),
                clock_timestamp());
    EXCEPTION WHEN foreign_key_violation THEN
        -- An adopted audit_log may refer to users, and the actor is none of them.
        INSERT INTO public.audit_log
            (id, tenant_id, user_id, action, entity_type, entity_id, changes, ip_address, user_agent, created_at)
        VALUES (gen_random_uuid(), NEW.id, NULL, 'data_source_updated', 'tenant', NEW.id::text, detail,
                nullif(current_setting('app.client_ip', true), ''), nullif(current_setting('app.user_agent', true), ''),
                clock_timestamp());
    END;
    RETURN NULL;
END"
    );
    function("app_db_audit_data_source", true, &body)
}

const UPDATED_AT: &str = r"CREATE FUNCTION tenantry.app_db_updated_at() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    NEW.updated_at := OLD.updated_at;
    IF NEW *<> OLD THEN
        NEW.updated_at := clock_timestamp();
    END IF;
    RETURN NEW;
END
$function$;
REVOKE ALL ON FUNCTION tenantry.app_db_updated_at() FROM PUBLIC";

const APPEND_ONLY: &str = r"CREATE FUNCTION tenantry.app_db_append_only() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'TN003',
        MESSAGE = format('%s of audit_log is refused: its rows are only ever added', TG_OP),
        TABLE = 'audit_log';
END
$function$;
REVOKE ALL ON FUNCTION tenantry.app_db_append_only() FROM PUBLIC";
