//! What a plan carries besides its refusals.

use tenantry_connection::Engine;
use tenantry_transfer::{Note, Plan, Refusal};
use uuid::Uuid;

use crate::transfer::world::{Db, planned, two};

const TABLE: &str =
    "CREATE TABLE items (tenant_id uuid NOT NULL, id int NOT NULL, t text, PRIMARY KEY (tenant_id, id))";

/// A plan is data, and another plan against the same has the same fingerprint; rows do not matter to it, structure does.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_carries_what_it_was_made_against() {
    let (source, target) = two().await;
    for db in [&source, &target] {
        db.execute(TABLE).await;
    }
    let id = Uuid::new_v4();
    let neighbour = Uuid::new_v4();
    source
        .execute(&format!(
            "INSERT INTO items SELECT t, n, repeat('x', 1000) FROM generate_series(1, 1000) n, unnest(ARRAY['{id}', '{neighbour}']::uuid[]) t"
        ))
        .await;
    source.execute("ANALYZE items").await;
    let (from, to) = (source.end(id), target.end(id));
    let plan = planned(&from, &to).await;
    let items = plan.tables.iter().find(|table| table.name == "items").unwrap();
    assert_eq!(items.rows, 1000);
    // Half of the table, which takes a little more than its texts.
    assert!((900_000..3_000_000).contains(&items.bytes), "{} bytes", items.bytes);
    assert_eq!(plan.estimate.bytes, items.bytes);
    assert!(plan.estimate.milliseconds > 0);
    assert_eq!(plan.notes, [Note::SpaceUnknown]);
    assert!(plan.source.version.starts_with(|first: char| first.is_ascii_digit()), "{}", plan.source.version);
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);

    source.execute(&format!("DELETE FROM items WHERE tenant_id = '{id}' AND id > 10")).await;
    assert_eq!(planned(&from, &to).await.fingerprint, plan.fingerprint);
    assert_ne!(planned(&from, &target.end(neighbour)).await.fingerprint, plan.fingerprint);
    let mut seen = vec![plan.fingerprint];
    for change in [
        "ALTER TABLE items ADD COLUMN more int",
        "ALTER TABLE items ADD CHECK (more > 0)",
        "ALTER TABLE items ADD UNIQUE (tenant_id, more)",
        "ALTER TABLE items ALTER COLUMN more SET DEFAULT 1",
        "CREATE TABLE others (id int PRIMARY KEY)",
        "ALTER TABLE items ADD FOREIGN KEY (more) REFERENCES others",
    ] {
        target.execute(change).await;
        let fingerprint = planned(&from, &to).await.fingerprint;
        assert!(!seen.contains(&fingerprint), "{change}");
        seen.push(fingerprint);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoding_without_every_character_is_refused() {
    let source = Db::new(Engine::Postgres).await;
    let target = Db::new(Engine::Postgres).await;
    let database = target.database.as_ref().unwrap();
    let narrow = format!("{}-latin", database.name);
    let sql = format!(
        "CREATE DATABASE \"{narrow}\" TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C' OWNER \"{}\"",
        database.service.user
    );
    database.psql(&database.superuser, &sql).unwrap();
    for db in [&source, &target] {
        db.execute(TABLE).await;
    }
    let id = Uuid::new_v4();
    let mut to = target.end(id);
    let url = database.url().replace(&database.name, &narrow).parse().unwrap();
    let login =
        tenantry_credential::Login::new(database.service.user.clone(), database.service.password.clone()).unwrap();
    to.pool = tenantry_connection::Pool::new(&url, Some(&login), &tenantry_connection::PoolOptions::default()).unwrap();
    let found = planned(&source.end(id), &to).await.refusals;
    let expected = Refusal::Encoding { source: "UTF8".to_owned(), target: "LATIN1".to_owned() };
    assert!(found.contains(&expected), "{found:#?}");
    drop(to);
    database.psql(&database.superuser, &format!("DROP DATABASE \"{narrow}\" WITH (FORCE)")).unwrap();
}

/// A login that could write the rows and not move their numbers on would fail after the copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_that_cannot_be_moved_on_is_refused() {
    let (source, target) = two().await;
    for db in [&source, &target] {
        db.execute("CREATE TABLE items (tenant_id uuid NOT NULL, id bigserial, PRIMARY KEY (tenant_id, id))").await;
    }
    target.execute("REVOKE ALL ON SEQUENCE items_id_seq FROM CURRENT_USER").await;
    let id = Uuid::new_v4();
    let found = planned(&source.end(id), &target.end(id)).await.refusals;
    assert!(
        matches!(&found[..], [Refusal::Privilege { missing, .. }] if missing.contains("sequences of items")),
        "{found:#?}"
    );
}
