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
use kindred_wire::caller::{Caller, Role};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, TransferLeaderRequest, VoteRequest,
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tonic::{Request, Response, Status, Streaming};

use crate::codec::{Appended, Compact, put_appended, put_transferred};
use crate::frames::proto::peer_server;
use crate::frames::{FRAMES_QUEUED_MAX, Failed, Failure, Frame, Frames, Hello, Kind, pack};
use crate::host::Replicas;
use crate::network::take_append;
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
        let caller = request.extensions().get::<Caller>().filter(|caller| caller.role == Role::Node).cloned();
        let caller = caller.ok_or_else(|| Status::permission_denied("only nodes call this"))?;
        let (answers, queue) = mpsc::channel(FRAMES_QUEUED_MAX);
        let exchange = Exchange {
            replicas: self.0.clone(),
            certified: caller,
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
    /// Who the connection is from.
    certified: Caller,
    answers: mpsc::Sender<Frame>,
    appends: BTreeMap<(u32, u64), mpsc::Sender<Arrived>>,
    under_way: Arc<Semaphore>,
}

impl Exchange {
    async fn run(mut self, mut incoming: Streaming<Frames>) {
        let mut greeted: Option<Hello> = None;
        let mut stopping = self.replicas.stopping();
        loop {
            let message = tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => return,
                message = incoming.message() => message,
            };
            let Ok(Some(frames)) = message else { return };
            for frame in frames.frames {
                let Some(caller) = greeted.clone() else {
                    greeted = self.greet(&frame).await;
                    if greeted.is_none() {
                        return;
                    }
                    continue;
                };
                if frame.kind() == Kind::Ping
                    && let Ok(hello) = Hello::decode(frame.payload.clone())
                    && hello.name == caller.name
                    && self.replicas.identity().compatible(&hello)
                {
                    // It has come to belong to a cluster since it connected.
                    greeted = Some(hello);
                }
                if self.may(&caller, &frame) {
                    self.take(&caller, frame).await;
                } else {
                    self.refuse(&frame, Failure::Refused).await;
                }
            }
        }
    }

    /// The first frame says who calls; a node of another cluster, or of another name than its certificate's, is told no
    /// more.
    async fn greet(&self, frame: &Frame) -> Option<Hello> {
        let identity = self.replicas.identity();
        let hello = Hello::decode(frame.payload.clone()).ok();
        let known = |hello: &Hello| {
            identity.compatible(hello) && self.replicas.knows(&hello.name) && self.certified.may_be(&hello.name)
        };
        let welcome = hello.filter(|hello| frame.kind() == Kind::Hello && known(hello));
        let answer = welcome.as_ref().map(|_| identity.hello().encode()).ok_or_else(|| Failure::Refused.into());
        self.answers.send(frame.answer(answer)).await.ok()?;
        welcome
    }

    /// A node that is of no cluster yet may ask how we are, and have us take part in one; nothing else.
    fn may(&self, caller: &Hello, frame: &Frame) -> bool {
        match frame.kind() {
            Kind::Hello | Kind::Ping | Kind::Form => self.replicas.identity().compatible(caller),
            _ => caller.cluster.is_some() && caller.cluster == self.replicas.identity().cluster(),
        }
    }

    async fn refuse(&self, frame: &Frame, failure: Failure) {
        let _ = self.answers.send(frame.answer(Err(failure.into()))).await;
    }

    async fn take(&mut self, caller: &Hello, frame: Frame) {
        match frame.kind() {
            Kind::Append => self.append(frame).await,
            Kind::Ping | Kind::Hello => {
                let hello = self.replicas.identity().hello().encode();
                let _ = self.answers.send(frame.answer(Ok(hello))).await;
            }
            _ => {
                let Ok(permit) = self.under_way.clone().try_acquire_owned() else {
                    return self.refuse(&frame, Failure::Overloaded).await;
                };
                let (replicas, answers, name) = (self.replicas.clone(), self.answers.clone(), caller.name.clone());
                tokio::spawn(async move {
                    let result = answer(&replicas, &name, &frame).await;
                    let _ = answers.send(frame.answer(result)).await;
                    drop(permit);
                });
            }
        }
    }

    /// Hands an append to its replica's pipeline, in order of arrival.
    async fn append(&mut self, frame: Frame) {
        let Ok((request, leader_age_ms)) = take_append(frame.payload.clone()) else {
            return self.refuse(&frame, Failure::Refused).await;
        };
        let Some(replica) = replica_for(&self.replicas, &frame) else {
            return self.refuse(&frame, Failure::NoReplica).await;
        };
        let key = (frame.shard, frame.replica);
        let mut item = Arrived { frame: frame.head(), heard: Heard::now(&replica, &request, leader_age_ms), request };
        loop {
            let queue = self.appends.entry(key).or_insert_with(|| pipeline(replica.clone(), self.answers.clone()));
            match queue.try_send(item) {
                Ok(()) => return,
                // One stalled replica must not hold up the others' heartbeats and votes.
                Err(mpsc::error::TrySendError::Full(item)) => {
                    return self.refuse(&item.frame, Failure::Overloaded).await;
                }
                // That pipeline ended with an error; the next one takes over.
                Err(mpsc::error::TrySendError::Closed(returned)) => item = returned,
            }
            self.appends.remove(&key);
        }
    }
}

/// An append that waits for its turn.
struct Arrived {
    frame: Frame,
    heard: Heard,
    request: Append,
}

/// What an append tells of the age of what it brings, at the moment of its arrival.
#[derive(Clone, Copy)]
struct Heard {
    /// When the leader knew that it knew everything; none if it could not tell.
    at_ms: Option<u64>,
    commit_index: u64,
}

impl Heard {
    fn now(replica: &Replica, request: &Append, leader_age_ms: Option<u64>) -> Self {
        let now_ms = replica.freshness.now_ms();
        let at_ms = leader_age_ms.and_then(|age_ms| now_ms.checked_sub(age_ms));
        Self { at_ms, commit_index: request.leader_commit.map_or(0, |id| id.index) }
    }

    /// Whoever refuses a leader has not heard from one.
    fn note(self, replica: &Replica, appended: &Appended) {
        if let (Some(at_ms), Ok(_)) = (self.at_ms, appended) {
            replica.freshness.heard(at_ms, self.commit_index, replica.state.applied_index());
        }
    }
}

/// Appends into one replica, pipelined, until openraft ends it or nobody sends any more.
fn pipeline(replica: Arc<Replica>, answers: mpsc::Sender<Frame>) -> mpsc::Sender<Arrived> {
    let (queue, mut requests) = mpsc::channel::<Arrived>(APPENDS_QUEUED_MAX);
    tokio::spawn(async move {
        let waiting: Arc<Mutex<VecDeque<(Frame, Heard)>>> = Arc::default();
        let asked = waiting.clone();
        let input = futures::stream::poll_fn(move |cx| {
            requests.poll_recv(cx).map(|item| {
                let Arrived { frame, heard, request } = item?;
                asked.lock().unwrap_or_else(PoisonError::into_inner).push_back((frame, heard));
                Some(request)
            })
        });
        // openraft keeps its input open after an error until it has a next result to send, so the end is told to it;
        // otherwise the append that comes next would be swallowed.
        let (ended, end) = oneshot::channel::<()>();
        let mut results = Box::pin(replica.raft.stream_append(input.take_until(end)));
        while let Some(result) = results.next().await {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((frame, heard)) = next else { break };
            let is_over = !matches!(result, Ok(Ok(_)));
            let result = match result {
                Ok(appended) => {
                    heard.note(&replica, &appended);
                    Ok(put_appended(&appended))
                }
                Err(_) => Err(Failure::Unavailable.into()),
            };
            if answers.send(frame.answer(result)).await.is_err() || is_over {
                break;
            }
        }
        drop(ended);
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

fn replica_for(replicas: &Replicas, frame: &Frame) -> Option<Arc<Replica>> {
    replicas.replica(ShardId(frame.shard)).filter(|replica| frame.replica == replica.id)
}

/// Answers a request that needs no order.
async fn answer(replicas: &Arc<Replicas>, caller: &str, frame: &Frame) -> Result<Bytes, Failed> {
    let payload = frame.payload.clone();
    match frame.kind() {
        Kind::Submit => return replicas.serve_submit(ShardId(frame.shard), payload).await,
        Kind::Query => return replicas.serve_query(ShardId(frame.shard), payload).await,
        Kind::Join => return replicas.serve_join(ShardId(frame.shard), caller, payload).await,
        Kind::MayLeave => return replicas.serve_may_leave(ShardId(frame.shard), payload).await,
        Kind::Form => return replicas.serve_form(payload).await,
        _ => {}
    }
    let replica = replica_for(replicas, frame).ok_or_else(|| Failed::from(Failure::NoReplica))?;
    let stopped = |_| Failed::from(Failure::Unavailable);
    match frame.kind() {
        Kind::Heartbeat => {
            let (request, leader_age_ms) = take_append(payload)?;
            let heard = Heard::now(&replica, &request, leader_age_ms);
            let ends = (request.prev_log_id, request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id));
            let appended = appended(replica.raft.append_entries(request).await.map_err(stopped)?, ends);
            heard.note(&replica, &appended);
            Ok(put_appended(&appended))
        }
        #[cfg(kindred_mutants)]
        Kind::Vote | Kind::PreVote if kindred_core::mutants::is("vote-ignores-log") => {
            let mut request = VoteRequest::<Types>::decode(payload)?;
            request.last_log_id = Some(log_id(u64::MAX, u64::MAX));
            let voted = match frame.kind() {
                Kind::Vote => replica.raft.vote(request).await,
                _ => replica.raft.pre_vote(request).await,
            };
            Ok(voted.map_err(stopped)?.encode())
        }
        Kind::Vote => Ok(replica.raft.vote(VoteRequest::decode(payload)?).await.map_err(stopped)?.encode()),
        Kind::PreVote => Ok(replica.raft.pre_vote(VoteRequest::decode(payload)?).await.map_err(stopped)?.encode()),
        Kind::WouldLead if replica.is_stepping_down() => Err(Failure::Unavailable.into()),
        Kind::WouldLead => Ok(Bytes::new()),
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
