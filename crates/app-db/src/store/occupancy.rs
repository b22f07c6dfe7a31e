//! Who is in a data source: the rules that a data source for one tenant has no second, and that no two tenants of one
//! data source have the same id there.
//!
//! Both are checked inside the transaction that places a tenant or changes a data source's kind. Such transactions on
//! one database are serialised: on SQLite they all hold the write lock, on PostgreSQL they take an advisory lock of the
//! database's address, which exists also where no `data_sources` row does, and then the rows themselves, so that an edit
//! by hand waits too.

use std::collections::BTreeSet;

use sea_orm::sea_query::{Expr, ExprTrait, Func, LockType, Query, SelectStatement};
use sea_orm::{
    ColumnTrait, Condition, DbBackend, EntityTrait, FromQueryResult, Order, QueryFilter, QueryOrder, QueryResult,
    QueryTrait, Statement,
};
use tenantry_connection::Engine;
use uuid::Uuid;

use crate::{
    Error,
    app_db::{Guarded, decode, table_of},
    entities::{SourceKind, data_sources, tenants},
};

/// Holds every other placement on the same databases until this transaction ends.
pub(super) async fn lock(write: &mut Guarded<'_>, urls: &[&str]) -> Result<(), Error> {
    if write.engine() == Engine::Sqlite {
        return Ok(());
    }
    // Sorted, so that two transactions that lock the same two never wait for each other.
    let addresses: BTreeSet<&str> = urls.iter().map(|url| address(url)).collect();
    for address in addresses {
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
            [format!("tenantry.data_source:{address}").into()],
        );
        write.execute_unguarded(statement).await?;
    }
    Ok(())
}

/// Refuses the tenant, if a data source on the same database is for one tenant and another one is there.
pub(super) async fn admit_tenant(write: &mut Guarded<'_>, tenant: Uuid, url: &str) -> Result<(), Error> {
    let sources = sources_on(write, url).await?;
    let Some(exclusive) = sources.iter().find(|source| source.kind.holds_one_tenant()) else { return Ok(()) };
    let others = tenants_on(&addresses(&sources, url)).and_where(tenants::Column::Id.ne(tenant)).limit(1).take();
    match write.row(table_of::<tenants::Entity>(), &others).await? {
        None => Ok(()),
        Some(row) => Err(Error::DedicatedTaken {
            url: exclusive.url.clone(),
            kind: exclusive.kind,
            holder: Occupant::read(&row)?.id,
        }),
    }
}

/// Refuses to make a data source one for a single tenant while its database holds two.
pub(super) async fn admit_kind(
    write: &mut Guarded<'_>,
    url: &str,
    direct_url: Option<&str>,
    kind: SourceKind,
) -> Result<(), Error> {
    if !kind.holds_one_tenant() {
        return Ok(());
    }
    let mut addresses = addresses(&sources_on(write, url).await?, url);
    addresses.extend(direct_url.map(address).map(str::to_owned));
    let rows = write.rows(table_of::<tenants::Entity>(), &tenants_on(&addresses).limit(2).take()).await?;
    match rows.get(1) {
        None => Ok(()),
        Some(second) => Err(Error::DedicatedTaken { url: url.to_owned(), kind, holder: Occupant::read(second)?.id }),
    }
}

/// Refuses the tenant, if another one in the same database has the same value in the tenant column.
pub(super) async fn admit_key(
    write: &mut Guarded<'_>,
    tenant: Uuid,
    tenant_id_in_data_source: Option<&str>,
    url: &str,
) -> Result<(), Error> {
    let own = tenant_id_in_data_source.map_or_else(|| tenant.to_string(), str::to_owned);
    // Those whose id in the data source is their own need no comparison but with the one tenant that has this id.
    let mut candidates = Condition::any().add(tenants::Column::TenantIdInDataSource.is_not_null());
    if let Ok(id) = Uuid::parse_str(&own) {
        candidates = candidates.add(tenants::Column::Id.eq(id));
    }
    let mut there = anywhere(&BTreeSet::from([address(url).to_owned()]));
    // The rows of tenants without a data source are in the application database, under their own ids, while a single
    // database is being split.
    if address(url) == address(write.url().as_str()) {
        there = there.add(tenants::Column::DataSourceUrl.is_null());
    }
    let statement = tenants_where(there).and_where(tenants::Column::Id.ne(tenant)).cond_where(candidates).take();
    for row in write.rows(table_of::<tenants::Entity>(), &statement).await? {
        let other = Occupant::read(&row)?;
        let mapped = other.tenant_id_in_data_source.filter(|_| other.data_source_url.is_some());
        let key = mapped.unwrap_or_else(|| other.id.to_string());
        if same_key(&own, &key) {
            return Err(Error::KeyTaken { url: url.to_owned(), key: own, holder: other.id });
        }
    }
    Ok(())
}

/// A tenant that is in a data source.
#[derive(FromQueryResult)]
struct Occupant {
    id: Uuid,
    data_source_url: Option<String>,
    tenant_id_in_data_source: Option<String>,
}

impl Occupant {
    fn read(row: &QueryResult) -> Result<Self, Error> {
        Self::from_query_result(row, "")
            .map_err(|source| Error::Decode { table: table_of::<tenants::Entity>(), source })
    }
}

/// The part of a canonical URL that says which database it is. How the connection is secured does not make it another
/// one: without this, `?sslmode=require` would be a way into a neighbour's dedicated database.
fn address(url: &str) -> &str {
    ["sslmode=", "sslrootcert="]
        .iter()
        .flat_map(|parameter| ['?', '&'].map(|separator| format!("{separator}{parameter}")))
        .filter_map(|parameter| url.find(&parameter))
        .min()
        .map_or(url, |end| &url[..end])
}

/// The rows of data sources on the same database, under any URL and also where it is only the way past a pooler.
async fn sources_on(write: &mut Guarded<'_>, url: &str) -> Result<Vec<data_sources::Model>, Error> {
    let same = Condition::any()
        .add(at_address(data_sources::Column::Url, address(url)))
        .add(at_address(data_sources::Column::DirectUrl, address(url)));
    let mut statement = data_sources::Entity::find().filter(same).order_by_asc(data_sources::Column::Url).into_query();
    if write.engine() == Engine::Postgres {
        statement.lock(LockType::Update);
    }
    let rows = write.rows(table_of::<data_sources::Entity>(), &statement).await?;
    rows.iter().map(decode::<data_sources::Entity>).collect()
}

fn addresses(sources: &[data_sources::Model], url: &str) -> BTreeSet<String> {
    sources
        .iter()
        .flat_map(|source| [Some(source.url.as_str()), source.direct_url.as_deref()])
        .chain([Some(url)])
        .flatten()
        .map(|url| address(url).to_owned())
        .collect()
}

fn tenants_on(addresses: &BTreeSet<String>) -> SelectStatement {
    tenants_where(anywhere(addresses))
}

fn anywhere(addresses: &BTreeSet<String>) -> Condition {
    addresses.iter().fold(Condition::any(), |any, address| any.add(at_address(tenants::Column::DataSourceUrl, address)))
}

fn tenants_where(condition: Condition) -> SelectStatement {
    Query::select()
        .columns([tenants::Column::Id, tenants::Column::DataSourceUrl, tenants::Column::TenantIdInDataSource])
        .from(tenants::Entity)
        .cond_where(condition)
        .order_by(tenants::Column::Id, Order::Asc)
        .take()
}

/// `column` holds this address, with or without parameters on how the connection is secured. Compared as text and not
/// with LIKE, which would take `_` for any character and, on SQLite, `A` for `a`.
fn at_address<C: ColumnTrait>(column: C, address: &str) -> Condition {
    ["?ssl", "&ssl"].iter().fold(Condition::any().add(column.eq(address)), |any, suffix| {
        let prefix = format!("{address}{suffix}");
        let length = i32::try_from(prefix.chars().count()).unwrap_or(i32::MAX);
        let start = Func::cust("SUBSTR").arg(Expr::col(column.as_column_ref())).arg(1).arg(length);
        any.add(Expr::from(start).eq(prefix))
    })
}

/// Whether two texts are the same tenant key in a column of any type: text, uuid or bigint.
fn same_key(left: &str, right: &str) -> bool {
    let uuids = || Some(Uuid::parse_str(left).ok()? == Uuid::parse_str(right).ok()?);
    let numbers = || Some(left.parse::<i64>().ok()? == right.parse::<i64>().ok()?);
    left == right || uuids() == Some(true) || numbers() == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leaves_out_how_the_connection_is_secured() {
        for (url, expected) in [
            ("postgresql://db:5432/crm", "postgresql://db:5432/crm"),
            ("postgresql://db:5432/crm?sslmode=require&sslrootcert=%2Fca", "postgresql://db:5432/crm"),
            ("postgresql://db:5432/crm?sslrootcert=%2Fca", "postgresql://db:5432/crm"),
            ("postgresql:///crm?host=%2Frun&port=5432&sslmode=disable", "postgresql:///crm?host=%2Frun&port=5432"),
            ("sqlite:/var/crm.db", "sqlite:/var/crm.db"),
        ] {
            assert_eq!(address(url), expected);
        }
    }

    #[test]
    fn keys_are_compared_as_their_column_would() {
        assert!(same_key("6F9619FF-8B86-D011-B42D-00C04FC964FF", "6f9619ff8b86d011b42d00c04fc964ff"));
        assert!(same_key("7", "007"));
        assert!(same_key("acme", "acme"));
        assert!(!same_key("acme", "Acme"));
        assert!(!same_key("7", "8"));
    }
}
