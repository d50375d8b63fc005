//! Records as bytes: sealed with version, kind and checksum on disk, plain protobuf between nodes.
//!
//! ```text
//!   sealed:  format version (1) ‖ kind (1) ‖ payload ‖ crc32c over all before (4, big-endian)
//! ```
//!
//! State records hold a `kindred.storage.v1` message as payload; log and meta records hold bytes of the replica's. An
//! entry is not sealed by itself, since the log record around it is. Messages of `kindred.shard.v1` ride in the peer
//! protocol, which has its own framing.
//!
//! Decoding is total: any bytes give a value or [`Malformed`], and what this version does not know (an enum value, an
//! arm of a oneof, an id of another width) is malformed and never a default. Nesting is bounded by the schema, in which
//! no message contains itself.

mod bundle;
mod code;
mod convert;
mod decision;
mod entity;
mod entry;
mod life;
mod reconcile;
mod reply;
mod shard;

use bytes::{BufMut as _, Bytes, BytesMut};
use kindred_core::command::{Answer, Committed, Entry, Query, Submission};
use kindred_core::state::{Key, Record, Timer};
use prost::Message;

use crate::engine;
use crate::proto::shard::v1 as shard_pb;
use crate::proto::storage::v1 as pb;

/// The format that this version writes. A later version must read all earlier ones.
pub const FORMAT: u8 = 1;

/// Bytes before the payload.
const HEAD: usize = 2;
/// Bytes behind the payload.
const TAIL: usize = 4;

/// What a sealed record is, so that bytes found under the wrong key are noticed. Numbers are for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A log record; the payload is the replica's.
    Entry = 1,
    /// See [`crate::keys::MetaKey::Replica`].
    Replica = 2,
    /// See [`crate::keys::MetaKey::Vote`].
    Vote = 3,
    /// See [`crate::keys::MetaKey::Purged`].
    Purged = 4,
    /// See [`crate::keys::MetaKey::Committed`].
    Committed = 5,
    /// See [`crate::keys::MetaKey::Applied`].
    Applied = 6,
    /// See [`crate::keys::node_identity`].
    NodeIdentity = 10,
    /// One chunk of a snapshot on its way between nodes.
    Chunk = 11,
    /// [`Record::Stub`].
    Stub = 40,
    /// [`Record::Deleted`].
    Deleted = 41,
    /// [`Record::Shard`].
    Shard = 64,
    /// [`Record::Directory`].
    Directory = 65,
    /// [`Record::Account`].
    Account = 66,
    /// [`Record::Tombstone`].
    Tombstone = 67,
    /// [`Record::Change`].
    Change = 68,
    /// [`Record::Outcome`].
    Outcome = 69,
    /// [`Record::Ticket`].
    Ticket = 70,
    /// [`Record::Reply`].
    Reply = 71,
    /// [`Record::Timer`].
    Timer = 72,
    /// [`Record::Outbox`].
    Outbox = 73,
    /// [`Record::Codes`].
    Codes = 76,
    /// See [`Key::KeyIndex`].
    KeyIndex = 96,
    /// [`Record::Removals`].
    Removals = 100,
}

/// Bytes that are not what they should be, and in what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);

impl Malformed {
    const CHECKSUM: Self = Self("checksum of a record");
    const TOO_SHORT: Self = Self("record too short");

    /// True if the bytes are not what was written. Otherwise they are whole, and it is this program that does not know
    /// them: a newer one may have written them, so nothing must be thrown away.
    pub fn is_damage(&self) -> bool {
        [Self::CHECKSUM, Self::TOO_SHORT].contains(self)
    }
}

impl From<Malformed> for engine::Error {
    fn from(malformed: Malformed) -> Self {
        if malformed.is_damage() { Self::Corrupt(malformed.0.into()) } else { Self::Io(malformed.to_string()) }
    }
}

/// Seals `payload`.
pub fn seal(kind: Kind, payload: &[u8]) -> Bytes {
    let mut out = head(kind, payload.len());
    out.extend_from_slice(payload);
    close(out)
}

/// The payload of a sealed record, without a copy.
pub fn open(kind: Kind, sealed: &Bytes) -> Result<Bytes, Malformed> {
    let body = whole(sealed)?;
    let end = body.len();
    if body[0] != FORMAT {
        return Err(Malformed("format version of a record"));
    }
    if body[1] != kind as u8 {
        return Err(Malformed("kind of a record"));
    }
    Ok(sealed.slice(HEAD..end))
}

/// Fails if `sealed` is not what was written. What it means is not looked at, so whoever copies records need not know them.
pub fn check(sealed: &[u8]) -> Result<(), Malformed> {
    whole(sealed).map(|_| ())
}

/// The record without its checksum, which is right.
fn whole(sealed: &[u8]) -> Result<&[u8], Malformed> {
    let end = sealed.len().checked_sub(TAIL).filter(|end| *end >= HEAD).ok_or(Malformed::TOO_SHORT)?;
    let (body, sum) = sealed.split_at(end);
    if crc32c::crc32c(body).to_be_bytes() != sum { Err(Malformed::CHECKSUM) } else { Ok(body) }
}

/// An entry as it goes into a log record and over the wire.
pub fn encode_entry(entry: &Entry) -> Bytes {
    plain(&pb::Entry::from(entry))
}

/// Reads what [`encode_entry`] wrote.
pub fn decode_entry(bytes: &Bytes) -> Result<Entry, Malformed> {
    message::<pb::Entry>(bytes, "entry")?.try_into()
}

/// A state record as it is stored.
pub fn encode_record(record: &Record) -> Bytes {
    match record {
        Record::Shard(shard) => sealed(Kind::Shard, &pb::Shard::from(shard)),
        Record::Directory(entry) => sealed(Kind::Directory, &pb::DirectoryEntry::from(entry)),
        Record::Account(account) => sealed(Kind::Account, &pb::Account::from(account)),
        Record::Tombstone(tombstone) => sealed(Kind::Tombstone, &pb::Tombstone::from(tombstone)),
        Record::Change(change) => sealed(Kind::Change, &pb::SetChange::from(change)),
        Record::Outcome(outcome) => sealed(Kind::Outcome, &pb::TicketOutcome::from(outcome)),
        Record::Ticket(ticket) => sealed(Kind::Ticket, &pb::Ticket::from(ticket)),
        Record::Reply(kept) => sealed(Kind::Reply, &pb::KeptReply::from(kept)),
        Record::Timer => sealed(Kind::Timer, &pb::Unit {}),
        Record::Removals(timers) => sealed(Kind::Removals, &reply::removals(timers)),
        Record::Outbox(item) => sealed(Kind::Outbox, &pb::OutboxItem::from(item)),
        Record::Stub(stub) => sealed(Kind::Stub, &pb::Stub::from(stub)),
        Record::Deleted(deletion) => sealed(Kind::Deleted, &pb::Deletion::from(deletion)),
        Record::Codes(codes) => sealed(Kind::Codes, &pb::Codes::from(codes)),
    }
}

/// Reads the record under `key`; a record of another arm there is malformed.
pub fn decode_record(key: &Key, bytes: &Bytes) -> Result<Record, Malformed> {
    Ok(match key {
        Key::Shard => Record::Shard(unseal::<pb::Shard>(Kind::Shard, bytes, "shard")?.into()),
        Key::Directory(_) => {
            Record::Directory(unseal::<pb::DirectoryEntry>(Kind::Directory, bytes, "directory entry")?.try_into()?)
        }
        Key::Account(_) => Record::Account(unseal::<pb::Account>(Kind::Account, bytes, "account")?.try_into()?),
        Key::Tombstone(..) => {
            Record::Tombstone(unseal::<pb::Tombstone>(Kind::Tombstone, bytes, "tombstone")?.try_into()?)
        }
        Key::Change(..) => Record::Change(unseal::<pb::SetChange>(Kind::Change, bytes, "change")?.try_into()?),
        Key::Outcome(..) => Record::Outcome(unseal::<pb::TicketOutcome>(Kind::Outcome, bytes, "outcome")?.try_into()?),
        Key::Ticket(_) => Record::Ticket(unseal::<pb::Ticket>(Kind::Ticket, bytes, "ticket")?.try_into()?),
        Key::AccountReply(..) | Key::TicketReply(..) => {
            Record::Reply(unseal::<pb::KeptReply>(Kind::Reply, bytes, "kept reply")?.try_into()?)
        }
        Key::Timer(_, Timer::Removals(_)) => {
            Record::Removals(reply::timers(unseal::<pb::Removals>(Kind::Removals, bytes, "removals")?)?)
        }
        Key::Timer(..) => {
            unseal::<pb::Unit>(Kind::Timer, bytes, "timer")?;
            Record::Timer
        }
        Key::Outbox(_) => Record::Outbox(unseal::<pb::OutboxItem>(Kind::Outbox, bytes, "outbox item")?.try_into()?),
        Key::Stub(..) => Record::Stub(unseal::<pb::Stub>(Kind::Stub, bytes, "stub")?.try_into()?),
        Key::Deleted(_) => Record::Deleted(unseal::<pb::Deletion>(Kind::Deleted, bytes, "deletion")?.into()),
        Key::KeyIndex(..) => return Err(Malformed("an index entry among records")),
        Key::Codes(_) => Record::Codes(unseal::<pb::Codes>(Kind::Codes, bytes, "codes")?.try_into()?),
    })
}

/// A submission for the shard's leader.
pub fn encode_submission(submission: &Submission) -> Bytes {
    plain(&shard_pb::Submission::from(submission))
}

/// Reads what [`encode_submission`] wrote.
pub fn decode_submission(bytes: &Bytes) -> Result<Submission, Malformed> {
    message::<shard_pb::Submission>(bytes, "submission")?.try_into()
}

/// The leader's answer to a submission.
pub fn encode_committed(committed: &Committed) -> Bytes {
    plain(&shard_pb::Committed::from(committed))
}

/// Reads what [`encode_committed`] wrote.
pub fn decode_committed(bytes: &Bytes) -> Result<Committed, Malformed> {
    message::<shard_pb::Committed>(bytes, "committed")?.try_into()
}

/// A query for a replica of the shard.
pub fn encode_query(query: &Query) -> Bytes {
    plain(&shard_pb::Query::from(query))
}

/// Reads what [`encode_query`] wrote.
pub fn decode_query(bytes: &Bytes) -> Result<Query, Malformed> {
    message::<shard_pb::Query>(bytes, "query")?.try_into()
}

/// The answer to a query.
pub fn encode_answer(answer: &Answer) -> Bytes {
    plain(&shard_pb::Answer::from(answer))
}

/// Reads what [`encode_answer`] wrote.
pub fn decode_answer(bytes: &Bytes) -> Result<Answer, Malformed> {
    message::<shard_pb::Answer>(bytes, "answer")?.try_into()
}

/// An answer with how old it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The answer.
    pub answer: Answer,
    /// 0 for a linearizable read; for a local one, ms since the replica last heard that nothing was newer.
    pub age_ms: u64,
    /// Shard time of the state read.
    pub shard_time_ms: u64,
    /// Log index up to which that state is applied.
    pub applied_index: u64,
}

/// The answer to a query, with its age.
pub fn encode_observed(observed: &Observed) -> Bytes {
    plain(&shard_pb::Observed::from(observed))
}

/// Reads what [`encode_observed`] wrote.
pub fn decode_observed(bytes: &Bytes) -> Result<Observed, Malformed> {
    message::<shard_pb::Observed>(bytes, "observed answer")?.try_into()
}

fn head(kind: Kind, payload: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(HEAD + payload + TAIL);
    out.put_u8(FORMAT);
    out.put_u8(kind as u8);
    out
}

fn close(mut out: BytesMut) -> Bytes {
    let sum = crc32c::crc32c(&out);
    out.put_u32(sum);
    out.freeze()
}

/// Encodes straight between head and checksum.
fn sealed(kind: Kind, message: &impl Message) -> Bytes {
    let mut out = head(kind, message.encoded_len());
    message.encode_raw(&mut out);
    close(out)
}

fn unseal<M: Message + Default>(kind: Kind, bytes: &Bytes, what: &'static str) -> Result<M, Malformed> {
    message(&open(kind, bytes)?, what)
}

fn plain(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn message<M: Message + Default>(bytes: &Bytes, what: &'static str) -> Result<M, Malformed> {
    M::decode(bytes.clone()).map_err(|_| Malformed(what))
}
