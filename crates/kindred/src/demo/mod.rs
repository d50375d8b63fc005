//! `kindred demo`: the law at work. Devices are paired while nodes are killed, every call and answer is written down, and
//! the checkers of kindred-check say from that history alone whether every promise was kept.
//!
//! ```text
//!   steps, kills ──► lab ──calls──► three node processes ◄──calls── validators
//!                     └──history──► file ──► kindred-check ──► outcome
//! ```

mod kills;
mod lab;
mod outcome;
mod people;
mod placing;
mod steps;
mod tour;
mod validators;

use std::path::{Path, PathBuf};

use kindred_check::Recorder;
use kindred_core::map::ShardMap;

use self::lab::Lab;
use self::outcome::{Outcome, Played};
use self::steps::{STEPS, Stage};
use self::tour::Tour;
use crate::cluster::{Cluster, Options, REGIONS};
use crate::output::{self, Exit, Output, exit};
use crate::points::Doors;

/// Flags of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write every call and answer here, as JSON lines (docs/history.md).
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Keep the nodes' data and logs here; must be empty. Without it they are gone after a demo that succeeds.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Log filter of the nodes.
    #[arg(long, default_value = "info,openraft=error")]
    log: String,
    /// No TLS between the nodes, nor to them.
    #[arg(long)]
    plaintext: bool,
    /// How to print; json ends with one line.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Where everything is kept.
struct Place {
    root: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

/// Plays it, then lets the history be judged.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let place = Place::new(args.data.as_deref())?;
    let history = args.history.clone().unwrap_or_else(|| place.root.join("history.jsonl"));
    let started = tokio::time::Instant::now();
    let now_us = move || u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let recorder = Recorder::to_file(&history, now_us)?;
    let mut tour = Tour::new(args.output, STEPS);
    tour.welcome(&[
        "Kindred keeps which devices are linked to an account. One law stands above all others:",
        "linking a device never ends another session, and nobody is told \"signed out\" without proof.",
        "This demo tries to break it: real processes, real disks, SIGKILL at the worst moments.",
    ]);
    let told = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => None,
        told = tell(&args, &place, recorder, &mut tour) => Some(told),
    };
    let steps = tour.close();
    let Some(told) = told else { return Err(Exit::error(exit::FAILED, "interrupted; the nodes are stopped")) };
    let error = told.err().map(|error| format!("{error:#}"));
    let events = kindred_check::read_file(&history)?;
    let kept = (args.history.is_some() || args.data.is_some() || error.is_some()).then_some(history.as_path());
    let played = Played { nodes: REGIONS.len(), regions: REGIONS.len(), steps, history: kept, error };
    let outcome = Outcome::new(played, &events);
    match args.output {
        Output::Json => output::json(&outcome)?,
        Output::Table => print!("{}", outcome.table()),
    }
    finish(&args, place, &history, &outcome)
}

/// Starts the cluster, plays the steps beside the validators, stops the cluster.
async fn tell(args: &Args, place: &Place, recorder: Recorder, tour: &mut Tour) -> anyhow::Result<()> {
    let env = crate::env::real();
    tour.begin(
        "start",
        "three nodes in three regions, each a process of its own",
        &[
            "Every node holds one replica of every shard: a directory shard, and one shard for each region's accounts",
            "and tickets. A shard has one leader; a majority must have a command on disk before it is acknowledged.",
        ],
    );
    tour.wait("the nodes to elect leaders");
    let options = Options {
        data: Some(place.root.clone()),
        points: true,
        log: args.log.clone(),
        shards_per_region: 1,
        snapshot_every_entries: None,
        is_plaintext: args.plaintext,
        worker_threads: 1,
    };
    let mut cluster = Cluster::start(options, &env).await?;
    let nodes: Vec<_> = cluster.nodes.iter().map(|n| (n.name.clone(), n.gateway.clone())).collect();
    for node in &cluster.nodes {
        tour.say(&format!("{:12} {:16} process {}", node.name, node.gateway, node.pid().unwrap_or_default()));
    }
    tour.end(&recorder);
    let net = cluster.net.clone();
    let doors = Doors::new(&net, nodes.iter().map(|(name, gateway)| (name.as_str(), gateway.as_str())))?;
    let map = ShardMap::fixed(&REGIONS.map(String::from), 1);
    let lab = Lab::new(recorder, env, map, (&net, &nodes)).await?;
    let mut stage = Stage { lab: &lab, cluster: &mut cluster, doors, tour };
    let story = async {
        let told = stage.play().await;
        lab.end();
        told
    };
    let (told, ()) = tokio::join!(story, validators::run(&lab));
    // Nobody needs a graceful end: what is kept is on the disks already, as was just shown.
    cluster.kill_all();
    lab.recorder.finish()?;
    told
}

/// Says where everything is, and fails unless all holds.
fn finish(args: &Args, place: Place, history: &Path, outcome: &Outcome) -> anyhow::Result<()> {
    let Some(complaint) = outcome.complaint() else {
        if args.output == Output::Table {
            if args.history.is_some() || args.data.is_some() {
                println!("  history                       {}", history.display());
            }
            println!("\nThe law held. Try it by hand: `kindred dev` (README, \"Try it by hand\").");
        }
        return Ok(());
    };
    let root = place.keep();
    Err(Exit::error(
        exit::FAILED,
        format!("{complaint}\n  history: {}\n  node logs: {}/*/node.log", history.display(), root.display()),
    ))
}

impl Place {
    fn new(data: Option<&Path>) -> anyhow::Result<Self> {
        let Some(data) = data else {
            let temporary = tempfile::Builder::new().prefix("kindred-demo-").tempdir()?;
            return Ok(Self { root: temporary.path().to_owned(), temporary: Some(temporary) });
        };
        if data.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Exit::error(
                exit::USAGE,
                format!("--data {}: the demo starts afresh; give a directory that is empty", data.display()),
            ));
        }
        std::fs::create_dir_all(data)?;
        Ok(Self { root: data.to_owned(), temporary: None })
    }

    /// What went wrong is to be looked at.
    fn keep(self) -> PathBuf {
        match self.temporary {
            Some(temporary) => temporary.keep(),
            None => self.root,
        }
    }
}
