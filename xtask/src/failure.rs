//! Why a command could not run. What a command *finds* is not a failure: that is its answer.

use std::{error::Error, io, path::PathBuf};

/// A command could not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// `read`, `write`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot start `{program}`; is it installed and on the PATH?")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program ended with an error.
    #[error("`{command}` failed:\n{output}")]
    Program {
        /// The command line.
        command: String,
        /// What it printed.
        output: String,
    },
    /// A program answered something that cannot be read.
    #[error("cannot read what `{command}` answered")]
    Answer {
        /// The command line.
        command: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A source file could not be parsed.
    #[error("cannot parse {file}")]
    Source {
        /// The file.
        file: String,
        /// Where and why.
        source: syn::Error,
    },
    /// The scratch database for the entities could not be prepared or read.
    #[error("cannot {action} the scratch database")]
    Scratch {
        /// `start`, `migrate`, …
        action: &'static str,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The entities could not be generated.
    #[error("cannot generate entities: {0}")]
    Entities(String),
    /// An operation could not be carried out.
    #[error(transparent)]
    Tenantry(#[from] tenantry::Error),
    /// A part of the demo did not work.
    #[error("the demo could not go on")]
    Demo(#[source] Box<dyn Error + Send + Sync>),
    /// An argument has a value that does not exist.
    #[error("{0}")]
    Argument(String),
}

impl Failure {
    /// For `map_err` on a file operation.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// For `map_err` on a part of the demo.
    pub(crate) fn demo(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Demo(source.into())
    }

    /// For `map_err` on work in the scratch database.
    pub(crate) fn scratch<E: Into<Box<dyn Error + Send + Sync>>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Scratch { action, source: source.into() }
    }
}
