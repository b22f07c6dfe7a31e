//! Writes the sample into a PostgreSQL database.

use sqlx::postgres::{PgArguments, PgConnection, Postgres};
use sqlx::query::Query;
use sqlx::types::Decimal;
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::cell::Cell;
use super::dictionary::{Kind, all_tables};
use super::{SampleError, TENANTS};

/// Creates the legacy database in the one that the URL names; it must not have tables of the same names. Everything
/// belongs to the URL's login.
///
/// # Errors
/// [`SampleError::Postgres`]; nothing is left behind then.
pub async fn create_postgres(url: &str) -> Result<(), SampleError> {
    write(url).await.map_err(|source| SampleError::Postgres { source })
}

async fn write(url: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    let mut transaction = connection.begin().await?;
    for table in all_tables() {
        let create = table.create(Kind::postgres, [("random uuid", "gen_random_uuid()"), ("now", "now()")]);
        transaction.execute(AssertSqlSafe(create)).await?;
        // JSON goes as the text it is, so that the server and no library here reads it.
        let insert = table.insert(|number, column| match column.kind {
            Kind::Json => format!("${number}::text::jsonb"),
            _ => format!("${number}"),
        });
        for row in TENANTS.iter().flat_map(|tenant| table.rows(tenant)) {
            let query = sqlx::query(AssertSqlSafe(insert.clone()));
            let query =
                row.into_iter().zip(&table.columns).fold(query, |query, (cell, column)| bind(query, cell, column.kind));
            query.execute(&mut *transaction).await?;
        }
    }
    transaction.commit().await?;
    connection.close().await
}

fn bind(query: Query<'_, Postgres, PgArguments>, cell: Cell, kind: Kind) -> Query<'_, Postgres, PgArguments> {
    match cell {
        Cell::Null => match kind {
            Kind::Uuid => query.bind(None::<uuid::Uuid>),
            Kind::Text | Kind::Json => query.bind(None::<String>),
            Kind::Integer => query.bind(None::<i32>),
            Kind::Boolean => query.bind(None::<bool>),
            Kind::Numeric { .. } => query.bind(None::<Decimal>),
            Kind::Date => query.bind(None::<chrono::NaiveDate>),
            Kind::Time => query.bind(None::<chrono::NaiveTime>),
            Kind::Timestamp => query.bind(None::<chrono::DateTime<chrono::Utc>>),
        },
        Cell::Uuid(uuid) => query.bind(uuid),
        Cell::Text(text) => query.bind(text),
        Cell::Integer(integer) => query.bind(integer),
        Cell::Boolean(boolean) => query.bind(boolean),
        Cell::Hundredths(hundredths) => query.bind(Decimal::new(hundredths, 2)),
        Cell::Date(date) => query.bind(date),
        Cell::Time(time) => query.bind(time),
        Cell::Timestamp(instant) => query.bind(instant),
        Cell::Json(text) => query.bind(text),
    }
}
