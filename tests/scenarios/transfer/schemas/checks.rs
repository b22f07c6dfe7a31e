//! CHECK constraints that only an SQLite target has.

use std::path::PathBuf;

use tenantry_connection::Engine;
use tenantry_realm::TenantKey;
use tenantry_transfer::{Error, Note, Options, Plan, Refusal, canonical::Problem, copy::Copying};
use uuid::Uuid;

use crate::transfer::world::{Db, agreed, moved, planned};

const ENGINES: [Engine; 2] = [Engine::Postgres, Engine::Sqlite];

/// A tenant's id as a statement of this engine has it.
fn literal(engine: Engine, id: Uuid) -> String {
    match engine {
        Engine::Postgres => format!("'{id}'"),
        Engine::Sqlite => format!("x'{}'", id.simple()),
    }
}

fn uuid_type(engine: Engine) -> &'static str {
    if engine == Engine::Postgres { "uuid" } else { "uuid_text" }
}

/// A source with the table `items (tenant_id, id, <more>)` and rows of a tenant, each `(id, …)`.
async fn source_of(engine: Engine, more: &str, rows: &[&str]) -> (Db, Uuid) {
    let (db, id) = (Db::new(engine).await, Uuid::new_v4());
    let uuid = uuid_type(engine);
    db.execute(&format!(
        "CREATE TABLE items (tenant_id {uuid} NOT NULL, id bigint NOT NULL{more}, PRIMARY KEY (tenant_id, id))"
    ))
    .await;
    for row in rows {
        db.execute(&format!("INSERT INTO items VALUES ({}, {row})", literal(engine, id))).await;
    }
    (db, id)
}

/// An SQLite file with the same table, and what it says of it behind its columns.
async fn file_of(more: &str, constraints: &str) -> Db {
    let db = Db::new(Engine::Sqlite).await;
    db.execute(&format!(
        "CREATE TABLE items (tenant_id uuid_text NOT NULL, id bigint NOT NULL{more}, PRIMARY KEY (tenant_id, id){constraints})"
    ))
    .await;
    db
}

/// What a file and its log consist of, and everything that can be found in it.
async fn contents(db: &Db) -> (Vec<Vec<u8>>, Vec<String>) {
    let path = db.pool.url().sqlite_path().unwrap().to_owned();
    let mut log = path.clone().into_os_string();
    log.push("-wal");
    let bytes = [path, PathBuf::from(log)].map(|path| std::fs::read(path).unwrap_or_default());
    let objects = db.texts("SELECT type || ' ' || name || ' ' || coalesce(sql, '') AS t FROM sqlite_schema").await;
    (bytes.into(), objects)
}

fn broken(table: &str, constraint: &str, rows: u64, keys: &[&str]) -> Refusal {
    Refusal::Check {
        table: table.to_owned(),
        constraint: constraint.to_owned(),
        rows,
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
    }
}

fn not_tried(plan: &Plan) -> Vec<&String> {
    let tables = plan.notes.iter().filter_map(|note| match note {
        Note::ChecksNotTried { tables } => Some(tables),
        _ => None,
    });
    tables.flatten().collect()
}

/// Several hundred rows, of which some break this and some that, in tables whose names need quotes.
#[tokio::test(flavor = "multi_thread")]
async fn the_rows_that_a_file_would_refuse_are_named_before_the_first_byte() {
    for engine in ENGINES {
        let (source, target) = (Db::new(engine).await, Db::new(Engine::Sqlite).await);
        let uuid = uuid_type(engine);
        source
            .execute(&format!(
                "CREATE TABLE \"Order.Items\" (tenant_id {uuid} NOT NULL, id bigint NOT NULL, \"Na\"\"me\" text, PRIMARY KEY (tenant_id, id)); \
                 CREATE TABLE other (tenant_id {uuid} NOT NULL, id text NOT NULL, parent bigint, PRIMARY KEY (tenant_id, id))"
            ))
            .await;
        target
            .execute(
                "CREATE TABLE \"Order.Items\" (tenant_id uuid_text NOT NULL, id bigint NOT NULL, \"Na\"\"me\" text DEFAULT 'a; b' \
                   CONSTRAINT \"like; a\" CHECK (\"Na\"\"me\" LIKE 'a%'), -- ; a comment\n \
                   more text DEFAULT 'more' CHECK (more = 'more'), twice integer GENERATED ALWAYS AS (id * 2) STORED CHECK (twice <> 1200), \
                   PRIMARY KEY (tenant_id, id), CHECK (id <> 7 AND \n id <> 450)); \
                 CREATE UNIQUE INDEX names ON \"Order.Items\" (tenant_id, \"Na\"\"me\", id); \
                 CREATE TABLE other (tenant_id uuid_text NOT NULL, id text NOT NULL, parent bigint, PRIMARY KEY (tenant_id, id), \
                   FOREIGN KEY (tenant_id, parent) REFERENCES \"Order.Items\" (tenant_id, id), \
                   CONSTRAINT short CHECK (length(id) <= 3)) WITHOUT ROWID",
            )
            .await;
        let [id, neighbour] = [Uuid::new_v4(), Uuid::new_v4()];
        let (own, other) = (literal(engine, id), literal(engine, neighbour));
        let rows: Vec<String> = (1..=700)
            .map(|row| {
                let name = if row % 100 == 3 { "'Abc'".to_owned() } else { format!("'abc {row}'") };
                format!("({own}, {row}, {name})")
            })
            .chain([format!("({own}, 1000, NULL)"), format!("({other}, 7, 'theirs')")])
            .collect();
        source
            .execute(&format!(
                "INSERT INTO \"Order.Items\" VALUES {}; INSERT INTO other VALUES ({own}, 'abc', 1), ({own}, 'abcd', NULL)",
                rows.join(", ")
            ))
            .await;
        let (from, to) = (source.end(id), target.end(Uuid::new_v4()));
        let before = contents(&target).await;
        let plan = planned(&from, &to).await;
        let expected = [
            broken("Order.Items", "id <> 7 AND id <> 450", 2, &["7", "450"]),
            broken("Order.Items", "like; a", 7, &["3", "103", "203", "303", "403"]),
            broken("Order.Items", "twice <> 1200", 1, &["600"]),
            broken("other", "short", 1, &["abcd"]),
        ];
        assert_eq!(plan.refusals, expected, "{engine}");
        assert_eq!(not_tried(&plan), [] as [&String; 0], "{engine}");
        let refused = moved(&from, &to, &Options::default(), Copying::default()).await;
        assert!(matches!(refused, Err(Error::Refused(_))));
        assert!(contents(&target).await == before, "{engine}: nothing is written where a plan refuses");

        source
            .execute(
                "DELETE FROM \"Order.Items\" WHERE id IN (7, 450, 600) OR \"Na\"\"me\" = 'Abc'; DELETE FROM other WHERE id = 'abcd'",
            )
            .await;
        let plan = planned(&from, &to).await;
        assert_eq!((plan.refusals.as_slice(), not_tried(&plan)), (&[] as &[Refusal], Vec::new()), "{engine}");
        agreed(moved(&from, &to, &Options::default(), Copying::default()).await);
    }
}

/// The tenant's id is tried as the target will have it, in a table that takes no value of another type.
#[tokio::test(flavor = "multi_thread")]
async fn the_tenant_is_tried_as_the_target_knows_it() {
    for engine in ENGINES {
        let (source, target) =
            (Db::with(engine, "tenant_id", "text").await, Db::with(Engine::Sqlite, "tenant_id", "text").await);
        source
            .execute(
                "CREATE TABLE items (tenant_id text NOT NULL, id text NOT NULL, PRIMARY KEY (tenant_id, id)); \
                 INSERT INTO items VALUES ('here', 'a'), ('here', 'b')",
            )
            .await;
        target
            .execute(
                "CREATE TABLE items (tenant_id TEXT NOT NULL CONSTRAINT mine CHECK (tenant_id = 'there'), id TEXT NOT NULL, \
                 PRIMARY KEY (tenant_id, id)) STRICT",
            )
            .await;
        let text = |id: &str| TenantKey::Text(id.to_owned());
        let (from, to) = (source.end(text("here")), target.end(text("there")));
        let there = planned(&from, &to).await;
        assert_eq!((there.refusals.as_slice(), not_tried(&there)), (&[] as &[Refusal], Vec::new()), "{engine}");
        let elsewhere = planned(&from, &target.end(text("elsewhere"))).await;
        assert_eq!(elsewhere.refusals, [broken("items", "mine", 2, &["a", "b"])], "{engine}");
        agreed(moved(&from, &to, &Options::default(), Copying::default()).await);
    }
}

/// Where source and target were made by the same statement there is nothing to try, and a table without rows needs no trial.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_source_may_not_have_is_tried() {
    for (engine, constraint, refused) in [
        (Engine::Postgres, "", true),
        (Engine::Sqlite, "", true),
        (Engine::Sqlite, ", CHECK (id < 4)", true),
        (Engine::Sqlite, ", CHECK (id < 3)", false),
    ] {
        let target = file_of("", ", CHECK (id < 3)").await;
        let (source, id) = (Db::new(engine).await, Uuid::new_v4());
        let uuid = uuid_type(engine);
        source
            .execute(&format!(
                "CREATE TABLE items (tenant_id {uuid} NOT NULL, id bigint NOT NULL, PRIMARY KEY (tenant_id, id){constraint})"
            ))
            .await;
        let (from, to) = (source.end(id), target.end(id));
        let insert = format!("INSERT INTO items VALUES ({}, 3)", literal(engine, id));
        if refused {
            assert_eq!(planned(&from, &to).await.refusals, []);
            source.execute(&insert).await;
            assert_eq!(
                planned(&from, &to).await.refusals,
                [broken("items", "id < 3", 1, &["3"])],
                "{engine} {constraint}"
            );
        } else {
            source.execute(&insert.replace(", 3)", ", 2)")).await;
            let plan = planned(&from, &to).await;
            assert_eq!((plan.refusals.as_slice(), not_tried(&plan)), (&[] as &[Refusal], Vec::new()));
        }
    }
}

/// What a row is refused for already is not told of it a second time, and what only rows that are there decide is not asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_refused_for_something_else_is_not_tried() {
    for engine in ENGINES {
        let rows = ["1, 32768, 'a'", "2, 1, NULL", "3, 2, 'a'", "4, 3, 'a'", "5, 4, 'a'"];
        let (source, id) = source_of(engine, ", number bigint, code text", &rows).await;
        let target = file_of(
            ", number smallint CHECK (number < 32768), code text NOT NULL DEFAULT 'b' CHECK (code = 'a')",
            ", UNIQUE (tenant_id, code), CONSTRAINT no_threes CHECK (number <> 3)",
        )
        .await;
        let plan = planned(&source.end(id), &target.end(id)).await;
        assert_eq!(not_tried(&plan), [] as [&String; 0], "{engine}");
        let refusals = plan.refusals;
        let (table, column) = ("items".to_owned(), |name: &str| name.to_owned());
        let expected = [
            Refusal::Null { table: table.clone(), column: column("code"), rows: 1, keys: vec!["2".to_owned()] },
            Refusal::Value {
                table,
                column: column("number"),
                problem: Problem::Integer,
                rows: 1,
                keys: vec!["1".to_owned()],
            },
            broken("items", "no_threes", 1, &["4"]),
        ];
        for expected in &expected {
            assert!(refusals.contains(expected), "{engine}: {expected:?}\n{refusals:#?}");
        }
        let others: Vec<_> = refusals.iter().filter(|refusal| !expected.contains(refusal)).collect();
        assert!(matches!(others.as_slice(), [Refusal::Duplicate { .. }]), "{engine}: {others:?}");
    }
}

/// What cannot be tried is told, and ends the copy, which then leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_tried_is_told() {
    let elsewhere = tempfile::tempdir().unwrap();
    let attached = elsewhere.path().join("attached.db");
    std::fs::write(&attached, "").unwrap();
    let statement = |constraint: &str, behind: &str| {
        format!(
            "CREATE TABLE items (tenant_id uuid_text NOT NULL, id bigint NOT NULL, PRIMARY KEY (tenant_id, id), CHECK ({constraint})){behind}"
        )
    };
    let attach = format!("; ATTACH '{}' AS other; CREATE TABLE other.t (a); SELECT 'check'", attached.display());
    for (case, made_by) in [
        ("a function that is not there", statement("fine(id)", "")),
        ("what has another answer tomorrow", statement("date('now') > id", "")),
        ("a number that the target gives", statement("rowid < 3", "")),
        ("an expression that fails", statement("abs(id) > 0", "")),
        ("another statement behind it", statement("id > 0", &attach)),
    ] {
        for engine in ENGINES {
            let (source, id) = source_of(engine, "", &["1", "2", "-9223372036854775808"]).await;
            let target = file_of("", "").await;
            // As whoever owns the file can: SQLite itself does not look at it again.
            target
                .execute(&format!(
                    "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = '{}' WHERE name = 'items'; PRAGMA writable_schema = RESET",
                    made_by.replace('\'', "''")
                ))
                .await;
            let (from, to) = (source.end(id), target.end(id));
            let plan = planned(&from, &to).await;
            assert_eq!(plan.refusals, [], "{engine}, {case}");
            assert_eq!(not_tried(&plan), ["items"], "{engine}, {case}: {:?}", plan.notes);
        }
    }
    assert_eq!(std::fs::read(&attached).unwrap(), b"", "the text of a table must not be run as anything else");

    let (source, id) = source_of(Engine::Postgres, "", &["1", "2", "-9223372036854775808"]).await;
    let target = file_of("", ", CHECK (abs(id) <> 1)").await;
    let (from, to) = (source.end(id), target.end(id));
    let plan = planned(&from, &to).await;
    assert_eq!(
        plan.refusals,
        [broken("items", "abs(id) <> 1", 1, &["1"])],
        "what was found before it failed is a reason"
    );
    assert_eq!(not_tried(&plan), ["items"]);
    source.execute("DELETE FROM items WHERE id = 1").await;
    let ended = moved(&from, &to, &Options::default(), Copying::default()).await;
    assert!(matches!(&ended, Err(Error::Driver { .. } | Error::Database { .. })), "{ended:?}");
    assert_eq!(target.texts("SELECT CAST(id AS text) AS t FROM items").await, [] as [String; 0], "nothing stays of it");
}
