//! An application outside the reference tables takes Tenantry up: how much it writes, and that it gets what the reference
//! entities get. The application is `examples/bookings`; what it tests itself with is `tenantry-testing`.

use std::{path::Path, time::Instant};

use bookings::{
    BookingsMigrator,
    entities::{guests, reservations, rooms},
};
use sea_orm::{ActiveValue::Set, ColumnTrait};
use tenantry::{
    data_source::{TenantDb, TenantHandle},
    migrations::TenantDataMigrator,
    realm::TenantKey,
    repository::{Error, Query, RepositoryExt},
};
use tenantry_connection::Engine;
use tenantry_entities::{accounts, contacts};
use tenantry_testing::{IsolationProof, World};
use uuid::Uuid;

/// What an application writes beyond its entities and migrations: at most this many lines of code.
const LINES: usize = 25;

/// Lines with code in them.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"))
}

/// Catches an API that makes people write more, or again.
#[test]
fn an_application_adopts_in_few_lines() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookings/src");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let (main, library) = (read("main.rs"), read("lib.rs"));
    let settings = library.split_once("pub fn settings").unwrap().1;
    let settings = code(settings.split_once("\n}").unwrap().0).count() + 1;
    let lines = code(&main).count() + settings;
    println!("the adoption example has {lines} lines beyond its entities and migrations");
    assert!(lines <= LINES, "{lines} lines");
}

async fn world(engine: Engine) -> World<BookingsMigrator> {
    World::with(engine, bookings::settings).await.unwrap()
}

fn room(name: &str) -> rooms::ActiveModel {
    rooms::ActiveModel { name: Set(name.to_owned()), ..Default::default() }
}

fn guest(name: &str) -> guests::ActiveModel {
    guests::ActiveModel { name: Set(name.to_owned()), ..Default::default() }
}

fn reservation(room_id: Uuid, guest_id: Uuid) -> reservations::ActiveModel {
    reservations::ActiveModel {
        room_id: Set(room_id),
        guest_id: Set(guest_id),
        arrival: Set("2026-12-24".parse().unwrap()),
        departure: Set("2026-12-27".parse().unwrap()),
        ..Default::default()
    }
}

async fn names(db: &TenantDb) -> Vec<String> {
    let query = Query::new().order_by(rooms::Column::Name, sea_orm::Order::Asc);
    db.repository::<rooms::Entity>().find_many(&query).await.unwrap().into_iter().map(|room| room.name).collect()
}

async fn organisations_have_their_own_bookings(engine: Engine) {
    let mut world = world(engine).await;
    let [alpine, seaside] = world.tenants(["alpine", "seaside"]).await.unwrap();
    let apart = world.tenant_apart("island").await.unwrap();
    assert_eq!(alpine.db.key(), &TenantKey::BigInt(1));
    // The same name in three organisations, unique in each.
    for (tenant, own) in [(&alpine, "Edelweiss"), (&seaside, "Harbour view"), (&apart, "Lagoon")] {
        let rooms = tenant.db.repository::<rooms::Entity>();
        rooms.bulk_create([room(own), room("1")]).await.unwrap();
        assert!(matches!(rooms.create(room("1")).await, Err(Error::UniqueViolation { .. })));
        let beds = rooms::ActiveModel { beds: Set(21), ..room("2") };
        assert!(matches!(rooms.create(beds).await, Err(Error::CheckViolation { .. })));
        assert_eq!(names(&tenant.db).await, ["1", own]);
    }
    // A reservation refers to its own organisation's rooms and guests, whoever knows others' ids.
    let theirs = seaside.db.repository::<rooms::Entity>().find_one(&Query::new()).await.unwrap().unwrap();
    let (rooms, guests) = (alpine.db.repository::<rooms::Entity>(), alpine.db.repository::<guests::Entity>());
    let own = rooms.find_one(&Query::new()).await.unwrap().unwrap();
    let guest = guests.create(guest("Mia")).await.unwrap();
    let reservations = alpine.db.repository::<reservations::Entity>();
    let refused = reservations.create(reservation(theirs.id, guest.id)).await;
    assert!(matches!(refused, Err(Error::ForeignKeyViolation { .. })), "{refused:?}");
    let booked = reservations.create(reservation(own.id, guest.id)).await.unwrap();
    assert_eq!(booked.org_id, 1);
    assert!(matches!(rooms.delete(own.id).await, Err(Error::ForeignKeyViolation { .. })));
    let of_guest = Query::new().where_exists::<guests::Entity>(guests::Column::Name.eq("Mia"));
    assert_eq!(reservations.find_many(&of_guest).await.unwrap(), [booked]);
    assert_eq!(seaside.db.repository::<reservations::Entity>().count(&Query::new()).await.unwrap(), 0);
}

async fn no_entity_leads_to_another_organisation(engine: Engine) {
    let mut world = world(engine).await;
    prove(world.prove_isolation::<rooms::Entity>(async |_, n| room(&format!("room {n}"))).await);
    prove(world.prove_isolation::<guests::Entity>(async |_, n| guest(&format!("guest {n}"))).await);
    let make = async |db: &TenantDb, n| {
        let room = db.repository::<rooms::Entity>().create(room(&format!("for {n}"))).await.unwrap();
        let guest = db.repository::<guests::Entity>().create(guest(&format!("in {n}"))).await.unwrap();
        reservation(room.id, guest.id)
    };
    prove(world.prove_isolation::<reservations::Entity>(make).await);
}

fn prove(proof: Result<IsolationProof, tenantry_testing::WorldError>) {
    let proof = proof.unwrap();
    assert!(proof.attempts.len() > 40, "{proof}");
    proof.assert();
}

#[tokio::test(flavor = "multi_thread")]
async fn organisations_have_their_own_bookings_in_files() {
    organisations_have_their_own_bookings(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn organisations_have_their_own_bookings_on_a_server() {
    organisations_have_their_own_bookings(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_entity_leads_to_another_organisation_in_files() {
    no_entity_leads_to_another_organisation(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_entity_leads_to_another_organisation_on_a_server() {
    no_entity_leads_to_another_organisation(Engine::Postgres).await;
}

/// The reference entities are one application more, with another tenant column.
#[tokio::test(flavor = "multi_thread")]
async fn the_reference_entities_prove_themselves_alike() {
    for mut world in
        [World::<TenantDataMigrator>::sqlite().await.unwrap(), World::<TenantDataMigrator>::postgres().await.unwrap()]
    {
        let account = |n| accounts::ActiveModel { name: Set(format!("account {n}")), ..Default::default() };
        prove(world.prove_isolation::<accounts::Entity>(async |_, n| account(n)).await);
        let contact = |n| contacts::ActiveModel {
            first_name: Set(format!("first {n}")),
            last_name: Set(format!("last {n}")),
            ..Default::default()
        };
        prove(world.prove_isolation::<contacts::Entity>(async |_, n| contact(n)).await);
    }
}

/// The proof can fail: what it measures is broken behind its back.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_open_fails_the_proof() {
    let mut world = world(Engine::Postgres).await;
    let [first] = world.tenants(["first"]).await.unwrap();
    assert!(names(&first.db).await.is_empty(), "measured once, before it was broken");
    let source = &world.databases()[1];
    source.psql(&source.superuser, "ALTER TABLE guests NO FORCE ROW LEVEL SECURITY").unwrap();
    let proof = world.prove_isolation::<rooms::Entity>(async |_, n| room(&format!("room {n}"))).await.unwrap();
    assert!(!proof.holds());
    let failed: Vec<_> = proof.attempts.iter().filter(|attempt| !attempt.holds()).collect();
    assert_eq!(failed.len(), 1, "{proof}");
    assert!(failed[0].found.contains("guests"), "{proof}");
    assert!(proof.to_string().contains("  NO measure and attack the data source: "), "{proof}");
}

/// Worlds do not share what is in them, and are not migrated one by one.
#[tokio::test(flavor = "multi_thread")]
async fn worlds_are_copies_and_apart() {
    let begin = Instant::now();
    let [mut one, mut two] = [world(Engine::Postgres).await, world(Engine::Postgres).await];
    let ([a], [b]) = (one.tenants(["same"]).await.unwrap(), two.tenants(["same"]).await.unwrap());
    a.db.repository::<rooms::Entity>().create(room("here")).await.unwrap();
    assert_eq!(names(&b.db).await, Vec::<String>::new());
    println!("two worlds in {:.1} s", begin.elapsed().as_secs_f64());
}
