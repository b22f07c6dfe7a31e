//! `list-tenants`: the tenants as the application database has them. Connects to no data source and judges nothing.

use serde::Serialize;
use tenantry_connection::DataSourceUrl;
use uuid::Uuid;

use crate::{Error, Tenantry};

/// A tenant, without its logins and without the application's settings for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedTenant {
    /// Its id.
    pub tenant: Uuid,
    /// The name people read.
    pub name: String,
    /// Its subdomain.
    pub subdomain: String,
    /// Its custom domain.
    pub domain: Option<String>,
    /// `active`, `suspended` or `cancelled`.
    pub status: &'static str,
    /// `starter`, `professional` or `enterprise`.
    pub plan: &'static str,
    /// Where its rows lie; `None` where it has no place, and where what stands there is no usable URL.
    pub data_source: Option<DataSourceUrl>,
    /// False where something stands there and is no usable URL. It may hold a password, so that it is not repeated.
    pub data_source_is_usable: bool,
    /// The region of the data source.
    pub region: Option<String>,
    /// Its id there, where that is not its own.
    pub tenant_id_in_data_source: Option<String>,
    /// Grows with every change of where or how the tenant is reached.
    pub placement_epoch: i64,
}

/// All tenants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TenantList {
    /// By subdomain.
    pub tenants: Vec<ListedTenant>,
}

/// Lists all tenants by subdomain.
///
/// # Errors
/// [`Error::Store`].
pub async fn list_tenants(tenantry: &Tenantry) -> Result<TenantList, Error> {
    let mut tenants: Vec<_> = tenantry
        .app_db()
        .tenants()
        .await?
        .into_iter()
        .map(|tenant| {
            let url = tenant.data_source_url.as_deref().map(DataSourceUrl::parse);
            ListedTenant {
                tenant: tenant.id,
                name: tenant.name,
                subdomain: tenant.subdomain,
                domain: tenant.domain,
                status: tenant.status.as_str(),
                plan: tenant.plan.as_str(),
                data_source_is_usable: !matches!(url, Some(Err(_))),
                data_source: url.and_then(Result::ok),
                region: tenant.data_source_region,
                tenant_id_in_data_source: tenant.tenant_id_in_data_source,
                placement_epoch: tenant.placement_epoch,
            }
        })
        .collect();
    tenants.sort_by(|left, right| left.subdomain.cmp(&right.subdomain));
    Ok(TenantList { tenants })
}
