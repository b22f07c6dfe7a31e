//! What a transfer would copy, and every reason not to. A plan is data: nothing is changed by making one, and applying it is
//! another module's work.

mod condition;
mod constraints;
mod contents;
mod figures;
mod fingerprint;
mod note;
mod order;
mod outside;
mod reference;
mod refusal;
pub(crate) mod stored;
mod structure;
mod taken;
mod trial;

use serde::{Deserialize, Serialize};
use tenantry_connection::{Engine, Transaction};
use tenantry_realm::TenantKey;
use uuid::Uuid;

pub use figures::Estimate;
pub use note::Note;
pub use reference::PlannedReference;
pub use refusal::{Reference, Refusal};
pub(crate) use structure::{Group, Pair, Structure};

use crate::{
    Endpoint, Error, Options, Progress, Side, catalog,
    fence::{self, Holder},
    kind::Kind,
    rows::ask,
};

/// What would be copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The tenant, as the application database knows it; none in a plan that is about two databases only.
    pub tenant: Option<Uuid>,
    /// The epoch of the placement that it was made against.
    pub expected_epoch: Option<i64>,
    /// Where the rows are.
    pub source: End,
    /// Where they would go.
    pub target: End,
    /// Every tenant table of the source, empty ones too, parents before children. The write log comes last.
    pub tables: Vec<PlannedTable>,
    /// Tables without a tenant column that are copied whole beforehand, parents before children.
    pub reference_tables: Vec<PlannedReference>,
    /// Tables of the source that hold no tenant's rows and are left alone.
    pub left_out: Vec<String>,
    /// How much it is, and how long that may take.
    pub estimate: Estimate,
    /// What is worth knowing and no reason not to copy.
    pub notes: Vec<Note>,
    /// Every reason not to copy. Empty means that the copy may begin.
    pub refusals: Vec<Refusal>,
    /// SHA-256 over the tenant's ids at both ends and everything that the catalogs say of the tables: columns, types, keys,
    /// references, checks, partitions, the application's triggers. Another plan with the same one was made against the same.
    pub fingerprint: String,
}

/// One end, as the plan found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The canonical URL.
    pub url: String,
    /// The schema.
    pub schema: String,
    /// The tenant's id there.
    pub tenant: TenantKey,
    /// The column that holds it.
    pub tenant_column: String,
    /// The server's version, as it prints it.
    pub version: String,
}

/// A table to be copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedTable {
    /// Its name, on both sides.
    pub name: String,
    /// The tenant's rows in the source.
    pub rows: u64,
    /// About how many bytes these rows take in the source, without indexes. Where SQLite is on either side, the bytes of
    /// their texts; otherwise the tenant's share, by rows, of what the table takes on disk: all of it where the server has
    /// never counted the table's rows.
    pub bytes: u64,
    /// The tenant's rows that the target holds already. A row that equals its source is left as it is; one that differs is
    /// never overwritten and is reported by the verification.
    pub already_there: u64,
    /// It is the write log, which is counted apart from the tenant's records.
    pub log: bool,
    /// The columns, beside the tenant column, that tell its rows apart.
    pub key: Vec<String>,
    /// The columns that are compared, in the source's order.
    pub columns: Vec<PlannedColumn>,
}

/// A column to be compared and, unless the target computes it, copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedColumn {
    /// Its name, on both sides.
    pub name: String,
    /// What it holds in the source.
    pub source: Kind,
    /// What it holds in the target.
    pub target: Kind,
    /// Whether it is written, or computed by the target.
    pub copied: bool,
}

impl Plan {
    /// Rows to be copied, without the write log.
    pub fn records(&self) -> u64 {
        self.tables.iter().filter(|table| !table.log).map(|table| table.rows).sum()
    }

    /// Whether another plan, made now, is about the same: the tenant, its placement, both ends and their tables. Rows may have
    /// been written in between.
    ///
    /// # Errors
    /// [`Error::Request`] that says what is not as it was.
    pub fn must_be(&self, now: &Self) -> Result<(), Error> {
        let problem = if (self.tenant, &self.source) != (now.tenant, &now.source) {
            "it is about another tenant, or another source"
        } else if self.target != now.target {
            "it is about another target"
        } else if self.expected_epoch != now.expected_epoch {
            "the tenant's placement has changed since it was made"
        } else if self.fingerprint != now.fingerprint {
            "a schema has changed since it was made"
        } else {
            return Ok(());
        };
        Err(Error::Request { problem: format!("the plan is not for this: {problem}; plan again") })
    }

    /// The plan, or an error that names every refusal.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn accepted(self) -> Result<Self, Error> {
        if self.refusals.is_empty() { Ok(self) } else { Err(Error::Refused(Box::new(self))) }
    }
}

/// A plan, and both catalogs as they were when it was made: what a copy and a comparison need to know, read once.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub(crate) plan: Plan,
    pub(crate) structure: Structure,
}

impl Prepared {
    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the target has of the tenant is to be replaced, and so deleted: adds what stands against that.
    pub(crate) fn replacing(mut self) -> Self {
        let unscoped = self.structure.target_unscoped.iter();
        let refused = unscoped.map(|(table, references)| {
            let (table, references) = (table.clone(), references.clone());
            Refusal::Unscoped { side: Side::Target, table, references }
        });
        self.plan.refusals.extend(refused);
        self
    }

    /// The same, or an error that names every refusal.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn accepted(self) -> Result<Self, Error> {
        let Self { plan, structure } = self;
        Ok(Self { plan: plan.accepted()?, structure })
    }
}

/// Looks at both ends and says what would be copied and every reason not to. Changes nothing.
///
/// Each side is read in one snapshot. Where SQLite is on either side every row is read, because any of its values may have no
/// place in the target; between two PostgreSQL databases rows are counted and their references looked at.
///
/// # Errors
/// [`Error::Database`] when one of them does not answer. A refusal is no error: it is in the plan.
pub async fn plan(
    source: &Endpoint,
    target: &Endpoint,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Plan, Error> {
    Ok(prepare(source, target, options, progress).await?.plan)
}

/// As [`plan`], with what a copy needs besides.
///
/// # Errors
/// As [`plan`].
pub async fn prepare(
    source: &Endpoint,
    target: &Endpoint,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Prepared, Error> {
    // Both servers at the same time: most of a small plan is waiting for answers.
    let snapshots = tokio::try_join!(source.snapshot(), target.snapshot())?;
    prepare_in(snapshots, source, target, options, progress).await
}

/// The same in snapshots that are begun.
pub(crate) async fn prepare_in(
    (mut from, mut to): (Transaction, Transaction),
    source: &Endpoint,
    target: &Endpoint,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Prepared, Error> {
    let catalogs = tokio::try_join!(
        catalog::read(&mut from, &source.tenant_column),
        catalog::read(&mut to, &target.tenant_column)
    )?;
    let details = tokio::try_join!(catalog::details(&mut from), catalog::details(&mut to))?;
    let fingerprint = fingerprint::of((source, &catalogs.0, &details.0), (target, &catalogs.1, &details.1));
    let (mut structure, mut refusals) = Structure::match_up((source, catalogs.0), (target, catalogs.1));
    if is_same_database(source, target, &mut from, &mut to).await? {
        refusals.insert(0, Refusal::SameDatabase);
    }
    let holders = tokio::try_join!(fence::holder(&mut from, &source.tenant), fence::holder(&mut to, &target.tenant))?;
    for (side, holder) in [(Side::Source, holders.0), (Side::Target, holders.1)] {
        match holder {
            None => {}
            // The tenant has been here and is not any more: its next transfer may take that fence.
            Some(Holder::Left(_)) if side == Side::Target => {}
            Some(holder) => {
                let other = if side == Side::Source { target } else { source };
                refusals.push(Refusal::Fenced { side, reason: holder.reason(other) });
            }
        }
    }
    let mut notes = structure.referred_to(options);
    figures::servers(&structure, (&details.0, &details.1), &mut refusals, &mut notes);
    let mut reference_tables = Vec::new();
    for pair in &structure.reference_tables(&options.reference_tables, &mut refusals) {
        let planned = reference::inspect(&structure, pair, (&mut from, &mut to), options, &mut refusals).await?;
        let of = |details: &catalog::Details| details.tables.get(&pair.name).cloned().unwrap_or_default();
        if planned.missing > 0 {
            notes.extend(constraints::not_tried(&pair.name, (&of(&details.0), &of(&details.1))));
        }
        reference_tables.push(planned);
    }
    let found = (&mut refusals, &mut notes);
    let details = (&details.0, &details.1);
    let tables = contents::inspect(&structure, &mut from, &mut to, details, options, progress, found).await?;
    let estimate = Estimate::of(&tables);
    figures::space(target, &estimate, &mut refusals, &mut notes);
    tokio::try_join!(from.rollback(), to.rollback()).map_err(Error::database("ending a snapshot"))?;
    let end = |endpoint: &Endpoint, schema: &str, version: &str| End {
        url: endpoint.pool.url().to_string(),
        schema: schema.to_owned(),
        tenant: endpoint.tenant.clone(),
        tenant_column: endpoint.tenant_column.clone(),
        version: version.to_owned(),
    };
    for pair in &mut structure.pairs {
        pair.rows = tables.iter().find(|table| table.name == pair.name).map(|table| table.rows);
    }
    let plan = Plan {
        tenant: None,
        expected_epoch: None,
        source: end(source, &structure.source_schema, &details.0.version),
        target: end(target, &structure.target_schema, &details.1.version),
        tables,
        reference_tables,
        left_out: structure.left_out.clone(),
        estimate,
        notes,
        refusals,
        fingerprint,
    };
    Ok(Prepared { plan, structure })
}

/// Reads both catalogs and matches their tables.
pub(crate) async fn read_structure(
    source: &Endpoint,
    target: &Endpoint,
    from: &mut Transaction,
    to: &mut Transaction,
) -> Result<(Structure, Vec<Refusal>), Error> {
    let (source_catalog, target_catalog) =
        tokio::try_join!(catalog::read(from, &source.tenant_column), catalog::read(to, &target.tenant_column))?;
    Ok(Structure::match_up((source, source_catalog), (target, target_catalog)))
}

/// The same in snapshots of their own.
pub(crate) async fn read_both(source: &Endpoint, target: &Endpoint) -> Result<(Structure, Vec<Refusal>), Error> {
    let (mut from, mut to) = tokio::try_join!(source.snapshot(), target.snapshot())?;
    let read = read_structure(source, target, &mut from, &mut to).await?;
    for transaction in [from, to] {
        transaction.rollback().await.map_err(Error::database("ending a snapshot"))?;
    }
    Ok(read)
}

/// Whether two ends are one database, whatever their URLs say.
pub(crate) async fn is_one_database(source: &Endpoint, target: &Endpoint) -> Result<bool, Error> {
    let (mut from, mut to) = (source.snapshot().await?, target.snapshot().await?);
    let same = is_same_database(source, target, &mut from, &mut to).await?;
    for transaction in [from, to] {
        transaction.rollback().await.map_err(Error::database("ending a snapshot"))?;
    }
    Ok(same)
}

/// Two URLs may name one database (another host name, a socket, a pooler), so the database itself is asked: an advisory lock
/// taken at one end is seen at the other only there. Of a file, the system is asked.
async fn is_same_database(
    source: &Endpoint,
    target: &Endpoint,
    from: &mut Transaction,
    to: &mut Transaction,
) -> Result<bool, Error> {
    match (source.engine(), target.engine()) {
        (Engine::Postgres, Engine::Postgres) => {
            let (_, key) = Uuid::new_v4().as_u64_pair();
            let key = key.cast_signed();
            let doing = "comparing the two databases";
            from.execute_raw_sql(&format!("SELECT pg_advisory_xact_lock({key})"))
                .await
                .map_err(Error::database(doing))?;
            let sql = format!("SELECT pg_try_advisory_xact_lock({key}) AS free");
            let row = ask(to, &sql, doing).await?.into_iter().next();
            let free = row.map(|row| row.try_get::<bool>("", "free")).transpose().map_err(Error::answer(doing))?;
            Ok(free == Some(false))
        }
        (Engine::Sqlite, Engine::Sqlite) => {
            let canonical =
                |endpoint: &Endpoint| endpoint.pool.url().sqlite_path().and_then(|path| path.canonicalize().ok());
            Ok(source.pool.url() == target.pool.url()
                || canonical(source).is_some_and(|path| Some(path) == canonical(target)))
        }
        _ => Ok(false),
    }
}
