//! `tenantry-bench-move`: moves one tenant and ends. Started by `tenantry-bench`, so that what is measured begins with a process;
//! the request comes on standard input, the answer goes to standard output.

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use tenantry::app_db::{AppDb, NewPlacement};
use tenantry::connection::{Actor, Pool, PoolOptions};
use tenantry::credential::Login;
use tenantry::transfer::{Done, Endpoint, Options, Outcome, Progress, Step};
use tenantry_bench::Error;
use tenantry_bench::world::moves::{End, Moved, Request, direct};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(moved) => {
            println!("{moved}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {}", error.with_causes());
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<String, Error> {
    let request: Request = serde_json::from_reader(std::io::stdin()).map_err(Error::doing("read the request"))?;
    let app_db = format!("sqlite:{}", request.app_db.display());
    let app_db = app_db.parse().map_err(Error::doing("read the application database's URL"))?;
    let app_db =
        Pool::new(&app_db, None, &PoolOptions::default()).map_err(Error::doing("open the application database"))?;
    let app_db = AppDb::new(app_db);
    let (source, target) = (end(&request, &request.source)?, end(&request, &request.target)?);
    let placed = app_db.placement(request.tenant).await.map_err(Error::doing("read the placement"))?;
    let placed = placed.ok_or_else(|| Error::Wrong("there is no such tenant".to_owned()))?;
    // Nobody opens it here; the application database wants one for each access.
    let sealed = Some("v1:default:aXZpdml2:dGFndGFn:c2VhbGVk".to_owned());
    let at = |end: &Endpoint| NewPlacement {
        url: Some(end.pool.url().clone()),
        anon_key: sealed.clone(),
        service_key: sealed.clone(),
        ..NewPlacement::default()
    };
    let (from, to) = (at(&source), at(&target));
    let request = tenantry::transfer::Request {
        app_db: &app_db,
        tenant: request.tenant,
        source,
        target,
        expected_epoch: placed.epoch,
        from,
        to,
        data_source: None,
        actor: Actor::default(),
        options: Options::default(),
    };
    let steps = Steps::default();
    let outcome = request.run(&steps).await.map_err(Error::doing("move the tenant"))?;
    let Outcome::Placed(Done { report: Some(report), .. }) = outcome else {
        return Err(Error::Wrong("it had been moved".to_owned()));
    };
    let moved = Moved { rows: report.records(), copying: steps.of(Step::Copy), peak: peak() };
    serde_json::to_string(&moved).map_err(Error::doing("write the answer"))
}

fn end(request: &Request, end: &End) -> Result<Endpoint, Error> {
    const DOING: &str = "reach a database";
    let url = end.url.parse().map_err(Error::doing(DOING))?;
    let login = Login::new(end.user.clone(), end.password.clone()).map_err(Error::doing(DOING))?;
    let pool = Pool::new(&url, Some(&login), &direct()).map_err(Error::doing(DOING))?;
    Ok(Endpoint::new(pool, request.tenant))
}

/// When each step began.
#[derive(Default)]
struct Steps(Mutex<Vec<(Step, Instant)>>);

impl Steps {
    /// How long a step took, in seconds.
    fn of(&self, step: Step) -> f64 {
        let Ok(begun) = self.0.lock() else { return f64::NAN };
        let place = begun.iter().position(|(begun, _)| *begun == step);
        let ends = place.and_then(|place| Some((begun.get(place)?.1, begun.get(place + 1)?.1)));
        ends.map_or(f64::NAN, |(begin, end)| (end - begin).as_secs_f64())
    }
}

impl Progress for Steps {
    fn step(&self, step: Step) {
        if let Ok(mut begun) = self.0.lock() {
            begun.push((step, Instant::now()));
        }
    }
}

/// The most resident memory of this process in bytes; 0 where the system does not tell it this way.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1_024
}
