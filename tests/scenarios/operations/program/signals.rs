//! A transfer that is ended by Ctrl-C or SIGTERM: what the program prints, how it exits, and what it leaves.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
};

use tenantry_connection::{Engine, Mode, Pool, PoolOptions, Session};

use super::{
    Program,
    transfers::{depot_with, know, last, placed_at, waits, writer},
};
use crate::world::{Place, World, on_both_engines};

on_both_engines!(the_first_signal_takes_back_what_was_begun,);

/// Where the tenant of a depot is.
fn home(world: &World, depot: &Program) -> Place {
    match world.engine {
        Engine::Postgres => world.shared(),
        Engine::Sqlite => Place { url: placed_at(depot, "acme").as_str().unwrap().parse().unwrap(), logins: None },
    }
}

fn start(depot: &Program, arguments: &[&str]) -> Child {
    depot.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(running: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &running.id().to_string()]).status().unwrap().success());
}

async fn the_first_signal_takes_back_what_was_begun(mut world: World) {
    let own = world.place("own");
    let mut depot = depot_with(&world, &[("acme", "42"), ("globex", "43")]);
    know(&mut depot, &own);
    let home = home(&world, &depot);
    // Another tenant's turn has not come yet, and does not come any more.
    let file = depot.directory.path().join("wave.txt");
    std::fs::write(&file, "acme\nglobex\n").unwrap();
    let file = file.to_str().unwrap().to_owned();
    let to = ["--to", own.url.as_str(), "--kind", "shared", "--prepare", "--deadline", "120"];
    for (name, who) in [("-TERM", vec!["acme"]), ("-INT", vec!["--tenants", &file, "--at-a-time", "1"])] {
        let (pool, open) = writer(&world, &home).await;
        let mut running = start(&depot, &[&["transfer", "run"][..], &who, &to].concat());
        waits(&depot, &mut running).await;
        signal(&running, name);
        let output = running.wait_with_output().unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{name}: {stdout}{stderr}");
        assert!(stderr.contains("interrupted: what was done is taken back"), "{stderr}");
        assert!(stdout.contains("its fence is lowered again: it was interrupted"), "{stdout}");
        assert!(stdout.contains("transfer: failed, tenant acme, it is where it was\n"), "{stdout}");
        if name == "-INT" {
            assert!(stdout.contains("transfer: failed, tenant globex, it is where it was\n"), "{stdout}");
            assert!(last(&stdout).starts_with("transfer: failed, 0 of 2 tenants, "), "{stdout}");
        }
        let listed = depot.json(0, &["transfer", "list"]);
        for transfer in listed["transfers"].as_array().unwrap() {
            assert_eq!((&transfer["step"], &transfer["run_until"]), (&"aborted".into(), &serde_json::Value::Null));
            assert_eq!(transfer["problem"], "it was interrupted");
        }
        open.rollback().await.unwrap();
        pool.close().await;
        depot.exits(0, &["receive", "--tenant", "acme", "written after it"]);
    }
    // Nobody is believed to run it.
    let done = depot.exits(0, &["transfer", "run", "--tenants", &file, "--to", own.url.as_str()]);
    assert!(last(&done.stdout).starts_with("transfer: ok, 2 of 2 tenants, "), "{done:#?}");
    assert_eq!(depot.exits(0, &["stock", "--tenant", "acme"]).stdout, "4 goods\n");
}

/// Nothing can be recorded, so that nothing can be taken back in good order: who does not want to wait need not.
#[tokio::test(flavor = "multi_thread")]
async fn the_second_signal_ends_it_at_once() {
    let mut world = World::postgres().await;
    let own = world.place("own");
    let mut depot = depot_with(&world, &[("acme", "42")]);
    know(&mut depot, &own);
    let home = home(&world, &depot);
    let (pool, open) = writer(&world, &home).await;
    let to = ["transfer", "run", "acme", "--to", own.url.as_str(), "--prepare", "--deadline", "120"];
    let mut running = start(&depot, &to);
    waits(&depot, &mut running).await;
    let application = &world.tenantry.settings().application_database;
    let app = Pool::new(&application.url, application.login.as_ref(), &PoolOptions::default()).unwrap();
    let mut locked = app.begin(&Session::default(), Mode::Write).await.unwrap();
    locked.execute_raw_sql("LOCK TABLE tenantry_transfers IN EXCLUSIVE MODE").await.unwrap();
    signal(&running, "-INT");
    let mut errors = BufReader::new(running.stderr.take().unwrap());
    let mut told = String::new();
    while !told.contains("a second signal ends it at once") {
        assert_ne!(errors.read_line(&mut told).unwrap(), 0, "{told}");
    }
    signal(&running, "-INT");
    assert_eq!(running.wait().unwrap().code(), Some(130));
    errors.read_to_string(&mut told).unwrap();
    assert!(told.contains("ended at once: `depot transfer status` shows what is left"), "{told}");
    locked.rollback().await.unwrap();
    app.close().await;
    open.rollback().await.unwrap();
    pool.close().await;

    // As after any process that has died.
    world.app_sql("UPDATE tenantry_transfers SET lease_until = created_at WHERE owner IS NOT NULL").await;
    assert!(depot.exits(1, &["transfer", "status", "acme"]).stdout.contains("INTERRUPTED"));
    let done = depot.exits(0, &["transfer", "resume", "acme"]);
    assert!(last(&done.stdout).starts_with("transfer: ok, tenant acme, "), "{done:#?}");
}
