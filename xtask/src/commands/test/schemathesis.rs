//! The reference API, fuzzed against its own OpenAPI document by schemathesis: a request that is answered otherwise than the
//! document says, or with an error of the server, fails the step.
//!
//! Schemathesis is Python's and comes from PyPI into a virtual environment below `target`, once. Without Python the step is
//! skipped, loudly; where `CI` is set, it is needed.

use std::{io::Write as _, process::Command};

use super::documents;
use crate::{failure::Failure, process, workspace::Workspace};

/// Another version looks for other things: the version is raised on purpose, not on some morning.
const VERSION: &str = "4.32.5";
/// Where it is installed and run. It leaves its cache where it is run.
const FOLDER: &str = "target/schemathesis";
const CONFIG: &str = "examples/reference-api/schemathesis.toml";

/// Starts the API on a free port, signs in to one of the demo's tenants and lets schemathesis at it. The seed is fixed, so that
/// a change is not refused for what another one did. One worker: Python 3.11 parses on two threads at once with a
/// `SystemError` now and then.
const SCRIPT: &str = r#"
cd "$TOOL"
rm -f served.json
cargo run --quiet --package reference-api -- --port 0 --json > served.json &
served=$!
trap 'kill "$served"' EXIT
for _ in $(seq 600); do
    if [[ -s served.json ]]; then break; fi
    kill -0 "$served"
    sleep 0.2
done
session=$(venv/bin/python - served.json <<'PYTHON'
import json, sys, urllib.request
served = json.load(open(sys.argv[1]))
request = urllib.request.Request(
    served["url"] + "/api/session", json.dumps(served["users"][0]).encode(), {"content-type": "application/json"}
)
cookie = urllib.request.urlopen(request).headers["set-cookie"]
print(served["url"], cookie.split(";")[0].split("=", 1)[1])
PYTHON
)
url=${session% *}
export SESSION_COOKIE=${session#* }
venv/bin/st --config-file "$CONFIG" run "$url/api/openapi.json" \
    --max-examples 25 --workers 1 --seed 1 --continue-on-failure --no-color
"#;

pub(super) fn script(workspace: &Workspace) -> Result<Vec<Command>, Failure> {
    if let Err(failure) = install(workspace) {
        if !matches!(std::env::var("CI").as_deref(), Err(_) | Ok("" | "0" | "false")) {
            return Err(failure);
        }
        // Not `eprintln!`, so that a closed stream is no panic.
        let _ = writeln!(std::io::stderr(), "SKIPPED schemathesis, the reference API is not fuzzed: {failure}");
        return Ok(Vec::new());
    }
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", SCRIPT]).current_dir(workspace.root());
    documents::without_settings(&mut shell);
    shell.env("TOOL", workspace.path(FOLDER)).env("CONFIG", workspace.path(CONFIG)).env_remove("SESSION_KEYS");
    Ok(vec![shell])
}

/// Makes the virtual environment, unless it is there with this version.
fn install(workspace: &Workspace) -> Result<(), Failure> {
    let venv = workspace.path(FOLDER).join("venv");
    let python = venv.join("bin/python").display().to_string();
    let installed = process::output(&python, &["-m", "pip", "show", "schemathesis"], workspace.root());
    if installed.is_ok_and(|shown| shown.lines().any(|line| line == format!("Version: {VERSION}"))) {
        return Ok(());
    }
    process::output("python3", &["-m", "venv", &venv.display().to_string()], workspace.root())?;
    let wanted = format!("schemathesis=={VERSION}");
    process::output(&python, &["-m", "pip", "install", "--quiet", &wanted], workspace.root()).map(drop)
}
