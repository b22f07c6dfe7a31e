//! A cluster's files and the server that runs on them, with the watchdog between it and the test process.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::account::Account;
use super::binaries::Binaries;
use super::{ClusterError, HOST, Locale, Login, command, lock};

/// How long a server may take to be ready; generous, because test machines are loaded.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest socket path that every Unix takes, less the socket's own name.
const LONGEST_DIRECTORY: usize = 100 - "/.s.PGSQL.65535".len();

/// Runs a server until it ends or the pipe on standard input does; in the latter case stops it and removes its
/// directory, unless a file `keep` says otherwise. Started in a process group of its own, so that Ctrl-C in a terminal,
/// or a kill of the test's whole group, reaches the test process but not this.
const WATCHDOG: &str = r#"
directory=$1; shift
exec 3<&0 </dev/null
"$@" >>"$directory/log" 2>&1 3<&- &
server=$!
(
    read -r _ <&3
    : >"$directory/ended"
    if [ -e "$directory/keep" ]; then kill -INT "$server"; else kill -QUIT "$server"; fi
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

/// Settings of every server. Nothing here survives a power cut, and nothing needs to; but what was committed survives a
/// crash of the server, so `synchronous_commit` stays on (without `fsync` it costs next to nothing).
const SETTINGS: [(&str, &str); 11] = [
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("wal_level", "logical"),
    ("max_connections", "200"),
    ("shared_buffers", "32MB"),
    ("password_encryption", "scram-sha-256"),
    ("unix_socket_permissions", "0700"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
    ("jit", "off"),
    // Not UTC, and a form that needs no time zone database.
    ("TimeZone", "<+0545>-05:45"),
    ("log_timezone", "UTC"),
];

const HOST_BASED_AUTHENTICATION: &str = "\
# Only the bootstrap superuser, and only on the private socket, is trusted.
local all,replication postgres trust
local all,replication all scram-sha-256
host all,replication all 127.0.0.1/32 scram-sha-256
";

/// A cluster's directory and what belongs to it.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) directory: PathBuf,
    pub(super) binaries: Binaries,
    account: Option<Account>,
}

impl Files {
    /// Makes a directory with a fresh cluster in it: a copy of one that this process made by `initdb` once.
    pub(super) fn create(locale: &Locale) -> Result<(Self, Login), ClusterError> {
        static TEMPLATES: LazyLock<Mutex<HashMap<Locale, Template>>> = LazyLock::new(Mutex::default);
        let mut templates = lock(&TEMPLATES);
        let template = match templates.get(locale) {
            Some(template) => template,
            None => templates.entry(locale.clone()).or_insert(Template::create(locale)?),
        };
        let files = template.files.empty()?;
        let superuser = template.superuser.clone();
        let from = template.files.data();
        drop(templates);
        let mut copy = files.command(Path::new("cp"));
        copy.arg("-Rp").arg(from).arg(files.data());
        if let Err(error) = run(copy) {
            files.remove();
            return Err(error);
        }
        Ok((files, superuser))
    }

    /// Removes the directory, unless it is kept. Only for a directory without a watchdog.
    pub(super) fn remove(&self) {
        if !self.is_kept() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }

    /// Whether the directory stays behind.
    pub(super) fn is_kept(&self) -> bool {
        self.directory.join("keep").exists()
    }

    /// Tells the watchdog to leave the directory behind, and returns how a person starts the server again.
    pub(super) fn keep(&self, port: u16) -> String {
        let _ = fs::write(self.directory.join("keep"), "");
        let account = self.account.as_ref().map(|account| format!("runuser -u {} -- ", account.name));
        format!(
            "{}{} -D {} -k {} -p {port} -h {HOST}",
            account.unwrap_or_default(),
            self.binaries.bindir.join("postgres").display(),
            self.data().display(),
            self.directory.display()
        )
    }

    /// The server's process id, from the file it keeps while it runs.
    pub(super) fn server_pid(&self) -> Option<u32> {
        fs::read_to_string(self.data().join("postmaster.pid")).ok()?.lines().next()?.trim().parse().ok()
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// A new empty directory for the same programs and account.
    fn empty(&self) -> Result<Self, ClusterError> {
        let directory = private_directory(self.account.as_ref())?;
        Ok(Self { directory, ..self.clone() })
    }

    /// A command that runs as the server's account, in the cluster's directory.
    fn command(&self, program: &Path) -> Command {
        let mut command = command(program);
        command.current_dir(&self.directory);
        if let Some(account) = &self.account {
            account.run(&mut command, &self.directory);
        }
        command
    }

    /// The status line that the server keeps in its process id file, as `pg_ctl --wait` reads it.
    fn is_ready(&self) -> bool {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        file.lines().nth(7).is_some_and(|status| status.trim() == "ready")
    }

    fn not_ready(&self, what: &'static str) -> ClusterError {
        ClusterError::NotReady { directory: self.directory.clone(), what, log: end_of(&self.directory.join("log")) }
    }
}

/// A server that runs. Dropped: it is stopped at once and its directory removed.
#[derive(Debug)]
pub(super) struct Server {
    watchdog: Watchdog,
}

impl Server {
    /// Starts the server and waits until it accepts connections.
    pub(super) fn start(files: &Files, port: u16, settings: &[(String, String)]) -> Result<Self, ClusterError> {
        // A crashed server's file would say that the new one is ready.
        let _ = fs::remove_file(files.data().join("postmaster.pid"));
        let mut shell = files.command(Path::new("sh"));
        shell.args(["-c", WATCHDOG, "tenantry-watchdog"]).arg(&files.directory);
        shell.arg(files.binaries.bindir.join("postgres")).arg("-D").arg(files.data());
        shell.args(["-p", &port.to_string(), "-h", HOST, "-k"]).arg(&files.directory);
        for (name, value) in settings {
            shell.args(["-c", &format!("{name}={value}")]);
        }
        let mut server = Self { watchdog: Watchdog::start(shell)? };
        let deadline = Instant::now() + PATIENCE;
        while !files.is_ready() {
            if server.watchdog.has_ended() {
                return Err(files.not_ready("ended before it was ready"));
            }
            if Instant::now() > deadline {
                return Err(files.not_ready("was not ready in time"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    /// Stops the server at once and keeps its directory.
    pub(super) fn crash(mut self, files: &Files) -> Result<(), ClusterError> {
        if let Some(pid) = files.server_pid() {
            // The shell's own `kill`, because not every system has a program of that name.
            let mut kill = files.command(Path::new("sh"));
            kill.args(["-c", r#"kill -QUIT "$1" && kill -CONT "$1""#, "sh", &pid.to_string()]);
            run(kill)?;
        }
        // The watchdog ends with its server, and finds the pipe still open.
        self.watchdog.wait();
        Ok(())
    }
}

/// A shell that outlives this process just long enough to clean up after it.
#[derive(Debug)]
struct Watchdog {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Watchdog {
    fn start(mut shell: Command) -> Result<Self, ClusterError> {
        // Nothing of this process's output may be inherited: who waits for its end would wait for the watchdog's too.
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = shell.spawn().map_err(|source| ClusterError::Run { program: "sh".into(), source })?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.shell.try_wait(), Ok(None))
    }

    /// `Child::wait` would close the pipe, but the pipe is no longer the child's.
    fn wait(&mut self) {
        let _ = self.shell.wait();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.pipe.take());
        self.wait();
    }
}

/// A cluster that `initdb` made and no server runs on.
struct Template {
    files: Files,
    superuser: Login,
    /// Held, never dropped: it removes the directory when the process ends.
    _remover: Watchdog,
}

impl Template {
    fn create(locale: &Locale) -> Result<Self, ClusterError> {
        let binaries = Binaries::find()?;
        let account = Account::to_drop_to()?;
        let directory = private_directory(account.as_ref())?;
        let files = Files { directory, binaries, account };
        let mut remover = files.command(Path::new("sh"));
        remover.args(["-c", REMOVER, "tenantry-remover"]).arg(&files.directory);
        let remover = Watchdog::start(remover)?;
        let superuser = Login { user: "postgres".into(), password: Uuid::new_v4().simple().to_string() };
        let password_file = files.directory.join("password");
        write_owned(&password_file, &superuser.password, files.account.as_ref())?;
        let mut initdb = files.command(&files.binaries.bindir.join("initdb"));
        initdb.args(["-U", &superuser.user, "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"]);
        initdb.args(locale_arguments(locale, files.binaries.major_version));
        initdb.arg("--pwfile").arg(&password_file).arg("-D").arg(files.data());
        run(initdb)?;
        append(&files.data().join("postgresql.conf"), &configuration())?;
        let authentication = files.data().join("pg_hba.conf");
        write_owned(&authentication, HOST_BASED_AUTHENTICATION, files.account.as_ref())?;
        Ok(Self { files, superuser, _remover: remover })
    }
}

/// Runs a program to its end, with its output in the error when it fails.
pub(super) fn run(mut command: Command) -> Result<Output, ClusterError> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Err(source) => Err(ClusterError::Run { program, source }),
        Ok(output) if output.status.success() => Ok(output),
        Ok(output) => {
            let printed = [output.stdout, output.stderr].concat();
            Err(ClusterError::Failed { program, output: String::from_utf8_lossy(&printed).trim().to_owned() })
        }
    }
}

/// Runs a program to its end with the given text on its standard input.
pub(super) fn run_with_input(mut command: Command, input: &str) -> Result<Output, ClusterError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |source| ClusterError::Run { program: program.clone(), source };
    let mut child = command.stdin(Stdio::piped()).spawn().map_err(failed)?;
    let pipe = child.stdin.take();
    // From another thread, because both pipes may fill. A program that fails early does not read to the end.
    std::thread::scope(|scope| {
        scope.spawn(|| pipe.map(|mut pipe| pipe.write_all(input.as_bytes())));
        child.wait_with_output().map_err(failed)
    })
}

fn locale_arguments(locale: &Locale, major_version: u32) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match locale {
        // From version 17 the server brings C.UTF-8 itself; before that the system's library must have it.
        Locale::CodePoint if major_version >= 17 => {
            words(&["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"])
        }
        Locale::CodePoint => words(&["--locale=C.UTF-8", "--lc-messages=C"]),
        Locale::Icu(tag) => words(&["--locale=C", "--locale-provider=icu", &format!("--icu-locale={tag}")]),
    }
}

fn configuration() -> String {
    let line = |(name, value): &(&str, &str)| format!("{name} = '{value}'\n");
    SETTINGS.iter().map(line).collect()
}

/// A directory that only the account can enter, with a path short enough for a socket.
fn private_directory(account: Option<&Account>) -> Result<PathBuf, ClusterError> {
    let usual = std::env::temp_dir();
    let bases = [usual.as_path(), Path::new("/tmp"), Path::new("/var/tmp")];
    let base = bases.into_iter().find(|base| is_usable(base, account)).unwrap_or(&usual);
    let prepare = |source| ClusterError::Prepare { path: base.to_owned(), source };
    let directory = tempfile::Builder::new().prefix("tenantry-").tempdir_in(base).map_err(prepare)?;
    if let Some(account) = account {
        account.own(directory.path()).map_err(prepare)?;
    }
    Ok(directory.keep())
}

/// Whether a directory below this one can hold a cluster: the socket's path fits, and the account gets there.
fn is_usable(base: &Path, account: Option<&Account>) -> bool {
    let fits = base.is_absolute() && base.as_os_str().len() + "/tenantry-XXXXXX".len() <= LONGEST_DIRECTORY;
    let enters = |account: &Account| {
        let mut test = command(Path::new("sh"));
        test.args(["-c", r#"test -x "$1""#, "sh"]).arg(base).current_dir("/");
        account.run(&mut test, Path::new("/"));
        run(test).is_ok()
    };
    fits && account.is_none_or(enters)
}

fn write_owned(path: &Path, text: &str, account: Option<&Account>) -> Result<(), ClusterError> {
    let written = fs::write(path, text).and_then(|()| account.map_or(Ok(()), |account| account.own(path)));
    written.map_err(|source| ClusterError::Prepare { path: path.to_owned(), source })
}

fn append(path: &Path, text: &str) -> Result<(), ClusterError> {
    let file = fs::OpenOptions::new().append(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| ClusterError::Prepare { path: path.to_owned(), source })
}

/// The last two kilobytes of a file.
fn end_of(path: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(2048)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}
