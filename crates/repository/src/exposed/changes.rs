//! Rows from JSON: changes as a merge patch (RFC 7396) has them, and new rows.

use sea_orm::ActiveModelTrait;
use serde_json::Value as Json;
use tenantry_realm::TenantEntity;

use super::{
    Exposed, JsonFaults, Rule,
    fault::{At, FaultCode, Faults},
    unknown_column,
    value::{self, Purpose},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    New,
    Change,
}

impl<E: TenantEntity> Exposed<E> {
    /// What to change in a row, as a merge patch (RFC 7396) says it: a value sets its column, null sets NULL, a column that is left
    /// out stays as it is. A JSON column is replaced as a whole. For [`crate::Repository::update`].
    ///
    /// # Errors
    /// Everything that is wrong, by its place in `json`; also when nothing is set.
    pub fn changes(&self, json: &Json) -> Result<E::ActiveModel, JsonFaults> {
        self.read_row(json, Writing::Change)
    }

    /// A new row. Columns that are left out get their default, or NULL. For [`crate::Repository::create`].
    ///
    /// # Errors
    /// Everything that is wrong, by its place in `json`; also each column that has to be set and is not.
    pub fn new_row(&self, json: &Json) -> Result<E::ActiveModel, JsonFaults> {
        self.read_row(json, Writing::New)
    }

    fn read_row(&self, json: &Json, writing: Writing) -> Result<E::ActiveModel, JsonFaults> {
        let mut faults = self.faults();
        let mut row = <E::ActiveModel as ActiveModelTrait>::default();
        let Json::Object(fields) = json else {
            faults.add(&At::WHOLE, FaultCode::WrongType, "expected an object of columns");
            return faults.none_or(row);
        };
        if fields.is_empty() && writing == Writing::Change {
            faults.add(&At::WHOLE, FaultCode::NothingToSet, "sets nothing; name a column to change");
        }
        for (name, json) in fields {
            let at = At::WHOLE.field(name);
            match self.column(name) {
                None => faults.add(&at, FaultCode::UnknownColumn, unknown_column(name)),
                Some(rule) if rule.read_only || (rule.id && writing == Writing::Change) => {
                    faults.add(&at, FaultCode::ReadOnly, "can be read and not set");
                }
                Some(rule) => rule.set(&mut row, json, &at, &mut faults),
            }
        }
        if writing == Writing::New {
            for rule in self.visible().filter(|rule| rule.required() && !fields.contains_key(rule.name)) {
                faults.add(&At::WHOLE.field(rule.name), FaultCode::Required, "must be set");
            }
        }
        faults.none_or(row)
    }
}

impl<E: TenantEntity> Rule<E> {
    fn set(&self, row: &mut E::ActiveModel, json: &Json, at: &At<'_>, faults: &mut Faults) {
        let value = match json {
            Json::Null if self.nullable => value::null(&self.field),
            Json::Null => {
                return faults.add(at, FaultCode::NullNotAllowed, format!("cannot be null; {}", self.kind.expected()));
            }
            json => match value::read(&self.kind, &self.field, json, Purpose::Store) {
                Ok(value) => Some(value),
                Err(none) => return faults.add(at, none.code, none.message),
            },
        };
        if value.is_none_or(|value| row.try_set(self.column, value).is_err()) {
            faults.add(at, FaultCode::InvalidValue, "is none of the column's values");
        }
    }
}
