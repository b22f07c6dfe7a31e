//! The program of an application that is not the reference one: a depot, whose tenants store goods. Its tenant column is called
//! `owner_id` and is a bigint; it has a table and commands of its own. The scenarios run it as a process.
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
use sea_orm_migration::{MigrationTrait, schema::text};
use tenantry::{
    Error,
    data_source::TenantDb,
    migrations::{Migrator, TenantSchema, TenantTable, create_tables},
    operations::find_tenant,
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
