//! Inserting and updating single rows: ours under the fence, with the write log and without, the baseline under neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use sea_orm::ActiveValue::{Set, Unchanged};
use sea_orm::{ActiveModelTrait, DatabaseConnection};
use tenantry::realm::TenantEntity;
use tenantry::repository::RepositoryExt;

use super::{Bench, baseline};
use crate::Error;
use crate::method::{Random, Task, compare, throughput};
use crate::report::Line;
use crate::world::World;
use crate::world::items::{Asked, Row, check, items, items_unlogged};

/// What a write under the fence has to reach; with the write log there is no bound, since it writes a second row.
const FENCED: f64 = 0.8;

/// An entity whose rows this case writes, and how its models are made.
trait Written: TenantEntity<Model: Row, ActiveModel: Send + Sync> {
    const LOGGED: bool;

    /// A new row, without its tenant.
    fn fresh(random: &mut Random) -> Self::ActiveModel;

    /// A change of an amount.
    fn change(amount: i64) -> Self::ActiveModel;
}

macro_rules! written {
    ($module:ident, $logged:literal) => {
        impl Written for $module::Entity {
            const LOGGED: bool = $logged;

            fn fresh(random: &mut Random) -> $module::ActiveModel {
                $module::ActiveModel::fresh(random)
            }

            fn change(amount: i64) -> $module::ActiveModel {
                $module::ActiveModel { amount: Set(amount), ..Default::default() }
            }
        }
    };
}
written!(items, true);
written!(items_unlogged, false);

/// What is done to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Write {
    Insert,
    Update,
}

pub(super) async fn insert_fence(bench: &Bench, case: &str, tasks: usize) -> Result<Line, Error> {
    write::<items_unlogged::Entity>(bench, case, tasks, Write::Insert).await
}

pub(super) async fn insert_log(bench: &Bench, case: &str, tasks: usize) -> Result<Line, Error> {
    write::<items::Entity>(bench, case, tasks, Write::Insert).await
}

pub(super) async fn update_fence(bench: &Bench, case: &str, tasks: usize) -> Result<Line, Error> {
    write::<items_unlogged::Entity>(bench, case, tasks, Write::Update).await
}

pub(super) async fn update_log(bench: &Bench, case: &str, tasks: usize) -> Result<Line, Error> {
    write::<items::Entity>(bench, case, tasks, Write::Update).await
}

async fn write<E: Written>(bench: &Bench, case: &str, tasks: usize, write: Write) -> Result<Line, Error> {
    let world = &bench.world;
    let table = E::default().table_name().to_owned();
    // What earlier cases left dead is no part of this one; the twin's table had the writes of all of them.
    world.superuser_sql(&world.protected, &format!("VACUUM {table}"))?;
    world.superuser_sql(&world.plain, "VACUUM items")?;
    let database = baseline::sea_orm(world, true).await?;
    refused_while_fenced::<E>(world).await?;
    let before = Counts::read(world, &table)?;
    let written = Arc::new(AtomicU64::new(0));
    let ours = async |length| {
        let work = |task| ours::<E>(Arc::clone(world), write, Arc::clone(&written), task);
        throughput(tasks, length, work).await
    };
    let theirs =
        async |length| throughput(tasks, length, |task| theirs(Arc::clone(world), database.clone(), write, task)).await;
    let comparison = compare(bench.plan, ours, theirs).await?;
    database.close().await.map_err(Error::doing("close the baseline"))?;
    let written = written.load(Ordering::Relaxed);
    let expected = Counts {
        rows: before.rows + if write == Write::Insert { written } else { 0 },
        logged: before.logged + if E::LOGGED { written } else { 0 },
    };
    let after = Counts::read(world, &table)?;
    if after != expected {
        return Err(Error::Wrong(format!("{case} wrote {written} times and should leave {expected:?}, not {after:?}")));
    }
    Ok(Line::throughput(case, tasks, comparison, (!E::LOGGED).then_some(FENCED)))
}

async fn ours<E: Written>(
    world: Arc<World>,
    write: Write,
    written: Arc<AtomicU64>,
    mut task: Task,
) -> Result<Task, Error> {
    while task.goes_on() {
        let asked = Asked::of(task.index, &mut task.random);
        let db = world.tenantry.tenant(world.tenants[asked.tenant]).await.map_err(Error::doing("route a tenant"))?;
        let repository = db.repository::<E>();
        match write {
            Write::Insert => {
                let row = repository.create(E::fresh(&mut task.random)).await.map_err(Error::doing("insert a row"))?;
                inserted(&world, asked.tenant, &row)?;
            }
            Write::Update => {
                let amount = another_amount();
                let row =
                    repository.update(asked.id(), E::change(amount)).await.map_err(Error::doing("update a row"))?;
                updated(&world, asked, amount, &row)?;
            }
        }
        written.fetch_add(1, Ordering::Relaxed);
    }
    Ok(task)
}

async fn theirs(world: Arc<World>, database: DatabaseConnection, write: Write, mut task: Task) -> Result<Task, Error> {
    while task.goes_on() {
        let asked = Asked::of(task.index, &mut task.random);
        let tenant_id = world.tenants[asked.tenant];
        match write {
            Write::Insert => {
                let model =
                    items::ActiveModel { tenant_id: Set(tenant_id), ..items::ActiveModel::fresh(&mut task.random) };
                let row = model.insert(&database).await.map_err(Error::doing("insert a row of the baseline"))?;
                inserted(&world, asked.tenant, &row)?;
            }
            Write::Update => {
                let amount = another_amount();
                let model = items::ActiveModel {
                    tenant_id: Unchanged(tenant_id),
                    id: Unchanged(asked.id()),
                    amount: Set(amount),
                    ..Default::default()
                };
                let row = model.update(&database).await.map_err(Error::doing("update a row of the baseline"))?;
                updated(&world, asked, amount, &row)?;
            }
        }
    }
    Ok(task)
}

/// An amount that no row has: an update that changes nothing would leave no entry in the write log.
fn another_amount() -> i64 {
    static LAST: AtomicI64 = AtomicI64::new(1 << 32);
    LAST.fetch_add(1, Ordering::Relaxed)
}

fn inserted(world: &World, tenant: usize, row: &impl Row) -> Result<(), Error> {
    let (of, id, _, _) = row.told();
    // A random id of version 4: none of the rows that were there before has one.
    if of == world.tenants[tenant] && id.get_version_num() == 4 {
        Ok(())
    } else {
        Err(Error::Wrong(format!("inserted a row of tenant {tenant} and was given {:?}", row.told())))
    }
}

fn updated(world: &World, asked: Asked, amount: i64, row: &impl Row) -> Result<(), Error> {
    check(world, asked, Some(row))?;
    if row.told().2 == amount {
        Ok(())
    } else {
        Err(Error::Wrong(format!("set the amount of {asked:?} to {amount} and was given {:?}", row.told())))
    }
}

/// A write that the fence would let through is not what is to be measured.
async fn refused_while_fenced<E: Written>(world: &World) -> Result<(), Error> {
    let tenant = world.tenants[0];
    let fence = |sql: &str| world.superuser_sql(&world.protected, &format!("SELECT tenantry.{sql}"));
    fence(&format!("raise_fence('{tenant}', 'the benchmark tries it')"))?;
    let db = world.tenantry.tenant(tenant).await.map_err(Error::doing("route a tenant"))?;
    let created = db.repository::<E>().create(E::fresh(&mut Random::new(0))).await;
    fence(&format!("lower_fence('{tenant}')"))?;
    match created {
        Err(error) if error.to_string().contains("fenced") => Ok(()),
        other => Err(Error::Wrong(format!("a write of a fenced tenant came to {other:?}"))),
    }
}

/// Rows of a table, and the write log's entries about it.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    rows: u64,
    logged: u64,
}

impl Counts {
    fn read(world: &World, table: &str) -> Result<Self, Error> {
        let count = |from: &str| {
            let counted = world.superuser_sql(&world.protected, &format!("SELECT count(*) FROM {from}"))?;
            counted.trim().parse::<u64>().map_err(Error::doing("count what was written"))
        };
        Ok(Self { rows: count(table)?, logged: count(&format!("write_log WHERE table_name = '{table}'"))? })
    }
}
