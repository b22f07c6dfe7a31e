//! What only a look at the other tenants of the same database can tell.
//!
//! Two URLs are one database when they differ in how the connection is secured, or when a row of `data_sources` names the
//! one as the way past the other's pooler.

use std::collections::{BTreeMap, BTreeSet};

use tenantry_app_db::entities::data_sources;
use tenantry_connection::{DataSourceUrl, Engine};

use super::{Findings, Subject};

pub(super) fn check(subjects: &[Subject<'_>], sources: &[data_sources::Model], findings: &mut Findings) {
    let databases = databases(sources);
    let mut occupants: BTreeMap<String, Vec<&Subject<'_>>> = BTreeMap::new();
    for subject in subjects {
        if let Some(url) = &subject.url {
            occupants.entry(database_of(&databases, url)).or_default().push(subject);
        }
    }
    for (database, occupants) in &occupants {
        let exclusive = sources.iter().find(|source| {
            source.kind.holds_one_tenant()
                && DataSourceUrl::parse(&source.url).is_ok_and(|url| database_of(&databases, &url) == *database)
        });
        for subject in occupants {
            findings.about(Some(subject.row));
            let others: Vec<_> = occupants.iter().filter(|other| other.row.id != subject.row.id).copied().collect();
            check_exclusive(exclusive, &others, findings);
            check_keys(subject, &others, findings);
            check_roles(subject, &others, findings);
            if exclusive.is_none() && !others.is_empty() && is_sqlite(subject) {
                findings.warning(
                    "data_source_url",
                    format!("the SQLite file also holds {}: only the predicate keeps them apart", named(&others)),
                    "give every tenant a file of its own, unless this is for development",
                );
            }
        }
    }
}

fn check_exclusive(exclusive: Option<&data_sources::Model>, others: &[&Subject<'_>], findings: &mut Findings) {
    if let (Some(source), [_, ..]) = (exclusive, others) {
        findings.error(
            "data_source_url",
            format!("the {} data source {} also holds {}", source.kind.as_str(), source.url, named(others)),
            "move one of them away, or make the data source a shared one",
        );
    }
}

fn check_keys(subject: &Subject<'_>, others: &[&Subject<'_>], findings: &mut Findings) {
    let Some(key) = &subject.key else { return };
    let same: Vec<_> = others.iter().filter(|other| other.key.as_ref() == Some(key)).copied().collect();
    if !same.is_empty() {
        findings.error(
            "tenant_id_in_data_source",
            format!("in this data source {} has the id {key} as well: each sees the other's rows", named(&same)),
            "give each an id of its own there, after sorting out whose rows are whose",
        );
    }
}

/// The policies of a data source are written for one role.
fn check_roles(subject: &Subject<'_>, others: &[&Subject<'_>], findings: &mut Findings) {
    let Some(login) = &subject.restricted else { return };
    let different: Vec<_> = others
        .iter()
        .filter(|other| other.restricted.as_ref().is_some_and(|theirs| theirs.user != login.user))
        .copied()
        .collect();
    if !different.is_empty() {
        findings.warning(
            "data_source_anon_key",
            format!(
                "it logs in as {}, and {} in the same data source as another role: the policies are written for one role",
                login.user,
                named(&different)
            ),
            "seal the login of the data source's restricted role for all of its tenants",
        );
    }
}

fn is_sqlite(subject: &Subject<'_>) -> bool {
    subject.url.as_ref().is_some_and(|url| url.engine() == Engine::Sqlite)
}

fn named(subjects: &[&Subject<'_>]) -> String {
    let mut names: Vec<&str> = subjects.iter().map(|subject| subject.row.subdomain.as_str()).collect();
    let more = names.len().saturating_sub(3);
    names.truncate(3);
    let listed = names.join(", ");
    match (names.len() + more, more) {
        (1, _) => format!("tenant {listed}"),
        (_, 0) => format!("tenants {listed}"),
        (_, more) => format!("tenants {listed} and {more} more"),
    }
}

/// Addresses that are one database, where a row of `data_sources` says so.
fn databases(sources: &[data_sources::Model]) -> Vec<BTreeSet<String>> {
    let mut groups: Vec<BTreeSet<String>> = Vec::new();
    for source in sources {
        let mut group: BTreeSet<String> = [Some(source.url.as_str()), source.direct_url.as_deref()]
            .into_iter()
            .flatten()
            .filter_map(|url| Some(DataSourceUrl::parse(url).ok()?.address().to_owned()))
            .collect();
        let (same, others) = groups.into_iter().partition(|known: &BTreeSet<String>| !known.is_disjoint(&group));
        groups = others;
        group.extend(same.into_iter().flatten());
        groups.push(group);
    }
    groups
}

fn database_of(databases: &[BTreeSet<String>], url: &DataSourceUrl) -> String {
    let address = url.address();
    let group = databases.iter().find(|group| group.contains(address));
    group.and_then(BTreeSet::first).map_or(address, String::as_str).to_owned()
}
