//! What the server shows of Tenantry's connections: counted while the lanes run, and looked at when they are done.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection, Row};
use tokio::task::JoinHandle;

use super::super::source::{Observer, Shared, Source};

/// Sessions of the data source other than the observers'.
const SESSIONS: &str = "FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' \
                        AND usename <> current_user";

/// A count that goes on until it is ended.
pub(super) struct Sessions {
    over: Arc<AtomicBool>,
    /// The most sessions at a time, and how often they were counted. None where there is no server.
    counting: Option<JoinHandle<(i64, u64)>>,
    cap: u32,
}

impl Sessions {
    /// Counts the data source's sessions. Behind a pooler they are the pooler's own.
    pub(super) fn watch(shared: &Shared, cap: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let url = shared.database.as_ref().filter(|_| shared.source == Source::Direct).map(|it| it.superuser_url());
        let counting = url.map(|url| tokio::spawn(count(url, Arc::clone(&over))));
        Self { over, counting, cap }
    }

    /// What is wrong with what was counted, and with what is left now that nobody does anything.
    pub(super) async fn end(self, observer: &mut Observer) -> Vec<String> {
        self.over.store(true, Ordering::SeqCst);
        let mut wrong = Vec::new();
        if let Some(counting) = self.counting {
            let (most, counted) = counting.await.unwrap();
            if most > i64::from(self.cap) {
                wrong.push(format!("the server showed {most} sessions at a time, and {} are allowed", self.cap));
            }
            assert!(counted > 10, "sessions were counted {counted} times only");
        }
        if let Observer::Postgres(_) = observer {
            wrong.extend(left_behind(observer).await);
        }
        wrong
    }
}

async fn count(url: String, over: Arc<AtomicBool>) -> (i64, u64) {
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let (mut most, mut counted) = (0, 0);
    while !over.load(Ordering::SeqCst) {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT count(*) {SESSIONS}"))).fetch_one(&mut connection);
        most = most.max(row.await.unwrap().get::<i64, _>(0));
        counted += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (most, counted)
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
