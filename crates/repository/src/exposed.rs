//! What of an entity an API shows its clients, and the JSON they ask and write with.
//!
//! ```text
//! JSON ──> Exposed ──> Filter, ListRequest -> Query -> Repository     or JsonFaults: everything that is wrong, by its place
//!                  └─> ActiveModel ---------------> Repository
//! Model ─> Exposed ──> JSON
//! ```
//!
//! The language is described in `docs/json-conditions.md`. Whatever a client sends, nothing of it becomes SQL text: names become
//! columns of the entity that are exposed, values are bound. A private column and one that does not exist are answered alike.
//!
//! This module knows no database, no tenant and no HTTP.

mod changes;
mod condition;
mod decimal;
mod fault;
mod listing;
mod value;

use sea_orm::{ColumnTrait, ColumnType, IdenStatic, Iterable, ModelTrait, PrimaryKeyTrait, sea_query::ArrayType};
use serde_json::Value as Json;
use tenantry_realm::TenantEntity;

pub use fault::{Fault, FaultCode, JsonFaults};
pub use listing::ListRequest;
pub use value::ColumnKind;

use crate::{MAX_PAGE_LIMIT, MAX_SEARCH_CHARACTERS, id::id_columns};
use fault::Faults;

/// What a client can make the database do with one call. The defaults suit an API that anybody may call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Comparisons in one filter: 50, and never more than 500.
    pub conditions: usize,
    /// Values in one list: 200. All lists of a filter together have at most 10 000.
    pub list: usize,
    /// `and`, `or` and `not` within each other: 5, and never more than 50.
    pub depth: usize,
    /// `contains` and `starts_with` in one filter: 10, and never more than 30. PostgreSQL keeps 32 patterns that it has compiled;
    /// with more than that it compiles each of them anew for each row.
    pub searches: usize,
    /// Characters of a text to be compared or searched: 1 000, and never more than [`MAX_SEARCH_CHARACTERS`] where it is
    /// searched.
    pub text: usize,
    /// Columns to order by: 4.
    pub order: usize,
    /// Rows of a page: 100, and never more than [`MAX_PAGE_LIMIT`].
    pub page: u64,
    /// Rows of a page whose size the client does not say: 20.
    pub default_page: u64,
    /// Rows before a page that is asked for by its number: 10 000. The database counts its way to each; a cursor does not.
    pub offset: u64,
    /// Faults that are told at once: 20.
    pub faults: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            conditions: 50,
            list: 200,
            depth: 5,
            searches: 10,
            text: MAX_SEARCH_CHARACTERS,
            order: 4,
            page: 100,
            default_page: 20,
            offset: 10_000,
            faults: 20,
        }
    }
}

impl Limits {
    /// Every value of a statement is bound, and an engine binds so many.
    const VALUES: usize = 10_000;

    /// Within what the engines can do, whatever an application sets.
    fn within_reason(mut self) -> Self {
        self.conditions = self.conditions.min(500);
        self.depth = self.depth.min(50);
        self.searches = self.searches.min(30);
        self.page = self.page.clamp(1, MAX_PAGE_LIMIT);
        self.default_page = self.default_page.clamp(1, self.page);
        self
    }
}

/// What of `E` clients may see, ask for and set. Made once, kept with the application's routes, used for every request.
///
/// All columns are exposed under the names that serde gives them, but the tenant column, which never is, and columns whose type
/// has no JSON form. Foreign keys are exposed like any other: a client sees ids of rows that it may have no way to see.
///
/// ```
/// # mod notes {
/// #     use sea_orm::entity::prelude::*;
/// #     #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
/// #     #[sea_orm(table_name = "notes")]
/// #     pub struct Model {
/// #         #[sea_orm(primary_key, auto_increment = false)]
/// #         pub tenant_id: Uuid,
/// #         #[sea_orm(primary_key, auto_increment = false)]
/// #         pub id: Uuid,
/// #         pub title: String,
/// #         pub secret: Option<String>,
/// #     }
/// #     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
/// #     pub enum Relation {}
/// #     impl ActiveModelBehavior for ActiveModel {}
/// # }
/// # tenantry_realm::tenant_entity!(notes);
/// use notes::Column;
/// use tenantry_repository::{Exposed, FaultCode};
///
/// let exposed = Exposed::<notes::Entity>::new().private([Column::Secret]).read_only([Column::Id]).searchable([Column::Title]);
/// assert!(exposed.filter(&serde_json::json!({"title": {"starts_with": "Re:"}})).is_ok());
/// let faults = exposed.filter(&serde_json::json!({"secret": "x"})).err().unwrap();
/// assert_eq!((&*faults.faults[0].pointer, faults.faults[0].code), ("/secret", FaultCode::UnknownColumn));
/// ```
#[must_use]
pub struct Exposed<E: TenantEntity> {
    columns: Vec<Rule<E>>,
    limits: Limits,
}

/// What holds for a column.
struct Rule<E: TenantEntity> {
    column: E::Column,
    name: &'static str,
    kind: ColumnKind,
    /// The type of the model's field, which a value has to have.
    field: ArrayType,
    nullable: bool,
    id: bool,
    /// Something other than the client gives it a value where the client does not.
    filled: bool,
    private: bool,
    read_only: bool,
    searchable: bool,
}

/// A column as clients see it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ExposedColumn<'a> {
    /// Its name in JSON.
    pub name: &'a str,
    /// Its type.
    pub kind: &'a ColumnKind,
    /// Whether it can be null.
    pub nullable: bool,
    /// Whether a new row can set it.
    pub insertable: bool,
    /// Whether a change can set it; an id stays what it is.
    pub changeable: bool,
    /// Whether a new row must set it.
    pub required: bool,
    /// Whether the parameter `search` looks into it.
    pub searchable: bool,
}

impl<E: TenantEntity> Exposed<E> {
    /// Every column but the tenant column.
    pub fn new() -> Self {
        let ids = id_columns::<E>();
        let tenant = E::tenant_column();
        let rule = |column: E::Column| {
            let id = ids.iter().any(|id| id.as_str() == column.as_str());
            let kind = ColumnKind::of::<E>(column)?;
            let definition = column.def();
            // The repository makes an id that is one uuid, the database one that it counts.
            let made = id && ids.len() == 1 && (kind == ColumnKind::Uuid || E::PrimaryKey::auto_increment());
            Some(Rule {
                column,
                name: column.json_key(),
                nullable: definition.is_null(),
                filled: made || definition.get_column_default().is_some(),
                field: E::Model::get_value_type(column),
                kind,
                id,
                private: false,
                read_only: false,
                searchable: false,
            })
        };
        let columns = E::Column::iter().filter(|column| column.as_str() != tenant.as_str()).filter_map(rule);
        Self { columns: columns.collect(), limits: Limits::default() }
    }

    /// Columns that clients never see: not rendered, not asked for, not searched, not ordered by, not set, and answered as if they
    /// did not exist.
    pub fn private(self, columns: impl IntoIterator<Item = E::Column>) -> Self {
        self.each(columns, |rule| rule.private = true)
    }

    /// Columns that clients see and do not set. The id can be set in a new row where it is not among these.
    pub fn read_only(self, columns: impl IntoIterator<Item = E::Column>) -> Self {
        self.each(columns, |rule| rule.read_only = true)
    }

    /// Columns that the parameter `search` looks into, all at once. Those that are no text, and private ones, stay out.
    pub fn searchable(self, columns: impl IntoIterator<Item = E::Column>) -> Self {
        self.each(columns, |rule| rule.searchable = is_text(&rule.column))
    }

    /// Columns that a new row need not set although they cannot be null: a default of the database, a trigger or a hook fills
    /// them. Entities that are generated from a schema do not tell.
    pub fn filled(self, columns: impl IntoIterator<Item = E::Column>) -> Self {
        self.each(columns, |rule| rule.filled = true)
    }

    /// Other limits. What is beyond an engine's means is cut to it.
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self.limits = self.limits.within_reason();
        self
    }

    /// The columns that clients see, in the entity's order: for documentation and schemas.
    pub fn columns(&self) -> impl Iterator<Item = ExposedColumn<'_>> {
        self.visible().map(|rule| ExposedColumn {
            name: rule.name,
            kind: &rule.kind,
            nullable: rule.nullable,
            insertable: !rule.read_only,
            changeable: rule.changeable(),
            required: rule.required(),
            searchable: rule.searchable,
        })
    }

    /// A row as clients see it: an object of the exposed columns. Decimals are texts with all their digits, because most clients
    /// read a JSON number as a double; instants are RFC 3339 in UTC; a floating-point NaN or infinity is null.
    pub fn render(&self, row: &E::Model) -> Json {
        let fields = self.visible().map(|rule| (rule.name.to_owned(), value::render(row.get(rule.column))));
        Json::Object(fields.collect())
    }

    fn visible(&self) -> impl Iterator<Item = &Rule<E>> {
        self.columns.iter().filter(|rule| !rule.private)
    }

    fn column(&self, name: &str) -> Option<&Rule<E>> {
        self.visible().find(|rule| rule.name == name)
    }

    fn faults(&self) -> Faults {
        Faults::new(self.limits.faults)
    }

    fn each(mut self, columns: impl IntoIterator<Item = E::Column>, change: impl Fn(&mut Rule<E>)) -> Self {
        for column in columns {
            self.columns.iter_mut().filter(|rule| rule.column.as_str() == column.as_str()).for_each(&change);
        }
        self
    }
}

impl<E: TenantEntity> Rule<E> {
    fn changeable(&self) -> bool {
        !self.read_only && !self.id
    }

    fn required(&self) -> bool {
        !self.nullable && !self.filled && !self.read_only
    }
}

impl<E: TenantEntity> Default for Exposed<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: TenantEntity> Clone for Exposed<E> {
    fn clone(&self) -> Self {
        Self { columns: self.columns.clone(), limits: self.limits.clone() }
    }
}

impl<E: TenantEntity> Clone for Rule<E> {
    fn clone(&self) -> Self {
        Self { kind: self.kind.clone(), field: self.field.clone(), ..*self }
    }
}

/// Whether a search can look into the column.
fn is_text(column: &impl ColumnTrait) -> bool {
    matches!(column.def().get_column_type(), ColumnType::Text | ColumnType::String(_) | ColumnType::Char(_))
}

/// How a fault about a name of the client's begins, whether there is such a column or not.
fn unknown_column(name: &str) -> String {
    format!("there is no column {:?} here", fault::shortened(name))
}

#[cfg(test)]
mod tests;
