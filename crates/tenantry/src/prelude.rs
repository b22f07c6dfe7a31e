//! What nearly every file of an application uses: `use tenantry::prelude::*;`.
//!
//! Names only, and no traits but those that give a handle its methods. Everything is in its own module as well.

pub use sea_orm::ActiveValue::Set;

pub use crate::{
    Tenantry,
    data_source::{TenantDb, TenantHandle, TenantTransaction},
    operations::NewTenantRequest,
    repository::{Query, RepositoryExt},
    settings::Settings,
};
