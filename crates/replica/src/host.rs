//! All replicas of one node, and the way from this node to every shard of the cluster.

mod asked;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use kindred_core::canonical::TicketKey;
use kindred_core::env::Env;
use kindred_core::id::{RegionIndex, ShardId};
use kindred_core::map::ShardMap;
use kindred_store::engine::{Batch, Column, Durability, Engine, Write};
use kindred_store::keys::{self, MetaKey};
use kindred_store::log_writer::LogWriter;
use kindred_wire::net::Net;
use kindred_wire::shards::Points;
use openraft::async_runtime::WatchReceiver as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cache::Records;
use crate::codec::Compact as _;
use crate::error::Error;
use crate::frames::proto::peer_server::PeerServer;
use crate::frames::{Frame, Kind, MESSAGE_BYTES_MAX};
use crate::health::Health;
use crate::identity::{Identity, random_id};
use crate::link::Links;
use crate::log_store::{LogStore, put_meta, read_meta};
use crate::network::Network;
use crate::peer::PeerService;
use crate::points::LinkPoints;
use crate::replica::{Parts, Replica};
use crate::state::{Opening, State};
use crate::types::Member;

/// A question to every peer may take this long.
const ASK_WITHIN: Duration = Duration::from_secs(3);
/// Log entries kept behind a snapshot, for followers that are a little late.
const LOG_KEPT_ENTRIES: u64 = 1_024;
/// Writes are refused below this much free space, early enough that votes and hand-overs go on.
const FREE_BYTES_MIN: u64 = 256 << 20;
/// One hand-over may take this long.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);
/// How often damage and free space are looked at.
const SUPERVISE_INTERVAL: Duration = Duration::from_millis(500);

/// What the replicas of a node need.
pub struct Options {
    /// Where everything is kept.
    pub engine: Arc<dyn Engine>,
    /// The node's one log writer, over the same engine.
    pub log_writer: LogWriter,
    /// Time and chance.
    pub env: Env,
    /// Sockets.
    pub net: Arc<dyn Net>,
    /// Node-to-node addresses by name, this node included.
    pub book: BTreeMap<String, String>,
    /// This node's name.
    pub name: String,
    /// This node's region.
    pub region: RegionIndex,
    /// The shard map.
    pub map: ShardMap,
    /// Ticket keys of the regions whose shards it may lead.
    pub ticket_keys: BTreeMap<RegionIndex, TicketKey>,
    /// Raft timings.
    pub timings: Timings,
    /// Entries between snapshots.
    pub snapshot_every: u64,
    /// Where tests hold links.
    pub points: Arc<dyn Points>,
}

/// Raft timings, in ms.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// Between heartbeats.
    pub heartbeat_ms: u64,
    /// Shortest election timeout.
    pub election_min_ms: u64,
    /// Longest election timeout.
    pub election_max_ms: u64,
}

/// One replica, for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The shard.
    pub shard: ShardId,
    /// Name of the node that leads it, if known.
    pub leader: Option<String>,
    /// Raft term.
    pub term: u64,
    /// Last applied log index.
    pub applied_index: u64,
    /// This replica's id.
    pub replica: u64,
    /// Names of the voters' nodes.
    pub voters: Vec<String>,
    /// Entries applied since the process started.
    pub entries_applied: u64,
}

/// The replicas of one node.
pub struct Replicas {
    pub(crate) engine: Arc<dyn Engine>,
    log_writer: LogWriter,
    env: Env,
    pub(crate) book: BTreeMap<String, String>,
    region: RegionIndex,
    map: Arc<ShardMap>,
    ticket_keys: BTreeMap<RegionIndex, TicketKey>,
    config: Arc<openraft::Config>,
    identity: Arc<Identity>,
    pub(crate) links: Arc<Links>,
    hosted: RwLock<BTreeMap<ShardId, Hosted>>,
    /// One replica is opened at a time, so that no shard ever gets two ids at once.
    opening: tokio::sync::Mutex<()>,
    full: Arc<AtomicBool>,
    records: Arc<Records>,
    points: LinkPoints,
    /// Shards whose replica does not run, and whether its records are damaged.
    broken: Mutex<BTreeMap<ShardId, bool>>,
    stopping: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

struct Hosted {
    replica: Arc<Replica>,
    duties: JoinHandle<()>,
}

impl Replicas {
    /// Starts this node's replicas: those it has, or, on an empty node, those it gets by forming or joining a cluster.
    pub async fn start(options: Options) -> Result<Arc<Self>, Error> {
        crate::metrics::describe();
        if !options.book.contains_key(&options.name) {
            return Err(Error::UnknownNode(options.name));
        }
        let config = config(options.timings, options.snapshot_every)?;
        let identity = Arc::new(Identity::load(options.engine.as_ref(), &options.name, &options.env)?);
        let links = Arc::new(Links::start(&identity, &options.net, &options.book));
        let replicas = Arc::new(Self {
            engine: options.engine,
            log_writer: options.log_writer,
            env: options.env,
            book: options.book,
            region: options.region,
            map: Arc::new(options.map),
            ticket_keys: options.ticket_keys,
            config,
            identity,
            links,
            hosted: RwLock::default(),
            opening: tokio::sync::Mutex::default(),
            full: Arc::default(),
            records: Arc::default(),
            points: LinkPoints::new(options.points),
            broken: Mutex::default(),
            stopping: watch::Sender::new(false),
            tasks: Mutex::default(),
        });
        for (shard, _) in replicas.map.shards() {
            // One shard's trouble is not the node's: the supervisor sees to it.
            if replicas.stored_id(shard)?.is_some()
                && let Err(error) = replicas.open(shard).await
            {
                replicas.failed(shard, &error);
            }
        }
        replicas.spawn(crate::forming::run(replicas.clone()));
        replicas.spawn(supervise(replicas.clone()));
        Ok(replicas)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(tokio::spawn(task));
    }

    /// The peer protocol, to be mounted on the node's listener.
    pub fn peer_service(self: &Arc<Self>) -> PeerServer<PeerService> {
        PeerServer::new(PeerService::new(self.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn env(&self) -> &Env {
        &self.env
    }

    /// This node as the members of a shard name it.
    pub(crate) fn member(&self) -> Member {
        Member { node_id: self.identity.node_id, region: self.region.0, name: self.identity.name.clone() }
    }

    /// True once the node is stopping, for streams that would not end by themselves.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Who this node is.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    pub(crate) fn knows(&self, name: &str) -> bool {
        self.book.contains_key(name)
    }

    /// This node's replica of the shard.
    pub fn replica(&self, shard: ShardId) -> Option<Arc<Replica>> {
        let hosted = self.hosted.read().unwrap_or_else(PoisonError::into_inner);
        hosted.get(&shard).map(|hosted| hosted.replica.clone())
    }

    /// All replicas of this node, by shard.
    pub fn all(&self) -> Vec<Arc<Replica>> {
        let hosted = self.hosted.read().unwrap_or_else(PoisonError::into_inner);
        hosted.values().map(|hosted| hosted.replica.clone()).collect()
    }

    #[cfg(kindred_mutants)]
    fn id_by_mistake(&self, shard: ShardId) -> Option<u64> {
        let name = self.identity.name.as_bytes();
        let hash = kindred_core::canonical::sha256(&[name, &shard.0.to_be_bytes()]);
        let id = hash.0.first_chunk().map(|head| u64::from_be_bytes(*head));
        id.filter(|_| kindred_core::mutants::is("replica-id-reused"))
    }

    fn stored_id(&self, shard: ShardId) -> Result<Option<u64>, Error> {
        read_meta(self.engine.as_ref(), shard, MetaKey::Replica)
    }

    /// The node's replica of the shard; made, under a new random id, if there is none.
    pub(crate) async fn open(self: &Arc<Self>, shard: ShardId) -> Result<Arc<Replica>, Error> {
        let _opening = self.opening.lock().await;
        if let Some(replica) = self.replica(shard) {
            return Ok(replica);
        }
        let Some(cluster) = self.identity.cluster() else { return Err(Error::Raft("no cluster yet".into())) };
        let shards = self.map.shards();
        let home = shards.iter().find(|(id, _)| *id == shard).and_then(|(_, region)| *region);
        let id = match self.stored_id(shard)? {
            Some(id) => id,
            None => {
                let id = random_id(&self.env);
                #[cfg(kindred_mutants)]
                let id = self.id_by_mistake(shard).unwrap_or(id);
                self.engine.commit(vec![put_meta(shard, MetaKey::Replica, &id)], Durability::Synced)?;
                id
            }
        };
        let region = home.unwrap_or(RegionIndex(0));
        let health: Arc<Health> = Arc::default();
        let opening = || Opening {
            engine: self.engine.clone(),
            log_writer: self.log_writer.clone(),
            env: self.env.clone(),
            health: health.clone(),
            records: self.records.clone(),
            points: self.points.clone(),
        };
        let state = Arc::new(State::open(opening(), shard, region)?);
        let parts = Parts {
            id,
            home,
            cluster,
            ticket_key: home.and_then(|region| self.ticket_keys.get(&region).cloned()),
            env: self.env.clone(),
            log: LogStore::open(opening(), shard)?,
            state,
            full: self.full.clone(),
        };
        let network = Network { links: self.links.clone(), shard: shard.0, raft: Arc::default() };
        let started = Replica::start(parts, self.config.clone(), network).await;
        // openraft reads the log before it runs, and what it says of a damaged record is only text.
        let told = |error: Error| if health.is_damaged() { Error::Damaged(error.to_string()) } else { error };
        let replica = Arc::new(started.map_err(told)?);
        let duties = tokio::spawn(crate::duties::run(replica.clone(), self.clone(), self.links.clone()));
        let hosted = Hosted { replica: replica.clone(), duties };
        self.hosted.write().unwrap_or_else(PoisonError::into_inner).insert(shard, hosted);
        tracing::info!(shard = shard.0, replica = id, "replica started");
        Ok(replica)
    }

    pub(crate) fn is_broken(&self, shard: ShardId) -> bool {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&shard)
    }

    /// Remembers a replica that could not be opened, or stopped.
    fn failed(&self, shard: ShardId, error: &Error) {
        tracing::error!(shard = shard.0, %error, "a replica does not run");
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).insert(shard, error.is_damage());
    }

    /// Takes a replica out of service. Whatever of it still runs can write nothing more.
    async fn close(&self, shard: ShardId) {
        let hosted = self.hosted.write().unwrap_or_else(PoisonError::into_inner).remove(&shard);
        if let Some(hosted) = hosted {
            hosted.replica.state.retire();
            hosted.duties.abort();
            hosted.replica.stop().await;
        }
    }

    /// Throws away a replica whose records are damaged; a new one, under a new id, is then filled by its peers.
    async fn discard(&self, shard: ShardId) -> Result<(), Error> {
        self.close(shard).await;
        let (first, _) = keys::state_range(shard, 0);
        let (_, last) = keys::state_range(shard, u32::MAX);
        let mut batch: Batch = vec![
            Write::DeleteRange(Column::State, first, last),
            Write::DeleteRange(Column::Log, keys::log(shard, 0), keys::log_end(shard)),
        ];
        // The id goes first and last in one batch: what is left of the old replica is never opened under any id.
        batch.extend(MetaKey::ALL.map(|key| Write::Delete(Column::Meta, keys::meta(shard, key))));
        // Behind everything that the old replica had queued.
        self.log_writer.write(batch).await?;
        tracing::warn!(shard = shard.0, "a damaged replica was discarded; it is rebuilt from its peers under a new id");
        metrics::counter!(crate::metrics::REPLICAS_REBUILT).increment(1);
        Ok(())
    }

    /// Every replica of this node.
    pub fn status(&self) -> Vec<Status> {
        self.all().iter().map(|replica| status(replica)).collect()
    }

    /// Refuses leadership from now on, hands over what this node leads, and ends the streams of its peers.
    pub async fn hand_over(&self) {
        let replicas = self.all();
        futures::future::join_all(replicas.iter().map(|replica| replica.hand_over(&self.links, HAND_OVER_WITHIN)))
            .await;
        self.stopping.send_replace(true);
    }

    /// Stops all replicas and connections.
    pub async fn shutdown(&self) {
        self.stopping.send_replace(true);
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        let hosted = std::mem::take(&mut *self.hosted.write().unwrap_or_else(PoisonError::into_inner));
        for hosted in hosted.values() {
            hosted.duties.abort();
            hosted.replica.stop().await;
        }
        self.links.stop();
    }
}

/// openraft's configuration; every deviation from its defaults is argued in architecture.md §4.
fn config(timings: Timings, snapshot_every: u64) -> Result<Arc<openraft::Config>, Error> {
    let config = openraft::Config {
        cluster_name: "kindred".into(),
        heartbeat_interval: timings.heartbeat_ms,
        election_timeout_min: timings.election_min_ms,
        election_timeout_max: timings.election_max_ms,
        enable_pre_vote: Some(true),
        // A restarted leader has no monotonic base for shard time; let it be elected anew.
        enable_leader_restore: Some(false),
        // A leader that can send but not hear must not block elections for ever.
        quorum_loss_probe_interval: Some(2 * timings.election_max_ms),
        snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(snapshot_every),
        max_in_snapshot_log_to_keep: LOG_KEPT_ENTRIES.min(snapshot_every),
        purge_batch_size: 256.min(snapshot_every),
        max_payload_entries: 64,
        ..openraft::Config::default()
    };
    config.validate().map(Arc::new).map_err(|error| Error::Timings(error.to_string()))
}

fn status(replica: &Replica) -> Status {
    let metrics = replica.raft.metrics();
    let metrics = metrics.borrow_watched();
    let membership = metrics.membership_config.membership();
    Status {
        shard: replica.shard(),
        leader: replica.leader(),
        term: metrics.current_term,
        applied_index: replica.state.applied_index(),
        replica: replica.id,
        voters: membership.voter_ids().filter_map(|id| Some(membership.get_node(&id)?.name.clone())).collect(),
        entries_applied: replica.state.entries_applied(),
    }
}

/// Watches the space that is left, and sees to replicas that stopped or cannot be read.
async fn supervise(replicas: Arc<Replicas>) {
    loop {
        tokio::time::sleep(SUPERVISE_INTERVAL).await;
        let full = matches!(replicas.engine.free_bytes(), Ok(Some(bytes)) if bytes < FREE_BYTES_MIN);
        if replicas.full.swap(full, Ordering::Relaxed) != full {
            tracing::warn!(full, "free space crossed the mark below which writes are refused");
        }
        for replica in replicas.all() {
            let damaged = replica.state.health().is_damaged();
            let stopped = replica.stopped();
            if damaged || stopped.is_some() {
                let shard = replica.shard();
                tracing::error!(shard = shard.0, damaged, stopped, "a replica is taken out of service");
                drop(replica);
                replicas.broken.lock().unwrap_or_else(PoisonError::into_inner).insert(shard, damaged);
                replicas.close(shard).await;
            }
        }
        let broken = replicas.broken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (shard, damaged) in broken {
            match mend(&replicas, shard, damaged).await {
                Ok(()) => {
                    replicas.broken.lock().unwrap_or_else(PoisonError::into_inner).remove(&shard);
                }
                Err(error) => replicas.failed(shard, &error),
            }
        }
    }
}

/// Opens a replica again. A damaged one is first thrown away, if its peers are well without it, for they have what it
/// lacks; otherwise its data stays.
async fn mend(replicas: &Arc<Replicas>, shard: ShardId, damaged: bool) -> Result<(), Error> {
    if !damaged {
        replicas.open(shard).await?;
        return Ok(());
    }
    if let Some(id) = replicas.stored_id(shard)? {
        let frame = || Frame::request(shard.0, 0, Kind::MayLeave, id.encode());
        let links: Vec<_> = replicas.links.all().cloned().collect();
        let answers = links.iter().map(|link| link.call(frame(), ASK_WITHIN));
        if !futures::future::join_all(answers).await.iter().any(Result::is_ok) {
            return Err(Error::Damaged(
                "no leader says that the shard is well without this replica; it is kept".into(),
            ));
        }
    }
    replicas.discard(shard).await?;
    replicas.open(shard).await?;
    Ok(())
}
