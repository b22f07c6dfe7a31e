//! `cargo xtask create-tenant`: a tenant in one step that leaves nothing half-made.

use clap::ValueEnum;
use serde::Serialize;
use tenantry::{
    app_db::entities::Plan,
    migrations::TenantDataMigrator,
    operations::{self, NewTenantRequest},
};
use uuid::Uuid;

use super::{Outcome, data_source};
use crate::{failure::Failure, operator, table};

/// Creates a tenant in one step that leaves nothing half-made, on the default data source unless told otherwise
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask create-tenant --name 'Acme Ltd' --subdomain acme\n  \
                  cargo xtask create-tenant --name 'Acme Ltd' --subdomain acme --data-source sqlite:./var/acme.db\n\n\
                  A PostgreSQL --data-source takes its logins from the environment, never from the command line, where every\n\
                  user of the machine could read them: DATA_SOURCE_ANON_KEY and DATA_SOURCE_SERVICE_KEY, each\n\
                  `user:password` or `{\"user\":\"…\",\"password\":\"…\"}`.\n\n\
                  Exit status: 0 the tenant is there, 2 it was not created.")]
pub(crate) struct Args {
    /// The tenant's name
    #[arg(long)]
    name: String,
    /// Its subdomain: a DNS label that no other tenant has
    #[arg(long)]
    subdomain: String,
    /// Its plan
    #[arg(long, value_enum, default_value_t = PlanName::Starter)]
    plan: PlanName,
    /// Where its rows go, instead of the default data source
    #[arg(long, value_name = "URL")]
    data_source: Option<String>,
    /// Its id in the data source where that is not its own: needed where the tenant column is a bigint
    #[arg(long, value_name = "ID")]
    tenant_id_in_data_source: Option<String>,
    /// Print the tenant as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PlanName {
    Starter,
    Professional,
    Enterprise,
}

/// What is told about the new tenant.
#[derive(Debug, Serialize)]
struct Created {
    tenant: Uuid,
    name: String,
    subdomain: String,
    plan: &'static str,
    data_source: Option<String>,
    region: Option<String>,
}

pub(crate) async fn run(args: Args) -> Result<Outcome, Failure> {
    let data_source = args.data_source.as_deref().map(data_source::read).transpose()?;
    let plan = match args.plan {
        PlanName::Starter => Plan::Starter,
        PlanName::Professional => Plan::Professional,
        PlanName::Enterprise => Plan::Enterprise,
    };
    let request = NewTenantRequest {
        name: args.name,
        subdomain: args.subdomain,
        plan,
        tenant_id_in_data_source: args.tenant_id_in_data_source,
        data_source,
    };
    operator::with_tenantry(async |tenantry| {
        let actor = operator::actor("create-tenant");
        let tenant = operations::create_tenant::<TenantDataMigrator>(tenantry, request, &actor).await?;
        let created = Created {
            tenant: tenant.id,
            name: tenant.name,
            subdomain: tenant.subdomain,
            plan: tenant.plan.as_str(),
            data_source: tenant.data_source_url,
            region: tenant.data_source_region,
        };
        operator::answer(&created, args.json, text)?;
        Ok(Outcome::Done)
    })
    .await
}

fn text(created: &Created) -> String {
    let optional = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let row = [
        created.tenant.to_string(),
        created.subdomain.clone(),
        created.plan.to_owned(),
        optional(&created.data_source),
        optional(&created.region),
    ];
    table::render(["tenant", "subdomain", "plan", "data source", "region"], &[row])
}
