//! Before the first statement on a tenant's rows, row-level security of the data source is measured; where it does not hold,
//! nothing is run.
//!
//! The catalogs are measured, which takes some tens of milliseconds once per data source and login. The attack is left to the
//! operators' command: a process that starts must not write, not even what it rolls back.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tenantry_connection::{Error as ConnectionError, Mode, Pool, Session};
use tokio::sync::OnceCell;

use crate::{Error, Finding, IsolationReport, TenantColumn};

/// How a refusal is remembered: a data source that does not hold would otherwise be measured for every request.
const REFUSED_FOR: Duration = Duration::from_secs(5);

/// What is measured, and what is put up with.
#[derive(Debug, Clone, Default)]
pub(crate) struct AdmissionRules {
    pub(crate) column: TenantColumn,
    /// Objects whose findings are put up with, as findings name them.
    pub(crate) exceptions: Vec<String>,
}

/// What was found of one data source and restricted login.
#[derive(Debug)]
pub(crate) struct Admission {
    role: String,
    rules: Arc<AdmissionRules>,
    holds: OnceCell<()>,
    refused: Mutex<Option<(Instant, Arc<[Finding]>)>>,
    /// When a measurement last failed for want of a connection, and how.
    unconnected: Mutex<Option<(Instant, ConnectionError)>>,
}

impl Admission {
    pub(crate) fn new(role: &str, rules: &Arc<AdmissionRules>) -> Self {
        Self {
            role: role.to_owned(),
            rules: Arc::clone(rules),
            holds: OnceCell::new(),
            refused: Mutex::default(),
            unconnected: Mutex::default(),
        }
    }

    /// Measures once; of many callers one. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::NotIsolated`] with what was found; [`Error::Connection`] when it could not be measured.
    pub(crate) async fn check(&self, pool: &Pool) -> Result<(), Error> {
        if self.holds.initialized() {
            return Ok(());
        }
        // Boxed, so that it does not make every caller's future larger.
        let asked = Instant::now();
        match Box::pin(self.holds.get_or_try_init(|| self.measure(pool, asked))).await {
            Ok(()) | Err(NotAdmitted::Empty) => Ok(()),
            Err(NotAdmitted::Refused(error)) => Err(error),
        }
    }

    async fn measure(&self, pool: &Pool, asked: Instant) -> Result<(), NotAdmitted> {
        // Who waited while it failed for another fails with it: one after the other they would wait without end, and a server
        // that refuses a login would be asked once more for each of them.
        if let Some(error) = self.unconnected_since(asked) {
            return Err(Error::from(error).into());
        }
        let refused = |findings| Error::NotIsolated { data_source: pool.url().clone(), findings };
        let remembered = self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, findings)) = remembered
            && at.elapsed() < REFUSED_FOR
        {
            return Err(refused(findings).into());
        }
        let begun = pool.begin(&Session::default(), Mode::Read).await;
        let mut transaction = begun.map_err(|error| {
            let failed = without_source(&error).map(|error| (Instant::now(), error));
            *self.unconnected.lock().unwrap_or_else(PoisonError::into_inner) = failed;
            Error::from(error)
        })?;
        let report = IsolationReport::measure(&mut transaction, &self.role, &self.rules.column);
        let report = report.await.map_err(Error::from)?;
        transaction.commit().await.map_err(Error::from)?;
        let findings: Arc<[Finding]> = report.findings_except(&self.rules.exceptions).cloned().collect();
        if findings.is_empty() {
            return if report.tables.is_empty() { Err(NotAdmitted::Empty) } else { Ok(()) };
        }
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), Arc::clone(&findings)));
        Err(refused(findings).into())
    }

    fn unconnected_since(&self, moment: Instant) -> Option<ConnectionError> {
        let unconnected = self.unconnected.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, error) = unconnected.as_ref()?;
        if *at >= moment { without_source(error) } else { None }
    }
}

/// The same failure to get a connection, once more; the driver's words are the first one's.
fn without_source(error: &ConnectionError) -> Option<ConnectionError> {
    match error {
        ConnectionError::Connect { data_source, reason, source: _ } => {
            Some(ConnectionError::Connect { data_source: data_source.clone(), reason: *reason, source: None })
        }
        ConnectionError::Exhausted { data_source, cap, waiting, held, share, waited_ms } => {
            Some(ConnectionError::Exhausted {
                data_source: data_source.clone(),
                cap: *cap,
                waiting: *waiting,
                held: *held,
                share: *share,
                waited_ms: *waited_ms,
            })
        }
        _ => None,
    }
}

enum NotAdmitted {
    /// There is nothing to keep apart yet; to be measured again when there is.
    Empty,
    Refused(Error),
}

impl From<Error> for NotAdmitted {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}
