//! `create-tenant`: a tenant in one step that leaves nothing half-made.

use clap::ValueEnum;
use serde::Serialize;
use tenantry::{
    app_db::entities::Plan,
    operations::{self, NewTenantRequest},
};
use uuid::Uuid;

use super::{Format, data_source};
use crate::{
    Application, Failure, Outcome, answer,
    text::{Cell, Text},
    with_tenantry,
};

/// Creates a tenant in one step that leaves nothing half-made, on the default data source unless told otherwise
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  {program} create-tenant --name 'Acme Ltd' --subdomain acme\n  \
                  {program} create-tenant --name 'Acme Ltd' --subdomain acme --data-source sqlite:./var/acme.db\n\n\
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
    /// Its id in the data source where that is not its own: needed where the tenant column is no uuid
    #[arg(long, value_name = "ID")]
    tenant_id_in_data_source: Option<String>,
    #[command(flatten)]
    pub(super) format: Format,
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
    tenant_id_in_data_source: Option<String>,
}

pub(crate) async fn run<A: Application>(args: Args) -> Result<Outcome, Failure> {
    let data_source = args.data_source.as_deref().map(|url| data_source::read("--data-source", url)).transpose()?;
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
    with_tenantry::<A, _, _>(async |tenantry| {
        let actor = A::actor("create-tenant");
        let tenant = operations::create_tenant::<A::TenantData>(tenantry, request, &actor).await?;
        let created = Created {
            tenant: tenant.id,
            name: tenant.name,
            subdomain: tenant.subdomain,
            plan: tenant.plan.as_str(),
            data_source: tenant.data_source_url,
            region: tenant.data_source_region,
            tenant_id_in_data_source: tenant.tenant_id_in_data_source,
        };
        answer::<A, _>(&created, args.format.json, text)?;
        Ok(Outcome::Done)
    })
    .await
}

fn text(created: &Created) -> Text {
    let row = [
        Cell::from(created.tenant.to_string()),
        Cell::from(created.subdomain.as_str()),
        Cell::from(created.plan),
        Cell::optional(created.data_source.as_ref()),
        Cell::optional(created.region.as_ref()),
        Cell::optional(created.tenant_id_in_data_source.as_ref()),
    ];
    let mut text = Text::new();
    text.table(["tenant", "subdomain", "plan", "data source", "region", "id there"], &[row]);
    text
}
