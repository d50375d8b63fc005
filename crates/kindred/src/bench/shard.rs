//! The leader of a shard, reached as another node reaches it: one stream, many submissions in one message.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::{Bytes, BytesMut};
use kindred_core::id::ShardId;
use kindred_replica::codec::Compact as _;
use tokio::sync::{mpsc, oneshot};
use tonic::Streaming;

use super::lab::{Lab, to};
use super::raw::ANSWER_WITHIN;
use crate::config::{Config, Overrides};

/// Generated from `kindred/raft/v1/peer.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used)]
mod proto {
    tonic::include_proto!("kindred.raft.v1");
}

use proto::peer_client::PeerClient;
use proto::{Failure, Frame, Frames, Kind};

/// Submissions that wait for the stream.
const QUEUED_MAX: usize = 4_096;
/// Submissions in one message.
const PACKED_MAX: usize = 256;
/// Largest message taken: many answers come packed in one.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// A leader is known within this time.
const LEADER_WITHIN: Duration = Duration::from_secs(10);

type Waiting = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Frame>>>>;

/// A way to the leader of one shard.
pub(super) struct ShardDoor {
    shard: ShardId,
    queue: mpsc::Sender<Frame>,
    waiting: Waiting,
    correlation: AtomicU64,
}

impl ShardDoor {
    /// Finds the leader and greets it, in the name of another node of the cluster: a leader answers no strangers. It asks
    /// for nothing but submissions, so that node is none the wiser.
    pub(super) async fn open(lab: &Lab<'_>, shard: ShardId) -> anyhow::Result<Self> {
        let nodes = &lab.cluster.nodes;
        let leader = lab.doors.leader(shard, LEADER_WITHIN).await?;
        let name = &nodes[(leader + 1) % nodes.len()].name;
        let config = Config::load(&nodes[leader].dir.join("kindred.toml"), Overrides::default())?;
        let net = crate::connect::net(lab.cluster.tls.as_deref(), name)?;
        let (queue, frames) = mpsc::channel(QUEUED_MAX);
        let mut hello = BytesMut::new();
        // As replica's `Hello`: cluster, node id, name.
        true.put(&mut hello);
        hello.extend_from_slice(lab.workshop.cluster.as_bytes());
        0_u64.put(&mut hello);
        name.clone().put(&mut hello);
        queue.send(frame(0, 0, Kind::Hello, hello.freeze())).await.context("greet")?;
        let mut client = PeerClient::new(to(&net, &config.listen.node)?).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let mut answers = client.exchange(packed(frames)).await.context("reach the leader")?.into_inner();
        let first = answers.message().await.context("greet the leader")?;
        let Some(welcome) = first.and_then(|frames| frames.frames.into_iter().next()) else {
            bail!("the leader of shard {shard} did not answer the greeting");
        };
        ensure!(welcome.failure() == Failure::None, "the leader of shard {shard} takes no submissions from us");
        let waiting = Waiting::default();
        tokio::spawn(receive(answers, waiting.clone()));
        Ok(Self { shard, queue, waiting, correlation: AtomicU64::new(1) })
    }

    /// Submits an encoded command, and waits for its answer.
    pub(super) async fn submit(&self, payload: Bytes) -> Result<Bytes, String> {
        let correlation = self.correlation.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        lock(&self.waiting).insert(correlation, answer);
        let sent = self.queue.send(frame(self.shard.0, correlation, Kind::Submit, payload)).await;
        let frame = match sent {
            Ok(()) => tokio::time::timeout(ANSWER_WITHIN, answered).await,
            Err(_) => return Err("stream broken".to_owned()),
        };
        lock(&self.waiting).remove(&correlation);
        match frame {
            Ok(Ok(frame)) if frame.failure() == Failure::None => Ok(frame.payload),
            Ok(Ok(frame)) => Err(frame.failure().as_str_name().to_owned()),
            Ok(Err(_)) => Err("stream broken".to_owned()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Frame>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn frame(shard: u32, correlation: u64, kind: Kind, payload: Bytes) -> Frame {
    Frame { shard, replica: 0, correlation, kind: kind.into(), payload, failure: Failure::None.into() }
}

/// What has queued, in one message.
fn packed(queue: mpsc::Receiver<Frame>) -> impl futures::Stream<Item = Frames> + Send + 'static {
    futures::stream::unfold(queue, |mut queue| async move {
        let mut frames = Vec::new();
        let count = queue.recv_many(&mut frames, PACKED_MAX).await;
        (count > 0).then_some((Frames { frames }, queue))
    })
}

/// Hands answers to whoever waits, until the stream ends; then nobody waits any longer.
async fn receive(mut answers: Streaming<Frames>, waiting: Waiting) {
    while let Ok(Some(frames)) = answers.message().await {
        let mut waiting = lock(&waiting);
        for frame in frames.frames {
            if let Some(answer) = waiting.remove(&frame.correlation) {
                let _ = answer.send(frame);
            }
        }
    }
    lock(&waiting).clear();
}
