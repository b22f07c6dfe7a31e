//! The tables of both ends side by side, and every reason that is found without looking at a row.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use tenantry_connection::{Engine, Transaction};
use tenantry_migrations::tables::WRITE_LOG;
use tenantry_realm::TenantKey;

use super::{PlannedColumn, Refusal, order};
use crate::{
    Endpoint, Error, Side, catalog,
    catalog::{Catalog, Column, Rights, Table},
    kind::Kind,
    quote,
    rows::{Reading, ask, tenant_filter},
};

/// Both ends' tables, matched.
#[derive(Debug, Clone)]
pub(crate) struct Structure {
    pub(crate) source: Shape,
    pub(crate) target: Shape,
    pub(crate) source_schema: String,
    pub(crate) target_schema: String,
    /// Tables on both sides, parents before children, the write log last.
    pub(crate) pairs: Vec<Pair>,
    /// The same in groups: a table, or tables that refer to each other in a circle.
    pub(crate) groups: Vec<Group>,
    /// Tenant tables of the target that the source does not have.
    pub(crate) only_in_target: Vec<Table>,
    pub(crate) left_out: Vec<String>,
    /// Tables of the target whose rows would go with those of a tenant table, or hang in the air without them.
    pub(crate) target_unscoped: BTreeMap<String, String>,
    /// Tables of either end that hold no tenant's rows: reference tables, perhaps.
    pub(crate) source_others: BTreeMap<String, Table>,
    pub(crate) target_others: BTreeMap<String, Table>,
    /// Whether the application's triggers in the target are silenced, and its foreign keys checked afterwards.
    pub(crate) silence: bool,
}

/// What statements need to know about one end.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) engine: Engine,
    pub(crate) tenant: TenantKey,
    pub(crate) tenant_column: String,
    pub(crate) rights: Rights,
    /// The names of its tenant tables.
    pub(crate) tenant_tables: BTreeSet<String>,
    /// Tenant tables whose writes no fence holds, as `schema.table`.
    pub(crate) unfenced: Vec<String>,
}

/// Tables that are written together: one, or several that refer to each other in a circle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// Their places in the structure's pairs.
    pub(crate) tables: Range<usize>,
    /// The groups that must have been written before; all of them come earlier.
    pub(crate) parents: BTreeSet<usize>,
}

/// One table on both sides.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) log: bool,
    pub(crate) source: Table,
    pub(crate) target: Table,
    /// The columns that both have, without the tenant column.
    pub(crate) columns: Vec<PlannedColumn>,
    /// The positions in `columns` of what tells rows apart; `None` where nothing does.
    pub(crate) key: Option<Vec<usize>>,
    /// How many rows the tenant has in the source, where the plan has counted them.
    pub(crate) rows: Option<u64>,
}

impl Structure {
    /// Matches the tables of two databases.
    pub(crate) fn match_up(source: (&Endpoint, Catalog), target: (&Endpoint, Catalog)) -> (Self, Vec<Refusal>) {
        let mut refusals = Vec::new();
        let (from, to) = (Shape::of(source.0, &source.1), Shape::of(target.0, &target.1));
        let (source, target) = (source.1, target.1);
        let portable = from.engine == Engine::Sqlite || to.engine == Engine::Sqlite;

        if source.tables.is_empty() {
            let (schema, tenant_column) = (source.schema.clone(), from.tenant_column.clone());
            refusals.push(Refusal::NothingToCopy { schema, tenant_column });
        }
        for (table, references) in &source.unscoped {
            let (table, references) = (table.clone(), references.clone());
            refusals.push(Refusal::Unscoped { side: Side::Source, table, references });
        }
        if !to.rights.prepared {
            let missing = match to.engine {
                Engine::Postgres => "Tenantry's schema is not installed, or does not belong to the login's role",
                Engine::Sqlite => "it has no table tenantry_session",
            };
            refusals.push(Refusal::NotPrepared { side: Side::Target, missing: missing.to_owned() });
        }

        let mut pairs = Vec::new();
        for (name, table) in &source.tables {
            access_refusals(Side::Source, table, &mut refusals);
            if !table.access.trigger && !table.has_fence() && !from.unfenced.is_empty() {
                let missing = format!("create triggers on {name}");
                refusals.push(Refusal::Privilege { side: Side::Source, missing });
            }
            let Some(counterpart) = target.tables.get(name) else {
                refusals.push(Refusal::TableMissing { table: name.clone() });
                continue;
            };
            access_refusals(Side::Target, counterpart, &mut refusals);
            let pair = Pair::match_up(table, counterpart, &from, &to, portable, &mut refusals);
            pairs.push(pair);
        }
        let silence = silence(&pairs, to.rights, &mut refusals);
        if to.engine == Engine::Postgres && !to.rights.temporary {
            let missing = "create temporary tables, which rows arrive in".to_owned();
            refusals.push(Refusal::Privilege { side: Side::Target, missing });
        }
        if !from.unfenced.is_empty() && !from.rights.installs_fence {
            let missing = "install the fence (create a schema, or use the schema tenantry as its owner)".to_owned();
            refusals.push(Refusal::Privilege { side: Side::Source, missing });
        }
        let groups = sort(&mut pairs);
        let only_in_target = target.tables.values().filter(|table| !source.tables.contains_key(&table.name));
        let only_in_target = only_in_target.cloned().collect();
        let structure = Self {
            source: from,
            target: to,
            source_schema: source.schema,
            target_schema: target.schema,
            pairs,
            groups,
            only_in_target,
            left_out: source.left_out.into_iter().collect(),
            source_others: source.others,
            target_unscoped: target.unscoped,
            target_others: target.others,
            silence,
        };
        (structure, refusals)
    }

    /// Refuses a tenant table of the source that was made since the catalogs were read: it was neither copied nor compared.
    ///
    /// # Errors
    /// [`Error::Request`] that names it; [`Error::Database`].
    pub(crate) async fn refuse_new_tables(&self, source: &mut Transaction) -> Result<(), Error> {
        const DOING: &str = "looking for new tables at the source";
        let column = self.source.tenant_column.as_str();
        let sql = match self.source.engine {
            Engine::Postgres => format!(
                "SELECT c.relname::text AS name FROM pg_catalog.pg_attribute AS a \
                 JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid \
                 JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
                 WHERE a.attname = {} AND NOT a.attisdropped AND c.relkind IN ('r', 'p') AND NOT c.relispartition \
                 AND n.nspname = pg_catalog.current_schema()",
                quote::postgres_literal(column)
            ),
            Engine::Sqlite => format!(
                "SELECT t.name AS name FROM sqlite_schema AS t, pragma_table_xinfo(t.name) AS c \
                 WHERE t.type = 'table' AND t.sql NOT LIKE 'CREATE VIRTUAL TABLE%' AND c.name = {} COLLATE NOCASE",
                quote::sqlite_literal(column)
            ),
        };
        for row in ask(source, &sql, DOING).await? {
            let name: String = row.try_get("", "name").map_err(Error::answer(DOING))?;
            if !self.source.tenant_tables.contains(&name) && !catalog::is_ours(&name, &self.left_out) {
                let problem = format!("table {name} was made at the source while its tenant was moved; begin again");
                return Err(Error::Request { problem });
            }
        }
        Ok(())
    }

    /// What to read of a table at one end.
    pub(crate) fn reading(&self, side: Side, pair: &Pair, ordered: bool) -> Reading {
        let shape = self.shape(side);
        let kind = |column: &PlannedColumn| match side {
            // Where both ends spell it alike, what is spelled otherwise is something else: 1.00 is not 1.0.
            _ if column.source == Kind::Json && !self.is_across_engines() => Kind::Other,
            Side::Source => column.source,
            Side::Target => column.target,
        };
        let table = match side {
            Side::Source => &pair.source,
            Side::Target => &pair.target,
        };
        Reading {
            side,
            table: pair.name.clone(),
            from: table.from.clone(),
            filter: shape.filter(),
            columns: pair.columns.iter().map(|column| (column.name.clone(), kind(column))).collect(),
            key: pair.key.clone().unwrap_or_default(),
            ordered,
            limit: None,
        }
    }

    pub(crate) fn shape(&self, side: Side) -> &Shape {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    /// Whether SQLite is on either side, so that every single value must be looked at.
    pub(crate) fn is_across_engines(&self) -> bool {
        self.source.engine == Engine::Sqlite || self.target.engine == Engine::Sqlite
    }
}

impl Shape {
    fn of(endpoint: &Endpoint, catalog: &Catalog) -> Self {
        let unfenced = catalog.tables.values().filter(|table| table.name != WRITE_LOG && !table.has_fence());
        Self {
            engine: catalog.engine,
            tenant: endpoint.tenant.clone(),
            tenant_column: endpoint.tenant_column.clone(),
            rights: catalog.rights,
            tenant_tables: catalog.tables.keys().cloned().collect(),
            unfenced: unfenced
                .map(|table| match catalog.engine {
                    Engine::Postgres => format!("{}.{}", catalog.schema, table.name),
                    Engine::Sqlite => table.name.clone(),
                })
                .collect(),
        }
    }

    /// The condition that selects the tenant's rows.
    pub(crate) fn filter(&self) -> String {
        tenant_filter(self.engine, &self.tenant_column, &self.tenant)
    }
}

impl Pair {
    pub(super) fn match_up(
        source: &Table,
        target: &Table,
        from: &Shape,
        to: &Shape,
        portable: bool,
        refusals: &mut Vec<Refusal>,
    ) -> Self {
        let table = source.name.clone();
        let mut columns = Vec::new();
        for column in source.columns.iter().filter(|column| column.name != from.tenant_column) {
            match target.column(&column.name).filter(|column| column.name != to.tenant_column) {
                // What the source computes, the target may do without.
                None if column.generated => {}
                None => refusals.push(Refusal::ColumnMissing { table: table.clone(), column: column.name.clone() }),
                Some(counterpart) => {
                    if !same_type(column, counterpart, portable) {
                        refusals.push(Refusal::TypeDiffers {
                            table: table.clone(),
                            column: column.name.clone(),
                            source: column.declared.clone(),
                            target: counterpart.declared.clone(),
                        });
                    } else if !portable && column.definition != counterpart.definition {
                        let consists =
                            |column: &Column| column.definition.clone().unwrap_or_else(|| "built in".to_owned());
                        refusals.push(Refusal::DefinitionDiffers {
                            table: table.clone(),
                            column: column.name.clone(),
                            declared: column.declared.clone(),
                            source: consists(column),
                            target: consists(counterpart),
                        });
                    }
                    columns.push(PlannedColumn {
                        name: column.name.clone(),
                        source: column.kind,
                        target: counterpart.kind,
                        copied: !counterpart.generated,
                    });
                }
            }
        }
        for column in target.columns.iter().filter(|column| column.name != to.tenant_column) {
            let required = column.not_null && !column.has_default && !column.generated && !column.identity;
            let known = source.column(&column.name).is_some_and(|column| column.name != from.tenant_column);
            if required && !known {
                refusals.push(Refusal::ColumnRequired { table: table.clone(), column: column.name.clone() });
            }
        }
        for (side, end, shape) in [(Side::Source, source, from), (Side::Target, target, to)] {
            if let Some(column) = end.column(&shape.tenant_column)
                && !holds(column.kind, shape)
            {
                refusals.push(Refusal::TenantColumn {
                    side,
                    table: table.clone(),
                    declared: column.declared.clone(),
                    tenant: shape.tenant.clone(),
                });
            }
        }
        let key = match key(target, &columns, to, portable) {
            Ok(key) => Some(key),
            Err(problem) => {
                refusals.push(Refusal::NoKey { table: table.clone(), problem });
                None
            }
        };
        let log = table == WRITE_LOG;
        Self { name: table, log, source: source.clone(), target: target.clone(), columns, key, rows: None }
    }
}

fn same_type(source: &Column, target: &Column, portable: bool) -> bool {
    if portable { source.kind.travels_to(target.kind) } else { source.declared == target.declared }
}

fn holds(kind: Kind, shape: &Shape) -> bool {
    match &shape.tenant {
        // On SQLite an older database may declare its uuids as text; they are compared as uuids all the same.
        TenantKey::Uuid(_) => kind == Kind::Uuid || (kind == Kind::Text && shape.engine == Engine::Sqlite),
        TenantKey::BigInt(id) => kind == Kind::BigInt || (kind == Kind::Integer && i32::try_from(*id).is_ok()),
        TenantKey::Text(_) => matches!(kind, Kind::Text | Kind::Varchar { .. } | Kind::Other),
    }
}

/// The target's primary key without the tenant column: what its rows are told apart by once they are there.
fn key(target: &Table, columns: &[PlannedColumn], to: &Shape, portable: bool) -> Result<Vec<usize>, String> {
    if target.primary_key.is_empty() {
        return Err("the target has no primary key, or a deferrable one".to_owned());
    }
    let mut key = Vec::new();
    for name in target.primary_key.iter().filter(|name| **name != to.tenant_column) {
        let position = columns.iter().position(|column| column.name == *name);
        let found = position.and_then(|position| columns.get(position).map(|column| (position, column)));
        let Some((position, column)) = found else {
            return Err(format!("column {name} of the target's primary key is not in the source"));
        };
        if portable && !(column.source.orders_alike() && column.target.orders_alike()) {
            return Err(format!("column {name} of its key has a type that the two engines order differently"));
        }
        key.push(position);
    }
    Ok(key)
}

pub(super) fn access_refusals(side: Side, table: &Table, refusals: &mut Vec<Refusal>) {
    let access = table.access;
    let filtered = access.filtered || (side == Side::Target && access.insert_filtered);
    if filtered {
        refusals.push(Refusal::Filtered { side, table: table.name.clone() });
    }
    let mut lacks = |missing: &str| {
        refusals.push(Refusal::Privilege { side, missing: format!("{missing} {}", table.name) });
    };
    if !access.select {
        lacks("select from");
    }
    if side == Side::Target && !access.insert {
        lacks("insert into");
    }
    if side == Side::Target && table.columns.iter().any(|column| !column.counts) {
        lacks("read and move on the sequences of");
    }
}

/// Whether the application's triggers have to be silenced; refuses where they cannot be.
fn silence(pairs: &[Pair], rights: Rights, refusals: &mut Vec<Refusal>) -> bool {
    let applications = |pair: &Pair, counts: &dyn Fn(&crate::catalog::Trigger) -> bool| -> Vec<String> {
        let triggers = pair.target.triggers.iter().filter(|trigger| !trigger.ours && trigger.on_insert);
        triggers.filter(|trigger| counts(trigger)).map(|trigger| trigger.name.clone()).collect()
    };
    let wanted = pairs.iter().any(|pair| !applications(pair, &|trigger| trigger.fires).is_empty());
    for pair in pairs {
        let triggers = if wanted && rights.silences_triggers {
            applications(pair, &|trigger| trigger.fires_silenced)
        } else {
            applications(pair, &|trigger| trigger.fires)
        };
        if !triggers.is_empty() {
            refusals.push(Refusal::Triggers { table: pair.name.clone(), triggers });
        }
    }
    wanted && rights.silences_triggers
}

/// Brings the tables into the order in which they are written, the log last, and says which belong together.
fn sort(pairs: &mut [Pair]) -> Vec<Group> {
    let tables: BTreeSet<String> = pairs.iter().map(|pair| pair.name.clone()).collect();
    let mut order = order::parents_first(&tables, &pairs.iter().flat_map(references).collect());
    order.sort_by_key(|group| group.contains(WRITE_LOG));
    let group_of = |name: &str| order.iter().position(|group| group.contains(name));
    pairs.sort_by_key(|pair| (group_of(&pair.name), pair.log, pair.name.clone()));
    let mut groups: Vec<Group> = Vec::with_capacity(order.len());
    for (number, names) in order.iter().enumerate() {
        let begin = groups.last().map_or(0, |group| group.tables.end);
        let tables = begin..begin + names.len();
        let members = pairs.get(tables.clone()).unwrap_or_default();
        let parents = members.iter().flat_map(references).filter_map(|(_, parent)| group_of(&parent));
        groups.push(Group { parents: parents.filter(|parent| *parent < number).collect(), tables });
    }
    groups
}

/// Each of a table's references, by the foreign keys of either side.
fn references(pair: &Pair) -> impl Iterator<Item = (String, String)> {
    let keys = pair.source.foreign_keys.iter().chain(&pair.target.foreign_keys);
    keys.map(|key| (pair.name.clone(), key.parent.clone()))
}
