//! A tenant table in SQL for SQLite. There are no policies: the scoped repository is the guard. What PostgreSQL's types
//! refuse is refused by checks, and the column-list SET NULL, which SQLite lacks, is a trigger on the parent.

use super::definition::column_sql;
use super::{OnDelete, TenantTable};
use crate::dialect::{Engine, literal, object_name, quote, quote_list, sqlite};
use crate::fence;
use crate::tenant_data::Installation;
use crate::write_log;

pub(super) fn create(table: &TenantTable, installation: &Installation) -> Vec<String> {
    let mut statements = vec![create_table(table, installation)];
    for (name, columns) in table.all_indexes(Engine::Sqlite, installation) {
        statements.push(format!("CREATE INDEX {} ON {} ({columns})", quote(&name), quote(&table.name)));
    }
    statements.push(fence::sqlite::attach(&table.name, &installation.tenant_column));
    statements.push(keep_tenant(table, installation));
    statements.extend(write_log::sqlite_triggers(
        &table.name,
        &installation.tenant_column,
        &table.shapes(installation),
        table.has_updated_at(),
        table.logged,
    ));
    statements.extend(set_null_triggers(table, installation));
    statements
}

/// A dropped table takes its own triggers along, not those that it put on its parents.
pub(super) fn drop(table: &TenantTable) -> Vec<String> {
    let mut statements: Vec<String> = table
        .references
        .iter()
        .filter(|reference| reference.on_delete == OnDelete::SetNull)
        .map(|reference| format!("DROP TRIGGER IF EXISTS {}", quote(&set_null_name(table, &reference.column))))
        .collect();
    statements.push(format!("DROP TABLE {}", quote(&table.name)));
    statements
}

fn create_table(table: &TenantTable, installation: &Installation) -> String {
    let name = table.name.as_str();
    let tenant = quote(&installation.tenant_column);
    let mut conditions = table.conditions(Engine::Sqlite);
    if installation.tenant_type.is_text() {
        conditions.push((installation.tenant_column.clone(), format!("{tenant} <> ''")));
    }

    let mut lines: Vec<String> = table
        .all_columns(installation)
        .iter()
        .map(|column| {
            let sql = column_sql(column, Engine::Sqlite);
            if column.get_column_name() == "id" { format!("{sql} DEFAULT ({})", sqlite::RANDOM_UUID) } else { sql }
        })
        .collect();
    lines.push(format!("CONSTRAINT {} PRIMARY KEY ({tenant}, id)", quote(&object_name(&[name, "pkey"]))));
    for columns in &table.uniques {
        let columns_sql = with_tenant(columns, installation);
        lines.push(format!("CONSTRAINT {} UNIQUE ({columns_sql})", quote(&table.unique_name(columns))));
    }
    let check = |subject: &str, condition: &str| {
        format!("CONSTRAINT {} CHECK ({condition})", quote(&object_name(&[name, subject, "check"])))
    };
    // One check for each column, under the name that it has on PostgreSQL: the shape and the column's own rules.
    for (column, shape) in table.shapes(installation) {
        let rules = conditions.iter().filter(|(subject, _)| *subject == column).map(|(_, condition)| condition.clone());
        let all: Vec<String> =
            std::iter::once(shape.check(&quote(&column))).chain(rules).map(|part| format!("({part})")).collect();
        lines.push(check(&column, &all.join(" AND ")));
        conditions.retain(|(subject, _)| *subject != column);
    }
    for (subject, condition) in &conditions {
        lines.push(check(subject, condition));
    }
    for reference in &table.references {
        // SET NULL would null the tenant as well. The trigger nulls the column before the end of the statement, which is
        // when an immediate constraint is checked, so nothing needs to be deferred.
        let action = if reference.on_delete == OnDelete::Cascade { " ON DELETE CASCADE" } else { "" };
        lines.push(format!(
            "CONSTRAINT {} FOREIGN KEY ({tenant}, {}) REFERENCES {} ({tenant}, id){action}",
            quote(&object_name(&[name, &reference.column, "fkey"])),
            quote(&reference.column),
            quote(&reference.parent),
        ));
    }
    format!("CREATE TABLE {} (\n    {}\n)", quote(name), lines.join(",\n    "))
}

fn keep_tenant(table: &TenantTable, installation: &Installation) -> String {
    let tenant = quote(&installation.tenant_column);
    format!(
        "CREATE TRIGGER {} BEFORE UPDATE OF {tenant} ON {} FOR EACH ROW \
         WHEN NEW.{tenant} IS NOT OLD.{tenant} AND {} BEGIN\n    SELECT RAISE(ABORT, {});\nEND",
        quote(&object_name(&["tenantry_tenant", &table.name])),
        quote(&table.name),
        sqlite::NOT_TRANSFER,
        literal("tenantry: a row cannot change its tenant"),
    )
}

fn set_null_triggers(table: &TenantTable, installation: &Installation) -> Vec<String> {
    let tenant = quote(&installation.tenant_column);
    table
        .references
        .iter()
        .filter(|reference| reference.on_delete == OnDelete::SetNull)
        .map(|reference| {
            let (child, column) = (quote(&table.name), quote(&reference.column));
            format!(
                "CREATE TRIGGER {} AFTER DELETE ON {} FOR EACH ROW BEGIN\n    \
                 UPDATE {child} SET {column} = NULL WHERE {tenant} = OLD.{tenant} AND {column} = OLD.id;\nEND",
                quote(&set_null_name(table, &reference.column)),
                quote(&reference.parent),
            )
        })
        .collect()
}

fn set_null_name(table: &TenantTable, column: &str) -> String {
    object_name(&["tenantry_set_null", &table.name, column])
}

fn with_tenant(columns: &[String], installation: &Installation) -> String {
    quote_list(std::iter::once(installation.tenant_column.as_str()).chain(columns.iter().map(String::as_str)))
}
