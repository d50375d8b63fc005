//! Compact binary forms of openraft's types, the same in the log, in records and between nodes. Integers big-endian.
//!
//! log id = term (8) ‖ index (8); option = 0 or 1 (1) ‖ value; vote = term (8) ‖ replica (8) ‖ committed (1);
//! entry = log id ‖ kind (1) ‖ length (4) ‖ payload; membership = configs (2) × (ids (2) × id (8)) ‖ nodes (2) ×
//! (id (8) ‖ node id (8) ‖ region (2) ‖ name length (1) ‖ name).

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};

use crate::types::{Data, LogEntry, LogId, Member, Membership, SnapshotMeta, StoredMembership, Types, Vote, log_id};

/// Bytes that are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

type Read<T> = Result<T, Malformed>;

/// What a follower made of one append.
pub type Appended = openraft::raft::StreamAppendResult<Types>;

/// Has a compact form.
pub trait Compact: Sized {
    /// Appends it.
    fn put(&self, out: &mut BytesMut);
    /// Takes it from the front.
    fn take(input: &mut Bytes) -> Read<Self>;

    /// Alone.
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        self.put(&mut out);
        out.freeze()
    }

    /// Alone, and nothing after it.
    fn decode(mut input: Bytes) -> Read<Self> {
        let value = Self::take(&mut input)?;
        if input.is_empty() { Ok(value) } else { Err(Malformed("trailing bytes")) }
    }
}

/// Takes `n` bytes without copying.
pub fn take_bytes(input: &mut Bytes, n: usize) -> Read<Bytes> {
    if input.len() < n {
        return Err(Malformed("length"));
    }
    Ok(input.split_to(n))
}

macro_rules! int {
    ($($t:ty, $put:ident, $get:ident;)*) => {$(
        impl Compact for $t {
            fn put(&self, out: &mut BytesMut) { out.$put(*self); }
            fn take(input: &mut Bytes) -> Read<Self> {
                if input.len() < size_of::<$t>() { return Err(Malformed(stringify!($t))); }
                Ok(input.$get())
            }
        }
    )*};
}
int! { u8, put_u8, get_u8; u16, put_u16, get_u16; u32, put_u32, get_u32; u64, put_u64, get_u64; }

impl Compact for bool {
    fn put(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(*self));
    }
    fn take(input: &mut Bytes) -> Read<Self> {
        match u8::take(input)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("bool")),
        }
    }
}

impl Compact for Bytes {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(u32::try_from(self.len()).unwrap_or(u32::MAX));
        out.extend_from_slice(self);
    }
    fn take(input: &mut Bytes) -> Read<Self> {
        let len = u32::take(input)?;
        take_bytes(input, usize::try_from(len).map_err(|_| Malformed("length"))?)
    }
}

impl Compact for String {
    fn put(&self, out: &mut BytesMut) {
        let bytes = &self.as_bytes()[..self.len().min(255)];
        out.put_u8(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(bytes);
    }
    fn take(input: &mut Bytes) -> Read<Self> {
        let len = u8::take(input)?;
        String::from_utf8(take_bytes(input, usize::from(len))?.to_vec()).map_err(|_| Malformed("text"))
    }
}

impl<T: Compact> Compact for Option<T> {
    fn put(&self, out: &mut BytesMut) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(input: &mut Bytes) -> Read<Self> {
        bool::take(input)?.then(|| T::take(input)).transpose()
    }
}

/// [`Compact::take`] of an option, which has a method of that name already.
pub fn take_option<T: Compact>(input: &mut Bytes) -> Read<Option<T>> {
    <Option<T> as Compact>::take(input)
}

fn put_all<T: Compact>(items: impl ExactSizeIterator<Item = T>, out: &mut BytesMut) {
    out.put_u16(u16::try_from(items.len()).unwrap_or(u16::MAX));
    items.take(usize::from(u16::MAX)).for_each(|item| item.put(out));
}

fn take_all<T: Compact, C: FromIterator<T>>(input: &mut Bytes) -> Read<C> {
    let len = u16::take(input)?;
    (0..len).map(|_| T::take(input)).collect()
}

impl Compact for LogId {
    fn put(&self, out: &mut BytesMut) {
        out.put_u64(self.leader_id.term);
        out.put_u64(self.index);
    }
    fn take(input: &mut Bytes) -> Read<Self> {
        Ok(log_id(u64::take(input)?, u64::take(input)?))
    }
}

impl Compact for Vote {
    fn put(&self, out: &mut BytesMut) {
        out.put_u64(self.leader_id.term);
        out.put_u64(self.leader_id.voted_for);
        self.committed.put(out);
    }
    fn take(input: &mut Bytes) -> Read<Self> {
        let (term, replica) = (u64::take(input)?, u64::take(input)?);
        Ok(if bool::take(input)? { Vote::new_committed(term, replica) } else { Vote::new(term, replica) })
    }
}

impl Compact for Member {
    fn put(&self, out: &mut BytesMut) {
        out.put_u64(self.node_id);
        out.put_u16(self.region);
        self.name.put(out);
    }
    fn take(input: &mut Bytes) -> Read<Self> {
        Ok(Self { node_id: u64::take(input)?, region: u16::take(input)?, name: String::take(input)? })
    }
}

impl Compact for Membership {
    fn put(&self, out: &mut BytesMut) {
        let configs = self.get_joint_config();
        out.put_u16(u16::try_from(configs.len()).unwrap_or(u16::MAX));
        for config in configs {
            put_all(config.iter().copied(), out);
        }
        let nodes: Vec<_> = self.nodes().collect();
        out.put_u16(u16::try_from(nodes.len()).unwrap_or(u16::MAX));
        for (id, node) in nodes {
            id.put(out);
            node.put(out);
        }
    }
    fn take(input: &mut Bytes) -> Read<Self> {
        let configs: Vec<BTreeSet<u64>> =
            (0..u16::take(input)?).map(|_| take_all::<u64, BTreeSet<u64>>(input)).collect::<Read<_>>()?;
        let nodes: BTreeMap<u64, Member> =
            (0..u16::take(input)?).map(|_| Ok((u64::take(input)?, Member::take(input)?))).collect::<Read<_>>()?;
        if configs.is_empty() && nodes.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(configs, nodes).map_err(|_| Malformed("membership"))
    }
}

impl Compact for StoredMembership {
    fn put(&self, out: &mut BytesMut) {
        self.log_id().put(out);
        self.membership().put(out);
    }
    fn take(input: &mut Bytes) -> Read<Self> {
        Ok(StoredMembership::new(take_option(input)?, Membership::take(input)?))
    }
}

impl Compact for SnapshotMeta {
    fn put(&self, out: &mut BytesMut) {
        self.last_log_id.put(out);
        self.last_membership.put(out);
    }
    fn take(input: &mut Bytes) -> Read<Self> {
        Ok(Self { last_log_id: take_option(input)?, last_membership: StoredMembership::take(input)? })
    }
}

impl Compact for LogEntry {
    fn put(&self, out: &mut BytesMut) {
        self.log_id.put(out);
        match &self.payload {
            EntryPayload::Blank => {
                out.put_u8(0);
                out.put_u32(0);
            }
            EntryPayload::Normal(data) => {
                out.put_u8(1);
                data.0.put(out);
            }
            EntryPayload::Membership(membership) => {
                out.put_u8(2);
                membership.encode().put(out);
            }
        }
    }
    fn take(input: &mut Bytes) -> Read<Self> {
        let log_id = LogId::take(input)?;
        let kind = u8::take(input)?;
        let payload = <Bytes as Compact>::take(input)?;
        let payload = match kind {
            0 if payload.is_empty() => EntryPayload::Blank,
            1 => EntryPayload::Normal(Data(payload)),
            2 => EntryPayload::Membership(Membership::decode(payload)?),
            _ => return Err(Malformed("entry kind")),
        };
        Ok(Self { log_id, payload })
    }
}

/// Size of an entry in the log or in an append, near enough to bound a batch.
pub fn entry_bytes(entry: &LogEntry) -> usize {
    32 + match &entry.payload {
        EntryPayload::Normal(data) => data.0.len(),
        _ => 256,
    }
}

impl Compact for AppendEntriesRequest<Types> {
    fn put(&self, out: &mut BytesMut) {
        out.reserve(64 + self.entries.iter().map(entry_bytes).sum::<usize>());
        self.vote.put(out);
        self.prev_log_id.put(out);
        self.leader_commit.put(out);
        out.put_u32(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
        self.entries.iter().for_each(|entry| entry.put(out));
    }
    fn take(input: &mut Bytes) -> Read<Self> {
        let (vote, prev_log_id, leader_commit) = (Vote::take(input)?, take_option(input)?, take_option(input)?);
        let entries = (0..u32::take(input)?).map(|_| LogEntry::take(input)).collect::<Read<Vec<_>>>()?;
        Ok(Self { vote, prev_log_id, entries, leader_commit })
    }
}

/// [`Appended`] between nodes.
pub fn put_appended(result: &Appended) -> Bytes {
    let mut out = BytesMut::with_capacity(24);
    match result {
        Ok(last) => {
            out.put_u8(0);
            last.put(&mut out);
        }
        Err(StreamAppendError::Conflict(at)) => {
            out.put_u8(1);
            at.put(&mut out);
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            out.put_u8(2);
            vote.put(&mut out);
        }
    }
    out.freeze()
}

/// Reads what [`put_appended`] wrote.
pub fn take_appended(mut input: Bytes) -> Read<Appended> {
    Ok(match u8::take(&mut input)? {
        0 => Ok(take_option(&mut input)?),
        1 => Err(StreamAppendError::Conflict(LogId::take(&mut input)?)),
        2 => Err(StreamAppendError::HigherVote(Vote::take(&mut input)?)),
        _ => return Err(Malformed("append answer")),
    })
}

impl Compact for VoteRequest<Types> {
    fn put(&self, out: &mut BytesMut) {
        self.vote.put(out);
        self.last_log_id.put(out);
        self.leadership_transfer.put(out);
    }
    fn take(input: &mut Bytes) -> Read<Self> {
        let mut request = Self::new(Vote::take(input)?, take_option(input)?);
        request.leadership_transfer = bool::take(input)?;
        Ok(request)
    }
}

impl Compact for VoteResponse<Types> {
    fn put(&self, out: &mut BytesMut) {
        self.vote.put(out);
        self.last_log_id.put(out);
        self.vote_granted.put(out);
    }
    fn take(input: &mut Bytes) -> Read<Self> {
        Ok(Self::new(Vote::take(input)?, take_option(input)?, bool::take(input)?))
    }
}

impl Compact for TransferLeaderRequest<Types> {
    fn put(&self, out: &mut BytesMut) {
        self.from_leader().put(out);
        self.to_node_id().put(out);
        self.last_log_id().copied().put(out);
    }
    fn take(input: &mut Bytes) -> Read<Self> {
        Ok(Self::new(Vote::take(input)?, u64::take(input)?, take_option(input)?))
    }
}

/// A transfer's answer between nodes.
pub fn put_transferred(result: &TransferLeaderResponse<Types>) -> Bytes {
    let mut out = BytesMut::with_capacity(48);
    match result {
        Ok(()) => out.put_u8(0),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            out.put_u8(1);
            expected.put(&mut out);
            actual.put(&mut out);
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            out.put_u8(2);
            expected.put(&mut out);
            actual.put(&mut out);
        }
    }
    out.freeze()
}

/// Reads what [`put_transferred`] wrote.
pub fn take_transferred(mut input: Bytes) -> Read<TransferLeaderResponse<Types>> {
    let input = &mut input;
    Ok(match u8::take(input)? {
        0 => Ok(()),
        1 => Err(TransferLeaderError::VoteChanged { expected: Vote::take(input)?, actual: Vote::take(input)? }),
        2 => Err(TransferLeaderError::LogNotFlushed { expected: take_option(input)?, actual: take_option(input)? }),
        _ => return Err(Malformed("transfer answer")),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn an_append_survives_the_wire_and_no_prefix_of_it_does() {
        let member = |name: &str| Member { node_id: 7, region: 2, name: name.into() };
        let nodes = BTreeMap::from([(1, member("a")), (2, member("b")), (u64::MAX, member("c"))]);
        let membership = Membership::new(vec![BTreeSet::from([1, 2]), BTreeSet::from([2, u64::MAX])], nodes).unwrap();
        let entries = vec![
            LogEntry { log_id: log_id(3, 1), payload: EntryPayload::Blank },
            LogEntry { log_id: log_id(3, 2), payload: EntryPayload::Normal(Data(Bytes::from_static(b"entry"))) },
            LogEntry { log_id: log_id(4, 3), payload: EntryPayload::Membership(membership) },
        ];
        let request = AppendEntriesRequest::<Types> {
            vote: Vote::new_committed(4, u64::MAX),
            prev_log_id: Some(log_id(2, 0)),
            entries,
            leader_commit: None,
        };
        let bytes = request.encode();
        let read = AppendEntriesRequest::<Types>::decode(bytes.clone()).unwrap();
        assert_eq!(format!("{request:?}"), format!("{read:?}"));
        assert_eq!(read.entries, request.entries);
        for len in 0..bytes.len() {
            assert!(AppendEntriesRequest::<Types>::decode(bytes.slice(..len)).is_err(), "prefix of {len}");
        }
    }

    #[test]
    fn answers_survive_the_wire() {
        for result in [
            Ok(None),
            Ok(Some(log_id(1, 9))),
            Err(StreamAppendError::Conflict(log_id(1, 2))),
            Err(StreamAppendError::HigherVote(Vote::new(5, 6))),
        ] {
            assert_eq!(take_appended(put_appended(&result)), Ok(result));
        }
        let vote = VoteResponse::<Types>::new(Vote::new(1, 2), Some(log_id(1, 1)), true);
        assert_eq!(VoteResponse::decode(vote.encode()), Ok(vote));
        let refused = Err(TransferLeaderError::LogNotFlushed { expected: Some(log_id(1, 2)), actual: None });
        assert_eq!(take_transferred(put_transferred(&refused)), Ok(refused));
    }
}
