//! Why a command could not run, and what to do about it. What a command *finds* is not a failure: that is its answer.

use std::{error::Error, io};

use serde_json::json;

/// A command could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The settings are wrong: the text says which and how.
    #[error(transparent)]
    Settings(#[from] tenantry::settings::SettingsError),
    /// An operation could not be carried out.
    #[error(transparent)]
    Tenantry(#[from] tenantry::Error),
    /// An argument, or an environment variable that belongs to one, cannot be used.
    #[error("{argument}: {problem}")]
    Argument {
        /// Its name, as it is written.
        argument: &'static str,
        /// What is wrong with it; never its value where that may hold a password.
        problem: String,
        /// What to do.
        help: Option<String>,
    },
    /// A command of the application's own could not go on.
    #[error(transparent)]
    Application(Box<dyn Error + Send + Sync>),
    /// The answer could not be written: the disk is full, or standard output is closed.
    #[error("the answer could not be written")]
    Output(#[source] io::Error),
    /// A report could not be written as JSON.
    #[error("the report could not be written as JSON")]
    Report(#[source] serde_json::Error),
}

impl Failure {
    /// What to do about it, where there is something that its text does not say. Commands are named in backticks, without the
    /// program.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Settings(error) => error.remedy(),
            Self::Tenantry(error) => error.remedy(),
            Self::Argument { help, .. } => help.clone(),
            Self::Application(_) | Self::Output(_) | Self::Report(_) => None,
        }
    }

    /// For `map_err` in a command of the application's own.
    pub fn application(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Application(source.into())
    }

    pub(crate) fn argument(argument: &'static str, problem: impl ToString) -> Self {
        Self::Argument { argument, problem: problem.to_string(), help: None }
    }
}

/// An error with everything that led to it, a line each.
pub fn with_causes(error: &dyn Error) -> String {
    let (message, because) = told(error);
    because.iter().fold(message, |text, cause| format!("{text}\n  because: {cause}"))
}

/// An error and its causes. A cause that the one before has quoted already, as drivers do, is not told again.
pub(crate) fn told(error: &dyn Error) -> (String, Vec<String>) {
    let message = error.to_string();
    let mut because: Vec<String> = Vec::new();
    let mut source = error.source();
    while let Some(inner) = source {
        let cause = inner.to_string();
        if !because.last().unwrap_or(&message).contains(&cause) {
            because.push(cause);
        }
        source = inner.source();
    }
    (message, because)
}

/// The document that a script gets instead of a report.
pub(crate) fn json(message: &str, because: &[String], help: Option<&str>) -> String {
    let document = json!({ "error": { "message": message, "because": because, "help": help } });
    format!("{document:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Outer(&'static str, #[source] Box<dyn Error + Send + Sync>);

    #[test]
    fn causes_are_told_once_each() {
        let inner = Outer("cannot read it: no such file", "no such file".into());
        let outer = Outer("cannot start", Box::new(inner));
        assert_eq!(with_causes(&outer), "cannot start\n  because: cannot read it: no such file");
    }
}
