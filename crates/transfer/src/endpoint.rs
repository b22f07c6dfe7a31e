//! The two ends of a transfer.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use tenantry_connection::{Engine, Mode, Pool, Session, Transaction};
use tenantry_realm::TenantKey;

use crate::{
    Error, Interrupt,
    canonical::POSTGRES_SETTINGS,
    fence::{self, Stamp},
    quote::postgres_literal,
};

/// One end of a transfer: a database, and the tenant's id in it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// With the service login, which reads and writes every tenant's rows.
    pub pool: Pool,
    /// The tenant's id in this database.
    pub tenant: TenantKey,
    /// The column that holds it, in every tenant table.
    pub tenant_column: String,
    /// The run that writes here, whose the fence must be. Without one, whoever writes has made sure in another way.
    pub(crate) stamp: Option<Stamp>,
}

impl Endpoint {
    /// An end whose tenant column is called `tenant_id`.
    pub fn new(pool: Pool, tenant: impl Into<TenantKey>) -> Self {
        Self { pool, tenant: tenant.into(), tenant_column: "tenant_id".to_owned(), stamp: None }
    }

    /// The same end, whose tenant column has this name.
    #[must_use]
    pub fn with_tenant_column(self, name: impl Into<String>) -> Self {
        Self { tenant_column: name.into(), ..self }
    }

    /// The same end, as one run of a transfer writes there.
    pub(crate) fn stamped(&self, stamp: Stamp) -> Self {
        Self { stamp: Some(stamp), ..self.clone() }
    }

    pub(crate) fn engine(&self) -> Engine {
        self.pool.engine()
    }

    /// A snapshot to read canonical values from, unfiltered: where the role may bypass row-level security it does, so that a
    /// policy can never make rows disappear silently. Where it may not, the plan has looked at the policies.
    pub(crate) async fn snapshot(&self) -> Result<Transaction, Error> {
        self.reading("").await
    }

    /// Another transaction on a snapshot that one of PostgreSQL's has exported.
    pub(crate) async fn snapshot_of(&self, exported: &str) -> Result<Transaction, Error> {
        // Refused after anything that looks at a table.
        self.reading(&format!("SET TRANSACTION SNAPSHOT {}; ", postgres_literal(exported))).await
    }

    async fn reading(&self, first: &str) -> Result<Transaction, Error> {
        // Compiling a query takes longer than most that are asked here, and those of the catalogs look expensive; so does trying
        // every order of joins that are written in a good one.
        let first = match self.engine() {
            Engine::Postgres => {
                format!("{first}{POSTGRES_SETTINGS}; {PATIENCE}; SET LOCAL jit = off; {JOINS}; {BYPASS}")
            }
            Engine::Sqlite => String::new(),
        };
        let begun = self.pool.begin_with(&Session::default(), Mode::Snapshot, &first).await;
        begun.map_err(Error::database("beginning a snapshot"))
    }

    /// A transaction that writes this tenant's rows as they were: Tenantry's own triggers step aside.
    pub(crate) async fn write(&self) -> Result<Transaction, Error> {
        // The tenant is set for the transaction alone: a connection that is set to one serves the transfer's other questions last.
        let session = Session { transfer: true, ..Session::default() };
        let tenant = postgres_literal(&self.tenant.to_string());
        let first = match self.engine() {
            Engine::Postgres => {
                format!("SET LOCAL app.tenant_id = {tenant}; {POSTGRES_SETTINGS}; {PATIENCE}; {BYPASS}")
            }
            // Checked at the commit, so that rows may arrive before the rows they refer to.
            Engine::Sqlite => "PRAGMA defer_foreign_keys = ON".to_owned(),
        };
        let begun = self.pool.begin_with(&session, Mode::Write, &first).await;
        let mut transaction = begun.map_err(Error::database("beginning to write"))?;
        if let Some(stamp) = self.stamp {
            fence::hold(&mut transaction, &self.tenant, stamp).await?;
        }
        Ok(transaction)
    }
}

const JOINS: &str = "SET LOCAL join_collapse_limit = 1";

/// A role's own time-outs are made for requests. What a transfer waits for has deadlines of its own.
const PATIENCE: &str = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";

/// `row_security = off` turns a filtered read into an error, and is refused per statement to a role that policies apply to;
/// such a role reads through its own policy instead.
const BYPASS: &str = "SELECT set_config('row_security', 'off', true) FROM pg_roles \
     WHERE rolname = current_user AND (rolsuper OR rolbypassrls)";

/// Which end something was found at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Where the rows are.
    Source,
    /// Where they go.
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// How a transfer behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long raising a fence waits for the tenant's open writers before it gives up and changes nothing.
    pub fence_deadline: Duration,
    /// When the deadline is over, end the sessions that still write instead of giving up. What they had not committed is
    /// rolled back, as their users are told. It takes `pg_signal_backend`, or the writers' own role.
    pub end_writers: bool,
    /// The most keys that are named per finding. Findings are always counted in full.
    pub samples: usize,
    /// The most tables that are copied, or compared, at a time. Fewer where a pool has not the connections for it, one where the
    /// rows are few or SQLite is on either side.
    pub parallel: usize,
    /// Tables without a tenant column that are copied whole before the tenant's rows, because those refer to them. Rows that
    /// the target has already must be equal; none is ever changed or deleted there. They are recorded with a transfer: who goes on
    /// with it copies those, whatever is said here; a rollback copies these as well.
    pub reference_tables: Vec<String>,
    /// For how long a run is believed to live that has said nothing. Who goes on with the transfer of a process that was
    /// killed waits for so long.
    pub lease: Duration,
    /// For how long a server may answer nothing while a step waits for it. It is asked over a connection of its own, where the
    /// pool has one free. Then the step is given up, and what was done is taken back.
    pub silence: Duration,
    /// Who may ask it to end early.
    pub interrupt: Interrupt,
    /// How long a rollback waits before it deletes what it leaves behind: processes that have not heard of it yet read there.
    pub settle: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fence_deadline: Duration::from_secs(30),
            end_writers: false,
            samples: 5,
            parallel: 4,
            reference_tables: Vec::new(),
            lease: Duration::from_secs(20),
            silence: Duration::from_secs(30),
            interrupt: Interrupt::default(),
            settle: Duration::ZERO,
        }
    }
}
