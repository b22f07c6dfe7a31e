//! Types that somebody defined, and what columns compute.

use tenantry_transfer::{Note, Options, Refusal, copy::Copying};
use uuid::Uuid;

use crate::transfer::world::{agreed, moved, planned, refused, two};

/// Two types of one name: binary COPY would have failed late, or brought values that the target's type does not have.
#[tokio::test(flavor = "multi_thread")]
async fn types_of_one_name_that_consist_of_other_things_are_refused() {
    let (source, target) = two().await;
    let table = "CREATE TABLE items (tenant_id uuid NOT NULL, id int NOT NULL, a mood, b percent[], c pair, d spans, e int, \
         PRIMARY KEY (tenant_id, id))";
    source
        .execute(&format!(
            "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN percent AS int CHECK (VALUE <= 100); \
             CREATE TYPE inner_pair AS (x int, y text); CREATE TYPE pair AS (a inner_pair, b text); \
             CREATE TYPE spans AS RANGE (subtype = numeric); {table}"
        ))
        .await;
    target
        .execute(&format!(
            "CREATE TYPE mood AS ENUM ('ok', 'sad', 'glad'); CREATE DOMAIN percent AS int CHECK (VALUE <= 90); \
             CREATE TYPE inner_pair AS (x int, y varchar(3)); CREATE TYPE pair AS (a inner_pair, b text); \
             CREATE TYPE spans AS RANGE (subtype = float8); {table}"
        ))
        .await;
    let id = Uuid::new_v4();
    let found = refused(&source.end(id), &target.end(id)).await;
    let columns: Vec<&str> = found
        .iter()
        .map(|refusal| match refusal {
            Refusal::DefinitionDiffers { column, source, target, .. } => {
                assert_ne!(source, target);
                column.as_str()
            }
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(columns, ["a", "b", "c", "d"]);
}

/// `IS NULL` is true of a composite value whose fields are null, and NOT NULL lets it in: such a row was refused, and two that are
/// alike were not noticed.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_nulls_is_a_value() {
    let (source, target) = two().await;
    let table = |more: &str| {
        format!(
            "CREATE TYPE pair AS (a int, b text); \
             CREATE TABLE items (tenant_id uuid NOT NULL, id int NOT NULL, c pair {more}, PRIMARY KEY (tenant_id, id))"
        )
    };
    source.execute(&table("")).await;
    target.execute(&table("NOT NULL UNIQUE")).await;
    let id = Uuid::new_v4();
    source
        .execute(&format!("INSERT INTO items VALUES ('{id}', 1, ROW(NULL, NULL)), ('{id}', 2, ROW(NULL, NULL))"))
        .await;
    let (from, to) = (source.end(id), target.end(id));
    let [Refusal::Duplicate { groups: 1, columns, .. }] = &refused(&from, &to).await[..] else {
        panic!("{:?}", refused(&from, &to).await)
    };
    assert_eq!(columns, &["c"]);
    source.execute("UPDATE items SET c = ROW(1, NULL) WHERE id = 2").await;
    agreed(moved(&from, &to, &Options::default(), Copying::default()).await);
    assert_eq!(target.rows("items").await, source.rows("items").await);
    source.execute("UPDATE items SET c = NULL WHERE id = 1").await;
    assert!(refused(&from, &to).await.iter().any(|refusal| matches!(refusal, Refusal::Null { rows: 1, .. })));
}

/// What the target computes otherwise is told before, and found by the verification.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_computed_otherwise_is_told() {
    let (source, target) = two().await;
    let table = |expression: &str| {
        format!(
            "CREATE TABLE items (tenant_id uuid NOT NULL, id int NOT NULL, n int, twice int GENERATED ALWAYS AS ({expression}) \
             STORED, PRIMARY KEY (tenant_id, id))"
        )
    };
    source.execute(&table("n * 2")).await;
    target.execute(&table("n + 2")).await;
    let id = Uuid::new_v4();
    source.execute(&format!("INSERT INTO items VALUES ('{id}', 1, 2)")).await;
    let (from, to) = (source.end(id), target.end(id));
    let told = Note::Computed { table: "items".to_owned(), column: "twice".to_owned() };
    assert!(planned(&from, &to).await.notes.contains(&told));
    agreed(moved(&from, &to, &Options::default(), Copying::default()).await);
    source.execute(&format!("INSERT INTO items VALUES ('{id}', 2, 3)")).await;
    target.execute("DELETE FROM items").await;
    let report = moved(&from, &to, &Options::default(), Copying::default()).await.unwrap();
    assert_eq!(report.tables.iter().map(|table| table.different).sum::<u64>(), 1, "{}", report.summary());
}
