//! What deleting a tenant's rows would take along, or leave in the air, from where nobody looks: another schema, a single partition,
//! a name in other letters; and rows that a login may read and not delete.

use tenantry_connection::{Engine, Mode, Session};
use tenantry_transfer::{Refusal, Side};

use super::ends::{CLEAR, Ends, MOVED, TENANT, execute, number};

async fn unscoped(ends: &Ends) -> Vec<(Side, String, String)> {
    let prepared = ends.prepare().await;
    let refusals = prepared.plan().refusals.iter();
    let found = refusals.map(|refusal| match refusal {
        Refusal::Unscoped { side, table, references } => (*side, table.clone(), references.clone()),
        other => panic!("{other}"),
    });
    found.collect()
}

/// Purging the goods deleted the pictures, which were nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_not_moved_may_not_refer_to_one_that_is() {
    const GOODS: &str = "CREATE TABLE goods (tenant_id uuid NOT NULL, id int NOT NULL, PRIMARY KEY (tenant_id, id)); \
        CREATE TABLE parts (tenant_id uuid NOT NULL, id int NOT NULL, good int, PRIMARY KEY (tenant_id, id)) \
          PARTITION BY HASH (tenant_id); \
        CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0); \
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);";
    const PICTURES: &str = "CREATE SCHEMA pics; CREATE TABLE pics.pictures (tenant_id uuid, good int, \
        FOREIGN KEY (tenant_id, good) REFERENCES goods ON DELETE CASCADE)";
    const NOTES: &str = "CREATE TABLE notes (at date NOT NULL, tenant uuid, part int) PARTITION BY RANGE (at); \
        CREATE TABLE notes_now PARTITION OF notes FOR VALUES FROM ('2000-01-01') TO ('2100-01-01'); \
        ALTER TABLE notes_now ADD FOREIGN KEY (tenant, part) REFERENCES parts ON DELETE CASCADE";
    for (also, table, references) in
        [(PICTURES, "pics.pictures", "goods"), (NOTES, "notes", "parts"), ("SELECT 1", "", "")]
    {
        let ends = Ends::new((Engine::Postgres, Engine::Postgres), [&format!("{GOODS} {also}"), GOODS]).await;
        let expected =
            if table.is_empty() { vec![] } else { vec![(Side::Source, table.to_owned(), references.to_owned())] };
        assert_eq!(unscoped(&ends).await, expected, "{also}");
    }

    // A key that only a partition has binds that partition's rows and no others.
    let key = "ALTER TABLE parts_0 ADD FOREIGN KEY (tenant_id, good) REFERENCES goods; \
        ALTER TABLE parts_1 ADD FOREIGN KEY (tenant_id, good) REFERENCES goods; \
        ALTER TABLE parts_1 DROP CONSTRAINT parts_1_tenant_id_good_fkey";
    let mut ends = Ends::postgres(&format!("{GOODS} {key}")).await;
    ends.target.pool = ends.target_as(|database| &database.superuser, Default::default()).pool;
    let here = "SELECT satisfies_hash_partition('parts'::regclass, 2, 0, $1::uuid)";
    let holds = |id: uuid::Uuid| number_of(&ends, here.replace("$1", &format!("'{id}'")));
    let (mut bound, mut free) = (None, None);
    for n in 1.. {
        let id = uuid::Uuid::from_u128(n);
        if holds(id).await {
            bound.get_or_insert(id)
        } else {
            free.get_or_insert(id)
        };
        if bound.is_some() && free.is_some() {
            break;
        }
    }
    let (bound, free) = (bound.unwrap(), free.unwrap());
    (ends.source.tenant, ends.target.tenant) = (free.into(), free.into());
    execute(&ends.source, &format!("INSERT INTO parts VALUES ('{free}', 1, 99)")).await;
    let prepared = ends.prepare().await;
    assert_eq!(prepared.plan().refusals, []);
    ends.apply(&prepared, CLEAR).await.unwrap();
    ends.assert_agree(&ends.verify().await);
    (ends.source.tenant, ends.target.tenant) = (bound.into(), bound.into());
    let dangling = format!("SET LOCAL session_replication_role = replica; INSERT INTO parts VALUES ('{bound}', 1, 99)");
    ends.source.pool = super::ends::pool_of(&ends.databases[0], &ends.databases[0].superuser, Default::default());
    execute(&ends.source, &dangling).await;
    let refusals = ends.prepare().await.plan().refusals.clone();
    assert!(matches!(&refusals[..], [Refusal::Dangling { table, rows: 1, .. }] if table == "parts"), "{refusals:?}");
}

async fn number_of(ends: &Ends, sql: String) -> bool {
    super::ends::query(&ends.source, &sql).await[0].try_get_by_index(0).unwrap()
}

/// SQLite takes a name for the same however its letters are written.
#[tokio::test(flavor = "multi_thread")]
async fn letters_of_another_case_hide_nothing_in_sqlite() {
    const GOODS: &str = "CREATE TABLE goods (Tenant_ID uuid_blob NOT NULL, Id bigint NOT NULL, note text, PRIMARY KEY (TENANT_ID, ID)); \
        CREATE TABLE parts (TENANT_ID uuid_blob NOT NULL, id bigint NOT NULL, good bigint, PRIMARY KEY (tenant_id, id), \
          FOREIGN KEY (tenant_ID, good) REFERENCES GOODS (TENANT_id, iD) ON DELETE CASCADE);";
    const PICTURES: &str = "CREATE TABLE pictures (owner uuid_blob, good bigint, \
        FOREIGN KEY (owner, good) REFERENCES Goods ON DELETE CASCADE);";
    const SERVER: &str = "CREATE TABLE goods (tenant_id uuid NOT NULL, \"Id\" bigint NOT NULL, note text, PRIMARY KEY (tenant_id, \"Id\")); \
        CREATE TABLE parts (tenant_id uuid NOT NULL, id bigint NOT NULL, good bigint, PRIMARY KEY (tenant_id, id), \
          FOREIGN KEY (tenant_id, good) REFERENCES goods);";
    for (target, tables) in [(Engine::Sqlite, GOODS), (Engine::Postgres, SERVER)] {
        let ends = Ends::new((Engine::Sqlite, target), [&format!("{GOODS} {PICTURES}"), tables]).await;
        let expected = (Side::Source, "pictures".to_owned(), "goods".to_owned());
        assert_eq!(unscoped(&ends).await, [expected], "{target}");

        let ends = Ends::new((Engine::Sqlite, target), [GOODS, tables]).await;
        let tenant = TENANT.simple();
        let rows = format!(
            "INSERT INTO goods VALUES (x'{tenant}', 1, 'one'), (x'{tenant}', 2, 'two'); \
             INSERT INTO parts VALUES (x'{tenant}', 1, 1), (x'{tenant}', 2, NULL)"
        );
        execute(&ends.source, &rows).await;
        let copied = ends.copy().await;
        let names: Vec<_> = copied.iter().map(|copied| (copied.table.as_str(), copied.copied)).collect();
        assert_eq!(names, [("goods", 2), ("parts", 2)], "parents come first: {target}");
        ends.assert_agree(&ends.verify().await);
    }
}

/// A policy that hides rows from a deletion says nothing: what was not deleted was said to be.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_read_and_not_deleted_are_not_said_to_be() {
    let ends = Ends::postgres(
        "CREATE TABLE goods (tenant_id uuid NOT NULL, id int NOT NULL, PRIMARY KEY (tenant_id, id)); \
         ALTER TABLE goods ENABLE ROW LEVEL SECURITY; ALTER TABLE goods FORCE ROW LEVEL SECURITY; \
         CREATE POLICY everything ON goods USING (true); \
         CREATE POLICY odd ON goods AS RESTRICTIVE FOR DELETE USING (id <> 2)",
    )
    .await;
    execute(&ends.source, &format!("INSERT INTO goods SELECT '{TENANT}', n FROM generate_series(1, 3) AS n")).await;
    ends.copy().await;
    let there = format!("SELECT count(*) FROM goods WHERE tenant_id = '{MOVED}'");
    assert_eq!(number(&ends.target, &there).await, 3);
    let mut prepared = ends.prepare().await;
    // As a run sees it that goes on.
    let error = loop {
        match ends.apply(&prepared, CLEAR).await {
            Err(tenantry_transfer::Error::Refused(_)) => prepared = accepted(&ends).await,
            Err(error) => break error.to_string(),
            Ok(copied) => panic!("{copied:?}"),
        }
    };
    assert!(error.contains("a policy for DELETE"), "{error}");
    assert_eq!(number(&ends.target, &there).await, 3, "and nothing of them is gone");
}

/// A plan from before the target had rows.
async fn accepted(ends: &Ends) -> tenantry_transfer::Prepared {
    let rows = format!("SELECT count(*) FROM goods WHERE tenant_id = '{MOVED}'");
    let superuser = ends.target_as(|database| &database.superuser, Default::default());
    execute(&superuser, &format!("UPDATE goods SET tenant_id = '{TENANT}' WHERE tenant_id = '{MOVED}'")).await;
    let prepared = ends.prepare().await;
    execute(&superuser, &format!("UPDATE goods SET tenant_id = '{MOVED}' WHERE tenant_id = '{TENANT}'")).await;
    assert_eq!(number(&superuser, &rows).await, 3);
    prepared
}

/// Foreign keys are silenced with an application's triggers. Whoever deletes what is referred to is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_referred_to_is_not_deleted_under_a_copy() {
    let mut ends = Ends::postgres(
        "CREATE TABLE countries (code text PRIMARY KEY); INSERT INTO countries VALUES ('DE'); \
         CREATE TABLE offices (tenant_id uuid NOT NULL, id int NOT NULL, country text REFERENCES countries, PRIMARY KEY (tenant_id, id)); \
         CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''a trigger''; END'",
    )
    .await;
    execute(&ends.source, &format!("INSERT INTO offices VALUES ('{TENANT}', 1, 'DE')")).await;
    ends.target.pool = ends.target_as(|database| &database.superuser, Default::default()).pool;
    execute(&ends.target, "CREATE TRIGGER loud BEFORE INSERT ON offices FOR EACH ROW EXECUTE FUNCTION loud()").await;
    let prepared = ends.prepare().await;
    assert_eq!(prepared.plan().refusals, []);
    let mut deletes = ends.target.pool.begin(&Session::default(), Mode::Write).await.unwrap();
    deletes.execute_raw_sql("DELETE FROM countries").await.unwrap();
    let waits = async {
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while number(&ends.target, waiting).await == 0 {
            tokio::task::yield_now().await;
        }
        deletes.commit().await.unwrap();
    };
    let mut copying = Box::pin(ends.apply(&prepared, CLEAR));
    tokio::select! {
        copied = &mut copying => panic!("it did not wait: {copied:?}"),
        () = waits => {}
    }
    let copied = copying.await;
    assert!(matches!(copied, Err(tenantry_transfer::Error::Unreferenced { .. })), "{copied:?}");
    assert_eq!(number(&ends.target, "SELECT count(*) FROM offices").await, 0);
}

/// A key that a single partition has binds no row of another one, and blanks that fill up a code are none of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_reference_is_what_the_server_takes_for_one() {
    const TABLES: &str = "CREATE TABLE countries (code text PRIMARY KEY); INSERT INTO countries VALUES ('DE'); \
        CREATE TABLE events (tenant_id uuid NOT NULL, at date NOT NULL, country char(4), PRIMARY KEY (tenant_id, at)) \
          PARTITION BY RANGE (at); \
        CREATE TABLE events_old PARTITION OF events FOR VALUES FROM ('2000-01-01') TO ('2020-01-01'); \
        CREATE TABLE events_new PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2040-01-01'); \
        ALTER TABLE events_new ADD FOREIGN KEY (country) REFERENCES countries;";
    let ends = Ends::postgres(TABLES).await;
    let rows = format!("INSERT INTO events VALUES ('{TENANT}', '2010-01-01', 'DDR'), ('{TENANT}', '2030-01-01', 'DE')");
    execute(&ends.source, &rows).await;
    ends.copy().await;
    ends.assert_agree(&ends.verify().await);
    execute(&ends.target, &format!("DELETE FROM events WHERE tenant_id = '{MOVED}'; DELETE FROM countries")).await;
    let refusals = ends.prepare().await.plan().refusals.clone();
    assert!(matches!(&refusals[..], [Refusal::Dangling { table, rows: 1, .. }] if table == "events"), "{refusals:?}");
}

/// Whoever may silence triggers may not be allowed to hold what somebody else owns.
#[tokio::test(flavor = "multi_thread")]
async fn reading_a_reference_table_is_enough() {
    const TABLES: &str = "CREATE TABLE offices (tenant_id uuid NOT NULL, id int NOT NULL, country text REFERENCES countries, \
          PRIMARY KEY (tenant_id, id)); \
        CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''a trigger''; END'";
    let ends = Ends::postgres("SELECT 1").await;
    for database in &ends.databases {
        let service = format!("\"{}\"", database.service.user);
        let sql = format!(
            "CREATE TABLE countries (code text PRIMARY KEY); INSERT INTO countries VALUES ('DE'); \
             GRANT SELECT, REFERENCES ON countries TO {service}; \
             GRANT SET ON PARAMETER session_replication_role TO {service}"
        );
        tokio::task::block_in_place(|| database.psql(&database.superuser, &sql)).unwrap();
    }
    for end in [&ends.source, &ends.target] {
        execute(end, TABLES).await;
    }
    execute(&ends.source, &format!("INSERT INTO offices VALUES ('{TENANT}', 1, 'DE')")).await;
    execute(&ends.target, "CREATE TRIGGER loud BEFORE INSERT ON offices FOR EACH ROW EXECUTE FUNCTION loud()").await;
    ends.copy().await;
    ends.assert_agree(&ends.verify().await);
}
