//! `kindred chaos`: the law under kill -9. Households link, replace, unlink and ask while nodes are killed and frozen, at
//! random and at named points of the saga; then the history alone is judged.
//!
//! ```text
//!   plan ──► striker ──SIGKILL, SIGSTOP──► three node processes ◄──calls── households, gateways, watches (life)
//!                                                                              └──history──► kindred-check ──► outcome
//! ```

mod held;
mod household;
mod life;
mod outcome;
mod pairing;
mod plan;
mod screen;
mod settle;
mod strike;
mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kindred_check::Recorder;
use kindred_core::map::ShardMap;

use self::outcome::{Outcome, Played};
use self::plan::{Fault, KILLS_OF_A_DECK, Plan};
use self::screen::Screen;
use self::strike::{Striker, Tally};
use self::world::World;
use crate::cluster::{Cluster, Options, REGIONS};
use crate::output::{self, Exit, Output, exit};
use crate::points::Doors;

/// So few entries that snapshots are taken and logs are purged while nodes die.
const SNAPSHOT_EVERY_ENTRIES: u64 = 500;
/// Life goes on for so long after the last strike, so that something follows it.
const CALM_AT_LAST: Duration = Duration::from_secs(2);
/// A run ends within this time for each kill, and [`ENDS_WITHIN`] besides, or fails.
const EACH_KILL_WITHIN: Duration = Duration::from_secs(12);
const ENDS_WITHIN: Duration = Duration::from_secs(240);

/// Lines about panics that are told.
const PANICS_MAX: usize = 20;

/// Flags of `chaos`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Processes to kill; SIGSTOPs come on top. Of 24 kills, every kind of fault happens at least once.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(KILLS_OF_A_DECK..=1_000_000))]
    kills: u64,
    /// Sequence of faults, and choices of the clients. What happens between them is up to the machine.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Accounts that are alive at a time.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    accounts: u16,
    /// Write every call and answer here, as JSON lines (docs/history.md).
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Keep the nodes' data and logs here; must be empty. Without it they are gone after a run that succeeds.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Log filter of the nodes.
    #[arg(long, default_value = "warn,openraft=error")]
    log: String,
    /// No TLS between the nodes, nor to them.
    #[arg(long)]
    plaintext: bool,
    /// How to print; json is one line.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// How far it came.
#[derive(Default)]
struct Course {
    tallies: BTreeMap<Fault, Tally>,
    storm_ms: u64,
    stood_still_ms: u64,
    gaps: Vec<String>,
    panics: Vec<String>,
    terms: u64,
    accounts: u64,
}

/// Runs the storm, then lets the history be judged. Fails on any violation, and if too little happened to say so.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let temporary = match &args.data {
        Some(data) => empty(data).map(|()| None)?,
        None => Some(tempfile::Builder::new().prefix("kindred-chaos-").tempdir()?),
    };
    let root = args.data.clone().or_else(|| temporary.as_ref().map(|dir| dir.path().to_owned())).unwrap_or_default();
    let history = args.history.clone().unwrap_or_else(|| root.join("history.jsonl"));
    let started = tokio::time::Instant::now();
    let now_us = move || u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let recorder = Recorder::to_file(&history, now_us)?;
    let (screen, mut course) = (Screen::new(args.kills), Course::default());
    let kills = u32::try_from(args.kills).unwrap_or(u32::MAX);
    let told = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => None,
        told = tokio::time::timeout(
            ENDS_WITHIN + EACH_KILL_WITHIN.saturating_mul(kills),
            storm(&args, &root, recorder, &screen, &mut course),
        ) => Some(told.unwrap_or_else(|_| Err(anyhow::anyhow!("it did not come to an end; the nodes are stopped")))),
    };
    screen.clear();
    let Some(told) = told else { return Err(Exit::error(exit::FAILED, "interrupted; the nodes are stopped")) };
    let error = told.err().map(|error| format!("{error:#}"));
    screen.say("judging the history");
    let played = Played {
        seed: args.seed,
        kills_wanted: args.kills,
        course: &course,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        history: (args.history.is_some() || args.data.is_some() || error.is_some()).then_some(history.as_path()),
        error,
    };
    let outcome = Outcome::new(played, &kindred_check::read_file(&history)?);
    match args.output {
        Output::Json => output::json(&outcome)?,
        Output::Table => print!("{}", outcome.table()),
    }
    let Some(complaint) = outcome.complaint() else { return Ok(()) };
    if let Some(temporary) = temporary {
        let _ = temporary.keep();
    }
    Err(Exit::error(
        exit::FAILED,
        format!("{complaint}\n  history: {}\n  node logs: {}/*/node.log", history.display(), root.display()),
    ))
}

/// Starts the cluster, lets it be struck while life goes on, and asks everybody at the end.
async fn storm(
    args: &Args,
    root: &Path,
    recorder: Recorder,
    screen: &Screen,
    course: &mut Course,
) -> anyhow::Result<()> {
    let env = crate::env::real();
    let options = Options {
        data: Some(root.to_owned()),
        points: true,
        log: args.log.clone(),
        shards_per_region: 1,
        snapshot_every_entries: Some(SNAPSHOT_EVERY_ENTRIES),
        is_plaintext: args.plaintext,
        worker_threads: 1,
    };
    screen.say("starting three nodes in three regions");
    let mut cluster = Cluster::start(options, &env).await?;
    let net = cluster.net.clone();
    let nodes: Vec<_> = cluster.nodes.iter().map(|n| (n.name.clone(), n.gateway.clone())).collect();
    let doors = Doors::new(&net, nodes.iter().map(|(name, gateway)| (name.as_str(), gateway.as_str())))?;
    let world = World::new(recorder, env, ShardMap::fixed(&REGIONS.map(String::from), 1), (&net, &nodes)).await?;
    let terms_before = terms(&doors).await;
    let mut striker = Striker::new(&world, &mut cluster, doors, args.seed);
    let began = tokio::time::Instant::now();
    screen.say(&format!("{} kills, seed {}", args.kills, args.seed));
    let striking = async {
        let struck = striker.run(args.kills, &mut Plan::new(args.seed), &mut course.tallies, screen).await;
        tokio::time::sleep(CALM_AT_LAST).await;
        world.end();
        struck
    };
    let living = life::run(&world, usize::from(args.accounts), args.seed);
    let (struck, (), stood_still_ms) = tokio::join!(striking, living, stood_still(&world));
    course.stood_still_ms = stood_still_ms;
    course.storm_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let settled = match struck {
        Ok(()) => {
            screen.say(&format!("the storm is over; asking about {} sessions", world.known_count()));
            settle::settle(&mut striker).await
        }
        Err(error) => Err(error),
    };
    course.terms = terms(&striker.doors).await.saturating_sub(terms_before);
    (course.gaps, course.accounts) = (world.gaps(), world.accounts().len() as u64);
    course.panics = panics(cluster.nodes.iter().map(|node| node.dir.join("node.log")));
    // What is to be kept is on the disks, as was just shown.
    cluster.kill_all();
    world.recorder.finish()?;
    settled
}

/// The longest time for which this process itself did nothing, ms: a busy machine, or a disk that does not take the
/// history. No figure about the cluster can be better than that.
async fn stood_still(world: &World) -> u64 {
    let (turn, mut longest) = (Duration::from_millis(50), Duration::ZERO);
    while !world.is_over() {
        let slept = tokio::time::Instant::now();
        tokio::time::sleep(turn).await;
        longest = longest.max(slept.elapsed().saturating_sub(turn));
    }
    u64::try_from(longest.as_millis()).unwrap_or(u64::MAX)
}

/// The sum of the highest terms of all shards: each change of leader adds to it.
async fn terms(doors: &Doors) -> u64 {
    let mut highest: BTreeMap<u32, u64> = BTreeMap::new();
    for shard in doors.status().await.into_iter().flatten().flatten() {
        let term = highest.entry(shard.shard).or_default();
        *term = (*term).max(shard.term);
    }
    highest.values().sum()
}

/// Lines of the nodes' logs that tell of a panic or of a broken invariant.
fn panics(logs: impl Iterator<Item = PathBuf>) -> Vec<String> {
    let texts = logs.filter_map(|log| std::fs::read(log).ok());
    let lines = texts.flat_map(|text| {
        let text = String::from_utf8_lossy(&text);
        let found = text.lines().filter(|line| line.contains("panicked at") || line.contains("invariant was broken"));
        found.map(str::to_owned).collect::<Vec<_>>()
    });
    lines.take(PANICS_MAX).collect()
}

fn empty(data: &Path) -> anyhow::Result<()> {
    if data.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        let text = format!("--data {}: the run starts afresh; give a directory that is empty", data.display());
        return Err(Exit::error(exit::USAGE, text));
    }
    std::fs::create_dir_all(data)?;
    Ok(())
}
