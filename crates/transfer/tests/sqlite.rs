//! Plans, copies and comparisons between two SQLite files, over schemas that no migration of ours has made: an application's
//! own keys, circles, older forms of values. Splits as a whole are tested against every engine elsewhere.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use sea_orm_migration::sea_orm::{DbBackend, Statement};
use tempfile::TempDir;
use tenantry_connection::{Mode, Pool, PoolOptions, Session};
use tenantry_migrations::fence;
use tenantry_realm::TenantKey;
use tenantry_transfer::{
    Endpoint, Error, Options, Plan, Prepared, Refusal, Report, Unwatched,
    copy::{CopiedTable, Copying, copy},
    plan, prepare,
    verify::{self, Found},
};
use uuid::Uuid;

const TENANT: Uuid = Uuid::from_u128(0xaaaa_0000_0000_4000_8000_0000_0000_0001);
const OTHER: Uuid = Uuid::from_u128(0xbbbb_0000_0000_4000_8000_0000_0000_0002);

struct Pair {
    source: Endpoint,
    target: Endpoint,
    _directory: TempDir,
}

impl Pair {
    /// Both files with these tables; the target prepared for transfers.
    async fn new(source: &str, target: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let url = format!("sqlite:{}/{name}.db", directory.path().display()).parse().unwrap();
            let options = PoolOptions { create_if_missing: true, ..PoolOptions::default() };
            Endpoint::new(Pool::new(&url, None, &options).unwrap(), TENANT)
        };
        let pair = Self { source: open("source"), target: open("target"), _directory: directory };
        execute(&pair.source, source).await;
        execute(&pair.target, &fence::install_sql(DbBackend::Sqlite).unwrap()).await;
        execute(&pair.target, target).await;
        pair
    }

    async fn plan(&self) -> Plan {
        plan(&self.source, &self.target, &Options::default(), &Unwatched).await.unwrap()
    }

    async fn prepare(&self) -> Prepared {
        prepare(&self.source, &self.target, &Options::default(), &Unwatched).await.unwrap()
    }

    async fn copy(&self) -> Vec<CopiedTable> {
        self.apply(&self.prepare().await, Copying::default()).await.unwrap()
    }

    async fn apply(&self, prepared: &Prepared, copying: Copying) -> Result<Vec<CopiedTable>, Error> {
        copy(&self.source, &self.target, prepared, copying, &Options::default(), &Unwatched).await
    }

    async fn verify(&self) -> Report {
        verify::verify(&self.source, &self.target, &Options::default(), &Unwatched).await.unwrap()
    }
}

async fn execute(endpoint: &Endpoint, sql: &str) {
    let mut transaction = endpoint.pool.begin(&Session::default(), Mode::Write).await.unwrap();
    transaction.execute_raw_sql(sql).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn texts(endpoint: &Endpoint, sql: &str) -> Vec<String> {
    let mut transaction = endpoint.pool.begin(&Session::default(), Mode::Read).await.unwrap();
    let rows = transaction.query_all(Statement::from_string(DbBackend::Sqlite, sql)).await.unwrap();
    transaction.rollback().await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

fn blob(id: Uuid) -> String {
    format!("x'{}'", id.simple())
}

/// Two databases that order a key differently (another collation, numbers stored as text) made every row look missing on one
/// side and extra on the other.
#[tokio::test]
async fn keys_of_every_kind_are_compared_in_one_order() {
    let table = |collation: &str| {
        format!(
            "CREATE TABLE \"odd \"\"names\"\"\" (tenant_id uuid_text NOT NULL, region text {collation} NOT NULL, n bigint NOT NULL, \
             \"value \"\"x\"\"\" text, PRIMARY KEY (tenant_id, n, region))"
        )
    };
    let pair = Pair::new(&table("COLLATE NOCASE"), &table("")).await;
    let mut rows = Vec::new();
    for region in ["b", "C", "ä", "Ä1", "", " ", "a\u{1f600}", "Z'z", "10", "9"] {
        for n in [10, 9, -1, i64::MIN, i64::MAX] {
            for tenant in [TENANT, OTHER] {
                rows.push(format!("({}, '{}', {n}, '{n}')", blob(tenant), region.replace('\'', "''")));
            }
        }
    }
    execute(&pair.source, &format!("INSERT INTO \"odd \"\"names\"\"\" VALUES {}", rows.join(", "))).await;
    let prepared = pair.prepare().await;
    let copied = pair.apply(&prepared, Copying::default()).await.unwrap();
    assert_eq!((copied[0].read, copied[0].copied, copied[0].already_there), (50, 50, 0));
    let report = pair.verify().await;
    assert!(report.agrees(), "{}", report.summary());

    // Again: everything is there, and nothing is written twice.
    let copied = pair.apply(&prepared, Copying::default()).await.unwrap();
    assert_eq!((copied[0].read, copied[0].copied, copied[0].already_there), (50, 0, 50));

    execute(&pair.target, "UPDATE \"odd \"\"names\"\"\" SET \"value \"\"x\"\"\" = NULL WHERE n = 9 AND region = 'ä'")
        .await;
    let report = pair.verify().await;
    assert_eq!(report.tables[0].different, 1);
    assert_eq!(report.tables[0].samples[0].found, Found::Different(vec!["value \"x\"".to_owned()]));
    assert_eq!(report.tables[0].samples[0].key, "9/ä");
}

/// No order of tables keeps the foreign keys of a circle: they have to be looked at when all of it is there.
#[tokio::test]
async fn tables_that_refer_to_each_other_in_a_circle_travel_as_does_one_that_refers_to_itself() {
    let circle = "CREATE TABLE a (tenant_id uuid_text NOT NULL, id integer NOT NULL, b_id integer NOT NULL, PRIMARY KEY (tenant_id, id), \
         FOREIGN KEY (tenant_id, b_id) REFERENCES b (tenant_id, id)); \
         CREATE TABLE b (tenant_id uuid_text NOT NULL, id integer NOT NULL, a_id integer NOT NULL, PRIMARY KEY (tenant_id, id), \
         FOREIGN KEY (tenant_id, a_id) REFERENCES a (tenant_id, id)); \
         CREATE TABLE c (tenant_id uuid_text NOT NULL, id integer NOT NULL, a_id integer, PRIMARY KEY (tenant_id, id), \
         FOREIGN KEY (tenant_id, a_id) REFERENCES a (tenant_id, id))";
    let pair = Pair::new(circle, circle).await;
    let id = blob(TENANT);
    let rows = format!(
        "PRAGMA defer_foreign_keys = ON; INSERT INTO a VALUES ({id}, 1, 2), ({id}, 2, 1); \
         INSERT INTO b VALUES ({id}, 1, 1), ({id}, 2, 2); INSERT INTO c VALUES ({id}, 1, 2)"
    );
    execute(&pair.source, &rows).await;
    let prepared = pair.prepare().await;
    for _ in 0..2 {
        // The second time over what the first has left.
        let copied = pair.apply(&prepared, Copying { clear: true, ..Copying::default() }).await.unwrap();
        assert_eq!(
            copied.iter().map(|table| (table.table.as_str(), table.copied)).collect::<Vec<_>>(),
            [("a", 2), ("b", 2), ("c", 1)]
        );
        assert!(pair.verify().await.agrees());
    }

    let tree = "CREATE TABLE tree (tenant_id uuid_text NOT NULL, id integer NOT NULL, parent_id integer, \
         PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, parent_id) REFERENCES tree (tenant_id, id))";
    let pair = Pair::new(tree, tree).await;
    // Children before their parents, over more rows than one statement writes.
    let rows: Vec<String> =
        (1..=1000).map(|n| format!("({}, {n}, {})", blob(TENANT), if n < 1000 { n + 1 } else { 1 })).collect();
    execute(&pair.source, &format!("PRAGMA defer_foreign_keys = ON; INSERT INTO tree VALUES {}", rows.join(", ")))
        .await;
    assert_eq!(pair.copy().await[0].copied, 1000);
    assert!(pair.verify().await.agrees());
}

#[tokio::test]
async fn a_tenant_may_be_a_number_or_any_text() {
    for (declared, tenant, other) in [
        ("bigint", TenantKey::BigInt(7), TenantKey::BigInt(77)),
        ("text", TenantKey::Text("o'neil\" --%\\".into()), TenantKey::Text("O'NEIL\" --%\\".into())),
    ] {
        let table = format!(
            "CREATE TABLE rooms (org {declared} NOT NULL, id integer NOT NULL, name text, PRIMARY KEY (org, id)); \
             CREATE TABLE plans (id integer PRIMARY KEY, name text)"
        );
        let mut pair = Pair::new(&table, &table).await;
        for endpoint in [&mut pair.source, &mut pair.target] {
            endpoint.tenant = tenant.clone();
            endpoint.tenant_column = "org".to_owned();
        }
        for (key, rooms) in [(&tenant, 3), (&other, 5)] {
            for room in 0..rooms {
                let key = key.to_string().replace('\'', "''");
                execute(&pair.source, &format!("INSERT INTO rooms VALUES ('{key}', {room}, 'room')")).await;
            }
        }
        let plan = pair.plan().await;
        assert_eq!((plan.records(), &plan.left_out[..]), (3, &["plans".to_owned()][..]));
        assert_eq!(serde_json::from_str::<Plan>(&serde_json::to_string(&plan).unwrap()).unwrap(), plan);
        pair.copy().await;
        assert!(pair.verify().await.agrees());
        assert_eq!(texts(&pair.target, "SELECT DISTINCT CAST(org AS TEXT) FROM rooms").await, [tenant.to_string()]);
        pair.target.tenant = TENANT.into();
        // A text column may hold a uuid; a number cannot.
        let refused = pair.plan().await.refusals.iter().any(|refusal| matches!(refusal, Refusal::TenantColumn { .. }));
        assert_eq!(refused, declared == "bigint");
    }
}

#[tokio::test]
async fn rows_that_cannot_be_told_apart_or_would_collide_are_refused() {
    let pair = Pair::new(
        "CREATE TABLE bare (tenant_id uuid_text NOT NULL, name text); \
         CREATE TABLE twice (tenant_id uuid_text NOT NULL, id integer, name text, email text)",
        "CREATE TABLE bare (tenant_id uuid_text NOT NULL, name text); \
         CREATE TABLE twice (tenant_id uuid_text NOT NULL, id integer NOT NULL, name text, email text, \
         PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, email))",
    )
    .await;
    let (mine, theirs) = (blob(TENANT), blob(OTHER));
    execute(
        &pair.source,
        &format!(
            "INSERT INTO twice VALUES ({mine}, 1, 'a', 'x'), ({mine}, 1, 'b', 'y'), ({mine}, 2, 'c', 'x'), \
             ({mine}, NULL, 'd', NULL), ({mine}, 3, 'e', NULL), ({theirs}, 1, 'f', 'x')"
        ),
    )
    .await;
    let refusals = pair.plan().await.refusals;
    assert!(
        refusals.iter().any(|refusal| matches!(refusal, Refusal::NoKey { table, .. } if table == "bare")),
        "{refusals:#?}"
    );
    let duplicates: Vec<_> = refusals
        .iter()
        .filter_map(|refusal| match refusal {
            Refusal::Duplicate { columns, groups, .. } => Some((columns.clone(), *groups)),
            _ => None,
        })
        .collect();
    assert_eq!(duplicates, [(vec!["id".to_owned()], 1), (vec!["email".to_owned()], 1)]);
    assert!(refusals.iter().any(|refusal| matches!(refusal, Refusal::Null { column, rows: 1, .. } if column == "id")));
    assert!(matches!(pair.apply(&pair.prepare().await, Copying::default()).await, Err(Error::Refused(_))));
}

/// Older databases have uuids as text and timestamps in whatever form a driver left; both mean what they always meant.
#[tokio::test]
async fn older_forms_arrive_as_what_they_mean() {
    let table = "CREATE TABLE events (tenant_id uuid_text NOT NULL, id uuid_text NOT NULL, at timestamp_with_timezone_text, \
         price real(10, 2), data jsonb_text, file blob, done boolean, PRIMARY KEY (tenant_id, id))";
    let pair = Pair::new(table, table).await;
    let (text, capitals) = (TENANT.to_string(), TENANT.to_string().to_uppercase());
    let ids: Vec<String> = (1..=4_u128).map(|n| Uuid::from_u128(n << 96).to_string()).collect();
    execute(
        &pair.source,
        &format!(
            "INSERT INTO events VALUES ('{text}', '{}', '2024-01-01T00:00:00Z', 12.5, '{{\"b\":1.0,\"a\":2}}', x'00ff', 1), \
             ('{capitals}', '{}', '2024-01-01 00:00:00', 0, '[1e0]', NULL, 0), \
             ({}, '{}', '2024-01-01T02:00:00.0000009+02:00', NULL, NULL, x'', NULL), \
             ({}, x'{}', 'infinity', -0.01, 'null', NULL, NULL)",
            ids[0],
            ids[1].to_uppercase(),
            blob(TENANT),
            ids[2],
            blob(TENANT),
            ids[3].replace('-', "")
        ),
    )
    .await;
    pair.copy().await;
    let report = pair.verify().await;
    assert!(report.agrees(), "{}", report.summary());
    let stored = texts(
        &pair.target,
        "SELECT typeof(tenant_id) || typeof(id) || ' ' || at || ' ' || coalesce(typeof(price) || printf('%.2f', price), '-') || ' ' || \
         coalesce(data, '-') FROM events ORDER BY id",
    )
    .await;
    assert_eq!(
        stored,
        [
            "blobblob 2024-01-01T00:00:00.000000+00:00 real12.50 {\"a\":2,\"b\":1}",
            "blobblob 2024-01-01T00:00:00.000000+00:00 real0.00 [1]",
            "blobblob 2024-01-01T00:00:00.000000+00:00 null0.00 -",
            "blobblob infinity real-0.01 null",
        ]
    );
}

/// What is in a table of the target that the source does not have would be left behind by a rollback.
#[tokio::test]
async fn rows_of_a_table_that_only_the_target_has_are_extra() {
    let table = "CREATE TABLE a (tenant_id uuid_text NOT NULL, id integer NOT NULL, PRIMARY KEY (tenant_id, id))";
    let more = table.replace("TABLE a", "TABLE more");
    let pair = Pair::new(table, &format!("{table}; {more}")).await;
    assert!(pair.verify().await.agrees());
    execute(&pair.target, &format!("INSERT INTO more VALUES ({}, 1), ({}, 2)", blob(TENANT), blob(OTHER))).await;
    let report = pair.verify().await;
    assert!(!report.agrees());
    assert_eq!(
        report.tables.iter().map(|table| (table.table.as_str(), table.extra)).collect::<Vec<_>>(),
        [("a", 0), ("more", 1)]
    );
}

/// A plan that was made against another schema must not be applied.
#[tokio::test]
async fn a_plan_is_not_applied_to_a_schema_that_has_changed() {
    let table = "CREATE TABLE a (tenant_id uuid_text NOT NULL, id integer NOT NULL, PRIMARY KEY (tenant_id, id))";
    let pair = Pair::new(table, table).await;
    let plan = pair.plan().await;
    for endpoint in [&pair.source, &pair.target] {
        execute(endpoint, "ALTER TABLE a ADD COLUMN name text").await;
    }
    let refused = plan.must_be(pair.prepare().await.plan());
    assert!(matches!(refused, Err(Error::Request { .. })), "{refused:?}");
    pair.plan().await.must_be(pair.prepare().await.plan()).unwrap();
}
