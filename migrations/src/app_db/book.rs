//! The book: what the migration created, so that rolling back removes that and nothing else.
//!
//! `tenantry.app_db_objects` on PostgreSQL, `tenantry_app_db_objects` on SQLite; one row for each object, in the order of
//! creation.

use sea_orm_migration::sea_orm::ConnectionTrait;

use super::inspect;
use crate::Error;
use crate::dialect::{Engine, literal, quote};

/// What kind of object an entry names, and how it is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Table,
    Column,
    NotNull,
    Default,
    Constraint,
    Index,
    Function,
    Trigger,
}

const KINDS: [(Kind, &str); 8] = [
    (Kind::Table, "table"),
    (Kind::Column, "column"),
    (Kind::NotNull, "not null"),
    (Kind::Default, "default"),
    (Kind::Constraint, "constraint"),
    (Kind::Index, "index"),
    (Kind::Function, "function"),
    (Kind::Trigger, "trigger"),
];

impl Kind {
    fn name(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    fn parse(name: &str) -> Option<Self> {
        KINDS.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }
}

/// One created object; `table` is empty for a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) table: String,
    pub(super) name: String,
}

impl Entry {
    pub(super) fn new(kind: Kind, table: &str, name: &str) -> Self {
        Self { kind, table: table.to_owned(), name: name.to_owned() }
    }

    /// The statement that undoes the entry.
    pub(super) fn undo(&self, engine: Engine) -> String {
        let name = quote(&self.name);
        let (table, index, trigger) = match engine {
            Engine::Postgres => {
                let table = format!("public.{}", quote(&self.table));
                let trigger = format!("DROP TRIGGER {name} ON {table}");
                (table, format!("DROP INDEX public.{name}"), trigger)
            }
            Engine::Sqlite => (quote(&self.table), format!("DROP INDEX {name}"), format!("DROP TRIGGER {name}")),
        };
        match self.kind {
            Kind::Table => format!("DROP TABLE {table}"),
            Kind::Column => format!("ALTER TABLE {table} DROP COLUMN {name}"),
            Kind::NotNull => format!("ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL"),
            Kind::Default => format!("ALTER TABLE {table} ALTER COLUMN {name} DROP DEFAULT"),
            Kind::Constraint => format!("ALTER TABLE {table} DROP CONSTRAINT {name}"),
            Kind::Index => index,
            Kind::Function => format!("DROP FUNCTION tenantry.{name}()"),
            Kind::Trigger => trigger,
        }
    }
}

fn target(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => "tenantry.app_db_objects",
        Engine::Sqlite => "tenantry_app_db_objects",
    }
}

/// Opens the book and writes the entries.
pub(super) async fn write(connection: &impl ConnectionTrait, entries: &[Entry]) -> Result<(), Error> {
    const DOING: &str = "recording what was created";
    let engine = Engine::of(connection)?;
    let target = target(engine);
    let mut sql = format!(
        "CREATE TABLE {target} (
    ordinal integer NOT NULL CONSTRAINT app_db_objects_pkey PRIMARY KEY,
    kind text NOT NULL,
    table_name text NOT NULL,
    name text NOT NULL
);\n"
    );
    if engine == Engine::Postgres {
        sql.push_str(&format!("REVOKE ALL ON {target} FROM PUBLIC;\n"));
    }
    for (ordinal, entry) in entries.iter().enumerate() {
        sql.push_str(&format!(
            "INSERT INTO {target} (ordinal, kind, table_name, name) VALUES ({ordinal}, {}, {}, {});\n",
            literal(entry.kind.name()),
            literal(&entry.table),
            literal(&entry.name)
        ));
    }
    connection.execute_unprepared(&sql).await.map(|_| ()).map_err(Error::doing(DOING))
}

/// The entries, latest first.
pub(super) async fn read(connection: &impl ConnectionTrait) -> Result<Vec<Entry>, Error> {
    const DOING: &str = "reading what was created";
    let target = target(Engine::of(connection)?);
    let sql = format!("SELECT kind, table_name, name FROM {target} ORDER BY ordinal DESC");
    let mut entries = Vec::new();
    for row in inspect::rows(connection, sql).await? {
        let text = |at: usize| row.try_get_by_index::<String>(at).map_err(Error::doing(DOING));
        // A kind that a later release wrote is left alone; its own migration has been rolled back before.
        if let Some(kind) = Kind::parse(&text(0)?) {
            entries.push(Entry { kind, table: text(1)?, name: text(2)? });
        }
    }
    Ok(entries)
}

/// Closes the book.
pub(super) async fn close(connection: &impl ConnectionTrait) -> Result<(), Error> {
    let sql = format!("DROP TABLE {}", target(Engine::of(connection)?));
    connection
        .execute_unprepared(&sql)
        .await
        .map(|_| ())
        .map_err(Error::doing("dropping the record of what was created"))
}
