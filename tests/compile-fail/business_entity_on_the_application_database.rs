//! A business entity on the application database: 105 routes of the original did this, and nothing noticed.

use tenantry_app_db::AppDb;
use tenantry_entities::accounts;

fn read(app_db: &AppDb) {
    let _ = app_db.find::<accounts::Entity>();
}

fn main() {}
