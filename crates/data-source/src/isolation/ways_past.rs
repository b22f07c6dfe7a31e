//! Ways past the policies: what PostgreSQL does for a role without asking them. Policies are asked for SELECT, INSERT, UPDATE
//! and DELETE on the table itself, and for nothing else: not for whatever runs in its owner's name.
//!
//! A way counts whether its privilege is the restricted role's own, everyone's, or that of a role which it is a member of. What
//! this cannot know: whether a table without the tenant column holds tenants' rows.

use tenantry_connection::Error;

use super::{Catalog, IsolationReport, grantees};

impl IsolationReport {
    pub(super) async fn measure_ways_past(&mut self, catalog: &mut Catalog<'_>) -> Result<(), Error> {
        for sql in [privileges(), shown(), ancestors(), functions()] {
            self.find_all(catalog, &sql).await?;
        }
        Ok(())
    }
}

/// Privileges on tenant tables beside the four that policies are asked for, on the table or on a column. An owner is told of
/// as such.
fn privileges() -> String {
    let entries = "(SELECT t.relacl AS acl UNION ALL SELECT a.attacl FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.oid AND NOT a.attisdropped)";
    format!(
        "
SELECT t.name,
       CASE x.privilege_type
            WHEN 'TRUNCATE' THEN 'the restricted role may truncate it, which no policy is asked for'
            WHEN 'TRIGGER' THEN 'the restricted role may put a trigger on it, which then runs as whoever writes'
            WHEN 'REFERENCES' THEN 'the restricted role may refer to it, which tells whose keys exist'
            ELSE 'the restricted role has a privilege on it beside reading and writing, which no policy is asked for' END,
       -- On the table, it takes the privilege from the columns as well.
       format('REVOKE %s ON %s FROM %s', x.privilege_type, t.target,
              string_agg(DISTINCT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END, ', '))
FROM asked
CROSS JOIN tenant_table t
CROSS JOIN LATERAL {entries} AS entry
CROSS JOIN LATERAL pg_catalog.aclexplode(entry.acl) x
WHERE NOT pg_has_role(asked.held, t.relowner, 'MEMBER')
  AND CASE x.grantee WHEN 0 THEN true ELSE pg_has_role(asked.held, x.grantee, 'MEMBER') END
  AND x.privilege_type NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
GROUP BY t.name, t.target, x.privilege_type
ORDER BY 1, x.privilege_type"
    )
}

/// SQL for whether the restricted role can use relation `c`; a privilege on one column is enough.
const USABLE: &str = "NOT pg_has_role(asked.held, c.relowner, 'MEMBER') AND EXISTS (
    SELECT FROM reachable o WHERE has_any_column_privilege(o.oid, c.oid, 'SELECT, INSERT, UPDATE') OR has_table_privilege(o.oid, c.oid, 'DELETE'))";

/// SQL for the names to revoke everything on relation `c` from.
fn users() -> String {
    grantees(
        "(SELECT array_agg(item) FROM (SELECT unnest(c.relacl) AS item UNION ALL SELECT unnest(a.attacl)
          FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid) AS items)",
        "true",
    )
}

/// What shows a tenant table's rows as its owner sees them: views that do not run as whoever asks, however many views lie
/// between, and tables whose rules read them; materialized views, of which it is also enough that they have the tenant column or
/// were filled by a function, which tells nobody what it reads; and foreign tables, which no policy can stand before.
fn shown() -> String {
    let users = users();
    format!(
        "
, read_by (view, relation) AS (
  SELECT w.ev_class, d.refobjid FROM pg_catalog.pg_rewrite w
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = w.oid
   AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> w.ev_class
), shown (view, relation) AS (
  SELECT * FROM read_by UNION SELECT s.view, r.relation FROM shown s JOIN read_by r ON r.view = s.relation
), tenant_relation (oid) AS (
  SELECT t.oid FROM tenant_table t UNION ALL SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relkind = 'f'
)
SELECT c.oid::regclass::text,
       CASE c.relkind WHEN 'm' THEN 'it is a materialized view and shows rows past row-level security to the restricted role'
                      WHEN 'f' THEN 'it is a foreign table, which no policy stands before, and the restricted role can use it'
                      ELSE 'it shows rows past row-level security to the restricted role' END,
       CASE WHEN c.relkind = 'v' THEN format('ALTER VIEW %I.%I SET (security_invoker = true)', n.nspname, c.relname)
            WHEN c.relkind IN ('r', 'p')
            THEN (SELECT string_agg(format('DROP RULE %I ON %I.%I', w.rulename, n.nspname, c.relname), '; ' ORDER BY w.rulename)
                  FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid)
            ELSE format('REVOKE ALL ON %I.%I FROM %s', n.nspname, c.relname, {users}) END
FROM asked
JOIN pg_catalog.pg_class c ON c.relkind IN ('v', 'm', 'f', 'r', 'p') AND {USABLE}
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname NOT IN ('pg_catalog', 'information_schema')
WHERE NOT (c.relkind = 'v' AND EXISTS (SELECT FROM pg_options_to_table(c.reloptions) o
                                       WHERE o.option_name = 'security_invoker' AND o.option_value::boolean))
  AND (c.relkind = 'f'
       OR c.oid IN (SELECT s.view FROM shown s JOIN tenant_relation t ON t.oid = s.relation)
       OR (c.relkind = 'm' AND (EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = asked.col AND NOT a.attisdropped)
            OR EXISTS (SELECT FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_depend d
                         ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_catalog.pg_proc'::regclass
                       WHERE w.ev_class = c.oid))))
ORDER BY 1"
    )
}

/// Tables without the tenant column that a tenant table inherits from: a query of them reads its rows under their policies.
fn ancestors() -> String {
    let users = users();
    format!(
        "
, ancestor (oid) AS (
  SELECT i.inhparent FROM tenant_table t JOIN pg_catalog.pg_inherits i ON i.inhrelid = t.oid
  UNION
  SELECT i.inhparent FROM ancestor d JOIN pg_catalog.pg_inherits i ON i.inhrelid = d.oid
)
SELECT c.oid::regclass::text, 'it shows the rows of a tenant table that inherits from it, whose policies are not asked',
       format('REVOKE ALL ON %I.%I FROM %s', n.nspname, c.relname, {users})
FROM asked
JOIN pg_catalog.pg_class c ON c.relkind IN ('r', 'p') AND c.oid IN (SELECT a.oid FROM ancestor a)
 AND (EXISTS (SELECT FROM reachable o WHERE has_table_privilege(o.oid, c.oid, 'TRUNCATE')) OR ({USABLE}))
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE NOT EXISTS (SELECT FROM tenant_table t WHERE t.oid = c.oid)
ORDER BY 1"
    )
}

/// Functions that the restricted role may call and that run as a role which passes by the policies. One that returns a trigger
/// cannot be called, and one of an extension is the extension's.
fn functions() -> String {
    let callers = grantees("coalesce(p.proacl, acldefault('f', p.proowner))", "true");
    format!(
        "
SELECT p.oid::regprocedure::text,
       'the restricted role may call it, and it runs as a role that row-level security lets through',
       format('REVOKE EXECUTE ON ROUTINE %I.%I(%s) FROM %s', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid), {callers})
FROM asked
JOIN pg_catalog.pg_proc p ON p.prosecdef AND p.prorettype NOT IN ('pg_catalog.trigger'::regtype, 'pg_catalog.event_trigger'::regtype)
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace AND n.nspname NOT IN ('pg_catalog', 'information_schema')
JOIN pg_catalog.pg_roles owner ON owner.oid = p.proowner
WHERE NOT pg_has_role(asked.held, p.proowner, 'MEMBER')
  AND (owner.rolsuper OR owner.rolbypassrls OR EXISTS (SELECT FROM tenant_table t WHERE pg_has_role(owner.oid, t.relowner, 'MEMBER')))
  AND EXISTS (SELECT FROM reachable o WHERE has_function_privilege(o.oid, p.oid, 'EXECUTE'))
  AND EXISTS (SELECT FROM reachable o WHERE has_schema_privilege(o.oid, n.oid, 'USAGE'))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
ORDER BY 1"
    )
}
