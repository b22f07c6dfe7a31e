//! The write log as the tenant's own database keeps it.

use super::{A, ACCOUNT, B, insert_account, refused, restricted, service, tenant_data};

// Catches a log that misses before, after or actor, or that follows the client's time zone.
#[tokio::test(flavor = "multi_thread")]
async fn before_after_and_actor_are_logged() {
    let database = tenant_data().await;
    restricted(
        &database,
        A,
        &format!(
            "SET TimeZone = 'Pacific/Chatham';
             INSERT INTO accounts (id, tenant_id, name, credit_limit) VALUES ('{ACCOUNT}', '{A}', 'one', 12.5);
             SET app.current_user_id = 'somebody';
             UPDATE accounts SET name = 'two';
             UPDATE accounts SET name = 'two', updated_at = '2001-01-01';
             DELETE FROM accounts;
             INSERT INTO routing_probe (tenant_id) VALUES ('{A}');"
        ),
    );
    let entries = restricted(
        &database,
        A,
        "SELECT operation, table_name, row_id, actor, before ->> 'name', after ->> 'name', coalesce(after, before) ->> 'credit_limit',
                right(coalesce(after, before) ->> 'updated_at', 6)
           FROM write_log ORDER BY logged_at;",
    );
    assert_eq!(
        entries.lines().collect::<Vec<_>>(),
        [
            format!("insert|accounts|{ACCOUNT}|||one|12.50|+00:00"),
            format!("update|accounts|{ACCOUNT}|somebody|one|two|12.50|+00:00"),
            format!("delete|accounts|{ACCOUNT}|somebody|two||12.50|+00:00"),
        ]
    );
    assert_eq!(
        service(&database, "SELECT count(*) FROM write_log WHERE before ->> 'updated_at' < after ->> 'updated_at';"),
        "1"
    );
}

// Catches a cascade or a nulled reference without an entry.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_delete_takes_along_is_logged() {
    let database = tenant_data().await;
    restricted(
        &database,
        A,
        &format!(
            "INSERT INTO accounts (id, tenant_id, name) VALUES ('{ACCOUNT}', '{A}', 'one');
             INSERT INTO contacts (tenant_id, first_name, last_name, account_id) VALUES ('{A}', 'f', 'l', '{ACCOUNT}');
             INSERT INTO opportunities (tenant_id, name, account_id) VALUES ('{A}', 'o', '{ACCOUNT}');
             INSERT INTO opportunity_line_items (tenant_id, opportunity_id, description, unit_price, total)
                 SELECT tenant_id, id, 'd', 1, 1 FROM opportunities;
             SET app.current_user_id = 'somebody';
             DELETE FROM accounts;"
        ),
    );
    assert_eq!(
        restricted(&database, A, "SELECT operation, table_name FROM write_log WHERE actor = 'somebody' ORDER BY 1, 2;"),
        "delete|accounts\ndelete|opportunities\ndelete|opportunity_line_items\nupdate|contacts"
    );
}

// Catches a log that a tenant can write, rewrite, or read of another.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_cannot_be_forged() {
    let database = tenant_data().await;
    restricted(&database, A, &insert_account(A));
    restricted(&database, B, &insert_account(B));
    for attack in [
        &format!(
            "INSERT INTO write_log (tenant_id, table_name, row_id, operation) VALUES ('{A}', 'accounts', 'x', 'insert');"
        ),
        "UPDATE write_log SET actor = 'x';",
        "DELETE FROM write_log;",
        "SELECT tenantry.write_log();",
        "CREATE TRIGGER mine AFTER INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION tenantry.write_log();",
    ] {
        assert_eq!(refused(&database, A, attack), "42501", "{attack}");
    }
    assert_eq!(restricted(&database, A, "SELECT DISTINCT tenant_id FROM write_log;"), A);
    // A rolled-back write leaves no entry.
    restricted(&database, A, &format!("BEGIN; {} ROLLBACK;", insert_account(A)));
    assert_eq!(restricted(&database, A, "SELECT count(*) FROM write_log;"), "1");
}
