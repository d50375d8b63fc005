//! The answering side of the peer protocol: sorts the frames of one stream, and answers each.
//!
//! Appends to one replica stay in order; everything else is answered as it is done. The answer stream is returned at
//! once, before any frame has come (architecture.md §4, the stuck follower).

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use kindred_core::id::ShardId;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, TransferLeaderRequest, VoteRequest,
};
use tokio::sync::{Semaphore, mpsc};
use tonic::{Request, Response, Status, Streaming};

use crate::codec::{Appended, Compact, put_appended, put_transferred};
use crate::frames::proto::peer_server;
use crate::frames::{FRAMES_QUEUED_MAX, Failed, Failure, Frame, Frames, Hello, Kind, pack};
use crate::host::Replicas;
use crate::replica::Replica;
use crate::types::{LogId, Types, log_id};

/// Requests of one peer that are worked on at once.
const UNDER_WAY_MAX: usize = 4_096;
/// Appends of one replica that wait.
const APPENDS_QUEUED_MAX: usize = 64;

type Append = AppendEntriesRequest<Types>;

/// Serves the peer protocol.
pub struct PeerService(Arc<Replicas>);

impl PeerService {
    /// For this node.
    pub fn new(replicas: Arc<Replicas>) -> Self {
        Self(replicas)
    }
}

#[tonic::async_trait]
impl peer_server::Peer for PeerService {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<Frames, Status>> + Send>>;

    async fn exchange(&self, request: Request<Streaming<Frames>>) -> Result<Response<Self::ExchangeStream>, Status> {
        let (answers, queue) = mpsc::channel(FRAMES_QUEUED_MAX);
        let exchange = Exchange {
            replicas: self.0.clone(),
            answers,
            appends: BTreeMap::new(),
            under_way: Arc::new(Semaphore::new(UNDER_WAY_MAX)),
        };
        tokio::spawn(exchange.run(request.into_inner()));
        Ok(Response::new(Box::pin(pack(queue).map(Ok))))
    }
}

/// One stream of a peer.
struct Exchange {
    replicas: Arc<Replicas>,
    answers: mpsc::Sender<Frame>,
    appends: BTreeMap<(u32, u64), mpsc::Sender<(Frame, Append)>>,
    under_way: Arc<Semaphore>,
}

impl Exchange {
    async fn run(mut self, mut incoming: Streaming<Frames>) {
        let mut greeted = false;
        let mut stopping = self.replicas.stopping();
        loop {
            let message = tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => return,
                message = incoming.message() => message,
            };
            let Ok(Some(frames)) = message else { return };
            for frame in frames.frames {
                if !greeted {
                    if !self.greet(&frame).await {
                        return;
                    }
                    greeted = true;
                    continue;
                }
                self.take(frame).await;
            }
        }
    }

    /// The first frame says who calls; a node of another cluster is told no more.
    async fn greet(&self, frame: &Frame) -> bool {
        let hello = Hello::decode(frame.payload.clone());
        let welcome = frame.kind() == Kind::Hello
            && hello.is_ok_and(|hello| self.replicas.identity().compatible(&hello) && self.replicas.knows(&hello.name));
        let answer = if welcome { Ok(self.replicas.identity().hello().encode()) } else { Err(Failure::Refused.into()) };
        self.answers.send(frame.answer(answer)).await.is_ok() && welcome
    }

    async fn take(&mut self, frame: Frame) {
        match frame.kind() {
            Kind::Append => self.append(frame).await,
            Kind::Ping | Kind::Hello => {
                let hello = self.replicas.identity().hello().encode();
                let _ = self.answers.send(frame.answer(Ok(hello))).await;
            }
            _ => {
                let Ok(permit) = self.under_way.clone().try_acquire_owned() else {
                    let _ = self.answers.send(frame.answer(Err(Failure::Overloaded.into()))).await;
                    return;
                };
                let (replicas, answers) = (self.replicas.clone(), self.answers.clone());
                tokio::spawn(async move {
                    let result = answer(&replicas, &frame).await;
                    let _ = answers.send(frame.answer(result)).await;
                    drop(permit);
                });
            }
        }
    }

    /// Hands an append to its replica's pipeline, in order of arrival.
    async fn append(&mut self, frame: Frame) {
        let Ok(request) = Append::decode(frame.payload.clone()) else {
            let _ = self.answers.send(frame.answer(Err(Failure::Refused.into()))).await;
            return;
        };
        let Some(replica) = replica_for(&self.replicas, &frame) else {
            let _ = self.answers.send(frame.answer(Err(Failure::NoReplica.into()))).await;
            return;
        };
        let key = (frame.shard, frame.replica);
        let mut item = (frame.head(), request);
        loop {
            let queue = self.appends.entry(key).or_insert_with(|| self::append(replica.clone(), self.answers.clone()));
            match queue.send(item).await {
                Ok(()) => return,
                // That pipeline ended with an error; the next one takes over.
                Err(mpsc::error::SendError(returned)) => item = returned,
            }
            self.appends.remove(&key);
        }
    }
}

/// A pipeline of appends into one replica, until openraft ends it or nobody sends any more.
fn append(replica: Arc<Replica>, answers: mpsc::Sender<Frame>) -> mpsc::Sender<(Frame, Append)> {
    let (queue, mut requests) = mpsc::channel::<(Frame, Append)>(APPENDS_QUEUED_MAX);
    tokio::spawn(async move {
        let waiting: Arc<Mutex<VecDeque<(Frame, u64)>>> = Arc::default();
        let asked = waiting.clone();
        let input = futures::stream::poll_fn(move |cx| {
            requests.poll_recv(cx).map(|item| {
                let (frame, request) = item?;
                let commit = request.leader_commit.map_or(0, |id| id.index);
                asked.lock().unwrap_or_else(PoisonError::into_inner).push_back((frame, commit));
                Some(request)
            })
        });
        let mut results = Box::pin(replica.raft.stream_append(input));
        while let Some(result) = results.next().await {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((frame, commit)) = next else { return };
            let result = match result {
                Ok(appended) => {
                    note(&replica, &appended, commit);
                    Ok(put_appended(&appended))
                }
                Err(_) => Err(Failure::Unavailable.into()),
            };
            if answers.send(frame.answer(result)).await.is_err() {
                return;
            }
        }
    });
    queue
}

/// One append's answer in the words of a stream, from the log ids before and at the end of what was sent.
fn appended(response: AppendEntriesResponse<Types>, (before, last): (Option<LogId>, Option<LogId>)) -> Appended {
    match response {
        AppendEntriesResponse::Success => Ok(last),
        AppendEntriesResponse::PartialSuccess(last) => Ok(last),
        AppendEntriesResponse::Conflict => Err(StreamAppendError::Conflict(before.unwrap_or_else(|| log_id(0, 0)))),
        AppendEntriesResponse::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote)),
    }
}

/// Whoever refuses a leader has not heard from one.
fn note(replica: &Replica, appended: &Appended, commit: u64) {
    if appended.is_ok() {
        replica.freshness.heard(commit, replica.state.applied_index());
    }
}

fn replica_for(replicas: &Replicas, frame: &Frame) -> Option<Arc<Replica>> {
    replicas.replica(ShardId(frame.shard)).filter(|replica| frame.replica == replica.id)
}

/// Answers a request that needs no order.
async fn answer(replicas: &Arc<Replicas>, frame: &Frame) -> Result<Bytes, Failed> {
    let payload = frame.payload.clone();
    match frame.kind() {
        Kind::Submit => return replicas.serve_submit(ShardId(frame.shard), payload).await,
        Kind::Query => return replicas.serve_query(ShardId(frame.shard), payload).await,
        Kind::Join => return replicas.serve_join(ShardId(frame.shard), payload).await,
        Kind::Form => return replicas.serve_form(payload).await,
        _ => {}
    }
    let replica = replica_for(replicas, frame).ok_or_else(|| Failed::from(Failure::NoReplica))?;
    let stopped = |_| Failed::from(Failure::Unavailable);
    match frame.kind() {
        Kind::Heartbeat => {
            let request = Append::decode(payload)?;
            let commit = request.leader_commit.map_or(0, |id| id.index);
            let ends = (request.prev_log_id, request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id));
            let appended = appended(replica.raft.append_entries(request).await.map_err(stopped)?, ends);
            note(&replica, &appended, commit);
            Ok(put_appended(&appended))
        }
        Kind::Vote => Ok(replica.raft.vote(VoteRequest::decode(payload)?).await.map_err(stopped)?.encode()),
        Kind::PreVote => Ok(replica.raft.pre_vote(VoteRequest::decode(payload)?).await.map_err(stopped)?.encode()),
        Kind::TransferLeader if replica.is_stepping_down() => Err(Failure::Unavailable.into()),
        Kind::TransferLeader => {
            let request = TransferLeaderRequest::decode(payload)?;
            let transferred = replica.raft.handle_transfer_leader(request).await;
            Ok(put_transferred(&transferred.map_err(|_| Failed::from(Failure::Unavailable))?))
        }
        Kind::Snapshot => replica.receiver.receive(payload, &replica.state, &replica.raft).await,
        _ => Err(Failure::Refused.into()),
    }
}
