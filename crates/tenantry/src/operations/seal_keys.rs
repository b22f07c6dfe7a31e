//! `encrypt-tenant-keys`: seals logins that were stored in plain text, and seals anew what is in an old form or under a
//! retired key, with the tenants and with the transfers that may have to be gone on with. A dry run does everything but write, so
//! that it reports exactly what applying would do.

mod transfers;

use serde::Serialize;
use tenantry_app_db::entities::tenants;
use tenantry_connection::Actor;
use tenantry_credential::{CredentialColumn, Form, Keyring, Login};
use tenantry_data_source::with_causes;
use uuid::Uuid;

use crate::{Error, Tenantry};

/// Whether to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SealMode {
    /// Change nothing; report what would be done.
    #[default]
    DryRun,
    /// Write what was sealed.
    Apply,
}

/// What was done, or would be.
#[derive(Debug, Clone, Serialize)]
pub struct SealReport {
    /// Whether anything was to be written.
    pub applied: bool,
    /// One entry per tenant and column that holds anything, by subdomain; then those of transfers.
    pub keys: Vec<SealedKey>,
}

/// One credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SealedKey {
    /// The tenant.
    pub tenant: Uuid,
    /// Its subdomain.
    pub subdomain: String,
    /// The transfer whose record holds it; none where the tenant's row does.
    pub transfer: Option<Uuid>,
    /// `data_source_anon_key` or `data_source_service_key`; of a transfer the column and the field in it, for example
    /// `source_placement.anon_key`.
    pub column: &'static str,
    /// What the column held, for example `plain text` or `sealed with the retired key 2025`. Never the value.
    pub before: String,
    /// What was done with it, or would be.
    pub action: SealAction,
    /// Why it could not be done. The column is unchanged then.
    pub error: Option<String>,
}

/// What is done with one credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SealAction {
    /// It is in the current form, under the active key, and opens: nothing.
    Keep,
    /// It is plain text: sealed. Its password has been lying open; change it.
    Seal,
    /// It is in an old form or under a retired key: opened, and sealed with the active key.
    Rewrap,
    /// It does not open: nothing can be done with it.
    Refuse,
}

impl SealReport {
    /// Whether every credential is, or after applying would be, sealed with the active key.
    pub fn passed(&self) -> bool {
        self.keys.iter().all(|key| key.error.is_none())
    }

    /// How many credentials were sealed or rewrapped, or would be.
    pub fn changes(&self) -> usize {
        self.keys.iter().filter(|key| key.error.is_none() && key.is_change()).count()
    }
}

impl SealedKey {
    fn is_change(&self) -> bool {
        matches!(self.action, SealAction::Seal | SealAction::Rewrap)
    }
}

/// Seals and rewraps the credentials of every tenant. A tenant whose credentials cannot be sealed, or whose row cannot be
/// written, does not keep the others from being done: its error is in its entry. Run twice, it changes nothing the second time.
///
/// What a transfer has recorded of both its ends is sealed anew before the tenant's own row is, so that a cutover meanwhile
/// brings nothing old back. What has ended for good is used by nobody: where it does not open, it is left.
///
/// Each tenant is written by compare-and-set on its placement epoch, so that a login that somebody else replaces meanwhile is
/// never overwritten with the old one: the tenant is read again and done anew, once.
///
/// # Errors
/// [`Error::Store`] when the tenants could not be listed; [`Error::NoKeyring`] when there is something to seal and no key.
pub async fn seal_keys(tenantry: &Tenantry, mode: SealMode, actor: &Actor) -> Result<SealReport, Error> {
    let mut report = SealReport { applied: mode == SealMode::Apply, keys: Vec::new() };
    let of_transfers = transfers::seal(tenantry, mode, actor).await?;
    for tenant in tenantry.app_db().tenants().await? {
        if CredentialColumn::ALL.iter().all(|column| text_of(&tenant, *column).is_none()) {
            continue;
        }
        let keyring = tenantry.settings().keyring.as_ref().ok_or(Error::NoKeyring)?;
        let mut prepared = prepare(keyring, &tenant);
        if mode == SealMode::Apply && prepared.has_changes() {
            if let Some(again) = write(tenantry, keyring, &mut prepared, actor).await {
                prepared = again;
            }
            tenantry.manager().clear_tenant(tenant.id).await;
        }
        report.keys.extend(prepared.keys);
    }
    report.keys.extend(of_transfers);
    if mode == SealMode::Apply {
        // One that has begun meanwhile may have recorded a tenant's logins as they were.
        let since = transfers::seal(tenantry, mode, actor).await?;
        report.keys.extend(since.into_iter().filter(|key| key.is_change() && key.error.is_none()));
    }
    Ok(report)
}

/// What is to be written for one tenant, and what is said about it.
struct Prepared {
    tenant: Uuid,
    epoch: i64,
    keys: Vec<SealedKey>,
    anon: Option<String>,
    service: Option<String>,
}

impl Prepared {
    fn has_changes(&self) -> bool {
        self.anon.is_some() || self.service.is_some()
    }

    fn fail(&mut self, error: &tenantry_app_db::Error) {
        for key in self.keys.iter_mut().filter(|key| key.error.is_none() && key.is_change()) {
            key.error = Some(with_causes(error));
        }
    }
}

/// Writes what was prepared. Where the tenant was moved meanwhile, prepares and writes it once more and returns that.
async fn write(tenantry: &Tenantry, keyring: &Keyring, prepared: &mut Prepared, actor: &Actor) -> Option<Prepared> {
    match replace(tenantry, prepared, actor).await {
        Ok(()) => None,
        Err(error @ tenantry_app_db::Error::Moved { .. }) => match tenantry.app_db().tenant(prepared.tenant).await {
            Ok(Some(moved)) => {
                let mut again = prepare(keyring, &moved);
                if again.has_changes()
                    && let Err(error) = replace(tenantry, &again, actor).await
                {
                    again.fail(&error);
                }
                Some(again)
            }
            Ok(None) => {
                prepared.fail(&error);
                None
            }
            Err(error) => {
                prepared.fail(&error);
                None
            }
        },
        Err(error) => {
            prepared.fail(&error);
            None
        }
    }
}

async fn replace(tenantry: &Tenantry, prepared: &Prepared, actor: &Actor) -> Result<(), tenantry_app_db::Error> {
    let Prepared { tenant, epoch, anon, service, .. } = prepared;
    tenantry.app_db().reseal_credentials(*tenant, *epoch, anon.clone(), service.clone(), actor).await.map(drop)
}

fn prepare(keyring: &Keyring, tenant: &tenants::Model) -> Prepared {
    let holder = Holder { tenant: tenant.id, subdomain: &tenant.subdomain, transfer: None };
    let mut keys = Vec::new();
    let [anon, service] = CredentialColumn::ALL.map(|column| {
        let (key, sealed) = prepare_one(keyring, &holder, (column, column.as_str()), text_of(tenant, column)?);
        keys.push(key);
        sealed
    });
    Prepared { tenant: tenant.id, epoch: tenant.placement_epoch, keys, anon, service }
}

/// Whose row holds a credential.
struct Holder<'a> {
    tenant: Uuid,
    subdomain: &'a str,
    transfer: Option<Uuid>,
}

/// What is done with one credential, which the row holds under this name, and the text to be written where it changes.
fn prepare_one(
    keyring: &Keyring,
    holder: &Holder<'_>,
    (column, name): (CredentialColumn, &'static str),
    text: &str,
) -> (SealedKey, Option<String>) {
    let (form, action, sealed) = decide(keyring, holder.tenant, column, text);
    let (sealed, error) = match sealed {
        Ok(sealed) => (sealed, None),
        Err(error) => (None, Some(error)),
    };
    let key = SealedKey {
        tenant: holder.tenant,
        subdomain: holder.subdomain.to_owned(),
        transfer: holder.transfer,
        column: name,
        before: described(&form),
        action,
        error,
    };
    (key, sealed)
}

/// What a text is, what is to be done with it, and the text to be written in its place where it changes.
fn decide(
    keyring: &Keyring,
    tenant: Uuid,
    column: CredentialColumn,
    text: &str,
) -> (Form, SealAction, Result<Option<String>, String>) {
    let form = keyring.form(text);
    let opened = match form {
        Form::Plain => Login::parse(&text.into()).map_err(|error| error.to_string()),
        _ => keyring.open(tenant, column, text).map_err(|error| error.to_string()),
    };
    let sealed = |login| seal(keyring, tenant, column, &login).map(Some);
    let (action, sealed) = match (&form, opened) {
        (_, Err(error)) => (SealAction::Refuse, Err(error)),
        (Form::Current { .. }, Ok(_)) => (SealAction::Keep, Ok(None)),
        (Form::Plain, Ok(login)) => (SealAction::Seal, sealed(login)),
        (_, Ok(login)) => (SealAction::Rewrap, sealed(login)),
    };
    (form, action, sealed)
}

/// Seals, and opens what was sealed: the only other copy of the login is about to be overwritten.
fn seal(keyring: &Keyring, tenant: Uuid, column: CredentialColumn, login: &Login) -> Result<String, String> {
    let sealed = keyring.seal(tenant, column, login).map_err(|error| with_causes(&error))?;
    match keyring.open(tenant, column, &sealed) {
        Ok(opened) if opened == *login => Ok(sealed),
        Ok(_) => Err("what was sealed opened as another login; nothing was written".to_owned()),
        Err(error) => Err(with_causes(&error)),
    }
}

fn text_of(tenant: &tenants::Model, column: CredentialColumn) -> Option<&str> {
    match column {
        CredentialColumn::Anon => tenant.data_source_anon_key.as_deref(),
        CredentialColumn::Service => tenant.data_source_service_key.as_deref(),
    }
}

fn described(form: &Form) -> String {
    match form {
        Form::Current { key_id } => format!("sealed with the active key {key_id}"),
        Form::Retired { key_id } => format!("sealed with the retired key {key_id}"),
        Form::ThreePart12 => "sealed in three parts, with a 12-byte iv".to_owned(),
        Form::ThreePart16 => "sealed in three parts, with a 16-byte iv".to_owned(),
        Form::Plain => "plain text".to_owned(),
        Form::Unknown => "neither sealed nor a login".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use secrecy::SecretString;
    use tenantry_connection::{DataSourceUrl, Mode, Session};
    use tenantry_migrations::AppDbMigrator;

    use super::*;
    use crate::{
        operations::{Direction, MigrateScope, create_tenant::remove_database_file, migrate},
        settings::{ApplicationDatabase, Settings},
    };

    fn ring(active: &str) -> Keyring {
        let key = |id: &str, pair: &str| (id.to_owned(), SecretString::from(pair.repeat(32)));
        Keyring::new(active, [key("old", "a5"), key("new", "c3")]).unwrap()
    }

    /// What a column holds decides alone; a value that does not open is refused and not overwritten.
    #[test]
    fn every_form_has_one_action() {
        let (tenant, column) = (Uuid::from_u128(1), CredentialColumn::Service);
        let login = Login::new("service", "correct horse").unwrap();
        let current = ring("new").seal(tenant, column, &login).unwrap();
        let retired = ring("old").seal(tenant, column, &login).unwrap();
        let moved = ring("new").seal(Uuid::from_u128(2), column, &login).unwrap();
        for (text, action, changes) in [
            (current.as_str(), SealAction::Keep, false),
            (retired.as_str(), SealAction::Rewrap, true),
            ("service:correct horse", SealAction::Seal, true),
            (r#"{"user":"service","password":"correct horse"}"#, SealAction::Seal, true),
            (moved.as_str(), SealAction::Refuse, false),
            ("sk_live_token", SealAction::Refuse, false),
            ("", SealAction::Refuse, false),
        ] {
            let (key, sealed) = of_text(&ring("new"), tenant, column, text);
            assert_eq!((key.0, sealed.is_some()), (action, changes), "{text}");
            assert_eq!(key.1.is_some(), action == SealAction::Refuse, "{text}");
            if let Some(sealed) = sealed {
                assert_eq!(ring("new").open(tenant, column, &sealed).unwrap(), login, "{text}");
                assert_eq!(
                    of_text(&ring("new"), tenant, column, &sealed).0.0,
                    SealAction::Keep,
                    "a second run keeps it"
                );
            }
        }
    }

    /// Somebody rotates a login between reading and writing: the old one, sealed anew, must not overwrite it.
    #[tokio::test]
    async fn a_tenant_that_was_moved_meanwhile_is_read_again() {
        let path = std::env::temp_dir().join(format!("tenantry-seal-keys-{}.db", Uuid::new_v4()));
        let url = DataSourceUrl::parse(&format!("sqlite:{}", path.display())).unwrap();
        let tenantry = Tenantry::connect(Settings::new(ApplicationDatabase { url, login: None })).unwrap();
        let scope = MigrateScope { app_db: true, data_sources: false };
        assert!(migrate::<AppDbMigrator>(&tenantry, scope, Direction::Up).await.unwrap().is_complete());
        let sql = async |sql: String| {
            let mut transaction = tenantry.app_db_pool().begin(&Session::default(), Mode::Write).await.unwrap();
            transaction.execute_raw_sql(&sql).await.unwrap();
            transaction.commit().await.unwrap();
        };
        let (tenant, ring) = (Uuid::from_u128(1), ring("new"));
        sql(format!(
            "INSERT INTO tenants (id, name, subdomain, data_source_url, data_source_anon_key, data_source_service_key) \
             VALUES (x'{}', 'Acme', 'acme', 'postgresql://db:5432/crm', 'restricted:old', 'service:old')",
            tenant.simple()
        ))
        .await;
        let read = async || tenantry.app_db().tenant(tenant).await.unwrap().unwrap();
        let mut prepared = prepare(&ring, &read().await);
        let rotated = Login::new("restricted", "rotated").unwrap();
        let sealed = ring.seal(tenant, CredentialColumn::Anon, &rotated).unwrap();
        sql(format!("UPDATE tenants SET data_source_anon_key = '{sealed}'")).await;

        let again = write(&tenantry, &ring, &mut prepared, &Actor::default()).await.unwrap();
        let actions: Vec<_> = again.keys.iter().map(|key| (key.action, key.error.clone())).collect();
        assert_eq!(actions, [(SealAction::Keep, None), (SealAction::Seal, None)]);
        let row = read().await;
        assert_eq!(text_of(&row, CredentialColumn::Anon), Some(sealed.as_str()), "the rotated login stays as it is");
        let service = ring.open(tenant, CredentialColumn::Service, text_of(&row, CredentialColumn::Service).unwrap());
        assert_eq!(service.unwrap(), Login::new("service", "old").unwrap());

        // A row that cannot be written is an error of its tenant, and nothing is said to have been done.
        let mut gone = prepare(&ring, &tenants::Model { id: Uuid::from_u128(2), ..row });
        gone.service = Some(sealed);
        gone.keys[1].action = SealAction::Rewrap;
        gone.keys[1].error = None;
        assert!(write(&tenantry, &ring, &mut gone, &Actor::default()).await.is_none());
        assert!(gone.keys[1].error.as_deref().unwrap().contains("no tenant has the id"));
        tenantry.close().await;
        remove_database_file(&path);
    }

    fn of_text(
        keyring: &Keyring,
        tenant: Uuid,
        column: CredentialColumn,
        text: &str,
    ) -> ((SealAction, Option<String>), Option<String>) {
        let (_, action, sealed) = decide(keyring, tenant, column, text);
        match sealed {
            Ok(sealed) => ((action, None), sealed),
            Err(error) => ((action, Some(error)), None),
        }
    }
}
