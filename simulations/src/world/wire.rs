//! The two networks behind one face.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kindred_wire::net::Net;

use crate::faults::{Counts, Fault, Injection};
use crate::net::calls::MessageNet;
use crate::net::digest::Trace;
use crate::net::fabric::Fabric;
use crate::net::lockstep::Lockstep;
use crate::net::tonic::{LATENCY, SimNet, Streams};
use crate::pairing::Failed;
use crate::world::clock;
use crate::world::seat::{Seat, Wire};
use crate::world::setup::{GATEWAY_PORT, Network, Setup, WIRE};

/// What the wires of a world do just now; computed anew from all injections that are in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Weather {
    pub(super) loss: u32,
    pub(super) delay: (u32, u64),
    pub(super) duplicate: u32,
    pub(super) reorder: u32,
    /// Between nodes: (from, to).
    pub(super) blocked: BTreeSet<(usize, usize)>,
    /// Between a node and all clients: (node, towards the node).
    pub(super) cut_off: BTreeSet<(usize, bool)>,
}

impl Weather {
    /// From what is in force. Of two of a kind the greater rate counts.
    pub(super) fn of<'a>(active: impl Iterator<Item = &'a Injection>, nodes: usize) -> Self {
        let mut weather = Self::default();
        for injection in active {
            match injection {
                Injection::MessageLoss { per_mille, .. } => weather.loss = weather.loss.max(*per_mille),
                Injection::MessageDelay { per_mille, extra_ms, .. } => {
                    weather.delay = (weather.delay.0.max(*per_mille), weather.delay.1.max(extra_ms * 1_000));
                }
                Injection::MessageDuplicate { per_mille, .. } => {
                    weather.duplicate = weather.duplicate.max(*per_mille);
                }
                Injection::MessageReorder { per_mille, .. } => weather.reorder = weather.reorder.max(*per_mille),
                Injection::Partition { nodes: apart, clients, .. } => {
                    weather.split(apart, nodes, (true, true), *clients);
                }
                Injection::OneWayPartition { nodes: apart, clients, .. } => {
                    weather.split(apart, nodes, (true, false), *clients);
                }
                Injection::PartialPartition { a, b, .. } => weather.blocked.extend([(*a, *b), (*b, *a)]),
                _ => {}
            }
        }
        weather
    }

    fn split(&mut self, apart: &[usize], nodes: usize, (out, back): (bool, bool), clients: bool) {
        for node in apart {
            for other in (0..nodes).filter(|other| !apart.contains(other)) {
                self.blocked.extend(out.then_some((*node, other)));
                self.blocked.extend(back.then_some((other, *node)));
            }
            if clients {
                self.cut_off.extend(out.then_some((*node, false)));
                self.cut_off.extend(back.then_some((*node, true)));
            }
        }
    }
}

pub(super) enum Wires {
    Tonic(Box<Tonic>),
    Messages(Messages),
}

pub(super) struct Tonic {
    sim: turmoil::Sim<'static>,
    streams: Arc<Streams>,
    nodes: Vec<String>,
    clients: Vec<String>,
    known: BTreeSet<String>,
    blocked: BTreeSet<(String, String)>,
}

pub(super) struct Messages {
    fabric: Arc<Fabric>,
    lockstep: Lockstep,
    nodes: usize,
    known: BTreeMap<usize, u64>,
}

impl Wires {
    pub(super) fn new(setup: &Setup, trace: &Arc<Trace>) -> Self {
        match setup.network {
            Network::Tonic => {
                clock::follow_turmoil();
                Self::Tonic(Box::new(Tonic {
                    sim: sim(setup.seed),
                    streams: Streams::new(trace.clone()),
                    nodes: Vec::new(),
                    clients: Vec::new(),
                    known: BTreeSet::new(),
                    blocked: BTreeSet::new(),
                }))
            }
            Network::Messages => {
                let fabric = Fabric::new(clock::rng(setup.seed, WIRE), setup.nodes, trace.clone());
                let lockstep = Lockstep::new(fabric.clone());
                Self::Messages(Messages { fabric, lockstep, nodes: setup.nodes, known: BTreeMap::new() })
            }
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        match self {
            Self::Tonic(tonic) => tonic.sim.elapsed(),
            Self::Messages(messages) => messages.lockstep.now(),
        }
    }

    /// To be called for every node, in order, before any client is added.
    pub(super) fn add_node(&mut self, name: &str) -> (Wire, Arc<dyn Net>) {
        match self {
            Self::Tonic(tonic) => {
                tonic.nodes.push(name.to_owned());
                let net = SimNet::new(name, GATEWAY_PORT, tonic.streams.clone());
                (Wire::Tonic(tonic.streams.clone(), name.to_owned()), Arc::new(net))
            }
            Self::Messages(messages) => {
                let next = messages.nodes_added();
                let host = messages.fabric.add(name, next);
                let net = MessageNet::new(messages.fabric.clone(), host);
                (Wire::Messages(messages.fabric.clone(), host), Arc::new(net))
            }
        }
    }

    /// Starts the node's process; true if it is not its first.
    pub(super) fn start(&mut self, seat: &Arc<Seat>, setup: &Setup) -> Result<bool, Failed> {
        match self {
            Self::Tonic(tonic) => {
                tonic.streams.cut(&seat.name, false);
                if !tonic.known.insert(seat.name.clone()) {
                    tonic.sim.bounce(seat.name.as_str());
                    return Ok(true);
                }
                let (seat, setup) = (seat.clone(), setup.clone());
                tonic.sim.host(seat.name.clone(), move || {
                    let (seat, setup) = (seat.clone(), setup.clone());
                    async move {
                        seat.run(setup).await;
                        Ok(())
                    }
                });
                Ok(false)
            }
            Self::Messages(messages) => {
                let starts = messages.known.entry(seat.node).or_default();
                *starts += 1;
                let seed = setup.seed ^ ((seat.node as u64) << 32) ^ (*starts << 48);
                messages.fabric.up(seat.node);
                messages.lockstep.start(seat.node, seed, seat.clone().run(setup.clone()))?;
                Ok(*starts > 1)
            }
        }
    }

    /// Ends the node's process; `silent` if its machine goes with it.
    pub(super) fn stop(&mut self, seat: &Arc<Seat>, silent: bool) {
        match self {
            Self::Tonic(tonic) => {
                if tonic.known.contains(&seat.name) && tonic.sim.is_host_running(seat.name.as_str()) {
                    tonic.sim.crash(seat.name.as_str());
                }
            }
            Self::Messages(messages) => {
                messages.fabric.down(seat.node, silent);
                messages.lockstep.stop(seat.node);
            }
        }
    }

    /// False if this network cannot.
    pub(super) fn pause(&mut self, seat: &Seat, paused: bool) -> bool {
        match self {
            Self::Tonic(_) => false,
            Self::Messages(messages) => {
                messages.lockstep.pause(seat.node, paused);
                true
            }
        }
    }

    pub(super) fn client(&mut self, name: &str, setup: &Setup, future: impl Future<Output = ()> + 'static) {
        match self {
            Self::Tonic(tonic) => {
                tonic.clients.push(name.to_owned());
                tonic.sim.client(name, async move {
                    future.await;
                    Ok(())
                });
            }
            Self::Messages(messages) => {
                messages.client_host(name);
                let group = messages.nodes;
                if messages.lockstep.is_running(group) {
                    messages.lockstep.spawn(group, future);
                } else {
                    // Only want of memory for a runtime fails here; then no client ever ends, and the run says so.
                    let _ = messages.lockstep.start(group, !setup.seed, future);
                }
            }
        }
    }

    pub(super) fn net(&mut self, client: &str) -> Arc<dyn Net> {
        match self {
            Self::Tonic(tonic) => Arc::new(SimNet::new(client, GATEWAY_PORT, tonic.streams.clone())),
            Self::Messages(messages) => {
                let host = messages.client_host(client);
                Arc::new(MessageNet::new(messages.fabric.clone(), host))
            }
        }
    }

    pub(super) fn step(&mut self) -> Result<(), Failed> {
        match self {
            // Whether clients are done is counted by the world itself.
            Self::Tonic(tonic) => tonic.sim.step().map(|_| ()),
            Self::Messages(messages) => {
                messages.lockstep.step();
                Ok(())
            }
        }
    }

    pub(super) fn counts(&self) -> Counts {
        match self {
            Self::Tonic(tonic) => {
                let mut counts = Counts::default();
                let gone = tonic.nodes.iter().map(|name| u64::from(tonic.streams.replies_gone(name))).sum();
                counts.add_many(Fault::ReplyLost, gone);
                counts
            }
            Self::Messages(messages) => messages.fabric.rules(|rules| rules.counts.clone()),
        }
    }

    /// True if the network can do such a thing to messages.
    pub(super) fn can(&self, fault: Fault) -> bool {
        let messages_only = [Fault::MessageDuplicate, Fault::MessageReorder, Fault::Pause];
        matches!(self, Self::Messages(_)) || !messages_only.contains(&fault)
    }

    /// All connections of the node break, or go dead; true if it had any.
    pub(super) fn strike(&mut self, seat: &Seat, dead: bool) -> bool {
        match self {
            Self::Tonic(tonic) => tonic.streams.strike(&seat.name, dead),
            Self::Messages(messages) if dead => messages.fabric.half_open(seat.node),
            Self::Messages(messages) => messages.fabric.reset(seat.node),
        }
    }

    pub(super) fn lose_replies(&mut self, seat: &Seat, answers: u32) {
        match self {
            Self::Tonic(tonic) => tonic.streams.lose_replies(&seat.name, answers),
            Self::Messages(messages) => messages.fabric.lose_replies(seat.node, answers),
        }
    }

    /// No answers vanish any more.
    pub(super) fn keep_replies(&mut self) {
        match self {
            Self::Tonic(tonic) => tonic.streams.keep_replies(),
            Self::Messages(messages) => messages.fabric.keep_replies(),
        }
    }

    pub(super) fn set(&mut self, weather: &Weather) {
        match self {
            Self::Tonic(tonic) => tonic.set(weather),
            Self::Messages(messages) => messages.fabric.rules(|rules| {
                rules.loss = weather.loss;
                rules.delay = weather.delay;
                rules.duplicate = weather.duplicate;
                rules.reorder = weather.reorder;
                rules.blocked.clone_from(&weather.blocked);
                rules.cut_off.clone_from(&weather.cut_off);
            }),
        }
    }
}

impl Messages {
    fn nodes_added(&self) -> usize {
        self.fabric.hosts()
    }

    fn client_host(&mut self, name: &str) -> usize {
        let known = self.fabric.host(name);
        known.unwrap_or_else(|| self.fabric.add(name, self.nodes))
    }
}

impl Tonic {
    fn set(&mut self, weather: &Weather) {
        // turmoil's TCP sends nothing twice: a segment that is lost is a connection that hangs.
        self.sim.set_fail_rate(f64::from(weather.loss) / 1_000.0);
        let extra = Duration::from_micros(if weather.delay.0 > 0 { weather.delay.1 } else { 0 });
        self.sim.set_max_message_latency(LATENCY.1 + extra);
        let mut blocked = BTreeSet::new();
        for (from, to) in &weather.blocked {
            if let (Some(from), Some(to)) = (self.nodes.get(*from), self.nodes.get(*to)) {
                blocked.insert((from.clone(), to.clone()));
            }
        }
        for (node, inwards) in &weather.cut_off {
            for client in &self.clients {
                let Some(node) = self.nodes.get(*node) else { continue };
                let pair = if *inwards { (client, node) } else { (node, client) };
                blocked.insert((pair.0.clone(), pair.1.clone()));
            }
        }
        // turmoil knows a host from its start on.
        let known = |name: &String| self.known.contains(name) || self.clients.contains(name);
        blocked.retain(|(from, to)| known(from) && known(to));
        for (from, to) in blocked.difference(&self.blocked) {
            self.sim.partition_oneway(from.as_str(), to.as_str());
        }
        for (from, to) in self.blocked.difference(&blocked) {
            self.sim.repair_oneway(from.as_str(), to.as_str());
        }
        self.blocked = blocked;
    }
}

/// A simulation of turmoil for the network of all layers. Time is limited by the world.
fn sim(seed: u64) -> turmoil::Sim<'static> {
    turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(std::time::UNIX_EPOCH + Duration::from_millis(clock::EPOCH_MS))
        .simulation_duration(Duration::from_secs(24 * 60 * 60))
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(LATENCY.0)
        .max_message_latency(LATENCY.1)
        .tcp_capacity(65_536)
        .enable_random_order()
        .build()
}
