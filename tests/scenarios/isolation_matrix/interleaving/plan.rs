//! What a lane does next: one call, or a transaction of several and its end; carried out in peace, or cut off in the middle.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tenantry_data_source::{ConnectionError, Engine, Error as DataSourceError, TenantDb, TenantTransaction};

use super::super::measured::cut;
use super::{
    model::{Expected, Rows, Whose},
    step::{Choice, Step},
};

#[derive(Debug, Clone)]
pub(super) enum Plan {
    Call(Step),
    /// On one connection, each for itself.
    Leased(Vec<Step>),
    Transaction(Work, End),
    /// Reads of one snapshot.
    Snapshot(Vec<Step>),
    /// Looks for what other tenants left in the session.
    LookAround,
    ReadLog,
}

/// What is done in a transaction.
#[derive(Debug, Clone)]
pub(super) struct Work {
    steps: Vec<Step>,
    leftover: Option<String>,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Commit,
    Rollback,
    Drop,
    /// The closure form, by an error or by a panic in the closure.
    Fail,
    Panic,
}

/// How far a plan has come, for whoever cuts it off.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Steps that last.
    done: AtomicUsize,
    /// Whether the next one, or the whole transaction, may last.
    committing: AtomicBool,
}

/// How a plan is cut off.
#[derive(Debug, Clone, Copy)]
pub(super) enum Interruption {
    Never,
    After(Duration),
    AtPoll(usize),
    Abort(Duration),
}

/// The advisory locks of these tests, by their first key.
pub(super) const LOCKS: i32 = 4_711;

impl Choice<'_> {
    pub(super) fn plan(&mut self, whose: &Whose, rows: &Rows, engine: Engine) -> Plan {
        match self.below(100) {
            0..=39 => Plan::Call(self.step(whose, rows)),
            40..=51 => Plan::Leased(self.steps(8, whose, rows)),
            52..=61 => Plan::Snapshot((0..1 + self.below(8)).map(|_| self.read(whose, rows)).collect()),
            62 => Plan::Call(Step::Custom(self.custom(whose))),
            63 => Plan::ReadLog,
            64 if engine == Engine::Postgres => Plan::LookAround,
            65 if self.below(10) == 0 => Plan::Call(Step::Custom("pg_sleep(1) IS NOT NULL".to_owned())),
            _ => self.transaction(whose, rows, engine),
        }
    }

    /// Up to so many steps, each for the rows that those before it leave.
    fn steps(&mut self, most: usize, whose: &Whose, rows: &Rows) -> Vec<Step> {
        let mut rows = rows.clone();
        let mut steps = Vec::new();
        for _ in 0..1 + self.below(most) {
            let step = self.step(whose, &rows);
            step.apply(&mut rows);
            steps.push(step);
        }
        steps
    }

    fn transaction(&mut self, whose: &Whose, rows: &Rows, engine: Engine) -> Plan {
        let mut steps = self.steps(16, whose, rows);
        let failed = steps.iter().position(Step::fails_a_transaction);
        steps.truncate(failed.map_or(steps.len(), |at| at + 1));
        // The last of them: it makes the transaction another tenant's.
        if self.below(32) == 0 && failed.is_none() {
            steps.push(Step::Custom(self.custom(whose)));
        }
        let leaves = engine == Engine::Postgres && self.below(16) == 0 && failed.is_none();
        let leftover = leaves.then(|| self.leftover(whose));
        let end = match self.below(20) {
            0..=13 => End::Commit,
            14..=15 => End::Rollback,
            16..=17 => End::Fail,
            18 => End::Drop,
            _ => End::Panic,
        };
        Plan::Transaction(Work { steps, leftover }, end)
    }

    /// A condition that changes the session of its statement.
    fn custom(&mut self, whose: &Whose) -> String {
        let victim = self.victim(whose);
        let settings = [
            format!("set_config('app.tenant_id', '{victim}', false) IS NOT NULL"),
            format!("set_config('leftover.by', '{}', false) IS NOT NULL", whose.tenant),
            format!("pg_advisory_lock({LOCKS}, {}) IS NOT NULL", self.below(1_000_000_000)),
        ];
        let at = self.below(settings.len());
        settings[at].clone()
    }

    /// A statement that leaves something in its session.
    fn leftover(&mut self, whose: &Whose) -> String {
        let (victim, own) = (self.victim(whose), whose.tenant);
        let statements = [
            format!("SELECT set_config('app.tenant_id', '{victim}', false)"),
            format!("SET app.tenant_id = '{victim}'"),
            format!("SET leftover.by = '{own}'"),
            "SET statement_timeout = '7s'".to_owned(),
            "SET default_transaction_read_only = on".to_owned(),
            format!("SELECT pg_advisory_lock({LOCKS}, {})", self.below(1_000_000_000)),
            format!("LISTEN \"left by {own}\""),
            format!("PREPARE \"left by {own}\" AS SELECT content FROM notes"),
            format!("DECLARE \"left by {own}\" CURSOR WITH HOLD FOR SELECT content FROM notes"),
            format!("CREATE TEMPORARY TABLE \"left by {own}\" AS SELECT content FROM notes"),
        ];
        let at = self.below(statements.len());
        statements[at].clone()
    }

    pub(super) fn interruption(&mut self, plan: &Plan) -> Interruption {
        let longest = [300, 3_000, 30_000][self.below(3)];
        let moment = Duration::from_micros(self.below(longest) as u64);
        match self.below(60) {
            // Its session has work to do after it was left.
            _ if matches!(plan, Plan::Call(Step::Custom(sql)) if sql.starts_with("pg_sleep")) => {
                Interruption::After(moment)
            }
            0 => Interruption::After(moment),
            1 => Interruption::AtPoll(1 + self.below(12)),
            2 => Interruption::Abort(moment),
            _ => Interruption::Never,
        }
    }
}

impl Plan {
    /// How many calls it makes.
    pub(super) fn operations(&self) -> u64 {
        match self {
            Self::Transaction(work, _) => 1 + work.steps.len() as u64,
            Self::Leased(steps) | Self::Snapshot(steps) => 1 + steps.len() as u64,
            Self::Call(_) | Self::LookAround | Self::ReadLog => 1,
        }
    }

    /// What the rows are when nothing was in the way.
    pub(super) fn apply(&self, rows: &mut Rows) {
        match self {
            Self::Call(step) => step.apply(rows),
            Self::Leased(steps) => steps.iter().for_each(|step| step.apply(rows)),
            Self::Transaction(work, End::Commit) if !work.fails() => {
                work.steps.iter().for_each(|step| step.apply(rows))
            }
            Self::Transaction(..) | Self::Snapshot(_) | Self::LookAround | Self::ReadLog => {}
        }
    }

    /// What is known of the rows after the plan was cut off.
    pub(super) fn cut_off(&self, expected: &mut Expected, progress: &Progress) {
        let committing = progress.committing.load(Ordering::SeqCst);
        let mut after = expected.rows.clone();
        match self {
            Self::Leased(steps) => {
                let done = progress.done.load(Ordering::SeqCst);
                steps[..done].iter().for_each(|step| step.apply(&mut expected.rows));
                after.clone_from(&expected.rows);
                steps.iter().skip(done).take(1).for_each(|step| step.apply(&mut after));
            }
            _ => self.apply(&mut after),
        }
        if committing {
            expected.doubt(&after);
        }
    }

    /// Carries the plan out.
    pub(super) async fn run(&self, db: &TenantDb, expected: &Expected, progress: &Progress) -> Result<(), String> {
        match self {
            Self::Call(step) => {
                progress.committing.store(true, Ordering::SeqCst);
                step.run(db, expected).await
            }
            Self::Leased(steps) => {
                let lease = db.lease().await.map_err(told)?;
                let mut expected = expected.clone();
                for step in steps {
                    progress.committing.store(true, Ordering::SeqCst);
                    step.run(&lease, &expected).await?;
                    step.apply(&mut expected.rows);
                    progress.done.fetch_add(1, Ordering::SeqCst);
                }
                Ok(())
            }
            Self::Snapshot(steps) => {
                let transaction = db.begin_read().await.map_err(told)?;
                for step in steps {
                    step.run(&transaction, expected).await?;
                }
                transaction.commit().await.map_err(told)
            }
            Self::Transaction(work, end @ (End::Fail | End::Panic)) => work.fail(db, expected, *end).await,
            Self::Transaction(work, end) => work.run(db, expected, *end, progress).await,
            Self::LookAround => look_around(db, &expected.whose).await,
            Self::ReadLog => {
                let own = expected.whose.tenant.to_string();
                let entries = db.write_log(4).await.map_err(told)?;
                let mut images = entries.iter().flat_map(|entry| [&entry.before, &entry.after]).flatten();
                match images.find(|image| image["tenant_id"] != own.as_str()) {
                    Some(foreign) => Err(format!("tenant {own} reads a foreign entry: {foreign}")),
                    None => Ok(()),
                }
            }
        }
    }
}

impl Work {
    /// Whether the database refuses one of the statements, so that the transaction can only be rolled back.
    fn fails(&self) -> bool {
        self.steps.iter().any(Step::fails_a_transaction) || self.leftover.as_deref().is_some_and(is_refused)
    }

    async fn carry_out(&self, transaction: &TenantTransaction, expected: &Expected) -> Result<(), String> {
        let mut expected = expected.clone();
        for step in &self.steps {
            step.run(transaction, &expected).await?;
            step.apply(&mut expected.rows);
        }
        let Some(sql) = &self.leftover else { return Ok(()) };
        match transaction.execute_raw_sql_outside_the_tenant_guard(sql, []).await {
            Ok(_) if !is_refused(sql) => Ok(()),
            Err(DataSourceError::Connection(ConnectionError::PermissionDenied { .. })) if is_refused(sql) => Ok(()),
            other => Err(format!("{sql} came to {other:?}")),
        }
    }

    async fn run(&self, db: &TenantDb, expected: &Expected, end: End, progress: &Progress) -> Result<(), String> {
        // Every other one on a lease, for no better reason than that it has a way of its own.
        let transaction = if self.steps.len().is_multiple_of(2) {
            db.begin().await.map_err(told)?
        } else {
            db.lease().await.map_err(told)?.begin().await.map_err(told)?
        };
        self.carry_out(&transaction, expected).await?;
        match end {
            End::Rollback => transaction.rollback().await.map_err(told),
            End::Commit => {
                progress.committing.store(!self.fails(), Ordering::SeqCst);
                match transaction.commit().await {
                    Ok(()) if !self.fails() => Ok(()),
                    Err(DataSourceError::TransactionFailed) if self.fails() => Ok(()),
                    other => Err(format!("the commit came to {other:?}")),
                }
            }
            End::Drop | End::Fail | End::Panic => Ok(()),
        }
    }

    /// In the closure form, which ends by an error or by a panic in the closure.
    async fn fail(&self, db: &TenantDb, expected: &Expected, end: End) -> Result<(), String> {
        let ended = db.transaction(async |transaction| {
            self.carry_out(transaction, expected).await.map_err(Ended::Wrong)?;
            if end == End::Panic {
                // Without the message that a panic prints.
                resume_unwind(Box::new(Planned));
            }
            Err::<(), _>(Ended::AsPlanned)
        });
        match AssertUnwindSafe(ended).catch_unwind().await {
            Ok(Err(Ended::AsPlanned)) => Ok(()),
            Ok(Err(Ended::Wrong(wrong))) => Err(wrong),
            Ok(Ok(())) => Err("a transaction that failed was committed".to_owned()),
            Err(panic) if panic.is::<Planned>() => Ok(()),
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// A temporary table could stand in front of a real one.
fn is_refused(leftover: &str) -> bool {
    leftover.contains("TEMPORARY")
}

/// A panic that was meant.
struct Planned;

enum Ended {
    AsPlanned,
    Wrong(String),
}

impl From<DataSourceError> for Ended {
    fn from(error: DataSourceError) -> Self {
        Self::Wrong(told(error))
    }
}

/// Finds what another tenant left in the session that this transaction runs in.
async fn look_around(db: &TenantDb, whose: &Whose) -> Result<(), String> {
    let sql = format!(
        "SELECT concat_ws(', ', \
           nullif(current_setting('app.tenant_id'), '{own}'), \
           nullif(nullif(current_setting('leftover.by', true), ''), '{own}'), \
           nullif(current_setting('statement_timeout'), '0'), \
           nullif(current_setting('default_transaction_read_only'), 'off'), \
           (SELECT string_agg(name, ', ') FROM pg_prepared_statements WHERE name LIKE 'left by %' AND name <> 'left by {own}'), \
           (SELECT string_agg(name, ', ') FROM pg_cursors WHERE name LIKE 'left by %' AND name <> 'left by {own}'), \
           (SELECT string_agg(channel, ', ') FROM pg_listening_channels() AS channel WHERE channel <> 'left by {own}'), \
           (SELECT string_agg(relname, ', ') FROM pg_class WHERE relname LIKE 'left by %'), \
           (SELECT 'advisory locks' FROM pg_locks WHERE locktype = 'advisory' AND classid = {LOCKS} AND pid = pg_backend_pid() \
            LIMIT 1)) AS found",
        own = whose.tenant
    );
    let transaction = db.begin().await.map_err(told)?;
    let rows = transaction.query_raw_sql_outside_the_tenant_guard(&sql, []).await.map_err(told)?;
    transaction.rollback().await.map_err(told)?;
    let found: String = rows[0].try_get("", "found").map_err(|error| error.to_string())?;
    if found.is_empty() { Ok(()) } else { Err(format!("tenant {} finds in its session: {found}", whose.tenant)) }
}

fn told(error: DataSourceError) -> String {
    format!("{error}: {error:?}")
}

/// Carries a plan out until the interruption. None when it was cut off.
pub(super) async fn interrupted(
    plan: &Plan,
    db: &TenantDb,
    expected: &Expected,
    progress: &Arc<Progress>,
    interruption: Interruption,
) -> Option<Result<(), String>> {
    let running = plan.run(db, expected, progress);
    match interruption {
        Interruption::Never => Some(running.await),
        Interruption::After(moment) => tokio::time::timeout(moment, running).await.ok(),
        Interruption::AtPoll(polls) => cut(running, polls).await,
        Interruption::Abort(moment) => {
            drop(running);
            let (plan, db, expected, progress) = (plan.clone(), db.clone(), expected.clone(), Arc::clone(progress));
            let task = tokio::spawn(async move { plan.run(&db, &expected, &progress).await });
            tokio::time::sleep(moment).await;
            task.abort();
            match task.await {
                Ok(done) => Some(done),
                Err(error) if error.is_cancelled() => None,
                Err(error) => resume_unwind(error.into_panic()),
            }
        }
    }
}
