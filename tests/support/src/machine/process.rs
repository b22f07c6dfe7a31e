//! Running programs to their end.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::MachineError;

/// A command that no `PG…` variable of the caller's environment can divert to another server.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a program to its end, with its output in the error when it fails.
pub(crate) fn run(mut command: Command) -> Result<Output, MachineError> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Err(source) => Err(MachineError::Run { program, source }),
        Ok(output) if output.status.success() => Ok(output),
        Ok(output) => {
            let printed = [output.stdout, output.stderr].concat();
            Err(MachineError::Failed { program, output: String::from_utf8_lossy(&printed).trim().to_owned() })
        }
    }
}

/// Runs a program to its end with the given text on its standard input.
pub(crate) fn run_with_input(mut command: Command, input: &str) -> Result<Output, MachineError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |source| MachineError::Run { program: program.clone(), source };
    let mut child = command.stdin(Stdio::piped()).spawn().map_err(failed)?;
    let pipe = child.stdin.take();
    // From another thread, because both pipes may fill. A program that fails early does not read to the end.
    std::thread::scope(|scope| {
        scope.spawn(|| pipe.map(|mut pipe| pipe.write_all(input.as_bytes())));
        child.wait_with_output().map_err(failed)
    })
}

/// Whether the process runs; signal 0 only asks.
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
pub(crate) fn runs(pid: u32) -> bool {
    Command::new("sh").args(["-c", r#"kill -0 "$1" 2>/dev/null"#, "sh", &pid.to_string()]).status().unwrap().success()
}

#[cfg(test)]
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "still waiting until {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
