//! The connections of one PostgreSQL data source in this process: opened, kept, checked, set to a tenant, closed.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, Connection as _, Executor, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::{timeout, timeout_at},
};

use super::{
    PoolOptions, PoolStatus, PoolerMode,
    leased::{Connection, Key, PostgresLease},
    probe,
    queue::{Answer, Asker, Idle, Permit, Queue, Ticket},
    stats::{Closed, Stats},
};
use crate::{
    ConnectFailure, DataSourceUrl, Error, Session,
    session::{ServerSession, quote_identifier},
};

/// How often the server looks whether the client of a running statement is still there. Without it, a statement that waits for
/// a lock would keep its server session for as long as it waits, and that session would not be counted here.
const CLIENT_CHECK: Duration = Duration::from_millis(500);
/// How long a session that has ended its statement needs to go away after it was told to.
const GOODBYE: Duration = Duration::from_millis(25);
/// How long an abandoned statement may take to its end before its connection is cut instead.
const LAST_WORD: Duration = Duration::from_millis(200);
/// After how long without use a connection is asked whether it still works before a lease gets it.
const CHECK_AFTER: Duration = Duration::from_secs(30);
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two attempts to connect to a server that is full, or starting, or stopping.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A login and how to open a connection with it. When the last pool of it is gone, so are its connections.
pub(super) struct Opening {
    pub(super) options: PgConnectOptions,
    key: Key,
    upkeep: Arc<Notify>,
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.upkeep.notify_one();
    }
}

pub(super) struct Source {
    pub(super) url: DataSourceUrl,
    pub(super) options: PoolOptions,
    /// Shared with the sources before and after this one, as are the counters.
    queue: Arc<Queue<Box<Connection>>>,
    stats: Arc<Stats>,
    generation: u32,
    /// Whether a connection keeps its server session between transactions; found out once.
    keeps_session: OnceLock<bool>,
    /// Held by who finds it out.
    probing: Arc<tokio::sync::Mutex<()>>,
    born: Instant,
    /// Connections used before this moment are checked before their next use: one of them was found broken. In nanoseconds
    /// since `born`, as is the next.
    suspect_before: AtomicU64,
    /// Connections opened before this moment are closed before their next use: what they have prepared no longer fits.
    stale_before: AtomicU64,
    warm: Mutex<Option<(Arc<Opening>, usize)>>,
    upkeep: OnceLock<()>,
    wake: Arc<Notify>,
}

impl Source {
    pub(super) fn new(url: &DataSourceUrl, options: &PoolOptions) -> Arc<Self> {
        Self::of(url, options, Queue::new(options.max_connections as usize), Arc::default(), 0)
    }

    /// A source that finds out everything anew and uses no connection of this one, under one cap with it.
    pub(super) fn succeeded(self: &Arc<Self>, options: &PoolOptions) -> Arc<Self> {
        *self.warm() = None;
        self.renew();
        let (queue, stats) = (Arc::clone(&self.queue), Arc::clone(&self.stats));
        let source = Self::of(&self.url, options, queue, stats, self.generation.wrapping_add(1));
        source.set_max_connections(options.max_connections);
        source
    }

    fn of(
        url: &DataSourceUrl,
        options: &PoolOptions,
        queue: Arc<Queue<Box<Connection>>>,
        stats: Arc<Stats>,
        generation: u32,
    ) -> Arc<Self> {
        Arc::new(Self {
            url: url.clone(),
            queue,
            options: options.clone(),
            stats,
            generation,
            keeps_session: OnceLock::new(),
            probing: Arc::default(),
            born: Instant::now(),
            suspect_before: AtomicU64::new(0),
            stale_before: AtomicU64::new(0),
            warm: Mutex::new(None),
            upkeep: OnceLock::new(),
            wake: Arc::new(Notify::new()),
        })
    }

    pub(super) fn opening(&self, login: [u8; 32], options: PgConnectOptions) -> Arc<Opening> {
        let key = Key { login, generation: self.generation };
        Arc::new(Opening { options, key, upkeep: Arc::clone(&self.wake) })
    }

    /// Waits for a connection of this login; of several, one that is set to the session's tenant already.
    pub(super) async fn lease(
        self: &Arc<Self>,
        opening: &Arc<Opening>,
        session: &Session,
    ) -> Result<PostgresLease, Error> {
        // The usual case waits for nothing; the others are boxed, so that they do not make every caller's future larger.
        let answer = self.keeps_session.get().map(|_| self.queue.ask(&asker(opening, session)));
        match answer {
            Some(Answer::Now(mut permit)) => match permit.take_idle() {
                Some(Idle { connection, since }) if self.is_fresh(&connection, since, opening) => {
                    Ok(self.counted(PostgresLease::new(self, connection, permit), session))
                }
                idle => Box::pin(self.lease_by(self.deadline(), permit, idle, opening, session)).await,
            },
            answer => Box::pin(self.lease_slowly(answer, opening, session)).await,
        }
    }

    /// Whatever of it takes time ends at one deadline: to find out what is between here and the server, to wait, to connect.
    async fn lease_slowly(
        self: &Arc<Self>,
        answer: Option<Answer<Box<Connection>>>,
        opening: &Arc<Opening>,
        session: &Session,
    ) -> Result<PostgresLease, Error> {
        let deadline = self.deadline();
        let answer = match answer {
            Some(answer) => answer,
            None => {
                self.keeps_session(opening, deadline).await?;
                self.queue.ask(&asker(opening, session))
            }
        };
        let mut permit = match answer {
            Answer::Now(permit) => permit,
            Answer::Wait(ticket) => self.wait(ticket, session, deadline).await?,
            Answer::Closed => return Err(self.closed_error()),
        };
        let idle = permit.take_idle();
        self.lease_by(deadline, permit, idle, opening, session).await
    }

    /// Uses what is idle, after a check where that is due, or opens a connection.
    async fn lease_by(
        self: &Arc<Self>,
        deadline: Instant,
        mut permit: Permit<Box<Connection>>,
        idle: Option<Idle<Box<Connection>>>,
        opening: &Arc<Opening>,
        session: &Session,
    ) -> Result<PostgresLease, Error> {
        match idle {
            Some(Idle { connection, since }) if self.is_fresh(&connection, since, opening) => {
                return Ok(self.counted(PostgresLease::new(self, connection, permit), session));
            }
            Some(Idle { connection, .. }) => {
                let (connection, held, why) = match self.unfit(&connection, opening) {
                    Some(why) => (connection, permit, why),
                    None => {
                        // As a lease, so that it is closed, and its slot kept until then, also if this is given up midway.
                        let mut lease = PostgresLease::new(self, connection, permit);
                        lease.set_busy();
                        let within = deadline.saturating_duration_since(Instant::now()) / 2;
                        let answer = timeout(within.min(CHECK_TIMEOUT), lease.connection()?.raw.ping()).await;
                        if matches!(answer, Ok(Ok(()))) {
                            lease.set_clean();
                            return Ok(self.counted(lease, session));
                        }
                        let (connection, permit) = lease.inner.take().ok_or(Error::Ended)?;
                        (connection, permit, Closed::Broken)
                    }
                };
                // In a task of its own: the slot is free when the server's session has ended, also if nobody waits for that any
                // more.
                permit = match timeout_at(deadline.into(), self.retire(connection, held, why)).await {
                    Ok(Ok(permit)) => permit,
                    Ok(Err(_)) => return Err(self.closed_error()),
                    Err(_) => return Err(self.too_late()),
                };
                permit.stay();
            }
            None => {}
        }
        // In a task of its own as well: a connection that nobody waits for any more would come to be on the server after its slot
        // was given away. It is idle then.
        let (give, taken) = oneshot::channel();
        let (source, opening) = (Arc::clone(self), Arc::clone(opening));
        tokio::spawn(async move {
            let opened = source.open(&opening, deadline, || !give.is_closed()).await;
            source.look_after();
            // A lease, so that it goes back by itself wherever it is dropped.
            drop(give.send(opened.map(|connection| PostgresLease::new(&source, connection, permit))));
        });
        let lease = taken.await.map_err(|_| self.closed_error())??;
        Ok(self.counted(lease, session))
    }

    /// Notes whether the connection of a lease has to be set to the tenant first.
    fn counted(&self, mut lease: PostgresLease, session: &Session) -> PostgresLease {
        match lease.connection().map(|connection| &connection.session) {
            Ok(Some(known)) if known.tenant == session.tenant => self.stats.tag_hit(),
            _ => self.stats.tag_miss(),
        }
        lease
    }

    async fn wait(
        &self,
        ticket: Ticket<Box<Connection>>,
        session: &Session,
        deadline: Instant,
    ) -> Result<Permit<Box<Connection>>, Error> {
        let started = Instant::now();
        let granted = timeout_at(deadline.into(), ticket.granted()).await;
        self.stats.waited(started.elapsed());
        match granted {
            Ok(Some(permit)) => Ok(permit),
            Ok(None) => Err(self.closed_error()),
            Err(_) => {
                self.stats.exhausted();
                let counts = self.queue.counts();
                let held = session.tenant.as_ref().map_or(0, |tenant| self.queue.held_by(tenant));
                Err(Error::Exhausted {
                    data_source: self.url.clone(),
                    cap: u32::try_from(counts.cap).unwrap_or(u32::MAX),
                    waiting: counts.waiting,
                    held,
                    share: session.max_connections,
                    waited_ms: started.elapsed().as_millis(),
                })
            }
        }
    }

    /// Whether a connection can be used as it is.
    fn is_fresh(&self, connection: &Connection, since: Instant, opening: &Opening) -> bool {
        let now = Instant::now();
        let used = self.since_born(since);
        connection.key == opening.key
            && connection.expires > now
            && now.duration_since(since) < CHECK_AFTER
            && used >= self.suspect_before.load(Ordering::Acquire)
            && !self.is_stale(connection)
    }

    fn is_stale(&self, connection: &Connection) -> bool {
        self.since_born(connection.opened) < self.stale_before.load(Ordering::Acquire)
    }

    /// Why a connection must be closed without being asked whether it still works.
    fn unfit(&self, connection: &Connection, opening: &Opening) -> Option<Closed> {
        if connection.key != opening.key {
            Some(Closed::Replaced)
        } else if self.is_stale(connection) {
            Some(Closed::Retired)
        } else if connection.expires <= Instant::now() {
            Some(Closed::Age)
        } else {
            None
        }
    }

    /// Opens a connection, as long as somebody still wants it.
    async fn open(
        &self,
        opening: &Arc<Opening>,
        deadline: Instant,
        wanted: impl Fn() -> bool + Send,
    ) -> Result<Box<Connection>, Error> {
        let keeps_session = self.keeps_session.get().copied().unwrap_or(false);
        let mut pause = Duration::from_millis(10);
        let mut raw = loop {
            match timeout_at(deadline.into(), opening.options.connect()).await {
                Ok(Ok(raw)) => break raw,
                Ok(Err(source)) => match Error::from_connect(&self.url, source) {
                    // Full, or starting, or stopping: until the caller's deadline that may pass.
                    Error::Connect { reason: ConnectFailure::Unavailable, .. }
                        if Instant::now() + pause < deadline && wanted() =>
                    {
                        tokio::time::sleep(pause).await;
                        pause = LONGEST_PAUSE.min(2 * pause);
                    }
                    error => return Err(error),
                },
                Err(_) => return Err(self.too_late()),
            }
        };
        let session = if keeps_session {
            match timeout_at(deadline.into(), self.set_up(&mut raw)).await {
                Ok(set_up) => set_up?,
                Err(_) => return Err(self.too_late()),
            }
            Some(ServerSession::default())
        } else {
            None
        };
        let opened = Instant::now();
        // Spread, so that connections opened at once are not closed at once.
        let lifetime = self.options.max_lifetime;
        let spread = lifetime.mul_f64(f64::from(opened.duration_since(self.born).subsec_nanos() % 1000) / 10_000.0);
        let expires = opened + lifetime.saturating_sub(spread);
        let (key, opening) = (opening.key, Arc::downgrade(opening));
        self.stats.opened();
        Ok(Box::new(Connection { raw, keeps_session, session, key, opening, opened, expires }))
    }

    /// What holds for a server session as long as it lasts.
    async fn set_up(&self, raw: &mut PgConnection) -> Result<(), Error> {
        let broken = |source| Error::from_connect(&self.url, source);
        // Temporary objects are looked up last: a temporary table must never shadow a real one.
        let path = format!("SET search_path = {}, pg_temp", quote_identifier(&self.options.schema));
        let check = format!("{path}; SET client_connection_check_interval = {}", CLIENT_CHECK.as_millis());
        match raw.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(check))).await {
            Ok(_) => Ok(()),
            // Not every system can do it: PostgreSQL refuses the setting there, and with it whatever is in one message.
            Err(sqlx::Error::Database(_)) => {
                raw.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(path))).await.map(drop).map_err(broken)
            }
            Err(source) => Err(broken(source)),
        }
    }

    /// Whether a connection keeps its server session between transactions, so that settings and named statements hold on it.
    /// Of many callers one finds it out, and none waits longer than it would by itself.
    pub(super) async fn keeps_session(
        self: &Arc<Self>,
        opening: &Arc<Opening>,
        deadline: Instant,
    ) -> Result<bool, Error> {
        if let Some(known) = self.keeps_session.get() {
            return Ok(*known);
        }
        match self.options.pooler {
            PoolerMode::Direct | PoolerMode::Session => return Ok(*self.keeps_session.get_or_init(|| true)),
            PoolerMode::Transaction => return Ok(*self.keeps_session.get_or_init(|| false)),
            // The probe takes two connections. Where one is allowed it is not known, for as long as that is so, and what is safe
            // everywhere is used.
            PoolerMode::Auto if self.queue.counts().cap < 2 => return Ok(false),
            PoolerMode::Auto => {}
        }
        let turn = timeout_at(deadline.into(), Arc::clone(&self.probing).lock_owned()).await;
        let turn = turn.map_err(|_| self.too_late())?;
        if let Some(known) = self.keeps_session.get() {
            return Ok(*known);
        }
        // In a task of its own: given up midway, it would leave connections that nobody counts.
        let (source, opening) = (Arc::clone(self), Arc::clone(opening));
        let probing = tokio::spawn(async move {
            let found = source.probe(&opening, deadline).await;
            drop(turn);
            found
        });
        probing.await.unwrap_or_else(|_| Err(self.closed_error()))
    }

    async fn probe(self: &Arc<Self>, opening: &Opening, deadline: Instant) -> Result<bool, Error> {
        let mut permits = Vec::new();
        for _ in 0..2 {
            let asker = Asker { login: opening.key, tenant: None, share: None };
            let mut permit = match self.queue.ask(&asker) {
                Answer::Now(permit) => permit,
                Answer::Wait(ticket) => self.wait(ticket, &Session::default(), deadline).await?,
                Answer::Closed => return Err(self.closed_error()),
            };
            if let Some(Idle { connection, .. }) = permit.take_idle() {
                let retired = self.retire(connection, permit, Closed::Replaced).await;
                permit = retired.map_err(|_| self.closed_error())?;
                permit.stay();
            }
            permits.push(permit);
        }
        let found = timeout_at(deadline.into(), probe::keeps_session(&self.url, &opening.options)).await;
        tokio::time::sleep(GOODBYE).await;
        let found = found.map_err(|_| self.too_late())??;
        Ok(*self.keeps_session.get_or_init(|| found))
    }

    pub(super) fn status(&self) -> PoolStatus {
        let counts = self.queue.counts();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        PoolStatus {
            open: number(counts.slots),
            idle: number(counts.idle),
            in_use: number(counts.slots - counts.idle),
            waiting: number(counts.waiting),
            max: number(counts.cap),
            ..self.stats.read()
        }
    }

    pub(super) fn set_max_connections(self: &Arc<Self>, max: u32) {
        for (permit, connection) in self.queue.set_cap(max as usize) {
            self.let_go(connection, permit, Closed::Retired);
        }
    }

    pub(super) fn keep_warm(self: &Arc<Self>, opening: &Arc<Opening>, connections: u32) {
        *self.warm() = Some((Arc::clone(opening), connections as usize));
        self.look_after();
        self.wake.notify_one();
    }

    pub(super) fn renew(self: &Arc<Self>) {
        self.outdate();
        self.retire_idle(Closed::Retired, |_| true);
    }

    /// Refuses new leases, waits for those there are, and for the end of every connection.
    pub(super) async fn close(self: &Arc<Self>) {
        self.queue.close();
        self.retire_idle(Closed::Retired, |_| true);
        self.queue.drained().await;
    }

    /// Until when a caller waits that comes now.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.options.acquire_timeout
    }

    fn too_late(&self) -> Error {
        Error::from_connect(&self.url, sqlx::Error::PoolTimedOut)
    }

    fn closed_error(&self) -> Error {
        Error::Connect { data_source: self.url.clone(), reason: ConnectFailure::Closed, source: None }
    }

    fn since_born(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.born).as_nanos()).unwrap_or(u64::MAX)
    }

    /// A connection broke: the others that have been idle since may have, too.
    pub(super) fn suspect(&self) {
        self.suspect_before.fetch_max(self.since_born(Instant::now()), Ordering::AcqRel);
    }

    /// What connections have prepared no longer fits the tables.
    pub(crate) fn outdate(&self) {
        self.stale_before.fetch_max(self.since_born(Instant::now()), Ordering::AcqRel);
    }

    /// Keeps a connection in whose session nothing is going on for the next one, or closes it.
    pub(super) fn take_back(self: &Arc<Self>, connection: Box<Connection>, permit: Permit<Box<Connection>>) {
        if self.is_stale(&connection) {
            self.let_go(connection, permit, Closed::Retired);
        } else if connection.opening.strong_count() == 0 {
            self.let_go(connection, permit, Closed::Replaced);
        } else if let Err((permit, connection)) = permit.put_back(connection, Instant::now()) {
            self.let_go(connection, permit, Closed::Retired);
        }
    }

    /// Tells the server goodbye. The permit comes back when its session has ended.
    fn retire(
        self: &Arc<Self>,
        connection: Box<Connection>,
        mut permit: Permit<Box<Connection>>,
        why: Closed,
    ) -> JoinHandle<Permit<Box<Connection>>> {
        self.stats.closed(why);
        permit.leave();
        tokio::spawn(async move {
            let Connection { raw, keeps_session, .. } = *connection;
            if timeout(CHECK_TIMEOUT, raw.close()).await.is_ok() && keeps_session {
                tokio::time::sleep(GOODBYE).await;
            }
            permit
        })
    }

    /// The same where nobody waits for it. Outside a runtime, where nothing can be told, the connection is dropped.
    fn let_go(self: &Arc<Self>, connection: Box<Connection>, permit: Permit<Box<Connection>>, why: Closed) {
        match tokio::runtime::Handle::try_current() {
            Ok(_) => drop(self.retire(connection, permit, why)),
            Err(_) => self.stats.closed(why),
        }
    }

    fn retire_idle(self: &Arc<Self>, why: Closed, unwanted: impl FnMut(&Idle<Box<Connection>>) -> bool) {
        for (permit, connection) in self.queue.remove_idle(unwanted) {
            self.let_go(connection, permit, why);
        }
    }

    /// Closes a connection in whose session anything may be going on. Its slot stays taken until the server's session is gone.
    pub(super) fn bury(
        self: &Arc<Self>,
        mut connection: Box<Connection>,
        permit: Permit<Box<Connection>>,
        why: Closed,
    ) {
        self.stats.closed(why);
        // Behind a pooler this is the pooler's part, and the connection is one to the pooler. Where that is not known, it is done
        // here. Without a runtime nobody waits.
        let pooled = self.keeps_session.get() == Some(&false);
        let (false, Ok(runtime)) = (pooled, tokio::runtime::Handle::try_current()) else { return };
        runtime.spawn(async move {
            // An abandoned statement mostly ends by itself; one that waits for a lock or runs for long is cut off.
            let ended = timeout(LAST_WORD, connection.raw.ping()).await;
            if matches!(ended, Ok(Ok(()))) {
                let _ = timeout(CHECK_TIMEOUT, connection.raw.close()).await;
                tokio::time::sleep(GOODBYE).await;
            } else {
                // What broke is gone in a moment; what was cut off, when the server looks.
                drop(connection);
                tokio::time::sleep(if ended.is_err() { 2 * CLIENT_CHECK } else { GOODBYE }).await;
            }
            drop(permit);
        });
    }

    /// Starts the task that closes what is idle for too long and keeps connections warm; once.
    fn look_after(self: &Arc<Self>) {
        self.upkeep.get_or_init(|| {
            // Not the source itself: it goes with its last pool, and the task with it.
            let (source, wake) = (Arc::downgrade(self), Arc::clone(&self.wake));
            let shortest = self.options.idle_timeout.min(self.options.max_lifetime) / 2;
            let pause = shortest.clamp(Duration::from_millis(50), Duration::from_secs(30));
            tokio::spawn(async move {
                while let Some(source) = source.upgrade() {
                    source.expire();
                    source.warm_up().await;
                    if source.queue.is_closed() {
                        return;
                    }
                    drop(source);
                    let _ = timeout(pause, wake.notified()).await;
                }
            });
        });
    }

    fn expire(self: &Arc<Self>) {
        let now = Instant::now();
        self.retire_idle(Closed::Age, |idle| idle.connection.expires <= now);
        self.retire_idle(Closed::Replaced, |idle| idle.connection.opening.strong_count() == 0);
        let idle_timeout = self.options.idle_timeout;
        let keep = self.warm().as_ref().map_or(0, |(_, count)| *count);
        let mut spare = self.queue.counts().slots.saturating_sub(keep);
        self.retire_idle(Closed::Unused, |idle| {
            let unused = spare > 0 && now.duration_since(idle.since) >= idle_timeout;
            spare -= usize::from(unused);
            unused
        });
    }

    /// Opens what is missing to the number of connections that are kept warm. Where that fails it is given up until somebody
    /// asks for it anew: a wrong login must not be tried again and again.
    async fn warm_up(self: &Arc<Self>) {
        let warm = self.warm().clone();
        let Some((opening, count)) = warm else { return };
        if self.keeps_session(&opening, self.deadline()).await.is_err() {
            return *self.warm() = None;
        }
        while self.queue.counts().slots < count {
            let Some(permit) = self.queue.ask_for_room() else { return };
            let opened = self.open(&opening, self.deadline(), || true).await;
            let Ok(connection) = opened else { return *self.warm() = None };
            self.take_back(connection, permit);
        }
    }

    fn warm(&self) -> MutexGuard<'_, Option<(Arc<Opening>, usize)>> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn asker(opening: &Opening, session: &Session) -> Asker<Key> {
    Asker { login: opening.key, tenant: session.tenant.clone(), share: session.max_connections }
}
