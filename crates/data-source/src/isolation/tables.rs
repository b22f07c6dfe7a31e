//! Tenant tables: row-level security enabled and forced, the tenant column's type, the owner, and exactly the pair of policies.
//!
//! A policy is compared as the server prints it back, which says the same of however it was written: what the condition calls
//! is in `pg_catalog` unless it is printed with a schema, because the connection's search path begins there.

use std::collections::BTreeMap;

use tenantry_connection::Error;
use tenantry_realm::TenantKeyType;

use super::{Catalog, IsolationReport, decode, text};

/// The names that the migrations give to the pair.
const RESTRICTED_POLICY: &str = "tenantry_restricted";
const SERVICE_POLICY: &str = "tenantry_service";

/// The conditions of the strict policy.
struct Strict {
    /// As the server prints it.
    printed: String,
    /// As a statement writes it.
    written: String,
    /// The part that means a cast of the tenant column, as the server prints it.
    cast: String,
}

/// A policy as it is.
struct Policy {
    table: String,
    name: String,
    quoted: String,
    permissive: bool,
    all_commands: bool,
    using: Option<String>,
    check: Option<String>,
    for_restricted: bool,
    for_service: bool,
    roles: String,
}

impl IsolationReport {
    pub(super) async fn measure_tables(&mut self, catalog: &mut Catalog<'_>) -> Result<(), Error> {
        let mut policies: BTreeMap<String, Vec<Policy>> = BTreeMap::new();
        for row in catalog.query(POLICIES).await? {
            let policy = Policy {
                table: text(&row, 0)?,
                name: text(&row, 1)?,
                quoted: text(&row, 2)?,
                permissive: decode(row.try_get_by_index(3))?,
                all_commands: decode(row.try_get_by_index(4))?,
                using: decode(row.try_get_by_index(5))?,
                check: decode(row.try_get_by_index(6))?,
                for_restricted: decode(row.try_get_by_index(7))?,
                for_service: decode(row.try_get_by_index(8))?,
                roles: text(&row, 9)?,
            };
            policies.entry(policy.table.clone()).or_default().push(policy);
        }
        for row in catalog.query(TABLES).await? {
            let [table, target, column, role, service] =
                [text(&row, 0)?, text(&row, 1)?, text(&row, 2)?, text(&row, 3)?, text(&row, 4)?];
            let wrong_type: Option<String> = decode(row.try_get_by_index(5))?;
            let other_owner: Option<String> = decode(row.try_get_by_index(6))?;
            let [enabled, forced]: [bool; 2] = [decode(row.try_get_by_index(7))?, decode(row.try_get_by_index(8))?];
            let strict = Strict::new(&column, catalog.column.key_type);
            let expected = catalog.column.key_type.postgres_type();
            let create = [
                create_policy(RESTRICTED_POLICY, &target, &role, &strict.written),
                create_policy(SERVICE_POLICY, &target, &service, "true"),
            ];
            let of_table = policies.remove(&table).unwrap_or_default();

            if let Some(owner) = other_owner {
                let problem = format!("it belongs to {owner} and not to the service role, which owns the schema");
                self.find(&table, problem, format!("ALTER TABLE {target} OWNER TO {service}"));
            }
            if !enabled {
                let remedy = format!("ALTER TABLE {target} ENABLE ROW LEVEL SECURITY");
                self.find(&table, "row-level security is not enabled", remedy);
            }
            if !forced {
                let remedy = format!("ALTER TABLE {target} FORCE ROW LEVEL SECURITY");
                self.find(&table, "row-level security is not forced on the table's owner", remedy);
            }
            match wrong_type {
                // A policy keeps its columns from changing their type, and a strict one over another type cannot be made.
                Some(found) => {
                    let mut steps: Vec<_> =
                        of_table.iter().map(|policy| format!("DROP POLICY {} ON {target}", policy.quoted)).collect();
                    steps.push(format!(
                        "ALTER TABLE {target} ALTER COLUMN {column} TYPE {expected} USING {column}::{expected}"
                    ));
                    steps.extend(create);
                    let problem = format!(
                        "its tenant column is of type {found} and not {expected}: its policy would have to cast it, which \
                         defeats the index"
                    );
                    self.find(&table, problem, steps.join("; "));
                }
                None => self.compare_policies(&table, &target, [&role, &service], &strict, &of_table),
            }
            self.tables.push(table);
        }
        Ok(())
    }

    /// Exactly two policies. A wrong one in the place of a missing one is put right there; any other is dropped.
    fn compare_policies(
        &mut self,
        table: &str,
        target: &str,
        [role, service]: [&str; 2],
        strict: &Strict,
        policies: &[Policy],
    ) {
        let is = |policy: &Policy, condition: &str| {
            let both = [&policy.using, &policy.check].into_iter().all(|found| found.as_deref() == Some(condition));
            policy.permissive && policy.all_commands && both
        };
        let is_strict = |policy: &Policy| policy.for_restricted && is(policy, &strict.printed);
        let is_open = |policy: &Policy| policy.for_service && is(policy, "true");
        let mut strict_missing = !policies.iter().any(is_strict);
        let mut open_missing = !policies.iter().any(is_open);
        for policy in policies.iter().filter(|policy| !is_strict(policy) && !is_open(policy)) {
            let Policy { name, quoted, .. } = policy;
            let for_service = policy.for_service || name == SERVICE_POLICY;
            let remedy = if strict_missing && !for_service && (policy.for_restricted || name == RESTRICTED_POLICY) {
                strict_missing = false;
                policy.put_right(target, role, &strict.written)
            } else if open_missing && for_service {
                open_missing = false;
                policy.put_right(target, service, "true")
            } else {
                format!("DROP POLICY {quoted} ON {target}")
            };
            let problem = policy.wrong(strict, for_service);
            self.find(format!("policy {quoted} on {table}"), problem, remedy);
        }
        if strict_missing {
            let problem = format!("the strict policy of the restricted role {} is missing", self.role);
            self.find(table, problem, create_policy(RESTRICTED_POLICY, target, role, &strict.written));
        }
        if open_missing {
            let problem = "the open policy of the service role is missing";
            self.find(table, problem, create_policy(SERVICE_POLICY, target, service, "true"));
        }
    }
}

impl Policy {
    /// What is wrong with a policy that is neither of the two.
    fn wrong(&self, strict: &Strict, for_service: bool) -> String {
        let conditions = || [&self.using, &self.check].into_iter().flatten();
        let mut wrong = Vec::new();
        if !self.permissive {
            wrong.push("it is restrictive".to_owned());
        }
        if !self.all_commands {
            wrong.push("it is for one command only".to_owned());
        }
        if !for_service && !self.for_restricted {
            wrong.push(format!("it is for {}", self.roles));
        }
        if self.using.is_none() || self.check.is_none() {
            wrong.push("it lacks one of USING and WITH CHECK".to_owned());
        }
        if conditions().any(|condition| condition.contains("current_setting('app.tenant_id'::text, true)")) {
            wrong.push(
                "it asks for the tenant with missing_ok, so that without one it shows nothing and does not fail"
                    .to_owned(),
            );
        }
        if conditions().any(|condition| condition.contains(&strict.cast)) {
            wrong.push("it casts the tenant column, which defeats the index".to_owned());
        }
        if !for_service && conditions().any(|condition| condition == "true") {
            wrong.push("it lets every row through".to_owned());
        }
        if wrong.is_empty() {
            wrong.push("its condition is another one".to_owned());
        }
        format!(
            "it is neither the strict policy of the restricted role nor the open policy of the service role: {}",
            wrong.join(", ")
        )
    }

    /// Makes it the policy that belongs in its place. What kind it is and for which command cannot be altered.
    fn put_right(&self, target: &str, role: &str, condition: &str) -> String {
        if self.permissive && self.all_commands {
            format!("ALTER POLICY {} ON {target} TO {role} USING ({condition}) WITH CHECK ({condition})", self.quoted)
        } else {
            let create = create_policy(&self.quoted, target, role, condition);
            format!("DROP POLICY {} ON {target}; {create}", self.quoted)
        }
    }
}

impl Strict {
    /// The condition over a column whose name is quoted as the server would.
    fn new(column: &str, key_type: TenantKeyType) -> Self {
        let (printed, written) = match key_type {
            // Every text is a tenant's id but the empty one, which a session has after its transaction: that must fail.
            TenantKeyType::Text => (
                "CASE current_setting('app.tenant_id'::text)\n            \
                 WHEN ''::text THEN current_setting('app.tenant_id is empty'::text)\n            \
                 ELSE current_setting('app.tenant_id'::text)\n        END AS current_setting"
                    .to_owned(),
                "CASE current_setting('app.tenant_id') WHEN '' THEN current_setting('app.tenant_id is empty') \
                 ELSE current_setting('app.tenant_id') END"
                    .to_owned(),
            ),
            TenantKeyType::Uuid | TenantKeyType::BigInt => {
                let name = key_type.postgres_type();
                (
                    format!("(current_setting('app.tenant_id'::text))::{name} AS current_setting"),
                    format!("current_setting('app.tenant_id')::{name}"),
                )
            }
        };
        let line = if key_type == TenantKeyType::Text { "\n        " } else { " " };
        Self {
            printed: format!("({column} = ( SELECT{line}{printed}))"),
            written: format!("{column} = (SELECT {written})"),
            cast: format!("({column})::"),
        }
    }
}

fn create_policy(name: &str, target: &str, role: &str, condition: &str) -> String {
    format!("CREATE POLICY {name} ON {target} TO {role} USING ({condition}) WITH CHECK ({condition})")
}

const TABLES: &str = "
SELECT t.name, t.target, asked.qcol, asked.qrole, asked.qservice,
       CASE WHEN t.atttypid <> asked.col_type THEN format_type(t.atttypid, t.atttypmod) END,
       CASE WHEN t.relowner NOT IN (asked.service, coalesce(asked.role, 0)) THEN pg_get_userbyid(t.relowner)::text END,
       t.relrowsecurity, t.relforcerowsecurity
FROM asked CROSS JOIN tenant_table t ORDER BY 1";

const POLICIES: &str = "
SELECT t.name, p.polname::text, quote_ident(p.polname), p.polpermissive, p.polcmd = '*',
       pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid),
       p.polroles = ARRAY[asked.role], p.polroles = ARRAY[asked.service],
       (SELECT string_agg(CASE o.role WHEN 0 THEN 'everyone' ELSE 'role ' || pg_get_userbyid(o.role) END, ', ')
        FROM unnest(p.polroles) AS o (role))
FROM asked CROSS JOIN tenant_table t JOIN pg_catalog.pg_policy p ON p.polrelid = t.oid
ORDER BY 1, 2";
