//! The log that the database keeps of a tenant's writes.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use sea_orm::{
    ExprTrait, Order, QueryResult, StatementBuilder,
    sea_query::{Alias, Expr, NullOrdering, Query},
};
use serde::Serialize;
use tenantry_connection::Mode;
use uuid::Uuid;

use super::{
    TenantDb,
    sealed::{Checked, Handle},
};
use crate::Error;

const TABLE: &str = "write_log";

/// One row that was written, as the database's own trigger recorded it in the same transaction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WriteLogEntry {
    /// The entry's id.
    pub id: Uuid,
    /// The table that was written.
    pub table: String,
    /// The id of the row.
    pub row_id: String,
    /// What was done.
    pub operation: WriteOperation,
    /// The row before; none for an insert.
    pub before: Option<serde_json::Value>,
    /// The row after; none for a delete.
    pub after: Option<serde_json::Value>,
    /// Who did it, where the handle knew.
    pub actor: Option<String>,
    /// The client's address, where the handle knew.
    pub client_ip: Option<String>,
    /// When.
    pub logged_at: DateTime<Utc>,
}

/// What was done to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WriteOperation {
    /// It was inserted.
    Insert,
    /// It was updated.
    Update,
    /// It was deleted.
    Delete,
}

impl FromStr for WriteOperation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "insert" => Ok(Self::Insert),
            "update" => Ok(Self::Update),
            "delete" => Ok(Self::Delete),
            other => Err(format!("{other:?} is no operation of the write log")),
        }
    }
}

pub(super) async fn read(db: &TenantDb, limit: u64) -> Result<Vec<WriteLogEntry>, Error> {
    let context = db.context();
    let select = Query::select()
        .columns(
            ["id", "table_name", "row_id", "operation", "before", "after", "actor", "client_ip", "logged_at"]
                .map(Alias::new),
        )
        .from(Alias::new(TABLE))
        .and_where(Expr::col(Alias::new(&*context.tenant_column)).eq(context.key.value()))
        .order_by_with_nulls(Alias::new("logged_at"), Order::Desc, NullOrdering::Last)
        .order_by_with_nulls(Alias::new("id"), Order::Desc, NullOrdering::Last)
        .limit(Ord::min(limit, i64::MAX as u64))
        .to_owned();
    let statement = Checked::new(StatementBuilder::build(&select, &context.backend()));
    let rows = db.query_all(statement, Mode::Read).await?;
    rows.iter().map(|row| entry(row).map_err(|source| Error::Decode { table: TABLE.to_owned(), source })).collect()
}

fn entry(row: &QueryResult) -> Result<WriteLogEntry, sea_orm::DbErr> {
    Ok(WriteLogEntry {
        id: row.try_get("", "id")?,
        table: row.try_get("", "table_name")?,
        row_id: row.try_get("", "row_id")?,
        operation: row.try_get::<String>("", "operation")?.parse().map_err(sea_orm::DbErr::Type)?,
        before: row.try_get("", "before")?,
        after: row.try_get("", "after")?,
        actor: row.try_get("", "actor")?,
        client_ip: row.try_get("", "client_ip")?,
        logged_at: row.try_get("", "logged_at")?,
    })
}
