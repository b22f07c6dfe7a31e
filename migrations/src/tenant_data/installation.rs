//! What a data source is installed with, as the first migration stored it.

use sea_orm_migration::sea_orm::{ConnectionTrait, Statement};
use sea_orm_migration::sea_query::ColumnType;

use super::query_text;
use crate::Error;
use crate::dialect::{Engine, checked_identifier, literal, quote, sqlite};

/// The tenant column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TenantType {
    Uuid,
    BigInt,
    Text,
}

impl TenantType {
    pub(crate) fn parse(name: &str) -> Result<Self, Error> {
        match name {
            "uuid" => Ok(Self::Uuid),
            "bigint" => Ok(Self::BigInt),
            "text" => Ok(Self::Text),
            other => Err(Error::TenantType { given: other.to_owned() }),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::BigInt => "bigint",
            Self::Text => "text",
        }
    }

    pub(crate) fn column_type(self) -> ColumnType {
        match self {
            Self::Uuid => ColumnType::Uuid,
            Self::BigInt => ColumnType::BigInteger,
            Self::Text => ColumnType::Text,
        }
    }

    pub(crate) fn is_text(self) -> bool {
        self == Self::Text
    }
}

/// The stored settings, with the role that owns the support schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installation {
    /// Empty on SQLite.
    pub(crate) restricted_role: String,
    /// Empty on SQLite.
    pub(crate) service_role: String,
    pub(crate) tenant_column: String,
    pub(crate) tenant_type: TenantType,
}

impl Installation {
    /// The installation, and on PostgreSQL the certainty that the service role is the one asking: what it creates next must
    /// be its own, or the policies would name the wrong owner.
    pub(crate) async fn read(connection: &impl ConnectionTrait) -> Result<Self, Error> {
        let installation = Self::find(connection).await?.ok_or(Error::NotInstalled)?;
        if Engine::of(connection)? == Engine::Postgres {
            let doing = "asking for the current role";
            let current =
                query_text(connection, "SELECT current_user::pg_catalog.text", doing).await?.unwrap_or_default();
            if current != installation.service_role {
                return Err(Error::NotService { service: installation.service_role, current });
            }
        }
        Ok(installation)
    }

    /// The installation, where there is one.
    pub(crate) async fn find(connection: &impl ConnectionTrait) -> Result<Option<Self>, Error> {
        const DOING: &str = "reading the installation";
        let engine = Engine::of(connection)?;
        let (exists, read) = match engine {
            Engine::Postgres => (
                "SELECT pg_catalog.to_regclass('tenantry.installation')::pg_catalog.text",
                "SELECT i.restricted_role, i.tenant_column, i.tenant_type, pg_catalog.pg_get_userbyid(n.nspowner)::pg_catalog.text \
                   FROM tenantry.installation AS i, pg_catalog.pg_namespace AS n WHERE n.nspname = 'tenantry'",
            ),
            Engine::Sqlite => (
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'tenantry_installation'",
                "SELECT '', tenant_column, tenant_type, '' FROM tenantry_installation",
            ),
        };
        if query_text(connection, exists, DOING).await?.is_none() {
            return Ok(None);
        }
        let statement = Statement::from_string(engine.backend(), read);
        let Some(row) = connection.query_one_raw(statement).await.map_err(Error::doing(DOING))? else {
            return Ok(None);
        };
        let text = |at: usize| row.try_get_by_index::<String>(at).map_err(Error::doing(DOING));
        Ok(Some(Self {
            restricted_role: text(0)?,
            tenant_column: text(1)?,
            tenant_type: TenantType::parse(&text(2)?)?,
            service_role: text(3)?,
        }))
    }

    /// What the first migration is to store: the session's settings, and the defaults where it has none.
    pub(crate) async fn from_session(connection: &impl ConnectionTrait) -> Result<Self, Error> {
        const DOING: &str = "reading the settings of the session";
        let engine = Engine::of(connection)?;
        let prepared = match engine {
            Engine::Postgres => true,
            Engine::Sqlite => {
                let sql = "SELECT name FROM sqlite_temp_master WHERE name = 'tenantry_prepared'";
                query_text(connection, sql, DOING).await?.is_some()
            }
        };
        let mut texts = [const { String::new() }; 4];
        if prepared {
            let sql = match engine {
                Engine::Postgres => {
                    "SELECT coalesce(pg_catalog.current_setting('tenantry.restricted_role', true), ''), \
                            coalesce(pg_catalog.current_setting('tenantry.tenant_column', true), ''), \
                            coalesce(pg_catalog.current_setting('tenantry.tenant_type', true), ''), \
                            current_user::pg_catalog.text"
                }
                Engine::Sqlite => "SELECT '', tenant_column, tenant_type, '' FROM temp.tenantry_prepared",
            };
            let statement = Statement::from_string(engine.backend(), sql);
            if let Some(row) = connection.query_one_raw(statement).await.map_err(Error::doing(DOING))? {
                for (at, text) in texts.iter_mut().enumerate() {
                    *text = row.try_get_by_index(at).map_err(Error::doing(DOING))?;
                }
            }
        }
        let [restricted_role, tenant_column, tenant_type, service_role] = texts;
        if engine == Engine::Postgres && restricted_role.is_empty() {
            return Err(Error::NoRestrictedRole);
        }
        let or = |given: String, default: &str| if given.is_empty() { default.to_owned() } else { given };
        let tenant_column = or(tenant_column, "tenant_id");
        checked_identifier(&tenant_column)?;
        let tenant_type = TenantType::parse(&or(tenant_type, "uuid"))?;
        Ok(Self { restricted_role, service_role, tenant_column, tenant_type })
    }

    pub(crate) fn must_be(&self, setting: &'static str, installed: &str, given: &str) -> Result<(), Error> {
        if installed == given {
            return Ok(());
        }
        Err(Error::OtherInstallation { setting, installed: installed.to_owned(), given: given.to_owned() })
    }

    /// The condition of the restricted policy. An unset tenant is an error in each of the three types, never "no rows": the
    /// empty text that a transaction leaves behind is no uuid, no number, and for a text column is made to fail.
    pub(crate) fn policy_condition(&self) -> String {
        let tenant = quote(&self.tenant_column);
        match self.tenant_type {
            TenantType::Uuid | TenantType::BigInt => {
                format!("{tenant} = (SELECT pg_catalog.current_setting('app.tenant_id')::{})", self.tenant_type.name())
            }
            TenantType::Text => format!(
                "{tenant} = (SELECT CASE pg_catalog.current_setting('app.tenant_id') \
                 WHEN '' THEN pg_catalog.current_setting('app.tenant_id is empty') \
                 ELSE pg_catalog.current_setting('app.tenant_id') END)"
            ),
        }
    }

    /// Creates the table that stores this and fills it.
    pub(crate) fn store_sql(&self, engine: Engine) -> String {
        let (restricted, column, tenant_type) =
            (literal(&self.restricted_role), literal(&self.tenant_column), literal(self.tenant_type.name()));
        match engine {
            Engine::Postgres => format!(
                "CREATE TABLE tenantry.installation (
    singleton       boolean NOT NULL DEFAULT true CONSTRAINT installation_pkey PRIMARY KEY CONSTRAINT installation_singleton_check CHECK (singleton),
    restricted_role text NOT NULL,
    tenant_column   text NOT NULL,
    tenant_type     text NOT NULL CONSTRAINT installation_tenant_type_check CHECK (tenant_type IN ('uuid', 'bigint', 'text')),
    installed_at    timestamp with time zone NOT NULL DEFAULT pg_catalog.now()
);
REVOKE ALL ON tenantry.installation FROM PUBLIC;
INSERT INTO tenantry.installation (restricted_role, tenant_column, tenant_type) VALUES ({restricted}, {column}, {tenant_type})"
            ),
            Engine::Sqlite => format!(
                "CREATE TABLE tenantry_installation (
    singleton integer PRIMARY KEY NOT NULL DEFAULT 1 CONSTRAINT tenantry_installation_singleton_check CHECK (singleton = 1),
    tenant_column text NOT NULL,
    tenant_type text NOT NULL CONSTRAINT tenantry_installation_tenant_type_check CHECK (tenant_type IN ('uuid', 'bigint', 'text')),
    installed_at timestamp_with_timezone_text NOT NULL DEFAULT ({})
);
INSERT INTO tenantry_installation (tenant_column, tenant_type) VALUES ({column}, {tenant_type})",
                sqlite::NOW
            ),
        }
    }
}

/// Keeps the settings until the migrator runs on this connection: on SQLite in a temporary table, which is the connection's.
pub(crate) async fn remember_for_session(
    connection: &impl ConnectionTrait,
    restricted_role: &str,
    tenant_column: &str,
    tenant_type: TenantType,
) -> Result<(), Error> {
    let (restricted, column, tenant_type) =
        (literal(restricted_role), literal(tenant_column), literal(tenant_type.name()));
    let sql = match Engine::of(connection)? {
        Engine::Postgres => format!(
            "SELECT pg_catalog.set_config('tenantry.restricted_role', {restricted}, false), \
                    pg_catalog.set_config('tenantry.tenant_column', {column}, false), \
                    pg_catalog.set_config('tenantry.tenant_type', {tenant_type}, false)"
        ),
        Engine::Sqlite => format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS tenantry_prepared (tenant_column text NOT NULL, tenant_type text NOT NULL);
             DELETE FROM temp.tenantry_prepared;
             INSERT INTO temp.tenantry_prepared (tenant_column, tenant_type) VALUES ({column}, {tenant_type})"
        ),
    };
    connection.execute_unprepared(&sql).await.map(|_| ()).map_err(Error::doing("keeping the settings for the session"))
}
