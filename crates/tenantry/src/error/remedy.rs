//! What an operator can do about an error, by its kind: the last line of what a failed command prints. An error whose text
//! says it already has none here. Knows no command but by its name. Commands stand in backticks, without the program's name.

use tenantry_app_db::Error as StoreError;
use tenantry_connection::{ConnectFailure, Error as ConnectionError};
use tenantry_data_source::RouteError;

use super::Error;
use crate::settings::{Problem, SettingsError};

/// Tables or columns are missing: on PostgreSQL by SQLSTATE, on SQLite its one code for statements that do not fit the schema.
const SCHEMA_DIFFERS: [&str; 3] = ["42P01", "42703", "1"];

const MIGRATE_APP_DB: &str =
    "the application database is not migrated, or not up to date: `migrate up --app-db` brings it there";
const STATUS_APP_DB: &str = "`migrate status --app-db` shows what is pending in the application database";
const MAKE_A_KEY: &str = "`openssl rand -hex 32` makes a key; keep it safe, because no sealed login opens without it";

impl SettingsError {
    /// What an operator can do about it, where its text does not say it.
    pub fn remedy(&self) -> Option<String> {
        of_settings(self)
    }
}

impl Error {
    /// What an operator can do about it, where its text does not say it. Commands stand in backticks, without the program's
    /// name: how it is called is the application's business.
    pub fn remedy(&self) -> Option<String> {
        of(self)
    }
}

fn of_settings(error: &SettingsError) -> Option<String> {
    match error {
        SettingsError::File { .. } => {
            Some("TENANTRY_CONFIG names the file; it has to exist and to be readable by this user".to_owned())
        }
        SettingsError::Syntax { .. } => None,
        SettingsError::Wrong { problems } => problems.iter().find_map(|problem| match problem {
            Problem::Missing { setting, .. } => Some(format!(
                "set {setting} in the environment, or {} in tenantry.toml",
                setting.trim_start_matches("TENANTRY_").to_lowercase()
            )),
            Problem::Invalid { .. } | Problem::Unknown { .. } => None,
        }),
    }
}

fn of(error: &Error) -> Option<String> {
    let text = match error {
        Error::ApplicationDatabase { source } | Error::Database { source, .. } => return of_connection(source),
        Error::Store(error) => return of_store(error),
        Error::Route(error) => return of_route(error),
        Error::Migration { .. } | Error::Prepare { .. } => {
            "mend the cause and run it again; `migrate status` shows what is applied and what is pending"
        }
        Error::UnknownTenant(_) => "a subdomain is written without the domain that follows it",
        Error::NoDefaultDataSource => {
            "--data-source (of `transfer`: --to) names one: sqlite:/path/to/file.db, or postgresql://host:5432/database"
        }
        Error::NoLogins(_) => {
            "the logins of a --data-source or --to are read from DATA_SOURCE_ANON_KEY and DATA_SOURCE_SERVICE_KEY, each \
             `user:password`"
        }
        Error::NoKeyring => MAKE_A_KEY,
        Error::Mapping(_) => "--tenant-id-in-data-source gives the id that the tenant has there",
        Error::Transfer { .. } => "mend the cause and run it again: it goes on where it was interrupted",
        _ => return None,
    };
    Some(text.to_owned())
}

fn of_store(error: &StoreError) -> Option<String> {
    let text = match error {
        StoreError::Database { source, .. } => match source.sqlstate() {
            Some(code) if SCHEMA_DIFFERS.contains(&code.as_str()) => MIGRATE_APP_DB,
            _ => return of_connection(source),
        },
        StoreError::Decode { .. } => STATUS_APP_DB,
        StoreError::SubdomainTaken { .. } | StoreError::KeyTaken { .. } | StoreError::DedicatedTaken { .. } => {
            "`list-tenants` shows who is where"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

fn of_route(error: &RouteError) -> Option<String> {
    let text = match error {
        RouteError::UnknownTenant(_) => "`list-tenants` shows the tenants",
        RouteError::NoKeyring { .. } => "it has to be the key that the logins were sealed with",
        RouteError::NoCredential { .. } | RouteError::Credential { .. } => {
            "`check-tenant-config` opens the login of every tenant and names those that do not open"
        }
        RouteError::NoDataSource(_)
        | RouteError::Url { .. }
        | RouteError::DirectUrl { .. }
        | RouteError::Mapping { .. } => "`check-tenant-config` shows how every tenant is configured, and what is wrong",
        RouteError::Lookup { source, .. } => return of_store(source),
        RouteError::Audit { source, .. } => return of_store(source),
        RouteError::Pool { source, .. } => return of_connection(source),
        _ => return None,
    };
    Some(text.to_owned())
}

fn of_connection(error: &ConnectionError) -> Option<String> {
    let text = match error {
        ConnectionError::Connect { reason, .. } => match reason {
            ConnectFailure::Login => {
                "psql with the same user, password and host tells whether the login is wrong, or pg_hba.conf keeps it out"
            }
            ConnectFailure::NoSuchDatabase => {
                "an SQLite file is made by `migrate up`; a PostgreSQL database by createdb"
            }
            ConnectFailure::Unreachable => {
                "pg_isready with the same host and port tells whether a server answers; TENANTRY_ACQUIRE_TIMEOUT is how \
                 long it is tried"
            }
            ConnectFailure::Tls => "sslmode=verify-full checks the server against the file that sslrootcert names",
            ConnectFailure::Unavailable => "wait until the server has started, or raise its max_connections",
            ConnectFailure::Lost => "run it again",
            ConnectFailure::Closed | ConnectFailure::Other => return None,
        },
        ConnectionError::NoLogin { .. } => {
            "a login stands in the URL of the setting (postgresql://user:password@host/database), or sealed with the tenant"
        }
        ConnectionError::NoDirectUrl { data_source } => {
            return Some(format!(
                "in the application database: INSERT INTO data_sources (url, direct_url) VALUES ('{data_source}', \
                 'postgresql://SERVER:5432/DATABASE') ON CONFLICT (url) DO UPDATE SET direct_url = excluded.direct_url"
            ));
        }
        ConnectionError::NoDriver { .. } => "build the program with both features of tenantry, `postgres` and `sqlite`",
        ConnectionError::PermissionDenied { .. } => "the schema belongs to the service login; is it the one in use?",
        _ => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a remedy that repeats a password of the settings, and a missing setting that nobody is told to set.
    #[test]
    fn a_missing_setting_is_told_in_both_ways_of_setting_it() {
        let problems =
            vec![Problem::Missing { setting: "TENANTRY_KEY_COLUMN", because: String::new(), expected: "a name" }];
        let help = of_settings(&SettingsError::Wrong { problems });
        assert_eq!(help.as_deref(), Some("set TENANTRY_KEY_COLUMN in the environment, or key_column in tenantry.toml"));
    }
}
