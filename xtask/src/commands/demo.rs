//! `cargo xtask demo`: the whole of Tenantry on a sample, in seconds.

use std::path::PathBuf;

use super::Outcome;
use crate::{demo, failure::Failure};

/// Splits a sample database in front of your eyes and measures everything it claims
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo xtask demo\n  cargo xtask demo --postgres\n  cargo xtask demo --keep ./demo\n\n\
                  Exit status: 0 every record of tenant default is where it belongs, 1 one is not, 2 could not run."
)]
pub(crate) struct Args {
    /// On private PostgreSQL servers, started for this and thrown away
    #[arg(long, conflicts_with = "keep")]
    postgres: bool,
    /// Keep the SQLite files in this folder, with the settings to go on with them
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

pub(crate) async fn run(args: Args) -> Result<Outcome, Failure> {
    demo::run(demo::Plan { postgres: args.postgres, keep: args.keep }).await
}
