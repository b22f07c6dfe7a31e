//! The announcement of placements: whatever changes where or how a tenant is reached, its status among it, is told to the
//! processes that have cached it.
//!
//! ```text
//! placement_epoch changed, tenant deleted ──trigger──▶ placement_version + 1, placement_changes(tenant, version)
//!                                         └─────────▶ NOTIFY tenantry_placement, '<tenant id>'      (PostgreSQL)
//! ```
//!
//! The version is a row and no sequence: it is seen when the change is, not before. Whoever asks for the changes after a
//! version gets all of them, whichever notifications were missed.
//!
//! It knows no process and no cache. Absence is never cached, so that a new tenant is not announced.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use crate::Error;
use crate::dialect::Engine;

/// See the module's documentation.
pub(super) struct Announce;

impl MigrationName for Announce {
    fn name(&self) -> &'static str {
        "m20261122_000001_announce"
    }
}

#[async_trait]
impl MigrationTrait for Announce {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let sql = match Engine::of(connection)? {
            Engine::Postgres => POSTGRES,
            Engine::Sqlite => SQLITE,
        };
        let doing = Error::doing("preparing the announcement of placements");
        connection.execute_unprepared(sql).await.map(drop).map_err(doing)?;
        Ok(())
    }

    /// What is dropped is nobody's data: the numbers of changes that every process has seen or will read again.
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let sql = match Engine::of(connection)? {
            Engine::Postgres => POSTGRES_DOWN,
            Engine::Sqlite => SQLITE_DOWN,
        };
        let doing = Error::doing("taking back the announcement of placements");
        connection.execute_unprepared(sql).await.map(drop).map_err(doing)?;
        Ok(())
    }
}

/// The triggers are deferred to the commit: the version's row is what everybody who changes a placement has to take, so it is
/// taken last and for the shortest time, and no two of them wait for each other. One transaction takes one version, however
/// many tenants it changes. In the owner's name, as the other triggers: whoever may change a tenant cannot leave this out.
const POSTGRES: &str = r"
CREATE TABLE tenantry.placement_version (
    the_only boolean NOT NULL DEFAULT true CONSTRAINT placement_version_pkey PRIMARY KEY
        CONSTRAINT placement_version_the_only_check CHECK (the_only),
    version  bigint  NOT NULL,
    taken_by xid8
);
INSERT INTO tenantry.placement_version (version) VALUES (0);
CREATE TABLE tenantry.placement_changes (
    tenant  uuid   NOT NULL CONSTRAINT placement_changes_pkey PRIMARY KEY,
    version bigint NOT NULL
);
CREATE INDEX placement_changes_version_idx ON tenantry.placement_changes (version);
REVOKE ALL ON tenantry.placement_version, tenantry.placement_changes FROM PUBLIC;

CREATE FUNCTION tenantry.app_db_announce() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    taken bigint;
BEGIN
    UPDATE tenantry.placement_version AS v SET version = v.version + 1, taken_by = pg_current_xact_id()
     WHERE v.taken_by IS DISTINCT FROM pg_current_xact_id()
    RETURNING v.version INTO taken;
    IF taken IS NULL THEN
        SELECT v.version INTO taken FROM tenantry.placement_version AS v;
    END IF;
    INSERT INTO tenantry.placement_changes AS c (tenant, version) VALUES (OLD.id, taken)
    ON CONFLICT (tenant) DO UPDATE SET version = excluded.version;
    PERFORM pg_notify('tenantry_placement', OLD.id::text);
    RETURN NULL;
END
$function$;
REVOKE ALL ON FUNCTION tenantry.app_db_announce() FROM PUBLIC;

CREATE CONSTRAINT TRIGGER tenantry_announce AFTER UPDATE ON public.tenants DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.placement_epoch IS DISTINCT FROM NEW.placement_epoch OR OLD.id IS DISTINCT FROM NEW.id)
    EXECUTE FUNCTION tenantry.app_db_announce();
CREATE CONSTRAINT TRIGGER tenantry_announce_delete AFTER DELETE ON public.tenants DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION tenantry.app_db_announce()
";

const POSTGRES_DOWN: &str = r"
DROP TRIGGER tenantry_announce ON public.tenants;
DROP TRIGGER tenantry_announce_delete ON public.tenants;
DROP FUNCTION tenantry.app_db_announce();
DROP TABLE tenantry.placement_changes;
DROP TABLE tenantry.placement_version
";

/// There is one writer at a time, so that nothing has to be deferred.
const SQLITE: &str = "
CREATE TABLE tenantry_placement_version (
    the_only integer PRIMARY KEY NOT NULL CONSTRAINT tenantry_placement_version_the_only_check CHECK (the_only = 1),
    version integer NOT NULL
);
INSERT INTO tenantry_placement_version (the_only, version) VALUES (1, 0);
CREATE TABLE tenantry_placement_changes (
    tenant blob PRIMARY KEY NOT NULL,
    version integer NOT NULL
);
CREATE INDEX tenantry_placement_changes_version_idx ON tenantry_placement_changes (version);

CREATE TRIGGER tenantry_announce AFTER UPDATE ON tenants FOR EACH ROW
WHEN OLD.placement_epoch IS NOT NEW.placement_epoch OR OLD.id IS NOT NEW.id BEGIN
    UPDATE tenantry_placement_version SET version = version + 1;
    INSERT INTO tenantry_placement_changes (tenant, version)
    SELECT OLD.id, version FROM tenantry_placement_version WHERE true
    ON CONFLICT (tenant) DO UPDATE SET version = excluded.version;
END;
CREATE TRIGGER tenantry_announce_delete AFTER DELETE ON tenants FOR EACH ROW BEGIN
    UPDATE tenantry_placement_version SET version = version + 1;
    INSERT INTO tenantry_placement_changes (tenant, version)
    SELECT OLD.id, version FROM tenantry_placement_version WHERE true
    ON CONFLICT (tenant) DO UPDATE SET version = excluded.version;
END
";

const SQLITE_DOWN: &str = "
DROP TRIGGER tenantry_announce;
DROP TRIGGER tenantry_announce_delete;
DROP TABLE tenantry_placement_changes;
DROP TABLE tenantry_placement_version
";
