//! What both engines derive from a definition: its full list of columns, its names, and what it may not say.

use sea_orm_migration::sea_query::{
    ColumnDef, ColumnType, Expr, Keyword, PostgresQueryBuilder, QueryBuilder, SqliteQueryBuilder, TableBuilder,
};

use super::{Index, Rule, TenantTable, Timestamps};
use crate::Error;
use crate::dialect::{Engine, checked_identifier, literal, object_name, quote, sqlite};
use crate::shape::Shape;
use crate::tenant_data::Installation;

impl TenantTable {
    /// Refuses what could not be isolated, or would mean something else on SQLite.
    pub(super) fn validate(&self, engine: Engine, installation: &Installation) -> Result<(), Error> {
        checked_identifier(&self.name)?;
        let refuse = |problem: String| Err(Error::Definition { table: self.name.clone(), problem });
        let columns = self.all_columns(installation);
        for (at, column) in columns.iter().enumerate() {
            let name = column.get_column_name();
            checked_identifier(&name)?;
            let spec = column.get_column_spec();
            if columns[..at].iter().any(|earlier| earlier.get_column_name() == name) {
                return refuse(format!(
                    "column {name} is defined twice (the keys and the timestamps come by themselves)"
                ));
            }
            if spec.primary_key || spec.unique || spec.auto_increment {
                return refuse(format!(
                    "column {name} cannot carry a key of its own, which would cross tenants; use unique([\"{name}\"])"
                ));
            }
            if spec.generated.is_some() {
                return refuse(format!("column {name} cannot be generated: its value could not be copied"));
            }
            let Some(column_type) = column.get_column_type() else {
                return refuse(format!("column {name} has no type"));
            };
            if engine == Engine::Sqlite
                && let Err(problem) = Shape::of(column_type)
            {
                return refuse(format!("column {name}: {problem}"));
            }
        }
        let known = |name: &str| columns.iter().any(|column| column.get_column_name() == name);
        let named = (self.references.iter().map(|reference| &reference.column))
            .chain(self.uniques.iter().flatten())
            .chain(self.indexes.iter().flat_map(|index| &index.columns))
            .chain(self.checks.iter().filter(|check| !check.rule.is_expression()).map(|check| &check.subject));
        for name in named {
            if !known(name) {
                return refuse(format!("column {name} is referred to and not defined"));
            }
        }
        for reference in &self.references {
            checked_identifier(&reference.parent)?;
            let is_uuid = columns.iter().any(|column| {
                column.get_column_name() == reference.column
                    && matches!(column.get_column_type(), Some(ColumnType::Uuid))
            });
            if !is_uuid {
                return refuse(format!("column {} refers to an id and must be a uuid", reference.column));
            }
        }
        Ok(())
    }

    /// `id`, the tenant column, the definition's columns, the timestamps: the order of the table.
    pub(super) fn all_columns(&self, installation: &Installation) -> Vec<ColumnDef> {
        let mut columns = vec![
            ColumnDef::new("id").uuid().not_null().take(),
            ColumnDef::new_with_type(installation.tenant_column.clone(), installation.tenant_type.column_type())
                .not_null()
                .take(),
        ];
        columns.extend(self.columns.iter().cloned());
        let time = |name: &'static str| {
            ColumnDef::new(name).timestamp_with_time_zone().null().default(Expr::current_timestamp()).take()
        };
        if self.timestamps != Timestamps::None {
            columns.push(time("created_at"));
        }
        if self.timestamps == Timestamps::CreatedAndUpdated {
            columns.push(time("updated_at"));
        }
        columns
    }

    /// The columns with their shapes; only after [`Self::validate`] for SQLite, which has refused the others.
    pub(super) fn shapes(&self, installation: &Installation) -> Vec<(String, Shape)> {
        self.all_columns(installation)
            .iter()
            .filter_map(|column| Some((column.get_column_name(), Shape::of(column.get_column_type()?).ok()?)))
            .collect()
    }

    pub(super) fn has_updated_at(&self) -> bool {
        self.timestamps == Timestamps::CreatedAndUpdated
    }

    /// The conditions of the definition with their subjects, rendered for an engine.
    pub(super) fn conditions(&self, engine: Engine) -> Vec<(String, String)> {
        self.checks.iter().map(|check| (check.subject.clone(), check.rule.condition(&check.subject, engine))).collect()
    }

    /// Names of the indexes and their columns as SQL: the stated ones, one for each reference, one in the order of creation.
    pub(super) fn all_indexes(&self, engine: Engine, installation: &Installation) -> Vec<(String, String)> {
        let ascending = |columns: Vec<String>| Index { columns, newest_first: false };
        let mut indexes: Vec<Index> =
            self.references.iter().map(|reference| ascending(vec![reference.column.clone()])).collect();
        if self.timestamps != Timestamps::None {
            indexes.push(ascending(vec!["created_at".to_owned(), "id".to_owned()]));
        }
        for index in &self.indexes {
            if !indexes.contains(index) {
                indexes.push(index.clone());
            }
        }
        // A unique constraint has an index that serves its leading columns already.
        indexes.retain(|index| {
            index.newest_first || !self.uniques.iter().any(|unique| unique.starts_with(&index.columns))
        });
        indexes
            .into_iter()
            .map(|index| {
                let mut parts = vec![self.name.as_str()];
                parts.extend(index.columns.iter().map(String::as_str));
                parts.push("idx");
                // SQLite puts nulls last by itself when descending, and refuses the words.
                let order = match (index.newest_first, engine) {
                    (false, _) => "",
                    (true, Engine::Postgres) => " DESC NULLS LAST",
                    (true, Engine::Sqlite) => " DESC",
                };
                let columns = index.columns.iter().map(|column| format!(", {}{order}", quote(column)));
                let columns = quote(&installation.tenant_column) + &columns.collect::<String>();
                (object_name(&parts), columns)
            })
            .collect()
    }

    pub(super) fn unique_name(&self, columns: &[String]) -> String {
        let mut parts = vec![self.name.as_str()];
        parts.extend(columns.iter().map(String::as_str));
        parts.push("key");
        object_name(&parts)
    }
}

impl Rule {
    fn is_expression(&self) -> bool {
        matches!(self, Self::Expression(_))
    }

    fn condition(&self, subject: &str, engine: Engine) -> String {
        match self {
            Self::OneOf(values) => {
                let values = values.iter().map(|value| literal(value)).collect::<Vec<_>>().join(", ");
                format!("{} IN ({values})", quote(subject))
            }
            Self::Between(least, greatest) => format!("{} BETWEEN {least} AND {greatest}", quote(subject)),
            Self::Expression(condition) => {
                let mut sql = String::new();
                match engine {
                    Engine::Postgres => QueryBuilder::prepare_expr(&PostgresQueryBuilder, condition, &mut sql),
                    Engine::Sqlite => QueryBuilder::prepare_expr(&SqliteQueryBuilder, condition, &mut sql),
                }
                sql
            }
        }
    }
}

/// A column's definition in SQL. The clock as a default becomes SQLite's canonical form.
pub(super) fn column_sql(column: &ColumnDef, engine: Engine) -> String {
    let mut column = column.clone();
    let mut sql = String::new();
    match engine {
        Engine::Postgres => PostgresQueryBuilder.prepare_column_def(&column, &mut sql),
        Engine::Sqlite => {
            if matches!(column.get_column_spec().default, Some(Expr::Keyword(Keyword::CurrentTimestamp))) {
                column.default(Expr::cust(sqlite::NOW));
            }
            SqliteQueryBuilder.prepare_column_def(&column, &mut sql);
        }
    }
    sql
}
