//! `cargo xtask bench`: builds the benchmarks for release and runs them, with their output as it comes.
//!
//! The benchmarks are programs of their own: what they measure is not what this program was built with.

use std::process::{Command, ExitStatus};

use super::Outcome;
use crate::{failure::Failure, process, workspace::Workspace};

const PACKAGE: &str = "tenantry-bench";

/// Measures what isolation costs, on a private PostgreSQL server, against what an application would have without it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo xtask bench --quick\n  cargo xtask bench --case pk_read --case neighbour\n  \
                  cargo xtask bench --case pk_read/8 --json > figures.json\n\n\
                  docs/benchmarks.md says what each case measures. Run it on a machine that does nothing else.\n\
                  Exit status: 0 done, 1 with --check when a target was missed, 2 could not run."
)]
pub(crate) struct Args {
    /// Fewer and shorter rounds: three minutes for everything once it is built
    #[arg(long)]
    quick: bool,

    /// Answer with one JSON document; progress goes to standard error
    #[arg(long)]
    json: bool,

    /// Exit 1 when a target is missed
    #[arg(long)]
    check: bool,

    /// Run only this case, at all its sizes or as `pk_read/8` at one; may be given several times
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<Outcome, Failure> {
    // All of its programs: the one that is run starts another.
    let built = status(&["build", "--quiet", "--release", "--package", PACKAGE, "--bins"])?;
    if !built.success() {
        return Err(failed("build", built));
    }
    let mut arguments = vec!["run", "--quiet", "--release", "--package", PACKAGE, "--bin", PACKAGE, "--"];
    let flags = [(args.quick, "--quick"), (args.json, "--json"), (args.check, "--check")];
    arguments.extend(flags.iter().filter(|(given, _)| *given).map(|(_, flag)| *flag));
    for case in &args.cases {
        arguments.extend(["--case", case]);
    }
    let ended = status(&arguments)?;
    match ended.code() {
        Some(0) => Ok(Outcome::Done),
        Some(1) if args.check => Ok(Outcome::Found),
        _ => Err(failed("run", ended)),
    }
}

fn status(arguments: &[&str]) -> Result<ExitStatus, Failure> {
    let program = process::cargo();
    let mut cargo = Command::new(&program);
    cargo.args(arguments).current_dir(Workspace::here().root());
    cargo.status().map_err(|source| Failure::Start { program, source })
}

/// What it had to say it has said already.
fn failed(doing: &str, ended: ExitStatus) -> Failure {
    Failure::Program { command: format!("cargo {doing} --release --package {PACKAGE}"), output: ended.to_string() }
}
