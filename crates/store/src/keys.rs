//! The key-space of a node. Every key begins with its shard id (u32, big-endian), so a shard is one range per column.
//!
//! # Column `log`: shard ‖ index (u64)
//!
//! One per Raft entry that is not purged; written by the log writer, removed by purge (from the front) and truncation
//! (from the back). Value: [`Kind::Entry`] record, payload owned by the replica.
//!
//! # Column `state`: shard ‖ generation (u32) ‖ tag (u8) ‖ fields
//!
//! Written by the machine only, in one batch with [`MetaKey::Applied`]. A snapshot is installed beside the live state
//! under the next generation, then [`MetaKey::Applied`] names it, then the old range is deleted; a crash at any
//! point leaves one whole state. Values are sealed records of the [`Kind`] that belongs to the tag.
//!
//! | tag | key fields | how many | who changes it |
//! |---|---|---|---|
//! | 1 Shard | none | one | every entry |
//! | 2 Directory | account | one per account claimed here | Claim, ConfirmClaim |
//! | 3 Account | account | one per account | all commands of the account, Approve at home |
//! | 4 Tombstone | account, session | one per ended session, for `TOMBSTONE_TTL_MS` | whatever ends sessions, Install, Tick |
//! | 5 Change | account, set_version (u64) | the latest `CHANGES_KEPT` per account | as Account |
//! | 6 Outcome | account, ticket | one per ticket decided here, for `OUTCOME_TTL_MS` | Link, Approve at home, DecideTicket, Install, Tick |
//! | 7 Ticket | ticket | one per ticket, for `TICKET_KEPT_MS` after its end | ticket commands, Settle, Expire, Tick |
//! | 8 AccountReply | account, request | one per request, for `RESULT_TTL_MS` | account commands, Tick |
//! | 9 TicketReply | ticket, request | one per request, for `RESULT_TTL_MS` | ticket commands, Tick |
//! | 10 Timer | due ms (u64), timer tag (u8), its ids | about one per ticket, reply, outcome and tombstone | all of these |
//! | 11 Outbox | number (u64) | one per unperformed effect | Link, DecideTicket, Register, Install, Delete, CODE tickets, AckEffects |
//! | 32 KeyIndex | account, device key | one per device key that ever ended, while the account lives | with Tombstone, Tick; value: session id |
//! | 40 Stub | account, session | one per ended session without a tombstone, for ever | Delete, Tick |
//! | 41 Deleted | account | one per deleted account, for ever | Delete |
//! | 60 Codes | account | one per account with a code lately | AttachCode, HoldCode, DetachCode, Delete, Tick |
//!
//! # Column `meta`: shard ‖ tag (u8)
//!
//! See [`MetaKey`]. The shard id `0xFFFF_FFFF` is no shard: under it are the node's own facts.
//!
//! Integers are big-endian. An account id is written with `00` escaped as `00 FF` and ends with `00 00`; all other ids
//! have a fixed width. Both keep the order of the values, so the order of records is that of [`Key`].

use kindred_core::id::{AccountId, DeviceKey, RequestId, SessionId, ShardId, TicketId};
use kindred_core::state::{Key, Timer};

use crate::codec::{Kind, Malformed};

/// Not a shard: the prefix of what belongs to the node as a whole.
pub const NODE: ShardId = ShardId(u32::MAX);

const SHARD: u8 = 1;
const DIRECTORY: u8 = 2;
const ACCOUNT: u8 = 3;
const TOMBSTONE: u8 = 4;
const CHANGE: u8 = 5;
const OUTCOME: u8 = 6;
const TICKET: u8 = 7;
const ACCOUNT_REPLY: u8 = 8;
const TICKET_REPLY: u8 = 9;
const TIMER: u8 = 10;
const OUTBOX: u8 = 11;
const KEY_INDEX: u8 = 32;
const STUB: u8 = 40;
const DELETED: u8 = 41;
const CODES: u8 = 60;

const TICKET_DEADLINE: u8 = 1;
const SAGA: u8 = 2;
const TICKET_REMOVAL: u8 = 3;
const ACCOUNT_REPLY_REMOVAL: u8 = 4;
const TICKET_REPLY_REMOVAL: u8 = 5;
const OUTCOME_REMOVAL: u8 = 6;
const REMOVALS: u8 = 7;
const TOMBSTONE_AGEING: u8 = 40;
const ERASURE: u8 = 41;
const CODES_REMOVAL: u8 = 60;

/// Key in column `meta`, one each per shard. Values are opaque payloads of the replica, sealed as [`MetaKey::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetaKey {
    /// This replica's id; written once, before anything else of the shard.
    Replica,
    /// Raft's vote; by the log writer, always synced.
    Vote,
    /// The last purged log id; with every purge.
    Purged,
    /// The last log id known to be committed; by the log writer, unsynced is enough.
    Committed,
    /// The generation under which the state lives, the last applied log id and membership; in the batch of the entry's
    /// changes, or of the switch to an installed snapshot.
    Applied,
}

impl MetaKey {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Replica, Self::Vote, Self::Purged, Self::Committed, Self::Applied];

    /// The kind that its value is sealed as.
    pub fn kind(self) -> Kind {
        match self {
            Self::Replica => Kind::Replica,
            Self::Vote => Kind::Vote,
            Self::Purged => Kind::Purged,
            Self::Committed => Kind::Committed,
            Self::Applied => Kind::Applied,
        }
    }

    fn tag(self) -> u8 {
        match self {
            Self::Replica => 1,
            Self::Vote => 2,
            Self::Purged => 3,
            Self::Committed => 4,
            Self::Applied => 5,
        }
    }
}

/// Key of the log entry at `index`.
pub fn log(shard: ShardId, index: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(12);
    key.extend_from_slice(&shard.0.to_be_bytes());
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// Exclusive end of the shard's log: behind every index, before the next shard.
pub fn log_end(shard: ShardId) -> Vec<u8> {
    let mut key = log(shard, u64::MAX);
    key.push(0);
    key
}

/// Shard and index of a log key.
pub fn parse_log(key: &[u8]) -> Result<(ShardId, u64), Malformed> {
    let mut rest = Rest(key);
    let parsed = (ShardId(rest.u32()?), rest.u64()?);
    rest.end().map(|()| parsed)
}

/// Key of a shard's `meta` value.
pub fn meta(shard: ShardId, key: MetaKey) -> Vec<u8> {
    let mut out = shard.0.to_be_bytes().to_vec();
    out.push(key.tag());
    out
}

/// The range of a shard's `meta` values: `from <= key < to`.
pub fn meta_range(shard: ShardId) -> (Vec<u8>, Vec<u8>) {
    let from = shard.0.to_be_bytes().to_vec();
    let mut to = from.clone();
    to.push(u8::MAX);
    (from, to)
}

/// Key, in column `meta`, of the node's identity: node id and name, written once, and its cluster, written when it forms or
/// joins one; sealed as [`Kind::NodeIdentity`].
pub fn node_identity() -> Vec<u8> {
    let mut out = NODE.0.to_be_bytes().to_vec();
    out.push(1);
    out
}

/// Key of a record, or of an entry in the index of device keys.
pub fn state(shard: ShardId, generation: u32, key: &Key) -> Vec<u8> {
    let mut out = prefix(shard, generation);
    push_record_key(&mut out, key);
    out
}

/// The range of one generation of a shard's state: `from <= key < to`.
pub fn state_range(shard: ShardId, generation: u32) -> (Vec<u8>, Vec<u8>) {
    let from = prefix(shard, generation);
    let to = successor(&from);
    (from, to)
}

/// The range of the timers due at or before `until_ms`.
pub(crate) fn timers_range(shard: ShardId, generation: u32, until_ms: u64) -> (Vec<u8>, Vec<u8>) {
    let mut from = prefix(shard, generation);
    from.push(TIMER);
    let mut until = from.clone();
    until.extend_from_slice(&until_ms.to_be_bytes());
    (from, successor(&until))
}

/// The range of the outbox from `number` on.
pub(crate) fn outbox_range(shard: ShardId, generation: u32, number: u64) -> (Vec<u8>, Vec<u8>) {
    let mut all = prefix(shard, generation);
    all.push(OUTBOX);
    (state(shard, generation, &Key::Outbox(number)), successor(&all))
}

/// The range of the accounts behind `after`, or of all.
pub(crate) fn accounts_range(shard: ShardId, generation: u32, after: Option<&AccountId>) -> (Vec<u8>, Vec<u8>) {
    let mut all = prefix(shard, generation);
    all.push(ACCOUNT);
    let to = successor(&all);
    if let Some(after) = after {
        push_account(&mut all, after);
        all = successor(&all);
    }
    (all, to)
}

/// The range of an account's tombstones.
pub(crate) fn tombstones_range(shard: ShardId, generation: u32, account: &AccountId) -> (Vec<u8>, Vec<u8>) {
    account_range(shard, generation, TOMBSTONE, account)
}

/// The range of what became of tickets at an account.
pub(crate) fn outcomes_range(shard: ShardId, generation: u32, account: &AccountId) -> (Vec<u8>, Vec<u8>) {
    account_range(shard, generation, OUTCOME, account)
}

/// The range of an account's stubs.
pub(crate) fn stubs_range(shard: ShardId, generation: u32, account: &AccountId) -> (Vec<u8>, Vec<u8>) {
    account_range(shard, generation, STUB, account)
}

/// The range of an account's index of device keys.
pub(crate) fn key_index_range(shard: ShardId, generation: u32, account: &AccountId) -> (Vec<u8>, Vec<u8>) {
    account_range(shard, generation, KEY_INDEX, account)
}

fn account_range(shard: ShardId, generation: u32, tag: u8, account: &AccountId) -> (Vec<u8>, Vec<u8>) {
    let mut from = prefix(shard, generation);
    from.push(tag);
    push_account(&mut from, account);
    let to = successor(&from);
    (from, to)
}

/// Reads a key of column `state`. Accepts exactly what [`state()`] makes.
pub fn parse_state(key: &[u8]) -> Result<(ShardId, u32, Key), Malformed> {
    let mut rest = Rest(key);
    let (shard, generation, tag) = (ShardId(rest.u32()?), rest.u32()?, rest.u8()?);
    let key = match tag {
        SHARD => Key::Shard,
        DIRECTORY => Key::Directory(rest.account()?),
        ACCOUNT => Key::Account(rest.account()?),
        TOMBSTONE => Key::Tombstone(rest.account()?, SessionId(rest.array()?)),
        CHANGE => Key::Change(rest.account()?, rest.u64()?),
        OUTCOME => Key::Outcome(rest.account()?, TicketId(rest.array()?)),
        TICKET => Key::Ticket(TicketId(rest.array()?)),
        ACCOUNT_REPLY => Key::AccountReply(rest.account()?, RequestId(rest.array()?)),
        TICKET_REPLY => Key::TicketReply(TicketId(rest.array()?), RequestId(rest.array()?)),
        TIMER => Key::Timer(rest.u64()?, rest.timer()?),
        OUTBOX => Key::Outbox(rest.u64()?),
        STUB => Key::Stub(rest.account()?, SessionId(rest.array()?)),
        DELETED => Key::Deleted(rest.account()?),
        KEY_INDEX => Key::KeyIndex(rest.account()?, DeviceKey(rest.array()?)),
        CODES => Key::Codes(rest.account()?),
        _ => return Err(Malformed("unknown tag in a state key")),
    };
    rest.end().map(|()| (shard, generation, key))
}

fn prefix(shard: ShardId, generation: u32) -> Vec<u8> {
    // Room for the longest key that is common: an account of some twenty bytes and two ids.
    let mut out = Vec::with_capacity(80);
    out.extend_from_slice(&shard.0.to_be_bytes());
    out.extend_from_slice(&generation.to_be_bytes());
    out
}

fn push_record_key(out: &mut Vec<u8>, key: &Key) {
    match key {
        Key::Shard => out.push(SHARD),
        Key::Directory(account) => {
            out.push(DIRECTORY);
            push_account(out, account);
        }
        Key::Account(account) => {
            out.push(ACCOUNT);
            push_account(out, account);
        }
        Key::Tombstone(account, session) => {
            out.push(TOMBSTONE);
            push_account(out, account);
            #[cfg(kindred_mutants)]
            let session = &tombstone_key_by_mistake(session);
            out.extend_from_slice(session.as_bytes());
        }
        Key::Change(account, version) => {
            out.push(CHANGE);
            push_account(out, account);
            out.extend_from_slice(&version.to_be_bytes());
        }
        Key::Outcome(account, ticket) => {
            out.push(OUTCOME);
            push_account(out, account);
            out.extend_from_slice(ticket.as_bytes());
        }
        Key::Ticket(ticket) => {
            out.push(TICKET);
            out.extend_from_slice(ticket.as_bytes());
        }
        Key::AccountReply(account, request) => {
            out.push(ACCOUNT_REPLY);
            push_account(out, account);
            out.extend_from_slice(request.as_bytes());
        }
        Key::TicketReply(ticket, request) => {
            out.push(TICKET_REPLY);
            out.extend_from_slice(ticket.as_bytes());
            out.extend_from_slice(request.as_bytes());
        }
        Key::Timer(due_ms, timer) => {
            out.push(TIMER);
            out.extend_from_slice(&due_ms.to_be_bytes());
            push_timer(out, timer);
        }
        Key::Outbox(number) => {
            out.push(OUTBOX);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Key::KeyIndex(account, device_key) => {
            out.push(KEY_INDEX);
            push_account(out, account);
            out.extend_from_slice(device_key.as_bytes());
        }
        Key::Stub(account, session) => {
            out.push(STUB);
            push_account(out, account);
            out.extend_from_slice(session.as_bytes());
        }
        Key::Deleted(account) => {
            out.push(DELETED);
            push_account(out, account);
        }
        Key::Codes(account) => {
            out.push(CODES);
            push_account(out, account);
        }
    }
}

/// Four bits, because an account of a simulation ends some ten sessions and not some ten thousand.
#[cfg(kindred_mutants)]
fn tombstone_key_by_mistake(session: &SessionId) -> SessionId {
    if !kindred_core::mutants::is("tombstone-key-truncated") {
        return *session;
    }
    let mut head = [0; SessionId::LEN];
    head[0] = session.0[0] & 0xF0;
    SessionId(head)
}

fn push_timer(out: &mut Vec<u8>, timer: &Timer) {
    let mut tagged = |tag: u8, account: Option<&AccountId>, ids: [&[u8]; 2]| {
        out.push(tag);
        if let Some(account) = account {
            push_account(out, account);
        }
        ids.into_iter().for_each(|id| out.extend_from_slice(id));
    };
    match timer {
        Timer::TicketDeadline(ticket) => tagged(TICKET_DEADLINE, None, [ticket.as_bytes(), &[]]),
        Timer::Saga(ticket) => tagged(SAGA, None, [ticket.as_bytes(), &[]]),
        Timer::TicketRemoval(ticket) => tagged(TICKET_REMOVAL, None, [ticket.as_bytes(), &[]]),
        Timer::AccountReplyRemoval(account, request) => {
            tagged(ACCOUNT_REPLY_REMOVAL, Some(account), [request.as_bytes(), &[]]);
        }
        Timer::TicketReplyRemoval(ticket, request) => {
            tagged(TICKET_REPLY_REMOVAL, None, [ticket.as_bytes(), request.as_bytes()]);
        }
        Timer::OutcomeRemoval(account, ticket) => tagged(OUTCOME_REMOVAL, Some(account), [ticket.as_bytes(), &[]]),
        Timer::TombstoneAgeing(account, session) => {
            tagged(TOMBSTONE_AGEING, Some(account), [session.as_bytes(), &[]]);
        }
        Timer::Erasure(account) => tagged(ERASURE, Some(account), [&[], &[]]),
        Timer::Removals(log_index) => tagged(REMOVALS, None, [&log_index.to_be_bytes(), &[]]),
        Timer::CodesRemoval(account) => tagged(CODES_REMOVAL, Some(account), [&[], &[]]),
    }
}

/// A timer by itself, as it stands at the end of its key.
pub(crate) fn timer(timer: &Timer) -> Vec<u8> {
    let mut out = Vec::with_capacity(40);
    push_timer(&mut out, timer);
    out
}

/// Reads what [`timer`] wrote.
pub(crate) fn parse_timer(bytes: &[u8]) -> Result<Timer, Malformed> {
    let mut rest = Rest(bytes);
    let timer = rest.timer()?;
    rest.end()?;
    Ok(timer)
}

fn push_account(out: &mut Vec<u8>, account: &AccountId) {
    for byte in account.as_bytes() {
        out.push(*byte);
        if *byte == 0 {
            out.push(u8::MAX);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// The first key behind all that begin with `prefix`.
fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut out = prefix.to_vec();
    while let Some(last) = out.pop() {
        if let Some(next) = last.checked_add(1) {
            out.push(next);
            return out;
        }
    }
    // Nothing lies behind a prefix of all ones. No key does, since no shard has that id; any long run of ones will do.
    vec![u8::MAX; 128]
}

/// What is left to read of a key.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Malformed("key too short"))?;
        self.0 = tail;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    fn account(&mut self) -> Result<AccountId, Malformed> {
        let mut id = Vec::with_capacity(32);
        loop {
            match self.u8()? {
                0 => match self.u8()? {
                    0 => break,
                    u8::MAX => id.push(0),
                    _ => return Err(Malformed("bad escape in an account id")),
                },
                byte => id.push(byte),
            }
        }
        AccountId::new(&id).ok_or(Malformed("length of an account id in a key"))
    }

    fn timer(&mut self) -> Result<Timer, Malformed> {
        Ok(match self.u8()? {
            TICKET_DEADLINE => Timer::TicketDeadline(TicketId(self.array()?)),
            SAGA => Timer::Saga(TicketId(self.array()?)),
            TICKET_REMOVAL => Timer::TicketRemoval(TicketId(self.array()?)),
            ACCOUNT_REPLY_REMOVAL => Timer::AccountReplyRemoval(self.account()?, RequestId(self.array()?)),
            TICKET_REPLY_REMOVAL => Timer::TicketReplyRemoval(TicketId(self.array()?), RequestId(self.array()?)),
            OUTCOME_REMOVAL => Timer::OutcomeRemoval(self.account()?, TicketId(self.array()?)),
            TOMBSTONE_AGEING => Timer::TombstoneAgeing(self.account()?, SessionId(self.array()?)),
            ERASURE => Timer::Erasure(self.account()?),
            REMOVALS => Timer::Removals(self.u64()?),
            CODES_REMOVAL => Timer::CodesRemoval(self.account()?),
            _ => return Err(Malformed("unknown tag of a timer")),
        })
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("key too long")) }
    }
}
