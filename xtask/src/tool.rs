//! Programs from the package registry that the development harness runs, of one version each: what is there is used, and what
//! is missing is installed into target/, so that nobody has to install anything by hand.

use std::{path::PathBuf, process::Command};

use tenantry_cli::progress::Part;

use crate::{failure::Failure, process, workspace::Workspace};

/// Where they are installed: `bin/` is below.
const TOOLS: &str = "target/tools";

/// A program.
#[derive(Debug)]
pub(crate) struct Tool {
    /// Its package, and its name.
    pub(crate) package: &'static str,
    /// Needs a Rust that is no newer than the workspace's.
    pub(crate) version: &'static str,
    /// What it answers to `--version`.
    pub(crate) says: &'static str,
    /// Options that make it quick to build.
    pub(crate) without: &'static [&'static str],
}

impl Tool {
    /// The program of this version: from target/tools, from the PATH, or else installed.
    pub(crate) fn find_or_install(&self, workspace: &Workspace) -> Result<PathBuf, Failure> {
        let ours = workspace.path(&format!("{TOOLS}/bin/{}", self.package));
        let places = [ours.clone(), PathBuf::from(self.package)];
        let found = places.into_iter().find(|program| {
            let answer = Command::new(program).arg("--version").output();
            answer.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).trim() == self.says)
        });
        match found {
            Some(program) => Ok(program),
            None => self.install(workspace).map(|()| ours),
        }
    }

    fn install(&self, workspace: &Workspace) -> Result<(), Failure> {
        let Self { package, version, .. } = self;
        let mut cargo = Command::new(process::cargo());
        cargo.args(["install", package, "--version", version, "--locked", "--root", TOOLS]).args(self.without);
        cargo.current_dir(workspace.root()).env("CARGO_TERM_COLOR", "never");
        eprintln!("{package} {version} is not there; cargo installs it into {TOOLS}, which takes a few minutes once");
        let part = Part::spinner(package);
        let installed = process::watch(cargo, |line| part.note(line))?;
        if !installed.success {
            let command = format!("cargo install {package} --version {version}");
            return Err(Failure::Program { command, output: installed.lines.join("\n") });
        }
        part.finish(&format!("{package} {version} is in {TOOLS}"));
        Ok(())
    }
}
