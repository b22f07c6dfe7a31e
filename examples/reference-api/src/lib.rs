//! The reference API: accounts of the signed-in tenant over HTTP, made with Tenantry and axum alone.
//!
//! ```text
//! request ── RequestLayer ── session::authenticate ── Tenant ── accounts::… ── Repository<accounts::Entity>
//!            id, problems    cookie → TenantClaim
//! ```
//!
//! Which tenant a request is for is said by the signed session and by nothing else. It knows no SQL and no data source: where a
//! tenant's rows are is Tenantry's business.

mod accounts;
mod body;
pub mod demo;
mod document;
mod password;
mod session;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRef},
    middleware,
};
use tenantry::Tenantry;
use tenantry_axum::{RequestLayer, SetupError, Tenancy, TenantResolver};
use tokio::net::TcpListener;

pub use document::document;
pub use password::{HashError, Passwords};
pub use session::{InvalidKeys, SessionKeys, Sessions};

/// No request of this API needs more.
const LARGEST_BODY: usize = 64 * 1024;

/// What every handler may use; cheap to clone.
#[derive(Clone)]
pub struct Api {
    tenantry: Tenantry,
    tenancy: Tenancy,
    sessions: Arc<Sessions>,
    passwords: Arc<Passwords>,
}

impl Api {
    /// Puts the parts together. Connects nothing.
    ///
    /// # Errors
    /// None in practice: the resolver asks for a claim alone, which needs no setting.
    pub fn new(tenantry: Tenantry, sessions: Sessions, passwords: Passwords) -> Result<Self, SetupError> {
        let tenancy = Tenancy::new(tenantry.manager().clone(), TenantResolver::new().require_claim())?;
        Ok(Self { tenantry, tenancy, sessions: Arc::new(sessions), passwords: Arc::new(passwords) })
    }

    /// The routes with everything around them.
    pub fn router(self) -> Router {
        let (routes, _) = document::routes().split_for_parts();
        routes
            .layer(middleware::from_fn_with_state(self.clone(), session::authenticate))
            .layer(DefaultBodyLimit::max(LARGEST_BODY))
            .layer(RequestLayer)
            .with_state(self)
    }

    /// Serves until `stop` is done, and then until the requests under way are answered.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let service = self.router().into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, service).with_graceful_shutdown(stop).await
    }
}

impl FromRef<Api> for Tenancy {
    fn from_ref(api: &Api) -> Self {
        api.tenancy.clone()
    }
}
