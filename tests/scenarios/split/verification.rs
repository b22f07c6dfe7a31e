//! What differs is found and named by table, key and column, and never by value.

use tenantry_transfer::{
    Error, Outcome, Progress, Refusal, Step, Unwatched,
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

/// A table that was made between the plan and the cutover was neither copied nor compared, and the move called itself whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_made_during_the_move_ends_it() {
    /// Makes the table when the rows are compared.
    struct Making(tokio::runtime::Handle, std::sync::Arc<World>);

    impl Progress for Making {
        fn step(&self, step: Step) {
            if step == Step::Verify {
                let world = self.1.clone();
                let made = self.0.spawn(async move {
                    world.source.execute("CREATE TABLE late (tenant_id text NOT NULL, id integer PRIMARY KEY)").await
                });
                tokio::task::block_in_place(|| self.0.block_on(made)).unwrap().unwrap();
            }
        }
    }

    for (from, to) in PAIRS {
        let world = std::sync::Arc::new(World::new(from, to).await);
        let globex = tenant("globex");
        let making = Making(tokio::runtime::Handle::current(), world.clone());
        let error = world.request(globex).await.run(&making).await.unwrap_err();
        assert!(chain(&error).contains("table late was made"), "{from} to {to}: {}", chain(&error));
        assert_eq!(world.placed_at(globex).await, None);
        let write = format!("UPDATE accounts SET notes = 'open' WHERE tenant_id = {}", world.source.uuid(globex.id));
        world.source.execute(&write).await.unwrap();
    }
}
