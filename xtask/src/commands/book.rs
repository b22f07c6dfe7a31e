//! `cargo xtask book`: makes a book of the pages in docs/, and checks that its links lead somewhere.
//!
//! mdBook makes it. Of one version, because what it warns of and how it names headings is checked; where that version is not
//! on the machine, it is installed into target/. Knows nothing of what the pages say.

mod pages;

use std::process::Command;

use super::Outcome;
use crate::{failure::Failure, process, tool::Tool, workspace::Workspace};

/// Without search, server and optimisation: a book is built in a second, and the tool in two minutes.
const MDBOOK: Tool =
    Tool { package: "mdbook", version: "0.5.4", says: "mdbook v0.5.4", without: &["--no-default-features", "--debug"] };
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
    let mut mdbook = Command::new(MDBOOK.find_or_install(&workspace)?);
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
