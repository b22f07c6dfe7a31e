//! An application that is not the reference one: numbers as tenants, a tenant column of another name, a table of its own.
#![expect(unreachable_pub, reason = "the derives make items that have to be as public as the model")]

use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, Order};
use sea_orm_migration::MigrationTrait;
use sea_orm_migration::schema::{big_integer_null, text};
use serde_json::json;
use tenantry_data_source::{Error as DataSourceError, TenantHandle};
use tenantry_migrations::{Migrator, TenantSchema, TenantTable, create_tables};
use tenantry_realm::{TenantKey, TenantKeyType};
use tenantry_repository::{Error, Exposed, Query, RepositoryExt, SearchOptions};

use tenantry_test_support::cluster::Cluster;

use super::world::{Layout, World};

mod rooms {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "rooms")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub org_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub name: String,
        pub seats: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

tenantry_realm::tenant_entity!(rooms => OrgId);

struct Rooms;

impl TenantSchema for Rooms {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![create_tables("rooms", || {
            [TenantTable::new("rooms").column(text("name")).column(big_integer_null("seats"))]
        })]
    }
}

async fn world(cluster: Option<&Cluster>) -> World {
    let layout = Layout { tenant_column: "org_id", key_type: TenantKeyType::BigInt, keys: [Some("7"), Some("8")] };
    World::new::<Migrator<Rooms>>(cluster, layout).await
}

async fn numbered_tenants_are_kept_apart_alike(world: World) {
    let room =
        |name: &str, seats| rooms::ActiveModel { name: Set(name.to_owned()), seats: Set(seats), ..Default::default() };
    assert_eq!(world.one.key(), &TenantKey::BigInt(7));
    let (one, two) = (world.one.repository::<rooms::Entity>(), world.two.repository::<rooms::Entity>());
    let created = one.create(room("Saal", Some(i64::MAX))).await.unwrap();
    assert_eq!((created.org_id, created.seats), (7, Some(i64::MAX)));
    two.create(rooms::ActiveModel { id: Set(created.id), ..room("Ihrer", None) }).await.unwrap();
    assert_eq!(two.bulk_create([room("b", Some(2)), room("c", Some(1))]).await.unwrap(), 2);
    let forged = rooms::ActiveModel { org_id: Set(8), ..room("x", None) };
    assert!(matches!(one.create(forged).await, Err(Error::DataSource(DataSourceError::ForgedTenant { .. }))));
    let own = rooms::ActiveModel { org_id: Set(7), ..room("own", None) };
    one.create(own).await.unwrap();
    let by_seats = Query::new().order_by(rooms::Column::Seats, Order::Asc);
    let page = two.paginate(&by_seats, 1, 2).await.unwrap();
    assert_eq!(page.items.iter().map(|room| &*room.name).collect::<Vec<_>>(), ["c", "b"]);
    assert_eq!(page.total, 3);
    let exposed = Exposed::<rooms::Entity>::new();
    let list = exposed.list(&json!({"filter": {"seats": {"ne": 7}}, "order": "seats", "limit": 2})).unwrap();
    let first = two.page_after(&list.query, None, list.limit).await.unwrap();
    let rest = two.page_after(&list.query, first.next.as_ref(), list.limit).await.unwrap();
    let shown: Vec<_> = first.items.iter().chain(&rest.items).map(|room| exposed.render(room)).collect();
    assert_eq!(shown.iter().map(|room| &room["name"]).collect::<Vec<_>>(), ["c", "b", "Ihrer"]);
    assert_eq!((shown[0].get("org_id"), rest.next), (None, None));
    assert!(
        exposed.filter(&json!({"org_id": 7})).is_err() && exposed.new_row(&json!({"name": "a", "org_id": 8})).is_err()
    );
    let found = one.search(SearchOptions::contains("SAA", [rooms::Column::Name])).await.unwrap();
    assert_eq!(found, std::slice::from_ref(&created));
    assert_eq!(one.bulk_update_where(rooms::Column::Id.eq(created.id), room("neu", None)).await.unwrap(), 1);
    assert_eq!(two.find_by_id(created.id).await.unwrap().unwrap().name, "Ihrer");
    assert!(one.delete(created.id).await.unwrap());
    assert!(two.exists(created.id).await.unwrap());
    assert!(!world.one.write_log(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn numbered_tenants_on_sqlite() {
    numbered_tenants_are_kept_apart_alike(world(None).await).await;
}

#[tokio::test]
async fn numbered_tenants_on_postgres() {
    numbered_tenants_are_kept_apart_alike(world(Some(&Cluster::shared().unwrap())).await).await;
}
