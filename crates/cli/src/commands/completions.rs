//! `completions`: what a shell needs to complete the whole command line, the application's own commands included.

use clap_complete::{Shell, generate};

use crate::{Application, Failure, Outcome, answer};

/// Prints what a shell needs to complete the commands and their arguments
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  {program} completions bash > ~/.local/share/bash-completion/completions/{binary}\n  \
                  {program} completions zsh > ~/.zfunc/_{binary}\n  \
                  {program} completions fish > ~/.config/fish/completions/{binary}.fish\n\n\
                  The folder for zsh has to be in its fpath before compinit is called. Commands, options and their fixed\n\
                  values are completed; tenants and data sources are not, since that would connect at every keystroke.\n\n\
                  Exit status: 0 printed, 2 could not run."
)]
pub(crate) struct Args {
    /// For which shell
    shell: Shell,
}

pub(crate) fn run<A: Application>(Args { shell }: &Args) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    generate(*shell, &mut A::command(), binary(A::NAME), &mut script);
    answer::write(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Outcome::Done)
}

/// The file that a shell starts: the last word of how the program is called.
pub(crate) fn binary(program: &str) -> &str {
    program.rsplit(' ').next().unwrap_or(program)
}
