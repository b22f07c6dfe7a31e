//! Runs a page's shell blocks as a reader would: in one bash, in an otherwise empty folder, with `cargo xtask` on the PATH. No setting
//! of the developer's own gets in.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use sea_orm::{ConnectionTrait, Database, DbBackend, Statement};
use tempfile::TempDir;
use tenantry::settings::reference::SETTINGS;

use super::page::{Page, root};

/// Stands before the output of each block.
const MARK: &str = "@@ block ";

/// The environment that commands run in, and a folder of their own.
pub(crate) struct Shell {
    directory: TempDir,
    path: std::ffi::OsString,
    variables: BTreeMap<String, String>,
}

/// What commands printed, on both outputs.
pub(crate) struct Said {
    text: String,
    /// Each block with what it printed.
    blocks: Vec<(String, String)>,
}

impl Shell {
    /// A shell that finds `cargo xtask`, and the programs of these folders, before all others.
    pub(crate) fn new(folders: &[&Path]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let programs = directory.path().join("programs");
        fs::create_dir(&programs).unwrap();
        let shim = programs.join("cargo");
        // The pages say `cargo xtask`, which would have to be run within the tree, and would look whether it is up to date each time.
        let script =
            format!("#!/bin/sh\ntest \"$1\" = xtask && shift && exec '{}' \"$@\"\nexit 127\n", xtask().display());
        fs::write(&shim, script).unwrap();
        fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
        let usual = std::env::var_os("PATH").unwrap_or_default();
        let folders = folders.iter().map(|folder| folder.to_path_buf());
        let path =
            std::env::join_paths([programs].into_iter().chain(folders).chain(std::env::split_paths(&usual))).unwrap();
        Self { directory, path, variables: BTreeMap::new() }
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    pub(super) fn get(&self, name: &str) -> String {
        self.variables[name].clone()
    }

    pub(super) fn names(&self) -> BTreeSet<String> {
        self.variables.keys().cloned().collect()
    }

    /// A new folder within this shell's.
    pub(super) fn folder(&self, name: &str) -> String {
        let folder = self.directory.path().join(name);
        fs::create_dir(&folder).unwrap();
        folder.to_str().unwrap().to_owned()
    }

    /// Runs a page's blocks in order, as one script that ends at the first failure. What they export stays set.
    pub(super) fn run_blocks(&mut self, page: &Page) -> Said {
        let blocks = page.blocks("sh");
        assert!(!blocks.is_empty(), "the page has nothing to run");
        let mut script = String::new();
        for (number, block) in blocks.iter().enumerate() {
            script += &format!("printf '\\n{MARK}{number}\\n'\n{block}");
        }
        script += "env -0 >\"$EXPORTED\"\n";
        let exported = self.directory.path().join("exported");
        let (status, text) = self.bash(&script, &[("EXPORTED", exported.to_str().unwrap())]);
        assert_eq!(status, 0, "the page's commands failed:\n{text}");

        let exported = fs::read_to_string(exported).unwrap();
        for (name, value) in exported.split('\0').filter_map(|variable| variable.split_once('=')) {
            if self.variables.contains_key(name) || SETTINGS.iter().any(|setting| setting.variable == name) {
                self.set(name, value);
            }
        }
        let mark = format!("\n{MARK}");
        let outputs = text.split(&mark).skip(1);
        let outputs = outputs.map(|output| output.split_once('\n').unwrap().1.to_owned());
        let blocks: Vec<_> = blocks.into_iter().zip(outputs).collect();
        Said { text, blocks }
    }

    /// Runs a command that has to exit with 0.
    pub(crate) fn succeeds(&self, command: &str) -> Said {
        self.exits(command, 0)
    }

    /// Runs a command that has to find something wrong: exit status 1, and not 2, which is that it could not run.
    pub(crate) fn fails(&self, command: &str) -> Said {
        self.exits(command, 1)
    }

    /// Runs SQL as the administrator and answers its rows, a line each.
    pub(super) fn psql(&self, database: &str, sql: &str) -> String {
        let variables = [("DATABASE", database), ("SQL", sql)];
        let (status, text) = self.bash("psql -q -A -t -v ON_ERROR_STOP=1 -d \"$DATABASE\" -c \"$SQL\"", &variables);
        assert_eq!(status, 0, "{sql}:\n{text}");
        text
    }

    /// Runs a command that has to exit with this status.
    pub(crate) fn exits(&self, command: &str, expected: i32) -> Said {
        let (status, text) = self.bash(command, &[]);
        assert_eq!(status, expected, "{command}:\n{text}");
        Said { text, blocks: Vec::new() }
    }

    fn bash(&self, script: &str, variables: &[(&str, &str)]) -> (i32, String) {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &format!("exec 2>&1\n{script}")]);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let settles_something = SETTINGS.iter().any(|setting| setting.variable == text)
                || ["PG", "DATA_SOURCE_", "TENANTRY_", "RUST_LOG", "CARGO"].iter().any(|begin| text.starts_with(begin));
            if settles_something {
                command.env_remove(&name);
            }
        }
        command.current_dir(self.directory.path()).env("PATH", &self.path).envs(&self.variables);
        command.envs(variables.iter().copied()).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().unwrap_or(-1), text)
    }
}

impl Said {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// What the first block printed that has this in it.
    pub(super) fn after(&self, part: &str) -> Self {
        let found = self.blocks.iter().find(|(block, _)| block.contains(part));
        let (_, text) = found.unwrap_or_else(|| panic!("no block of the page has {part:?}"));
        Self { text: text.clone(), blocks: Vec::new() }
    }

    pub(crate) fn contains(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.text.contains(part), "{part:?} is missing in:\n{}", self.text);
        }
    }
}

/// Runs SQL in a file and answers the first column of its first row.
pub(super) async fn sqlite(url: &str, sql: &str) -> String {
    let connection = Database::connect(url).await.unwrap();
    let row = connection.query_one_raw(Statement::from_string(DbBackend::Sqlite, sql)).await.unwrap().unwrap();
    let text = row.try_get_by_index(0).unwrap();
    connection.close().await.unwrap();
    text
}

/// The program behind `cargo xtask`.
fn xtask() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| built(&["--package", "xtask"], "xtask"))
}

/// A program of this tree, built if it is not up to date: cargo holds no lock while tests run.
pub(crate) fn built(which: &[&str], name: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--message-format", "json"]).args(which).current_dir(root());
    // Build scripts that ask for what cargo tells this package about itself would run anew, and much would be built with them.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            build.env_remove(&name);
        }
    }
    let output = build.stdin(Stdio::null()).output().unwrap();
    let messages = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} does not build:\n{messages}\n{errors}");
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let built = messages.filter(|message| message["target"]["name"] == name);
    let mut program = built.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    program.next_back().expect("cargo names the program that it built")
}
