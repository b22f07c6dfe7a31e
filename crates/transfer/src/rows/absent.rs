//! What stands for an engine that the program was built without: there is no transaction to read from.

use std::{convert::Infallible, marker::PhantomData};

use tenantry_connection::Transaction;

use super::{Reading, Row, ended};
use crate::Error;

pub(crate) struct Rows<'c> {
    none: Infallible,
    transaction: PhantomData<&'c mut Transaction>,
}

impl<'c> Rows<'c> {
    pub(super) async fn open(_: Reading, _: &'c mut Transaction, _: String) -> Result<Self, Error> {
        Err(ended())
    }

    pub(super) async fn next(&mut self) -> Result<Option<Row>, Error> {
        match self.none {}
    }
}
