//! One run of one seed: builds the world, plays the workload in it, lets the checkers judge what clients saw and what the
//! replicas applied, and writes both down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Context as _;
use kindred_check::{Body, Event, Outcome as Told};
use serde::{Deserialize, Serialize};

use crate::pairing::Failed;
use crate::scenarios;
use crate::scenarios::file::Scenario;
use crate::workload::design::Design;
use crate::workload::drive::Play;
use crate::workload::looking::Witness;
use crate::workload::plan::{self, Filter, Planned, Trouble};
use crate::workload::stage::Stage;
use crate::workload::{self, Doors};
use crate::world::World;

pub use crate::workload::stage::Violation;
pub use crate::world::Network;

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Args {
    /// Name of a scenario, or path of a scenario file; `default` is the swarm.
    pub scenario: String,
    /// Everything random follows from it.
    pub seed: u64,
    /// The network.
    pub network: Network,
    /// Where `history.jsonl` and `summary.json` go, if anywhere.
    pub out: Option<PathBuf>,
    /// A known bug to put back; only in a build that has them.
    pub mutant: Option<String>,
    /// Only these faults of the plan: words, or `#12` for the event of that index.
    pub only_faults: Option<Vec<String>>,
    /// Not these.
    pub without_faults: Vec<String>,
    /// No fault from this simulated moment on, ms.
    pub until_ms: Option<u64>,
}

/// How often operations of one kind came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Answered.
    pub ok: u64,
    /// Refused without effect.
    pub refused: u64,
    /// Nobody knows.
    pub unknown: u64,
}

/// What came of a run. Nothing in it depends on real time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// As in [`Args`].
    pub scenario: String,
    /// As in [`Args`].
    pub seed: u64,
    /// As in [`Args`].
    pub network: Network,
    /// As in [`Args`].
    pub mutant: Option<String>,
    /// No violation, and the run did not break.
    pub ok: bool,
    /// Less than half of the operations succeeded, so that little was tested.
    pub vacuous: bool,
    /// Why there was no run: what it was asked for does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misuse: Option<String>,
    /// Why the run itself broke, if it did; says nothing about Kindred's promises.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// What contradicts a promise.
    pub violations: Vec<Violation>,
    /// How long it took, simulated.
    pub simulated_ms: u64,
    /// Operations by name.
    pub operations: BTreeMap<String, Tally>,
    /// Faults by kind; those that were carried out.
    pub faults: BTreeMap<String, u64>,
    /// Changes of a shard's leader.
    pub leader_changes: u64,
    /// Snapshots that replicas installed.
    pub snapshots_installed: u64,
    /// Starts of nodes after the first.
    pub restarts: u64,
    /// Log entries that replicas applied.
    pub entries_applied: u64,
    /// The faults of the plan that was played, in the order of their moments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<Drawn>,
    /// Over the trace of the run and all disks at its end, hexadecimal.
    pub digest: String,
}

/// A fault of the plan, as the summary tells it.
#[derive(Clone, Debug, Serialize)]
pub struct Drawn {
    /// Its number, by which `--only-faults #N` chooses it.
    pub index: usize,
    /// When it strikes, in simulated ms.
    pub at_ms: u64,
    /// Which kind.
    pub fault: String,
    /// Whom and how much: the injection as JSON, or words.
    pub detail: String,
}

impl Drawn {
    fn new(planned: &Planned) -> Self {
        let detail = match &planned.event {
            plan::Event::World(injection) => serde_json::to_string(injection).unwrap_or_default(),
            plan::Event::Clients(Trouble { account, amount, for_ms, .. }) => {
                format!("account a{account} amount {amount} for ms {for_ms}")
            }
        };
        let fault = planned.fault().word().to_owned();
        Self { index: planned.index, at_ms: planned.at_ms, fault, detail }
    }
}

impl Outcome {
    /// The exit code of a process that did this run: 0 ok, 1 a violation, 2 wrong use, 3 the run itself broke.
    pub fn exit_code(&self) -> u8 {
        match (&self.misuse, &self.broken, self.violations.is_empty()) {
            (Some(_), ..) => 2,
            (None, _, false) => 1,
            (None, Some(_), true) => 3,
            (None, None, true) => 0,
        }
    }
}

/// Plays it in this process, which must not have played another.
pub fn run(args: &Args) -> Outcome {
    let mut outcome = match begin(args) {
        Ok(outcome) => outcome,
        Err(error) => Outcome { misuse: Some(format!("{error:#}")), ..Outcome::default() },
    };
    outcome.scenario.clone_from(&args.scenario);
    (outcome.seed, outcome.network) = (args.seed, args.network);
    outcome.mutant.clone_from(&args.mutant);
    outcome.ok = outcome.exit_code() == 0;
    if let Err(error) = write_down(args, &outcome) {
        outcome.broken.get_or_insert(format!("{error:#}"));
        outcome.ok = false;
    }
    outcome
}

fn write_down(args: &Args, outcome: &Outcome) -> anyhow::Result<()> {
    let Some(out) = args.out.as_ref().filter(|_| outcome.misuse.is_none()) else { return Ok(()) };
    let path = out.join("summary.json");
    let text = serde_json::to_string_pretty(outcome)?;
    std::fs::write(&path, text + "\n").with_context(|| format!("write {}", path.display()))
}

fn begin(args: &Args) -> anyhow::Result<Outcome> {
    choose_mutant(args)?;
    let filter =
        Filter { only: args.only_faults.clone(), without: args.without_faults.clone(), until_ms: args.until_ms };
    if let Some(word) = filter.unknown().first() {
        anyhow::bail!("`{word}` is neither a kind of fault nor the index of one, like #12");
    }
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out).with_context(|| format!("make {}", out.display()))?;
    }
    let history = args.out.as_ref().map(|out| out.join("history.jsonl"));
    match scenarios::told(&args.scenario) {
        Some(told) => by_itself(told, args, history.as_deref()),
        None => played(args, &filter, history.as_deref()),
    }
}

#[cfg(kindred_mutants)]
fn choose_mutant(args: &Args) -> anyhow::Result<()> {
    match &args.mutant {
        Some(name) => kindred_core::mutants::choose(name).map_err(|error| anyhow::anyhow!("{error}")),
        None => Ok(()),
    }
}

#[cfg(not(kindred_mutants))]
fn choose_mutant(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(args.mutant.is_none(), "this build holds no known bugs; `sim mutants` builds one that does");
    Ok(())
}

/// A scenario that is a function: it says itself whether it holds, and records nothing.
fn by_itself(told: scenarios::Told, args: &Args, history: Option<&Path>) -> anyhow::Result<Outcome> {
    anyhow::ensure!(args.network == Network::Tonic, "scenario {} is for the network tonic", args.scenario);
    if let Some(path) = history {
        std::fs::write(path, "")?;
    }
    let violations = match told(args.seed) {
        Ok(()) => Vec::new(),
        Err(failed) => vec![Violation::new("scenario", failed.to_string())],
    };
    Ok(Outcome { violations, ..Outcome::default() })
}

fn played(args: &Args, filter: &Filter, history: Option<&Path>) -> anyhow::Result<Outcome> {
    let scenario = Scenario::find(&args.scenario)?;
    let design = Rc::new(scenario.design(args.seed, filter)?);
    let mut world = scenario.build((args.seed, args.network), filter)?;
    let stage = Stage::new(history)?;
    settle(&mut world, &stage, &design).map_err(|failed| anyhow::anyhow!("{failed}"))?;
    let mut witness = Witness::new(&mut world);
    let played = Play { world: &mut world, stage: &stage, witness: &mut witness }.play(&design);
    witness.finish(&mut world, &stage);
    stage.recorder.finish()?;
    let plan = design.plan.iter().map(Drawn::new).collect();
    Ok(Outcome { broken: played.err().map(|failed| failed.to_string()), plan, ..judged(&world, &stage) })
}

/// Starts the nodes, and puts everybody else onto a host of their own.
fn settle(world: &mut World, stage: &Arc<Stage>, design: &Rc<Design>) -> Result<(), Failed> {
    let all: Vec<usize> = (0..world.setup().nodes).collect();
    let nodes = all.iter().map(|node| world.entrance(DEVICES, &[*node])).collect();
    let doors = Doors { nodes, anybody: world.entrance(DEVICES, &all) };
    let (stage, design, env) = (stage.clone(), design.clone(), world.env(CLIENTS));
    world.start_all()?;
    world.client(DEVICES, async move { workload::main(stage, env, doors, design).await });
    Ok(())
}

/// The clients' host.
const DEVICES: &str = "devices";
/// Their entropy is no node's.
const CLIENTS: u64 = 100;

fn judged(world: &World, stage: &Stage) -> Outcome {
    let events = stage.recorder.events();
    let report = kindred_check::judge(&events);
    let mut violations = stage.found();
    violations.extend(report.violations.iter().map(|violation| described(violation, &events)));
    let operations = tally(&events);
    let asked: u64 = operations.values().map(|tally| tally.ok + tally.refused + tally.unknown).sum();
    let answered: u64 = operations.values().map(|tally| tally.ok).sum();
    let mut counts = world.counts();
    for (fault, times) in stage.faults().all() {
        counts.add_many(fault, times);
    }
    let figures = world.figures();
    Outcome {
        vacuous: answered * 2 < asked,
        violations,
        simulated_ms: u64::try_from(world.elapsed().as_millis()).unwrap_or(u64::MAX),
        operations,
        faults: counts.all().map(|(fault, times)| (fault.word().to_owned(), times)).collect(),
        leader_changes: figures.leader_changes,
        snapshots_installed: figures.snapshots_installed,
        restarts: figures.restarts,
        entries_applied: figures.entries_applied,
        digest: digest(&world.digest(), &events),
        ..Outcome::default()
    }
}

/// A checker's finding with the moment of the last event that shows it.
fn described(found: &kindred_check::Violation, events: &[Event]) -> Violation {
    let last = found.events.iter().max();
    let at_us = last.and_then(|id| events.iter().rev().find(|event| event.id == *id)).map(|event| event.at_us);
    let is_session = found.subject.len() == 32 && found.subject.bytes().all(|b| b.is_ascii_hexdigit());
    let subject = Some(found.subject.clone()).filter(|subject| !subject.is_empty());
    let (account, session) = if is_session { (None, subject) } else { (subject, None) };
    Violation { rule: found.checker.clone(), detail: found.text.clone(), account, session, at_us }
}

fn tally(events: &[Event]) -> BTreeMap<String, Tally> {
    let mut operations: BTreeMap<String, Tally> = BTreeMap::new();
    for event in events {
        match &event.body {
            // Unknown until it returns.
            Body::Call(op) => operations.entry(op.name().to_owned()).or_default().unknown += 1,
            Body::Return { op, outcome } => {
                let tally = operations.entry(op.clone()).or_default();
                match outcome {
                    Told::Ok(_) => tally.ok += 1,
                    Told::Refused(_) => tally.refused += 1,
                    Told::Unknown => continue,
                }
                tally.unknown = tally.unknown.saturating_sub(1);
            }
            Body::Note(_) => {}
        }
    }
    operations
}

fn digest(world: &str, events: &[Event]) -> String {
    let mut lines = Vec::new();
    for event in events {
        // An event that cannot be written would have been told by the recorder.
        lines.extend(serde_json::to_vec(event).unwrap_or_default());
    }
    kindred_core::canonical::sha256(&[&lines, world.as_bytes()]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_without_a_return_is_unknown_in_the_tally() {
        let stage = Stage::new(None).unwrap_or_else(|error| panic!("{error}"));
        let op = || kindred_check::Operation::Cancel { ticket: "t".into() };
        drop(stage.recorder.call("a", op()));
        let answered = stage.recorder.call("b", op());
        stage.recorder.ok(answered, kindred_check::Answer::default());
        let refused = stage.recorder.call("c", op());
        stage.recorder.refused(refused, "TICKET_EXPIRED", None);
        assert_eq!(tally(&stage.recorder.events())["cancel"], Tally { ok: 1, refused: 1, unknown: 1 });
    }

    #[test]
    fn a_violation_outweighs_a_run_that_broke() {
        let broken = Outcome { broken: Some("no end".into()), ..Outcome::default() };
        assert_eq!(broken.exit_code(), 3);
        let both = Outcome { violations: vec![Violation::new("x", "y")], ..broken };
        assert_eq!(both.exit_code(), 1);
        assert_eq!(Outcome::default().exit_code(), 0);
    }
}
