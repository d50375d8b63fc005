//! The write path of a leader: whatever has queued goes into one entry, encoded once; one entry in flight per shard, so
//! batches fill by themselves.

use std::sync::Arc;

use kindred_core::command::{Command, Committed, Entry, Envelope};
use kindred_core::env::Env;
use kindred_core::limits::{ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX};
use kindred_store::codec::encode_entry;
use kindred_wire::shards::ShardError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::points::{ANSWERED, PROPOSED};
use crate::replica::{NO_LEADER_RETRY_MS, Refusal, write_refusal};
use crate::state::State;
use crate::types::{Data, Raft};

/// A verified command that waits for its turn.
pub struct Proposal {
    /// The command.
    pub envelope: Envelope,
    /// Dropped unproposed after this.
    pub deadline: Instant,
    /// Who waits.
    pub reply: oneshot::Sender<Result<Committed, Refusal>>,
}

/// Proposes for one replica.
pub struct Proposer {
    raft: Raft,
    state: Arc<State>,
    env: Env,
    /// Term and monotonic time of the latest entry that this replica proposed.
    previous: Option<(u64, u64)>,
    #[cfg(kindred_mutants)]
    previous_wall_ms: Option<u64>,
}

impl Proposer {
    /// For this replica.
    pub fn new(raft: Raft, state: Arc<State>, env: Env) -> Self {
        Self {
            raft,
            state,
            env,
            previous: None,
            #[cfg(kindred_mutants)]
            previous_wall_ms: None,
        }
    }

    /// Runs until the queue is closed.
    pub async fn run(mut self, mut queue: mpsc::Receiver<Proposal>) {
        let mut waiting = None;
        loop {
            let first = match waiting.take() {
                Some(first) => first,
                None => match queue.recv().await {
                    Some(first) => first,
                    None => return,
                },
            };
            let (batch, left_over) = fill(first, &mut queue);
            waiting = left_over;
            self.propose(batch).await;
        }
    }

    async fn propose(&mut self, batch: Vec<Proposal>) {
        let now = Instant::now();
        let (mut envelopes, mut waiting) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for Proposal { envelope, deadline, reply } in batch {
            if deadline < now {
                let late = ShardError::Unavailable { retry_after_ms: NO_LEADER_RETRY_MS };
                let _ = reply.send(Err(late.into()));
            } else if !reply.is_closed() {
                envelopes.push(envelope);
                waiting.push(reply);
            }
        }
        if envelopes.is_empty() {
            return;
        }
        metrics::histogram!(crate::metrics::ENTRY_COMMANDS)
            .record(f64::from(u32::try_from(envelopes.len()).unwrap_or(u32::MAX)));
        let links = self.state.points().linked(&envelopes);
        self.state.points().reach(PROPOSED, &links, 0).await;
        let Some(entry) = self.stamp(envelopes) else {
            waiting.into_iter().for_each(|reply| {
                let _ = reply.send(Err(Refusal::NotLeader(None)));
            });
            return;
        };
        let started_ms = self.env.clock.monotonic_ms();
        let written = self.raft.client_write(Data(encode_entry(&entry))).await;
        let took_ms = self.env.clock.monotonic_ms().saturating_sub(started_ms);
        metrics::histogram!(crate::metrics::PROPOSAL_SECONDS)
            .record(f64::from(u32::try_from(took_ms).unwrap_or(u32::MAX)) / 1_000.0);
        match written {
            Ok(response) => {
                let shard_time_ms = response.data.time_ms;
                for (reply, (outcome, log_index)) in waiting.into_iter().zip(response.data.replies) {
                    let committed = Committed { reply: outcome, log_index, shard_time_ms, nonce: Vec::new() };
                    let _ = reply.send(Ok(committed));
                }
                self.state.points().reach(ANSWERED, &links, response.log_id.index).await;
            }
            Err(error) => {
                tracing::debug!(shard = self.state.shard.0, %error, "an entry was not decided here");
                let refusal = write_refusal(&error);
                waiting.into_iter().for_each(|reply| {
                    let _ = reply.send(Err(refusal.clone()));
                });
            }
        }
    }

    /// The entry with the leader's time and entropy; `None` if this replica does not lead. Time counts from the previous
    /// entry of the same leadership, so that time without a leader counts for nothing (I18).
    fn stamp(&mut self, commands: Vec<Envelope>) -> Option<Entry> {
        let term = self.raft.as_leader().ok()?.term();
        let now_ms = self.env.clock.monotonic_ms();
        let elapsed_ms = match self.previous {
            Some((before, at_ms)) if before == term => now_ms.saturating_sub(at_ms),
            _ => 0,
        };
        #[cfg(kindred_mutants)]
        let elapsed_ms = match self.previous_wall_ms.replace(self.env.clock.wall_ms()) {
            Some(before_ms) if kindred_core::mutants::is("apply-uncapped-wall") => {
                self.env.clock.wall_ms().saturating_sub(before_ms)
            }
            _ => elapsed_ms,
        };
        self.previous = Some((term, now_ms));
        Some(Entry { elapsed_ms, wall_ms: self.env.clock.wall_ms(), entropy: self.env.random(), commands })
    }
}

/// What has queued, up to the bounds of one entry; the proposal that no longer fits is next.
fn fill(first: Proposal, queue: &mut mpsc::Receiver<Proposal>) -> (Vec<Proposal>, Option<Proposal>) {
    let mut bytes = weight(&first.envelope);
    let mut batch = vec![first];
    while batch.len() < ENTRY_COMMANDS_MAX {
        let Ok(next) = queue.try_recv() else { break };
        bytes += weight(&next.envelope);
        if bytes > ENTRY_BYTES_MAX {
            return (batch, Some(next));
        }
        batch.push(next);
    }
    (batch, None)
}

/// An upper estimate of the encoded size.
fn weight(envelope: &Envelope) -> usize {
    const PLAIN: usize = 4 * 1024;
    match &envelope.command {
        Command::Approve { envelope, .. } => PLAIN + envelope.len(),
        Command::Expire { tickets } => PLAIN + 20 * tickets.len(),
        Command::Install { bundle, .. } => bundle.weight(),
        _ => PLAIN,
    }
}
