//! A server that no longer answers. What waits for it has no deadline of its own: a copy of an hour and one that the network has
//! swallowed look alike from here. So each end is asked something else meanwhile, over another connection.

use std::{future::Future, time::Duration};

use sea_orm::{DbBackend, Statement};
use tenantry_connection::{Engine, Mode, Session};

use crate::{Endpoint, Error, Side};

/// Both ends while a step runs.
pub(super) struct Silence {
    ends: [(Side, Endpoint); 2],
    longest: Duration,
}

impl Silence {
    /// Watches both ends, of which each shall answer within `longest`.
    pub(super) fn watch(source: &Endpoint, target: &Endpoint, longest: Duration) -> Self {
        Self { ends: [(Side::Source, source.clone()), (Side::Target, target.clone())], longest }
    }

    /// The step, ended where one end no longer answers.
    pub(super) fn ends<T>(
        self,
        step: impl Future<Output = Result<T, Error>>,
    ) -> impl Future<Output = Result<T, Error>> {
        // A step is a large future, and would be within each of those that it is within.
        let step = Box::pin(step);
        async move {
            tokio::select! {
                biased;
                done = step => done,
                side = self.falls() => Err(Error::Silent { side, waited_s: self.longest.as_secs() }),
            }
        }
    }

    async fn falls(&self) -> Side {
        loop {
            tokio::time::sleep(self.longest / 2).await;
            for (side, end) in &self.ends {
                let status = end.pool.status();
                // A file is no server, and without a free connection nothing can be asked: then the step is what uses them.
                if end.engine() == Engine::Sqlite || status.in_use >= status.max {
                    continue;
                }
                if tokio::time::timeout(self.longest, answers(end)).await.is_err() {
                    return *side;
                }
            }
        }
    }
}

/// Returns once the server has said anything, and be it a refusal.
async fn answers(end: &Endpoint) {
    let asked = async {
        let mut transaction = end.pool.begin(&Session::default(), Mode::Read).await?;
        transaction.query_one(Statement::from_string(DbBackend::Postgres, "SELECT 1")).await?;
        transaction.rollback().await
    };
    if let Err(tenantry_connection::Error::Connect { .. }) = asked.await {
        // Nobody was there to refuse it.
        std::future::pending::<()>().await;
    }
}
