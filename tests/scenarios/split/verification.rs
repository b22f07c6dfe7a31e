//! What differs is found and named by table, key and column, and never by value.

use std::sync::Arc;

use tenantry_connection::Engine;
use tenantry_transfer::{
    Error, FenceAfter, Outcome, Progress, Refusal, Step, Unwatched,
    verify::{Found, TableReport},
};

use super::world::{PAIRS, World, chain, tenant};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_a_changed_and_an_added_row_are_each_named() {
    for (from, to) in PAIRS {
        let world = World::new(from, to).await;
        let acme = tenant("acme");
        world.split(acme).await;
        let id = world.target.uuid(acme.id);
        // Nothing may hold these writes: not the fence, which only the source has up.
        let one = |table: &str| {
            format!("tenant_id = {id} AND id = (SELECT min(id::text)::uuid FROM {table} WHERE tenant_id = {id})")
        };
        let one = |table: &str| match world.target.pool.engine() {
            tenantry_connection::Engine::Postgres => one(table),
            tenantry_connection::Engine::Sqlite => {
                format!("tenant_id = {id} AND id = (SELECT min(id) FROM {table} WHERE tenant_id = {id})")
            }
        };
        world.target.execute(&format!("DELETE FROM attachments WHERE {}", one("attachments"))).await.unwrap();
        world
            .target
            .execute(&format!("UPDATE leads SET notes = 'secret', company = NULL WHERE {}", one("leads")))
            .await
            .unwrap();
        world
            .target
            .execute(&format!("INSERT INTO locations (tenant_id, name) VALUES ({id}, 'a secret place')"))
            .await
            .unwrap();

        let outcome = world.request(acme).await.run(&Unwatched).await.unwrap();
        let Outcome::AlreadyPlaced { report, .. } = outcome else { panic!("moved twice") };
        let differing: Vec<&TableReport> = report.tables.iter().filter(|table| !table.agrees()).collect();
        let summary: Vec<_> = differing.iter().map(|t| (t.table.as_str(), t.missing, t.extra, t.different)).collect();
        let mut expected = vec![("attachments", 1, 0, 0), ("leads", 0, 0, 1), ("locations", 0, 1, 0)];
        expected.sort_by_key(|(table, ..)| report.tables.iter().position(|found| found.table == *table));
        assert_eq!(summary, expected, "{from} to {to}");
        for table in &differing {
            assert_eq!(table.samples.len(), 1);
            assert_ne!(table.source_digest, table.target_digest);
            match (&table.samples[0].found, table.table.as_str()) {
                (Found::Missing, "attachments") | (Found::Extra, "locations") => {}
                (Found::Different(columns), "leads") => {
                    assert!(columns.contains(&"notes".to_owned()), "{columns:?}");
                    // The target's own trigger keeps it.
                    assert!(columns.iter().all(|column| ["notes", "company", "updated_at"].contains(&column.as_str())));
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(!format!("{report:?}{}", report.summary()).contains("secret"), "values are never reported");
    }
}

/// What is in the target before may be the only row of its kind: a transfer that cleared its way would destroy it.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_in_the_target_before_is_reported_and_stays() {
    for (from, to) in PAIRS {
        let world = World::new(from, to).await;
        let globex = tenant("globex");
        let id = world.target.uuid(globex.id);
        let row = world.source.query("SELECT 1 AS n").await;
        assert_eq!(row.len(), 1);
        // One of the tenant's accounts is in the target before, with another name.
        let account = tenantry_test_support::sample::business_tables()[0].rows(globex)[0][0].canonical().unwrap();
        let account = world.target.uuid(account.parse().unwrap());
        world
            .target
            .execute(&format!("INSERT INTO accounts (tenant_id, id, name) VALUES ({id}, {account}, 'kept')"))
            .await
            .unwrap();
        world.target.execute("DELETE FROM write_log").await.unwrap();

        let error = world.request(globex).await.run(&Unwatched).await.unwrap_err();
        let Error::Refused(plan) = error else { panic!("{error:?}") };
        let there = Refusal::RowsInTarget { table: "accounts".to_owned(), rows: 1 };
        assert_eq!(plan.refusals, [there], "{from} to {to}");
        assert_eq!(world.target.number("SELECT count(*) AS n FROM accounts WHERE name = 'kept'").await, 1);
        assert_eq!(world.placed_at(globex).await, None);
        let write = format!("UPDATE accounts SET notes = 'open' WHERE tenant_id = {}", world.source.uuid(globex.id));
        world.source.execute(&write).await.unwrap();
    }
}

/// Does something behind the transfer's back when a step begins.
struct Behind {
    runtime: tokio::runtime::Handle,
    world: Arc<World>,
    at: Step,
    target: bool,
    sql: String,
}

impl Behind {
    fn back(world: &Arc<World>, at: Step, target: bool, sql: impl Into<String>) -> Self {
        Self { runtime: tokio::runtime::Handle::current(), world: world.clone(), at, target, sql: sql.into() }
    }
}

impl Progress for Behind {
    fn step(&self, step: Step) {
        if step == self.at {
            let (world, target, sql) = (self.world.clone(), self.target, self.sql.clone());
            let done = self.runtime.spawn(async move {
                let db = if target { &world.target } else { &world.source };
                db.execute(&sql).await
            });
            tokio::task::block_in_place(|| self.runtime.block_on(done)).unwrap().unwrap();
        }
    }
}

/// A table that was made between the plan and the cutover was neither copied nor compared, and the move called itself whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_made_during_the_move_ends_it() {
    for (from, to) in PAIRS {
        let world = Arc::new(World::new(from, to).await);
        let globex = tenant("globex");
        let sql = "CREATE TABLE late (tenant_id text NOT NULL, id integer PRIMARY KEY)";
        let behind = Behind::back(&world, Step::Verify, false, sql);
        let error = world.request(globex).await.run(&behind).await.unwrap_err();
        assert!(chain(&error).contains("table late was made"), "{from} to {to}: {}", chain(&error));
        assert_eq!(world.placed_at(globex).await, None);
        let write = format!("UPDATE accounts SET notes = 'open' WHERE tenant_id = {}", world.source.uuid(globex.id));
        world.source.execute(&write).await.unwrap();
    }
}

/// Regression: a row that came into the target after the plan was taken for what an interrupted copy had left, and deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_comes_into_the_target_after_the_plan_is_never_deleted() {
    for (from, to) in PAIRS {
        let world = Arc::new(World::new(from, to).await);
        let globex = tenant("globex");
        let id = world.target.uuid(globex.id);
        let sql = format!("INSERT INTO locations (tenant_id, name) VALUES ({id}, 'restored by hand')");
        let behind = Behind::back(&world, Step::Fence, true, sql);
        let error = world.request(globex).await.run(&behind).await.unwrap_err();
        let Error::Failed { source, fence, .. } = &error else { panic!("{}", chain(&error)) };
        assert!(matches!(**source, Error::RowsInTarget), "{from} to {to}: {}", chain(&error));
        assert!(matches!(fence, FenceAfter::Lowered), "{from} to {to}: {fence:?}");
        assert_eq!(world.target.count("locations", globex).await, 1, "{from} to {to}");
        // Its writes go on where it is, and stay held where it is not.
        let write = |id: String| format!("UPDATE locations SET name = 'open' WHERE tenant_id = {id}");
        world.source.execute(&write(world.source.uuid(globex.id))).await.unwrap();
        let refused = world.target.execute(&write(world.target.uuid(globex.id))).await.unwrap_err();
        assert!(matches!(refused, tenantry_connection::Error::Fenced { .. }), "{from} to {to}: {refused}");
        assert!(world.app_db.transfer_under_way(globex.id).await.unwrap().is_none());
    }
}

/// A value that changes under the transfer is found and named to whoever runs it, and is taken back. What is recorded of it in the
/// application database, which holds no business data, names the table alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_damaged_on_the_way_is_found_and_not_recorded() {
    let world = Arc::new(World::new(Engine::Postgres, Engine::Postgres).await);
    let globex = tenant("globex");
    let id = world.target.uuid(globex.id);
    // As nobody but a transfer could.
    let sql =
        format!("SET LOCAL tenantry.transfer = on; UPDATE accounts SET name = 'Damaged Ltd' WHERE tenant_id = {id}");
    let behind = Behind::back(&world, Step::Verify, true, sql);
    let error = world.request(globex).await.run(&behind).await.unwrap_err();
    let Error::Failed { source, fence: FenceAfter::Lowered, .. } = &error else { panic!("{}", chain(&error)) };
    let Error::Different(report) = &**source else { panic!("{}", chain(&error)) };
    let accounts = report.tables.iter().find(|table| table.table == "accounts").unwrap();
    let key = &accounts.samples[0].key;
    assert_eq!((accounts.different, &accounts.samples[0].found), (2, &Found::Different(vec!["name".to_owned()])));
    assert!(chain(&error).contains(key), "{}", chain(&error));
    assert_eq!(world.target.count("accounts", globex).await, 0);
    assert_eq!(world.placed_at(globex).await, None);

    let record = &world.app_db.transfers(Some(globex.id), 9).await.unwrap()[0];
    let audit = world.app_db.audit_entries(Some(globex.id), 99).await.unwrap();
    let recorded = format!("{record:?} {audit:?}");
    assert_eq!(record.problem.as_deref(), Some("source and target differ in accounts"));
    assert!(!recorded.contains(key) && !recorded.contains("Damaged"), "{recorded}");
}
