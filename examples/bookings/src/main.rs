//! Two organisations on two data sources, and the rooms of each.
use bookings::{BookingsMigrator, entities::rooms};
use sea_orm::ActiveValue::Set;
use tenantry::operations::NewTenantRequest;
use tenantry::repository::{Query, RepositoryExt};
use tenantry::{Tenantry, settings::Settings};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let tenantry = Tenantry::connect(bookings::settings(Settings::embedded(folder.path())?))?;
    tenantry.migrate::<BookingsMigrator>().await?;
    for (org, name, room) in [("7", "alpine", "Edelweiss"), ("8", "seaside", "Harbour view")] {
        let org = Some(org.to_owned());
        let new = NewTenantRequest { tenant_id_in_data_source: org, ..NewTenantRequest::new(name, name) };
        let rooms = tenantry.tenant(tenantry.create_tenant::<BookingsMigrator>(new).await?.id).await?;
        let room = rooms::ActiveModel { name: Set(room.to_owned()), ..Default::default() };
        rooms.repository::<rooms::Entity>().create(room).await?;
    }
    for tenant in tenantry.app_db().tenants().await? {
        let db = tenantry.tenant(tenant.id).await?;
        let rooms = db.repository::<rooms::Entity>().find_many(&Query::new()).await?;
        println!("{} in {:?}: {rooms:?}", tenant.name, tenant.data_source_url);
    }
    Ok(())
}
