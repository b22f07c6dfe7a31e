//! The cells of one data source, called one after another.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use sea_orm::ColumnTrait;
use tenantry_app_db::entities::TenantStatus;
use tenantry_connection::Actor;
use tenantry_data_source::{Error as DataSourceError, RouteError, TenantDb};
use tenantry_entities::contacts;
use tenantry_repository::{Query, RepositoryExt};
use uuid::Uuid;

use super::{
    calls::{Call, Came},
    cell::{Case, Context, Effect, Outcome},
    fixture::{Fixture, Snapshot},
    methods::{Expectation, METHODS, Method},
    source::{Observer, Shared, Source},
};

/// Fewer than the calls that are made at once, so that every connection serves both tenants.
const CONNECTIONS: u32 = 2;
/// Calls at once: each tenant makes half of them.
const AT_ONCE: usize = 4;
/// More than any call is polled.
const MOST_POLLS: usize = 200;

/// What came of every cell of one data source.
pub(super) struct Measured {
    pub(super) source: Source,
    pub(super) answers: BTreeMap<(Method, Case), Outcome>,
    pub(super) wrong: Vec<String>,
}

/// How a cell is called. Plainly, in a transaction and on a lease always; the two that are dear for the case in which most can happen, and for
/// one more, which changes from method to method and from source to source, so that every pair of the axes meets.
pub(super) fn contexts(source: Source, method: Method, case: Case) -> Vec<Context> {
    // The log's call has no place for a tenant.
    if method == Method::WriteLog && case == Case::Forged {
        return Vec::new();
    }
    let turn = (source as usize + method as usize) % (Case::ALL.len() - 1);
    let in_depth = case == Case::Own || Case::ALL[1 + turn] == case || method == Method::WriteLog;
    Context::ALL
        .into_iter()
        .filter(|context| match context {
            Context::Plain => true,
            Context::Transaction | Context::Leased => in_transactions(method),
            Context::Cancelled | Context::Concurrent => in_depth,
        })
        .collect()
}

/// The log is read through a handle alone.
fn in_transactions(method: Method) -> bool {
    method != Method::WriteLog
}

impl Measured {
    pub(super) async fn measure(source: Source) -> Option<Self> {
        let mut shared = Shared::start(source, 2, CONNECTIONS).await?;
        let suspended = shared.admit("suspended", TenantStatus::Suspended).await;
        let observer = shared.observer().await;
        let mut cells = Cells { suspended, observer, shared: &shared, runs: Vec::new() };
        let mut measured = Self { source, answers: BTreeMap::new(), wrong: Vec::new() };
        for row in &METHODS {
            for case in Case::ALL {
                measured.answers.insert((row.method, case), Outcome::NotApplicable);
                for context in contexts(source, row.method, case) {
                    measured.cell(&mut cells, row, case, context).await;
                }
            }
        }
        let Cells { observer, runs, .. } = cells;
        measured.wrong.extend(at_rest(&shared, observer, runs).await);
        Some(measured)
    }

    async fn cell(&mut self, cells: &mut Cells<'_>, row: &Expectation, case: Case, context: Context) {
        let expected = row.answer(case, self.source.engine());
        let came = match context {
            Context::Plain | Context::Transaction | Context::Leased => cells.once(row.method, case, context).await,
            Context::Cancelled => cells.cut_at_every_step(row.method, case, expected).await,
            Context::Concurrent => cells.at_once(row.method, case).await,
        };
        match came {
            Ok(came) if came == expected => drop(self.answers.insert((row.method, case), came)),
            came => {
                let came = came.map_or_else(|error| error, |outcome| outcome.to_string());
                let (source, case, context) = (self.source.name(), case.name(), context.name());
                self.wrong
                    .push(format!("{}, {case}, {source}, {context}: {expected} was expected, and: {came}", row.name));
            }
        }
    }
}

/// A call that was made, to be looked at again at the end.
struct Run {
    call: Call,
    before: Snapshot,
    /// What it did; cancelled, it did either all of it or nothing.
    effect: Effect,
    cancelled: bool,
}

impl Run {
    fn check(&self, after: &Snapshot) -> Result<(), String> {
        let rows = &self.call.rows;
        match rows.check(&self.before, after, &self.effect) {
            Err(_) if self.cancelled => rows.check(&self.before, after, &Effect::Nothing),
            checked => checked,
        }
    }
}

struct Cells<'a> {
    shared: &'a Shared,
    suspended: Uuid,
    observer: Observer,
    runs: Vec<Run>,
}

impl Cells<'_> {
    /// The tenant that calls, and its neighbour.
    fn pair(&self, case: Case) -> (Uuid, Uuid) {
        let (one, two) = (self.shared.tenants[0], self.shared.tenants[1]);
        (if case == Case::Suspended { self.suspended } else { one }, two)
    }

    async fn lay_out<const N: usize>(
        &mut self,
        method: Method,
        case: Case,
        pairs: [(Uuid, Uuid); N],
    ) -> [(Call, Snapshot); N] {
        let laid_out = Fixture::lay_out(&mut self.observer, pairs).await;
        laid_out.map(|(rows, before)| (Call { method, case, rows }, before))
    }

    async fn once(&mut self, method: Method, case: Case, context: Context) -> Came {
        let [(call, before)] = self.lay_out(method, case, [self.pair(case)]).await;
        let came = match self.handle(&call).await {
            Ok(db) => match context {
                Context::Transaction => in_a_transaction(&call, &db).await,
                Context::Leased => match db.lease().await {
                    Ok(lease) => call.on_lease(&lease).await,
                    Err(error) => Err(error.to_string()),
                },
                Context::Plain | Context::Cancelled | Context::Concurrent => call.on_database(&db).await,
            },
            Err(came) => came,
        };
        self.look(call, before, came).await
    }

    /// Calls again and again, dropped after one poll, after two, and so on, until one call comes to its end. After each, the
    /// neighbour is the next to borrow a connection.
    async fn cut_at_every_step(&mut self, method: Method, case: Case, expected: Outcome) -> Came {
        for polls in 1..MOST_POLLS {
            let [(call, before)] = self.lay_out(method, case, [self.pair(case)]).await;
            let calling = async {
                match self.handle(&call).await {
                    Ok(db) => call.on_database(&db).await,
                    Err(came) => came,
                }
            };
            let Some(came) = cut(calling, polls).await else {
                let run = Run { effect: call.effect(expected), call, before, cancelled: true };
                let after = run.call.rows.look(&mut self.observer).await;
                run.check(&after).map_err(|wrong| format!("after {polls} polls, {wrong}"))?;
                self.next_borrower(&run.call.rows).await.map_err(|wrong| format!("after {polls} polls, {wrong}"))?;
                self.runs.push(run);
                continue;
            };
            return self.look(call, before, came).await;
        }
        Err("it never ends".to_owned())
    }

    /// Both tenants call at once, each on rows of its own and in half of the calls in a transaction, over fewer connections
    /// than there are calls.
    async fn at_once(&mut self, method: Method, case: Case) -> Came {
        let (tenant, neighbour) = self.pair(case);
        let pairs = std::array::from_fn::<_, AT_ONCE, _>(|number| {
            if number % 2 == 0 || case == Case::Suspended { (tenant, neighbour) } else { (neighbour, tenant) }
        });
        let mut calls = Vec::new();
        for (number, (call, before)) in self.lay_out(method, case, pairs).await.into_iter().enumerate() {
            let tenantry = self.shared.tenantry().clone();
            let running = tokio::spawn({
                let call = call.clone();
                async move {
                    match handle(&tenantry, &call).await {
                        Ok(db) if number / 2 % 2 == 1 && in_transactions(method) => in_a_transaction(&call, &db).await,
                        Ok(db) => call.on_database(&db.as_user(Actor::user(Uuid::new_v4()))).await,
                        Err(came) => came,
                    }
                }
            });
            calls.push((call, before, running));
        }
        let mut all = Vec::new();
        for (call, before, running) in calls {
            let came = running.await.map_err(|error| error.to_string())?;
            all.push(self.look(call, before, came).await?);
        }
        all.dedup();
        <[Outcome; 1]>::try_from(all).map(|[outcome]| outcome).map_err(|all| format!("calls at once differ: {all:?}"))
    }

    async fn look(&mut self, call: Call, before: Snapshot, came: Came) -> Came {
        let outcome = came?;
        let run = Run { effect: call.effect(outcome), call, before, cancelled: false };
        let after = run.call.rows.look(&mut self.observer).await;
        run.check(&after)?;
        self.runs.push(run);
        Ok(outcome)
    }

    async fn handle(&self, call: &Call) -> Result<TenantDb, Came> {
        handle(self.shared.tenantry(), call).await
    }

    /// The neighbour gets its own rows, all of them, and the connection that it gets takes part in nobody's transaction.
    async fn next_borrower(&self, rows: &Fixture) -> Result<(), String> {
        let db = self.shared.tenantry().tenant(rows.neighbour).await.map_err(|error| error.to_string())?;
        let marked = Query::new().filter(contacts::Column::JobTitle.eq(rows.marker.as_str()));
        let found = db.repository::<contacts::Entity>().find_many(&marked).await;
        let found = found.map_err(|error| format!("the next borrower: {error}: {error:?}"))?;
        let own = found.iter().filter(|row| row.tenant_id == rows.neighbour).count();
        if (found.len(), own) == (2, 2) { Ok(()) } else { Err(format!("the next borrower reads {found:#?}")) }
    }
}

/// A handle for the call, or what it comes to without one.
async fn handle(tenantry: &tenantry::Tenantry, call: &Call) -> Result<TenantDb, Came> {
    tenantry.tenant(call.rows.tenant).await.map_err(|error| match error {
        RouteError::Inactive { tenant, .. } if tenant == call.rows.tenant => Ok(Outcome::RefusedByRouting),
        other => Err(format!("{other}: {other:?}")),
    })
}

/// Why a transaction was not committed.
enum Ended {
    Refused(Outcome),
    Wrong(String),
}

impl From<DataSourceError> for Ended {
    fn from(error: DataSourceError) -> Self {
        Self::Wrong(format!("{error}: {error:?}"))
    }
}

/// What was refused is rolled back, as an application would.
async fn in_a_transaction(call: &Call, db: &TenantDb) -> Came {
    let done = db
        .transaction(async |transaction| match call.on_transaction(transaction).await {
            Ok(outcome) if outcome.is_refusal() => Err(Ended::Refused(outcome)),
            Ok(outcome) => Ok(outcome),
            Err(wrong) => Err(Ended::Wrong(wrong)),
        })
        .await;
    let outcome = match done {
        Ok(outcome) | Err(Ended::Refused(outcome)) => outcome,
        Err(Ended::Wrong(wrong)) => return Err(wrong),
    };
    if !call.method.only_reads() {
        return Ok(outcome);
    }
    match call.to_its_end(db.begin_read().await).await? {
        same if same == outcome => Ok(outcome),
        other => Err(format!("{outcome} became {other} in a transaction that only reads")),
    }
}

/// Polls a future so many times and drops it, unless it ends before.
pub(super) async fn cut<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        left = left.saturating_sub(1);
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Every run again, after every connection was closed and the server has done what it was still at: what came late reached nobody
/// else's rows either.
async fn at_rest(shared: &Shared, mut observer: Observer, runs: Vec<Run>) -> Vec<String> {
    shared.come_to_rest(&mut observer).await;
    let mut all = Fixture::look_at_all(&mut observer).await;
    let mut wrong = Vec::new();
    for run in &runs {
        let after = run.call.rows.part_of(&mut all);
        if let Err(problem) = run.check(&after) {
            wrong.push(format!("at rest, {:?}, {}: {problem}", run.call.method, run.call.case.name()));
        }
    }
    if !all.is_empty() {
        wrong.push(format!("rows that no call wrote: {all:#?}"));
    }
    wrong
}
