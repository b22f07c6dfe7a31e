//! What can be wrong with settings, and how it is told: the setting, what was found, what is expected.
//!
//! Nothing here holds a secret: a problem keeps the text that it prints, and the reader never puts a secret into one.

use std::{fmt, io, path::PathBuf};

use super::reference::Setting;

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The settings file cannot be read: correct `TENANTRY_CONFIG` or the file's permissions.
    #[error("cannot read the settings file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The settings file is no TOML. The parser's own message is left out, because it quotes the line, and the line may
    /// hold a secret.
    #[error("the settings file {} is not valid TOML{at}; expected lines of the form `key = \"value\"`", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// ` at line N, column M`, or nothing where the parser does not say.
        at: String,
    },
    /// Settings are missing, wrong or unknown: all of them, not the first.
    #[error("{}", listed(problems))]
    Wrong {
        /// Each with its name, what was found and what is expected; never empty.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A setting that is needed is not there.
    #[error("{setting} is not set{because}; expected {expected}")]
    Missing {
        /// The setting.
        setting: &'static str,
        /// ` (why it is needed)`, or nothing.
        because: String,
        /// How it is written.
        expected: &'static str,
    },
    /// A setting's value cannot be used.
    #[error("{setting} ({origin}): {found}; expected {expected}")]
    Invalid {
        /// The setting.
        setting: &'static str,
        /// Where it was read.
        origin: Origin,
        /// What was found, without the value where that is a secret.
        found: String,
        /// How it is written.
        expected: String,
    },
    /// A name that is no setting.
    #[error("{name} ({origin}) is no setting{}", suggestion(nearest.as_deref()))]
    Unknown {
        /// What was found.
        name: String,
        /// Where.
        origin: Origin,
        /// The setting that it looks like.
        nearest: Option<String>,
    },
}

impl Problem {
    /// The setting that is concerned, by the name it was found under.
    pub fn setting(&self) -> &str {
        match self {
            Self::Missing { setting, .. } | Self::Invalid { setting, .. } => setting,
            Self::Unknown { name, .. } => name,
        }
    }

    pub(super) fn missing(setting: &Setting, because: &str) -> Self {
        let because = if because.is_empty() { String::new() } else { format!(" ({because})") };
        Self::Missing { setting: setting.variable, because, expected: setting.kind.expected() }
    }
}

/// Where a value was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An environment variable.
    Environment,
    /// The settings file.
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("environment"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

fn suggestion(nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean {nearest}?"),
        None => "; docs/settings.md lists all of them".to_owned(),
    }
}

fn listed(problems: &[Problem]) -> String {
    let count = problems.len();
    let head = if count == 1 { "one setting is wrong:".to_owned() } else { format!("{count} settings are wrong:") };
    problems.iter().fold(head, |text, problem| format!("{text}\n  {problem}"))
}
