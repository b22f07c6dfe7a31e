//! What the server shows of Tenantry's connections: counted while the lanes run, and looked at when they are done.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tenantry_test_support::cluster::Database;
use tokio::task::JoinHandle;

use super::super::source::{Observer, Shared, Source};

/// Sessions of the data source other than the observers'.
const SESSIONS: &str = "FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' \
                        AND usename <> current_user";

/// A session that was told to end is shown until its process has gone, which takes a moment on a busy machine. What is shown for
/// longer beyond the cap is a connection too many.
const MOMENT: Duration = Duration::from_millis(400);

/// A count that goes on until it is ended.
pub(super) struct Sessions {
    over: Arc<AtomicBool>,
    /// None where there is no server of whose sessions Tenantry holds each.
    counting: Option<JoinHandle<Counted>>,
    cap: usize,
}

/// How often sessions were counted, and the most that were there together for longer than a moment.
struct Counted {
    times: u64,
    most: usize,
}

impl Sessions {
    /// Counts the data source's sessions. Behind a pooler they are the pooler's own.
    pub(super) fn watch(shared: &Shared, cap: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let url = shared.database.as_ref().filter(|_| shared.source == Source::Direct).map(Database::superuser_url);
        let counting = url.map(|url| tokio::spawn(count(url, Arc::clone(&over))));
        Self { over, counting, cap: cap as usize }
    }

    /// What is wrong with what was counted, and with what is left now that nobody does anything.
    pub(super) async fn end(self, observer: &mut Observer) -> Vec<String> {
        self.over.store(true, Ordering::SeqCst);
        let mut wrong = Vec::new();
        if let Some(counting) = self.counting {
            let Counted { times, most } = counting.await.unwrap();
            if most > self.cap {
                wrong.push(format!("the server showed {most} sessions, and {} are allowed", self.cap));
            }
            assert!(times > 10, "sessions were counted {times} times only");
        }
        if let Observer::Postgres(_) = observer {
            wrong.extend(left_behind(observer).await);
        }
        wrong
    }
}

async fn count(url: String, over: Arc<AtomicBool>) -> Counted {
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let mut counted = Counted { times: 0, most: 0 };
    let mut since: BTreeMap<i32, Instant> = BTreeMap::new();
    while !over.load(Ordering::SeqCst) {
        let rows =
            sqlx::query(AssertSqlSafe(format!("SELECT pid {SESSIONS}"))).fetch_all(&mut connection).await.unwrap();
        let now = Instant::now();
        since = rows.iter().map(|row| row.get(0)).map(|pid| (pid, since.get(&pid).copied().unwrap_or(now))).collect();
        counted.times += 1;
        counted.most = counted.most.max(since.values().filter(|since| **since + MOMENT < now).count());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    counted
}

/// Transactions and locks that nobody works with any more. What a call that was cut off left behind the server may still have to
/// notice, so this waits for a while.
async fn left_behind(observer: &mut Observer) -> Option<String> {
    let sql = format!(
        "SELECT pid::text, state, coalesce(query, '') {SESSIONS} AND state <> 'idle' \
         UNION ALL SELECT pid::text, 'holds an advisory lock', '' FROM pg_locks WHERE locktype = 'advisory' \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    let since = Instant::now();
    loop {
        let left = observer.texts(&sql).await;
        if left.is_empty() {
            return None;
        }
        if since.elapsed() > Duration::from_secs(30) {
            return Some(format!("left behind: {left:?}"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
