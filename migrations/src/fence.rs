//! The fence: holds one tenant's writes while its rows are moved.
//!
//! ```text
//! write to a tenant table ──trigger──▶ shared lock of the tenant, then: fenced? ──▶ refused (TN001)
//! raise                   ───────────▶ exclusive lock of the tenant: waits for its open writers, for no neighbour
//! ```
//!
//! The locks are advisory, keyed by the tenant, and held until the transaction ends: one for each tenant that a transaction
//! writes for, so that a statement over thousands of tenants can exhaust the server's lock table (53200). A writer at REPEATABLE READ or above
//! could read the fence in a snapshot that is older than its raising; such a writer also locks the tenant's fence row,
//! which fails with a serialization error when the row is newer than its snapshot. On SQLite there is one writer at a
//! time, so reading the row is enough.
//!
//! The trigger steps aside for a transfer: `tenantry.transfer` is `on` and the session belongs to the service role.
//! On PostgreSQL, membership is asked of the session's own role, of the role it has set and of the current one, because
//! cascades run as the tables' owner. On SQLite, which has no roles, the setting is enough.
//!
//! This module knows no table but its own: a table is fenced once its trigger is attached, whoever created it.

use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::Error;
use crate::dialect::{Engine, checked_identifier};

pub(crate) mod postgres;
pub(crate) mod sqlite;

/// The SQLSTATE of a fenced write on PostgreSQL.
pub const FENCED_SQLSTATE: &str = "TN001";

/// The message of a fenced write on SQLite, whose extended result code is 1811 (constraint trigger).
pub const FENCED_SQLITE_MESSAGE: &str = "tenantry: tenant is fenced";

/// Creates what the fence needs: on PostgreSQL schema `tenantry` with its table and functions, on SQLite the tables
/// `tenantry_fence` and `tenantry_session`. Idempotent. The caller becomes the service role where the schema is new.
///
/// # Errors
/// [`Error::Database`], for example when the login may not create a schema.
pub async fn install(connection: &impl ConnectionTrait) -> Result<(), Error> {
    execute(connection, &install_sql(connection.get_database_backend())?, "installing the fence").await
}

/// Puts the fence's trigger on an existing table. Idempotent. On PostgreSQL `table` is a name in schema `public`, or
/// `schema.table`; SQLite has no schemas, and a dot is a part of the name.
/// Rows whose tenant column is null belong to no tenant and are let through.
///
/// # Errors
/// [`Error::Identifier`], or [`Error::Database`] when the table or the column is missing or belongs to someone else.
pub async fn attach(connection: &impl ConnectionTrait, table: &str, tenant_column: &str) -> Result<(), Error> {
    let sql = attach_sql(connection.get_database_backend(), table, tenant_column)?;
    execute(connection, &sql, format!("attaching the fence to {table}")).await
}

/// Takes the fence's trigger off a table. Idempotent.
///
/// # Errors
/// [`Error::Identifier`], or [`Error::Database`] when the table is missing or belongs to someone else.
pub async fn detach(connection: &impl ConnectionTrait, table: &str) -> Result<(), Error> {
    let sql = detach_sql(connection.get_database_backend(), table)?;
    execute(connection, &sql, format!("detaching the fence from {table}")).await
}

/// Raises the fence of one tenant: returns once its open writers have ended, and refuses its writes from the commit of
/// the surrounding transaction on. `tenant` is the canonical text of the tenant column's value. Idempotent.
///
/// # Errors
/// [`Error::Database`], for example after `lock_timeout`: a writer of this tenant stayed open; raise it again.
pub async fn raise(connection: &impl ConnectionTrait, tenant: &str, reason: &str) -> Result<(), Error> {
    let sql = match Engine::of(connection)? {
        Engine::Postgres => "SELECT tenantry.raise_fence($1, $2)",
        Engine::Sqlite => sqlite::RAISE,
    };
    run(connection, sql, [tenant, reason], format!("raising the fence of tenant {tenant}")).await
}

/// Lowers the fence of one tenant. Idempotent.
///
/// # Errors
/// [`Error::Database`].
pub async fn lower(connection: &impl ConnectionTrait, tenant: &str) -> Result<(), Error> {
    let sql = match Engine::of(connection)? {
        Engine::Postgres => "SELECT tenantry.lower_fence($1)",
        Engine::Sqlite => sqlite::LOWER,
    };
    run(connection, sql, [tenant], format!("lowering the fence of tenant {tenant}")).await
}

/// Whether the tenant's writes are held.
///
/// # Errors
/// [`Error::Database`], also where the fence is not installed.
pub async fn is_fenced(connection: &impl ConnectionTrait, tenant: &str) -> Result<bool, Error> {
    let doing = || Error::doing(format!("reading the fence of tenant {tenant}"));
    let sql = match Engine::of(connection)? {
        Engine::Postgres => "SELECT tenantry.is_fenced($1) AS fenced",
        Engine::Sqlite => sqlite::IS_FENCED,
    };
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, [tenant.into()]);
    let row = connection.query_one_raw(statement).await.map_err(doing())?;
    row.map_or(Ok(false), |row| row.try_get_by_index(0).map_err(doing()))
}

/// The statements of [`install`], for a caller that executes SQL by itself.
///
/// # Errors
/// [`Error::Backend`].
pub fn install_sql(backend: DbBackend) -> Result<String, Error> {
    Ok(match Engine::from_backend(backend)? {
        Engine::Postgres => postgres::install(),
        Engine::Sqlite => sqlite::install(),
    })
}

/// The statements of [`attach`], for a caller that executes SQL by itself.
///
/// # Errors
/// [`Error::Backend`] or [`Error::Identifier`].
pub fn attach_sql(backend: DbBackend, table: &str, tenant_column: &str) -> Result<String, Error> {
    checked_identifier(tenant_column)?;
    Ok(match Engine::from_backend(backend)? {
        Engine::Postgres => {
            let (schema, name) = split(table)?;
            [postgres::check_function(tenant_column), postgres::attach(schema, name, tenant_column)].join(";\n")
        }
        Engine::Sqlite => {
            checked_identifier(table)?;
            [sqlite::detach(table), sqlite::attach(table, tenant_column)].join(";\n")
        }
    })
}

/// The statements of [`detach`], for a caller that executes SQL by itself.
///
/// # Errors
/// [`Error::Backend`] or [`Error::Identifier`].
pub fn detach_sql(backend: DbBackend, table: &str) -> Result<String, Error> {
    Ok(match Engine::from_backend(backend)? {
        Engine::Postgres => {
            let (schema, name) = split(table)?;
            postgres::detach(schema, name)
        }
        Engine::Sqlite => sqlite::detach(checked_identifier(table)?),
    })
}

fn split(table: &str) -> Result<(&str, &str), Error> {
    let (schema, name) = table.split_once('.').unwrap_or(("public", table));
    Ok((checked_identifier(schema)?, checked_identifier(name)?))
}

async fn execute(connection: &impl ConnectionTrait, sql: &str, doing: impl Into<String>) -> Result<(), Error> {
    connection.execute_unprepared(sql).await.map(|_| ()).map_err(Error::doing(doing))
}

async fn run<const N: usize>(
    connection: &impl ConnectionTrait,
    sql: &str,
    values: [&str; N],
    doing: String,
) -> Result<(), Error> {
    let statement = Statement::from_sql_and_values(
        connection.get_database_backend(),
        sql,
        values.map(sea_orm_migration::sea_orm::Value::from),
    );
    connection.execute_raw(statement).await.map(|_| ()).map_err(Error::doing(doing))
}
