//! What does not fit is named before the first byte, every reason at once, and the dry run says the same.

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, sqlite::SqliteConnectOptions};
use tenantry_app_db::{NewDataSource, NewPlacement, entities::SourceKind};
use tenantry_connection::{Actor, Engine, Pool, PoolOptions};
use tenantry_test_support::sample::{SampleTenant, TENANTS};
use tenantry_transfer::{Endpoint, Error, Preview, Refusal, Request, Side, Unwatched, canonical::Problem};
use uuid::Uuid;

use super::world::{PAIRS, World, chain, login_of, placed, tenant};

/// What the dry run and the real run refuse, which must be the same; and nothing was touched by either.
async fn refusals(request: &Request<'_>) -> Vec<Refusal> {
    let Preview::Copy(plan) = request.preview(&Unwatched).await.unwrap() else { panic!("placed already") };
    match request.run(&Unwatched).await {
        Err(Error::Refused(real)) => assert_eq!(plan, real),
        Err(error) => panic!("{}", chain(&error)),
        Ok(outcome) => panic!("the dry run refused {:?}, the real one did {outcome:?}", plan.refusals),
    }
    plan.refusals
}

async fn assert_untouched(world: &World, tenant: &SampleTenant) {
    assert_eq!(world.placed_at(tenant).await, None);
    let write = format!("UPDATE accounts SET notes = 'free' WHERE tenant_id = {}", world.source.uuid(tenant.id));
    world.source.execute(&write).await.unwrap();
}

/// Tables that were not on a hand-kept list were never copied; a missing column dropped its values; one problem after another
/// came up, each after a copy of its own.
#[tokio::test(flavor = "multi_thread")]
async fn everything_that_does_not_fit_is_refused_at_once() {
    for (from, to) in PAIRS {
        let world = World::new(from, to).await;
        let (acme, globex) = (tenant("acme"), tenant("globex"));
        let source = &world.source;
        let (mine, theirs) = (source.uuid(acme.id), source.uuid(globex.id));
        // A table that nobody told us of, and one that hides a tenant's rows behind another.
        let uuid = if from == Engine::Postgres { "uuid" } else { "uuid_text" };
        source
            .execute(&format!(
                "CREATE TABLE invoices (id {uuid} PRIMARY KEY, tenant_id {uuid} NOT NULL); \
                 CREATE TABLE lead_scores (lead_id {uuid} NOT NULL REFERENCES leads (id), score integer)"
            ))
            .await
            .unwrap();
        // A column that the target lacks, one that it requires, one of another type, and values that have no place there.
        source.execute("ALTER TABLE tasks ADD COLUMN colour text").await.unwrap();
        let text = if to == Engine::Postgres { "text" } else { "text NOT NULL" };
        let add = match to {
            Engine::Postgres => "ALTER TABLE notes ADD COLUMN colour text NOT NULL; ALTER TABLE attachments ALTER COLUMN file_size TYPE bigint; \
                 ALTER TABLE leads ALTER COLUMN source SET NOT NULL".to_owned(),
            Engine::Sqlite => format!(
                "DROP TABLE attachments; CREATE TABLE attachments (tenant_id uuid_text NOT NULL, id uuid_text NOT NULL, \
                 file_size text, colour {text}, PRIMARY KEY (tenant_id, id))"
            ),
        };
        world.target.execute(&add).await.unwrap();
        // A row of another tenant that this one refers to.
        let stolen = format!(
            "UPDATE contacts SET account_id = (SELECT id FROM accounts WHERE tenant_id = {theirs} LIMIT 1) \
             WHERE tenant_id = {mine} AND email = (SELECT max(email) FROM contacts WHERE tenant_id = {mine})"
        );
        source.execute(&stolen).await.unwrap();

        let found = refusals(&world.request(acme).await).await;
        let has =
            |expected: &dyn Fn(&Refusal) -> bool| assert!(found.iter().any(expected), "{from} to {to}: {found:#?}");
        has(&|refusal| matches!(refusal, Refusal::TableMissing { table } if table == "invoices"));
        has(
            &|refusal| matches!(refusal, Refusal::Unscoped { table, references, .. } if table == "lead_scores" && references == "leads"),
        );
        has(
            &|refusal| matches!(refusal, Refusal::ColumnMissing { table, column } if table == "tasks" && column == "colour"),
        );
        has(&|refusal| {
            matches!(refusal, Refusal::TypeDiffers { table, column, .. } if table == "attachments" && column == "file_size")
                || (to, from) == (Engine::Postgres, Engine::Sqlite)
        });
        has(&|refusal| matches!(refusal, Refusal::ColumnRequired { column, .. } if column == "colour"));
        has(&|refusal| match refusal {
            Refusal::ForeignTenant { table, parent, rows, samples } => {
                table == "contacts" && parent == "accounts" && *rows >= 1 && samples.len() as u64 == *rows
            }
            _ => false,
        });
        if to == Engine::Postgres {
            has(
                &|refusal| matches!(refusal, Refusal::Null { table, column, rows, keys } if table == "leads" && column == "source" && *rows > 0 && !keys.is_empty()),
            );
        }
        // Not a word of the other tenant's rows but the key that this tenant's own row holds.
        assert!(!format!("{found:?}").contains("Globex"));
        for (table, _) in acme.counts().into_iter().filter(|(table, _)| *table != "attachments") {
            assert_eq!(world.target.count(table, acme).await, 0);
        }
        assert_untouched(&world, acme).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_to_nothing_is_named_with_both_keys() {
    let world = World::new(Engine::Sqlite, Engine::Postgres).await;
    let acme = tenant("acme");
    let gone = Uuid::new_v4();
    // SQLite's foreign keys are off unless a connection turns them on: older databases have such rows.
    let file = SqliteConnectOptions::new().filename(world.source.pool.url().sqlite_path().unwrap()).foreign_keys(false);
    let mut connection = file.connect().await.unwrap();
    let sql = format!(
        "UPDATE leads SET converted_account_id = {} WHERE tenant_id = {}",
        world.source.uuid(gone),
        world.source.uuid(acme.id)
    );
    connection.execute(AssertSqlSafe(sql)).await.unwrap();
    connection.close().await.unwrap();
    let found = refusals(&world.request(acme).await).await;
    let dangling = found.iter().find_map(|refusal| match refusal {
        Refusal::Dangling { table, parent, rows, samples, side: Side::Source }
            if table == "leads" && parent == "accounts" =>
        {
            Some((*rows, samples.clone()))
        }
        _ => None,
    });
    let (rows, samples) = dangling.unwrap_or_else(|| panic!("{found:#?}"));
    assert_eq!(rows, acme.counts().iter().find(|(table, _)| *table == "leads").unwrap().1);
    assert!(samples.iter().all(|sample| sample.referenced == gone.to_string()));
}

/// Values that SQLite took and PostgreSQL would not, and the reverse.
#[tokio::test(flavor = "multi_thread")]
async fn values_without_a_place_in_the_target_are_named() {
    let world = World::new(Engine::Sqlite, Engine::Postgres).await;
    let acme = tenant("acme");
    let mine = world.source.uuid(acme.id);
    world
        .source
        .execute(&format!(
            "UPDATE opportunities SET amount = 12.345, expected_close_date = 'soon' WHERE tenant_id = {mine}; \
             UPDATE events SET start_time = 'noon', created_at = 1704067200, client_approval_received = 7 WHERE tenant_id = {mine}; \
             UPDATE notes SET content = 'a' || char(0) || 'b' WHERE tenant_id = {mine}; \
             UPDATE tasks SET entity_id = 'nobody' WHERE tenant_id = {mine}; \
             UPDATE accounts SET billing_address = '{{oops' WHERE tenant_id = {mine}; \
             UPDATE attachments SET file_size = 4294967296 WHERE tenant_id = {mine}"
        ))
        .await
        .unwrap();
    let found = refusals(&world.request(acme).await).await;
    for (table, column, problem) in [
        ("opportunities", "amount", Problem::Decimal),
        ("opportunities", "expected_close_date", Problem::Date),
        ("events", "start_time", Problem::Time),
        ("events", "created_at", Problem::Timestamp),
        ("events", "client_approval_received", Problem::Boolean),
        ("notes", "content", Problem::Nul),
        ("tasks", "entity_id", Problem::Uuid),
        ("accounts", "billing_address", Problem::Json),
        ("attachments", "file_size", Problem::Integer),
    ] {
        let named = found.iter().any(|refusal| match refusal {
            Refusal::Value { table: t, column: c, problem: p, rows, keys } => {
                (t.as_str(), c.as_str(), *p) == (table, column, problem) && *rows > 0 && !keys.is_empty()
            }
            _ => false,
        });
        assert!(named, "{table}.{column}: {found:#?}");
    }
    assert!(!format!("{found:?}").contains("soon"), "values are never shown");
    assert_untouched(&world, acme).await;

    let world = World::new(Engine::Postgres, Engine::Sqlite).await;
    let ours = "UPDATE opportunities SET amount = 'NaN', expected_close_date = '0044-03-15 BC'";
    world.source.execute(&format!("{ours} WHERE tenant_id = '{}'", acme.id)).await.unwrap();
    let found = refusals(&world.request(acme).await).await;
    let problems: Vec<Problem> = found
        .iter()
        .filter_map(|refusal| match refusal {
            Refusal::Value { problem, .. } => Some(*problem),
            _ => None,
        })
        .collect();
    assert_eq!(problems, [Problem::Decimal, Problem::Year], "{found:#?}");
    assert_untouched(&world, acme).await;
}

/// A policy that hides rows made a copy of nothing look like a success.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_policies_hide_rows_from_is_refused() {
    let world = World::new(Engine::Postgres, Engine::Postgres).await;
    let acme = tenant("acme");
    world.split(acme).await;
    let restricted = login_of(&world.target.database.as_ref().unwrap().restricted);
    let pool = Pool::new(world.target.pool.url(), Some(&restricted), &PoolOptions::default()).unwrap();
    let further = World::new(Engine::Postgres, Engine::Postgres).await;
    let request = further.request_from(acme, pool).await;
    let found = refusals(&request).await;
    assert!(found.contains(&Refusal::Filtered { side: Side::Source, table: "accounts".to_owned() }), "{found:#?}");

    // Not even a policy that lets the service role through helps when a restrictive one takes rows away again.
    let again = World::new(Engine::Postgres, Engine::Postgres).await;
    let owner = &again.source;
    owner
        .execute(
            "ALTER TABLE accounts ENABLE ROW LEVEL SECURITY; ALTER TABLE accounts FORCE ROW LEVEL SECURITY; \
             CREATE POLICY all_of_it ON accounts USING (true); \
             CREATE POLICY but ON accounts AS RESTRICTIVE USING (name <> 'hidden')",
        )
        .await
        .unwrap();
    let further = &again;
    let found = refusals(&further.request(acme).await).await;
    assert!(found.contains(&Refusal::Filtered { side: Side::Source, table: "accounts".to_owned() }), "{found:#?}");
    owner.execute("DROP POLICY but ON accounts").await.unwrap();
    assert!(further.split(acme).await.agrees());
}

/// An application's trigger would act on every copied row once more. It is silenced where the login may do that, and the
/// foreign keys that go silent with it are checked afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn an_applications_trigger_is_silenced_or_refused() {
    let world = World::new(Engine::Postgres, Engine::Postgres).await;
    let acme = tenant("acme");
    world
        .target
        .execute(
            "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.notes := upper(NEW.notes); RETURN NEW; END'; \
             CREATE TRIGGER shout BEFORE INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION shout(); \
             CREATE TRIGGER shout BEFORE INSERT ON leads FOR EACH ROW EXECUTE FUNCTION shout()",
        )
        .await
        .unwrap();
    world.target.execute("DROP TRIGGER shout ON tasks").await.unwrap();
    let found = refusals(&world.request(acme).await).await;
    let expected = Refusal::Triggers { table: "leads".to_owned(), triggers: vec!["shout".to_owned()] };
    assert_eq!(found, [expected]);

    let mut request = world.request(acme).await;
    request.target = Endpoint::new(world.target.superuser(), acme.id);
    assert!(placed(request.run(&Unwatched).await).agrees());
    let loud = "SELECT count(*) AS n FROM leads WHERE notes = upper(notes) AND notes <> lower(notes)";
    assert_eq!(world.target.number(loud).await, 0);

    let world = World::new(Engine::Postgres, Engine::Sqlite).await;
    world.target.execute("CREATE TRIGGER shout AFTER INSERT ON leads BEGIN SELECT 1; END").await.unwrap();
    let found = refusals(&world.request(acme).await).await;
    assert!(matches!(&found[..], [Refusal::Triggers { .. }]), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_database_is_not_copied_into_itself() {
    for engine in [Engine::Postgres, Engine::Sqlite] {
        let world = World::new(engine, engine).await;
        let acme = tenant("acme");
        let mut request = world.request(acme).await;
        // By another name: the socket instead of TCP, a path with a detour.
        let url = match &world.source.database {
            Some(database) => database.socket_url(),
            None => {
                let path = world.source.pool.url().sqlite_path().unwrap();
                let link = path.with_file_name("link.db");
                std::os::unix::fs::symlink(path, &link).unwrap();
                format!("sqlite:{}", link.display())
            }
        };
        let login = world.source.database.as_ref().map(|database| login_of(&database.service));
        let pool = Pool::new(&url.parse().unwrap(), login.as_ref(), &PoolOptions::default()).unwrap();
        request.to.url = Some(pool.url().clone());
        request.target = Endpoint::new(pool, acme.id);
        let found = refusals(&request).await;
        assert_eq!(found.first(), Some(&Refusal::SameDatabase), "{found:#?}");
    }
}

/// What the application database would refuse in the end is refused in the beginning.
#[tokio::test(flavor = "multi_thread")]
async fn a_placement_that_cannot_be_made_is_refused_before_the_copy() {
    let world = World::new(Engine::Postgres, Engine::Postgres).await;
    let [default, acme, globex] = &TENANTS;
    let mut half = world.request(acme).await;
    half.to.anon_key = None;
    assert!(matches!(&refusals(&half).await[..], [Refusal::Placement { .. }]));

    let mut stale = world.request(acme).await;
    stale.expected_epoch += 1;
    assert!(matches!(&refusals(&stale).await[..], [Refusal::Moved { .. }]));

    // Another tenant with the same id at the target: each would get the other's rows.
    world.split(globex).await;
    let mut twin = world.request(acme).await;
    twin.target = Endpoint::new(world.target.pool.clone(), globex.id);
    twin.to.tenant_id_in_data_source = Some(globex.id.to_string());
    let found = refusals(&twin).await;
    assert!(found.contains(&Refusal::TenantIdTaken { tenant: "globex".to_owned() }), "{found:#?}");

    let url = world.target.pool.url().clone();
    let dedicated = NewDataSource { kind: SourceKind::Dedicated, ..NewDataSource::new(url) };
    world.app_db.upsert_data_source(&dedicated, &Actor::default()).await.unwrap();
    let found = refusals(&world.request(acme).await).await;
    assert_eq!(found, [Refusal::DataSourceTaken { tenant: "globex".to_owned() }]);

    let elsewhere = NewPlacement { url: Some("sqlite:/nowhere/else.db".parse().unwrap()), ..NewPlacement::default() };
    let epoch = world.request(default).await.expected_epoch;
    world.app_db.place(default.id, epoch, &elsewhere, &Actor::default()).await.unwrap();
    let found = refusals(&world.request(default).await).await;
    assert!(found.iter().any(|refusal| matches!(refusal, Refusal::PlacedElsewhere { .. })), "{found:#?}");
    assert_eq!(world.target.count("accounts", acme).await, 0);
}

/// A target that nobody migrated must not be half filled.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_target_is_refused_with_every_table() {
    for engine in [Engine::Postgres, Engine::Sqlite] {
        let world = World::new(Engine::Postgres, engine).await;
        let empty = World::new(engine, engine).await;
        let acme = tenant("acme");
        for (table, _) in acme.counts().into_iter().rev() {
            empty.target.execute(&format!("DROP TABLE {table}")).await.unwrap();
        }
        let mut request = world.request(acme).await;
        request.to.url = Some(empty.target.pool.url().clone());
        request.target = Endpoint::new(empty.target.pool.clone(), acme.id);
        let missing =
            refusals(&request).await.into_iter().filter(|refusal| matches!(refusal, Refusal::TableMissing { .. }));
        assert_eq!(missing.count(), 13);
        assert_untouched(&world, acme).await;
    }
}
