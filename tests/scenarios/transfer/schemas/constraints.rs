//! Constraints that only a PostgreSQL target has.

use tenantry_transfer::{Error, Note, Options, Refusal, copy::Copying};
use uuid::Uuid;

use crate::transfer::world::{agreed, moved, planned, refused, two};

/// Row 33 of the traps that others fell into: what the target refuses was found after hours of copying.
#[tokio::test(flavor = "multi_thread")]
async fn checks_of_the_target_are_tried_before_the_first_byte() {
    let (source, target) = two().await;
    let columns =
        "tenant_id uuid NOT NULL, id int NOT NULL, status text, \"Amount\" numeric(10,2), PRIMARY KEY (tenant_id, id)";
    source.execute(&format!("CREATE TABLE items ({columns}, CONSTRAINT kept CHECK (id > 0))")).await;
    target
        .execute(&format!(
            "CREATE FUNCTION fine(text) RETURNS boolean LANGUAGE sql AS 'SELECT true'; \
             CREATE TABLE items ({columns}, CONSTRAINT kept CHECK (id > 0), \
               CONSTRAINT known CHECK (status IN ('new', 'it''s old') OR status IS NULL), \
               CONSTRAINT cheap CHECK (\"Amount\" < 100 AND length(status) < 20), \
               CONSTRAINT mine CHECK (tenant_id <> '00000000-0000-0000-0000-000000000000'), \
               CONSTRAINT opaque CHECK (fine(status)))"
        ))
        .await;
    let [id, other] = [Uuid::new_v4(), Uuid::new_v4()];
    source
        .execute(&format!(
            "INSERT INTO items VALUES ('{id}', 1, 'new', 1), ('{id}', 2, 'broken', 100), ('{id}', 3, NULL, NULL), \
             ('{other}', 4, 'theirs', 1000)"
        ))
        .await;
    let (from, to) = (source.end(id), target.end(id));
    let plan = planned(&from, &to).await;
    let broken = |constraint: &str| Refusal::Check {
        table: "items".to_owned(),
        constraint: constraint.to_owned(),
        rows: 1,
        keys: vec!["2".to_owned()],
    };
    assert_eq!(plan.refusals, [broken("cheap"), broken("known")]);
    let untried = Note::NotChecked { table: "items".to_owned(), constraints: vec!["opaque".to_owned()] };
    assert!(plan.notes.contains(&untried), "{:?}", plan.notes);
    let refused = moved(&from, &to, &Options::default(), Copying::default()).await;
    assert!(matches!(refused, Err(Error::Refused(_))));
    assert_eq!(target.rows("items").await, [] as [String; 0]);

    source.execute("UPDATE items SET status = 'new', \"Amount\" = 1 WHERE id = 2").await;
    agreed(moved(&from, &to, &Options::default(), Copying::default()).await);
}

/// What cannot be tried ends the copy, which then leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_that_could_not_be_tried_leaves_nothing_behind() {
    let (source, target) = two().await;
    let columns = "tenant_id uuid NOT NULL, id int NOT NULL, during int4range, PRIMARY KEY (tenant_id, id)";
    source.execute(&format!("CREATE TABLE stays ({columns}); CREATE TABLE guests (LIKE stays INCLUDING ALL)")).await;
    target
        .execute(&format!("CREATE TABLE stays ({columns}, EXCLUDE USING gist (during WITH &&)); CREATE TABLE guests (LIKE stays INCLUDING ALL)"))
        .await;
    let id = Uuid::new_v4();
    source
        .execute(&format!(
            "INSERT INTO stays VALUES ('{id}', 1, '[1,5)'), ('{id}', 2, '[4,6)'); INSERT INTO guests SELECT * FROM stays"
        ))
        .await;
    let (from, to) = (source.end(id), target.end(id));
    let untried = Note::NotChecked { table: "stays".to_owned(), constraints: vec!["stays_during_excl".to_owned()] };
    let plan = planned(&from, &to).await;
    assert_eq!(plan.refusals, []);
    assert!(plan.notes.contains(&untried), "{:?}", plan.notes);
    let failed = moved(&from, &to, &Options::default(), Copying::default()).await;
    assert!(matches!(failed, Err(Error::Database { .. } | Error::Driver { .. })), "{failed:?}");
    for table in ["stays", "guests"] {
        assert_eq!(target.rows(table).await, [] as [String; 0]);
    }
}

/// A condition may fail where it is tried: that is no answer, and the rest of the plan is made all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_that_fails_while_it_is_tried_counts_as_not_tried() {
    let (source, target) = two().await;
    let columns = "tenant_id uuid NOT NULL, id int NOT NULL, PRIMARY KEY (tenant_id, id)";
    source.execute(&format!("CREATE TABLE items ({columns}); CREATE TABLE others ({columns})")).await;
    target
        .execute(&format!(
            "CREATE TABLE items ({columns}, CONSTRAINT divides CHECK (10 / (id - 1) < 100), CONSTRAINT small CHECK (id < 5)); \
             CREATE TABLE others ({columns}, CONSTRAINT small CHECK (id < 5))"
        ))
        .await;
    let id = Uuid::new_v4();
    for table in ["items", "others"] {
        source.execute(&format!("INSERT INTO {table} VALUES ('{id}', 1), ('{id}', 5)")).await;
    }
    let (from, to) = (source.end(id), target.end(id));
    let plan = planned(&from, &to).await;
    let broken = |table: &str| Refusal::Check {
        table: table.to_owned(),
        constraint: "small".to_owned(),
        rows: 1,
        keys: vec!["5".to_owned()],
    };
    assert_eq!(plan.refusals, [broken("items"), broken("others")]);
    let untried = Note::NotChecked { table: "items".to_owned(), constraints: vec!["divides".to_owned()] };
    assert!(plan.notes.contains(&untried), "{:?}", plan.notes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_partition_is_named_before_the_first_byte() {
    let (source, target) = two().await;
    let columns = "tenant_id uuid NOT NULL, id int NOT NULL, day date NOT NULL, region text NOT NULL, PRIMARY KEY (tenant_id, id, day, region)";
    for table in ["by_range", "by_list", "by_both", "by_remainder"] {
        source.execute(&format!("CREATE TABLE {table} ({columns})")).await;
    }
    target
        .execute(&format!(
            "CREATE TABLE by_range ({columns}) PARTITION BY RANGE (day); \
             CREATE TABLE by_range_24 PARTITION OF by_range FOR VALUES FROM ('2024-01-01') TO ('2025-01-01'); \
             CREATE TABLE by_list ({columns}) PARTITION BY LIST (region); \
             CREATE TABLE by_list_eu PARTITION OF by_list FOR VALUES IN ('eu', 'it''s'); \
             CREATE TABLE by_both ({columns}) PARTITION BY LIST (region); \
             CREATE TABLE by_both_eu PARTITION OF by_both FOR VALUES IN ('eu') PARTITION BY RANGE (day); \
             CREATE TABLE by_both_eu_24 PARTITION OF by_both_eu FOR VALUES FROM ('2024-01-01') TO ('2025-01-01'); \
             CREATE TABLE by_both_other PARTITION OF by_both DEFAULT; \
             CREATE TABLE by_remainder ({columns}) PARTITION BY HASH (id); \
             CREATE TABLE by_remainder_0 PARTITION OF by_remainder FOR VALUES WITH (MODULUS 2, REMAINDER 0)"
        ))
        .await;
    let id = Uuid::new_v4();
    for table in ["by_range", "by_list", "by_both", "by_remainder"] {
        source
            .execute(&format!(
                "INSERT INTO {table} VALUES ('{id}', 1, '2024-06-01', 'eu'), ('{id}', 2, '2025-06-01', 'eu'), \
                 ('{id}', 3, '2024-06-01', 'us')"
            ))
            .await;
    }
    let (from, to) = (source.end(id), target.end(id));
    let plan = planned(&from, &to).await;
    let alone =
        |table: &str, key: &str| Refusal::NoPartition { table: table.to_owned(), rows: 1, keys: vec![key.to_owned()] };
    let expected = [
        alone("by_both", "2/2025-06-01/eu"),
        alone("by_list", "3/2024-06-01/us"),
        alone("by_range", "2/2025-06-01/eu"),
    ];
    assert_eq!(plan.refusals, expected);
    let untried = Note::NotChecked { table: "by_remainder".to_owned(), constraints: vec!["its partitions".to_owned()] };
    assert!(plan.notes.contains(&untried), "{:?}", plan.notes);

    target
        .execute(
            "CREATE TABLE by_range_rest PARTITION OF by_range DEFAULT; CREATE TABLE by_list_rest PARTITION OF by_list DEFAULT; \
             CREATE TABLE by_both_eu_rest PARTITION OF by_both_eu DEFAULT; \
             CREATE TABLE by_remainder_1 PARTITION OF by_remainder FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        )
        .await;
    assert_eq!(refused(&from, &to).await, []);
    agreed(moved(&from, &to, &Options::default(), Copying::default()).await);
    assert_eq!(target.rows("by_both").await, source.rows("by_both").await);
}

/// A trigger of one partition fires for the rows that are routed there; nobody saw it at the table itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_of_a_partition_is_the_tables() {
    let (source, target) = two().await;
    for db in [&source, &target] {
        db.execute(
            "CREATE TABLE items (tenant_id uuid NOT NULL, id int NOT NULL, PRIMARY KEY (tenant_id, id)) PARTITION BY HASH (id); \
             CREATE TABLE items_all PARTITION OF items FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        )
        .await;
    }
    target
        .execute(
            "CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.id := NEW.id + 1; RETURN NEW; END'; \
             CREATE TRIGGER change BEFORE INSERT ON items_all FOR EACH ROW EXECUTE FUNCTION change()",
        )
        .await;
    let id = Uuid::new_v4();
    let expected = Refusal::Triggers { table: "items".to_owned(), triggers: vec!["change".to_owned()] };
    assert_eq!(refused(&source.end(id), &target.end(id)).await, [expected]);
}
