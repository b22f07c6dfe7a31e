//! Reading a row by its key, and a page of rows.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ColumnTrait, DatabaseConnection, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect};
use tenantry::repository::{Query, RepositoryExt};

use super::{Bench, baseline};
use crate::Error;
use crate::method::{Task, compare, throughput};
use crate::report::Line;
use crate::world::items::{Asked, AskedPage, PAGE, check, created_at, items, status_of};
use crate::world::{TENANTS, World};

/// Whose row a task reads next.
#[derive(Debug, Clone, Copy)]
enum Whose {
    /// Always the same tenant's, another one in each task.
    Own,
    /// Any tenant's.
    Anyone,
}

impl Whose {
    fn next(self, task: &mut Task) -> Asked {
        let tenant = match self {
            Self::Own => task.index,
            Self::Anyone => task.random.below(TENANTS),
        };
        Asked::of(tenant, &mut task.random)
    }
}

/// Each task stays with its tenant.
pub(super) async fn pk_read(
    bench: &Bench,
    case: &str,
    tasks: usize,
    ping: bool,
    targets: [f64; 2],
) -> Result<Line, Error> {
    let least = if tasks == 1 { targets[0] } else { targets[1] };
    by_key(bench, case, tasks, Whose::Own, ping, least).await
}

/// A random tenant each time.
pub(super) async fn pk_read_spread(bench: &Bench, case: &str, tasks: usize) -> Result<Line, Error> {
    by_key(bench, case, tasks, Whose::Anyone, true, 0.85).await
}

async fn by_key(bench: &Bench, case: &str, tasks: usize, whose: Whose, ping: bool, least: f64) -> Result<Line, Error> {
    let database = baseline::sea_orm(&bench.world, ping).await?;
    let ours =
        async |length| throughput(tasks, length, |task| ours_by_key(Arc::clone(&bench.world), whose, task)).await;
    let theirs = async |length| {
        throughput(tasks, length, |task| theirs_by_key(Arc::clone(&bench.world), database.clone(), whose, task)).await
    };
    let comparison = compare(bench.plan, ours, theirs).await?;
    database.close().await.map_err(Error::doing("close the baseline"))?;
    Ok(Line::throughput(case, tasks, comparison, Some(least)))
}

/// Operations per second of ours, each task with its own tenant.
pub(super) async fn ours(bench: &Bench, tasks: usize, length: Duration) -> Result<f64, Error> {
    throughput(tasks, length, |task| ours_by_key(Arc::clone(&bench.world), Whose::Own, task)).await
}

/// As a request has it: the tenant is routed, then its repository is asked.
async fn ours_by_key(world: Arc<World>, whose: Whose, mut task: Task) -> Result<Task, Error> {
    while task.goes_on() {
        let asked = whose.next(&mut task);
        let db = world.tenantry.tenant(world.tenants[asked.tenant]).await.map_err(Error::doing("route a tenant"))?;
        let row = db.repository::<items::Entity>().find_by_id(asked.id()).await.map_err(Error::doing("read a row"))?;
        check(&world, asked, row.as_ref())?;
    }
    Ok(task)
}

async fn theirs_by_key(
    world: Arc<World>,
    database: DatabaseConnection,
    whose: Whose,
    mut task: Task,
) -> Result<Task, Error> {
    while task.goes_on() {
        let asked = whose.next(&mut task);
        let find = items::Entity::find_by_id((world.tenants[asked.tenant], asked.id()));
        let row = find.one(&database).await.map_err(Error::doing("read a row of the baseline"))?;
        check(&world, asked, row.as_ref())?;
    }
    Ok(task)
}

/// 50 rows of one status from a moment on, in the order of their creation.
pub(super) async fn page_read(bench: &Bench, case: &str, tasks: usize) -> Result<Line, Error> {
    let database = baseline::sea_orm(&bench.world, true).await?;
    let ours = async |length| throughput(tasks, length, |task| ours_by_page(Arc::clone(&bench.world), task)).await;
    let theirs = async |length| {
        throughput(tasks, length, |task| theirs_by_page(Arc::clone(&bench.world), database.clone(), task)).await
    };
    let comparison = compare(bench.plan, ours, theirs).await?;
    database.close().await.map_err(Error::doing("close the baseline"))?;
    Ok(Line::throughput(case, tasks, comparison, Some(1.0)))
}

async fn ours_by_page(world: Arc<World>, mut task: Task) -> Result<Task, Error> {
    while task.goes_on() {
        let asked = AskedPage::of(task.index, &mut task.random);
        let db = world.tenantry.tenant(world.tenants[asked.tenant]).await.map_err(Error::doing("route a tenant"))?;
        let query = Query::new()
            .filter(items::Column::Status.eq(status_of(asked.first)))
            .filter(items::Column::CreatedAt.gte(created_at(asked.first)))
            .order_by(items::Column::CreatedAt, Order::Asc)
            .limit(PAGE as u64);
        let rows = db.repository::<items::Entity>().find_many(&query).await.map_err(Error::doing("read a page"))?;
        asked.check(&world, &rows)?;
    }
    Ok(task)
}

async fn theirs_by_page(world: Arc<World>, database: DatabaseConnection, mut task: Task) -> Result<Task, Error> {
    while task.goes_on() {
        let asked = AskedPage::of(task.index, &mut task.random);
        let find = items::Entity::find()
            .filter(items::Column::TenantId.eq(world.tenants[asked.tenant]))
            .filter(items::Column::Status.eq(status_of(asked.first)))
            .filter(items::Column::CreatedAt.gte(created_at(asked.first)))
            .order_by_asc(items::Column::CreatedAt)
            .limit(PAGE as u64);
        let rows = find.all(&database).await.map_err(Error::doing("read a page of the baseline"))?;
        asked.check(&world, &rows)?;
    }
    Ok(task)
}
