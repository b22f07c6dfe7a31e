//! The tables of both databases and their rows, and the proof that they are what they are said to be.

use sea_orm_migration::MigrationTrait;
use sea_orm_migration::schema::{big_integer, text};
use tenantry::migrations::{TenantSchema, TenantTable, create_tables};
use uuid::Uuid;

use super::{ROWS, TENANTS, World};
use crate::Error;

/// Where the tenants' ids begin; below are the rows' ids.
const FIRST_TENANT: usize = 1_000_000;

/// A tenant's id. Digits alone, so that SQL makes the same from a number.
pub(super) fn tenant_id(number: usize) -> Uuid {
    digits(FIRST_TENANT + number)
}

/// A row's id, the same in every tenant.
pub(super) fn row_id(number: usize) -> Uuid {
    digits(number)
}

fn digits(number: usize) -> Uuid {
    // The decimal digits, read as hexadecimal ones.
    let mut id = 0;
    let (mut rest, mut place) = (number, 0);
    while rest > 0 {
        id |= ((rest % 10) as u128) << (4 * place);
        rest /= 10;
        place += 1;
    }
    Uuid::from_u128(id)
}

/// The application's own tables.
pub(super) struct Items;

impl TenantSchema for Items {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![create_tables("items", || {
            let naps = TenantTable::new("naps").column(text("name"));
            [items("items"), items("items_unlogged").without_write_log(), naps.without_write_log()]
        })]
    }
}

fn items(name: &str) -> TenantTable {
    TenantTable::new(name)
        .column(text("name"))
        .column(big_integer("amount"))
        .column(text("status"))
        .index(["status", "created_at"])
}

/// The twin's table. That it has the columns, keys and indexes of the protected one is checked, see [`check`].
pub(super) const PLAIN: &str = "
CREATE TABLE items (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    amount bigint NOT NULL,
    status text NOT NULL,
    created_at timestamp with time zone DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp with time zone DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT items_pkey PRIMARY KEY (tenant_id, id)
);
CREATE INDEX items_created_at_id_idx ON items (tenant_id, created_at, id);
CREATE INDEX items_status_created_at_idx ON items (tenant_id, status, created_at);
";

/// Makes each insert into `naps` take 20 ms in the server. Raw SQL would do the same and have its connection closed after
/// each statement, so that reconnecting would be measured and not the queue.
pub(super) const NAPS: &str = "
CREATE FUNCTION public.nap() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM pg_sleep(0.02);
    RETURN NEW;
END
$function$;
REVOKE ALL ON FUNCTION public.nap() FROM PUBLIC;
CREATE TRIGGER nap BEFORE INSERT ON naps FOR EACH ROW EXECUTE FUNCTION public.nap();
";

/// Fills a table. Triggers step aside: a million entries of the write log would be no part of any figure.
pub(super) fn fill(table: &str) -> String {
    format!(
        "SET session_replication_role = replica;
         INSERT INTO {table} (id, tenant_id, name, amount, status, created_at, updated_at)
         SELECT lpad(row::text, 32, '0')::uuid,
                lpad(({FIRST_TENANT} + tenant)::text, 32, '0')::uuid,
                'item ' || row || ' of tenant ' || tenant,
                row * 100,
                (ARRAY['open', 'won', 'lost', 'parked'])[row % 4 + 1],
                timestamptz '2026-01-01 00:00:00+00' + row * interval '1 minute',
                timestamptz '2026-01-01 00:00:00+00' + row * interval '1 minute'
           FROM generate_series(0, {TENANTS} - 1) AS tenant, generate_series(0, {ROWS} - 1) AS row"
    )
}

/// Fills the table with rows of one tenant.
pub(super) fn fill_one(tenant: Uuid, rows: u64) -> String {
    format!(
        "SET session_replication_role = replica;
         INSERT INTO items (id, tenant_id, name, amount, status, created_at, updated_at)
         SELECT lpad(row::text, 32, '0')::uuid, '{tenant}', 'item ' || row, row * 100,
                (ARRAY['open', 'won', 'lost', 'parked'])[row % 4 + 1],
                timestamptz '2026-01-01 00:00:00+00' + row * interval '1 minute',
                timestamptz '2026-01-01 00:00:00+00' + row * interval '1 minute'
           FROM generate_series(0, {rows} - 1) AS row"
    )
}

/// What keeps a table apart, as the catalog says it: forced row-level security, policies, triggers.
const PROTECTION: &str = "
SELECT c.relname || ':' || c.relrowsecurity || c.relforcerowsecurity
       || ':' || (SELECT string_agg(p.polname, ',' ORDER BY p.polname) FROM pg_policy AS p WHERE p.polrelid = c.oid)
       || ':' || (SELECT string_agg(t.tgname, ',' ORDER BY t.tgname) FROM pg_trigger AS t
                   WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled = 'O')
  FROM pg_class AS c WHERE c.relname IN ('items', 'items_unlogged') ORDER BY c.relname";

const PROTECTED: &str = "\
items:truetrue:tenantry_restricted,tenantry_service:\
tenantry_fence,tenantry_fence_truncate,tenantry_tenant,tenantry_updated_at,tenantry_write_log
items_unlogged:truetrue:tenantry_restricted,tenantry_service:\
tenantry_fence,tenantry_fence_truncate,tenantry_tenant,tenantry_updated_at";

/// Everything about a table's layout that its speed can depend on, and its size in rows.
const LAYOUT: &str = "
SELECT a.attnum || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull
  FROM pg_attribute AS a WHERE a.attrelid = 'items'::regclass AND a.attnum > 0 ORDER BY a.attnum;
SELECT indexdef FROM pg_indexes WHERE tablename = 'items' ORDER BY indexdef;
SELECT count(*) FROM items";

/// Refuses a world in which the protected side is not protected, or the sides differ in anything else.
pub(super) fn check(world: &World) -> Result<(), Error> {
    let protection = world.superuser_sql(&world.protected, PROTECTION)?;
    if protection.trim_end() != PROTECTED {
        return Err(Error::Wrong(format!("the protected tables have {protection}and should have\n{PROTECTED}")));
    }
    let restricted = &world.protected.restricted;
    if let Ok(count) = world.protected.psql(restricted, "SELECT count(*) FROM items") {
        return Err(Error::Wrong(format!("without a tenant the restricted login reads {} rows", count.trim())));
    }
    let layouts = [&world.protected, &world.plain].map(|database| world.superuser_sql(database, LAYOUT));
    let [ours, twin] = layouts;
    let (ours, twin) = (ours?, twin?);
    if ours == twin { Ok(()) } else { Err(Error::Wrong(format!("the twin differs:\n{ours}\n{twin}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches an id that SQL and Rust make differently: every answer would be refused.
    #[test]
    fn a_number_is_its_digits() {
        assert_eq!(row_id(907).to_string(), "00000000-0000-0000-0000-000000000907");
        assert_eq!(tenant_id(42).to_string(), "00000000-0000-0000-0000-000001000042");
        assert!(row_id(0).is_nil());
    }
}
