//! Tenants as people name them: by id or subdomain in arguments, by subdomain in tables.

use std::collections::HashMap;

use tenantry::{Tenantry, operations};
use uuid::Uuid;

use crate::Failure;

/// The subdomains of all tenants.
#[derive(Debug)]
pub(super) struct Names {
    subdomains: HashMap<Uuid, String>,
}

impl Names {
    pub(super) async fn read(tenantry: &Tenantry) -> Result<Self, Failure> {
        let tenants = tenantry.app_db().tenants().await.map_err(tenantry::Error::from)?;
        Ok(Self { subdomains: tenants.into_iter().map(|tenant| (tenant.id, tenant.subdomain)).collect() })
    }

    /// The subdomain, or the id of a tenant that came or went meanwhile.
    pub(super) fn of(&self, tenant: Uuid) -> String {
        self.subdomains.get(&tenant).cloned().unwrap_or_else(|| tenant.to_string())
    }
}

/// The ids behind the names; empty for none.
pub(super) async fn chosen(tenantry: &Tenantry, names: &[String]) -> Result<Vec<Uuid>, Failure> {
    let mut ids = Vec::new();
    for name in names {
        ids.push(operations::find_tenant(tenantry, name).await?.id);
    }
    Ok(ids)
}
