//! Whether a role can be the restricted role: everything that would let it past row-level security is refused before the
//! first object is made, with the SQL that puts it right.

use sea_orm_migration::sea_orm::{ConnectionTrait, Statement};

use super::query_text;
use crate::Error;
use crate::dialect::{literal, quote};

const DOING: &str = "checking the restricted role";

/// Attributes that lift a role over policies, or let it make itself a member of anything (before PostgreSQL 16).
const ATTRIBUTES: [(&str, &str, &str); 4] = [
    ("rolsuper", "is a superuser", "NOSUPERUSER"),
    ("rolbypassrls", "bypasses row-level security", "NOBYPASSRLS"),
    ("rolcreaterole", "may create roles and so make itself a member of any", "NOCREATEROLE"),
    ("rolreplication", "may replicate and so read every row", "NOREPLICATION"),
];

/// Refuses a restricted role that row-level security would not hold back.
pub(super) async fn check_restricted(connection: &impl ConnectionTrait, role: &str) -> Result<(), Error> {
    if role.is_empty() {
        return Err(Error::NoRestrictedRole);
    }
    let refuse =
        |problem: String, remedy: String| Err(Error::RestrictedRole { role: role.to_owned(), problem, remedy });
    let name = literal(role);
    let ask = async |sql: String| query_text(connection, &sql, DOING).await;

    if ask(format!("SELECT rolname::pg_catalog.text FROM pg_catalog.pg_roles WHERE rolname = {name}")).await?.is_none()
    {
        return refuse(
            "it does not exist".to_owned(),
            format!(
                "CREATE ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB NOREPLICATION PASSWORD '<password>'",
                quote(role)
            ),
        );
    }
    let current = ask("SELECT current_user::pg_catalog.text".to_owned()).await?.unwrap_or_default();
    if current == role {
        return refuse(
            "it is the service role itself".to_owned(),
            "nothing; name another role, or migrate with the service login".to_owned(),
        );
    }
    for (attribute, problem, remedy) in ATTRIBUTES {
        let sql =
            format!("SELECT rolname::pg_catalog.text FROM pg_catalog.pg_roles WHERE rolname = {name} AND {attribute}");
        if ask(sql).await?.is_some() {
            return refuse(format!("it {problem}"), format!("ALTER ROLE {} {remedy}", quote(role)));
        }
    }
    if let Some((strong, direct)) = query_pair(connection, strong_membership(&name)).await? {
        let through = if strong == direct { String::new() } else { format!(" through {direct}") };
        return refuse(
            format!("it is a member of {strong}{through}, which owns objects here or passes by row-level security"),
            format!("REVOKE {} FROM {}", quote(&direct), quote(role)),
        );
    }
    if let Some((kind, object)) = query_pair(connection, owned_object(&name)).await? {
        return refuse(
            format!("it owns the {kind} {object}"),
            format!("REASSIGN OWNED BY {} TO {}", quote(role), quote(&current)),
        );
    }
    Ok(())
}

/// The two texts of a query's first row.
async fn query_pair(connection: &impl ConnectionTrait, sql: String) -> Result<Option<(String, String)>, Error> {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let Some(row) = connection.query_one_raw(statement).await.map_err(Error::doing(DOING))? else { return Ok(None) };
    let text = |at: usize| row.try_get_by_index(at).map_err(Error::doing(DOING));
    Ok(Some((text(0)?, text(1)?)))
}

/// A role that this one is a member of, directly or not, inherited or by SET ROLE, and that is too strong; and the direct
/// membership that leads there.
fn strong_membership(name: &str) -> String {
    format!(
        "SELECT g.rolname::pg_catalog.text, d.rolname::pg_catalog.text
           FROM pg_catalog.pg_roles AS r
           JOIN pg_catalog.pg_auth_members AS m ON m.member = r.oid
           JOIN pg_catalog.pg_roles AS d ON d.oid = m.roleid
           JOIN pg_catalog.pg_roles AS g ON g.oid = d.oid OR pg_catalog.pg_has_role(d.oid, g.oid, 'MEMBER')
          WHERE r.rolname = {name}
            AND (g.rolsuper OR g.rolbypassrls OR g.rolcreaterole OR g.rolreplication
                 OR g.rolname = current_user
                 OR g.rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_read_server_files',
                                  'pg_write_server_files', 'pg_execute_server_program')
                 OR EXISTS (SELECT FROM pg_catalog.pg_database AS d
                             WHERE d.datname = pg_catalog.current_database() AND d.datdba = g.oid)
                 OR EXISTS (SELECT FROM pg_catalog.pg_namespace AS n
                             WHERE n.nspowner = g.oid AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema')
                 OR EXISTS (SELECT FROM pg_catalog.pg_class AS c
                             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                            WHERE c.relowner = g.oid AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'))
          ORDER BY g.rolname, d.rolname LIMIT 1"
    )
}

/// Something in this database that the role owns: an owner can take row-level security off.
fn owned_object(name: &str) -> String {
    format!(
        "SELECT o.kind, o.object FROM (
             SELECT r.oid, 'database' AS kind, d.datname::pg_catalog.text AS object
               FROM pg_catalog.pg_roles AS r JOIN pg_catalog.pg_database AS d ON d.datdba = r.oid
              WHERE r.rolname = {name} AND d.datname = pg_catalog.current_database()
             UNION ALL
             SELECT r.oid, 'schema', n.nspname::pg_catalog.text
               FROM pg_catalog.pg_roles AS r JOIN pg_catalog.pg_namespace AS n ON n.nspowner = r.oid
              WHERE r.rolname = {name} AND n.nspname NOT LIKE 'pg\\_%'
             UNION ALL
             SELECT r.oid, 'table', n.nspname || '.' || c.relname
               FROM pg_catalog.pg_roles AS r
               JOIN pg_catalog.pg_class AS c ON c.relowner = r.oid
               JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
              WHERE r.rolname = {name} AND n.nspname NOT LIKE 'pg\\_%'
         ) AS o ORDER BY o.kind, o.object LIMIT 1"
    )
}
