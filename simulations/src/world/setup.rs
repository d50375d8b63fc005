//! What a world is made of.

use std::collections::BTreeMap;
use std::time::Duration;

use kindred_core::map::ShardMap;
use kindred_node::Raft;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use crate::world::clock;

/// Names of regions, in order of index.
pub const REGION_NAMES: [&str; 9] =
    ["amsterdam", "boston", "chennai", "dublin", "edmonton", "fukuoka", "geneva", "helsinki", "istanbul"];
/// Where gateways connect, on every node.
pub const GATEWAY_PORT: u16 = 7400;
/// Where nodes connect.
pub const NODE_PORT: u16 = 7401;

/// Which network carries the calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// HTTP/2 over turmoil's TCP: every layer of production.
    Tonic,
    /// Whole messages: faster, and faults per message.
    #[default]
    Messages,
}

impl Network {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tonic => "tonic",
            Self::Messages => "messages",
        }
    }
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        [Self::Tonic, Self::Messages]
            .into_iter()
            .find(|network| network.word() == word)
            .ok_or_else(|| format!("no network `{word}`; there are tonic and messages"))
    }
}

/// Settings of one node that may differ from run to run, and from node to node but for the timings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knobs {
    /// Between heartbeats, ms.
    pub heartbeat_ms: u64,
    /// Shortest election timeout, ms.
    pub election_min_ms: u64,
    /// Longest election timeout, ms.
    pub election_max_ms: u64,
    /// Entries between snapshots.
    pub snapshot_every_entries: u64,
}

impl Default for Knobs {
    fn default() -> Self {
        Self { heartbeat_ms: 75, election_min_ms: 250, election_max_ms: 500, snapshot_every_entries: 1_000 }
    }
}

impl Knobs {
    /// Unusual settings, from chance: short and long timings, snapshots every few entries.
    pub fn draw(seed: u64) -> Self {
        let mut rng = clock::rng(seed, KNOBS);
        let heartbeat_ms = [50, 75, 100, 150, 250][rng.random_range(0..5)];
        let election_min_ms = heartbeat_ms * rng.random_range(3..6);
        let election_max_ms = election_min_ms * 2;
        let snapshot_every_entries = [4, 16, 64, 256, 1_000][rng.random_range(0..5)];
        Self { heartbeat_ms, election_min_ms, election_max_ms, snapshot_every_entries }
    }

    pub(crate) fn raft(&self) -> Raft {
        Raft {
            heartbeat_ms: self.heartbeat_ms,
            election_min_ms: self.election_min_ms,
            election_max_ms: self.election_max_ms,
            snapshot_every_entries: self.snapshot_every_entries,
        }
    }
}

/// Streams of chance that are no process: far from the numbers of processes and clients.
const KNOBS: u64 = 1 << 40;
pub(crate) const WIRE: u64 = (1 << 40) + 1;
pub(crate) const STRIKES: u64 = (1 << 40) + 2;
pub(crate) const DISKS: u64 = 1 << 41;

/// What to build.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// Everything random follows from it.
    pub seed: u64,
    /// Which network.
    pub network: Network,
    /// Regions, 1 to 9.
    pub regions: usize,
    /// Nodes in all, spread over the regions in turn; 1 to 27.
    pub nodes: usize,
    /// Shards in each region; the directory comes on top.
    pub shards_per_region: u32,
    /// Simulated time after which [`crate::world::World::step`] fails.
    pub limit: Duration,
    /// Settings of all nodes.
    pub knobs: Knobs,
    /// Settings of single nodes.
    pub knobs_of: BTreeMap<usize, Knobs>,
}

impl Setup {
    /// Three nodes in three regions with one shard each, 120 s.
    pub fn new(seed: u64, network: Network) -> Self {
        Self {
            seed,
            network,
            regions: 3,
            nodes: 3,
            shards_per_region: 1,
            limit: Duration::from_secs(120),
            knobs: Knobs::default(),
            knobs_of: BTreeMap::new(),
        }
    }

    /// Names of the regions.
    pub fn region_names(&self) -> Vec<String> {
        REGION_NAMES.iter().take(self.regions.clamp(1, REGION_NAMES.len())).map(|name| (*name).to_owned()).collect()
    }

    /// The region of a node.
    pub fn region(&self, node: usize) -> &'static str {
        REGION_NAMES[node % self.regions.clamp(1, REGION_NAMES.len())]
    }

    /// The name of a node.
    pub fn name(&self, node: usize) -> String {
        format!("{}-{}", self.region(node), node / self.regions.max(1))
    }

    /// Where gateways reach a node.
    pub fn gateway(&self, node: usize) -> String {
        format!("{}:{GATEWAY_PORT}", self.name(node))
    }

    /// The map of every node.
    pub fn map(&self) -> ShardMap {
        ShardMap::fixed(&self.region_names(), self.shards_per_region)
    }

    pub(crate) fn knobs(&self, node: usize) -> Knobs {
        self.knobs_of.get(&node).copied().unwrap_or(self.knobs)
    }
}
