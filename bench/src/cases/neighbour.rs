//! What one tenant's storm costs its neighbours: their latencies with it and without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sea_orm::ActiveValue::Set;
use sea_orm::sqlx::postgres::PgPoolOptions;
use sea_orm::sqlx::{self, Connection, PgConnection, PgPool};
use tenantry::Tenantry;
use tenantry::repository::RepositoryExt;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::Bench;
use crate::Error;
use crate::method::{Random, compare, quantile};
use crate::report::{Bound, Figure, Line, Target};
use crate::world::World;
use crate::world::items::{Asked, check, items, naps};

/// Connections of the data source here.
const CAP: u32 = 10;
/// The stormy tenant's own share of them.
const SHARE: u32 = 5;
/// Tasks of the stormy tenant, each holding a connection for 20 ms at a time.
const STORM: usize = 500;
/// Tasks of the neighbours, each of a tenant of its own.
const NEIGHBOURS: usize = 4;
/// A round of the storm is long enough for the storm's queue to be served once.
const LEAST_LENGTH: Duration = Duration::from_secs(1);

pub(super) async fn neighbour(bench: &Bench, case: &str, storm: usize) -> Result<Line, Error> {
    let world = &bench.world;
    let tenantry = tenants(world).await?;
    let watched = AtomicU64::new(0);
    let in_the_storm = async |length| {
        let mut tasks = JoinSet::new();
        let naps = Arc::new(AtomicU64::new(0));
        for _ in 0..storm {
            tasks.spawn(nap_for_ever(tenantry.clone(), world.tenants[NEIGHBOURS], Arc::clone(&naps)));
        }
        // The storm rages once connections went round among its tasks.
        while naps.load(Ordering::Relaxed) < 2 * u64::from(SHARE) {
            let early = tokio::time::timeout(Duration::from_millis(5), tasks.join_next()).await;
            if let Ok(Some(ended)) = early {
                ended.map_err(Error::doing("keep the storm going"))??;
            }
        }
        let begun = naps.load(Ordering::Relaxed);
        let watch = async {
            let busy = most_sleepers(world, length).await?;
            watched.fetch_max(busy, Ordering::Relaxed);
            Ok(())
        };
        let (latencies, ()) = tokio::try_join!(latencies(world, &tenantry, length), watch)?;
        if naps.load(Ordering::Relaxed) == begun {
            return Err(Error::Wrong("the storm stood still while its neighbours were measured".to_owned()));
        }
        tasks.shutdown().await;
        Ok(quantile(&latencies, 0.99))
    };
    let quiet = async |length| Ok(quantile(&latencies(world, &tenantry, length).await?, 0.99));
    let plan = crate::method::Plan { length: bench.plan.length.max(LEAST_LENGTH), ..bench.plan };
    let comparison = compare(plan, in_the_storm, quiet).await?;
    tenantry.close().await;
    Ok(Line {
        case: format!("{case}/{storm}"),
        figure: Figure::Latency { comparison },
        targets: vec![
            Target::new("ratio", comparison.ratio.median, Bound::AtMost(3.0)),
            Target::new(
                "connections of the storm",
                watched.load(Ordering::Relaxed) as f64,
                Bound::AtMost(f64::from(SHARE)),
            ),
        ],
    })
}

/// The same readers and the same storm, which comes from a pool of the driver's own with as many connections as the stormy tenant's
/// share: what of the ratio is the server's and the system's, and would be there without this project.
pub(super) async fn neighbour_foreign(bench: &Bench, case: &str, storm: usize) -> Result<Line, Error> {
    let world = &bench.world;
    let tenantry = tenants(world).await?;
    let doing = || Error::doing("connect the storm");
    let pool = PgPoolOptions::new().max_connections(SHARE).acquire_timeout(Duration::from_secs(60));
    let pool = pool.connect(&world.protected.superuser_url()).await.map_err(doing())?;
    let in_the_storm = async |length| {
        let mut tasks = JoinSet::new();
        let naps = Arc::new(AtomicU64::new(0));
        for _ in 0..storm {
            tasks.spawn(nap_abroad(pool.clone(), world.tenants[NEIGHBOURS], Arc::clone(&naps)));
        }
        while naps.load(Ordering::Relaxed) < 2 * u64::from(SHARE) {
            let early = tokio::time::timeout(Duration::from_millis(5), tasks.join_next()).await;
            if let Ok(Some(ended)) = early {
                ended.map_err(Error::doing("keep the storm going"))??;
            }
        }
        let latencies = latencies(world, &tenantry, length).await?;
        tasks.shutdown().await;
        Ok(quantile(&latencies, 0.99))
    };
    let quiet = async |length| Ok(quantile(&latencies(world, &tenantry, length).await?, 0.99));
    let plan = crate::method::Plan { length: bench.plan.length.max(LEAST_LENGTH), ..bench.plan };
    let comparison = compare(plan, in_the_storm, quiet).await?;
    pool.close().await;
    tenantry.close().await;
    Ok(Line { case: format!("{case}/{storm}"), figure: Figure::Latency { comparison }, targets: Vec::new() })
}

async fn nap_abroad(pool: PgPool, tenant: Uuid, naps: Arc<AtomicU64>) -> Result<(), Error> {
    loop {
        let nap = sqlx::query("INSERT INTO naps (tenant_id, id, name) VALUES ($1, $2, 'a nap')");
        let done = nap.bind(tenant).bind(Uuid::new_v4()).execute(&pool).await;
        done.map_err(Error::doing("take a nap"))?;
        naps.fetch_add(1, Ordering::Relaxed);
    }
}

/// Another installation on the same data source, with a cap and a share of its own.
async fn tenants(world: &World) -> Result<Tenantry, Error> {
    let (tenantry, app_db) = world.installation(world.row(CAP)?, NEIGHBOURS + 1).await?;
    let mut connection = sqlx::SqliteConnection::connect(&format!("sqlite:{}", app_db.display()))
        .await
        .map_err(Error::doing("open the application database"))?;
    // There is no call for it: an operator sets a share where the tenant's row is.
    let set = sqlx::query("UPDATE tenants SET connection_pool_config = $1 WHERE id = $2")
        .bind(format!(r#"{{"min": 1, "max": {SHARE}}}"#))
        .bind(world.tenants[NEIGHBOURS])
        .execute(&mut connection)
        .await
        .map_err(Error::doing("set the stormy tenant's share"))?;
    if set.rows_affected() != 1 {
        return Err(Error::Wrong("the stormy tenant's share was not set".to_owned()));
    }
    connection.close().await.map_err(Error::doing("close the application database"))?;
    Ok(tenantry)
}

async fn nap_for_ever(tenantry: Tenantry, tenant: Uuid, naps: Arc<AtomicU64>) -> Result<(), Error> {
    loop {
        let db = tenantry.tenant(tenant).await.map_err(Error::doing("route the stormy tenant"))?;
        let nap = naps::ActiveModel { name: Set("a nap".to_owned()), ..Default::default() };
        db.repository::<naps::Entity>().create(nap).await.map_err(Error::doing("take a nap"))?;
        naps.fetch_add(1, Ordering::Relaxed);
    }
}

/// The latencies of the neighbours' reads, in milliseconds.
async fn latencies(world: &Arc<World>, tenantry: &Tenantry, length: Duration) -> Result<Vec<f64>, Error> {
    let end = Instant::now() + length;
    let mut tasks = JoinSet::new();
    for neighbour in 0..NEIGHBOURS {
        tasks.spawn(read_until(Arc::clone(world), tenantry.clone(), neighbour, end));
    }
    let mut latencies = Vec::new();
    while let Some(done) = tasks.join_next().await {
        latencies.extend(done.map_err(Error::doing("run a neighbour"))??);
    }
    Ok(latencies)
}

async fn read_until(world: Arc<World>, tenantry: Tenantry, neighbour: usize, end: Instant) -> Result<Vec<f64>, Error> {
    let mut random = Random::new(neighbour as u64);
    let mut latencies = Vec::new();
    let mut begin = Instant::now();
    while begin < end {
        let asked = Asked::of(neighbour, &mut random);
        let db = tenantry.tenant(world.tenants[neighbour]).await.map_err(Error::doing("route a neighbour"))?;
        let row = db.repository::<items::Entity>().find_by_id(asked.id()).await;
        check(&world, asked, row.map_err(Error::doing("read a neighbour's row"))?.as_ref())?;
        let now = Instant::now();
        latencies.push((now - begin).as_secs_f64() * 1_000.0);
        begin = now;
    }
    Ok(latencies)
}

/// The most connections that slept in the server at a time, asked for now and then.
async fn most_sleepers(world: &World, length: Duration) -> Result<u64, Error> {
    let asking = || Error::doing("watch the storm's connections");
    let mut connection = PgConnection::connect(&world.protected.superuser_url()).await.map_err(asking())?;
    let end = Instant::now() + length;
    let mut most = 0;
    while Instant::now() < end {
        let sleepers: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
            .fetch_one(&mut connection)
            .await
            .map_err(asking())?;
        most = most.max(sleepers.unsigned_abs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    connection.close().await.map_err(asking())?;
    Ok(most)
}

/// The sizes of the case.
pub(super) const SIZES: [usize; 1] = [STORM];
