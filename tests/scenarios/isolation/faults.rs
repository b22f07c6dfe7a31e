//! Every fault by itself: it is found and named, and the printed remedies, run as they stand, mend it.

use sea_orm_migration::SchemaManager;
use tenantry_connection::{Pool, PoolOptions};
use tenantry_migrations::TenantTable;

use super::Source;
use crate::world::login_of;

/// What opens a fault, the object and the problem that have to be named, and what takes away what the remedies leave.
struct Fault {
    open: &'static str,
    object: &'static str,
    problem: &'static str,
    undo: &'static str,
}

const fn fault(open: &'static str, object: &'static str, problem: &'static str) -> Fault {
    Fault { open, object, problem, undo: "" }
}

const fn leaving(open: &'static str, object: &'static str, problem: &'static str, undo: &'static str) -> Fault {
    Fault { open, object, problem, undo }
}

/// Traps 20, 21 and 22, and what `check-isolation` promises.
const OF_TABLES: &[Fault] = &[
    fault("ALTER TABLE accounts DISABLE ROW LEVEL SECURITY", "accounts", "row-level security is not enabled"),
    fault("ALTER TABLE accounts NO FORCE ROW LEVEL SECURITY", "accounts", "row-level security is not forced"),
    fault("CREATE POLICY more ON accounts USING (true)", "policy more on accounts", "it is for everyone"),
    fault(
        "CREATE POLICY \"Mehr\" ON accounts FOR UPDATE TO {restricted} USING (true)",
        "policy \"Mehr\" on accounts",
        "it lets every row through",
    ),
    fault("CREATE POLICY less ON accounts AS RESTRICTIVE USING (true)", "policy less on accounts", "it is restrictive"),
    fault(
        "ALTER POLICY tenantry_restricted ON accounts USING (tenant_id = (SELECT current_setting('app.tenant_id', true)::uuid)) \
         WITH CHECK (tenant_id = (SELECT current_setting('app.tenant_id', true)::uuid))",
        "policy tenantry_restricted on accounts",
        "missing_ok",
    ),
    fault(
        "ALTER POLICY tenantry_restricted ON accounts USING (tenant_id::text = (SELECT current_setting('app.tenant_id')))",
        "policy tenantry_restricted on accounts",
        "which defeats the index",
    ),
    fault(
        "DROP POLICY tenantry_restricted ON accounts; CREATE POLICY tenantry_restricted ON accounts FOR SELECT TO {restricted} USING ({strict})",
        "policy tenantry_restricted on accounts",
        "it is for one command only, it lacks one of USING and WITH CHECK",
    ),
    fault(
        "ALTER POLICY tenantry_restricted ON accounts USING (true)",
        "policy tenantry_restricted on accounts",
        "it lets every row through",
    ),
    fault(
        "ALTER POLICY tenantry_service ON accounts TO PUBLIC",
        "policy tenantry_service on accounts",
        "neither the strict policy",
    ),
    fault("DROP POLICY tenantry_service ON accounts", "accounts", "the open policy of the service role is missing"),
    fault("DROP POLICY tenantry_restricted ON accounts", "accounts", "the strict policy of the restricted role"),
    leaving(
        "CREATE TABLE invoices (tenant_id uuid NOT NULL, id uuid, PRIMARY KEY (tenant_id, id)); ALTER TABLE invoices OWNER TO {service}",
        "invoices",
        "row-level security is not enabled",
        "DROP TABLE invoices",
    ),
    leaving(
        "CREATE TABLE invoices (tenant_id uuid NOT NULL, id uuid, PRIMARY KEY (tenant_id, id))",
        "invoices",
        "it belongs to postgres and not to the service role",
        "DROP TABLE invoices",
    ),
    leaving(
        "CREATE TABLE invoices (tenant_id text NOT NULL, id uuid, PRIMARY KEY (tenant_id, id)); ALTER TABLE invoices OWNER TO {service}; \
         CREATE POLICY p ON invoices TO {restricted} USING (tenant_id::uuid = (SELECT current_setting('app.tenant_id')::uuid))",
        "invoices",
        "its tenant column is of type text and not uuid",
        "DROP TABLE invoices",
    ),
    fault("GRANT TRUNCATE ON accounts TO {restricted}", "accounts", "may truncate it"),
    fault("GRANT TRIGGER ON accounts TO PUBLIC", "accounts", "may put a trigger on it"),
    fault("GRANT REFERENCES (name) ON accounts TO {restricted}", "accounts", "may refer to it"),
];

/// Trap 24, and unique constraints that tell one tenant what another has.
const OF_KEYS: &[Fault] = &[
    leaving(
        "ALTER TABLE notes DROP CONSTRAINT notes_pkey, ADD CONSTRAINT notes_pkey PRIMARY KEY (id)",
        "notes_pkey on notes",
        "it is unique across tenants",
        "",
    ),
    leaving(
        "ALTER TABLE accounts ADD CONSTRAINT one UNIQUE (name, tenant_id) INCLUDE (phone) DEFERRABLE INITIALLY DEFERRED",
        "one on accounts",
        "it does not begin with the tenant column",
        "ALTER TABLE accounts DROP CONSTRAINT one",
    ),
    leaving(
        "CREATE UNIQUE INDEX one ON accounts (lower(name) COLLATE \"C\" DESC) WHERE status = 'active'",
        "one on accounts",
        "it is unique across tenants",
        "DROP INDEX one",
    ),
    // A reference that compares tenants uses the key, and has to step aside for its remedy.
    leaving(
        "ALTER TABLE notes ADD CONSTRAINT one UNIQUE (entity_id, tenant_id); \
         ALTER TABLE tasks ADD CONSTRAINT about FOREIGN KEY (tenant_id, entity_id) REFERENCES notes (tenant_id, entity_id)",
        "one on notes",
        "it does not begin with the tenant column",
        "ALTER TABLE tasks DROP CONSTRAINT about; ALTER TABLE notes DROP CONSTRAINT one",
    ),
    leaving(
        "CREATE UNIQUE INDEX one_id ON accounts (id); ALTER TABLE notes ADD about uuid REFERENCES accounts (id) ON DELETE SET NULL",
        "notes_about_fkey on notes",
        "it refers to a tenant table and not by its tenant",
        "ALTER TABLE notes DROP about; DROP INDEX one_id",
    ),
    leaving(
        "CREATE TABLE tags (tag text, whose uuid, id uuid, FOREIGN KEY (whose, id) REFERENCES accounts (tenant_id, id)); \
         GRANT SELECT ON tags TO {restricted}",
        "tags_whose_id_fkey on tags",
        "it refers to a tenant table and not by its tenant",
        "DROP TABLE tags",
    ),
    leaving(
        "ALTER TABLE notes ADD whose uuid, ADD FOREIGN KEY (whose, entity_id) REFERENCES accounts (tenant_id, id)",
        "notes_whose_entity_id_fkey on notes",
        "it refers to a tenant table and not by its tenant",
        "ALTER TABLE notes DROP CONSTRAINT notes_whose_entity_id_fkey, DROP whose",
    ),
    leaving(
        "ALTER TABLE event_dates ADD during tsrange, ADD CONSTRAINT apart EXCLUDE USING gist (during WITH &&)",
        "apart on event_dates",
        "it excludes across tenants",
        "ALTER TABLE event_dates DROP during; DROP EXTENSION btree_gist",
    ),
];

const OF_TRIGGERS: &[Fault] = &[
    fault(
        "ALTER TABLE accounts DISABLE TRIGGER tenantry_fence",
        "trigger tenantry_fence on accounts",
        "it is disabled",
    ),
    fault(
        "ALTER TABLE accounts ENABLE REPLICA TRIGGER tenantry_write_log",
        "trigger tenantry_write_log on accounts",
        "only where triggers are silenced",
    ),
    fault("DROP TRIGGER tenantry_fence ON write_log", "trigger tenantry_fence on write_log", "it is missing"),
    fault(
        "DROP TRIGGER tenantry_fence_truncate ON accounts",
        "trigger tenantry_fence_truncate on accounts",
        "it is missing",
    ),
    // The log is never logged, whatever it lost.
    fault(
        "DROP TRIGGER tenantry_fence_truncate ON write_log",
        "trigger tenantry_fence_truncate on write_log",
        "it is missing",
    ),
    fault(
        "DROP TRIGGER tenantry_write_log ON accounts",
        "trigger tenantry_write_log on accounts",
        "no write to the table is logged",
    ),
    fault(
        "CREATE OR REPLACE TRIGGER tenantry_write_log AFTER INSERT OR UPDATE OR DELETE ON accounts FOR EACH ROW WHEN (false) \
         EXECUTE FUNCTION tenantry.write_log()",
        "trigger tenantry_write_log on accounts",
        "not the trigger that the migrations make",
    ),
    fault(
        "CREATE OR REPLACE TRIGGER tenantry_fence BEFORE INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION tenantry.check_fence_tenant_id(); \
         ALTER TABLE accounts DISABLE TRIGGER tenantry_fence",
        "trigger tenantry_fence on accounts",
        "it is disabled",
    ),
    leaving(
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
         CREATE OR REPLACE TRIGGER tenantry_fence BEFORE INSERT OR UPDATE OR DELETE ON accounts FOR EACH ROW EXECUTE FUNCTION nothing()",
        "trigger tenantry_fence on accounts",
        "not the trigger that the migrations make",
        "DROP FUNCTION nothing()",
    ),
    fault(
        "ALTER FUNCTION tenantry.write_log() OWNER TO postgres",
        "function tenantry.write_log()",
        "it belongs to postgres",
    ),
    fault(
        "ALTER FUNCTION tenantry.check_fence_tenant_id() SECURITY INVOKER",
        "function tenantry.check_fence_tenant_id()",
        "does not run as its owner",
    ),
    fault(
        "ALTER FUNCTION tenantry.check_truncate() RESET search_path",
        "function tenantry.check_truncate()",
        "fixed search_path",
    ),
];

/// Trap 20.
const OF_THE_ROLE: &[Fault] = &[
    fault("ALTER ROLE {restricted} SUPERUSER", "role {restricted_name}", "it is a superuser"),
    fault("ALTER ROLE {restricted} BYPASSRLS", "role {restricted_name}", "it has BYPASSRLS"),
    fault("ALTER ROLE {restricted} CREATEROLE", "role {restricted_name}", "it can create roles"),
    fault("ALTER ROLE {restricted} REPLICATION", "role {restricted_name}", "it can replicate"),
    fault("ALTER TABLE accounts OWNER TO {restricted}", "role {restricted_name}", "it owns table accounts"),
    leaving(
        "CREATE SCHEMA own AUTHORIZATION {restricted}",
        "role {restricted_name}",
        "it owns schema own",
        "DROP SCHEMA own",
    ),
    leaving(
        "CREATE FUNCTION own(a integer, b text) RETURNS integer LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION own OWNER TO {restricted}",
        "role {restricted_name}",
        "it owns function own(integer,text)",
        "DROP FUNCTION own",
    ),
    fault(
        "ALTER DATABASE {database} OWNER TO {restricted}",
        "role {restricted_name}",
        "it owns database {database_name}",
    ),
    fault(
        "GRANT {service} TO {restricted}",
        "membership of role {restricted_name} in {service_name}",
        "it is a member of a role that owns something here",
    ),
    fault(
        "GRANT pg_read_server_files TO {restricted}",
        "membership of role {restricted_name} in pg_read_server_files",
        "a predefined role",
    ),
    leaving(
        "CREATE ROLE \"{database_name}.boss\" CREATEROLE; CREATE ROLE \"{database_name}.group\" IN ROLE \"{database_name}.boss\"; \
         GRANT \"{database_name}.group\" TO {restricted}",
        "membership of role {restricted_name} in {database_name}.group",
        "or of one that replicates or creates roles",
        "DROP ROLE \"{database_name}.boss\", \"{database_name}.group\"",
    ),
    fault(
        "GRANT TEMPORARY ON DATABASE {database} TO {restricted}",
        "database {database_name}",
        "can create temporary tables",
    ),
    fault(
        "GRANT TEMPORARY ON DATABASE {database} TO PUBLIC",
        "database {database_name}",
        "can create temporary tables",
    ),
    // A membership that hands its privileges on by SET ROLE alone.
    leaving(
        "CREATE ROLE \"{database_name}.group\"; ALTER ROLE {restricted} NOINHERIT; GRANT \"{database_name}.group\" TO {restricted}; \
         GRANT TEMPORARY, CREATE ON DATABASE {database} TO \"{database_name}.group\"",
        "database {database_name}",
        "can create temporary tables",
        "ALTER ROLE {restricted} INHERIT; DROP ROLE \"{database_name}.group\"",
    ),
    fault(
        "GRANT CREATE ON DATABASE {database} TO {restricted}",
        "database {database_name}",
        "can create schemas in it",
    ),
    fault("GRANT CREATE ON SCHEMA public TO PUBLIC", "schema public", "can create objects in it"),
    fault("GRANT USAGE ON SCHEMA tenantry TO {restricted}", "schema tenantry", "can reach into it"),
    fault(
        "GRANT SET ON PARAMETER session_replication_role TO {restricted}",
        "parameter session_replication_role",
        "silences triggers",
    ),
    fault(
        "ALTER ROLE {restricted} SET app.tenant_id = 'a'",
        "setting app.tenant_id of role {restricted_name}",
        "sessions of the restricted role begin with it",
    ),
    fault(
        "ALTER ROLE {restricted} IN DATABASE {database} SET session_replication_role = 'replica'",
        "setting session_replication_role of role {restricted_name} in database {database_name}",
        "sessions of the restricted role begin with it",
    ),
    fault(
        "ALTER DATABASE {database} SET app.tenant_id = 'a'",
        "setting app.tenant_id of database {database_name}",
        "sessions of the restricted role begin with it",
    ),
    fault(
        "ALTER DEFAULT PRIVILEGES FOR ROLE {service} GRANT SELECT, INSERT ON TABLES TO PUBLIC",
        "default privileges of role {service_name}",
        "a new table is open to everyone (INSERT, SELECT)",
    ),
    fault(
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {restricted}",
        "default privileges of role postgres in schema public",
        "a new table is open to {restricted_name} (SELECT)",
    ),
    fault(
        "ALTER DEFAULT PRIVILEGES FOR ROLE {service} GRANT EXECUTE ON FUNCTIONS TO {restricted}",
        "default privileges of role {service_name}",
        "a new function can be called by {restricted_name}",
    ),
];

/// Trap 20, and what else reads in somebody else's name.
const WAYS_PAST: &[Fault] = &[
    leaving(
        "CREATE FUNCTION look(which text) RETURNS SETOF accounts LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM accounts'; \
         ALTER FUNCTION look OWNER TO {service}",
        "look(text)",
        "it runs as a role that row-level security lets through",
        "DROP FUNCTION look",
    ),
    leaving(
        "CREATE PROCEDURE clear() LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM accounts'",
        "clear()",
        "it runs as a role that row-level security lets through",
        "DROP PROCEDURE clear",
    ),
    leaving(
        "CREATE VIEW every AS SELECT * FROM accounts; ALTER VIEW every OWNER TO {service}; GRANT SELECT (name) ON every TO {restricted}",
        "every",
        "it shows rows past row-level security",
        "DROP VIEW every",
    ),
    leaving(
        "CREATE VIEW inner_view AS SELECT * FROM accounts; CREATE VIEW every AS SELECT * FROM inner_view; \
         CREATE ROLE \"{database_name}.group\"; GRANT \"{database_name}.group\" TO {restricted}; GRANT SELECT ON every TO \"{database_name}.group\"",
        "every",
        "it shows rows past row-level security",
        "DROP VIEW inner_view CASCADE; DROP ROLE \"{database_name}.group\"",
    ),
    leaving(
        "CREATE MATERIALIZED VIEW every AS SELECT name FROM accounts; GRANT SELECT ON every TO PUBLIC",
        "every",
        "it is a materialized view",
        "DROP MATERIALIZED VIEW every",
    ),
    leaving(
        "CREATE FUNCTION names() RETURNS SETOF text LANGUAGE sql AS 'SELECT name FROM accounts'; \
         CREATE MATERIALIZED VIEW every AS SELECT * FROM names(); GRANT SELECT ON every TO {restricted}",
        "every",
        "it is a materialized view",
        "DROP MATERIALIZED VIEW every; DROP FUNCTION names",
    ),
    leaving(
        "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; \
         CREATE FOREIGN TABLE every (line text) SERVER files OPTIONS (filename '/dev/null'); GRANT SELECT ON every TO {restricted}",
        "every",
        "it is a foreign table",
        "DROP EXTENSION file_fdw CASCADE",
    ),
    leaving(
        "CREATE TABLE spool (body text); ALTER TABLE spool OWNER TO {service}; GRANT INSERT ON spool TO {restricted}; \
         CREATE RULE names AS ON INSERT TO spool DO INSTEAD SELECT name FROM accounts",
        "spool",
        "it shows rows past row-level security",
        "DROP TABLE spool",
    ),
    leaving(
        "CREATE TABLE texts (body text); CREATE TABLE letters (tenant_id uuid NOT NULL, id uuid) INHERITS (texts); \
         ALTER TABLE letters OWNER TO {service}; GRANT SELECT ON texts TO {restricted}",
        "texts",
        "it shows the rows of a tenant table that inherits from it",
        "DROP TABLE texts CASCADE",
    ),
];

/// Each fault is opened, measured, mended by what the findings print, and gone.
async fn each_is_named_and_mended_as_printed(faults: &[Fault]) {
    let source = Source::new().await;
    assert!(source.measure().await.holds());
    for Fault { open, object, problem, undo } in faults {
        source.run(open);
        let report = source.measure().await;
        let (object, problem) = (source.fill(object), source.fill(problem));
        let named = report.findings.iter().any(|found| found.object == object && found.problem.contains(&problem));
        assert!(named, "{open}: no {object:?}, {problem:?} in {:#?}", report.findings);
        assert!(!report.holds() && report.findings_except(&[]).count() == report.findings.len());
        for finding in &report.findings {
            assert!(!finding.remedy.contains(['…', '<', '>']), "not to be run as printed: {}", finding.remedy);
            source.run(&finding.remedy);
        }
        let mended = source.measure().await;
        assert!(mended.holds(), "{open}, after {:#?}: {:#?}", report.findings, mended.findings);
        source.run(undo);
        let undone = source.measure().await;
        assert!(undone.holds(), "{undo}: {:#?}", undone.findings);
    }
}

// Trap 22. Catches a report that calls a cast harmless: with it the index is of no use, and with the remedy it is again.
#[tokio::test(flavor = "multi_thread")]
async fn a_cast_on_the_tenant_column_defeats_the_index_and_is_named() {
    let source = Source::new().await;
    source.run(
        "INSERT INTO accounts (tenant_id, name) SELECT md5((i % 500)::text)::uuid, 'n' FROM generate_series(1, 20000) AS i; ANALYZE accounts",
    );
    let explain =
        "SET app.tenant_id = '00000000-0000-4000-8000-000000000001'; EXPLAIN (COSTS OFF) SELECT * FROM accounts";
    let plan = || source.database.psql(&source.database.restricted, explain).unwrap();
    assert!(plan().contains("Index Cond: (tenant_id = "), "{}", plan());
    source.run(
        "ALTER POLICY tenantry_restricted ON accounts USING (tenant_id::text = (SELECT current_setting('app.tenant_id'))) \
         WITH CHECK (tenant_id::text = (SELECT current_setting('app.tenant_id')))",
    );
    assert!(plan().contains("Seq Scan") && !plan().contains("Index Cond"), "{}", plan());
    let report = source.measure().await;
    let [finding] = report.findings.as_slice() else { panic!("{:#?}", report.findings) };
    assert!(finding.problem.ends_with("it casts the tenant column, which defeats the index"), "{finding:?}");
    source.run(&finding.remedy);
    assert!(plan().contains("Index Cond: (tenant_id = "), "{}", plan());
}

// Catches a table that its application does not log, taken for one that lost its trigger.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_left_out_of_the_log_on_purpose_is_sound() {
    let source = Source::new().await;
    let service = login_of(&source.database.service);
    let pool = Pool::new(source.pool.url(), Some(&service), &PoolOptions::default()).unwrap();
    let connection = pool.migration_connection(Some(&service)).await.unwrap();
    let table = TenantTable::new("sessions").without_write_log();
    table.create(&SchemaManager::new(&connection)).await.unwrap();
    connection.close().await.unwrap();
    pool.close().await;
    let report = source.measure().await;
    assert!(report.holds() && report.tables.contains(&"sessions".to_owned()), "{:#?}", report.findings);
}

macro_rules! kinds_of_faults {
    ($($name:ident: $faults:ident),+ $(,)?) => { $(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            each_is_named_and_mended_as_printed($faults).await;
        }
    )+ };
}

kinds_of_faults!(
    a_fault_of_a_table_is_mended_as_printed: OF_TABLES,
    a_fault_of_a_key_is_mended_as_printed: OF_KEYS,
    a_fault_of_a_trigger_is_mended_as_printed: OF_TRIGGERS,
    a_fault_of_the_role_is_mended_as_printed: OF_THE_ROLE,
    a_way_past_the_policies_is_closed_as_printed: WAYS_PAST,
);
