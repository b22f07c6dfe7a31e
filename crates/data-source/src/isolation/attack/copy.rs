//! `COPY`, which only the driver of PostgreSQL can do. Without that driver there is no transaction to attack in.

use sqlx::Error as DriverError;
use tenantry_connection::{Error, Transaction};

/// Begins a copy into a table and breaks it off; the error where it was refused.
#[cfg(feature = "postgres")]
pub(super) async fn copy_in(transaction: &mut Transaction, sql: &str) -> Result<Option<DriverError>, Error> {
    let connection = transaction.raw_postgres_connection().ok_or(Error::Ended)?;
    Ok(match connection.copy_in_raw(sql).await {
        Ok(sink) => sink.abort("an attack").await.err(),
        Err(error) => Some(error),
    })
}

/// Copies out of a table: whether anything came, and the error where it was refused.
#[cfg(feature = "postgres")]
pub(super) async fn copy_out(transaction: &mut Transaction, sql: &str) -> Result<(bool, Option<DriverError>), Error> {
    use futures_util::StreamExt as _;

    let connection = transaction.raw_postgres_connection().ok_or(Error::Ended)?;
    let mut reached = false;
    let failed = match connection.copy_out_raw(sql).await {
        Ok(mut chunks) => loop {
            match chunks.next().await {
                Some(Ok(_)) => reached = true,
                Some(Err(error)) => break Some(error),
                None => break None,
            }
        },
        Err(error) => Some(error),
    };
    Ok((reached, failed))
}

#[cfg(not(feature = "postgres"))]
pub(super) async fn copy_in(_: &mut Transaction, _: &str) -> Result<Option<DriverError>, Error> {
    Err(Error::Ended)
}

#[cfg(not(feature = "postgres"))]
pub(super) async fn copy_out(_: &mut Transaction, _: &str) -> Result<(bool, Option<DriverError>), Error> {
    Err(Error::Ended)
}
