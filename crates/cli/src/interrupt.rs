//! The first signal asks a transfer to end, the second ends the program. Knows no transfer.

use std::{io, process};

use tenantry::transfer::Interrupt;
use tokio::task::AbortHandle;

use crate::{Application, command::called, progress::tell};

const FIRST: &str = "interrupted: what was done is taken back, or finished where the tenant has moved already; \
                     a second signal ends it at once";
const SECOND: &str = "ended at once: `transfer status` shows what is left, and 20 seconds from now `transfer resume` goes on \
                      with it or `transfer abort` takes it back";

/// Listens while it lives.
#[derive(Debug)]
pub(crate) struct Signals {
    listening: AbortHandle,
}

impl Signals {
    /// Asks by `interrupt`, for SIGINT (Ctrl-C) and SIGTERM. The exit status of the second one is 128 and its number, as a shell has
    /// it of a program that a signal has ended.
    pub(crate) fn ask<A: Application>(interrupt: &Interrupt) -> Self {
        let interrupt = interrupt.clone();
        let listening = tokio::spawn(async move {
            let Ok(mut received) = Received::listen() else { return };
            received.next().await;
            tell(FIRST);
            interrupt.ask();
            let number = received.next().await;
            tell(&called(SECOND, A::NAME));
            process::exit(128 + number);
        });
        Self { listening: listening.abort_handle() }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Signals that ask a program to end.
#[cfg(unix)]
struct Received {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Received {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The number of the next one.
    async fn next(&mut self) -> i32 {
        use tokio::signal::unix::SignalKind;
        let kind = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        };
        kind.as_raw_value()
    }
}

#[cfg(not(unix))]
struct Received;

#[cfg(not(unix))]
impl Received {
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> i32 {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        2
    }
}
