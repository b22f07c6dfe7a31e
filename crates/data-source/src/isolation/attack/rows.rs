//! Rows of made-up tenants: whatever a table asks for, found out from its catalog, with the rows that it has to refer to. They
//! live for one transaction and are never committed.
//!
//! It knows no table. A condition that no generic value meets is told, and the table is attacked without a row of its own.

use std::collections::{BTreeSet, HashMap};

use tenantry_connection::{Error, Transaction};
use uuid::Uuid;

use super::{
    insert,
    outcome::{Outcome, settle},
    statement,
    tables::{Column, Table},
};

/// Columns with their values as SQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Row(Vec<(String, String)>);

/// Why there is no row.
#[derive(Debug, Clone)]
pub(super) struct Unmade {
    pub(super) reason: String,
    /// What the server answered.
    pub(super) refused: Option<Outcome>,
}

/// A tenant: its column's value as SQL, and the text that a session is set to.
#[derive(Debug, Clone)]
pub(super) struct Tenant {
    pub(super) value: String,
    pub(super) text: String,
}

/// The rows of one transaction: at most one of a table and tenant.
pub(super) struct Rows<'a> {
    tables: &'a [Table],
    made: HashMap<(usize, String), Row>,
    /// What is being made, so that tables that need each other are noticed.
    open: BTreeSet<usize>,
}

impl Row {
    pub(super) fn columns(&self) -> Vec<&str> {
        self.0.iter().map(|(column, _)| column.as_str()).collect()
    }

    pub(super) fn values(&self) -> Vec<&str> {
        self.0.iter().map(|(_, value)| value.as_str()).collect()
    }

    pub(super) fn get(&self, column: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == column).map(|(_, value)| value.as_str())
    }

    pub(super) fn set(&mut self, column: &str, value: String) {
        match self.0.iter_mut().find(|(name, _)| name == column) {
            Some((_, old)) => *old = value,
            None => self.0.push((column.to_owned(), value)),
        }
    }
}

/// A row that refers to nothing that is there: enough where the policy has to refuse it before anything else is looked at.
pub(super) fn without_parents(table: &Table, tenant: &Tenant) -> Row {
    let mut row = Row::default();
    for column in &table.columns {
        row.set(&column.name, value(column, true).unwrap_or_else(|| "NULL".to_owned()));
    }
    row.set(&table.tenant, tenant.value.clone());
    row
}

/// `own` with the key that another tenant's row has.
pub(super) fn with_key_of(table: &Table, own: &Row, other: &Row) -> Row {
    with_key(table, own, |column| other.get(&column.name).map(str::to_owned))
}

/// `own` with a key that nobody has.
pub(super) fn with_a_new_key(table: &Table, own: &Row) -> Row {
    with_key(table, own, |column| value(column, true))
}

fn with_key(table: &Table, own: &Row, key: impl Fn(&Column) -> Option<String>) -> Row {
    let mut row = own.clone();
    let of_key = |column: &&Column| column.in_key && column.name != table.tenant && !table.refers_by(&column.name);
    for column in table.columns.iter().filter(of_key) {
        if let Some(value) = key(column) {
            row.set(&column.name, value);
        }
    }
    row
}

impl<'a> Rows<'a> {
    pub(super) fn new(tables: &'a [Table]) -> Self {
        Self { tables, made: HashMap::new(), open: BTreeSet::new() }
    }

    /// Inserts a row of the tenant, and before it the rows that it has to refer to. Once per table and tenant.
    pub(super) async fn insert(
        &mut self,
        transaction: &mut Transaction,
        at: usize,
        tenant: &Tenant,
    ) -> Result<Result<Row, Unmade>, Error> {
        if let Some(row) = self.made.get(&(at, tenant.value.clone())) {
            return Ok(Ok(row.clone()));
        }
        let mut last = None;
        // A text that a check names may be what it refuses.
        for named in [true, false] {
            let row = match self.prepare(transaction, at, tenant, named).await? {
                Ok(row) => row,
                Err(unmade) => return Ok(Err(unmade)),
            };
            let begin = format!("SAVEPOINT made; SET LOCAL app.tenant_id = '{}'", tenant.text);
            transaction.execute_raw_sql(&begin).await?;
            let stored = transaction.execute(statement(&insert(&self.tables[at], &row))).await;
            let stores_none = matches!(stored, Ok(0));
            match settle(stored)? {
                Outcome::Done if !stores_none => {
                    transaction.execute_raw_sql("RELEASE SAVEPOINT made").await?;
                    self.made.insert((at, tenant.value.clone()), row.clone());
                    return Ok(Ok(row));
                }
                outcome => {
                    transaction.execute_raw_sql("ROLLBACK TO SAVEPOINT made; RELEASE SAVEPOINT made").await?;
                    last = Some(outcome);
                }
            }
        }
        let name = &self.tables[at].name;
        let reason = match &last {
            Some(Outcome::Refused(sqlstate)) => format!("a made-up row of {name} was refused ({sqlstate})"),
            _ => format!("a made-up row of {name} was not stored"),
        };
        Ok(Err(Unmade { reason, refused: last }))
    }

    /// A row of the tenant that is not inserted yet, while what it has to refer to is.
    pub(super) async fn prepare(
        &mut self,
        transaction: &mut Transaction,
        at: usize,
        tenant: &Tenant,
        named: bool,
    ) -> Result<Result<Row, Unmade>, Error> {
        let tables = self.tables;
        let table = &tables[at];
        let mut row = Row::default();
        if !self.open.insert(at) {
            let reason = format!("a row of {} needs another one before it", table.name);
            return Ok(Err(Unmade { reason, refused: None }));
        }
        for column in &table.columns {
            if row.get(&column.name).is_some() {
                continue;
            }
            let reference = table.references.iter().find(|key| key.pairs.iter().any(|(own, _)| *own == column.name));
            if column.name == table.tenant {
                row.set(&column.name, tenant.value.clone());
            } else if let Some(reference) = reference {
                let parent = match Box::pin(self.insert(transaction, reference.parent, tenant)).await? {
                    Ok(parent) => parent,
                    Err(unmade) => {
                        self.open.remove(&at);
                        return Ok(Err(unmade));
                    }
                };
                for (own, theirs) in &reference.pairs {
                    row.set(own, parent.get(theirs).unwrap_or("NULL").to_owned());
                }
            } else if let Some(value) = value(column, named) {
                row.set(&column.name, value);
            } else {
                self.open.remove(&at);
                let reason = format!("nothing is known to put into {} of {}", column.name, table.name);
                return Ok(Err(Unmade { reason, refused: None }));
            }
        }
        self.open.remove(&at);
        Ok(Ok(row))
    }
}

/// A value of the column's type as SQL: in a key, one that nobody has. The cast fits a text into its length.
fn value(column: &Column, named: bool) -> Option<String> {
    let Column { category, base, label, in_key, identity, .. } = column;
    let id = Uuid::new_v4();
    let text = match (category.as_str(), base.as_str()) {
        ("S", _) => match &column.named {
            Some(text) if named => text.clone(),
            _ => id.simple().to_string(),
        },
        ("E", _) => label.clone()?,
        (_, "uuid") => id.to_string(),
        (_, "int2") => (id.as_u128() % 30_000 + 1).to_string(),
        (_, "int4" | "int8") if *in_key || *identity => (id.as_u128() % 1_000_000_000 + 1_000_000_000).to_string(),
        ("N", _) => "1".to_owned(),
        ("B", _) => "false".to_owned(),
        ("D", _) => "2000-01-01 12:00".to_owned(),
        ("T", _) => "1 day".to_owned(),
        ("A", _) => "{}".to_owned(),
        ("R", _) => "empty".to_owned(),
        ("I", _) => "127.0.0.1".to_owned(),
        ("V", _) => "0".to_owned(),
        ("G", "point") => "(0,0)".to_owned(),
        ("G", "circle") => "<(0,0),1>".to_owned(),
        ("G", _) => "(0,0),(1,1)".to_owned(),
        (_, "json" | "jsonb") => "{}".to_owned(),
        (_, "bytea" | "tsvector" | "tsquery" | "hstore") => String::new(),
        (_, "xml") => "<x/>".to_owned(),
        (_, "macaddr") => "00:00:00:00:00:00".to_owned(),
        _ => return None,
    };
    Some(format!("'{}'::{}", text.replace('\'', "''"), column.type_name))
}
