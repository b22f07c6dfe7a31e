//! Streams and tasks: what they hold and whom they work for.

use futures_util::TryStreamExt;
use sea_orm::ActiveValue::Set;
use sea_orm::Order;
use tenantry_entities::accounts;
use tenantry_repository::{Query, RepositoryExt};

use super::{on_both_engines, world::World};

on_both_engines!(a_stream_yields_every_row_and_leaves_nothing_behind, the_tenant_stays_across_tasks_select_and_streams);

async fn fill(world: &World, rows: usize) {
    for (db, name) in [(&world.one, "one"), (&world.two, "two")] {
        let model = |_| accounts::ActiveModel { name: Set(name.to_owned()), ..Default::default() };
        db.repository::<accounts::Entity>().bulk_create((0..rows).map(model)).await.unwrap();
    }
}

async fn a_stream_yields_every_row_and_leaves_nothing_behind(world: World) {
    fill(&world, 2_000).await;
    let accounts = world.one.repository::<accounts::Entity>();
    let query = Query::new().order_by(accounts::Column::Id, Order::Asc);
    let mut count = 0;
    let mut stream = accounts.stream(&query);
    while let Some(row) = stream.try_next().await.unwrap() {
        assert_eq!(row.name, "one");
        count += 1;
    }
    assert_eq!(count, 2_000);
    assert_eq!(accounts.stream(&query.clone().limit(7)).try_collect::<Vec<_>>().await.unwrap().len(), 7);
    // More streams that are dropped midway than there are connections: each gives its connection up.
    for _ in 0..25 {
        let mut stream = accounts.stream(&query);
        stream.try_next().await.unwrap().unwrap();
    }
    assert_eq!(accounts.count(&Query::new()).await.unwrap(), 2_000);
}

/// A tenant that lived beside the handle, in a task-local or on a connection, would be lost or exchanged here (trap 16).
async fn the_tenant_stays_across_tasks_select_and_streams(world: World) {
    fill(&world, 50).await;
    let tasks: Vec<_> = (0..30)
        .map(|n| {
            let (db, name) = if n % 2 == 0 { (world.one.clone(), "one") } else { (world.two.clone(), "two") };
            tokio::spawn(async move {
                let accounts = db.repository::<accounts::Entity>();
                let query = Query::new();
                tokio::select! {
                    biased;
                    // Left in the middle of whatever it was doing.
                    _ = accounts.find_many(&query) => {}
                    () = tokio::task::yield_now() => {}
                }
                let mut stream = accounts.stream(&query);
                while let Some(row) = stream.try_next().await.unwrap() {
                    assert_eq!(row.name, name);
                    tokio::task::yield_now().await;
                }
                let rows = accounts.find_many(&query).await.unwrap();
                assert!(rows.len() == 50 && rows.iter().all(|row| row.name == name));
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}
