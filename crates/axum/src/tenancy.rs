//! What a request's tenant is found and opened with: part of an application's state.

use std::{fmt, net::IpAddr, sync::Arc};

use axum::http::request::Parts;
use tenantry_data_source::{Actor, DataSourceManager};

use crate::{
    NameStats, ResolveError, SetupError, TenantClaim, TenantContextRef, TenantResolver, client::user_agent,
    resolver::Resolver,
};

/// The manager of the data sources and the rules by which a request names its tenant; cheap to clone. The extractors of this
/// crate take it from the router's state, which is this or has it:
///
/// ```
/// # use axum::extract::FromRef;
/// # use tenantry_axum::Tenancy;
/// #[derive(Clone)]
/// struct State {
///     tenancy: Tenancy,
///     // the application's own
/// }
///
/// impl FromRef<State> for Tenancy {
///     fn from_ref(state: &State) -> Self {
///         state.tenancy.clone()
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Tenancy {
    shared: Arc<Shared>,
}

struct Shared {
    manager: DataSourceManager,
    resolver: Resolver,
}

impl Tenancy {
    /// Puts both together. Connects nothing.
    ///
    /// # Errors
    /// [`SetupError`] when the resolver was given something that it cannot use.
    pub fn new(manager: DataSourceManager, resolver: TenantResolver) -> Result<Self, SetupError> {
        let resolver = resolver.checked(manager.app_db().clone())?;
        Ok(Self { shared: Arc::new(Shared { manager, resolver }) })
    }

    /// The manager of the data sources.
    pub fn manager(&self) -> &DataSourceManager {
        &self.shared.manager
    }

    /// The tenant of a request and who acts: the user of its verified claim, the client's address and name. The tenant need not
    /// exist; [`TenantContextRef::open`] says. Cancel-safe.
    ///
    /// # Errors
    /// [`ResolveError`] when nothing names a tenant, or what does disagrees.
    pub async fn context(&self, parts: &Parts) -> Result<TenantContextRef, ResolveError> {
        let tenant = self.shared.resolver.tenant(parts).await?;
        Ok(TenantContextRef::new(tenant, self.actor(parts)))
    }

    /// Who acts in a request.
    pub fn actor(&self, parts: &Parts) -> Actor {
        Actor {
            user_id: parts.extensions.get::<TenantClaim>().and_then(TenantClaim::user),
            client_ip: self.client_address(parts).map(|address| address.to_string()),
            user_agent: user_agent(&parts.headers),
        }
    }

    /// The client's address: that of the connection, or what the trusted proxies say. None where the application was served
    /// without [`ConnectInfo`](axum::extract::ConnectInfo).
    pub fn client_address(&self, parts: &Parts) -> Option<IpAddr> {
        self.shared.resolver.proxies.client(parts)
    }

    /// Forgets which tenant has which name: after a subdomain or a domain was given to another tenant.
    pub fn forget_names(&self) {
        self.shared.resolver.directory.forget();
    }

    /// The names that are remembered.
    pub async fn name_stats(&self) -> NameStats {
        self.shared.resolver.directory.stats().await
    }
}

impl fmt::Debug for Tenancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenancy").finish_non_exhaustive()
    }
}
