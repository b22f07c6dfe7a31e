//! What moves are measured on: two private servers, a tenant among others on one of them, and what psql is to copy.
//!
//! ```text
//! source  from    items, protected: the tenants that are moved        only   one tenant's rows, unprotected, for pg_dump
//!         quiet   one of them with a tenth of the neighbours
//!         sample  the 253 records in 13 tables                        few    the same records and no others
//! target  to, to_few   protected and empty                            twin, twin_few   unprotected and empty
//! ```
//! What psql writes into has the columns, keys and indexes of the other and nothing else. All log in as the superuser: without that, psql
//! could neither read nor write a table under forced row-level security with COPY.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sea_orm_migration::MigratorTrait;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tenantry::app_db::{NewDataSource, NewPlacement, NewTenant};
use tenantry::connection::{Actor, DataSourceUrl, Pool, PoolOptions, PoolerMode};
use tenantry::credential::Login;
use tenantry::migrations::{Migrator, TenantDataMigrator, TenantDataSettings, prepare_tenant_data};
use tenantry_test_support::cluster::{Cluster, ClusterOptions, Database};
use tenantry_test_support::sample::{self, SampleTenant, TENANTS};
use uuid::Uuid;

use super::schema::{self, Items};
use super::{SERVER_SETTINGS, blocking, connect};
use crate::Error;

/// The program that moves one tenant and ends.
const PROGRAM: &str = "tenantry-bench-move";

/// Rows of the smallest move that memory is compared with.
pub const SMALLEST: u64 = 10_000;

/// The databases and the application database that each move begins with.
pub struct Moves {
    /// Rows of the tenant that psql copies, too.
    pub rows: u64,
    from: Database,
    quiet: Database,
    only: Database,
    sample: Database,
    few: Database,
    to: Database,
    to_few: Database,
    twin: Database,
    twin_few: Database,
    app_db: PathBuf,
    program: PathBuf,
    directory: TempDir,
}

/// A tenant that can be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenant {
    /// As many rows as there are, divided by this; among twice as many.
    Part(u64),
    /// A sixteenth of the rows, among a tenth of the neighbours.
    Quiet,
    /// [`SMALLEST`].
    Smallest,
    /// 253 records in 13 tables.
    Sample,
}

/// What the program is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The application database's file.
    pub app_db: PathBuf,
    /// The tenant.
    pub tenant: Uuid,
    /// Where it is.
    pub source: End,
    /// Where it goes.
    pub target: End,
}

/// A database and a login.
#[derive(Debug, Serialize, Deserialize)]
pub struct End {
    /// Its URL.
    pub url: String,
    /// The login's user.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// What the program answers.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Moved {
    /// Rows that were verified.
    pub rows: u64,
    /// How long copying alone took, in seconds.
    pub copying: f64,
    /// The most resident memory, in bytes; 0 where the system does not tell it.
    pub peak: u64,
}

impl Moves {
    /// Starts both servers and fills them.
    ///
    /// # Errors
    /// Whatever could not be made.
    pub async fn new(rows: u64) -> Result<Self, Error> {
        let start = || {
            let options = ClusterOptions {
                settings: SERVER_SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
                ..ClusterOptions::default()
            };
            let (source, target) = (Cluster::start_with(&options)?, Cluster::start_with(&options)?);
            let on = |cluster: &Cluster, names: [&str; 5]| {
                names.into_iter().map(|name| cluster.create_database(name)).collect::<Result<Vec<_>, _>>()
            };
            Ok::<_, tenantry_test_support::cluster::ClusterError>((
                on(&source, ["from", "quiet", "only", "sample", "few"])?,
                on(&target, ["to", "to_few", "twin", "twin_few", "spare"])?,
            ))
        };
        let (sources, targets) = blocking("start the servers", start).await?;
        let wrong = || Error::Wrong("five databases were made on each server".to_owned());
        let [from, quiet, only, sample, few]: [Database; 5] = sources.try_into().map_err(|_| wrong())?;
        let [to, to_few, twin, twin_few, _]: [Database; 5] = targets.try_into().map_err(|_| wrong())?;
        let directory = tempfile::tempdir().map_err(Error::doing("make a folder"))?;
        let app_db = directory.path().join("app.db");
        let program = std::env::current_exe().map_err(Error::doing("find this program"))?.with_file_name(PROGRAM);
        let moves =
            Self { rows, from, quiet, only, sample, few, to, to_few, twin, twin_few, app_db, program, directory };
        moves.fill().await?;
        Ok(moves)
    }

    async fn fill(&self) -> Result<(), Error> {
        let tenantry = connect(&self.app_db, 2).await?;
        let parts =
            [Tenant::Part(1), Tenant::Part(4), Tenant::Part(16), Tenant::Smallest].map(|part| (part, &self.from));
        let others = [(Tenant::Quiet, &self.quiet), (Tenant::Sample, &self.sample)];
        for (number, (tenant, database)) in parts.into_iter().chain(others).enumerate() {
            let url: DataSourceUrl = database.url().parse().map_err(Error::doing("read a data source's URL"))?;
            let saved = tenantry.app_db().upsert_data_source(&NewDataSource::new(url.clone()), &Actor::default()).await;
            saved.map_err(Error::doing("write a data source's row"))?;
            let name = format!("tenant-{number}");
            // Nobody opens it; the application database wants a login for each access.
            let sealed = Some("v1:default:aXZpdml2:dGFndGFn:c2VhbGVk".to_owned());
            let (anon_key, service_key) = (sealed.clone(), sealed);
            let placement = NewPlacement { url: Some(url), anon_key, service_key, ..NewPlacement::default() };
            let new = NewTenant { id: self.id(tenant), placement, ..NewTenant::new(name.clone(), name) };
            let created = tenantry.app_db().create_tenant(&new, &Actor::default()).await;
            created.map_err(Error::doing("create a tenant"))?;
        }
        tenantry.close().await;

        for database in [&self.from, &self.quiet, &self.to] {
            migrated::<Migrator<Items>>(database).await?;
        }
        migrated::<TenantDataMigrator>(&self.to_few).await?;
        let owner = |database: &Database, sql: &str| run(database, &database.service, sql);
        owner(&self.only, schema::PLAIN)?;
        owner(&self.twin, schema::PLAIN)?;

        let (rows, sixteenth) = (self.rows, self.rows / 16);
        let neighbour = schema::tenant_id(99);
        let fill = |database: &Database, tenant: Uuid, rows: u64| superuser(database, &schema::fill_one(tenant, rows));
        fill(&self.from, self.id(Tenant::Part(1)), rows)?;
        fill(&self.from, neighbour, rows)?;
        fill(&self.from, self.id(Tenant::Part(4)), rows / 4)?;
        fill(&self.from, self.id(Tenant::Part(16)), sixteenth)?;
        fill(&self.from, self.id(Tenant::Smallest), SMALLEST)?;
        fill(&self.quiet, self.id(Tenant::Quiet), sixteenth)?;
        fill(&self.quiet, neighbour, (rows * 2 + rows / 4) / 10)?;
        fill(&self.only, self.id(Tenant::Part(1)), rows)?;
        self.fill_sample().await?;
        for database in [&self.from, &self.quiet, &self.only, &self.sample, &self.few] {
            superuser(database, "VACUUM (ANALYZE, FREEZE)")?;
        }
        superuser(&self.from, "CHECKPOINT")
    }

    /// The sample as the single database that it was, and the same with one tenant only; the empty twin has its tables.
    async fn fill_sample(&self) -> Result<(), Error> {
        let tenant = sample_tenant()?;
        for database in [&self.sample, &self.few] {
            let created = sample::create_postgres(&database.url_with(&database.service)).await;
            created.map_err(Error::doing("write the sample"))?;
        }
        let others: Vec<String> = tenant
            .counts()
            .iter()
            .map(|(table, _)| format!("DELETE FROM {table} WHERE tenant_id <> '{}'", tenant.id))
            .collect();
        superuser(&self.few, &format!("SET session_replication_role = replica; {}", others.join("; ")))?;
        let mut dump = self.program("pg_dump", &self.few);
        dump.args(["--schema-only", "--no-owner", "--no-privileges"]).args(self.sample_tables(tenant));
        pipe(dump, self.program("psql", &self.twin_few)).map(drop)
    }

    fn sample_tables(&self, tenant: &SampleTenant) -> Vec<String> {
        tenant.counts().iter().map(|(table, _)| format!("--table=public.{table}")).collect()
    }

    fn id(&self, tenant: Tenant) -> Uuid {
        match tenant {
            Tenant::Part(part) => schema::tenant_id(usize::try_from(part).unwrap_or_default()),
            Tenant::Quiet => schema::tenant_id(17),
            Tenant::Smallest => schema::tenant_id(50),
            Tenant::Sample => TENANTS[0].id,
        }
    }

    /// Moves a tenant by a program of its own and says how long that took from its start to its end. Before, whatever an earlier
    /// move left is taken away.
    ///
    /// # Errors
    /// What the program said, or a move of another number of rows.
    pub fn move_tenant(&self, tenant: Tenant) -> Result<(Duration, Moved), Error> {
        let (source, target, expected) = match tenant {
            Tenant::Part(part) => (&self.from, &self.to, self.rows / part),
            Tenant::Quiet => (&self.quiet, &self.to, self.rows / 16),
            Tenant::Smallest => (&self.from, &self.to, SMALLEST),
            Tenant::Sample => (&self.sample, &self.to_few, sample_tenant()?.total()),
        };
        self.clean(source, target)?;
        // Another name each time: an earlier one has left its write-ahead log.
        let app_db = self.directory.path().join(format!("moving-{}.db", Uuid::new_v4()));
        std::fs::copy(&self.app_db, &app_db).map_err(Error::doing("copy the application database"))?;
        let end = |database: &Database| End {
            url: database.url(),
            user: database.superuser.user.clone(),
            password: database.superuser.password.clone(),
        };
        let request = Request { app_db, tenant: self.id(tenant), source: end(source), target: end(target) };
        let request = serde_json::to_vec(&request).map_err(Error::doing("write the request"))?;
        let file = self.directory.path().join("request.json");
        std::fs::write(&file, request).map_err(Error::doing("write the request"))?;
        let input = std::fs::File::open(&file).map_err(Error::doing("open the request"))?;
        let begin = Instant::now();
        let output = Command::new(&self.program)
            .stdin(input)
            .output()
            .map_err(Error::doing(format!("start {}", self.program.display())))?;
        let took = begin.elapsed();
        if !output.status.success() {
            return Err(Error::Wrong(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()));
        }
        let moved: Moved = serde_json::from_slice(&output.stdout).map_err(Error::doing("read its answer"))?;
        if moved.rows == expected {
            Ok((took, moved))
        } else {
            Err(Error::Wrong(format!("{} rows were moved and {expected} should have been", moved.rows)))
        }
    }

    /// The same rows by `psql COPY (binary) | psql COPY`.
    ///
    /// # Errors
    /// What psql said.
    pub fn psql(&self) -> Result<Duration, Error> {
        self.clean(&self.from, &self.twin)?;
        let out = format!(
            "COPY (SELECT * FROM items WHERE tenant_id = '{}') TO STDOUT (FORMAT binary)",
            self.id(Tenant::Part(1))
        );
        let (mut from, mut to) = (self.program("psql", &self.from), self.program("psql", &self.twin));
        from.args(["-c", &out]);
        to.args(["-c", "COPY items FROM STDIN (FORMAT binary)"]);
        let took = pipe(from, to)?;
        self.check(&self.twin, "items", self.rows)?;
        Ok(took)
    }

    /// The same rows by `pg_dump --data-only | psql`, out of a database that has no others.
    ///
    /// # Errors
    /// What they said.
    pub fn pg_dump(&self) -> Result<Duration, Error> {
        self.clean(&self.from, &self.twin)?;
        let mut dump = self.program("pg_dump", &self.only);
        dump.args(["--data-only", "--table=public.items"]);
        let took = pipe(dump, self.program("psql", &self.twin))?;
        self.check(&self.twin, "items", self.rows)?;
        Ok(took)
    }

    /// The sample's records by `pg_dump --data-only | psql`.
    ///
    /// # Errors
    /// What they said.
    pub fn pg_dump_sample(&self) -> Result<Duration, Error> {
        let tenant = sample_tenant()?;
        let tables: Vec<&str> = tenant.counts().iter().map(|(table, _)| *table).collect();
        superuser(&self.twin_few, &format!("TRUNCATE {}", tables.join(", ")))?;
        let mut dump = self.program("pg_dump", &self.few);
        dump.arg("--data-only").args(self.sample_tables(tenant));
        let took = pipe(dump, self.program("psql", &self.twin_few))?;
        let counts: Vec<String> = tables.iter().map(|table| format!("(SELECT count(*) FROM {table})")).collect();
        self.check(&self.twin_few, &format!("generate_series(1, {})", counts.join(" + ")), tenant.total())?;
        Ok(took)
    }

    fn check(&self, database: &Database, from: &str, expected: u64) -> Result<(), Error> {
        let found = psql(database, &database.superuser, &format!("SELECT count(*) FROM {from}"))?;
        if found.trim() == expected.to_string() {
            Ok(())
        } else {
            Err(Error::Wrong(format!("psql copied {} rows of {expected}", found.trim())))
        }
    }

    /// Empties a target and lowers every fence.
    fn clean(&self, source: &Database, target: &Database) -> Result<(), Error> {
        const LOWER: &str =
            "DO $$ BEGIN IF to_regclass('tenantry.fence') IS NOT NULL THEN DELETE FROM tenantry.fence; END IF; END $$";
        let tables = psql(
            target,
            &target.superuser,
            "SELECT coalesce(string_agg(quote_ident(tablename), ', '), '') FROM pg_tables WHERE schemaname = 'public' \
             AND EXISTS (SELECT FROM information_schema.columns AS c WHERE c.table_schema = schemaname \
             AND c.table_name = tablename AND c.column_name = 'tenant_id')",
        )?;
        superuser(target, &format!("SET session_replication_role = replica; TRUNCATE {}; {LOWER}", tables.trim()))?;
        superuser(source, LOWER)
    }

    fn program(&self, name: &str, database: &Database) -> Command {
        let mut command = Command::new(database.cluster().bindir().join(name));
        let port = database.port.to_string();
        let login = &database.superuser;
        command.args(["-h", &database.host, "-p", &port, "-U", &login.user, "-d", &database.name]);
        command.env("PGPASSWORD", &login.password).env("PGOPTIONS", "");
        if name == "psql" {
            command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]);
        }
        command
    }
}

/// The tenant that has the 253 records.
fn sample_tenant() -> Result<&'static SampleTenant, Error> {
    let tenant = &TENANTS[0];
    if tenant.total() == 253 { Ok(tenant) } else { Err(Error::Wrong("the sample has changed".to_owned())) }
}

/// Runs one program into another, from the start of the first to the end of the last.
fn pipe(mut from: Command, mut to: Command) -> Result<Duration, Error> {
    let begin = Instant::now();
    let mut reading = from.stdout(Stdio::piped()).spawn().map_err(Error::doing("start the reading program"))?;
    let stdout = reading.stdout.take().ok_or_else(|| Error::Wrong("there is no pipe".to_owned()))?;
    let written = to.stdin(stdout).output().map_err(Error::doing("start the writing program"))?;
    let read = reading.wait().map_err(Error::doing("wait for the reading program"))?;
    if read.success() && written.status.success() {
        Ok(begin.elapsed())
    } else {
        Err(Error::Wrong(format!("copying ended with {read}: {}", String::from_utf8_lossy(&written.stderr).trim_end())))
    }
}

async fn migrated<M: MigratorTrait>(database: &Database) -> Result<(), Error> {
    const DOING: &str = "migrate a database";
    let url = database.url().parse().map_err(Error::doing(DOING))?;
    let login = Login::new(database.service.user.clone(), database.service.password.clone());
    let login = login.map_err(Error::doing(DOING))?;
    let pool = Pool::new(&url, Some(&login), &direct()).map_err(Error::doing(DOING))?;
    let connection = pool.migration_connection(Some(&login)).await.map_err(Error::doing(DOING))?;
    let settings =
        TenantDataSettings { restricted_role: database.restricted.user.clone(), ..TenantDataSettings::default() };
    prepare_tenant_data(&connection, &settings).await.map_err(Error::doing(DOING))?;
    M::up(&connection, None).await.map_err(Error::doing(DOING))?;
    connection.close().await.map_err(Error::doing(DOING))
}

/// Without a probe for a pooler, which is no part of what is measured.
pub fn direct() -> PoolOptions {
    PoolOptions { pooler: PoolerMode::Direct, ..PoolOptions::default() }
}

fn superuser(database: &Database, sql: &str) -> Result<(), Error> {
    run(database, &database.superuser, sql)
}

fn run(database: &Database, login: &tenantry_test_support::cluster::Login, sql: &str) -> Result<(), Error> {
    psql(database, login, sql).map(drop)
}

fn psql(database: &Database, login: &tenantry_test_support::cluster::Login, sql: &str) -> Result<String, Error> {
    database.psql(login, sql).map_err(Error::doing("prepare the databases"))
}
