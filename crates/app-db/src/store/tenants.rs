//! Tenants: found by id or subdomain, created in one transaction, never deleted.

use sea_orm::sea_query::{Expr, ExprTrait, Func};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, EntityTrait, Insert, Order, QueryFilter, QueryTrait,
};
use serde_json::json;
use tenantry_connection::{Actor, DataSourceUrl};
use uuid::Uuid;

use super::{audit, audit::AuditEntry, placement::NewPlacement};
use crate::{
    AppDb, Error, PoolLimits,
    app_db::{decode, table_of},
    entities::{
        Hidden, Plan, TenantStatus,
        tenants::{ActiveModel, Column, Entity, Model},
    },
};

/// A tenant to be created.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTenant {
    /// Random and never used before: credentials are sealed for it before the row exists.
    pub id: Uuid,
    /// The name people read.
    pub name: String,
    /// A DNS label; stored in lower case.
    pub subdomain: String,
    /// What the tenant pays for.
    pub plan: Plan,
    /// Whether the tenant is served at once.
    pub status: TenantStatus,
    /// Where its rows shall live; the default is nowhere yet.
    pub placement: NewPlacement,
}

impl NewTenant {
    /// An active tenant on the starter plan, with a random id and no data source.
    pub fn new(name: impl Into<String>, subdomain: impl Into<String>) -> Self {
        Self {
            id: Uuid::new_v4(),
            name: name.into(),
            subdomain: subdomain.into(),
            plan: Plan::Starter,
            status: TenantStatus::Active,
            placement: NewPlacement::default(),
        }
    }
}

impl AppDb {
    /// The tenant with this id.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Decode`].
    pub async fn tenant(&self, id: Uuid) -> Result<Option<Model>, Error> {
        self.find::<Entity>().filter(Column::Id.eq(id)).one().await
    }

    /// The tenant with this subdomain, without regard to case.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Decode`].
    pub async fn tenant_by_subdomain(&self, subdomain: &str) -> Result<Option<Model>, Error> {
        let lower = Func::lower(Expr::col(Column::Subdomain.as_column_ref()));
        self.find::<Entity>().filter(Expr::from(lower).eq(subdomain.to_ascii_lowercase())).one().await
    }

    /// All tenants, whatever their status, ordered by subdomain.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Decode`].
    pub async fn tenants(&self) -> Result<Vec<Model>, Error> {
        self.find::<Entity>().order_by(Column::Subdomain, Order::Asc).all().await
    }

    /// Creates a tenant with its placement in one transaction: after an error there is no trace of it.
    ///
    /// # Errors
    /// [`Error::InvalidSubdomain`], [`Error::SubdomainTaken`], [`Error::TenantExists`]; what [`AppDb::place`] refuses;
    /// [`Error::Database`].
    pub async fn create_tenant(&self, new: &NewTenant, actor: &Actor) -> Result<Model, Error> {
        let subdomain = new.subdomain.to_ascii_lowercase();
        if !is_dns_label(&subdomain) {
            return Err(Error::InvalidSubdomain { subdomain: new.subdomain.clone() });
        }
        new.placement.check(new.id)?;
        match self.insert_tenant(new, &subdomain, actor).await {
            Err(Error::Database { source: tenantry_connection::Error::UniqueViolation { constraint }, attempt }) => {
                // Which of the two unique values it was is asked of the rows: constraint names differ by engine and by
                // who created the schema.
                if self.tenant(new.id).await?.is_some() {
                    Err(Error::TenantExists { tenant: new.id })
                } else if self.tenant_by_subdomain(&subdomain).await?.is_some() {
                    Err(Error::SubdomainTaken { subdomain })
                } else {
                    let source = tenantry_connection::Error::UniqueViolation { constraint };
                    Err(Error::Database { attempt, source })
                }
            }
            result => result,
        }
    }

    async fn insert_tenant(&self, new: &NewTenant, subdomain: &str, actor: &Actor) -> Result<Model, Error> {
        let NewPlacement { url, anon_key, service_key, region, tenant_id_in_data_source, notes } = &new.placement;
        let row = ActiveModel {
            id: Set(new.id),
            name: Set(new.name.clone()),
            subdomain: Set(subdomain.to_owned()),
            plan: Set(new.plan),
            status: Set(new.status),
            settings: Set(json!({})),
            connection_pool_config: Set(PoolLimits::default().to_json()),
            data_source_url: Set(url.as_ref().map(DataSourceUrl::to_string)),
            data_source_anon_key: Set(anon_key.as_deref().map(Hidden::from)),
            data_source_service_key: Set(service_key.as_deref().map(Hidden::from)),
            data_source_region: Set(region.clone()),
            data_source_notes: Set(notes.clone()),
            tenant_id_in_data_source: Set(tenant_id_in_data_source.clone()),
            // The rest has the column's default, the epoch and the times among them.
            domain: NotSet,
            subscription_id: NotSet,
            created_at: NotSet,
            updated_at: NotSet,
            placement_epoch: NotSet,
        };
        let table = table_of::<Entity>();
        let mut write = self.write(actor, "create a tenant").await?;
        new.placement.admit(&mut write, new.id).await?;
        write.execute(table, &Insert::one(row).into_query()).await?;
        let entry = AuditEntry::new("tenant_created", "tenant").tenant(new.id).entity(new.id).changes(&json!({
            "after": {
                "name": new.name,
                "subdomain": subdomain,
                "plan": new.plan.as_str(),
                "status": new.status.as_str(),
                "data_source_url": url.as_ref().map(DataSourceUrl::as_str),
            }
        }))?;
        audit::add(&mut write, &entry, actor).await?;
        let find = Entity::find().filter(Column::Id.eq(new.id)).into_query();
        let created = write.row(table, &find).await?.ok_or(Error::UnknownTenant { tenant: new.id })?;
        let created = decode::<Entity>(&created)?;
        write.commit().await?;
        Ok(created)
    }
}

/// 1 to 63 lower-case letters, digits and hyphens, no hyphen at either end (RFC 1035 section 2.3.1, with the leading digit
/// that RFC 1123 section 2.1 allows).
fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dns_labels_are_subdomains() {
        for label in ["acme", "a", "4you", "a-b-c", &"x".repeat(63)] {
            assert!(is_dns_label(label), "{label}");
        }
        for other in ["", "-a", "a-", "a.b", "a_b", "münchen", "a b", "ACME", &"x".repeat(64)] {
            assert!(!is_dns_label(other), "{other}");
        }
    }
}
