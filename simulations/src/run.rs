//! One run from its arguments to its outcome. Stand-in until the workload branch brings the real one: it plays the
//! scenarios in [`crate::scenarios`] and records nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::scenarios;

/// How messages travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// gRPC over HTTP/2 over simulated TCP.
    #[default]
    Tonic,
    /// Whole messages, without HTTP/2.
    Messages,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Args {
    /// A name or a file.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// The network.
    pub network: Network,
    /// Where history and summary go.
    pub out: Option<PathBuf>,
    /// The bug to put back.
    pub mutant: Option<String>,
    /// Only these faults.
    pub only_faults: Option<Vec<String>>,
    /// Not these.
    pub without_faults: Vec<String>,
    /// No faults after it.
    pub until_ms: Option<u64>,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// The scenario.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// The network.
    pub network: Network,
    /// Whether nothing contradicts a promise.
    pub ok: bool,
    /// What does.
    pub violations: Vec<BTreeMap<String, String>>,
}

/// Plays it.
pub fn run(args: &Args) -> Outcome {
    let seed = args.seed;
    let ran = match args.scenario.as_str() {
        "link" | "default" => scenarios::link(seed),
        "crash" => scenarios::crash(seed),
        "lag" => scenarios::lag(seed),
        "wipe" => scenarios::wipe(seed),
        "rot" => scenarios::rot(seed),
        "two-wiped" => scenarios::two_wiped(seed),
        "code" => scenarios::code(seed),
        other => Err(format!("no scenario {other}").into()),
    };
    let violation = |error: crate::pairing::Failed| {
        BTreeMap::from([("rule".to_owned(), "scenario".to_owned()), ("detail".to_owned(), error.to_string())])
    };
    let violations: Vec<_> = ran.err().map(violation).into_iter().collect();
    let outcome =
        Outcome { scenario: args.scenario.clone(), seed, network: args.network, ok: violations.is_empty(), violations };
    if let Some(dir) = &args.out {
        let _ = std::fs::create_dir_all(dir);
        let _ = std::fs::write(dir.join("summary.json"), serde_json::to_vec(&outcome).unwrap_or_default());
        let _ = std::fs::write(dir.join("history.jsonl"), "");
    }
    outcome
}
