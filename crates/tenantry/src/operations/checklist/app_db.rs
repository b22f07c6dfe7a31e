//! The application database: does it answer, is it migrated, and whose business rows are still in it.

use tenantry_app_db::entities::tenants;
use tenantry_connection::{DataSourceUrl, Mode, Session};
use tenantry_data_source::with_causes;
use tenantry_migrations::AppDbMigrator;
use tenantry_realm::TenantKey;

use super::{
    Items, Section,
    data_sources::{server, status_of},
    residents::{Residents, listed, residents},
};
use crate::{
    Tenantry,
    operations::migrate::{Direction, MigrateScope, migrate},
};

const SECTION: Section = Section::ApplicationDatabase;

/// Whether the rest of the checklist can be run.
pub(super) async fn check(tenantry: &Tenantry, list: &mut Items) -> bool {
    let pool = tenantry.app_db_pool();
    match server(pool).await {
        Ok(server) => server.report(SECTION, "connection", list),
        Err(error) => {
            list.fail(
                SECTION,
                "connection",
                with_causes(&error),
                "correct APPLICATION_DATABASE_URL, or start the server",
            );
            list.skip(SECTION, "migrations", "there is no connection");
            list.skip(SECTION, "business rows", "there is no connection");
            return false;
        }
    }
    let scope = MigrateScope { app_db: true, data_sources: false };
    // The migrator of the data sources is not asked in this scope.
    let migrations = migrate::<AppDbMigrator>(tenantry, scope, Direction::Status).await;
    let complete = match migrations {
        Ok(report) => report.databases.first().is_some_and(|entry| status_of(SECTION, "migrations", entry, list)),
        Err(error) => {
            list.fail(SECTION, "migrations", with_causes(&error), "run `migrate up`");
            false
        }
    };
    match (complete, tenantry.app_db().tenants().await) {
        (_, Ok(tenants)) => business_rows(tenantry, &tenants, list).await,
        (true, Err(error)) => {
            list.fail(SECTION, "business rows", with_causes(&error), "run `migrate up`");
            return false;
        }
        (false, Err(_)) => list.skip(SECTION, "business rows", "the migrations are not complete"),
    }
    complete
}

async fn business_rows(tenantry: &Tenantry, tenants: &[tenants::Model], list: &mut Items) {
    let found = async {
        let mut transaction = tenantry.app_db_pool().begin(&Session::default(), Mode::Snapshot).await?;
        let found = residents(&mut transaction, &tenantry.settings().tenant_column).await?;
        transaction.commit().await?;
        Ok::<_, super::residents::Unreadable>(found)
    };
    let Residents { tenants: found, unscoped, nobodys } = match found.await {
        Ok(found) => found,
        Err(error) => {
            let remedy = "look at the tables that have the tenant column";
            return list.fail(SECTION, "business rows", error.to_string(), remedy);
        }
    };
    if found.is_empty() && nobodys.is_empty() {
        list.pass(SECTION, "business rows", "it holds none");
    }
    if !nobodys.is_empty() {
        list.fail(
            SECTION,
            "business rows of nobody",
            format!("rows without a tenant are in {}: no split will ever move them", listed(&nobodys)),
            "give them a tenant, or delete them",
        );
    }
    for (table, parent) in &unscoped {
        list.note(
            SECTION,
            &format!("table {table}"),
            format!("it refers to {parent} and does not name the tenant: its rows belong to some tenant, and nothing says to which"),
        );
    }
    for resident in found {
        let tenant = tenants.iter().find(|tenant| TenantKey::Uuid(tenant.id).to_string() == resident.key);
        let Some(tenant) = tenant else {
            list.fail(
                SECTION,
                &format!("business rows of {}", resident.key),
                format!("rows of a tenant that is not known are in {}", listed(&resident.tables)),
                "create the tenant, or delete the rows",
            );
            continue;
        };
        let name = format!("business rows of {}", tenant.subdomain);
        let own = tenant.data_source_url.as_deref().map(DataSourceUrl::parse);
        match own {
            None => list.note(
                SECTION,
                &name,
                format!("not split yet: rows are in {}; `migrate-tenant-data` moves them", listed(&resident.tables)),
            ),
            Some(_) if resident.unfenced.is_empty() => list.note(
                SECTION,
                &name,
                format!("kept since the split and fenced: rows are in {}", listed(&resident.tables)),
            ),
            Some(_) => list.fail(
                SECTION,
                &name,
                format!(
                    "its data source is elsewhere, and nothing keeps anyone from writing its rows in {} here",
                    listed(&resident.unfenced)
                ),
                "run `migrate-tenant-data --verify`, and fence the tenant here or move what was written",
            ),
        }
    }
}
