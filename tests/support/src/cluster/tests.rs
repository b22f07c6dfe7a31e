//! Starting, breaking and stopping private clusters.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use super::binaries::{Binaries, POSTGRESQL, major_version};
use super::database::keeps_databases;
use super::*;
use crate::machine::{runs, wait_until};

/// Set for the process that the watchdog's test kills.
const VICTIM: &str = "TENANTRY_TEST_VICTIM";

/// Catches a server or a directory left behind by an ordinary end, and two clusters in each other's way.
#[test]
fn clusters_live_side_by_side_and_leave_nothing() {
    if keeps_databases() {
        return;
    }
    let clusters = [Cluster::start().unwrap(), Cluster::start().unwrap()];
    let pids = clusters.each_ref().map(|cluster| cluster.server_pid().unwrap());
    let directories = clusters.each_ref().map(|cluster| cluster.directory().to_owned());
    assert_ne!(clusters[0].port(), clusters[1].port());
    let databases = clusters.each_ref().map(|cluster| cluster.create_database("side").unwrap());
    databases[0].psql(&databases[0].service, "CREATE TABLE only_here (id integer)").unwrap();
    let elsewhere =
        databases[1].psql(&databases[1].service, "SELECT count(*) FROM pg_class WHERE relname = 'only_here'");
    assert_eq!(elsewhere.unwrap(), "0\n");
    drop(databases);
    drop(clusters);
    for (pid, directory) in pids.into_iter().zip(directories) {
        assert!(!runs(pid), "server {pid} is still there");
        assert!(!directory.exists(), "{} is still there", directory.display());
    }
}

/// Catches a server that trusts whoever connects: then no test of a wrong password means anything. Also catches a
/// URL whose password is not escaped.
#[tokio::test]
async fn every_login_needs_its_own_password() {
    let database = Cluster::shared().unwrap().create_database("passwords").unwrap();
    for login in [&database.service, &database.restricted, &database.superuser] {
        let mut connection = PgConnection::connect(&database.url_with(login)).await.unwrap();
        let user: String = sqlx::query_scalar("SELECT current_user::text").fetch_one(&mut connection).await.unwrap();
        assert_eq!(user, login.user);

        let wrong = Login { password: "wrong".into(), ..login.clone() };
        let error = PgConnection::connect(&database.url_with(&wrong)).await.unwrap_err();
        assert_eq!(error.as_database_error().and_then(|error| error.code()).as_deref(), Some("28P01"), "{error}");
        assert!(matches!(database.psql(&wrong, "SELECT 1"), Err(ClusterError::Psql { sqlstate: None, .. })));
    }
    let swapped = Login { password: database.service.password.clone(), ..database.restricted.clone() };
    PgConnection::connect(&database.url_with(&swapped)).await.unwrap_err();
}

/// Catches a socket that is missing, whose path is too long, or that trusts more than the bootstrap superuser.
#[tokio::test]
async fn the_socket_asks_all_but_the_superuser_for_a_password() {
    let database = Cluster::shared().unwrap().create_database("socket").unwrap();
    let directory = database.cluster().directory();
    assert!(directory.join(format!(".s.PGSQL.{}", database.port)).as_os_str().len() < 100);
    PgConnection::connect(&format!("{}&user=postgres", database.socket_url())).await.unwrap();
    PgConnection::connect(&format!("{}&user={}", database.socket_url(), database.service.user)).await.unwrap_err();
}

/// Catches logins with more rights than production's, under which isolation tests would prove nothing.
#[test]
fn logins_have_no_special_rights() {
    let database = Cluster::shared().unwrap().create_database("Rights / of \"logins\"").unwrap();
    assert!(database.name.starts_with("rights___of__logins_-"), "{}", database.name);
    let rights = "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles
                  WHERE rolname = current_user";
    for login in [&database.service, &database.restricted] {
        assert_eq!(database.psql(login, rights).unwrap(), "f|f|f|f|f\n");
    }
    let create = "CREATE TABLE mine (id integer)";
    database.psql(&database.service, create).unwrap();
    assert_eq!(database.psql(&database.restricted, create).unwrap_err().sqlstate(), Some("42501"));
    assert_eq!(database.psql(&database.restricted, "SELECT * FROM mine").unwrap_err().sqlstate(), Some("42501"));
}

/// Catches settings that later tests rely on: several writers, logical replication, a stated locale, an odd time zone.
#[test]
fn settings_are_as_stated() {
    let options = ClusterOptions { settings: vec![("max_connections".into(), "17".into())], ..Default::default() };
    let cluster = Cluster::start_with(&options).unwrap();
    let database = cluster.create_database("settings").unwrap();
    let settings = "SELECT current_setting('wal_level'), current_setting('max_connections'),
                    current_setting('password_encryption'), current_setting('server_encoding'),
                    to_char(timestamptz '2024-01-01 00:00Z', 'YYYY-MM-DD HH24:MI'), upper('é'), 'Z' < 'a'";
    assert_eq!(
        database.psql(&database.service, settings).unwrap(),
        "logical|17|scram-sha-256|UTF8|2024-01-01 05:45|É|t\n"
    );
}

/// Catches an ICU locale that is accepted but not used.
#[test]
fn an_icu_locale_orders_as_people_do() {
    let options = ClusterOptions { locale: Locale::Icu("und".into()), ..Default::default() };
    let cluster = Cluster::start_with(&options).unwrap();
    let database = cluster.create_database("icu").unwrap();
    assert_eq!(database.psql(&database.service, "SELECT 'Z' < 'a', upper('é')").unwrap(), "f|É\n");
}

/// Catches databases and logins piling up on the shared cluster, and a drop that open connections prevent.
#[tokio::test]
async fn a_database_and_its_logins_are_dropped_under_open_connections() {
    if keeps_databases() {
        return;
    }
    let cluster = Cluster::shared().unwrap();
    let witness = cluster.create_database("witness").unwrap();
    let database = cluster.create_database("dropped").unwrap();
    let name = database.name.clone();
    let mut open = PgConnection::connect(&database.url_with(&database.service)).await.unwrap();
    drop(database);
    assert!(open.execute("SELECT 1").await.is_err());
    let left = format!(
        "SELECT (SELECT count(*) FROM pg_database WHERE datname = '{name}'),
                (SELECT count(*) FROM pg_roles WHERE rolname LIKE '{name}.%')"
    );
    assert_eq!(witness.psql(&witness.service, &left).unwrap(), "0|0\n");
}

/// Catches a copy that its logins cannot use, and logins dropped while another copy still needs them.
#[tokio::test]
async fn a_copy_has_the_templates_tables_and_logins() {
    let cluster = Cluster::shared().unwrap();
    let template = cluster.create_database("template").unwrap();
    let grant = format!("GRANT SELECT ON kept TO \"{}\"", template.restricted.user);
    template.psql(&template.service, &format!("CREATE TABLE kept AS SELECT 7 AS id; {grant}")).unwrap();
    let _open = PgConnection::connect(&template.url_with(&template.service)).await.unwrap();
    let copies = [cluster.create_database_from(&template).unwrap(), cluster.create_database_from(&template).unwrap()];
    drop(template);
    for copy in &copies {
        assert_eq!(copy.psql(&copy.restricted, "SELECT id FROM kept").unwrap(), "7\n");
    }
    copies[0].psql(&copies[0].service, "DROP TABLE kept").unwrap();
    assert_eq!(copies[1].psql(&copies[1].restricted, "SELECT id FROM kept").unwrap(), "7\n");
}

/// Catches commits that a crash loses (as `synchronous_commit = off` did), and a restart on another port.
#[test]
fn a_crashed_server_restarts_with_its_rows() {
    let cluster = Cluster::start().unwrap();
    let database = cluster.create_database("crash").unwrap();
    database.psql(&database.service, "CREATE TABLE kept AS SELECT 7 AS id").unwrap();
    let pid = cluster.server_pid().unwrap();
    cluster.crash().unwrap();
    assert!(!runs(pid));
    database.psql(&database.service, "SELECT 1").unwrap_err();
    cluster.restart().unwrap();
    assert_eq!(database.psql(&database.service, "SELECT id FROM kept").unwrap(), "7\n");
}

/// Not a test by itself: the process that the next test kills.
#[test]
fn victim() {
    let Ok(wish) = std::env::var(VICTIM) else { return };
    let cluster = Cluster::start().unwrap();
    let database = cluster.create_database("victim").unwrap();
    println!("victim: {} {}", cluster.server_pid().unwrap(), cluster.directory().display());
    if wish == "fail" {
        database.psql(&database.service, "CREATE TABLE evidence AS SELECT 7 AS id").unwrap();
        panic!("as asked");
    }
    // A scoped thread that has ended may have left a wake-up behind.
    loop {
        std::thread::park();
    }
}

fn start_victim(wish: &str) -> (std::process::Child, u32, PathBuf) {
    let mut victim = Command::new(std::env::current_exe().unwrap());
    victim.args(["--exact", "cluster::tests::victim", "--nocapture"]).env(VICTIM, wish);
    let mut victim = victim.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let line = lines.map_while(Result::ok).find_map(|line| Some(line.split_once("victim: ")?.1.to_owned())).unwrap();
    let (pid, directory) = line.split_once(' ').unwrap();
    (victim, pid.parse().unwrap(), directory.into())
}

/// Catches servers that outlive a killed test run and fill the machine.
#[test]
fn a_killed_process_takes_its_server_along() {
    let (mut victim, server, directory) = start_victim("park");
    assert!(runs(server) && directory.exists());
    victim.kill().unwrap();
    victim.wait().unwrap();
    wait_until("the server is gone", || !runs(server));
    wait_until("its directory is gone", || !directory.exists());
}

/// Catches a failed test whose evidence is thrown away, and a printed command that does not start what was kept.
#[test]
fn a_failed_test_keeps_its_database() {
    let (victim, server, directory) = start_victim("fail");
    let output = victim.wait_with_output().unwrap();
    assert!(!output.status.success());
    wait_until("the server has stopped", || !runs(server));
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    let start = printed.lines().skip_while(|line| !line.starts_with("kept test database \"victim-0\"")).nth(1).unwrap();

    let mut server = Command::new("sh").args(["-c", &format!("exec {start}")]).stderr(Stdio::null()).spawn().unwrap();
    let pid_file = directory.join("data/postmaster.pid");
    wait_until("the kept server is up", || {
        std::fs::read_to_string(&pid_file)
            .is_ok_and(|file| file.lines().nth(7).is_some_and(|line| line.trim() == "ready"))
    });
    let port = std::fs::read_to_string(&pid_file).unwrap().lines().nth(3).unwrap().to_owned();
    let mut psql = Command::new(Binaries::find().unwrap().psql);
    psql.args([
        "-X",
        "-A",
        "-t",
        "-U",
        "postgres",
        "-d",
        "victim-0",
        "-p",
        &port,
        "-c",
        "SELECT id FROM evidence",
        "-h",
    ]);
    let evidence = psql.arg(&directory).output().unwrap();
    let pid: String = std::fs::read_to_string(&pid_file).unwrap().lines().next().unwrap().to_owned();
    Command::new("sh").args(["-c", r#"kill -QUIT "$1""#, "sh", &pid]).status().unwrap();
    server.wait().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(String::from_utf8_lossy(&evidence.stdout), "7\n");
}

/// Catches a version that is misread, so that a server too old is tried or a new one refused.
#[test]
fn versions_are_read() {
    assert_eq!(major_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
    assert_eq!(major_version("postgres (PostgreSQL) 19beta1"), Some(19));
    assert_eq!(major_version("postgres (EnterpriseDB) 16"), None);
}

/// Catches advice for another system's package manager.
#[test]
fn the_advice_fits_the_package_manager() {
    let with =
        |manager: &'static str| POSTGRESQL.install_command(move |program| (program == manager).then(PathBuf::new));
    assert!(with("dnf").contains("dnf install -y postgresql-server"));
    assert_eq!(with("brew"), "brew install postgresql@17");
    assert!(with("none of them").contains("apt-get update && apt-get install -y --no-install-recommends postgresql"));
}
