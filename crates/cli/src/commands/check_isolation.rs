//! `check-isolation`: what keeps tenants apart, measured in the catalogs and then attacked.

use tenantry::{
    connection::DataSourceUrl,
    data_source::Finding,
    operations::{self, CheckedFinding, DataSourceIsolation, IsolationCheck, IsolationScope, IsolationVerdict},
};

use super::{Format, tenants};
use crate::{
    Application, Failure, Outcome, answer,
    text::{Cell, Mark, Text},
    with_tenantry,
};

/// Measures what keeps tenants apart in every data source, and attacks it as the restricted role
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  {program} check-isolation\n  {program} check-isolation --tenant acme --json\n\n\
                  Measured are the policies, the restricted role, keys and references, the triggers of the fence and of the\n\
                  write log, whatever reads as somebody else, and default privileges. Then made-up tenants attack every tenant\n\
                  table: nothing is left, every transaction is rolled back, and what would have to wait is given up. Each\n\
                  finding names its object and the statement that mends it; run the statements in their order.\n\
                  TENANTRY_ISOLATION_EXCEPTIONS names objects that are as they are on purpose.\n\n\
                  Exit status: 0 nothing was found, 1 something was, 2 a data source could not be checked, or could not run.")]
pub(crate) struct Args {
    /// Only the data source of this tenant, by id or subdomain; may be given several times
    #[arg(long, value_name = "TENANT")]
    tenant: Vec<String>,
    /// Only this data source
    #[arg(long, value_name = "URL")]
    data_source: Option<String>,
    #[command(flatten)]
    pub(super) format: Format,
}

pub(crate) async fn run<A: Application>(args: Args) -> Result<Outcome, Failure> {
    with_tenantry::<A, _, _>(async |tenantry| {
        // A URL that is wrong may hold a password, so that it is not repeated; the error says what is wrong with it.
        let parse = |url: &String| DataSourceUrl::parse(url);
        let data_source = args.data_source.as_ref().map(parse).transpose();
        let data_source = data_source.map_err(|error| Failure::argument("--data-source", error))?;
        let scope = IsolationScope { tenants: tenants::chosen(tenantry, &args.tenant).await?, data_source };
        let names = tenants::Names::read(tenantry).await?;
        let check = operations::check_isolation(tenantry, &scope).await?;
        if let (Some(url), true) = (&scope.data_source, check.data_sources.is_empty()) {
            return Err(Failure::Argument {
                argument: "--data-source",
                problem: format!("no tenant in question is at {url}"),
                help: Some("`list-tenants` shows which data source each tenant has".to_owned()),
            });
        }
        answer::<A, _>(&check, args.format.json, |check| text(check, &names))?;
        let unchecked = check.count(IsolationVerdict::Unchecked);
        if unchecked > 0 && check.count(IsolationVerdict::Found) == 0 {
            return Ok(Outcome::Unchecked);
        }
        Ok(Outcome::of(check.passed()))
    })
    .await
}

/// A table of the data sources, then everything that is to be said of one, a line each.
fn text(check: &IsolationCheck, names: &tenants::Names) -> Text {
    let rows: Vec<_> = check
        .data_sources
        .iter()
        .map(|source| {
            let accepted = source.findings.iter().filter(|checked| checked.accepted).count();
            [
                Cell::from(source.data_source.to_string()),
                Cell::optional(source.role.as_ref()),
                Cell::from(source.tenants.len()),
                measured(source, source.tables),
                measured(source, source.attacks),
                measured(source, source.findings.len() - accepted),
                measured(source, accepted),
                match source.verdict {
                    IsolationVerdict::Holds => Cell::marked(Mark::Good, source.verdict.to_string()),
                    IsolationVerdict::PredicateOnly => Cell::from(source.verdict.to_string()),
                    IsolationVerdict::Found | IsolationVerdict::Unchecked => {
                        Cell::marked(Mark::Bad, source.verdict.to_string().to_uppercase())
                    }
                },
            ]
        })
        .collect();
    let heading =
        ["data source", "restricted role", "tenants", "tables", "attacks", "findings", "accepted", "isolation"];
    let mut text = Text::new();
    text.table(heading, &rows);
    for source in &check.data_sources {
        let url = &source.data_source;
        for same in source.findings.chunk_by(is_told_with) {
            let [first, ..] = same else { continue };
            let (mark, kind) = if first.accepted { (Mark::Warning, "accepted") } else { (Mark::Bad, "finding") };
            let Finding { object, problem, remedy, .. } = &first.finding;
            let attacks: Vec<_> = same.iter().filter_map(|checked| checked.finding.attack.as_deref()).collect();
            let problem = match attacks.as_slice() {
                [_, _, ..] => format!("attacks went through: {} (--json tells more)", attacks.join(", ")),
                _ => problem.clone(),
            };
            text.marked(mark, kind, format!("{object} in {url}: {problem}\n  mend: {remedy}"));
        }
        for error in &source.errors {
            let tenants: Vec<_> = source.tenants.iter().take(3).map(|tenant| names.of(*tenant)).collect();
            let tenants = if tenants.is_empty() { "no tenant".to_owned() } else { tenants.join(", ") };
            text.marked(Mark::Bad, "not checked", format!("{url} ({tenants}): {error}"));
        }
        for note in &source.notes {
            text.line(format!("note: {url}: {note}"));
        }
    }
    for exception in &check.unused_exceptions {
        let what = format!("isolation_exceptions names {exception}, of which nothing was found; take it out");
        text.marked(Mark::Warning, "warning", what);
    }
    let count = |verdict| check.count(verdict);
    let (found, unchecked) = (count(IsolationVerdict::Found), count(IsolationVerdict::Unchecked));
    let all = check.data_sources.len();
    if unchecked > 0 {
        text.marked(Mark::Bad, "error", format!("{unchecked} of {all} data sources could not be checked"));
    }
    text.line(format!("{all} data sources, {found} with findings, {unchecked} not checked"));
    text
}

/// Whether two findings are told in one line: attacks on one object, of which there are many once something is open.
fn is_told_with(one: &CheckedFinding, other: &CheckedFinding) -> bool {
    let (one, other) = (&one.finding, &other.finding);
    one.attack.is_some() && other.attack.is_some() && one.object == other.object && one.remedy == other.remedy
}

/// A number, or `-` where nothing was measured.
fn measured(source: &DataSourceIsolation, number: usize) -> Cell {
    if source.tables == 0 && number == 0 { Cell::from("-") } else { Cell::from(number) }
}
