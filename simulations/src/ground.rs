//! The worlds in which a workload is played.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use kindred_check::Note;
use kindred_client::Client;
use kindred_core::canonical::sha256;
use kindred_core::id::{Digest, ShardId};
use kindred_store::engine::{Column, Read as _};
use kindred_store::keys;
use kindred_store::simulated::SimEngine;

use crate::cluster::{Cluster, REGIONS, host, sim};
use crate::faults::{Counts, Fault, Injection, Refused};
use crate::pairing::Failed;
use crate::run::{Args, Network};
use crate::scenarios::file;
use crate::workload::Doors;
use crate::workload::ground::{Figures, Ground, Way};

/// Longest run, simulated.
const LONGEST: Duration = Duration::from_secs(3_600);

/// The world of this description.
pub fn build(world: &file::World, args: &Args) -> anyhow::Result<Box<dyn Ground>> {
    anyhow::ensure!(
        world.networks.contains(&args.network),
        "this scenario is not for the network {}",
        args.network.word()
    );
    anyhow::ensure!(args.network == Network::Tonic, "the network {} is not here yet", args.network.word());
    anyhow::ensure!(
        (world.nodes, world.regions, world.shards_per_region) == (3, 3, 1),
        "this world has three nodes in three regions"
    );
    let mut cluster = Cluster::new(args.seed);
    cluster.snapshot_every_entries = world.snapshot_every_entries;
    let mut sim = sim(args.seed, LONGEST);
    cluster.hosts(&mut sim);
    Ok(Box::new(Turmoil {
        sim,
        cluster,
        due: BTreeMap::new(),
        notes: Vec::new(),
        counts: Counts::default(),
        restarts: 0,
        given: 0,
    }))
}

/// Three nodes on turmoil: they die, lose power and their directories, and are cut off.
struct Turmoil {
    sim: turmoil::Sim<'static>,
    cluster: Cluster,
    due: BTreeMap<(Duration, u64), End>,
    notes: Vec<Note>,
    counts: Counts,
    restarts: u64,
    given: u64,
}

enum End {
    Start(usize),
    Join(usize, usize),
}

impl Turmoil {
    fn later(&mut self, ms: u64, end: End) {
        self.given += 1;
        let key = (self.sim.elapsed() + Duration::from_millis(ms), self.given);
        self.due.insert(key, end);
    }

    fn end(&mut self, end: End) {
        match end {
            End::Start(node) if !self.sim.is_host_running(host(node)) => {
                self.sim.bounce(host(node));
                self.restarts += 1;
                self.notes.push(Note::Restart { node: host(node) });
            }
            End::Start(_) => {}
            End::Join(a, b) => {
                self.sim.repair(host(a), host(b));
                let (node, peer) = (Some(host(a)), Some(host(b)));
                self.notes.push(Note::Healed { fault: Fault::Partition.word().into(), node, peer });
            }
        }
    }

    fn die(&mut self, node: usize, lose_per_mille: usize, down_ms: u64) {
        self.sim.crash(host(node));
        let engine = self.cluster.engine(node);
        if engine.crash(engine.unsynced() * lose_per_mille / 1_000) > 0 {
            self.counts.add(Fault::UnsyncedLost);
        }
        self.notes.push(Note::Kill { node: host(node), shard: None, point: "frontend".into(), log_index: None });
        self.later(down_ms, End::Start(node));
    }
}

impl Ground for Turmoil {
    fn nodes(&self) -> Vec<String> {
        (0..REGIONS.len()).map(host).collect()
    }

    fn way(&self) -> Way {
        Box::new(|| {
            let nodes = (0..REGIONS.len()).map(|node| Cluster::client(&[node])).collect::<Result<Vec<Client>, _>>()?;
            Ok(Doors { nodes, anybody: Cluster::client(&[0, 1, 2])? })
        })
    }

    fn settle(&mut self, clients: LocalBoxFuture<'static, Result<(), Failed>>) {
        self.sim.client("devices", clients);
    }

    fn step(&mut self) -> Result<(), Failed> {
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= self.sim.elapsed()) {
            let end = entry.remove();
            self.end(end);
        }
        self.sim.step()?;
        Ok(())
    }

    fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    fn inject(&mut self, injection: &Injection) -> Result<(), Refused> {
        let fault = injection.fault();
        let up = |sim: &turmoil::Sim<'_>, node: usize| {
            if sim.is_host_running(host(node)) { Ok(()) } else { Err(Refused::Node(fault)) }
        };
        match injection {
            Injection::Crash { node, down_ms } => {
                up(&self.sim, *node)?;
                self.die(*node, 0, *down_ms);
            }
            Injection::PowerLoss { nodes, lose_per_mille, down_ms } => {
                for node in nodes.iter().filter(|node| up(&self.sim, **node).is_ok()).copied().collect::<Vec<_>>() {
                    self.die(node, *lose_per_mille as usize, *down_ms);
                }
            }
            Injection::Wipe { node, down_ms } => {
                up(&self.sim, *node)?;
                self.die(*node, 1_000, *down_ms);
                self.cluster.wipe(*node);
            }
            Injection::Partition { nodes, clients: false, for_ms } => {
                for node in nodes {
                    for other in (0..REGIONS.len()).filter(|other| !nodes.contains(other)) {
                        self.sim.partition(host(*node), host(other));
                        let (from, to) = (Some(host(*node)), Some(host(other)));
                        self.notes.push(Note::Fault { fault: fault.word().into(), node: from, peer: to, detail: None });
                        self.later(*for_ms, End::Join(*node, other));
                    }
                }
            }
            _ => return Err(Refused::Network(fault)),
        }
        self.counts.add(fault);
        Ok(())
    }

    fn heal(&mut self) {
        for end in std::mem::take(&mut self.due).into_values() {
            self.end(end);
        }
    }

    fn notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    fn states(&self) -> Vec<(usize, ShardId, Digest)> {
        let shards: Vec<_> = [1].into_iter().chain((1..=REGIONS.len() as u32).map(|region| region * 100)).collect();
        let of = |node: usize| {
            let engine = self.cluster.engine(node);
            shards.iter().map(move |shard| (node, ShardId(*shard), state(&engine, ShardId(*shard)))).collect::<Vec<_>>()
        };
        (0..REGIONS.len()).filter(|node| self.sim.is_host_running(host(*node))).flat_map(of).collect()
    }

    fn counts(&self) -> Counts {
        self.counts.clone()
    }

    fn figures(&self) -> Figures {
        Figures { restarts: self.restarts, ..Figures::default() }
    }

    fn digest(&self) -> Digest {
        let disk = |node| Column::ALL.map(|column| scanned(&self.cluster.engine(node), column, &[], &[0xFF; 64]));
        let disks: Vec<_> = (0..REGIONS.len()).flat_map(disk).collect();
        sha256(&disks.iter().map(|digest| digest.0.as_slice()).collect::<Vec<_>>())
    }
}

fn scanned(engine: &Arc<SimEngine>, column: Column, from: &[u8], to: &[u8]) -> Digest {
    let pairs = engine.scan(column, from, to, usize::MAX).unwrap_or_default();
    let parts: Vec<&[u8]> =
        pairs.iter().flat_map(|(key, value)| [&key[from.len().min(key.len())..], value.as_ref()]).collect();
    sha256(&parts)
}

/// The shard's state in whichever generation it lives; the latest that is not empty.
fn state(engine: &Arc<SimEngine>, shard: ShardId) -> Digest {
    let empty = sha256(&[]);
    let of = |generation| {
        let (from, to) = keys::state_range(shard, generation);
        scanned(engine, Column::State, &from, &to)
    };
    (0..64).rev().map(of).find(|digest| *digest != empty).unwrap_or(empty)
}
