//! Server processes of other systems: started here, on loopback, in directories of their own, and killed by process id at
//! the end, however that comes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use crate::output::{Exit, exit};

/// Between two looks at something that takes time.
const PAUSE: Duration = Duration::from_millis(50);

/// A server that was told to end is killed after so many looks: two seconds.
const LAST_LOOKS_MAX: u32 = 40;

/// Who a server runs as, if not as we do: PostgreSQL refuses to run as root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// One server process.
pub(super) struct Server {
    name: String,
    log: PathBuf,
    user: Option<User>,
    program: PathBuf,
    arguments: Vec<String>,
    last_word: Option<&'static str>,
    child: Option<Child>,
}

impl Server {
    /// Starts `program`; what it says goes to `log`.
    pub(super) fn start(
        name: &str,
        program: &Path,
        arguments: Vec<String>,
        log: PathBuf,
        user: Option<User>,
    ) -> anyhow::Result<Self> {
        let (name, program) = (name.to_owned(), program.to_owned());
        let mut server = Self { name, log, user, program, arguments, last_word: None, child: None };
        server.spawn()?;
        Ok(server)
    }

    /// Sends it this signal first where it is ended for good, because it keeps something outside its directory.
    pub(super) fn with_last_word(mut self, signal: &'static str) -> Self {
        self.last_word = Some(signal);
        self
    }

    /// Starts it again, over the same data.
    pub(super) fn spawn(&mut self) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = as_user(&self.program, self.user);
        let command = command.args(&self.arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("start {}", self.name))?);
        Ok(())
    }

    /// SIGKILL, and waits for the end.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM; SIGKILL to what has not ended in time.
    pub(super) async fn stop(&mut self, within: Duration) {
        self.signal("TERM");
        let deadline = Instant::now() + within;
        while self.is_running() && Instant::now() < deadline {
            tokio::time::sleep(PAUSE).await;
        }
        self.kill();
    }

    fn signal(&self, name: &str) {
        if let Some(pid) = self.pid() {
            let _ = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Fails if the process has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.is_running(), "{} is dead; see {}", self.name, self.log.display());
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(signal) = self.last_word {
            self.signal(signal);
            for _ in 0..LAST_LOOKS_MAX {
                if !self.is_running() {
                    break;
                }
                std::thread::park_timeout(PAUSE);
            }
        }
        self.kill();
    }
}

/// A command that dies with us even if we are killed, and runs as `user`. setpriv is part of util-linux.
pub(super) fn as_user(program: &Path, user: Option<User>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(User { uid, gid }) = user {
        command.args(["--reuid", &uid.to_string(), "--regid", &gid.to_string(), "--clear-groups"]);
    }
    command.arg("--").arg(program);
    command
}

/// Runs a command to its end.
pub(super) fn run(command: &mut Command, what: &str) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| what.to_owned())?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{what}: {}", said.lines().last().unwrap_or("it failed"));
    Ok(())
}

/// Asks until the answer is good. The last answer is told if that takes too long.
pub(super) async fn until<T>(
    what: &str,
    within: Duration,
    mut ask: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        let error = match tokio::time::timeout_at(deadline, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => anyhow::anyhow!("no answer"),
        };
        if Instant::now() >= deadline {
            return Err(error.context(format!("waited {} s for {what}", within.as_secs())));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Finds programs in the directories of PATH and in some more.
pub(super) fn find(program: &str, more: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<_> = std::env::split_paths(&path).chain(more.iter().cloned()).collect();
    dirs.into_iter().map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// What to say when programs are missing: one line, with what to install.
pub(super) fn missing(programs: &[(&str, &str)]) -> anyhow::Error {
    let names: Vec<_> = programs.iter().map(|(program, _)| *program).collect();
    let packages: Vec<_> = programs.iter().map(|(_, package)| *package).collect();
    Exit::error(
        exit::USAGE,
        format!(
            "{} not found; install with: apt-get install {} (or scripts/bench-peers), or leave out with --peers",
            names.join(", "),
            packages.join(" ")
        ),
    )
}

/// A user from passwd(5).
pub(super) fn user(passwd: &str, name: &str) -> Option<User> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut numbers = line.split(':').skip(2).map(str::parse);
    Some(User { uid: numbers.next()?.ok()?, gid: numbers.next()?.ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0::/:/bin/sh\npostgres2:x:7:8::/:/bin/sh\npostgres:x:104:112::/:/bin/sh\n";
        assert_eq!(user(passwd, "postgres"), Some(User { uid: 104, gid: 112 }));
        assert_eq!(user(passwd, "post"), None);
    }

    #[test]
    fn a_missing_program_is_a_wrong_command_line_and_one_line_says_what_to_do() {
        let error = missing(&[("etcd", "etcd-server"), ("redis-server", "redis-server")]);
        assert_eq!(error.downcast_ref::<Exit>().unwrap().code, exit::USAGE);
        let text = error.to_string();
        assert!(text.contains("apt-get install etcd-server redis-server") && text.lines().count() == 1, "{text}");
    }

    #[tokio::test]
    async fn a_server_that_ends_is_noticed_and_one_that_runs_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let start = |program: &str, arguments: &[&str]| {
            let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
            Server::start(program, Path::new(program), arguments, dir.path().join("log"), None).unwrap()
        };
        let mut short = start("true", &[]);
        let ended = until("its end", Duration::from_secs(10), async || match short.check() {
            Ok(()) => anyhow::bail!("runs"),
            Err(error) => Ok(error),
        });
        assert!(ended.await.unwrap().to_string().starts_with("true is dead"));
        let mut long = start("sleep", &["600"]);
        long.check().unwrap();
        long.kill();
        assert!(long.check().is_err());
    }
}
