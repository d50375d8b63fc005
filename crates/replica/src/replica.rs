//! One replica: its Raft, its state, and what a leader does with submissions and reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kindred_core::admit::admit;
use kindred_core::canonical::TicketKey;
use kindred_core::command::{Committed, Envelope, Query, Submission};
use kindred_core::env::Env;
use kindred_core::id::{ClusterId, RegionIndex, ShardId};
use kindred_core::limits::{PROPOSALS_QUEUED_MAX, PROPOSE_WITHIN_MS_MAX};
use kindred_core::query::answer;
use kindred_wire::shards::{Observed, ShardError};
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{Instant as _, ReadPolicy};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::freshness::Freshness;
use crate::log_store::LogStore;
use crate::proposer::{Proposal, Proposer};
use crate::snapshot::Receiver;
use crate::state::State;
use crate::types::{Raft, Types};

/// A proposed command that is not decided after this long has an unknown outcome for its caller.
const DECIDE_WITHIN: Duration = Duration::from_secs(5);
/// A read index that a quorum has not confirmed after this long is given up.
const READ_WITHIN: Duration = Duration::from_secs(2);
/// A voter that acknowledged a heartbeat within this time may be given leadership.
const ALIVE_WITHIN: Duration = Duration::from_secs(1);
/// A voter this many entries behind, at most, may be given leadership.
const BEHIND_MAX: u64 = 16;
/// Hint for callers while a shard has no leader.
pub const NO_LEADER_RETRY_MS: u64 = 150;

/// Why a replica did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It does not lead; nothing happened. Names who leads, if known.
    NotLeader(Option<String>),
    /// Anything else.
    Shard(ShardError),
}

impl From<ShardError> for Refusal {
    fn from(error: ShardError) -> Self {
        Self::Shard(error)
    }
}

/// One replica of one shard.
pub struct Replica {
    /// Its random id; never reused.
    pub id: u64,
    /// Its consensus.
    pub raft: Raft,
    /// Its state.
    pub state: Arc<State>,
    /// What it knows of how old its state is.
    pub freshness: Freshness,
    /// Where snapshots from other replicas arrive.
    pub receiver: Receiver,
    home: Option<RegionIndex>,
    stepping_down: AtomicBool,
    cluster: ClusterId,
    ticket_key: Option<TicketKey>,
    env: Env,
    proposals: mpsc::Sender<Proposal>,
    proposer: tokio::task::JoinHandle<()>,
}

/// What a replica is made of.
pub struct Parts {
    /// Its id.
    pub id: u64,
    /// The shard's home; none for the directory.
    pub home: Option<RegionIndex>,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The ticket key of its region, if this node may have it.
    pub ticket_key: Option<TicketKey>,
    /// Time and chance.
    pub env: Env,
    /// Its log.
    pub log: LogStore,
    /// Its state.
    pub state: Arc<State>,
}

impl Replica {
    /// Starts it over its stored log and state.
    pub async fn start(
        parts: Parts,
        config: Arc<openraft::Config>,
        network: crate::network::Network,
    ) -> Result<Self, crate::error::Error> {
        let machine = crate::machine::Machine::new(parts.state.clone());
        let started = Raft::new(parts.id, config, network, parts.log, machine).await;
        let raft: Raft = started.map_err(|error| crate::error::Error::Raft(error.to_string()))?;
        let (proposals, queue) = mpsc::channel(PROPOSALS_QUEUED_MAX);
        let proposer = Proposer::new(raft.clone(), parts.state.clone(), parts.env.clone());
        Ok(Self {
            id: parts.id,
            raft,
            freshness: Freshness::new(parts.env.clone()),
            receiver: Receiver::default(),
            home: parts.home,
            stepping_down: AtomicBool::new(false),
            cluster: parts.cluster,
            ticket_key: parts.ticket_key,
            env: parts.env,
            state: parts.state,
            proposals,
            proposer: tokio::spawn(proposer.run(queue)),
        })
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.state.shard
    }

    /// Name of the node that leads the shard, as far as this replica knows.
    pub fn leader(&self) -> Option<String> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics.current_leader?;
        metrics.membership_config.membership().get_node(&leader).map(|member| member.name.clone())
    }

    /// True while this replica believes that it leads.
    pub fn leads(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.current_leader == Some(self.id) && metrics.state.is_leader()
    }

    fn not_leader(&self) -> Refusal {
        Refusal::NotLeader(self.leader())
    }

    /// Verifies, proposes, and waits for the decision.
    pub async fn submit(&self, submission: Submission) -> Result<Committed, Refusal> {
        if !self.leads() {
            return Err(self.not_leader());
        }
        let within = Duration::from_millis(submission.propose_within_ms.min(PROPOSE_WITHIN_MS_MAX));
        let deadline = Instant::now() + within;
        let envelope = match self.admit(&submission)? {
            Ok(envelope) => envelope,
            Err(kept) if kept.log_index > 0 => return Ok(kept),
            Err(_) => {
                // What was refused was refused on what is applied here; make sure that this is the present.
                self.confirm().await?;
                match self.admit(&submission)? {
                    Ok(envelope) => envelope,
                    Err(committed) => return Ok(committed),
                }
            }
        };
        self.propose(envelope, deadline).await
    }

    fn admit(&self, submission: &Submission) -> Result<Result<Envelope, Committed>, Refusal> {
        let admitted = self.state.read(|view, live| {
            admit(view, &self.cluster, self.ticket_key.as_ref(), self.state.estimate(live), submission)
        });
        admitted.map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &kindred_core::state::ReadError) -> Refusal {
        tracing::error!(shard = self.shard().0, %error, "a record cannot be read");
        self.state.report_damage();
        ShardError::Unavailable { retry_after_ms: 1_000 }.into()
    }

    /// Proposes a verified command and waits for its decision.
    pub async fn propose(&self, envelope: Envelope, deadline: Instant) -> Result<Committed, Refusal> {
        let (reply, decided) = oneshot::channel();
        let proposal = Proposal { envelope, deadline, reply };
        if self.proposals.try_send(proposal).is_err() {
            metrics::counter!(crate::metrics::PROPOSALS_SHED).increment(1);
            return Err(ShardError::Overloaded { retry_after_ms: 100 }.into());
        }
        let wait = deadline.saturating_duration_since(Instant::now()) + DECIDE_WITHIN;
        match timeout(wait, decided).await {
            Ok(Ok(result)) => result,
            // The proposer is gone with it, or has not answered: it may be in the log.
            Ok(Err(_)) | Err(_) => Err(ShardError::OutcomeUnknown.into()),
        }
    }

    /// Confirms by a read index that this replica leads and has applied all that was decided before.
    pub async fn confirm(&self) -> Result<(), Refusal> {
        let confirmed = timeout(READ_WITHIN, async {
            let linearizer = self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await?;
            Ok(linearizer.await_ready(&self.raft).await)
        });
        match confirmed.await {
            Ok(Ok(Ok(_))) => Ok(()),
            Ok(Err(error)) => {
                let error: RaftError<Types, openraft::errors::LinearizableReadError<Types>> = error;
                match error.forward_to_leader() {
                    Some(_) => Err(self.not_leader()),
                    None => Err(ShardError::Unavailable { retry_after_ms: NO_LEADER_RETRY_MS }.into()),
                }
            }
            Ok(Ok(Err(_))) | Err(_) => Err(ShardError::Unavailable { retry_after_ms: NO_LEADER_RETRY_MS }.into()),
        }
    }

    /// A read that sees everything decided before it was asked. Leader only.
    pub async fn query_linearizable(&self, query: &Query) -> Result<Observed, Refusal> {
        if !self.leads() {
            return Err(self.not_leader());
        }
        self.confirm().await?;
        self.look(query, 0)
    }

    /// A read of what this replica has, with its age.
    pub fn query_local(&self, query: &Query) -> Result<Observed, Refusal> {
        let Some(age_ms) = self.age_ms() else {
            return Err(ShardError::Unavailable { retry_after_ms: NO_LEADER_RETRY_MS }.into());
        };
        self.look(query, age_ms)
    }

    fn look(&self, query: &Query, age_ms: u64) -> Result<Observed, Refusal> {
        let looked = self.state.read(|view, live| {
            let now_ms = self.state.estimate(live);
            let answer = answer(view, self.ticket_key.as_ref(), now_ms, query)?;
            let applied_index = live.applied.map_or(0, |id| id.index);
            Ok(Observed { answer, age_ms, shard_time_ms: now_ms, applied_index })
        });
        looked.map_err(|error| self.unreadable(&error))
    }

    /// How old the state may be; none if this replica has never heard from a leader since it started.
    fn age_ms(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let acked = {
            let metrics = metrics.borrow_watched();
            if metrics.current_leader == Some(self.id) { metrics.last_quorum_acked } else { None }
        };
        match acked {
            Some(acked) => {
                let age = (*acked).elapsed();
                Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
            }
            None => self.freshness.age_ms(self.state.applied_index()),
        }
    }

    /// This node's monotonic clock.
    pub fn monotonic_ms(&self) -> u64 {
        self.env.clock.monotonic_ms()
    }

    /// True once this node gives leadership away and takes none.
    pub fn is_stepping_down(&self) -> bool {
        self.stepping_down.load(Ordering::Relaxed)
    }

    /// Gives leadership to a voter in the shard's home region, if there is one that is alive and not behind.
    pub async fn prefer_home(&self) {
        let Some(home) = self.home else { return };
        let target = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let membership = metrics.membership_config.membership();
            let at_home = |id: &u64| membership.get_node(id).is_some_and(|member| member.region == home.0);
            if !metrics.state.is_leader() || at_home(&self.id) {
                return;
            }
            let acked = |id: &u64| {
                let at = metrics.heartbeat.as_ref().and_then(|acked| acked.get(id).copied().flatten());
                at.is_some_and(|at| (*at).elapsed() < ALIVE_WITHIN)
            };
            let matched = |id: &u64| {
                let matched = metrics.replication.as_ref().and_then(|progress| progress.get(id).copied().flatten());
                matched.map_or(0, |id| id.index) + BEHIND_MAX >= metrics.last_log_index.unwrap_or(0)
            };
            membership.voter_ids().find(|id| at_home(id) && acked(id) && matched(id))
        };
        if let Some(target) = target {
            tracing::info!(shard = self.shard().0, replica = target, "giving leadership to the home region");
            let _ = self.raft.trigger().transfer_leader(target).await;
        }
    }

    /// Hands leadership to the voter that is furthest along; true once another replica leads, or if this one did not.
    pub async fn hand_over(&self, within: Duration) -> bool {
        self.stepping_down.store(true, Ordering::Relaxed);
        self.raft.runtime_config().elect(false);
        if !self.leads() {
            return true;
        }
        let target = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let voters: std::collections::BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
            let progress = metrics.replication.iter().flatten();
            let others = progress.filter(|(id, _)| **id != self.id && voters.contains(id));
            others.max_by_key(|(_, matched)| **matched).map(|(id, _)| *id)
        };
        let Some(target) = target else { return false };
        if self.raft.trigger().transfer_leader(target).await.is_err() {
            return false;
        }
        let mut metrics = self.raft.metrics();
        let handed_over = async {
            while metrics.borrow_watched().current_leader.is_none_or(|leader| leader == self.id) {
                if metrics.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        timeout(within, handed_over).await.unwrap_or(false)
    }

    /// Stops it; its log and state stay.
    pub async fn stop(&self) {
        self.proposer.abort();
        let _ = self.raft.shutdown().await;
    }
}

/// What became of a proposed entry, for each of its commands.
pub fn write_refusal(error: &RaftError<Types, ClientWriteError<Types>>) -> Refusal {
    match error {
        // openraft's word that the entry was not appended.
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            Refusal::NotLeader(forward.leader_node.as_ref().map(|member| member.name.clone()))
        }
        _ => ShardError::OutcomeUnknown.into(),
    }
}
