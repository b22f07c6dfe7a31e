//! What scenarios behind a pooler rely on: that it is a real one, lets in whom it should, and goes away.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};

use super::*;
use crate::cluster::Cluster;
use crate::machine::{runs, wait_until};

/// Set for the process that the watchdog's test kills.
const VICTIM: &str = "TENANTRY_TEST_POOLER_VICTIM";

const SET_TENANT: &str = "SET app.tenant_id = 'left behind'";
const SEES: &str = "SELECT coalesce(current_setting('app.tenant_id', true), '')";

fn start(test: &str, databases: &[&Database], mode: PoolerMode, server_connections: u32) -> Option<Pooler> {
    let options = PoolerOptions { mode, server_connections, ..Default::default() };
    or_skip(test, Pooler::start(databases, &options)).unwrap()
}

/// What the driver would send at startup beyond what PgBouncer knows is left out.
async fn connect(url: &str) -> Result<PgConnection, sqlx::Error> {
    url.parse::<PgConnectOptions>()?.extra_float_digits(None).connect().await
}

/// In one message without preparation, which is what every pooler takes.
async fn ask(connection: &mut PgConnection, sql: &str) -> String {
    let row = connection.fetch_one(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
    row.get(0)
}

async fn backend(connection: &mut PgConnection) -> String {
    ask(connection, "SELECT pg_backend_pid()::text").await
}

/// Catches a harness that goes round the pooler or gives each client a server of its own: no scenario behind it would
/// prove anything then.
#[tokio::test]
async fn transaction_mode_shares_a_server_connection_and_what_was_left_in_it() {
    let database = Cluster::shared().unwrap().create_database("pooled").unwrap();
    let Some(pooler) = start("transaction mode", &[&database], PoolerMode::Transaction, 1) else { return };
    let url = pooler.url_with(&database, &database.restricted);
    assert_eq!(pooler.url_of(&database), format!("postgresql://127.0.0.1:{}/{}", pooler.port(), database.name));
    let (mut one, mut other) = (connect(&url).await.unwrap(), connect(&url).await.unwrap());
    assert_eq!(backend(&mut one).await, backend(&mut other).await);
    one.execute(SET_TENANT).await.unwrap();
    assert_eq!(ask(&mut other, SEES).await, "left behind");

    let servers = pooler.admin("SHOW SERVERS").unwrap();
    let of_database: Vec<_> = servers.iter().filter(|server| server["database"] == database.name).collect();
    assert_eq!(of_database.len(), 1, "{servers:?}");
    assert_eq!(of_database[0]["user"], database.restricted.user);
    assert!(pooler.version().starts_with("PgBouncer 1."), "{}", pooler.version());
}

/// Catches a mode that does not reach PgBouncer.
#[tokio::test]
async fn session_mode_gives_each_client_a_server_connection_and_resets_it() {
    let database = Cluster::shared().unwrap().create_database("sessions").unwrap();
    let Some(pooler) = start("session mode", &[&database], PoolerMode::Session, 2) else { return };
    let url = pooler.url_with(&database, &database.restricted);
    let (mut one, mut other) = (connect(&url).await.unwrap(), connect(&url).await.unwrap());
    let (of_one, of_other) = (backend(&mut one).await, backend(&mut other).await);
    assert_ne!(of_one, of_other);
    one.execute(SET_TENANT).await.unwrap();
    assert_eq!(ask(&mut one, SEES).await, "left behind");
    assert_eq!(ask(&mut other, SEES).await, "");

    one.close().await.unwrap();
    let mut next = connect(&url).await.unwrap();
    assert_eq!((backend(&mut next).await, ask(&mut next, SEES).await), (of_one, String::new()));
}

/// Catches a pooler that trusts whoever connects, logins and names whose quotes are lost on the way through the
/// configuration, and one more lenient about startup parameters than PgBouncer is.
#[tokio::test]
async fn every_login_needs_its_own_password_here_as_well() {
    let cluster = Cluster::shared().unwrap();
    let databases = ["first", "second"].map(|name| cluster.create_database(name).unwrap());
    let both = databases.each_ref();
    let Some(pooler) = start("passwords", &both, PoolerMode::Transaction, 2) else { return };
    for database in both {
        for login in [&database.service, &database.restricted] {
            let mut connection = connect(&pooler.url_with(database, login)).await.unwrap();
            let reached = ask(&mut connection, "SELECT current_user || ' on ' || current_database()").await;
            assert_eq!(reached, format!("{} on {}", login.user, database.name));

            let wrong = Login { password: "wrong".into(), ..login.clone() };
            let error = connect(&pooler.url_with(database, &wrong)).await.unwrap_err();
            assert!(error.to_string().contains("authentication failed"), "{error}");
        }
    }
    connect(&pooler.url_with(both[0], &both[0].superuser)).await.unwrap_err();

    let error = PgConnection::connect(&pooler.url_with(both[0], &both[0].service)).await.unwrap_err();
    assert!(error.to_string().contains("unsupported startup parameter: extra_float_digits"), "{error}");
}

/// Catches a killed pooler that still serves, or comes back elsewhere, and one that stays behind with its passwords.
#[tokio::test]
async fn a_killed_pooler_restarts_and_a_dropped_one_leaves_nothing() {
    let database = Cluster::shared().unwrap().create_database("killed").unwrap();
    let Some(pooler) = start("kill and restart", &[&database], PoolerMode::Transaction, 1) else { return };
    let url = pooler.url_with(&database, &database.service);
    let mut before = connect(&url).await.unwrap();
    let killed = pooler.pid().unwrap();
    pooler.kill().unwrap();
    assert!(!runs(killed) && pooler.pid().is_none());
    before.execute("SELECT 1").await.unwrap_err();
    connect(&url).await.unwrap_err();

    pooler.restart().unwrap();
    let mut after = connect(&url).await.unwrap();
    after.execute("SELECT 1").await.unwrap();
    let restarted = pooler.pid().unwrap();
    let directory = pooler.directory().to_owned();
    for (path, mode) in [("", 0o700), ("userlist.txt", 0o600), ("pgbouncer.ini", 0o600)] {
        assert_eq!(fs::metadata(directory.join(path)).unwrap().permissions().mode() & 0o777, mode, "{path:?}");
    }
    drop(pooler);
    assert!(!runs(restarted) && !directory.exists());
}

/// Catches a configuration that PgBouncer refuses and nobody is told why, and a directory that it leaves.
#[test]
fn a_pooler_that_does_not_start_says_why() {
    let database = Cluster::shared().unwrap().create_database("refused").unwrap();
    let settings = vec![("pool_mode".to_owned(), "nonsense".to_owned())];
    let options = PoolerOptions { settings, ..Default::default() };
    let attempt = match Pooler::start(&[&database], &options) {
        Err(error @ PoolerError::NoProgram { .. }) => or_skip("refused settings", Err(error)),
        attempt => Ok(Some(attempt.unwrap_err())),
    };
    let Some(error) = attempt.unwrap() else { return };
    assert!(
        error.to_string().contains("ended before it was ready") && error.to_string().contains("nonsense"),
        "{error}"
    );
    let PoolerError::NotReady { directory, .. } = error else { panic!("{error}") };
    assert!(!directory.exists());
    assert!(matches!(Pooler::start(&[], &options), Err(PoolerError::NotOneCluster)));
}

/// Not a test by itself: the process that the next test kills.
#[test]
fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let database = Cluster::start().unwrap().create_database("victim").unwrap();
    let pooler = Pooler::start(&[&database], &PoolerOptions::default()).unwrap();
    println!("victim: {} {}", pooler.pid().unwrap(), pooler.directory().display());
    loop {
        std::thread::park();
    }
}

/// Catches poolers that outlive a killed test run and fill the machine.
#[test]
fn a_killed_process_takes_its_pooler_along() {
    if or_skip("the end of a killed process", ensure_pooler(false)).unwrap().is_none() {
        return;
    }
    let mut victim = Command::new(std::env::current_exe().unwrap());
    victim.args(["--exact", "pooler::tests::victim", "--nocapture"]).env(VICTIM, "1");
    let mut victim = victim.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let line = lines.map_while(Result::ok).find_map(|line| Some(line.split_once("victim: ")?.1.to_owned())).unwrap();
    let (pid, directory) = line.split_once(' ').unwrap();
    let (pid, directory) = (pid.parse().unwrap(), Path::new(directory));
    assert!(runs(pid) && directory.exists());
    victim.kill().unwrap();
    victim.wait().unwrap();
    wait_until("the pooler is gone", || !runs(pid));
    wait_until("its directory is gone", || !directory.exists());
}

/// Catches scenarios that a build server skips, or anybody skips in silence, and a failure taken for an absence.
#[test]
fn only_an_absent_pooler_is_skipped_and_never_by_a_build_server() {
    let absent = || PoolerError::NoProgram { command: "apt-get install pgbouncer".into() };
    let not_installed =
        || PoolerError::Install(MachineError::Install { command: "apt-get".into(), status: "exit status: 100".into() });
    let mut said = Vec::new();
    for error in [absent(), not_installed()] {
        assert!(matches!(skip::<()>("all scenarios", Err(error), true, |line| said.push(line.to_owned())), Ok(None)));
    }
    assert!(said[0].contains("all scenarios") && said[0].contains("install it with `apt-get install pgbouncer`"));
    assert!(said[1].contains("all scenarios") && said[1].contains("exit status: 100"));
    assert!(said.iter().all(|line| line.starts_with("SKIPPED ") && line.lines().count() == 1), "{said:?}");

    let silent = |line: &str| panic!("said {line:?}");
    assert!(matches!(skip::<()>("all", Err(absent()), false, silent), Err(PoolerError::NoProgram { .. })));
    assert!(matches!(skip::<()>("all", Err(not_installed()), false, silent), Err(PoolerError::Install(_))));
    for may in [true, false] {
        let failed = skip::<()>("all", Err(PoolerError::NotOneCluster), may, silent);
        assert!(matches!(failed, Err(PoolerError::NotOneCluster)));
        assert!(matches!(skip("all", Ok(7), may, silent), Ok(Some(7))));
    }
    assert!([None, Some(""), Some("0"), Some("false")].into_iter().all(may_skip));
    assert!(!["1", "true", "woodpecker"].into_iter().any(|ci| may_skip(Some(ci))));
}
