//! `cargo xtask check-isolation`: what keeps tenants apart, measured in the catalogs and then attacked.

use tenantry::{
    connection::DataSourceUrl,
    data_source::Finding,
    operations::{self, CheckedFinding, DataSourceIsolation, IsolationCheck, IsolationScope, IsolationVerdict},
};

use super::{Outcome, tenants};
use crate::{failure::Failure, operator, table};

/// Measures what keeps tenants apart in every data source, and attacks it as the restricted role
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo xtask check-isolation\n  cargo xtask check-isolation --tenant acme --json\n\n\
                  Measured are the policies, the restricted role, keys and references, the triggers of the fence and of the\n\
                  write log, whatever reads as somebody else, and default privileges. Then made-up tenants attack every tenant\n\
                  table: nothing is left, every transaction is rolled back, and what would have to wait is given up. Each\n\
                  finding names its object and the statement that mends it; run the statements in their order.\n\
                  TENANTRY_ISOLATION_EXCEPTIONS names objects that are as they are on purpose.\n\n\
                  Exit status: 0 nothing was found, 1 something was, 2 a data source could not be checked, or could not run."
)]
pub(crate) struct Args {
    /// Only the data source of this tenant, by id or subdomain; may be given several times
    #[arg(long, value_name = "TENANT")]
    tenant: Vec<String>,
    /// Only this data source
    #[arg(long, value_name = "URL")]
    data_source: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> Result<Outcome, Failure> {
    operator::with_tenantry(async |tenantry| {
        // A URL that is wrong may hold a password, so that it is not repeated; the error says what is wrong with it.
        let parse = |url: &String| DataSourceUrl::parse(url);
        let data_source = args.data_source.as_ref().map(parse).transpose();
        let data_source = data_source.map_err(|error| Failure::Argument(format!("--data-source: {error}")))?;
        let scope = IsolationScope { tenants: tenants::chosen(tenantry, &args.tenant).await?, data_source };
        let names = tenants::Names::read(tenantry).await?;
        let check = operations::check_isolation(tenantry, &scope).await?;
        if let (Some(url), true) = (&scope.data_source, check.data_sources.is_empty()) {
            return Err(Failure::Argument(format!("--data-source: no tenant in question is at {url}")));
        }
        operator::answer(&check, args.json, |check| text(check, &names))?;
        let unchecked = check.count(IsolationVerdict::Unchecked);
        if unchecked > 0 && check.count(IsolationVerdict::Found) == 0 {
            return Err(Failure::Unchecked { unchecked, of: check.data_sources.len() });
        }
        Ok(Outcome::of(check.passed()))
    })
    .await
}

/// A table of the data sources, then everything that is to be said of one, a line each.
fn text(check: &IsolationCheck, names: &tenants::Names) -> String {
    let rows: Vec<_> = check
        .data_sources
        .iter()
        .map(|source| {
            let accepted = source.findings.iter().filter(|checked| checked.accepted).count();
            [
                source.data_source.to_string(),
                source.role.clone().unwrap_or_else(|| "-".to_owned()),
                source.tenants.len().to_string(),
                measured(source, source.tables),
                measured(source, source.attacks),
                measured(source, source.findings.len() - accepted),
                measured(source, accepted),
                match source.verdict {
                    IsolationVerdict::Holds | IsolationVerdict::PredicateOnly => source.verdict.to_string(),
                    IsolationVerdict::Found | IsolationVerdict::Unchecked => source.verdict.to_string().to_uppercase(),
                },
            ]
        })
        .collect();
    let heading =
        ["data source", "restricted role", "tenants", "tables", "attacks", "findings", "accepted", "isolation"];
    let mut text = table::render(heading, &rows);
    for source in &check.data_sources {
        let url = &source.data_source;
        for same in source.findings.chunk_by(is_told_with) {
            let [first, ..] = same else { continue };
            let kind = if first.accepted { "accepted" } else { "finding" };
            let Finding { object, problem, remedy, .. } = &first.finding;
            let attacks: Vec<_> = same.iter().filter_map(|checked| checked.finding.attack.as_deref()).collect();
            let problem = match attacks.as_slice() {
                [_, _, ..] => format!("attacks went through: {} (--json tells more)", attacks.join(", ")),
                _ => problem.clone(),
            };
            text += &format!("\n{kind}: {object} in {url}: {problem}\n  mend: {remedy}");
        }
        for error in &source.errors {
            let tenants: Vec<_> = source.tenants.iter().take(3).map(|tenant| names.of(*tenant)).collect();
            let tenants = if tenants.is_empty() { "no tenant".to_owned() } else { tenants.join(", ") };
            text += &format!("\nnot checked: {url} ({tenants}): {error}");
        }
        for note in &source.notes {
            text += &format!("\nnote: {url}: {note}");
        }
    }
    for exception in &check.unused_exceptions {
        text += &format!("\nwarning: isolation_exceptions names {exception}, of which nothing was found; take it out");
    }
    let count = |verdict| check.count(verdict);
    let (found, unchecked) = (count(IsolationVerdict::Found), count(IsolationVerdict::Unchecked));
    text + &format!("\n{} data sources, {found} with findings, {unchecked} not checked", check.data_sources.len())
}

/// Whether two findings are told in one line: attacks on one object, of which there are many once something is open.
fn is_told_with(one: &CheckedFinding, other: &CheckedFinding) -> bool {
    let (one, other) = (&one.finding, &other.finding);
    one.attack.is_some() && other.attack.is_some() && one.object == other.object && one.remedy == other.remedy
}

/// A number, or `-` where nothing was measured.
fn measured(source: &DataSourceIsolation, number: usize) -> String {
    if source.tables == 0 && number == 0 { "-".to_owned() } else { number.to_string() }
}
