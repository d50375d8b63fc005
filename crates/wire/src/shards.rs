//! How a frontend reaches a shard: one trait; the local replica and the peer link implement it, simulations too.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use kindred_core::command::{Aggregate, Answer, Committed, Query, Submission};
use kindred_core::id::{ClusterId, RegionIndex, ShardId};
use kindred_core::map::ShardMap;

/// A boxed future, so that the trait can be an object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a shard gave no answer. Never a statement about a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// Not proposed; nothing happened; try again after this many ms.
    #[error("the shard is unavailable; retry in {retry_after_ms} ms")]
    Unavailable {
        /// Hint.
        retry_after_ms: u64,
    },
    /// The queue is full or the request waited too long; not proposed.
    #[error("the shard is overloaded; retry in {retry_after_ms} ms")]
    Overloaded {
        /// Hint.
        retry_after_ms: u64,
    },
    /// It may or may not have been committed; the same request id tells.
    #[error("the outcome is unknown; ask again with the same request id")]
    OutcomeUnknown,
    /// Writes are refused for lack of space.
    #[error("the shard's disk is full")]
    DiskFull,
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// Through a read index at the leader.
    Linearizable,
    /// Whatever the nearest replica has, with its age.
    Local,
}

/// An answer and how old it may be.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The answer.
    pub answer: Answer,
    /// 0 for linearizable; for local, ms since the replica last heard from a leader that had nothing newer.
    pub age_ms: u64,
    /// Shard time of the state read.
    pub shard_time_ms: u64,
    /// Log index up to which that state is applied.
    pub applied_index: u64,
}

/// Access to every shard of the cluster from one node.
pub trait Shards: Send + Sync + 'static {
    /// The cluster; none before this node belongs to one, and then no shard answers either.
    fn cluster(&self) -> Option<ClusterId>;
    /// The map in force.
    fn map(&self) -> Arc<ShardMap>;
    /// This node's region.
    fn region(&self) -> RegionIndex;
    /// Verifies at the leader, proposes, and waits for the decision. Forwards once at most.
    fn submit(&self, shard: ShardId, submission: Submission) -> BoxFuture<'_, Result<Committed, ShardError>>;
    /// Reads.
    fn query(
        &self,
        shard: ShardId,
        query: Query,
        consistency: Consistency,
    ) -> BoxFuture<'_, Result<Observed, ShardError>>;
    /// Completes when the aggregate may have changed since this call was made, or after `timeout_ms`. A hint: look again
    /// after it either way. Subscribe (call) before reading to miss nothing.
    fn changed(&self, shard: ShardId, aggregate: Aggregate, timeout_ms: u64) -> BoxFuture<'static, ()>;
}

/// Named points of the saga at which a test may hold it (shared/protocol.md). The default does nothing.
pub trait Points: Send + Sync + 'static {
    /// Completes at once unless a test has armed `point` for `account`.
    fn reach(
        &self,
        point: &'static str,
        account: &kindred_core::id::AccountId,
        log_index: u64,
    ) -> BoxFuture<'static, ()>;

    /// Whether any point is armed: where it costs something to know whose point was reached, that is asked first.
    fn is_armed(&self) -> bool {
        false
    }
}

/// No point is ever armed.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPoints;

impl Points for NoPoints {
    fn reach(&self, _: &'static str, _: &kindred_core::id::AccountId, _: u64) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}
