//! Kept rows are deleted, or replaced, only where nothing that is not moved hangs on them; also where that was made since.

use tenantry_app_db::entities::TransferStep;
use tenantry_connection::Engine;
use tenantry_transfer::{Error, Refusal, Side, Unwatched, purge};

use super::world::{World, tenant};

#[tokio::test(flavor = "multi_thread")]
async fn kept_rows_that_something_hangs_on_stay() {
    let world = World::new(Engine::Postgres, Engine::Postgres).await;
    let globex = tenant("globex");
    world.split(globex).await;
    let pictures = format!(
        "CREATE SCHEMA pics; CREATE TABLE pics.pictures (account uuid REFERENCES accounts ON DELETE CASCADE); \
         INSERT INTO pics.pictures SELECT id FROM accounts WHERE tenant_id = '{}'",
        globex.id
    );
    world.source.execute(&pictures).await.unwrap();
    let count = "SELECT count(*) AS n FROM pics.pictures";
    let pictures = world.source.number(count).await;
    assert!(pictures > 0);

    let record = world.app_db.transfers(Some(globex.id), 1).await.unwrap().remove(0);
    let mut transfer = world.returning(globex, record).await;
    (transfer.source, transfer.target) = (transfer.target, transfer.source);
    let refused = purge(&transfer, &transfer.target, &Unwatched).await;
    let Err(Error::Request { problem }) = refused else { panic!("{refused:?}") };
    assert!(problem.contains("pics.pictures") && problem.contains("accounts"), "{problem}");

    let refused = world.rollback(globex, &Unwatched).await;
    let Err(Error::Refused(plan)) = refused else { panic!("{refused:?}") };
    let is_it = |refusal: &Refusal| matches!(refusal, Refusal::Unscoped { side: Side::Target, table, .. } if table == "pics.pictures");
    assert!(plan.refusals.iter().all(is_it) && !plan.refusals.is_empty(), "{:?}", plan.refusals);
    assert_eq!(world.source.number(count).await, pictures);

    world.source.execute("DROP SCHEMA pics CASCADE").await.unwrap();
    assert_eq!(world.rollback(globex, &Unwatched).await.unwrap().step, TransferStep::Purged);
}
