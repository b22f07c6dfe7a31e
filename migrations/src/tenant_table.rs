//! A tenant table: one definition, from which both engines get keys, policies, grants and triggers.
//!
//! Primary keys, foreign keys and unique constraints start with the tenant column, because the checks of constraints do not
//! obey policies. What the settings of the data source say (restricted role, tenant column and its type) is read from where
//! the first migration stored it, so an application's own migrations create tables that are isolated like ours:
//!
//! ```
//! use sea_orm_migration::{prelude::*, schema::*};
//! use tenantry_migrations::{OnDelete, TenantTable};
//!
//! fn rooms() -> TenantTable {
//!     TenantTable::new("rooms")
//!         .column(text("name"))
//!         .column(uuid_null("location_id"))
//!         .column(integer_null("seats"))
//!         .references("location_id", "locations", OnDelete::SetNull)
//!         .between("seats", 1, 10_000)
//!         .unique(["name"])
//! }
//!
//! #[derive(DeriveMigrationName)]
//! struct CreateRooms;
//!
//! #[async_trait::async_trait]
//! impl MigrationTrait for CreateRooms {
//!     async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
//!         Ok(rooms().create(manager).await?)
//!     }
//!     async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
//!         Ok(rooms().drop(manager).await?)
//!     }
//! }
//! ```
//!
//! Every table has `id uuid`, and unless switched off `created_at`, `updated_at` and its writes in the write log. It knows no
//! business table.

use sea_orm_migration::SchemaManager;
use sea_orm_migration::sea_orm::{ConnectionTrait, Statement};
use sea_orm_migration::sea_query::{ColumnDef, Expr};

use crate::Error;
use crate::dialect::{Engine, quote};
use crate::tenant_data::Installation;

mod definition;
mod postgres;
mod sqlite;

pub(crate) use postgres::{DROP_FUNCTIONS as POSTGRES_DROP_FUNCTIONS, FUNCTIONS as POSTGRES_FUNCTIONS};

/// What happens to a row when the row that it refers to is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDelete {
    /// The delete is refused.
    NoAction,
    /// This row is deleted too.
    Cascade,
    /// The reference becomes null; the tenant column stays.
    SetNull,
}

/// Which columns of time a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timestamps {
    CreatedAndUpdated,
    Created,
    None,
}

/// A tenant table's definition. See the module's documentation.
#[derive(Debug, Clone)]
pub struct TenantTable {
    name: String,
    columns: Vec<ColumnDef>,
    references: Vec<Reference>,
    uniques: Vec<Vec<String>>,
    indexes: Vec<Index>,
    checks: Vec<Check>,
    timestamps: Timestamps,
    logged: bool,
    read_only: bool,
}

#[derive(Debug, Clone)]
struct Reference {
    column: String,
    parent: String,
    on_delete: OnDelete,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Index {
    columns: Vec<String>,
    newest_first: bool,
}

#[derive(Debug, Clone)]
struct Check {
    /// What the constraint's name carries between the table's and `check`: the column, for a rule of one column.
    subject: String,
    rule: Rule,
}

#[derive(Debug, Clone)]
enum Rule {
    OneOf(Vec<String>),
    Between(i64, i64),
    Expression(Box<Expr>),
}

impl TenantTable {
    /// A table with the tenant column, `id`, `created_at` and `updated_at`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            columns: Vec::new(),
            references: Vec::new(),
            uniques: Vec::new(),
            indexes: Vec::new(),
            checks: Vec::new(),
            timestamps: Timestamps::CreatedAndUpdated,
            logged: true,
            read_only: false,
        }
    }

    /// The table's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a column: its type, default and NOT NULL. Keys and uniqueness belong to [`Self::references`] and
    /// [`Self::unique`], which put the tenant first. `Expr::current_timestamp()` as default becomes the canonical clock.
    #[must_use]
    pub fn column(mut self, column: impl Into<ColumnDef>) -> Self {
        self.columns.push(column.into());
        self
    }

    /// Adds several columns.
    #[must_use]
    pub fn columns<C: Into<ColumnDef>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.columns.extend(columns.into_iter().map(Into::into));
        self
    }

    /// Makes a uuid column refer to another tenant table's `id`, within the same tenant, and indexes it.
    #[must_use]
    pub fn references(mut self, column: impl Into<String>, parent: impl Into<String>, on_delete: OnDelete) -> Self {
        self.references.push(Reference { column: column.into(), parent: parent.into(), on_delete });
        self
    }

    /// Makes the columns unique together within a tenant.
    #[must_use]
    pub fn unique<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.uniques.push(columns.into_iter().map(Into::into).collect());
        self
    }

    /// Adds an index of the tenant column followed by these.
    #[must_use]
    pub fn index<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.indexes.push(Index { columns: columns.into_iter().map(Into::into).collect(), newest_first: false });
        self
    }

    /// As [`Self::index`], for reads that order by these columns descending with nulls last, which on PostgreSQL an ascending
    /// index does not serve.
    #[must_use]
    pub fn index_newest_first<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.indexes.push(Index { columns: columns.into_iter().map(Into::into).collect(), newest_first: true });
        self
    }

    /// Allows only these texts (and null, where the column is nullable).
    #[must_use]
    pub fn one_of<S: Into<String>>(mut self, column: impl Into<String>, values: impl IntoIterator<Item = S>) -> Self {
        let rule = Rule::OneOf(values.into_iter().map(Into::into).collect());
        self.checks.push(Check { subject: column.into(), rule });
        self
    }

    /// Allows only whole numbers from `least` to `greatest`, both included.
    #[must_use]
    pub fn between(mut self, column: impl Into<String>, least: i64, greatest: i64) -> Self {
        self.checks.push(Check { subject: column.into(), rule: Rule::Between(least, greatest) });
        self
    }

    /// Adds a condition that every row must meet, named `<table>_<name>_check`; it must mean the same on both engines.
    #[must_use]
    pub fn check(mut self, name: impl Into<String>, condition: impl Into<Expr>) -> Self {
        self.checks.push(Check { subject: name.into(), rule: Rule::Expression(Box::new(condition.into())) });
        self
    }

    /// Leaves out `updated_at`.
    #[must_use]
    pub fn without_updated_at(mut self) -> Self {
        self.timestamps = Timestamps::Created;
        self
    }

    /// Leaves out `created_at` and `updated_at`.
    #[must_use]
    pub fn without_timestamps(mut self) -> Self {
        self.timestamps = Timestamps::None;
        self
    }

    /// Leaves this table's writes out of the write log.
    #[must_use]
    pub fn without_write_log(mut self) -> Self {
        self.logged = false;
        self
    }

    /// Lets the restricted role read and not write (PostgreSQL; SQLite has no roles).
    #[must_use]
    pub fn read_only_for_restricted(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Creates the table with everything that isolates it. Run it in a transaction.
    ///
    /// # Errors
    /// [`Error::NotInstalled`] before the first run of the tenant-data migrator, [`Error::Definition`] when the definition
    /// cannot be isolated or has no form on SQLite, [`Error::Database`].
    pub async fn create(&self, manager: &SchemaManager<'_>) -> Result<(), Error> {
        let connection = manager.get_connection();
        let engine = Engine::of(connection)?;
        let installation = Installation::read(connection).await?;
        for sql in self.statements(engine, &installation)? {
            connection
                .execute_unprepared(&sql)
                .await
                .map_err(Error::doing(format!("creating tenant table {}", self.name)))?;
        }
        Ok(())
    }

    /// Drops the table, with what it put on other tables.
    ///
    /// # Errors
    /// [`Error::WouldLose`] when it has rows, [`Error::Database`], for example when another table refers to it.
    pub async fn drop(&self, manager: &SchemaManager<'_>) -> Result<(), Error> {
        let connection = manager.get_connection();
        let engine = Engine::of(connection)?;
        if let Some(loss) = self.loss(connection).await? {
            return Err(Error::WouldLose { losses: vec![loss] });
        }
        let statements = match engine {
            Engine::Postgres => postgres::drop(self),
            Engine::Sqlite => sqlite::drop(self),
        };
        for sql in statements {
            connection
                .execute_unprepared(&sql)
                .await
                .map_err(Error::doing(format!("dropping tenant table {}", self.name)))?;
        }
        Ok(())
    }

    pub(crate) fn statements(&self, engine: Engine, installation: &Installation) -> Result<Vec<String>, Error> {
        self.validate(engine, installation)?;
        Ok(match engine {
            Engine::Postgres => postgres::create(self, installation),
            Engine::Sqlite => sqlite::create(self, installation),
        })
    }

    /// What dropping the table would lose; `None` when it is empty.
    pub(crate) async fn loss(&self, connection: &impl ConnectionTrait) -> Result<Option<String>, Error> {
        let doing = || Error::doing(format!("counting the rows of {}", self.name));
        let table = match Engine::of(connection)? {
            Engine::Postgres => format!("public.{}", quote(&self.name)),
            Engine::Sqlite => quote(&self.name),
        };
        let statement =
            Statement::from_string(connection.get_database_backend(), format!("SELECT count(*) FROM {table}"));
        let row = connection.query_one_raw(statement).await.map_err(doing())?;
        let count: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0)).map_err(doing())?;
        Ok((count > 0).then(|| format!("table {} has {count} row(s)", self.name)))
    }
}
