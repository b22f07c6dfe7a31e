//! The operators' commands in an application's own program, run as processes: exit statuses, what goes to which stream, and what
//! a script can read. The application is the depot of `crates/cli/examples/depot.rs`, which has nothing of the reference schema.

mod failures;
mod own_tables;
mod shell;
mod signals;
mod transfers;

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
};

use tempfile::TempDir;
use tenantry::settings::reference::SETTINGS;
use tenantry_connection::Engine;

use crate::{
    documents::shell::built,
    world::{KEYS, World},
};

/// A way to run the program: an environment of its own and an empty folder.
struct Program {
    variables: BTreeMap<String, String>,
    directory: TempDir,
}

/// What a run printed, and how it ended.
#[derive(Debug)]
struct Run {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Program {
    /// Without any setting.
    fn new() -> Self {
        Self { variables: BTreeMap::new(), directory: tempfile::tempdir().unwrap() }
    }

    /// With the settings of a world.
    fn of(world: &World) -> Self {
        let mut program = Self::new();
        program.set("ENCRYPTION_KEYS", &KEYS.map(|(id, key)| format!("{id}={key}")).join(","));
        program.set("ENCRYPTION_KEY_ACTIVE", "new");
        match (world.engine, world.databases.as_slice()) {
            (Engine::Postgres, [app, shared, ..]) => {
                let json = |login: &tenantry_test_support::cluster::Login| {
                    serde_json::json!({ "user": login.user, "password": login.password }).to_string()
                };
                program.set("APPLICATION_DATABASE_URL", &app.url_with(&app.service));
                program.set("DEFAULT_TENANT_DATA_URL", &shared.url());
                program.set("DEFAULT_TENANT_DATA_ANON_KEY", &json(&shared.restricted));
                program.set("DEFAULT_TENANT_DATA_SERVICE_KEY", &json(&shared.service));
            }
            _ => {
                let folder = world.directory.path().display();
                program.set("APPLICATION_DATABASE_URL", &format!("sqlite:{folder}/app.db"));
                program.set("DEFAULT_TENANT_DATA_URL", &format!("sqlite:{folder}/tenants/{{tenant_id}}.db"));
            }
        }
        program
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        static BUILT: OnceLock<std::path::PathBuf> = OnceLock::new();
        let depot: &Path = BUILT.get_or_init(|| built(&["--package", "tenantry-cli", "--example", "depot"], "depot"));
        let mut command = Command::new(depot);
        // Neither a developer's settings nor what his terminal is like decides what is tested.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let colours = ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "RUST_LOG"].contains(&&*text);
            let tells = text.starts_with("DATA_SOURCE_") || text.starts_with("TENANTRY_");
            if colours || tells || SETTINGS.iter().any(|setting| setting.variable == text) {
                command.env_remove(&name);
            }
        }
        command.args(arguments).envs(&self.variables).current_dir(self.directory.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let status = output.status.code().expect("the program exits by itself");
        Run { status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Runs what has to exit with this status.
    fn exits(&self, status: i32, arguments: &[&str]) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.status, status, "{arguments:?}: {run:#?}");
        run
    }

    /// Runs a command with `--json` and reads the one document that it prints.
    fn json(&self, status: i32, arguments: &[&str]) -> serde_json::Value {
        let run = self.exits(status, &[arguments, &["--json"]].concat());
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {run:#?}"))
    }

    /// The names of all commands, as the help lists them.
    fn names(&self) -> Vec<String> {
        let help = self.exits(0, &["--help"]).stdout;
        let (_, commands) = help.split_once("Commands:\n").unwrap();
        let commands = commands.lines().take_while(|line| !line.is_empty());
        commands.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
    }
}
