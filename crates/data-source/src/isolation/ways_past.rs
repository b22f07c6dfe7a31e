//! Ways past the policies: what PostgreSQL does for a role without asking them. Policies are asked for SELECT, INSERT, UPDATE
//! and DELETE on the table itself, and for nothing else: not for a constraint, not for whatever runs in its owner's name.
//!
//! What it cannot know: whether a table without the tenant column holds tenants' rows.

use tenantry_connection::{Error, Transaction};

use super::{IsolationReport, TenantColumn, decode, query, quote_identifier};

impl IsolationReport {
    pub(super) async fn measure_ways_past(
        &mut self,
        transaction: &mut Transaction,
        column: &TenantColumn,
    ) -> Result<(), Error> {
        let (name, role) = (self.role.clone(), quote_identifier(&self.role));
        let values = [column.name.as_str(), name.as_str()];
        for row in transaction.query_all(query(PRIVILEGES, values)).await? {
            let table: String = decode(row.try_get_by_index(0))?;
            let privilege: String = decode(row.try_get_by_index(1))?;
            let problem = match privilege.as_str() {
                "TRUNCATE" => "the restricted role may truncate it, which no policy is asked for",
                "TRIGGER" => "the restricted role may put a trigger on it, which then runs as whoever writes",
                "REFERENCES" => "the restricted role may refer to it, which tells whose keys exist",
                _ => {
                    "the restricted role has a privilege on it beside reading and writing, which no policy is asked for"
                }
            };
            self.find(&table, problem, format!("REVOKE {privilege} ON {table} FROM {role}, PUBLIC"));
        }
        for row in transaction.query_all(query(KEYS, [column.name.as_str()])).await? {
            let table: String = decode(row.try_get_by_index(0))?;
            let index: String = decode(row.try_get_by_index(1))?;
            let object = format!("{index} on {table}");
            let remedy = format!("make it a key of {}, … instead", quote_identifier(&column.name));
            self.find(
                &object,
                "it is unique across tenants: a refused row tells that a neighbour has one like it",
                remedy,
            );
        }
        for row in transaction.query_all(query(REFERENCES, values)).await? {
            let table: String = decode(row.try_get_by_index(0))?;
            let constraint: String = decode(row.try_get_by_index(1))?;
            let problem = "it refers to a tenant table and not by its tenant: it reaches a neighbour's row, and so does its cascade";
            let remedy = format!(
                "ALTER TABLE {table} DROP CONSTRAINT {constraint}, and add it with the tenant column on both sides"
            );
            self.find(&format!("{constraint} on {table}"), problem, remedy);
        }
        for row in transaction.query_all(query(SHOWN, values)).await? {
            let relation: String = decode(row.try_get_by_index(0))?;
            let kind: String = decode(row.try_get_by_index(1))?;
            let remedy = match kind.as_str() {
                "v" => format!("ALTER VIEW {relation} SET (security_invoker = true)"),
                "r" | "p" => format!("DROP RULE … ON {relation}"),
                _ => format!("REVOKE ALL ON {relation} FROM {role}, PUBLIC"),
            };
            self.find(&relation, "it shows rows past row-level security to the restricted role", remedy);
        }
        for row in transaction.query_all(query(ANCESTORS, values)).await? {
            let table: String = decode(row.try_get_by_index(0))?;
            let remedy = format!("REVOKE ALL ON {table} FROM {role}, PUBLIC");
            self.find(
                &table,
                "it shows the rows of a tenant table that inherits from it, whose policies are not asked",
                remedy,
            );
        }
        for row in transaction.query_all(query(FUNCTIONS, values)).await? {
            let function: String = decode(row.try_get_by_index(0))?;
            let remedy =
                format!("ALTER FUNCTION {function} SECURITY INVOKER, or REVOKE EXECUTE ON it FROM {role}, PUBLIC");
            let problem = "the restricted role may call it, and it runs as a role that row-level security lets through";
            self.find(&function, problem, remedy);
        }
        Ok(())
    }
}

/// Privileges of the restricted role on tenant tables beside the four that policies are asked for. A role that owns the
/// table, or a superuser, is told of as such.
const PRIVILEGES: &str = "
SELECT DISTINCT c.oid::regclass::text, x.privilege_type
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = $1 AND NOT a.attisdropped
JOIN pg_catalog.pg_roles r ON r.rolname = $2 AND NOT r.rolsuper
CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) x
WHERE c.relkind IN ('r', 'p') AND NOT pg_has_role(r.oid, c.relowner, 'MEMBER')
  AND CASE x.grantee WHEN 0 THEN true ELSE pg_has_role(r.oid, x.grantee, 'MEMBER') END
  AND x.privilege_type NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
ORDER BY 1, 2";

/// Unique and exclusion constraints and indexes of tenant tables that are not kept apart by tenant.
const KEYS: &str = "
SELECT c.oid::regclass::text, i.indexrelid::regclass::text
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid AND c.relkind IN ('r', 'p')
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = $1 AND NOT a.attisdropped
WHERE (i.indisunique OR i.indisexclusion)
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry') AND n.nspname NOT LIKE 'pg\\_%'
  AND a.attnum <> ALL ((i.indkey::int2[])[0:i.indnkeyatts - 1])
ORDER BY 1, 2";

/// Foreign keys to tenant tables that do not compare tenants.
const REFERENCES: &str = "
SELECT k.conrelid::regclass::text, quote_ident(k.conname)
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_attribute parent ON parent.attrelid = k.confrelid AND parent.attname = $1 AND NOT parent.attisdropped
LEFT JOIN pg_catalog.pg_attribute child ON child.attrelid = k.conrelid AND child.attname = $1 AND NOT child.attisdropped
LEFT JOIN pg_catalog.pg_roles r ON r.rolname = $2
WHERE k.contype = 'f'
  AND (child.attnum IS NOT NULL OR has_any_column_privilege(r.oid, k.conrelid, 'SELECT, INSERT, UPDATE')
       OR has_table_privilege(r.oid, k.conrelid, 'DELETE'))
  AND NOT EXISTS (SELECT FROM unnest(k.conkey, k.confkey) AS pair (own, theirs)
                  WHERE pair.own = child.attnum AND pair.theirs = parent.attnum)
ORDER BY 1, 2";

/// What the restricted role may use and that shows a tenant table's rows as its owner sees them: views that do not run as
/// whoever asks, however many views lie between, materialized views, tables whose rules do, and foreign tables, which have no
/// policies. A privilege on one column is enough.
const SHOWN: &str = "
WITH RECURSIVE shown (view, relation) AS (
  SELECT w.ev_class, d.refobjid FROM pg_catalog.pg_rewrite w
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = w.oid
   AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> w.ev_class
  UNION
  SELECT s.view, d.refobjid FROM shown s
  JOIN pg_catalog.pg_rewrite w ON w.ev_class = s.relation
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = w.oid
   AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> w.ev_class
), tenant_relation (oid, kind) AS (
  SELECT c.oid, c.relkind FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = $1 AND NOT a.attisdropped
  WHERE c.relkind IN ('r', 'p', 'f')
)
SELECT v.oid::regclass::text, v.relkind::text
FROM pg_catalog.pg_class v
JOIN pg_catalog.pg_roles r ON r.rolname = $2 AND NOT r.rolsuper
WHERE (v.oid IN (SELECT s.view FROM shown s JOIN tenant_relation t ON t.oid = s.relation)
       OR v.oid IN (SELECT t.oid FROM tenant_relation t WHERE t.kind = 'f'))
  AND v.relkind IN ('v', 'm', 'f', 'r', 'p') AND NOT pg_has_role(r.oid, v.relowner, 'MEMBER')
  AND (has_any_column_privilege(r.oid, v.oid, 'SELECT, INSERT, UPDATE') OR has_table_privilege(r.oid, v.oid, 'DELETE'))
  AND NOT (v.relkind = 'v' AND EXISTS (SELECT FROM pg_options_to_table(v.reloptions) o
                                       WHERE o.option_name = 'security_invoker' AND o.option_value::boolean))
ORDER BY 1";

/// Tables without the tenant column that a tenant table inherits from: a query of them reads its rows under their policies.
const ANCESTORS: &str = "
WITH RECURSIVE ancestor (oid) AS (
  SELECT i.inhparent FROM pg_catalog.pg_inherits i
  JOIN pg_catalog.pg_attribute a ON a.attrelid = i.inhrelid AND a.attname = $1 AND NOT a.attisdropped
  UNION
  SELECT i.inhparent FROM ancestor d JOIN pg_catalog.pg_inherits i ON i.inhrelid = d.oid
)
SELECT c.oid::regclass::text
FROM ancestor
JOIN pg_catalog.pg_class c ON c.oid = ancestor.oid AND c.relkind IN ('r', 'p', 'f')
JOIN pg_catalog.pg_roles r ON r.rolname = $2 AND NOT r.rolsuper
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = $1 AND NOT a.attisdropped)
  AND (has_any_column_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE') OR has_table_privilege(r.oid, c.oid, 'DELETE, TRUNCATE'))
ORDER BY 1";

/// Functions that the restricted role may call and that run as a role which passes by the policies. One that returns a trigger
/// cannot be called, and one of an extension is the extension's.
const FUNCTIONS: &str = "
SELECT p.oid::regprocedure::text
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace AND n.nspname NOT IN ('pg_catalog', 'information_schema')
JOIN pg_catalog.pg_roles o ON o.oid = p.proowner
JOIN pg_catalog.pg_roles r ON r.rolname = $2 AND NOT r.rolsuper
WHERE p.prosecdef AND p.prorettype NOT IN ('pg_catalog.trigger'::regtype, 'pg_catalog.event_trigger'::regtype)
  AND NOT pg_has_role(r.oid, p.proowner, 'MEMBER')
  AND (o.rolsuper OR o.rolbypassrls OR EXISTS (
         SELECT FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = $1 AND NOT a.attisdropped
         WHERE c.relkind IN ('r', 'p') AND pg_has_role(o.oid, c.relowner, 'MEMBER')))
  AND has_function_privilege(r.oid, p.oid, 'EXECUTE') AND has_schema_privilege(r.oid, n.oid, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
ORDER BY 1";
