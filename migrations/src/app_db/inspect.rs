//! What an existing database already has, as far as the four tables go.

use sea_orm_migration::sea_orm::{ConnectionTrait, QueryResult, Statement};

use crate::Error;
use crate::dialect::{Engine, literal};

/// An existing table.
pub(super) struct Existing {
    pub(super) columns: Vec<ExistingColumn>,
    /// Names of constraints (PostgreSQL) in the table.
    pub(super) constraints: Vec<String>,
    /// Columns that are unique by themselves, by primary key or index.
    pub(super) unique_columns: Vec<String>,
    /// Columns with a foreign key of their own to `tenants`.
    pub(super) tenant_references: Vec<String>,
    pub(super) rows: i64,
    /// PostgreSQL: the owner, where it is someone whom this login cannot act for.
    pub(super) foreign_owner: Option<String>,
}

pub(super) struct ExistingColumn {
    pub(super) name: String,
    /// PostgreSQL: the type's internal name. SQLite: the declared type, which binds nothing.
    pub(super) type_name: String,
    pub(super) nullable: bool,
    pub(super) has_default: bool,
}

impl Existing {
    pub(super) fn column(&self, name: &str) -> Option<&ExistingColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// The table as it is; `None` where there is none. Something else of that name (a view, say) has no columns to alter and is
/// reported by its kind.
pub(super) async fn find(connection: &impl ConnectionTrait, table: &str) -> Result<Option<Existing>, Error> {
    let engine = Engine::of(connection)?;
    let (kind_sql, table_kind) = match engine {
        Engine::Postgres => (
            format!(
                "SELECT c.relkind::pg_catalog.text FROM pg_catalog.pg_class AS c
                   JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                  WHERE n.nspname = 'public' AND c.relname = {}",
                literal(table)
            ),
            "r",
        ),
        Engine::Sqlite => (format!("SELECT type FROM sqlite_master WHERE name = {}", literal(table)), "table"),
    };
    let Some(kind) = texts(connection, kind_sql).await?.into_iter().next() else { return Ok(None) };
    if kind != table_kind {
        return Err(Error::DoesNotFit {
            problems: vec![format!("{table} exists and is not a plain table (kind {kind}); rename it")],
        });
    }
    Ok(Some(match engine {
        Engine::Postgres => postgres(connection, table).await?,
        Engine::Sqlite => sqlite(connection, table).await?,
    }))
}

async fn postgres(connection: &impl ConnectionTrait, table: &str) -> Result<Existing, Error> {
    let target = format!("pg_catalog.to_regclass({})", literal(&format!("public.{table}")));
    let columns = rows(
        connection,
        format!(
            "SELECT a.attname::pg_catalog.text, t.typname::pg_catalog.text, NOT a.attnotnull, a.atthasdef OR a.attidentity <> ''
               FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
              WHERE a.attrelid = {target} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
        ),
    )
    .await?
    .iter()
    .map(existing_column)
    .collect::<Result<_, _>>()?;
    let constraints = texts(
        connection,
        format!("SELECT conname::pg_catalog.text FROM pg_catalog.pg_constraint WHERE conrelid = {target}"),
    )
    .await?;
    let unique_columns = texts(
        connection,
        format!(
            "SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_index AS i
               JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
              WHERE i.indrelid = {target} AND i.indisunique AND i.indisvalid AND i.indnkeyatts = 1 AND i.indpred IS NULL"
        ),
    )
    .await?;
    let tenant_references = texts(
        connection,
        format!(
            "SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_constraint AS c
               JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
              WHERE c.conrelid = {target} AND c.contype = 'f' AND pg_catalog.cardinality(c.conkey) = 1
                AND c.confrelid = pg_catalog.to_regclass('public.tenants')"
        ),
    )
    .await?;
    let foreign_owner = texts(
        connection,
        format!(
            "SELECT pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text FROM pg_catalog.pg_class AS c
              WHERE c.oid = {target} AND NOT pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE')"
        ),
    )
    .await?
    .into_iter()
    .next();
    // Rows that are not this login's to read (or a policy hides) cannot be checked; the owner's problem is reported instead.
    let rows = if foreign_owner.is_some() { 0 } else { count(connection, &format!("public.{table}")).await? };
    Ok(Existing { columns, constraints, unique_columns, tenant_references, rows, foreign_owner })
}

async fn sqlite(connection: &impl ConnectionTrait, table: &str) -> Result<Existing, Error> {
    let name = literal(table);
    let columns = rows(
        connection,
        format!(
            "SELECT name, type, \"notnull\" = 0 AND pk = 0, dflt_value IS NOT NULL FROM pragma_table_xinfo({name})"
        ),
    )
    .await?
    .iter()
    .map(existing_column)
    .collect::<Result<_, _>>()?;
    let unique_columns = texts(
        connection,
        format!(
            "SELECT name FROM pragma_table_info({name}) WHERE pk = 1 AND (SELECT count(*) FROM pragma_table_info({name}) WHERE pk > 0) = 1
             UNION
             SELECT i.name FROM pragma_index_list({name}) AS l, pragma_index_info(l.name) AS i
              WHERE l.\"unique\" = 1 AND l.partial = 0 AND (SELECT count(*) FROM pragma_index_info(l.name)) = 1 AND i.name IS NOT NULL"
        ),
    )
    .await?;
    let tenant_references =
        texts(connection, format!("SELECT \"from\" FROM pragma_foreign_key_list({name}) WHERE \"table\" = 'tenants'"))
            .await?;
    let rows = count(connection, table).await?;
    Ok(Existing { columns, constraints: Vec::new(), unique_columns, tenant_references, rows, foreign_owner: None })
}

fn existing_column(row: &QueryResult) -> Result<ExistingColumn, Error> {
    const DOING: &str = "reading the existing columns";
    Ok(ExistingColumn {
        name: row.try_get_by_index(0).map_err(Error::doing(DOING))?,
        type_name: row.try_get_by_index(1).map_err(Error::doing(DOING))?,
        nullable: row.try_get_by_index(2).map_err(Error::doing(DOING))?,
        has_default: row.try_get_by_index(3).map_err(Error::doing(DOING))?,
    })
}

async fn count(connection: &impl ConnectionTrait, target: &str) -> Result<i64, Error> {
    const DOING: &str = "counting existing rows";
    let answer = rows(connection, format!("SELECT count(*) FROM {target}")).await?;
    answer.first().map_or(Ok(0), |row| row.try_get_by_index(0)).map_err(Error::doing(DOING))
}

/// The first column of every row.
pub(super) async fn texts(connection: &impl ConnectionTrait, sql: String) -> Result<Vec<String>, Error> {
    rows(connection, sql)
        .await?
        .iter()
        .map(|row| row.try_get_by_index(0).map_err(Error::doing("reading the existing schema")))
        .collect()
}

/// Every row of a query.
pub(super) async fn rows(connection: &impl ConnectionTrait, sql: String) -> Result<Vec<QueryResult>, Error> {
    connection
        .query_all_raw(Statement::from_string(connection.get_database_backend(), sql))
        .await
        .map_err(Error::doing("inspecting the existing database"))
}
