//! What is wrong with a client's JSON: all of it at once, each with its place, a code for programs and a sentence for people.
//!
//! No message repeats a value of the client's, and none tells a private column from one that does not exist.

use std::borrow::Cow;

use serde::Serialize;

/// What kind of fault it is. The codes are stable: a client may decide by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FaultCode {
    /// There is no such column for this client. Whether there is one that it may not see makes no difference.
    UnknownColumn,
    /// There is no such operator.
    UnknownOperator,
    /// There is no such parameter.
    UnknownParameter,
    /// The column's type does not have this operator, or no order.
    OperatorNotAllowed,
    /// JSON of another type is needed.
    WrongType,
    /// JSON of the right type that is no value of the column.
    InvalidValue,
    /// The column must have a value.
    NullNotAllowed,
    /// The column can be read and not set.
    ReadOnly,
    /// The column must be set.
    Required,
    /// An object or list without anything in it, where it would mean nothing.
    Empty,
    /// Nothing is set.
    NothingToSet,
    /// Given twice.
    Duplicate,
    /// Given together with another that excludes it.
    Conflict,
    /// More conditions, values or columns than are allowed.
    TooMany,
    /// A list or a text that is longer than allowed.
    TooLong,
    /// Nested deeper than allowed.
    TooDeep,
    /// A number outside of what is allowed.
    OutOfRange,
    /// A cursor that is none, or that belongs to another entity or order.
    InvalidCursor,
    /// A text that should be JSON and is not.
    InvalidJson,
}

impl FaultCode {
    /// Every code, for documents that list them.
    pub const ALL: [Self; 19] = [
        Self::UnknownColumn,
        Self::UnknownOperator,
        Self::UnknownParameter,
        Self::OperatorNotAllowed,
        Self::WrongType,
        Self::InvalidValue,
        Self::NullNotAllowed,
        Self::ReadOnly,
        Self::Required,
        Self::Empty,
        Self::NothingToSet,
        Self::Duplicate,
        Self::Conflict,
        Self::TooMany,
        Self::TooLong,
        Self::TooDeep,
        Self::OutOfRange,
        Self::InvalidCursor,
        Self::InvalidJson,
    ];
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fault {
    /// Where it is: a JSON pointer (RFC 6901) into what the client sent; empty for the whole. Names of the client's that are
    /// longer than 64 characters are cut.
    pub pointer: String,
    /// Of what kind, for programs.
    pub code: FaultCode,
    /// What is wrong and what would be right, for people.
    pub message: String,
}

/// Everything that is wrong with a client's JSON, in the order in which it was read. Nothing was asked of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("the JSON cannot be used: {}", summary(faults))]
#[non_exhaustive]
pub struct JsonFaults {
    /// At least one, and at most as many as [`super::Limits::faults`] says.
    pub faults: Vec<Fault>,
    /// Whether there are more than that.
    pub more: bool,
}

fn summary(faults: &[Fault]) -> String {
    let each: Vec<_> = faults.iter().map(|fault| format!("{} ({:?})", fault.message, fault.pointer)).collect();
    each.join("; ")
}

/// Where in the JSON a look is at, as a chain of names.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    parent: Option<&'a At<'a>>,
    name: Name<'a>,
}

#[derive(Clone, Copy)]
enum Name<'a> {
    Whole,
    Field(&'a str),
    Item(usize),
}

const LONGEST_NAME: usize = 64;

impl<'a> At<'a> {
    pub(super) const WHOLE: At<'static> = At { parent: None, name: Name::Whole };

    pub(super) fn field(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), name: Name::Field(name) }
    }

    pub(super) fn item(&'a self, number: usize) -> Self {
        Self { parent: Some(self), name: Name::Item(number) }
    }

    fn pointer(&self) -> String {
        let mut pointer = self.parent.map(Self::pointer).unwrap_or_default();
        match self.name {
            Name::Whole => {}
            Name::Field(name) => {
                pointer.push('/');
                pointer.push_str(&shortened(name).replace('~', "~0").replace('/', "~1"));
            }
            Name::Item(number) => {
                pointer.push('/');
                pointer.push_str(&number.to_string());
            }
        }
        pointer
    }
}

/// A name of the client's, as it may stand in an answer.
pub(super) fn shortened(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => Cow::Owned(format!("{}…", &name[..end])),
        None => Cow::Borrowed(name),
    }
}

/// The faults that were found so far.
pub(super) struct Faults {
    found: Vec<Fault>,
    most: usize,
    more: bool,
}

impl Faults {
    pub(super) fn new(most: usize) -> Self {
        Self { found: Vec::new(), most: most.max(1), more: false }
    }

    pub(super) fn add(&mut self, at: &At<'_>, code: FaultCode, message: impl Into<String>) {
        if self.found.len() < self.most {
            self.found.push(Fault { pointer: at.pointer(), code, message: message.into() });
        } else {
            self.more = true;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The value, where nothing was wrong.
    pub(super) fn none_or<T>(self, value: T) -> Result<T, JsonFaults> {
        if self.found.is_empty() { Ok(value) } else { Err(JsonFaults { faults: self.found, more: self.more }) }
    }
}
