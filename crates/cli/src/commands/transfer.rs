//! `transfer`: tenants from where they are to another data source, and what has been begun.

mod begun;
mod plan;
mod request;
mod run;

use clap::Subcommand;

use crate::{Application, Failure, Outcome};

/// Moves tenants from one data source to another: every row is copied and compared before they are routed there
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    disable_help_subcommand = true,
    after_help = "Example:\n  {program} transfer plan acme --to postgresql://db2:5432/acme --kind dedicated\n  \
                  {program} transfer run acme --to postgresql://db2:5432/acme --kind dedicated\n  \
                  {program} transfer status acme\n\n\
                  A tenant's writes are held while its rows are copied and compared; reads go on. The rows stay where they\n\
                  were, fenced, until `purge`, and `rollback` brings the tenant back with what was written since.\n\n\
                  Exit status: 0 done, 1 one was refused, failed or differs, 2 could not run."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
    /// Print the report as JSON; an error as well
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    Plan(plan::Args),
    Run(run::Args),
    Status(begun::StatusArgs),
    List(begun::ListArgs),
    Resume(begun::ResumeArgs),
    Abort(begun::AbortArgs),
    Rollback(begun::RollbackArgs),
    Purge(begun::PurgeArgs),
}

pub(crate) async fn run<A: Application>(Args { what, json }: Args) -> Result<Outcome, Failure> {
    match what {
        What::Plan(args) => plan::run::<A>(args, json).await,
        What::Run(args) => run::run::<A>(args, json).await,
        What::Status(args) => begun::status::<A>(args, json).await,
        What::List(args) => begun::list::<A>(args, json).await,
        What::Resume(args) => begun::resume::<A>(args, json).await,
        What::Abort(args) => begun::abort::<A>(args, json).await,
        What::Rollback(args) => begun::rollback::<A>(args, json).await,
        What::Purge(args) => begun::purge::<A>(args, json).await,
    }
}
