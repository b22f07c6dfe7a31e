//! The program on a command line: its own name everywhere, completions, colours, and a reader that has seen enough.

use std::process::{Command, Stdio};

use super::Program;
use crate::world::World;

/// Catches a text that names another program, and a command without an example.
#[test]
fn help_shows_the_programs_own_name_everywhere() {
    let depot = Program::new();
    let names = depot.names();
    assert!(names.len() >= 13 && names.contains(&"stock".to_owned()), "{names:?}");
    for name in &names {
        let help = depot.exits(0, &[name, "--help"]).stdout;
        assert!(help.contains(&format!("Usage: depot {name}")), "{help}");
        assert!(
            !help.contains("xtask")
                && !help.contains("{program}")
                && !help.contains("{binary}")
                && !help.contains('\u{1b}'),
            "{help}"
        );
        // The depot's own commands are its own business.
        if !["stock", "open", "receive"].contains(&name.as_str()) {
            assert!(help.contains(&format!("Example:\n  depot {name}")), "{help}");
        }
    }
}

#[test]
fn completions_know_every_command_and_their_shell_reads_them() {
    let depot = Program::new();
    let names = depot.names();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = depot.exits(0, &["completions", shell]).stdout;
        for name in &names {
            assert!(script.contains(name), "{shell}: {name} is missing");
        }
    }
    let script = depot.directory.path().join("depot.bash");
    std::fs::write(&script, depot.exits(0, &["completions", "bash"]).stdout).unwrap();
    // What bash completes after `depot check-`, asked as it asks itself.
    let ask = "source depot.bash; COMP_WORDS=(depot check-); COMP_CWORD=1; _depot depot check- depot; \
               printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["-euc", ask]).current_dir(depot.directory.path()).stdin(Stdio::null());
    let output = bash.output().unwrap();
    let completed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(completed, "check-isolation\ncheck-tenant-config\n", "{output:?}");
}

/// Catches control characters in a file or a pipe, and colours where they were declined.
#[tokio::test(flavor = "multi_thread")]
async fn colours_are_for_terminals_and_for_those_who_want_them() {
    let world = World::sqlite().await;
    let colours = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut depot = Program::of(&world);
        variables.iter().for_each(|(name, value)| depot.set(name, value));
        let run = depot.run(arguments);
        (run.stdout + &run.stderr).contains('\u{1b}')
    };
    let (answer, failure) = (["migrate", "status"], ["test-routing", "--tenant", "nobody"]);
    for arguments in [&answer[..], &failure[..]] {
        assert!(!colours(&[], arguments), "{arguments:?}: no terminal");
        assert!(colours(&[("CLICOLOR_FORCE", "1")], arguments), "{arguments:?}: forced");
        assert!(!colours(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], arguments), "{arguments:?}: declined");
        assert!(!colours(&[("CLICOLOR", "0")], arguments), "{arguments:?}: declined");
    }
    assert!(!colours(&[("CLICOLOR_FORCE", "1")], &["migrate", "status", "--json"]), "JSON has no colours");
}

/// Catches a panic, or a failure, where `… | head` closes the pipe.
#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let depot = Program::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = depot.command(&["completions", "bash"]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.stderr.is_empty(), "{ended:?}");
}

/// A full disk is a failure: what is missing from a report must not look like a report.
#[test]
#[cfg(target_os = "linux")]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let depot = Program::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = depot.command(&["completions", "bash"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(told.starts_with("error: the answer could not be written\n  because: "), "{told}");
}
