//! Transfers by command: planned, held to the plan, run, watched, killed, resumed, aborted, rolled back and purged.

use std::{
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use secrecy::ExposeSecret;
use serde_json::Value;
use tenantry_app_db::{
    NewDataSource,
    entities::{SourceKind, data_sources},
};
use tenantry_connection::{Actor, Engine, Mode, Pool, PoolOptions, Session, Transaction};

use super::Program;
use crate::world::{Place, World, on_both_engines};

on_both_engines!(
    a_tenant_is_moved_as_planned_and_brought_back_with_what_was_written_since,
    what_was_killed_is_seen_and_resumed_or_aborted,
    of_many_tenants_one_that_fails_keeps_no_other_from_being_moved,
    what_names_nothing_is_told_with_what_does,
    whom_a_data_source_serves_is_written_when_nothing_stands_against_it,
);

/// The depot with its tables, and a tenant who has two goods in it.
pub(super) fn depot_with(world: &World, tenants: &[(&str, &str)]) -> Program {
    let depot = Program::of(world);
    depot.exits(0, &["migrate", "up"]);
    for (subdomain, id) in tenants {
        depot.exits(
            0,
            &["create-tenant", "--name", "A Ltd", "--subdomain", subdomain, "--tenant-id-in-data-source", id],
        );
        for goods in ["crates", "barrels"] {
            depot.exits(0, &["receive", "--tenant", subdomain, goods]);
        }
    }
    depot
}

/// Gives the program the logins of a place.
pub(super) fn know(depot: &mut Program, place: &Place) {
    if let Some(logins) = &place.logins {
        for (variable, login) in
            [("DATA_SOURCE_ANON_KEY", &logins.restricted), ("DATA_SOURCE_SERVICE_KEY", &logins.service)]
        {
            depot.set(variable, &format!("{}:{}", login.user, login.password.expose_secret()));
        }
    }
}

pub(super) fn last(text: &str) -> &str {
    text.trim_end().lines().last().unwrap()
}

/// The last line of a move, but for how long the writes were held.
#[track_caller]
fn moved(text: &str, expected: &str) {
    let (counts, held) = last(text).split_once(", writes held ").unwrap_or_else(|| panic!("{text}"));
    assert_eq!(counts, expected, "{text}");
    let seconds = held.strip_suffix(" s").unwrap_or_else(|| panic!("{text}"));
    assert!(seconds.parse::<f64>().is_ok_and(f64::is_finite), "{text}");
}

pub(super) fn placed_at(depot: &Program, subdomain: &str) -> Value {
    let listed = depot.json(0, &["list-tenants"]);
    let tenant = listed["tenants"].as_array().unwrap().iter().find(|tenant| tenant["subdomain"] == subdomain).cloned();
    tenant.unwrap()["data_source"].clone()
}

async fn a_tenant_is_moved_as_planned_and_brought_back_with_what_was_written_since(mut world: World) {
    let own = world.place("own");
    let mut depot = depot_with(&world, &[("acme", "42")]);
    know(&mut depot, &own);
    let to = ["acme", "--to", own.url.as_str(), "--kind", "dedicated"];
    let with = |first: &[&'static str], more: &[&str]| -> Vec<String> {
        first.iter().chain(&to).chain(more).map(|text| (*text).to_owned()).collect()
    };
    let run = |status: i32, arguments: Vec<String>| {
        depot.exits(status, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let home = placed_at(&depot, "acme");
    if world.engine == Engine::Postgres {
        // A database without the tables: the plan says so, and the transfer refuses the same.
        let planned = run(1, with(&["transfer", "plan"], &[]));
        assert!(planned.stdout.contains("REFUSED") && planned.stdout.contains("is not prepared"), "{planned:#?}");
        let refused = run(1, with(&["transfer", "run"], &[]));
        assert!(last(&refused.stdout).starts_with("transfer: failed, tenant acme, refused for "), "{refused:#?}");
        assert!(last(&refused.stdout).ends_with(" reason(s), it is where it was"), "{refused:#?}");
        assert_eq!(world.tenantry.app_db().data_source(&own.url).await.unwrap(), None, "nothing was written of it");
    }
    let planned = run(0, with(&["transfer", "plan"], &["--prepare"]));
    assert!(planned.stdout.contains("\n2 records in 1 tables, "), "{planned:#?}");
    if let Some(path) = own.url.sqlite_path() {
        assert!(!path.exists(), "a plan makes no file");
    }

    let plan = run(0, with(&["transfer", "plan"], &["--json"])).stdout;
    let file = depot.directory.path().join("plan.json");
    std::fs::write(&file, &plan).unwrap();
    let file = file.to_str().unwrap();
    let done = run(0, with(&["transfer", "run"], &["--plan", file]));
    moved(
        &done.stdout,
        "transfer: ok, tenant acme, 1 tables, 2 rows copied, 2 verified, 0 missing, 0 extra, 0 different",
    );
    let lines: Vec<_> = done.stdout.trim_end().lines().collect();
    assert!(lines[lines.len() - 2].starts_with("write log: "), "the log is counted apart: {done:#?}");
    assert!(done.stderr.contains("acme: copy\n") && done.stderr.contains("acme: cut over\n"), "{done:#?}");
    assert_eq!(placed_at(&depot, "acme"), own.url.as_str());
    // Again: there is nothing to do, and that is no fault.
    let again = run(0, with(&["transfer", "run"], &[]));
    assert_eq!(last(&again.stdout), "transfer: ok, tenant acme, it is there already and nothing was copied");
    assert!(run(0, with(&["transfer", "plan"], &[])).stdout.contains("is there already"));

    let status = depot.json(0, &["transfer", "status", "acme"]);
    assert_eq!((&status["step"], &status["under_way"]), (&"finished".into(), &false.into()), "{status:#}");
    let id = status["id"].as_str().unwrap();
    assert!(
        depot.exits(0, &["transfer", "status", id]).stdout.contains("transfer rollback` brings"),
        "what to do next"
    );
    let listed = depot.json(0, &["transfer", "list", "--tenant", "acme"]);
    assert_eq!(listed["transfers"].as_array().unwrap().len(), 1, "{listed:#}");
    assert!(depot.exits(0, &["transfer", "list"]).stdout.contains("1 transfers, 0 interrupted, 1 with kept rows"));

    depot.exits(0, &["receive", "--tenant", "acme", "later"]);
    let back = depot.exits(0, &["transfer", "rollback", "acme"]);
    moved(
        &back.stdout,
        "transfer: ok, tenant acme, 1 tables, 3 rows copied, 3 verified, 0 missing, 0 extra, 0 different",
    );
    assert_eq!(placed_at(&depot, "acme"), home);
    assert_eq!(depot.exits(0, &["stock", "--tenant", "acme"]).stdout, "3 goods\n");
    assert_eq!(depot.json(0, &["transfer", "status", id])["step"], "returned");
    assert_eq!(depot.exits(1, &["transfer", "abort", id]).status, 1, "it has ended");

    // The plan was made for another placement.
    let stale = run(1, with(&["transfer", "run"], &["--plan", file]));
    assert!(stale.stdout.contains("the plan is not for this"), "{stale:#?}");
    assert_eq!(last(&stale.stdout), "transfer: failed, tenant acme, it is where it was");
    let there = run(0, with(&["transfer", "run"], &[]));
    moved(
        &there.stdout,
        "transfer: ok, tenant acme, 1 tables, 3 rows copied, 3 verified, 0 missing, 0 extra, 0 different",
    );
    let purged = depot.exits(0, &["transfer", "purge", "acme"]);
    let deleted = last(&purged.stdout).strip_prefix("transfer: ok, tenant acme, ").unwrap();
    let deleted: u64 = deleted.strip_suffix(" kept rows deleted").unwrap().parse().unwrap();
    assert!(deleted >= 3, "{purged:#?}");
    assert_eq!(depot.exits(0, &["stock", "--tenant", "acme"]).stdout, "3 goods\n");
    let none = depot.exits(2, &["transfer", "rollback", "acme"]);
    assert!(none.stderr.contains("tenant acme has no finished transfer whose rows were kept"), "{none:#?}");
}

/// A writer whose transaction is open, so that no fence can be raised.
pub(super) async fn writer(world: &World, place: &Place) -> (Pool, Transaction) {
    let login = place.logins.as_ref().map(|logins| &logins.service);
    let pool = Pool::new(&place.url, login, &PoolOptions::default()).unwrap();
    let mut transaction = pool.begin(&Session::default(), Mode::Write).await.unwrap();
    let id = match world.engine {
        Engine::Postgres => "gen_random_uuid()",
        Engine::Sqlite => "randomblob(16)",
    };
    let insert = format!("INSERT INTO goods (owner_id, id, name) VALUES (42, {id}, 'while it waits')");
    transaction.execute_raw_sql(&insert).await.unwrap();
    (pool, transaction)
}

/// Starts a transfer that waits for a writer, and kills it once it is recorded.
async fn killed(depot: &Program, arguments: &[&str]) {
    let mut running = depot.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    waits(depot, &mut running).await;
    running.kill().unwrap();
    running.wait().unwrap();
}

/// Returns once a transfer that was started is recorded and waits for a writer.
pub(super) async fn waits(depot: &Program, running: &mut Child) {
    let begun = Instant::now();
    loop {
        let listed = depot.json(0, &["transfer", "list"]);
        let transfers = listed["transfers"].as_array().unwrap();
        if transfers.iter().any(|transfer| transfer["under_way"] == true && transfer["held_since"].is_string()) {
            return;
        }
        assert!(running.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(60), "{listed:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn what_was_killed_is_seen_and_resumed_or_aborted(mut world: World) {
    let own = world.place("own");
    let mut depot = depot_with(&world, &[("acme", "42")]);
    let home: String = placed_at(&depot, "acme").as_str().unwrap().to_owned();
    let home = match world.engine {
        Engine::Postgres => world.shared(),
        Engine::Sqlite => Place { url: home.parse().unwrap(), logins: None },
    };
    know(&mut depot, &own);
    let run = ["transfer", "run", "acme", "--to", own.url.as_str(), "--prepare", "--deadline", "120"];
    let run_out = "UPDATE tenantry_transfers SET lease_until = created_at WHERE owner IS NOT NULL";

    let (pool, open) = writer(&world, &home).await;
    killed(&depot, &run).await;
    open.rollback().await.unwrap();
    // Who looks now cannot know that its process is dead, and a second runner is refused.
    assert!(depot.json(0, &["transfer", "status", "acme"])["run_until"].is_string());
    let busy = depot.exits(1, &["transfer", "resume", "acme"]);
    assert!(busy.stdout.contains("is running; if its process is dead, try again after "), "{busy:#?}");
    assert!(last(&busy.stdout).starts_with("transfer: failed, tenant acme, its transfer is planned: "), "{busy:#?}");
    world.app_sql(run_out).await;
    let seen = depot.exits(1, &["transfer", "status", "acme"]);
    assert!(seen.stdout.contains("planned, INTERRUPTED") && seen.stdout.contains("transfer abort` takes"), "{seen:#?}");
    // A plan refuses what a run would: to another place, which here is the one that the tenant is in.
    let planned = depot.exits(1, &["transfer", "plan", "acme", "--to", "default"]);
    assert!(planned.stdout.contains("REFUSED") && planned.stdout.contains(", is under way; "), "{planned:#?}");
    assert_eq!(depot.json(1, &["transfer", "plan", "acme", "--to", "default"])["refusals"][0]["refusal"], "under_way");
    let planned = depot.exits(0, &["transfer", "plan", "acme", "--to", own.url.as_str()]);
    let note = "to there is planned and nobody runs it; `depot transfer run` goes on with it";
    assert!(planned.stdout.contains("would be moved") && planned.stdout.contains(note), "{planned:#?}");
    let aborted = depot.exits(0, &["transfer", "abort", "acme"]);
    assert_eq!(last(&aborted.stdout), "transfer: ok, tenant acme, aborted, it is where it was");
    depot.exits(0, &["receive", "--tenant", "acme", "written after it"]);

    pool.close().await;
    let (pool, open) = writer(&world, &home).await;
    killed(&depot, &run).await;
    open.commit().await.unwrap();
    pool.close().await;
    world.app_sql(run_out).await;
    let done = depot.exits(0, &["transfer", "resume", "acme"]);
    moved(
        &done.stdout,
        "transfer: ok, tenant acme, 1 tables, 4 rows copied, 4 verified, 0 missing, 0 extra, 0 different",
    );
    assert_eq!(placed_at(&depot, "acme"), own.url.as_str());
    assert_eq!(depot.exits(0, &["stock", "--tenant", "acme"]).stdout, "4 goods\n");
}

async fn of_many_tenants_one_that_fails_keeps_no_other_from_being_moved(mut world: World) {
    let own = world.place("own");
    let mut depot = depot_with(&world, &[("acme", "42"), ("globex", "43"), ("initech", "44")]);
    know(&mut depot, &own);
    let own = own.url.as_str();
    let file = depot.directory.path().join("wave.txt");
    std::fs::write(&file, "# the first wave\nacme\n\nglobex # as well\nacme\n").unwrap();
    let file = file.to_str().unwrap();
    // One place, and it is for one tenant: the second one is refused there.
    let to = ["--tenants", file, "--to", own, "--kind", "dedicated", "--prepare", "--at-a-time", "1"];
    let done = depot.exits(1, &[&["transfer", "run"][..], &to].concat());
    assert!(done.stdout.contains("transfer: failed, tenant globex, refused for 1 reason(s), it is where it was"));
    assert!(done.stdout.contains("holds tenant acme; choose another target"), "{done:#?}");
    moved_many(
        &done.stdout,
        "transfer: failed, 1 of 2 tenants, 1 tables, 2 rows copied, 2 verified, 0 missing, 0 extra, 0 different",
    );
    assert_eq!(placed_at(&depot, "acme"), own);
    // Where it stopped, it goes on: who is there is left alone.
    let report = depot.json(1, &[&["transfer", "run"][..], &to].concat());
    let outcomes = report["tenants"].as_array().unwrap().iter().map(|tenant| tenant["outcome"].as_str().unwrap());
    assert_eq!(outcomes.collect::<Vec<_>>(), ["already_placed", "refused"]);
    let planned = depot.json(1, &["transfer", "plan", "--tenants", file, "--to", own]);
    assert_eq!(planned["tenants"][0]["plan"]["already_placed"], true, "{planned:#}");

    // Everybody of one place, back to where tenants go by default.
    let mut home = Program::of(&world);
    home.directory = depot.directory;
    let kept = home.exits(1, &["transfer", "plan", "--all-from", own, "--to", "default"]);
    assert!(kept.stdout.contains(&format!("kept, moved to {own}")), "{kept:#?}");
    home.exits(0, &["transfer", "purge", "acme"]);
    let planned = home.exits(0, &["transfer", "plan", "--all-from", own, "--to", "default"]);
    assert!(planned.stdout.ends_with("\n1 tenants, 2 records, 0 refused\n"), "{planned:#?}");
    let done = home.exits(0, &["transfer", "run", "--all-from", own, "--to", "default"]);
    moved_many(
        &done.stdout,
        "transfer: ok, 1 of 1 tenants, 1 tables, 2 rows copied, 2 verified, 0 missing, 0 extra, 0 different",
    );
    let nobody = home.exits(0, &["transfer", "run", "--all-from", own, "--to", "default"]);
    assert!(last(&nobody.stdout).starts_with("transfer: ok, 0 of 0 tenants, "), "{nobody:#?}");
}

#[track_caller]
fn moved_many(text: &str, expected: &str) {
    moved(&text.replace(", writes held at most ", ", writes held "), expected);
}

async fn what_names_nothing_is_told_with_what_does(mut world: World) {
    let own = world.place("own");
    let depot = depot_with(&world, &[("acme", "42")]);
    let to = own.url.as_str();
    let file = depot.directory.path().join("wave.txt");
    std::fs::write(&file, "acme\nnobody\n").unwrap();
    let file = file.to_str().unwrap();
    let known = |arguments: &[&str], text: &str| {
        let told = depot.exits(2, arguments);
        assert!(told.stderr.contains(text) && told.stdout.is_empty(), "{text:?}: {told:#?}");
    };
    known(&["transfer", "run", "--tenants", file, "--to", "default"], "line 2 of ");
    known(&["transfer", "run", "--all-from", "sqlite:/nowhere.db", "--to", "default"], "no data source has the URL");
    known(&["transfer", "run", "acme", "--to", "default", "--plan", file], "is no plan of one tenant");
    known(&["transfer", "status", "nobody"], "no transfer has the id \"nobody\"");
    known(&["transfer", "resume", "acme"], "tenant acme has no transfer under way");
    known(&["transfer", "run", "--to", "default"], "--tenants <FILE>");
    known(&["transfer", "run", "acme", "--all-from", "single", "--to", "default"], "cannot be used with");
    if world.engine == Engine::Postgres {
        known(&["transfer", "run", "acme", "--to", to], "a PostgreSQL --to takes its logins from the environment");
        // Those of the default data source are in the settings.
        let there = depot.exits(0, &["transfer", "run", "acme", "--to", world.shared().url.as_str()]);
        assert!(last(&there.stdout).ends_with("it is there already and nothing was copied"), "{there:#?}");
    }
}

async fn whom_a_data_source_serves_is_written_when_nothing_stands_against_it(mut world: World) {
    let (shared, own) = (world.place("shared"), world.place("own"));
    let mut depot = depot_with(&world, &[("acme", "42"), ("globex", "43")]);
    let app_db = world.tenantry.app_db();
    for place in [&shared, &own] {
        let notes = Some("by hand".to_owned());
        let row = NewDataSource { max_connections: 7, notes, ..NewDataSource::new(place.url.clone()) };
        app_db.upsert_data_source(&row, &Actor::default()).await.unwrap();
    }
    let is = async |place: &Place, kind: SourceKind| {
        let row: data_sources::Model = app_db.data_source(&place.url).await.unwrap().unwrap();
        assert_eq!((row.kind, row.max_connections, row.notes.as_deref()), (kind, 7, Some("by hand")));
    };
    know(&mut depot, &shared);
    depot.exits(0, &["transfer", "run", "globex", "--to", shared.url.as_str(), "--prepare"]);
    is(&shared, SourceKind::Shared).await;
    for command in ["plan", "run"] {
        let to = ["transfer", command, "acme", "--to", shared.url.as_str(), "--kind", "dedicated"];
        let refused = depot.exits(1, &to);
        assert!(refused.stdout.contains("holds tenant globex; choose another target"), "{refused:#?}");
        is(&shared, SourceKind::Shared).await;
    }
    know(&mut depot, &own);
    let to = ["transfer", "plan", "acme", "--to", own.url.as_str(), "--kind", "dedicated", "--prepare"];
    depot.exits(0, &to);
    is(&own, SourceKind::Shared).await;
    depot.exits(0, &["transfer", "run", "acme", "--to", own.url.as_str(), "--kind", "dedicated"]);
    is(&own, SourceKind::Dedicated).await;
}
