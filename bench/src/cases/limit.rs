//! The limit: what the server can do with the same query, asked by pgbench, which does nothing but ask.

use std::path::PathBuf;
use std::time::Duration;

use tenantry_test_support::cluster::HOST;
use tokio::process::Command;

use super::{Bench, reads};
use crate::Error;
use crate::method::compare;
use crate::report::Line;
use crate::world::items::{Asked, check_text};
use crate::world::{ROWS, World};

const LEAST: f64 = 0.75;

/// The query as SeaORM words it. pgbench draws numbers only, so that the row's id is made from its digits in the server,
/// which costs it a third of a microsecond.
fn query(tenant: &str, row: &str) -> String {
    format!(
        r#"SELECT "items"."tenant_id", "items"."id", "items"."name", "items"."amount", "items"."status", "items"."created_at", "items"."updated_at" FROM "items" WHERE "items"."tenant_id" = {tenant} AND "items"."id" = lpad({row}, 32, '0')::uuid LIMIT 1;"#
    )
}

/// Each of our tasks stays with a tenant of its own; pgbench has a script for each of these tenants.
pub(super) async fn pk_read_limit(bench: &Bench, case: &str, tasks: usize) -> Result<Line, Error> {
    let world = &bench.world;
    let asked = Asked { tenant: 7, row: 42 };
    let sql = query(&format!("'{}'", world.tenants[asked.tenant]), &format!("'{}'", asked.row));
    let answer = world.plain.psql(&world.plain.service, &sql).map_err(Error::doing("try pgbench's query"))?;
    check_text(world, asked, &answer)?;

    let scripts: Result<Vec<_>, Error> = (0..tasks).map(|tenant| script(world, tenant)).collect();
    let scripts = scripts?;
    // Transactions, not seconds, bound a run: pgbench knows only whole seconds.
    let mut rate = run(world, &scripts, 2_000).await?;
    let ours = async |length| reads::ours(bench, tasks, length).await;
    let limit = async |length: Duration| {
        let transactions = (rate * length.as_secs_f64() / tasks as f64).ceil() as u64;
        rate = run(world, &scripts, transactions.max(100)).await?;
        Ok(rate)
    };
    let comparison = compare(bench.plan, ours, limit).await?;
    Ok(Line::throughput(case, tasks, comparison, Some(LEAST)))
}

/// A script that reads rows of one tenant, whose id is the variable of the tenant's number.
fn script(world: &World, tenant: usize) -> Result<PathBuf, Error> {
    let path = world.directory.path().join(format!("pk_read_{tenant}.sql"));
    let text = format!("\\set row random(0, {})\n{}\n", ROWS - 1, query(&format!(":tenant{tenant}"), ":row"));
    std::fs::write(&path, text).map_err(Error::doing("write pgbench's script"))?;
    Ok(path)
}

/// Transactions per second of as many clients as there are scripts, without the time of connecting.
async fn run(world: &World, scripts: &[PathBuf], transactions: u64) -> Result<f64, Error> {
    let clients = scripts.len();
    let threads = clients.min(std::thread::available_parallelism().map_or(1, usize::from));
    let login = &world.plain.service;
    let mut pgbench = Command::new(world.cluster().bindir().join("pgbench"));
    pgbench
        .args(["-M", "prepared", "-n", "-c", &clients.to_string(), "-j", &threads.to_string()])
        .args(["-t", &transactions.to_string(), "-h", HOST, "-p", &world.plain.port.to_string(), "-U", &login.user])
        .env("PGPASSWORD", &login.password)
        .env("LC_ALL", "C");
    for (tenant, script) in scripts.iter().enumerate() {
        pgbench.args(["-D", &format!("tenant{tenant}={}", world.tenants[tenant]), "-f"]).arg(script);
    }
    pgbench.arg(&world.plain.name);
    let output = pgbench.output().await.map_err(Error::doing("run pgbench"))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let complete = printed.contains("number of failed transactions: 0 (");
    match rate(&printed) {
        Some(rate) if output.status.success() && complete => Ok(rate),
        _ => Err(Error::Wrong(format!("pgbench failed:\n{printed}{}", String::from_utf8_lossy(&output.stderr)))),
    }
}

fn rate(printed: &str) -> Option<f64> {
    let line =
        printed.lines().find(|line| line.starts_with("tps = ") && line.contains("without initial connection"))?;
    line.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_leaves_connecting_out() {
        let printed = "number of failed transactions: 0 (0.000%)\nlatency average = 0.023 ms\n\
                       initial connection time = 3.1 ms\ntps = 43210.5 (without initial connection time)\n";
        assert_eq!(rate(printed), Some(43_210.5));
        assert_eq!(rate("tps = 1 (including connections establishing)"), None);
    }
}
