//! `tenantry-bench-memory`: counts the allocations of look-ups and the bytes of cached tenants. Started by
//! `tenantry-bench`, with the application database of a fleet; prints one JSON object.
//!
//! A program of its own, because an allocator that counts costs time, which no other figure should pay.

use std::alloc::System;
use std::path::PathBuf;
use std::process::ExitCode;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tenantry::Tenantry;
use tenantry_bench::Error;
use tenantry_bench::cases::routing::{Counted, allocation_sizes, look_up, order};
use tenantry_bench::world::cache_placements;
use tenantry_bench::world::fleet::{self, Fleet};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

// One thread, so that nothing else allocates during the look-ups.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let counted = async {
        let path = std::env::args_os().nth(1).map(PathBuf::from);
        let path = path.ok_or_else(|| Error::Wrong("give the path of a fleet's application database".to_owned()))?;
        let counted = count(&Fleet::at(path)).await?;
        serde_json::to_string(&counted).map_err(Error::doing("write the counts as JSON"))
    };
    match counted.await {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {}", error.with_causes());
            ExitCode::from(2)
        }
    }
}

async fn count(fleet: &Fleet) -> Result<Counted, Error> {
    let tenantry = fleet.connect().await?;
    let mut allocations = Vec::new();
    let mut cached = 0;
    let mut memory = None;
    for size in allocation_sizes() {
        cache_placements(&tenantry, &fleet::tenants(cached..size), size).await?;
        let stats = ALLOCATOR.stats();
        let now = (size, stats.bytes_allocated - stats.bytes_deallocated, resident());
        // From the first size on: what a facade needs without tenants is not theirs.
        memory.get_or_insert((now, now)).1 = now;
        cached = size;
        allocations.push((size, allocations_per_look_up(&tenantry, size).await?));
    }
    let ((few, bytes_few, resident_few), (many, bytes_many, resident_many)) =
        memory.ok_or_else(|| Error::Wrong("no sizes".to_owned()))?;
    let per_tenant = |few_bytes: usize, many_bytes: usize| (many_bytes as f64 - few_bytes as f64) / (many - few) as f64;
    tenantry.close().await;
    Ok(Counted {
        allocations,
        bytes_per_tenant: per_tenant(bytes_few, bytes_many),
        resident_per_tenant: per_tenant(resident_few, resident_many),
    })
}

async fn allocations_per_look_up(tenantry: &Tenantry, tenants: usize) -> Result<f64, Error> {
    let order = order(tenants);
    look_up(tenantry, &order).await?;
    let region = Region::new(ALLOCATOR);
    look_up(tenantry, &order).await?;
    let change = region.change();
    Ok((change.allocations + change.reallocations) as f64 / order.len() as f64)
}

/// The resident memory of this process in bytes; 0 where the system does not tell it this way.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kibibytes.unwrap_or_default() * 1_024
}
