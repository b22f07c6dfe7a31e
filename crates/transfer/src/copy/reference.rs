//! Reference tables, copied whole before the rows that refer to them, in a transaction of their own.
//!
//! Other tenants' rows at the target may refer to them as well. So a row that is there is left as it is, one that differs ends
//! the transfer, and nothing that was added is ever taken back: not by an abort, not by a purge. Two transfers may bring the
//! same table at once: the later one waits for the earlier one's rows and compares itself with them.

use sea_orm::{Statement, Value};
use tenantry_connection::{Engine, Transaction};

use crate::{
    Endpoint, Error, Prepared, Progress, Side,
    canonical::{self, Stored},
    kind::Kind,
    plan::{Pair, PlannedColumn, Structure},
    quote,
    rows::{Row, backend, comparable, count},
};

/// Bound values of one statement, below both engines' limits.
const VALUES: usize = 20_000;

/// More rows in one statement gain nothing.
const ROWS: usize = 200;

const STAGE: &str = "tenantry_reference";

/// Copies the plan's reference tables. Call it while both ends are fenced, before any row that refers to them is written.
///
/// Cancel-safe: until the last statement nothing is committed.
///
/// # Errors
/// [`Error::ReferenceDiffers`]; [`Error::Value`], [`Error::Database`], [`Error::Driver`]. The target is as it was.
pub(crate) async fn copy(
    source: &Endpoint,
    target: &Endpoint,
    prepared: &Prepared,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let Prepared { plan, structure } = prepared;
    if plan.reference_tables.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = plan.reference_tables.iter().map(|table| table.name.clone()).collect();
    let (mut from, mut to) = (source.snapshot().await?, target.write().await?);
    // What they would refuse, the plan has refused.
    let pairs = structure.reference_tables(&names, &mut Vec::new());
    for (pair, planned) in pairs.iter().zip(&plan.reference_tables) {
        progress.table(&pair.name, planned.rows);
        Table { structure, pair }.copy(&mut from, &mut to, progress).await?;
    }
    to.commit().await.map_err(Error::database("committing reference tables"))?;
    from.rollback().await.map_err(Error::database("ending the snapshot"))
}

struct Table<'a> {
    structure: &'a Structure,
    pair: &'a Pair,
}

impl Table<'_> {
    async fn copy(&self, from: &mut Transaction, to: &mut Transaction, progress: &dyn Progress) -> Result<(), Error> {
        let (engine, into) = (to.engine(), &self.pair.target.into);
        let names = quote::identifiers(self.copied().map(|(_, column)| column.name.as_str()));
        let (stage, prepare) = match engine {
            Engine::Postgres => (
                format!("pg_temp.{STAGE}"),
                format!(
                    "CREATE TEMPORARY TABLE pg_temp.{STAGE} ON COMMIT DROP AS SELECT {names} FROM {into} WITH NO DATA"
                ),
            ),
            Engine::Sqlite => (
                format!("temp.{STAGE}"),
                format!("CREATE TEMPORARY TABLE {STAGE} AS SELECT {names} FROM {into} WHERE 0"),
            ),
        };
        to.execute_raw_sql(&prepare).await.map_err(Error::database(self.doing("preparing to copy")))?;
        self.fill(&stage, from, to, progress).await?;

        let insert = match engine {
            Engine::Postgres => format!(
                "INSERT INTO {into} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM {stage} ON CONFLICT DO NOTHING"
            ),
            // Without a WHERE the parser takes ON for a join's.
            Engine::Sqlite => {
                format!("INSERT INTO {into} ({names}) SELECT {names} FROM {stage} WHERE true ON CONFLICT DO NOTHING")
            }
        };
        self.run(to, insert, Vec::new()).await?;

        let same: Vec<String> = self
            .copied()
            .map(|(position, column)| {
                let name = quote::identifier(&column.name);
                let is_key = self.pair.key.as_ref().is_some_and(|key| key.contains(&position));
                match engine {
                    Engine::Postgres if is_key => format!("p.{name} = s.{name}"),
                    Engine::Postgres => format!("p.{name}::text IS NOT DISTINCT FROM s.{name}::text"),
                    Engine::Sqlite => {
                        let side = |alias: &str| comparable(engine, &format!("{alias}.{name}"), column.target);
                        format!("{} IS {}", side("p"), side("s"))
                    }
                }
            })
            .collect();
        let condition = format!(
            "NOT EXISTS (SELECT 1 FROM {} AS p WHERE {})",
            self.pair.target.from,
            if same.is_empty() { "true".to_owned() } else { same.join(" AND ") }
        );
        let rows = count(to, &format!("{stage} AS s"), &condition).await?;
        if rows > 0 {
            return Err(Error::ReferenceDiffers { table: self.pair.name.clone(), rows });
        }
        let done = format!("DROP TABLE {stage}");
        to.execute_raw_sql(&done).await.map_err(Error::database(self.doing("copying")))?;
        if engine == Engine::Postgres { self.advance_sequences(to).await } else { Ok(()) }
    }

    /// Every row of the source, as it is to be stored.
    async fn fill(
        &self,
        stage: &str,
        from: &mut Transaction,
        to: &mut Transaction,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let columns: Vec<(usize, &PlannedColumn)> = self.copied().collect();
        let most = (VALUES / columns.len().max(1)).clamp(1, ROWS);
        let reading = self.structure.whole(Side::Source, self.pair, false);
        let mut rows = reading.open(from).await?;
        let (mut values, mut batch) = (Vec::new(), 0);
        loop {
            let row = rows.next().await?;
            if let Some(row) = &row {
                if let Some(&(position, problem)) = row.problems.first() {
                    return Err(self.value(reading.print_key(row), position, problem));
                }
                for &(position, column) in &columns {
                    let value = self.stored(to.engine(), column.target, row, position);
                    values.push(value.map_err(|problem| self.value(reading.print_key(row), position, problem))?);
                }
                batch += 1;
            }
            if batch == most || (row.is_none() && batch > 0) {
                let sql = self.insert(to.engine(), stage, &columns, batch);
                self.run(to, sql, std::mem::take(&mut values)).await?;
                progress.advance(&self.pair.name, batch as u64);
                batch = 0;
            }
            if row.is_none() {
                return Ok(());
            }
        }
    }

    fn insert(&self, engine: Engine, stage: &str, columns: &[(usize, &PlannedColumn)], rows: usize) -> String {
        let names = quote::identifiers(columns.iter().map(|(_, column)| column.name.as_str()));
        let mut number = 0;
        let mut row = || {
            let fields = columns.iter().map(|(_, column)| {
                number += 1;
                let declared = self.pair.target.column(&column.name).map_or("text", |column| column.declared.as_str());
                match (engine, column.target) {
                    (Engine::Sqlite, _) => "?".to_owned(),
                    (Engine::Postgres, Kind::Bytes) => format!("pg_catalog.decode(${number}::text, 'hex')"),
                    // The server reads the text as the column's own type; the name of the type is the server's, too.
                    (Engine::Postgres, _) => format!("${number}::text::{declared}"),
                }
            });
            format!("({})", fields.collect::<Vec<_>>().join(", "))
        };
        let rows: Vec<String> = (0..rows).map(|_| row()).collect();
        format!("INSERT INTO {stage} ({names}) VALUES {}", rows.join(", "))
    }

    fn stored(&self, engine: Engine, kind: Kind, row: &Row, position: usize) -> Result<Value, canonical::Problem> {
        let text = row.values.get(position).and_then(Option::as_deref);
        Ok(match (engine, text) {
            (_, None) => Value::String(None),
            (Engine::Postgres, Some(text)) => text.to_owned().into(),
            (Engine::Sqlite, Some(text)) => match canonical::to_sqlite(kind, text)? {
                Stored::Null => Value::String(None),
                Stored::Integer(number) => number.into(),
                Stored::Real(number) => number.into(),
                Stored::Text(text) => text.into(),
                Stored::Blob(bytes) => bytes.into(),
            },
        })
    }

    /// As for the tenant's own rows: on with `nextval`, which never moves a sequence back.
    async fn advance_sequences(&self, to: &mut Transaction) -> Result<(), Error> {
        for (_, copied) in self.copied() {
            let column = self.pair.target.column(&copied.name);
            let Some(sequence) = column.and_then(|column| column.sequence.as_ref()) else { continue };
            let literal = quote::postgres_literal(sequence);
            let sql = format!(
                "SELECT CASE WHEN gap > 1000000 THEN setval({literal}, highest) \
                 ELSE (SELECT max(nextval({literal})) FROM generate_series(1, gap)) END \
                 FROM (SELECT m.highest, m.highest - s.last_value + (NOT s.is_called)::int AS gap FROM {sequence} AS s, \
                 (SELECT max({})::bigint AS highest FROM {}) AS m) AS g WHERE gap > 0",
                quote::identifier(&copied.name),
                self.pair.target.from,
            );
            to.execute_raw_sql(&sql).await.map_err(Error::database(self.doing("moving on the sequences of")))?;
        }
        Ok(())
    }

    fn copied(&self) -> impl Iterator<Item = (usize, &PlannedColumn)> {
        self.pair.columns.iter().enumerate().filter(|(_, column)| column.copied)
    }

    async fn run(&self, to: &mut Transaction, sql: String, values: Vec<Value>) -> Result<(), Error> {
        let statement = Statement::from_sql_and_values(backend(to.engine()), sql, values);
        to.execute(statement).await.map(drop).map_err(Error::database(self.doing("copying")))
    }

    fn value(&self, key: String, position: usize, problem: canonical::Problem) -> Error {
        Error::Value {
            side: Side::Source,
            table: self.pair.name.clone(),
            column: self.pair.columns.get(position).map(|column| column.name.clone()).unwrap_or_default(),
            key,
            problem,
        }
    }

    fn doing(&self, doing: &str) -> String {
        format!("{doing} {}", self.pair.name)
    }
}
