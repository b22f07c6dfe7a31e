//! Copies and comparisons by themselves: several tables at a time, circles, leftovers, refusals, digests.

use proptest::{prelude::*, test_runner::TestRunner};
use sea_orm::DbBackend;
use tenantry_connection::{Engine, Pool, PoolOptions};
use tenantry_migrations::fence;
use tenantry_test_support::{
    cluster::Cluster,
    pooler::{Pooler, PoolerOptions, or_skip},
};
use tenantry_transfer::{
    Endpoint, Error, Options, Progress, Unwatched,
    copy::{Copying, copy},
    verify::Found,
};
use uuid::Uuid;

use super::ends::{CLEAR, Ends, MOVED, NEIGHBOUR, TENANT, execute, number, pool_of};
use crate::world::login_of;

/// As a rollback does.
const ATOMIC: Copying = Copying { atomic: true, clear: true };

/// Enough for several connections.
const MANY: u64 = 25_000;

/// Two tables that require a row of each other, neither of whose keys can be deferred, with a parent and a child.
const CIRCLE: &str = "\
    CREATE TABLE roots (tenant_id uuid NOT NULL, id int NOT NULL, PRIMARY KEY (tenant_id, id)); \
    CREATE TABLE a (tenant_id uuid NOT NULL, id int NOT NULL, b_id int NOT NULL, root_id int NOT NULL, PRIMARY KEY (tenant_id, id), \
      FOREIGN KEY (tenant_id, root_id) REFERENCES roots); \
    CREATE TABLE b (tenant_id uuid NOT NULL, id int NOT NULL, a_id int NOT NULL, PRIMARY KEY (tenant_id, id), \
      FOREIGN KEY (tenant_id, a_id) REFERENCES a ON DELETE RESTRICT); \
    ALTER TABLE a ADD FOREIGN KEY (tenant_id, b_id) REFERENCES b; \
    CREATE TABLE leaves (tenant_id uuid NOT NULL, id int NOT NULL, a_id int NOT NULL, PRIMARY KEY (tenant_id, id), \
      FOREIGN KEY (tenant_id, a_id) REFERENCES a); \
    CREATE INDEX ON a (tenant_id, b_id); CREATE INDEX ON a (tenant_id, root_id); CREATE INDEX ON b (tenant_id, a_id); \
    CREATE INDEX ON leaves (tenant_id, a_id)";

fn circle_rows(tenant: Uuid, rows: u64) -> String {
    format!(
        "INSERT INTO roots SELECT '{tenant}', n FROM generate_series(1, {rows}) AS n; \
         WITH a AS (INSERT INTO a SELECT '{tenant}', n, {rows} + 1 - n, n FROM generate_series(1, {rows}) AS n), \
              b AS (INSERT INTO b SELECT '{tenant}', n, n FROM generate_series(1, {rows}) AS n) SELECT; \
         INSERT INTO leaves SELECT '{tenant}', n, n FROM generate_series(1, {rows}) AS n"
    )
}

/// A circle cannot be written table by table: whichever comes first refers to a row that is not there yet. It was refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_circle_of_required_references_is_copied_deleted_and_copied_again() {
    let mut ends = Ends::postgres(CIRCLE).await;
    execute(&ends.source, &format!("{}; {}", circle_rows(TENANT, 50), circle_rows(NEIGHBOUR, 7))).await;
    execute(&ends.target, &circle_rows(NEIGHBOUR, 3)).await;
    let superuser = ends.target_as(|database| &database.superuser, PoolOptions::default());
    for way in ["staged", "direct"] {
        if way == "direct" {
            ends.target.pool = superuser.pool.clone();
        }
        let prepared = ends.prepare().await;
        for copying in [CLEAR, ATOMIC, CLEAR] {
            let copied = ends.apply(&prepared, copying).await.unwrap();
            let copied: Vec<_> = copied.iter().map(|table| (table.table.as_str(), table.copied)).collect();
            assert_eq!(copied, [("roots", 50), ("a", 50), ("b", 50), ("leaves", 50)], "{way}, {copying:?}");
            ends.assert_agree(&ends.verify().await);
        }
        let neighbours = format!("SELECT count(*) FROM leaves WHERE tenant_id = '{NEIGHBOUR}'");
        assert_eq!(number(&ends.target, &neighbours).await, 3);
        execute(&ends.target, &without_circle(MOVED)).await;
    }
}

/// Deletes a tenant's rows.
fn without_circle(tenant: Uuid) -> String {
    let delete = |table: &str| format!("DELETE FROM {table} WHERE tenant_id = '{tenant}'");
    format!("{}; WITH a AS ({}), b AS ({}) SELECT; {}", delete("leaves"), delete("a"), delete("b"), delete("roots"))
}

/// More rows than one connection is enough for, over every kind of value that a text or a calendar would spoil.
#[tokio::test(flavor = "multi_thread")]
async fn many_rows_travel_over_several_connections_and_over_the_least_there_can_be() {
    const TABLES: &str = "CREATE TYPE mood AS ENUM ('sad', 'ok'); \
        CREATE TABLE wide (tenant_id uuid NOT NULL, id bigint NOT NULL GENERATED ALWAYS AS IDENTITY, at timestamptz, day date, ratio double precision, \
          exact numeric, feel mood, list text[], span int4range, data bytea, spelled jsonb, PRIMARY KEY (tenant_id, id)); \
        CREATE TABLE parts (tenant_id uuid NOT NULL, id bigint NOT NULL, wide_id bigint NOT NULL, PRIMARY KEY (tenant_id, id), \
          FOREIGN KEY (tenant_id, wide_id) REFERENCES wide); \
        CREATE TABLE notes (tenant_id uuid NOT NULL, id bigint NOT NULL, part_id bigint NOT NULL, note text, PRIMARY KEY (tenant_id, id), \
          FOREIGN KEY (tenant_id, part_id) REFERENCES parts); \
        CREATE TABLE alone (tenant_id uuid NOT NULL, id bigint NOT NULL, note text, PRIMARY KEY (tenant_id, id))";
    let mut ends = Ends::postgres(TABLES).await;
    for tenant in [TENANT, NEIGHBOUR] {
        execute(
            &ends.source,
            &format!(
                "INSERT INTO wide (tenant_id, at, day, ratio, exact, feel, list, span, data, spelled) SELECT '{tenant}', \
                   (ARRAY['infinity', '-infinity', '0044-03-15 12:00+00 BC', '294276-12-31 23:59:59.999999+00'])[n % 5 + 1]::timestamptz, \
                   (ARRAY['infinity', '-infinity', '0044-03-15 BC'])[n % 4 + 1]::date, \
                   (ARRAY['NaN', '-infinity', '0.1', '-0'])[n % 5 + 1]::float8, (ARRAY['NaN', '1.10', '1e-20'])[n % 4 + 1]::numeric, \
                   'ok', ARRAY[NULL, '', 'a,b', n::text], int4range(1, n), sha256(n::text::bytea), jsonb_build_object('n', n) \
                   FROM generate_series(1, {MANY}) AS n; \
                 INSERT INTO wide (tenant_id, data) VALUES ('{tenant}', decode(repeat('00ff', 10000000), 'hex')); \
                 INSERT INTO parts SELECT '{tenant}', n, w.first + n - 1 FROM generate_series(1, 1000) AS n, \
                   (SELECT min(id) AS first FROM wide WHERE tenant_id = '{tenant}') AS w; \
                 INSERT INTO notes SELECT '{tenant}', n, n, E'a\\tb\\n\\\\' FROM generate_series(1, 1000) AS n; \
                 INSERT INTO alone SELECT '{tenant}', n, NULL FROM generate_series(1, 1000) AS n"
            ),
        )
        .await;
    }
    let few = || PoolOptions { max_connections: 2, ..PoolOptions::default() };
    let direct = |options| ends.target_as(|database| &database.superuser, options);
    let service = |options| ends.target_as(|database| &database.service, options);
    let source_of_two = Endpoint::new(pool_of(&ends.databases[0], &ends.databases[0].service, few()), TENANT);
    let targets = [service(PoolOptions::default()), direct(PoolOptions::default()), service(few())];
    for (round, target) in targets.into_iter().enumerate() {
        ends.target = target;
        if round == 2 {
            ends.source = source_of_two.clone();
        }
        let copied = ends.copy().await;
        let copied: Vec<_> = copied.iter().map(|table| (table.table.as_str(), table.read, table.copied)).collect();
        let wide = MANY + 1;
        assert_eq!(copied, [("alone", 1000, 1000), ("wide", wide, wide), ("parts", 1000, 1000), ("notes", 1000, 1000)]);
        ends.assert_agree(&ends.verify().await);
        let largest = format!("SELECT max(length(data))::bigint FROM wide WHERE tenant_id = '{MOVED}'");
        assert_eq!(number(&ends.target, &largest).await, 20_000_000);
        assert_eq!(number(&ends.target, "SELECT count(*) FROM wide").await, MANY as i64 + 1, "no neighbour came along");
        execute(&ends.target, "TRUNCATE notes, parts, wide, alone").await;
    }
}

/// What an interrupted copy has committed is whole tables, and the next copy begins by deleting them.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_interrupted_is_begun_again() {
    /// Ends the server when the copy comes to a table.
    struct Killer(Cluster);

    impl Progress for Killer {
        fn table(&self, table: &str, _rows: u64) {
            if table == "a" {
                self.0.crash().unwrap();
            }
        }
    }

    let mut ends = Ends::postgres(CIRCLE).await;
    execute(&ends.source, &circle_rows(TENANT, MANY)).await;
    let cluster = Cluster::start().unwrap();
    let database = cluster.create_database("target").unwrap();
    ends.target.pool = pool_of(&database, &database.service, PoolOptions::default());
    execute(&ends.target, &fence::install_sql(DbBackend::Postgres).unwrap()).await;
    execute(&ends.target, CIRCLE).await;
    for copying in [CLEAR, ATOMIC] {
        let prepared = ends.prepare().await;
        let options = Options::default();
        let killed = copy(&ends.source, &ends.target, &prepared, copying, &options, &Killer(cluster.clone())).await;
        assert!(matches!(killed, Err(Error::Database { .. } | Error::Driver { .. })), "{killed:?}");
        cluster.restart().unwrap();
        let left = number(&ends.target, "SELECT count(*) FROM roots").await;
        assert_eq!(left, if copying.atomic { 0 } else { MANY as i64 }, "{copying:?}");
        let copied = ends.apply(&prepared, copying).await.unwrap();
        assert!(copied.iter().all(|table| table.copied == MANY), "{copied:?}");
        ends.assert_agree(&ends.verify().await);
        execute(&ends.target, &without_circle(MOVED)).await;
    }
}

/// A server that refuses COPY says so once, and then that it is ready. The driver leaves the second unread, and whoever got the
/// connection next took it for the answer to what they had asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_copy_is_told_in_the_servers_words_and_its_connection_serves_nobody() {
    const TABLE: &str =
        "CREATE TABLE things (tenant_id uuid NOT NULL, id int NOT NULL, n int NOT NULL, PRIMARY KEY (tenant_id, id))";
    let mut ends = Ends::postgres(TABLE).await;
    execute(&ends.source, &format!("INSERT INTO things SELECT '{TENANT}', n, n FROM generate_series(1, {MANY}) AS n"))
        .await;
    let databases = std::mem::take(&mut ends.databases);
    let [source, target] = &databases[..] else { panic!() };
    let two = || PoolOptions { max_connections: 2, ..PoolOptions::default() };
    let poolers = [source, target].map(|database| {
        let options = PoolerOptions { server_connections: 1, ..PoolerOptions::default() };
        or_skip("a refused COPY behind a pooler", Pooler::start(&[database], &options)).unwrap()
    });
    for pooled in [false, true] {
        // The superuser's rows go straight in.
        let logins = [&source.service, &target.superuser];
        let mut pools =
            [(source, logins[0]), (target, logins[1])].map(|(database, login)| pool_of(database, login, two()));
        if pooled {
            let [Some(of_source), Some(of_target)] = &poolers else { return };
            for (pool, (pooler, database)) in pools.iter_mut().zip([(of_source, source), (of_target, target)]) {
                let url = pooler.url_of(database).parse().unwrap();
                *pool = Pool::new(&url, Some(&login_of(&database.service)), &two()).unwrap();
            }
        }
        let [source_pool, target_pool] = pools;
        (ends.source.pool, ends.target.pool) = (source_pool, target_pool);
        let prepared = ends.prepare().await;
        for (end, database) in [(&ends.source, source), (&ends.target, target)] {
            // The reading side is refused at once, the writing side at its last row.
            let (refuse, allow, expected) = if database.name == source.name {
                (
                    "ALTER TABLE things RENAME COLUMN n TO m",
                    "ALTER TABLE things RENAME COLUMN m TO n",
                    "column \"n\" does not exist",
                )
            } else {
                let check = format!("ALTER TABLE things ADD CONSTRAINT small CHECK (id < {MANY})");
                let refuse: &'static str = String::leak(check);
                (refuse, "ALTER TABLE things DROP CONSTRAINT small", "small")
            };
            database.psql(&database.superuser, refuse).unwrap();
            let refused = copy(&ends.source, &ends.target, &prepared, CLEAR, &Options::default(), &Unwatched).await;
            database.psql(&database.superuser, allow).unwrap();
            let chain = chain(&refused.unwrap_err());
            assert!(chain.contains(expected), "pooled {pooled}, at {}: {chain}", database.name);
            for n in 0..20 {
                assert_eq!(number(end, &format!("SELECT {n}::bigint")).await, n, "an answer to another question");
            }
        }
        let copied = ends.apply(&prepared, CLEAR).await.unwrap();
        assert_eq!(copied[0].copied, MANY);
        ends.assert_agree(&ends.verify().await);
        execute(&ends.target, "DELETE FROM things").await;
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

/// Every kind of value that both engines hold, with the names that each of them gives it, and one value of it.
const PORTABLE: [(&str, &str, &str, &str); 11] = [
    ("word", "text", "text", "'word'"),
    ("short", "varchar(9)", "varchar(9)", "'short'"),
    ("little", "smallint", "smallint", "7"),
    ("whole", "bigint", "bigint", "7"),
    ("yes", "boolean", "boolean", "true"),
    ("price", "numeric(10,2)", "real(10, 2)", "7.25"),
    ("day", "date", "date_text", "'2001-02-03'"),
    ("clock", "time", "time_text", "'01:02:03.000000'"),
    ("moment", "timestamptz", "timestamp_with_timezone_text", "'2001-02-03T04:05:06.000000+00:00'"),
    ("file", "bytea", "blob", ""),
    ("spelled", "jsonb", "jsonb_text", "'{\"b\":1}'"),
];

/// A row's values as PostgreSQL reads them; `None` is null.
type Values = Vec<Option<String>>;

fn values() -> impl Strategy<Value = Values> {
    let text = "[\\PC\\n\\t\"\\\\(), \u{85}\u{a0}]{0,9}";
    let edge = |ordinary: BoxedStrategy<String>, edges: &'static [&'static str]| {
        prop_oneof![4 => ordinary, 1 => prop::sample::select(edges).prop_map(str::to_owned)].boxed()
    };
    let columns: Vec<BoxedStrategy<String>> = vec![
        text.boxed(),
        text.boxed(),
        any::<i16>().prop_map(|n| n.to_string()).boxed(),
        any::<i64>().prop_map(|n| n.to_string()).boxed(),
        any::<bool>().prop_map(|yes| yes.to_string()).boxed(),
        (-9_999_999_999_i64..=9_999_999_999)
            .prop_map(|n| format!("{}{}.{:02}", if n < 0 { "-" } else { "" }, n.abs() / 100, n.abs() % 100))
            .boxed(),
        edge(
            (1..=9999_u32, 1..=12_u32, 1..=28_u32).prop_map(|(y, m, d)| format!("{y:04}-{m:02}-{d:02}")).boxed(),
            &["infinity", "-infinity"],
        ),
        edge(
            (0..24_u32, 0..60_u32, 0..60_u32, 0..1_000_000_u32)
                .prop_map(|(h, m, s, f)| format!("{h:02}:{m:02}:{s:02}.{f:06}"))
                .boxed(),
            &["24:00:00", "00:00:00.1"],
        ),
        edge(
            (2..9999_u32, 1..=12_u32, 0..24_u32, 0..1_000_000_u32)
                .prop_map(|(y, m, h, f)| format!("{y:04}-{m:02}-09 {h:02}:00:59.{f:06}+05"))
                .boxed(),
            &["infinity", "-infinity", "2024-01-01 00:00:00Z"],
        ),
        prop::collection::vec(any::<u8>(), 0..40)
            .prop_map(|bytes| bytes.iter().fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}")))
            .boxed(),
        edge(
            "[a-z\u{e4}]{0,3}".prop_map(|word| format!("{{\"{word}\": [1.0, null, \"{word}\"], \"a\": -0.0}}")).boxed(),
            &["null", "[]", "1e2"],
        ),
    ];
    let columns: Vec<_> = columns.into_iter().map(|column| prop::option::weighted(0.8, column)).collect();
    columns
}

fn literal(value: Option<&String>) -> String {
    value.map_or("NULL".to_owned(), |value| format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "\\'")))
}

/// The digest of a server and the one that is computed here agree on every value, and on no others, and so do those of two servers:
/// whatever is done to one row of the target is found and named.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_values_have_one_digest_on_both_engines_and_any_other_values_another() {
    let [postgres, sqlite] = [0, 1].map(|engine| {
        let columns = PORTABLE.map(|(name, postgres, sqlite, _)| format!(", {name} {}", [postgres, sqlite][engine])).concat();
        let uuid = ["uuid", "uuid_text"][engine];
        // One table that PostgreSQL digests itself, and one that is read, for its JSON.
        let plain = columns.split(", spelled").next().unwrap();
        let declare = |table: &str, columns: &str| format!("CREATE TABLE {table} (tenant_id {uuid} NOT NULL, id integer NOT NULL{columns}, PRIMARY KEY (tenant_id, id));");
        declare("plain", plain) + &declare("spelled", &columns)
    });
    let ends = Ends::new((Engine::Postgres, Engine::Sqlite), [&postgres, &sqlite]).await;
    // Two servers write rows alike, too; and back from SQLite.
    let twin = Ends::postgres(&postgres).await;
    let back = Ends {
        source: Endpoint::new(ends.target.pool.clone(), MOVED),
        target: Endpoint::new(twin.target.pool.clone(), MOVED),
        databases: Vec::new(),
        _directory: tempfile::tempdir().unwrap(),
    };

    let cases = (prop::collection::vec(values(), 1..6), any::<prop::sample::Index>(), 0..PORTABLE.len(), 0..4_u8);
    let runtime = tokio::runtime::Handle::current();
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() });
    let checked = tokio::task::block_in_place(|| {
        runner.run(&cases, |(rows, at, column, change)| {
            runtime.block_on(check(&ends, &twin, &back, &rows, at.index(rows.len()), column, change));
            Ok(())
        })
    });
    checked.unwrap();
}

async fn check(ends: &Ends, twin: &Ends, back: &Ends, rows: &[Values], at: usize, column: usize, change: u8) {
    let mut fill = "DELETE FROM plain; DELETE FROM spelled".to_owned();
    for (table, columns) in [("plain", PORTABLE.len() - 1), ("spelled", PORTABLE.len())] {
        for (number, values) in rows.iter().enumerate() {
            let values: Vec<String> = values.iter().take(columns).map(|value| literal(value.as_ref())).collect();
            fill += &format!("; INSERT INTO {table} VALUES ('{TENANT}', {number}, {})", values.join(", "));
        }
    }
    execute(&ends.source, &fill).await;
    for target in [&ends.target, &back.target] {
        execute(target, "DELETE FROM plain; DELETE FROM spelled").await;
    }
    ends.copy().await;
    ends.assert_agree(&ends.verify().await);
    back.copy().await;
    back.assert_agree(&back.verify().await);
    execute(&twin.source, &fill).await;
    let servers = twin.verify().await;
    assert!(servers.tables[0].agrees(), "through SQLite and back: {}", servers.summary());
    assert_eq!(servers.tables[0].source_digest, servers.tables[0].target_digest);

    // The same tables in the target with one thing changed.
    let (name, postgres, sqlite, value) = PORTABLE[column];
    let value = if sqlite == "blob" { "x'07'" } else { value };
    let table = if name == "spelled" { "spelled" } else { "plain" };
    let (expected, sql) = match change {
        0 => ((1, 0, 0), format!("DELETE FROM {table} WHERE id = {at}")),
        1 => ((0, 1, 0), format!("INSERT INTO {table} (tenant_id, id) VALUES (x'{}', 1000)", MOVED.simple())),
        2 => (
            (0, 0, 1),
            format!("UPDATE {table} SET {name} = CASE WHEN {name} IS NULL THEN {value} END WHERE id = {at}"),
        ),
        _ => {
            let other = (at + 1) % rows.len();
            let differing = if rows[at][column] == rows[other][column] { 0 } else { 2 };
            let of = |id: usize| format!("(SELECT {name} FROM {table} WHERE id = {id})");
            let swap = format!(
                "CREATE TEMPORARY TABLE kept AS SELECT {} AS a, {} AS b; \
                 UPDATE {table} SET {name} = (SELECT b FROM kept) WHERE id = {at}; \
                 UPDATE {table} SET {name} = (SELECT a FROM kept) WHERE id = {other}; DROP TABLE kept",
                of(at),
                of(other)
            );
            ((0, 0, differing), swap)
        }
    };
    if name != "spelled" && change >= 2 {
        let other = (at + 1) % rows.len();
        let of = |id: usize| format!("(SELECT {name} FROM plain WHERE id = {id})");
        let value = if name == "file" { "E'\\\\x07'" } else { value };
        let (set, differing) = match change {
            2 => (format!("CASE WHEN {name} IS NULL THEN {value}::{postgres} END WHERE id = {at}"), 1),
            // Each column has the values that it had, and other rows have them.
            _ => {
                let differs = format!("SELECT ({} IS DISTINCT FROM {})::int::bigint", of(at), of(other));
                let swapped =
                    format!("CASE id WHEN {at} THEN {} ELSE {} END WHERE id IN ({at}, {other})", of(other), of(at));
                (swapped, 2 * number(&twin.target, &differs).await as u64)
            }
        };
        let sql = format!("UPDATE plain SET {name} = {set}");
        execute(&twin.target, &sql).await;
        let servers = twin.verify().await;
        assert_eq!(servers.tables[0].different, differing, "{sql}");
        let alike = servers.tables[0].source_digest == servers.tables[0].target_digest;
        assert_eq!(alike, differing == 0, "{sql}");
    }
    execute(&ends.target, &sql).await;
    let report = ends.verify().await;
    let found = report.tables.iter().find(|found| found.table == table).unwrap();
    let counted = (found.missing, found.extra, found.different);
    if change == 3 && counted.2 == 0 {
        // Two spellings of one value.
        assert_eq!(found.source_digest, found.target_digest);
        return;
    }
    assert_eq!(counted, expected, "{sql}");
    assert_eq!(found.source_digest == found.target_digest, expected == (0, 0, 0), "{sql}");
}

/// Between two servers a value is what it is spelled: what a digest told apart the search for keys took for the same, and the table was
/// said to agree.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_spelled_otherwise_is_found_and_named() {
    let ends = Ends::postgres(
        "CREATE TABLE things (tenant_id uuid NOT NULL, id int NOT NULL, blank bpchar, js jsonb, plain json, \
         PRIMARY KEY (tenant_id, id)); \
         CREATE TABLE codes (tenant_id uuid NOT NULL, code char(3) NOT NULL, PRIMARY KEY (tenant_id, code))",
    )
    .await;
    execute(
        &ends.source,
        &format!(
            "INSERT INTO things SELECT '{TENANT}', n, 'a  ', '{{\"price\": 1.00}}', '{{\"a\":1}}' FROM generate_series(1, 9) AS n; \
             INSERT INTO codes VALUES ('{TENANT}', 'ab'), ('{TENANT}', E'ab\\t'), ('{TENANT}', 'abc'), ('{TENANT}', '')"
        ),
    )
    .await;
    ends.copy().await;
    ends.assert_agree(&ends.verify().await);
    for (sql, column) in [
        ("UPDATE things SET blank = 'a' WHERE id = 3", "blank"),
        ("UPDATE things SET js = '{\"price\": 1.0}' WHERE id = 5", "js"),
        ("UPDATE things SET plain = '{\"a\": 1}' WHERE id = 7", "plain"),
    ] {
        execute(&ends.target, sql).await;
        let report = ends.verify().await;
        assert!(!report.agrees(), "{sql}");
        let found = report.tables.iter().flat_map(|table| &table.samples).find(|sample| match &sample.found {
            Found::Different(columns) => columns == &[column],
            _ => false,
        });
        assert!(found.is_some(), "{sql}: {}", report.summary());
    }
    // Keys in the order of their texts, blanks and all.
    execute(&ends.target, "DELETE FROM codes WHERE code = 'abc'").await;
    let report = ends.verify().await;
    let codes = report.tables.iter().find(|table| table.table == "codes").unwrap();
    assert_eq!((codes.missing, codes.extra, codes.different), (1, 0, 0), "{}", report.summary());
}

/// A statement into SQLite ends at its rows or at their bytes, and none is left between two.
#[tokio::test(flavor = "multi_thread")]
async fn rows_large_and_small_go_into_sqlite() {
    const TABLES: [&str; 2] = [
        "CREATE TABLE notes (tenant_id uuid NOT NULL, id bigint NOT NULL, note text, PRIMARY KEY (tenant_id, id))",
        "CREATE TABLE notes (tenant_id uuid_blob NOT NULL, id bigint NOT NULL, note text, PRIMARY KEY (tenant_id, id))",
    ];
    let ends = Ends::new((Engine::Postgres, Engine::Sqlite), TABLES).await;
    // One row larger than all that goes together, runs of large ones that end it at odd places, and more small ones than go at once.
    let rows = format!(
        "INSERT INTO notes SELECT '{TENANT}', n, repeat('x', CASE WHEN n = 7 THEN 3000000 WHEN n % 1000 < 40 THEN 90001 ELSE 3 END) \
         FROM generate_series(1, 2500) AS n"
    );
    execute(&ends.source, &rows).await;
    assert_eq!(ends.copy().await[0].copied, 2500);
    ends.assert_agree(&ends.verify().await);
}
