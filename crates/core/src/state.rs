//! The records of a shard and the view through which `apply` reads them.

use crate::code::Codes;
use crate::command::{KeptReply, OutboxItem};
use crate::id::{AccountId, DeviceKey, RequestId, SessionId, TicketId};
use crate::limits::TIMERS_PASSED_MAX;
use crate::model::{Account, Deletion, DirectoryEntry, SetChange, Stub, Ticket, TicketOutcome, Tombstone};

/// Key of a record within a shard. Order of the arms is the order on disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The shard's clock and counters; one per shard.
    Shard,
    /// One per account claimed here.
    Directory(AccountId),
    /// One per account.
    Account(AccountId),
    /// One per ended session.
    Tombstone(AccountId, SessionId),
    /// One per membership change, the latest `CHANGES_KEPT`; by set_version.
    Change(AccountId, u64),
    /// One per ticket decided here.
    Outcome(AccountId, TicketId),
    /// One per ticket.
    Ticket(TicketId),
    /// One per request id of an account.
    AccountReply(AccountId, RequestId),
    /// One per request id of a ticket.
    TicketReply(TicketId, RequestId),
    /// One per deadline: (due shard time, what).
    Timer(u64, Timer),
    /// One per unperformed effect, by number.
    Outbox(u64),
    /// The view's own index from a device key to the session that it had when that ended. Holds no [`Record`]: it follows
    /// from the tombstones, and core only deletes it.
    KeyIndex(AccountId, DeviceKey),
    /// One per ended session whose tombstone is gone.
    Stub(AccountId, SessionId),
    /// One per deleted account.
    Deleted(AccountId),
    /// At most one per account, for as long as a code of it matters.
    Codes(AccountId),
}

/// What a deadline is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// OPEN or SCANNED ends: proposed as Expire.
    TicketDeadline(TicketId),
    /// An APPROVED ticket that nobody has settled: the leader's driver links it at the account's home (or, past
    /// `deadline_ms`, submits DecideTicket EXPIRED there). Set by Approve, removed by Settle; a due one stays until then,
    /// so the driver remembers which it is working on. The home's outbox then settles the ticket.
    Saga(TicketId),
    /// A settled ticket and its replies may go: done by Tick.
    TicketRemoval(TicketId),
    /// A kept reply may go: done by Tick.
    AccountReplyRemoval(AccountId, RequestId),
    /// A kept reply of a ticket may go: done by Tick.
    TicketReplyRemoval(TicketId, RequestId),
    /// A ticket outcome may go: done by Tick.
    OutcomeRemoval(AccountId, TicketId),
    /// Several removals that one entry, this one by log index, has put down for the same moment: done by Tick. One record
    /// for all of them, because a busy shard would write as many timers as everything else together.
    Removals(u64),
    /// A tombstone becomes a stub: done by Tick.
    TombstoneAgeing(AccountId, SessionId),
    /// A deleted account's tombstones and device keys go: done by Tick, some at a time.
    Erasure(AccountId),
    /// An account's codes may go: done by Tick.
    CodesRemoval(AccountId),
}

impl Timer {
    /// True for what Tick does; the leader has to act on all others.
    pub fn is_removal(&self) -> bool {
        matches!(self, Self::Removals(_) | Self::TombstoneAgeing(..) | Self::Erasure(_)) || self.removes().is_some()
    }

    /// True if it may be put down in a [`Self::Removals`] with others. That of an account's codes is moved when they change,
    /// so it has to be found by itself.
    pub fn may_share(&self) -> bool {
        self.removes().is_some() && !matches!(self, Self::CodesRemoval(_))
    }

    /// The one record that goes when this timer is due. `None` for what the leader has to act on, for what takes more than
    /// that, and for [`Self::Removals`], whose record lists what goes.
    pub fn removes(&self) -> Option<Key> {
        match self {
            Self::TicketDeadline(_)
            | Self::Saga(_)
            | Self::Removals(_)
            | Self::TombstoneAgeing(..)
            | Self::Erasure(_) => None,
            Self::TicketRemoval(ticket) => Some(Key::Ticket(*ticket)),
            Self::AccountReplyRemoval(account, request) => Some(Key::AccountReply(account.clone(), *request)),
            Self::TicketReplyRemoval(ticket, request) => Some(Key::TicketReply(*ticket, *request)),
            Self::OutcomeRemoval(account, ticket) => Some(Key::Outcome(account.clone(), *ticket)),
            Self::CodesRemoval(account) => Some(Key::Codes(account.clone())),
        }
    }
}

/// The shard's clock and counters.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Shard {
    /// Shard time, ms since the shard was made.
    pub time_ms: u64,
    /// Next number in the outbox.
    pub next_effect: u64,
}

/// A record's value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // short-lived: decoded, changed, encoded
pub enum Record {
    /// For [`Key::Shard`].
    Shard(Shard),
    /// For [`Key::Directory`].
    Directory(DirectoryEntry),
    /// For [`Key::Account`].
    Account(Account),
    /// For [`Key::Tombstone`].
    Tombstone(Tombstone),
    /// For [`Key::Change`].
    Change(SetChange),
    /// For [`Key::Outcome`].
    Outcome(TicketOutcome),
    /// For [`Key::Ticket`].
    Ticket(Ticket),
    /// For [`Key::AccountReply`] and [`Key::TicketReply`].
    Reply(KeptReply),
    /// For [`Key::Timer`]; the key says it all.
    Timer,
    /// For [`Timer::Removals`]: each of them removes one record.
    Removals(Vec<Timer>),
    /// For [`Key::Outbox`].
    Outbox(OutboxItem),
    /// For [`Key::Stub`].
    Stub(Stub),
    /// For [`Key::Deleted`].
    Deleted(Deletion),
    /// For [`Key::Codes`].
    Codes(Codes),
}

/// Reading failed; the replica cannot go on.
#[derive(Debug, Clone, thiserror::Error)]
#[error("state cannot be read: {what}")]
pub struct ReadError {
    /// What went wrong.
    pub what: String,
    /// Stored bytes are damaged. False for anything that another program version, or more memory, might read.
    pub damaged: bool,
}

/// Read access to one shard's state at one point of its log.
pub trait View {
    /// The record under `key`.
    fn get(&self, key: &Key) -> Result<Option<Record>, ReadError>;

    /// Shows the account, if it is here, without a copy where the view can.
    fn look_at_account(&self, id: &AccountId, look: &mut dyn FnMut(&Account)) -> Result<(), ReadError> {
        if let Some(Record::Account(account)) = self.get(&Key::Account(id.clone()))? {
            look(&account);
        }
        Ok(())
    }

    /// Timers due at or before `until_ms`, earliest first, at most `limit`.
    fn timers(&self, until_ms: u64, limit: usize) -> Result<Vec<(u64, Timer)>, ReadError>;

    /// Outbox items in order of number from `from` on, at most `limit`.
    fn outbox(&self, from: u64, limit: usize) -> Result<Vec<OutboxItem>, ReadError>;

    /// Accounts in order of id, those behind `after` if it is given, at most `limit`.
    fn accounts(&self, after: Option<&AccountId>, limit: usize) -> Result<Vec<Account>, ReadError>;
    /// The latest ended session of `account` that had this device key; its tombstone or its stub is there.
    fn ended_by_key(&self, account: &AccountId, key: &DeviceKey) -> Result<Option<SessionId>, ReadError>;

    /// Tombstones of `account` in order of session id, at most `limit`.
    fn tombstones(&self, account: &AccountId, limit: usize) -> Result<Vec<Tombstone>, ReadError>;

    /// Stubs of `account` in order of session id, at most `limit`.
    fn stubs(&self, account: &AccountId, limit: usize) -> Result<Vec<Stub>, ReadError>;

    /// What became of tickets at `account`, in order of ticket id, at most `limit`.
    fn outcomes(&self, account: &AccountId, limit: usize) -> Result<Vec<(TicketId, TicketOutcome)>, ReadError>;

    /// Device keys of `account` that [`Self::ended_by_key`] knows, in order, at most `limit`.
    fn ended_keys(&self, account: &AccountId, limit: usize) -> Result<Vec<DeviceKey>, ReadError>;
}

/// The first `limit` due timers that are `wanted`. Others in front do not hide them: the Sagas of a region that is down stay
/// due until it is back, and neither removals nor other tickets may wait for that. Looks at [`TIMERS_PASSED_MAX`] timers
/// at most; what lies behind those waits.
pub fn due(
    view: &dyn View,
    until_ms: u64,
    limit: usize,
    wanted: impl Fn(u64, &Timer) -> bool,
) -> Result<Vec<(u64, Timer)>, ReadError> {
    let mut look = limit.clamp(1, TIMERS_PASSED_MAX);
    loop {
        let seen = view.timers(until_ms, look)?;
        let all = seen.len() < look || look == TIMERS_PASSED_MAX;
        let found: Vec<_> = seen.into_iter().filter(|(due_ms, timer)| wanted(*due_ms, timer)).take(limit).collect();
        if all || found.len() == limit {
            return Ok(found);
        }
        look = look.saturating_mul(4).min(TIMERS_PASSED_MAX);
    }
}

/// One write of an apply; `None` deletes.
pub type Change = (Key, Option<Record>);

/// Result of applying one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Writes, in key order, one per key; to be committed together with the applied index.
    pub changes: Vec<Change>,
    /// One reply per command, in order, with the log index that decided it (an earlier one for repeats).
    pub replies: Vec<(crate::command::Reply, u64)>,
    /// Aggregates whose watchers should look again.
    pub touched: Vec<crate::command::Aggregate>,
    /// Shard time after the entry.
    pub time_ms: u64,
    /// True if the outbox gained items.
    pub effects: bool,
}
