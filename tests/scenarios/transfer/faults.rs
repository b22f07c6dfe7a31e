//! Whatever fails while a tenant is moved: a server, the network, the process that moves it. The tenant is then where it was or
//! where it goes, with every row and able to write, once the same command has been run again.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use sea_orm::ActiveValue::Set;
use tenantry::operations::{
    SplitAction, TransferAction, TransferReport, TransferTarget, continue_transfer, list_transfers, run_transfer,
    split_tenants,
};
use tenantry_connection::{Actor, Engine};
use tenantry_entities::accounts;
use tenantry_migrations::TenantDataMigrator;
use tenantry_repository::{Query, RepositoryExt};
use tenantry_test_support::{
    cluster::{Cluster, Database},
    sample::TENANTS,
};
use tenantry_transfer::{Options, Progress, Side, Step, Unwatched};
use uuid::Uuid;

use super::storm::target;
use crate::{
    documents::shell::built,
    leases::proxy::Proxy,
    world::{KEYS, Place, World, place_of},
};

const ROWS: usize = 40;

/// What is done to one end while rows are copied.
enum Fault {
    Server(Cluster),
    Network(Proxy),
}

impl Fault {
    fn strikes(&self) {
        match self {
            Self::Server(cluster) => cluster.crash().unwrap(),
            Self::Network(proxy) => proxy.lose_the_way(),
        }
    }

    fn ends(&self) {
        match self {
            Self::Server(cluster) => cluster.restart().unwrap(),
            Self::Network(proxy) => proxy.find_the_way(),
        }
    }
}

/// Lets the fault strike once, when the step begins its first table, or begins at all.
struct Striking<'f> {
    fault: &'f Fault,
    at: Step,
    step: Mutex<Option<Step>>,
}

impl Progress for Striking<'_> {
    fn step(&self, step: Step) {
        *self.step.lock().unwrap() = Some(step);
        if step == self.at && step != Step::Copy {
            self.fault.strikes();
        }
    }

    fn table(&self, table: &str, _rows: u64) {
        if *self.step.lock().unwrap() == Some(Step::Copy) && self.at == Step::Copy && table == "accounts" {
            self.fault.strikes();
        }
    }
}

async fn place_with_fault(side: Side, network: bool) -> (Place, Place, Fault, Vec<Database>) {
    let cluster = Cluster::start().unwrap();
    let faulty = cluster.create_database("faulty").unwrap();
    let sound = Cluster::shared().unwrap().create_database("sound").unwrap();
    let mut place = place_of(&faulty);
    let fault = match network {
        true => {
            let proxy = Proxy::before(&faulty).await;
            place.url = proxy.url.clone();
            Fault::Network(proxy)
        }
        false => Fault::Server(cluster),
    };
    let (from, to) = match side {
        Side::Source => (place, place_of(&sound)),
        Side::Target => (place_of(&sound), place),
    };
    (from, to, fault, vec![faulty, sound])
}

async fn count(world: &World, tenant: Uuid) -> usize {
    // Another process, whose connections have seen nothing of it.
    let process = world.restarted(|_| {});
    let db = process.tenant(tenant).await.unwrap();
    let rows = db.repository::<accounts::Entity>().find_many(&Query::new().limit(1_000)).await.unwrap();
    process.close().await;
    rows.len()
}

async fn write(world: &World, tenant: Uuid) {
    let process = world.restarted(|_| {});
    let db = process.tenant(tenant).await.unwrap();
    let account = accounts::ActiveModel { name: Set("written".to_owned()), ..Default::default() };
    db.repository::<accounts::Entity>().create(account).await.unwrap();
    process.close().await;
}

/// Runs what is left of the tenant's transfer to its end, forward or back.
async fn resume(world: &World, tenant: Uuid, options: &Options) -> TransferReport {
    let transfers = list_transfers(&world.tenantry, Some(tenant), 9).await.unwrap();
    let open = transfers.iter().find(|transfer| transfer.under_way).unwrap_or_else(|| panic!("{transfers:#?}"));
    let actor = Actor::default();
    loop {
        let done = continue_transfer(&world.tenantry, open.id, TransferAction::Resume, options, &actor, &Unwatched);
        let done = done.await.unwrap();
        match done.error.as_deref() {
            Some(error) if error.contains("another transfer") => tokio::time::sleep(Duration::from_millis(20)).await,
            _ => return done,
        }
    }
}

async fn struck(side: Side, network: bool, at: Step) {
    let told = format!("{side}, network {network}, at \"{at}\"");
    let world = World::postgres().await;
    let (from, to, fault, _databases) = place_with_fault(side, network).await;
    let tenant = world.tenant_on("acme", &from).await.id;
    let db = world.tenantry.tenant(tenant).await.unwrap();
    let rows = (0..ROWS).map(|n| accounts::ActiveModel { name: Set(format!("row {n}")), ..Default::default() });
    db.repository::<accounts::Entity>().bulk_create(rows.collect::<Vec<_>>()).await.unwrap();
    drop(db);

    let options =
        Options { silence: Duration::from_secs(2), fence_deadline: Duration::from_secs(5), ..Options::default() };
    let (target, actor) = (target(&to), Actor::default());
    let run = run_transfer::<TenantDataMigrator>;
    let striking = Striking { fault: &fault, at, step: Mutex::new(None) };
    let failed = run(&world.tenantry, tenant, &target, None, &options, &actor, &striking).await.unwrap();
    assert_eq!(failed.outcome, "failed", "{told}: {failed:#?}");
    let placed = world.tenantry.app_db().tenant(tenant).await.unwrap().unwrap().data_source_url;
    assert_eq!(placed, Some(from.url.to_string()), "{told}: a route must not flip");
    fault.ends();

    let open = list_transfers(&world.tenantry, Some(tenant), 9).await.unwrap().iter().any(|open| open.under_way);
    if open {
        let resumed = resume(&world, tenant, &options).await;
        assert!(matches!(resumed.outcome, "aborted" | "moved"), "{told}: {resumed:#?}");
    }
    write(&world, tenant).await;
    assert_eq!(count(&world, tenant).await, ROWS + 1, "{told}");
    let moved = run(&world.tenantry, tenant, &target, None, &options, &actor, &Unwatched).await.unwrap();
    assert!(moved.passed(), "{told}: {moved:#?}");
    assert_eq!(moved.report.as_ref().map(|report| report.records()), Some(ROWS as u64 + 1), "{told}");
    write(&world, tenant).await;
    assert_eq!(count(&world, tenant).await, ROWS + 2, "{told}");
}

/// Row 32: a partial copy was treated as success.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_costs_no_row() {
    struck(Side::Source, false, Step::Copy).await;
    struck(Side::Target, false, Step::Verify).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_lost_costs_no_row() {
    struck(Side::Source, true, Step::Verify).await;
    struck(Side::Target, true, Step::Copy).await;
}

/// The process itself, with a signal that it cannot see coming, at each of its steps.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_is_continued_by_the_same_command() {
    let xtask = built(&["--package", "xtask"], "xtask");
    for engine in [Engine::Postgres, Engine::Sqlite] {
        let world = World::with_sample(engine).await;
        let target = TransferTarget { prepare: true, ..TransferTarget::default() };
        for (tenant, step) in TENANTS.iter().zip(["copy", "verify", "let writes through"]) {
            let mut command = Command::new(&xtask);
            command.args(["migrate-tenant-data", "--prepare", "--tenant", tenant.subdomain]);
            command.envs(environment(&world)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            command.current_dir(world.directory.path());
            let mut process = command.spawn().unwrap();
            let lines = BufReader::new(process.stderr.take().unwrap()).lines();
            let said: Vec<String> = lines
                .map_while(Result::ok)
                .take_while(|line| !line.contains(&format!("{}: {step}", tenant.subdomain)))
                .collect();
            process.kill().unwrap();
            process.wait().unwrap();

            // Its lease runs out by itself; here the time is not waited for.
            world.app_sql("UPDATE tenantry_transfers SET lease_until = created_at WHERE owner IS NOT NULL").await;
            let (actor, ids) = (Actor::default(), [tenant.id]);
            let split = split_tenants::<TenantDataMigrator>;
            let done = split(&world.tenantry, &ids, &target, SplitAction::Run, &actor, &Unwatched).await;
            assert!(done.passed(), "{engine}, {step}: {done:#?}, {said:#?}");
            let verified = split(&world.tenantry, &ids, &target, SplitAction::Verify, &actor, &Unwatched).await;
            let report = verified.tenants[0].report.as_ref().unwrap();
            assert_eq!((report.agrees(), report.records()), (true, tenant.total()), "{engine}, {step}");
            let db = world.tenantry.tenant(tenant.id).await.unwrap();
            let account = accounts::ActiveModel { name: Set("goes on".to_owned()), ..Default::default() };
            db.repository::<accounts::Entity>().create(account).await.unwrap();
        }
        let transfers = list_transfers(&world.tenantry, None, 9).await.unwrap();
        assert!(transfers.iter().all(|transfer| transfer.step == "finished"), "{transfers:#?}");
    }
}

/// The settings of a world, as a process of its own reads them.
fn environment(world: &World) -> Vec<(&'static str, String)> {
    let keys = KEYS.map(|(id, key)| format!("{id}={key}")).join(",");
    let mut variables = vec![("ENCRYPTION_KEYS", keys), ("ENCRYPTION_KEY_ACTIVE", "new".to_owned())];
    match (world.engine, world.databases.as_slice()) {
        (Engine::Postgres, [app, shared, ..]) => {
            let login = |login: &tenantry_test_support::cluster::Login| format!("{}:{}", login.user, login.password);
            variables.extend([
                ("APPLICATION_DATABASE_URL", app.url_with(&app.service)),
                ("DEFAULT_TENANT_DATA_URL", shared.url()),
                ("DEFAULT_TENANT_DATA_ANON_KEY", login(&shared.restricted)),
                ("DEFAULT_TENANT_DATA_SERVICE_KEY", login(&shared.service)),
            ]);
        }
        _ => {
            let folder = world.directory.path().display();
            variables.extend([
                ("APPLICATION_DATABASE_URL", format!("sqlite:{folder}/app.db")),
                ("DEFAULT_TENANT_DATA_URL", format!("sqlite:{folder}/tenants/{{tenant_id}}.db")),
            ]);
        }
    }
    variables
}
