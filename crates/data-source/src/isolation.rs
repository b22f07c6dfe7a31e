//! Whether row-level security really stands between the tenants of a PostgreSQL data source: measured from its catalogs,
//! never assumed. Knows the tenant column's name and type and no table's name.
//!
//! What must hold, for every table with the tenant column: row-level security enabled and forced; exactly two policies, the
//! strict one for the restricted role and the open one for the owner; and a restricted role that owns nothing, inherits
//! nothing that does, and cannot bypass, create, shadow or truncate; and no view that shows a tenant table as its owner.

use sea_orm::Statement;
use serde::Serialize;
use tenantry_connection::{Error, Transaction};
use tenantry_realm::TenantKeyType;

/// The tenant column of a data source.
#[derive(Debug, Clone)]
pub struct TenantColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub key_type: TenantKeyType,
}

impl Default for TenantColumn {
    fn default() -> Self {
        Self { name: "tenant_id".to_owned(), key_type: TenantKeyType::Uuid }
    }
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct IsolationReport {
    /// The role that restricted access connects as.
    pub role: String,
    /// The tables with the tenant column, in name order.
    pub tables: Vec<String>,
    /// Everything that is not as it must be. Empty: row-level security holds.
    pub findings: Vec<Finding>,
}

/// One thing that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The table, policy or role.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
    /// The statement that mends it.
    pub remedy: String,
}

impl IsolationReport {
    /// Whether every check passed on at least one table: a database without tenant tables proves nothing.
    pub fn holds(&self) -> bool {
        self.findings.is_empty() && !self.tables.is_empty()
    }

    /// Measures the data source that the transaction runs in, for the restricted role of the given name. Any login can
    /// measure; the catalogs are readable by all.
    ///
    /// # Errors
    /// [`Error`] when a catalog could not be read.
    pub async fn measure(transaction: &mut Transaction, role: &str, column: &TenantColumn) -> Result<Self, Error> {
        let mut report = Self { role: role.to_owned(), tables: Vec::new(), findings: Vec::new() };
        report.measure_tables(transaction, column).await?;
        report.measure_policies(transaction, column).await?;
        report.measure_role(transaction).await?;
        report.measure_ways_past(transaction, column).await?;
        Ok(report)
    }

    async fn measure_tables(&mut self, transaction: &mut Transaction, column: &TenantColumn) -> Result<(), Error> {
        let rows = transaction.query_all(query(TABLES, [column.name.as_str()])).await?;
        for row in rows {
            let table: String = decode(row.try_get_by_index(0))?;
            let enabled: bool = decode(row.try_get_by_index(1))?;
            let forced: bool = decode(row.try_get_by_index(2))?;
            if !enabled {
                self.find(
                    &table,
                    "row-level security is not enabled",
                    format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"),
                );
            }
            if !forced {
                self.find(
                    &table,
                    "row-level security is not forced on the table's owner",
                    format!("ALTER TABLE {table} FORCE ROW LEVEL SECURITY"),
                );
            }
            self.tables.push(table);
        }
        Ok(())
    }

    async fn measure_policies(&mut self, transaction: &mut Transaction, column: &TenantColumn) -> Result<(), Error> {
        let strict = strict_condition(column);
        let rows = transaction.query_all(query(POLICIES, [column.name.as_str(), self.role.as_str()])).await?;
        let mut seen: Vec<(String, bool, bool)> =
            self.tables.iter().map(|table| (table.clone(), false, false)).collect();
        for row in rows {
            let table: String = decode(row.try_get_by_index(0))?;
            let policy: String = decode(row.try_get_by_index(1))?;
            let whole: bool = decode(row.try_get_by_index(2))?;
            let using: Option<String> = decode(row.try_get_by_index(3))?;
            let check: Option<String> = decode(row.try_get_by_index(4))?;
            let for_restricted: bool = decode(row.try_get_by_index(5))?;
            let for_owner: bool = decode(row.try_get_by_index(6))?;
            let both = |condition: &str| using.as_deref() == Some(condition) && check.as_deref() == Some(condition);
            let Some((_, restricted, owner)) = seen.iter_mut().find(|(name, _, _)| *name == table) else { continue };
            if whole && for_restricted && both(&strict) {
                *restricted = true;
            } else if whole && for_owner && both("true") {
                *owner = true;
            } else {
                self.find(
                    &format!("policy {policy} on {table}"),
                    "it is neither the strict policy of the restricted role nor the open policy of the owner",
                    format!("DROP POLICY {policy} ON {table}"),
                );
            }
        }
        for (table, restricted, owner) in seen {
            let role = quote_identifier(&self.role);
            if !restricted {
                let condition = written_condition(column);
                self.find(
                    &table,
                    &format!("the strict policy of the restricted role {} is missing", self.role),
                    format!(
                        "CREATE POLICY tenantry_restricted ON {table} TO {role} USING ({condition}) WITH CHECK ({condition})"
                    ),
                );
            }
            if !owner {
                self.find(
                    &table,
                    "the open policy of the owner is missing",
                    format!("CREATE POLICY tenantry_service ON {table} TO <owner> USING (true) WITH CHECK (true)"),
                );
            }
        }
        Ok(())
    }

    async fn measure_role(&mut self, transaction: &mut Transaction) -> Result<(), Error> {
        let role = self.role.clone();
        let quoted = quote_identifier(&role);
        let rows = transaction.query_all(query(ROLE, [role.as_str()])).await?;
        let Some(row) = rows.into_iter().next() else {
            self.find(&format!("role {role}"), "it does not exist", format!("CREATE ROLE {quoted} LOGIN"));
            return Ok(());
        };
        let measured: [(&str, String); 7] = [
            ("it is a superuser", format!("ALTER ROLE {quoted} NOSUPERUSER")),
            ("it has BYPASSRLS", format!("ALTER ROLE {quoted} NOBYPASSRLS")),
            ("it can create roles", format!("ALTER ROLE {quoted} NOCREATEROLE")),
            (
                "it owns tables of this database, or is a member of a role that does",
                "REVOKE that role, or ALTER TABLE … OWNER TO".to_owned(),
            ),
            (
                "it is a member of a role that is a superuser or has BYPASSRLS",
                format!("REVOKE that role FROM {quoted}"),
            ),
            (
                "it can create temporary tables, which shadow real ones",
                "REVOKE TEMPORARY ON DATABASE <database> FROM PUBLIC".to_owned(),
            ),
            ("it can create objects in the schema", "REVOKE CREATE ON SCHEMA public FROM PUBLIC".to_owned()),
        ];
        for (index, (problem, remedy)) in measured.into_iter().enumerate() {
            if decode(row.try_get_by_index::<bool>(index))? {
                self.find(&format!("role {role}"), problem, remedy);
            }
        }
        Ok(())
    }

    /// Policies are asked for SELECT, INSERT, UPDATE and DELETE on the table itself, and for nothing else.
    async fn measure_ways_past(&mut self, transaction: &mut Transaction, column: &TenantColumn) -> Result<(), Error> {
        let (name, role) = (self.role.clone(), quote_identifier(&self.role));
        let values = [column.name.as_str(), name.as_str()];
        for row in transaction.query_all(query(TRUNCATABLE, values)).await? {
            let table: String = decode(row.try_get_by_index(0))?;
            let remedy = format!("REVOKE TRUNCATE ON {table} FROM {role}, PUBLIC");
            self.find(&table, "the restricted role may truncate it, which no policy is asked for", remedy);
        }
        for row in transaction.query_all(query(SHOWN_BY_VIEWS, values)).await? {
            let view: String = decode(row.try_get_by_index(0))?;
            let is_view: bool = decode(row.try_get_by_index(1))?;
            let remedy = if is_view {
                format!("ALTER VIEW {view} SET (security_invoker = true)")
            } else {
                format!("REVOKE ALL ON {view} FROM {role}, PUBLIC")
            };
            self.find(&view, "it shows rows past row-level security to the restricted role", remedy);
        }
        Ok(())
    }

    fn find(&mut self, object: &str, problem: &str, remedy: String) {
        self.findings.push(Finding { object: object.to_owned(), problem: problem.to_owned(), remedy });
    }
}

/// Ordinary and partitioned tables with the tenant column, outside the system's and Tenantry's own schemas.
const TABLES: &str = "
SELECT c.oid::regclass::text, c.relrowsecurity, c.relforcerowsecurity
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = $1 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry')
  AND n.nspname NOT LIKE 'pg\\_%'
ORDER BY 1";

const POLICIES: &str = "
SELECT c.oid::regclass::text, quote_ident(p.polname), p.polpermissive AND p.polcmd = '*',
       pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid),
       p.polroles = ARRAY[i.oid], p.polroles = ARRAY[c.relowner]
FROM pg_catalog.pg_policy p
JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = $1 AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_roles i ON i.rolname = $2
ORDER BY 1, 2";

/// The columns stand in the order of the list in `measure_role`.
const ROLE: &str = "
SELECT r.rolsuper, r.rolbypassrls, r.rolcreaterole,
  EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND c.relnamespace <> 'pg_catalog'::regnamespace AND pg_has_role(r.oid, c.relowner, 'MEMBER')),
  EXISTS (SELECT FROM pg_catalog.pg_roles o WHERE o.oid <> r.oid AND (o.rolsuper OR o.rolbypassrls)
          AND pg_has_role(r.oid, o.oid, 'MEMBER')),
  has_database_privilege(r.oid, current_database(), 'TEMP'),
  has_schema_privilege(r.oid, 'public', 'CREATE')
FROM pg_catalog.pg_roles r WHERE r.rolname = $1";

/// Tenant tables that the restricted role may empty. One that owns them, or a superuser, is told of as such.
const TRUNCATABLE: &str = "
SELECT c.oid::regclass::text
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = $1 AND NOT a.attisdropped
JOIN pg_catalog.pg_roles r ON r.rolname = $2 AND NOT r.rolsuper
WHERE c.relkind IN ('r', 'p') AND NOT pg_has_role(r.oid, c.relowner, 'MEMBER')
  AND has_table_privilege(r.oid, c.oid, 'TRUNCATE')
ORDER BY 1";

/// What the restricted role may read and that shows a tenant table's rows as its owner sees them: views that do not run as
/// whoever asks, however many views lie between, materialized views, and foreign tables, which have no policies.
const SHOWN_BY_VIEWS: &str = "
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
SELECT v.oid::regclass::text, v.relkind = 'v'
FROM pg_catalog.pg_class v
JOIN pg_catalog.pg_roles r ON r.rolname = $2 AND NOT r.rolsuper
WHERE (v.oid IN (SELECT s.view FROM shown s JOIN tenant_relation t ON t.oid = s.relation)
       OR v.oid IN (SELECT t.oid FROM tenant_relation t WHERE t.kind = 'f'))
  AND v.relkind IN ('v', 'm', 'f') AND NOT pg_has_role(r.oid, v.relowner, 'MEMBER')
  AND has_table_privilege(r.oid, v.oid, 'SELECT, INSERT, UPDATE, DELETE')
  AND NOT (v.relkind = 'v' AND EXISTS (SELECT FROM pg_options_to_table(v.reloptions) o
                                       WHERE o.option_name = 'security_invoker' AND o.option_value::boolean))
ORDER BY 1";

/// How PostgreSQL prints the strict condition back.
fn strict_condition(column: &TenantColumn) -> String {
    let name = quote_identifier_if_needed(&column.name);
    match column.key_type {
        // Every text is a tenant's id but the empty one, which a session has after its transaction: that must fail.
        TenantKeyType::Text => format!(
            "({name} = ( SELECT\n        CASE current_setting('app.tenant_id'::text)\n            \
             WHEN ''::text THEN current_setting('app.tenant_id is empty'::text)\n            \
             ELSE current_setting('app.tenant_id'::text)\n        END AS current_setting))"
        ),
        other => format!(
            "({name} = ( SELECT (current_setting('app.tenant_id'::text))::{} AS current_setting))",
            other.postgres_type()
        ),
    }
}

fn written_condition(column: &TenantColumn) -> String {
    let name = quote_identifier_if_needed(&column.name);
    match column.key_type {
        TenantKeyType::Text => format!(
            "{name} = (SELECT CASE current_setting('app.tenant_id') WHEN '' THEN current_setting('app.tenant_id is empty') \
             ELSE current_setting('app.tenant_id') END)"
        ),
        other => format!("{name} = (SELECT current_setting('app.tenant_id')::{})", other.postgres_type()),
    }
}

fn query<const N: usize>(sql: &str, values: [&str; N]) -> Statement {
    Statement::from_sql_and_values(sea_orm::DbBackend::Postgres, sql, values.map(Into::into))
}

fn decode<T>(result: Result<T, impl Into<sea_orm::DbErr>>) -> Result<T, Error> {
    result.map_err(|error| Error::Catalog { source: error.into() })
}

fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quote_identifier_if_needed(name: &str) -> String {
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit());
    if plain { name.to_owned() } else { quote_identifier(name) }
}
