//! The audit log: entries are added and read, nothing else.

use std::fmt;

use sea_orm::{ActiveValue::Set, ColumnTrait, Insert, Order, QueryTrait};
use serde::Serialize;
use serde_json::Value;
use tenantry_connection::Actor;
use uuid::Uuid;

use crate::{
    AppDb, Error,
    app_db::{Guarded, table_of},
    entities::audit_log::{ActiveModel, Column, Entity, Model},
};

/// Members of `changes` that are never written, at any depth, whatever the caller put there.
const SECRET_MEMBERS: [&str; 7] = [
    "data_source_anon_key",
    "data_source_service_key",
    "anon_key",
    "service_key",
    "password",
    "password_hash",
    "secret",
];

/// One thing that was done, to be added to the audit log.
///
/// ```
/// # use tenantry_app_db::AuditEntry;
/// # use serde_json::json;
/// # let tenant = uuid::Uuid::nil();
/// let entry = AuditEntry::new("tenant_suspended", "tenant")
///     .tenant(tenant)
///     .entity(tenant)
///     .changes(&json!({ "status": { "before": "active", "after": "suspended" } }))?;
/// # let _ = entry;
/// # Ok::<(), tenantry_app_db::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// The tenant concerned.
    pub tenant: Option<Uuid>,
    /// What was done, for example `tenant_suspended`.
    pub action: String,
    /// The kind of thing it was done to.
    pub entity_type: String,
    /// That thing's id.
    pub entity_id: Option<String>,
    /// Before and after. Members that hold secrets by their name are replaced by `(not recorded)` when it is written.
    pub changes: Option<Value>,
}

impl AuditEntry {
    /// An entry that so far says only what was done to which kind of thing.
    pub fn new(action: impl Into<String>, entity_type: impl Into<String>) -> Self {
        Self { tenant: None, action: action.into(), entity_type: entity_type.into(), entity_id: None, changes: None }
    }

    /// Names the tenant concerned.
    #[must_use]
    pub fn tenant(self, tenant: Uuid) -> Self {
        Self { tenant: Some(tenant), ..self }
    }

    /// Names the thing it was done to.
    #[must_use]
    pub fn entity(self, id: impl fmt::Display) -> Self {
        Self { entity_id: Some(id.to_string()), ..self }
    }

    /// Says what changed.
    ///
    /// # Errors
    /// [`Error::Changes`] when the value has no JSON form.
    pub fn changes(self, changes: &impl Serialize) -> Result<Self, Error> {
        match serde_json::to_value(changes) {
            Ok(changes) => Ok(Self { changes: Some(changes), ..self }),
            Err(source) => Err(Error::Changes { action: self.action, source }),
        }
    }
}

impl AppDb {
    /// Adds an entry.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn audit(&self, entry: &AuditEntry, actor: &Actor) -> Result<(), Error> {
        let mut write = self.write(actor, "add an entry to the audit log").await?;
        add(&mut write, entry, actor).await?;
        write.commit().await
    }

    /// The latest entries, newest first: those of one tenant, or of all and of none.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Decode`].
    pub async fn audit_entries(&self, tenant: Option<Uuid>, limit: u64) -> Result<Vec<Model>, Error> {
        let mut select = self.find::<Entity>();
        if let Some(tenant) = tenant {
            select = select.filter(Column::TenantId.eq(tenant));
        }
        // Entries of one transaction have one time; the id only makes their order the same for every reader.
        select.order_by(Column::CreatedAt, Order::Desc).order_by(Column::Id, Order::Desc).limit(limit).all().await
    }
}

/// Adds an entry within a transaction that does the thing itself.
pub(crate) async fn add(write: &mut Guarded<'_>, entry: &AuditEntry, actor: &Actor) -> Result<(), Error> {
    let row = ActiveModel {
        id: Set(Uuid::new_v4()),
        tenant_id: Set(entry.tenant),
        user_id: Set(actor.user_id),
        action: Set(entry.action.clone()),
        entity_type: Set(entry.entity_type.clone()),
        entity_id: Set(entry.entity_id.clone()),
        changes: Set(entry.changes.clone().map(without_secrets)),
        ip_address: Set(actor.client_ip.clone()),
        user_agent: Set(actor.user_agent.clone()),
        ..Default::default()
    };
    write.execute(table_of::<Entity>(), &Insert::one(row).into_query()).await?;
    Ok(())
}

fn without_secrets(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .map(|(name, member)| {
                let secret = SECRET_MEMBERS.contains(&name.to_ascii_lowercase().as_str()) && !member.is_null();
                let member = if secret { Value::from("(not recorded)") } else { without_secrets(member) };
                (name, member)
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(without_secrets).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Regression: a before/after dump of a tenant's row carried its sealed keys into the log.
    #[test]
    fn secrets_are_not_recorded_at_any_depth() {
        assert_eq!(
            without_secrets(
                json!({ "before": [{ "data_source_anon_key": "v1:k:a:b:c", "region": "eu" }], "Password": "x",
                                    "password_hash": null })
            ),
            json!({ "before": [{ "data_source_anon_key": "(not recorded)", "region": "eu" }],
                    "Password": "(not recorded)", "password_hash": null })
        );
    }
}
