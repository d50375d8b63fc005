//! How an empty node gets its replicas: the founder forms a cluster of empty nodes; anybody else who is empty joins the
//! cluster that its peers are in.
//!
//! **Invariant:** only the node with the lowest configured name forms a cluster, and only when every configured peer has
//! answered that it is empty. A founder that dies half-way goes on where it was: its cluster id is durable before it is
//! told to anybody. (A founder whose *directory* is lost half-way leaves peers that belong to a cluster that never came
//! to be; they hold no data, and the operator wipes them.)

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kindred_core::id::{ClusterId, ShardId};
use kindred_wire::shards::Shards as _;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{InitializeError, RaftError};
use tokio::time::sleep;

use crate::codec::{Compact, Malformed};
use crate::error::Error;
use crate::frames::{Failed, Failure, Frame, Hello, Kind};
use crate::host::Replicas;
use crate::identity::Belonging;
use crate::link::{CallError, Link};
use crate::types::Member;

/// Between attempts of anything here.
const PAUSE: Duration = Duration::from_millis(200);
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// A new replica is first filled, which takes as long as its shard is large.
const JOIN_WITHIN: Duration = Duration::from_secs(120);

/// Brings an empty node into a cluster; then sees to it that each of its replicas is a member of its shard.
pub async fn run(replicas: Arc<Replicas>) {
    loop {
        let belonging = replicas.identity().belonging();
        let step = match belonging {
            Belonging { cluster: Some(_), founding: false } => break,
            Belonging { cluster: Some(cluster), founding: true } => form(&replicas, cluster).await,
            Belonging { cluster: None, .. } => find_cluster(&replicas).await,
        };
        if let Err(error) = step {
            tracing::debug!(%error, "no cluster yet");
            sleep(PAUSE).await;
        }
    }
    let joins = replicas.map().shards().into_iter().map(|(shard, _)| join(replicas.clone(), shard));
    futures::future::join_all(joins).await;
}

/// A peer that does not help now.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error("node {0}: {1}")]
    Peer(String, CallError),
    #[error("node {0} gave an answer that cannot be read")]
    Malformed(String),
    #[error("not all peers are empty, and none belongs to a cluster that is ready")]
    Mixed,
    #[error(transparent)]
    Replica(#[from] Error),
}

async fn ask(link: &Arc<Link>, kind: Kind, payload: Bytes) -> Result<Bytes, NotYet> {
    let answer = link.call(Frame::to_node(kind, payload), ASK_WITHIN).await;
    answer.map_err(|error| NotYet::Peer(link.name().to_owned(), error))
}

/// Adopts the cluster of a peer, or, if all are empty and this node is the founder, starts one.
async fn find_cluster(replicas: &Arc<Replicas>) -> Result<(), NotYet> {
    let engine = replicas.engine.as_ref();
    let mut empty = 0;
    let mut failed = None;
    for link in replicas.links.all() {
        // Asked anew: what a peer said when it connected may be old.
        let hello = match ask(link, Kind::Ping, Bytes::new()).await {
            Ok(answer) => Hello::decode(answer).map_err(|_| NotYet::Malformed(link.name().to_owned()))?,
            Err(error) => {
                failed = Some(error);
                continue;
            }
        };
        match hello.cluster {
            Some(cluster) => {
                replicas.identity().belong(engine, Belonging { cluster: Some(cluster), founding: false })?;
                tracing::info!(%cluster, "joining the cluster of node {}", hello.name);
                return Ok(());
            }
            None => empty += 1,
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let founder = replicas.book.keys().next() == Some(&replicas.identity().name);
    if !founder || empty + 1 != replicas.book.len() {
        return Err(NotYet::Mixed);
    }
    let cluster = ClusterId(replicas.env().random());
    replicas.identity().belong(engine, Belonging { cluster: Some(cluster), founding: true })?;
    tracing::info!(%cluster, "founding a cluster");
    Ok(())
}

/// A node's replica ids by shard.
struct Ids(BTreeMap<u32, u64>);

impl Compact for Ids {
    fn put(&self, out: &mut BytesMut) {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX).put(out);
        for (shard, replica) in &self.0 {
            shard.put(out);
            replica.put(out);
        }
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        (0..u32::take(input)?).map(|_| Ok((u32::take(input)?, u64::take(input)?))).collect::<Result<_, _>>().map(Self)
    }
}

/// Has every node make its replicas, then initialises every shard with them.
async fn form(replicas: &Arc<Replicas>, cluster: ClusterId) -> Result<(), NotYet> {
    let mut members: BTreeMap<u32, BTreeMap<u64, Member>> = BTreeMap::new();
    let mut add = |ids: Ids, member: Member| {
        for (shard, replica) in ids.0 {
            members.entry(shard).or_default().insert(replica, member.clone());
        }
    };
    for link in replicas.links.all() {
        let answer = ask(link, Kind::Form, cluster.encode()).await?;
        let formed = Formed::decode(answer).map_err(|_| NotYet::Malformed(link.name().to_owned()))?;
        add(formed.ids, formed.member);
    }
    add(open_all(replicas).await?, replicas.member());
    for (shard, members) in members {
        let replica = replicas.open(ShardId(shard)).await?;
        match replica.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => return Err(Error::Raft(error.to_string()).into()),
        }
    }
    replicas.identity().belong(replicas.engine.as_ref(), Belonging { cluster: Some(cluster), founding: false })?;
    Ok(())
}

async fn open_all(replicas: &Arc<Replicas>) -> Result<Ids, Error> {
    let mut ids = BTreeMap::new();
    for (shard, _) in replicas.map().shards() {
        ids.insert(shard.0, replicas.open(shard).await?.id);
    }
    Ok(Ids(ids))
}

/// A node's answer to FORM.
struct Formed {
    member: Member,
    ids: Ids,
}

impl Compact for Formed {
    fn put(&self, out: &mut BytesMut) {
        self.member.put(out);
        self.ids.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        Ok(Self { member: Member::take(input)?, ids: Ids::take(input)? })
    }
}

impl Replicas {
    /// FORM: this node belongs to the cluster from now on, and has a replica of every shard.
    pub(crate) async fn serve_form(self: &Arc<Self>, payload: Bytes) -> Result<Bytes, Failed> {
        let cluster = ClusterId::decode(payload)?;
        let to = Belonging { cluster: Some(cluster), founding: false };
        self.identity().belong(self.engine.as_ref(), to).map_err(|_| Failed::from(Failure::Refused))?;
        match open_all(self).await {
            Ok(ids) => Ok(Formed { member: self.member(), ids }.encode()),
            Err(error) => {
                tracing::error!(%error, "the replicas of a new cluster cannot be opened");
                Err(Failure::Unavailable.into())
            }
        }
    }

    /// JOIN, at the leader: the asking replica takes the place of its node's earlier one.
    pub(crate) async fn serve_join(&self, shard: ShardId, payload: Bytes) -> Result<Bytes, Failed> {
        let mut input = payload;
        let (id, member) = (u64::take(&mut input)?, Member::take(&mut input)?);
        if !self.knows(&member.name) {
            return Err(Failure::Refused.into());
        }
        let replica = self.replica(shard).ok_or_else(|| Failed::from(Failure::NoReplica))?;
        if !replica.leads() {
            return Err(crate::replica::Refusal::NotLeader(replica.leader()).into());
        }
        let voters = || {
            let metrics = replica.raft.metrics();
            let metrics = metrics.borrow_watched();
            let membership = metrics.membership_config.membership();
            let named = membership.voter_ids().filter_map(|id| Some((id, membership.get_node(&id)?.name.clone())));
            named.collect::<BTreeMap<u64, String>>()
        };
        if voters().contains_key(&id) {
            return Ok(Bytes::new());
        }
        let failed = |error: String| {
            tracing::info!(shard = shard.0, node = member.name, error, "a replica could not be taken in yet");
            Failed::from(Failure::Unavailable)
        };
        tracing::info!(shard = shard.0, node = member.name, replica = id, "taking in a new replica");
        replica.raft.add_learner(id, member.clone(), true).await.map_err(|error| failed(error.to_string()))?;
        let stay = voters().into_iter().filter(|(_, name)| *name != member.name).map(|(id, _)| id);
        let next: std::collections::BTreeSet<u64> = stay.chain([id]).collect();
        replica.raft.change_membership(next, false).await.map_err(|error| failed(error.to_string()))?;
        Ok(Bytes::new())
    }
}

/// Asks until this node's replica is a voter of the shard.
pub async fn join(replicas: Arc<Replicas>, shard: ShardId) {
    loop {
        match try_join(&replicas, shard).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::warn!(shard = shard.0, %error, "the replica cannot be opened"),
        }
        sleep(PAUSE).await;
    }
}

async fn try_join(replicas: &Arc<Replicas>, shard: ShardId) -> Result<bool, Error> {
    let replica = replicas.open(shard).await?;
    let is_voter = {
        let metrics = replica.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.voter_ids().any(|id| id == replica.id)
    };
    if is_voter {
        return Ok(true);
    }
    let mut payload = BytesMut::new();
    replica.id.put(&mut payload);
    replicas.member().put(&mut payload);
    let payload = payload.freeze();
    // Whoever leads answers; the others say at once that they do not.
    for link in replicas.links.all() {
        let frame = Frame::request(shard.0, 0, Kind::Join, payload.clone());
        if link.call(frame, JOIN_WITHIN).await.is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}
