//! The first signal asks a transfer to end, the second ends the program. Knows no transfer.

use std::{
    io, process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tenantry::transfer::Interrupt;

use crate::{Application, command::called, progress::tell};

const FIRST: &str = "interrupted: what was done is taken back, or finished where the tenant has moved already; \
                     a second signal ends it at once";
const SECOND: &str = "ended at once: `transfer status` shows what is left, and 20 seconds from now `transfer resume` goes on \
                      with it or `transfer abort` takes it back";

/// While it lives the first signal asks. Afterwards, when nothing is left but to say what came of it, any signal ends the program.
#[derive(Debug)]
pub(crate) struct Signals {
    over: Arc<AtomicBool>,
}

impl Signals {
    /// Asks by `interrupt`, for SIGINT (Ctrl-C) and SIGTERM. The exit status of the second one is 128 and its number, as a shell has
    /// it of a program that a signal has ended.
    pub(crate) fn ask<A: Application>(interrupt: &Interrupt) -> Self {
        let (interrupt, over) = (interrupt.clone(), Arc::new(AtomicBool::new(false)));
        let is_over = over.clone();
        // To the end of the process: nobody else ends it by a signal any more, once somebody has listened.
        tokio::spawn(async move {
            let Ok(mut received) = Received::listen() else { return };
            let mut number = received.next().await;
            if !is_over.load(Ordering::Relaxed) {
                tell(FIRST);
                interrupt.ask();
                number = received.next().await;
                if !is_over.load(Ordering::Relaxed) {
                    tell(&called(SECOND, A::NAME));
                }
            }
            process::exit(128 + number);
        });
        Self { over }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
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
