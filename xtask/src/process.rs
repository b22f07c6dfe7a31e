//! Programs that a command runs: how they are started, watched and reported.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::failure::Failure;

/// The cargo that runs this program, so that a toolchain chosen on the command line stays chosen.
pub(crate) fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// The version of the compiler beside that cargo, such as `1.95.0`.
pub(crate) fn rust_version() -> Result<String, Failure> {
    let program = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let answer = output(&program, &["--version"], Path::new("."))?;
    Ok(answer.split_whitespace().nth(1).unwrap_or_default().to_owned())
}

/// Runs a program to its end and returns what it printed; an exit status other than 0 is a failure.
pub(crate) fn output(program: &str, arguments: &[&str], directory: &Path) -> Result<String, Failure> {
    let output = run(program, arguments, directory)?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let command = format!("{program} {}", arguments.join(" "));
        Err(Failure::Program { command, output: printed(&output) })
    }
}

/// What a watched program did.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) success: bool,
    /// Everything it printed on either stream, in order.
    pub(crate) lines: Vec<String>,
}

/// Runs a program to its end and hands over each line that it prints, on either stream, as it comes.
pub(crate) fn watch(mut command: Command, mut on_line: impl FnMut(&str)) -> Result<Watched, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let start = |source| Failure::Start { program: program.clone(), source };
    let (reader, writer) = std::io::pipe().map_err(start)?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(start)?).stderr(writer);
    let mut child = command.spawn().map_err(start)?;
    // The command holds this process's ends of the pipe; while they are open, reading would not end.
    drop(command);
    let mut lines = Vec::new();
    let mut reader = BufReader::new(reader);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).map_err(start)? > 0 {
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        on_line(&line);
        lines.push(line);
        bytes.clear();
    }
    let success = child.wait().map_err(start)?.success();
    Ok(Watched { success, lines })
}

fn run(program: &str, arguments: &[&str], directory: &Path) -> Result<Output, Failure> {
    Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Failure::Start { program: program.to_owned(), source })
}

fn printed(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).trim_end().to_owned());
    text.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    /// Catches a program whose output is lost, or that is waited for for ever because an end of its pipe stays open.
    #[test]
    fn a_watched_program_hands_over_both_streams_and_its_status() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; printf '\\377three'; exit 3"]);
        let mut seen = Vec::new();
        let watched = watch(command, |line| seen.push(line.to_owned())).unwrap();
        assert!(!watched.success);
        assert_eq!(watched.lines, seen);
        assert_eq!(seen[..2], ["one", "two"]);
        assert!(seen[2].ends_with("three"));
        assert!(watch(Command::new("there-is-no-such-program"), |_| ()).is_err());
    }
}
