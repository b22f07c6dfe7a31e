//! What the server did when it was attacked, and what it has to do.

use std::fmt;

use tenantry_connection::Error;

/// The SQLSTATE with which an attack stops at the first row that it reaches.
const REACHED: &str = "22012";
/// Refused by a policy, or for want of a privilege.
const DENIED: &str = "42501";
/// A key that is taken.
pub(super) const TAKEN: &str = "23505";
/// The server gave up: a lock, a statement's time, a conflict, its lock table, or it is closing down.
const UNDECIDED: [&str; 6] = ["57014", "55P03", "40001", "40P01", "53200", "57P01"];

/// The tenant that a session is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// B, to whom every row is foreign.
    Foreign,
    /// The empty text.
    Empty,
    /// Never set in this server session.
    Unset,
}

/// What the server did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It did as it was told.
    Done,
    /// It came to a row, and failed there as it was made to.
    Reached,
    /// It wrote, and logged nothing.
    Unlogged,
    /// The SQLSTATE of a refusal.
    Refused(String),
}

/// What it has to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    /// In words.
    pub(super) words: &'static str,
    /// To do as it is told is right, as long as no row is reached.
    pub(super) done: bool,
    /// Each of these refusals is right.
    pub(super) refusals: &'static [&'static str],
    /// So is what an application's own trigger raises, which may have looked at the row before the policy.
    pub(super) raised: bool,
}

pub(super) const NO_ROW: Expected = Expected { done: true, ..refusal("no row may be reached", &[]) };
pub(super) const DONE: Expected = Expected { done: true, ..refusal("it has to be done", &[]) };
pub(super) const LOGGED: Expected = Expected { done: true, ..refusal("the write has to be logged", &[]) };
pub(super) const NOT_PERMITTED: Expected = refusal("it has to be refused with 42501", &[DENIED]);
/// The policy, or the trigger that keeps a row with its tenant.
pub(super) const NOT_MOVED: Expected = refusal("it has to be refused with 42501 or TN002", &[DENIED, "TN002"]);
pub(super) const NOT_REFERRED: Expected = refusal("it has to be refused with 23503", &["23503"]);
pub(super) const NOT_COPIED: Expected = refusal("it has to be refused with 0A000", &["0A000"]);
/// The empty text is no uuid and no number, and a setting that was never made is unknown.
pub(super) const NO_TENANT: Expected = refusal("it has to be refused with 22P02 or 42704", &["22P02", "42704"]);

const fn refusal(words: &'static str, refusals: &'static [&'static str]) -> Expected {
    Expected { words, done: false, refusals, raised: false }
}

impl Outcome {
    /// The SQLSTATE with which the server gave up.
    pub(super) fn undecided(&self) -> Option<&str> {
        match self {
            Self::Refused(sqlstate) if UNDECIDED.contains(&sqlstate.as_str()) => Some(sqlstate),
            _ => None,
        }
    }
}

impl Expected {
    pub(super) fn holds(self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Done => self.done,
            Outcome::Reached | Outcome::Unlogged => false,
            Outcome::Refused(sqlstate) => {
                self.refusals.contains(&sqlstate.as_str()) || (self.raised && sqlstate.starts_with("P0"))
            }
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign => "as another tenant",
            Self::Empty => "with an empty tenant",
            Self::Unset => "without a tenant",
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("it was done"),
            Self::Reached => f.write_str("a row was reached"),
            Self::Unlogged => f.write_str("nothing was logged"),
            Self::Refused(sqlstate) => write!(f, "it was refused with {sqlstate}"),
        }
    }
}

/// A refusal is an answer; anything else that went wrong is none.
pub(super) fn settle<T>(result: Result<T, Error>) -> Result<Outcome, Error> {
    match result {
        Ok(_) => Ok(Outcome::Done),
        Err(error) => match sqlstate(&error) {
            Some(sqlstate) if sqlstate == REACHED => Ok(Outcome::Reached),
            Some(sqlstate) => Ok(Outcome::Refused(sqlstate)),
            None => Err(error),
        },
    }
}

fn sqlstate(error: &Error) -> Option<String> {
    let typed = match error {
        Error::Fenced { .. } => "TN001",
        Error::UniqueViolation { .. } => TAKEN,
        Error::ForeignKeyViolation { .. } => "23503",
        Error::CheckViolation { .. } => "23514",
        Error::NotNullViolation { .. } => "23502",
        _ => return error.sqlstate(),
    };
    Some(typed.to_owned())
}
