//! `cargo xtask book`: makes a book of the pages in docs/, and checks that its links lead somewhere.
//!
//! mdBook makes it. Of one version, because what it warns of and how it names headings is checked; where that version is not
//! on the machine, it is installed into target/. Knows nothing of what the pages say.

mod pages;

use std::{path::PathBuf, process::Command};

use tenantry_cli::progress::Part;

use super::Outcome;
use crate::{failure::Failure, process, workspace::Workspace};

/// Needs a Rust that is no newer than the workspace's.
const VERSION: &str = "0.5.4";
/// Where it is installed: `bin/` is below.
const TOOLS: &str = "target/tools";
/// As book.toml has it.
const BOOK: &str = "target/book";

/// Builds the pages of docs/ as a book, into target/book
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask book --open\n  cargo xtask book --check\n\n\
                  mdBook is looked for in target/tools and on the PATH; without it, cargo installs it into target/tools.\n\
                  Exit status: 0 built, 1 with --check when something is wrong with it, 2 could not run.")]
pub(crate) struct Args {
    /// Show it in a browser
    #[arg(long)]
    open: bool,

    /// Exit 1 when mdBook warns of something, or a link leads nowhere
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome, Failure> {
    let workspace = Workspace::here();
    let mut mdbook = Command::new(found(&workspace).map_or_else(|| install(&workspace), Ok)?);
    mdbook.arg("build").current_dir(workspace.root()).env_remove("MDBOOK_LOG");
    if args.open {
        mdbook.arg("--open");
    }
    // What was built from a page that is gone would be there for ever, and be linked to.
    let book = workspace.path(BOOK);
    if book.exists() {
        std::fs::remove_dir_all(&book).map_err(Failure::file("remove", &book))?;
    }
    let built = process::watch(mdbook, |_| {})?;
    if !built.success {
        return Err(Failure::Program { command: "mdbook build".to_owned(), output: built.lines.join("\n") });
    }
    let warned = built.lines.iter().filter(|line| is_complaint(line)).cloned();
    let wrong: Vec<String> = warned.chain(pages::check(&workspace, BOOK)?).collect();
    for line in &wrong {
        println!("{}", line.trim());
    }
    println!("{BOOK}/index.html{}", if wrong.is_empty() { "" } else { ": see above" });
    Ok(Outcome::of(wrong.is_empty() || !args.check))
}

/// The log's lines begin with their level.
fn is_complaint(line: &str) -> bool {
    matches!(line.split_whitespace().next(), Some("WARN" | "ERROR"))
}

/// The program of this version that is there already.
fn found(workspace: &Workspace) -> Option<PathBuf> {
    let places = [workspace.path(&format!("{TOOLS}/bin/mdbook")), PathBuf::from("mdbook")];
    places.into_iter().find(|program| {
        let answer = Command::new(program).arg("--version").output();
        answer.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).trim() == format!("mdbook v{VERSION}"))
    })
}

/// Without search, server and optimisation: a book is built in a second, and the tool in two minutes.
fn install(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let mut cargo = Command::new(process::cargo());
    cargo.args(["install", "mdbook", "--version", VERSION, "--locked", "--no-default-features", "--debug", "--root"]);
    cargo.arg(TOOLS).current_dir(workspace.root()).env("CARGO_TERM_COLOR", "never");
    eprintln!("mdbook {VERSION} is not there; cargo installs it into {TOOLS}, which takes a few minutes once");
    let part = Part::spinner("mdbook");
    let installed = process::watch(cargo, |line| part.note(line))?;
    if !installed.success {
        let command = format!("cargo install mdbook --version {VERSION}");
        return Err(Failure::Program { command, output: installed.lines.join("\n") });
    }
    part.finish(&format!("mdbook {VERSION} is in {TOOLS}"));
    Ok(workspace.path(&format!("{TOOLS}/bin/mdbook")))
}
