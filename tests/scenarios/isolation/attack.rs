//! The attack by itself: it leaves nothing, reaches nothing where isolation holds, and gets through where it does not, whatever
//! the catalogs were found to say.

use sea_orm::{DbBackend, Statement};
use tenantry_connection::{DataSourceUrl, Error, Mode, Pool, PoolOptions, PoolerMode, Session};
use tenantry_data_source::{IsolationReport, TenantColumn};
use tenantry_realm::TenantKeyType;
use tenantry_test_support::pooler;

use super::Source;
use crate::world::login_of;

/// What opens the way, what goes through where, and what closes it again.
struct Way {
    open: &'static str,
    object: &'static str,
    attacks: &'static [&'static str],
    close: &'static str,
}

const fn way(open: &'static str, object: &'static str, attacks: &'static [&'static str], close: &'static str) -> Way {
    Way { open, object, attacks, close }
}

const WAYS: &[Way] = &[
    way(
        "ALTER TABLE accounts DISABLE ROW LEVEL SECURITY",
        "accounts",
        &[
            "read: without a tenant",
            "as another tenant a row was reached, where no row may be reached",
            "with an empty tenant a row was reached",
            "update: ",
            "delete: ",
            "take a row: ",
            "insert: ",
            "upsert: ",
            "copy in: ",
            "read with row_security off: ",
            "read after RESET ROLE: ",
        ],
        "ALTER TABLE accounts ENABLE ROW LEVEL SECURITY",
    ),
    // Trap 21. Each reads no column, so that only the policies of its own command are asked.
    way(
        "CREATE POLICY more ON accounts FOR UPDATE TO {restricted} USING (true)",
        "accounts",
        &["update: without a tenant a row was reached"],
        "DROP POLICY more ON accounts",
    ),
    way(
        "CREATE POLICY more ON accounts FOR DELETE TO {restricted} USING (true)",
        "accounts",
        &["delete: "],
        "DROP POLICY more ON accounts",
    ),
    way(
        "CREATE POLICY more ON accounts FOR SELECT TO {restricted} USING (tenant_id <> (SELECT current_setting('app.tenant_id')::uuid))",
        "accounts",
        &["read: as another tenant a row was reached"],
        "DROP POLICY more ON accounts",
    ),
    way(
        "CREATE POLICY more ON tasks FOR INSERT TO {restricted} WITH CHECK (true)",
        "tasks",
        &["insert: without a tenant it was done"],
        "DROP POLICY more ON tasks",
    ),
    way(
        "ALTER TABLE accounts DISABLE TRIGGER tenantry_tenant; \
         CREATE POLICY more ON accounts FOR UPDATE TO {restricted} USING (false) WITH CHECK (true)",
        "accounts",
        &["give a row away: as another tenant it was done"],
        "DROP POLICY more ON accounts; ALTER TABLE accounts ENABLE TRIGGER tenantry_tenant",
    ),
    // Trap 19. Without a tenant is an error, never no rows.
    way(
        "ALTER POLICY tenantry_restricted ON notes USING (tenant_id = (SELECT current_setting('app.tenant_id', true)::uuid)) \
         WITH CHECK (tenant_id = (SELECT current_setting('app.tenant_id', true)::uuid))",
        "notes",
        &["insert: without a tenant it was refused with 42501, where it has to be refused with 22P02 or 42704"],
        "ALTER POLICY tenantry_restricted ON notes USING ({strict}) WITH CHECK ({strict})",
    ),
    // Trap 20.
    way(
        "ALTER ROLE {restricted} BYPASSRLS",
        "accounts",
        &["read: without a tenant", "read with row_security off: "],
        "ALTER ROLE {restricted} NOBYPASSRLS",
    ),
    way(
        "ALTER ROLE {restricted} SUPERUSER",
        "membership of role {restricted_name} in {service_name}",
        &["become {service_name}: as another tenant it was done"],
        "ALTER ROLE {restricted} NOSUPERUSER",
    ),
    way(
        "GRANT {service} TO {restricted}",
        "membership of role {restricted_name} in {service_name}",
        &["become {service_name}: "],
        "REVOKE {service} FROM {restricted}",
    ),
    way(
        "ALTER TABLE contacts OWNER TO {restricted}",
        "contacts",
        &["truncate: "],
        "ALTER TABLE contacts OWNER TO {service}; GRANT SELECT, INSERT, UPDATE, DELETE ON contacts TO {restricted}",
    ),
    way(
        "GRANT TRUNCATE ON notes TO {restricted}",
        "notes",
        &["truncate: as another tenant it was refused with TN004, where it has to be refused with 42501"],
        "REVOKE TRUNCATE ON notes FROM {restricted}",
    ),
    way(
        "GRANT TEMPORARY ON DATABASE {database} TO {restricted}",
        "database {database_name}",
        &["shadow a table with a temporary one: "],
        "REVOKE TEMPORARY ON DATABASE {database} FROM {restricted}",
    ),
    way(
        "GRANT CREATE ON SCHEMA public TO {restricted}",
        "schema public",
        &["create a table: "],
        "REVOKE CREATE ON SCHEMA public FROM {restricted}",
    ),
    way(
        "GRANT SET ON PARAMETER session_replication_role TO {restricted}",
        "parameter session_replication_role",
        &["silence triggers: "],
        "REVOKE SET ON PARAMETER session_replication_role FROM {restricted}",
    ),
    // Trap 24. The same id in two tenants, and a reference to another's row.
    way(
        "CREATE UNIQUE INDEX one ON accounts (id)",
        "accounts",
        &["insert a row with the key of another tenant's: as another tenant it was refused with 23505"],
        "DROP INDEX one",
    ),
    way(
        "CREATE UNIQUE INDEX one ON notes (id); ALTER TABLE tasks ADD about uuid REFERENCES notes (id)",
        "tasks",
        &["refer to another tenant's row by tasks_about_fkey: as another tenant it was done"],
        "ALTER TABLE tasks DROP about; DROP INDEX one",
    ),
    // The triggers step aside for a transfer, and ask who claims to be one.
    way(
        "CREATE OR REPLACE FUNCTION tenantry.is_service() RETURNS boolean LANGUAGE plpgsql STABLE AS 'BEGIN RETURN true; END'",
        "leads",
        &["write unlogged, claiming to be a transfer: as another tenant nothing was logged"],
        "",
    ),
];

/// Committed rows of two tenants.
const TWO_TENANTS: &str = "
INSERT INTO accounts (tenant_id, name)
    SELECT tenant, n FROM unnest(ARRAY['aaaaaaaa-0000-4000-8000-00000000000a', 'bbbbbbbb-0000-4000-8000-00000000000b']::uuid[]) AS tenant,
                          unnest(ARRAY['x', 'y']) AS n;
INSERT INTO contacts (tenant_id, first_name, last_name, account_id) SELECT tenant_id, 'f', 'l', id FROM accounts;
INSERT INTO notes (tenant_id, entity_type, entity_id, content) SELECT tenant_id, 'account', id, 'c' FROM accounts;
INSERT INTO tasks (tenant_id, title) SELECT tenant_id, 't' FROM accounts;
INSERT INTO routing_probe (tenant_id, note) SELECT tenant_id, 'p' FROM accounts;";

/// A table with a column of every kind, one with a condition that nobody can guess, and one that the restricted role cannot use.
const ODD_TABLES: &str = "
CREATE TYPE mood AS ENUM ('so la la', 'it''s fine');
CREATE DOMAIN percent AS numeric(5, 2) CHECK (VALUE <= 100);
CREATE TABLE odd (
    tenant_id uuid NOT NULL, number integer GENERATED ALWAYS AS IDENTITY, counted serial, small smallserial,
    twice integer GENERATED ALWAYS AS (1) STORED, mood mood NOT NULL, part percent NOT NULL, code character(3) NOT NULL,
    kind varchar(8) NOT NULL CHECK (kind IN ('a ''b''', 'c')), at timestamptz NOT NULL, on_day date NOT NULL, from_time timetz NOT NULL,
    lasting interval NOT NULL, ok boolean NOT NULL, bits bit(3) NOT NULL, address inet NOT NULL, network cidr NOT NULL, mac macaddr NOT NULL,
    place point NOT NULL, area box NOT NULL, during tstzrange NOT NULL, lists text[] NOT NULL, doc jsonb NOT NULL, raw bytea NOT NULL,
    price money NOT NULL, words tsvector NOT NULL, id uuid, boss_id uuid, account_id uuid NOT NULL, contact_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, number), UNIQUE (tenant_id, id), UNIQUE (tenant_id, small, code),
    FOREIGN KEY (tenant_id, account_id) REFERENCES accounts (tenant_id, id),
    FOREIGN KEY (tenant_id, boss_id) REFERENCES odd (tenant_id, id),
    FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts (tenant_id, id) DEFERRABLE INITIALLY DEFERRED
);
CREATE TABLE strict (tenant_id uuid NOT NULL, id uuid NOT NULL, code text NOT NULL CHECK (code ~ '^[A-Z]{3}[0-9]$'), PRIMARY KEY (tenant_id, id));
CREATE TABLE kept (tenant_id uuid NOT NULL, id uuid NOT NULL, PRIMARY KEY (tenant_id, id));
ALTER TABLE odd OWNER TO {service}; ALTER TABLE strict OWNER TO {service}; ALTER TABLE kept OWNER TO {service};
GRANT SELECT, INSERT, UPDATE, DELETE ON odd, strict TO {restricted};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {restricted};";

/// Every row of every table, and every sequence.
async fn contents(source: &Source) -> String {
    let tables = source.measure().await.tables;
    let rows = tables.iter().map(|table| format!("SELECT '{table} ' || t::text AS found FROM {table} t"));
    let sql = rows.chain(["SELECT format('%s %s', sequencename, last_value) FROM pg_sequences".to_owned()]);
    let sql = sql.collect::<Vec<_>>().join(" UNION ALL ");
    source.database.psql(&source.database.superuser, &format!("{sql} ORDER BY found")).unwrap()
}

// Catches an attack that reaches too little, one that finds fault where there is none, and one that leaves something behind.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_through_where_isolation_holds_and_nothing_is_left() {
    for key_type in [TenantKeyType::Uuid, TenantKeyType::BigInt, TenantKeyType::Text] {
        let source = Source::with_column(TenantColumn { name: "order".to_owned(), key_type }).await;
        let report = source.attack().await;
        assert!(report.holds(), "{key_type:?}: {:#?}", report.findings);
        assert!(report.notes.is_empty() && report.undecided.is_empty(), "{report:#?}");
        assert!(report.attacks > 25 * 14, "{} attacks on 15 tables, one of which is only read", report.attacks);
        assert_eq!(contents(&source).await, "", "an empty database stays empty");
    }
    let source = Source::new().await;
    source.run(TWO_TENANTS);
    let before = contents(&source).await;
    assert!(before.lines().count() >= 20 + 16, "{before}");
    let report = source.attack().await;
    assert!(report.holds(), "{:#?}", report.findings);
    assert_eq!(contents(&source).await, before);
}

// Traps 19, 20, 21 and 24.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_is_gone_through() {
    let source = Source::new().await;
    source.run(TWO_TENANTS);
    let before = contents(&source).await;
    for Way { open, object, attacks, close } in WAYS {
        source.run(open);
        let report = source.attack().await;
        let object = source.fill(object);
        for attack in *attacks {
            let attack = source.fill(attack);
            let told = "an attack went through, ";
            let through = report.findings.iter().any(|found| {
                found.object == object && found.problem.starts_with(told) && found.problem.contains(&attack)
            });
            assert!(through, "{open}: no {attack:?} on {object:?} in {:#?}", report.findings);
        }
        if !close.is_empty() {
            source.run(close);
            let report = source.attack().await;
            assert!(report.holds(), "{close}: {:#?}", report.findings);
        }
        assert_eq!(contents(&source).await, before, "{open}");
    }
}

// Catches an attack that is kept out of a table for want of a row, where a row can be made.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_made_for_whatever_a_table_asks() {
    let source = Source::new().await;
    source.run(ODD_TABLES);
    for finding in source.measure().await.findings {
        source.run(&finding.remedy);
    }
    let before = contents(&source).await;
    let report = source.attack().await;
    assert!(report.holds(), "{:#?}", report.findings);
    let note = "strict was attacked with fewer rows than two tenants have: a made-up row of strict was refused (23514)";
    assert_eq!(report.notes, [note]);
    assert_eq!(contents(&source).await, before, "no sequence went on");

    // With fewer rows it is attacked all the same.
    source.run(
        "INSERT INTO strict VALUES ('aaaaaaaa-0000-4000-8000-00000000000a', gen_random_uuid(), 'ABC1'); \
         ALTER TABLE strict DISABLE ROW LEVEL SECURITY",
    );
    let findings = source.attack().await.findings;
    let read = |problem: &str| problem.starts_with("an attack went through, read: ");
    assert!(findings.iter().any(|found| found.object == "strict" && read(&found.problem)), "{findings:#?}");
}

// Catches an attack that waits for a lock for as long as it takes, or that takes silence for proof.
#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_decided_is_told() {
    let source = Source::new().await;
    let service = login_of(&source.database.service);
    let pool = Pool::new(source.pool.url(), Some(&service), &PoolOptions::default()).unwrap();
    let mut held = pool.begin(&Session::default(), Mode::Write).await.unwrap();
    // As the making of an index does.
    held.execute_raw_sql("LOCK TABLE accounts IN SHARE MODE").await.unwrap();
    let report = source.attack().await;
    // As a change of a column does.
    held.execute_raw_sql("LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut reading = source.pool.begin(&Session::default(), Mode::Read).await.unwrap();
    let role = &source.database.restricted.user;
    let measured = IsolationReport::measure(&mut reading, role, &source.column).await;
    assert!(matches!(measured, Err(Error::Conflict { .. })), "{measured:?}");
    reading.rollback().await.unwrap();
    held.rollback().await.unwrap();
    assert!(report.holds(), "{:#?}", report.findings);
    let told = "accounts: the server gave up waiting or working (55P03)".to_owned();
    assert!(report.undecided.contains(&told), "{report:#?}");
    assert!(report.notes.is_empty(), "{report:#?}");
    assert!(source.attack().await.undecided.is_empty());
    pool.close().await;
}

// Catches an attack that needs a server session of its own. There is one server connection, and behind a pooler a session
// without a tenant has the empty text.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_in_transaction_mode_it_attacks_as_well() {
    let source = Source::new().await;
    source.run(TWO_TENANTS);
    let options = pooler::PoolerOptions { server_connections: 1, ..Default::default() };
    let started = pooler::Pooler::start(&[&source.database], &options);
    let Some(pooler) = pooler::or_skip("the attack behind a pooler", started).unwrap() else { return };
    let before = contents(&source).await;
    let url = DataSourceUrl::parse(&pooler.url_of(&source.database)).unwrap();
    let options = PoolOptions { pooler: PoolerMode::Transaction, ..PoolOptions::default() };
    let pool = Pool::new(&url, Some(&login_of(&source.database.restricted)), &options).unwrap();
    let mut report = source.measure().await;
    report.attack(&pool, &source.column).await.unwrap();
    assert!(report.holds() && report.undecided.is_empty(), "{report:#?}");
    let note = "the server session had a tenant before, as behind a pooler: one that never had any was not tried";
    assert_eq!(report.notes, [note]);
    assert_eq!(contents(&source).await, before);

    source.run("ALTER TABLE accounts NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY");
    let mut report = source.measure().await;
    report.attack(&pool, &source.column).await.unwrap();
    assert!(report.findings.iter().any(|found| found.attack.as_deref() == Some("read")), "{report:#?}");
    pool.close().await;
}

// Catches an attack that neighbours notice: one that keeps a reader or a writer out for a while.
#[tokio::test(flavor = "multi_thread")]
async fn neighbours_read_and_write_while_it_runs() {
    const TENANT: &str = "aaaaaaaa-0000-4000-8000-00000000000a";
    let source = Source::new().await;
    source.run(TWO_TENANTS);
    let session = Session { tenant: Some(TENANT.into()), ..Session::default() };
    let work = async {
        loop {
            let mut transaction = source.pool.begin(&session, Mode::Write).await.unwrap();
            transaction.execute_raw_sql("SET LOCAL lock_timeout = '1s'").await.unwrap();
            for sql in [
                "UPDATE accounts SET name = name || '.'".to_owned(),
                "SELECT count(*) FROM contacts".to_owned(),
                format!("INSERT INTO tasks (tenant_id, title) VALUES ('{TENANT}', 't')"),
            ] {
                transaction.execute(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap();
            }
            transaction.commit().await.unwrap();
        }
    };
    let report = tokio::select! { report = source.attack() => report, () = work => unreachable!("it never ends") };
    assert!(report.holds() && report.undecided.is_empty(), "{report:#?}");
}
