//! The program of an application that is not the reference one: a depot, whose tenants store goods. Its tenant column is called
//! `owner_id` and is a bigint; it has tables in both kinds of database and commands of its own. The scenarios run it as a process.
//!
//! ```text
//! depot migrate up
//! depot create-tenant --name Acme --subdomain acme --tenant-id-in-data-source 42
//! depot receive --tenant acme crates
//! depot stock --tenant acme
//! ```

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use sea_orm::ActiveValue::Set;
use sea_orm_migration::{prelude::*, schema::text};
use tenantry::{
    Error, Tenantry,
    data_source::TenantDb,
    migrations::{Migrator, TenantSchema, TenantTable, create_tables},
    operations::{Direction, MigrateReport, MigrateScope, find_tenant, migrate_with_own_tables},
    realm::TenantKeyType,
    repository::{Query, RepositoryExt},
    settings::{Settings, SettingsError},
};
use tenantry_cli::{Application, Failure, Outcome, answer, text::Text, with_tenantry};

mod goods {
    //! What a tenant has in the depot.
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "goods")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) owner_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub(crate) name: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

tenantry::tenant_entity!(goods => OwnerId);

mod halls {
    //! Where the depot is: no tenant's business, and so in the application database.
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "halls")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
        pub(crate) name: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

tenantry::app_entity!(halls);

#[derive(DeriveMigrationName)]
struct Halls;

#[async_trait::async_trait]
impl MigrationTrait for Halls {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(Table::create().table("halls").col(text("name").primary_key()).to_owned()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("halls").to_owned()).await
    }
}

/// The depot's own tables in the application database.
struct DepotTables;

impl MigratorTrait for DepotTables {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Halls)]
    }
}

struct Depot;

impl TenantSchema for Depot {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![create_tables("m20261122_000001_goods", || [TenantTable::new("goods").column(text("name"))])]
    }
}

impl Application for Depot {
    type TenantData = Migrator<Self>;
    const NAME: &'static str = "depot";
    const ABOUT: &'static str = "Keeps what tenants store";

    /// The column is in the schema and not for an operator to choose.
    fn settings() -> Result<Settings, SettingsError> {
        let mut settings = Settings::load()?;
        settings.tenant_column = "owner_id".to_owned();
        settings.tenant_key_type = TenantKeyType::BigInt;
        Ok(settings)
    }

    fn tenantry(settings: Settings) -> Result<Tenantry, Error> {
        Tenantry::builder(settings).admit::<halls::Entity>().build()
    }

    async fn migrate(tenantry: &Tenantry, scope: MigrateScope, direction: Direction) -> Result<MigrateReport, Error> {
        migrate_with_own_tables::<Self::TenantData, DepotTables>(tenantry, scope, direction).await
    }

    fn command() -> clap::Command {
        Cli::command()
    }
}

/// The operators' commands beside the depot's own.
#[derive(Parser)]
#[command(name = Depot::NAME, bin_name = Depot::NAME, about = Depot::ABOUT, disable_help_subcommand = true)]
enum Cli {
    #[command(flatten)]
    Operators(tenantry_cli::Command<Depot>),
    /// Says how much a tenant has in the depot
    Stock {
        /// The tenant, by id or subdomain
        #[arg(long)]
        tenant: String,
    },
    /// Opens a hall
    Open {
        /// Its name
        name: String,
    },
    /// Takes something in
    Receive {
        /// The tenant, by id or subdomain
        #[arg(long)]
        tenant: String,
        /// What it is
        name: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = tenantry_cli::parse::<Cli>();
    tenantry_cli::start_log();
    match cli {
        Cli::Operators(command) => command.execute().await,
        Cli::Stock { tenant } => tenantry_cli::exit::<Depot>(stock(&tenant).await, false),
        Cli::Open { name } => tenantry_cli::exit::<Depot>(open(name).await, false),
        Cli::Receive { tenant, name } => tenantry_cli::exit::<Depot>(receive(&tenant, name).await, false),
    }
}

async fn stock(tenant: &str) -> Result<Outcome, Failure> {
    with_tenant(tenant, async |db| {
        let count = db.repository::<goods::Entity>().count(&Query::new()).await.map_err(Failure::application)?;
        let mut text = Text::new();
        text.line(format!("{count} goods"));
        answer::<Depot, _>(&count, false, |_| text)
    })
    .await
}

async fn open(name: String) -> Result<Outcome, Failure> {
    with_tenantry::<Depot, _, _>(async |tenantry| {
        let hall = halls::ActiveModel { name: Set(name) };
        tenantry.app_db().insert(&Depot::actor("open"), hall).await.map_err(Error::from)?;
        let count = tenantry.app_db().find::<halls::Entity>().count().await.map_err(Error::from)?;
        let mut text = Text::new();
        text.line(format!("{count} halls"));
        answer::<Depot, _>(&count, false, |_| text)?;
        Ok(Outcome::Done)
    })
    .await
}

async fn receive(tenant: &str, name: String) -> Result<Outcome, Failure> {
    with_tenant(tenant, async |db| {
        let model = goods::ActiveModel { name: Set(name), ..Default::default() };
        db.repository::<goods::Entity>().create(model).await.map_err(Failure::application)?;
        Ok(())
    })
    .await
}

async fn with_tenant(
    tenant: &str,
    work: impl AsyncFnOnce(TenantDb) -> Result<(), Failure>,
) -> Result<Outcome, Failure> {
    with_tenantry::<Depot, _, _>(async |tenantry| {
        let tenant = find_tenant(tenantry, tenant).await?;
        let db = tenantry.tenant(tenant.id).await.map_err(Error::from)?.as_user(Depot::actor("receive"));
        work(db).await?;
        Ok(Outcome::Done)
    })
    .await
}
