//! The connection test measures: each thing that takes row-level security away makes `rls_enabled` false and is named, and
//! mended it is true again. The original reported "RLS enabled" without looking.

use tenantry_connection::Engine;
use tenantry_data_source::{ConnectionTest, Isolation};

use crate::world::{World, on_both_engines};

on_both_engines!(a_sound_route_is_told_with_its_version_and_time, a_route_that_leads_nowhere_is_told);

async fn a_sound_route_is_told_with_its_version_and_time(world: World) {
    let tenant = world.tenant("acme").await;
    let test = world.tenantry.manager().test_connection(tenant.id).await;
    assert!(test.passed() && test.can_connect && test.can_query, "{test:?}");
    assert!(test.response_time_ms.is_some_and(|time| time > 0.0));
    let version = test.server_version.as_deref().unwrap();
    match world.engine {
        Engine::Postgres => {
            assert!(version.starts_with("PostgreSQL "), "{version}");
            assert_eq!((test.rls_enabled, test.isolation), (Some(true), Some(Isolation::Policy)));
            assert!(test.isolation_report.unwrap().tables.len() >= 14);
        }
        Engine::Sqlite => {
            assert!(version.starts_with("SQLite "), "{version}");
            assert_eq!((test.rls_enabled, test.isolation), (None, Some(Isolation::PredicateOnly)));
        }
    }
    let info = serde_json::to_value(world.tenantry.manager().connection_info(tenant.id).await.unwrap()).unwrap();
    assert_eq!(info["has_service_credential"], world.engine == Engine::Postgres);
    assert!(info.as_object().unwrap().keys().all(|key| !key.ends_with("_key")), "{info}");
}

async fn a_route_that_leads_nowhere_is_told(mut world: World) {
    let place = world.place("gone");
    let tenant = world.tenant_on("acme", &place).await;
    world.tenantry.manager().clear_all();
    world.lose(&place);
    let all = world.tenantry.manager().test_connections(&[tenant.id], 4).await;
    let [test] = all.as_slice() else { panic!("one test") };
    assert!(!test.passed() && !test.can_connect, "{test:?}");
    assert!(test.error.as_deref().unwrap().contains("does not exist"), "{test:?}");
    if let Some(path) = place.url.sqlite_path() {
        assert!(!path.exists(), "a missing file is an error, not a new and empty database");
    }
}

/// How to take isolation away, what is then said of which object, and how to put it back.
const WEAKNESSES: [(&str, &str, &str, &str); 15] = [
    (
        "ALTER TABLE accounts DISABLE ROW LEVEL SECURITY",
        "accounts",
        "row-level security is not enabled",
        "ALTER TABLE accounts ENABLE ROW LEVEL SECURITY",
    ),
    (
        "ALTER TABLE notes NO FORCE ROW LEVEL SECURITY",
        "notes",
        "row-level security is not forced",
        "ALTER TABLE notes FORCE ROW LEVEL SECURITY",
    ),
    (
        "CREATE POLICY everything ON contacts USING (true)",
        "policy everything on contacts",
        "neither the strict policy",
        "DROP POLICY everything ON contacts",
    ),
    (
        "CREATE POLICY everything ON contacts TO {restricted} USING (true) WITH CHECK (true)",
        "policy everything on contacts",
        "neither the strict policy",
        "DROP POLICY everything ON contacts",
    ),
    // An unset setting becomes "no rows" instead of an error.
    (
        "ALTER POLICY {policy} ON leads USING (tenant_id = (SELECT current_setting('app.tenant_id', true)::uuid))",
        "leads",
        "the strict policy of the restricted role",
        "ALTER POLICY {policy} ON leads USING ({strict}) WITH CHECK ({strict})",
    ),
    // Rows could be moved to another tenant (trap 21).
    (
        "ALTER POLICY {policy} ON leads WITH CHECK (true)",
        "leads",
        "the strict policy of the restricted role",
        "ALTER POLICY {policy} ON leads USING ({strict}) WITH CHECK ({strict})",
    ),
    (
        "DROP POLICY {policy} ON tasks",
        "tasks",
        "the strict policy of the restricted role",
        "CREATE POLICY {policy} ON tasks TO {restricted} USING ({strict}) WITH CHECK ({strict})",
    ),
    ("ALTER ROLE {restricted} BYPASSRLS", "role", "it has BYPASSRLS", "ALTER ROLE {restricted} NOBYPASSRLS"),
    ("ALTER ROLE {restricted} SUPERUSER", "role", "it is a superuser", "ALTER ROLE {restricted} NOSUPERUSER"),
    ("ALTER ROLE {restricted} CREATEROLE", "role", "it can create roles", "ALTER ROLE {restricted} NOCREATEROLE"),
    (
        "GRANT {service} TO {restricted}",
        "membership of role",
        "it is a member of a role that owns something here",
        "REVOKE {service} FROM {restricted}",
    ),
    (
        "GRANT TEMP ON DATABASE {database} TO {restricted}",
        "database",
        "can create temporary tables",
        "REVOKE TEMP ON DATABASE {database} FROM {restricted}",
    ),
    (
        "GRANT CREATE ON SCHEMA public TO {restricted}",
        "schema public",
        "can create objects in it",
        "REVOKE CREATE ON SCHEMA public FROM {restricted}",
    ),
    // TRUNCATE asks no policy.
    (
        "GRANT TRUNCATE ON accounts TO {restricted}",
        "accounts",
        "the restricted role may truncate it",
        "REVOKE TRUNCATE ON accounts FROM {restricted}",
    ),
    // A view runs as its owner, whom the open policy lets through (trap 20).
    (
        "CREATE VIEW every_account AS SELECT * FROM accounts; ALTER VIEW every_account OWNER TO {service}; \
         GRANT SELECT ON every_account TO {restricted}",
        "every_account",
        "it shows rows past row-level security",
        "DROP VIEW every_account",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_weakness_is_measured_and_named() {
    let world = World::postgres().await;
    let tenant = world.tenant("acme").await.id;
    let shared = &world.databases[1];
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let policy = shared
        .psql(
            &shared.service,
            &format!(
                "SELECT polname FROM pg_policy WHERE polrelid = 'leads'::regclass AND polroles = \
                 ARRAY(SELECT oid FROM pg_roles WHERE rolname = '{}')",
                shared.restricted.user
            ),
        )
        .unwrap();
    let fill = |sql: &str| {
        sql.replace("{restricted}", &quoted(&shared.restricted.user))
            .replace("{service}", &quoted(&shared.service.user))
            .replace("{database}", &quoted(&shared.name))
            .replace("{policy}", &quoted(policy.trim()))
            .replace("{strict}", "tenant_id = (SELECT current_setting('app.tenant_id')::uuid)")
    };
    let test = async || -> ConnectionTest { world.tenantry.manager().test_connection(tenant).await };
    let sound = test().await;
    assert_eq!(sound.rls_enabled, Some(true), "{sound:#?}");
    for (weaken, object, problem, mend) in WEAKNESSES {
        shared.psql(&shared.superuser, &fill(weaken)).unwrap();
        let weak = test().await;
        assert_eq!(weak.rls_enabled, Some(false), "{weaken}");
        assert!(!weak.passed() && weak.can_query, "{weaken}");
        let findings = weak.isolation_report.unwrap().findings;
        let named = findings.iter().any(|found| found.object.contains(object) && found.problem.contains(problem));
        assert!(named, "{weaken}: {findings:#?}");
        assert!(findings.iter().all(|found| !found.remedy.is_empty()));
        shared.psql(&shared.superuser, &fill(mend)).unwrap();
        let mended = test().await;
        assert_eq!(mended.rls_enabled, Some(true), "{mend}: {:#?}", mended.isolation_report);
    }
    // A tenant table that somebody adds without policies, the way it mostly happens.
    shared
        .psql(&shared.service, "CREATE TABLE invoices (tenant_id uuid NOT NULL, id uuid, PRIMARY KEY (tenant_id, id))")
        .unwrap();
    let weak = test().await;
    let findings = weak.isolation_report.unwrap().findings;
    let of_the_table = findings.iter().filter(|found| found.object.contains("invoices")).count();
    // Neither enabled nor forced, two policies, three triggers.
    assert_eq!((weak.rls_enabled, of_the_table), (Some(false), 7), "{findings:#?}");
}
