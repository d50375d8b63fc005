//! How an empty node gets its replicas: the founder forms a cluster of empty nodes; anybody else who is empty joins the
//! cluster that its peers are in.
//!
//! **Invariant:** only the node with the lowest configured name forms a cluster, and only when every configured peer has
//! answered that it is empty. A founder that dies half-way goes on where it was: its cluster id is durable before it is
//! told to anybody. (A founder whose *directory* is lost half-way leaves peers that belong to a cluster that never came
//! to be; they hold no data, and the operator wipes them.)

use std::collections::{BTreeMap, BTreeSet};
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
use crate::replica::Replica;
use crate::types::Member;

/// Between attempts of anything here.
const PAUSE: Duration = Duration::from_millis(200);
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// A new replica is first filled, which takes as long as its shard is large; what is not done is asked for again.
const FILL_WITHIN: Duration = Duration::from_secs(20);
/// A change of membership takes two entries.
const CHANGE_WITHIN: Duration = Duration::from_secs(10);
const JOIN_WITHIN: Duration = Duration::from_secs(35);
/// A learner this many entries behind may become a voter.
const CAUGHT_UP_WITHIN: u64 = 64;
/// How often a replica that has its place looks whether it still has it.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

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
pub(crate) struct Ids(pub(crate) BTreeMap<u32, u64>);

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
pub(crate) struct Formed {
    pub(crate) member: Member,
    pub(crate) ids: Ids,
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
    pub(crate) async fn serve_join(&self, shard: ShardId, caller: &str, payload: Bytes) -> Result<Bytes, Failed> {
        let mut input = payload;
        let (id, member) = (u64::take(&mut input)?, Member::take(&mut input)?);
        if member.name != caller || !self.knows(caller) {
            return Err(Failure::Refused.into());
        }
        let replica = self.replica(shard).ok_or_else(|| Failed::from(Failure::NoReplica))?;
        if !replica.leads() {
            return Err(crate::replica::Refusal::NotLeader(replica.leader()).into());
        }
        match Place::of(&replica, id, &member.name) {
            Place::Taken => return Ok(Bytes::new()),
            // A change that its leader did not finish; the same one again brings it to its end.
            Place::Unsettled => tracing::info!(shard = shard.0, "finishing a change of membership"),
            Place::Open => {
                tracing::info!(shard = shard.0, node = member.name, replica = id, "taking in a new replica");
                let added = replica.raft.add_learner(id, member.clone(), false).await;
                added.map_err(|error| not_yet(&replica, &member.name, &error.to_string()))?;
                if !caught_up(&replica, id).await {
                    return Err(not_yet(&replica, &member.name, "it is still being filled"));
                }
            }
        }
        change(&replica, &member.name, next_voters(&replica, id, &member.name)).await?;
        Ok(Bytes::new())
    }
}

/// Where a replica stands in its shard's membership.
enum Place {
    /// It is a voter, in a membership that is committed, not in the middle of a change, and has nothing else of its node.
    Taken,
    /// It is a voter of a membership that is not so.
    Unsettled,
    /// It is no voter.
    Open,
}

impl Place {
    fn of(replica: &Replica, id: u64, name: &str) -> Self {
        let metrics = replica.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        if !membership.voter_ids().any(|voter| voter == id) {
            return Self::Open;
        }
        let is_uniform = membership.get_joint_config().len() == 1;
        let is_committed = metrics.committed_membership_config == metrics.membership_config;
        let is_alone = membership.nodes().filter(|(_, member)| member.name == name).count() == 1;
        if is_uniform && is_committed && is_alone { Self::Taken } else { Self::Unsettled }
    }
}

/// True if the replica is a voter of a settled membership.
pub fn has_place(replica: &Replica, name: &str) -> bool {
    matches!(Place::of(replica, replica.id, name), Place::Taken)
}

/// The voters, with `id` in the place of whatever else its node had.
fn next_voters(replica: &Replica, id: u64, name: &str) -> BTreeSet<u64> {
    let metrics = replica.raft.metrics();
    let metrics = metrics.borrow_watched();
    let membership = metrics.membership_config.membership();
    let is_others = |voter: &u64| membership.get_node(voter).is_some_and(|member| member.name != name);
    membership.voter_ids().filter(is_others).chain([id]).collect()
}

/// Makes these the voters; whoever else there is, learners included, goes.
async fn change(replica: &Replica, name: &str, voters: BTreeSet<u64>) -> Result<(), Failed> {
    let changed = tokio::time::timeout(CHANGE_WITHIN, replica.raft.change_membership(voters, false)).await;
    match changed {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(not_yet(replica, name, &error.to_string())),
        Err(_) => Err(not_yet(replica, name, "the change takes too long")),
    }
}

/// Waits until the learner has nearly all that the leader has.
async fn caught_up(replica: &Replica, id: u64) -> bool {
    let mut metrics = replica.raft.metrics();
    let caught_up = async {
        loop {
            {
                let now = metrics.borrow_watched();
                let matched = now.replication.as_ref().and_then(|progress| progress.get(&id).copied().flatten());
                if matched.is_some_and(|id| id.index + CAUGHT_UP_WITHIN >= now.last_log_index.unwrap_or(0)) {
                    return true;
                }
                if !now.state.is_leader() {
                    return false;
                }
            }
            if metrics.changed().await.is_err() {
                return false;
            }
        }
    };
    tokio::time::timeout(FILL_WITHIN, caught_up).await.unwrap_or(false)
}

fn not_yet(replica: &Replica, name: &str, why: &str) -> Failed {
    tracing::info!(shard = replica.shard().0, node = name, why, "a replica could not be taken in yet");
    Failure::Unavailable.into()
}

/// Sees to it that this node's replica is a voter of the shard, for as long as the node runs: a membership that was seen
/// and not committed may go again, and a rebuilt replica has a new id.
pub async fn join(replicas: Arc<Replicas>, shard: ShardId) {
    loop {
        let pause = match try_join(&replicas, shard).await {
            Ok(true) => LOOK_AGAIN,
            Ok(false) => PAUSE,
            Err(error) => {
                tracing::debug!(shard = shard.0, %error, "the replica cannot be opened");
                LOOK_AGAIN
            }
        };
        sleep(pause).await;
    }
}

async fn try_join(replicas: &Arc<Replicas>, shard: ShardId) -> Result<bool, Error> {
    // A replica that was closed is the supervisor's; one that never was is made here.
    if replicas.is_broken(shard) {
        return Ok(false);
    }
    let replica = replicas.open(shard).await?;
    let name = &replicas.identity().name;
    if has_place(&replica, name) {
        return Ok(true);
    }
    let mut payload = BytesMut::new();
    replica.id.put(&mut payload);
    replicas.member().put(&mut payload);
    let payload = payload.freeze();
    if replica.leads() {
        return Ok(replicas.serve_join(shard, name, payload).await.is_ok());
    }
    // Whoever leads answers; the others say at once that they do not.
    for link in replicas.links.all() {
        let frame = Frame::request(shard.0, 0, Kind::Join, payload.clone());
        if link.call(frame, JOIN_WITHIN).await.is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}
