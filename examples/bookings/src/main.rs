//! Two organisations on two data sources, and the rooms of each.
use bookings::{BookingsMigrator, entities::rooms};
use tenantry::prelude::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let tenantry = Tenantry::connect(bookings::settings(Settings::embedded(folder.path())?))?;
    tenantry.migrate::<BookingsMigrator>().await?;
    for (org, name, room) in [("7", "alpine", "Edelweiss"), ("8", "seaside", "Harbour view")] {
        let new = NewTenantRequest::new(name, name).known_in_data_source_as(org);
        let organisation = tenantry.create_tenant::<BookingsMigrator>(new).await?;
        let room = rooms::ActiveModel { name: Set(room.to_owned()), ..Default::default() };
        tenantry.tenant(organisation.id).await?.repository::<rooms::Entity>().create(room).await?;
    }
    for organisation in tenantry.app_db().tenants().await? {
        let db = tenantry.tenant(organisation.id).await?;
        for room in db.repository::<rooms::Entity>().find_many(&Query::new()).await? {
            println!("{} of {}, in {:?}", room.name, organisation.name, organisation.data_source_url);
        }
    }
    Ok(())
}
