//! Entities beside the generated ones: another view of a reference table, and a table of an application of its own.
#![expect(unreachable_pub, reason = "the derives make items that have to be as public as the model")]

/// The accounts again, with hooks that validate.
pub(super) mod validated {
    use sea_orm::ActiveValue::Set;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "accounts")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub tenant_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub name: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub notes: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    #[async_trait::async_trait]
    impl ActiveModelBehavior for ActiveModel {
        async fn before_save<C: ConnectionTrait>(mut self, db: &C, insert: bool) -> Result<Self, DbErr> {
            match self.name.try_as_ref().map(String::as_str) {
                Some("") => return Err(DbErr::Custom("an account needs a name".to_owned())),
                Some("ask the database") => drop(Entity::find().one(db).await?),
                _ => {}
            }
            if self.tenant_id.is_not_set() || self.id.is_not_set() {
                return Err(DbErr::Custom("a hook sees which row it is".to_owned()));
            }
            self.notes = Set(Some(if insert { "inserted" } else { "updated" }.to_owned()));
            Ok(self)
        }

        async fn after_save<C: ConnectionTrait>(mut model: Model, _: &C, _: bool) -> Result<Model, DbErr> {
            if model.name == "refused afterwards" {
                return Err(DbErr::Custom("too late".to_owned()));
            }
            model.name.push('!');
            Ok(model)
        }
    }
}

tenantry_realm::tenant_entity!(validated);
