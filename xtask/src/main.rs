//! The front door: `cargo xtask <command>`, for the people who build Tenantry and for the people who run it.
//!
//! Reads arguments, calls the crate that does the work and shows what came of it. Decides nothing about tenants: that logic
//! lives in the crates, so that an application can do the same without this program.
//!
//! Exit status: 0 when it is done, 1 when it found something wrong, 2 when it could not run.

mod commands;
mod demo;
mod entities;
mod failure;
mod operator;
mod process;
mod progress;
mod table;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use self::commands::{Cli, Outcome};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log();
    match cli.command.run().await {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Found) => ExitCode::from(1),
        Err(failure) => {
            eprintln!("error: {}", failure::with_sources(&failure));
            ExitCode::from(2)
        }
    }
}

/// Warnings and errors go to standard error; `RUST_LOG` says otherwise. Standard output is for what a command answers.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
