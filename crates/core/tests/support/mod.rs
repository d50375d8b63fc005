//! What the tests of core share: one shard in memory, short names for ids, and the law checked at every step.
#![allow(dead_code)] // each test file uses its own part

pub mod bridge;
pub mod laws;
pub mod model;
mod model_life;

use kindred_core::apply::apply;
use kindred_core::canonical::sha256;
use kindred_core::command::{Command, Entry, Envelope, Outcome, Proven, Reply};
use kindred_core::id::{AccountId, ClaimId, DeviceKey, RegionIndex, RequestId, SessionId, Signature, Slot, TicketId};
use kindred_core::memory::Memory;
use kindred_core::model::{
    Account, Approval, ApprovalKind, Device, EndReason, Method, Receipt, Rejection, Requester, Scan, Session, Stub,
    Ticket, TicketOutcome, TicketState, Tombstone,
};
use kindred_core::state::{Key, Record, Shard as Clock, View as _};

pub const REGION: RegionIndex = RegionIndex(0);
/// Tickets are opened elsewhere, so that their saga has all its steps; see `at_home` for the others.
pub const ABROAD: RegionIndex = RegionIndex(1);
pub const HOUR_MS: u64 = 3_600_000;
pub const ENVELOPE: &[u8] = b"sealed for the companion";

/// One shard that is home to accounts, tickets and directory alike.
#[derive(Clone, Default)]
pub struct Shard {
    pub memory: Memory,
    pub index: u64,
    fresh: u64,
    unwatched: bool,
    laws: laws::Laws,
}

impl Shard {
    /// Applies one entry, twice (I14), checks the law, and goes on from there.
    pub fn entry(&mut self, elapsed_ms: u64, commands: Vec<Envelope>) -> Vec<(Reply, u64)> {
        self.index += 1;
        let mut entropy = [0; 32];
        entropy[..8].copy_from_slice(&self.index.to_be_bytes());
        let limits = commands.iter().filter_map(|envelope| match envelope.command {
            Command::SetLimit { limit, .. } => Some(limit),
            _ => None,
        });
        let limit = limits.max().unwrap_or_default();
        let entry = Entry { elapsed_ms, wall_ms: 1_700_000_000_000 + self.index, entropy, commands };
        let applied = apply(&self.memory, &entry, self.index, REGION).unwrap();
        let before = if self.unwatched { Memory::default() } else { self.memory.clone() };
        self.memory.absorb(&applied.changes);
        if !self.unwatched {
            assert_eq!(applied, apply(&before, &entry, self.index, REGION).unwrap(), "I14");
            assert!(applied.changes.windows(2).all(|w| w[0].0 < w[1].0), "changes come in order, one per key");
            self.laws.check(&before, &self.memory, limit);
        }
        assert_eq!(applied.time_ms, self.now());
        applied.replies
    }

    /// From here on the law is not checked: for histories so long that looking at every step is too slow.
    pub fn unwatched(&mut self) {
        self.unwatched = true;
    }

    /// One command in an entry of its own.
    pub fn run(&mut self, envelope: Envelope) -> Reply {
        self.entry(0, vec![envelope]).remove(0).0
    }

    /// One command under a request id that nobody used.
    pub fn ask(&mut self, proven: Proven, command: Command) -> Reply {
        self.fresh += 1;
        self.run(envelope(request(1 << 40 | self.fresh), proven, command))
    }

    pub fn by_cluster(&mut self, command: Command) -> Reply {
        self.ask(Proven::Cluster, command)
    }

    /// Shard time goes by as if many entries had passed; nothing fires before a command makes it.
    pub fn sleep(&mut self, ms: u64) {
        let mut clock = self.clock();
        clock.time_ms += ms;
        self.memory.records.insert(Key::Shard, Record::Shard(clock));
    }

    pub fn clock(&self) -> Clock {
        match self.memory.records.get(&Key::Shard) {
            Some(Record::Shard(clock)) => clock.clone(),
            _ => Clock::default(),
        }
    }

    pub fn now(&self) -> u64 {
        self.clock().time_ms
    }

    pub fn account(&self, id: &AccountId) -> Account {
        match self.memory.get(&Key::Account(id.clone())).unwrap() {
            Some(Record::Account(account)) => account,
            _ => panic!("no account {id}"),
        }
    }

    pub fn ticket(&self, id: &TicketId) -> Ticket {
        match self.memory.get(&Key::Ticket(*id)).unwrap() {
            Some(Record::Ticket(ticket)) => ticket,
            _ => panic!("no ticket {id}"),
        }
    }

    pub fn tombstone(&self, account: &AccountId, session: &SessionId) -> Option<Tombstone> {
        match self.memory.get(&Key::Tombstone(account.clone(), *session)).unwrap() {
            Some(Record::Tombstone(tombstone)) => Some(tombstone),
            _ => None,
        }
    }

    pub fn stub(&self, account: &AccountId, session: &SessionId) -> Option<Stub> {
        match self.memory.get(&Key::Stub(account.clone(), *session)).unwrap() {
            Some(Record::Stub(stub)) => Some(stub),
            _ => None,
        }
    }

    pub fn outcome(&self, account: &AccountId, ticket: &TicketId) -> Option<TicketOutcome> {
        match self.memory.get(&Key::Outcome(account.clone(), *ticket)).unwrap() {
            Some(Record::Outcome(outcome)) => Some(outcome),
            _ => None,
        }
    }

    pub fn count(&self, wanted: impl Fn(&Key) -> bool) -> usize {
        self.memory.records.keys().filter(|key| wanted(key)).count()
    }

    /// A registered account with its primary, whose key is `key(n)`.
    pub fn registered(&mut self, n: u8) -> (AccountId, Session) {
        let id = account(n);
        let reply = self.ask(Proven::Key(key(n)), register(&id, key(n)));
        assert!(matches!(reply, Ok(Outcome::Registered { .. })), "{reply:?}");
        (id.clone(), self.account(&id).sessions[0].clone())
    }

    /// A companion with `key(n)`, linked by `approver`.
    pub fn linked(&mut self, account: &AccountId, approver: &Session, n: u8) -> Session {
        let receipt = match self.link(account, approver, n, ApprovalKind::Link) {
            Ok(Outcome::Decided(TicketOutcome::Linked(receipt))) => receipt,
            other => panic!("not linked: {other:?}"),
        };
        self.account(account).sessions.into_iter().find(|s| s.id == receipt.session).unwrap()
    }

    /// The account's part of a pairing: a Link with an approval as it should be.
    pub fn link(&mut self, account: &AccountId, approver: &Session, n: u8, kind: ApprovalKind) -> Reply {
        self.fresh += 1;
        let ticket = ticket_id(n, 1 << 41 | self.fresh);
        let approval = Approval { kind, ..approval(&self.account(account), approver, &ticket, n) };
        self.by_cluster(link(ticket, n, approval))
    }

    /// The young period of everybody linked so far goes by.
    pub fn grow_up(&mut self) {
        self.sleep(24 * HOUR_MS);
    }
}

pub fn account(n: u8) -> AccountId {
    AccountId::new(format!("account-{n}").as_bytes()).unwrap()
}

pub fn key(n: u8) -> DeviceKey {
    DeviceKey([n; 32])
}

pub fn request(n: u64) -> RequestId {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    RequestId(id)
}

pub fn claim(n: u8) -> ClaimId {
    ClaimId([n; 16])
}

/// A session that nobody ever had.
pub fn nobody(n: u8) -> SessionId {
    SessionId([n; 16])
}

/// The ticket that the device with `key(n)` opens under that request id.
pub fn ticket_id(n: u8, opened_by: u64) -> TicketId {
    TicketId::compose(ABROAD, Slot::of(key(n).as_bytes()), &key(n), &request(opened_by))
}

pub fn envelope(request: RequestId, proven: Proven, command: Command) -> Envelope {
    Envelope { request, policy_version: 3, proven, command }
}

pub fn register(account: &AccountId, device_key: DeviceKey) -> Command {
    Command::Register { account: account.clone(), claim: claim(1), home: REGION, device_key, device: Device::default() }
}

pub fn open(n: u8, opened_by: u64) -> Envelope {
    let command = Command::Open {
        ticket: ticket_id(n, opened_by),
        device_key: key(n),
        method: Method::Qr,
        requester: Requester::default(),
    };
    envelope(request(opened_by), Proven::Key(key(n)), command)
}

pub fn scan(account: &Account, session: &Session) -> Scan {
    Scan {
        account: account.id.clone(),
        home: REGION,
        approver: session.id,
        approver_key: session.device_key,
        auth_epoch: account.auth_epoch,
        scanned_at_ms: 0,
    }
}

/// What the account's present state makes of a proof by that session.
pub fn proven(account: &Account, session: &Session) -> Proven {
    Proven::Session { session: session.id, key: session.device_key, auth_epoch: account.auth_epoch }
}

/// An approval as it should be, for the device with `key(n)`. The signature is a name only: apply compares, admit verifies.
pub fn approval(account: &Account, approver: &Session, ticket: &TicketId, n: u8) -> Approval {
    Approval {
        kind: ApprovalKind::Link,
        account: account.id.clone(),
        auth_epoch: account.auth_epoch,
        ticket: *ticket,
        device_key_hash: sha256(&[key(n).as_bytes()]),
        approver: approver.id,
        envelope_hash: sha256(&[ENVELOPE]),
        lifetime_ms: 160_000,
        signature: Signature([9; 64]),
    }
}

pub fn link(ticket: TicketId, n: u8, approval: Approval) -> Command {
    Command::Link { ticket, device_key: key(n), device: Device::default(), approval, approver_key: None }
}

pub fn approve(ticket: TicketId, approval: Approval) -> Command {
    Command::Approve { ticket, approval, envelope: ENVELOPE.to_vec(), number: None }
}

pub fn receipt(reply: &Reply) -> Receipt {
    match reply {
        Ok(Outcome::Decided(TicketOutcome::Linked(receipt))) => receipt.clone(),
        other => panic!("not linked: {other:?}"),
    }
}

pub fn refused(reason: Rejection) -> Reply {
    Ok(Outcome::Decided(TicketOutcome::Refused(reason)))
}

pub fn ended(reply: &Reply) -> Tombstone {
    match reply {
        Ok(Outcome::Ended(tombstone)) => tombstone.as_ref().clone(),
        other => panic!("not ended: {other:?}"),
    }
}

pub fn reason(reply: &Reply) -> EndReason {
    ended(reply).reason
}

pub fn state_name(state: &TicketState) -> &'static str {
    match state {
        TicketState::Open => "open",
        TicketState::Scanned(_) => "scanned",
        TicketState::Approved { .. } => "approved",
        TicketState::Linked { .. } => "linked",
        TicketState::Refused { .. } => "refused",
        TicketState::Expired => "expired",
        TicketState::Denied => "denied",
        TicketState::Cancelled => "cancelled",
        TicketState::Locked => "locked",
    }
}

/// The state of a ticket that came back, or the name of the rejection.
pub fn answer(reply: &Reply) -> String {
    match reply {
        Ok(Outcome::Ticket(ticket)) => state_name(&ticket.state).to_owned(),
        Ok(Outcome::Done) => "done".to_owned(),
        Ok(other) => format!("{other:?}"),
        Err(rejection) => rejection_name(rejection),
    }
}

pub fn rejection_name(rejection: &Rejection) -> String {
    let text = format!("{rejection:?}");
    text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}
