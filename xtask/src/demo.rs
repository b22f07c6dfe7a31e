//! The demo: a legacy single database is split in front of the reader's eyes, and everything that is claimed is measured.
//!
//! Where the databases are is `world.rs`'s business; this file tells the story, the same on SQLite and on PostgreSQL. Its last
//! line comes from what was measured and from nothing else.

mod world;

use std::path::PathBuf;

use sea_orm::{ActiveValue::Set, DbBackend, Statement};
use tenantry::{
    Tenantry,
    connection::{Actor, Engine, Mode, Session},
    data_source::TenantHandle,
    entities::{accounts, contacts},
    migrations::{TenantDataMigrator, tables::BUSINESS_TABLES},
    operations::{
        self, DataSourceIsolation, Direction, IsolationScope, MigrateScope, SplitAction, SplitReport, TenantSplit,
        TransferAction, TransferReport, TransferTarget,
    },
    repository::{Query, RepositoryExt},
    transfer::{Options, Report, Unwatched},
};
use tenantry_test_support::sample::{self, SampleTenant, TENANTS};
use uuid::Uuid;

use tenantry_cli::{
    Application,
    text::{Cell, table},
};

use crate::{
    commands::{Outcome, Reference},
    failure::Failure,
};
use world::World;

/// What the demo is to do.
#[derive(Debug)]
pub(crate) struct Plan {
    /// On private PostgreSQL servers instead of SQLite files.
    pub(crate) postgres: bool,
    /// Where the files stay; a temporary folder, gone at the end, where none is given.
    pub(crate) keep: Option<PathBuf>,
}

pub(crate) async fn run(plan: Plan) -> Result<Outcome, Failure> {
    let world = if plan.postgres { World::postgres().await? } else { World::sqlite(plan.keep)? };
    let tenantry = Tenantry::connect(world.settings().clone())?;
    let told = Story { world: &world, tenantry: &tenantry }.tell().await;
    tenantry.close().await;
    let measured = told?;
    if let Some(hint) = world.keep_hint()? {
        println!("\n{hint}");
    }
    println!("\n{measured}");
    Ok(Outcome::of(measured.is_whole()))
}

/// What the last line says, counted for tenant `default`.
struct Measured {
    expected: u64,
    found: u64,
    tables: usize,
    missing: u64,
    different: u64,
    elsewhere: u64,
}

impl Measured {
    fn is_whole(&self) -> bool {
        self.found == self.expected && self.missing + self.different + self.elsewhere == 0
    }
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { expected, found, tables, missing, different, elsewhere } = self;
        write!(
            f,
            "demo: {}, {found} of {expected} records in {tables} tables, {missing} missing, {different} different, \
             {elsewhere} in a wrong database",
            if self.is_whole() { "ok" } else { "FAILED" }
        )
    }
}

struct Story<'a> {
    world: &'a World,
    tenantry: &'a Tenantry,
}

impl Story<'_> {
    async fn tell(&self) -> Result<Measured, Failure> {
        self.legacy().await?;
        self.migrate().await?;
        self.split().await?;
        self.route().await?;
        self.test_connections().await?;
        self.attack().await?;
        self.roll_back().await?;
        self.move_and_return().await?;
        self.logs().await?;
        self.measure().await
    }

    async fn legacy(&self) -> Result<(), Failure> {
        heading(1, "A legacy database, in which everything is mixed");
        self.world.create_sample().await?;
        println!("{}\n", self.tenantry.app_db().url());
        let rows: Vec<_> = TENANTS
            .iter()
            .map(|tenant| [tenant.subdomain.to_owned(), tenant.id.to_string(), tenant.total().to_string()])
            .collect();
        println!("{}", table(["tenant", "id", "records in 13 tables"], &rows));
        Ok(())
    }

    async fn migrate(&self) -> Result<(), Failure> {
        heading(2, "It becomes the application database: what is missing is added, no row is touched");
        let scope = MigrateScope { app_db: true, data_sources: true };
        let report = operations::migrate::<TenantDataMigrator>(self.tenantry, scope, Direction::Up).await?;
        for database in &report.databases {
            if let Some(error) = &database.error {
                return Err(Failure::Argument(error.clone()));
            }
            println!(
                "{}: {} migrations applied ({})",
                database.database,
                database.changed.len(),
                database.changed.join(", ")
            );
        }
        Ok(())
    }

    async fn split(&self) -> Result<(), Failure> {
        heading(3, "Each tenant's rows go to its own data source, and every row is compared on both sides");
        for tenant in &TENANTS {
            let target = self.world.target(tenant);
            if !target.prepare {
                // Where the schema is not there yet, a dry run could only say so.
                let planned = self.act(tenant, &target, SplitAction::DryRun).await?;
                expect(&planned, "would_copy")?;
            }
            let done = self.act(tenant, &target, SplitAction::Run).await?;
            expect(&done, "placed")?;
            let place = done.target.as_ref().map(ToString::to_string).unwrap_or_default();
            if let Some(report) = &done.report {
                if tenant.subdomain == "default" {
                    println!("{} → {place}\n\n{}\n", tenant.subdomain, comparison(report));
                } else {
                    println!("{} → {place}: {} records, all equal on both sides", tenant.subdomain, report.records());
                }
            }
        }
        if let Some(tenant) = self.tenantry.app_db().tenant(TENANTS[0].id).await.map_err(tenantry::Error::from)?
            && let Some(sealed) = tenant.data_source_anon_key
        {
            let start: String = sealed.as_str().chars().take(24).collect();
            println!("\nThe logins are sealed for one tenant and one column: data_source_anon_key = {start}…");
        }
        println!("The source keeps its rows, behind a fence that refuses writes of these tenants from any client.");
        Ok(())
    }

    async fn route(&self) -> Result<(), Failure> {
        heading(4, "Requests are routed; a tenant sees its own rows and no other's");
        let mut rows = Vec::new();
        for tenant in &TENANTS {
            let db = self.handle(tenant).await?;
            let accounts = db.repository::<accounts::Entity>().count(&Query::new()).await.map_err(Failure::demo)?;
            let contacts = db.repository::<contacts::Entity>().count(&Query::new()).await.map_err(Failure::demo)?;
            let isolation = db.isolation().to_string();
            rows.push([tenant.subdomain.to_owned(), accounts.to_string(), contacts.to_string(), isolation]);
        }
        println!("{}\n", table(["tenant", "accounts", "contacts", "kept apart by"], &rows));

        let [default, acme, _] = &TENANTS;
        let user = Uuid::from_u128(0x0515_0000_0000_4000_8000_0000_0000_0001);
        let db = self.handle(acme).await?.as_user(Actor::user(user));
        let accounts = db.repository::<accounts::Entity>();
        let model = accounts::ActiveModel { name: Set("Zürich Catering".to_owned()), ..Default::default() };
        let created = accounts.create(model).await.map_err(Failure::demo)?;
        let change = accounts::ActiveModel { status: Set(Some("suspended".to_owned())), ..Default::default() };
        accounts.update(created.id, change).await.map_err(Failure::demo)?;
        println!("acme created an account and changed it. Its write log, kept by the database itself:\n");
        let log = db.write_log(2).await.map_err(Failure::demo)?;
        let rows: Vec<_> = log
            .iter()
            .map(|entry| {
                let status = |row: &Option<serde_json::Value>| {
                    row.as_ref().and_then(|row| row["status"].as_str()).unwrap_or("-").to_owned()
                };
                let by = entry.actor.clone().unwrap_or_default();
                [entry.table.clone(), format!("{:?}", entry.operation), status(&entry.before), status(&entry.after), by]
            })
            .collect();
        println!("{}\n", table(["table", "operation", "status before", "status after", "by"], &rows));

        let theirs = self.handle(default).await?;
        let first = theirs.repository::<accounts::Entity>().find_one(&Query::new()).await.map_err(Failure::demo)?;
        let first = first.ok_or_else(|| Failure::Argument("tenant default has no account".to_owned()))?;
        let seen = accounts.find_by_id(first.id).await.map_err(Failure::demo)?;
        println!(
            "acme asks for an account of default by its id: {}",
            if seen.is_none() { "not found" } else { "FOUND" }
        );
        let forged =
            accounts::ActiveModel { tenant_id: Set(default.id), name: Set("forged".to_owned()), ..Default::default() };
        match accounts.create(forged).await {
            Ok(_) => return Err(Failure::Argument("a row with a forged tenant was accepted".to_owned())),
            Err(error) => println!("acme writes a row that names default: {error}"),
        }
        if seen.is_some() {
            return Err(Failure::Argument("a foreign row was found".to_owned()));
        }
        accounts.delete(created.id).await.map_err(Failure::demo)?;
        Ok(())
    }

    async fn test_connections(&self) -> Result<(), Failure> {
        heading(5, "Every route is tested, and a probe is looked for in every database");
        let report = operations::test_data_sources(self.tenantry, &[]).await?;
        let rows: Vec<_> = report
            .tests
            .iter()
            .map(|test| {
                [
                    Cell::from(subdomain(test.tenant)),
                    Cell::yes_no(test.can_connect),
                    Cell::yes_no(test.can_query),
                    Cell::yes_no(test.rls_enabled),
                    Cell::optional(test.server_version.as_ref()),
                    Cell::optional(test.response_time_ms.map(|ms| format!("{ms:.1} ms"))),
                ]
            })
            .collect();
        let heading = ["tenant", "connects", "answers", "row-level security", "server", "round trip"];
        println!("{}\n", table(heading, &rows));
        let routing = operations::test_routing(self.tenantry, &[]).await?;
        let right = routing.probes.iter().filter(|probe| probe.passed()).count();
        println!(
            "{right} of {} probes were found in the right one of {} databases, in no other, and removed",
            routing.probes.len(),
            routing.databases.len()
        );
        if !report.passed() || !routing.passed() {
            let tests = report.tests.iter().filter_map(|test| test.error.clone());
            let probes = routing.probes.iter().filter_map(|probe| probe.error.clone());
            let errors: Vec<_> = tests.chain(probes).collect();
            return Err(Failure::Argument(format!("a route does not hold: {}", errors.join("; "))));
        }
        Ok(())
    }

    async fn attack(&self) -> Result<(), Failure> {
        heading(6, "What keeps tenants apart is measured, and attacked as a request would");
        let check = operations::check_isolation(self.tenantry, &IsolationScope::default()).await?;
        let rows: Vec<_> = check
            .data_sources
            .iter()
            .map(|source| {
                let [tables, attacks, findings] =
                    [source.tables, source.attacks, source.findings.len()].map(|number| number.to_string());
                [shorten(source.data_source.as_str()), tables, attacks, findings, source.verdict.to_string()]
            })
            .collect();
        println!("{}", table(["data source", "tables", "attacks", "findings", "isolation"], &rows));
        if !check.passed() {
            let of = |source: &DataSourceIsolation| {
                let found =
                    source.findings.iter().map(|found| format!("{}: {}", found.finding.object, found.finding.problem));
                found.chain(source.errors.iter().cloned()).collect::<Vec<_>>()
            };
            let reasons: Vec<_> = check.data_sources.iter().flat_map(of).collect();
            return Err(Failure::Argument(format!("isolation does not hold: {}", reasons.join("; "))));
        }
        Ok(())
    }

    async fn roll_back(&self) -> Result<(), Failure> {
        let globex = &TENANTS[2];
        heading(7, "One tenant is taken back to the single database");
        let done = self.act(globex, &self.world.target(globex), SplitAction::Rollback).await?;
        expect(&done, "rolled_back")?;
        let purged = done.purged.unwrap_or_default();
        println!("{} is in the single database again; {purged} copied rows were removed", globex.subdomain);
        match self.tenantry.tenant(globex.id).await {
            Ok(_) => return Err(Failure::Argument("a tenant without a data source was routed".to_owned())),
            Err(error) => println!("A request for it now: {error}"),
        }
        Ok(())
    }

    async fn move_and_return(&self) -> Result<(), Failure> {
        let acme = &TENANTS[1];
        heading(8, "A tenant moves to a database of its own, and back with what it wrote there");
        let (target, options, actor) = (self.world.own(acme)?, Options::default(), Reference::actor("demo"));
        let planned =
            operations::plan_transfer::<TenantDataMigrator>(self.tenantry, acme.id, &target, &options, &Unwatched);
        let planned = planned.await?;
        if let Some(plan) = &planned.plan {
            println!(
                "The plan for {} → {}: {} records, {} reason(s) against it\n",
                acme.subdomain,
                shorten(planned.target.as_str()),
                plan.records(),
                plan.refusals.len()
            );
        }
        let plan = planned.plan.as_ref();
        let moved = operations::run_transfer::<TenantDataMigrator>(
            self.tenantry,
            acme.id,
            &target,
            plan,
            &options,
            &actor,
            &Unwatched,
        );
        let moved = Self::came_to(moved.await?, "moved")?;
        let transfer = moved.transfer.ok_or_else(|| Failure::Argument("the transfer is not recorded".to_owned()))?;

        let accounts = self.handle(acme).await?;
        let accounts = accounts.repository::<accounts::Entity>();
        let model = accounts::ActiveModel { name: Set("Won meanwhile".to_owned()), ..Default::default() };
        let created = accounts.create(model).await.map_err(Failure::demo)?;
        println!("\nIt creates an account there, and is brought back:\n");
        let back = operations::continue_transfer(
            self.tenantry,
            transfer,
            TransferAction::RollBack,
            &options,
            &actor,
            &Unwatched,
        );
        Self::came_to(back.await?, "returned")?;
        let there = self.handle(acme).await?;
        let found = there.repository::<accounts::Entity>().find_by_id(created.id).await.map_err(Failure::demo)?;
        if found.is_none() {
            return Err(Failure::Argument("what was written in the new place is lost".to_owned()));
        }
        let placed = self.tenantry.app_db().placement(acme.id).await.map_err(tenantry::Error::from)?;
        let place = placed.and_then(|placed| placed.url).unwrap_or_default();
        println!("\nThe account came along to {}", shorten(&place));
        Ok(())
    }

    /// Prints what a transfer found and its last line.
    fn came_to(report: TransferReport, outcome: &str) -> Result<TransferReport, Failure> {
        if !report.passed() || report.outcome != outcome {
            let refusals = report.plan.iter().flat_map(|plan| &plan.refusals).map(ToString::to_string);
            let reasons: Vec<_> = report.error.iter().cloned().chain(refusals).collect();
            return Err(Failure::Argument(format!("{report}: {}", reasons.join("; "))));
        }
        if let Some(found) = &report.report {
            println!("{}\n", comparison(found));
        }
        if let Some(log) = report.write_log() {
            println!("{log}");
        }
        println!("{report}");
        Ok(report)
    }

    async fn logs(&self) -> Result<(), Failure> {
        heading(9, "What the application database has recorded, and the caches");
        let entries = self.tenantry.app_db().audit_entries(None, 100).await.map_err(tenantry::Error::from)?;
        let rows: Vec<_> = entries
            .iter()
            .filter(|entry| entry.action == "data_source_updated")
            .map(|entry| {
                let url = |which: &str| {
                    let changes = entry.changes.as_ref();
                    changes
                        .and_then(|changes| changes[which]["data_source_url"].as_str())
                        .map_or("-".to_owned(), shorten)
                };
                [
                    entry.tenant_id.map(subdomain).unwrap_or_default(),
                    entry.action.clone(),
                    url("previous"),
                    url("new"),
                    entry.user_agent.clone().unwrap_or_default(),
                ]
            })
            .collect();
        println!("{}\n", table(["tenant", "action", "from", "to", "by"], &rows));
        let stats = self.tenantry.manager().cache_stats().await;
        println!(
            "placements cached: {}, hits {}, misses {}; pools: {}, connections open: {}",
            stats.placements,
            stats.placement_hits,
            stats.placement_misses,
            stats.pools.len(),
            stats.pools.iter().map(|pool| pool.status.open).sum::<u32>()
        );
        Ok(())
    }

    /// Tenant `default` once more, from the databases as they are now.
    async fn measure(&self) -> Result<Measured, Failure> {
        let default = &TENANTS[0];
        let verified = self.act(default, &self.world.target(default), SplitAction::Verify).await?;
        let report = verified.report.as_ref().ok_or_else(|| failed(&verified))?;
        let tables: Vec<_> = report.tables.iter().filter(|table| !table.log).collect();
        let missing = tables.iter().map(|table| table.missing).sum::<u64>();
        let different = tables.iter().map(|table| table.different).sum::<u64>();
        let in_place: u64 = tables.iter().map(|table| table.target - table.extra - table.different).sum();
        Ok(Measured {
            expected: sample::expected_counts().iter().map(|(_, count)| count).sum(),
            found: in_place,
            tables: tables.len(),
            missing,
            different,
            elsewhere: self.elsewhere(default, verified.target.as_ref()).await?,
        })
    }

    /// The tenant's business rows in every data source but its own. The kept source is no wrong database.
    async fn elsewhere(
        &self,
        tenant: &SampleTenant,
        home: Option<&tenantry::connection::DataSourceUrl>,
    ) -> Result<u64, Failure> {
        let mut rows = 0;
        for pool in self.world.data_sources()? {
            if Some(pool.url()) == home {
                continue;
            }
            let mut transaction = pool.begin(&Session::default(), Mode::Read).await.map_err(Failure::demo)?;
            for name in BUSINESS_TABLES {
                let backend = match pool.engine() {
                    Engine::Postgres => DbBackend::Postgres,
                    Engine::Sqlite => DbBackend::Sqlite,
                };
                let sql = format!("SELECT count(*) FROM {name} WHERE tenant_id = $1");
                let count = Statement::from_sql_and_values(backend, sql, [tenant.id.into()]);
                let row = transaction.query_one(count).await.map_err(Failure::demo)?;
                let count = row.map(|row| row.try_get_by_index::<i64>(0)).transpose().map_err(Failure::demo)?;
                rows += count.unwrap_or_default().unsigned_abs();
            }
            transaction.commit().await.map_err(Failure::demo)?;
            pool.close().await;
        }
        Ok(rows)
    }

    async fn act(
        &self,
        tenant: &SampleTenant,
        target: &TransferTarget,
        action: SplitAction,
    ) -> Result<TenantSplit, Failure> {
        let actor = Reference::actor("demo");
        let report: SplitReport = operations::split_tenants::<TenantDataMigrator>(
            self.tenantry,
            &[tenant.id],
            target,
            action,
            &actor,
            &Unwatched,
        )
        .await;
        report.tenants.into_iter().next().ok_or_else(|| Failure::Argument("no tenant was split".to_owned()))
    }

    async fn handle(&self, tenant: &SampleTenant) -> Result<tenantry::data_source::TenantDb, Failure> {
        self.tenantry.tenant(tenant.id).await.map_err(Failure::demo)
    }
}

fn heading(number: u32, text: &str) {
    println!("\n{number}. {text}\n");
}

fn expect(split: &TenantSplit, outcome: &str) -> Result<(), Failure> {
    if split.outcome == outcome && split.passed() { Ok(()) } else { Err(failed(split)) }
}

fn failed(split: &TenantSplit) -> Failure {
    let refusals = split.plan.iter().flat_map(|plan| &plan.refusals).map(ToString::to_string);
    let reasons: Vec<_> = split.error.iter().cloned().chain(refusals).collect();
    Failure::Argument(format!("tenant {}: {}: {}", split.subdomain, split.outcome, reasons.join("; ")))
}

fn comparison(report: &Report) -> String {
    let rows: Vec<_> = report
        .tables
        .iter()
        .filter(|table| !table.log)
        .map(|table| {
            let numbers =
                [table.source, table.copied, table.already_there, table.missing, table.extra, table.different];
            let [source, copied, there, missing, extra, different] = numbers.map(|number| number.to_string());
            [table.table.clone(), source, copied, there, missing, extra, different]
        })
        .collect();
    table(["table", "source", "copied", "already there", "missing", "extra", "different"], &rows)
}

fn subdomain(tenant: Uuid) -> String {
    let known = TENANTS.iter().find(|known| known.id == tenant);
    known.map_or_else(|| tenant.to_string(), |known| known.subdomain.to_owned())
}

/// The end of a URL, which tells the demo's databases apart.
fn shorten(url: &str) -> String {
    url.rsplit_once('/').map_or_else(|| url.to_owned(), |(_, end)| format!("…/{end}"))
}
