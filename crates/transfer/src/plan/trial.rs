//! CHECK constraints of an SQLite target, tried on the source's rows. SQLite tells of a constraint nothing but the text of its
//! table; so the table is made once more by that text, in a database in memory, and each row is inserted there as the copy
//! would insert it. The target's file is neither written nor locked, and nothing is left behind.
//!
//! The text is somebody else's. What could do more than make a table is not run, what takes long is given up, and what fails
//! in another way than a constraint is no answer: then the plan says that it was not tried. This module knows nothing of
//! what else a row may be refused for; such a row is not given to it.

#[cfg(not(feature = "sqlite"))]
mod absent;
#[cfg(feature = "sqlite")]
mod memory;

#[cfg(not(feature = "sqlite"))]
use self::absent as memory;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tenantry_connection::{Engine, Transaction};

use self::memory::Memory;
use super::{Note, Pair, Refusal, Structure, stored};
use crate::{
    Error,
    canonical::Stored,
    catalog::{Table, TableDetails, statement},
    rows::{Reading, Row, ask},
};

/// The longest that one table's rows may take here, without the time that it takes to read them.
const PATIENCE: Duration = Duration::from_secs(60);

/// The trials of one plan, one table after the other.
pub(super) struct Trials {
    /// The target's: what the bytes of a text are depends on it.
    encoding: String,
    patience: Duration,
    memory: Place,
}

/// Where they take place.
enum Place {
    /// Nothing had to be tried yet.
    Unopened,
    Open(Memory),
    /// It does not answer, or could not be opened. Its thread may be busy for long, so there is no other one.
    Lost,
}

/// What became of a statement.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// It did what it should.
    Done,
    /// A row breaks this constraint: its name or, where it has none, its expression.
    Breaks(String),
    /// Anything else.
    Failed,
    /// Nothing was heard of it in time, and what it was sent to may be busy with it still.
    Silent,
}

impl Trials {
    /// Those of a plan into this target.
    pub(super) async fn of(target: &mut Transaction) -> Result<Self, Error> {
        let mut encoding = String::new();
        if target.engine() == Engine::Sqlite {
            const DOING: &str = "reading the target's encoding";
            if let Some(row) = ask(target, "PRAGMA encoding", DOING).await?.first() {
                encoding = row.try_get("", "encoding").map_err(Error::answer(DOING))?;
            }
        }
        Ok(Self { encoding, patience: PATIENCE, memory: Place::Unopened })
    }

    /// The trial of a table, where the target has a CHECK that the source may not have: whoever was made by the same statement
    /// meets it. The write log is ours.
    pub(super) fn of_table<'t>(
        &'t mut self,
        structure: &'t Structure,
        pair: &'t Pair,
        (source, target): (&TableDetails, &'t TableDetails),
        samples: usize,
    ) -> Option<Trial<'t>> {
        let made_by = target.checked_by.as_deref().filter(|_| target.checked_by != source.checked_by && !pair.log)?;
        let names = pair.written(structure);
        let required = |name: &str| pair.target.column(name).is_some_and(|column| column.not_null);
        let required = pair.columns.iter().enumerate().filter(|(_, column)| column.copied && required(&column.name));
        Some(Trial {
            left: self.patience,
            trials: self,
            pair,
            made_by,
            tenant: pair.stored_tenant(structure).ok(),
            most: stored::most_rows(names.len()),
            names,
            required: required.map(|(position, _)| position).collect(),
            rows: Vec::new(),
            bytes: 0,
            stage: Stage::Before,
            broken: BTreeMap::new(),
            samples,
        })
    }
}

/// One table on trial.
pub(super) struct Trial<'t> {
    trials: &'t mut Trials,
    pair: &'t Pair,
    made_by: &'t str,
    /// The tenant's id in the target; none where its column cannot hold it.
    tenant: Option<Stored>,
    names: Vec<&'t str>,
    /// The positions of columns that the target requires.
    required: Vec<usize>,
    /// The most rows at a time.
    most: usize,
    /// Rows that have not been tried yet.
    rows: Vec<Row>,
    /// The bytes of their texts.
    bytes: usize,
    /// For how long it may go on.
    left: Duration,
    stage: Stage,
    /// How many rows break each constraint, and some of their keys.
    broken: BTreeMap<String, (u64, Vec<String>)>,
    samples: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The table is not there yet.
    Before,
    /// Rows are tried.
    Under,
    /// There was no answer once, and no row is tried any more.
    GivenUp,
}

impl Trial<'_> {
    /// One more row, of which nothing is known that stands in the way of its copy.
    pub(super) async fn row(&mut self, reading: &Reading, row: Row) {
        if self.stage == Stage::GivenUp {
            return;
        }
        // Refused as a null already. SQLite might put a default in its place, or say nothing of it.
        if self.required.iter().any(|&position| row.values.get(position).is_some_and(Option::is_none)) {
            return;
        }
        self.bytes += row.values.iter().flatten().map(String::len).sum::<usize>();
        self.rows.push(row);
        if self.rows.len() >= self.most || self.bytes >= stored::BYTES {
            self.flush(reading).await;
        }
    }

    /// Tries what is left. A row is named by the first constraint that it breaks; SQLite looks at no other then.
    pub(super) async fn end(mut self, reading: &Reading, refusals: &mut Vec<Refusal>, notes: &mut Vec<Note>) {
        self.flush(reading).await;
        if self.stage == Stage::Under {
            self.run(&format!("DROP TABLE {}", self.pair.target.into), Vec::new(), false).await;
        }
        // What was found before it was given up would end the copy all the same.
        for (constraint, (rows, keys)) in std::mem::take(&mut self.broken) {
            refusals.push(Refusal::Check { table: self.pair.name.clone(), constraint, rows, keys });
        }
        if self.stage == Stage::GivenUp {
            let table = self.pair.name.clone();
            let not_tried = notes.iter_mut().find_map(|note| match note {
                Note::ChecksNotTried { tables } => Some(tables),
                _ => None,
            });
            match not_tried {
                Some(tables) => tables.push(table),
                None => notes.push(Note::ChecksNotTried { tables: vec![table] }),
            }
        }
    }

    async fn flush(&mut self, reading: &Reading) {
        self.bytes = 0;
        let mut rows = std::mem::take(&mut self.rows);
        if self.stage == Stage::Before && !rows.is_empty() {
            self.make().await;
        }
        let Some(tenant) = self.tenant.clone().filter(|_| self.stage == Stage::Under) else { return };
        let mut values = Vec::with_capacity(rows.len() * self.names.len());
        let stores = |row: &Row, values: &mut Vec<Stored>| {
            let before = values.len();
            let sound = row.problems.is_empty() && self.pair.store(row, values).is_ok();
            if sound {
                values.push(tenant.clone());
            } else {
                values.truncate(before);
            }
            sound
        };
        rows.retain(|row| stores(row, &mut values));
        if rows.is_empty() {
            return;
        }
        let into = self.pair.target.into.as_str();
        // Which rows are alike is another question: those of a batch have nothing to do with the target's.
        let insert = |rows| format!("{} ON CONFLICT DO NOTHING", stored::insert(into, &self.names, rows));
        let (whole, single, delete) = (insert(rows.len()), insert(1), format!("DELETE FROM {into}"));
        match self.run(&whole, values, rows.len() == self.most).await {
            Answer::Done => {}
            Answer::Breaks(_) => {
                // Nothing of the statement stays, so that the rows are there to be tried one by one.
                for row in &rows {
                    let mut values = Vec::with_capacity(self.names.len());
                    if self.pair.store(row, &mut values).is_err() {
                        continue;
                    }
                    values.push(tenant.clone());
                    match self.run(&single, values, true).await {
                        Answer::Done => {}
                        Answer::Breaks(constraint) => {
                            let (rows, keys) = self.broken.entry(constraint).or_default();
                            *rows += 1;
                            if keys.len() < self.samples {
                                keys.push(reading.print_key(row));
                            }
                        }
                        Answer::Failed | Answer::Silent => break,
                    }
                }
            }
            Answer::Failed | Answer::Silent => return,
        }
        self.run(&delete, Vec::new(), true).await;
    }

    /// Makes the table in memory.
    async fn make(&mut self) {
        let is_column = |name: &str| has_column(&self.pair.target, name);
        let understood = statement::makes_one_table(self.made_by)
            && !statement::depends_on_more_than_columns(self.made_by, &is_column)
            && self.tenant.is_some();
        if !understood {
            self.stage = Stage::GivenUp;
            return;
        }
        if matches!(self.trials.memory, Place::Unopened) {
            self.trials.memory = Memory::open(&self.trials.encoding).await.map_or(Place::Lost, Place::Open);
        }
        self.stage = Stage::Under;
        self.run(self.made_by, Vec::new(), false).await;
    }

    /// Runs a statement for as long as there is time; what does not answer as it should ends the trial. `again` where it will be
    /// run again.
    async fn run(&mut self, sql: &str, values: Vec<Stored>, again: bool) -> Answer {
        let answer = match &mut self.trials.memory {
            // A statement of few instructions is not looked at while it runs.
            Place::Open(memory) if !self.left.is_zero() => {
                let begun = Instant::now();
                let answer = memory.run(sql, values, again, self.left).await;
                self.left = self.left.saturating_sub(begun.elapsed());
                answer
            }
            _ => Answer::Failed,
        };
        if answer == Answer::Silent {
            self.trials.memory = Place::Lost;
        }
        if matches!(answer, Answer::Failed | Answer::Silent) {
            self.stage = Stage::GivenUp;
        }
        answer
    }
}

fn has_column(table: &Table, name: &str) -> bool {
    table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name))
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use tenantry_connection::{Mode, Pool, PoolOptions, Session};
    use uuid::Uuid;

    use super::*;
    use crate::{Endpoint, Side, catalog, plan::read_structure};

    async fn end(directory: &tempfile::TempDir, name: &str, constraint: &str) -> Endpoint {
        let options = PoolOptions { create_if_missing: true, ..PoolOptions::default() };
        let url = format!("sqlite:{}/{name}.db", directory.path().display()).parse().unwrap();
        let pool = Pool::new(&url, None, &options).unwrap();
        let mut transaction = pool.begin(&Session::default(), Mode::Write).await.unwrap();
        for table in ["a", "b"] {
            let columns = "tenant_id uuid_text NOT NULL, id integer NOT NULL, PRIMARY KEY (tenant_id, id)";
            let sql = format!("CREATE TABLE {table} ({columns}{constraint})");
            transaction.execute_raw_sql(&sql).await.unwrap();
        }
        transaction.commit().await.unwrap();
        Endpoint::new(pool, Uuid::nil())
    }

    /// One table after the other, in a place that the second finds as the first has left it.
    #[tokio::test]
    async fn what_took_too_long_is_told_and_the_next_table_is_tried() {
        let directory = tempfile::tempdir().unwrap();
        let source = end(&directory, "source", "").await;
        let target = end(&directory, "target", ", CHECK (id <> 3)").await;
        let (mut from, mut to) = (source.snapshot().await.unwrap(), target.snapshot().await.unwrap());
        let structure = read_structure(&source, &target, &mut from, &mut to).await.unwrap().0;
        let details = (catalog::details(&mut from).await.unwrap(), catalog::details(&mut to).await.unwrap());
        let told = |table: &str| Note::ChecksNotTried { tables: vec![table.to_owned()] };
        let broken = |table: &str| Refusal::Check {
            table: table.to_owned(),
            constraint: "id <> 3".to_owned(),
            rows: 1,
            keys: vec!["3".to_owned()],
        };
        for (patience, refusals, notes) in [
            ([PATIENCE, PATIENCE], vec![broken("a"), broken("b")], vec![]),
            ([Duration::ZERO, PATIENCE], vec![broken("b")], vec![told("a")]),
            ([PATIENCE, Duration::ZERO], vec![broken("a")], vec![told("b")]),
        ] {
            let mut trials = Trials::of(&mut to).await.unwrap();
            assert_eq!(trials.encoding, "UTF-8");
            let mut found = (Vec::new(), Vec::new());
            for (pair, patience) in structure.pairs.iter().zip(patience) {
                trials.patience = patience;
                let reading = structure.reading(Side::Source, pair, true);
                let details = (&details.0.tables[&pair.name], &details.1.tables[&pair.name]);
                let mut trial = trials.of_table(&structure, pair, details, 5).unwrap();
                for id in 1..=1000 {
                    let id = Some(id.to_string());
                    trial.row(&reading, Row { values: vec![id], problems: Vec::new() }).await;
                }
                trial.flush(&reading).await;
                if let Place::Open(memory) = &mut trial.trials.memory
                    && trial.stage == Stage::Under
                {
                    let kept = format!(
                        "CREATE TABLE kept (rows CHECK (rows = 0)); INSERT INTO kept SELECT count(*) FROM {}; DROP TABLE kept",
                        pair.name
                    );
                    assert_eq!(
                        memory.run(&kept, Vec::new(), false, PATIENCE).await,
                        Answer::Done,
                        "rows that were tried"
                    );
                }
                trial.end(&reading, &mut found.0, &mut found.1).await;
            }
            assert_eq!(found, (refusals, notes), "{patience:?}");
        }
    }
}
