//! Relations between entities of one tenant, with the tenant predicate on both sides.

use sea_orm::{
    Condition, ExprTrait, Iterable, Related, RelationDef,
    sea_query::{Alias, DynIden, Expr, IntoIden, Query, TableRef},
};
use tenantry_realm::TenantEntity;

use super::{Scope, table_name, tenant_predicate};

/// Why a relation cannot be used.
#[derive(Debug, Clone)]
pub(super) struct Unjoinable {
    pub(super) related: String,
    pub(super) reason: &'static str,
}

/// The table to join and the condition of its ON, which carries the predicate of both sides.
pub(super) fn join<E, R>(scope: &mut Scope<E>) -> Result<(TableRef, Condition), Unjoinable>
where
    E: TenantEntity + Related<R>,
    R: TenantEntity,
{
    let unjoinable = |reason| Err(Unjoinable { related: R::default().table_name().to_owned(), reason });
    let relation = relation::<E, R>()?;
    let table = R::default().table_ref();
    let Some(name) = table_name(&table) else { return unjoinable("its table has an alias") };
    if scope.scoped.contains(&name) {
        return unjoinable("its table is in the statement already");
    }
    let on = Condition::all()
        .add(on_columns(scope, relation, R::default().into_iden()))
        .add(tenant_predicate::<E>(scope.key()))
        .add(tenant_predicate::<R>(scope.key()));
    scope.scoped.push(name);
    Ok((table, on))
}

/// `EXISTS (SELECT 1 FROM (SELECT … FROM related WHERE tenant … AND condition) AS "related" WHERE join)`. The inner query has
/// the related table to itself, so that a condition on its columns means the same where the relation leads back to `E`.
pub(super) fn exists<E, R>(scope: &mut Scope<E>, condition: Condition) -> Result<Expr, Unjoinable>
where
    E: TenantEntity + Related<R>,
    R: TenantEntity,
{
    let relation = relation::<E, R>()?;
    let table = R::default().table_ref();
    let Some(name) = table_name(&table) else {
        return Err(Unjoinable { related: R::default().table_name().to_owned(), reason: "its table has an alias" });
    };
    let inner = Query::select()
        .columns(R::Column::iter())
        .from(table)
        .cond_where(tenant_predicate::<R>(scope.key()).add(condition.clone()))
        .to_owned();
    let alias = Alias::new("related").into_iden();
    let exists = Query::select()
        .expr(Expr::val(1))
        .from_subquery(inner, alias.clone())
        .cond_where(Condition::all().add(on_columns(scope, relation, alias)).add(tenant_predicate::<E>(scope.key())))
        .to_owned();
    scope.unchecked.push(condition);
    if !scope.scoped.contains(&name) {
        scope.scoped.push(name);
    }
    Ok(Expr::exists(exists))
}

fn relation<E, R>() -> Result<RelationDef, Unjoinable>
where
    E: TenantEntity + Related<R>,
    R: TenantEntity,
{
    let unjoinable = |reason| Err(Unjoinable { related: R::default().table_name().to_owned(), reason });
    // A table in between would be in the statement without being an entity of the tenant realm.
    if <E as Related<R>>::via().is_some() {
        return unjoinable("the relation goes through another table");
    }
    let relation = <E as Related<R>>::to();
    if relation.from_tbl != E::default().table_ref() || relation.to_tbl != R::default().table_ref() {
        return unjoinable("the relation names other tables than the two entities");
    }
    Ok(relation)
}

/// The columns of a relation, with the related table under the given name. A relation's own condition is the application's,
/// so the guard sees it.
fn on_columns<E: TenantEntity>(scope: &mut Scope<E>, relation: RelationDef, related: DynIden) -> Condition {
    let own = E::default().into_iden();
    let columns = relation.from_col.into_iter().zip(relation.to_col).fold(Condition::all(), |all, (from, to)| {
        all.add(Expr::col((own.clone(), from)).equals((related.clone(), to)))
    });
    let Some(on_condition) = relation.on_condition else { return columns };
    let further = on_condition(own, related);
    scope.unchecked.push(further.clone());
    match relation.condition_type {
        sea_orm::sea_query::ConditionType::All => Condition::all().add(columns).add(further),
        sea_orm::sea_query::ConditionType::Any => Condition::any().add(columns).add(further),
    }
}
