//! The program around a command: arguments, log, exit status. Knows no command.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;

use crate::{Application, Command, Failure, Outcome, answer, command::called, failure, text::Mark};

/// A program that has the operators' commands and no others.
#[derive(Debug, Parser)]
#[command(
    name = A::NAME,
    bin_name = A::NAME,
    about = A::ABOUT,
    after_help = "Exit status: 0 done, 1 found something wrong, 2 could not run.\n\
                  Settings come from the environment and tenantry.toml. With --json standard output holds one JSON\n\
                  document whatever happens; progress and warnings go to standard error.",
    disable_help_subcommand = true
)]
pub(crate) struct Program<A: Application> {
    #[command(subcommand)]
    command: Command<A>,
}

/// The whole of an application's program: reads the arguments, runs the command, and says how to exit.
pub async fn main<A: Application>() -> ExitCode {
    let program = parse::<Program<A>>();
    start_log();
    program.command.execute().await
}

/// Reads the command line. Ends the program where it is asked for help (exit status 0) or is wrong (2), the latter as a JSON
/// document where `--json` is on the line.
pub fn parse<P: Parser>() -> P {
    P::try_parse().unwrap_or_else(|error| {
        let json = std::env::args_os().any(|argument| argument == "--json");
        if !error.use_stderr() || !json {
            error.exit()
        }
        let text = error.to_string();
        let (message, help) = text.split_once("\n\n").unwrap_or((&text, ""));
        let message = message.trim_start_matches("error: ").trim();
        let help = (!help.trim().is_empty()).then(|| help.trim());
        // The exit status says it as well, where nobody reads the answer.
        let _ = answer::write(&failure::json(message, &[], help));
        std::process::exit(2)
    })
}

/// Sends warnings and errors of the libraries to standard error; `RUST_LOG` says otherwise. Standard output is for what a
/// command answers. Does nothing where the application has a log already.
pub fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let colours = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(io::stderr);
    let _ = log.try_init();
}

/// How the program ends: tells a failure, on standard error for people and on standard output for a script, and gives the
/// exit status.
pub fn exit<A: Application>(ended: Result<Outcome, Failure>, json: bool) -> ExitCode {
    match ended {
        Ok(outcome) => outcome.into(),
        Err(failure) => {
            tell(&failure, A::NAME, json);
            ExitCode::from(2)
        }
    }
}

/// There is nobody left to tell that telling failed; the exit status stands.
fn tell(failure: &Failure, program: &str, json: bool) {
    let help = failure.help().map(|help| called(&help, program));
    let (message, because) = failure::told(failure);
    let message = called(&message, program);
    if json {
        let _ = answer::write(&failure::json(&message, &because, help.as_deref()));
        return;
    }
    let mut lines = crate::text::Text::new();
    lines.marked(Mark::Bad, "error", message);
    for cause in because {
        lines.line(format!("  because: {cause}"));
    }
    if let Some(help) = help {
        lines.help(help);
    }
    let _ = writeln!(anstream::stderr().lock(), "{lines}");
}
