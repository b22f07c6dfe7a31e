//! The table of transfers: one row for each move of a tenant, with its step, its owner and what came of it.
//!
//! It is what makes a transfer outlive the process that runs it. At most one transfer of a tenant is under way, which an index
//! says and not a program. The placements in it hold sealed logins, as `tenants` does.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use super::inspect;
use crate::Error;
use crate::dialect::{Engine, literal};
use crate::tables::TRANSFERS;

/// See the module's documentation.
pub(super) struct Transfers;

/// The steps, in the order in which they are reached. The last four end a transfer.
const STEPS: [&str; 10] =
    ["planned", "fenced", "copied", "verified", "placed", "aborting", "finished", "purged", "returned", "aborted"];

/// How many of [`STEPS`], from the end, leave the tenant free for another transfer.
const ENDS: usize = 4;

impl MigrationName for Transfers {
    fn name(&self) -> &'static str {
        "m20261122_000002_transfers"
    }
}

#[async_trait]
impl MigrationTrait for Transfers {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let sql = create(Engine::of(connection)?);
        connection.execute_unprepared(&sql).await.map_err(Error::doing("creating the table of transfers"))?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let target = target(Engine::of(connection)?);
        let count = format!("SELECT CAST(count(*) AS text) FROM {target}");
        let count = inspect::texts(connection, count).await?.into_iter().next().unwrap_or_default();
        if count != "0" {
            let losses = vec![format!("table {TRANSFERS} has {count} row(s)")];
            return Err(Error::WouldLose { losses }.into());
        }
        let sql = format!("DROP TABLE {target}");
        connection.execute_unprepared(&sql).await.map_err(Error::doing("dropping the table of transfers"))?;
        Ok(())
    }
}

fn target(engine: Engine) -> String {
    match engine {
        Engine::Postgres => format!("public.{TRANSFERS}"),
        Engine::Sqlite => TRANSFERS.to_owned(),
    }
}

fn create(engine: Engine) -> String {
    let (uuid, time) = match engine {
        Engine::Postgres => ("uuid", "timestamp with time zone"),
        Engine::Sqlite => ("uuid_text", "timestamp_with_timezone_text"),
    };
    let list = |steps: &[&str]| steps.iter().map(|step| literal(step)).collect::<Vec<_>>().join(", ");
    let (steps, open) = (list(&STEPS), list(&STEPS[..STEPS.len() - ENDS]));
    let target = target(engine);
    let mut sql = format!(
        "CREATE TABLE {target} (
    id {uuid} NOT NULL CONSTRAINT {TRANSFERS}_pkey PRIMARY KEY,
    tenant_id {uuid} NOT NULL,
    undoes {uuid},
    step text NOT NULL CONSTRAINT {TRANSFERS}_step_check CHECK (step IN ({steps})),
    source_url text,
    source_key text NOT NULL,
    source_placement text NOT NULL,
    target_url text,
    target_key text NOT NULL,
    target_placement text NOT NULL,
    expected_epoch bigint NOT NULL,
    placed_epoch bigint,
    owner {uuid},
    lease_until {time},
    lease_epoch bigint NOT NULL,
    held_since {time},
    held_ms bigint,
    tables bigint NOT NULL,
    records bigint NOT NULL,
    reference_tables text NOT NULL,
    copied text,
    report text,
    problem text,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
);
CREATE UNIQUE INDEX {TRANSFERS}_under_way ON {target} (tenant_id) WHERE step IN ({open});
CREATE INDEX {TRANSFERS}_tenant_id ON {target} (tenant_id, created_at)"
    );
    if engine == Engine::Postgres {
        sql.push_str(&format!(";\nREVOKE ALL ON {target} FROM PUBLIC"));
    }
    sql
}
