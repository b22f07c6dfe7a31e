//! A JSON object out of a request's body, read field by field, so that everything that is wrong with it is told at once.

use axum::{
    Json,
    extract::{FromRequest, Request},
    response::IntoResponse,
};
use rust_decimal::Decimal;
use sea_orm::ActiveValue::{self, NotSet, Set};
use serde_json::{Map, Value};
use tenantry_axum::{Problem, ProblemKind, pointer_to};
use uuid::Uuid;

/// The fields of a body that have not been read yet, and what was wrong with those that have.
pub(crate) struct Fields {
    object: Map<String, Value>,
    problem: Problem,
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = Json::<Value>::from_request(request, state).await;
        // The parser's words tell of the parser.
        let Json(value) = body.map_err(|rejection| Problem::from_status(rejection.into_response().status()))?;
        let problem = Problem::new(ProblemKind::Invalid);
        match value {
            Value::Object(object) => Ok(Self { object, problem }),
            _ => Err(problem.field("", "wrong_type", "Send a JSON object.")),
        }
    }
}

impl Fields {
    /// A text of 1 to `most` characters that has to be there.
    pub(crate) fn required_text(&mut self, name: &str, most: usize) -> String {
        match self.text(name, 1, most) {
            Set(Some(text)) => text,
            Set(None) => self.wrong(name, "null_not_allowed", "This must have a value."),
            _ => {
                if !self.has_error(name) {
                    self.error(name, "required", "This must have a value.".to_owned());
                }
                String::new()
            }
        }
    }

    /// A text of 1 to `most` characters that may be left out and not be null.
    pub(crate) fn some_text(&mut self, name: &str, most: usize) -> ActiveValue<String> {
        match self.text(name, 1, most) {
            Set(Some(text)) => Set(text),
            Set(None) => self.wrong(name, "null_not_allowed", "This must have a value."),
            _ => NotSet,
        }
    }

    /// A text of at most `most` characters, or null.
    pub(crate) fn optional_text(&mut self, name: &str, most: usize) -> ActiveValue<Option<String>> {
        self.text(name, 0, most)
    }

    /// One of some words.
    pub(crate) fn word(&mut self, name: &str, words: &[&str]) -> ActiveValue<Option<String>> {
        match self.object.remove(name) {
            None => NotSet,
            Some(Value::String(word)) if words.contains(&word.as_str()) => Set(Some(word)),
            Some(_) => self.wrong(name, "invalid_value", &format!("This must be one of: {}.", words.join(", "))),
        }
    }

    /// A whole number from 0, or null.
    pub(crate) fn count(&mut self, name: &str) -> ActiveValue<Option<i32>> {
        match self.object.remove(name) {
            None => NotSet,
            Some(Value::Null) => Set(None),
            // `1200.0` is a whole number to JSON Schema, and to more than one language that writes JSON.
            Some(value) => match value.as_f64().filter(|number| number.fract() == 0.0).map(|number| number as i64) {
                Some(number) if (0..=i64::from(i32::MAX)).contains(&number) => Set(i32::try_from(number).ok()),
                _ => self.wrong(name, "invalid_value", "This must be a whole number from 0 to 2147483647."),
            },
        }
    }

    /// An amount of at most eight digits before the point and two behind it, as a text; or null.
    pub(crate) fn amount(&mut self, name: &str) -> ActiveValue<Option<Decimal>> {
        match self.object.remove(name) {
            None => NotSet,
            Some(Value::Null) => Set(None),
            Some(value) => match value.as_str().filter(|text| is_amount(text)).and_then(|text| text.parse().ok()) {
                Some(amount) => Set(Some(amount)),
                None => self.wrong(
                    name,
                    "invalid_value",
                    "This must be a text with at most eight digits before the point and two behind it, such as \"1200.50\".",
                ),
            },
        }
    }

    /// An id in its usual form.
    pub(crate) fn id(&mut self, name: &str) -> ActiveValue<Uuid> {
        match self.object.remove(name) {
            None => NotSet,
            Some(value) => match value.as_str().and_then(crate::accounts::id_of) {
                Some(id) => Set(id),
                None => self.wrong(name, "invalid_value", "This must be a UUID."),
            },
        }
    }

    /// Ends reading: what is left is not known.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        for name in std::mem::take(&mut self.object).into_iter().map(|(name, _)| name) {
            self.error(&name, "unknown_column", "There is no such field.".to_owned());
        }
        if self.problem.errors().is_empty() { Ok(()) } else { Err(self.problem) }
    }

    fn text(&mut self, name: &str, least: usize, most: usize) -> ActiveValue<Option<String>> {
        match self.object.remove(name) {
            None => NotSet,
            Some(Value::Null) => Set(None),
            // No database of the two takes a NUL in a text.
            Some(Value::String(text)) if text.contains('\0') => {
                self.wrong(name, "invalid_value", "This must not contain the character U+0000.")
            }
            Some(Value::String(text)) if (least..=most).contains(&text.chars().count()) => Set(Some(text)),
            Some(Value::String(_)) => {
                self.wrong(name, "invalid_value", &format!("This must have {least} to {most} characters."))
            }
            Some(_) => self.wrong(name, "wrong_type", "This must be a text."),
        }
    }

    fn has_error(&self, name: &str) -> bool {
        let pointer = pointer_to(name);
        self.problem.errors().iter().any(|error| error.pointer == pointer)
    }

    /// Notes what is wrong; the value is of no consequence, since nothing is done with it.
    fn wrong<T: Absent>(&mut self, name: &str, code: &'static str, message: &str) -> T {
        self.error(name, code, message.to_owned());
        T::absent()
    }

    fn error(&mut self, name: &str, code: &'static str, message: String) {
        let problem = std::mem::replace(&mut self.problem, Problem::new(ProblemKind::Invalid));
        self.problem = problem.field(pointer_to(name), code, message);
    }
}

trait Absent {
    fn absent() -> Self;
}

impl<V: Into<sea_orm::Value>> Absent for ActiveValue<V> {
    fn absent() -> Self {
        NotSet
    }
}

impl Absent for String {
    fn absent() -> Self {
        Self::new()
    }
}

/// `^-?[0-9]{1,8}(\.[0-9]{1,2})?$`, as the document says.
fn is_amount(text: &str) -> bool {
    let (whole, cents) = match text.strip_prefix('-').unwrap_or(text).split_once('.') {
        Some((whole, cents)) => (whole, Some(cents)),
        None => (text.strip_prefix('-').unwrap_or(text), None),
    };
    let digits = |text: &str, most| (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole, 8) && cents.is_none_or(|cents| digits(cents, 2))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    fn fields(value: Value) -> Fields {
        Fields { object: value.as_object().unwrap().clone(), problem: Problem::new(ProblemKind::Invalid) }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let mut body = fields(serde_json::json!({
            "name": "", "industry": 7, "status": "gone", "employee_count": -1, "credit_limit": "1.234", "id": "x",
            "no~te": "unknown", "phone": "a\0b",
        }));
        body.required_text("name", 10);
        body.optional_text("industry", 10);
        body.optional_text("phone", 10);
        body.word("status", &["active"]);
        body.count("employee_count");
        body.amount("credit_limit");
        body.id("id");
        body.required_text("email", 10);
        let problem = body.finish().unwrap_err();
        let told: Vec<_> = problem.errors().iter().map(|error| (error.pointer.as_str(), &*error.code)).collect();
        assert_eq!(
            told,
            [
                ("/name", "invalid_value"),
                ("/industry", "wrong_type"),
                ("/phone", "invalid_value"),
                ("/status", "invalid_value"),
                ("/employee_count", "invalid_value"),
                ("/credit_limit", "invalid_value"),
                ("/id", "invalid_value"),
                ("/email", "required"),
                ("/no~0te", "unknown_column"),
            ]
        );
    }

    #[test]
    fn null_clears_what_may_be_empty_and_nothing_else() {
        let mut body = fields(serde_json::json!({ "name": null, "industry": null, "credit_limit": null }));
        assert_eq!(body.optional_text("industry", 10), Set(None));
        assert_eq!(body.amount("credit_limit"), Set(None));
        assert_eq!(body.some_text("name", 10), NotSet);
        assert_eq!(body.finish().unwrap_err().errors()[0].pointer, "/name");
    }

    #[test]
    fn a_whole_number_is_whole() {
        for (number, read) in [("0", 0), ("1200.0", 1200), ("2147483647", i32::MAX), ("1.2e3", 1200)] {
            let mut body = fields(serde_json::from_str(&format!(r#"{{"n":{number}}}"#)).unwrap());
            assert_eq!(body.count("n"), Set(Some(read)), "{number}");
        }
        for other in ["-1", "1.5", "2147483648", "1e300", "true", "\"1\"", "[]", "18446744073709551615"] {
            let mut body = fields(serde_json::from_str(&format!(r#"{{"n":{other}}}"#)).unwrap());
            assert_eq!(body.count("n"), NotSet, "{other}");
            assert!(body.finish().is_err());
        }
    }

    #[test]
    fn an_amount_is_exact() {
        for amount in ["0", "-0.5", "99999999.99", "00000001"] {
            assert!(is_amount(amount), "{amount}");
        }
        for other in ["", "-", "+1", ".5", "5.", "1e3", "123456789", "1.234", "1.2.3", "--1", "١"] {
            assert!(!is_amount(other), "{other}");
        }
    }
}
