//! What a transaction carries besides its statements: the tenant, the acting user, and whether it is a transfer.

use std::fmt::Write as _;

use uuid::Uuid;

use crate::Error;

/// The table that stands in for session settings on SQLite, which has none. The rows are written at the start of a write
/// transaction and removed before its commit, so that they are never visible to another connection.
pub const SESSION_TABLE: &str = "tenantry_session";

/// Who acts: recorded by the write log and the audit log. Every part may be unknown; all unknown is the system itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actor {
    /// The acting user's id.
    pub user_id: Option<Uuid>,
    /// The client's address, as the application saw it.
    pub client_ip: Option<String>,
    /// The client's user agent.
    pub user_agent: Option<String>,
}

impl Actor {
    /// An actor of whom only the user is known.
    pub fn user(id: Uuid) -> Self {
        Self { user_id: Some(id), ..Self::default() }
    }
}

/// The settings that a transaction's statements, policies and triggers see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    /// The tenant's id in the data source: `app.tenant_id`. Without one, a policy answers with an error.
    pub tenant: Option<String>,
    /// Who acts.
    pub actor: Actor,
    /// Tenantry's own triggers step aside: rows arrive as they were. Honoured for the service role only.
    pub transfer: bool,
}

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Reading; the database refuses writes.
    Read,
    /// Reading from one snapshot, however many statements; the database refuses writes.
    Snapshot,
    /// Reading and writing.
    Write,
}

impl Session {
    /// The settings by name. On SQLite the tenant is left out, since nothing reads it there.
    fn settings(&self) -> impl Iterator<Item = (&'static str, String)> {
        let Actor { user_id, client_ip, user_agent } = &self.actor;
        [
            ("app.current_user_id", user_id.map(|id| id.to_string())),
            ("app.client_ip", client_ip.clone()),
            ("app.user_agent", user_agent.clone()),
            ("tenantry.transfer", self.transfer.then(|| "on".to_owned())),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
    }

    /// `BEGIN` and every setting as one simple message, so that it costs one round trip and holds behind a pooler.
    pub(crate) fn postgres_begin(&self, mode: Mode, schema: &str) -> Result<String, Error> {
        let mut sql = match mode {
            Mode::Read => "BEGIN READ ONLY".to_owned(),
            Mode::Snapshot => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY".to_owned(),
            Mode::Write => "BEGIN".to_owned(),
        };
        // Temporary objects are looked up last: a temporary table must never shadow a real one.
        let _ = write!(sql, "; SET LOCAL search_path = \"{}\", pg_temp", schema.replace('"', "\"\""));
        if let Some(tenant) = &self.tenant {
            let _ = write!(sql, "; SET LOCAL app.tenant_id = {}", postgres_literal("app.tenant_id", tenant)?);
        }
        for (name, value) in self.settings() {
            let _ = write!(sql, "; SET LOCAL {name} = {}", postgres_literal(name, &value)?);
        }
        Ok(sql)
    }

    /// The statement that puts the session into [`SESSION_TABLE`], if there is anything to put.
    pub(crate) fn sqlite_settings(&self) -> Result<Option<String>, Error> {
        let mut rows = Vec::new();
        for (name, value) in self.settings() {
            refuse_nul(name, &value)?;
            rows.push(format!("('{name}', '{}')", value.replace('\'', "''")));
        }
        Ok((!rows.is_empty())
            .then(|| format!("INSERT OR REPLACE INTO {SESSION_TABLE} (name, value) VALUES {}", rows.join(", "))))
    }
}

/// An escape-string literal: it means the same whatever `standard_conforming_strings` says.
fn postgres_literal(setting: &'static str, value: &str) -> Result<String, Error> {
    refuse_nul(setting, value)?;
    Ok(format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "\\'")))
}

fn refuse_nul(setting: &'static str, value: &str) -> Result<(), Error> {
    if value.contains('\0') { Err(Error::SessionSetting { setting }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    #[test]
    fn a_hostile_tenant_or_user_agent_stays_inside_its_literal() {
        let session = Session {
            tenant: Some(r"x'; SET ROLE postgres; --\".to_owned()),
            actor: Actor { user_agent: Some(r"\'; DROP TABLE tenants; --".to_owned()), ..Actor::default() },
            transfer: false,
        };
        assert_eq!(
            session.postgres_begin(Mode::Write, "public").unwrap(),
            r#"BEGIN; SET LOCAL search_path = "public", pg_temp; SET LOCAL app.tenant_id = E'x\'; SET ROLE postgres; --\\'; SET LOCAL app.user_agent = E'\\\'; DROP TABLE tenants; --'"#
        );
        assert_eq!(
            session.sqlite_settings().unwrap().unwrap(),
            r"INSERT OR REPLACE INTO tenantry_session (name, value) VALUES ('app.user_agent', '\''; DROP TABLE tenants; --')"
        );
    }

    #[test]
    fn a_nul_is_refused_before_it_reaches_the_server() {
        let session = Session { tenant: Some("a\0b".to_owned()), ..Session::default() };
        assert!(matches!(
            session.postgres_begin(Mode::Read, "public"),
            Err(Error::SessionSetting { setting: "app.tenant_id" })
        ));
    }
}
