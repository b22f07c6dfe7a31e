//! The watchdog between this process and a server.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::{MachineError, PrivateDirectory};

/// How long a server may take to be ready; generous, because test machines are loaded.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a server until it ends or the pipe on standard input does; in the latter case stops it and removes its
/// directory, unless a file `keep` says otherwise. Started in a process group of its own, so that Ctrl-C in a terminal,
/// or a kill of the test's whole group, reaches the test process but not this.
const SERVER: &str = r#"
directory=$1 stop=$2; shift 2
exec 3<&0 </dev/null
"$@" >>"$directory/log" 2>&1 3<&- &
server=$!
(
    read -r _ <&3
    : >"$directory/ended"
    if [ -e "$directory/keep" ]; then kill -INT "$server"; else kill -"$stop" "$server"; fi
    kill -CONT "$server"
) &
reader=$!
wait "$server"
if [ -e "$directory/ended" ]; then
    cd /
    if [ -e "$directory/keep" ]; then rm -f "$directory/ended"; else rm -rf "$directory"; fi
else
    kill "$reader"
fi
"#;

/// Removes a directory when the pipe on standard input ends.
const REMOVER: &str = r#"cd /; read -r _; rm -rf "$1""#;

/// A shell that outlives this process just long enough to clean up after it. Dropped: what it guards is stopped and its
/// directory removed.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Watchdog {
    /// Runs a server, of which the command's program and arguments are taken. `stop` is the signal, without `SIG`, that
    /// ends it at once.
    pub(crate) fn over_server(
        directory: &PrivateDirectory,
        stop: &str,
        server: &Command,
    ) -> Result<Self, MachineError> {
        let mut shell = directory.command(Path::new("sh"));
        shell.args(["-c", SERVER, "tenantry-watchdog"]).arg(&directory.path).arg(stop);
        shell.arg(server.get_program()).args(server.get_args());
        Self::start(shell)
    }

    /// Removes the directory when it is dropped or this process ends.
    pub(crate) fn over_directory(directory: &PrivateDirectory) -> Result<Self, MachineError> {
        let mut shell = directory.command(Path::new("sh"));
        shell.args(["-c", REMOVER, "tenantry-remover"]).arg(&directory.path);
        Self::start(shell)
    }

    fn start(mut shell: Command) -> Result<Self, MachineError> {
        // Nothing of this process's output may be inherited: who waits for its end would wait for the watchdog's too.
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = shell.spawn().map_err(|source| MachineError::Run { program: "sh".into(), source })?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }

    /// Waits until the server is ready, or says what it did instead.
    pub(crate) fn wait_until(&mut self, is_ready: impl Fn() -> bool) -> Result<(), &'static str> {
        let deadline = Instant::now() + PATIENCE;
        while !is_ready() {
            if !matches!(self.shell.try_wait(), Ok(None)) {
                return Err("ended before it was ready");
            }
            if Instant::now() > deadline {
                return Err("was not ready in time");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Waits for the end of a server that was killed; its directory stays. `Child::wait` would close the pipe, but the
    /// pipe is no longer the child's.
    pub(crate) fn wait(&mut self) {
        let _ = self.shell.wait();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.pipe.take());
        self.wait();
    }
}
