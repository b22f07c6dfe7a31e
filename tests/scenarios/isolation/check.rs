//! `check-isolation`, the operation and the command: every data source, whatever comes of the others; what is accepted, what
//! could not be checked, and each fault that it promises to name.

use tenantry::operations::{IsolationCheck, IsolationScope, IsolationVerdict, check_isolation};
use tenantry_app_db::{NewPlacement, NewTenant};
use tenantry_connection::{Actor, Engine};
use tenantry_credential::{CredentialColumn, Login};
use tenantry_test_support::cluster::Database;

use crate::{
    documents::shell::Shell,
    routing::write,
    world::{KEYS, World, keyring},
};

/// What is taken away, the object that has to be named, and what has to be said of it.
const FAULTS: [(&str, &str, &str); 10] = [
    ("ALTER TABLE accounts DISABLE ROW LEVEL SECURITY", "accounts", "row-level security is not enabled"),
    ("ALTER TABLE accounts NO FORCE ROW LEVEL SECURITY", "accounts", "row-level security is not forced"),
    ("CREATE POLICY more ON accounts USING (true)", "policy more on accounts", "it lets every row through"),
    (
        "ALTER POLICY tenantry_restricted ON accounts USING (tenant_id = (SELECT current_setting('app.tenant_id', true)::uuid))",
        "policy tenantry_restricted on accounts",
        "it asks for the tenant with missing_ok",
    ),
    ("ALTER ROLE {restricted} BYPASSRLS", "role {restricted_name}", "it has BYPASSRLS"),
    ("ALTER TABLE accounts OWNER TO {restricted}", "role {restricted_name}", "it owns table accounts"),
    (
        "CREATE FUNCTION look() RETURNS SETOF accounts LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM accounts'; \
         ALTER FUNCTION look OWNER TO {service}",
        "look()",
        "it runs as a role that row-level security lets through",
    ),
    (
        "CREATE VIEW every_account AS SELECT * FROM accounts; ALTER VIEW every_account OWNER TO {service}; \
         GRANT SELECT ON every_account TO {restricted}",
        "every_account",
        "it shows rows past row-level security",
    ),
    (
        "CREATE UNIQUE INDEX one_id ON accounts (id); ALTER TABLE notes ADD about uuid REFERENCES accounts (id)",
        "notes_about_fkey on notes",
        "it refers to a tenant table and not by its tenant",
    ),
    (
        "GRANT TEMPORARY ON DATABASE {database} TO {restricted}",
        "database {database_name}",
        "can create temporary tables, which shadow real ones",
    ),
];

async fn check(world: &World) -> IsolationCheck {
    check_isolation(&world.tenantry, &IsolationScope::default()).await.unwrap()
}

fn verdicts(check: &IsolationCheck) -> Vec<IsolationVerdict> {
    check.data_sources.iter().map(|source| source.verdict).collect()
}

fn fill(database: &Database, text: &str) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    text.replace("{restricted}", &quoted(&database.restricted.user))
        .replace("{service}", &quoted(&database.service.user))
        .replace("{database}", &quoted(&database.name))
        .replace("{restricted_name}", &database.restricted.user)
        .replace("{database_name}", &database.name)
}

/// A shell with this world's settings in its environment.
fn shell(world: &World) -> Shell {
    let [app, shared] = [&world.databases[0], &world.databases[1]];
    let json = |login: &tenantry_test_support::cluster::Login| {
        serde_json::json!({ "user": login.user, "password": login.password }).to_string()
    };
    let mut shell = Shell::new(&[]);
    shell.set("APPLICATION_DATABASE_URL", &app.url_with(&app.service));
    shell.set("DEFAULT_TENANT_DATA_URL", &shared.url());
    shell.set("DEFAULT_TENANT_DATA_ANON_KEY", &json(&shared.restricted));
    shell.set("DEFAULT_TENANT_DATA_SERVICE_KEY", &json(&shared.service));
    shell.set("ENCRYPTION_KEYS", &KEYS.map(|(id, key)| format!("{id}={key}")).join(","));
    shell.set("ENCRYPTION_KEY_ACTIVE", "new");
    shell
}

// Traps 20, 21, 22 and 24. Catches a command that is content with what it promised to name, a remedy that is printed and does
// not mend, and an attack that overlooks what the catalogs show.
#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_named_by_the_operation_and_by_the_command_and_mended_as_printed() {
    let world = World::postgres().await;
    let tenant = world.tenant("acme").await;
    write(&world.tenantry.tenant(tenant.id).await.unwrap(), "a row").await.unwrap();
    let (shared, shell) = (&world.databases[1], shell(&world));
    let sound = shell.succeeds("cargo xtask check-isolation");
    sound.contains(&["holds", "1 data sources, 0 with findings, 0 not checked"]);
    for (open, object, problem) in FAULTS {
        shared.psql(&shared.superuser, &fill(shared, open)).unwrap();
        let (object, problem) = (fill(shared, object), fill(shared, problem));
        let found = check(&world).await;
        assert_eq!(verdicts(&found), [IsolationVerdict::Found], "{open}");
        let findings = || found.data_sources[0].findings.iter().map(|checked| &checked.finding);
        let named = findings().any(|found| found.object == object && found.problem.contains(&problem));
        assert!(named, "{open}: no {object:?}, {problem:?} in {found:#?}");

        let said = shell.fails("cargo xtask check-isolation");
        said.contains(&["DOES NOT HOLD", &format!("finding: {object} in {}: ", shared.url()), &problem]);
        let remedies = said.text().lines().filter_map(|line| line.strip_prefix("  mend: "));
        for remedy in remedies.filter(|remedy| *remedy != "mend what else is found, and check again") {
            shared.psql(&shared.superuser, remedy).unwrap();
        }
        let mended = check(&world).await;
        assert!(mended.passed(), "{open}: {mended:#?}");
    }
    shell.succeeds("cargo xtask check-isolation --tenant acme");
}

// Catches one data source that keeps the others from being checked, and one that is passed though nobody could look.
#[tokio::test(flavor = "multi_thread")]
async fn every_data_source_is_checked_whatever_comes_of_the_others() {
    let mut world = World::postgres().await;
    let [own, gone] = [world.place("own"), world.place("gone")];
    let first = world.tenant("acme").await;
    world.tenant("globex").await;
    world.tenant_on("initech", &own).await;
    world.tenant_on("umbrella", &gone).await;
    let sound = check(&world).await;
    assert!(sound.passed(), "{sound:#?}");
    assert_eq!(verdicts(&sound), [IsolationVerdict::Holds; 3]);
    assert!(sound.data_sources.iter().all(|source| source.tables == 15 && source.attacks > 300), "{sound:#?}");
    let shared = world.shared().url;
    let tenants = sound.data_sources.iter().find(|source| source.data_source == shared).unwrap().tenants.len();
    assert_eq!(tenants, 2, "a data source is checked once for all of its tenants");

    // A tenant whose restricted login is another, and none that policies hold; and one whose login does not open.
    let database = &world.databases[1];
    let strong = format!("{}.strong", database.name);
    let create =
        format!("CREATE ROLE \"{strong}\" LOGIN BYPASSRLS PASSWORD 'strong'; GRANT SELECT ON accounts TO \"{strong}\"");
    database.psql(&database.superuser, &create).unwrap();
    let place = |mut tenant: NewTenant, sealed_for: uuid::Uuid| {
        let login = Login::new(strong.clone(), "strong".to_owned()).unwrap();
        let seal = |column| Some(keyring("new").seal(sealed_for, column, &login).unwrap());
        tenant.placement = NewPlacement {
            url: Some(shared.clone()),
            anon_key: seal(CredentialColumn::Anon),
            service_key: seal(CredentialColumn::Service),
            ..NewPlacement::default()
        };
        tenant
    };
    let weak = NewTenant::new("Weak", "weak");
    let damaged = NewTenant::new("Damaged", "damaged");
    let ids = [weak.id, damaged.id];
    for tenant in [place(weak, ids[0]), place(damaged, ids[0])] {
        world.tenantry.app_db().create_tenant(&tenant, &Actor::default()).await.unwrap();
    }
    world.lose(&gone);
    let mixed = check(&world).await;
    let of = |verdict| mixed.data_sources.iter().filter(move |source| source.verdict == verdict).collect::<Vec<_>>();
    assert_eq!(of(IsolationVerdict::Holds).len(), 2, "{mixed:#?}");
    let [found] = of(IsolationVerdict::Found)[..] else { panic!("{mixed:#?}") };
    assert_eq!((found.role.as_deref(), found.tenants.as_slice()), (Some(strong.as_str()), &ids[..1]));
    let [one, other] = of(IsolationVerdict::Unchecked)[..] else { panic!("{mixed:#?}") };
    let errors = format!("{:?} {:?}", one.errors, other.errors);
    assert!(errors.contains("does not exist") && errors.contains("does not open"), "{errors}");

    let only = IsolationScope { tenants: vec![first.id], data_source: None };
    assert!(check_isolation(&world.tenantry, &only).await.unwrap().passed());
    let only = IsolationScope { tenants: Vec::new(), data_source: Some(own.url) };
    assert_eq!(verdicts(&check_isolation(&world.tenantry, &only).await.unwrap()), [IsolationVerdict::Holds]);

    let shell = shell(&world);
    shell.fails("cargo xtask check-isolation").contains(&["NOT CHECKED", "DOES NOT HOLD", "it has BYPASSRLS"]);
    let unchecked = shell.exits(&format!("cargo xtask check-isolation --data-source {}", gone.url), 2);
    unchecked.contains(&["NOT CHECKED", "(umbrella): ", "1 of 1 data sources could not be checked"]);
    shell
        .exits("cargo xtask check-isolation --data-source postgresql://127.0.0.1:1/x", 2)
        .contains(&["no tenant in question"]);
    let database = &world.databases[1];
    database.psql(&database.superuser, &format!("DROP OWNED BY \"{strong}\"; DROP ROLE \"{strong}\"")).unwrap();
}

// Catches an exception that accepts more than it names, and one that nobody needs any more.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_settings_accept_is_shown_and_does_not_fail() {
    let world = World::postgres().await;
    let tenant = world.tenant("acme").await;
    let shared = &world.databases[1];
    let open = "CREATE VIEW every_account AS SELECT * FROM accounts; ALTER VIEW every_account OWNER TO {service}; \
                GRANT SELECT ON every_account TO {restricted}";
    shared.psql(&shared.superuser, &fill(shared, open)).unwrap();
    assert!(!check(&world).await.passed());

    let accept = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        world.restarted(|settings| settings.isolation_exceptions = names)
    };
    let accepting = accept(&["every_account", "trigger tenantry_fence on accounts"]);
    let accepted = check_isolation(&accepting, &IsolationScope::default()).await.unwrap();
    assert!(accepted.passed(), "{accepted:#?}");
    assert_eq!(accepted.data_sources[0].findings.iter().filter(|checked| checked.accepted).count(), 1);
    assert_eq!(accepted.unused_exceptions, ["trigger tenantry_fence on accounts"]);
    // Requests are served all the same.
    write(&accepting.tenant(tenant.id).await.unwrap(), "a row").await.unwrap();
    let mut shell = shell(&world);
    shell.set("TENANTRY_ISOLATION_EXCEPTIONS", "every_account; trigger tenantry_fence on accounts");
    shell.succeeds("cargo xtask check-isolation").contains(&[
        "accepted: every_account in postgresql://",
        "warning: isolation_exceptions names trigger tenantry_fence on accounts, of which nothing was found",
    ]);
    shell.succeeds("cargo xtask test-dual-database").contains(&["accepted by the settings: it shows rows past"]);

    // Another fault is none of its business.
    shared.psql(&shared.superuser, "ALTER TABLE accounts NO FORCE ROW LEVEL SECURITY").unwrap();
    let check = check_isolation(&accept(&["every_account"]), &IsolationScope::default()).await.unwrap();
    assert_eq!(verdicts(&check), [IsolationVerdict::Found]);
}

// Catches a file that is said to hold, and one that is counted as a fault.
#[tokio::test(flavor = "multi_thread")]
async fn where_there_are_no_policies_the_predicate_is_told_and_is_no_fault() {
    let world = World::new(Engine::Sqlite, |settings| settings.fallback_to_application_database = true).await;
    world.tenant("acme").await;
    let unplaced = NewTenant::new("Globex", "globex");
    world.tenantry.app_db().create_tenant(&unplaced, &Actor::default()).await.unwrap();
    let check = check(&world).await;
    assert!(check.passed(), "{check:#?}");
    assert_eq!(verdicts(&check), [IsolationVerdict::PredicateOnly; 2]);
    let notes: Vec<_> = check.data_sources.iter().flat_map(|source| &source.notes).collect();
    assert!(notes.iter().all(|note| note.contains("policies") || note.contains("split off")), "{notes:?}");
    assert!(check.data_sources.iter().all(|source| source.findings.is_empty() && source.attacks == 0));
}

// Catches a database that is passed for want of anything to look at.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_source_without_tables_proves_nothing() {
    let world = World::postgres().await;
    let check = check(&world).await;
    assert_eq!(verdicts(&check), [IsolationVerdict::Found]);
    let findings = &check.data_sources[0].findings;
    let told = |text| findings.iter().any(|checked| checked.finding.problem.contains(text));
    assert!(told("no table in it has the column tenant_id"), "{findings:#?}");
}
