//! From a request to a tenant's id: which parts of it are asked, and what happens when they disagree.
//!
//! ```text
//! verified claim ──> subdomain ──> custom domain ──> header ──> path
//!      │                 └─────────────┴──────────────┴──────────┴── all that are there have to name the same tenant
//!      └── beats the rest: what names another tenant is refused
//! ```

mod directory;
mod host;

use std::collections::HashSet;

use axum::http::{HeaderName, request::Parts};
use percent_encoding::percent_decode_str;
use tenantry_app_db::AppDb;
use uuid::Uuid;

pub use self::directory::{NameCache, NameStats};
use self::{
    directory::{Directory, Name, NotAsked},
    host::Host,
};
use crate::{ResolveError, SetupError, TenantClaim, TenantSource, TrustedProxies};

/// What in a request may name its tenant. Nothing does that is not asked for here, but a [`TenantClaim`]: the application has
/// verified it, and it always counts.
///
/// ```
/// # use tenantry_axum::{TenantResolver, TrustedProxies};
/// # fn example() -> Result<(), tenantry_axum::SetupError> {
/// let resolver = TenantResolver::new()
///     .require_claim()
///     .subdomain_of("app.example.com")
///     .reserve_subdomains(["www", "api"])
///     .custom_domains()
///     .header("x-tenant")
///     .path_prefix("/t/{tenant}")
///     .trusted_proxies(TrustedProxies::new(["10.0.0.0/8"])?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct TenantResolver {
    require_claim: bool,
    domains: Vec<String>,
    reserved: Vec<String>,
    custom_domains: bool,
    own_hosts: Vec<String>,
    header: Option<String>,
    path_prefix: Option<String>,
    proxies: TrustedProxies,
    forwarded_host: bool,
    names: NameCache,
}

impl TenantResolver {
    /// One that asks for a verified claim and nothing else.
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuses requests without a verified claim, before anything else of them is looked at: somebody who has not signed in
    /// cannot find out which tenants there are.
    pub fn require_claim(mut self) -> Self {
        self.require_claim = true;
        self
    }

    /// The label before this domain is a tenant's subdomain: `acme.app.example.com`. The domain itself names no tenant. May be
    /// called for several domains.
    pub fn subdomain_of(mut self, domain: impl Into<String>) -> Self {
        self.domains.push(domain.into());
        self
    }

    /// These subdomains are the application's own and name no tenant.
    pub fn reserve_subdomains<'a>(mut self, labels: impl IntoIterator<Item = &'a str>) -> Self {
        self.reserved.extend(labels.into_iter().map(str::to_ascii_lowercase));
        self
    }

    /// Every other host is a tenant's own domain, as the column `tenants.domain` has it: in lower or upper case, and in its
    /// ASCII form (`xn--…`). A host that is nobody's is refused; name the application's own with [`Self::own_host`].
    pub fn custom_domains(mut self) -> Self {
        self.custom_domains = true;
        self
    }

    /// A host of the application's own, which names no tenant. Domains of [`Self::subdomain_of`] are, and addresses.
    pub fn own_host(mut self, host: impl Into<String>) -> Self {
        self.own_hosts.push(host.into());
        self
    }

    /// This header has a tenant's id or subdomain. Whoever can send a request can send any: without a claim beside it, it is for
    /// callers that the application trusts.
    pub fn header(mut self, name: impl Into<String>) -> Self {
        self.header = Some(name.into());
        self
    }

    /// The path begins with a tenant's id or subdomain in the place of `{tenant}`: `/t/{tenant}`. The path is the one that the
    /// client sent, whatever router it is nested in. Other paths name no tenant.
    pub fn path_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.path_prefix = Some(prefix.into());
        self
    }

    /// The proxies in front of the application. Their word is taken for the client's address.
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Takes the trusted proxies' word also for the host: `X-Forwarded-Host`. Only where every one of them writes that header
    /// or takes it away, since a proxy that passes it on passes on what the client invented.
    pub fn trust_forwarded_host(mut self) -> Self {
        self.forwarded_host = true;
        self
    }

    /// How names of tenants are remembered.
    pub fn name_cache(mut self, names: NameCache) -> Self {
        self.names = names;
        self
    }

    pub(crate) fn checked(self, app_db: AppDb) -> Result<Resolver, SetupError> {
        let domain = |given: String| host::domain(&given).ok_or(SetupError::Domain { given });
        let mut domains = self.domains.into_iter().map(domain).collect::<Result<Vec<_>, _>>()?;
        // `acme.app.example.com` is below `app.example.com`, also where `example.com` is another of them.
        domains.sort_by_key(|domain| std::cmp::Reverse(domain.len()));
        let own_hosts = self.own_hosts.into_iter().map(domain).collect::<Result<_, _>>()?;
        let header = |given: String| given.parse().map_err(|_| SetupError::Header { given });
        if self.forwarded_host && self.proxies.is_empty() {
            return Err(SetupError::NoProxies);
        }
        Ok(Resolver {
            require_claim: self.require_claim,
            domains,
            reserved: self.reserved.into_iter().collect(),
            custom_domains: self.custom_domains,
            own_hosts,
            header: self.header.map(header).transpose()?,
            path: self.path_prefix.map(PathPrefix::parse).transpose()?,
            proxies: self.proxies,
            forwarded_host: self.forwarded_host,
            directory: Directory::new(app_db, self.names),
        })
    }
}

/// A resolver whose settings are usable.
pub(crate) struct Resolver {
    require_claim: bool,
    domains: Vec<String>,
    reserved: HashSet<String>,
    custom_domains: bool,
    own_hosts: HashSet<String>,
    header: Option<HeaderName>,
    path: Option<PathPrefix>,
    pub(crate) proxies: TrustedProxies,
    forwarded_host: bool,
    pub(crate) directory: Directory,
}

/// Whom a part of a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    Id(Uuid),
    Name(Name),
    /// It is there, and cannot be anybody's name.
    Nobody,
}

impl Resolver {
    /// The tenant of a request. It may not exist: that is routing's to say. Cancel-safe.
    pub(crate) async fn tenant(&self, parts: &Parts) -> Result<Uuid, ResolveError> {
        let claim = parts.extensions.get::<TenantClaim>();
        if self.require_claim && claim.is_none() {
            return Err(ResolveError::NoClaim);
        }
        let named = self.named(parts)?;
        if let Some(claim) = claim {
            for (by, named) in named {
                if self.id(by, named).await? != Some(claim.tenant()) {
                    return Err(ResolveError::Mismatch { by });
                }
            }
            return Ok(claim.tenant());
        }
        let mut found: Option<(TenantSource, Uuid)> = None;
        for (by, named) in named {
            let tenant = self.id(by, named).await?.ok_or(ResolveError::UnknownTenant { by })?;
            match found {
                Some((first, other)) if other != tenant => {
                    return Err(ResolveError::Contradiction { first, second: by });
                }
                Some(_) => {}
                None => found = Some((by, tenant)),
            }
        }
        found.map(|(_, tenant)| tenant).ok_or(ResolveError::Unnamed)
    }

    /// Everything unsigned that names a tenant, in order.
    fn named(&self, parts: &Parts) -> Result<Vec<(TenantSource, Named)>, ResolveError> {
        let mut named = Vec::new();
        if self.custom_domains || !self.domains.is_empty() {
            let forwarded = self.forwarded_host && self.proxies.trusts_peer(parts);
            if let Some(Host::Name(host)) = Host::of(parts, forwarded)? {
                named.extend(self.named_by_host(host));
            }
        }
        if let Some(name) = &self.header
            && let Some(text) = host::only(parts, name, "tenant header")?
        {
            named.push((TenantSource::Header, Named::by_text(text)));
        }
        if let Some(path) = &self.path
            && let Some(text) = path.tenant(host::original_uri(parts).path())
        {
            named.push((TenantSource::Path, Named::by_text(&text)));
        }
        Ok(named)
    }

    /// Below the application's own domains only the subdomain counts: a tenant that enters `globex.app.example.com` as its own
    /// domain does not get Globex's visitors.
    fn named_by_host(&self, host: String) -> Option<(TenantSource, Named)> {
        if self.own_hosts.contains(&host) || self.domains.contains(&host) {
            return None;
        }
        let below = |domain: &String| host.strip_suffix(domain.as_str())?.strip_suffix('.');
        if let Some(label) = self.domains.iter().find_map(below) {
            return (!self.reserved.contains(label)).then(|| (TenantSource::Subdomain, Named::by_label(label)));
        }
        self.custom_domains.then_some((TenantSource::CustomDomain, Named::Name(Name::Domain(host))))
    }

    async fn id(&self, by: TenantSource, named: Named) -> Result<Option<Uuid>, ResolveError> {
        match named {
            Named::Id(id) => Ok(Some(id)),
            Named::Nobody => Ok(None),
            Named::Name(name) => self.directory.find(name).await.map_err(|error| match error {
                NotAsked::Busy => ResolveError::Busy,
                NotAsked::Failed(source) => ResolveError::Lookup { by, source },
            }),
        }
    }
}

impl Named {
    /// An id in its usual form, or a subdomain.
    fn by_text(text: &str) -> Self {
        match Uuid::try_parse(text) {
            Ok(id) if text.len() == 36 => Self::Id(id),
            _ => Self::by_label(text),
        }
    }

    /// What cannot be a subdomain is not looked up: nobody fills a cache with it.
    fn by_label(label: &str) -> Self {
        let is_label = (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-');
        if is_label { Self::Name(Name::Subdomain(label.to_ascii_lowercase())) } else { Self::Nobody }
    }
}

/// A path that has the tenant in one of its segments.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PathPrefix {
    before: Vec<String>,
    after: Vec<String>,
}

impl PathPrefix {
    fn parse(given: String) -> Result<Self, SetupError> {
        let parts = given.strip_prefix('/').and_then(|rest| {
            let segments: Vec<String> = rest.trim_end_matches('/').split('/').map(str::to_owned).collect();
            let at = segments.iter().position(|segment| segment == "{tenant}")?;
            let (before, after) = (segments[..at].to_vec(), segments[at + 1..].to_vec());
            let literal = |segment: &String| !segment.is_empty() && !segment.contains(['{', '}', '%']);
            before.iter().chain(&after).all(literal).then_some(Self { before, after })
        });
        parts.ok_or(SetupError::PathPrefix { given })
    }

    /// The tenant's segment, decoded, of a path that begins like this. Segments are compared decoded: `/%74/acme` reaches the
    /// same handler as `/t/acme` wherever that router decodes before it compares.
    fn tenant(&self, path: &str) -> Option<String> {
        let decoded = |segment: &str| percent_decode_str(segment).decode_utf8_lossy().into_owned();
        let mut segments = path.strip_prefix('/')?.split('/').map(decoded);
        let begins = self.before.iter().all(|literal| segments.next().as_ref() == Some(literal));
        let tenant = segments.next().filter(|_| begins)?;
        self.after.iter().all(|literal| segments.next().as_ref() == Some(literal)).then_some(tenant)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    #[test]
    fn a_path_prefix_has_the_tenant_once() {
        let prefix = PathPrefix::parse("/t/{tenant}/v1/".to_owned()).unwrap();
        assert_eq!(prefix.tenant("/t/acme/v1/accounts"), Some("acme".to_owned()));
        assert_eq!(prefix.tenant("/%74/ac%6De/v1"), Some("acme".to_owned()), "as a router may read it");
        assert_eq!(prefix.tenant("/t/a%2Fb/v1"), Some("a/b".to_owned()), "one segment, and nobody's name");
        for other in ["/t/acme", "/t", "/", "", "/x/acme/v1", "//t/acme/v1", "/t/acme/v2", "*"] {
            assert_eq!(prefix.tenant(other), None, "{other}");
        }
        for given in ["t/{tenant}", "/t", "/{tenant}/{tenant}", "/t/x{tenant}", "//{tenant}", ""] {
            assert_eq!(
                PathPrefix::parse(given.to_owned()),
                Err(SetupError::PathPrefix { given: given.to_owned() }),
                "{given}"
            );
        }
    }

    #[test]
    fn what_cannot_be_a_name_is_nobodys() {
        let id = Uuid::from_u128(7);
        assert_eq!(Named::by_text(&id.to_string()), Named::Id(id));
        assert_eq!(Named::by_text("ACME"), Named::Name(Name::Subdomain("acme".to_owned())));
        assert_eq!(
            Named::by_text(&id.simple().to_string()),
            Named::Name(Name::Subdomain(id.simple().to_string())),
            "an id has one form; this is a label"
        );
        for text in ["", "-a", "a-", "a.b", "a_b", "a b", "münchen", "../etc", "a\0b", &"x".repeat(64)] {
            assert_eq!(Named::by_text(text), Named::Nobody, "{text}");
        }
    }
}
