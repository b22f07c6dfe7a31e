//! `list-tenants`: who the tenants are and where their rows lie, as the application database has it.

use tenantry::operations::{self, ListedTenant, TenantList};

use super::Format;
use crate::{
    Application, Failure, Outcome, answer,
    text::{Cell, Mark, Text},
    with_tenantry,
};

/// Lists the tenants: status, plan, data source and placement epoch, from the application database alone
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  {program} list-tenants\n  {program} list-tenants --status suspended --json\n\n\
                  Shows what is configured and connects to no data source; `check-tenant-config` judges it, and\n\
                  `test-data-source` measures it. No login is shown.\n\n\
                  Exit status: 0 listed, 2 could not run.")]
pub(crate) struct Args {
    /// Only tenants with this status
    #[arg(long, value_enum)]
    status: Option<Status>,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Status {
    Active,
    Suspended,
    Cancelled,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Cancelled => "cancelled",
        }
    }
}

pub(crate) async fn run<A: Application>(args: Args) -> Result<Outcome, Failure> {
    with_tenantry::<A, _, _>(async |tenantry| {
        let mut list = operations::list_tenants(tenantry).await?;
        if let Some(status) = args.status {
            list.tenants.retain(|tenant| tenant.status == status.as_str());
        }
        answer::<A, _>(&list, args.format.json, text)?;
        Ok(Outcome::Done)
    })
    .await
}

fn text(list: &TenantList) -> Text {
    let rows: Vec<_> = list.tenants.iter().map(row).collect();
    let mut text = Text::new();
    text.table(["tenant", "id", "name", "status", "plan", "data source", "epoch"], &rows);
    text.line(format!("{} tenants", list.tenants.len()));
    text
}

fn row(tenant: &ListedTenant) -> [Cell; 7] {
    let status = match tenant.status {
        "active" => Cell::from(tenant.status),
        status => Cell::marked(Mark::Warning, status),
    };
    let place = match (&tenant.data_source, tenant.data_source_is_usable) {
        (Some(url), _) => Cell::from(url.to_string()),
        (None, true) => Cell::from("-"),
        (None, false) => Cell::marked(Mark::Bad, "NOT USABLE"),
    };
    [
        Cell::from(tenant.subdomain.as_str()),
        Cell::from(tenant.tenant.to_string()),
        Cell::from(tenant.name.as_str()),
        status,
        Cell::from(tenant.plan),
        place,
        Cell::from(tenant.placement_epoch.to_string()),
    ]
}
