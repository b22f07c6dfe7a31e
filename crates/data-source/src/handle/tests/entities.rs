//! Two tables of an application that is not the reference one.
#![expect(unreachable_pub, reason = "the derives make items that have to be as public as the model")]

pub(super) mod folders {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "folders")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub org_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub parent_id: Option<i64>,
        pub name: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {
        #[sea_orm(belongs_to = "Entity", from = "Column::ParentId", to = "Column::Id")]
        Parent,
        #[sea_orm(has_many = "super::documents::Entity")]
        Documents,
    }

    impl Related<Entity> for Entity {
        fn to() -> RelationDef {
            Relation::Parent.def()
        }
    }

    impl Related<super::documents::Entity> for Entity {
        fn to() -> RelationDef {
            Relation::Documents.def()
        }
    }

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod documents {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "documents")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub org_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub folder_id: Option<i64>,
        pub title: Option<String>,
        pub rank: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {
        // Without the tenant column: the builder must not rely on it.
        #[sea_orm(belongs_to = "super::folders::Entity", from = "Column::FolderId", to = "super::folders::Column::Id")]
        Folder,
    }

    impl Related<super::folders::Entity> for Entity {
        fn to() -> RelationDef {
            Relation::Folder.def()
        }
    }

    impl ActiveModelBehavior for ActiveModel {}
}

tenantry_realm::tenant_entity!(folders => OrgId, documents => OrgId);
