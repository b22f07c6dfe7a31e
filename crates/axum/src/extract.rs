//! Extractors: a handler that names its tenant's handle among its arguments works for that tenant and no other.

use std::{fmt, net::IpAddr, ops::Deref, sync::Arc};

use axum::{
    extract::{FromRef, FromRequestParts},
    http::request::Parts,
};
use tenantry_data_source::{Error, TenantDb, TenantLease, TenantTransaction};

use crate::{Problem, Tenancy, TenantContextRef, request};

/// The restricted handle of the request's tenant; its writes are recorded as done by the acting user, from the client's address.
/// Refuses with a [`Problem`] what names no tenant, an unknown or suspended one.
///
/// ```
/// # use axum::Json;
/// # use tenantry_axum::{Problem, Tenant};
/// # use tenantry_data_source::TenantHandle;
/// async fn whose(Tenant(db): Tenant) -> Result<Json<uuid::Uuid>, Problem> {
///     Ok(Json(db.tenant()))
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Tenant(pub TenantDb);

/// One connection for all statements of a request, each a transaction of its own. It goes back to its pool when the handler is
/// done with it, in whatever way: an error, a panic, a client that has gone. Waits for a connection before the handler begins,
/// so that a request whose tenant has none left is refused early.
#[derive(Debug)]
pub struct OneLease(pub TenantLease);

/// One transaction for all reads of a request, from one snapshot; the database refuses writes in it. It ends and its connection
/// goes back when the handler is done with it, in whatever way: an error, a panic, a client that has gone. Not for a handler
/// that waits for others than the database: old row versions are kept for as long as it is open.
pub struct OneRead {
    transaction: Arc<TenantTransaction>,
    // After the transaction, which is dropped first: then this is the last one to have it.
    end: End,
}

/// The address that a request comes from, as the write log has it; see [`Tenancy::client_address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub Option<IpAddr>);

struct End(Option<Arc<TenantTransaction>>);

impl<S> FromRequestParts<S> for TenantContextRef
where
    Tenancy: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let context = Tenancy::from_ref(state).context(parts).await?;
        request::record_tenant(&parts.extensions, context.tenant());
        Ok(context)
    }
}

impl<S> FromRequestParts<S> for Tenant
where
    Tenancy: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let context = TenantContextRef::from_request_parts(parts, state).await?;
        Ok(Self(context.open(Tenancy::from_ref(state).manager()).await?))
    }
}

impl<S> FromRequestParts<S> for OneLease
where
    Tenancy: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Tenant(db) = Tenant::from_request_parts(parts, state).await?;
        Ok(Self(db.lease().await?))
    }
}

impl<S> FromRequestParts<S> for OneRead
where
    Tenancy: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Tenant(db) = Tenant::from_request_parts(parts, state).await?;
        let transaction = Arc::new(db.begin_read().await?);
        Ok(Self { end: End(Some(Arc::clone(&transaction))), transaction })
    }
}

impl<S> FromRequestParts<S> for ClientAddress
where
    Tenancy: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(Tenancy::from_ref(state).client_address(parts)))
    }
}

impl OneRead {
    /// Ends the transaction now, for a handler that has read what it needs and goes on without the database.
    ///
    /// # Errors
    /// [`Error::TransactionFailed`] after a statement that failed, and when the database did not answer. What was read stands.
    pub async fn finish(self) -> Result<(), Error> {
        let Self { transaction, mut end } = self;
        drop(transaction);
        match end.0.take().and_then(Arc::into_inner) {
            Some(transaction) => transaction.commit().await,
            None => Ok(()),
        }
    }
}

impl Deref for OneRead {
    type Target = TenantTransaction;

    fn deref(&self) -> &TenantTransaction {
        &self.transaction
    }
}

impl Deref for OneLease {
    type Target = TenantLease;

    fn deref(&self) -> &TenantLease {
        &self.0
    }
}

impl Deref for Tenant {
    type Target = TenantDb;

    fn deref(&self) -> &TenantDb {
        &self.0
    }
}

impl Drop for End {
    /// A transaction that is dropped closes its connection, and a tenant's reads would open one each. Ending it takes a round
    /// trip, which nobody has to wait for.
    fn drop(&mut self) {
        let transaction = self.0.take().and_then(Arc::into_inner);
        if let (Some(transaction), Ok(runtime)) = (transaction, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                // What was read has been used already; a connection that does not answer is closed by its pool.
                if let Err(error) = transaction.commit().await {
                    tracing::debug!(%error, "a request's read transaction did not end well");
                }
            });
        }
    }
}

impl fmt::Debug for OneRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OneRead").field(&self.transaction).finish()
    }
}
