//! Whether row-level security really stands between the tenants of a PostgreSQL data source: measured from its catalogs and
//! then attacked as the restricted role, never assumed. Knows the tenant column's name and type and no business table.
//!
//! ```text
//! measure   role ─ tables and policies ─ keys ─ triggers ─ ways past     what the catalogs say (one read transaction)
//! attack    read, write, move, upsert, refer, copy, become, shadow       what the database does (everything rolled back)
//! ```
//!
//! What must hold, for every table with the tenant column: row-level security enabled and forced; exactly two policies, the
//! strict one for the restricted role and the open one for the service role, which owns the table; keys that begin with the
//! tenant column and references that compare it; the triggers of the fence and of the write log. Of the restricted role: it
//! owns nothing, is a member of nothing that does, and cannot bypass, create, shadow or truncate. And there is no way past the
//! policies: no view, rule, function or foreign table that reads as somebody else, no privilege that new tables are born with.
//!
//! A remedy can be run as it is printed, in the order of the findings, by a superuser and mostly by the service role.

mod attack;
mod keys;
mod role;
mod tables;
mod triggers;
mod ways_past;

use sea_orm::{QueryResult, Statement};
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

/// What was measured, and what came of the attacks where there were any.
#[derive(Debug, Clone, Serialize)]
pub struct IsolationReport {
    /// The role that restricted access connects as.
    pub role: String,
    /// The tables with the tenant column, in name order.
    pub tables: Vec<String>,
    /// Everything that is not as it must be. Empty: row-level security holds.
    pub findings: Vec<Finding>,
    /// How many attacks were carried out; 0 where the catalogs alone were read.
    pub attacks: usize,
    /// What could be attacked less than fully, and why: no fault, but known.
    pub notes: Vec<String>,
    /// Attacks of which nothing is known, because the server gave up waiting for a lock or for the statement: run them again.
    pub undecided: Vec<String>,
}

/// One thing that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The table, policy, key, trigger, function, schema, database or role.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
    /// The statement that mends it, or several separated by semicolons.
    pub remedy: String,
    /// The attack that went through, where it was found by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attack: Option<String>,
}

impl IsolationReport {
    /// Whether every check passed on at least one table: a database without tenant tables proves nothing.
    pub fn holds(&self) -> bool {
        self.findings.is_empty() && !self.tables.is_empty()
    }

    /// The findings whose object is not among the exceptions. An exception is the name of an object as a finding prints it,
    /// and covers everything that is found of that object.
    pub fn findings_except<'a>(&'a self, exceptions: &'a [String]) -> impl Iterator<Item = &'a Finding> {
        self.findings.iter().filter(|finding| !exceptions.contains(&finding.object))
    }

    /// Measures the data source that the transaction runs in, for the restricted role of the given name. Any login can
    /// measure; the catalogs are readable by all. Reads only; limits of time stay set until the transaction ends.
    ///
    /// # Errors
    /// [`Error`] when a catalog could not be read; [`Error::Conflict`] while somebody alters a table: measure again.
    pub async fn measure(transaction: &mut Transaction, role: &str, column: &TenantColumn) -> Result<Self, Error> {
        let mut report = Self {
            role: role.to_owned(),
            tables: Vec::new(),
            findings: Vec::new(),
            attacks: 0,
            notes: Vec::new(),
            undecided: Vec::new(),
        };
        transaction.execute_raw_sql(SETTINGS).await?;
        let mut catalog = Catalog { transaction, role, column };
        report.measure_role(&mut catalog).await?;
        report.measure_tables(&mut catalog).await?;
        report.measure_keys(&mut catalog).await?;
        report.measure_triggers(&mut catalog).await?;
        report.measure_ways_past(&mut catalog).await?;
        Ok(report)
    }

    fn find(&mut self, object: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding {
            object: object.into(),
            problem: problem.into(),
            remedy: remedy.into(),
            attack: None,
        });
    }

    /// Takes over what a query finds: its columns are an object, a problem and a remedy.
    async fn find_all(&mut self, catalog: &mut Catalog<'_>, sql: &str) -> Result<(), Error> {
        for row in catalog.query(sql).await? {
            let [object, problem, remedy] = [text(&row, 0)?, text(&row, 1)?, text(&row, 2)?];
            self.find(object, problem, remedy);
        }
        Ok(())
    }
}

/// The catalogs as the measurement asks them.
struct Catalog<'a> {
    transaction: &'a mut Transaction,
    role: &'a str,
    column: &'a TenantColumn,
}

impl Catalog<'_> {
    /// Runs a query that begins with what [`ASKED`] defines.
    async fn query(&mut self, sql: &str) -> Result<Vec<QueryResult>, Error> {
        let values = [self.column.name.as_str(), self.role, self.column.key_type.postgres_type()].map(Into::into);
        let sql = format!("{ASKED}\n{sql}");
        self.transaction.query_all(Statement::from_sql_and_values(sea_orm::DbBackend::Postgres, sql, values)).await
    }
}

/// The server prints conditions back and quotes names itself; without the first it might quote every word. To print the
/// condition of a table it waits for whoever holds the table for himself alone, which must not become this connection's wait.
const SETTINGS: &str =
    "SET LOCAL quote_all_identifiers = off; SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '30s'";

/// What every query begins with; `$1` the tenant column, `$2` the restricted role, `$3` the tenant column's type.
///
/// `asked`: one row with the names as the server quotes them, the oid of the role (null where it does not exist), `held`: the
/// same unless it is a superuser, who has every privilege and is told of as such, and the service role: the owner of
/// Tenantry's schema, or of the database where that is not installed.
///
/// `reachable`: the role and every role that it is a member of, also where only SET ROLE gives the membership's privileges.
///
/// `tenant_table`: the ordinary and partitioned tables with the tenant column, outside the system's and Tenantry's own schemas,
/// whatever their privileges: nobody knows what is granted tomorrow.
const ASKED: &str = "
WITH RECURSIVE asked AS (
  SELECT r.oid AS role, CASE WHEN NOT r.rolsuper THEN r.oid END AS held, $2::text AS role_name, quote_ident($2) AS qrole,
         $1::text AS col, quote_ident($1) AS qcol, to_regtype($3)::oid AS col_type, quote_ident(current_database()) AS qdatabase,
         d.oid AS database, t.oid AS schema, coalesce(t.nspowner, d.datdba) AS service,
         quote_ident(pg_get_userbyid(coalesce(t.nspowner, d.datdba))) AS qservice
  FROM pg_catalog.pg_database d
  LEFT JOIN pg_catalog.pg_roles r ON r.rolname = $2
  LEFT JOIN pg_catalog.pg_namespace t ON t.nspname = 'tenantry'
  WHERE d.datname = current_database()
), reachable AS (
  SELECT r.oid FROM asked JOIN pg_catalog.pg_roles r ON pg_has_role(asked.held, r.oid, 'MEMBER')
), tenant_table AS (
  SELECT c.oid, c.oid::regclass::text AS name, format('%I.%I', n.nspname, c.relname) AS target, n.nspname, c.relname, c.relkind,
         c.relowner, c.relacl, c.relrowsecurity, c.relforcerowsecurity, a.attnum, a.atttypid, a.atttypmod
  FROM asked
  JOIN pg_catalog.pg_attribute a ON a.attname = asked.col AND NOT a.attisdropped
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry') AND n.nspname NOT LIKE 'pg\\_%'
)";

/// SQL for the names to revoke from: everyone through whom the restricted role has what the condition picks from the access
/// list `x`.
fn grantees(acl: &str, condition: &str) -> String {
    format!(
        "(SELECT string_agg(DISTINCT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END, ', ')
          FROM pg_catalog.aclexplode({acl}) x
          WHERE CASE x.grantee WHEN 0 THEN true ELSE pg_has_role(asked.held, x.grantee, 'MEMBER') END AND {condition})"
    )
}

fn text(row: &QueryResult, column: usize) -> Result<String, Error> {
    decode(row.try_get_by_index(column))
}

fn decode<T>(result: Result<T, impl Into<sea_orm::DbErr>>) -> Result<T, Error> {
    result.map_err(|error| Error::Catalog { source: error.into() })
}
