//! Three production nodes in three regions on simulated hosts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kindred_client::Client;
use kindred_core::canonical::TicketKey;
use kindred_core::id::{RegionIndex, ShardId};
use kindred_core::map::ShardMap;
use kindred_node::{Node, Options, Raft};
use kindred_store::keys::MetaKey;
use kindred_store::log_writer::LogWriter;
use kindred_store::simulated::SimEngine;
use kindred_wire::caller::Role;

use crate::net::tonic::SimNet;
use crate::world::env;

/// Region names, in order of index; one node each.
pub const REGIONS: [&str; 3] = ["amsterdam", "boston", "chennai"];
const GATEWAY_PORT: u16 = 7400;
const NODE_PORT: u16 = 7401;

/// The nodes' disks, which outlive their crashes, and what the run is made of.
#[derive(Clone)]
pub struct Cluster {
    seed: u64,
    engines: Arc<Vec<Mutex<Arc<SimEngine>>>>,
    /// Starts of any node so far: a restarted process never draws the same random numbers again.
    starts: Arc<AtomicU64>,
    /// Entries between snapshots.
    pub snapshot_every_entries: u64,
}

/// Host name of the node in the region of this index.
pub fn host(index: usize) -> String {
    format!("{}-0", REGIONS[index])
}

/// A simulation on which [`Cluster`] can run.
pub fn sim<'a>(seed: u64, duration: Duration) -> turmoil::Sim<'a> {
    kindred_replica::runtime::seed(seed);
    crate::world::clock::follow_turmoil();
    turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(std::time::UNIX_EPOCH + Duration::from_millis(crate::world::EPOCH_MS))
        .simulation_duration(duration)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(8))
        .tcp_capacity(65_536)
        .enable_random_order()
        .build()
}

impl Cluster {
    /// Empty disks.
    pub fn new(seed: u64) -> Self {
        let engines = REGIONS.iter().map(|_| Mutex::new(SimEngine::new())).collect();
        Self { seed, engines: Arc::new(engines), starts: Arc::default(), snapshot_every_entries: 1_000 }
    }

    /// The disk of a node.
    pub fn engine(&self, index: usize) -> Arc<SimEngine> {
        self.engines[index].lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives a crashed node an empty disk.
    pub fn wipe(&self, index: usize) {
        *self.engines[index].lock().unwrap_or_else(PoisonError::into_inner) = SimEngine::new();
    }

    /// The shard's replica id on a node's disk.
    pub fn replica_id(&self, index: usize, shard: ShardId) -> Option<u64> {
        kindred_replica::log_store::read_meta(self.engine(index).as_ref(), shard, MetaKey::Replica).ok().flatten()
    }

    /// The static map of every cluster here.
    pub fn map() -> ShardMap {
        ShardMap::fixed(&REGIONS.map(String::from), 1)
    }

    /// Puts the nodes into the simulation.
    pub fn hosts(&self, sim: &mut turmoil::Sim<'_>) {
        for index in 0..REGIONS.len() {
            let cluster = self.clone();
            sim.host(host(index), move || {
                let cluster = cluster.clone();
                async move {
                    let _node = Node::start(cluster.options(index)).await?;
                    std::future::pending().await
                }
            });
        }
    }

    fn options(&self, index: usize) -> Options {
        let engine = self.engine(index);
        let peers: BTreeMap<_, _> =
            (0..REGIONS.len()).map(|at| (host(at), format!("{}:{NODE_PORT}", host(at)))).collect();
        let keys = (0..3u16).map(|region| (RegionIndex(region), TicketKey([region as u8 + 1; 32])));
        Options {
            engine: engine.clone(),
            log_writer: LogWriter::run_task(engine),
            env: env(self.seed, 1_000 + self.starts.fetch_add(1, Ordering::Relaxed)),
            net: Arc::new(SimNet::new(&host(index), GATEWAY_PORT, Arc::default())),
            name: host(index),
            region: REGIONS[index].into(),
            peers,
            map: Self::map(),
            ticket_keys: keys.collect(),
            listen_gateway: format!("0.0.0.0:{GATEWAY_PORT}"),
            listen_node: format!("0.0.0.0:{NODE_PORT}"),
            raft: Raft {
                heartbeat_ms: 75,
                election_min_ms: 250,
                election_max_ms: 500,
                snapshot_every_entries: self.snapshot_every_entries,
            },
            points: kindred_node::NamedPoints::Off,
            limits: kindred_node::Limits::default(),
            plaintext: Some(kindred_node::Plaintext { gateway: Role::Gateway }),
            operations: None,
        }
    }

    /// A client of these nodes, in that order of preference. To be called on a simulated host.
    pub fn client(indexes: &[usize]) -> Result<Client, kindred_client::Error> {
        let addresses: Vec<_> = indexes.iter().map(|index| format!("{}:{GATEWAY_PORT}", host(*index))).collect();
        Client::connect(Arc::new(SimNet::new("devices", GATEWAY_PORT, Arc::default())), &addresses)
    }
}
