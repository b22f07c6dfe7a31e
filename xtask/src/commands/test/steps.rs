//! The steps of `cargo xtask test`, cheapest complaint first.

use std::process::Command;

use super::{documents, operators, schemathesis};
use crate::{failure::Failure, process, workspace::Workspace};

/// A step: its commands, and whether they print test results.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) commands: fn(&Workspace) -> Result<Vec<Command>, Failure>,
    pub(super) counts_tests: bool,
}

const fn step(name: &'static str, commands: fn(&Workspace) -> Result<Vec<Command>, Failure>) -> Step {
    Step { name, commands, counts_tests: false }
}

pub(super) const STEPS: &[Step] = &[
    step("format", |workspace| Ok(vec![cargo(workspace, &["fmt", "--all", "--check"])])),
    step("lints", |workspace| {
        Ok(vec![cargo(workspace, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])])
    }),
    Step {
        counts_tests: true,
        ..step("tests", |workspace| Ok(vec![cargo(workspace, &["test", "--workspace", "--no-fail-fast"])]))
    },
    step("apidocs", |workspace| {
        let mut doc = cargo(workspace, &["doc", "--workspace", "--no-deps"]);
        // Read by rustdoc alone: nothing else is built anew for it.
        doc.env("RUSTDOCFLAGS", "-D warnings");
        Ok(vec![doc])
    }),
    step("engines", |workspace| {
        Ok(["postgres", "sqlite"].iter().flat_map(|engine| alone(workspace, engine)).collect())
    }),
    step("entities", |workspace| Ok(vec![xtask(workspace, &["generate-entities", "--check"])])),
    step("tidy", |workspace| Ok(vec![xtask(workspace, &["tidy"])])),
    step("pages", |workspace| Ok(vec![xtask(workspace, &["generate-docs", "--check"])])),
    step("dependencies", |workspace| Ok(vec![xtask(workspace, &["deny"])])),
    step("book", |workspace| Ok(vec![xtask(workspace, &["book", "--check"])])),
    step("demo", |workspace| Ok(vec![xtask(workspace, &["demo"])])),
    step("example", |workspace| Ok(vec![cargo(workspace, &["run", "--quiet", "--package", "bookings"])])),
    step("servers", |workspace| Ok(vec![xtask(workspace, &["demo", "--postgres"])])),
    step("operators", operators::script),
    step("documents", documents::scripts),
    step("schemathesis", schemathesis::script),
];

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = Command::new(process::cargo());
    command.args(arguments).current_dir(workspace.root());
    command.env("CARGO_TERM_COLOR", "never").env("CARGO_TERM_PROGRESS_WHEN", "never");
    documents::without_settings(&mut command);
    command
}

/// The facade with one engine, and what a URL of the other one comes to.
fn alone(workspace: &Workspace, engine: &str) -> [Command; 2] {
    let lints = ["clippy", "--package", "tenantry", "--no-default-features", "--features", engine];
    let mut lints = cargo(workspace, &lints);
    lints.args(["--", "-D", "warnings"]);
    let tests = ["test", "--package", "tenantry-connection", "--features", engine, "--lib", "pool::tests"];
    [lints, cargo(workspace, &tests)]
}

/// This program as a developer starts it. The file that is running may have been replaced by the tests' build.
fn xtask(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = cargo(workspace, &["run", "--quiet", "--package", "xtask", "--"]);
    command.args(arguments);
    command
}
