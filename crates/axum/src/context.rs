//! For whom something is done, as a value that can be sent along.
//!
//! There is no ambient tenant: neither a task-local nor a thread-local. Such a context is lost when a handler spawns a task,
//! and, worse, is somebody else's when a worker takes the next job. Within a process the handle itself goes along, an
//! ordinary value; what outlives the process carries a [`TenantContextRef`].

use serde::{Deserialize, Serialize};
use tenantry_data_source::{Actor, DataSourceManager, RouteError, TenantDb};
use uuid::Uuid;

/// A tenant and who acts for it, to be stored with a job and turned into a handle by the worker that runs it. It holds no
/// connection and no credential, and proves nothing: keep it where only the application writes.
///
/// ```
/// # use tenantry_axum::TenantContextRef;
/// # use tenantry_data_source::{DataSourceManager, RouteError};
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct SendInvoices {
///     context: TenantContextRef, // a payload without one is no job
///     month: String,
/// }
///
/// async fn run(job: SendInvoices, manager: &DataSourceManager) -> Result<(), RouteError> {
///     let db = job.context.open(manager).await?; // the tenant may have been suspended meanwhile
/// #   let _ = (db, job.month);
///     Ok(())
/// }
/// ```
///
/// There is none without a tenant:
///
/// ```compile_fail
/// # use tenantry_axum::TenantContextRef;
/// let context = TenantContextRef::default();
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantContextRef {
    tenant: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_ip: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
}

impl TenantContextRef {
    /// The context of work for a tenant, by whomever: a job that no request began has `Actor::default()`.
    pub fn new(tenant: Uuid, actor: Actor) -> Self {
        let Actor { user_id, client_ip, user_agent } = actor;
        Self { tenant, user: user_id, client_ip, user_agent }
    }

    /// The tenant's id.
    pub fn tenant(&self) -> Uuid {
        self.tenant
    }

    /// Who acts.
    pub fn actor(&self) -> Actor {
        Actor { user_id: self.user, client_ip: self.client_ip.clone(), user_agent: self.user_agent.clone() }
    }

    /// A restricted handle on the tenant's rows, with writes recorded as done by the actor. Where the tenant lives and whether it
    /// is served is asked now, not when the context was made. Cancel-safe.
    ///
    /// # Errors
    /// [`RouteError`]; a suspended tenant's job should be put back or given up, not retried at once.
    pub async fn open(&self, manager: &DataSourceManager) -> Result<TenantDb, RouteError> {
        Ok(manager.tenant(self.tenant).await?.as_user(self.actor()))
    }
}
