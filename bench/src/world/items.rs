//! The rows that are read and written, and how an answer is told from a wrong one.

use sea_orm::ActiveValue::Set;
use sea_orm::prelude::DateTimeUtc;
use uuid::Uuid;

use super::{ROWS, World};
use crate::Error;
use crate::method::Random;

/// Every tenant has as many rows of each status.
pub const STATUSES: [&str; 4] = ["open", "won", "lost", "parked"];
/// Rows of a page.
pub const PAGE: usize = 50;

/// One entity per table, all with the same columns.
macro_rules! entity {
    ($module:ident, $table:tt) => {
        #[expect(missing_docs, reason = "the columns say it")]
        pub mod $module {
            use sea_orm::entity::prelude::*;

            #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
            #[sea_orm(table_name = $table)]
            pub struct Model {
                #[sea_orm(primary_key, auto_increment = false)]
                pub tenant_id: Uuid,
                #[sea_orm(primary_key, auto_increment = false)]
                pub id: Uuid,
                #[sea_orm(column_type = "Text")]
                pub name: String,
                pub amount: i64,
                #[sea_orm(column_type = "Text")]
                pub status: String,
                pub created_at: Option<DateTimeUtc>,
                pub updated_at: Option<DateTimeUtc>,
            }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }

        tenantry::tenant_entity!($module);
    };
}

entity!(items, "items");
entity!(items_unlogged, "items_unlogged");

/// A row that is asked for: number `row` of tenant number `tenant`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The tenant's number.
    pub tenant: usize,
    /// The row's number within the tenant.
    pub row: usize,
}

impl Asked {
    /// Any row of a tenant.
    pub fn of(tenant: usize, random: &mut Random) -> Self {
        Self { tenant, row: random.below(ROWS) }
    }

    /// Its id. Every tenant has rows of the same ids, so that only the tenant tells them apart.
    pub fn id(self) -> Uuid {
        super::schema::row_id(self.row)
    }
}

/// What both entities' rows have in common.
pub trait Row {
    /// The tenant, the id, the amount and the status.
    fn told(&self) -> (Uuid, Uuid, i64, &str);
}

macro_rules! row {
    ($($module:ident),+) => { $(
        impl Row for $module::Model {
            fn told(&self) -> (Uuid, Uuid, i64, &str) {
                (self.tenant_id, self.id, self.amount, &self.status)
            }
        }
    )+ };
}
row!(items, items_unlogged);

/// Refuses an answer that is not the row that was asked for. Rows that updates may have changed are compared by their keys.
///
/// # Errors
/// [`Error::Wrong`].
pub fn check(world: &World, asked: Asked, answer: Option<&impl Row>) -> Result<(), Error> {
    match answer.map(Row::told) {
        Some((tenant, id, _, status))
            if tenant == world.tenants[asked.tenant] && id == asked.id() && status == status_of(asked.row) =>
        {
            Ok(())
        }
        other => Err(Error::Wrong(format!("asked for {asked:?} and was given {other:?}"))),
    }
}

/// As [`check`], for a row as psql prints it.
///
/// # Errors
/// [`Error::Wrong`].
pub fn check_text(world: &World, asked: Asked, answer: &str) -> Result<(), Error> {
    let (tenant, id, status) = (world.tenants[asked.tenant], asked.id(), status_of(asked.row));
    let fields: Vec<_> = answer.trim_end().split('|').collect();
    match fields[..] {
        [of, row, _, _, of_status, _, _]
            if of == tenant.to_string() && row == id.to_string() && of_status == status =>
        {
            Ok(())
        }
        _ => Err(Error::Wrong(format!("asked for {asked:?} and was given {answer:?}"))),
    }
}

/// The status that a row was filled with.
pub fn status_of(row: usize) -> &'static str {
    STATUSES[row % STATUSES.len()]
}

/// When a row was filled as created: one a minute, so that the rows of a tenant have an order.
pub fn created_at(row: usize) -> DateTimeUtc {
    // Midnight of 2026-01-01 in UTC, as the filling statement has it.
    const FIRST: i64 = 1_767_225_600;
    DateTimeUtc::from_timestamp(FIRST + 60 * row as i64, 0).unwrap_or_default()
}

/// A page that is asked for: the rows of one status, in the order of their creation, from a row on.
#[derive(Debug, Clone, Copy)]
pub struct AskedPage {
    /// The tenant's number.
    pub tenant: usize,
    /// The first row of the page.
    pub first: usize,
}

impl AskedPage {
    /// Any full page of a tenant.
    pub fn of(tenant: usize, random: &mut Random) -> Self {
        Self { tenant, first: random.below(ROWS - (PAGE - 1) * STATUSES.len()) }
    }

    /// Refuses a page that is not the one that was asked for, to the last row.
    ///
    /// # Errors
    /// [`Error::Wrong`].
    pub fn check(self, world: &World, rows: &[items::Model]) -> Result<(), Error> {
        let right = |(place, row): (usize, &items::Model)| {
            let asked = Asked { tenant: self.tenant, row: self.first + place * STATUSES.len() };
            check(world, asked, Some(row)).is_ok() && row.created_at == Some(created_at(asked.row))
        };
        if rows.len() == PAGE && rows.iter().enumerate().all(right) {
            Ok(())
        } else {
            Err(Error::Wrong(format!("asked for {self:?} and was given {rows:?}")))
        }
    }
}

/// What an insert writes; its id is made before it, as the repository would.
macro_rules! fresh {
    ($($module:ident),+) => { $(
        impl $module::ActiveModel {
            /// A new row, without its tenant.
            pub fn fresh(random: &mut Random) -> Self {
                let row = random.below(ROWS);
                Self {
                    id: Set(Uuid::new_v4()),
                    name: Set(format!("item {row}, new")),
                    amount: Set(100 * row as i64),
                    status: Set(status_of(row).to_owned()),
                    ..Default::default()
                }
            }
        }
    )+ };
}
fresh!(items, items_unlogged);

/// A table on which each insert takes a while in the server.
#[expect(missing_docs, reason = "the columns say it")]
pub mod naps {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "naps")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub tenant_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub name: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

tenantry::tenant_entity!(naps);
