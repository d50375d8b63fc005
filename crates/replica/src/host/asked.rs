//! How shards are asked: here where this node leads them, else once at the leader that it knows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kindred_core::command::{Aggregate, Committed, Query, Submission};
use kindred_core::id::{ClusterId, RegionIndex, ShardId};
use kindred_core::map::ShardMap;
use kindred_store::codec::{
    self, decode_committed, decode_observed, decode_query, decode_submission, encode_committed, encode_observed,
    encode_query, encode_submission,
};
use kindred_wire::shards::{BoxFuture, Consistency, Observed, ShardError, Shards};

use crate::codec::Compact as _;
use crate::frames::{Failed, Failure, Frame, Kind};
use crate::host::Replicas;
use crate::link::CallError;
use crate::replica::{NO_LEADER_RETRY_MS, Refusal};

/// A forwarded submission may take this long, queueing and deciding included.
const FORWARD_SUBMIT_WITHIN: Duration = Duration::from_secs(12);
/// A forwarded read may take this long.
const FORWARD_QUERY_WITHIN: Duration = Duration::from_secs(3);

impl Replicas {
    pub(crate) async fn serve_submit(&self, shard: ShardId, payload: Bytes) -> Result<Bytes, Failed> {
        let submission = decode_submission(&payload).map_err(|_| Failed::from(Failure::Refused))?;
        let replica = self.replica(shard).ok_or_else(|| Failed::from(Failure::NoReplica))?;
        Ok(encode_committed(&replica.submit(submission).await?))
    }

    pub(crate) async fn serve_query(&self, shard: ShardId, payload: Bytes) -> Result<Bytes, Failed> {
        let query = decode_query(&payload).map_err(|_| Failed::from(Failure::Refused))?;
        let replica = self.replica(shard).ok_or_else(|| Failed::from(Failure::NoReplica))?;
        let Observed { answer, age_ms, shard_time_ms, applied_index } = replica.query_linearizable(&query).await?;
        Ok(encode_observed(&codec::Observed { answer, age_ms, shard_time_ms, applied_index }))
    }

    /// MAY_LEAVE, at the leader: whether the shard can do without that replica.
    pub(crate) async fn serve_may_leave(&self, shard: ShardId, payload: Bytes) -> Result<Bytes, Failed> {
        let id = u64::decode(payload)?;
        let replica = self.replica(shard).ok_or_else(|| Failed::from(Failure::NoReplica))?;
        replica.confirm().await?;
        if replica.is_well_without(id) { Ok(Bytes::new()) } else { Err(Failure::Unavailable.into()) }
    }

    async fn submit_here_or_there(&self, shard: ShardId, submission: Submission) -> Result<Committed, ShardError> {
        let here = match self.replica(shard) {
            Some(replica) if replica.leads() => replica.submit(submission.clone()).await,
            Some(replica) => Err(Refusal::NotLeader(replica.leader())),
            None => Err(Refusal::NotLeader(None)),
        };
        let leader = match here {
            Ok(committed) => return Ok(committed),
            Err(Refusal::Shard(error)) => return Err(error),
            Err(Refusal::NotLeader(leader)) => leader,
        };
        let payload = self.forward(shard, leader, Kind::Submit, encode_submission(&submission)).await?;
        // It was decided; what cannot be read is asked again under the same request id.
        decode_committed(&payload).map_err(|_| ShardError::OutcomeUnknown)
    }

    async fn query_here_or_there(&self, shard: ShardId, query: &Query) -> Result<Observed, ShardError> {
        let here = match self.replica(shard) {
            Some(replica) => replica.query_linearizable(query).await,
            None => Err(Refusal::NotLeader(None)),
        };
        let leader = match here {
            Ok(observed) => return Ok(observed),
            Err(Refusal::Shard(error)) => return Err(error),
            Err(Refusal::NotLeader(leader)) => leader,
        };
        let forwarded = self.forward(shard, leader, Kind::Query, encode_query(query)).await;
        #[cfg(kindred_mutants)]
        if let (Err(_), true, Some(replica)) =
            (&forwarded, kindred_core::mutants::is("read-falls-back-to-local"), self.replica(shard))
            && let Ok(seen) = replica.query_local(query)
        {
            return Ok(seen);
        }
        let unavailable = ShardError::Unavailable { retry_after_ms: NO_LEADER_RETRY_MS };
        // A read that got lost may simply be asked again.
        let payload = forwarded.map_err(|error| match error {
            ShardError::OutcomeUnknown => unavailable,
            error => error,
        })?;
        let codec::Observed { answer, age_ms, shard_time_ms, applied_index } =
            decode_observed(&payload).map_err(|_| unavailable)?;
        #[cfg(kindred_mutants)]
        if let Some(replica) = self.replica(shard) {
            replica.state.remember_by_mistake(&answer);
        }
        Ok(Observed { answer, age_ms, shard_time_ms, applied_index })
    }

    /// One forward to the leader that we know of; no second one.
    async fn forward(
        &self,
        shard: ShardId,
        leader: Option<String>,
        kind: Kind,
        payload: Bytes,
    ) -> Result<Bytes, ShardError> {
        let unavailable = ShardError::Unavailable { retry_after_ms: NO_LEADER_RETRY_MS };
        let link = leader.and_then(|name| self.links.get(&name).cloned()).ok_or(unavailable)?;
        let within = if kind == Kind::Submit { FORWARD_SUBMIT_WITHIN } else { FORWARD_QUERY_WITHIN };
        let answered = link.call(Frame::request(shard.0, 0, kind, payload), within).await;
        answered.map_err(|error| match error {
            CallError::NotSent => unavailable,
            CallError::Lost | CallError::Timeout => ShardError::OutcomeUnknown,
            CallError::Failed(failed) => match failed.failure {
                Failure::Unknown => ShardError::OutcomeUnknown,
                Failure::Overloaded => ShardError::Overloaded { retry_after_ms: 100 },
                Failure::DiskFull => ShardError::DiskFull,
                _ => unavailable,
            },
        })
    }
}
impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotLeader(leader) => {
                let detail = leader.map(|name| name.encode()).unwrap_or_default();
                Self { failure: Failure::NotLeader, detail }
            }
            Refusal::Shard(ShardError::Unavailable { .. }) => Failure::Unavailable.into(),
            Refusal::Shard(ShardError::Overloaded { .. }) => Failure::Overloaded.into(),
            Refusal::Shard(ShardError::OutcomeUnknown) => Failure::Unknown.into(),
            Refusal::Shard(ShardError::DiskFull) => Failure::DiskFull.into(),
        }
    }
}

impl Shards for Replicas {
    fn cluster(&self) -> Option<ClusterId> {
        self.identity.cluster()
    }

    fn map(&self) -> Arc<ShardMap> {
        self.map.clone()
    }

    fn region(&self) -> RegionIndex {
        self.region
    }

    fn submit(&self, shard: ShardId, submission: Submission) -> BoxFuture<'_, Result<Committed, ShardError>> {
        Box::pin(self.submit_here_or_there(shard, submission))
    }

    fn query(
        &self,
        shard: ShardId,
        query: Query,
        consistency: Consistency,
    ) -> BoxFuture<'_, Result<Observed, ShardError>> {
        Box::pin(async move {
            let local = match (consistency, self.replica(shard)) {
                (Consistency::Local, Some(replica)) => replica.query_local(&query).ok(),
                _ => None,
            };
            match local {
                Some(observed) => Ok(observed),
                None => self.query_here_or_there(shard, &query).await,
            }
        })
    }

    fn changed(&self, shard: ShardId, aggregate: Aggregate, timeout_ms: u64) -> BoxFuture<'static, ()> {
        let watching = self.replica(shard).map(|replica| replica.state.watch(aggregate));
        Box::pin(async move {
            let changed = async {
                match watching {
                    Some(mut watching) => watching.changed().await,
                    None => std::future::pending().await,
                }
            };
            let _ = tokio::time::timeout(Duration::from_millis(timeout_ms), changed).await;
        })
    }
}
