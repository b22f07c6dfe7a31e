//! An open connection of PostgreSQL, and what holds it for the time that somebody works with it.

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use sqlx::PgConnection;

use super::{
    queue::{Permit, Pooled},
    source::{Opening, Source},
    stats::Closed,
};
use crate::{Error, session::ServerSession};

/// Which connections a lease can use: those of its login, and of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(super) login: [u8; 32],
    /// Of sources that share a cap, each has its own.
    pub(super) generation: u32,
}

/// An open connection.
pub(crate) struct Connection {
    pub(crate) raw: PgConnection,
    /// Whether its server session is kept between transactions, so that named statements and session settings hold.
    pub(crate) keeps_session: bool,
    /// What its server session is set to. `None` while that is being changed, or cannot be kept.
    pub(crate) session: Option<ServerSession>,
    pub(super) key: Key,
    pub(super) opening: Weak<Opening>,
    pub(super) opened: Instant,
    pub(super) expires: Instant,
}

impl Pooled for Box<Connection> {
    type Login = Key;

    fn login(&self) -> &Key {
        &self.key
    }

    fn tenant(&self) -> Option<&Arc<str>> {
        self.session.as_ref()?.tenant.as_ref()
    }
}

/// A connection out of its source. Dropped while nothing is going on in its session, it is idle again; otherwise it is closed.
pub(crate) struct PostgresLease {
    /// Both are there until the drop.
    pub(super) inner: Option<(Box<Connection>, Permit<Box<Connection>>)>,
    source: Arc<Source>,
    /// Something is going on in the server's session: a statement, a transaction.
    busy: bool,
    /// Why it is closed whatever comes.
    doomed: Option<Closed>,
}

impl PostgresLease {
    pub(super) fn new(source: &Arc<Source>, connection: Box<Connection>, permit: Permit<Box<Connection>>) -> Self {
        Self { inner: Some((connection, permit)), source: Arc::clone(source), busy: false, doomed: None }
    }

    /// The connection. Whoever lets anything happen on it says so first by [`Self::set_busy`].
    pub(crate) fn connection(&mut self) -> Result<&mut Connection, Error> {
        self.inner.as_mut().map(|(connection, _)| &mut **connection).ok_or(Error::Ended)
    }

    /// Whether its session is kept between transactions, so that named statements and session settings hold.
    pub(crate) fn keeps_session(&self) -> bool {
        self.inner.as_ref().is_some_and(|(connection, _)| connection.keeps_session)
    }

    /// The schema that unqualified names are looked up in.
    pub(crate) fn schema(&self) -> &str {
        &self.source.options.schema
    }

    /// Whether another statement can be run on it.
    pub(crate) fn is_clean(&self) -> bool {
        !self.busy && self.doomed.is_none()
    }

    /// Something is going on in the server's session: dropped now, the connection is closed.
    pub(crate) fn set_busy(&mut self) {
        self.busy = true;
    }

    /// Nothing is going on any more.
    pub(crate) fn set_clean(&mut self) {
        self.busy = false;
    }

    /// The connection is closed at its drop, whatever else.
    pub(crate) fn close_because(&mut self, why: Closed) {
        self.doomed = Some(why);
    }

    /// A statement failed because what was prepared no longer fits: no older connection is used again.
    pub(crate) fn outdated(&mut self) {
        self.source.outdate();
        self.close_because(Closed::Age);
    }

    /// The connection is no more.
    pub(crate) fn broken(&mut self) {
        self.source.suspect();
        self.close_because(Closed::Broken);
    }
}

impl Drop for PostgresLease {
    fn drop(&mut self) {
        let Some((connection, permit)) = self.inner.take() else { return };
        match self.doomed.or(self.busy.then_some(Closed::Abandoned)) {
            Some(why) => self.source.bury(connection, permit, why),
            None => self.source.take_back(connection, permit),
        }
    }
}
