//! `check-isolation`: every data source measured and attacked as each of its restricted logins, whatever comes of the others.
//!
//! ```text
//! tenants ── (data source, restricted login), each once ── measure ── attack ── findings, some of them accepted
//! ```
//!
//! What is accepted comes from the settings, by the names of objects. Knows no check: they are `IsolationReport`'s.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;
use tenantry_connection::{DataSourceUrl, Engine, Mode, Pool, Session};
use tenantry_credential::Login;
use tenantry_data_source::{Finding, IsolationReport, TenantColumn, with_causes};
use uuid::Uuid;

use super::{databases::data_source_pool, migrate::sources};
use crate::{Error, Tenantry};

/// How long one data source may take: one that stops answering must not hold up the others.
const DEADLINE: Duration = Duration::from_secs(120);

/// Which data sources to check.
#[derive(Debug, Clone, Default)]
pub struct IsolationScope {
    /// Those of these tenants; of all where none is given.
    pub tenants: Vec<Uuid>,
    /// Only this one.
    pub data_source: Option<DataSourceUrl>,
}

/// What was found of all data sources.
#[derive(Debug, Clone, Serialize)]
pub struct IsolationCheck {
    /// Each data source once for each of its restricted logins, in the order of their URLs.
    pub data_sources: Vec<DataSourceIsolation>,
    /// Exceptions of the settings that nothing was found of: mistyped, or not needed any more. Empty where not everything was
    /// checked.
    pub unused_exceptions: Vec<String>,
}

/// One data source as one restricted login sees it.
#[derive(Debug, Clone, Serialize)]
pub struct DataSourceIsolation {
    /// Where it is.
    pub data_source: DataSourceUrl,
    /// The restricted role.
    pub role: Option<String>,
    /// The tenants that it serves.
    pub tenants: Vec<Uuid>,
    /// What came of it.
    pub verdict: IsolationVerdict,
    /// How many tables have the tenant column.
    pub tables: usize,
    /// How many attacks were carried out.
    pub attacks: usize,
    /// What is not as it must be.
    pub findings: Vec<CheckedFinding>,
    /// What is no fault and worth knowing.
    pub notes: Vec<String>,
    /// Why something could not be checked, with its causes.
    pub errors: Vec<String>,
}

/// What came of one data source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IsolationVerdict {
    /// Everything that was found, if anything, is accepted.
    Holds,
    /// Something was found.
    Found,
    /// Nothing stands between tenants but the predicate of their statements: there are no policies to be checked. No fault by
    /// itself.
    PredicateOnly,
    /// It could not be checked, or not all of it.
    Unchecked,
}

/// A finding, and whether the settings accept it.
#[derive(Debug, Clone, Serialize)]
pub struct CheckedFinding {
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
    /// Its object is among the exceptions.
    pub accepted: bool,
}

impl IsolationCheck {
    /// Whether everything could be checked, and nothing was found that is not accepted.
    pub fn passed(&self) -> bool {
        self.count(IsolationVerdict::Found) + self.count(IsolationVerdict::Unchecked) == 0
    }

    /// How many data sources it came to this with.
    pub fn count(&self, verdict: IsolationVerdict) -> usize {
        self.data_sources.iter().filter(|source| source.verdict == verdict).count()
    }
}

impl fmt::Display for IsolationVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Holds => "holds",
            Self::Found => "does not hold",
            Self::PredicateOnly => "predicate only",
            Self::Unchecked => "not checked",
        })
    }
}

/// Checks the data sources in scope. Each is measured over a restricted login, and attacked with it; the attacks are rolled back
/// and leave nothing behind. Safe in production: what waits or takes long is given up.
///
/// # Errors
/// [`Error::Store`] when the tenants could not be listed. A data source's own failure is in its entry.
pub async fn check_isolation(tenantry: &Tenantry, scope: &IsolationScope) -> Result<IsolationCheck, Error> {
    let exceptions = &tenantry.settings().isolation_exceptions;
    let mut data_sources = Vec::new();
    for target in targets(tenantry, scope).await? {
        data_sources.push(check(tenantry, target, exceptions).await);
    }
    let everything = scope.tenants.is_empty()
        && scope.data_source.is_none()
        && data_sources.iter().all(|source| source.verdict != IsolationVerdict::Unchecked);
    let used = |exception: &String| {
        let mut findings = data_sources.iter().flat_map(|source| &source.findings);
        findings.any(|checked| checked.finding.object == *exception)
    };
    let unused_exceptions = exceptions.iter().filter(|exception| everything && !used(exception)).cloned().collect();
    Ok(IsolationCheck { data_sources, unused_exceptions })
}

/// Measures a data source over a pool of its restricted login.
pub(super) async fn measure(
    pool: &Pool,
    login: &Login,
    column: &TenantColumn,
) -> Result<IsolationReport, tenantry_connection::Error> {
    let mut transaction = pool.begin(&Session::default(), Mode::Read).await?;
    let report = IsolationReport::measure(&mut transaction, &login.user, column).await?;
    transaction.commit().await?;
    Ok(report)
}

/// A data source and how its tenants get in.
struct Target {
    data_source: DataSourceUrl,
    tenants: Vec<Uuid>,
    way: Way,
}

enum Way {
    /// With a login that policies apply to.
    Restricted(Login),
    /// Without one: an SQLite file, or the application database for tenants that have no data source yet.
    PredicateOnly,
    /// Not at all.
    None(String),
}

/// Every data source in scope, once for each restricted login that is used there: a login that is weaker than its neighbours'
/// is weak for all of them.
async fn targets(tenantry: &Tenantry, scope: &IsolationScope) -> Result<Vec<Target>, Error> {
    let in_scope = |tenant: &Uuid| scope.tenants.is_empty() || scope.tenants.contains(tenant);
    let wanted = |url: &DataSourceUrl| scope.data_source.as_ref().is_none_or(|wanted| wanted == url);
    let settings = tenantry.settings();
    let mut targets = Vec::new();
    for source in sources(tenantry).await?.into_iter().filter(|source| wanted(&source.url)) {
        let target = |tenants, way| Target { data_source: source.url.clone(), tenants, way };
        let mut by_login: BTreeMap<[u8; 32], (Login, Vec<Uuid>)> = BTreeMap::new();
        let mut without_login = Vec::new();
        for tenant in source.tenants.iter().copied().filter(in_scope) {
            match tenantry.manager().restricted_login(tenant).await {
                Ok(Some(login)) => {
                    by_login.entry(login.fingerprint()).or_insert_with(|| (login, Vec::new())).1.push(tenant);
                }
                Ok(None) => without_login.push(tenant),
                Err(error) => targets.push(target(vec![tenant], Way::None(with_causes(&error)))),
            }
        }
        // The default data source before its first tenant.
        let default = settings.default_data_source.as_ref().and_then(|default| default.logins.as_ref());
        if let (true, true, Some(logins)) = (source.tenants.is_empty(), scope.tenants.is_empty(), default) {
            by_login.insert(logins.restricted.fingerprint(), (logins.restricted.clone(), Vec::new()));
        }
        if !without_login.is_empty() {
            targets.push(target(without_login, Way::PredicateOnly));
        }
        targets.extend(by_login.into_values().map(|(login, tenants)| target(tenants, Way::Restricted(login))));
    }
    let application = &settings.application_database.url;
    if settings.fallback_to_application_database && wanted(application) {
        let tenants = tenantry.app_db().tenants().await?.into_iter();
        let unplaced = tenants.filter(|tenant| tenant.data_source_url.is_none()).map(|tenant| tenant.id);
        let tenants: Vec<_> = unplaced.filter(in_scope).collect();
        if !tenants.is_empty() {
            targets.push(Target { data_source: application.clone(), tenants, way: Way::PredicateOnly });
        }
    }
    targets.sort_by(|one, other| one.data_source.cmp(&other.data_source));
    Ok(targets)
}

async fn check(tenantry: &Tenantry, target: Target, exceptions: &[String]) -> DataSourceIsolation {
    let Target { data_source, tenants, way } = target;
    let mut checked = DataSourceIsolation {
        data_source,
        role: None,
        tenants,
        verdict: IsolationVerdict::Unchecked,
        tables: 0,
        attacks: 0,
        findings: Vec::new(),
        notes: Vec::new(),
        errors: Vec::new(),
    };
    let login = match way {
        Way::Restricted(login) => login,
        Way::PredicateOnly => {
            checked.verdict = IsolationVerdict::PredicateOnly;
            checked.notes.push(checked.predicate_only());
            return checked;
        }
        Way::None(error) => {
            checked.errors.push(error);
            return checked;
        }
    };
    checked.role = Some(login.user.clone());
    let mut report = None;
    let work = measure_and_attack(tenantry, &checked.data_source, &login, &mut report);
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => checked.errors.push(error),
        Err(_) => checked.errors.push(format!("no answer within {} s", DEADLINE.as_secs())),
    }
    // What was measured before something failed is told as well.
    if let Some(report) = report {
        checked.take(report, tenantry.manager().tenant_column(), exceptions);
    }
    let open = checked.findings.iter().any(|checked| !checked.accepted);
    checked.verdict = match (open, checked.errors.is_empty()) {
        (true, _) => IsolationVerdict::Found,
        (false, true) => IsolationVerdict::Holds,
        (false, false) => IsolationVerdict::Unchecked,
    };
    checked
}

async fn measure_and_attack(
    tenantry: &Tenantry,
    url: &DataSourceUrl,
    login: &Login,
    report: &mut Option<IsolationReport>,
) -> Result<(), String> {
    let column = tenantry.manager().tenant_column();
    let pool = data_source_pool(tenantry, url, Some(login), false).await.map_err(|error| with_causes(&error))?;
    let work = async {
        let report = report.insert(measure(&pool, login, column).await?);
        report.attack(&pool, column).await
    };
    let done = work.await;
    pool.close().await;
    done.map_err(|error: tenantry_connection::Error| with_causes(&error))
}

impl DataSourceIsolation {
    fn predicate_only(&self) -> String {
        let tenants = self.tenants.len();
        match self.data_source.engine() {
            Engine::Sqlite if tenants <= 1 => {
                "an SQLite file has no policies; its tenant has no neighbour in it".to_owned()
            }
            Engine::Sqlite => {
                format!("an SQLite file has no policies; {tenants} tenants share it, which is for development")
            }
            Engine::Postgres => {
                format!("{tenants} tenants are served from the application database until they are split off")
            }
        }
    }

    fn take(&mut self, report: IsolationReport, column: &TenantColumn, exceptions: &[String]) {
        self.tables = report.tables.len();
        self.attacks = report.attacks;
        let accept = |finding: Finding| CheckedFinding { accepted: exceptions.contains(&finding.object), finding };
        self.findings = report.findings.into_iter().map(accept).collect();
        if report.tables.is_empty() {
            self.findings.push(accept(Finding {
                object: self.data_source.to_string(),
                problem: format!(
                    "no table in it has the column {}, so that nothing is kept apart and nothing is proved",
                    column.name
                ),
                remedy: "run `migrate up --data-sources`".to_owned(),
                attack: None,
            }));
        }
        self.notes = report.notes;
        self.errors.extend(report.undecided);
    }
}
