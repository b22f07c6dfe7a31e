//! A tenant's two sealed logins: whether they are there, in which form, and whether they open.

use tenantry_app_db::entities::tenants;
use tenantry_connection::{DataSourceUrl, Engine};
use tenantry_credential::{CredentialColumn, Form, Keyring, Login, OpenError};

use super::Findings;

const SEAL: &str = "run `encrypt-tenant-keys`";

/// Reports what is wrong with the two logins and returns the restricted one, if it opens.
pub(super) fn check(
    keyring: Option<&Keyring>,
    row: &tenants::Model,
    url: Option<&DataSourceUrl>,
    findings: &mut Findings,
) -> Option<Login> {
    let [anon, service] = CredentialColumn::ALL.map(|column| check_one(keyring, row, url, column, findings));
    let (anon, service) = (anon?, service);
    if service.as_ref().is_some_and(|service| service.user == anon.user) {
        findings.error(
            CredentialColumn::Anon.as_str(),
            "the restricted login is the service login, which row-level security lets through",
            "make a role that owns nothing, and seal its login in this column",
        );
    }
    Some(anon)
}

/// The sealed text of one column.
pub(super) fn sealed(row: &tenants::Model, column: CredentialColumn) -> Option<&str> {
    match column {
        CredentialColumn::Anon => row.data_source_anon_key.as_deref(),
        CredentialColumn::Service => row.data_source_service_key.as_deref(),
    }
}

fn check_one(
    keyring: Option<&Keyring>,
    row: &tenants::Model,
    url: Option<&DataSourceUrl>,
    column: CredentialColumn,
    findings: &mut Findings,
) -> Option<Login> {
    let name = column.as_str();
    let has_url = row.data_source_url.is_some();
    let is_sqlite = url.is_some_and(|url| url.engine() == Engine::Sqlite);
    let Some(sealed) = sealed(row, column) else {
        if has_url && !is_sqlite {
            findings.error(name, "it is null while data_source_url is set", "seal a login for it, or unset all three");
        }
        return None;
    };
    if !has_url {
        findings.error(name, "it is set while data_source_url is null", "set data_source_url, or unset all three");
    } else if is_sqlite {
        findings.error(name, "it is set for an SQLite file, which has no logins", "set it to null");
        return None;
    }
    let Some(keyring) = keyring else {
        findings.error(name, "it cannot be opened: no encryption key is configured", "set ENCRYPTION_KEY");
        return None;
    };
    let form = keyring.form(sealed);
    if form == Form::Plain {
        findings.error(
            name,
            "it holds a login in plain text, which is never used",
            format!("{SEAL} to seal it, then change the password, which has been lying open"),
        );
        return None;
    }
    match keyring.open(row.id, column, sealed) {
        Err(error) => {
            findings.error(name, error.to_string(), remedy(&error));
            None
        }
        Ok(login) => {
            if let Some(age) = age(&form) {
                findings.warning(name, age, format!("{SEAL} to seal it anew with the active key"));
            }
            Some(login)
        }
    }
}

/// What is old about a form that opens.
fn age(form: &Form) -> Option<String> {
    match form {
        Form::Current { .. } => None,
        Form::Retired { key_id } => Some(format!("it is sealed with the retired key `{key_id}`")),
        Form::ThreePart12 | Form::ThreePart16 => {
            Some("it is in the original's three-part form, which opens for whichever tenant it is copied to".to_owned())
        }
        Form::Plain | Form::Unknown => Some("it is in an unknown form".to_owned()),
    }
}

fn remedy(error: &OpenError) -> String {
    match error {
        OpenError::Empty => "set it to null, or seal a login for it",
        OpenError::NotAnEnvelope => "seal a login in its place",
        OpenError::Version { .. } => "run a newer release",
        OpenError::UnknownKey { .. } => "add that key to ENCRYPTION_KEYS as a retired one, then rewrap",
        OpenError::Authentication => {
            "check ENCRYPTION_KEY first, then whether the value was copied from another tenant or column"
        }
        OpenError::NotALogin => "make a database login for the tenant and seal that in its place",
        // Base64, IvLength and TagLength: the value is damaged.
        _ => "restore the value from a backup, or seal the login again",
    }
    .to_owned()
}
