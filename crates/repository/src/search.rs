//! Text search that means the same on every engine, whatever its locale.
//!
//! `lower()` and `ILIKE` fold by the database's locale (plain C and SQLite fold ASCII only), and SQLite's `LIKE` ignores ASCII
//! case whether asked to or not. So case is folded here, by Unicode's simple folding: each letter of the text becomes the set
//! of letters that fold to the same one, and the database matches sets, which both engines do by code point (`~` on
//! PostgreSQL, `GLOB` on SQLite). "ÄRGER" finds "ärger" and "σοφός" finds "ΣΟΦΌΣ"; foldings that change a text's length are not
//! made: "strasse" does not find "Straße". Accents count.
//!
//! The cost: each candidate row of the tenant is matched. A trigram index helps on PostgreSQL; a B-tree index does not.

mod fold;
mod pattern;

use sea_orm::{
    ColumnTrait, ColumnType, Condition, ExprTrait, IdenStatic,
    sea_query::{BinOper, Expr, extension::postgres::PgBinOper, extension::sqlite::SqliteBinOper},
};
use tenantry_data_source::Engine;
use tenantry_realm::TenantEntity;

use crate::Error;

/// The longest text that can be searched for.
pub const MAX_SEARCH_CHARACTERS: usize = 1_000;

/// How a column's text has to match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matching {
    /// The column's whole text.
    Exact,
    /// Anywhere in the column's text.
    Contains,
    /// At the beginning of the column's text.
    StartsWith,
}

/// Which rows a search finds: those with the text in any of the columns. Every character of the text stands for itself; there
/// are no wildcards. An empty text is contained in every text, and in no null.
pub struct SearchOptions<E: TenantEntity> {
    needle: Needle,
    columns: Vec<E::Column>,
}

/// What is searched for.
#[derive(Debug, Clone)]
struct Needle {
    text: String,
    matching: Matching,
    case_sensitive: bool,
}

impl<E: TenantEntity> SearchOptions<E> {
    /// Rows that contain `text` in any of `columns`, in whatever case.
    pub fn contains(text: impl Into<String>, columns: impl IntoIterator<Item = E::Column>) -> Self {
        Self::new(Matching::Contains, text.into(), columns)
    }

    /// Rows whose text in any of `columns` begins with `text`, in whatever case.
    pub fn starts_with(text: impl Into<String>, columns: impl IntoIterator<Item = E::Column>) -> Self {
        Self::new(Matching::StartsWith, text.into(), columns)
    }

    /// Rows whose text in any of `columns` is `text`, in whatever case.
    pub fn exact(text: impl Into<String>, columns: impl IntoIterator<Item = E::Column>) -> Self {
        Self::new(Matching::Exact, text.into(), columns)
    }

    /// Upper and lower case differ.
    #[must_use]
    pub fn case_sensitive(mut self) -> Self {
        self.needle.case_sensitive = true;
        self
    }

    fn new(matching: Matching, text: String, columns: impl IntoIterator<Item = E::Column>) -> Self {
        Self { needle: Needle { text, matching, case_sensitive: false }, columns: columns.into_iter().collect() }
    }

    pub(crate) fn condition(&self, engine: Engine) -> Result<Condition, Error> {
        let invalid = |reason| Error::InvalidSearch { entity: E::default().table_name().to_owned(), reason };
        if self.columns.is_empty() {
            return Err(invalid("no column is named".to_owned()));
        }
        if self.needle.text.chars().nth(MAX_SEARCH_CHARACTERS).is_some() {
            return Err(invalid(format!("the text is longer than {MAX_SEARCH_CHARACTERS} characters")));
        }
        // No stored text contains it, and SQLite would end the pattern there.
        if self.needle.text.contains('\0') {
            return Err(invalid("the text contains a NUL character".to_owned()));
        }
        let (operator, pattern) = match engine {
            Engine::Postgres => (BinOper::PgOperator(PgBinOper::Regex), pattern::regex(&self.needle)),
            Engine::Sqlite => (BinOper::SqliteOperator(SqliteBinOper::Glob), pattern::glob(&self.needle)),
        };
        self.columns.iter().try_fold(Condition::any(), |any, column| {
            if is_text(column) {
                Ok(any.add(Expr::col(column.as_column_ref()).binary(operator, pattern.clone())))
            } else {
                Err(invalid(format!("column {} is not text", column.as_str())))
            }
        })
    }
}

impl<E: TenantEntity> Clone for SearchOptions<E> {
    fn clone(&self) -> Self {
        Self { needle: self.needle.clone(), columns: self.columns.clone() }
    }
}

fn is_text(column: &impl ColumnTrait) -> bool {
    matches!(column.def().get_column_type(), ColumnType::Text | ColumnType::String(_) | ColumnType::Char(_))
}
