//! Row-level security, keys and privileges, attacked with the restricted login.

use super::{A, ACCOUNT, B, insert_account, refused, restricted, service, service_refused, tenant_data};

/// One account of each tenant, with the same id.
async fn two_tenants() -> tenantry_test_support::cluster::Database {
    let database = tenant_data().await;
    for tenant in [A, B] {
        let sql = format!("INSERT INTO accounts (id, tenant_id, name) VALUES ('{ACCOUNT}', '{tenant}', '{tenant}');");
        restricted(&database, tenant, &sql);
    }
    database
}

// Trap 19. Catches a session without a tenant that sees no rows, or all.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_a_tenant_is_an_error() {
    let database = two_tenants().await;
    for sql in [
        "SELECT * FROM accounts;",
        "UPDATE accounts SET name = 'x';",
        "DELETE FROM accounts;",
        "SELECT * FROM write_log;",
    ] {
        let unset = database.psql(&database.restricted, sql).unwrap_err();
        assert_eq!(unset.sqlstate(), Some("42704"), "{sql}");
        // What a committed SET LOCAL leaves behind is the empty text.
        let after = format!("BEGIN; SET LOCAL app.tenant_id = '{A}'; COMMIT; {sql}");
        assert_eq!(database.psql(&database.restricted, &after).unwrap_err().sqlstate(), Some("22P02"), "{sql}");
    }
}

// Traps 20 and 21. Catches a policy that lets through a row of another tenant in any direction.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_reaches_its_own_rows_alone() {
    let database = two_tenants().await;
    assert_eq!(restricted(&database, A, "SELECT name FROM accounts;"), A);
    assert_eq!(refused(&database, B, &insert_account(A)), "42501");
    let upsert = format!(
        "INSERT INTO accounts (id, tenant_id, name) VALUES ('{ACCOUNT}', '{A}', 'x') ON CONFLICT (tenant_id, id) DO UPDATE SET name = 'x';"
    );
    assert_eq!(refused(&database, B, &upsert), "42501");
    restricted(&database, B, &format!("UPDATE accounts SET name = 'x' WHERE tenant_id = '{A}';"));
    restricted(&database, B, &format!("DELETE FROM accounts WHERE tenant_id = '{A}';"));
    assert_eq!(service(&database, "SELECT count(DISTINCT name) FROM accounts;"), "2");
}

// Trap 21. Catches a row that moves to another tenant, by whichever role.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_cannot_change_its_tenant() {
    let database = two_tenants().await;
    let other = "cccccccc-0000-4000-8000-00000000000c";
    let update = format!("UPDATE accounts SET tenant_id = '{other}' WHERE tenant_id = '{A}';");
    assert_eq!(refused(&database, A, &update), "TN002");
    assert_eq!(refused(&database, A, &format!("SET tenantry.transfer = 'on'; {update}")), "TN002");
    assert_eq!(service_refused(&database, &update), "TN002");
}

// Trap 24. Catches a reference that crosses tenants, which policies do not see.
#[tokio::test(flavor = "multi_thread")]
async fn a_reference_stays_within_the_tenant() {
    let database = two_tenants().await;
    restricted(&database, B, "DELETE FROM accounts;");
    let contact = |tenant: &str| {
        format!(
            "INSERT INTO contacts (tenant_id, first_name, last_name, account_id) VALUES ('{tenant}', 'f', 'l', '{ACCOUNT}');"
        )
    };
    assert_eq!(refused(&database, B, &contact(B)), "23503");
    assert_eq!(service_refused(&database, &contact(B)), "23503");
    restricted(&database, A, &contact(A));
    restricted(&database, A, "DELETE FROM accounts;");
    assert_eq!(service(&database, "SELECT tenant_id, account_id IS NULL FROM contacts;"), format!("{A}|t"));
}

// Trap 20. Catches a table whose owner passes by row-level security, and a table with another set of policies.
#[tokio::test(flavor = "multi_thread")]
async fn every_tenant_table_has_the_pair_of_policies_and_forces_them() {
    let database = tenant_data().await;
    let tables = tenantry_migrations::tables::BUSINESS_TABLES.len() + 2;
    let sound = format!(
        "SELECT count(*) FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace AND c.relrowsecurity AND c.relforcerowsecurity
            AND (SELECT array_agg(p.polname::text ORDER BY p.polname) FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polcmd = '*' AND p.polpermissive)
                = '{{tenantry_restricted,tenantry_service}}'
            AND (SELECT count(*) FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polname = 'tenantry_restricted'
                  AND pg_get_expr(p.polqual, p.polrelid) = pg_get_expr(p.polwithcheck, p.polrelid)
                  AND p.polroles = ARRAY[(SELECT oid FROM pg_roles WHERE rolname = '{}')]) = 1;",
        database.restricted.user
    );
    assert_eq!(service(&database, &sound), tables.to_string());
    // Without its own policy the owner is held back like anyone: FORCE is what makes that so.
    service(&database, "DROP POLICY tenantry_service ON accounts;");
    assert_eq!(service_refused(&database, &insert_account(A)), "42501");
}

// Catches privileges that row-level security does not cover.
#[tokio::test(flavor = "multi_thread")]
async fn the_restricted_role_has_no_way_around() {
    let database = two_tenants().await;
    for (attack, sqlstate) in [
        ("CREATE TEMPORARY TABLE accounts (id uuid);", "42501"),
        ("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1';", "42501"),
        ("CREATE TABLE public.mine (id uuid);", "42501"),
        ("CREATE SCHEMA mine;", "42501"),
        ("TRUNCATE accounts;", "42501"),
        ("ALTER TABLE accounts DISABLE ROW LEVEL SECURITY;", "42501"),
        ("ALTER TABLE accounts DISABLE TRIGGER ALL;", "42501"),
        ("CREATE POLICY mine ON accounts USING (true);", "42501"),
        ("SET session_replication_role = replica;", "42501"),
        ("SET row_security = off; SELECT * FROM accounts;", "42501"),
        ("SELECT tenantry.raise_fence('x', 'y');", "42501"),
        ("SELECT * FROM tenantry.fence;", "42501"),
        ("SELECT * FROM tenantry.installation;", "42501"),
        ("SELECT * FROM tenantry_tenant_data_migrations;", "42501"),
        ("COPY accounts FROM STDIN;", "0A000"),
    ] {
        assert_eq!(refused(&database, A, attack), sqlstate, "{attack}");
    }
    let become_service = format!("SET ROLE \"{}\";", database.service.user);
    assert_eq!(refused(&database, A, &become_service), "42501");
    assert_eq!(service_refused(&database, "TRUNCATE accounts CASCADE;"), "TN004");
}

// Trap 22. Catches a policy whose cast keeps the index from being used.
#[tokio::test(flavor = "multi_thread")]
async fn the_policy_uses_the_index() {
    let database = tenant_data().await;
    service(
        &database,
        "INSERT INTO accounts (tenant_id, name)
         SELECT md5((i % 500)::text)::uuid, 'n' || i FROM generate_series(1, 20000) AS i; ANALYZE accounts;",
    );
    let tenant = service(&database, "SELECT md5('7')::uuid;");
    for sql in [
        "SELECT * FROM accounts".to_owned(),
        format!("SELECT * FROM accounts WHERE tenant_id = '{tenant}'"),
        format!("SELECT * FROM accounts WHERE tenant_id = '{tenant}' AND id = '{ACCOUNT}'"),
    ] {
        let plan = restricted(&database, &tenant, &format!("EXPLAIN (COSTS OFF) {sql};"));
        assert!(plan.contains("Index Cond: ((tenant_id = ") || plan.contains("Index Cond: (tenant_id = "), "{plan}");
        assert!(!plan.contains("Seq Scan"), "{plan}");
    }
    assert_eq!(restricted(&database, &tenant, "SELECT count(*) FROM accounts;"), "40");
}
