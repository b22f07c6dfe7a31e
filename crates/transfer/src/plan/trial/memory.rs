//! A database in memory that runs somebody else's text for as long as it is given. Knows no tenant and no file.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};

use super::Answer;
use crate::{canonical::Stored, copy::sqlite::bind};

/// Instructions of SQLite's between two looks at the clock: well below a millisecond.
const INSTRUCTIONS: i32 = 1000;

/// How much longer than it may take a statement is waited for. Within a single function SQLite looks at no clock.
const GRACE: Duration = Duration::from_secs(1);

/// Pages of 4 KiB. What the text computes may be larger than any row.
const PAGES: u32 = 1 << 16;

/// The extended result code `SQLITE_CONSTRAINT_CHECK`, and how its message begins.
const CHECK: (&str, &str) = ("275", "CHECK constraint failed: ");

/// The most characters of an expression that stands for a name.
const LONGEST: usize = 200;

pub(super) struct Memory {
    connection: SqliteConnection,
    clock: Arc<Clock>,
}

/// Until when a statement may run; whoever waits for it may have gone.
struct Clock {
    begun: Instant,
    /// In milliseconds after that.
    until: AtomicU64,
}

impl Clock {
    fn set(&self, left: Duration) {
        let until = u64::try_from((self.begun.elapsed() + left).as_millis()).unwrap_or(u64::MAX);
        self.until.store(until, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.begun.elapsed().as_millis() >= u128::from(self.until.load(Ordering::Relaxed))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.clock.until.store(0, Ordering::Relaxed);
    }
}

impl Memory {
    /// A new one, that stores texts in this encoding; `None` where the system does not give what it takes.
    pub(super) async fn open(encoding: &str) -> Option<Self> {
        let encoding = ["UTF-16le", "UTF-16be"].into_iter().find(|known| *known == encoding).unwrap_or("UTF-8");
        let options = SqliteConnectOptions::new()
            .filename(":memory:")
            .foreign_keys(false)
            // As in the connections that copy: a constraint may use LIKE.
            .pragma("case_sensitive_like", "ON")
            .disable_statement_logging();
        let mut connection = options.connect().await.ok()?;
        let settings = format!(
            "PRAGMA encoding = '{encoding}'; PRAGMA temp_store = MEMORY; PRAGMA page_size = 4096; PRAGMA max_page_count = {PAGES}"
        );
        sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut connection).await.ok()?;
        let clock = Arc::new(Clock { begun: Instant::now(), until: AtomicU64::new(u64::MAX) });
        let seen = Arc::clone(&clock);
        connection.lock_handle().await.ok()?.set_progress_handler(INSTRUCTIONS, move || !seen.is_over());
        Some(Self { connection, clock })
    }

    /// Runs one statement. Not cancel-safe: whoever drops the future drops this as well.
    pub(super) async fn run(&mut self, sql: &str, values: Vec<Stored>, again: bool, left: Duration) -> Answer {
        self.clock.set(left);
        let query = values.into_iter().fold(sqlx::query(AssertSqlSafe(sql.to_owned())), bind).persistent(again);
        match tokio::time::timeout(left + GRACE, query.execute(&mut self.connection)).await {
            Ok(Ok(_)) => Answer::Done,
            Ok(Err(sqlx::Error::Database(error))) if error.code().is_some_and(|code| code == CHECK.0) => {
                let message = error.message();
                let name = message.strip_prefix(CHECK.1).unwrap_or(message);
                let words: Vec<&str> = name.split_whitespace().collect();
                Answer::Breaks(words.join(" ").chars().take(LONGEST).collect())
            }
            Ok(Err(_)) => Answer::Failed,
            Err(_) => Answer::Silent,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    async fn run(memory: &mut Memory, sql: &str, left: Duration) -> Answer {
        memory.run(sql, Vec::new(), false, left).await
    }

    #[tokio::test]
    async fn a_broken_constraint_is_told_by_name_and_nothing_else_is_taken_for_one() {
        let mut memory = Memory::open("").await.unwrap();
        let table = "CREATE TABLE t (a integer PRIMARY KEY, b NOT NULL CONSTRAINT \"CHECK constraint failed: c\" CHECK (b <> 1), c any, \
                     CHECK (b <> 2  AND\n b <> 'x')) STRICT";
        assert_eq!(run(&mut memory, table, LONG).await, Answer::Failed, "STRICT wants types");
        assert_eq!(run(&mut memory, &table.replace("b NOT", "b any NOT"), LONG).await, Answer::Done);
        for (values, expected) in [
            ("1, 0, 0", Answer::Done),
            ("2, 1, 0", Answer::Breaks("CHECK constraint failed: c".to_owned())),
            ("2, 2, 0", Answer::Breaks("b <> 2 AND b <> 'x'".to_owned())),
            ("1, 0, 0", Answer::Failed),
            ("2, NULL, 0", Answer::Failed),
            ("'two', 0, 0", Answer::Failed),
        ] {
            assert_eq!(run(&mut memory, &format!("INSERT INTO t VALUES ({values})"), LONG).await, expected, "{values}");
        }
    }

    #[tokio::test]
    async fn texts_have_the_bytes_that_they_have_in_the_target() {
        for (encoding, bytes) in [("UTF-8", 3), ("UTF-16le", 6), ("UTF-16be", 6)] {
            let mut memory = Memory::open(encoding).await.unwrap();
            let table = format!("CREATE TABLE t (a text CHECK (length(CAST(a AS blob)) = {bytes}))");
            assert_eq!(run(&mut memory, &table, LONG).await, Answer::Done);
            let values = vec![Stored::Text("abc".to_owned())];
            assert_eq!(memory.run("INSERT INTO t VALUES (?)", values, true, LONG).await, Answer::Done, "{encoding}");
        }
    }

    #[tokio::test]
    async fn what_takes_long_is_ended_and_the_next_is_run() {
        let mut memory = Memory::open("").await.unwrap();
        assert_eq!(run(&mut memory, "CREATE TABLE t (a)", LONG).await, Answer::Done);
        let endless =
            "INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i FROM n WHERE i = 0";
        assert_eq!(run(&mut memory, endless, Duration::from_millis(1)).await, Answer::Failed);
        assert_eq!(run(&mut memory, "INSERT INTO t VALUES (1)", LONG).await, Answer::Done);
    }

    #[tokio::test]
    async fn what_needs_much_memory_fails() {
        let mut memory = Memory::open("").await.unwrap();
        assert_eq!(run(&mut memory, "CREATE TABLE t (a, b AS (zeroblob(100000000)) STORED)", LONG).await, Answer::Done);
        assert_eq!(run(&mut memory, "INSERT INTO t VALUES (1)", LONG).await, Answer::Done);
        assert_eq!(run(&mut memory, "INSERT INTO t VALUES (1), (2), (3)", LONG).await, Answer::Failed);
    }

    /// SQLite looks at no clock within a function. Its thread goes on, and nobody waits for it.
    #[tokio::test]
    async fn what_does_not_end_is_left_alone() {
        let mut memory = Memory::open("").await.unwrap();
        let sql = "SELECT instr(hex(zeroblob(4000000)), hex(zeroblob(2000000)) || 'b')";
        assert_eq!(run(&mut memory, sql, Duration::ZERO).await, Answer::Silent);
    }
}
