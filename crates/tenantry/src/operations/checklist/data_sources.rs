//! The data sources: does each answer to both of its logins, is it migrated, and whose rows does it hold.

use sea_orm_migration::MigratorTrait;
use tenantry_app_db::entities::tenants;
use tenantry_connection::{DataSourceUrl, Engine, Error, Mode, Pool, Session};
use tenantry_credential::Login;
use tenantry_data_source::with_causes;
use tenantry_realm::TenantKey;

use super::{
    Items, Section,
    residents::{Residents, listed, residents, statement},
};
use crate::{
    Tenantry,
    operations::{
        databases::{DataSourceInUse, data_source_pool, restricted_login, service_login},
        migrate::{DatabaseKind, DatabaseMigrations, Direction, MigrateScope, has_roles, migrate, sources},
    },
};

const SECTION: Section = Section::DataSources;

/// A data source, as far as it could be reached.
pub(super) struct Reached {
    pub(super) source: DataSourceInUse,
    /// As the service login; none where it does not answer.
    pub(super) service: Option<Pool>,
    /// As the restricted login; none where it does not answer, and for SQLite, which has no logins.
    pub(super) restricted: Option<(Pool, Login)>,
    /// Every migration is applied.
    pub(super) migrated: bool,
}

impl Reached {
    /// Whether both logins get in.
    pub(super) fn answers(&self) -> bool {
        self.service.is_some() && (self.restricted.is_some() || !has_roles(&self.source.url))
    }
}

/// What a server says of itself.
pub(super) struct Server {
    version: String,
    is_old: bool,
}

impl Server {
    pub(super) fn report(&self, section: Section, name: &str, list: &mut Items) {
        if self.is_old {
            let remedy = "upgrade the server: column lists of ON DELETE SET NULL came with PostgreSQL 15";
            list.fail(section, name, format!("{} is too old; 15 or newer is needed", self.version), remedy);
        } else {
            list.pass(section, name, self.version.clone());
        }
    }
}

/// Asks a server for its version, which also proves that it answers.
pub(super) async fn server(pool: &Pool) -> Result<Server, Error> {
    let sql = match pool.engine() {
        Engine::Postgres => {
            "SELECT 'PostgreSQL ' || current_setting('server_version'), current_setting('server_version_num')::bigint < 150000"
        }
        // The version alone would be answered without a look at the file.
        Engine::Sqlite => "SELECT 'SQLite ' || sqlite_version(), false, count(*) FROM sqlite_schema",
    };
    let mut transaction = pool.begin(&Session::default(), Mode::Read).await?;
    let row = transaction.query_one(statement(pool.engine(), sql)).await?;
    transaction.commit().await?;
    let none = || sea_orm::DbErr::RecordNotFound("the server's version".to_owned());
    let row = row.ok_or_else(|| Error::Catalog { source: none() })?;
    let read = || Ok(Server { version: row.try_get_by_index(0)?, is_old: row.try_get_by_index(1)? });
    read().map_err(|source| Error::Catalog { source })
}

/// Reports whether a database's migrations are complete.
pub(super) fn status_of(section: Section, name: &str, entry: &DatabaseMigrations, list: &mut Items) -> bool {
    match &entry.error {
        Some(error) => list.fail(section, name, error.clone(), "mend the cause, then run `migrate up`"),
        None if !entry.pending.is_empty() => {
            let detail = format!("not applied: {}", entry.pending.join(", "));
            list.fail(section, name, detail, "run `migrate up`");
        }
        None => list.pass(section, name, format!("{} applied", entry.applied.len())),
    }
    entry.error.is_none() && entry.pending.is_empty()
}

/// Reaches every data source in use, and the default one.
pub(super) async fn check<M: MigratorTrait>(tenantry: &Tenantry, list: &mut Items) -> Vec<Reached> {
    let (sources, tenants) = match (sources(tenantry).await, tenantry.app_db().tenants().await) {
        (Ok(sources), Ok(tenants)) => (sources, tenants),
        (Err(error), _) => {
            list.fail(SECTION, "all", with_causes(&error), "correct the tenants' data sources");
            return Vec::new();
        }
        (_, Err(error)) => {
            list.fail(SECTION, "all", with_causes(&error), "run `migrate up`");
            return Vec::new();
        }
    };
    if sources.is_empty() {
        list.note(SECTION, "all", "no tenant has a data source yet");
    }
    let mut all = Vec::new();
    for source in sources {
        all.push(reach(tenantry, source, list).await);
    }
    if all.iter().any(|reached| reached.service.is_some()) {
        let scope = MigrateScope { app_db: false, data_sources: true };
        match migrate::<M>(tenantry, scope, Direction::Status).await {
            Ok(report) => {
                for reached in all.iter_mut().filter(|reached| reached.service.is_some()) {
                    let entry = report
                        .databases
                        .iter()
                        .find(|entry| entry.kind == DatabaseKind::DataSource && entry.database == reached.source.url);
                    let name = format!("migrations of {}", reached.source.url);
                    reached.migrated = entry.is_some_and(|entry| status_of(SECTION, &name, entry, list));
                }
            }
            Err(error) => list.fail(SECTION, "migrations", with_causes(&error), "run `migrate up`"),
        }
    }
    for reached in &all {
        check_rows(tenantry, reached, &tenants, list).await;
    }
    all
}

/// Closes what was opened.
pub(super) async fn close(reached: Vec<Reached>) {
    for Reached { service, restricted, .. } in reached {
        for pool in service.into_iter().chain(restricted.map(|(pool, _)| pool)) {
            pool.close().await;
        }
    }
}

async fn reach(tenantry: &Tenantry, source: DataSourceInUse, list: &mut Items) -> Reached {
    let url = source.url.clone();
    let login = service_login(tenantry, &source).await;
    let service = connect(tenantry, &url, "service", login, list).await.map(|(pool, _)| pool);
    let restricted = if has_roles(&url) {
        let login = restricted_login(tenantry, &source).await;
        connect(tenantry, &url, "restricted", login, list).await
    } else {
        None
    };
    let restricted = restricted.and_then(|(pool, login)| Some((pool, login?)));
    Reached { source, service, restricted, migrated: false }
}

async fn connect(
    tenantry: &Tenantry,
    url: &DataSourceUrl,
    access: &str,
    login: Result<Option<Login>, crate::Error>,
    list: &mut Items,
) -> Option<(Pool, Option<Login>)> {
    let name = if has_roles(url) { format!("connection to {url} as {access}") } else { format!("connection to {url}") };
    let login = match login {
        Ok(login) => login,
        Err(error) => {
            list.fail(SECTION, &name, with_causes(&error), "see the section on keys");
            return None;
        }
    };
    let pool = match data_source_pool(tenantry, url, login.as_ref(), false).await {
        Ok(pool) => pool,
        Err(error) => {
            list.fail(SECTION, &name, with_causes(&error), "set the data source's logins");
            return None;
        }
    };
    match server(&pool).await {
        Ok(server) => {
            server.report(SECTION, &name, list);
            Some((pool, login))
        }
        Err(error) => {
            pool.close().await;
            list.fail(SECTION, &name, with_causes(&error), format!("correct the {access} login, or start the server"));
            None
        }
    }
}

/// Rows of tenants whose route leads elsewhere would never be read again, or be read by the wrong one.
async fn check_rows(tenantry: &Tenantry, reached: &Reached, tenants: &[tenants::Model], list: &mut Items) {
    let url = &reached.source.url;
    let name = format!("rows in {url}");
    let Some(pool) = &reached.service else { return list.skip(SECTION, &name, "the service login does not get in") };
    if !reached.migrated {
        return list.skip(SECTION, &name, "the migrations are not complete");
    }
    let found = async {
        let mut transaction = pool.begin(&Session::default(), Mode::Snapshot).await?;
        let found = residents(&mut transaction, &tenantry.settings().tenant_column).await?;
        transaction.commit().await?;
        Ok::<_, super::residents::Unreadable>(found)
    };
    let Residents { tenants: found, nobodys, .. } = match found.await {
        Ok(found) => found,
        Err(error) => return list.fail(SECTION, &name, error.to_string(), "look at its tables"),
    };
    let key_type = tenantry.settings().tenant_key_type;
    // Another URL may be the same database; a row of a tenant that lives there is in its place.
    let here: Vec<(String, &str)> = tenants
        .iter()
        .filter(|tenant| {
            let own = tenant.data_source_url.as_deref().and_then(|own| DataSourceUrl::parse(own).ok());
            own.is_some_and(|own| own.address() == url.address())
        })
        .filter_map(|tenant| {
            let id = tenant.id.to_string();
            let key = TenantKey::parse(key_type, tenant.tenant_id_in_data_source.as_deref().unwrap_or(&id)).ok()?;
            Some((key.to_string(), tenant.subdomain.as_str()))
        })
        .collect();
    let mut strangers = false;
    for resident in &found {
        if here.iter().any(|(key, _)| *key == resident.key) {
            continue;
        }
        strangers = true;
        let who = tenants.iter().find(|tenant| tenant.id.to_string() == resident.key);
        let who =
            who.map_or_else(|| format!("tenant id {}", resident.key), |tenant| format!("tenant {}", tenant.subdomain));
        let name = format!("rows of {who} in {url}");
        if resident.unfenced.is_empty() {
            let detail = format!("left behind and fenced: rows are in {}", listed(&resident.tables));
            list.note(SECTION, &name, detail);
        } else {
            let detail =
                format!("no tenant with this id is routed here, and rows are in {}", listed(&resident.unfenced));
            list.fail(SECTION, &name, detail, "find out whose they are; move or delete them, or fence the tenant here");
        }
    }
    if !nobodys.is_empty() {
        strangers = true;
        let detail = format!("rows without a tenant are in {}", listed(&nobodys));
        list.fail(SECTION, &format!("rows of nobody in {url}"), detail, "give them a tenant, or delete them");
    }
    if !strangers {
        let detail = format!("{} tenant(s) routed here, rows of {}, of no other", here.len(), found.len());
        list.pass(SECTION, &name, detail);
    }
}
