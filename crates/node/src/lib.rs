//! Composes a whole node: replicas, frontends and listeners, over whatever engine, clock and network it is given.
//!
//! ```text
//!   gateways ──gRPC──► frontend ──Shards──► replicas ──peer stream──► other nodes
//!                                              │
//!                                        Engine, LogWriter
//! ```
//!
//! **Invariant:** nothing here names RocksDB, a socket type or a clock; the binary and the simulator construct the same
//! node from different parts.

mod date;
pub mod points;

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
use kindred_wire::net::{Net, incoming};
use kindred_wire::shards::{NoPoints, Points, Shards};
use tokio_util::sync::CancellationToken;

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
    /// Whether tests may hold the saga at named points.
    pub points: bool,
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
    stop: CancellationToken,
    servers: Vec<tokio::task::JoinHandle<()>>,
}

impl Node {
    /// Starts it. Returns once both listeners are bound; health tells when it serves.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let region = options.map.region(&options.region).ok_or_else(|| Error::UnknownRegion(options.region.clone()))?;
        let listen = async |address: &String| {
            let bound = options.net.listen(address.clone()).await;
            bound.map_err(|source| Error::Listen { address: address.clone(), source })
        };
        let node_listener = listen(&options.listen_node).await?;
        let gateway_listener = listen(&options.listen_gateway).await?;
        let gateway_address = gateway_listener.local_addr().unwrap_or_else(|_| options.listen_gateway.clone());

        let holds = points::Holds::new(&options.name);
        let points: Arc<dyn Points> = if options.points { Arc::new(holds.clone()) } else { Arc::new(NoPoints) };
        let replicas = Replicas::start(kindred_replica::Options {
            engine: options.engine,
            log_writer: options.log_writer,
            env: options.env.clone(),
            net: options.net,
            book: options.peers,
            name: options.name,
            region,
            map: options.map,
            ticket_keys: options.ticket_keys,
            timings: Timings {
                heartbeat_ms: options.raft.heartbeat_ms,
                election_min_ms: options.raft.election_min_ms,
                election_max_ms: options.raft.election_max_ms,
            },
            snapshot_every: options.raft.snapshot_every_entries,
        })
        .await?;

        let stop = CancellationToken::new();
        let date = date::DateLayer::new(options.env.clone());
        let peers = server().layer(date.clone()).add_service(replicas.peer_service());
        let shards: Arc<dyn Shards> = replicas.clone();
        let health = tonic_health::server::health_reporter();
        let mut routes = kindred_frontend::services(shards, points, options.env).add_service(health.1);
        if options.points {
            let watched = replicas.clone();
            let status: points::StatusSource = Arc::new(move || shard_status(&watched));
            routes = routes.add_service(points::Service::new(holds, status));
        }
        let gateways = server().layer(date).add_routes(routes);
        let servers = vec![
            spawn_server(peers, node_listener, stop.clone()),
            spawn_server(gateways, gateway_listener, stop.clone()),
            tokio::spawn(report_health(replicas.clone(), health.0, stop.clone())),
        ];
        Ok(Self { replicas, gateway_address, stop, servers })
    }

    /// Where gateways connect.
    pub fn gateway_address(&self) -> &str {
        &self.gateway_address
    }

    /// The replicas, for status.
    pub fn replicas(&self) -> &Arc<Replicas> {
        &self.replicas
    }

    /// Unready, hand leadership over, finish what is under way, stop. Membership never changes.
    pub async fn shutdown(self, within: Duration) {
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
    }
}

/// Bounds of both listeners (architecture.md §10). Message sizes are set per service.
fn server() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .max_concurrent_streams(1_024)
        .http2_max_header_list_size(16 * 1024)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .tcp_nodelay(true)
}

fn spawn_server<L>(
    router: tonic::transport::server::Router<L>,
    listener: Box<dyn kindred_wire::net::Listener>,
    stop: CancellationToken,
) -> tokio::task::JoinHandle<()>
where
    L: tower::Layer<tonic::service::Routes> + Clone + Send + 'static,
    L::Service: tower::Service<
            http::Request<tonic::body::Body>,
            Response = http::Response<tonic::body::Body>,
            Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
            Future: Send,
        > + Clone
        + Send
        + 'static,
{
    tokio::spawn(async move {
        let served = router.serve_with_incoming_shutdown(incoming(listener), stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "a listener ended");
        }
    })
}

/// Serving while every shard of the node has a leader that it knows; NOT_SERVING before that and once it stops.
async fn report_health(
    replicas: Arc<Replicas>,
    reporter: tonic_health::server::HealthReporter,
    stop: CancellationToken,
) {
    let mut before = None;
    loop {
        let ready = replicas.ready() && !stop.is_cancelled();
        if before != Some(ready) {
            let status =
                if ready { tonic_health::ServingStatus::Serving } else { tonic_health::ServingStatus::NotServing };
            reporter.set_service_status("", status).await;
            before = Some(ready);
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {
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
