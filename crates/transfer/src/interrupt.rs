//! Asking a transfer to end early, from outside: a signal, an application that shuts down. Knows no signal.

use std::{future::Future, sync::Arc};

use tokio::sync::watch;

use crate::Error;

/// Asks every transfer that was given a copy of it to end, once and for good.
///
/// One that has not moved its tenant yet is taken back, as if a step had failed: the tenant writes where it did, and nothing is left.
/// One that has moved it lets its writes through first. Nothing is begun any more. Only work that leaves nothing behind is broken
/// off, so that the fence is never in doubt.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<watch::Sender<bool>>);

impl Default for Interrupt {
    /// One that nobody has asked for.
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Interrupt {
    /// Asks.
    pub fn ask(&self) {
        self.0.send_replace(true);
    }

    /// Whether it was asked for.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// The work, broken off where it is asked for. Only for what another transaction, or the end of this one's, makes undone.
    pub(crate) fn ends<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> impl Future<Output = Result<T, Error>> {
        let mut asked = self.0.subscribe();
        // A step is a large future, and would be within each of those that it is within.
        let work = Box::pin(work);
        async move {
            tokio::select! {
                biased;
                // The sender lives as long as its transfer does.
                Ok(_) = asked.wait_for(|asked| *asked) => Err(Error::Interrupted),
                done = work => done,
            }
        }
    }

    /// An error where it was asked for.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_asked() { Err(Error::Interrupted) } else { Ok(()) }
    }
}
