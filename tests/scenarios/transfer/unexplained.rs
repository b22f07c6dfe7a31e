//! Before the source's rows are deleted: what the target no longer has must have been written away there.

use tenantry_connection::{Engine, Mode, Session};
use tenantry_transfer::{
    Endpoint, Options,
    verify::{Found, Unexplained, unexplained},
};
use uuid::Uuid;

use super::ends::{Ends, MOVED, TENANT, execute};

fn literal(end: &Endpoint, id: Uuid) -> String {
    match end.pool.engine() {
        Engine::Postgres => format!("'{id}'::uuid"),
        Engine::Sqlite => format!("x'{}'", id.simple()),
    }
}

/// As somebody who is taken for a transfer, whose writes leave no entry.
async fn execute_unlogged(end: &Endpoint, sql: &str) {
    let session = Session { tenant: Some(end.tenant.to_string().into()), transfer: true, ..Session::default() };
    let mut transaction = end.pool.begin(&session, Mode::Write).await.unwrap();
    transaction.execute_raw_sql(sql).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn found(ends: &Ends) -> Vec<(String, u64, u64)> {
    let prepared = ends.prepare().await;
    let found = unexplained(&ends.source, &ends.target, &prepared, &Options::default()).await.unwrap();
    found.into_iter().map(|Unexplained { table, missing, different, .. }| (table, missing, different)).collect()
}

/// A purge that believed the placement alone would delete the last copy of what was lost on the way or damaged since.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_since_is_explained_and_what_was_lost_is_not() {
    const ROWS: u128 = 1200;
    for engines in [
        (Engine::Postgres, Engine::Postgres),
        (Engine::Sqlite, Engine::Sqlite),
        (Engine::Postgres, Engine::Sqlite),
        (Engine::Sqlite, Engine::Postgres),
    ] {
        let ends = Ends::migrated(engines).await;
        let account = |end: &Endpoint, n: u128| literal(end, Uuid::from_u128(n));
        let rows: Vec<String> = (1..=ROWS)
            .map(|n| format!("({}, {}, 'account {n}')", literal(&ends.source, TENANT), account(&ends.source, n)))
            .collect();
        execute(&ends.source, &format!("INSERT INTO accounts (tenant_id, id, name) VALUES {}", rows.join(", "))).await;
        // An entry that came along with the tenant explains nothing.
        let rename = format!("UPDATE accounts SET name = 'renamed' WHERE id = {}", account(&ends.source, 7));
        execute(&ends.source, &rename).await;
        ends.copy().await;
        ends.assert_agree(&ends.verify().await);
        assert_eq!(found(&ends).await, []);

        // What an application does: more changes than are asked about at once, a deletion, and a row set to what it was.
        let tenant = literal(&ends.target, MOVED);
        let target = |n: u128| account(&ends.target, n);
        let all = "UPDATE accounts SET notes = 'changed' WHERE name LIKE 'account 1%'";
        execute(&ends.target, all).await;
        execute(&ends.target, &format!("DELETE FROM accounts WHERE id = {}", target(10))).await;
        execute(&ends.target, &format!("UPDATE accounts SET name = name WHERE id = {}", target(20))).await;
        execute(&ends.target, &format!("INSERT INTO accounts (tenant_id, name) VALUES ({tenant}, 'new')")).await;
        assert_eq!(found(&ends).await, [], "{engines:?}");

        // What nobody has written.
        for n in [7, 8] {
            execute_unlogged(&ends.target, &format!("UPDATE accounts SET notes = 'damaged' WHERE id = {}", target(n)))
                .await;
        }
        execute_unlogged(&ends.target, &format!("DELETE FROM accounts WHERE id = {}", target(9))).await;
        execute_unlogged(&ends.target, "DELETE FROM write_log WHERE operation = 'insert' AND row_id LIKE '%0021'")
            .await;
        let expected = [("accounts".to_owned(), 1, 2), ("write_log".to_owned(), 1, 0)];
        assert_eq!(found(&ends).await, expected, "{engines:?}");
        let prepared = ends.prepare().await;
        let named = unexplained(&ends.source, &ends.target, &prepared, &Options::default()).await.unwrap();
        let keys: Vec<_> =
            named[0].samples.iter().map(|sample| (sample.key.clone(), sample.found == Found::Missing)).collect();
        assert_eq!(keys, [7_u128, 8, 9].map(|n| (Uuid::from_u128(n).to_string(), n == 9)));
    }
}

/// The log names the partition that a row was in, which is no table of the plan.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_to_a_partition_is_explained() {
    let ends = Ends::migrated((Engine::Postgres, Engine::Postgres)).await;
    let tables = "CREATE TABLE parts (tenant_id uuid NOT NULL, id uuid NOT NULL, note text, PRIMARY KEY (tenant_id, id)) \
                  PARTITION BY HASH (tenant_id); \
                  CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0); \
                  CREATE TRIGGER tenantry_write_log AFTER INSERT OR UPDATE OR DELETE ON parts FOR EACH ROW \
                  WHEN (coalesce(current_setting('tenantry.transfer', true), '') <> 'on') \
                  EXECUTE FUNCTION tenantry.write_log()";
    for end in [&ends.source, &ends.target] {
        execute(end, tables).await;
    }
    let rows: Vec<String> = (1..=3).map(|n| format!("('{TENANT}', '{}', 'row {n}')", Uuid::from_u128(n))).collect();
    execute(&ends.source, &format!("INSERT INTO parts VALUES {}", rows.join(", "))).await;
    ends.copy().await;
    execute(&ends.target, &format!("DELETE FROM parts WHERE id = '{}'", Uuid::from_u128(1))).await;
    execute(&ends.target, &format!("UPDATE parts SET note = 'changed' WHERE id = '{}'", Uuid::from_u128(2))).await;
    assert_eq!(found(&ends).await, []);
    execute_unlogged(&ends.target, &format!("DELETE FROM parts WHERE id = '{}'", Uuid::from_u128(3))).await;
    assert_eq!(found(&ends).await, [("parts".to_owned(), 1, 0)]);
}

/// The log has an id as a cast makes it a text, which is not always what its type writes: none of such rows was explained.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_explained_whatever_its_id_is() {
    for (kind, ids) in [
        ("char(10)", ["ab", "c d", "  e"]),
        ("bpchar", ["ab", "c d", "e"]),
        ("inet", ["10.0.0.1", "10.0.0.0/8", "::1"]),
        ("text", ["ab ", " ", ""]),
    ] {
        let table = format!(
            "CREATE TABLE parts (tenant_id uuid NOT NULL, id {kind} NOT NULL, note text, PRIMARY KEY (tenant_id, id)); \
             CREATE TRIGGER tenantry_write_log AFTER INSERT OR UPDATE OR DELETE ON parts FOR EACH ROW \
             WHEN (coalesce(current_setting('tenantry.transfer', true), '') <> 'on') EXECUTE FUNCTION tenantry.write_log()"
        );
        let ends = Ends::migrated((Engine::Postgres, Engine::Postgres)).await;
        for end in [&ends.source, &ends.target] {
            execute(end, &table).await;
        }
        for id in ids {
            execute(&ends.source, &format!("INSERT INTO parts VALUES ('{TENANT}', '{id}', 'first')")).await;
        }
        ends.copy().await;
        execute(&ends.target, &format!("DELETE FROM parts WHERE id = '{}'", ids[0])).await;
        execute(&ends.target, &format!("UPDATE parts SET note = 'changed' WHERE id = '{}'", ids[1])).await;
        assert_eq!(found(&ends).await, [], "{kind}");
        execute_unlogged(&ends.target, &format!("DELETE FROM parts WHERE id = '{}'", ids[2])).await;
        assert_eq!(found(&ends).await, [("parts".to_owned(), 1, 0)], "{kind}");
    }
}
