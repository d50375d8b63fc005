//! openraft's network over the peer links.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use openraft::async_runtime::WatchReceiver as _;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{Instant as _, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use tokio::time::{Instant, sleep, timeout_at};

use crate::codec::{Appended, Compact, Malformed, take_appended, take_transferred};
use crate::frames::{Frame, Kind};
use crate::link::{Call, CallError, ERROR_DELAY, Link, Links};
use crate::snapshot::{SnapshotData, send_snapshot};
use crate::types::{Member, Raft, Types, Vote};

type Rpc = RPCError<Types>;

/// Appends under way to one follower at once.
const APPENDS_IN_FLIGHT_MAX: usize = 32;
/// An append may take this long at least: an idle stream must not time out (architecture.md §4, the stuck follower).
const APPEND_TIMEOUT_MIN: Duration = Duration::from_millis(500);

/// Makes the clients of one shard's replica.
pub struct Network {
    /// The peers.
    pub links: Arc<Links>,
    /// The shard.
    pub shard: u32,
    /// The replica itself, once it runs: followers are told how old their leader's knowledge is.
    pub raft: Arc<OnceLock<Raft>>,
}

/// Stands for "a quorum has never answered this leader".
const NEVER_MS: u32 = u32::MAX;

/// Time since a quorum last acknowledged this leader, in ms; none if it does not lead, or never was acknowledged.
pub fn leader_age_ms(raft: &Raft) -> Option<u64> {
    let acked = raft.metrics().borrow_watched().last_quorum_acked;
    acked.map(|at| u64::try_from((*at).elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// An append as it travels: the leader's age (4), then the request.
fn with_age(raft: &OnceLock<Raft>, request: &AppendEntriesRequest<Types>) -> Bytes {
    let age_ms = raft.get().and_then(leader_age_ms).map_or(NEVER_MS, |ms| u32::try_from(ms).unwrap_or(NEVER_MS));
    let mut out = BytesMut::new();
    age_ms.put(&mut out);
    request.put(&mut out);
    out.freeze()
}

/// Reads what [`with_age`] wrote. No age if the leader does not know, or if what it has committed is of an earlier term:
/// then it may not know yet what was acknowledged before it.
pub fn take_append(mut payload: Bytes) -> Result<(AppendEntriesRequest<Types>, Option<u64>), Malformed> {
    let age_ms = u32::take(&mut payload)?;
    let request = AppendEntriesRequest::decode(payload)?;
    let current = request.leader_commit.is_some_and(|id| id.leader_id.term == request.vote.leader_id.term);
    let age_ms = (age_ms != NEVER_MS && current).then_some(u64::from(age_ms));
    Ok((request, age_ms))
}

/// One replica of the shard, as seen from another.
pub struct Target {
    link: Option<Arc<Link>>,
    shard: u32,
    replica: u64,
    append: Kind,
    raft: Arc<OnceLock<Raft>>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Target;

    async fn new_client(&mut self, target: u64, node: &Member) -> Target {
        let link = self.links.get(&node.name).cloned();
        Target { link, shard: self.shard, replica: target, append: Kind::Append, raft: self.raft.clone() }
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Target {
        Target { append: Kind::Heartbeat, ..self.new_client(target, node).await }
    }
}

/// In openraft's words: nothing is known of an unreachable target, so it backs off.
pub fn unreachable(error: &CallError) -> Unreachable<Types> {
    Unreachable::new(error)
}

fn rpc(error: &CallError) -> Rpc {
    match error {
        CallError::NotSent | CallError::Failed(_) => RPCError::Unreachable(unreachable(error)),
        CallError::Lost | CallError::Timeout => RPCError::Network(NetworkError::new(error)),
    }
}

fn malformed(error: Malformed) -> Rpc {
    RPCError::Network(NetworkError::new(&error))
}

impl Target {
    async fn call(&self, kind: Kind, payload: Bytes, within: Duration) -> Result<Bytes, CallError> {
        let Some(link) = &self.link else {
            sleep(ERROR_DELAY).await;
            return Err(CallError::NotSent);
        };
        let result = link.call(Frame::request(self.shard, self.replica, kind, payload), within).await;
        if matches!(result, Err(CallError::Failed(_))) {
            // The peer is up but will not have it; whoever asks again at once must not spin.
            sleep(ERROR_DELAY).await;
        }
        result
    }

    async fn send(&self, request: &AppendEntriesRequest<Types>) -> Result<Call, CallError> {
        let link = self.link.as_ref().ok_or(CallError::NotSent)?;
        link.send(Frame::request(self.shard, self.replica, self.append, with_age(&self.raft, request))).await
    }

    async fn ballot(
        &self,
        kind: Kind,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, Rpc> {
        let bytes = self.call(kind, request.encode(), option.hard_ttl()).await.map_err(|e| rpc(&e))?;
        VoteResponse::decode(bytes).map_err(malformed)
    }
}

/// A pipelined append stream: requests go out as the input yields them, answers come back in the same order.
struct Pipeline<'a, S> {
    target: &'a Target,
    input: S,
    /// The input has ended, or an error has ended the stream.
    closed: bool,
    in_flight: VecDeque<(Call, Instant)>,
    within: Duration,
}

impl<S: Stream<Item = AppendEntriesRequest<Types>> + Unpin> Pipeline<'_, S> {
    async fn next(&mut self) -> Option<Result<Appended, Rpc>> {
        loop {
            let room = !self.closed && self.in_flight.len() < APPENDS_IN_FLIGHT_MAX;
            let request = match self.in_flight.front_mut() {
                None if self.closed => return None,
                None => self.input.next().await,
                Some((call, deadline)) => tokio::select! {
                    biased;
                    answer = timeout_at(*deadline, call) => {
                        self.in_flight.pop_front();
                        let answer = match answer {
                            Ok(Ok(frame)) => frame.result().map_err(CallError::Failed),
                            Ok(Err(error)) => Err(error),
                            Err(_) => Err(CallError::Timeout),
                        };
                        return Some(self.answered(answer).await);
                    }
                    request = self.input.next(), if room => request,
                },
            };
            let Some(request) = request else {
                self.closed = true;
                continue;
            };
            match self.target.send(&request).await {
                Ok(call) => self.in_flight.push_back((call, Instant::now() + self.within)),
                Err(error) => return Some(self.answered(Err(error)).await),
            }
        }
    }

    /// Anything but progress ends the stream, an error after a pause: openraft comes again at once.
    async fn answered(&mut self, answer: Result<Bytes, CallError>) -> Result<Appended, Rpc> {
        let result = match answer {
            Ok(bytes) => take_appended(bytes).map_err(malformed),
            Err(error) => Err(rpc(&error)),
        };
        if !matches!(result, Ok(Ok(_))) {
            self.closed = true;
            self.in_flight.clear();
        }
        if result.is_err() {
            sleep(ERROR_DELAY).await;
        }
        result
    }
}

impl RaftNetworkV2<Types> for Target {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, Rpc> {
        let within = option.hard_ttl().max(APPEND_TIMEOUT_MIN);
        let bytes = self.call(self.append, with_age(&self.raft, &request), within).await.map_err(|e| rpc(&e))?;
        take_appended(bytes).map(AppendEntriesResponse::from).map_err(malformed)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<Appended, Rpc>>, Rpc>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let pipeline = Pipeline {
            target: self,
            input,
            closed: false,
            in_flight: VecDeque::new(),
            within: option.hard_ttl().max(APPEND_TIMEOUT_MIN),
        };
        let answers = futures::stream::unfold(pipeline, |mut pipeline| async move {
            pipeline.next().await.map(|answer| (answer, pipeline))
        });
        Box::pin(std::future::ready(Ok(Box::pin(answers) as BoxStream<'s, _>)))
    }

    async fn vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, Rpc> {
        self.ballot(Kind::Vote, request, option).await
    }

    async fn pre_vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, Rpc> {
        self.ballot(Kind::PreVote, request, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::type_config::alias::SnapshotOf<Types, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let Some(link) = self.link.clone() else {
            sleep(ERROR_DELAY).await;
            return Err(StreamingError::Unreachable(unreachable(&CallError::NotSent)));
        };
        let sending = send_snapshot(link, (self.shard, self.replica), vote, snapshot);
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            result = sending => result.map(SnapshotResponse::new),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, Rpc> {
        let call = self.call(Kind::TransferLeader, request.encode(), option.hard_ttl());
        take_transferred(call.await.map_err(|e| rpc(&e))?).map_err(malformed)
    }
}
