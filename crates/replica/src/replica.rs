//! One replica: its Raft, its state, and what a leader does with submissions and reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kindred_core::admit::{Gate, admit};
use kindred_core::canonical::TicketKey;
use kindred_core::command::{Committed, Envelope, Query, Submission};
use kindred_core::env::Env;
use kindred_core::id::{ClusterId, RegionIndex, ShardId};
use kindred_core::limits::{PROPOSALS_QUEUED_MAX, PROPOSE_WITHIN_MS_MAX};
use kindred_core::model::Rejection;
use kindred_core::query::answer;
use kindred_core::state::ReadError;
use kindred_wire::shards::{Observed, ShardError};
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{Instant as _, ReadPolicy};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::frames::{Frame, Kind};
use crate::freshness::Freshness;
use crate::link::Links;
use crate::log_store::LogStore;
use crate::network::leader_age_ms;
use crate::proposer::{Proposal, Proposer};
use crate::snapshot::Receiver;
use crate::state::State;
use crate::types::{Member, Raft, Types};

/// A proposed command that is not decided after this long has an unknown outcome for its caller.
const DECIDE_WITHIN: Duration = Duration::from_secs(5);
/// A read index that a quorum has not confirmed after this long is given up.
const READ_WITHIN: Duration = Duration::from_secs(2);
/// A voter that acknowledged a heartbeat within this time may be given leadership.
const ALIVE_WITHIN: Duration = Duration::from_secs(1);
/// A replica whose state may be older than this is out of touch; several elections fit in.
const IN_TOUCH_MS: u64 = 5_000;
/// A voter is asked for so long whether it would lead.
const ASK_WITHIN: Duration = Duration::from_millis(500);
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
    full: Arc<AtomicBool>,
    proposals: mpsc::Sender<Proposal>,
    proposer: tokio::task::JoinHandle<()>,
    #[cfg(kindred_mutants)]
    confirmed: std::sync::Mutex<Option<Instant>>,
}

/// A voter, as the leader sees it.
struct Candidate {
    id: u64,
    member: Member,
    matched: u64,
    is_fit: bool,
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
    /// Raised while the node's disk has too little space for writes.
    pub full: Arc<AtomicBool>,
}

impl Replica {
    /// Starts it over its stored log and state.
    pub async fn start(
        parts: Parts,
        config: Arc<openraft::Config>,
        network: crate::network::Network,
    ) -> Result<Self, crate::error::Error> {
        let machine = crate::machine::Machine::new(parts.state.clone());
        let itself = network.raft.clone();
        let started = Raft::new(parts.id, config, network, parts.log, machine).await;
        let raft: Raft = started.map_err(|error| crate::error::Error::Raft(error.to_string()))?;
        let _ = itself.set(raft.clone());
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
            full: parts.full,
            state: parts.state,
            proposals,
            proposer: tokio::spawn(proposer.run(queue)),
            #[cfg(kindred_mutants)]
            confirmed: std::sync::Mutex::default(),
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
        if metrics.running_state.is_err() {
            return None;
        }
        let leader = metrics.current_leader?;
        metrics.membership_config.membership().get_node(&leader).map(|member| member.name.clone())
    }

    /// True while this replica believes that it leads.
    pub fn leads(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.running_state.is_ok() && metrics.current_leader == Some(self.id) && metrics.state.is_leader()
    }

    /// Why it stopped; none while it runs.
    pub fn stopped(&self) -> Option<String> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.running_state.as_ref().err().map(ToString::to_string)
    }

    fn not_leader(&self) -> Refusal {
        Refusal::NotLeader(self.leader())
    }

    /// Verifies, proposes, and waits for the decision.
    pub async fn submit(&self, submission: Submission) -> Result<Committed, Refusal> {
        if !self.leads() {
            return Err(self.not_leader());
        }
        // Without the region's key nobody here can tell whether a nonce is good; another replica can.
        if self.ticket_key.is_none() && submission.proof.is_some() {
            return Err(ShardError::Unavailable { retry_after_ms: NO_LEADER_RETRY_MS }.into());
        }
        let within = Duration::from_millis(submission.propose_within_ms.min(PROPOSE_WITHIN_MS_MAX));
        let deadline = Instant::now() + within;
        let envelope = match self.admit(&submission)? {
            Ok(envelope) => envelope,
            Err(kept) if kept.log_index > 0 => return Ok(kept),
            // It decides nothing, and whoever sends the same again with a good nonce is answered from the present state.
            Err(stale) if matches!(stale.reply, Err(Rejection::NonceStale { .. })) => return Ok(stale),
            Err(_) => {
                // What was refused was refused on what is applied here; make sure that this is the present.
                self.confirm().await?;
                match self.admit(&submission)? {
                    Ok(envelope) => envelope,
                    Err(committed) => return Ok(committed),
                }
            }
        };
        let committed = self.propose(envelope, deadline).await?;
        let nonce = self.gate(committed.shard_time_ms).next_nonce(&submission);
        Ok(Committed { nonce, ..committed })
    }

    fn gate(&self, now_ms: u64) -> Gate<'_> {
        Gate { cluster: &self.cluster, shard: self.shard(), ticket_key: self.ticket_key.as_ref(), now_ms }
    }

    fn admit(&self, submission: &Submission) -> Result<Result<Envelope, Committed>, Refusal> {
        let admitted = self.state.read(|view, live| admit(view, &self.gate(self.state.estimate(live)), submission));
        self.readable(admitted)
    }

    /// What was read; nothing, and a note of why, if it could not be.
    pub fn noted<T>(&self, read: Result<T, ReadError>) -> Option<T> {
        match read {
            Ok(read) => Some(read),
            Err(error) => {
                tracing::error!(shard = self.shard().0, %error, "a record cannot be read");
                self.state.health().note(&error.into());
                None
            }
        }
    }

    fn readable<T>(&self, read: Result<T, ReadError>) -> Result<T, Refusal> {
        self.noted(read).ok_or_else(|| ShardError::Unavailable { retry_after_ms: 1_000 }.into())
    }

    /// Proposes a verified command and waits for its decision.
    pub async fn propose(&self, envelope: Envelope, deadline: Instant) -> Result<Committed, Refusal> {
        if self.full.load(Ordering::Relaxed) {
            return Err(ShardError::DiskFull.into());
        }
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
        #[cfg(kindred_mutants)]
        if self.is_confirmed_by_mistake() {
            return Ok(());
        }
        let confirmed = timeout(READ_WITHIN, async {
            let linearizer = self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await?;
            Ok(linearizer.await_ready(&self.raft).await)
        });
        match confirmed.await {
            Ok(Ok(Ok(_))) => {
                #[cfg(kindred_mutants)]
                self.confirmed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).replace(Instant::now());
                Ok(())
            }
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

    #[cfg(kindred_mutants)]
    fn is_confirmed_by_mistake(&self) -> bool {
        let before = *self.confirmed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_recent = before.is_some_and(|at| at.elapsed() < Duration::from_secs(5));
        let trusts = kindred_core::mutants::is("read-from-role")
            || (kindred_core::mutants::is("read-index-reused") && is_recent);
        trusts && self.leads()
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
        self.readable(looked)
    }

    /// How old the state may be; none if this replica has never heard from a leader since it started.
    fn age_ms(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let leads_and_applied = {
            let metrics = metrics.borrow_watched();
            let committed = metrics.local_committed.map_or(0, |id| id.index);
            metrics.current_leader == Some(self.id) && self.state.applied_index() >= committed
        };
        match leads_and_applied {
            true => leader_age_ms(&self.raft),
            false => self.freshness.age_ms(self.state.applied_index()),
        }
    }

    /// True if a leader with a quorum was heard of lately.
    pub fn is_in_touch(&self) -> bool {
        self.age_ms().is_some_and(|age_ms| age_ms < IN_TOUCH_MS)
    }

    /// True once this node gives leadership away and takes none.
    pub fn is_stepping_down(&self) -> bool {
        self.stepping_down.load(Ordering::Relaxed)
    }

    /// Gives leadership to a voter in the shard's home region, if there is one that is alive, not behind, and willing.
    pub async fn prefer_home(&self, links: &Links) {
        let Some(home) = self.home else { return };
        let candidates = self.candidates();
        if !self.leads() || candidates.iter().any(|c| c.id == self.id && c.member.region == home.0) {
            return;
        }
        let at_home = candidates.into_iter().filter(|c| c.id != self.id && c.member.region == home.0 && c.is_fit);
        for candidate in at_home {
            if self.would_lead(links, &candidate).await {
                tracing::info!(
                    shard = self.shard().0,
                    to = candidate.member.name,
                    "giving leadership to the home region"
                );
                let _ = self.raft.trigger().transfer_leader(candidate.id).await;
                return;
            }
        }
    }

    /// All voters, as the leader sees them.
    fn candidates(&self) -> Vec<Candidate> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let candidate = |id: u64| {
            let acked = metrics.heartbeat.as_ref().and_then(|acked| acked.get(&id).copied().flatten());
            let matched = metrics.replication.as_ref().and_then(|progress| progress.get(&id).copied().flatten());
            let matched = matched.map_or(0, |id| id.index);
            let is_alive = acked.is_some_and(|at| (*at).elapsed() < ALIVE_WITHIN);
            let is_fit = is_alive && matched + BEHIND_MAX >= metrics.last_log_index.unwrap_or(0);
            Some(Candidate { id, member: membership.get_node(&id)?.clone(), matched, is_fit })
        };
        membership.voter_ids().filter_map(candidate).collect()
    }

    /// openraft cannot take a transfer back: a leader whose successor refuses leads nothing until it is deposed. So the
    /// successor is asked first.
    async fn would_lead(&self, links: &Links, candidate: &Candidate) -> bool {
        let Some(link) = links.get(&candidate.member.name) else { return false };
        let frame = Frame::request(self.shard().0, candidate.id, Kind::WouldLead, bytes::Bytes::new());
        link.call(frame, ASK_WITHIN).await.is_ok()
    }

    /// True if a majority of the voters, this leader among them, is alive and not behind without that replica.
    pub fn is_well_without(&self, id: u64) -> bool {
        let candidates = self.candidates();
        let voters = candidates.iter().filter(|c| c.id != id).count() + 1;
        let fit = candidates.iter().filter(|c| c.id != id && (c.is_fit || c.id == self.id)).count();
        self.leads() && id != self.id && fit > voters / 2
    }

    /// Hands leadership to a voter that is alive and willing, one at home if there is one; true once another replica
    /// leads, or if this one did not.
    pub async fn hand_over(&self, links: &Links, within: Duration) -> bool {
        self.stepping_down.store(true, Ordering::Relaxed);
        self.raft.runtime_config().elect(false);
        if !self.leads() {
            return true;
        }
        let mut others: Vec<_> = self.candidates().into_iter().filter(|c| c.id != self.id && c.is_fit).collect();
        let is_home = |c: &Candidate| self.home.is_some_and(|home| c.member.region == home.0);
        others.sort_by_key(|c| std::cmp::Reverse((is_home(c), c.matched)));
        for candidate in others {
            if self.would_lead(links, &candidate).await
                && self.raft.trigger().transfer_leader(candidate.id).await.is_ok()
            {
                return self.is_led_by_another(within).await;
            }
        }
        false
    }

    async fn is_led_by_another(&self, within: Duration) -> bool {
        let mut metrics = self.raft.metrics();
        let led = async {
            while metrics.borrow_watched().current_leader.is_none_or(|leader| leader == self.id) {
                if metrics.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        timeout(within, led).await.unwrap_or(false)
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
