//! Tables without a tenant column that tenants' rows refer to.

use tenantry_connection::Engine;
use tenantry_transfer::{
    Error, Note, Options, Refusal, Side, Unwatched, copy::Copying, copy::copy, plan::PlannedReference, prepare,
};
use uuid::Uuid;

use crate::transfer::world::{Db, agreed, moved, planned, two};

const TABLES: &str = "CREATE TABLE countries (code varchar(2) PRIMARY KEY, name text); \
     CREATE TABLE regions (country varchar(2) REFERENCES countries, code varchar(3), since timestamptz, PRIMARY KEY (country, code)); \
     CREATE TABLE offices (tenant_id uuid NOT NULL, id int NOT NULL, country varchar(2), region varchar(3), \
       PRIMARY KEY (tenant_id, id), FOREIGN KEY (country, region) REFERENCES regions)";

async fn fill(source: &Db, id: Uuid) {
    source
        .execute(&format!(
            "INSERT INTO countries VALUES ('DE', 'Germany'), ('FR', NULL), ('ES', 'Spain'); \
             INSERT INTO regions VALUES ('DE', 'BY', '2024-01-01+00'), ('FR', 'IDF', 'infinity'), ('ES', 'AN', NULL); \
             INSERT INTO offices VALUES ('{id}', 1, 'DE', 'BY'), ('{id}', 2, 'FR', 'IDF'), ('{id}', 3, NULL, 'AN')"
        ))
        .await;
}

fn declared() -> Options {
    Options { reference_tables: vec!["regions".to_owned(), "countries".to_owned()], ..Options::default() }
}

/// The rows referred to are looked up, by all columns of the key; a reference over several columns was not looked at before.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_referred_to_must_be_there() {
    let (source, target) = two().await;
    let id = Uuid::new_v4();
    source.execute(TABLES).await;
    fill(&source, id).await;
    let (from, to) = (source.end(id), target.end(id));

    // Without the table, or the foreign key, nothing in the target itself would refuse.
    target
        .execute(
            "CREATE TABLE offices (tenant_id uuid NOT NULL, id int NOT NULL, country varchar(2), region varchar(3), \
             PRIMARY KEY (tenant_id, id))",
        )
        .await;
    let found = planned(&from, &to).await.refusals;
    assert!(matches!(&found[..], [Refusal::ReferenceTable { table, .. }] if table == "regions"), "{found:#?}");

    target.execute(&format!("DROP TABLE offices; {TABLES}")).await;
    target
        .execute("INSERT INTO countries VALUES ('DE', 'Germany'); INSERT INTO regions VALUES ('DE', 'BY', NULL)")
        .await;
    let plan = planned(&from, &to).await;
    let [Refusal::Dangling { table, parent, side: Side::Target, rows: 1, samples }] = &plan.refusals[..] else {
        panic!("{:#?}", plan.refusals)
    };
    assert_eq!((table.as_str(), parent.as_str(), samples[0].referenced.as_str()), ("offices", "regions", "FR/IDF"));
    assert!(
        plan.notes.contains(&Note::ReferenceTable { table: "regions".to_owned(), from: vec!["offices".to_owned()] })
    );

    target.execute("INSERT INTO countries VALUES ('FR', NULL); INSERT INTO regions VALUES ('FR', 'IDF', NULL)").await;
    agreed(moved(&from, &to, &Options::default(), Copying::default()).await);
    assert_eq!(target.rows("regions").await.len(), 2, "what is not declared is left alone");
}

/// Declared, they come along: whole, once, without a word about what the target has beyond them.
#[tokio::test(flavor = "multi_thread")]
async fn declared_reference_tables_are_copied_whole() {
    let id = Uuid::new_v4();
    for engine in [Engine::Postgres, Engine::Sqlite] {
        let source = Db::new(Engine::Postgres).await;
        source.execute(TABLES).await;
        fill(&source, id).await;
        let target = Db::new(engine).await;
        let timestamp = "timestamp_with_timezone_text";
        let tables = match engine {
            Engine::Postgres => TABLES.to_owned(),
            Engine::Sqlite => {
                TABLES.replace("uuid", "uuid_text").replace("timestamptz", timestamp).replace(" int ", " integer ")
            }
        };
        target.execute(&tables).await;
        target.execute("INSERT INTO countries VALUES ('DE', 'Germany'), ('IT', 'Italy')").await;
        let (from, to) = (source.end(id), target.end(id));
        let prepared = prepare(&from, &to, &declared(), &Unwatched).await.unwrap();
        let expected = |name: &str, rows, missing| PlannedReference { name: name.to_owned(), rows, missing };
        assert_eq!(prepared.plan().reference_tables, [expected("countries", 3, 2), expected("regions", 3, 3)]);
        assert_eq!(prepared.plan().refusals, []);
        agreed(moved(&from, &to, &declared(), Copying::default()).await);
        let codes = target.texts("SELECT code AS t FROM countries ORDER BY code").await;
        assert_eq!(codes, ["DE", "ES", "FR", "IT"]);
        let regions = target.texts("SELECT country || '/' || code AS t FROM regions ORDER BY 1").await;
        assert_eq!(regions, ["DE/BY", "ES/AN", "FR/IDF"]);
        // Again, now that all of it is there.
        target.execute("DELETE FROM offices").await;
        agreed(moved(&from, &to, &declared(), Copying::default()).await);
        target.execute("DELETE FROM offices").await;

        target.execute("UPDATE countries SET name = 'Espana' WHERE code = 'ES'").await;
        let refused = moved(&from, &to, &declared(), Copying::default()).await;
        let Err(Error::Refused(plan)) = refused else { panic!("{refused:?}") };
        let differs = Refusal::ReferenceDiffers { table: "countries".to_owned(), rows: 1, keys: vec!["ES".to_owned()] };
        assert_eq!(plan.refusals, [differs]);
        // Changed after the plan was made: found all the same, and nothing is overwritten.
        let late = copy(&from, &to, &prepared, Copying::default(), &declared(), &Unwatched).await;
        assert!(matches!(&late, Err(Error::ReferenceDiffers { table, rows: 1 }) if table == "countries"), "{late:?}");
        assert_eq!(target.texts("SELECT name AS t FROM countries WHERE code = 'ES'").await, ["Espana"]);
    }
}

/// Their rows are everybody's, and are not tried; that is told.
#[tokio::test(flavor = "multi_thread")]
async fn constraints_of_declared_reference_tables_are_named() {
    let id = Uuid::new_v4();
    for (engine, uuid, note) in [
        (
            Engine::Postgres,
            "uuid",
            Note::NotChecked { table: "countries".to_owned(), constraints: vec!["long".to_owned()] },
        ),
        (Engine::Sqlite, "uuid_text", Note::ChecksNotTried { tables: vec!["countries".to_owned()] }),
    ] {
        let tables = |uuid: &str, check: &str| {
            format!(
                "CREATE TABLE countries (code text PRIMARY KEY, name text{check}); \
                 CREATE TABLE offices (tenant_id {uuid} NOT NULL, id bigint NOT NULL, country text REFERENCES countries, \
                   PRIMARY KEY (tenant_id, id))"
            )
        };
        let (source, target) = (Db::new(Engine::Postgres).await, Db::new(engine).await);
        source.execute(&tables("uuid", "")).await;
        target.execute(&tables(uuid, ", CONSTRAINT long CHECK (length(name) > 3)")).await;
        source
            .execute(&format!(
                "INSERT INTO countries VALUES ('CU', 'Cub'); INSERT INTO offices VALUES ('{id}', 1, 'CU')"
            ))
            .await;
        let options = Options { reference_tables: vec!["countries".to_owned()], ..Options::default() };
        let plan = prepare(&source.end(id), &target.end(id), &options, &Unwatched).await.unwrap().plan().clone();
        assert!(plan.refusals.is_empty() && plan.notes.contains(&note), "{engine}: {:?}", plan.notes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_reference_table_is_refused_as_one() {
    let (source, target) = two().await;
    for db in [&source, &target] {
        db.execute(TABLES).await;
    }
    let options = Options { reference_tables: vec!["offices".to_owned(), "nowhere".to_owned()], ..Options::default() };
    let id = Uuid::new_v4();
    let prepared = prepare(&source.end(id), &target.end(id), &options, &Unwatched).await.unwrap();
    let tables: Vec<&str> = prepared
        .plan()
        .refusals
        .iter()
        .map(|refusal| match refusal {
            Refusal::ReferenceTable { table, .. } => table.as_str(),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(tables, ["nowhere", "offices"]);
}
