//! What can go wrong between a request and its tenant.

use std::{fmt, sync::Arc};

use serde::Serialize;

/// What in a request named a tenant. In the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TenantSource {
    /// The [`TenantClaim`](crate::TenantClaim) that the application verified.
    Claim,
    /// The host, as a subdomain of the application's own domain.
    Subdomain,
    /// The host, as a tenant's own domain.
    CustomDomain,
    /// A request header.
    Header,
    /// The path.
    Path,
}

impl fmt::Display for TenantSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Claim => "verified claim",
            Self::Subdomain => "subdomain",
            Self::CustomDomain => "custom domain",
            Self::Header => "tenant header",
            Self::Path => "path",
        })
    }
}

/// Why a request has no tenant. Messages are for the log: what a client is told is a [`Problem`](crate::Problem), which says
/// less.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// A claim is required and the request carries none that was verified. Sign in.
    #[error("a verified claim is required and the request has none")]
    NoClaim,
    /// Something unsigned names another tenant than the claim, or none that exists. Answered alike, so that a signed-in
    /// client does not learn which tenants there are.
    #[error("the {by} does not name the tenant of the verified claim")]
    Mismatch {
        /// What disagrees.
        by: TenantSource,
    },
    /// Two unsigned sources name different tenants, and neither is worth more.
    #[error("the {first} and the {second} name different tenants")]
    Contradiction {
        /// The one that was asked first.
        first: TenantSource,
        /// The one that disagrees.
        second: TenantSource,
    },
    /// What the request names is no tenant. A tenant that was created a moment ago may need
    /// [`NameCache::absent_for`](crate::NameCache) to be found.
    #[error("the {by} of the request names no tenant")]
    UnknownTenant {
        /// What names it.
        by: TenantSource,
    },
    /// Nothing in the request names a tenant.
    #[error("nothing in the request names a tenant")]
    Unnamed,
    /// A part of the request that names the tenant cannot be read.
    #[error("the {part} of the request cannot be used: {reason}")]
    Malformed {
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// As many names as may be are being looked up, and no turn came in time: somebody asks for many that do not exist. Retry.
    #[error("too many names of tenants are being looked up at once; retry")]
    Busy,
    /// The application database could not be asked.
    #[error("the application database could not be asked for the tenant of the {by}")]
    Lookup {
        /// What names the tenant.
        by: TenantSource,
        /// Why not.
        #[source]
        source: Arc<tenantry_app_db::Error>,
    },
}

/// A resolver that was set up with something it cannot use. Found when the application starts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// Not a domain name.
    #[error("{given:?} is no domain name; give it without scheme, port and path")]
    Domain {
        /// What was given.
        given: String,
    },
    /// Not a header's name.
    #[error("{given:?} is no header name")]
    Header {
        /// What was given.
        given: String,
    },
    /// Not a path with one place for the tenant.
    #[error("{given:?} is no path prefix: begin with a slash, and write the tenant as one segment, {{tenant}}")]
    PathPrefix {
        /// What was given.
        given: String,
    },
    /// Not an address or a network.
    #[error("{given:?} is no address and no network of a proxy; write 10.0.0.0/8 or 10.0.0.1")]
    Proxy {
        /// What was given.
        given: String,
    },
    /// Hosts that a proxy forwards are to be believed, and no proxy is trusted.
    #[error("forwarded hosts are to be believed and no proxy is trusted; name the proxies")]
    NoProxies,
}
