//! A data source as an argument names it: the URL on the command line, the logins in the environment.
//!
//! A login is never an argument: every user of a machine can read the arguments of every process.

use clap::ValueEnum;
use secrecy::SecretString;
use tenantry::{
    app_db::entities::SourceKind,
    connection::{DataSourceUrl, Engine},
    credential::Login,
    operations::Logins,
};

use crate::Failure;

/// Holds the restricted login of the data source.
const RESTRICTED_LOGIN: &str = "DATA_SOURCE_ANON_KEY";
/// Holds the service login of the data source.
const SERVICE_LOGIN: &str = "DATA_SOURCE_SERVICE_KEY";

/// Whom a data source serves, as an argument says it.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Kind {
    /// Many tenants, kept apart by row-level security
    Shared,
    /// One tenant
    Dedicated,
    /// One tenant, whose own database it is
    Customer,
}

impl From<Kind> for SourceKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Shared => Self::Shared,
            Kind::Dedicated => Self::Dedicated,
            Kind::Customer => Self::Customer,
        }
    }
}

/// Reads the URL that an argument gives, and for PostgreSQL the logins that belong to it.
pub(super) fn read(argument: &'static str, text: &str) -> Result<(DataSourceUrl, Option<Logins>), Failure> {
    let url = url(argument, text)?;
    let logins = match url.engine() {
        Engine::Sqlite => None,
        Engine::Postgres => {
            Some(Logins { restricted: login(argument, RESTRICTED_LOGIN)?, service: login(argument, SERVICE_LOGIN)? })
        }
    };
    Ok((url, logins))
}

/// Reads the URL alone.
pub(super) fn url(argument: &'static str, text: &str) -> Result<DataSourceUrl, Failure> {
    // A URL that is wrong may hold a password, so that it is not repeated; the error says what is wrong with it.
    DataSourceUrl::parse(text).map_err(|error| Failure::argument(argument, error))
}

/// Whether a login is in the environment, right or wrong.
pub(super) fn has_logins() -> bool {
    [RESTRICTED_LOGIN, SERVICE_LOGIN].iter().any(|variable| std::env::var_os(variable).is_some())
}

fn login(argument: &'static str, variable: &'static str) -> Result<Login, Failure> {
    let text = std::env::var(variable).map_err(|_| Failure::Argument {
        argument: variable,
        problem: format!("it is not set, and a PostgreSQL {argument} takes its logins from the environment"),
        help: Some(format!(
            "export {variable}='user:password'; on the command line every user of the machine could read it"
        )),
    })?;
    Login::parse(&SecretString::from(text)).map_err(|error| Failure::argument(variable, error))
}
