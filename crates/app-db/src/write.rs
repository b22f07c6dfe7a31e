//! Writing one row of an application entity. What has rules beyond its own row is reserved for the store.

use sea_orm::sea_query::Query;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, Insert, Iterable, PrimaryKeyToColumn, PrimaryKeyTrait, QueryFilter,
    QueryTrait, Update, ValidatedUpdateOne,
};
use tenantry_connection::Actor;
use tenantry_realm::AppEntity;

use crate::{
    AppDb, Error,
    app_db::{decode, table_of},
    entities::tenants,
};

/// A tenant's columns that only a compare-and-set on the placement epoch may change.
const PLACEMENT_COLUMNS: [tenants::Column; 6] = [
    tenants::Column::DataSourceUrl,
    tenants::Column::DataSourceAnonKey,
    tenants::Column::DataSourceServiceKey,
    tenants::Column::DataSourceRegion,
    tenants::Column::TenantIdInDataSource,
    tenants::Column::PlacementEpoch,
];

impl AppDb {
    /// Inserts a row and returns it as the database has it. What is not set has the column's default.
    ///
    /// # Errors
    /// [`Error::Database`] with the violation; [`Error::Reserved`] for tenants, data sources and the audit log, which have
    /// functions of their own.
    pub async fn insert<E, A>(&self, actor: &Actor, model: A) -> Result<E::Model, Error>
    where
        E: AppEntity,
        A: ActiveModelTrait<Entity = E>,
    {
        refuse_reserved::<E>("insert")?;
        let table = table_of::<E>();
        let mut write = self.write(actor, "insert a row").await?;
        let backend = write.backend();
        let columns = E::Column::iter().map(|column| column.select_as(column.into_returning_expr(backend)));
        let mut statement = Insert::one(model).into_query();
        statement.returning(Query::returning().exprs(columns));
        let row = write.row(table, &statement).await?.ok_or_else(|| Error::NoRow { table: table.to_owned() })?;
        let model = decode::<E>(&row)?;
        write.commit().await?;
        Ok(model)
    }

    /// Changes the set columns of the row with the model's primary key and returns the row as the database has it.
    ///
    /// # Errors
    /// [`Error::NoRow`]; [`Error::Build`] without a primary key; [`Error::Reserved`] for a tenant's placement, a data
    /// source or the audit log; [`Error::Database`] with the violation.
    pub async fn update<E, A>(&self, actor: &Actor, model: A) -> Result<E::Model, Error>
    where
        E: AppEntity,
        A: ActiveModelTrait<Entity = E>,
    {
        refuse_reserved::<E>("update")?;
        let table = table_of::<E>();
        refuse_placement(table, &model)?;
        let mut select = E::find();
        for key in E::PrimaryKey::iter() {
            let column = key.into_column();
            if let Some(value) = model.get(column).into_value() {
                select = select.filter(column.eq(value));
            }
        }
        let update: ValidatedUpdateOne<A> =
            Update::one(model).validate().map_err(|source| Error::Build { table: table.to_owned(), source })?;
        let statement = update.into_query();
        let mut write = self.write(actor, "update a row").await?;
        if !statement.get_values().is_empty() {
            write.execute(table, &statement).await?;
        }
        // Read back rather than RETURNING: on SQLite that shows the row as it was before the triggers touched it.
        let row = write.row(table, &select.into_query()).await?;
        let model = decode::<E>(&row.ok_or_else(|| Error::NoRow { table: table.to_owned() })?)?;
        write.commit().await?;
        Ok(model)
    }

    /// Deletes the row with the primary key; false when there was none.
    ///
    /// # Errors
    /// [`Error::Reserved`] for tenants, whose rows stay so that their ids are never reused, for data sources and for the
    /// audit log, which only grows; [`Error::Database`].
    pub async fn delete<E: AppEntity>(
        &self,
        actor: &Actor,
        key: impl Into<<E::PrimaryKey as PrimaryKeyTrait>::ValueType>,
    ) -> Result<bool, Error> {
        refuse_reserved::<E>("delete")?;
        let statement = E::delete_by_id(key).into_query();
        let mut write = self.write(actor, "delete a row").await?;
        let affected = write.execute(table_of::<E>(), &statement).await?;
        write.commit().await?;
        Ok(affected > 0)
    }
}

fn refuse_reserved<E: AppEntity>(operation: &str) -> Result<(), Error> {
    let (table, instead) = match (table_of::<E>(), operation) {
        ("tenants", "insert") => ("tenants", "call create_tenant"),
        ("tenants", "delete") => {
            ("tenants", "set the status to cancelled; its row stays, so that its id is never reused")
        }
        ("data_sources", "delete") => {
            ("data_sources", "its row says whom the database serves; change it, don't lose it")
        }
        ("data_sources", _) => ("data_sources", "call upsert_data_source"),
        ("tenantry_transfers", _) => ("tenantry_transfers", "transfers are written by those who run them"),
        ("audit_log", "insert") => ("audit_log", "call audit"),
        ("audit_log", _) => ("audit_log", "its entries are only ever added"),
        _ => return Ok(()),
    };
    Err(Error::Reserved { table, instead })
}

fn refuse_placement<A: ActiveModelTrait>(table: &str, model: &A) -> Result<(), Error> {
    if table != table_of::<tenants::Entity>() {
        return Ok(());
    }
    let reserved = |column: <A::Entity as EntityTrait>::Column| {
        let name = sea_orm::IdenStatic::as_str(&column);
        PLACEMENT_COLUMNS.iter().any(|reserved| sea_orm::IdenStatic::as_str(reserved) == name)
    };
    let touched =
        <A::Entity as EntityTrait>::Column::iter().any(|column| reserved(column) && model.get(column).is_set());
    if touched {
        Err(Error::Reserved { table: "tenants", instead: "a placement changes through place or replace_credentials" })
    } else {
        Ok(())
    }
}
