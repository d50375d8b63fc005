//! Runs seeds with a bug until one is killed by it, from several starts, and the same seeds without it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt as _;

use crate::mutants::Mutant;
use crate::run::Network;

use super::super::child::{self, Ended, Job, Ran};
use super::super::list;
use super::super::output::Exit;
use super::super::progress::Progress;
use super::report::{Kill, Report, Trial};

/// Distance between the starts: no hunt reaches the next one's seeds.
const START_STRIDE: u64 = 100_000;

/// How to hunt.
#[derive(Debug)]
pub struct Plan {
    /// The binary with the bugs.
    pub mutated: PathBuf,
    /// The ordinary one.
    pub clean: PathBuf,
    /// The network.
    pub network: Network,
    /// Seeds from each start.
    pub seeds_max: u64,
    /// Starts.
    pub starts: u64,
    /// Processes at a time.
    pub jobs: usize,
    /// Real time of one run.
    pub limit: Duration,
    /// For what runs leave behind.
    pub scratch: PathBuf,
}

/// One hunt: what it found, and which seeds it ran.
struct Hunted {
    mutant: usize,
    kill: Option<Kill>,
    seeds: Vec<Job>,
    broken: u64,
}

/// Hunts all of them, then runs every seed that was run once more without a bug.
pub async fn hunt(plan: &Plan, mutants: Vec<Mutant>) -> anyhow::Result<Report> {
    let mut progress = Progress::new(mutants.len() as u64 * plan.starts, "hunts");
    let hunts = mutants
        .iter()
        .enumerate()
        .flat_map(|(index, mutant)| (0..plan.starts).map(move |start| (index, mutant, start)));
    let mut hunts = futures::stream::iter(hunts.map(|(index, mutant, start)| one(plan, index, mutant, start)))
        .buffer_unordered(plan.jobs);
    let mut hunted: Vec<Hunted> = Vec::new();
    while let Some(done) = hunts.next().await {
        let done = done?;
        let name = &mutants[done.mutant].name;
        let said = match &done.kill {
            Some(kill) => format!("{name} killed after {} seeds", kill.seeds),
            None => format!("{name} survived {} seeds", done.seeds.len()),
        };
        if done.kill.is_none() {
            progress.say(&said);
        }
        hunted.push(done);
        progress.step(said);
    }
    drop(hunts);
    progress.end();
    let seeds: BTreeSet<Job> =
        hunted.iter().flat_map(|done| &done.seeds).map(|job| Job { mutant: None, ..job.clone() }).collect();
    let (clean_runs, alarms, clean_broken) = clean(plan, seeds).await?;
    let mut trials: BTreeMap<usize, Trial> = BTreeMap::new();
    for done in hunted {
        let trial = trials.entry(done.mutant).or_insert_with(|| Trial::new(mutants[done.mutant].clone()));
        trial.broken += done.broken;
        trial.seeds_run += done.seeds.len() as u64;
        match done.kill {
            Some(kill) => trial.kills.push(kill),
            None => trial.survived += 1,
        }
    }
    Ok(Report::new(plan.seeds_max, plan.starts, trials.into_values().collect(), clean_runs, alarms, clean_broken))
}

/// Seeds of one start, one after the other, until one fails. A run that breaks is no kill: only checkers may kill.
async fn one(plan: &Plan, index: usize, mutant: &Mutant, start: u64) -> anyhow::Result<Hunted> {
    let first = start * START_STRIDE + 1;
    let mut hunted = Hunted { mutant: index, kill: None, seeds: Vec::new(), broken: 0 };
    for seed in first..first + plan.seeds_max {
        let job = Job {
            scenario: mutant.scenario.clone(),
            seed,
            network: network_of(&mutant.scenario, plan.network).word().to_owned(),
            mutant: Some(mutant.name.clone()),
            ..Job::default()
        };
        hunted.seeds.push(job.clone());
        let dir = plan.scratch.join(format!("{}-{seed}", mutant.name));
        let ran = child::run(&plan.mutated, job, dir, plan.limit).await?;
        std::fs::remove_dir_all(&ran.dir).or_else(|error| if ran.dir.exists() { Err(error) } else { Ok(()) })?;
        match ran.ended {
            Ended::Ok => {}
            Ended::Violated => {
                hunted.kill = Some(Kill { seeds: seed - first + 1, rules: rules(&ran), replay: ran.job.command() });
                return Ok(hunted);
            }
            Ended::Refused => {
                return Err(Exit::usage(format!("{} was refused by {}", ran.job.command(), plan.mutated.display())));
            }
            Ended::Broken | Ended::TimedOut => hunted.broken += 1,
        }
    }
    Ok(hunted)
}

/// The other network, for a scenario that cannot be played in this one.
fn network_of(scenario: &str, asked: Network) -> Network {
    match asked {
        Network::Messages if !list::can_run(scenario, asked) => Network::Tonic,
        Network::Tonic if !list::can_run(scenario, asked) => Network::Messages,
        asked => asked,
    }
}

fn rules(ran: &Ran) -> Vec<String> {
    let rules: BTreeSet<_> =
        ran.summary.iter().flat_map(|summary| &summary.violations).map(|violation| violation.rule.clone()).collect();
    rules.into_iter().collect()
}

/// Runs seeds without a bug: how many, the commands that raise an alarm, how many broke.
async fn clean(plan: &Plan, seeds: BTreeSet<Job>) -> anyhow::Result<(u64, Vec<String>, u64)> {
    let mut progress = Progress::new(seeds.len() as u64, "seeds without a bug");
    let (mut alarms, mut broken, runs) = (Vec::new(), 0, seeds.len() as u64);
    let jobs = seeds.into_iter().enumerate();
    let jobs =
        jobs.map(|(index, job)| child::run(&plan.clean, job, plan.scratch.join(format!("clean-{index}")), plan.limit));
    let mut running = futures::stream::iter(jobs).buffer_unordered(plan.jobs);
    while let Some(ran) = running.next().await {
        let ran = ran?;
        match ran.ended {
            Ended::Ok => {}
            Ended::Violated => {
                progress.say(&format!("false alarm, or a real bug: {}\n  {}", ran.job.command(), ran.trouble()));
                alarms.push(ran.job.command());
            }
            _ => {
                progress.say(&format!("broke without a bug: {}\n  {}", ran.job.command(), ran.trouble()));
                broken += 1;
            }
        }
        std::fs::remove_dir_all(&ran.dir)?;
        progress.step(format!("{} alarms", alarms.len()));
    }
    progress.end();
    alarms.sort();
    Ok((runs, alarms, broken))
}
