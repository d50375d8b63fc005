//! Snapshots between nodes: the shard's range in chunks, each checksummed and acknowledged, so that a broken connection
//! costs one chunk. The receiver stages them beside its live state and switches over in one write.
//!
//! chunk = vote ‖ meta (4 + n) ‖ snapshot (8) ‖ sequence (4) ‖ last (1) ‖ pairs (4) × (key (4 + n) ‖ value (4 + n)),
//! sealed; answer = 0 ‖ next sequence (4), or 1 ‖ vote.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kindred_core::id::ShardId;
use kindred_store::codec;
use kindred_store::engine::{Column, Read};
use kindred_store::keys;
use openraft::AsyncRuntime as _;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{NetworkError, StreamingError};
use rand::Rng as _;
use tokio::time::sleep;

use crate::codec::{Compact, Malformed};
use crate::error::Error;
use crate::frames::{Failed, Failure, Frame, Kind};
use crate::health::Health;
use crate::link::{CallError, ERROR_DELAY, Link};
use crate::network::unreachable;
use crate::state::State;
use crate::types::{Raft, SnapshotMeta, Types, Vote};

/// Pairs in one chunk.
const CHUNK_PAIRS_MAX: usize = 1_024;
/// A chunk is sent once it holds this much; one record is far smaller.
const CHUNK_BYTES: usize = 1 << 20;
/// One chunk may take this long.
const CHUNK_WITHIN: Duration = Duration::from_secs(10);
/// A chunk is sent again so often before openraft is told.
const CHUNK_TRIES_MAX: u32 = 5;

type Snapshot = openraft::type_config::alias::SnapshotOf<Types, SnapshotData>;

/// A shard's state: frozen on the sender, staged on the receiver.
pub struct SnapshotData(Data);

enum Data {
    Frozen { read: Box<dyn Read>, shard: ShardId, generation: u32, health: Arc<Health> },
    Staged { generation: u32 },
}

impl SnapshotData {
    /// What is frozen in `read`.
    pub fn frozen(read: Box<dyn Read>, (shard, generation): (ShardId, u32), health: Arc<Health>) -> Self {
        Self(Data::Frozen { read, shard, generation, health })
    }

    /// The generation in which it was received; none if it was made here.
    pub fn staged(&self) -> Option<u32> {
        match self.0 {
            Data::Staged { generation } => Some(generation),
            Data::Frozen { .. } => None,
        }
    }

    /// Copies a frozen snapshot into a fresh generation of `state`.
    pub fn copy_into(&self, state: &State) -> Result<u32, Error> {
        let generation = state.stage();
        let mut cursor = Cursor::default();
        while let Some(pairs) = self.chunk(&mut cursor)? {
            state.stage_pairs(generation, pairs)?;
        }
        Ok(generation)
    }

    /// The next pairs, keys without their prefix; `None` after the last.
    fn chunk(&self, cursor: &mut Cursor) -> Result<Option<Vec<(Bytes, Bytes)>>, Error> {
        let Data::Frozen { read, shard, generation, health } = &self.0 else { return Ok(None) };
        if cursor.done {
            return Ok(None);
        }
        let (prefix, end) = keys::state_range(*shard, *generation);
        let from = if cursor.from.is_empty() { prefix.clone() } else { cursor.from.clone() };
        let mut found = read.scan(Column::State, &from, &end, CHUNK_PAIRS_MAX)?;
        cursor.done = found.len() < CHUNK_PAIRS_MAX;
        let mut bytes = 0;
        let fits = found.iter().take_while(|(key, value)| {
            let fits = bytes < CHUNK_BYTES;
            bytes += key.len() + value.len();
            fits
        });
        let fits = fits.count();
        if fits < found.len() {
            found.truncate(fits);
            cursor.done = false;
        }
        if let Some((last, _)) = found.last() {
            // The smallest key above the last one.
            cursor.from = [last.as_slice(), &[0]].concat();
        }
        // Nobody may have read these since they were written: rot must not get to a replica that is sound.
        if let Some(Err(rotten)) = found.iter().map(|(_, value)| codec::whole(value)).find(Result::is_err) {
            let error = Error::from(rotten);
            health.note(&error);
            return Err(error);
        }
        #[cfg(kindred_mutants)]
        found.retain(|(key, _)| !is_left_out_by_mistake(key));
        let without_prefix = |(key, value): (Vec<u8>, Bytes)| (Bytes::from(key).slice(prefix.len()..), value);
        Ok(Some(found.into_iter().map(without_prefix).collect()))
    }
}

#[cfg(kindred_mutants)]
fn is_left_out_by_mistake(key: &[u8]) -> bool {
    use kindred_core::state::Key;
    match keys::parse_state(key) {
        Ok((_, _, Key::Tombstone(..) | Key::KeyIndex(..))) => kindred_core::mutants::is("snapshot-without-tombstones"),
        Ok((_, _, Key::AccountReply(..) | Key::TicketReply(..))) => {
            kindred_core::mutants::is("snapshot-without-replies")
        }
        _ => false,
    }
}

#[derive(Default)]
struct Cursor {
    from: Vec<u8>,
    done: bool,
}

pub(crate) struct Chunk {
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    pub(crate) snapshot: u64,
    pub(crate) sequence: u32,
    pub(crate) last: bool,
    pub(crate) pairs: Vec<(Bytes, Bytes)>,
}

impl Compact for Chunk {
    fn put(&self, out: &mut BytesMut) {
        self.vote.put(out);
        self.meta.encode().put(out);
        self.snapshot.put(out);
        self.sequence.put(out);
        self.last.put(out);
        u32::try_from(self.pairs.len()).unwrap_or(u32::MAX).put(out);
        for (key, value) in &self.pairs {
            key.put(out);
            value.put(out);
        }
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        Ok(Self {
            vote: Vote::take(input)?,
            meta: SnapshotMeta::decode(Bytes::take(input)?)?,
            snapshot: u64::take(input)?,
            sequence: u32::take(input)?,
            last: bool::take(input)?,
            pairs: (0..u32::take(input)?)
                .map(|_| Ok((Bytes::take(input)?, Bytes::take(input)?)))
                .collect::<Result<_, Malformed>>()?,
        })
    }
}

/// The receiver's answer.
pub(crate) enum Answer {
    /// Send this one next.
    Next(u32),
    /// It is over: installed, or a higher vote stands in the way.
    Vote(Vote),
}

impl Compact for Answer {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Next(sequence) => {
                0u8.put(out);
                sequence.put(out);
            }
            Self::Vote(vote) => {
                1u8.put(out);
                vote.put(out);
            }
        }
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        match u8::take(input)? {
            0 => Ok(Self::Next(u32::take(input)?)),
            1 => Ok(Self::Vote(Vote::take(input)?)),
            _ => Err(Malformed("snapshot answer")),
        }
    }
}

fn streaming(error: &CallError) -> StreamingError<Types> {
    match error {
        CallError::NotSent | CallError::Failed(_) => StreamingError::Unreachable(unreachable(error)),
        CallError::Lost | CallError::Timeout => StreamingError::Network(NetworkError::new(error)),
    }
}

/// Sends the whole snapshot to a replica (shard, replica id); answers with the receiver's vote.
pub async fn send_snapshot(
    link: Arc<Link>,
    to: (u32, u64),
    vote: Vote,
    snapshot: Snapshot,
) -> Result<Vote, StreamingError<Types>> {
    let id = crate::runtime::Runtime::thread_rng().next_u64();
    let mut cursor = Cursor::default();
    let mut sequence = 0;
    loop {
        let read = snapshot.snapshot.chunk(&mut cursor);
        let pairs = read.map_err(|error| StreamingError::Network(NetworkError::new(&error)))?.unwrap_or_default();
        let chunk = Chunk { vote, meta: snapshot.meta.clone(), snapshot: id, sequence, last: cursor.done, pairs };
        let payload = codec::seal(codec::Kind::Chunk, &chunk.encode());
        match send_chunk(&link, to, payload).await? {
            Answer::Vote(vote) => return Ok(vote),
            Answer::Next(next) if next == sequence + 1 && !chunk.last => sequence = next,
            Answer::Next(_) => {
                // The receiver has lost what it had; openraft starts over with a fresh snapshot.
                sleep(ERROR_DELAY).await;
                return Err(StreamingError::Network(NetworkError::new(&Malformed("the receiver starts over"))));
            }
        }
    }
}

async fn send_chunk(
    link: &Arc<Link>,
    (shard, replica): (u32, u64),
    payload: Bytes,
) -> Result<Answer, StreamingError<Types>> {
    let mut tries = 0;
    loop {
        let frame = Frame::request(shard, replica, Kind::Snapshot, payload.clone());
        match link.call(frame, CHUNK_WITHIN).await {
            Ok(answer) => {
                return Answer::decode(answer).map_err(|error| StreamingError::Network(NetworkError::new(&error)));
            }
            Err(error) => {
                tries += 1;
                if tries >= CHUNK_TRIES_MAX || matches!(error, CallError::Failed(_)) {
                    sleep(ERROR_DELAY).await;
                    return Err(streaming(&error));
                }
                sleep(ERROR_DELAY * tries).await;
            }
        }
    }
}

/// The receiving side of one replica: at most one snapshot at a time, the latest sender wins.
#[derive(Default)]
pub struct Receiver(Mutex<Option<Staging>>);

struct Staging {
    snapshot: u64,
    next: u32,
    generation: u32,
}

impl Receiver {
    /// Takes one chunk; installs the snapshot with the last one.
    pub async fn receive(&self, payload: Bytes, state: &State, raft: &Raft) -> Result<Bytes, Failed> {
        let sealed = codec::open(codec::Kind::Chunk, &payload).map_err(|_| Failed::from(Failure::Refused))?;
        let chunk = Chunk::decode(sealed)?;
        let ours = raft.metrics().borrow_watched().vote;
        if chunk.vote < ours {
            return Ok(Answer::Vote(ours).encode());
        }
        let Some(generation) = self.stage(&chunk, state)? else {
            let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(0, |s| s.next);
            return Ok(Answer::Next(next).encode());
        };
        if !chunk.last {
            return Ok(Answer::Next(chunk.sequence + 1).encode());
        }
        let snapshot = Snapshot { meta: chunk.meta, snapshot: SnapshotData(Data::Staged { generation }) };
        match raft.install_full_snapshot(chunk.vote, snapshot).await {
            Ok(response) => Ok(Answer::Vote(response.vote).encode()),
            Err(error) => {
                tracing::error!(shard = state.shard.0, %error, "a snapshot could not be installed");
                Err(Failure::Unavailable.into())
            }
        }
    }

    /// Writes the chunk's pairs if it is the next one; otherwise changes nothing.
    fn stage(&self, chunk: &Chunk, state: &State) -> Result<Option<u32>, Failed> {
        let mut staging = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if chunk.sequence == 0 && staging.as_ref().is_none_or(|s| s.snapshot != chunk.snapshot) {
            let fresh = Staging { snapshot: chunk.snapshot, next: 0, generation: state.stage() };
            if let Some(replaced) = staging.replace(fresh)
                && let Err(error) = state.unstage(replaced.generation)
            {
                tracing::warn!(shard = state.shard.0, %error, "an abandoned snapshot could not be deleted");
            }
        }
        let Some(current) = staging.as_mut().filter(|s| s.snapshot == chunk.snapshot) else { return Ok(None) };
        // A repeat of the chunk before, whose answer was lost, is answered again.
        if chunk.sequence + 1 == current.next && !chunk.last {
            return Ok(Some(current.generation));
        }
        if chunk.sequence != current.next {
            return Ok(None);
        }
        let written = state.stage_pairs(current.generation, chunk.pairs.clone());
        written.map_err(|error| {
            tracing::error!(shard = state.shard.0, %error, "a snapshot chunk could not be written");
            Failed::from(Failure::Unavailable)
        })?;
        current.next += 1;
        let generation = current.generation;
        if chunk.last {
            *staging = None;
        }
        Ok(Some(generation))
    }
}
