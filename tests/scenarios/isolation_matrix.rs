//! The isolation matrix: every method that reaches a tenant's rows, in every case, over every kind of data source, however it is
//! called.
//!
//! ```text
//! method × {own row, foreign row, unknown id, suspended tenant, forged tenant_id} × {PostgreSQL, behind PgBouncer, SQLite}
//!        × {plain, in a transaction, on a lease, cancelled midway, concurrent}
//! ```
//! Two tenants have rows under the same ids in the same tables. Each cell is called for real and held to the answer that is
//! written down for it; every row of the answer has to be the tenant's own; and somebody neutral looks at both tenants' rows and
//! write log before it and after it, and once more when everything has come to rest. What was measured is rendered into
//! `docs/isolation-matrix.md`, and a public method that has no row here fails a test.

mod calls;
mod cell;
mod fixture;
mod interleaving;
mod measured;
mod methods;
mod page;
mod source;
mod surface;

use std::collections::BTreeSet;

use self::{
    cell::{Case, Context},
    measured::Measured,
    methods::METHODS,
    source::Source,
};

/// Catches an answer that has a foreign row in it, a write that reaches one, and a page that says something else.
#[tokio::test(flavor = "multi_thread")]
async fn the_matrix_holds_and_is_the_one_on_the_page() {
    let sources = Source::ALL.map(|source| tokio::spawn(Measured::measure(source)));
    let mut measured = Vec::new();
    for source in sources {
        measured.extend(source.await.unwrap());
    }
    let wrong: Vec<_> = measured.iter().flat_map(|measured| &measured.wrong).map(String::as_str).collect();
    // A fault spreads: whoever breaks a connection breaks the cells after it too.
    let first = wrong.iter().take(20).copied().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} cells are wrong, the first of them:\n{first}", wrong.len());
    page::compare(&page::render(&measured));
}

/// Catches a context that some method, case or source never meets, and a cell that is not called at all.
#[test]
fn every_pair_of_the_axes_is_covered() {
    let mut pairs = BTreeSet::new();
    for source in Source::ALL {
        for row in &METHODS {
            for case in Case::ALL {
                for context in measured::contexts(source, row.method, case) {
                    pairs.extend([
                        (row.name, case.name()),
                        (row.name, source.name()),
                        (row.name, context.name()),
                        (case.name(), source.name()),
                        (case.name(), context.name()),
                        (source.name(), context.name()),
                    ]);
                }
            }
        }
    }
    let methods = METHODS.iter().map(|row| row.name).collect();
    let (cases, sources) = (Case::ALL.map(Case::name).to_vec(), Source::ALL.map(Source::name).to_vec());
    let contexts = Context::ALL.map(Context::name).to_vec();
    let axes: [Vec<_>; 4] = [methods, cases, sources, contexts];
    let mut missing = Vec::new();
    for (at, one) in axes.iter().enumerate() {
        for other in &axes[at + 1..] {
            missing.extend(
                one.iter()
                    .flat_map(|one| other.iter().map(move |other| (*one, *other)))
                    .filter(|pair| !pairs.contains(pair)),
            );
        }
    }
    // It is read through a handle and not through a transaction, and its call has no place for a tenant.
    let log = "TenantDb::write_log";
    let not_there = [Case::Forged.name(), Context::Transaction.name(), Context::Leased.name()];
    assert_eq!(missing, not_there.map(|other| (log, other)));
}
