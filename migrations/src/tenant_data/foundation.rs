//! The first migration: the settings, the fence, the write log, the routing probe, and on PostgreSQL what the restricted
//! role may and may not do in the database as a whole.

use async_trait::async_trait;
use sea_orm_migration::schema::text_null;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use super::{Installation, query_text, roles};
use crate::dialect::{Engine, literal, quote};
use crate::tables::{ROUTING_PROBE, WRITE_LOG};
use crate::{Error, TenantTable, fence, tenant_table, write_log};

/// See the module's documentation.
pub(super) struct Foundation;

impl MigrationName for Foundation {
    fn name(&self) -> &'static str {
        "m20261121_000001_tenant_data_foundation"
    }
}

#[async_trait]
impl MigrationTrait for Foundation {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let engine = Engine::of(connection)?;
        let installation = Installation::from_session(connection).await?;
        if engine == Engine::Postgres {
            roles::check_restricted(connection, &installation.restricted_role).await?;
        }
        fence::install(connection).await?;
        let mut statements = vec![installation.store_sql(engine)];
        if engine == Engine::Postgres {
            statements.push(tenant_table::POSTGRES_FUNCTIONS.to_owned());
            statements.push(write_log::postgres_function(&installation));
            statements.push(fence::postgres::check_function(&installation.tenant_column));
            statements.push(database_privileges(&installation));
        }
        for sql in statements {
            connection.execute_unprepared(&sql).await.map_err(Error::doing("creating the foundation"))?;
        }
        write_log::table().create(manager).await?;
        routing_probe().create(manager).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let engine = Engine::of(connection)?;
        let mut losses = Vec::new();
        for table in [write_log::table(), routing_probe()] {
            losses.extend(table.loss(connection).await?);
        }
        if let Some(fenced) = fenced_tenants(connection, engine).await? {
            losses.push(format!("the fence is up for {fenced}"));
        }
        losses.extend(
            tables_left(connection, engine).await?.map(|tables| format!("tenant tables stand on it ({tables})")),
        );
        if !losses.is_empty() {
            return Err(Error::WouldLose { losses }.into());
        }
        routing_probe().drop(manager).await?;
        write_log::table().drop(manager).await?;
        let statements: &[&str] = match engine {
            Engine::Postgres => &[
                write_log::POSTGRES_DROP,
                tenant_table::POSTGRES_DROP_FUNCTIONS,
                "DROP TABLE tenantry.installation",
                fence::postgres::UNINSTALL,
                fence::postgres::DROP_SCHEMA_IF_EMPTY,
            ],
            Engine::Sqlite => &["DROP TABLE tenantry_installation"],
        };
        for sql in statements {
            connection.execute_unprepared(sql).await.map_err(Error::doing("dropping the foundation"))?;
        }
        if engine == Engine::Sqlite {
            fence::sqlite::drop_if_unused(connection).await?;
            fence::sqlite::drop_session_if_unused(connection).await?;
        }
        Ok(())
    }
}

/// What a connection test writes to, so that it need not touch a business row.
fn routing_probe() -> TenantTable {
    TenantTable::new(ROUTING_PROBE).column(text_null("note")).without_updated_at().without_write_log()
}

async fn fenced_tenants(connection: &impl ConnectionTrait, engine: Engine) -> Result<Option<String>, Error> {
    let sql = match engine {
        Engine::Postgres => "SELECT pg_catalog.string_agg(tenant_id, ', ') FROM tenantry.fence WHERE fenced",
        Engine::Sqlite => "SELECT group_concat(tenant_id, ', ') FROM tenantry_fence WHERE fenced = 1",
    };
    query_text(connection, sql, "reading the fence").await
}

/// Tenant tables other than the foundation's own, whose triggers would have nothing to call.
async fn tables_left(connection: &impl ConnectionTrait, engine: Engine) -> Result<Option<String>, Error> {
    let own = format!("({}, {})", literal(WRITE_LOG), literal(ROUTING_PROBE));
    let sql = match engine {
        Engine::Postgres => format!(
            "SELECT pg_catalog.string_agg(c.relname, ', ' ORDER BY c.relname) FROM pg_catalog.pg_trigger AS t
               JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
              WHERE t.tgname = 'tenantry_tenant' AND c.relname NOT IN {own}"
        ),
        Engine::Sqlite => format!(
            "SELECT group_concat(tbl_name, ', ') FROM sqlite_master
              WHERE type = 'trigger' AND instr(name, 'tenantry_tenant_') = 1 AND tbl_name NOT IN {own}"
        ),
    };
    query_text(connection, &sql, "looking for tenant tables").await
}

/// Privileges on the database and on schema `public`. What belongs to someone else is left alone with a notice: the
/// isolation check reports it.
fn database_privileges(installation: &Installation) -> String {
    let (restricted, service) = (quote(&installation.restricted_role), quote(&installation.service_role));
    let message = |text: &str| literal(text);
    format!(
        r"DO $block$
DECLARE
    target text := pg_catalog.quote_ident(pg_catalog.current_database());
BEGIN
    IF (SELECT pg_catalog.pg_has_role(current_user, d.datdba, 'USAGE') FROM pg_catalog.pg_database AS d
         WHERE d.datname = pg_catalog.current_database()) THEN
        -- A temporary table named like a business table would shadow it.
        EXECUTE 'REVOKE TEMPORARY ON DATABASE ' || target || ' FROM PUBLIC';
        EXECUTE 'GRANT TEMPORARY ON DATABASE ' || target || {grant_temporary};
        EXECUTE 'REVOKE TEMPORARY, CREATE ON DATABASE ' || target || {from_restricted};
        EXECUTE 'GRANT CONNECT ON DATABASE ' || target || {grant_connect};
    ELSE
        RAISE NOTICE USING MESSAGE = {not_owner};
    END IF;
    IF (SELECT pg_catalog.pg_has_role(current_user, n.nspowner, 'USAGE') FROM pg_catalog.pg_namespace AS n
         WHERE n.nspname = 'public') THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
        REVOKE CREATE ON SCHEMA public FROM {restricted};
        GRANT USAGE ON SCHEMA public TO {restricted};
    ELSE
        RAISE NOTICE USING MESSAGE = {not_schema_owner};
    END IF;
END
$block$",
        grant_temporary = literal(&format!(" TO {service}")),
        from_restricted = literal(&format!(" FROM {restricted}")),
        grant_connect = literal(&format!(" TO {restricted}")),
        not_owner = message(
            "tenantry: the database belongs to another role; its owner must run REVOKE TEMPORARY ON DATABASE ... FROM PUBLIC"
        ),
        not_schema_owner = message(
            "tenantry: schema public belongs to another role; its owner must run REVOKE CREATE ON SCHEMA public FROM PUBLIC"
        ),
    )
}
