//! What a look-up costs: a cached tenant's id to its handle, in time, in allocations, and in memory for each tenant that is
//! cached.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tenantry::Tenantry;
use tenantry::data_source::TenantHandle;
use tokio::process::Command;
use uuid::Uuid;

use super::Bench;
use crate::Error;
use crate::method::{Random, compare};
use crate::report::{Bound, Figure, Line, Target};
use crate::world::cache_placements;
use crate::world::fleet::{self, Fleet};

/// Tenants that are cached; the first is what the others are compared with.
pub(super) const SIZES: [usize; 3] = [10, 10_000, fleet::TENANTS];
/// Look-ups between two looks at the clock.
const CHUNK: usize = 1_000;
/// Look-ups of which the order is settled beforehand.
const ORDER: usize = 1 << 16;

/// What the other program counted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Counted {
    /// For each of [`allocation_sizes`], the allocations of one look-up.
    pub allocations: Vec<(usize, f64)>,
    /// Bytes asked of the allocator, for each tenant cached.
    pub bytes_per_tenant: f64,
    /// The growth of resident memory, for each tenant cached.
    pub resident_per_tenant: f64,
}

/// The numbers of cached tenants at which allocations are counted.
pub fn allocation_sizes() -> [usize; 3] {
    SIZES
}

/// The order of look-ups among so many tenants: most of them are of a few hot ones.
pub fn order(tenants: usize) -> Vec<Uuid> {
    let mut random = Random::new(tenants as u64);
    let next = |_| {
        let among = if random.below(100) < fleet::HOT_PERCENT { tenants.min(fleet::HOT) } else { tenants };
        // Hot tenants are not neighbours in the order of their creation.
        fleet::tenant(random.below(among) * (tenants / among))
    };
    (0..ORDER).map(next).collect()
}

/// Looks tenants up and refuses a handle that is another's.
///
/// # Errors
/// What routing reports.
pub async fn look_up(tenantry: &Tenantry, tenants: &[Uuid]) -> Result<(), Error> {
    for tenant in tenants {
        let db = tenantry.tenant(*tenant).await.map_err(Error::doing("route a tenant of the fleet"))?;
        if db.tenant() != *tenant {
            return Err(Error::Wrong(format!("asked for {tenant} and was given {}", db.tenant())));
        }
    }
    Ok(())
}

pub(super) async fn route(bench: &Bench, case: &str, tenants: usize) -> Result<Line, Error> {
    let fleet = bench.fleet().await?;
    let counted = bench.counted().await?;
    let sides = [tenants, SIZES[0]];
    let mut facades = Vec::new();
    for size in sides {
        let tenantry = fleet.connect().await?;
        cache_placements(&tenantry, &fleet::tenants(0..size), size).await?;
        facades.push((tenantry, order(size)));
    }
    let time = async |side: usize, length| {
        let (tenantry, order) = facades[side].clone();
        // Spawned, so that it runs where a request would.
        let timed = tokio::spawn(async move { nanoseconds(&tenantry, &order, length).await });
        timed.await.map_err(Error::doing("run the look-ups"))?
    };
    let comparison = compare(bench.plan, async |length| time(0, length).await, async |length| time(1, length).await);
    let comparison = comparison.await?;
    for (tenantry, _) in &facades {
        tenantry.close().await;
    }
    let allocations =
        counted.allocations.iter().find(|(size, _)| *size == tenants).map_or(f64::NAN, |(_, count)| *count);
    let mut targets = vec![
        Target::new("ns", comparison.ours, Bound::AtMost(500.0)),
        // The handle is one; what a cache does now and then for itself is less than a hundredth of a call.
        Target::new("allocations per call", (allocations * 100.0).round() / 100.0, Bound::AtMost(1.0)),
    ];
    if tenants == fleet::TENANTS {
        targets.push(Target::new("times that at 10 tenants", comparison.ratio.median, Bound::AtMost(2.0)));
    }
    Ok(Line { case: format!("{case}/{tenants}"), figure: Figure::Time { comparison, allocations }, targets })
}

pub(super) async fn tenants_memory(bench: &Bench, case: &str, tenants: usize) -> Result<Line, Error> {
    let Counted { bytes_per_tenant: per_tenant, resident_per_tenant, .. } = *bench.counted().await?;
    Ok(Line {
        case: format!("{case}/{tenants}"),
        figure: Figure::Bytes { per_tenant, resident_per_tenant },
        targets: vec![Target::new("bytes per tenant", per_tenant, Bound::AtMost(1_536.0))],
    })
}

/// The time of one look-up.
async fn nanoseconds(tenantry: &Tenantry, order: &[Uuid], length: Duration) -> Result<f64, Error> {
    let begin = Instant::now();
    let mut look_ups = 0;
    for chunk in order.chunks_exact(CHUNK).cycle() {
        look_up(tenantry, chunk).await?;
        look_ups += chunk.len();
        if begin.elapsed() >= length {
            break;
        }
    }
    Ok(begin.elapsed().as_nanos() as f64 / look_ups as f64)
}

/// Runs the program that counts, which lies beside this one.
pub(super) async fn count(fleet: &Fleet) -> Result<Counted, Error> {
    let program = program().map_err(Error::doing("find the program that counts allocations"))?;
    if !program.exists() {
        let program = program.display();
        return Err(Error::Wrong(format!(
            "{program} is missing; build it with `cargo build --release -p tenantry-bench`"
        )));
    }
    let counting = Error::doing("run the program that counts allocations");
    let output = Command::new(&program).arg(fleet.path()).stderr(Stdio::inherit()).output().await.map_err(counting)?;
    if !output.status.success() {
        return Err(Error::Wrong(format!("{} ended with {}", program.display(), output.status)));
    }
    serde_json::from_slice(&output.stdout).map_err(Error::doing("read the counts"))
}

fn program() -> std::io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(format!("tenantry-bench-memory{}", std::env::consts::EXE_SUFFIX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_look_ups_are_of_the_hot_tenants_and_all_are_of_the_fleet() {
        let mut counts = std::collections::HashMap::new();
        for tenant in order(10_000) {
            *counts.entry(tenant).or_insert(0_usize) += 1;
        }
        let mut hot: Vec<usize> = counts.values().copied().collect();
        hot.sort_by(|a, b| b.cmp(a));
        let share = hot.iter().take(fleet::HOT).sum::<usize>() as f64 / ORDER as f64;
        assert!((0.89..0.92).contains(&share), "{share}");
        assert!(counts.len() > 4_000, "{}", counts.len());
        let fleet: std::collections::HashSet<_> = (0..10_000).map(fleet::tenant).collect();
        assert!(counts.keys().all(|tenant| fleet.contains(tenant)));
    }
}
