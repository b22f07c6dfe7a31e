//! The attack: what the catalogs say is tried on the database itself, as the restricted role, over every tenant table.
//!
//! Two tenants are made up, A and B. In a transaction that is rolled back, A gets a row in the table, and then the same session
//! is B's, without a tenant (the empty text that a transaction leaves behind), or, in a session of its own, never had one. One
//! connection does both sides, because nobody else sees a row that was not committed; so nothing durable is ever made, and an
//! empty database is attacked like a full one. Rows that are there are attacked with them: B owns nothing, so whatever it
//! reaches is somebody's.
//!
//! | attack | as B | without a tenant |
//! |---|---|---|
//! | read; copy out | no row | refused: the setting is no tenant |
//! | insert a row of A; upsert A's row | refused by the policy | the same |
//! | update, delete | no row is reached | the same |
//! | take A's row by an update of the tenant column | no row is reached | the same |
//! | give B's row to A | refused by the policy or the trigger | the same |
//! | refer to A's row | refused by the foreign key | |
//! | insert a row with the key of A's | done: keys are each tenant's own | |
//! | read with `row_security` off; truncate | refused: no privilege | |
//! | copy in | refused: not with row-level security | |
//! | write while claiming to be a transfer | done, and logged | |
//! | become the service role or a superuser; silence triggers; create a table, a temporary one, too | refused: no privilege | |
//! | read after `RESET ROLE` | no row | |
//!
//! Anything else is a finding. A read, update or delete carries a condition that fails at the first row which it reaches, so
//! that an attack which goes through stops there and locks nothing; and since it reads no column, an update or a delete asks
//! the policies of its own command alone. Locks and statements are limited in time; a truncation, which would lock out readers
//! for a moment, gives up after a tenth of a second. What could not be decided in that time is told as undecided.

mod copy;
mod outcome;
mod rows;
mod tables;

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{DbBackend, Statement};
use tenantry_connection::{Error, Mode, Pool, Session, Transaction};
use tenantry_realm::TenantKeyType;
use uuid::Uuid;

use self::{
    outcome::{
        DONE, Expected, LOGGED, NO_ROW, NO_TENANT, NOT_COPIED, NOT_MOVED, NOT_PERMITTED, NOT_REFERRED, Outcome, State,
        TAKEN, settle,
    },
    rows::{Row, Rows, Tenant, Unmade},
    tables::{Outside, Reference, Right, Table},
};
use super::{Catalog, Finding, IsolationReport, TenantColumn};

/// A condition that fails at the first row which it is asked of. The planner cannot work it out beforehand.
const FAILS_AT_THE_FIRST_ROW: &str = "1 / (pg_catalog.random() * 0)::pg_catalog.int4 = 1";
/// Waits and statements are short: neighbours must not notice.
const LIMITS: &str =
    "SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '10s'; SET CONSTRAINTS ALL IMMEDIATE";

/// An attack on a table.
#[derive(Clone, Copy)]
struct Try<'a> {
    at: usize,
    name: &'a str,
    state: State,
    /// Where one of these is lacking, a refusal is all that can be expected.
    needs: &'a [Right],
    expected: Expected,
}

/// What went through, told of one object and attack: once, however often it did.
struct Breach {
    remedy: String,
    told: Vec<String>,
}

/// One data source under attack.
struct Attack<'a> {
    report: &'a mut IsolationReport,
    tables: &'a [Table],
    a: Tenant,
    b: Tenant,
    /// Tables at which the server gave up once: each further wait would be for nothing.
    stuck: BTreeSet<usize>,
    breaches: BTreeMap<(String, String), Breach>,
}

impl IsolationReport {
    /// Attacks the data source through a pool of its restricted login, one that has made no connection yet: a session that
    /// had a tenant once cannot be told to never have had one. Everything is rolled back; what went through is added to the
    /// findings. For a report that [`Self::measure`] gave for the same role.
    ///
    /// Dropped midway, it leaves the database as it was, and a report that says nothing about the rest.
    ///
    /// # Errors
    /// [`Error`] when the data source could not be reached, or the connection broke.
    pub async fn attack(&mut self, pool: &Pool, column: &TenantColumn) -> Result<(), Error> {
        let mut transaction = pool.begin(&Session::default(), Mode::Write).await?;
        transaction.execute_raw_sql(LIMITS).await?;
        let role = self.role.clone();
        let mut catalog = Catalog { transaction: &mut transaction, role: &role, column };
        let tables = tables::read(&mut catalog).await?;
        let outside = tables::outside(&mut catalog).await?;
        let [a, b] = [Tenant::made_up(column.key_type), Tenant::made_up(column.key_type)];
        let mut attack =
            Attack { report: self, tables: &tables, a, b, stuck: BTreeSet::new(), breaches: BTreeMap::new() };
        attack.without_a_tenant(transaction).await?;
        for at in 0..tables.len() {
            attack.table(pool, at).await?;
        }
        attack.around(pool, &outside).await?;
        attack.conclude();
        Ok(())
    }
}

impl Attack<'_> {
    /// A session that never had a tenant, over the rows that are there.
    async fn without_a_tenant(&mut self, mut transaction: Transaction) -> Result<(), Error> {
        let unset = "SELECT WHERE pg_catalog.current_setting('app.tenant_id', true) IS NULL";
        if transaction.execute(statement(unset)).await? == 0 {
            let note =
                "the server session had a tenant before, as behind a pooler: one that never had any was not tried";
            self.report.notes.push(note.to_owned());
        } else {
            transaction.execute_raw_sql("SAVEPOINT attack").await?;
            for (at, table) in self.tables.iter().enumerate() {
                let row = rows::without_parents(table, &self.a);
                self.as_nobody(&mut transaction, at, State::Unset, &row, false).await?;
            }
        }
        transaction.rollback().await
    }

    /// One table. The rows are made before the attacks, each of which begins where they were made.
    async fn table(&mut self, pool: &Pool, at: usize) -> Result<(), Error> {
        let (tables, a, b) = (self.tables, self.a.clone(), self.b.clone());
        let table = &tables[at];
        let mut transaction = pool.begin(&Session::default(), Mode::Write).await?;
        transaction.execute_raw_sql(LIMITS).await?;
        let mut rows = Rows::new(tables);
        let (mut row, mut own, mut referred) = (None, None, Vec::new());
        // Who may not write has no row of its own to attack with, and needs none.
        if table.rights.contains(&Right::Insert) {
            row = self.told(rows.insert(&mut transaction, at, &a).await?, at);
        }
        if row.is_some() {
            own = self.told(rows.prepare(&mut transaction, at, &b, true).await?, at);
            for key in &table.references {
                let theirs = rows.insert(&mut transaction, key.parent, &a).await?;
                referred.extend(self.told(theirs, at).map(|theirs| (key, theirs)));
            }
        }
        transaction.execute_raw_sql("SAVEPOINT attack").await?;
        let has_row = row.is_some();
        let row = row.unwrap_or_else(|| rows::without_parents(table, &a));
        self.as_another(&mut transaction, at, &row, has_row).await?;
        self.as_nobody(&mut transaction, at, State::Empty, &row, has_row).await?;
        if let Some(own) = own {
            self.keys(&mut transaction, at, (&own, &row), &referred).await?;
            self.own_row(&mut transaction, at, &own).await?;
        }
        self.copy_out(transaction, at).await
    }

    /// As B, who owns nothing in the table.
    async fn as_another(
        &mut self,
        transaction: &mut Transaction,
        at: usize,
        row: &Row,
        has_row: bool,
    ) -> Result<(), Error> {
        use Right::{Delete, Insert, Select, Truncate, Update};
        let table = &self.tables[at];
        let (target, column) = (&table.target, &table.tenant);
        let foreign = |name, needs, expected| Try { at, name, state: State::Foreign, needs, expected };
        let not_written = Expected { raised: !has_row, ..NOT_PERMITTED };
        let (read, take) = (read(table), self.take(table));
        let without_security = format!("SET LOCAL row_security = off; {read}");
        let as_oneself = format!("RESET ROLE; {read}");
        let truncate = format!("SET LOCAL lock_timeout = '100ms'; TRUNCATE {target}");
        for (attack, sql) in [
            (foreign("read", &[Select], NO_ROW), &read),
            (foreign("update", &[Update], NO_ROW), &update(table)),
            (foreign("delete", &[Delete], NO_ROW), &delete(table)),
            (foreign("take a row", &[Select, Update], NO_ROW), &take),
            (foreign("insert", &[], not_written), &insert(table, row)),
            (foreign("read with row_security off", &[Select], NOT_PERMITTED), &without_security),
            (foreign("read after RESET ROLE", &[Select], NO_ROW), &as_oneself),
            (foreign("truncate", &[Truncate], NOT_PERMITTED), &truncate),
        ] {
            self.attempt(transaction, attack, sql).await?;
        }
        if let Some(upsert) = upsert(table, row) {
            self.attempt(transaction, foreign("upsert", &[], not_written), &upsert).await?;
        }
        let copy_in = format!("COPY {target} ({column}) FROM STDIN");
        self.copy_in(transaction, foreign("copy in", &[Insert], NOT_COPIED), &copy_in).await
    }

    /// Without a tenant. Where the table may be empty, reaching nothing is right as well: then the policy was not asked.
    async fn as_nobody(
        &mut self,
        transaction: &mut Transaction,
        at: usize,
        state: State,
        row: &Row,
        has_row: bool,
    ) -> Result<(), Error> {
        use Right::{Delete, Insert, Select, Update};
        let table = &self.tables[at];
        let nobody = |name, needs, expected| Try { at, name, state, needs, expected };
        let not_reached = Expected { done: !has_row, ..NO_TENANT };
        let not_written = Expected { raised: !has_row, ..NO_TENANT };
        for (attack, sql) in [
            (nobody("read", &[Select], not_reached), &read(table)),
            (nobody("update", &[Update], not_reached), &update(table)),
            (nobody("delete", &[Delete], not_reached), &delete(table)),
            (nobody("take a row", &[Select, Update], not_reached), &self.take(table)),
            (nobody("insert", &[Insert], not_written), &insert(table, row)),
        ] {
            self.attempt(transaction, attack, sql).await?;
        }
        if let Some(upsert) = upsert(table, row) {
            self.attempt(transaction, nobody("upsert", &[Select, Insert, Update], not_written), &upsert).await?;
        }
        Ok(())
    }

    /// Rows of B with the key of A's, which are its own affair, and with references to rows of A.
    async fn keys(
        &mut self,
        transaction: &mut Transaction,
        at: usize,
        (own, row): (&Row, &Row),
        referred: &[(&Reference, Row)],
    ) -> Result<(), Error> {
        let table = &self.tables[at];
        let same = insert(table, &rows::with_key_of(table, own, row));
        let (name, state, expected) =
            ("insert a row with the key of another tenant's", State::Foreign, Expected { raised: true, ..DONE });
        self.attempt(transaction, Try { at, name, state, needs: &[], expected }, &same).await?;
        for (key, theirs) in referred {
            let mut referring = rows::with_a_new_key(table, own);
            for (column, other) in &key.pairs {
                referring.set(column, theirs.get(other).unwrap_or("NULL").to_owned());
            }
            let name = format!("refer to another tenant's row by {}", key.name);
            let expected = Expected { raised: true, ..NOT_REFERRED };
            let attack = Try { at, name: &name, state, needs: &[], expected };
            self.attempt(transaction, attack, &insert(table, &referring)).await?;
        }
        Ok(())
    }

    /// B's own row: it is logged, whatever its writer claims to be, and stays B's.
    async fn own_row(&mut self, transaction: &mut Transaction, at: usize, own: &Row) -> Result<(), Error> {
        let table = &self.tables[at];
        let (target, column, b) = (&table.target, &table.tenant, self.b.value.clone());
        let own = insert(table, own);
        let claim = format!("SET LOCAL tenantry.transfer = 'on'; {own}");
        let written = self.execute(transaction, State::Foreign, &claim).await?;
        if written != Outcome::Done {
            let note = format!("{}: a made-up row could not be moved: {written}", table.name);
            self.report.notes.push(note);
            return Ok(());
        }
        if let Some(logged_as) = &table.logged_as {
            let log = format!("SELECT FROM public.write_log WHERE {column} = {b} AND table_name = {logged_as} LIMIT 1");
            let entries = transaction.execute(statement(&log)).await?;
            let outcome = if entries == 0 { Outcome::Unlogged } else { Outcome::Done };
            let name = "write unlogged, claiming to be a transfer";
            self.judge(Try { at, name, state: State::Foreign, needs: &[], expected: LOGGED }, &outcome);
        }
        if self.breaches.contains_key(&(table.name.clone(), "update".to_owned())) {
            // It would give everybody's rows away.
            return Ok(());
        }
        // No column is read, so that the policies of reading have no say in it.
        let give = format!("UPDATE {target} SET {column} = {}", self.a.value);
        let (name, needs) = ("give a row away", &[Right::Update]);
        let try_in = |state, expected| Try { at, name, state, needs, expected };
        self.attempt(transaction, try_in(State::Foreign, NOT_MOVED), &format!("{own}; {give}")).await?;
        let emptied =
            format!("SET LOCAL app.tenant_id = '{}'; {own}; SET LOCAL app.tenant_id = ''; {give}", self.b.text);
        self.attempt(transaction, try_in(State::Empty, NO_TENANT), &emptied).await
    }

    /// What is around the tables: other roles, the triggers, the schema.
    async fn around(&mut self, pool: &Pool, outside: &[Outside]) -> Result<(), Error> {
        let mut transaction = pool.begin(&Session::default(), Mode::Write).await?;
        transaction.execute_raw_sql(LIMITS).await?;
        transaction.execute_raw_sql("SAVEPOINT attack").await?;
        for Outside { object, name, sql, remedy } in outside {
            let outcome = self.execute(&mut transaction, State::Foreign, sql).await?;
            if let Some(sqlstate) = outcome.undecided() {
                self.report.undecided.push(format!("{name}: the server gave up waiting or working ({sqlstate})"));
            } else if !NOT_PERMITTED.holds(&outcome) {
                self.tell(object, name, (State::Foreign, NOT_PERMITTED), &outcome, remedy);
            }
        }
        transaction.rollback().await
    }

    async fn attempt(&mut self, transaction: &mut Transaction, attack: Try<'_>, sql: &str) -> Result<(), Error> {
        if self.stuck.contains(&attack.at) {
            return Ok(());
        }
        let outcome = self.execute(transaction, attack.state, sql).await?;
        self.judge(attack, &outcome);
        Ok(())
    }

    /// As [`Self::attempt`], for a `COPY` into a table, which the driver does by itself.
    async fn copy_in(&mut self, transaction: &mut Transaction, attack: Try<'_>, sql: &str) -> Result<(), Error> {
        if self.stuck.contains(&attack.at) {
            return Ok(());
        }
        self.report.attacks += 1;
        transaction.execute_raw_sql(&self.enter(attack.state)).await?;
        let data_source = transaction.url().clone();
        let failed = copy::copy_in(transaction, sql).await?;
        let outcome = match failed {
            None => Outcome::Done,
            Some(error) => match error.as_database_error().and_then(|error| error.code()) {
                Some(sqlstate) => Outcome::Refused(sqlstate.into_owned()),
                None => return Err(Error::Statement { data_source, source: Box::new(error) }),
            },
        };
        self.judge(attack, &outcome);
        Ok(())
    }

    /// A `COPY` out of a table, and the end of the transaction: after a refusal the driver takes its end for that of the next
    /// statement, so that the connection is closed. A table that can be read is left alone, because everything in it would have
    /// to be received, and so is one that may not be read at all.
    async fn copy_out(&mut self, mut transaction: Transaction, at: usize) -> Result<(), Error> {
        let table = &self.tables[at];
        let is_read = self.breaches.contains_key(&(table.name.clone(), "read".to_owned()));
        if is_read || self.stuck.contains(&at) || !table.rights.contains(&Right::Select) {
            return transaction.rollback().await;
        }
        self.report.attacks += 1;
        transaction.execute_raw_sql(&self.enter(State::Foreign)).await?;
        let data_source = transaction.url().clone();
        let sql = format!("COPY {} TO STDOUT", table.target);
        let (reached, failed) = copy::copy_out(&mut transaction, &sql).await?;
        let attack = Try { at, name: "copy out", state: State::Foreign, needs: &[Right::Select], expected: NO_ROW };
        let Some(error) = failed else {
            self.judge(attack, &if reached { Outcome::Reached } else { Outcome::Done });
            return transaction.rollback().await;
        };
        match error.as_database_error().and_then(|error| error.code()) {
            Some(sqlstate) => self.judge(attack, &Outcome::Refused(sqlstate.into_owned())),
            None => return Err(Error::Statement { data_source, source: Box::new(error) }),
        }
        Ok(())
    }

    /// One message: what the attack before it did is undone, the session is set, and the statements are run.
    async fn execute(&mut self, transaction: &mut Transaction, state: State, sql: &str) -> Result<Outcome, Error> {
        self.report.attacks += 1;
        settle(transaction.execute_raw_sql(&format!("{}; {sql}", self.enter(state))).await)
    }

    fn enter(&self, state: State) -> String {
        let tenant = match state {
            State::Foreign => self.b.text.as_str(),
            State::Empty => "",
            State::Unset => return "ROLLBACK TO SAVEPOINT attack".to_owned(),
        };
        format!("ROLLBACK TO SAVEPOINT attack; SET LOCAL app.tenant_id = '{tenant}'")
    }

    fn take(&self, table: &Table) -> String {
        let (target, column) = (&table.target, &table.tenant);
        let (a, b) = (&self.a.value, &self.b.value);
        format!("UPDATE {target} SET {column} = {b} WHERE {column} = {a} AND {FAILS_AT_THE_FIRST_ROW}")
    }

    fn judge(&mut self, attack: Try<'_>, outcome: &Outcome) {
        let table = &self.tables[attack.at];
        let lacking = !attack.needs.iter().all(|right| table.rights.contains(right));
        if let Some(sqlstate) = outcome.undecided() {
            self.give_up(attack.at, sqlstate);
        } else if !(attack.expected.holds(outcome) || lacking && NOT_PERMITTED.holds(outcome)) {
            self.tell(&table.name, attack.name, (attack.state, attack.expected), outcome, &table.revoke);
        }
    }

    fn give_up(&mut self, at: usize, sqlstate: &str) {
        if self.stuck.insert(at) {
            let undecided = format!("{}: the server gave up waiting or working ({sqlstate})", self.tables[at].name);
            self.report.undecided.push(undecided);
        }
    }

    fn tell(
        &mut self,
        object: &str,
        name: &str,
        (state, expected): (State, Expected),
        outcome: &Outcome,
        remedy: &str,
    ) {
        let told = format!("{state} {outcome}, where {}", expected.words);
        let breach = self
            .breaches
            .entry((object.to_owned(), name.to_owned()))
            .or_insert_with(|| Breach { remedy: remedy.to_owned(), told: Vec::new() });
        if !breach.told.contains(&told) {
            breach.told.push(told);
        }
    }

    /// The row, or a note why there is none. A key of nobody's that was taken is somebody else's.
    fn told(&mut self, made: Result<Row, Unmade>, at: usize) -> Option<Row> {
        let Unmade { reason, refused } = match made {
            Ok(row) => return Some(row),
            Err(unmade) => unmade,
        };
        let table = &self.tables[at];
        match refused {
            Some(outcome) if outcome.undecided().is_some() => {
                self.give_up(at, outcome.undecided().unwrap_or_default());
            }
            Some(outcome) if outcome == Outcome::Refused(TAKEN.to_owned()) => {
                self.tell(&table.name, "insert a row with a new key", (State::Foreign, DONE), &outcome, &table.revoke);
            }
            _ => {
                let note = format!("{} was attacked with fewer rows than two tenants have: {reason}", table.name);
                if !self.report.notes.contains(&note) {
                    self.report.notes.push(note);
                }
            }
        }
        None
    }

    /// Turns what went through into findings. What the catalogs show explains it, and is to be mended first; where they show
    /// nothing, only taking the privilege away is known to help.
    fn conclude(self) {
        let explained = !self.report.findings.is_empty();
        for ((object, name), Breach { remedy, told }) in self.breaches {
            let problem = format!("an attack went through, {name}: {}", told.join(", "));
            let remedy = if explained { "mend what else is found, and check again".to_owned() } else { remedy };
            self.report.findings.push(Finding { object, problem, remedy, attack: Some(name) });
        }
    }
}

impl Tenant {
    /// A tenant that nobody is.
    fn made_up(key_type: TenantKeyType) -> Self {
        let id = Uuid::new_v4();
        let text = match key_type {
            TenantKeyType::Uuid => id.to_string(),
            // Far from where numbers are given out, and positive as they are.
            TenantKeyType::BigInt => ((id.as_u128() >> 66) + (1 << 62)).to_string(),
            TenantKeyType::Text => format!("tenantry-attack-{id}"),
        };
        Self { value: format!("'{text}'"), text }
    }
}

fn insert(table: &Table, row: &Row) -> String {
    let overriding = if table.columns.iter().any(|column| column.identity) { " OVERRIDING SYSTEM VALUE" } else { "" };
    format!(
        "INSERT INTO {} ({}){overriding} VALUES ({})",
        table.target,
        row.columns().join(", "),
        row.values().join(", ")
    )
}

/// None where no key could collide.
fn upsert(table: &Table, row: &Row) -> Option<String> {
    let (key, column) = (table.key.as_ref()?, &table.tenant);
    Some(format!("{} ON CONFLICT ({key}) DO UPDATE SET {column} = excluded.{column}", insert(table, row)))
}

fn read(table: &Table) -> String {
    format!("SELECT FROM {} WHERE {FAILS_AT_THE_FIRST_ROW}", table.target)
}

fn update(table: &Table) -> String {
    format!("UPDATE {} SET {} = DEFAULT WHERE {FAILS_AT_THE_FIRST_ROW}", table.target, table.settable)
}

fn delete(table: &Table) -> String {
    format!("DELETE FROM {} WHERE {FAILS_AT_THE_FIRST_ROW}", table.target)
}

fn statement(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Postgres, sql)
}
