//! `test-dual-database`: passes where everything holds, and where something does not, fails and names it. What could not be
//! measured is skipped and does not pass.

use tenantry::operations::{
    Checklist, ChecklistItem, Outcome, Section, SplitAction, TransferTarget, checklist, split_tenants,
};
use tenantry_app_db::{NewPlacement, NewTenant};
use tenantry_connection::{Actor, Engine};
use tenantry_migrations::TenantDataMigrator;
use tenantry_transfer::Unwatched;
use uuid::Uuid;

use crate::world::{World, on_both_engines};

on_both_engines!(
    a_sound_installation_passes_every_section,
    an_installation_without_tenants_passes,
    a_data_source_that_is_gone_fails_and_routing_is_skipped,
    a_schema_that_lost_something_is_named,
    rows_in_a_wrong_database_are_found,
    without_its_tables_the_application_database_fails_and_all_else_is_skipped,
);

async fn run(world: &World) -> Checklist {
    checklist::<TenantDataMigrator>(&world.tenantry).await
}

fn failed(list: &Checklist) -> Vec<&ChecklistItem> {
    list.items.iter().filter(|item| item.outcome == Outcome::Failed).collect()
}

fn outcomes(list: &Checklist, section: Section) -> Vec<Outcome> {
    list.items.iter().filter(|item| item.section == section).map(|item| item.outcome).collect()
}

/// The only item that failed, as `section / name: detail`.
fn only_failure(list: &Checklist) -> String {
    let failed = failed(list);
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert!(!list.passed());
    assert!(failed[0].remedy.as_deref().is_some_and(|remedy| !remedy.is_empty()));
    format!("{} / {}: {}", failed[0].section, failed[0].name, failed[0].detail)
}

const SECTIONS: [Section; 8] = [
    Section::Settings,
    Section::ApplicationDatabase,
    Section::DataSources,
    Section::Keys,
    Section::Schema,
    Section::Isolation,
    Section::Routing,
    Section::Mapping,
];

async fn a_sound_installation_passes_every_section(mut world: World) {
    let own = world.place("own");
    world.tenant("acme").await;
    world.tenant("globex").await;
    let tenant = world.tenant_on("initech", &own).await;
    super::super::routing::write(&world.tenantry.tenant(tenant.id).await.unwrap(), "a row").await.unwrap();
    let before = world.tenantry.manager().cache_stats().await.pools.len();
    let list = run(&world).await;
    assert!(list.passed(), "{:#?}", failed(&list));
    assert_eq!(list.count(Outcome::Skipped), 0);
    for section in SECTIONS {
        let outcomes = outcomes(&list, section);
        assert!(!outcomes.is_empty(), "{section}");
        // SQLite has no policies that could be measured, so nothing is said to have passed there.
        let measured = section != Section::Isolation || world.engine == Engine::Postgres;
        assert_eq!(outcomes.contains(&Outcome::Passed), measured, "{section}: {outcomes:?}");
    }
    if world.engine == Engine::Sqlite {
        let isolation = list.items.iter().find(|item| item.section == Section::Isolation).unwrap();
        assert!(isolation.detail.contains("predicate only"), "{isolation:?}");
    }
    assert_eq!(world.count(&own, "SELECT count(*) FROM routing_probe").await, 0);
    assert_eq!(world.count(&own, "SELECT count(*) FROM accounts").await, 1);
    assert!(before <= world.tenantry.manager().cache_stats().await.pools.len());
    // A second run finds the same.
    let again: Vec<_> =
        run(&world).await.items.into_iter().map(|item| (item.section, item.name, item.outcome)).collect();
    let first: Vec<_> = list.items.into_iter().map(|item| (item.section, item.name, item.outcome)).collect();
    assert_eq!(again, first);
}

async fn an_installation_without_tenants_passes(world: World) {
    if world.engine == Engine::Postgres {
        // The default data source is there for all, and not migrated yet.
        let list = run(&world).await;
        assert!(only_failure(&list).contains("not applied"), "{list:#?}");
        assert!(outcomes(&list, Section::Schema).contains(&Outcome::Skipped));
        let scope = tenantry::operations::MigrateScope { app_db: false, data_sources: true };
        let up = tenantry::operations::Direction::Up;
        tenantry::operations::migrate::<TenantDataMigrator>(&world.tenantry, scope, up).await.unwrap();
    }
    let list = run(&world).await;
    assert!(list.passed(), "{:#?}", failed(&list));
}

async fn a_data_source_that_is_gone_fails_and_routing_is_skipped(mut world: World) {
    let place = world.place("gone");
    world.tenant("acme").await;
    world.tenant_on("globex", &place).await;
    world.tenantry.manager().clear_all();
    world.lose(&place);
    let list = run(&world).await;
    assert!(!list.passed());
    let failed = failed(&list);
    assert!(failed.iter().all(|item| item.section == Section::DataSources), "{failed:#?}");
    assert!(failed.iter().all(|item| item.name.contains(place.url.as_str())), "{failed:#?}");
    assert_eq!(outcomes(&list, Section::Routing), [Outcome::Skipped]);
    assert!(outcomes(&list, Section::Schema).contains(&Outcome::Passed), "the neighbour is measured all the same");
    assert!(outcomes(&list, Section::Schema).contains(&Outcome::Skipped));
}

async fn a_schema_that_lost_something_is_named(mut world: World) {
    let place = world.place("own");
    world.tenant_on("acme", &place).await;
    // The default data source is looked at as well.
    world.tenant("globex").await;
    let list = run(&world).await;
    assert!(list.passed(), "{:#?}", failed(&list));
    // A table of the application's own that was made without its keys, its policies and its fence.
    let invoices = match world.engine {
        Engine::Postgres => {
            "CREATE TABLE invoices (id uuid PRIMARY KEY, tenant_id uuid NOT NULL, account_id uuid, number text UNIQUE)"
        }
        Engine::Sqlite => {
            "CREATE TABLE invoices (id uuid_text PRIMARY KEY, tenant_id uuid_text NOT NULL, account_id uuid_text, number text UNIQUE)"
        }
    };
    world.place_sql(&place, invoices).await;
    let list = run(&world).await;
    let about: Vec<_> = failed(&list)
        .into_iter()
        .filter(|item| item.section == Section::Schema)
        .inspect(|item| assert!(item.name.contains("invoices"), "{item:?}"))
        .map(|item| item.detail.clone())
        .collect();
    let isolation = failed(&list).iter().filter(|item| item.section == Section::Isolation).count();
    if world.engine == Engine::Postgres {
        // Row-level security off and not forced, both policies missing, two keys across tenants, and three triggers.
        assert_eq!((about.len(), isolation), (0, 9), "{about:#?}");
    } else {
        assert_eq!((about.len(), isolation), (3, 0), "{about:#?}");
        for told in ["no fence", "primary key does not begin with tenant_id", "unique over all tenants"] {
            assert!(about.iter().any(|detail| detail.contains(told)), "{about:#?}");
        }
    }
    world.place_sql(&place, "DROP TABLE invoices").await;

    world.place_sql(&place, "ALTER TABLE notes RENAME TO notes_of_old").await;
    let list = run(&world).await;
    let told: Vec<_> = failed(&list).iter().map(|item| format!("{}: {}", item.name, item.detail)).collect();
    assert!(told.iter().any(|told| told.starts_with("table notes of") && told.contains("it is missing")), "{told:#?}");
    world.place_sql(&place, "ALTER TABLE notes_of_old RENAME TO notes").await;
    assert!(run(&world).await.passed());
}

/// A row that is where its tenant's route does not lead: in a data source, and in the application database after a split.
async fn rows_in_a_wrong_database_are_found(mut world: World) {
    let (here, there) = (world.place("here"), world.place("there"));
    let tenant = world.tenant_on("acme", &here).await;
    world.tenant_on("globex", &there).await;
    world.tenant("initech").await;
    let id = match world.engine {
        Engine::Postgres => format!("'{}'", tenant.id),
        Engine::Sqlite => format!("x'{}'", tenant.id.simple()),
    };
    let note = match world.engine {
        Engine::Postgres => format!("INSERT INTO accounts (tenant_id, name) VALUES ({id}, 'astray')"),
        Engine::Sqlite => format!("INSERT INTO accounts (tenant_id, id, name) VALUES ({id}, randomblob(16), 'astray')"),
    };
    world.place_sql(&there, &note).await;
    let told = only_failure(&run(&world).await);
    assert!(told.contains(&format!("rows of tenant acme in {}", there.url)), "{told}");
    assert!(told.contains("accounts"), "{told}");
    world.place_sql(&there, "DELETE FROM accounts").await;
    world.place_sql(&there, "DELETE FROM write_log").await;
    let list = run(&world).await;
    assert!(list.passed(), "{:#?}", failed(&list));

    // A single database, in which a table of the business was left behind.
    let table = match world.engine {
        Engine::Postgres => "CREATE TABLE accounts (id uuid PRIMARY KEY, tenant_id uuid, name text)",
        Engine::Sqlite => "CREATE TABLE accounts (id uuid_text PRIMARY KEY, tenant_id uuid_text, name text)",
    };
    world.app_sql(table).await;
    let list = run(&world).await;
    assert!(list.passed(), "an empty table is no row: {:#?}", failed(&list));
    let key = if world.engine == Engine::Postgres { "gen_random_uuid()" } else { "randomblob(16)" };
    world.app_sql(&format!("INSERT INTO accounts VALUES ({key}, {id}, 'left behind')")).await;
    let told = only_failure(&run(&world).await);
    assert!(told.starts_with("application database / business rows of acme"), "{told}");
    world.app_sql(&format!("UPDATE accounts SET tenant_id = {key}")).await;
    let told = only_failure(&run(&world).await);
    assert!(told.contains("a tenant that is not known"), "{told}");
    world.app_sql("UPDATE accounts SET tenant_id = NULL").await;
    assert!(only_failure(&run(&world).await).contains("rows without a tenant"));
    // Of a tenant that has not been split yet it is a note.
    let waiting = NewTenant::new("Waiting", "waiting");
    world.tenantry.app_db().create_tenant(&waiting, &Actor::default()).await.unwrap();
    let id = match world.engine {
        Engine::Postgres => format!("'{}'", waiting.id),
        Engine::Sqlite => format!("x'{}'", waiting.id.simple()),
    };
    world.app_sql(&format!("UPDATE accounts SET tenant_id = {id}")).await;
    let list = run(&world).await;
    assert!(list.passed(), "{:#?}", failed(&list));
    let note = list.items.iter().find(|item| item.name == "business rows of waiting").unwrap();
    assert!(note.outcome == Outcome::Note && note.detail.contains("not split yet"), "{note:?}");
}

/// After a split the rows are kept where they were, and fenced: that is told and no failure. Unfenced it is one, since what
/// is written there would be lost.
#[tokio::test(flavor = "multi_thread")]
async fn kept_rows_are_a_note_while_they_are_fenced() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let world = World::with_sample(engine).await;
        let target = TransferTarget { prepare: true, ..TransferTarget::default() };
        let split = async |action, tenants: &[Uuid]| {
            let (tenantry, actor) = (&world.tenantry, Actor::default());
            split_tenants::<TenantDataMigrator>(tenantry, tenants, &target, action, &actor, &Unwatched).await
        };
        let all = world.tenantry.app_db().tenants().await.unwrap();
        let ids: Vec<Uuid> = all.iter().map(|tenant| tenant.id).collect();
        let report = split(SplitAction::Run, &ids).await;
        assert!(report.passed(), "{report:#?}");
        let list = run(&world).await;
        assert!(list.passed(), "{:#?}", failed(&list));
        for tenant in &all {
            let name = format!("business rows of {}", tenant.subdomain);
            let item = list.items.iter().find(|item| item.name == name).unwrap();
            assert!(item.outcome == Outcome::Note && item.detail.starts_with("kept since the split"), "{item:?}");
        }
        let unfence = match engine {
            Engine::Postgres => format!("SELECT tenantry.lower_fence('{}')", all[0].id),
            Engine::Sqlite => format!("UPDATE tenantry_fence SET fenced = 0 WHERE tenant_id = '{}'", all[0].id),
        };
        world.app_sql(&unfence).await;
        let told = only_failure(&run(&world).await);
        assert!(told.contains(&format!("business rows of {}", all[0].subdomain)), "{told}");
        assert!(told.contains("its data source is elsewhere"), "{told}");

        // Back again, the rows are where the route leads, and the copies are gone.
        let report = split(SplitAction::Rollback, &ids[..1]).await;
        assert!(report.passed(), "{report:#?}");
        let list = run(&world).await;
        assert!(list.passed(), "{:#?}", failed(&list));
        let name = format!("business rows of {}", all[0].subdomain);
        let item = list.items.iter().find(|item| item.name == name).unwrap();
        assert!(item.detail.starts_with("not split yet"), "{item:?}");
    }
}

async fn without_its_tables_the_application_database_fails_and_all_else_is_skipped(world: World) {
    let scope = tenantry::operations::MigrateScope { app_db: true, data_sources: false };
    let down = tenantry::operations::Direction::Down(1);
    let report = tenantry::operations::migrate::<TenantDataMigrator>(&world.tenantry, scope, down).await.unwrap();
    assert!(report.passed(), "{report:#?}");
    let list = run(&world).await;
    let told = only_failure(&list);
    assert!(told.starts_with("application database / migrations: not applied"), "{told}");
    for section in &SECTIONS[2..] {
        assert_eq!(outcomes(&list, *section), [Outcome::Skipped], "{section}");
    }
}

/// Several tenants in one file have nothing between them but the predicate.
#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_in_one_file_fail_the_isolation() {
    let mut world = World::sqlite().await;
    let place = world.place("both");
    world.tenant_on("acme", &place).await;
    let mut second = NewTenant::new("Globex", "globex");
    second.placement = NewPlacement { url: Some(place.url.clone()), ..NewPlacement::default() };
    world.tenantry.app_db().create_tenant(&second, &Actor::default()).await.unwrap();
    let told = only_failure(&run(&world).await);
    assert!(told.starts_with("isolation") && told.contains("2 tenants in one SQLite file"), "{told}");
}

/// Dropping a policy, or giving the restricted role BYPASSRLS, is found and named, and so is the statement that mends it.
#[tokio::test(flavor = "multi_thread")]
async fn isolation_that_was_taken_away_is_named() {
    let world = World::postgres().await;
    world.tenant("acme").await;
    let shared = &world.databases[1];
    let role = format!("\"{}\"", shared.restricted.user);
    shared.psql(&shared.superuser, &format!("ALTER ROLE {role} BYPASSRLS")).unwrap();
    let list = run(&world).await;
    let failures = failed(&list);
    let [measured, refused] = failures.as_slice() else { panic!("{failures:#?}") };
    assert!(measured.section == Section::Isolation && measured.name.starts_with("role"), "{measured:?}");
    assert_eq!(measured.detail, "it has BYPASSRLS");
    assert!(refused.section == Section::Routing && refused.detail.contains("nothing is run there"), "{refused:?}");
    shared.psql(&shared.superuser, &format!("ALTER ROLE {role} NOBYPASSRLS")).unwrap();
    let policies =
        shared.psql(&shared.service, "SELECT polname FROM pg_policy WHERE polrelid = 'accounts'::regclass").unwrap();
    let policy = policies.lines().next().unwrap();
    shared.psql(&shared.service, &format!("DROP POLICY \"{policy}\" ON accounts")).unwrap();
    let list = run(&world).await;
    let item = failed(&list).into_iter().find(|item| item.section == Section::Isolation).unwrap();
    assert!(item.name.contains("accounts") && item.detail.contains("policy"), "{item:?}");
    assert!(item.remedy.as_deref().unwrap().starts_with("CREATE POLICY"), "{item:?}");
    assert!(!list.passed());
}

/// A login that does not open: the keys fail, and so does everything that needed them.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_do_not_open_fail_and_routing_is_skipped() {
    let world = World::postgres().await;
    world.tenant("acme").await;
    let tenantry = world.restarted(|settings| {
        let other = secrecy::SecretString::from("77".repeat(32));
        settings.keyring =
            Some(std::sync::Arc::new(tenantry_credential::Keyring::new("new", [("new".to_owned(), other)]).unwrap()));
    });
    let list = checklist::<TenantDataMigrator>(&tenantry).await;
    let keys: Vec<_> = failed(&list).into_iter().filter(|item| item.section == Section::Keys).collect();
    assert_eq!(keys.len(), 2, "{keys:#?}");
    assert!(keys[0].detail.contains("does not authenticate"));
    assert_eq!(outcomes(&list, Section::Routing), [Outcome::Skipped]);
    assert_eq!(outcomes(&list, Section::Isolation), [Outcome::Skipped]);
}
