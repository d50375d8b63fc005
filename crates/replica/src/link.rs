//! The calling side of the peer protocol: one stream per peer, shared by all shards, kept up by one task.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use kindred_wire::calls::calls_to_node;
use kindred_wire::net::Net;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::codec::Compact as _;
use crate::frames::proto::peer_client::PeerClient;
use crate::frames::{FRAMES_QUEUED_MAX, Failed, Failure, Frame, Frames, Hello, Kind, MESSAGE_BYTES_MAX, pack};
use crate::identity::Identity;

/// No error is reported sooner than this: callers that retry at once must not spin.
pub const ERROR_DELAY: Duration = Duration::from_millis(50);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const PING_INTERVAL: Duration = Duration::from_millis(500);
/// A stream on which nothing was heard for so long is given up (lost packets of a healed partition never come).
const SILENCE_MAX: Duration = Duration::from_secs(2);
const RECONNECT_MAX: Duration = Duration::from_millis(500);

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not connected or the queue is full: certainly not sent.
    #[error("not sent")]
    NotSent,
    /// Sent; the connection broke before the answer.
    #[error("connection lost")]
    Lost,
    /// Sent; no answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The peer answered so.
    #[error("the peer answered {0}")]
    Failed(Failed),
}

type Answer = Result<Frame, CallError>;

/// One peer.
pub struct Link {
    name: String,
    identity: Arc<Identity>,
    state: Mutex<State>,
    correlation: AtomicU64,
}

#[derive(Default)]
struct State {
    queue: Option<mpsc::Sender<Frame>>,
    pending: BTreeMap<u64, oneshot::Sender<Answer>>,
    peer: Option<Hello>,
    trouble: Option<String>,
}

/// A sent request; dropping it forgets the answer.
pub struct Call {
    link: Arc<Link>,
    correlation: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Future for Call {
    type Output = Answer;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        Pin::new(&mut self.answer).poll(cx).map(|answer| answer.unwrap_or(Err(CallError::Lost)))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.link.lock().pending.remove(&self.correlation);
    }
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the peer said of itself, while connected.
    pub fn peer(&self) -> Option<Hello> {
        self.lock().peer.clone()
    }

    /// Queues a request.
    pub async fn send(self: &Arc<Self>, mut frame: Frame) -> Result<Call, CallError> {
        let correlation = self.correlation.fetch_add(1, Ordering::Relaxed) + 1;
        frame.correlation = correlation;
        let (tx, answer) = oneshot::channel();
        let queue = {
            let mut state = self.lock();
            let queue = state.queue.clone().ok_or(CallError::NotSent)?;
            state.pending.insert(correlation, tx);
            queue
        };
        // From here on dropping `call` cleans up.
        let call = Call { link: self.clone(), correlation, answer };
        queue.send(frame).await.map_err(|_| CallError::NotSent)?;
        Ok(call)
    }

    /// Sends and waits. Fails no sooner than [`ERROR_DELAY`] unless the peer itself answered.
    pub async fn call(self: &Arc<Self>, frame: Frame, within: Duration) -> Result<Bytes, CallError> {
        let deadline = Instant::now() + within;
        let call = match tokio::time::timeout_at(deadline, self.send(frame)).await {
            Ok(Ok(call)) => call,
            Ok(Err(_)) | Err(_) => {
                sleep(ERROR_DELAY).await;
                return Err(CallError::NotSent);
            }
        };
        match tokio::time::timeout_at(deadline, call).await {
            Ok(Ok(frame)) => frame.result().map_err(CallError::Failed),
            Ok(Err(error)) => {
                sleep(ERROR_DELAY).await;
                Err(error)
            }
            Err(_) => Err(CallError::Timeout),
        }
    }

    fn connected(&self, queue: mpsc::Sender<Frame>, peer: Hello) {
        let mut state = self.lock();
        state.queue = Some(queue);
        state.peer = Some(peer);
        state.trouble = None;
    }

    fn disconnected(&self) {
        let pending = {
            let mut state = self.lock();
            state.queue = None;
            state.peer = None;
            std::mem::take(&mut state.pending)
        };
        for (_, answer) in pending {
            let _ = answer.send(Err(CallError::Lost));
        }
    }

    fn dispatch(&self, frames: Frames) {
        let mut state = self.lock();
        for frame in frames.frames {
            if let Some(answer) = state.pending.remove(&frame.correlation) {
                let _ = answer.send(Ok(frame));
            }
        }
    }

    async fn run(self: Arc<Self>, net: Arc<dyn Net>, address: String) {
        let mut pause = ERROR_DELAY;
        loop {
            let lasted = self.session(net.clone(), &address).await;
            self.disconnected();
            pause = if lasted { ERROR_DELAY } else { (pause * 2).min(RECONNECT_MAX) };
            sleep(pause).await;
        }
    }

    /// One connection from dialling to its end; true if it was ever up.
    async fn session(&self, net: Arc<dyn Net>, address: &str) -> bool {
        let Ok(calls) = calls_to_node(net, address, &self.name) else { return false };
        let mut client = PeerClient::new(calls)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (queue, outgoing) = mpsc::channel(FRAMES_QUEUED_MAX);
        let hello = Frame::to_node(Kind::Hello, self.identity.hello().encode());
        if queue.try_send(hello).is_err() {
            return false;
        }
        let answer = match timeout(CONNECT_TIMEOUT, client.exchange(pack(outgoing))).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(status)) => return self.trouble(&status),
            Err(_) => return false,
        };
        let mut incoming = answer.into_inner();
        let Ok(Ok(Some(first))) = timeout(CONNECT_TIMEOUT, incoming.message()).await else { return false };
        let Some(peer) = self.greeted(&first) else { return false };
        tracing::debug!(peer = self.name, "connected");
        self.connected(queue.clone(), peer);
        self.dispatch(first);
        let mut heard = Instant::now();
        let mut belonging = self.identity.watch();
        let mut ping = tokio::time::interval(PING_INTERVAL);
        loop {
            tokio::select! {
                biased;
                message = incoming.message() => match message {
                    Ok(Some(frames)) => {
                        heard = Instant::now();
                        self.dispatch(frames);
                    }
                    Ok(None) | Err(_) => return true,
                },
                // At once, when this node has come to belong to a cluster: until the peer knows, it takes no more from us.
                _ = belonging.changed() => {
                    let _ = queue.try_send(Frame::to_node(Kind::Ping, self.identity.hello().encode()));
                }
                _ = ping.tick() => {
                    if heard.elapsed() > SILENCE_MAX {
                        tracing::debug!(peer = self.name, "silent");
                        return true;
                    }
                    // A full queue needs no ping.
                    let _ = queue.try_send(Frame::to_node(Kind::Ping, self.identity.hello().encode()));
                }
            }
        }
    }

    /// Tells why there is no connection, once for as long as it is the same.
    fn trouble(&self, status: &tonic::Status) -> bool {
        let cause = std::error::Error::source(status).map_or_else(|| status.message().to_owned(), deepest);
        let before = self.lock().trouble.replace(cause.clone());
        if before.as_ref() != Some(&cause) {
            tracing::warn!(peer = self.name, cause, "no connection");
        }
        false
    }

    /// The peer's hello, if it is of our cluster, or one of us is empty.
    fn greeted(&self, first: &Frames) -> Option<Hello> {
        let frame = first.frames.first()?;
        if frame.kind() != Kind::Hello || frame.failure() != Failure::None {
            tracing::warn!(peer = self.name, failure = frame.failure().as_str_name(), "refused by peer");
            return None;
        }
        let hello = Hello::decode(frame.payload.clone()).ok()?;
        if !self.identity.compatible(&hello) || hello.name != self.name {
            tracing::warn!(peer = self.name, says = hello.name, "peer of another cluster or name");
            return None;
        }
        Some(hello)
    }
}

fn deepest(mut error: &(dyn std::error::Error + 'static)) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// All peers of the address book.
pub struct Links {
    links: BTreeMap<String, Arc<Link>>,
    tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl Links {
    /// Starts a task per peer of `book` but ourselves.
    pub fn start(identity: &Arc<Identity>, net: &Arc<dyn Net>, book: &BTreeMap<String, String>) -> Self {
        let mut tasks = Vec::new();
        let links = book
            .iter()
            .filter(|(name, _)| **name != identity.name)
            .map(|(name, address)| {
                let link = Arc::new(Link {
                    name: name.clone(),
                    identity: identity.clone(),
                    state: Mutex::default(),
                    correlation: AtomicU64::new(0),
                });
                tasks.push(tokio::spawn(link.clone().run(net.clone(), address.clone())));
                (name.clone(), link)
            })
            .collect();
        Self { links, tasks: Mutex::new(tasks) }
    }

    /// The peer of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Link>> {
        self.links.get(name)
    }

    /// All peers, by name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.links.values()
    }

    /// Ends all connections.
    pub fn stop(&self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        self.links.values().for_each(|link| link.disconnected());
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.stop();
    }
}
