//! What stands for an engine that the program was built without: there is no transaction to write in.

use tenantry_connection::Transaction;

use super::Table;
use crate::{
    Error,
    plan::{Pair, Structure},
};

pub(super) async fn copy(
    _: &[Vec<Table<'_>>],
    _: bool,
    _: &mut Transaction,
    _: &mut Transaction,
) -> Result<Vec<(u64, u64)>, Error> {
    Err(ended())
}

pub(super) async fn into(_: &Table<'_>, _: &mut Transaction, _: &mut Transaction) -> Result<(u64, u64), Error> {
    Err(ended())
}

pub(super) async fn check_foreign_keys(
    _: &Structure,
    _: impl Iterator<Item = &Pair>,
    _: &mut Transaction,
) -> Result<(), Error> {
    Err(ended())
}

fn ended() -> Error {
    Error::database("copying")(tenantry_connection::Error::Ended)
}
