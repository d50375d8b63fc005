//! One run in a process of its own: `sim run … --out DIR`. Separate processes, because a run uses generators and caches
//! that belong to the process; a second run in the same one would differ.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::exit;
use super::summary::Summary;

/// Bytes of standard error kept of a run that broke.
const TAIL_BYTES_MAX: u64 = 4_000;
/// Where a child's standard output goes, in its directory.
pub const TRACE_FILE: &str = "trace.txt";
/// And its standard error.
pub const ERRORS_FILE: &str = "errors.txt";

/// The word for no fault at all in `--only-faults`.
pub const NONE: &str = "none";

/// What makes a run the run that it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Job {
    /// A name or a file.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// `tonic` or `messages`.
    pub network: String,
    /// The bug to put back.
    pub mutant: Option<String>,
    /// Only these faults: kinds, or `#N` for one event of the plan.
    pub only_faults: Option<Vec<String>>,
    /// Not these.
    pub without_faults: Vec<String>,
    /// No faults after that much simulated time.
    pub until_ms: Option<u64>,
    /// Which events to print.
    pub trace: Option<String>,
}

impl Job {
    /// The arguments after the program's name.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["run".to_owned(), self.scenario.clone()];
        let mut flag = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        flag("--seed", self.seed.to_string());
        flag("--network", self.network.clone());
        if let Some(mutant) = &self.mutant {
            flag("--mutant", mutant.clone());
        }
        if let Some(only) = &self.only_faults {
            flag("--only-faults", if only.is_empty() { NONE.to_owned() } else { only.join(",") });
        }
        if !self.without_faults.is_empty() {
            flag("--without-faults", self.without_faults.join(","));
        }
        if let Some(until) = self.until_ms {
            flag("--until-ms", until.to_string());
        }
        if let Some(trace) = &self.trace {
            flag("--trace", trace.clone());
        }
        arguments
    }

    /// The command that repeats the run, to be pasted into a shell.
    pub fn command(&self) -> String {
        let mut line = "sim".to_owned();
        for argument in self.arguments() {
            let plain = !argument.is_empty()
                && argument
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ',' | '=' | ':'));
            let _ = if plain { write!(line, " {argument}") } else { write!(line, " '{argument}'") };
        }
        line
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Nothing contradicts a promise.
    Ok,
    /// Something does.
    Violated,
    /// The child refused its command line.
    Refused,
    /// It panicked, was killed by a signal, or left no summary.
    Broken,
    /// It was stopped, since it took more than its share of real time.
    TimedOut,
}

/// A run that is over.
#[derive(Debug)]
pub struct Ran {
    /// What was run.
    pub job: Job,
    /// How it ended.
    pub ended: Ended,
    /// What it left; there for all that are [`Ended::Ok`] or [`Ended::Violated`].
    pub summary: Option<Summary>,
    /// Real time that it took.
    pub wall: Duration,
    /// Its directory.
    pub dir: PathBuf,
}

impl Ran {
    /// The end of what it said on standard error, for runs that are no verdict.
    pub fn last_words(&self) -> String {
        tail(&self.dir.join(ERRORS_FILE)).unwrap_or_default()
    }

    /// What went wrong, in one line; empty if nothing did.
    pub fn trouble(&self) -> String {
        match (self.ended, &self.summary) {
            (Ended::Ok, _) => String::new(),
            (Ended::Violated, Some(summary)) => match summary.violations.as_slice() {
                [] => "violation".to_owned(),
                [only] => format!("{}: {}", only.rule, only.detail),
                [first, rest @ ..] => format!("{}: {} (and {} more)", first.rule, first.detail, rest.len()),
            },
            (Ended::TimedOut, _) => format!("did not end within {} s of real time", self.wall.as_secs()),
            _ => {
                self.last_words().lines().rfind(|line| !line.trim().is_empty()).unwrap_or("left no summary").to_owned()
            }
        }
    }
}

/// Runs `program` with the job's arguments and `--out dir`, for `limit` of real time at most.
///
/// # Errors
/// Only if the process cannot be started or the directory not be made.
pub async fn run(program: &Path, job: Job, dir: PathBuf, limit: Duration) -> anyhow::Result<Ran> {
    std::fs::create_dir_all(&dir)?;
    let began = Instant::now();
    let mut child = tokio::process::Command::new(program)
        .args(job.arguments())
        .arg("--out")
        .arg(&dir)
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null())
        .stdout(File::create(dir.join(TRACE_FILE))?)
        .stderr(File::create(dir.join(ERRORS_FILE))?)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| anyhow::anyhow!("{}: {error}", program.display()))?;
    let status = match tokio::time::timeout(limit, child.wait()).await {
        Ok(status) => Some(status?),
        Err(_) => {
            child.kill().await?;
            None
        }
    };
    let summary = Summary::read(&dir).ok();
    let ended = match (status.map(|status| status.code()), &summary) {
        (None, _) => Ended::TimedOut,
        (Some(Some(code)), Some(_)) if code == i32::from(exit::OK) => Ended::Ok,
        (Some(Some(code)), Some(_)) if code == i32::from(exit::VIOLATION) => Ended::Violated,
        (Some(Some(code)), _) if code == i32::from(exit::USAGE) => Ended::Refused,
        _ => Ended::Broken,
    };
    Ok(Ran { job, ended, summary, wall: began.elapsed(), dir })
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The program that children run: this one.
pub fn this_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().map_err(|error| anyhow::anyhow!("where this program lies is unknown: {error}"))
}

/// Processes at a time, where nothing else is said: one per core.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replay_command_can_be_pasted_into_a_shell() {
        let job = Job {
            scenario: "default".into(),
            seed: 7,
            network: "messages".into(),
            only_faults: Some(vec!["#1".into(), "#12".into()]),
            until_ms: Some(30_000),
            ..Job::default()
        };
        let expected = "sim run default --seed 7 --network messages --only-faults '#1,#12' --until-ms 30000";
        assert_eq!(job.command(), expected);
    }
}
