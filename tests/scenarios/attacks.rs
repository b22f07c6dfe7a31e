//! Attacks on the walls between tenants, each of which once went through.

use tenantry::operations::test_routing;
use tenantry_app_db::{Error, NewPlacement, NewTenant};
use tenantry_connection::Actor;
use tenantry_credential::CredentialColumn;
use tenantry_data_source::TenantTransaction;
use uuid::Uuid;

use crate::{
    routing::write,
    world::{World, keyring, on_both_engines},
};

on_both_engines!(nobody_is_mapped_onto_a_tenant_in_the_application_database);

/// A way past the policies, what is said of which object, and how it is closed.
const WAYS_PAST: [(&str, &str, &str, &str); 22] = [
    (
        "CREATE FUNCTION every_account() RETURNS SETOF accounts LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM accounts'; \
         ALTER FUNCTION every_account() OWNER TO {service}",
        "every_account()",
        "it runs as a role that row-level security lets through",
        "DROP FUNCTION every_account()",
    ),
    (
        "CREATE VIEW names AS SELECT * FROM accounts; ALTER VIEW names OWNER TO {service}; \
         GRANT SELECT (name) ON names TO {restricted}",
        "names",
        "it shows rows past row-level security",
        "DROP VIEW names",
    ),
    (
        "CREATE MATERIALIZED VIEW names AS SELECT * FROM accounts; GRANT SELECT ON names TO PUBLIC",
        "names",
        "it shows rows past row-level security",
        "DROP MATERIALIZED VIEW names",
    ),
    (
        "CREATE TABLE spool (body text); ALTER TABLE spool OWNER TO {service}; GRANT INSERT ON spool TO {restricted}; \
         CREATE RULE names AS ON INSERT TO spool DO INSTEAD SELECT name FROM accounts",
        "spool",
        "it shows rows past row-level security",
        "DROP TABLE spool",
    ),
    (
        "CREATE TABLE texts (body text); CREATE TABLE letters (tenant_id uuid NOT NULL) INHERITS (texts); \
         ALTER TABLE letters OWNER TO {service}; ALTER TABLE letters ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
         CREATE POLICY r ON letters TO {restricted} USING ({strict}) WITH CHECK ({strict}); \
         CREATE POLICY s ON letters TO {service} USING (true) WITH CHECK (true); GRANT SELECT ON texts TO {restricted}",
        "texts",
        "it shows the rows of a tenant table that inherits from it",
        "DROP TABLE texts CASCADE",
    ),
    (
        "CREATE UNIQUE INDEX one_name ON accounts (name)",
        "one_name on accounts",
        "it is unique across tenants",
        "DROP INDEX one_name",
    ),
    (
        "CREATE UNIQUE INDEX one_id ON accounts (id); ALTER TABLE notes ADD about uuid REFERENCES accounts (id) ON DELETE CASCADE",
        "notes_about_fkey on notes",
        "it refers to a tenant table and not by its tenant",
        "ALTER TABLE notes DROP about; DROP INDEX one_id",
    ),
    (
        "CREATE TABLE tags (tag text, whose uuid, id uuid, FOREIGN KEY (whose, id) REFERENCES accounts (tenant_id, id)); \
         GRANT SELECT ON tags TO {restricted}",
        "tags_whose_id_fkey on tags",
        "it refers to a tenant table and not by its tenant",
        "DROP TABLE tags",
    ),
    (
        "GRANT TRIGGER ON accounts TO {restricted}",
        "accounts",
        "may put a trigger on it",
        "REVOKE TRIGGER ON accounts FROM {restricted}",
    ),
    (
        "GRANT REFERENCES ON accounts TO PUBLIC",
        "accounts",
        "may refer to it",
        "REVOKE REFERENCES ON accounts FROM PUBLIC",
    ),
    // A session without a tenant would have one.
    (
        "ALTER ROLE {restricted} SET app.tenant_id = 'aaaaaaaa-0000-4000-8000-00000000000a'",
        "role",
        "its sessions begin with a tenant",
        "ALTER ROLE {restricted} RESET app.tenant_id",
    ),
    (
        "ALTER DATABASE {database} SET app.tenant_id = 'aaaaaaaa-0000-4000-8000-00000000000a'",
        "role",
        "its sessions begin with a tenant",
        "ALTER DATABASE {database} RESET app.tenant_id",
    ),
    (
        "GRANT SET ON PARAMETER session_replication_role TO {restricted}",
        "role",
        "it may silence triggers",
        "REVOKE SET ON PARAMETER session_replication_role FROM {restricted}",
    ),
    ("ALTER ROLE {restricted} REPLICATION", "role", "it can replicate", "ALTER ROLE {restricted} NOREPLICATION"),
    (
        "GRANT pg_read_server_files TO {restricted}",
        "role",
        "it is a member of a predefined role",
        "REVOKE pg_read_server_files FROM {restricted}",
    ),
    (
        "CREATE ROLE \"{database_name}.boss\" CREATEROLE; GRANT \"{database_name}.boss\" TO {restricted}",
        "role",
        "or of one that replicates or creates roles",
        "DROP ROLE \"{database_name}.boss\"",
    ),
    (
        "CREATE SCHEMA own AUTHORIZATION {restricted}",
        "role",
        "it owns the database, a schema or a function",
        "DROP SCHEMA own",
    ),
    (
        "CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
         ALTER FUNCTION own() OWNER TO {restricted}",
        "role",
        "it owns the database, a schema or a function",
        "DROP FUNCTION own()",
    ),
    (
        "CREATE SCHEMA other; GRANT CREATE ON SCHEMA other TO {restricted}",
        "role",
        "it can create objects in the schema, or in another one",
        "DROP SCHEMA other",
    ),
    (
        "GRANT CREATE ON DATABASE {database} TO {restricted}",
        "role",
        "it can create objects in the schema, or in another one, or a schema",
        "REVOKE CREATE ON DATABASE {database} FROM {restricted}",
    ),
    (
        "GRANT USAGE ON SCHEMA tenantry TO {restricted}",
        "role",
        "it can reach into schema tenantry",
        "REVOKE USAGE ON SCHEMA tenantry FROM {restricted}",
    ),
    (
        "CREATE POLICY more ON contacts AS RESTRICTIVE USING (true)",
        "policy more on contacts",
        "neither the strict policy",
        "DROP POLICY more ON contacts",
    ),
];

// Catches a report that says isolation holds while there is a way past the policies.
#[tokio::test(flavor = "multi_thread")]
async fn each_way_past_the_policies_is_measured_and_named() {
    let world = World::postgres().await;
    let tenant = world.tenant("acme").await.id;
    let shared = &world.databases[1];
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let fill = |sql: &str| {
        sql.replace("{restricted}", &quoted(&shared.restricted.user))
            .replace("{service}", &quoted(&shared.service.user))
            .replace("{database}", &quoted(&shared.name))
            .replace("{database_name}", &shared.name)
            .replace("{strict}", "tenant_id = (SELECT current_setting('app.tenant_id')::uuid)")
    };
    // Settings of a role and of a database count from the next connection on.
    let measure = async || {
        world.tenantry.manager().clear_all();
        world.tenantry.manager().test_connection(tenant).await
    };
    for (open, object, problem, close) in WAYS_PAST {
        shared.psql(&shared.superuser, &fill(open)).unwrap();
        let findings = measure().await.isolation_report.unwrap().findings;
        let named = findings.iter().any(|found| found.object.contains(object) && found.problem.contains(problem));
        assert!(named, "{open}: {findings:#?}");
        shared.psql(&shared.superuser, &fill(close)).unwrap();
        let closed = measure().await;
        assert_eq!(closed.rls_enabled, Some(true), "{close}: {:#?}", closed.isolation_report);
    }
}

// Catches what an application's own SQL leaves on a connection, and the next borrower of it.
#[tokio::test(flavor = "multi_thread")]
async fn raw_sql_leaves_nothing_to_the_next_borrower() {
    let world = World::postgres().await;
    let [one, two] = [world.tenant("acme").await.id, world.tenant("globex").await.id];
    // A connection that keeps its session is closed; behind a pooler it is the pooler's, and is cleaned.
    for (mode, kept) in [("direct", false), ("transaction", true)] {
        let source = world.shared().url;
        world
            .app_sql(&format!(
                "INSERT INTO data_sources (url, pooler_mode, max_connections) VALUES ('{source}', '{mode}', 1)
                 ON CONFLICT (url) DO UPDATE SET pooler_mode = excluded.pooler_mode, max_connections = 1"
            ))
            .await;
        world.tenantry.manager().clear_all();
        raw_sql_leaves_nothing(&world, one, two, kept).await;
    }
}

async fn raw_sql_leaves_nothing(world: &World, one: Uuid, two: Uuid, kept: bool) {
    let (one, two) = (world.tenantry.tenant(one).await.unwrap(), world.tenantry.tenant(two).await.unwrap());
    for (leave, look) in [
        ("SET statement_timeout = '7s'", "SELECT current_setting('statement_timeout') = '7s'"),
        ("SET default_transaction_read_only = on", "SELECT current_setting('default_transaction_read_only') = 'on'"),
        (
            "SELECT set_config('app.current_user_id', 'somebody', false)",
            "SELECT coalesce(current_setting('app.current_user_id', true), '') <> ''",
        ),
        (
            "SELECT pg_advisory_lock(4711)",
            "SELECT EXISTS (SELECT FROM pg_locks WHERE objid = 4711 AND locktype = 'advisory')",
        ),
        ("PREPARE left_behind AS SELECT 1", "SELECT EXISTS (SELECT FROM pg_prepared_statements WHERE from_sql)"),
        (
            "DECLARE left_behind CURSOR WITH HOLD FOR SELECT name FROM accounts",
            "SELECT EXISTS (SELECT FROM pg_cursors WHERE name = 'left_behind')",
        ),
    ] {
        for commit in [true, false] {
            let transaction = one.begin().await.unwrap();
            let backend = answer::<i32>(&transaction, "SELECT pg_backend_pid()").await;
            transaction.execute_raw_sql_outside_the_tenant_guard(leave, []).await.unwrap();
            let ended = if commit { transaction.commit().await } else { transaction.rollback().await };
            ended.unwrap();
            let next = two.begin().await.unwrap();
            assert_eq!(answer::<i32>(&next, "SELECT pg_backend_pid()").await == backend, kept);
            assert!(!answer::<bool>(&next, look).await, "{leave}");
            next.rollback().await.unwrap();
        }
    }
    write(&two, "as ever").await.unwrap();
}

async fn answer<T: sea_orm::TryGetable>(transaction: &TenantTransaction, sql: &str) -> T {
    let rows = transaction.query_raw_sql_outside_the_tenant_guard(sql, []).await.unwrap();
    rows[0].try_get_by_index(0).unwrap()
}

// Catches a routing test that fails for everyone because a neighbour has moved away.
#[tokio::test(flavor = "multi_thread")]
async fn the_probe_row_of_a_fenced_neighbour_stops_nobody() {
    let world = World::postgres().await;
    let [tenant, neighbour] = [world.tenant("acme").await.id, world.tenant("globex").await.id];
    let place = world.shared();
    let left = format!(
        "INSERT INTO routing_probe (tenant_id, id, note, created_at) \
         VALUES ('{neighbour}', gen_random_uuid(), 'killed', now() - interval '2 hours'); \
         SELECT tenantry.raise_fence('{neighbour}', 'moved away')"
    );
    world.place_sql(&place, &left).await;
    let report = test_routing(&world.tenantry, &[tenant]).await.unwrap();
    assert!(report.passed(), "{report:#?}");
    assert_eq!(world.count(&place, "SELECT count(*) FROM routing_probe").await, 0);
}

// While a single database is being split, the rows of tenants without a data source are in the application database.
async fn nobody_is_mapped_onto_a_tenant_in_the_application_database(world: World) {
    let application = &world.tenantry.settings().application_database;
    let app_db = world.tenantry.app_db();
    let unplaced = NewTenant::new("Acme", "acme");
    app_db.create_tenant(&unplaced, &Actor::default()).await.unwrap();
    let mapped_onto = |id: Uuid, subdomain: &str| {
        let mut tenant = NewTenant::new(subdomain, subdomain);
        let seal =
            |column| application.login.as_ref().map(|login| keyring("new").seal(tenant.id, column, login).unwrap());
        tenant.placement = NewPlacement {
            url: Some(application.url.clone()),
            anon_key: seal(CredentialColumn::Anon),
            service_key: seal(CredentialColumn::Service),
            tenant_id_in_data_source: Some(id.to_string().to_uppercase()),
            ..NewPlacement::default()
        };
        tenant
    };
    let refused = app_db.create_tenant(&mapped_onto(unplaced.id, "globex"), &Actor::default()).await.unwrap_err();
    assert!(matches!(refused, Error::KeyTaken { holder, .. } if holder == unplaced.id), "{refused:?}");

    // The other way round: whoever loses its data source falls back to where somebody else has its id.
    let place = world.tenant("initech").await;
    let mapped = mapped_onto(place.id, "globex");
    app_db.create_tenant(&mapped, &Actor::default()).await.unwrap();
    let unplace = app_db.place(place.id, place.placement_epoch, &NewPlacement::default(), &Actor::default()).await;
    assert!(matches!(unplace, Err(Error::KeyTaken { holder, .. }) if holder == mapped.id), "{unplace:?}");
}
