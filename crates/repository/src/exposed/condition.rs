//! Conditions from JSON: `{"status": "active", "amount": {"gte": "100.00"}, "or": [{…}, {…}]}`.
//!
//! Two values and no third: a comparison with a null is false, and `not` gives exactly the other rows. SQL has a third value, so
//! a negation is carried down to the comparisons, and each says itself what it means of a null.

use sea_orm::{ActiveModelTrait, ColumnTrait, ExprTrait, Value, sea_query::Expr};
use serde_json::{Map, Value as Json};
use tenantry_realm::TenantEntity;

use super::{
    Exposed, JsonFaults, Limits, Rule,
    fault::{At, FaultCode, Faults},
    is_text, unknown_column,
    value::{self, ColumnKind, Purpose},
};
use crate::{
    SearchOptions,
    filter::{Filter, Node},
};

/// A comparison of a column with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Operator {
    Eq,
    Ne,
    Gt,
    Gte,
    Lt,
    Lte,
    In,
    NotIn,
    IsNull,
    Contains,
    StartsWith,
}

impl Operator {
    const ALL: [(&'static str, Self); 11] = [
        ("eq", Self::Eq),
        ("ne", Self::Ne),
        ("gt", Self::Gt),
        ("gte", Self::Gte),
        ("lt", Self::Lt),
        ("lte", Self::Lte),
        ("in", Self::In),
        ("not_in", Self::NotIn),
        ("is_null", Self::IsNull),
        ("contains", Self::Contains),
        ("starts_with", Self::StartsWith),
    ];

    fn read(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(of, _)| *of == name).map(|(_, operator)| *operator)
    }

    fn fits<E: TenantEntity>(self, rule: &Rule<E>) -> bool {
        match self {
            Self::IsNull => true,
            // With null alone, where the type has no values to compare.
            Self::Eq | Self::Ne => true,
            Self::In | Self::NotIn => !matches!(rule.kind, ColumnKind::Json | ColumnKind::Bytes),
            Self::Gt | Self::Gte | Self::Lt | Self::Lte => !matches!(
                rule.kind,
                ColumnKind::Json | ColumnKind::Bytes | ColumnKind::Boolean | ColumnKind::Choice { .. }
            ),
            Self::Contains | Self::StartsWith => is_text(&rule.column),
        }
    }

    fn names<E: TenantEntity>(rule: &Rule<E>) -> String {
        let fitting: Vec<_> =
            Self::ALL.iter().filter(|(_, operator)| operator.fits(rule)).map(|(name, _)| *name).collect();
        fitting.join(", ")
    }
}

impl<E: TenantEntity> Exposed<E> {
    /// The rows that meet the conditions of a JSON object; `{}` is every row.
    ///
    /// # Errors
    /// Everything that is wrong, by its place in `json`.
    pub fn filter(&self, json: &Json) -> Result<Filter<E>, JsonFaults> {
        let mut faults = self.faults();
        let node = self.read_filter(json, &At::WHOLE, &mut faults);
        faults.none_or(Filter::new(node))
    }

    pub(super) fn read_filter(&self, json: &Json, at: &At<'_>, faults: &mut Faults) -> Node<E> {
        if json.as_object().is_some_and(Map::is_empty) {
            return Node::All(Vec::new());
        }
        let scratch = <E::ActiveModel as ActiveModelTrait>::default();
        let mut reader = Reader { exposed: self, faults, conditions: 0, searches: 0, values: 0, scratch };
        reader.object(json, at, 0, false)
    }
}

struct Reader<'a, E: TenantEntity> {
    exposed: &'a Exposed<E>,
    faults: &'a mut Faults,
    conditions: usize,
    searches: usize,
    values: usize,
    /// Takes each value, and refuses what the entity's own field would: a text that is none of an enum's.
    scratch: E::ActiveModel,
}

impl<E: TenantEntity> Reader<'_, E> {
    fn limits(&self) -> &Limits {
        &self.exposed.limits
    }

    /// An object, whose conditions hold together.
    fn object(&mut self, json: &Json, at: &At<'_>, depth: usize, negated: bool) -> Node<E> {
        let Json::Object(fields) = json else {
            self.faults.add(at, FaultCode::WrongType, "expected an object of conditions");
            return Node::All(Vec::new());
        };
        if fields.is_empty() {
            self.faults.add(at, FaultCode::Empty, "an object without a condition; leave it out");
        }
        let mut nodes = Vec::new();
        for (name, json) in fields {
            let at = at.field(name);
            let node = match name.as_str() {
                "and" => self.several(json, &at, depth, true, negated),
                "or" => self.several(json, &at, depth, false, negated),
                "not" => self.deeper(&at, depth).map(|depth| self.object(json, &at, depth, !negated)),
                _ => self.column(name, json, &at, negated),
            };
            nodes.extend(node);
        }
        together(nodes, !negated)
    }

    /// A list of objects: all of them hold, or any.
    fn several(&mut self, json: &Json, at: &At<'_>, depth: usize, all: bool, negated: bool) -> Option<Node<E>> {
        let Json::Array(items) = json else {
            self.faults.add(at, FaultCode::WrongType, "expected a list of objects of conditions");
            return None;
        };
        if items.is_empty() {
            self.faults.add(at, FaultCode::Empty, "a list without a condition; leave it out");
            return None;
        }
        let depth = self.deeper(at, depth)?;
        // Each has a condition at least, or is a fault of its own.
        if items.len() > self.limits().conditions {
            self.too_many(at);
            return None;
        }
        let nodes = items
            .iter()
            .enumerate()
            .map(|(number, item)| self.object(item, &at.item(number), depth, negated))
            .collect();
        Some(together(nodes, all != negated))
    }

    fn deeper(&mut self, at: &At<'_>, depth: usize) -> Option<usize> {
        let most = self.limits().depth;
        if depth < most {
            return Some(depth + 1);
        }
        self.faults.add(at, FaultCode::TooDeep, format!("and, or and not go at most {most} levels deep"));
        None
    }

    fn too_many(&mut self, at: &At<'_>) {
        let most = self.limits().conditions;
        self.faults.add(at, FaultCode::TooMany, format!("a filter has at most {most} conditions"));
    }

    /// What is said of one column: null, a value, or an object of operators that hold together.
    fn column(&mut self, name: &str, json: &Json, at: &At<'_>, negated: bool) -> Option<Node<E>> {
        let Some(rule) = self.exposed.column(name) else {
            self.faults.add(at, FaultCode::UnknownColumn, unknown_column(name));
            return None;
        };
        match json {
            Json::Object(operators) => {
                if operators.is_empty() {
                    let message = format!("no operator; expected some of: {}", Operator::names(rule));
                    self.faults.add(at, FaultCode::Empty, message);
                }
                let mut nodes = Vec::new();
                for (operator, operand) in operators {
                    nodes.extend(self.operator(rule, operator, operand, &at.field(operator), negated));
                }
                Some(together(nodes, !negated))
            }
            Json::Array(_) => {
                let message = r#"expected a value, null or an object of operators; a list is written {"in": […]}"#;
                self.faults.add(at, FaultCode::WrongType, message);
                None
            }
            value => self.comparison(rule, Operator::Eq, value, at, negated),
        }
    }

    fn operator(&mut self, rule: &Rule<E>, name: &str, operand: &Json, at: &At<'_>, negated: bool) -> Option<Node<E>> {
        let Some(operator) = Operator::read(name) else {
            let message = format!("there is no such operator; expected some of: {}", Operator::names(rule));
            self.faults.add(at, FaultCode::UnknownOperator, message);
            return None;
        };
        if !operator.fits(rule) {
            let message = format!("the column's type does not have it; it has: {}", Operator::names(rule));
            self.faults.add(at, FaultCode::OperatorNotAllowed, message);
            return None;
        }
        self.comparison(rule, operator, operand, at, negated)
    }

    fn comparison(
        &mut self,
        rule: &Rule<E>,
        operator: Operator,
        operand: &Json,
        at: &At<'_>,
        negated: bool,
    ) -> Option<Node<E>> {
        self.conditions += 1;
        if self.conditions > self.limits().conditions {
            // Said once: the rest is not looked at.
            if self.conditions == self.limits().conditions + 1 {
                self.too_many(at);
            }
            return None;
        }
        let column = Operand { rule, negated };
        let expression = match operator {
            Operator::Eq | Operator::Ne => {
                let column = Operand { negated: negated != (operator == Operator::Ne), ..column };
                if operand.is_null() { column.is_null() } else { column.equals(self.value(rule, operand, at)?) }
            }
            Operator::Gt | Operator::Gte | Operator::Lt | Operator::Lte => {
                column.compares(operator, self.value(rule, operand, at)?)
            }
            Operator::In | Operator::NotIn => {
                let (values, null) = self.list(rule, operand, at)?;
                Operand { negated: negated != (operator == Operator::NotIn), ..column }.is_among(values, null)
            }
            Operator::IsNull => {
                let Some(is) = operand.as_bool() else {
                    self.faults.add(at, FaultCode::WrongType, ColumnKind::Boolean.expected());
                    return None;
                };
                Operand { negated: negated == is, ..column }.is_null()
            }
            Operator::Contains | Operator::StartsWith => {
                self.searches += 1;
                let most = self.limits().searches;
                if self.searches > most {
                    let message = format!("a filter has at most {most} times contains or starts_with");
                    self.faults.add(at, FaultCode::TooMany, message);
                    return None;
                }
                let text = self.text(operand, at)?;
                let search = match operator {
                    Operator::Contains => SearchOptions::contains(text, [rule.column]),
                    _ => SearchOptions::starts_with(text, [rule.column]),
                };
                return Some(if negated { Node::NotSearch(search, rule.column) } else { Node::Search(search) });
            }
        };
        Some(Node::Is(expression))
    }

    fn list(&mut self, rule: &Rule<E>, operand: &Json, at: &At<'_>) -> Option<(Vec<Value>, bool)> {
        let Json::Array(items) = operand else {
            self.faults.add(at, FaultCode::WrongType, "expected a list");
            return None;
        };
        let most = self.limits().list;
        if items.len() > most {
            self.faults.add(at, FaultCode::TooLong, format!("a list has at most {most} values"));
            return None;
        }
        self.values += items.len();
        if self.values > Limits::VALUES {
            let message = format!("the lists of a filter have at most {} values together", Limits::VALUES);
            self.faults.add(at, FaultCode::TooMany, message);
            return None;
        }
        let mut values = Vec::with_capacity(items.len());
        let mut null = false;
        let mut wrong = false;
        for (number, item) in items.iter().enumerate() {
            if item.is_null() {
                null = true;
            } else if let Some(value) = self.value(rule, item, &at.item(number)) {
                values.push(value);
            } else {
                wrong = true;
            }
        }
        (!wrong).then_some((values, null))
    }

    fn value(&mut self, rule: &Rule<E>, json: &Json, at: &At<'_>) -> Option<Value> {
        if matches!(rule.kind, ColumnKind::Json | ColumnKind::Bytes) {
            let message = "a column of this type can only be compared with null";
            self.faults.add(at, FaultCode::OperatorNotAllowed, message);
            return None;
        }
        if json.is_null() {
            let message = format!("a null cannot be compared so, use is_null; {}", rule.kind.expected());
            self.faults.add(at, FaultCode::NullNotAllowed, message);
            return None;
        }
        if json.as_str().is_some_and(|text| self.is_too_long(text, at)) {
            return None;
        }
        match value::read(&rule.kind, &rule.field, json, Purpose::Compare) {
            Ok(value) if self.scratch.try_set(rule.column, value.clone()).is_ok() => Some(value),
            Ok(_) => {
                self.faults.add(at, FaultCode::InvalidValue, "is none of the column's values");
                None
            }
            Err(none) => {
                self.faults.add(at, none.code, none.message);
                None
            }
        }
    }

    fn text<'j>(&mut self, operand: &'j Json, at: &At<'_>) -> Option<&'j str> {
        let Json::String(text) = operand else {
            self.faults.add(at, FaultCode::WrongType, "expected a text");
            return None;
        };
        (!self.is_too_long(text, at) && self.exposed.is_searchable_text(text, at, self.faults)).then_some(text)
    }

    fn is_too_long(&mut self, text: &str, at: &At<'_>) -> bool {
        let most = self.limits().text;
        let too_long = text.chars().nth(most).is_some();
        if too_long {
            self.faults.add(at, FaultCode::TooLong, format!("is longer than {most} characters"));
        }
        too_long
    }
}

impl<E: TenantEntity> Exposed<E> {
    /// Whether a search takes the text, or what is wrong with it.
    pub(super) fn is_searchable_text(&self, text: &str, at: &At<'_>, faults: &mut Faults) -> bool {
        let most = self.limits.text.min(crate::MAX_SEARCH_CHARACTERS);
        if text.chars().nth(most).is_some() {
            faults.add(at, FaultCode::TooLong, format!("is longer than {most} characters"));
            return false;
        }
        if text.contains('\0') {
            faults.add(at, FaultCode::InvalidValue, "has a NUL character");
            return false;
        }
        true
    }
}

fn together<E: TenantEntity>(mut nodes: Vec<Node<E>>, all: bool) -> Node<E> {
    match (nodes.pop(), nodes.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            nodes.extend(last);
            if all { Node::All(nodes) } else { Node::Any(nodes) }
        }
    }
}

/// A column and whether what is said of it is negated.
struct Operand<'a, E: TenantEntity> {
    rule: &'a Rule<E>,
    negated: bool,
}

impl<E: TenantEntity> Operand<'_, E> {
    fn column(&self) -> E::Column {
        self.rule.column
    }

    fn is_null(&self) -> Expr {
        if self.negated { self.column().is_not_null() } else { self.column().is_null() }
    }

    fn equals(&self, value: Value) -> Expr {
        if self.negated { self.or_null(self.column().ne(value)) } else { self.column().eq(value) }
    }

    fn compares(&self, operator: Operator, value: Value) -> Expr {
        let column = self.column();
        match (operator, self.negated) {
            (Operator::Gt, false) => column.gt(value),
            (Operator::Gt, true) => self.or_null(column.lte(value)),
            (Operator::Gte, false) => column.gte(value),
            (Operator::Gte, true) => self.or_null(column.lt(value)),
            (Operator::Lt, false) => column.lt(value),
            (Operator::Lt, true) => self.or_null(column.gte(value)),
            (_, false) => column.lte(value),
            (_, true) => self.or_null(column.gt(value)),
        }
    }

    fn is_among(&self, values: Vec<Value>, null: bool) -> Expr {
        let column = self.column();
        match (self.negated, null) {
            (false, false) => column.is_in(values),
            (false, true) => column.is_in(values).or(column.is_null()),
            (true, false) => self.or_null(column.is_not_in(values)),
            (true, true) => column.is_not_in(values).and(column.is_not_null()),
        }
    }

    fn or_null(&self, condition: Expr) -> Expr {
        if self.rule.nullable { condition.or(self.column().is_null()) } else { condition }
    }
}
