//! Several statements as one.

use super::{TenantTransaction, sealed::Handle};
use crate::Error;

/// One transaction for several statements: the handle's own transaction where the handle is one, else a transaction that this
/// value began and ends. What uses it need not know which.
#[derive(Debug)]
pub struct UnitOfWork<'h> {
    transaction: Whose<'h>,
}

#[derive(Debug)]
enum Whose<'h> {
    Own(TenantTransaction),
    Callers { transaction: &'h TenantTransaction, writes_before: u64 },
}

impl<'h> UnitOfWork<'h> {
    pub(super) fn own(transaction: TenantTransaction) -> Self {
        Self { transaction: Whose::Own(transaction) }
    }

    pub(super) fn within(transaction: &'h TenantTransaction) -> Self {
        Self { transaction: Whose::Callers { transaction, writes_before: transaction.writes() } }
    }

    /// What the statements run on.
    pub fn transaction(&self) -> &TenantTransaction {
        match &self.transaction {
            Whose::Own(transaction) => transaction,
            Whose::Callers { transaction, .. } => transaction,
        }
    }

    /// Ends the unit with what its statements came to: commits on `Ok`, undoes on `Err`. Within a caller's transaction an
    /// error after a write leaves that transaction good for a rollback only: half of the unit is in it.
    ///
    /// # Errors
    /// The given one, or the failure to commit.
    pub async fn finish<T, E: From<Error>>(self, result: Result<T, E>) -> Result<T, E> {
        match (self.transaction, result) {
            (Whose::Own(transaction), Ok(value)) => {
                transaction.commit().await?;
                Ok(value)
            }
            (Whose::Own(transaction), Err(error)) => {
                // The given error says more than a failure to roll back, which closes the connection anyway.
                let _ = transaction.rollback().await;
                Err(error)
            }
            (Whose::Callers { .. }, Ok(value)) => Ok(value),
            (Whose::Callers { transaction, writes_before }, Err(error)) => {
                if transaction.writes() != writes_before {
                    transaction.give_up();
                }
                Err(error)
            }
        }
    }
}
