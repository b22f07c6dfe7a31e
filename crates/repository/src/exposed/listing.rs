//! A list's parameters: `filter`, `search`, `order`, `limit`, and `after` or `page`.

use sea_orm::Order;
use serde_json::{Map, Value as Json};
use tenantry_realm::TenantEntity;

use super::{
    Exposed, JsonFaults, Rule,
    fault::{At, FaultCode, Faults},
    unknown_column,
    value::ColumnKind,
};
use crate::{Cursor, Query, SearchOptions, filter::Filter};

/// What a client asked to list. Hand it to [`crate::Repository::page_after`], or to [`crate::Repository::paginate`] where it
/// has a page:
///
/// ```text
/// match list.page {
///     None => repository.page_after(&list.query, list.after.as_ref(), list.limit),
///     Some(page) => repository.paginate(&list.query, page, list.limit),
/// }
/// ```
#[must_use]
#[non_exhaustive]
pub struct ListRequest<E: TenantEntity> {
    /// Conditions, search and order.
    pub query: Query<E>,
    /// How many rows a page has.
    pub limit: u64,
    /// Where the page before ended; it belongs to this entity and order.
    pub after: Option<Cursor>,
    /// Which page, counted from 1, where pages are asked for by number; never together with `after`.
    pub page: Option<u64>,
}

impl<E: TenantEntity> Exposed<E> {
    /// A list's parameters from one JSON object, each of which may be left out:
    ///
    /// ```json
    /// {"filter": {"status": "active"}, "search": "kiel", "order": "-created_at,name", "limit": 50, "after": "AbC…"}
    /// ```
    ///
    /// `order` is a text or a list of names, descending with a minus in front; nulls come last in either direction. `search` looks
    /// for a text in the columns that were made searchable. `after` is the `next` of the page before; `page` counts from 1 and
    /// excludes it.
    ///
    /// # Errors
    /// Everything that is wrong, by its place in `json`.
    pub fn list(&self, json: &Json) -> Result<ListRequest<E>, JsonFaults> {
        let mut faults = self.faults();
        let request = match json {
            Json::Object(parameters) => self.read_list(parameters, &mut faults),
            _ => {
                faults.add(&At::WHOLE, FaultCode::WrongType, "expected an object of parameters");
                self.read_list(&Map::new(), &mut faults)
            }
        };
        faults.none_or(request)
    }

    /// The same from the pairs of a URL's query, decoded: `filter` is JSON, `limit` and `page` are digits, the others stand as
    /// they are. A parameter that is there twice is a fault.
    ///
    /// # Errors
    /// As [`Self::list`]; a pointer's first name is the parameter's.
    pub fn list_of_pairs<N: AsRef<str>, V: AsRef<str>>(
        &self,
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<ListRequest<E>, JsonFaults> {
        let mut faults = self.faults();
        let mut parameters = Map::new();
        for (name, value) in pairs {
            let (name, value) = (name.as_ref(), value.as_ref());
            let at = At::WHOLE.field(name);
            let json = match name {
                "filter" => serde_json::from_str(value).ok().or_else(|| {
                    faults.add(&at, FaultCode::InvalidJson, "is not valid JSON");
                    None
                }),
                "limit" | "page" => Some(digits(value).map_or_else(|| Json::from(value), Json::from)),
                _ => Some(Json::from(value)),
            };
            if parameters.contains_key(name) {
                faults.add(&at, FaultCode::Duplicate, "is given twice");
            }
            // One that could not be read is not missing.
            parameters.insert(name.to_owned(), json.unwrap_or_else(|| Json::Object(Map::new())));
        }
        let request = self.read_list(&parameters, &mut faults);
        faults.none_or(request)
    }

    fn read_list(&self, parameters: &Map<String, Json>, faults: &mut Faults) -> ListRequest<E> {
        let mut request = ListRequest { query: Query::new(), limit: self.limits.default_page, after: None, page: None };
        for (name, json) in parameters {
            let at = At::WHOLE.field(name);
            match name.as_str() {
                "filter" => {
                    let node = self.read_filter(json, &at, faults);
                    request.query = request.query.matching(Filter::new(node));
                }
                "order" => {
                    for (column, order) in self.read_order(json, &at, faults) {
                        request.query = request.query.order_by(column, order);
                    }
                }
                "limit" => {
                    if let Some(limit) = number(json, 1, self.limits.page, &at, faults) {
                        request.limit = limit;
                    }
                }
                "page" => request.page = number(json, 1, u64::MAX, &at, faults),
                "after" => match json {
                    Json::String(text) => request.after = Some(Cursor::new(text.as_str())),
                    _ => faults.add(&at, FaultCode::WrongType, "expected the text that `next` of a page had"),
                },
                "search" if self.visible().any(|rule| rule.searchable) => {
                    if let Some(search) = self.read_search(json, &at, faults) {
                        request.query = request.query.search(search);
                    }
                }
                _ => {
                    let message = "there is no such parameter; expected filter, search, order, limit, after or page";
                    let message = if self.visible().any(|rule| rule.searchable) {
                        message.to_owned()
                    } else {
                        message.replace("search, ", "")
                    };
                    faults.add(&at, FaultCode::UnknownParameter, message);
                }
            }
        }
        self.check_place(&request, faults);
        request
    }

    /// What can only be judged when everything is read.
    fn check_place(&self, request: &ListRequest<E>, faults: &mut Faults) {
        if let Some(page) = request.page {
            let before = (page - 1).saturating_mul(request.limit);
            if before > self.limits.offset {
                let most = self.limits.offset;
                let message = format!("pages by number end {most} rows from the first; page on with `after`");
                faults.add(&At::WHOLE.field("page"), FaultCode::OutOfRange, message);
            }
            if request.after.is_some() {
                faults.add(&At::WHOLE.field("page"), FaultCode::Conflict, "excludes `after`; give one of them");
            }
        }
        // An order that is wrong in itself belongs to no cursor.
        if let Some(after) = &request.after
            && faults.is_empty()
            && let Err(problem) = request.query.check_cursor(after)
        {
            let message = format!("is no cursor of this list: {problem}; begin at the first page");
            faults.add(&At::WHOLE.field("after"), FaultCode::InvalidCursor, message);
        }
    }

    /// The columns to order by, each once. `"-created_at,name"` is `["-created_at", "name"]`.
    fn read_order(&self, json: &Json, at: &At<'_>, faults: &mut Faults) -> Vec<(E::Column, Order)> {
        let mut order = Vec::new();
        let most = self.limits.order;
        match json {
            Json::String(text) if text.split(',').nth(most).is_none() => {
                for name in text.split(',') {
                    self.read_ordering(name, at, &mut order, faults);
                }
            }
            Json::Array(names) if names.is_empty() => {
                faults.add(at, FaultCode::Empty, "names no column; leave it out");
            }
            Json::Array(names) if names.len() <= most => {
                for (number, name) in names.iter().enumerate() {
                    let at = at.item(number);
                    match name {
                        Json::String(name) => self.read_ordering(name, &at, &mut order, faults),
                        _ => faults.add(&at, FaultCode::WrongType, "expected a column's name, with a minus to descend"),
                    }
                }
            }
            Json::String(_) | Json::Array(_) => {
                faults.add(at, FaultCode::TooMany, format!("an order has at most {most} columns"));
            }
            _ => {
                faults.add(at, FaultCode::WrongType, "expected columns' names: \"-created_at,name\", or a list of them")
            }
        }
        order.into_iter().map(|(rule, order)| (rule.column, order)).collect()
    }

    fn read_ordering<'s>(
        &'s self,
        name: &str,
        at: &At<'_>,
        order: &mut Vec<(&'s Rule<E>, Order)>,
        faults: &mut Faults,
    ) {
        let (name, direction) = name.strip_prefix('-').map_or((name, Order::Asc), |name| (name, Order::Desc));
        match self.column(name) {
            _ if name.is_empty() => faults.add(at, FaultCode::Empty, "names no column; leave it out"),
            None => faults.add(at, FaultCode::UnknownColumn, unknown_column(name)),
            Some(rule) if matches!(rule.kind, ColumnKind::Json | ColumnKind::Bytes) => {
                faults.add(at, FaultCode::OperatorNotAllowed, format!("{name} has no order"));
            }
            Some(rule) if order.iter().any(|(other, _)| other.name == rule.name) => {
                faults.add(at, FaultCode::Duplicate, format!("{name} is named twice"));
            }
            Some(rule) => order.push((rule, direction)),
        }
    }

    fn read_search(&self, json: &Json, at: &At<'_>, faults: &mut Faults) -> Option<SearchOptions<E>> {
        let Json::String(text) = json else {
            faults.add(at, FaultCode::WrongType, "expected a text");
            return None;
        };
        if text.is_empty() {
            faults.add(at, FaultCode::Empty, "searches for nothing; leave it out");
            return None;
        }
        let columns = self.visible().filter(|rule| rule.searchable).map(|rule| rule.column);
        self.is_searchable_text(text, at, faults).then(|| SearchOptions::contains(text.as_str(), columns))
    }
}

fn digits(text: &str) -> Option<u64> {
    // A plus sign is no digit, though a number may have one.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn number(json: &Json, least: u64, most: u64, at: &At<'_>, faults: &mut Faults) -> Option<u64> {
    let expected = if most == u64::MAX {
        format!("expected a whole number from {least}")
    } else {
        format!("expected a whole number from {least} to {most}")
    };
    match json.as_u64() {
        Some(number) if (least..=most).contains(&number) => Some(number),
        None if !json.is_i64() => {
            faults.add(at, FaultCode::WrongType, expected);
            None
        }
        _ => {
            faults.add(at, FaultCode::OutOfRange, expected);
            None
        }
    }
}
