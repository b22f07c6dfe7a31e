//! The tenant that the application's authentication has verified.

use uuid::Uuid;

/// The tenant and user of a request whose credentials the application has verified: a session whose signature holds, a token
/// that was checked. Its authentication middleware puts it into the request's extensions, where resolution finds it:
///
/// ```
/// # use axum::extract::Request;
/// # use tenantry_axum::TenantClaim;
/// # use uuid::Uuid;
/// # fn example(request: &mut Request, tenant: Uuid, user: Uuid) {
/// request.extensions_mut().insert(TenantClaim::verified(tenant, Some(user)));
/// # }
/// ```
///
/// There is no way to read one out of a request, and it can be deserialised from nothing: whoever makes one has verified it.
///
/// ```compile_fail
/// # use tenantry_axum::TenantClaim;
/// let claim: TenantClaim = serde_json::from_str(r#"{"tenant":"00000000-0000-0000-0000-000000000000"}"#).unwrap();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantClaim {
    tenant: Uuid,
    user: Option<Uuid>,
}

impl TenantClaim {
    /// A claim that the caller has verified. The user is the id that writes are recorded with.
    pub fn verified(tenant: Uuid, user: Option<Uuid>) -> Self {
        Self { tenant, user }
    }

    /// The tenant.
    pub fn tenant(&self) -> Uuid {
        self.tenant
    }

    /// The acting user, where one is known.
    pub fn user(&self) -> Option<Uuid> {
        self.user
    }
}
