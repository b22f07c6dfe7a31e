//! The fence in SQL for PostgreSQL.

use crate::dialect::{object_name, quote};

/// For a trigger's WHEN: evaluated as whoever writes, not as the trigger function's owner. The setting is compared first,
/// so that an ordinary write pays for one comparison.
pub(crate) const NOT_TRANSFER: &str =
    "pg_catalog.current_setting('tenantry.transfer', true) IS DISTINCT FROM 'on' OR NOT tenantry.is_service()";

/// The schema and what every trigger of this crate needs.
pub(crate) const SCHEMA: &str = r"
CREATE SCHEMA IF NOT EXISTS tenantry;
REVOKE ALL ON SCHEMA tenantry FROM PUBLIC;
COMMENT ON SCHEMA tenantry IS 'Tenantry: its owner is the service role';

-- Whether the session belongs to the service role. A cascade runs as the tables' owner, so the current role alone proves
-- nothing; a role that was set is asked as well. Not in SQL: a trigger's WHEN is planned for every statement, and the planner
-- would take this function's body apart each time only to find that it cannot be inlined.
CREATE OR REPLACE FUNCTION tenantry.is_service() RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RETURN (
        SELECT pg_has_role(current_user, n.nspowner, 'MEMBER')
           AND pg_has_role(session_user, n.nspowner, 'MEMBER')
           AND CASE current_setting('role')
               WHEN 'none' THEN true
               ELSE pg_has_role(current_setting('role')::name, n.nspowner, 'MEMBER')
               END
          FROM pg_namespace AS n
         WHERE n.nspname = 'tenantry'
    );
END
$function$;
GRANT EXECUTE ON FUNCTION tenantry.is_service() TO PUBLIC;
";

const FENCE: &str = r#"
CREATE TABLE IF NOT EXISTS tenantry.fence (
    tenant_id  text                     NOT NULL CONSTRAINT fence_pkey PRIMARY KEY,
    fenced     boolean                  NOT NULL,
    reason     text,
    changed_at timestamp with time zone NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
REVOKE ALL ON tenantry.fence FROM PUBLIC;

-- The canonical text of a tenant: a uuid in lower case, anything else as it is.
CREATE OR REPLACE FUNCTION tenantry.fence_key(tenant text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN pg_catalog.length(tenant) = 36 AND tenant <> pg_catalog.lower(tenant COLLATE pg_catalog."C")
         AND tenant ~ '^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$'
    THEN pg_catalog.lower(tenant COLLATE pg_catalog."C")
    ELSE tenant
END;

-- Called by the triggers, in their owner's name. VOLATILE: in READ COMMITTED each statement sees what was committed
-- before it began, hence after the lock was granted.
CREATE OR REPLACE FUNCTION tenantry.check_fence(tenant text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    held_fenced boolean;
    held_reason text;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('tenantry.fence:' || tenant, 0));
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
        -- An old snapshot would not see a fence raised meanwhile. Locking the row fails when it is newer than the snapshot.
        INSERT INTO tenantry.fence (tenant_id, fenced) VALUES (tenant, false) ON CONFLICT (tenant_id) DO NOTHING;
        SELECT f.fenced, f.reason INTO held_fenced, held_reason FROM tenantry.fence AS f WHERE f.tenant_id = tenant FOR SHARE;
    ELSE
        SELECT f.fenced, f.reason INTO held_fenced, held_reason FROM tenantry.fence AS f WHERE f.tenant_id = tenant;
    END IF;
    IF held_fenced THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TN001',
            MESSAGE = format('tenant %s is fenced: %s', tenant, coalesce(held_reason, 'its rows are being moved or have moved')),
            HINT = 'Ask the application database again where the tenant is, and retry there.';
    END IF;
END
$function$;

CREATE OR REPLACE FUNCTION tenantry.raise_fence(tenant text, reason text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    key text := tenantry.fence_key(tenant);
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('tenantry.fence', 0));
    PERFORM pg_advisory_xact_lock(hashtextextended('tenantry.fence:' || key, 0));
    INSERT INTO tenantry.fence AS f (tenant_id, fenced, reason, changed_at)
    VALUES (key, true, raise_fence.reason, clock_timestamp())
    ON CONFLICT (tenant_id) DO UPDATE SET fenced = true, reason = excluded.reason, changed_at = excluded.changed_at;
END
$function$;

-- The row stays: a later writer with an old snapshot has something to lock.
CREATE OR REPLACE FUNCTION tenantry.lower_fence(tenant text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    key text := tenantry.fence_key(tenant);
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('tenantry.fence:' || key, 0));
    UPDATE tenantry.fence AS f SET fenced = false, reason = NULL, changed_at = clock_timestamp()
     WHERE f.tenant_id = key AND f.fenced;
END
$function$;

CREATE OR REPLACE FUNCTION tenantry.is_fenced(tenant text) RETURNS boolean LANGUAGE sql STABLE
RETURN EXISTS (SELECT FROM tenantry.fence AS f WHERE f.tenant_id = tenantry.fence_key(tenant) AND f.fenced);

-- TRUNCATE fires no row trigger. It is refused while any tenant of the database is fenced; a raise waits for it and it
-- for a raise. With the argument 'always' it is refused outright: it would also pass by the write log. A second argument
-- 'unlogged' says that the table is left out of the log on purpose.
CREATE OR REPLACE FUNCTION tenantry.check_truncate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF TG_NARGS > 0 AND TG_ARGV[0] = 'always' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TN004',
            MESSAGE = format('TRUNCATE of tenant table %I is refused: it would remove every tenant''s rows unlogged', TG_TABLE_NAME),
            HINT = 'Use DELETE with the tenant''s id.';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('tenantry.fence', 0));
    IF EXISTS (SELECT FROM tenantry.fence AS f WHERE f.fenced) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TN001',
            MESSAGE = format('a tenant is fenced, so TRUNCATE of %I is refused', TG_TABLE_NAME),
            HINT = 'Wait until the transfer has ended, or use DELETE with another tenant''s id.';
    END IF;
    RETURN NULL;
END
$function$;

REVOKE ALL ON FUNCTION tenantry.fence_key(text), tenantry.check_fence(text), tenantry.raise_fence(text, text),
    tenantry.lower_fence(text), tenantry.is_fenced(text), tenantry.check_truncate() FROM PUBLIC
"#;

pub(crate) fn install() -> String {
    format!("{SCHEMA}\n{FENCE}")
}

/// The trigger function for tables with this tenant column: plpgsql reads a field by its literal name only, and going
/// through JSON instead would convert every row of every write.
pub(crate) fn check_function(column: &str) -> String {
    let (function, field) = (function_name(column), quote(column));
    format!(
        r"CREATE OR REPLACE FUNCTION tenantry.{function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    key text;
    locked text;
BEGIN
    IF TG_OP <> 'DELETE' AND NEW.{field} IS NOT NULL THEN
        -- What check_fence would do for nearly every write, without calling it: a call costs as much as the check.
        key := tenantry.fence_key(NEW.{field}::text);
        locked := pg_advisory_xact_lock_shared(hashtextextended('tenantry.fence:' || key, 0))::text;
        IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable')
           OR EXISTS (SELECT FROM tenantry.fence AS f WHERE f.tenant_id = key AND f.fenced) THEN
            PERFORM tenantry.check_fence(tenantry.fence_key(NEW.{field}::text));
        END IF;
    END IF;
    IF TG_OP = 'DELETE' THEN
        IF OLD.{field} IS NOT NULL THEN
            PERFORM tenantry.check_fence(tenantry.fence_key(OLD.{field}::text));
        END IF;
        RETURN OLD;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        IF OLD.{field} IS NOT NULL AND OLD.{field}::text IS DISTINCT FROM NEW.{field}::text THEN
            PERFORM tenantry.check_fence(tenantry.fence_key(OLD.{field}::text));
        END IF;
    END IF;
    RETURN NEW;
END
$function$;
REVOKE ALL ON FUNCTION tenantry.{function}() FROM PUBLIC"
    )
}

pub(crate) fn attach(schema: &str, table: &str, column: &str) -> String {
    attach_with(schema, table, column, "")
}

/// As [`attach`], and TRUNCATE is refused outright. What is left out of the write log on purpose is marked as such: without its
/// trigger it would look like a table that lost it.
pub(crate) fn attach_own(table: &str, column: &str, logged: bool) -> String {
    attach_with("public", table, column, if logged { "'always'" } else { "'always', 'unlogged'" })
}

fn attach_with(schema: &str, table: &str, column: &str, truncate: &str) -> String {
    let (target, function) = (format!("{}.{}", quote(schema), quote(table)), function_name(column));
    format!(
        "CREATE OR REPLACE TRIGGER tenantry_fence BEFORE INSERT OR UPDATE OR DELETE ON {target}
FOR EACH ROW WHEN ({NOT_TRANSFER}) EXECUTE FUNCTION tenantry.{function}();
CREATE OR REPLACE TRIGGER tenantry_fence_truncate BEFORE TRUNCATE ON {target}
FOR EACH STATEMENT WHEN ({NOT_TRANSFER}) EXECUTE FUNCTION tenantry.check_truncate({truncate})"
    )
}

pub(crate) fn detach(schema: &str, table: &str) -> String {
    let target = format!("{}.{}", quote(schema), quote(table));
    format!(
        "DROP TRIGGER IF EXISTS tenantry_fence ON {target};\nDROP TRIGGER IF EXISTS tenantry_fence_truncate ON {target}"
    )
}

/// Drops the fence, unless a table still has its trigger.
pub(crate) const UNINSTALL: &str = r"
DO $block$
DECLARE
    function_name text;
BEGIN
    IF EXISTS (
        SELECT FROM pg_catalog.pg_trigger AS t
          JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
          JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
         WHERE n.nspname = 'tenantry' AND t.tgname IN ('tenantry_fence', 'tenantry_fence_truncate')
    ) THEN
        RETURN;
    END IF;
    FOR function_name IN
        SELECT p.oid::pg_catalog.regprocedure::text
          FROM pg_catalog.pg_proc AS p
          JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
         WHERE n.nspname = 'tenantry'
           AND (p.proname LIKE 'check\_fence%' OR p.proname IN ('raise_fence', 'lower_fence', 'is_fenced', 'check_truncate'))
    LOOP
        EXECUTE 'DROP FUNCTION ' || function_name;
    END LOOP;
    DROP FUNCTION IF EXISTS tenantry.fence_key(text);
    DROP TABLE IF EXISTS tenantry.fence;
END
$block$";

fn function_name(column: &str) -> String {
    quote(&object_name(&["check_fence", column]))
}

/// Drops the support schema once nothing of either migrator is left in it.
pub(crate) const DROP_SCHEMA_IF_EMPTY: &str = r"
DO $block$
DECLARE
    schema_id oid := pg_catalog.to_regnamespace('tenantry');
BEGIN
    IF schema_id IS NULL
       OR EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.relnamespace = schema_id)
       OR EXISTS (SELECT FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = schema_id AND p.proname <> 'is_service')
    THEN
        RETURN;
    END IF;
    DROP FUNCTION IF EXISTS tenantry.is_service();
    DROP SCHEMA tenantry;
END
$block$";
