//! Conditions that mean the same on every engine, kept apart from how each engine writes them.
//!
//! A search is a regular expression on PostgreSQL and a GLOB on SQLite, so that a condition with one in it can only be written
//! down when the engine is known. A filter waits for that.
//!
//! Every filter is true or false of a row and never unknown: nulls are looked at where they stand, in each comparison.

use sea_orm::{ColumnTrait, Condition, ExprTrait, sea_query::Expr};
use tenantry_data_source::Engine;
use tenantry_realm::TenantEntity;

use crate::{Error, SearchOptions};

/// Conditions on rows of `E` that [`crate::Exposed::filter`] made. It belongs to no tenant and to no engine; use it with
/// [`crate::Query::matching`], or with [`Self::condition`] where a condition is asked for.
pub struct Filter<E: TenantEntity>(Node<E>);

pub(crate) enum Node<E: TenantEntity> {
    All(Vec<Node<E>>),
    Any(Vec<Node<E>>),
    /// The same on every engine.
    Is(Expr),
    Search(SearchOptions<E>),
    /// The rows that a search of this one column does not find, those without a text among them.
    NotSearch(SearchOptions<E>, E::Column),
}

impl<E: TenantEntity> Filter<E> {
    pub(crate) fn new(node: Node<E>) -> Self {
        Self(node)
    }

    /// The filter as this engine writes it; that of a handle is `handle.engine()`.
    ///
    /// # Errors
    /// [`Error::InvalidSearch`], which none has that [`crate::Exposed::filter`] made.
    pub fn condition(&self, engine: Engine) -> Result<Condition, Error> {
        self.0.condition(engine)
    }
}

impl<E: TenantEntity> Node<E> {
    fn condition(&self, engine: Engine) -> Result<Condition, Error> {
        let into = |condition: Condition, nodes: &[Self]| {
            nodes.iter().try_fold(condition, |condition, node| Ok(condition.add(node.condition(engine)?)))
        };
        match self {
            Self::All(nodes) => into(Condition::all(), nodes),
            Self::Any(nodes) => into(Condition::any(), nodes),
            Self::Is(expression) => Ok(Condition::all().add(expression.clone())),
            Self::Search(search) => search.condition(engine),
            Self::NotSearch(search, column) => {
                let lacking = Expr::from(search.condition(engine)?).not();
                Ok(Condition::any().add(lacking).add(Expr::col(column.as_column_ref()).is_null()))
            }
        }
    }
}

impl<E: TenantEntity> Clone for Filter<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: TenantEntity> Clone for Node<E> {
    fn clone(&self) -> Self {
        match self {
            Self::All(nodes) => Self::All(nodes.clone()),
            Self::Any(nodes) => Self::Any(nodes.clone()),
            Self::Is(expression) => Self::Is(expression.clone()),
            Self::Search(search) => Self::Search(search.clone()),
            Self::NotSearch(search, column) => Self::NotSearch(search.clone(), *column),
        }
    }
}
