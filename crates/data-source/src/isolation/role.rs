//! The restricted role: what it is, owns, belongs to and may do in the database as a whole. Policies hold back a role that
//! cannot bypass them, cannot become somebody who can, and cannot put anything in a table's place.

use tenantry_connection::Error;

use super::{Catalog, IsolationReport, grantees};

impl IsolationReport {
    pub(super) async fn measure_role(&mut self, catalog: &mut Catalog<'_>) -> Result<(), Error> {
        // What is owned is given away first: a later remedy is run by the owner.
        for sql in [OWNED, ATTRIBUTES, MEMBERSHIPS] {
            self.find_all(catalog, sql).await?;
        }
        for sql in [database_privileges(), schema_privileges(), parameter_privileges()] {
            self.find_all(catalog, &sql).await?;
        }
        self.find_all(catalog, SESSION_DEFAULTS).await?;
        self.find_all(catalog, DEFAULT_PRIVILEGES).await
    }
}

/// What the role owns here. A tenant table goes back to the service role and is granted again, as its migration granted it.
const OWNED: &str = "
, owned AS (
  SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, d.objsubid) AS described
  FROM asked JOIN pg_catalog.pg_shdepend d
    ON d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.refobjid = asked.held AND d.deptype = 'o'
   AND (d.dbid = asked.database OR (d.classid = 'pg_catalog.pg_database'::regclass AND d.objid = asked.database))
)
SELECT 'role ' || asked.role_name,
       'it owns ' || array_to_string((array_agg(o.described ORDER BY o.described))[1:3], ', ')
       || CASE WHEN count(*) > 3 THEN format(' and %s more', count(*) - 3) ELSE '' END
       || ', and an owner can take row-level security off',
       format('REASSIGN OWNED BY %s TO %s', asked.qrole, asked.qservice)
       || coalesce(string_agg(format('; GRANT %s ON %s TO %s',
            CASE t.relname WHEN 'write_log' THEN 'SELECT' ELSE 'SELECT, INSERT, UPDATE, DELETE' END, t.target, asked.qrole), '' ORDER BY t.name)
                   FILTER (WHERE t.oid IS NOT NULL), '')
FROM asked CROSS JOIN owned o
LEFT JOIN tenant_table t ON o.classid = 'pg_catalog.pg_class'::regclass AND t.oid = o.objid
GROUP BY asked.role_name, asked.qrole, asked.qservice";

const ATTRIBUTES: &str = "
SELECT 'role ' || asked.role_name, x.problem, x.remedy
FROM asked LEFT JOIN pg_catalog.pg_roles r ON r.oid = asked.role
CROSS JOIN LATERAL (VALUES
  (1, r.oid IS NULL, 'it does not exist', 'CREATE ROLE ' || asked.qrole || ' LOGIN'),
  (2, r.rolsuper, 'it is a superuser', 'ALTER ROLE ' || asked.qrole || ' NOSUPERUSER'),
  (3, r.rolbypassrls, 'it has BYPASSRLS', 'ALTER ROLE ' || asked.qrole || ' NOBYPASSRLS'),
  (4, r.rolcreaterole, 'it can create roles', 'ALTER ROLE ' || asked.qrole || ' NOCREATEROLE'),
  (5, r.rolreplication, 'it can replicate, which reads every row', 'ALTER ROLE ' || asked.qrole || ' NOREPLICATION')
) AS x (place, is_so, problem, remedy)
WHERE x.is_so ORDER BY x.place";

/// Memberships that lead, directly or by way of others, inherited or by SET ROLE, to a role that the policies do not hold. The
/// database's owner is a member of `pg_database_owner` by itself.
const MEMBERSHIPS: &str = "
SELECT format('membership of role %s in %s', asked.role_name, d.rolname),
       CASE WHEN bool_or(g.rolsuper OR g.rolbypassrls) THEN 'it is a member of a role that is a superuser or has BYPASSRLS'
            WHEN bool_or(g.is_predefined OR g.rolreplication OR g.rolcreaterole)
            THEN 'it is a member of a predefined role, or of one that replicates or creates roles'
            ELSE 'it is a member of a role that owns something here, and an owner can take row-level security off' END,
       format('REVOKE %I FROM %s', d.rolname, asked.qrole)
FROM asked
JOIN pg_catalog.pg_auth_members m ON m.member = asked.held
JOIN pg_catalog.pg_roles d ON d.oid = m.roleid
JOIN (SELECT *, rolname LIKE 'pg\\_%' AND rolname <> 'pg_database_owner' AS is_predefined FROM pg_catalog.pg_roles) AS g
  ON g.oid = d.oid OR pg_has_role(d.oid, g.oid, 'MEMBER')
WHERE g.rolsuper OR g.rolbypassrls OR g.rolreplication OR g.rolcreaterole OR g.is_predefined
   OR EXISTS (SELECT FROM pg_catalog.pg_shdepend o
              WHERE o.refclassid = 'pg_catalog.pg_authid'::regclass AND o.refobjid = g.oid AND o.deptype = 'o'
                AND (o.dbid = asked.database OR (o.classid = 'pg_catalog.pg_database'::regclass AND o.objid = asked.database)))
GROUP BY asked.role_name, asked.qrole, d.rolname ORDER BY 1";

fn database_privileges() -> String {
    let acl = "coalesce(d.datacl, acldefault('d', d.datdba))";
    let temporary = grantees(acl, "x.privilege_type = 'TEMPORARY'");
    let create = grantees(acl, "x.privilege_type = 'CREATE'");
    format!(
        "
SELECT 'database ' || d.datname, x.problem, x.remedy
FROM asked JOIN pg_catalog.pg_database d ON d.oid = asked.database AND NOT pg_has_role(asked.held, d.datdba, 'MEMBER')
CROSS JOIN LATERAL (SELECT {temporary} AS temporary, {create} AS creation) AS g
CROSS JOIN LATERAL (VALUES
  (1, g.temporary, format('role %s can create temporary tables, which shadow real ones', asked.role_name),
   -- Whoever had it as one of the public keeps it.
   format('REVOKE TEMPORARY ON DATABASE %1$I FROM %2$s; GRANT TEMPORARY ON DATABASE %1$I TO %3$s', d.datname, g.temporary, asked.qservice)),
  (2, g.creation, format('role %s can create schemas in it, and with them objects of its own', asked.role_name),
   format('REVOKE CREATE ON DATABASE %I FROM %s', d.datname, g.creation))
) AS x (place, grantees, problem, remedy)
WHERE x.grantees IS NOT NULL ORDER BY x.place"
    )
}

fn schema_privileges() -> String {
    let acl = "coalesce(n.nspacl, acldefault('n', n.nspowner))";
    let create = grantees(acl, "x.privilege_type = 'CREATE'");
    let usage = grantees(acl, "x.privilege_type = 'USAGE'");
    format!(
        "
SELECT 'schema ' || n.nspname, x.problem, x.remedy
FROM asked JOIN pg_catalog.pg_namespace n ON NOT pg_has_role(asked.held, n.nspowner, 'MEMBER')
CROSS JOIN LATERAL (SELECT {create} AS creation, CASE n.oid WHEN asked.schema THEN {usage} END AS usage) AS g
CROSS JOIN LATERAL (VALUES
  (1, g.creation, format('role %s can create objects in it, which would stand beside yours', asked.role_name),
   format('REVOKE CREATE ON SCHEMA %I FROM %s', n.nspname, g.creation)),
  (2, g.usage, format('role %s can reach into it, and it tells of every tenant', asked.role_name),
   format('REVOKE USAGE ON SCHEMA %I FROM %s', n.nspname, g.usage))
) AS x (place, grantees, problem, remedy)
WHERE x.grantees IS NOT NULL ORDER BY n.nspname, x.place"
    )
}

fn parameter_privileges() -> String {
    let set = grantees("p.paracl", "x.privilege_type = 'SET'");
    format!(
        "
SELECT 'parameter ' || p.parname, format('role %s may set it, which silences triggers', asked.role_name),
       format('REVOKE SET ON PARAMETER %s FROM %s', p.parname, g.grantees)
FROM asked JOIN pg_catalog.pg_parameter_acl p ON p.parname = 'session_replication_role'
CROSS JOIN LATERAL (SELECT {set} AS grantees) AS g
WHERE g.grantees IS NOT NULL"
    )
}

/// Settings that a session of the role begins with: one without a tenant would have one.
const SESSION_DEFAULTS: &str = "
SELECT format('setting %s of %s', x.name, x.whose),
       'sessions of the restricted role begin with it: with a tenant, a role or silent triggers that nobody chose',
       format('ALTER %s RESET %s', x.statement, x.name)
FROM asked
JOIN pg_catalog.pg_db_role_setting s ON s.setrole IN (0, asked.role) AND s.setdatabase IN (0, asked.database)
CROSS JOIN LATERAL unnest(s.setconfig) AS setting
CROSS JOIN LATERAL (
  SELECT split_part(setting, '=', 1) AS name,
         CASE WHEN s.setrole <> 0 AND s.setdatabase <> 0 THEN format('role %s in database %s', asked.role_name, current_database())
              WHEN s.setrole <> 0 THEN 'role ' || asked.role_name
              WHEN s.setdatabase <> 0 THEN 'database ' || current_database() ELSE 'every role' END AS whose,
         CASE WHEN s.setrole <> 0 AND s.setdatabase <> 0 THEN format('ROLE %s IN DATABASE %s', asked.qrole, asked.qdatabase)
              WHEN s.setrole <> 0 THEN 'ROLE ' || asked.qrole
              WHEN s.setdatabase <> 0 THEN 'DATABASE ' || asked.qdatabase ELSE 'ROLE ALL' END AS statement) x
WHERE lower(x.name) IN ('app.tenant_id', 'role', 'session_replication_role')
ORDER BY 1";

/// Privileges that a new object is born with. A table would be open before it has a policy; and of functions, whose EXECUTE
/// the public has unless it is taken away, what was granted on top: one that runs as its owner would be open as well.
const DEFAULT_PRIVILEGES: &str = "
SELECT format('default privileges of role %s%s', pg_get_userbyid(a.defaclrole), ' in schema ' || n.nspname),
       format(CASE a.defaclobjtype WHEN 'r' THEN 'a new table is open to %s (%s) before it has a policy'
                                   WHEN 'f' THEN 'a new function can be called by %s (%s), also one that runs as its owner'
                                   ELSE 'a new schema is open to objects of %s (%s)' END,
              CASE x.grantee WHEN 0 THEN 'everyone' ELSE pg_get_userbyid(x.grantee)::text END,
              string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type)),
       format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE %s ON %s FROM %s', pg_get_userbyid(a.defaclrole),
              ' IN SCHEMA ' || quote_ident(n.nspname), string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type),
              CASE a.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'f' THEN 'FUNCTIONS' ELSE 'SCHEMAS' END,
              CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END)
FROM asked
CROSS JOIN pg_catalog.pg_default_acl a
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = a.defaclnamespace
CROSS JOIN LATERAL pg_catalog.aclexplode(a.defaclacl) x
WHERE asked.held IS NOT NULL
  AND CASE x.grantee WHEN 0 THEN true WHEN a.defaclrole THEN false ELSE pg_has_role(asked.held, x.grantee, 'MEMBER') END
  AND (a.defaclobjtype = 'r' OR (a.defaclobjtype = 'f' AND (x.grantee <> 0 OR a.defaclnamespace <> 0))
       OR (a.defaclobjtype = 'n' AND x.privilege_type = 'CREATE'))
GROUP BY a.oid, a.defaclrole, a.defaclobjtype, n.nspname, x.grantee
ORDER BY 1, 2";
