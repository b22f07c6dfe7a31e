//! The operators' commands as a library: what an application's own program needs to run, check and move its tenants.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! # use tenantry::migrations::{Migrator, TenantSchema};
//! struct Bookings;
//! # impl TenantSchema for Bookings {
//! #     fn migrations() -> Vec<Box<dyn sea_orm_migration::MigrationTrait>> { Vec::new() }
//! # }
//!
//! impl tenantry_cli::Application for Bookings {
//!     type TenantData = Migrator<Self>; // of the application's own `TenantSchema`
//!     const NAME: &'static str = "bookings";
//! }
//!
//! #[tokio::main]
//! async fn main() -> ExitCode {
//!     tenantry_cli::main::<Bookings>().await
//! }
//! ```
//!
//! That is the whole program: `bookings migrate up`, `bookings create-tenant …`, `bookings check-isolation`, each with `--help`
//! and, where a script would read it, `--json`. An application that has commands of its own puts [`Command`] beside them:
//!
//! ```no_run
//! # use std::process::ExitCode;
//! # struct Bookings;
//! # impl tenantry_cli::Application for Bookings {
//! #     type TenantData = tenantry::migrations::TenantDataMigrator;
//! #     const NAME: &'static str = "bookings";
//! #     fn command() -> clap::Command { <Cli as clap::CommandFactory>::command() }
//! # }
//! #[derive(clap::Parser)]
//! #[command(name = "bookings", bin_name = "bookings")]
//! enum Cli {
//!     #[command(flatten)]
//!     Operators(tenantry_cli::Command<Bookings>),
//!     /// Serves the bookings over HTTP
//!     Serve,
//! }
//!
//! #[tokio::main]
//! async fn main() -> ExitCode {
//!     let cli = tenantry_cli::parse::<Cli>();
//!     tenantry_cli::start_log();
//!     match cli {
//!         Cli::Operators(command) => command.execute().await,
//!         Cli::Serve => ExitCode::SUCCESS, // the application's own
//!     }
//! }
//! ```
//!
//! # What a script can rely on
//!
//! - Exit status: 0 it is done and nothing is wrong, 1 it found something wrong, 2 it could not run.
//! - With `--json` standard output holds one JSON document whatever happens: the report, or
//!   `{"error": {"message": …, "because": […], "help": …}}` with exit status 2.
//! - Standard error holds progress, warnings and, without `--json`, errors. Colours follow `NO_COLOR`, `CLICOLOR` and
//!   `CLICOLOR_FORCE`, and there are none where the output is no terminal.
//! - No login and no key is printed, whatever a command fails on.
//!
//! This crate reads arguments, calls [`tenantry::operations`] and shows what came of it. It knows no rule about tenants.

mod answer;
mod application;
mod command;
mod commands;
mod failure;
mod interrupt;
mod program;
pub mod progress;
pub mod text;

pub use answer::{answer, with_tenantry};
pub use application::Application;
pub use command::{Command, Outcome};
pub use failure::{Failure, with_causes};
pub use program::{exit, main, parse, start_log};

/// The README's examples compile, or this does not. It stands here because this crate sees everything that they use.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
