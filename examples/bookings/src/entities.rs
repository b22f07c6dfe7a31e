//! The entities of the three tables, as SeaORM's generator writes them, and which column names the tenant.

/// What can be booked.
pub mod rooms {
    use sea_orm::entity::prelude::*;

    /// A row of `rooms`.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "rooms")]
    pub struct Model {
        /// The organisation.
        #[sea_orm(primary_key, auto_increment = false)]
        pub org_id: i64,
        /// Made by the repository where it is not set.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        /// Unique within the organisation.
        #[sea_orm(column_type = "Text")]
        pub name: String,
        /// From 1 to 20.
        pub beds: i32,
        /// Set by the database.
        pub created_at: Option<DateTimeWithTimeZone>,
        /// Set by the database.
        pub updated_at: Option<DateTimeWithTimeZone>,
    }

    /// None that the example queries by.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Who stays.
pub mod guests {
    use sea_orm::entity::prelude::*;

    /// A row of `guests`.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "guests")]
    pub struct Model {
        /// The organisation.
        #[sea_orm(primary_key, auto_increment = false)]
        pub org_id: i64,
        /// Made by the repository where it is not set.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        /// As the guest signs.
        #[sea_orm(column_type = "Text")]
        pub name: String,
        /// Where the confirmation goes.
        #[sea_orm(column_type = "Text", nullable)]
        pub email: Option<String>,
        /// Set by the database.
        pub created_at: Option<DateTimeWithTimeZone>,
        /// Set by the database.
        pub updated_at: Option<DateTimeWithTimeZone>,
    }

    /// None that the example queries by.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Who stays where, and when.
pub mod reservations {
    use sea_orm::entity::prelude::*;

    /// A row of `reservations`.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "reservations")]
    pub struct Model {
        /// The organisation.
        #[sea_orm(primary_key, auto_increment = false)]
        pub org_id: i64,
        /// Made by the repository where it is not set.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        /// A room of the same organisation.
        pub room_id: Uuid,
        /// A guest of the same organisation.
        pub guest_id: Uuid,
        /// The first night.
        pub arrival: Date,
        /// The day after the last night.
        pub departure: Date,
        /// Set by the database.
        pub created_at: Option<DateTimeWithTimeZone>,
        /// Set by the database.
        pub updated_at: Option<DateTimeWithTimeZone>,
    }

    /// Within one organisation.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {
        /// The room.
        #[sea_orm(
            belongs_to = "super::rooms::Entity",
            from = "(Column::OrgId, Column::RoomId)",
            to = "(super::rooms::Column::OrgId, super::rooms::Column::Id)"
        )]
        Rooms,
        /// The guest.
        #[sea_orm(
            belongs_to = "super::guests::Entity",
            from = "(Column::OrgId, Column::GuestId)",
            to = "(super::guests::Column::OrgId, super::guests::Column::Id)"
        )]
        Guests,
    }

    impl Related<super::rooms::Entity> for Entity {
        fn to() -> RelationDef {
            Relation::Rooms.def()
        }
    }

    impl Related<super::guests::Entity> for Entity {
        fn to() -> RelationDef {
            Relation::Guests.def()
        }
    }

    impl ActiveModelBehavior for ActiveModel {}
}

tenantry::tenant_entity!(rooms => OrgId, guests => OrgId, reservations => OrgId);
