//! What a transaction carries besides its statements: the tenant, the acting user, and whether it is a transfer.

use std::{fmt::Write as _, sync::Arc};

use uuid::Uuid;

use crate::Error;

/// The table that stands in for session settings on SQLite, which has none. The rows are written at the start of a write
/// transaction and removed before its commit, so that they are never visible to another connection.
pub const SESSION_TABLE: &str = "tenantry_session";

const TRANSFER: &str = "tenantry.transfer";

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
    pub tenant: Option<Arc<str>>,
    /// The tenant's share: the most connections of the data source that it may hold at a time in this process.
    pub max_connections: Option<u32>,
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

/// What the session of a server connection is set to, and stays set to between transactions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServerSession {
    /// None: no tenant, which a policy answers with an error.
    pub(crate) tenant: Option<Arc<str>>,
    /// The acting user of that tenant's latest write.
    pub(crate) actor: Actor,
}

impl Actor {
    fn settings(&self) -> [(&'static str, Option<String>); 3] {
        [
            ("app.current_user_id", self.user_id.map(|id| id.to_string())),
            ("app.client_ip", self.client_ip.clone()),
            ("app.user_agent", self.user_agent.clone()),
        ]
    }

    /// The settings in which the server's actor differs from this one; empty where this one has none.
    fn differing(&self, server: &Self) -> impl Iterator<Item = (&'static str, String)> + use<> {
        let pairs = self.settings().into_iter().zip(server.settings());
        pairs.filter(|(wanted, known)| wanted != known).map(|((name, wanted), _)| (name, wanted.unwrap_or_default()))
    }
}

impl Session {
    /// The settings by name that are there. On SQLite the tenant is left out, since nothing reads it there.
    fn settings(&self) -> impl Iterator<Item = (&'static str, String)> {
        let transfer = (TRANSFER, self.transfer.then(|| "on".to_owned()));
        let settings = self.actor.settings().into_iter().chain([transfer]);
        settings.filter_map(|(name, value)| value.map(|value| (name, value)))
    }

    /// `BEGIN` and every setting as one simple message, so that it costs one round trip and holds behind a pooler: nothing is
    /// expected of the server session, and nothing stays in it. What triggers and policies ask for is set also where there is
    /// none: the session may be one that somebody else left a tenant or a user in.
    pub(crate) fn pooled_begin(&self, mode: Mode, schema: &str) -> Result<String, Error> {
        let mut sql = mode.begin().to_owned();
        // Temporary objects are looked up last: a temporary table must never shadow a real one.
        let _ = write!(sql, "; SET LOCAL search_path = {}, pg_temp", quote_identifier(schema));
        let mut settings = vec![("app.tenant_id", self.tenant.as_deref().unwrap_or_default().to_owned())];
        if mode == Mode::Write {
            let actor = self.actor.settings().into_iter().map(|(name, value)| (name, value.unwrap_or_default()));
            settings.extend(actor);
            settings.push((TRANSFER, if self.transfer { "on" } else { "off" }.to_owned()));
        } else {
            settings.extend(self.settings());
        }
        for (name, value) in settings {
            let _ = write!(sql, "; SET LOCAL {name} = {}", literal(name, &value)?);
        }
        Ok(sql)
    }

    /// `BEGIN` in a server session that is set to this session's tenant already: what differs besides goes with it.
    pub(crate) fn begin(&self, mode: Mode, server: &ServerSession) -> Result<String, Error> {
        let mut sql = mode.begin().to_owned();
        for (name, wanted) in self.actor.differing(&server.actor) {
            let _ = write!(sql, "; SET LOCAL {name} = {}", literal(name, &wanted)?);
        }
        if self.transfer {
            let _ = write!(sql, "; SET LOCAL {TRANSFER} = on");
        }
        Ok(sql)
    }

    /// The message that sets a server session to this session's tenant, outside any transaction, and what it is set to then.
    /// None when it is already. With `for_write` the acting user counts as well: triggers record it. A user never stays set
    /// under another tenant.
    pub(crate) fn set(
        &self,
        server: &ServerSession,
        for_write: bool,
    ) -> Result<Option<(String, ServerSession)>, Error> {
        let same_tenant = server.tenant == self.tenant;
        if same_tenant && (!for_write || server.actor == self.actor) {
            return Ok(None);
        }
        let mut settings = Vec::new();
        if !same_tenant {
            // There is no way back to unset; the empty text is no tenant either, for every type of key.
            settings.push(("app.tenant_id", self.tenant.as_deref().unwrap_or_default().to_owned()));
        }
        let actor = if for_write { self.actor.clone() } else { Actor::default() };
        settings.extend(actor.differing(&server.actor));
        let mut sql = String::new();
        for (name, value) in settings {
            let _ = write!(sql, "SET {name} = {};", literal(name, &value)?);
        }
        Ok(Some((sql, ServerSession { tenant: self.tenant.clone(), actor })))
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

impl Mode {
    fn begin(self) -> &'static str {
        match self {
            Self::Read => "BEGIN READ ONLY",
            Self::Snapshot => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Self::Write => "BEGIN",
        }
    }
}

pub(crate) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An escape-string literal: it means the same whatever `standard_conforming_strings` says.
fn literal(setting: &'static str, value: &str) -> Result<String, Error> {
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

    fn session(tenant: &str, agent: Option<&str>) -> Session {
        let actor = Actor { user_agent: agent.map(str::to_owned), ..Actor::default() };
        Session { tenant: Some(tenant.into()), actor, ..Session::default() }
    }

    #[test]
    fn a_hostile_tenant_or_user_agent_stays_inside_its_literal() {
        let session = session(r"x'; SET ROLE postgres; --\", Some(r"\'; DROP TABLE tenants; --"));
        assert_eq!(
            session.pooled_begin(Mode::Read, "public").unwrap(),
            r#"BEGIN READ ONLY; SET LOCAL search_path = "public", pg_temp; SET LOCAL app.tenant_id = E'x\'; SET ROLE postgres; --\\'; SET LOCAL app.user_agent = E'\\\'; DROP TABLE tenants; --'"#
        );
        assert_eq!(
            session.set(&ServerSession::default(), true).unwrap().unwrap().0,
            r"SET app.tenant_id = E'x\'; SET ROLE postgres; --\\';SET app.user_agent = E'\\\'; DROP TABLE tenants; --';"
        );
        assert_eq!(
            session.sqlite_settings().unwrap().unwrap(),
            r"INSERT OR REPLACE INTO tenantry_session (name, value) VALUES ('app.user_agent', '\''; DROP TABLE tenants; --')"
        );
    }

    /// Behind a pooler a session may hold what anybody left in it.
    #[test]
    fn a_pooled_transaction_believes_nothing_of_its_session() {
        assert_eq!(
            Session::default().pooled_begin(Mode::Write, "a\"b").unwrap(),
            "BEGIN; SET LOCAL search_path = \"a\"\"b\", pg_temp; SET LOCAL app.tenant_id = E''; \
             SET LOCAL app.current_user_id = E''; SET LOCAL app.client_ip = E''; SET LOCAL app.user_agent = E''; \
             SET LOCAL tenantry.transfer = E'off'"
        );
        let nobody = Session::default().pooled_begin(Mode::Read, "public").unwrap();
        assert!(nobody.ends_with("SET LOCAL app.tenant_id = E''"), "{nobody}");
    }

    #[test]
    fn a_nul_is_refused_before_it_reaches_the_server() {
        let session = session("a\0b", None);
        let refused = |result: Result<_, Error>| {
            assert!(matches!(result, Err(Error::SessionSetting { setting: "app.tenant_id" })));
        };
        refused(session.pooled_begin(Mode::Read, "public"));
        refused(session.set(&ServerSession::default(), false).map(|_| String::new()));
    }

    /// What a server session is set to follows from the statements alone, whatever came before.
    #[test]
    fn a_server_session_is_told_what_differs_and_nothing_else() {
        let (a, b) = (session("a", Some("browser")), session("b", None));
        let (sql, server) = a.set(&ServerSession::default(), false).unwrap().unwrap();
        assert_eq!(sql, "SET app.tenant_id = E'a';", "a read does not need to tell who reads");
        assert_eq!(a.set(&server, false).unwrap(), None);
        let (sql, server) = a.set(&server, true).unwrap().unwrap();
        assert_eq!(sql, "SET app.user_agent = E'browser';");
        assert_eq!(a.set(&server, true).unwrap(), None);
        assert_eq!(a.begin(Mode::Write, &server).unwrap(), "BEGIN");
        assert_eq!(session("a", None).begin(Mode::Write, &server).unwrap(), "BEGIN; SET LOCAL app.user_agent = E''");
        let (sql, server) = b.set(&server, false).unwrap().unwrap();
        assert_eq!(sql, "SET app.tenant_id = E'b';SET app.user_agent = E'';", "a's user never acts for b");
        assert_eq!(server, ServerSession { tenant: Some("b".into()), actor: Actor::default() });
        let (sql, server) = Session::default().set(&server, false).unwrap().unwrap();
        assert_eq!((sql.as_str(), server), ("SET app.tenant_id = E'';", ServerSession::default()));
    }
}
