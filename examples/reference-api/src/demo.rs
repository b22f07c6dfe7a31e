//! Something to try the API on: an application database and tenants with a user each, in SQLite files of a folder.
//!
//! It knows no PostgreSQL; an installation of one's own is made with the operators' commands.

use std::path::Path;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use sea_orm::{ActiveValue::Set, ColumnTrait};
use serde::Serialize;
use tenantry::{
    Tenantry,
    app_db::{
        Error as AppDbError,
        entities::{Hidden, Plan, UserRole, UserStatus, tenants, users},
    },
    connection::{Actor, UrlError},
    migrations::TenantDataMigrator,
    operations::{Direction, MigrateScope, NewTenantRequest, create_tenant, migrate},
    settings::{ApplicationDatabase, DefaultDataSource, Settings, UrlTemplate},
};
use uuid::Uuid;

use crate::{HashError, Passwords};

/// The demo's tenants, by subdomain.
const TENANTS: [&str; 2] = ["acme", "globex"];

/// Somebody who can sign in, with the password that was made for this run.
#[derive(Clone, Serialize)]
pub struct DemoUser {
    /// The tenant's subdomain.
    pub tenant: String,
    /// The e-mail address.
    pub email: String,
    /// The password.
    pub password: String,
}

/// The demo could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The folder's path cannot be part of a database URL.
    #[error("the databases cannot be in this folder")]
    Folder(#[from] UrlError),
    /// The folder could not be made.
    #[error("the folder cannot be made")]
    Make(#[from] std::io::Error),
    /// A database could not be set up.
    #[error("the databases cannot be set up")]
    Tenantry(#[from] tenantry::Error),
    /// The application database could not be used.
    #[error("the application database cannot be used")]
    AppDb(#[from] AppDbError),
    /// A password could not be hashed.
    #[error("a password cannot be made")]
    Password(#[from] HashError),
    /// Migrations failed; the message says where.
    #[error("not everything could be migrated: {0}")]
    Migrate(String),
}

/// An installation in a folder, migrated, with the demo's tenants and users. A folder that has one keeps its accounts; the users get
/// new passwords.
///
/// # Errors
/// [`DemoError`].
pub async fn set_up(folder: &Path, passwords: &Passwords) -> Result<(Tenantry, Vec<DemoUser>), DemoError> {
    std::fs::create_dir_all(folder.join("tenants"))?;
    let url = format!("sqlite:{}", folder.join("application.db").display()).parse()?;
    let mut settings = Settings::new(ApplicationDatabase { url, login: None });
    let template = format!("sqlite:{}/tenants/{{tenant_id}}.db", folder.display());
    let url = UrlTemplate::parse(&template)?;
    settings.default_data_source = Some(DefaultDataSource { url, logins: None, region: None });
    let tenantry = Tenantry::connect(settings)?;
    let scope = MigrateScope { app_db: true, data_sources: true };
    let report = migrate::<TenantDataMigrator>(&tenantry, scope, Direction::Up).await?;
    if !report.is_complete() {
        return Err(DemoError::Migrate(format!("{report:?}")));
    }
    let mut made = Vec::new();
    for subdomain in TENANTS {
        let tenant = match tenantry.app_db().tenant_by_subdomain(subdomain).await? {
            Some(tenant) => tenant,
            None => new_tenant(&tenantry, subdomain).await?,
        };
        let user = DemoUser {
            tenant: subdomain.to_owned(),
            email: format!("admin@{subdomain}.example"),
            password: random_password()?,
        };
        set_password(&tenantry, passwords, tenant.id, &user.email, &user.password).await?;
        made.push(user);
    }
    Ok((tenantry, made))
}

/// Gives a tenant's user a password; makes the user where there is none.
///
/// # Errors
/// [`DemoError::AppDb`], [`DemoError::Password`].
pub async fn set_password(
    tenantry: &Tenantry,
    passwords: &Passwords,
    tenant: Uuid,
    email: &str,
    password: &str,
) -> Result<Uuid, DemoError> {
    let app_db = tenantry.app_db();
    let hash = Hidden::from(passwords.hash(password.to_owned()).await?);
    let known = app_db
        .find::<users::Entity>()
        .filter(users::Column::TenantId.eq(tenant))
        .filter(users::Column::Email.eq(email));
    let password_hash = Set(Some(hash));
    if let Some(user) = known.one().await? {
        let user = users::ActiveModel { id: Set(user.id), password_hash, ..Default::default() };
        return Ok(app_db.update::<users::Entity, _>(&Actor::default(), user).await?.id);
    }
    let user = users::ActiveModel {
        id: Set(Uuid::new_v4()),
        tenant_id: Set(tenant),
        email: Set(email.to_owned()),
        role: Set(UserRole::Admin),
        status: Set(UserStatus::Active),
        permissions: Set(serde_json::json!({})),
        password_hash,
        ..Default::default()
    };
    Ok(app_db.insert::<users::Entity, _>(&Actor::default(), user).await?.id)
}

async fn new_tenant(tenantry: &Tenantry, subdomain: &str) -> Result<tenants::Model, DemoError> {
    let request = NewTenantRequest {
        name: format!("{subdomain} Inc."),
        subdomain: subdomain.to_owned(),
        plan: Plan::Starter,
        tenant_id_in_data_source: None,
        data_source: None,
    };
    Ok(create_tenant::<TenantDataMigrator>(tenantry, request, &Actor::default()).await?)
}

fn random_password() -> Result<String, DemoError> {
    let mut bytes = [0; 12];
    SystemRandom::new().fill(&mut bytes).map_err(|_| HashError::Hash)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}
