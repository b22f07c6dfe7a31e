//! Deletes of one tenant's rows.

use std::sync::Arc;

use sea_orm::sea_query::{DeleteStatement, IntoCondition};
use tenantry_realm::TenantEntity;

use super::Scope;
use crate::{
    Error, TenantHandle,
    handle::{Rerouting, TenantContext},
};

/// A delete of one tenant's rows of `E`.
#[derive(Clone)]
pub struct ScopedDelete<E: TenantEntity> {
    scope: Scope<E>,
}

impl<E: TenantEntity> ScopedDelete<E> {
    pub(crate) fn new(context: &Arc<TenantContext>) -> Self {
        Self { scope: Scope::new(context) }
    }

    /// Narrows to the rows that meet `condition`, as [`crate::ScopedSelect::filter`] does. Without one, every row of the
    /// tenant is deleted.
    #[must_use]
    pub fn filter(mut self, condition: impl IntoCondition) -> Self {
        self.scope.filter(condition);
        self
    }

    /// Deletes the rows and returns how many.
    ///
    /// # Errors
    /// What the guard refuses, and [`Error::Connection`]: a foreign key refuses a row that is still referred to.
    pub async fn execute<H: TenantHandle>(mut self, handle: &H) -> Result<u64, Error> {
        let mut rerouting = Rerouting::default();
        loop {
            match self.attempt(handle).await {
                Err(error) => handle.rerouted(error, &mut rerouting).await?,
                done => return done,
            }
        }
    }

    async fn attempt<H: TenantHandle>(&mut self, handle: &H) -> Result<u64, Error> {
        self.scope.follow(handle.context());
        let mut delete = DeleteStatement::new();
        delete.from_table(E::default().table_ref()).cond_where(self.scope.predicate());
        let statement = self.scope.finish(handle.context(), &delete)?;
        handle.execute(statement).await
    }
}
