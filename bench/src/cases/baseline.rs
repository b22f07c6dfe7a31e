//! The other side: SeaORM on the unprotected twin, as an application without Tenantry would have it.

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection};

use crate::Error;
use crate::world::{CONNECTIONS, World};

/// SeaORM's pool with its defaults and as many connections as ours, all of them open before the first round. `ping`: it
/// asks the server for a sign of life each time a connection is taken, which is the default.
pub(super) async fn sea_orm(world: &World, ping: bool) -> Result<DatabaseConnection, Error> {
    let mut options = ConnectOptions::new(world.plain.url_with(&world.plain.service));
    options.max_connections(CONNECTIONS).min_connections(CONNECTIONS);
    if !ping {
        options.test_before_acquire(false);
    }
    let database = Database::connect(options).await.map_err(Error::doing("connect the baseline"))?;
    database.execute_unprepared("SELECT 1").await.map_err(Error::doing("use the baseline's connection"))?;
    Ok(database)
}
