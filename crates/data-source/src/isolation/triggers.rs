//! The triggers of the fence and of the write log on every tenant table, and the functions that they call.
//!
//! A table is fenced by `tenantry_fence` and `tenantry_fence_truncate`; `tenantry_write_log` logs its writes. A table that is
//! left out of the log on purpose says so in an argument of its trigger on TRUNCATE, where its migration put it; the write log
//! itself and the routing probe are never logged.

use tenantry_connection::Error;

use super::{Catalog, IsolationReport};

impl IsolationReport {
    pub(super) async fn measure_triggers(&mut self, catalog: &mut Catalog<'_>) -> Result<(), Error> {
        if self.tables.is_empty() {
            return Ok(());
        }
        self.find_all(catalog, NO_SCHEMA).await?;
        // A trigger cannot be made again before its function is there.
        self.find_all(catalog, &format!("{FUNCTIONS}{BROKEN_FUNCTIONS}")).await?;
        self.find_all(catalog, &format!("{FUNCTIONS}{TRIGGERS}")).await
    }
}

const NO_SCHEMA: &str = "
SELECT 'schema tenantry', 'it is missing: nothing fences a tenant''s writes, and nothing logs them', 'run `migrate up --data-sources`'
FROM asked WHERE asked.schema IS NULL";

/// The functions: the arguments, whether it runs as its owner, and a part of its source without which it does not do its work.
/// The function of the fence is made for a tenant column and read by its source: its name may have been too long.
const FUNCTIONS: &str = "
, expected (kind, name, arguments, definer, fragment) AS (
  SELECT x.* FROM asked CROSS JOIN LATERAL (VALUES
    ('fence', 'check_fence_' || asked.col, '', true, 'PERFORM tenantry.check_fence(tenantry.fence_key(NEW.\"' || replace(asked.col, '\"', '\"\"') || '\"::text))'),
    ('check', 'check_fence', 'tenant text', false, 'TN001'),
    ('truncate', 'check_truncate', '', true, 'TN001'),
    ('log', 'write_log', '', true, 'INSERT INTO public.write_log'),
    ('service', 'is_service', '', false, 'pg_has_role(session_user')
  ) AS x WHERE asked.schema IS NOT NULL
), found AS (
  SELECT e.*, p.oid, p.proowner, p.prosecdef, p.proconfig, p.target, p.does_its_work
  FROM asked CROSS JOIN expected e
  LEFT JOIN LATERAL (
    SELECT p.oid, p.proowner, p.prosecdef, p.proconfig, format('tenantry.%I(%s)', p.proname, pg_get_function_identity_arguments(p.oid)) AS target,
           strpos(coalesce(pg_get_function_sqlbody(p.oid), p.prosrc), e.fragment) > 0 AS does_its_work
    FROM pg_catalog.pg_proc p
    WHERE p.pronamespace = asked.schema AND pg_get_function_identity_arguments(p.oid) = e.arguments
      AND (p.proname = e.name OR (e.kind = 'fence' AND p.proname LIKE 'check\\_fence\\_%' AND strpos(p.prosrc, e.fragment) > 0))
    ORDER BY strpos(coalesce(pg_get_function_sqlbody(p.oid), p.prosrc), e.fragment) > 0 DESC LIMIT 1) AS p ON true
)";

const BROKEN_FUNCTIONS: &str = "
SELECT format('function tenantry.%s(%s)', f.name, f.arguments),
       CASE WHEN f.oid IS NULL THEN 'it is missing, and what calls it does nothing or fails'
            WHEN NOT f.does_its_work THEN 'it is not the function that the migrations make'
            WHEN f.proowner <> asked.service THEN format('it belongs to %s and not to the service role', pg_get_userbyid(f.proowner))
            ELSE 'it does not run as its owner with a fixed search_path' END,
       CASE WHEN f.oid IS NULL OR NOT f.does_its_work
            THEN 'restore schema tenantry from a backup, or with pg_dump --schema-only --schema=tenantry from a data source of the same version'
            WHEN f.proowner <> asked.service THEN format('ALTER FUNCTION %s OWNER TO %s', f.target, asked.qservice)
            ELSE format('ALTER FUNCTION %s SECURITY DEFINER SET search_path = pg_catalog, pg_temp', f.target) END
FROM asked CROSS JOIN found f
WHERE f.oid IS NULL OR NOT f.does_its_work OR f.proowner <> asked.service
   OR (f.definer AND NOT (f.prosecdef AND EXISTS (SELECT FROM unnest(f.proconfig) AS setting WHERE setting LIKE 'search\\_path=%')))
ORDER BY 1";

/// `tgtype` is a set of bits: 1 for each row, 2 before, 4 insert, 8 delete, 16 update, 32 truncate. The condition is compared
/// as the server prints it.
const TRIGGERS: &str = "
SELECT format('trigger %s on %s', e.name, t.name),
       CASE WHEN g.oid IS NULL THEN 'it is missing: ' || e.consequence
            WHEN g.tgenabled = 'D' THEN 'it is disabled: ' || e.consequence
            WHEN g.tgenabled = 'R' THEN 'it fires only where triggers are silenced: ' || e.consequence
            ELSE 'it is not the trigger that the migrations make: ' || e.consequence END,
       CASE WHEN g.tgenabled IN ('D', 'R') AND is_ours.so THEN format('ALTER TABLE %s ENABLE TRIGGER %s', t.target, e.name)
            ELSE format('CREATE OR REPLACE TRIGGER %s %s ON %s FOR EACH %s WHEN '
                   || '(pg_catalog.current_setting(''tenantry.transfer'', true) IS DISTINCT FROM ''on'' OR NOT tenantry.is_service()) '
                   || 'EXECUTE FUNCTION tenantry.%I(%s)', e.name, e.events, t.target, e.each, p.proname,
                   CASE WHEN e.kind = 'truncate' AND own.never THEN '''always'', ''unlogged''' ELSE e.arguments END) END
FROM asked
CROSS JOIN tenant_table t
CROSS JOIN (VALUES
  (1, 'tenantry_fence', 'fence', 31, 'BEFORE INSERT OR UPDATE OR DELETE', 'ROW', '', 'a transfer would lose what is written meanwhile'),
  (2, 'tenantry_fence_truncate', 'truncate', 34, 'BEFORE TRUNCATE', 'STATEMENT', '''always''', 'TRUNCATE would pass by the fence and the write log'),
  (3, 'tenantry_write_log', 'log', 29, 'AFTER INSERT OR UPDATE OR DELETE', 'ROW', '', 'no write to the table is logged')
) AS e (place, name, kind, type, events, each, arguments, consequence)
JOIN found f ON f.kind = e.kind AND f.oid IS NOT NULL
JOIN pg_catalog.pg_proc p ON p.oid = f.oid
LEFT JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.oid AND g.tgname = e.name
CROSS JOIN LATERAL (
  SELECT g.tgfoid = f.oid AND g.tgtype = e.type AND cardinality(g.tgattr::int2[]) = 0
     AND strpos(pg_get_triggerdef(g.oid), ' WHEN (((current_setting(''tenantry.transfer''::text, true) IS DISTINCT FROM ''on''::text) '
                                       || 'OR (NOT tenantry.is_service()))) EXECUTE ') > 0 AS so) AS is_ours
CROSS JOIN LATERAL (SELECT t.nspname = 'public' AND t.relname IN ('write_log', 'routing_probe') AS never) AS own
WHERE NOT (e.kind = 'log' AND (own.never OR EXISTS (
        SELECT FROM pg_catalog.pg_trigger m WHERE m.tgrelid = t.oid AND m.tgname = 'tenantry_fence_truncate' AND m.tgfoid = (SELECT f.oid FROM found f WHERE f.kind = 'truncate')
           AND pg_get_triggerdef(m.oid) LIKE '%, ''unlogged'')')))
  AND (g.oid IS NULL OR g.tgenabled NOT IN ('O', 'A') OR NOT is_ours.so)
ORDER BY t.name, e.place";
