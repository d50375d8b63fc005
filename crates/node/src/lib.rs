//! Composes a whole node: replicas, frontends and listeners, over whatever engine, clock and network it is given.
//!
//! ```text
//!   gateways ──gRPC──► who may ──► frontend ──Shards──► replicas ──peer stream──► other nodes
//!                                                          │
//!                                                    Engine, LogWriter
//! ```
//!
//! **Invariant:** nothing here names RocksDB, a socket type, TLS or a clock; the binary and the simulator construct the
//! same node from different parts. **Invariant:** every connection has a [`kindred_wire::caller::Caller`]: proved by its
//! certificate or, where the configuration says plaintext, granted.

mod date;
mod limits;
pub mod metrics;
pub mod operations;
pub mod points;
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kindred_core::canonical::TicketKey;
use kindred_core::env::Env;
use kindred_core::id::RegionIndex;
use kindred_core::map::ShardMap;
use kindred_replica::{Replicas, Timings};
use kindred_store::engine::Engine;
use kindred_store::log_writer::LogWriter;
use kindred_wire::caller::Role;
use kindred_wire::net::Net;
use kindred_wire::shards::{NoPoints, Points, Shards};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use limits::Limits;

/// Calls under way may take this long to finish once the node stops.
const FINISH_WITHIN: Duration = Duration::from_secs(1);

/// What a node is made of.
pub struct Options {
    /// Where it keeps everything.
    pub engine: Arc<dyn Engine>,
    /// The node's one log writer, over the same engine.
    pub log_writer: LogWriter,
    /// Time and chance.
    pub env: Env,
    /// Sockets.
    pub net: Arc<dyn Net>,
    /// This node's name.
    pub name: String,
    /// This node's region.
    pub region: String,
    /// Node-to-node addresses by node name, this node included.
    pub peers: BTreeMap<String, String>,
    /// The shard map.
    pub map: ShardMap,
    /// Ticket keys of the regions whose shards it may lead.
    pub ticket_keys: BTreeMap<RegionIndex, TicketKey>,
    /// Where gateways connect.
    pub listen_gateway: String,
    /// Where other nodes connect.
    pub listen_node: String,
    /// Raft timings.
    pub raft: Raft,
    /// Who may hold the saga at named points.
    pub points: NamedPoints,
    /// Bounds of both listeners.
    pub limits: Limits,
    /// Who connections are from that prove nothing. None: they are refused.
    pub plaintext: Option<Plaintext>,
    /// The operations port; simulations have none.
    pub operations: Option<operations::Options>,
}

/// Who may hold the saga at named points.
#[derive(Clone, Default)]
pub enum NamedPoints {
    /// Nobody.
    #[default]
    Off,
    /// Whoever calls the testing service (proto/kindred/testing/v1).
    Served,
    /// Whoever made the node.
    Given(Arc<dyn Points>),
}

/// Roles without proof. Whoever reaches the gateway listener has `gateway`, whoever reaches the node listener is a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plaintext {
    /// Role of whoever connects to the gateway listener.
    pub gateway: Role,
}

/// Raft timings.
#[derive(Debug, Clone, Copy)]
pub struct Raft {
    /// Between heartbeats, ms.
    pub heartbeat_ms: u64,
    /// Shortest election timeout, ms.
    pub election_min_ms: u64,
    /// Longest election timeout, ms.
    pub election_max_ms: u64,
    /// Entries between snapshots.
    pub snapshot_every_entries: u64,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The region is not in the map.
    #[error("region `{0}` is not in the shard map")]
    UnknownRegion(String),
    /// An address cannot be bound.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The replicas did not start.
    #[error(transparent)]
    Replica(#[from] kindred_replica::Error),
}

/// A running node.
pub struct Node {
    replicas: Arc<Replicas>,
    gateway_address: String,
    leaving: CancellationToken,
    stop: CancellationToken,
    servers: Vec<tokio::task::JoinHandle<()>>,
    /// Tells how the node is, up to its very end.
    watching: Vec<tokio::task::JoinHandle<()>>,
}

impl Node {
    /// Starts it. Returns once all listeners are bound; health tells when it serves.
    pub async fn start(options: Options) -> Result<Self, Error> {
        metrics::describe();
        let region = options.map.region(&options.region).ok_or_else(|| Error::UnknownRegion(options.region.clone()))?;
        let listen = async |net: &Arc<dyn Net>, address: &String| {
            let bound = net.listen(address.clone()).await;
            bound.map_err(|source| Error::Listen { address: address.clone(), source })
        };
        let node_listener = listen(&options.net, &options.listen_node).await?;
        let gateway_listener = listen(&options.net, &options.listen_gateway).await?;
        let operations = match options.operations {
            Some(port) => Some((listen(&port.net, &port.listen).await?, port.render)),
            None => None,
        };
        let gateway_address = gateway_listener.local_addr().unwrap_or_else(|_| options.listen_gateway.clone());

        let holds = matches!(options.points, NamedPoints::Served).then(|| points::Holds::new(&options.name));
        let points: Arc<dyn Points> = match (&holds, options.points) {
            (Some(holds), _) => Arc::new(holds.clone()),
            (None, NamedPoints::Given(points)) => points,
            (None, _) => Arc::new(NoPoints),
        };
        let Raft { heartbeat_ms, election_min_ms, election_max_ms, snapshot_every_entries } = options.raft;
        let replicas = Replicas::start(kindred_replica::Options {
            engine: options.engine,
            log_writer: options.log_writer.clone(),
            env: options.env.clone(),
            net: options.net,
            book: options.peers,
            name: options.name,
            region,
            map: options.map,
            ticket_keys: options.ticket_keys,
            timings: Timings { heartbeat_ms, election_min_ms, election_max_ms },
            snapshot_every: snapshot_every_entries,
            points: points.clone(),
        })
        .await?;

        let (leaving, stop) = (CancellationToken::new(), CancellationToken::new());
        let (env, limits, granted) = (options.env, options.limits, options.plaintext);
        let health = tonic_health::server::health_reporter();
        let public = public(&replicas, points, holds, &env, limits).add_service(health.1);
        let role = granted.map(|granted| granted.gateway);
        let gateways = server::Served::new("gateway", public, role, limits, &env);
        let peers = Routes::new(replicas.peer_service());
        let nodes = server::Served {
            connections_max: limits.node_connections_max,
            connection_age: limits.node_connection_age,
            ..server::Served::new("node", peers, granted.map(|_| Role::Node), limits, &env)
        };
        let servers = vec![
            server::spawn(nodes, node_listener, stop.clone()),
            server::spawn(gateways, gateway_listener, stop.clone()),
        ];
        let mut watching = vec![tokio::spawn(report_health(replicas.clone(), health.0, leaving.clone()))];
        if let Some((listener, render)) = operations {
            let (replicas, leaving, log_writer) = (replicas.clone(), leaving.clone(), options.log_writer);
            let watched = operations::Watched { replicas, log_writer, env, leaving };
            watching.push(tokio::spawn(operations::run(watched, listener, render)));
        }
        Ok(Self { replicas, gateway_address, leaving, stop, servers, watching })
    }

    /// Where gateways connect.
    pub fn gateway_address(&self) -> &str {
        &self.gateway_address
    }

    /// The replicas, for status.
    pub fn replicas(&self) -> &Arc<Replicas> {
        &self.replicas
    }

    /// Unready first, so that nobody is sent here any more; then leadership is handed over, what is under way is finished,
    /// connections are told to go away, and all stops. Membership never changes.
    pub async fn shutdown(self, within: Duration) {
        self.leaving.cancel();
        let _ = tokio::time::timeout(within, async {
            self.replicas.hand_over().await;
            self.stop.cancel();
            let aborts: Vec<_> = self.servers.iter().map(tokio::task::JoinHandle::abort_handle).collect();
            let finished = futures::future::join_all(self.servers);
            // Calls end by themselves; watches do not, and are resumed elsewhere.
            if tokio::time::timeout(FINISH_WITHIN, finished).await.is_err() {
                aborts.iter().for_each(tokio::task::AbortHandle::abort);
            }
            self.replicas.shutdown().await;
        })
        .await;
        self.watching.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// What gateways and operators may call, but for health.
fn public(
    replicas: &Arc<Replicas>,
    points: Arc<dyn Points>,
    holds: Option<points::Holds>,
    env: &Env,
    limits: Limits,
) -> Routes {
    let bounds =
        kindred_frontend::Bounds { request_bytes_max: limits.request_bytes_max, call_within: limits.call_within };
    let shards: Arc<dyn Shards> = replicas.clone();
    let routes = kindred_frontend::services_within(shards, points, env.clone(), bounds);
    let Some(holds) = holds else { return routes };
    let watched = replicas.clone();
    let status: points::StatusSource = Arc::new(move || shard_status(&watched));
    routes.add_service(points::Service::new(holds, status))
}

/// Serving while every shard of the node has a leader that it knows; NOT_SERVING before that and once it is leaving.
async fn report_health(
    replicas: Arc<Replicas>,
    reporter: tonic_health::server::HealthReporter,
    leaving: CancellationToken,
) {
    let mut before = None;
    loop {
        let ready = replicas.ready() && !leaving.is_cancelled();
        if before != Some(ready) {
            let status =
                if ready { tonic_health::ServingStatus::Serving } else { tonic_health::ServingStatus::NotServing };
            reporter.set_service_status("", status).await;
            before = Some(ready);
        }
        tokio::select! {
            biased;
            () = leaving.cancelled() => {
                reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
                return;
            }
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
}

fn shard_status(replicas: &Replicas) -> Vec<points::pb::ShardStatus> {
    let status = replicas.status().into_iter();
    status
        .map(|s| points::pb::ShardStatus {
            shard: s.shard.0,
            leader: s.leader.unwrap_or_default(),
            term: s.term,
            applied_index: s.applied_index,
            replica: s.replica,
            voters: s.voters,
            entries_applied: s.entries_applied,
        })
        .collect()
}
