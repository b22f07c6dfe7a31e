//! The repository on both engines: every scenario runs against an SQLite file and a PostgreSQL server, with two tenants in the
//! same tables, and has to end the same way.

mod bulk;
mod entities;
mod generic;
mod isolation;
mod json;
mod json_page;
mod paging;
mod reading;
mod searching;
mod streams;
mod transactions;
mod world;
mod writing;

/// Runs each scenario on both engines.
macro_rules! on_both_engines {
    ($($scenario:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $scenario() {
                    super::$scenario(super::super::world::World::sqlite().await).await;
                }
            )+
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $scenario() {
                    super::$scenario(super::super::world::World::postgres().await).await;
                }
            )+
        }
    };
}
use on_both_engines;
