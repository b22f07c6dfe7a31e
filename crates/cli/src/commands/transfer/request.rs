//! What is asked for: which tenants, where to, and how a transfer behaves.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use tenantry::{
    Tenantry,
    app_db::entities::tenants,
    connection::{DataSourceUrl, Engine},
    operations::{self, TransferTarget},
    transfer::Options,
};
use uuid::Uuid;

use super::super::data_source::{self, Kind};
use crate::Failure;

/// The default data source, as `--to` names it.
const DEFAULT: &str = "default";
/// The single database that the application database was, as `--all-from` names it.
const SINGLE: &str = "single";

/// Which tenants.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Who {
    /// The tenant, by id or subdomain
    tenant: Option<String>,
    /// Every tenant that is in this data source; `single` for those that are in the single database still
    #[arg(long, value_name = "URL")]
    all_from: Option<String>,
    /// Every tenant that a file names: an id or subdomain on each line, comments after #
    #[arg(long, value_name = "FILE")]
    tenants: Option<PathBuf>,
}

/// Where to.
#[derive(Debug, clap::Args)]
pub(super) struct Where {
    /// The data source that they go to, or `default` for the default one
    #[arg(long, value_name = "URL")]
    to: String,
    /// Whom the data source serves, where it is not known yet: an SQLite file one tenant, a PostgreSQL database many
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Bring the data source's schema up to date first
    #[arg(long)]
    prepare: bool,
    /// The tenant's id there, where it differs from the one that it has now
    #[arg(long, value_name = "ID", conflicts_with_all = ["all_from", "tenants"])]
    tenant_id: Option<String>,
}

/// What goes along.
#[derive(Debug, clap::Args)]
pub(super) struct Tables {
    /// A table without a tenant column that is copied whole beforehand, because the tenant's rows refer to it; may be given
    /// several times
    #[arg(long = "reference-table", value_name = "NAME")]
    reference_tables: Vec<String>,
}

/// How it behaves.
#[derive(Debug, clap::Args)]
pub(super) struct Manner {
    /// How long to wait for the tenant's open writers before giving up
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    deadline: u64,
    /// When the deadline is over, end the sessions that still write instead of giving up; it takes the role
    /// `pg_signal_backend`, or the writers' own role
    #[arg(long)]
    end_writers: bool,
    /// The most tables of one tenant that are copied at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
}

/// The tenants that were chosen.
pub(super) enum Chosen {
    /// One, by its name: its report is the whole answer.
    One(Tenant),
    /// As many as there are.
    Many(Vec<Tenant>),
}

/// One of them.
pub(super) struct Tenant {
    pub(super) id: Uuid,
    pub(super) subdomain: String,
}

impl From<tenants::Model> for Tenant {
    fn from(tenant: tenants::Model) -> Self {
        Self { id: tenant.id, subdomain: tenant.subdomain }
    }
}

impl Who {
    pub(super) async fn choose(&self, tenantry: &Tenantry) -> Result<Chosen, Failure> {
        if let Some(name) = &self.tenant {
            return Ok(Chosen::One(operations::find_tenant(tenantry, name).await?.into()));
        }
        let mut chosen = Vec::new();
        if let Some(from) = &self.all_from {
            chosen = all_from(tenantry, from).await?;
        } else if let Some(file) = &self.tenants {
            let text = fs::read_to_string(file).map_err(|error| {
                Failure::argument("--tenants", format!("{} cannot be read: {error}", file.display()))
            })?;
            let mut known = BTreeSet::new();
            for (number, name) in names(&text) {
                let found = operations::find_tenant(tenantry, name).await;
                let tenant = found.map_err(|error| match error {
                    tenantry::Error::UnknownTenant(_) => Failure::Argument {
                        argument: "--tenants",
                        problem: format!("line {number} of {} names no tenant: {name:?}", file.display()),
                        help: Some("`list-tenants` shows them".to_owned()),
                    },
                    error => error.into(),
                })?;
                if known.insert(tenant.id) {
                    chosen.push(tenant);
                }
            }
        }
        Ok(Chosen::Many(chosen.into_iter().map(Into::into).collect()))
    }
}

async fn all_from(tenantry: &Tenantry, from: &str) -> Result<Vec<tenants::Model>, Failure> {
    let mut all = tenantry.app_db().tenants().await.map_err(tenantry::Error::from)?;
    if from == SINGLE {
        all.retain(|tenant| tenant.data_source_url.is_none());
        return Ok(all);
    }
    let url = data_source::url("--all-from", from)?;
    let is_known = tenantry.app_db().data_source(&url).await.map_err(tenantry::Error::from)?.is_some();
    let there = |text: &String| DataSourceUrl::parse(text).is_ok_and(|parsed| parsed == url);
    all.retain(|tenant| tenant.data_source_url.as_ref().is_some_and(there));
    if all.is_empty() && !is_known {
        return Err(Failure::Argument {
            argument: "--all-from",
            problem: format!("no data source has the URL {url}"),
            help: Some("`list-tenants` shows where tenants are".to_owned()),
        });
    }
    Ok(all)
}

/// The names in a file, with the numbers of their lines.
fn names(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.split('#').next().unwrap_or_default()));
    lines.map(|(number, name)| (number, name.trim())).filter(|(_, name)| !name.is_empty())
}

impl Where {
    pub(super) fn target(&self, tenantry: &Tenantry) -> Result<TransferTarget, Failure> {
        const ARGUMENT: &str = "--to";
        let data_source = match self.to.as_str() {
            DEFAULT => None,
            text => {
                let url = data_source::url(ARGUMENT, text)?;
                let is_default = || {
                    let default = tenantry.settings().default_data_source.as_ref();
                    let default = default.filter(|default| !default.url.is_per_tenant() && default.logins.is_some());
                    // Of the same URL for every tenant.
                    default.and_then(|default| default.url.for_tenant(Uuid::nil()).ok()).is_some_and(|it| it == url)
                };
                if url.engine() == Engine::Postgres && !data_source::has_logins() && is_default() {
                    None
                } else {
                    Some(data_source::read(ARGUMENT, text)?)
                }
            }
        };
        let kind = self.kind.map(Into::into);
        Ok(TransferTarget { data_source, kind, tenant_id: self.tenant_id.clone(), prepare: self.prepare })
    }
}

impl Tables {
    pub(super) fn options(&self) -> Options {
        Options { reference_tables: self.reference_tables.clone(), ..Options::default() }
    }
}

impl Manner {
    pub(super) fn over(&self, options: Options) -> Options {
        Options {
            fence_deadline: Duration::from_secs(self.deadline),
            end_writers: self.end_writers,
            parallel: self.parallel.into(),
            ..options
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_tenants_has_comments_and_empty_lines() {
        let text = "# the first wave\nacme\n\n  globex  # asked for it\n#default\n";
        assert_eq!(names(text).collect::<Vec<_>>(), [(2, "acme"), (4, "globex")]);
    }
}
