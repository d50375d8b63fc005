//! The messages between nodes and how they are packed: many frames in one message, across shards.

use bytes::{Bytes, BytesMut};
use futures::Stream;
use kindred_core::id::ClusterId;
use tokio::sync::mpsc;

use crate::codec::{Compact, Malformed, take_bytes, take_option};

/// Generated from `kindred/raft/v1/peer.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used)]
pub mod proto {
    tonic::include_proto!("kindred.raft.v1");
}

pub use proto::{Failure, Frame, Frames, Kind};

/// Frames that wait for the writer of one stream.
pub const FRAMES_QUEUED_MAX: usize = 4_096;
/// Frames in one message.
const FRAMES_PACKED_MAX: usize = 256;
/// A message is sent once it holds this much.
const PACKED_BYTES: usize = 1 << 20;
/// Largest message accepted: one packed message and an append of the largest entries on top.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

impl Frame {
    /// A request to a replica of `shard`.
    pub fn request(shard: u32, replica: u64, kind: Kind, payload: Bytes) -> Self {
        Self { shard, replica, correlation: 0, kind: kind.into(), payload, failure: Failure::None.into() }
    }

    /// A request to the node.
    pub fn to_node(kind: Kind, payload: Bytes) -> Self {
        Self::request(0, 0, kind, payload)
    }

    /// The answer to this request.
    pub fn answer(&self, result: Result<Bytes, Failed>) -> Self {
        let (payload, failure) = match result {
            Ok(payload) => (payload, Failure::None),
            Err(failed) => (failed.detail, failed.failure),
        };
        Self { payload, failure: failure.into(), ..Self::head(self) }
    }

    /// The frame without its payload.
    pub fn head(&self) -> Self {
        Self {
            shard: self.shard,
            replica: self.replica,
            correlation: self.correlation,
            kind: self.kind,
            payload: Bytes::new(),
            failure: Failure::None.into(),
        }
    }

    /// The answer's content.
    pub fn result(self) -> Result<Bytes, Failed> {
        match self.failure() {
            Failure::None => Ok(self.payload),
            failure => Err(Failed { failure, detail: self.payload }),
        }
    }
}

/// An answer that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .failure.as_str_name())]
pub struct Failed {
    /// Why.
    pub failure: Failure,
    /// For NOT_LEADER: who leads, if known.
    pub detail: Bytes,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { failure, detail: Bytes::new() }
    }
}

impl From<Malformed> for Failed {
    fn from(_: Malformed) -> Self {
        Failure::Refused.into()
    }
}

impl Compact for ClusterId {
    fn put(&self, out: &mut BytesMut) {
        out.extend_from_slice(self.as_bytes());
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        ClusterId::from_slice(&take_bytes(input, Self::LEN)?).ok_or(Malformed("cluster id"))
    }
}

/// How a node introduces itself; also its answer to "are you empty?".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Its cluster; none if it is empty.
    pub cluster: Option<ClusterId>,
    /// Its id.
    pub node_id: u64,
    /// Its name.
    pub name: String,
}

impl Compact for Hello {
    fn put(&self, out: &mut BytesMut) {
        self.cluster.put(out);
        self.node_id.put(out);
        self.name.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        Ok(Self { cluster: take_option(input)?, node_id: u64::take(input)?, name: String::take(input)? })
    }
}

/// Drains the queue into messages of many frames. Ends when all senders are gone.
pub fn pack(queue: mpsc::Receiver<Frame>) -> impl Stream<Item = Frames> + Send + 'static {
    futures::stream::unfold(queue, |mut queue| async move {
        let first = queue.recv().await?;
        let mut bytes = first.payload.len();
        let mut frames = vec![first];
        while frames.len() < FRAMES_PACKED_MAX && bytes < PACKED_BYTES {
            let Ok(frame) = queue.try_recv() else { break };
            bytes += frame.payload.len();
            frames.push(frame);
        }
        Some((Frames { frames }, queue))
    })
}
