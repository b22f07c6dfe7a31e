//! Tables with few rows, which go together as values of one message: what is not few after all, what has no rows and what has no
//! values, and texts that are made to break out of it.

use tenantry_connection::Engine;

use super::ends::{CLEAR, Ends, MOVED, NEIGHBOUR, TENANT, execute, number, query};

const FAMILY: &str = "\
    CREATE TABLE parents (tenant_id uuid NOT NULL, id int NOT NULL, note text, PRIMARY KEY (tenant_id, id)); \
    CREATE TABLE children (tenant_id uuid NOT NULL, id int NOT NULL, parent int NOT NULL, note text, \
      PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, parent) REFERENCES parents); \
    CREATE TABLE grandchildren (tenant_id uuid NOT NULL, id int NOT NULL, child int NOT NULL, note text, \
      PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, child) REFERENCES children); \
    CREATE TABLE settings (tenant_id uuid NOT NULL PRIMARY KEY); \
    CREATE TABLE nothing (tenant_id uuid NOT NULL, id int NOT NULL, PRIMARY KEY (tenant_id, id))";

fn family(tenant: uuid::Uuid) -> String {
    format!(
        "INSERT INTO parents SELECT '{tenant}', n, 'p' || n FROM generate_series(1, 3) AS n; \
         INSERT INTO children SELECT '{tenant}', n, n, 'c' || n FROM generate_series(1, 3) AS n; \
         INSERT INTO grandchildren SELECT '{tenant}', n, n, 'g' || n FROM generate_series(1, 3) AS n; \
         INSERT INTO settings VALUES ('{tenant}')"
    )
}

/// Between the plan and the fence the tenant goes on writing. The table in the middle no longer fits, those around it do, and they
/// refer to each other.
#[tokio::test(flavor = "multi_thread")]
async fn few_rows_that_have_become_many_or_large_arrive_all_the_same() {
    for grown in [
        "INSERT INTO children SELECT tenant_id, n, 1, 'late' FROM generate_series(4, 3000) AS n, settings",
        "UPDATE children SET note = repeat('long ', 200000) WHERE id = 2",
        "UPDATE parents SET note = repeat('long ', 200000); UPDATE grandchildren SET note = repeat('long ', 200000)",
    ] {
        let mut ends = Ends::postgres(FAMILY).await;
        let superuser = ends.target_as(|database| &database.superuser, Default::default());
        execute(&ends.source, &family(TENANT)).await;
        execute(&ends.target, &family(NEIGHBOUR)).await;
        for way in ["staged", "direct, silenced"] {
            let prepared = ends.prepare().await;
            assert_eq!(prepared.plan().refusals, []);
            execute(&ends.source, grown).await;
            let copied = ends.apply(&prepared, CLEAR).await.unwrap();
            ends.assert_agree(&ends.verify().await);
            for table in &copied {
                let rows = format!("SELECT count(*) FROM {} WHERE tenant_id = '{MOVED}'", table.table);
                assert_eq!(table.copied as i64, number(&ends.target, &rows).await, "{way}: {}", table.table);
            }
            assert_eq!(number(&ends.target, "SELECT count(*) FROM children WHERE note = 'c1'").await, 2, "{way}");
            execute(
                &ends.source,
                "DELETE FROM grandchildren; DELETE FROM children; DELETE FROM parents; DELETE FROM settings",
            )
            .await;
            execute(&ends.source, &family(TENANT)).await;
            for table in ["grandchildren", "children", "parents", "settings"] {
                execute(&ends.target, &format!("DELETE FROM {table} WHERE tenant_id = '{MOVED}'")).await;
            }
            ends.target.pool = superuser.pool.clone();
        }
    }
}

/// Every text that means something to an array, a literal or a statement, in both directions between the engines.
#[tokio::test(flavor = "multi_thread")]
async fn texts_stay_texts() {
    const TABLE: [&str; 2] = [
        "CREATE TABLE texts (tenant_id uuid NOT NULL, id bigint NOT NULL, a text, b bytea, c varchar(9), PRIMARY KEY (tenant_id, id))",
        "CREATE TABLE texts (tenant_id uuid_blob NOT NULL, id bigint NOT NULL, a text, b blob, c varchar(9), \
         PRIMARY KEY (tenant_id, id))",
    ];
    const TEXTS: [&str; 20] = [
        "",
        " ",
        "NULL",
        "null",
        "{}",
        "{a,b}",
        "\"",
        "\\",
        "\\\\\"",
        "'",
        "''; DROP TABLE texts; --",
        "$$",
        "a\nb\r\n\tc",
        "\\x00",
        "E'\\''",
        "),('",
        "'::text[]), ('{",
        "ünï→😀",
        "\u{7f}\u{1}",
        "%s {0} \\N",
    ];
    let values = |engine: Engine| {
        let tenant = match engine {
            Engine::Postgres => format!("'{TENANT}'"),
            Engine::Sqlite => format!("x'{}'", TENANT.simple()),
        };
        let rows = TEXTS.iter().enumerate().map(|(id, text)| {
            let hex = text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
            let short: String = text.chars().take(9).collect();
            let literal = |text: &str| match engine {
                Engine::Postgres => format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
                Engine::Sqlite => format!("'{}'", text.replace('\'', "''")),
            };
            let bytes = match engine {
                Engine::Postgres => format!("'\\x{hex}'"),
                Engine::Sqlite => format!("x'{hex}'"),
            };
            format!("({tenant}, {id}, {}, {bytes}, {})", literal(text), literal(&short))
        });
        let rows = rows.collect::<Vec<_>>().join(", ");
        format!("INSERT INTO texts VALUES {rows}, ({tenant}, 100, NULL, NULL, NULL)")
    };
    for source in [Engine::Postgres, Engine::Sqlite] {
        let tables = if source == Engine::Postgres { [TABLE[0]; 2] } else { [TABLE[1], TABLE[0]] };
        let ends = Ends::new((source, Engine::Postgres), tables).await;
        execute(&ends.source, &values(source)).await;
        let copied = ends.copy().await;
        assert_eq!(copied[0].copied, TEXTS.len() as u64 + 1);
        ends.assert_agree(&ends.verify().await);
        let rows = query(&ends.target, "SELECT a, c FROM texts ORDER BY id").await;
        let read: Vec<Option<String>> = rows.iter().map(|row| row.try_get("", "a").unwrap()).collect();
        let expected: Vec<Option<String>> = TEXTS.iter().map(|text| Some((*text).to_owned())).chain([None]).collect();
        assert_eq!(read, expected, "from {source}");
    }
}

/// Where all small tables are written by one statement, a row that the target does not take is still told with its table, and
/// nothing of the others stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_refused_is_told_with_its_table() {
    let table = |name: &str, unique: &str| {
        format!(
            "CREATE TABLE {name} (tenant_id uuid NOT NULL, id int NOT NULL, code text, PRIMARY KEY (tenant_id, id){unique});"
        )
    };
    // Nulls that are alike are seen by no plan.
    let alike = ", UNIQUE NULLS NOT DISTINCT (tenant_id, code)";
    let source = ["first", "second", "third"].map(|name| table(name, "")).concat();
    let target = [("first", ""), ("second", alike), ("third", "")].map(|(name, unique)| table(name, unique)).concat();
    let mut ends = Ends::new((Engine::Postgres, Engine::Postgres), [&source, &target]).await;
    ends.target.pool = ends.target_as(|database| &database.superuser, Default::default()).pool;
    for name in ["first", "second", "third"] {
        execute(&ends.source, &format!("INSERT INTO {name} (tenant_id, id) VALUES ('{TENANT}', 1), ('{TENANT}', 2)"))
            .await;
    }
    let prepared = ends.prepare().await;
    let error = ends.apply(&prepared, CLEAR).await.unwrap_err().to_string();
    assert!(error.contains("copying second"), "{error}");
    for name in ["first", "second", "third"] {
        assert_eq!(number(&ends.target, &format!("SELECT count(*) FROM {name}")).await, 0);
    }
    execute(&ends.source, "DELETE FROM second WHERE id = 2").await;
    ends.apply(&ends.prepare().await, CLEAR).await.unwrap();
    ends.assert_agree(&ends.verify().await);
}

/// What a database is set to is no part of a value: every null arrived as a word, and a cast that somebody defined for their own
/// convenience read the texts.
#[tokio::test(flavor = "multi_thread")]
async fn no_setting_and_no_cast_reads_the_texts() {
    const TABLES: &str = "CREATE TYPE pair AS (a int, b int); \
        CREATE FUNCTION swapped(text) RETURNS pair LANGUAGE sql IMMUTABLE AS 'SELECT ROW(5, 0)::pair'; \
        CREATE CAST (text AS pair) WITH FUNCTION swapped(text); \
        CREATE TABLE odd (tenant_id uuid NOT NULL, id int NOT NULL, note text, js jsonb, PRIMARY KEY (tenant_id, id)); \
        CREATE TABLE pairs (tenant_id uuid NOT NULL, id int NOT NULL, pair pair, PRIMARY KEY (tenant_id, id))";
    let mut ends = Ends::postgres(TABLES).await;
    let database = &ends.databases[1];
    let off = format!("ALTER DATABASE \"{}\" SET array_nulls = off", database.name);
    tokio::task::block_in_place(|| database.psql(&database.superuser, &off)).unwrap();
    ends.target = ends.target_as(|database| &database.superuser, Default::default());
    execute(
        &ends.source,
        &format!("INSERT INTO odd VALUES ('{TENANT}', 1, NULL, NULL), ('{TENANT}', 2, 'NULL', 'null')"),
    )
    .await;
    execute(&ends.source, &format!("INSERT INTO pairs VALUES ('{TENANT}', 1, ROW(1, 2)), ('{TENANT}', 2, NULL)")).await;
    ends.copy().await;
    ends.assert_agree(&ends.verify().await);
    assert_eq!(number(&ends.target, "SELECT count(*) FROM odd WHERE note IS NULL AND js IS NULL").await, 1);
    assert_eq!(number(&ends.target, "SELECT (pair).b::bigint FROM pairs WHERE id = 1").await, 2);
}
