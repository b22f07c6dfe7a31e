//! One connection for the statements of one request.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{StreamExt, stream::BoxStream};
use sea_orm::QueryResult;
use tenantry_connection::{Error as ConnectionError, Lease, Mode};
use tokio::sync::Notify;

use super::{Rerouting, TenantContext, TenantTransaction, UnitOfWork, sealed, sealed::Checked};
use crate::Error;

/// A connection for several statements on one tenant's data, each a transaction of its own. It goes back to its pool when this
/// is dropped.
///
/// A statement takes it while it runs, and a transaction until its end. Whatever comes meanwhile takes a connection from the pool
/// or this one when it is back, whichever is there first. After a statement that was cancelled, or a connection that broke, the next
/// statement takes another one.
pub struct TenantLease {
    context: Arc<TenantContext>,
    slot: Slot,
}

/// Where the connection is while nothing runs on it.
#[derive(Clone, Default)]
pub(super) struct Slot(Arc<Place>);

#[derive(Default)]
struct Place {
    lease: Mutex<Option<Lease>>,
    put_back: Notify,
}

impl Slot {
    /// Puts a connection where the next statement finds it. Should there be one already, this one goes back to its pool.
    pub(super) fn put(&self, lease: Lease) {
        let mut slot = self.0.lease.lock().unwrap_or_else(PoisonError::into_inner);
        if lease.is_usable() && slot.is_none() {
            *slot = Some(lease);
            self.0.put_back.notify_one();
        }
    }

    fn take(&self) -> Option<Lease> {
        self.0.lease.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn when_back(&self) -> Lease {
        loop {
            self.0.put_back.notified().await;
            if let Some(lease) = self.take() {
                return lease;
            }
        }
    }
}

impl TenantLease {
    pub(super) async fn take(context: Arc<TenantContext>) -> Result<Self, Error> {
        let lease = context.pool.admitted().await?.lease(&context.session).await?;
        let slot = Slot::default();
        slot.put(lease);
        Ok(Self { context, slot })
    }

    /// Begins a transaction on this connection. Dropped before it is committed, it is rolled back by closing the connection.
    ///
    /// # Errors
    /// [`Error::Connection`] when no connection could be had; it says whether a retry makes sense.
    pub async fn begin(&self) -> Result<TenantTransaction, Error> {
        self.begin_as(Mode::Write).await
    }

    /// Begins a transaction that reads from one snapshot. The database refuses writes in it.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub async fn begin_read(&self) -> Result<TenantTransaction, Error> {
        self.begin_as(Mode::Snapshot).await
    }

    async fn begin_as(&self, mode: Mode) -> Result<TenantTransaction, Error> {
        let lease = self.lease().await?;
        TenantTransaction::begin_on(lease, Some(self.slot.clone()), Arc::clone(&self.context), mode).await
    }

    /// What a statement came to. When the fence refused it, the connection goes to its pool before anything is asked: it leads
    /// to where the tenant is not written any more, and the look-up may need one.
    async fn known<T>(&self, result: Result<T, ConnectionError>) -> Result<T, Error> {
        match result {
            Err(refused @ ConnectionError::Fenced { .. }) => {
                drop(self.slot.take());
                Err(Rerouting::ended(&self.context, refused.into()).await)
            }
            result => Ok(result?),
        }
    }

    async fn lease(&self) -> Result<Lease, Error> {
        if let Some(lease) = self.slot.take() {
            return Ok(lease);
        }
        let pool = self.context.pool.admitted().await?;
        // Not the pool alone: a tenant whose share is this one connection would wait for itself.
        tokio::select! {
            lease = pool.lease(&self.context.session) => Ok(lease?),
            lease = self.slot.when_back() => Ok(lease),
        }
    }
}

impl sealed::Handle for TenantLease {
    fn context(&self) -> &Arc<TenantContext> {
        &self.context
    }

    async fn query_all(&self, statement: Checked, mode: Mode) -> Result<Vec<QueryResult>, Error> {
        if statement.is_raw() {
            return Box::pin(async { self.begin_as(mode).await?.query_and_commit(statement).await }).await;
        }
        let mut lease = self.lease().await?;
        let rows = lease.query_all(&self.context.session, mode, statement.into_statement()).await;
        self.slot.put(lease);
        self.known(rows).await
    }

    async fn execute(&self, statement: Checked) -> Result<u64, Error> {
        if statement.is_raw() {
            return Box::pin(async { self.begin().await?.execute_and_commit(statement).await }).await;
        }
        let mut lease = self.lease().await?;
        let affected = lease.execute(&self.context.session, statement.into_statement()).await;
        self.slot.put(lease);
        self.known(affected).await
    }

    fn stream(&self, statement: Checked) -> BoxStream<'_, Result<QueryResult, Error>> {
        async_stream::try_stream! {
            let transaction = self.begin_as(Mode::Read).await?;
            {
                let mut rows = sealed::Handle::stream(&transaction, statement);
                while let Some(row) = rows.next().await {
                    yield row?;
                }
            }
            transaction.commit().await?;
        }
        .boxed()
    }

    async fn unit_of_work(&self, mode: Mode) -> Result<UnitOfWork<'_>, Error> {
        self.begin_as(mode).await.map(UnitOfWork::own)
    }

    /// It is a connection to one place: the caller takes another.
    async fn rerouted(&self, error: Error, _: &mut Rerouting) -> Result<(), Error> {
        Err(error)
    }
}

impl fmt::Debug for TenantLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.context.fmt_as(f, "TenantLease")
    }
}
