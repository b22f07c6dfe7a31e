//! `cargo xtask test`: everything that has to hold, in one run, on a machine that has nothing but Rust and PostgreSQL.
//!
//! Each step is a program of its own, run as a developer would run it, so that what fails here can be repeated by hand.
//! Flags and features stay the same from step to step: nothing is built twice.

mod documents;
mod operators;
mod results;
mod schemathesis;
mod steps;

use std::time::{Duration, Instant};

use tenantry_cli::{progress::Part, text::table};
use tenantry_test_support::{
    cluster::ensure_server_binaries,
    pooler::{ensure_pooler, or_skip},
};

use self::{
    results::Counts,
    steps::{STEPS, Step},
};
use super::Outcome;
use crate::{failure::Failure, process, workspace::Workspace};

/// Where each step's output is kept.
const LOGS: &str = "target/xtask-test";
/// How much of a failed step's output is shown.
const SHOWN: usize = 60;
/// What a machine without PgBouncer does without.
const BEHIND_A_POOLER: &str = "every scenario behind a pooler";

/// Runs everything: format, lints, all tests on private PostgreSQL servers and SQLite, generated files, documents, demo
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask test\n  cargo xtask test --only tidy --only tests\n\n\
                  PostgreSQL's server binaries and PgBouncer are looked for, and installed with apt-get where that is allowed.\n\
                  Without PgBouncer the scenarios behind a pooler are skipped; where CI is set, it is needed.\n\
                  Python 3 and PyPI are needed for the step schemathesis, and skipped without in the same way.\n\
                  Exit status: 0 everything passed, 1 something failed, 2 could not run.")]
pub(crate) struct Args {
    /// Run only this step; may be given several times
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
}

/// What came of a step.
#[derive(Debug)]
struct Done {
    name: &'static str,
    passed: bool,
    counts: Option<Counts>,
    took: Duration,
}

pub(crate) async fn run(Args { only }: Args) -> Result<Outcome, Failure> {
    let workspace = Workspace::here();
    let steps = chosen(&only)?;
    ensure_server_binaries(true).map_err(Failure::scratch("find the server for"))?;
    let pooler = or_skip(BEHIND_A_POOLER, ensure_pooler(true)).map_err(Failure::scratch("find the pooler for"))?;
    let mut done = Vec::new();
    for step in steps {
        done.push(run_step(&workspace, step)?);
    }

    println!("\n{}\n", summary(&done));
    for failed in done.iter().filter(|step| !step.passed) {
        println!("failed: {}, see {LOGS}/{}.log", failed.name, failed.name);
    }
    if pooler.is_none() {
        println!("skipped: {BEHIND_A_POOLER}, because PgBouncer is not installed");
    }
    println!("{}", least_rust(&process::rust_version()?));
    let (passed, failed) = total(&done);
    println!("{passed} passed, {failed} failed");
    Ok(Outcome::of(failed == 0))
}

/// What the run says of the least version of Rust that the manifests state: whoever builds with it has checked it.
fn least_rust(used: &str) -> String {
    let least = env!("CARGO_PKG_RUST_VERSION");
    if used == least || used.strip_prefix(least).is_some_and(|patch| patch.starts_with('.')) {
        format!("Rust {used} is the least version that is stated: this run has checked it")
    } else {
        format!("Rust {used} is not the least version that is stated, {least}: this run says nothing of that one")
    }
}

fn chosen(only: &[String]) -> Result<Vec<&'static Step>, Failure> {
    if let Some(unknown) = only.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        return Err(Failure::Argument(format!("there is no step {unknown:?}; there are {}", names.join(", "))));
    }
    Ok(STEPS.iter().filter(|step| only.is_empty() || only.iter().any(|name| name == step.name)).collect())
}

fn run_step(workspace: &Workspace, step: &Step) -> Result<Done, Failure> {
    let part = Part::spinner(step.name);
    let begin = Instant::now();
    let mut passed = true;
    let mut lines = Vec::new();
    for command in (step.commands)(workspace)? {
        let watched = process::watch(command, |line| part.note(line))?;
        passed &= watched.success;
        lines.extend(watched.lines);
    }
    let took = begin.elapsed();
    let counts = step.counts_tests.then(|| Counts::read(&lines));
    passed &= counts.is_none_or(|counts| counts.failed == 0);
    keep(workspace, step.name, &lines)?;

    let counted = counts.map(|counts| format!(", {} passed, {} failed", counts.passed, counts.failed));
    let (verdict, counted) = (if passed { "ok" } else { "FAILED" }, counted.unwrap_or_default());
    part.finish(&format!("{:<10} {verdict} in {:.1} s{counted}", step.name, took.as_secs_f64()));
    if !passed {
        for line in results::telling(&lines, SHOWN) {
            eprintln!("    {line}");
        }
    }
    Ok(Done { name: step.name, passed, counts, took })
}

fn keep(workspace: &Workspace, name: &str, lines: &[String]) -> Result<(), Failure> {
    workspace.write(&format!("{LOGS}/{name}.log"), &(lines.join("\n") + "\n"))
}

fn summary(done: &[Done]) -> String {
    let rows: Vec<_> = done
        .iter()
        .map(|step| {
            let count =
                |pick: fn(&Counts) -> usize| step.counts.as_ref().map(|c| pick(c).to_string()).unwrap_or_default();
            [
                step.name.to_owned(),
                if step.passed { "ok" } else { "FAILED" }.to_owned(),
                count(|counts| counts.passed),
                count(|counts| counts.failed),
                count(|counts| counts.ignored),
                format!("{:.1} s", step.took.as_secs_f64()),
            ]
        })
        .collect();
    table(["step", "result", "passed", "failed", "ignored", "time"], &rows)
}

/// Tests that passed and failed, over all test binaries. A step that failed without a failed test, such as the format,
/// counts as one failure: no run that failed may end in `0 failed`.
fn total(done: &[Done]) -> (usize, usize) {
    done.iter().fold((0, 0), |(passed, failed), step| {
        let counts = step.counts.unwrap_or_default();
        (passed + counts.passed, failed + counts.failed.max(usize::from(!step.passed)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(passed: bool, counts: Option<(usize, usize)>) -> Done {
        let counts = counts.map(|(passed, failed)| Counts { passed, failed, ignored: 0 });
        Done { name: "step", passed, counts, took: Duration::ZERO }
    }

    /// Catches a run that ends in `0 failed` although something failed.
    #[test]
    fn whatever_failed_is_counted() {
        assert_eq!(total(&[step(true, None), step(true, Some((7, 0)))]), (7, 0));
        assert_eq!(total(&[step(false, None), step(true, Some((7, 0)))]), (7, 1));
        assert_eq!(total(&[step(false, Some((7, 2)))]), (7, 2));
        assert_eq!(total(&[step(false, Some((7, 0)))]), (7, 1), "a test binary that crashed reports no failed test");
    }

    /// Catches a run with a newer Rust that passes for a check of the least one.
    #[test]
    fn only_the_least_rust_checks_the_least_rust() {
        let least = env!("CARGO_PKG_RUST_VERSION");
        assert!(least_rust(&format!("{least}.3")).ends_with("has checked it"));
        assert!(least_rust(&format!("{least}0.0")).contains("says nothing"));
    }

    #[test]
    fn an_unknown_step_is_refused_with_the_names() {
        assert!(chosen(&["tests".to_owned()]).is_ok_and(|steps| steps.len() == 1));
        let refused = chosen(&["test".to_owned()]).map(|steps| steps.len()).map_err(|failure| failure.to_string());
        assert!(refused.is_err_and(|text| text.contains("there are format, ")));
    }
}
