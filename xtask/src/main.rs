//! `cargo xtask <command>`: the operators' commands for the reference schema, and the harness that builds and tests Tenantry.
//!
//! The operators' commands are those of `tenantry-cli`, as an application has them; of its own this program has what only
//! developers of Tenantry need. Decides nothing about tenants.
//!
//! Exit status: 0 when it is done, 1 when it found something wrong, 2 when it could not run.

mod commands;
mod demo;
mod entities;
mod failure;
mod process;
mod tidy;
mod tool;
mod workspace;

use std::process::ExitCode;

use self::commands::{Cli, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = tenantry_cli::parse::<Cli>();
    tenantry_cli::start_log();
    match cli.command {
        Command::Operators(command) => command.execute().await,
        Command::Harness(command) => match command.run().await {
            Ok(outcome) => outcome.into(),
            Err(failure) => {
                eprintln!("error: {}", tenantry_cli::with_causes(&failure));
                ExitCode::from(2)
            }
        },
    }
}
