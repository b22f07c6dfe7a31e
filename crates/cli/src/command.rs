//! The commands by name, under the name of the application's own program, and what each of them ends with.

use std::{fmt, marker::PhantomData, process::ExitCode};

use clap::{ArgMatches, FromArgMatches, Subcommand};

use crate::{
    Application, Failure,
    commands::{Action, completions},
    program,
};

/// Stands in the examples where the program's name belongs.
const PROGRAM: &str = "{program}";
/// The same for the file that a shell starts.
const BINARY: &str = "{binary}";

/// One operators' command with its arguments: a clap subcommand, by itself or flattened beside an application's own.
pub struct Command<A> {
    action: Action,
    application: PhantomData<fn() -> A>,
}

/// How a command that could run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// It is done, and nothing is wrong: exit status 0.
    Done,
    /// It looked, and something is wrong; it has said what: exit status 1.
    Found,
    /// It found nothing wrong in what it could look at, and could not look at everything; it has said why: exit status 2.
    Unchecked,
}

impl Outcome {
    /// [`Outcome::Done`] if everything passed.
    pub fn of(passed: bool) -> Self {
        if passed { Self::Done } else { Self::Found }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::Found => Self::from(1),
            Outcome::Unchecked => Self::from(2),
        }
    }
}

impl<A: Application> Command<A> {
    /// Runs it: its answer goes to standard output, progress to standard error.
    ///
    /// # Errors
    /// [`Failure`] when it could not run; nothing of it was printed. What it *finds* is an [`Outcome`].
    pub async fn run(self) -> Result<Outcome, Failure> {
        self.action.run::<A>().await
    }

    /// Runs it to the end of the program: prints a failure with its causes and what to do, and says how to exit.
    pub async fn execute(self) -> ExitCode {
        let json = self.wants_json();
        program::exit::<A>(self.run().await, json)
    }

    /// Whether a script reads the answer, so that a failure is told as JSON as well.
    pub fn wants_json(&self) -> bool {
        self.action.wants_json()
    }
}

impl<A> fmt::Debug for Command<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.action.fmt(f)
    }
}

impl<A> Command<A> {
    fn new(action: Action) -> Self {
        Self { action, application: PhantomData }
    }
}

impl<A: Application> FromArgMatches for Command<A> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Action::from_arg_matches(matches).map(Self::new)
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        Action::from_arg_matches_mut(matches).map(Self::new)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.action.update_from_arg_matches(matches)
    }

    fn update_from_arg_matches_mut(&mut self, matches: &mut ArgMatches) -> Result<(), clap::Error> {
        self.action.update_from_arg_matches_mut(matches)
    }
}

impl<A: Application> Subcommand for Command<A> {
    fn augment_subcommands(parent: clap::Command) -> clap::Command {
        named(Action::augment_subcommands(parent), A::NAME)
    }

    fn augment_subcommands_for_update(parent: clap::Command) -> clap::Command {
        named(Action::augment_subcommands_for_update(parent), A::NAME)
    }

    fn has_subcommand(name: &str) -> bool {
        Action::has_subcommand(name)
    }
}

/// Puts the program's name into the examples of this crate's commands.
fn named(parent: clap::Command, program: &str) -> clap::Command {
    let binary = completions::binary(program);
    names()
        .into_iter()
        .fold(parent, |parent, name| parent.mut_subcommand(name, |command| with_program(command, program, binary)))
}

fn with_program(command: clap::Command, program: &str, binary: &str) -> clap::Command {
    let examples =
        command.get_after_help().map(|help| help.to_string().replace(PROGRAM, program).replace(BINARY, binary));
    command.after_help(examples.unwrap_or_default()).mut_subcommands(|command| with_program(command, program, binary))
}

/// The names of this crate's commands.
fn names() -> Vec<String> {
    let commands = Action::augment_subcommands(clap::Command::new(""));
    commands.get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

/// The text with every command that it names in backticks as this program is called: the libraries below say
/// `` `migrate up` `` and know no program.
pub(crate) fn called(text: &str, program: &str) -> String {
    names().iter().fold(text.to_owned(), |text, name| {
        [' ', '`']
            .iter()
            .fold(text, |text, end| text.replace(&format!("`{name}{end}"), &format!("`{program} {name}{end}")))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use tenantry::migrations::TenantDataMigrator;

    use super::*;
    use crate::program::Program;

    struct Bookings;

    impl Application for Bookings {
        type TenantData = TenantDataMigrator;
        const NAME: &'static str = "bookings";
    }

    /// Catches two arguments of one name, a default of the wrong type and the like, which clap finds only when run.
    #[test]
    fn the_arguments_are_consistent() {
        Program::<Bookings>::command().debug_assert();
    }

    /// `--help` is what people read first: each command shows an example, as this program is called.
    #[test]
    fn every_command_has_an_example() {
        let mut program = Program::<Bookings>::command();
        program.build();
        assert!(program.get_subcommands().count() >= 10);
        for command in program.get_subcommands_mut() {
            has_an_example(command, "bookings");
        }
    }

    fn has_an_example(command: &mut clap::Command, parent: &str) {
        let name = format!("{parent} {}", command.get_name());
        let help = command.render_long_help().to_string();
        assert!(command.get_about().is_some(), "{name} says what it does");
        assert!(help.contains(&format!("\n  {name}")), "{name} shows an example of itself: {help}");
        assert!(help.contains(&format!("Usage: {name}")), "{help}");
        assert!(!help.contains(PROGRAM) && !help.contains("xtask"), "{help}");
        for command in command.get_subcommands_mut() {
            has_an_example(command, &name);
        }
    }

    /// What a script calls has `--json`. What writes a script itself has not.
    #[test]
    fn every_command_that_reports_has_json() {
        let program = Program::<Bookings>::command();
        for command in program.get_subcommands().filter(|command| command.get_name() != "completions") {
            assert!(command.get_arguments().any(|argument| argument.get_id() == "json"), "{}", command.get_name());
        }
    }

    #[test]
    fn commands_in_a_text_are_shown_as_they_are_called() {
        let text = "run `migrate up`, or `migrate`; `migrate-tenant-data --verify` and `psql` stay `migrated`";
        let expected = "run `bookings migrate up`, or `bookings migrate`; `bookings migrate-tenant-data --verify` and \
                        `psql` stay `migrated`";
        assert_eq!(called(text, "bookings"), expected);
    }
}
