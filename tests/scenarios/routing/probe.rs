//! The routing probe: a row that is written through a tenant's route and then looked for in every database.

use tenantry::operations::test_routing;
use tenantry_app_db::{NewPlacement, NewTenant};
use tenantry_connection::{Actor, DataSourceUrl};
use tenantry_credential::CredentialColumn;

use super::{closed::unplaced, write};
use crate::world::{Place, World, keyring, on_both_engines};

on_both_engines!(
    every_route_is_seen_in_its_own_database_only,
    a_probe_of_a_killed_run_is_removed_by_the_next,
    a_row_under_another_tenant_is_found,
);

async fn every_route_is_seen_in_its_own_database_only(mut world: World) {
    let own = world.place("own");
    let tenants = [world.tenant("acme").await, world.tenant_on("globex", &own).await, world.tenant("initech").await];
    let waiting = unplaced(&world, "waiting").await;
    world.app_sql("UPDATE tenants SET status = 'suspended' WHERE subdomain = 'initech'").await;
    write(&world.tenantry.tenant(tenants[1].id).await.unwrap(), "business").await.unwrap();

    let report = test_routing(&world.tenantry, &[]).await.unwrap();
    assert!(report.passed(), "{report:#?}");
    assert_eq!(report.probes.len(), 4);
    for tenant in &tenants {
        let probe = report.probes.iter().find(|probe| probe.tenant == tenant.id).unwrap();
        let place: DataSourceUrl = tenant.data_source_url.as_deref().unwrap().parse().unwrap();
        assert!(probe.written && probe.read_back && probe.removed && !probe.skipped, "{probe:?}");
        assert_eq!(probe.found_in, [place]);
        assert_eq!(probe.looked_into, report.databases.len());
    }
    assert!(report.probes.iter().find(|probe| probe.tenant == waiting.id).unwrap().skipped);
    assert_eq!(world.count(&own, "SELECT count(*) FROM routing_probe").await, 0, "nothing is left");
    assert_eq!(world.count(&own, "SELECT count(*) FROM accounts").await, 1, "no business row was touched");
    let one = test_routing(&world.tenantry, &[tenants[0].id]).await.unwrap();
    assert_eq!((one.probes.len(), one.databases.len()), (1, report.databases.len()), "all databases are looked into");
}

async fn a_probe_of_a_killed_run_is_removed_by_the_next(mut world: World) {
    let place = world.place("own");
    let tenant = world.tenant_on("acme", &place).await;
    let (id, old, young) = match world.engine {
        tenantry_connection::Engine::Postgres => (
            format!("'{}'", tenant.id),
            "now() - interval '2 hours', gen_random_uuid()".to_owned(),
            "now(), gen_random_uuid()".to_owned(),
        ),
        tenantry_connection::Engine::Sqlite => (
            format!("x'{}'", tenant.id.simple()),
            "strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now', '-2 hours'), randomblob(16)".to_owned(),
            "strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now'), randomblob(16)".to_owned(),
        ),
    };
    for values in [old, young] {
        let insert =
            format!("INSERT INTO routing_probe (tenant_id, note, created_at, id) SELECT {id}, 'killed', {values}");
        world.place_sql(&place, &insert).await;
    }
    assert!(test_routing(&world.tenantry, &[]).await.unwrap().passed());
    let left = world.count(&place, "SELECT count(*) FROM routing_probe").await;
    assert_eq!(left, 1, "the one of a run that may still be under way stays");
}

/// A trigger that copies what one tenant writes to another: the route is right, and the row is where it must not be.
async fn a_row_under_another_tenant_is_found(mut world: World) {
    let place = world.place("own");
    let tenant = world.tenant_on("acme", &place).await;
    let other = uuid::Uuid::new_v4();
    let copying = match world.engine {
        tenantry_connection::Engine::Postgres => format!(
            "CREATE FUNCTION copy() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
             IF NEW.tenant_id <> '{other}' THEN \
             INSERT INTO public.routing_probe (tenant_id, id, note) VALUES ('{other}', NEW.id, NEW.note); END IF; RETURN NULL; END $$; \
             CREATE TRIGGER copy AFTER INSERT ON routing_probe FOR EACH ROW EXECUTE FUNCTION copy()"
        ),
        tenantry_connection::Engine::Sqlite => format!(
            "CREATE TRIGGER copy AFTER INSERT ON routing_probe WHEN NEW.tenant_id <> x'{0}' BEGIN \
             INSERT INTO routing_probe (tenant_id, id, note) VALUES (x'{0}', NEW.id, NEW.note); END",
            other.simple()
        ),
    };
    world.place_sql(&place, &copying).await;
    let report = test_routing(&world.tenantry, &[tenant.id]).await.unwrap();
    assert!(!report.passed());
    assert!(report.probes[0].error.as_deref().unwrap().contains("under another tenant's id"), "{report:#?}");
    assert_eq!(world.count(&place, "SELECT count(*) FROM routing_probe").await, 0, "both are removed");
}

/// Two names for one database: what is a tenant's own database by its URL is in truth a neighbour's as well. No URL tells,
/// only a look into every database does.
#[tokio::test(flavor = "multi_thread")]
async fn one_database_under_two_names_is_found() {
    let mut world = World::postgres().await;
    let place = world.place("own");
    let first = world.tenant_on("acme", &place).await;
    let socket = world.databases.last().unwrap().socket_url();
    let alias = Place { url: DataSourceUrl::parse(&socket).unwrap(), ..place.clone() };
    assert_ne!(alias.url.address(), place.url.address());
    let logins = alias.logins.as_ref().unwrap();
    let mut second = NewTenant::new("Globex", "globex");
    let seal = |column, login| Some(keyring("new").seal(second.id, column, login).unwrap());
    second.placement = NewPlacement {
        url: Some(alias.url.clone()),
        anon_key: seal(CredentialColumn::Anon, &logins.restricted),
        service_key: seal(CredentialColumn::Service, &logins.service),
        ..NewPlacement::default()
    };
    world.tenantry.app_db().create_tenant(&second, &Actor::default()).await.unwrap();

    let report = test_routing(&world.tenantry, &[]).await.unwrap();
    assert!(!report.passed());
    for tenant in [first.id, second.id] {
        let probe = report.probes.iter().find(|probe| probe.tenant == tenant).unwrap();
        assert!(probe.written && probe.read_back && probe.removed && probe.error.is_none(), "{probe:?}");
        assert_eq!(probe.found_in.len(), 2, "{probe:?}");
        assert!(!probe.passed());
    }
    assert_eq!(world.count(&place, "SELECT count(*) FROM routing_probe").await, 0);
}
