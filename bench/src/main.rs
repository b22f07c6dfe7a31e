//! `tenantry-bench`: runs the cases and says what came of them. Started by `cargo xtask bench`.
//!
//! Exit status: 0 when it is done, 1 with `--check` when a target was missed, 2 when it could not run.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tenantry_bench::Error;
use tenantry_bench::cases::{Bench, chosen};
use tenantry_bench::method::Plan;
use tenantry_bench::report::Report;
use tenantry_bench::world::{CONNECTIONS, ROWS, TENANTS, World};
use tenantry_test_support::{cluster, pooler};

/// Measures what isolation costs
#[derive(Debug, Parser)]
struct Args {
    /// Fewer and shorter rounds
    #[arg(long)]
    quick: bool,

    /// One JSON document on standard output, progress on standard error
    #[arg(long)]
    json: bool,

    /// Exit 1 when a target is missed
    #[arg(long)]
    check: bool,

    /// Run only this case, at all its sizes or as `pk_read/8` at one; may be given several times
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
}

const FULL: Plan = Plan { rounds: 15, warm_up: 2, length: Duration::from_millis(600) };
const QUICK: Plan = Plan { rounds: 7, warm_up: 1, length: Duration::from_millis(200) };

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args).await {
        Ok(report) if args.check && !report.is_reached() => ExitCode::from(1),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.with_causes());
            ExitCode::from(2)
        }
    }
}

async fn run(args: &Args) -> Result<Report, Error> {
    let chosen = chosen(&args.cases)?;
    cluster::ensure_server_binaries(true).map_err(Error::doing("find the server"))?;
    if chosen.iter().any(|(case, _)| *case == "pooler_read") {
        pooler::ensure_pooler(true).map_err(Error::doing("find PgBouncer"))?;
    }
    let plan = if args.quick { QUICK } else { FULL };
    let say = |text: &str| if args.json { eprintln!("{text}") } else { println!("{text}") };

    eprintln!("preparing {TENANTS} tenants with {ROWS} rows each");
    let begin = Instant::now();
    let bench = Bench::new(World::new().await?, plan);
    let mut report = Report {
        versions: versions(&bench.world)?,
        server_settings: bench.world.server_settings().await?,
        method: method(plan),
        cases: Vec::new(),
    };
    eprintln!("prepared in {:.1} s", begin.elapsed().as_secs_f64());
    say(report.heading().trim_end());
    for (case, size) in chosen {
        let line = bench.run(case, size).await?;
        say(&line.to_string());
        report.cases.push(line);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(Error::doing("write the report as JSON"))?);
    }
    say(&format!("\n{}", report.table()));
    eprintln!("took {:.0} s", begin.elapsed().as_secs_f64());
    Ok(report)
}

fn versions(world: &World) -> Result<Vec<(String, String)>, Error> {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    Ok(vec![
        pair("tenantry", env!("CARGO_PKG_VERSION").to_owned()),
        pair("sea-orm", locked("sea-orm").to_owned()),
        pair("sqlx", locked("sqlx").to_owned()),
        pair("PostgreSQL", world.server_version()?),
        pair("cores", cores.to_string()),
        pair("runtime threads", tokio::runtime::Handle::current().metrics().num_workers().to_string()),
        pair("connections on each side", CONNECTIONS.to_string()),
        pair("build", if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned()),
    ])
}

/// The version of a package that this program was built with.
fn locked(package: &str) -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{package}\"\n")));
    entry.and_then(|entry| entry.split("version = \"").nth(1)?.split('"').next()).unwrap_or("unknown")
}

fn method(plan: Plan) -> Vec<String> {
    vec![
        format!("{TENANTS} tenants with {ROWS} rows each, TCP on {}, one machine", cluster::HOST),
        format!(
            "ratio: median of the rounds' ratios; spread: their 10th to 90th percentile; {} rounds of {} ms on each side, \
             in alternating order, after {} that are dropped",
            plan.rounds,
            plan.length.as_millis(),
            plan.warm_up
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_lock_file() {
        assert!(locked("sea-orm").starts_with("2."), "{}", locked("sea-orm"));
        assert_eq!(locked("no-such-package"), "unknown");
    }
}
