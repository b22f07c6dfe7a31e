//! Reading behind PgBouncer in transaction mode, against what there is to do without Tenantry: every statement in a
//! transaction that sets the tenant first.

use std::sync::Arc;

use sea_orm::prelude::DateTimeUtc;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sea_orm::sqlx::{self, PgPool};
use tenantry::Tenantry;
use tenantry::app_db::NewDataSource;
use tenantry::app_db::entities::PoolerMode;
use tenantry::repository::RepositoryExt;
use tenantry_test_support::cluster::HOST;
use tenantry_test_support::pooler::{Pooler, PoolerOptions};
use uuid::Uuid;

use super::Bench;
use crate::Error;
use crate::method::{Task, compare, throughput};
use crate::report::Line;
use crate::world::items::{Asked, Row, check, items};
use crate::world::{CONNECTIONS, World};

/// Tenants that are read, one for each task.
const TENANTS: usize = 8;
const LEAST: f64 = 1.2;

pub(super) async fn pooler_read(bench: &Bench, case: &str, tasks: usize) -> Result<Line, Error> {
    let world = &bench.world;
    // As many connections to the server as each side has to the pooler, so that neither waits for the other's.
    let options = PoolerOptions { server_connections: CONNECTIONS, ..PoolerOptions::default() };
    let pooler = Pooler::start(&[&world.protected], &options).map_err(Error::doing("start PgBouncer"))?;
    let url = pooler.url_of(&world.protected).parse().map_err(Error::doing("read the pooler's URL"))?;
    let direct = world.row(CONNECTIONS)?;
    let row =
        NewDataSource { direct_url: Some(direct.url.clone()), pooler_mode: PoolerMode::Transaction, url, ..direct };
    let (tenantry, _) = world.installation(row, TENANTS).await?;
    let pool = sqlx_pool(world, pooler.port()).await?;

    let ours = async |length| throughput(tasks, length, |task| ours(Arc::clone(world), tenantry.clone(), task)).await;
    let theirs = async |length| throughput(tasks, length, |task| theirs(Arc::clone(world), pool.clone(), task)).await;
    let comparison = compare(bench.plan, ours, theirs).await?;
    pool.close().await;
    tenantry.close().await;
    Ok(Line::throughput(case, tasks, comparison, Some(LEAST)))
}

/// SQLx's pool with its defaults, all connections open, and without the one setting that PgBouncer does not let through.
async fn sqlx_pool(world: &World, port: u16) -> Result<PgPool, Error> {
    let login = &world.protected.restricted;
    let options = PgConnectOptions::new_without_pgpass()
        .host(HOST)
        .port(port)
        .database(&world.protected.name)
        .username(&login.user)
        .password(&login.password)
        .extra_float_digits(None);
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).min_connections(CONNECTIONS).connect_with(options);
    pool.await.map_err(Error::doing("connect the baseline through PgBouncer"))
}

async fn ours(world: Arc<World>, tenantry: Tenantry, mut task: Task) -> Result<Task, Error> {
    while task.goes_on() {
        let asked = Asked::of(task.index, &mut task.random);
        let db = tenantry.tenant(world.tenants[asked.tenant]).await.map_err(Error::doing("route a tenant"))?;
        let row = db.repository::<items::Entity>().find_by_id(asked.id()).await;
        check(&world, asked, row.map_err(Error::doing("read a row through PgBouncer"))?.as_ref())?;
    }
    Ok(task)
}

/// A row as SQLx reads it, every column decoded as on the other side.
type Read = (Uuid, Uuid, String, i64, String, Option<DateTimeUtc>, Option<DateTimeUtc>);

impl Row for Read {
    fn told(&self) -> (Uuid, Uuid, i64, &str) {
        (self.0, self.1, self.3, &self.4)
    }
}

async fn theirs(world: Arc<World>, pool: PgPool, mut task: Task) -> Result<Task, Error> {
    const SET: &str = "SELECT set_config('app.tenant_id', $1, true)";
    const READ: &str = "SELECT tenant_id, id, name, amount, status, created_at, updated_at FROM items \
                        WHERE tenant_id = $1 AND id = $2 LIMIT 1";
    let doing = || Error::doing("read a row of the baseline through PgBouncer");
    while task.goes_on() {
        let asked = Asked::of(task.index, &mut task.random);
        let tenant = world.tenants[asked.tenant];
        let mut transaction = pool.begin().await.map_err(doing())?;
        let set = sqlx::query(SET).persistent(false).bind(tenant.to_string());
        set.execute(&mut *transaction).await.map_err(doing())?;
        let read = sqlx::query_as::<_, Read>(READ).persistent(false).bind(tenant).bind(asked.id());
        let row = read.fetch_optional(&mut *transaction).await.map_err(doing())?;
        transaction.commit().await.map_err(doing())?;
        check(&world, asked, row.as_ref())?;
    }
    Ok(task)
}
