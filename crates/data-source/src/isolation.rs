//! Whether row-level security really stands between the tenants of a PostgreSQL data source: measured from its catalogs,
//! never assumed. Knows the tenant column's name and type and no table's name.
//!
//! What must hold, for every table with the tenant column: row-level security enabled and forced; exactly two policies, the
//! strict one for the restricted role and the open one for the owner; a restricted role that owns nothing, inherits nothing
//! that does, and cannot bypass, create, shadow or truncate; and no way past the policies: no view, rule or function that reads
//! a tenant table as its owner, no key and no reference across tenants.

mod ways_past;

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
        let measured: [(&str, String); 12] = [
            ("it is a superuser", format!("ALTER ROLE {quoted} NOSUPERUSER")),
            ("it has BYPASSRLS", format!("ALTER ROLE {quoted} NOBYPASSRLS")),
            ("it can create roles", format!("ALTER ROLE {quoted} NOCREATEROLE")),
            ("it can replicate, which reads every row", format!("ALTER ROLE {quoted} NOREPLICATION")),
            (
                "it owns tables of this database, or is a member of a role that does",
                "REVOKE that role, or ALTER TABLE … OWNER TO".to_owned(),
            ),
            (
                "it owns the database, a schema or a function, or is a member of a role that does",
                "REVOKE that role, or ALTER … OWNER TO".to_owned(),
            ),
            (
                "it is a member of a role that is a superuser or has BYPASSRLS",
                format!("REVOKE that role FROM {quoted}"),
            ),
            (
                "it is a member of a predefined role, or of one that replicates or creates roles",
                format!("REVOKE that role FROM {quoted}"),
            ),
            (
                "it can create temporary tables, which shadow real ones",
                "REVOKE TEMPORARY ON DATABASE <database> FROM PUBLIC".to_owned(),
            ),
            (
                "it can create objects in the schema, or in another one, or a schema",
                format!("REVOKE CREATE ON SCHEMA <schema> FROM {quoted}, PUBLIC, and ON DATABASE <database>"),
            ),
            (
                "it can reach into schema tenantry, which tells of every tenant",
                format!("REVOKE USAGE ON SCHEMA tenantry FROM {quoted}, PUBLIC"),
            ),
            (
                "its sessions begin with a tenant, a role or silent triggers, or it may silence triggers",
                format!(
                    "ALTER ROLE {quoted} RESET …, ALTER DATABASE <database> RESET …, \
                     REVOKE SET ON PARAMETER session_replication_role FROM {quoted}, PUBLIC"
                ),
            ),
        ];
        for (index, (problem, remedy)) in measured.into_iter().enumerate() {
            if decode(row.try_get_by_index::<bool>(index))? {
                self.find(&format!("role {role}"), problem, remedy);
            }
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
SELECT r.rolsuper, r.rolbypassrls, r.rolcreaterole, r.rolreplication,
  EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND c.relnamespace <> 'pg_catalog'::regnamespace AND pg_has_role(r.oid, c.relowner, 'MEMBER')),
  EXISTS (SELECT FROM pg_catalog.pg_database d WHERE d.datname = current_database() AND pg_has_role(r.oid, d.datdba, 'MEMBER'))
  OR EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE pg_has_role(r.oid, n.nspowner, 'MEMBER'))
  OR EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE pg_has_role(r.oid, p.proowner, 'MEMBER')),
  EXISTS (SELECT FROM pg_catalog.pg_roles o
          WHERE o.oid <> r.oid AND (o.rolsuper OR o.rolbypassrls)
          AND pg_has_role(r.oid, o.oid, 'MEMBER')),
  EXISTS (SELECT FROM pg_catalog.pg_roles o
          WHERE o.oid <> r.oid AND (o.rolname LIKE 'pg\\_%' OR o.rolreplication OR o.rolcreaterole)
          AND pg_has_role(r.oid, o.oid, 'MEMBER')),
  has_database_privilege(r.oid, current_database(), 'TEMP'),
  has_database_privilege(r.oid, current_database(), 'CREATE')
  OR EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE has_schema_privilege(r.oid, n.oid, 'CREATE')),
  EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = 'tenantry' AND has_schema_privilege(r.oid, n.oid, 'USAGE')),
  has_parameter_privilege(r.oid, 'session_replication_role', 'SET')
  OR EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS setting
             WHERE s.setrole IN (0, r.oid)
             AND s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database()))
             AND lower(split_part(setting, '=', 1)) IN ('app.tenant_id', 'role', 'session_replication_role'))
FROM pg_catalog.pg_roles r WHERE r.rolname = $1";

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
