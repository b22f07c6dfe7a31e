//! `sqlite_schema` and the pragmas as table-valued functions.

use std::collections::BTreeMap;

use sea_orm::{DbBackend, QueryResult, Statement, TryGetable, Value};
use tenantry_connection::{Engine, SESSION_TABLE, Transaction};

use super::{Access, Catalog, Column, ForeignKey, Rights, Table, Trigger, Unique, sort_tables};
use crate::{Error, kind::Kind, quote};

const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
     AND sql NOT LIKE 'CREATE VIRTUAL TABLE%' ORDER BY name";
/// The statements that made the tables.
pub(super) const MADE_BY: &str = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql IS NOT NULL";
const COLUMNS: &str = "SELECT name, type, \"notnull\" AS not_null, dflt_value IS NOT NULL AS has_default, pk, hidden \
     FROM pragma_table_xinfo(?) WHERE hidden <> 1 ORDER BY cid";
const UNIQUE: &str = "SELECT l.name AS name, x.name AS column_name FROM pragma_index_list(?) l, pragma_index_xinfo(l.name) x \
     WHERE l.\"unique\" = 1 AND l.partial = 0 AND x.key = 1 \
     AND NOT EXISTS (SELECT 1 FROM pragma_index_xinfo(l.name) e WHERE e.key = 1 AND e.cid < 0) ORDER BY l.seq, x.seqno";
const FOREIGN_KEYS: &str = "SELECT id, \"table\" AS parent, \"from\" AS column_name, \"to\" AS parent_column \
     FROM pragma_foreign_key_list(?) ORDER BY id, seq";
const TRIGGERS: &str =
    "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE ORDER BY name";

/// The head of the names of Tenantry's own triggers; PostgreSQL has a schema for that.
const OUR_TRIGGERS: &str = "tenantry_";

pub(super) async fn read(transaction: &mut Transaction, tenant_column: &str) -> Result<Catalog, Error> {
    let mut tables = BTreeMap::new();
    let mut prepared = false;
    for row in query(transaction, TABLES, None).await? {
        let name: String = get(&row, "name")?;
        prepared |= name == SESSION_TABLE;
        tables.insert(name.clone(), table(transaction, name).await?);
    }
    // A name means the same however its letters are written. Here each is written as its table has it, and the tenant column as
    // it was asked for.
    for table in tables.values_mut() {
        let is_tenant = |name: &String| name.eq_ignore_ascii_case(tenant_column);
        let unique = table.unique.iter_mut().flat_map(|unique| &mut unique.columns);
        let keys = table.foreign_keys.iter_mut().flat_map(|key| &mut key.columns).map(|(child, _)| child);
        let columns = table.columns.iter_mut().map(|column| &mut column.name);
        let names = columns.chain(&mut table.primary_key).chain(unique).chain(keys);
        names.filter(|name| is_tenant(name)).for_each(|name| tenant_column.clone_into(name));
    }
    let parents: Vec<(String, Vec<String>, Vec<String>)> = tables
        .values()
        .map(|table| {
            let columns = table.columns.iter().map(|column| column.name.clone()).collect();
            (table.name.clone(), table.primary_key.clone(), columns)
        })
        .collect();
    for key in tables.values_mut().flat_map(|table| &mut table.foreign_keys) {
        let Some((parent, primary_key, columns)) =
            parents.iter().find(|(name, ..)| name.eq_ignore_ascii_case(&key.parent))
        else {
            continue;
        };
        parent.clone_into(&mut key.parent);
        for (position, (_, referred)) in key.columns.iter_mut().enumerate() {
            // One that names no column refers to the primary key.
            let spelled = match referred.is_empty() {
                true => primary_key.get(position),
                false => columns.iter().find(|column| column.eq_ignore_ascii_case(referred)),
            };
            if let Some(spelled) = spelled {
                spelled.clone_into(referred);
            }
        }
    }
    let rights =
        Rights { bypasses_policies: true, temporary: true, silences_triggers: false, installs_fence: true, prepared };
    Ok(sort_tables(Engine::Sqlite, "main".to_owned(), tables, Vec::new(), tenant_column, rights))
}

async fn table(transaction: &mut Transaction, name: String) -> Result<Table, Error> {
    let (mut columns, mut primary_key) = (Vec::new(), Vec::new());
    for row in query(transaction, COLUMNS, Some(&name)).await? {
        let declared: String = get(&row, "type")?;
        let column: String = get(&row, "name")?;
        let position: i64 = get(&row, "pk")?;
        if position > 0 {
            primary_key.push((position, column.clone()));
        }
        let kind = Kind::from_sqlite(&declared);
        let rowid = position == 1 && declared.eq_ignore_ascii_case("integer");
        columns.push(Column {
            name: column,
            kind,
            plain: declared.clone(),
            declared,
            definition: None,
            collation: None,
            // Outside of INTEGER PRIMARY KEY a key column accepts null unless it says otherwise: an old bug of SQLite.
            not_null: get::<i64>(&row, "not_null")? != 0,
            has_default: get::<i64>(&row, "has_default")? != 0 || rowid,
            generated: get::<i64>(&row, "hidden")? >= 2,
            expression: None,
            identity: false,
            sequence: None,
            counts: true,
            own_cast: false,
        });
    }
    primary_key.sort();
    let primary_key: Vec<String> = primary_key.into_iter().map(|(_, column)| column).collect();

    let mut unique: Vec<Unique> = Vec::new();
    if !primary_key.is_empty() {
        unique.push(Unique { name: "primary key".to_owned(), columns: primary_key.clone() });
    }
    for row in query(transaction, UNIQUE, Some(&name)).await? {
        let (index, column): (String, String) = (get(&row, "name")?, get(&row, "column_name")?);
        match unique.last_mut().filter(|unique| unique.name == index) {
            Some(unique) => unique.columns.push(column),
            None => unique.push(Unique { name: index, columns: vec![column] }),
        }
    }

    let mut foreign_keys: Vec<(i64, ForeignKey)> = Vec::new();
    for row in query(transaction, FOREIGN_KEYS, Some(&name)).await? {
        let id: i64 = get(&row, "id")?;
        let pair = (get(&row, "column_name")?, get::<Option<String>>(&row, "parent_column")?.unwrap_or_default());
        match foreign_keys.last_mut().filter(|(last, _)| *last == id) {
            Some((_, key)) => key.columns.push(pair),
            None => {
                let parent: String = get(&row, "parent")?;
                foreign_keys.push((
                    id,
                    ForeignKey {
                        binds: None,
                        name: format!("{name}.{} -> {parent}", pair.0),
                        parent_from: quote::identifier(&parent),
                        parent,
                        columns: vec![pair],
                    },
                ));
            }
        }
    }

    let mut triggers = Vec::new();
    for row in query(transaction, TRIGGERS, Some(&name)).await? {
        triggers.push(trigger(get(&row, "name")?, &get::<String>(&row, "sql")?));
    }
    let quoted = quote::identifier(&name);
    Ok(Table {
        from: quoted.clone(),
        into: quoted,
        name,
        columns,
        primary_key,
        unique,
        foreign_keys: foreign_keys.into_iter().map(|(_, key)| key).collect(),
        triggers,
        access: Access {
            select: true,
            insert: true,
            delete: true,
            trigger: true,
            under_policies: false,
            filtered: false,
            insert_filtered: false,
        },
    })
}

/// SQLite tells a trigger's event only in its text: the first of the three words behind its name. Nothing silences it.
fn trigger(name: String, sql: &str) -> Trigger {
    let behind_name = sql.split_once(name.as_str()).map_or(sql, |(_, rest)| rest);
    let event = behind_name
        .split(|character: char| !character.is_ascii_alphabetic())
        .map(str::to_ascii_lowercase)
        .find(|word| matches!(word.as_str(), "insert" | "update" | "delete"));
    let is = |expected: &str| event.as_deref().is_none_or(|event| event == expected);
    Trigger {
        ours: name.starts_with(OUR_TRIGGERS),
        on_insert: is("insert"),
        on_delete: is("delete"),
        fires: true,
        fires_silenced: true,
        name,
    }
}

pub(super) async fn query(
    transaction: &mut Transaction,
    sql: &str,
    table: Option<&str>,
) -> Result<Vec<QueryResult>, Error> {
    let values: Vec<Value> = table.map(|table| table.into()).into_iter().collect();
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
    transaction.query_all(statement).await.map_err(Error::database("reading the catalogs"))
}

fn get<T: TryGetable>(row: &QueryResult, column: &str) -> Result<T, Error> {
    row.try_get("", column).map_err(Error::answer("reading the catalogs"))
}
