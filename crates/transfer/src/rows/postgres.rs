//! Rows out of PostgreSQL, by COPY of a query whose columns are texts: the server sends as fast as it can and needs no
//! round trip per batch, and the simple protocol passes every pooler.

use futures_util::{Stream, StreamExt};
use std::pin::Pin;
use tenantry_connection::Transaction;

use super::{Reading, Row};
use crate::{Error, canonical};

/// Eleven bytes of signature, four of flags, four of the extension's length.
const HEADER: usize = 19;

type Chunks<'c> = Pin<Box<dyn Stream<Item = Result<Vec<u8>, sqlx::Error>> + Send + 'c>>;

pub(crate) struct Rows<'c> {
    reading: Reading,
    chunks: Chunks<'c>,
    buffer: Vec<u8>,
    at: usize,
    begun: bool,
}

impl<'c> Rows<'c> {
    pub(super) async fn open(reading: Reading, transaction: &'c mut Transaction, sql: String) -> Result<Self, Error> {
        let copy = format!("COPY ({sql}) TO STDOUT (FORMAT binary)");
        let connection = transaction.raw_postgres_connection().ok_or_else(super::ended)?;
        let chunks = connection.copy_out_raw(&copy).await.map_err(Error::driver(reading.doing()))?;
        let chunks = Box::pin(chunks.map(|chunk| chunk.map(|bytes| bytes.to_vec())));
        Ok(Self { reading, chunks, buffer: Vec::new(), at: 0, begun: false })
    }

    pub(super) async fn next(&mut self) -> Result<Option<Row>, Error> {
        loop {
            match self.parse() {
                Some(Tuple::Row(row)) => return Ok(Some(row)),
                Some(Tuple::End) => {
                    // Whatever follows (nothing, in practice) must be read for the connection to be usable again.
                    while let Some(chunk) = self.chunks.next().await {
                        chunk.map_err(Error::driver(self.reading.doing()))?;
                    }
                    return Ok(None);
                }
                None => {}
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            match self.chunks.next().await {
                Some(chunk) => self.buffer.extend(chunk.map_err(Error::driver(self.reading.doing()))?),
                None => {
                    let truncated = sqlx::Error::Protocol("COPY ended without its trailer".to_owned());
                    return Err(Error::driver(self.reading.doing())(truncated));
                }
            }
        }
    }

    /// The next tuple, if all of it has arrived.
    fn parse(&mut self) -> Option<Tuple> {
        if !self.begun {
            self.buffer.get(..HEADER)?;
            self.at = HEADER;
            self.begun = true;
        }
        let mut cursor = Cursor { rest: self.buffer.get(self.at..)? };
        let fields = cursor.i16()?;
        if fields < 0 {
            return Some(Tuple::End);
        }
        let mut texts = Vec::with_capacity(self.reading.columns.len());
        for _ in 0..fields {
            let length = cursor.i32()?;
            texts.push(match usize::try_from(length) {
                Ok(length) => Some(String::from_utf8_lossy(cursor.take(length)?)),
                Err(_) => None,
            });
        }
        let kinds = self.reading.columns.iter().map(|(_, kind)| *kind);
        let row = self.reading.row(texts.iter().zip(kinds).map(|(text, kind)| match text {
            None => Ok(None),
            Some(text) => {
                canonical::from_postgres(kind, text).map(Some).map_err(|problem| (problem, text.clone().into_owned()))
            }
        }));
        let rest = cursor.rest.len();
        drop(texts);
        self.at = self.buffer.len() - rest;
        Some(Tuple::Row(row))
    }
}

enum Tuple {
    Row(Row),
    End,
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn i16(&mut self) -> Option<i16> {
        self.take(2)?.try_into().ok().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take(4)?.try_into().ok().map(i32::from_be_bytes)
    }
}
