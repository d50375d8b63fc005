//! One simulated world: production nodes, clients, and whatever befalls them. Only wire, disk, clock and entropy are swapped.
//!
//! ```text
//!   World ─┬─ wire: turmoil (network "tonic"), or lockstep runtimes over a fabric of messages
//!          ├─ seat per node: disk, clock, killer; each start is a new process on them
//!          ├─ inject / heal: faults now, and an agenda of what happens by itself later
//!          └─ events, taps: who leads, what was installed, what was applied
//! ```
//!
//! Whoever writes workloads and faults need not know which network it is. Use it so: [`World::new`], [`World::start_all`],
//! [`World::client`] for everybody who does something, then [`World::step`] until it says that all clients are done, with
//! [`World::inject`] in between. Reading order: [`setup`], this file, [`seat`](self), [`inject`](self).

pub mod applied;
pub mod clock;
pub mod event;
mod inject;
mod observe;
pub mod rest;
mod seat;
pub mod setup;
mod wire;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kindred_client::Client;
use kindred_core::env::Env;
use kindred_core::id::ShardId;
use kindred_replica::Replicas;
use kindred_store::engine::{Column, Read as _};
use kindred_store::simulated::SimEngine;
use kindred_wire::net::Net;
use rand::rngs::StdRng;

pub use clock::{EPOCH_MS, env, now};
pub use event::{Event, What};
pub use seat::Death;
pub use setup::{Knobs, Network, Setup};

use crate::faults::{Counts, Fault, Injection};
use crate::net::digest::Trace;
use crate::pairing::Failed;
use crate::world::inject::Todo;
use crate::world::observe::Watch;
use crate::world::seat::Seat;
use crate::world::wire::Wires;

/// A world.
pub struct World {
    setup: Setup,
    wires: Wires,
    seats: Vec<Arc<Seat>>,
    paused: BTreeSet<usize>,
    clients: Rc<RefCell<Clients>>,
    trace: Arc<Trace>,
    counts: Counts,
    chance: StdRng,
    /// What lasts, by the number of its injection.
    active: BTreeMap<u64, Injection>,
    agenda: BTreeMap<(u64, u64), Todo>,
    numbers: u64,
    /// Nodes that lost or garbled what they had, and are not whole again.
    impaired: BTreeSet<usize>,
    /// Replicas with damaged records that they may not have met yet, by id.
    rotten: BTreeMap<(usize, ShardId), u64>,
    /// For how long a node stays away once it has died as it was told.
    down_ms: BTreeMap<usize, u64>,
    watch: Watch,
    restarts: u64,
}

#[derive(Default)]
struct Clients {
    any: bool,
    under_way: usize,
    failed: Option<Failed>,
}

impl World {
    /// Empty disks, nothing running.
    pub fn new(setup: Setup) -> Result<Self, Failed> {
        kindred_replica::runtime::seed(setup.seed);
        let trace: Arc<Trace> = Arc::default();
        let mut wires = Wires::new(&setup, &trace);
        let mut seats = Vec::new();
        for node in 0..setup.nodes {
            let name = setup.name(node);
            let (wire, net) = wires.add_node(&name);
            seats.push(Seat::new(node, name, wire, net, clock::rng(setup.seed, setup::DISKS + node as u64)));
        }
        let watch = Watch::new(&seats);
        Ok(Self {
            wires,
            paused: BTreeSet::new(),
            clients: Rc::default(),
            trace,
            counts: Counts::default(),
            chance: clock::rng(setup.seed, setup::STRIKES),
            active: BTreeMap::new(),
            agenda: BTreeMap::new(),
            numbers: 0,
            impaired: BTreeSet::new(),
            rotten: BTreeMap::new(),
            down_ms: BTreeMap::new(),
            watch,
            restarts: 0,
            seats,
            setup,
        })
    }

    /// What it is made of.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Simulated time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.wires.elapsed()
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Starts every node.
    pub fn start_all(&mut self) -> Result<(), Failed> {
        (0..self.setup.nodes).try_for_each(|node| self.start(node))
    }

    /// Starts a node, or starts it again; nothing happens if it runs.
    pub fn start(&mut self, node: usize) -> Result<(), Failed> {
        let seat = self.seat(node)?;
        if seat.up.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let again = self.wires.start(&seat, &self.setup)?;
        self.restarts += u64::from(again);
        self.block();
        self.tell(What::Started { node, again });
        Ok(())
    }

    fn seat(&self, node: usize) -> Result<Arc<Seat>, Failed> {
        Ok(self.seats.get(node).ok_or_else(|| format!("there is no node {node}"))?.clone())
    }

    /// True while the node's process runs, paused or not.
    pub fn is_up(&self, node: usize) -> bool {
        self.seats.get(node).is_some_and(|seat| seat.is_up())
    }

    /// True while the node's process stands still.
    pub fn is_paused(&self, node: usize) -> bool {
        self.paused.contains(&node)
    }

    /// True while the node serves: as its health says, but asked for at once.
    pub fn is_ready(&self, node: usize) -> bool {
        self.is_up(node) && !self.is_paused(node) && self.replicas(node).is_some_and(|replicas| replicas.ready())
    }

    /// The replicas of the node's process. Keep them no longer than until the next step.
    pub fn replicas(&self, node: usize) -> Option<Arc<Replicas>> {
        self.seats.get(node)?.replicas()
    }

    /// The node's disk.
    pub fn disk(&self, node: usize) -> Option<Arc<SimEngine>> {
        Some(self.seats.get(node)?.disk())
    }

    /// The shard's replica id on a node's disk.
    pub fn replica_id(&self, node: usize, shard: ShardId) -> Option<u64> {
        observe::replica_id(self.disk(node)?.as_ref(), shard)
    }

    /// The process of a node dies. What it had written is there when it starts again, synced or not.
    pub fn crash(&mut self, node: usize) -> Result<(), Failed> {
        self.kill(node, "crash", 0, false)
    }

    /// The machine of a node loses power, and with it the last `lose_per_mille` of what was not synced.
    pub fn power_loss(&mut self, node: usize, lose_per_mille: u32) -> Result<(), Failed> {
        self.kill(node, "power_loss", lose_per_mille, true)
    }

    /// The machine of a node is lost with its directory. It comes back empty.
    pub fn wipe(&mut self, node: usize) -> Result<(), Failed> {
        self.kill(node, "wipe", 1_000, true)?;
        let seat = self.seat(node)?;
        seat.replace_disk(SimEngine::new());
        self.watch.attach(&seat);
        self.rotten.retain(|(rotten, _), _| *rotten != node);
        self.impaired.insert(node);
        Ok(())
    }

    fn kill(&mut self, node: usize, how: &'static str, lose_per_mille: u32, silent: bool) -> Result<(), Failed> {
        let seat = self.seat(node)?;
        let was_up = seat.is_up();
        self.paused.remove(&node);
        self.wires.stop(&seat, silent);
        seat.vacate();
        let disk = seat.disk();
        let unsynced = disk.unsynced() as u64;
        let torn = u64::from(disk.is_torn());
        let lose = (unsynced * u64::from(lose_per_mille)).div_ceil(1_000).max(torn);
        let lost = if silent || lose > 0 {
            disk.crash(usize::try_from(lose).unwrap_or(usize::MAX))
        } else {
            disk.reopen();
            0
        };
        if lost > 0 && how != "wipe" {
            self.counts.add(Fault::UnsyncedLost);
        }
        if was_up {
            self.tell(What::Killed { node, how, lost });
        }
        Ok(())
    }

    /// The process of a node stands still; its connections stay. Refused on the tonic network.
    pub fn pause(&mut self, node: usize) -> Result<(), Failed> {
        let seat = self.seat(node)?;
        if !self.is_up(node) || !self.wires.pause(&seat, true) {
            return Err(format!("node {node} cannot be paused").into());
        }
        if self.paused.insert(node) {
            self.tell(What::Paused { node });
        }
        Ok(())
    }

    /// It goes on, unaware.
    pub fn resume(&mut self, node: usize) -> Result<(), Failed> {
        let seat = self.seat(node)?;
        if self.paused.remove(&node) {
            self.wires.pause(&seat, false);
            self.tell(What::Resumed { node });
        }
        Ok(())
    }

    /// Adds a client, on a host of that name; the name may be used once. Steps say so when all of them are done; the first
    /// that fails ends the run.
    pub fn client(&mut self, name: &str, future: impl Future<Output = Result<(), Failed>> + 'static) {
        let clients = self.clients.clone();
        clients.borrow_mut().any = true;
        clients.borrow_mut().under_way += 1;
        self.wires.client(name, &self.setup, async move {
            let done = future.await;
            let mut clients = clients.borrow_mut();
            clients.under_way -= 1;
            if let Err(failed) = done {
                clients.failed.get_or_insert(failed);
            }
        });
        self.block();
    }

    /// The network as the client of that name sees it: what [`kindred_client::Client::connect`] asks for. It may be made
    /// before the client is.
    pub fn net(&mut self, client: &str) -> Arc<dyn Net> {
        self.wires.net(client)
    }

    /// Gateway addresses of these nodes, in that order.
    pub fn gateways(&self, nodes: &[usize]) -> Vec<String> {
        nodes.iter().map(|node| self.setup.gateway(*node)).collect()
    }

    /// The way from the client host of that name to these nodes, in that order of preference.
    pub fn entrance(&mut self, client: &str, nodes: &[usize]) -> Entrance {
        Entrance { net: self.net(client), addresses: self.gateways(nodes) }
    }

    /// True time, and chance of its own, for a client. Numbers below 1,000 are free.
    pub fn env(&self, number: u64) -> Env {
        env(self.setup.seed, number)
    }

    /// Goes on by a tick: 10 ms (30 in silence), over tonic 1 ms. True once all clients are done, if there was any. Fails with the first
    /// client that failed, and when the time is up.
    pub fn step(&mut self) -> Result<bool, Failed> {
        self.due()?;
        self.wires.step()?;
        self.bury()?;
        self.observe();
        let mut clients = self.clients.borrow_mut();
        if let Some(failed) = clients.failed.take() {
            return Err(failed);
        }
        if self.elapsed() >= self.setup.limit {
            return Err(format!("not done after {} simulated seconds", self.elapsed().as_secs()).into());
        }
        Ok(clients.any && clients.under_way == 0)
    }

    /// Steps for so long, whether clients are done or not.
    pub fn run_for(&mut self, time: Duration) -> Result<(), Failed> {
        let until = self.elapsed() + time;
        while self.elapsed() < until {
            self.step()?;
        }
        Ok(())
    }

    /// Sees to processes that died of themselves in this step.
    fn bury(&mut self) -> Result<(), Failed> {
        for seat in self.seats.clone() {
            let node = seat.node;
            let disk = seat.disk();
            if disk.is_torn() {
                self.counts.add(Fault::TornWrite);
                let more = rand::RngExt::random_range(&mut self.chance, 0..=1_000);
                self.kill(node, "torn_write", more, true)?;
            } else if let Some(death) = seat.killer.take_death() {
                match &death {
                    Death::Point { .. } => self.counts.add(Fault::CrashAtPoint),
                    Death::Storage(_) => self.counts.add(Fault::SyncError),
                    Death::Start(_) => {}
                }
                self.tell(What::Died { node, death: death.clone() });
                // After a failed sync only what was durable before is sure: the caches of the kernel have dropped the rest.
                let lose = if matches!(death, Death::Storage(_)) { 1_000 } else { 0 };
                self.quietly_kill(node, lose)?;
            } else {
                continue;
            }
            self.comes_back(node);
        }
        Ok(())
    }

    fn quietly_kill(&mut self, node: usize, lose_per_mille: u32) -> Result<(), Failed> {
        self.seat(node)?.up.store(false, Ordering::Relaxed);
        self.kill(node, "crash", lose_per_mille, false)
    }

    fn tell(&mut self, what: What) {
        let at_us = self.now_us();
        self.watch.events.push(Event { at_us, what });
    }

    /// What happened since this was last asked, in order.
    pub fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.watch.events)
    }

    /// How often each fault has struck.
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts.clone();
        for (fault, times) in self.wires.counts().all() {
            counts.add_many(fault, times);
        }
        counts
    }

    /// What was counted on the way.
    pub fn figures(&self) -> Figures {
        Figures { restarts: self.restarts, messages: self.trace.messages(), ..self.watch.figures() }
    }

    /// SHA-256 over everything that crossed the network, the events of the world, and all disks as they are, in hexadecimal.
    pub fn digest(&self) -> String {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for seat in &self.seats {
            for column in Column::ALL {
                for (key, value) in seat.disk().scan(column, &[], &[0xFF; 64], usize::MAX).unwrap_or_default() {
                    parts.push((key.len() as u64).to_be_bytes().to_vec());
                    parts.push(key);
                    parts.push(value.to_vec());
                }
            }
        }
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        self.trace.with(&parts)
    }
}

/// A way from a client host to nodes.
#[derive(Clone)]
pub struct Entrance {
    net: Arc<dyn Net>,
    addresses: Vec<String>,
}

impl Entrance {
    /// A client that goes this way. To be called by the client, on its host: over tonic it is made of tasks there.
    pub fn connect(&self) -> Result<Client, kindred_client::Error> {
        Client::connect(self.net.clone(), &self.addresses)
    }
}

/// Numbers of a run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Figures {
    /// Times that a shard was seen under another leader, or under the same in another term.
    pub leader_changes: u64,
    /// Snapshots that replicas installed.
    pub snapshots_installed: u64,
    /// Entries applied, over all replicas.
    pub entries_applied: u64,
    /// Starts of a node but its first.
    pub restarts: u64,
    /// Messages, or writes into connections.
    pub messages: u64,
}
