//! Follows the placements that other processes change, for as long as there is a manager.
//!
//! ```text
//! notified, or every few seconds ──> which tenants were changed after the version that is known ──> forget those
//! connection lost ──> a pause, longer each time ──> another ──> the same question: nothing was missed
//! ```
//!
//! It begins with the first look-up, before it: what is in the cache was read after the version that is known. Without the
//! application database the cache serves as before. Whether a notification arrives at all is not relied on: a listener asks,
//! too, now and then, which also tells when its connection has broken without a word.

use std::{
    sync::{Mutex, PoisonError, Weak},
    time::Duration,
};

use tenantry_app_db::{AppDb, ChangedPlacements, Error, PlacementWatch};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::{DataSourceManager, Shared};

/// How often a listener asks although it would have been notified.
const LISTENER_ASKS: Duration = Duration::from_secs(30);

/// The longest that connecting, or an answer, may take.
const ANSWER: Duration = Duration::from_secs(15);

/// The longest that an orderly end of the connection may take.
const GOODBYE: Duration = Duration::from_secs(1);

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The task that follows the placements. Dropped, it ends.
pub(super) struct Watch {
    running: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Watch {
    /// Begins to follow what is changed after the version that the application database has now.
    ///
    /// # Errors
    /// When the application database cannot be reached; whoever asks it next tries this again.
    pub(super) async fn begin(shared: &Weak<Shared>, app_db: &AppDb, poll: Duration) -> Result<Self, Error> {
        let known = match app_db.placement_version().await {
            Ok(version) => Some(version),
            Err(error) if error.is_retryable() => return Err(error),
            // It has not been migrated yet.
            Err(_) => None,
        };
        let (stop, stopped) = oneshot::channel();
        let follower = Follower { shared: Weak::clone(shared), app_db: app_db.clone(), poll, known, failures: 0 };
        let task = tokio::spawn(follower.run(stopped));
        Ok(Self { running: Mutex::new(Some((stop, task))) })
    }

    /// Ends it and waits until its connection is closed.
    pub(super) async fn end(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, task)) = running {
            drop(stop);
            let _ = task.await;
        }
    }
}

struct Follower {
    /// Not to keep it alive.
    shared: Weak<Shared>,
    app_db: AppDb,
    poll: Duration,
    known: Option<i64>,
    /// In a row.
    failures: u32,
}

impl Follower {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            let opened = tokio::select! {
                _ = &mut stopped => return,
                opened = timeout(ANSWER, self.app_db.watch_placements()) => opened,
            };
            let failed = match opened {
                Ok(Ok(watch)) => match self.follow(watch, &mut stopped).await {
                    Ok(()) => return,
                    Err(failed) => failed,
                },
                Ok(Err(error)) => Some(error),
                Err(_) => None,
            };
            let pause = self.pause();
            if self.failures == 1 {
                let error = failed.as_ref().map_or_else(|| "no answer in time".to_owned(), |e| crate::with_causes(e));
                tracing::warn!(%error, "changed placements are not noticed until the application database answers again");
            }
            tokio::select! {
                _ = &mut stopped => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// Returns when it was stopped, or when the connection is of no more use; without an error when that did not answer.
    async fn follow(
        &mut self,
        mut watch: PlacementWatch,
        stopped: &mut oneshot::Receiver<()>,
    ) -> Result<(), Option<Error>> {
        loop {
            let asked = tokio::select! {
                // In the midst of an answer there is no goodbye.
                _ = &mut *stopped => return Ok(()),
                asked = timeout(ANSWER, watch.changed_since(self.known)) => asked,
            };
            let (version, changed) = asked.map_err(|_| None)?.map_err(Some)?;
            let Some(shared) = self.shared.upgrade() else { break };
            forget(DataSourceManager { shared }, changed).await;
            self.known = Some(version);
            if std::mem::take(&mut self.failures) > 0 {
                tracing::info!("changed placements are noticed again");
            }
            let next = if watch.listens() { LISTENER_ASKS } else { self.poll };
            tokio::select! {
                _ = &mut *stopped => break,
                heard = timeout(next, watch.notified()) => {
                    if let Ok(Err(lost)) = heard {
                        return Err(Some(lost));
                    }
                }
            }
        }
        let _ = timeout(GOODBYE, watch.close()).await;
        Ok(())
    }

    /// After another failure: twice the last one, up to a limit, and by chance up to a half shorter, so that the processes of a
    /// restarted server do not all come at once.
    fn pause(&mut self) -> Duration {
        let longest = FIRST_PAUSE.saturating_mul(1 << self.failures.min(12)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        let [chance, ..] = Uuid::new_v4().into_bytes();
        longest - longest.mul_f64(f64::from(chance) / 512.0)
    }
}

async fn forget(manager: DataSourceManager, changed: ChangedPlacements) {
    match changed {
        ChangedPlacements::Of(tenants) => {
            for tenant in tenants {
                manager.clear_tenant(tenant).await;
            }
        }
        ChangedPlacements::Any => manager.clear_placements(),
    }
}
