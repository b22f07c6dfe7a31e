//! A tenant that moves between several databases, its neighbour, and what must be true of both whatever happens.
//!
//! What must be true is asked with plain SQL, and of this module's own memory of what was written. It asks no transfer.

use std::collections::BTreeSet;

use sea_orm_migration::MigratorTrait as _;
use tempfile::TempDir;
use tenantry_app_db::{
    AppDb, NewPlacement, NewTenant,
    entities::{TransferStep, transfers},
};
use tenantry_connection::{Actor, Engine, Error, Mode, Pool, PoolOptions, Session};
use tenantry_migrations::AppDbMigrator;
use tenantry_test_support::cluster::{Cluster, Database};
use tenantry_transfer::{Endpoint, Options, Request, Transfer};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::{
    rng::Rng,
    schema::{Form, Schema, by_table},
};
use crate::transfer::world::{Db, chain, login_of, pool_of};

/// Looks like a sealed login; nothing here opens it.
const SEALED: &str = "v1:default:aXZpdml2:dGFndGFn:c2VhbGVk";

pub(super) struct World<'s> {
    pub(super) schema: &'s Schema,
    application: Application,
    pub(super) mine: Uuid,
    theirs: Uuid,
    pub(super) places: Vec<Place>,
    /// Where the tenant is.
    pub(super) at: usize,
    /// The same rows written once more, where nothing is ever moved. Only needed where a file cannot spell its rows.
    twin: Option<Db>,
    /// What the tenant has, as PostgreSQL spells it.
    pub(super) rows: Vec<String>,
    log: Vec<String>,
    /// The same as the place spells it where the tenant is, once that was asked.
    spelled: Vec<String>,
    pub(super) kept: Vec<Kept>,
    /// Numbers that were drawn for rows that are new.
    fresh: usize,
    /// What was done, for the message of a failure.
    pub(super) story: Vec<String>,
}

/// Where tenants' rows can be.
pub(super) struct Place {
    pub(super) db: Db,
    pub(super) form: Form,
    /// The tenant's id there.
    pub(super) id: Uuid,
    /// With a login that no policy applies to.
    superuser: bool,
    /// What the neighbour has there, and what the log says of it.
    neighbour: (Vec<String>, Vec<String>),
    /// The tenant was here: a fence is left behind.
    pub(super) left: bool,
}

/// Rows that a transfer has left behind.
pub(super) struct Kept {
    pub(super) transfer: Uuid,
    pub(super) place: usize,
    pub(super) to: usize,
    rows: Vec<String>,
    log: Vec<String>,
    spelled: Vec<String>,
    /// Tables that were written to since without an entry in the log.
    unlogged: BTreeSet<String>,
}

/// What can be said of kept rows before they are purged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Explained {
    Yes,
    No,
    /// Some differences of a table have entries in the log, and others may not.
    Perhaps,
}

/// The application database.
enum Application {
    Postgres(Box<Database>),
    Sqlite(TempDir),
}

/// Migrated once and copied.
static APPLICATION: OnceCell<Database> = OnceCell::const_new();

impl Application {
    async fn new(engine: Engine) -> Self {
        match engine {
            Engine::Postgres => {
                let template = APPLICATION.get_or_init(async || {
                    let database = Cluster::shared().unwrap().create_database("application").unwrap();
                    let pool = pool_of(&database, &database.service);
                    let connection = pool.migration_connection(Some(&login_of(&database.service))).await.unwrap();
                    AppDbMigrator::up(&connection, None).await.unwrap();
                    connection.close().await.unwrap();
                    database
                });
                let template = template.await;
                Self::Postgres(Box::new(template.cluster().create_database_from(template).unwrap()))
            }
            Engine::Sqlite => {
                let application = Self::Sqlite(tempfile::tempdir().unwrap());
                let connection = application.pool().migration_connection(None).await.unwrap();
                AppDbMigrator::up(&connection, None).await.unwrap();
                connection.close().await.unwrap();
                application
            }
        }
    }

    fn pool(&self) -> Pool {
        match self {
            Self::Postgres(database) => pool_of(database, &database.service),
            Self::Sqlite(directory) => {
                let options = PoolOptions { create_if_missing: true, ..PoolOptions::default() };
                let url = format!("sqlite:{}/application.db", directory.path().display()).parse().unwrap();
                Pool::new(&url, None, &options).unwrap()
            }
        }
    }
}

impl<'s> World<'s> {
    /// A tenant with its rows at the first of these places.
    pub(super) async fn new(schema: &'s Schema, forms: &[Form], rng: &mut Rng) -> World<'s> {
        let engine = if rng.chance(3) { Engine::Postgres } else { Engine::Sqlite };
        let application = Application::new(engine).await;
        let [mine, theirs] = [rng.uuid(), rng.uuid()];
        let mut places = Vec::new();
        for &form in forms {
            let db = Db::new(if form == Form::File { Engine::Sqlite } else { Engine::Postgres }).await;
            db.execute(&schema.create(form)).await;
            let id = if rng.chance(3) { rng.uuid() } else { mine };
            let superuser = form != Form::File && rng.chance(2);
            places.push(Place { db, form, id, superuser, neighbour: Default::default(), left: false });
        }
        let fill = schema.fill(mine, true, rng);
        // Keys are made of the id that the tenant has in the application database.
        places[0].id = mine;
        places[0].db.execute(&fill).await;
        let mut twin = None;
        if forms.contains(&Form::File) {
            let db = Db::new(Engine::Postgres).await;
            db.execute(&schema.create(Form::Plain)).await;
            db.execute(&fill).await;
            twin = Some(db);
        }
        for place in places.iter_mut().filter(|place| place.form != Form::File) {
            place.db.execute(&schema.fill(theirs, false, rng)).await;
            place.neighbour =
                (schema.rows(&place.db, (theirs, place.form)).await, log(schema, &place.db, theirs).await);
        }
        let app_db = AppDb::new(application.pool());
        for (id, name) in [(mine, "mine"), (theirs, "theirs")] {
            let placement = places[0].placement(id, id);
            app_db
                .create_tenant(&NewTenant { id, placement, ..NewTenant::new(name, name) }, &Actor::default())
                .await
                .unwrap();
        }
        let (rows, log) =
            (schema.rows(&places[0].db, (mine, Form::Plain)).await, log(schema, &places[0].db, mine).await);
        let (spelled, kept, story) = (rows.clone(), Vec::new(), Vec::new());
        Self { schema, application, mine, theirs, places, at: 0, twin, rows, log, spelled, kept, fresh: 0, story }
    }

    /// A connection to the application database, as a process has it that starts.
    pub(super) fn app_db(&self) -> AppDb {
        AppDb::new(self.application.pool())
    }

    /// The databases whose sessions can be ended.
    pub(super) fn servers(&self, places: [usize; 2]) -> Vec<&Database> {
        let mut databases: Vec<&Database> =
            places.into_iter().filter_map(|place| self.places[place].db.database.as_ref()).collect();
        if let Application::Postgres(database) = &self.application {
            databases.push(database);
        }
        databases
    }

    /// A request of a process that starts: nothing of an earlier one's connections is in it.
    pub(super) async fn request<'a>(&self, app_db: &'a AppDb, to: usize) -> Request<'a> {
        let (from, target) = (&self.places[self.at], &self.places[to]);
        let placement = app_db.placement(self.mine).await.unwrap().unwrap();
        Request {
            app_db,
            tenant: self.mine,
            source: from.end(),
            target: target.end(),
            expected_epoch: placement.epoch,
            from: from.placement(self.mine, from.id),
            to: target.placement(self.mine, target.id),
            data_source: None,
            actor: Actor::default(),
            options: Options::default(),
        }
    }

    /// A transfer as it is recorded.
    pub(super) fn recorded<'a>(&self, app_db: &'a AppDb, record: transfers::Model) -> Transfer<'a> {
        let end = |url: &Option<String>| self.named(url.as_deref().unwrap()).end();
        let (source, target) = (end(&record.source_url), end(&record.target_url));
        Transfer { app_db, source, target, record, actor: Actor::default(), options: Options::default() }
    }

    fn named(&self, url: &str) -> &Place {
        self.places.iter().find(|place| place.db.pool.url().as_str() == url).unwrap()
    }

    /// As if whoever runs a transfer had said nothing for longer than its lease.
    pub(super) async fn expire(&self) {
        let sql = "UPDATE tenantry_transfers SET lease_until = created_at WHERE owner IS NOT NULL";
        let mut transaction = self.application.pool().begin(&Session::default(), Mode::Write).await.unwrap();
        transaction.execute_raw_sql(sql).await.unwrap();
        transaction.commit().await.unwrap();
    }

    /// This test's own sessions are ended as well where all are.
    pub(super) fn reconnect(&mut self) {
        for place in &mut self.places {
            place.db.pool = place.pool(false);
        }
    }

    /// Writes what the tenant's users write, where it is.
    pub(super) async fn write(&mut self, rng: &mut Rng) {
        let here = &self.places[self.at];
        for _ in 0..rng.below(8) {
            self.fresh += 1;
            let Some(change) = self.schema.change(rng, here.form, self.fresh) else { continue };
            here.db.execute(&self.schema.statement(&change, self.mine, (here.id, here.form))).await;
            if let Some(twin) = &self.twin {
                twin.execute(&self.schema.statement(&change, self.mine, (self.mine, Form::Plain))).await;
            }
            if change.overwrites && !self.schema.is_logged(&change.table, here.form) {
                self.kept.iter_mut().for_each(|kept| kept.unlogged.extend([change.table.clone()]));
            }
        }
        if here.form != Form::File {
            self.fresh += 1;
            self.schema.can_go_on(&here.db, self.fresh, self.mine, (here.id, here.form)).await;
        }
        self.read().await;
    }

    /// The tenant's rows are where they were, and somewhere else now.
    pub(super) async fn moved(&mut self, transfer: Uuid, to: usize) {
        let (rows, log, spelled) = (self.rows.clone(), self.log.clone(), self.spelled.clone());
        self.kept.push(Kept { transfer, place: self.at, to, rows, log, spelled, unlogged: BTreeSet::new() });
        self.arrived(to).await;
    }

    /// The tenant is somewhere else now, with everything that it had.
    pub(super) async fn arrived(&mut self, at: usize) {
        self.places[self.at].left = true;
        self.at = at;
        let here = &self.places[at];
        let found = self.schema.rows(&here.db, (here.id, here.form)).await;
        let told = self.story.join("\n");
        match here.form {
            Form::Plain | Form::Turned => assert_eq!(found, self.rows, "the tenant's rows\n{told}"),
            Form::File => assert_eq!(self.counts(&found), self.counts(&self.rows), "the tenant's rows\n{told}"),
        }
        self.spelled = found;
    }

    fn counts<'r>(&'r self, rows: &'r [String]) -> Vec<(&'r str, usize)> {
        by_table(self.schema, rows).into_iter().map(|(table, rows)| (table, rows.len())).collect()
    }

    /// A rollback was given up. The kept rows may be those by now that it would have brought.
    pub(super) async fn maybe_replaced(&mut self, number: usize) {
        let (place, kept) = (&self.places[self.kept[number].place], &self.kept[number]);
        let found = self.schema.rows(&place.db, (place.id, place.form)).await;
        let (as_before, is_like_now) = match place.form {
            Form::Plain | Form::Turned => {
                let entries = log(self.schema, &place.db, place.id).await;
                let is = |rows, log| (&found, &entries) == (rows, log);
                (is(&kept.spelled, &kept.log), is(&self.rows, &self.log))
            }
            Form::File => (found == kept.spelled, self.counts(&found) == self.counts(&self.rows)),
        };
        if as_before {
            return;
        }
        assert!(is_like_now, "the kept rows are neither those nor these\n{}", self.story.join("\n"));
        let (rows, log) = (self.rows.clone(), self.log.clone());
        let kept = &mut self.kept[number];
        *kept = Kept { rows, log, spelled: found, unlogged: BTreeSet::new(), ..*kept };
    }

    /// Whether the write log tells why kept rows are not there any more where the tenant is.
    pub(super) fn explained(&self, kept: &Kept) -> Explained {
        let (before, now) = (by_table(self.schema, &kept.rows), by_table(self.schema, &self.rows));
        let mut explained = Explained::Yes;
        for (table, rows) in before {
            if rows.iter().all(|row| now[table].contains(row)) {
                continue;
            }
            if !self.schema.is_logged(table, self.places[self.at].form) {
                return Explained::No;
            }
            if kept.unlogged.contains(table) {
                explained = Explained::Perhaps;
            }
        }
        explained
    }

    /// Everything that must be true while nothing runs.
    pub(super) async fn check(&self) {
        self.check_here().await;
        let (app_db, told) = (self.app_db(), self.story.join("\n"));
        for (number, place) in self.places.iter().enumerate().filter(|(number, _)| *number != self.at) {
            let kept = self.kept.iter().find(|kept| kept.place == number);
            self.check_rows(place, kept.map_or((&[], &[]), |kept| (&kept.spelled, &kept.log)), &told).await;
            if place.left {
                self.check_writes(place, false, &told).await;
            }
        }
        for kept in &self.kept {
            let record = app_db.transfer(kept.transfer).await.unwrap().unwrap();
            assert_eq!((record.step, record.owner), (TransferStep::Finished, None), "the kept rows' transfer\n{told}");
        }
    }

    /// The tenant is placed where it is, writes there, and has everything there.
    pub(super) async fn check_here(&self) {
        let (app_db, told) = (self.app_db(), self.story.join("\n"));
        let placement = app_db.placement(self.mine).await.unwrap().unwrap();
        let here = &self.places[self.at];
        assert_eq!(placement.url.as_deref(), Some(here.db.pool.url().as_str()), "the placement\n{told}");
        assert_eq!(app_db.transfer_under_way(self.mine).await.unwrap(), None, "a transfer is open\n{told}");
        self.check_rows(here, (&self.spelled, &self.log), &told).await;
        self.check_writes(here, true, &told).await;
    }

    async fn check_rows(&self, place: &Place, (rows, entries): (&[String], &[String]), told: &str) {
        let url = place.db.pool.url();
        assert_eq!(
            self.schema.rows(&place.db, (place.id, place.form)).await,
            rows,
            "the tenant's rows in {url}\n{told}"
        );
        if place.form == Form::File {
            return;
        }
        assert_eq!(log(self.schema, &place.db, place.id).await, entries, "the log of the tenant in {url}\n{told}");
        let rows = self.schema.rows(&place.db, (self.theirs, place.form)).await;
        let neighbour = (rows, log(self.schema, &place.db, self.theirs).await);
        assert_eq!(neighbour, place.neighbour, "the neighbour's rows in {url}\n{told}");
    }

    /// The tenant writes where it is.
    pub(super) async fn check_open(&self) {
        self.check_writes(&self.places[self.at], true, &self.story.join("\n")).await;
    }

    /// Takes a row away where the tenant is that nothing refers to, and says from which table, if there was one.
    pub(super) async fn lose_one(&mut self) -> Option<String> {
        let here = &self.places[self.at];
        let (table, lose) = self.schema.lose_one(self.mine, (here.id, here.form))?;
        here.db.execute(&lose).await;
        if self.schema.rows(&here.db, (here.id, here.form)).await.len() == self.rows.len() {
            return None;
        }
        if let Some(twin) = &self.twin {
            let (_, lose) = self.schema.lose_one(self.mine, (self.mine, Form::Plain))?;
            twin.execute(&lose).await;
        }
        if !self.schema.is_logged(&table, here.form) {
            self.kept.iter_mut().for_each(|kept| kept.unlogged.extend([table.clone()]));
        }
        self.read().await;
        Some(table)
    }

    /// What the tenant has now, where nothing is moved at the moment.
    async fn read(&mut self) {
        let here = &self.places[self.at];
        if here.form != Form::File {
            self.log = log(self.schema, &here.db, here.id).await;
        }
        self.spelled = self.schema.rows(&here.db, (here.id, here.form)).await;
        self.rows = match &self.twin {
            Some(twin) => self.schema.rows(twin, (self.mine, Form::Plain)).await,
            None => self.spelled.clone(),
        };
    }

    /// The tenant can, or cannot, write to each table of a place.
    async fn check_writes(&self, place: &Place, may: bool, told: &str) {
        let (url, fresh) = (place.db.pool.url(), self.fresh + 1);
        for (table, sql) in self.schema.trials(fresh, self.mine, (place.id, place.form)) {
            if place.form == Form::File && sql.contains("::") {
                continue;
            }
            let mut transaction = place.db.pool.begin(&Session::default(), Mode::Write).await.unwrap();
            match transaction.execute_raw_sql(&sql).await {
                Ok(()) => assert!(may, "{url} takes writes to {table}\n{told}"),
                Err(Error::Fenced { .. }) => assert!(!may, "{url} takes no writes to {table}\n{told}"),
                Err(error) => panic!("{}\n{sql}\n{told}", chain(&error)),
            }
        }
    }
}

impl Place {
    fn pool(&self, superuser: bool) -> Pool {
        match &self.db.database {
            Some(database) => pool_of(database, if superuser { &database.superuser } else { &database.service }),
            None => Pool::new(self.db.pool.url(), None, &PoolOptions::default()).unwrap(),
        }
    }

    /// This end, with connections of its own.
    pub(super) fn end(&self) -> Endpoint {
        Endpoint::new(self.pool(self.superuser), self.id)
    }

    fn placement(&self, tenant: Uuid, id: Uuid) -> NewPlacement {
        let sealed = self.db.database.is_some().then(|| SEALED.to_owned());
        NewPlacement {
            url: Some(self.db.pool.url().clone()),
            anon_key: sealed.clone(),
            service_key: sealed,
            tenant_id_in_data_source: (tenant != id).then(|| id.to_string()),
            ..NewPlacement::default()
        }
    }
}

/// The entries of a tenant's log. SQLite keeps the value of a number in JSON and not its zeros behind the point.
async fn log(schema: &Schema, db: &Db, tenant: Uuid) -> Vec<String> {
    let rows = |name: &str| match schema.portable {
        true => format!(
            "regexp_replace(regexp_replace({name}::text, '(\\.\\d*[1-9])0+([,}}])', '\\1\\2', 'g'), '\\.0+([,}}])', '\\1', 'g')"
        ),
        false => name.to_owned(),
    };
    let (before, after) = (rows("before"), rows("after"));
    let columns = format!("id, table_name, row_id, operation, {before}, {after}, actor, client_ip, logged_at");
    let mut rows =
        db.texts(&format!("SELECT ROW({columns})::text AS t FROM write_log WHERE tenant_id = '{tenant}'")).await;
    rows.sort();
    rows
}
