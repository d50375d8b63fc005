//! `sim sweep`: many seeds on all cores, added up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt as _;
use serde::Serialize;
use tokio::time::Instant;

use crate::run::Network;

use super::child::{self, Ended, Job, Ran};
use super::list;
use super::minimise::{self, Minimised};
use super::output::{self, Exit, Output, exit, print, span, thousands};
use super::progress::Progress;
use super::run::Faults;
use super::seeds::Seeds;
use super::summary::Violation;
use super::totals::{Gate, Totals};

/// Violations of one failing seed that the summary tells in full.
const VIOLATIONS_TOLD_MAX: usize = 5;
/// Why a sweep stopped that a person stopped.
const INTERRUPTED: &str = "interrupted";
/// File in `--out` with the summary.
const REPORT_FILE: &str = "sweep.json";

/// Arguments of `sim sweep`.
#[derive(clap::Args)]
pub struct Args {
    /// A name (`sim scenarios`) or a file; `default` draws everything from the seed.
    #[arg(default_value = "default")]
    scenario: String,
    /// Which seeds, both ends included.
    #[arg(long, value_name = "A..B", default_value = "1..100")]
    seeds: Seeds,
    /// How messages travel [default: as whole messages, if the scenario is made for it].
    #[arg(long, value_enum)]
    network: Option<Network>,
    /// Processes at a time; one per core if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Put the summary there as sweep.json, and what failing seeds left behind under failures/.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Put what failing seeds left behind there (histories, summaries).
    #[arg(long, value_name = "DIR")]
    keep_failures: Option<PathBuf>,
    /// Real time that one seed may take, in seconds.
    #[arg(long, value_name = "S", default_value_t = 600)]
    seed_limit: u64,
    /// Begin no seed after so many seconds of real time.
    #[arg(long, value_name = "S")]
    time_limit: Option<u64>,
    /// Begin no seed once so many have failed.
    #[arg(long, value_name = "N", default_value_t = 20)]
    failures_max: u64,
    /// Minimise so many of the failing seeds.
    #[arg(long, value_name = "N", default_value_t = 2)]
    minimise: usize,
    /// Runs spent on minimising one seed.
    #[arg(long, value_name = "N", default_value_t = 80)]
    minimise_runs: usize,
    /// What must have happened for the sweep to count; all of it for `default`, `operations` for
    /// other files, nothing for what records nothing. `none` for nothing.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    gates: Option<Vec<String>>,
    /// Put a known bug back (`sim mutants --list`); needs a build with `--cfg kindred_mutants`.
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    #[command(flatten)]
    faults: Faults,
}

/// What a sweep found, as in the JSON summary.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was played.
    pub scenario: String,
    /// In which network.
    pub network: String,
    /// The bug that was put back, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mutant: Option<String>,
    /// The seeds that were asked for.
    pub seeds: String,
    /// Whether no seed failed or broke and all gates are passed.
    pub passed: bool,
    /// Why not all seeds ran, if not all did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Sums.
    #[serde(flatten)]
    pub totals: Totals,
    /// Processes at a time.
    pub jobs: usize,
    /// Real time, seconds.
    pub wall_s: f64,
    /// Simulated seconds per second of real time, all processes together.
    pub simulated_s_per_s: f64,
    /// Gates that are not passed, with the reason.
    pub gates_failed: Vec<String>,
    /// Seeds with a violation, and runs that broke, by seed.
    pub failures: Vec<Failure>,
}

/// A seed that failed.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// How it ended.
    pub ended: Ended,
    /// What went wrong, in one line.
    pub what: String,
    /// The first violations in full.
    pub violations: Vec<Violation>,
    /// The command that repeats it.
    pub replay: String,
    /// Where its history and summary are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<PathBuf>,
    /// The least that still fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimised: Option<Minimised>,
    #[serde(skip)]
    job: Job,
}

/// Runs the sweep and prints its summary.
pub async fn run(args: Args, output: Output) -> anyhow::Result<u8> {
    let gates = gates(args.gates.as_deref(), &args.scenario)?;
    let program = child::this_program()?;
    let scratch = tempfile::tempdir()?;
    let mut report = sweep(&args, &program, scratch.path()).await?;
    report.gates_failed = report.totals.fails(&gates);
    let interrupted = report.stopped.as_deref() == Some(INTERRUPTED);
    report.passed = report.failures.is_empty() && report.gates_failed.is_empty() && !interrupted;
    let limit = Duration::from_secs(args.seed_limit);
    let violated = report.failures.iter_mut().filter(|failure| failure.ended == Ended::Violated);
    for failure in violated.take(args.minimise) {
        let budget = minimise::Budget { runs: args.minimise_runs, limit, jobs: report.jobs };
        let dir = scratch.path().join(format!("minimise-{}", failure.seed));
        match minimise::minimise(&program, &failure.job, &dir, budget).await {
            Ok(found) => {
                eprintln!("seed {}: {}", failure.seed, found.text());
                failure.minimised = Some(found);
            }
            Err(error) => eprintln!("seed {}: {error:#}", failure.seed),
        }
    }
    if let Some(dir) = &args.out {
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join(REPORT_FILE), format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    }
    match output {
        Output::Json => output::json(&report)?,
        Output::Table => print(text(&report)),
    }
    Ok(code(&report))
}

fn gates(asked: Option<&[String]>, scenario: &str) -> anyhow::Result<Vec<Gate>> {
    use clap::ValueEnum as _;
    let Some(asked) = asked else {
        return Ok(match scenario {
            "default" => Gate::value_variants().to_vec(),
            told if list::is_told(told) => Vec::new(),
            _ => vec![Gate::Operations],
        });
    };
    let named = asked.iter().filter(|word| !word.is_empty() && *word != "none");
    let gate = |word: &String| {
        Gate::from_str(word, true).map_err(|_| {
            Exit::usage(format!("no gate `{word}`: there are faults, operations, leaders, snapshots, none"))
        })
    };
    named.map(gate).collect()
}

async fn sweep(args: &Args, program: &Path, scratch: &Path) -> anyhow::Result<Report> {
    let jobs = args.jobs.unwrap_or_else(child::cores).max(1);
    let began = Instant::now();
    let limit = Duration::from_secs(args.seed_limit);
    let kinds = list::fault_kinds(network(args));
    let (mut totals, mut failures) = (Totals::new(&kinds), Vec::new());
    let mut progress = Progress::new(args.seeds.count(), "seeds");
    let keep = args.keep_failures.clone().or_else(|| args.out.as_ref().map(|dir| dir.join("failures")));
    let mut seeds = args.seeds.iter();
    let mut running = futures::stream::FuturesUnordered::new();
    let mut stopped = None;
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        while stopped.is_none() && running.len() < jobs {
            let Some(seed) = seeds.next() else { break };
            running.push(child::run(program, job(args, seed), scratch.join(seed.to_string()), limit));
        }
        let ran = tokio::select! {
            biased;
            _ = &mut interrupt => {
                stopped = Some(INTERRUPTED.to_owned());
                break;
            }
            ran = running.next() => match ran {
                Some(ran) => ran?,
                None => break,
            },
        };
        if ran.ended == Ended::Refused {
            return Err(Exit::usage(ran.trouble().trim_start_matches("sim: ").to_owned()));
        }
        totals.add(&ran);
        if !matches!(ran.ended, Ended::Ok) {
            let failure = failed(&ran, keep.as_deref())?;
            progress.say(&format!("seed {} {}: {}\n  {}", ran.job.seed, said(ran.ended), failure.what, failure.replay));
            failures.push(failure);
        }
        progress.step(status(&totals, began.elapsed()));
        std::fs::remove_dir_all(&ran.dir)?;
        if stopped.is_none() {
            stopped = enough(args, failures.len() as u64, began.elapsed());
        }
    }
    progress.end();
    failures.sort_by_key(|failure| failure.seed);
    let wall_s = began.elapsed().as_secs_f64();
    Ok(Report {
        scenario: args.scenario.clone(),
        network: network(args).word().to_owned(),
        mutant: args.mutant.clone(),
        seeds: args.seeds.to_string(),
        passed: false,
        stopped: stopped.filter(|_| totals.runs < args.seeds.count()),
        simulated_s_per_s: totals.simulated_ms as f64 / 1000.0 / wall_s.max(0.001),
        totals,
        jobs,
        wall_s,
        gates_failed: Vec::new(),
        failures,
    })
}

/// Why no further seed is to begin.
fn enough(args: &Args, failures: u64, elapsed: Duration) -> Option<String> {
    if failures >= args.failures_max {
        return Some(format!("{failures} seeds failed (--failures-max)"));
    }
    let limit = args.time_limit.filter(|limit| elapsed.as_secs() >= *limit)?;
    Some(format!("{limit} s of real time are over (--time-limit)"))
}

fn network(args: &Args) -> Network {
    args.network.unwrap_or_else(|| list::network_of(&args.scenario))
}

fn job(args: &Args, seed: u64) -> Job {
    Job {
        scenario: args.scenario.clone(),
        seed,
        network: network(args).word().to_owned(),
        mutant: args.mutant.clone(),
        only_faults: args.faults.only(),
        without_faults: args.faults.without_faults.clone(),
        until_ms: args.faults.until_ms,
        trace: None,
    }
}

fn failed(ran: &Ran, keep: Option<&Path>) -> anyhow::Result<Failure> {
    let kept = match keep {
        Some(keep) => {
            let to = keep.join(format!("seed-{}", ran.job.seed));
            copy_dir(&ran.dir, &to)?;
            Some(to)
        }
        None => None,
    };
    let violations = ran.summary.iter().flat_map(|summary| &summary.violations);
    Ok(Failure {
        seed: ran.job.seed,
        ended: ran.ended,
        what: ran.trouble(),
        violations: violations.take(VIOLATIONS_TOLD_MAX).cloned().collect(),
        replay: ran.job.command(),
        kept,
        minimised: None,
        job: ran.job.clone(),
    })
}

/// Copies the files of a directory, which has no further directories that matter here.
pub fn copy_dir(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn status(totals: &Totals, elapsed: Duration) -> String {
    let rate = totals.simulated_ms as f64 / 1000.0 / elapsed.as_secs_f64().max(0.001);
    let broken = if totals.broken > 0 { format!(", {} broken", totals.broken) } else { String::new() };
    let (simulated, faults) = (span(totals.simulated_ms), thousands(totals.faults_total()));
    format!("{} failed{broken} · {simulated} simulated, {rate:.0} s/s · {faults} faults", totals.violated)
}

fn said(ended: Ended) -> &'static str {
    match ended {
        Ended::Ok => "is fine",
        Ended::Violated => "breaks a promise",
        Ended::Refused => "was refused",
        Ended::Broken => "broke",
        Ended::TimedOut => "was stopped",
    }
}

fn text(report: &Report) -> String {
    let mut text = format!("{} over {}, seeds {}", report.scenario, report.network, report.seeds);
    if let Some(mutant) = &report.mutant {
        text.push_str(&format!(", with the bug {mutant}"));
    }
    text.push_str(&format!("\n\n{}\n", report.totals.text(report.simulated_s_per_s)));
    for failure in &report.failures {
        text.push_str(&format!(
            "seed {} {}: {}\n  {}\n",
            failure.seed,
            said(failure.ended),
            failure.what,
            failure.replay
        ));
        if let Some(found) = &failure.minimised {
            text.push_str(&format!("  {}\n", found.text().replace('\n', "\n  ")));
        }
        if let Some(kept) = &failure.kept {
            text.push_str(&format!("  kept in {}; look: sim explain --dir {}\n", kept.display(), kept.display()));
        }
    }
    if let Some(stopped) = &report.stopped {
        text.push_str(&format!("not all seeds ran: {stopped}\n"));
    }
    for gate in &report.gates_failed {
        text.push_str(&format!("proves nothing: {gate}\n"));
    }
    let wall = span((report.wall_s * 1000.0) as u64);
    text.push_str(&format!("{} in {wall}, {} processes\n", if report.passed { "ok" } else { "failed" }, report.jobs));
    text
}

/// A violation says most, then a run that is no verdict, then a sweep that proves nothing.
fn code(report: &Report) -> u8 {
    if report.totals.violated > 0 {
        exit::VIOLATION
    } else if report.totals.broken > 0 || report.stopped.as_deref() == Some(INTERRUPTED) {
        exit::BROKEN
    } else if !report.gates_failed.is_empty() {
        exit::VACUOUS
    } else {
        exit::OK
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{fake, tokio};
    use super::*;

    fn swept(line: &str) -> Report {
        let scratch = tempfile::tempdir().unwrap();
        let args: Args = fake::parse(line);
        let mut report = None;
        tokio(async {
            report = Some(sweep(&args, &fake::program(), scratch.path()).await?);
            Ok(0)
        })
        .unwrap();
        let mut report = report.unwrap();
        report.gates_failed = report.totals.fails(&gates(args.gates.as_deref(), &args.scenario).unwrap());
        report
    }

    #[test]
    fn a_violation_a_panic_and_a_run_without_end_are_told_apart() {
        let report = swept("mixed --seeds 1..8 --jobs 2 --seed-limit 2");
        let told: Vec<_> = report.failures.iter().map(|failure| (failure.seed, failure.ended)).collect();
        assert_eq!(told, [(3, Ended::Violated), (5, Ended::Broken), (7, Ended::TimedOut)]);
        assert!(report.failures[1].what.contains("broken on purpose"), "{}", report.failures[1].what);
        assert_eq!((report.totals.runs, report.totals.ok, report.totals.faults["pause"]), (8, 5, 60));
        assert_eq!(code(&report), exit::VIOLATION);
        assert_eq!(report.failures[0].replay, "sim run mixed --seed 3 --network messages");
    }

    #[test]
    fn a_run_that_broke_is_no_success() {
        assert_eq!(code(&swept("mixed --seeds 4..6")), exit::BROKEN);
        assert_eq!(code(&swept("mixed --seeds 1..2")), exit::OK);
    }

    #[test]
    fn a_sweep_in_which_a_fault_never_fired_proves_nothing() {
        let report = swept("mixed --seeds 1..2 --gates operations,leaders,snapshots");
        assert_eq!(code(&report), exit::OK);
        let mut report = swept("mixed --seeds 1..2 --gates faults");
        report.totals.faults.insert("wipe".to_owned(), 0);
        report.gates_failed = report.totals.fails(&[Gate::Faults]);
        assert_eq!(code(&report), exit::VACUOUS);
        assert!(text(&report).contains("proves nothing: faults: these kinds never fired:"), "{}", text(&report));
    }

    #[test]
    fn a_sweep_stops_once_enough_has_failed() {
        let report = swept("always --seeds 1..50 --jobs 1 --failures-max 4");
        assert_eq!((report.totals.runs, report.failures.len()), (4, 4));
        assert!(report.stopped.unwrap().contains("--failures-max"));
    }

    #[test]
    fn what_failing_seeds_left_behind_is_kept() {
        let keep = tempfile::tempdir().unwrap();
        let report = swept(&format!("mixed --seeds 2..3 --keep-failures {}", keep.path().display()));
        let kept = report.failures[0].kept.clone().unwrap();
        assert_eq!(super::super::summary::Summary::read(&kept).unwrap().seed, 3);
        assert!(!keep.path().join("seed-2").exists());
    }

    #[test]
    fn a_command_line_that_runs_refuse_ends_the_sweep_with_their_words() {
        let (scratch, args) = (tempfile::tempdir().unwrap(), fake::parse::<Args>("refused --seeds 1..3"));
        let error = tokio(async { sweep(&args, &fake::program(), scratch.path()).await.map(|_| 0) }).unwrap_err();
        assert_eq!(error.downcast_ref::<Exit>().map(|exit| exit.code), Some(exit::USAGE));
        assert!(error.to_string().contains("no scenario of that name"), "{error}");
    }
}
