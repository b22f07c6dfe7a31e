//! Operations of many tenants on few connections, interleaved, cut off and broken at random: nobody ever sees or changes a foreign
//! row.
//!
//! ```text
//! 20 tenants × 2 lanes ──▶ 3 connections (or 1) ──▶ one data source
//! lane: plan ──▶ carried out, or cut off ──▶ every row of every answer held to the lane's model
//! ```
//! Every lane has rows under the same ids as the same lane of every other tenant, and its conditions match theirs. Meanwhile tenants
//! are suspended and served again, placements are forgotten, and the server's sessions are counted. At the end every row has to be what
//! the models say: a write that was cut off is there whole or not at all, and no transaction, lock or session is left behind.
//!
//! A failure names its seed. `TENANTRY_SEED` makes the same choices again (the moments differ), `TENANTRY_OPERATIONS` makes more or
//! fewer of them.

mod model;
mod plan;
mod server;
mod step;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proptest::{
    prelude::RngExt,
    test_runner::{RngAlgorithm, TestRng},
};
use tenantry::Tenantry;
use tenantry_data_source::{RouteError, TenantDb};
use tokio::task::JoinSet;
use uuid::Uuid;

use self::{
    model::{Expected, Rows, Whose, parse},
    plan::interrupted,
    server::Sessions,
    step::Choice,
};
use super::source::{Observer, Shared, Source};

const TENANTS: usize = 20;
const LANES: u64 = 2;
/// The tenants that are suspended now and then: the first ones.
const SUSPENDED_AT_TIMES: usize = 4;
/// Over all tests here, unless the environment says otherwise.
const OPERATIONS: u64 = 100_000;

/// Set to a number, so many operations are made in all.
const OPERATIONS_VARIABLE: &str = "TENANTRY_OPERATIONS";
/// Set to the number that a failure named, the same choices are made.
const SEED_VARIABLE: &str = "TENANTRY_SEED";

/// All at once, because each of them waits more than it works.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_ever_sees_or_changes_a_foreign_row() {
    let arrangements =
        [(Source::Direct, 3, 40), (Source::Direct, 1, 10), (Source::Pooled, 3, 20), (Source::Sqlite, 3, 30)];
    let playing =
        arrangements.map(|(source, connections, percent)| tokio::spawn(interleave(source, connections, percent)));
    let mut failed = Vec::new();
    for play in playing {
        failed.extend(play.await.unwrap().err());
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Makes so many percent of all operations.
async fn interleave(source: Source, connections: u32, percent: u64) -> Result<(), String> {
    let number = |variable: &str| Some(std::env::var(variable).ok()?.parse::<u64>().unwrap());
    let operations = number(OPERATIONS_VARIABLE).unwrap_or(OPERATIONS) * percent / 100;
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number(SEED_VARIABLE).unwrap_or_else(now);
    let Some(shared) = Shared::start(source, TENANTS, connections).await else { return Ok(()) };
    let mut observer = shared.observer().await;
    let play = Arc::new(Play {
        tenantry: shared.tenantry().clone(),
        tenants: shared.tenants.clone(),
        source,
        left: AtomicU64::new(operations),
        standing: std::array::from_fn(|_| AtomicU64::new(0)),
        over: AtomicBool::new(false),
    });

    let mut lanes = JoinSet::new();
    for tenant in 0..TENANTS {
        for lane in 0..LANES {
            lanes.spawn(Lane::new(Arc::clone(&play), tenant, lane, seed).run());
        }
    }
    let sessions = Sessions::watch(&shared, connections);
    let mut done = Vec::new();
    let mut wrong = Vec::new();
    let playing = async {
        let office = keep_office(&shared, &play, seed);
        let lanes = async {
            while let Some(lane) = lanes.join_next().await {
                match lane.unwrap() {
                    Ok(lane) => done.push(lane),
                    Err(problem) => {
                        // The others stop: what comes after it tells nothing new.
                        play.left.store(0, Ordering::SeqCst);
                        wrong.push(problem);
                    }
                }
            }
            play.over.store(true, Ordering::SeqCst);
        };
        tokio::join!(office, lanes).0
    };
    match tokio::time::timeout(Duration::from_secs(900), playing).await {
        Ok(office) => wrong.extend(office.err()),
        Err(_) => wrong.push("it never ends".to_owned()),
    }
    wrong.extend(sessions.end(&mut observer).await);
    if wrong.is_empty() {
        shared.come_to_rest(&mut observer).await;
        wrong.extend(check_end(&mut observer, &done).await);
    }
    if wrong.is_empty() {
        return Ok(());
    }
    wrong.truncate(10);
    Err(format!("{SEED_VARIABLE}={seed}, over {} and {connections} connections:\n{}", source.name(), wrong.join("\n")))
}

/// What all lanes share.
struct Play {
    tenantry: Tenantry,
    tenants: Vec<Uuid>,
    source: Source,
    /// Operations that are still to be made.
    left: AtomicU64,
    /// Odd from before a tenant is suspended until after it is served again.
    standing: [AtomicU64; SUSPENDED_AT_TIMES],
    over: AtomicBool,
}

impl Play {
    fn standing(&self, tenant: usize) -> u64 {
        self.standing.get(tenant).map_or(0, |standing| standing.load(Ordering::SeqCst))
    }

    /// A handle; none when the tenant is suspended, which it has to be then.
    async fn handle(&self, tenant: usize) -> Result<Option<TenantDb>, String> {
        let before = self.standing(tenant);
        match self.tenantry.tenant(self.tenants[tenant]).await {
            Ok(db) => Ok(Some(db)),
            Err(RouteError::Inactive { .. }) if before % 2 == 1 || self.standing(tenant) != before => Ok(None),
            Err(error) => Err(format!("no handle for {}: {error}: {error:?}", self.tenants[tenant])),
        }
    }

    /// Takes operations from those that are left.
    fn take(&self, operations: u64) -> bool {
        let take = |left: u64| (left > 0).then(|| left.saturating_sub(operations));
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }
}

/// One task of one tenant.
struct Lane {
    play: Arc<Play>,
    tenant: usize,
    expected: Expected,
    rng: TestRng,
    next: u64,
}

impl Lane {
    fn new(play: Arc<Play>, tenant: usize, lane: u64, seed: u64) -> Self {
        let whose = Whose { tenant: play.tenants[tenant], lane };
        Self { play, tenant, expected: Expected::new(whose), rng: rng(seed, tenant as u64, lane), next: 0 }
    }

    async fn run(mut self) -> Result<Expected, String> {
        let mut db = None;
        while let Some(handle) = self.play.handle(self.tenant).await?.or(db.take()) {
            if !self.once(&handle).await? {
                break;
            }
            // A handle outlives a suspension; some are kept.
            db = (self.rng.random_range(0..2) == 0).then_some(handle);
        }
        Ok(self.expected)
    }

    /// Carries one plan out; false when enough was done.
    async fn once(&mut self, db: &TenantDb) -> Result<bool, String> {
        let whose = self.expected.whose.clone();
        let mut choice = Choice { rng: &mut self.rng, tenants: &self.play.tenants, next: &mut self.next };
        let plan = choice.plan(&whose, &self.expected.rows, self.play.source.engine());
        let interruption = choice.interruption(&plan);
        if !self.play.take(plan.operations()) {
            return Ok(false);
        }
        let progress = Arc::default();
        match interrupted(&plan, db, &self.expected, &progress, interruption).await {
            Some(Ok(())) => plan.apply(&mut self.expected.rows),
            Some(Err(wrong)) => return Err(format!("{whose:?}, {plan:?}, {interruption:?}: {wrong}")),
            None => plan.cut_off(&mut self.expected, &progress),
        }
        Ok(true)
    }
}

/// Suspends tenants, serves them again, and forgets placements, until the lanes are done.
async fn keep_office(shared: &Shared, play: &Play, seed: u64) -> Result<(), String> {
    let manager = play.tenantry.manager();
    let mut rng = rng(seed, u64::MAX, 0);
    let set = async |tenant: Uuid, status: &str| {
        let literal = tenant.simple();
        shared.world.app_sql(&format!("UPDATE tenants SET status = '{status}' WHERE id = x'{literal}'")).await;
        manager.clear_tenant(tenant).await;
    };
    while !play.over.load(Ordering::SeqCst) {
        let tenant = rng.random_range(0..SUSPENDED_AT_TIMES);
        let id = play.tenants[tenant];
        play.standing[tenant].fetch_add(1, Ordering::SeqCst);
        set(id, "suspended").await;
        let closed = play.tenantry.tenant(id).await;
        if !matches!(closed, Err(RouteError::Inactive { .. })) {
            return Err(format!("the suspended tenant {id} got {closed:?}"));
        }
        set(id, "active").await;
        play.standing[tenant].fetch_add(1, Ordering::SeqCst);
        for _ in 0..20 {
            manager.clear_tenant(play.tenants[rng.random_range(0..TENANTS)]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// Holds what is in the data source to the lanes' models.
async fn check_end(observer: &mut Observer, lanes: &[Expected]) -> Vec<String> {
    let (tenant, id) = (observer.text_of("tenant_id"), observer.text_of("id"));
    let author = observer.text_of("created_by");
    let mut wrong = Vec::new();
    let mut found: BTreeMap<(Uuid, u64), Rows> = BTreeMap::new();
    for row in observer.texts(&format!("SELECT {tenant}, {id}, content, {author} FROM notes")).await {
        let [tenant, id, content, author] = <[String; 4]>::try_from(row).unwrap();
        let tenant: Uuid = tenant.parse().unwrap();
        match parse(&content) {
            Some((version, lane, of)) if of == tenant && author.parse() == Ok(tenant) => {
                found.entry((tenant, lane)).or_default().insert(id.parse().unwrap(), version);
            }
            _ => wrong.push(format!("tenant {tenant} has the row {id} of {author}: {content}")),
        }
    }
    for lane in lanes {
        let Whose { tenant, lane: number } = lane.whose;
        let rows = found.remove(&(tenant, number)).unwrap_or_default();
        wrong.extend(lane.check_end(rows).err().map(|problem| format!("{tenant}, lane {number}: {problem}")));
    }
    if !found.is_empty() {
        wrong.push(format!("rows of no lane: {found:?}"));
    }
    wrong
}

fn rng(seed: u64, tenant: u64, lane: u64) -> TestRng {
    let mut bytes = [0; 32];
    for (at, number) in [seed, tenant, lane].into_iter().enumerate() {
        bytes[at * 8..at * 8 + 8].copy_from_slice(&number.to_le_bytes());
    }
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}
