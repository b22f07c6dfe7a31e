//! What could not run says what was wrong, because of what, and what to do: on standard error for people, as a document on
//! standard output for a script, and with exit status 2.

use secrecy::ExposeSecret;
use tenantry_test_support::cluster::{self, Cluster};

use super::Program;
use crate::world::{KEYS, World, on_both_engines};

on_both_engines!(an_id_that_does_not_fit_is_refused_with_the_argument_that_gives_one);

/// The same failure in words and as a document; answers the document's error.
fn fails(depot: &Program, arguments: &[&str], help: &str) -> serde_json::Value {
    let told = depot.exits(2, arguments);
    assert_eq!(told.stdout, "", "{told:#?}");
    assert!(told.stderr.starts_with("error: "), "{told:#?}");
    let last = told.stderr.trim_end().lines().last().unwrap();
    assert!(last.starts_with("help: ") && last.contains(help), "{help:?} is not the last line of {told:#?}");
    let document = depot.json(2, arguments);
    let error = document["error"].clone();
    assert!(told.stderr.contains(error["message"].as_str().unwrap()), "{error:#} and {told:#?}");
    assert!(error["help"].as_str().unwrap().contains(help), "{error:#}");
    error
}

#[test]
fn a_missing_setting_is_named_with_both_ways_of_setting_it() {
    let depot = Program::new();
    let help = "set APPLICATION_DATABASE_URL in the environment, or application_database_url in tenantry.toml";
    let error = fails(&depot, &["list-tenants"], help);
    assert!(error["message"].as_str().unwrap().contains("APPLICATION_DATABASE_URL is not set"), "{error:#}");
}

#[test]
fn an_application_database_that_is_not_there_is_told_with_what_makes_it() {
    let mut depot = Program::new();
    depot.set("APPLICATION_DATABASE_URL", "sqlite:./nowhere.db");
    let error = fails(&depot, &["list-tenants"], "`depot migrate up`");
    assert!(!error["because"].as_array().unwrap().is_empty(), "{error:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_the_application_database_away_is_told_and_no_password() {
    let cluster = Cluster::shared().unwrap();
    let app = cluster.create_database("app").unwrap();
    let password = &app.service.password;
    let url = app.url_with(&app.service);
    let wrong = cluster::Login { password: "wrong-3f9a".to_owned(), ..app.service.clone() };
    let port = format!(":{}/", cluster.port());
    let ways = [
        (url.clone(), "`depot migrate up --app-db`"),
        (app.url_with(&wrong), "pg_hba.conf"),
        (url.replace(&format!("{port}{}", app.name), &format!("{port}nowhere")), "createdb"),
        (url.replace(&port, ":1/"), "pg_isready"),
    ];
    for (url, help) in ways {
        let mut depot = Program::new();
        depot.set("APPLICATION_DATABASE_URL", &url);
        depot.set("TENANTRY_ACQUIRE_TIMEOUT", "2s");
        let error = fails(&depot, &["list-tenants"], help).to_string();
        assert!(!error.contains(password.as_str()) && !error.contains("wrong-3f9a"), "{error}");
        // A database that cannot be migrated is a finding of `migrate`; it is told what to do as well.
        if help != "`depot migrate up --app-db`" {
            let told = depot.exits(1, &["migrate", "status"]).stdout;
            assert!(told.contains("\nhelp: ") && told.contains(help), "{told}");
            let remedy = depot.json(1, &["migrate", "status"])["databases"][0]["remedy"].clone();
            assert!(remedy.as_str().unwrap().contains(help), "{remedy:#}");
        }
    }
}

async fn an_id_that_does_not_fit_is_refused_with_the_argument_that_gives_one(world: World) {
    let depot = Program::of(&world);
    let arguments = ["create-tenant", "--name", "Acme", "--subdomain", "acme"];
    fails(&depot, &arguments, "--tenant-id-in-data-source gives the id");
    assert_eq!(depot.json(0, &["list-tenants"])["tenants"].as_array().unwrap().len(), 0, "nothing is left half-made");
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_of_a_data_source_are_asked_for_and_never_told() {
    let world = World::postgres().await;
    let mut depot = Program::of(&world);
    let place = world.shared();
    let arguments = [
        "create-tenant",
        "--name",
        "Acme",
        "--subdomain",
        "acme",
        "--tenant-id-in-data-source",
        "7",
        "--data-source",
        place.url.as_str(),
    ];
    fails(&depot, &arguments, "export DATA_SOURCE_ANON_KEY='user:password'");
    let logins = place.logins.unwrap();
    let service = logins.service.password.expose_secret();
    depot.set("DATA_SOURCE_ANON_KEY", &format!("{{\"user\": \"{}\", \"password\": 5}}", logins.restricted.user));
    depot.set("DATA_SOURCE_SERVICE_KEY", &format!("{}:{service}", logins.service.user));
    let refused = depot.exits(2, &arguments);
    assert!(refused.stderr.contains("DATA_SOURCE_ANON_KEY: "), "{refused:#?}");
    assert!(!refused.stderr.contains(service), "{refused:#?}");
}

/// The attack: whoever reads an operator's terminal or log, at the finest level, looks for logins and keys.
#[tokio::test(flavor = "multi_thread")]
async fn no_login_and_no_key_is_in_what_a_command_prints_or_logs() {
    let mut world = World::postgres().await;
    let own = world.place("own");
    let mut depot = Program::of(&world);
    depot.set("RUST_LOG", "trace");
    let logins = own.logins.as_ref().unwrap();
    for (variable, login) in
        [("DATA_SOURCE_ANON_KEY", &logins.restricted), ("DATA_SOURCE_SERVICE_KEY", &logins.service)]
    {
        depot.set(variable, &format!("{}:{}", login.user, login.password.expose_secret()));
    }
    let mut create: Vec<_> =
        "create-tenant --name Acme --subdomain acme --tenant-id-in-data-source 7".split(' ').collect();
    create.extend(["--data-source", own.url.as_str()]);
    let runs = [
        depot.exits(0, &create),
        depot.exits(2, &create),
        depot.exits(0, &["test-data-source", "--all"]),
        depot.exits(0, &["encrypt-tenant-keys", "--apply"]),
        depot.exits(0, &["list-tenants", "--json"]),
    ];
    let told: String = runs.iter().map(|run| format!("{}{}", run.stdout, run.stderr)).collect();
    assert!(told.contains("sqlx::"), "the driver's log is among it");
    let logins = world.databases.iter().flat_map(|database| [&database.restricted, &database.service]);
    let secrets = logins.map(|login| login.password.as_str()).chain(KEYS.map(|(_, key)| key));
    for secret in secrets {
        assert!(!told.contains(secret), "{secret} was told");
    }
}

/// Catches an error of the command line that a script would have to read as words.
#[test]
fn a_wrong_command_line_is_a_document_as_well() {
    let depot = Program::new();
    let told = depot.exits(2, &["migrate", "sideways"]);
    assert!(told.stdout.is_empty() && told.stderr.contains("[possible values: up, down, status]"), "{told:#?}");
    let document = depot.json(2, &["migrate", "sideways"]);
    assert!(document["error"]["message"].as_str().unwrap().contains("invalid value 'sideways'"), "{document:#}");
    assert!(document["error"]["help"].as_str().unwrap().contains("--help"), "{document:#}");
}
