//! Statements that cannot leave their tenant.
//!
//! Each is made from a handle and carries that handle's tenant: the predicate on the tenant column is put there when the
//! statement is built, whatever else was asked for. Only narrowing is offered: conditions, order by columns, limits, joins and
//! existence checks through relations, which get the predicate on both sides.

mod decode;
mod delete;
mod insert;
mod related;
mod select;
mod update;

use std::{marker::PhantomData, sync::Arc};

use sea_orm::{
    ColumnTrait, Condition, EntityTrait, ExprTrait, IdenStatic, Iterable, PrimaryKeyToColumn, StatementBuilder, Value,
    sea_query::{Expr, IntoCondition, Query, ReturningClause, TableName, TableRef},
};
use tenantry_realm::{TenantEntity, TenantKey};

use decode::Decoder;
pub use delete::ScopedDelete;
pub use insert::ScopedInsert;
pub use select::ScopedSelect;
pub use update::ScopedUpdate;

use crate::{
    Error,
    guard::Guard,
    handle::{TenantContext, sealed::Checked},
};

/// What every statement has: the tenant, its own table, the tables it scoped, and its conditions.
#[derive(Clone)]
struct Scope<E: TenantEntity> {
    made_for: Arc<TenantContext>,
    table: String,
    /// The tables that carry the tenant predicate in this statement.
    scoped: Vec<TableName>,
    /// Conditions from outside, to be checked by the guard before the statement runs.
    unchecked: Vec<Condition>,
    /// Everything that goes into WHERE beside the tenant predicate, checked or made here.
    conditions: Vec<Condition>,
    entity: PhantomData<fn() -> E>,
}

impl<E: TenantEntity> Scope<E> {
    fn new(context: &Arc<TenantContext>) -> Self {
        let entity = E::default();
        Self {
            made_for: Arc::clone(context),
            table: entity.table_name().to_owned(),
            scoped: table_name(&entity.table_ref()).into_iter().collect(),
            unchecked: Vec::new(),
            conditions: Vec::new(),
            entity: PhantomData,
        }
    }

    fn key(&self) -> &TenantKey {
        &self.made_for.key
    }

    fn filter(&mut self, condition: impl IntoCondition) {
        let condition = condition.into_condition();
        self.unchecked.push(condition.clone());
        self.conditions.push(condition);
    }

    /// The tenant predicate and every other condition, in one place, so that no `any` can swallow the predicate.
    fn predicate(&self) -> Condition {
        self.conditions.iter().cloned().fold(tenant_predicate::<E>(self.key()), Condition::add)
    }

    /// Goes where the handle that is about to run this has gone since: its tenant may have another id there. Only for what is
    /// rendered from the scope alone.
    fn follow(&mut self, context: &Arc<TenantContext>) {
        if self.is_of_an_older_place(context) {
            self.made_for = Arc::clone(context);
        }
    }

    /// Whether the tenant has been placed anew between the making of this and the handle.
    fn is_of_an_older_place(&self, context: &TenantContext) -> bool {
        context.tenant_id == self.made_for.tenant_id && context.epoch > self.made_for.epoch
    }

    /// Renders a statement for the handle that is about to run it, if that handle may.
    fn finish(&self, context: &TenantContext, statement: &impl StatementBuilder) -> Result<Checked, Error> {
        // A data source may have moved in between; whose rows they are may not.
        if context.tenant_id != self.made_for.tenant_id || context.key != self.made_for.key {
            if self.is_of_an_older_place(context) {
                return Err(Error::Moved { tenant: context.tenant_id });
            }
            return Err(Error::OtherTenant { statement: self.made_for.tenant_id, handle: context.tenant_id });
        }
        let guard =
            Guard { table: &self.table, scoped: &self.scoped, engine: context.engine, isolation: context.isolation };
        let mut custom = false;
        for condition in &self.unchecked {
            custom |= guard.check_condition(condition)?;
        }
        guard.check_statement(statement)?;
        let statement = statement.build(&context.backend());
        let checked = if custom { Checked::raw(statement) } else { Checked::new(statement) };
        Ok(checked.naming(&context.key))
    }

    fn decoder(&self) -> Decoder<E> {
        Decoder::new(&self.table, self.made_for.engine)
    }
}

fn tenant_predicate<E: TenantEntity>(key: &TenantKey) -> Condition {
    Condition::all().add(Expr::col(E::tenant_column().as_column_ref()).eq(key.value()))
}

/// The unaliased name of an entity's table.
fn table_name(table: &TableRef) -> Option<TableName> {
    match table {
        TableRef::Table(name, None) => Some(name.clone()),
        _ => None,
    }
}

fn is_tenant_column<E: TenantEntity>(column: &E::Column) -> bool {
    column.as_str() == E::tenant_column().as_str()
}

fn is_key_column<E: EntityTrait>(column: &E::Column) -> bool {
    E::PrimaryKey::iter().any(|key| key.into_column().as_str() == column.as_str())
}

/// Whether a value of the tenant column is the tenant's own key; an integer counts whatever its width.
fn is_own_key(value: &Value, key: &TenantKey) -> bool {
    match (value, key) {
        (Value::Uuid(Some(value)), TenantKey::Uuid(key)) => value == key,
        (Value::String(Some(value)), TenantKey::Text(key)) => value == key,
        (Value::BigInt(Some(value)), TenantKey::BigInt(key)) => value == key,
        (Value::Int(Some(value)), TenantKey::BigInt(key)) => i64::from(*value) == *key,
        (Value::SmallInt(Some(value)), TenantKey::BigInt(key)) => i64::from(*value) == *key,
        (Value::BigUnsigned(Some(value)), TenantKey::BigInt(key)) => i64::try_from(*value) == Ok(*key),
        (Value::Unsigned(Some(value)), TenantKey::BigInt(key)) => i64::from(*value) == *key,
        _ => false,
    }
}

/// RETURNING every column, in the form that the entity reads.
fn returning<E: EntityTrait>() -> ReturningClause {
    Query::returning().exprs(E::Column::iter().map(|column| column.select_as(Expr::col(column))))
}
