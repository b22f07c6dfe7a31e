//! A data source as an argument names it: the URL on the command line, the logins in the environment.
//!
//! A login is never an argument: every user of a machine can read the arguments of every process.

use secrecy::SecretString;
use tenantry::{
    connection::{DataSourceUrl, Engine},
    credential::Login,
    operations::Logins,
};

use crate::Failure;

/// Holds the restricted login of `--data-source`.
const RESTRICTED_LOGIN: &str = "DATA_SOURCE_ANON_KEY";
/// Holds the service login of `--data-source`.
const SERVICE_LOGIN: &str = "DATA_SOURCE_SERVICE_KEY";

/// Reads the value of `--data-source`, and for PostgreSQL the logins that belong to it.
pub(super) fn read(text: &str) -> Result<(DataSourceUrl, Option<Logins>), Failure> {
    // A URL that is wrong may hold a password, so that it is not repeated; the error says what is wrong with it.
    let url = DataSourceUrl::parse(text).map_err(|error| Failure::argument("--data-source", error))?;
    let logins = match url.engine() {
        Engine::Sqlite => None,
        Engine::Postgres => Some(Logins { restricted: login(RESTRICTED_LOGIN)?, service: login(SERVICE_LOGIN)? }),
    };
    Ok((url, logins))
}

fn login(variable: &'static str) -> Result<Login, Failure> {
    let text = std::env::var(variable).map_err(|_| Failure::Argument {
        argument: variable,
        problem: "it is not set, and a PostgreSQL --data-source takes its logins from the environment".to_owned(),
        help: Some(format!(
            "export {variable}='user:password'; on the command line every user of the machine could read it"
        )),
    })?;
    Login::parse(&SecretString::from(text)).map_err(|error| Failure::argument(variable, error))
}
