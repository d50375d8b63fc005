//! One node's place in the world: what outlives its processes, and how one of them runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use kindred_core::canonical::TicketKey;
use kindred_core::id::{AccountId, RegionIndex};
use kindred_node::{NamedPoints, Node, Options};
use kindred_replica::Replicas;
use kindred_store::engine::Error as StoreError;
use kindred_store::log_writer::LogWriter;
use kindred_store::simulated::SimEngine;
use kindred_wire::caller::Role;
use kindred_wire::net::Net;
use kindred_wire::shards::{BoxFuture, Points};
use openraft::async_runtime::WatchReceiver as _;
use rand::{RngExt as _, rngs::StdRng};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::net::fabric::Fabric;
use crate::net::rules::Host;
use crate::net::tonic::Streams;
use crate::world::clock::{NodeClock, env_with};
use crate::world::setup::{GATEWAY_PORT, NODE_PORT, Setup};

/// How a process died of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Death {
    /// At a named point.
    Point {
        /// Which.
        point: String,
        /// Where the log stood.
        log_index: u64,
    },
    /// The log writer gave up.
    Storage(String),
    /// It did not start.
    Start(String),
}

/// What the world tells a running process to do.
pub(super) enum Order {
    /// Hand leadership of every shard that it leads to the node of that name.
    Transfer(String),
}

/// How a process is silenced the instant that it dies.
pub(super) enum Wire {
    Messages(Arc<Fabric>, Host),
    Tonic(Arc<Streams>, String),
}

/// Ends a process at once: what it still does reaches neither disk nor network, and the world sees to the rest.
pub(super) struct Killer {
    wire: Wire,
    disk: Mutex<Arc<SimEngine>>,
    death: Mutex<Option<Death>>,
    /// Point, and how often it is passed before.
    armed: Mutex<Option<(String, u32)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Killer {
    fn die(&self, death: Death) {
        let mut slot = lock(&self.death);
        if slot.is_none() {
            *slot = Some(death);
            lock(&self.disk).cut();
            match &self.wire {
                Wire::Messages(fabric, host) => fabric.cut(*host),
                Wire::Tonic(streams, host) => streams.cut(host, true),
            }
        }
    }

    /// Kills the process if it is armed for that point.
    pub(super) fn pass(&self, point: &str, log_index: u64) {
        let mut armed = lock(&self.armed);
        match &mut *armed {
            Some((name, skip)) if name == point && *skip == 0 => {
                *armed = None;
                drop(armed);
                self.die(Death::Point { point: point.to_owned(), log_index });
            }
            Some((name, skip)) if name == point => *skip -= 1,
            _ => {}
        }
    }

    pub(super) fn arm(&self, point: &str, skip: u32) {
        *lock(&self.armed) = Some((point.to_owned(), skip));
    }

    pub(super) fn disarm(&self) {
        *lock(&self.armed) = None;
    }

    /// The death that nobody has seen to yet.
    pub(super) fn take_death(&self) -> Option<Death> {
        lock(&self.death).take()
    }
}

impl Points for Killer {
    /// Never holds anybody up: the process that arrives is dead to the world, and may as well go on.
    fn reach(&self, point: &'static str, _: &AccountId, log_index: u64) -> BoxFuture<'static, ()> {
        self.pass(point, log_index);
        Box::pin(std::future::ready(()))
    }

    fn is_armed(&self) -> bool {
        lock(&self.armed).is_some()
    }
}

/// One node.
pub(super) struct Seat {
    pub(super) node: usize,
    pub(super) name: String,
    pub(super) clock: Arc<NodeClock>,
    pub(super) killer: Arc<Killer>,
    pub(super) net: Arc<dyn Net>,
    pub(super) up: std::sync::atomic::AtomicBool,
    starts: AtomicU64,
    sync_ms_max: Arc<AtomicU64>,
    chance: Arc<Mutex<StdRng>>,
    replicas: Mutex<Weak<Replicas>>,
    orders: Mutex<Option<UnboundedSender<Order>>>,
}

impl Seat {
    pub(super) fn new(node: usize, name: String, wire: Wire, net: Arc<dyn Net>, chance: StdRng) -> Arc<Self> {
        let killer =
            Killer { wire, disk: Mutex::new(SimEngine::new()), death: Mutex::default(), armed: Mutex::default() };
        Arc::new(Self {
            node,
            name,
            clock: Arc::default(),
            killer: Arc::new(killer),
            net,
            up: false.into(),
            starts: AtomicU64::new(0),
            sync_ms_max: Arc::default(),
            chance: Arc::new(Mutex::new(chance)),
            replicas: Mutex::default(),
            orders: Mutex::default(),
        })
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub(super) fn disk(&self) -> Arc<SimEngine> {
        lock(&self.killer.disk).clone()
    }

    pub(super) fn replace_disk(&self, disk: Arc<SimEngine>) {
        *lock(&self.killer.disk) = disk;
    }

    /// Each sync takes up to so long; 0: no time.
    pub(super) fn slow(&self, sync_ms_max: u64) {
        self.sync_ms_max.store(sync_ms_max, Ordering::Relaxed);
    }

    /// The replicas of the running process.
    pub(super) fn replicas(&self) -> Option<Arc<Replicas>> {
        lock(&self.replicas).upgrade()
    }

    pub(super) fn order(&self, order: Order) -> bool {
        lock(&self.orders).as_ref().is_some_and(|orders| orders.send(order).is_ok())
    }

    /// To be called when a process is gone, before the next one starts.
    pub(super) fn vacate(&self) {
        self.up.store(false, Ordering::Relaxed);
        *lock(&self.replicas) = Weak::new();
        *lock(&self.orders) = None;
        self.killer.disarm();
        let _ = self.killer.take_death();
    }

    /// One process, from its start on; ends with the runtime that it is in.
    pub(super) async fn run(self: Arc<Self>, setup: Setup) {
        let (sender, mut orders) = unbounded_channel();
        *lock(&self.orders) = Some(sender);
        let node = match Node::start(self.options(&setup)).await {
            Ok(node) => node,
            Err(error) => {
                self.killer.die(Death::Start(error.to_string()));
                return std::future::pending().await;
            }
        };
        *lock(&self.replicas) = Arc::downgrade(node.replicas());
        self.obey(node.replicas(), &mut orders).await;
        std::future::pending().await
    }

    async fn obey(&self, replicas: &Arc<Replicas>, orders: &mut UnboundedReceiver<Order>) {
        while let Some(Order::Transfer(to)) = orders.recv().await {
            for replica in replicas.all().into_iter().filter(|replica| replica.leads()) {
                let successor = {
                    let metrics = replica.raft.metrics();
                    let metrics = metrics.borrow_watched();
                    let membership = metrics.membership_config.membership();
                    membership.voter_ids().find(|id| membership.get_node(id).is_some_and(|member| member.name == to))
                };
                if let Some(successor) = successor {
                    let _ = replica.raft.trigger().transfer_leader(successor).await;
                }
            }
        }
    }

    fn options(&self, setup: &Setup) -> Options {
        let engine = self.disk();
        let peers = (0..setup.nodes).map(|node| (setup.name(node), format!("{}:{NODE_PORT}", setup.name(node))));
        let keys = (0..setup.regions)
            .map(|region| (RegionIndex(u16::try_from(region).unwrap_or(0)), TicketKey([region as u8 + 1; 32])));
        // A restarted process never draws the same random numbers again.
        let process = 1_000 + (self.starts.fetch_add(1, Ordering::Relaxed) << 8) + self.node as u64;
        Options {
            engine: engine.clone(),
            log_writer: self.log_writer(engine),
            env: env_with(self.clock.clone(), setup.seed, process),
            net: self.net.clone(),
            name: self.name.clone(),
            region: setup.region(self.node).to_owned(),
            peers: peers.collect(),
            map: setup.map(),
            ticket_keys: keys.collect(),
            listen_gateway: format!("0.0.0.0:{GATEWAY_PORT}"),
            listen_node: format!("0.0.0.0:{NODE_PORT}"),
            raft: setup.knobs(self.node).raft(),
            points: NamedPoints::Given(self.killer.clone()),
            limits: kindred_node::Limits::default(),
            plaintext: Some(kindred_node::Plaintext { gateway: Role::Operator }),
            operations: None,
        }
    }

    /// As in `kindred serve`: a failed sync ends the process.
    fn log_writer(&self, engine: Arc<SimEngine>) -> LogWriter {
        let killer = self.killer.clone();
        let on_failure = Box::new(move |error: StoreError| killer.die(Death::Storage(error.to_string())));
        let (most, chance) = (self.sync_ms_max.clone(), self.chance.clone());
        let pace = move || match most.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            most => Duration::from_millis(lock(&chance).random_range(0..=most)),
        };
        LogWriter::run_paced_task(engine, Some(on_failure), Arc::new(pace))
    }
}
