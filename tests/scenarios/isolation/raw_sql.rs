//! Raw SQL as the restricted role: whatever shape a statement has, row-level security stands behind it. The predicate of the
//! scoped builders is not in it, and the guard is not asked.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngSeed, TestRunner},
};
use sea_orm::{DbBackend, Statement};
use tenantry_connection::{Mode, Session};

use super::Source;

const A: &str = "aaaaaaaa-0000-4000-8000-00000000000a";
const B: &str = "bbbbbbbb-0000-4000-8000-00000000000b";
/// How many statements.
const STATEMENTS: usize = 300;

/// Rows of both tenants, each with its tenant's mark in it, some under the same ids.
const ROWS: &str = "
INSERT INTO accounts (tenant_id, id, name)
    SELECT tenant::uuid, md5(n::text)::uuid, left(tenant, 4) || n
    FROM unnest(ARRAY['aaaaaaaa-0000-4000-8000-00000000000a', 'bbbbbbbb-0000-4000-8000-00000000000b']) AS tenant, generate_series(1, 4) AS n;
INSERT INTO contacts (tenant_id, id, first_name, last_name, account_id) SELECT tenant_id, id, name, 'l', id FROM accounts;
INSERT INTO notes (tenant_id, entity_type, entity_id, content) SELECT tenant_id, 'account', id, name FROM accounts;";

/// A query of three columns: the tenant, an id and a text.
fn query() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        Just("SELECT tenant_id, id, name AS label FROM accounts"),
        Just("SELECT tenant_id, id, first_name FROM ONLY contacts"),
        Just("SELECT tenant_id, entity_id, content FROM notes TABLESAMPLE BERNOULLI (100)"),
        Just("SELECT tenant_id, id, before::text || after::text FROM write_log"),
    ];
    let leaf = leaf.prop_map(str::to_owned);
    leaf.prop_recursive(3, 12, 2, |inner| {
        let two = (inner.clone(), inner.clone());
        let set = prop_oneof![Just("UNION ALL"), Just("UNION"), Just("EXCEPT"), Just("INTERSECT")];
        let join = prop_oneof![Just("JOIN"), Just("LEFT JOIN"), Just("RIGHT JOIN"), Just("FULL JOIN")];
        let on = prop_oneof![Just("true"), Just("a.id = b.id"), Just("a.tenant_id <> b.tenant_id")];
        prop_oneof![
            (inner.clone(), condition()).prop_map(|(q, c)| format!("SELECT * FROM ({q}) f (tenant_id, id, label) WHERE {c}")),
            (two.clone(), set).prop_map(|((q, r), set)| format!("({q}) {set} ({r})")),
            (two.clone(), join, on).prop_map(|((q, r), join, on)| {
                format!("SELECT b.* FROM ({q}) a (tenant_id, id, label) {join} ({r}) b (tenant_id, id, label) ON {on}")
            }),
            two.clone().prop_map(|(q, r)| {
                format!("SELECT l.* FROM ({q}) a (tenant_id), LATERAL (SELECT * FROM ({r}) x (tenant_id) WHERE x.tenant_id <> a.tenant_id OR true) l")
            }),
            inner.clone().prop_map(|q| format!("WITH c AS MATERIALIZED ({q}) SELECT * FROM c")),
            two.clone().prop_map(|(q, r)| format!("WITH RECURSIVE r AS (({q}) UNION ({r})) SELECT * FROM r")),
            inner.clone().prop_map(|q| {
                format!("SELECT tenant_id, min(id::text)::uuid, string_agg(label, ',') FROM ({q}) g (tenant_id, id, label) GROUP BY 1")
            }),
            two.prop_map(|(q, r)| format!("SELECT * FROM ({q}) e WHERE EXISTS (SELECT FROM ({r}) x)")),
        ]
    })
    .boxed()
}

fn condition() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        Just(format!("tenant_id = '{B}'")),
        Just(format!("tenant_id IS DISTINCT FROM '{A}'")),
        Just("true".to_owned()),
        Just("tenant_id NOT IN (SELECT tenant_id FROM contacts)".to_owned()),
        Just("id IN (SELECT entity_id FROM notes)".to_owned()),
    ];
    let several = leaf.prop_recursive(2, 4, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(c, d)| format!("({c} OR {d})")),
            inner.prop_map(|c| format!("NOT ({c})")),
        ]
    });
    several.boxed()
}

/// A statement that gives rows back, whether it reads or writes.
fn statement() -> BoxedStrategy<String> {
    const BACK: &str = "RETURNING tenant_id, id, name";
    let tenant = prop_oneof![Just(format!("'{B}'")), Just("s.tenant_id".to_owned()), Just(format!("'{A}'"))];
    let id = prop_oneof![Just("s.id"), Just("gen_random_uuid()")];
    let set = prop_oneof![
        Just("name = 'stolen'".to_owned()),
        Just(format!("tenant_id = '{A}'")),
        Just(format!("tenant_id = '{B}'"))
    ];
    let conflict = prop_oneof![
        Just(String::new()),
        Just(format!("ON CONFLICT (tenant_id, id) DO UPDATE SET name = 'stolen', tenant_id = '{A}'")),
        Just("ON CONFLICT DO NOTHING".to_owned()),
    ];
    let merge = prop_oneof![
        Just("WHEN MATCHED THEN UPDATE SET name = 'stolen'".to_owned()),
        Just("WHEN MATCHED THEN DELETE".to_owned()),
        Just(format!("WHEN NOT MATCHED THEN INSERT (tenant_id, id, name) VALUES ('{B}', s.id, 'stolen')")),
    ];
    prop_oneof![
        4 => query(),
        1 => (query(), tenant, id, conflict).prop_map(|(q, tenant, id, conflict)| {
            format!("WITH w AS (INSERT INTO accounts AS t (tenant_id, id, name) SELECT {tenant}::uuid, {id}, 'stolen' FROM ({q}) s (tenant_id, id) {conflict} {BACK}) SELECT * FROM w")
        }),
        1 => (set.clone(), condition()).prop_map(|(set, c)| format!("WITH w AS (UPDATE accounts SET {set} WHERE {c} {BACK}) SELECT * FROM w")),
        1 => (set, query()).prop_map(|(set, q)| {
            format!("WITH w AS (UPDATE accounts t SET {set} FROM ({q}) s (tenant_id, id) RETURNING t.tenant_id, t.id, t.name) SELECT * FROM w")
        }),
        1 => condition().prop_map(|c| format!("WITH w AS (DELETE FROM accounts WHERE {c} {BACK}) SELECT * FROM w")),
        1 => query().prop_map(|q| {
            format!("WITH w AS (DELETE FROM accounts t USING ({q}) s (tenant_id, id) RETURNING t.tenant_id, t.id, t.name) SELECT * FROM w")
        }),
        1 => (query(), merge).prop_map(|(q, merge)| format!("MERGE INTO accounts t USING (SELECT DISTINCT id FROM ({q}) d (tenant_id, id)) s ON t.id = s.id {merge}")),
        1 => condition().prop_map(|c| {
            format!("DO $do$ DECLARE found accounts; BEGIN FOR found IN EXECUTE $q$SELECT * FROM accounts WHERE {c}$q$ LOOP \
                     IF found.tenant_id <> '{A}' THEN RAISE EXCEPTION 'a foreign row: %', found; END IF; END LOOP; END $do$")
        }),
    ]
    .boxed()
}

// Trap 23. Catches a shape of statement that row-level security does not reach. What the guard of scoped statements would
// refuse is run here: joins, sub-queries, common tables, inserts from a query, merges, blocks of code.
#[tokio::test(flavor = "multi_thread")]
async fn no_statement_of_whatever_shape_reaches_another_tenant() {
    let source = Source::new().await;
    source.run(ROWS);
    let theirs = format!(
        "SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM ( \
         SELECT tenant_id, id, to_jsonb(a) FROM accounts a UNION ALL SELECT tenant_id, id, to_jsonb(c) FROM contacts c \
         UNION ALL SELECT tenant_id, id, to_jsonb(w) FROM write_log w) t WHERE tenant_id = '{B}'"
    );
    let digest = || source.database.psql(&source.database.superuser, &theirs).unwrap();
    let before = digest();
    let mut runner = TestRunner::new(Config { rng_seed: RngSeed::Fixed(23), ..Config::default() });
    let (statements, session) = (statement(), Session { tenant: Some(A.into()), ..Session::default() });
    // What statements before it deleted is there again.
    let own = format!(
        "SET LOCAL statement_timeout = '500ms'; INSERT INTO accounts (tenant_id, id, name) \
         SELECT '{A}', md5(n::text)::uuid, 'aaaa' || n FROM generate_series(1, 4) AS n ON CONFLICT DO NOTHING"
    );
    let (mut answered, mut rows_seen) = (0, 0);
    for _ in 0..STATEMENTS {
        let sql = statements.new_tree(&mut runner).unwrap().current();
        let mut transaction = source.pool.begin(&session, Mode::Write).await.unwrap();
        transaction.execute_raw_sql(&own).await.unwrap();
        match transaction.query_all(Statement::from_string(DbBackend::Postgres, &sql)).await {
            Ok(rows) => {
                answered += 1;
                for row in rows {
                    let tenant: Option<uuid::Uuid> = row.try_get_by_index(0).unwrap();
                    let label: Option<String> = row.try_get_by_index(2).unwrap();
                    assert!(tenant.is_none_or(|tenant| tenant.to_string() == A), "{sql}");
                    assert!(!label.unwrap_or_default().contains("bbbb"), "{sql}");
                    rows_seen += 1;
                }
                transaction.commit().await.unwrap();
            }
            Err(error) => {
                assert!(!format!("{error:?}").contains("a foreign row"), "{sql}: {error:?}");
                transaction.rollback().await.unwrap();
            }
        }
    }
    assert_eq!(digest(), before, "another tenant's rows were changed");
    assert!(
        answered > STATEMENTS / 2 && rows_seen > STATEMENTS,
        "{answered} of {STATEMENTS} answered, {rows_seen} rows"
    );
}
