//! Commands, entries and what comes of them. `apply` is a pure function of (state, entry).

use crate::bundle::{Bundle, Page};
use crate::code::{MatchNumber, Standing};
use crate::id::{AccountId, ClaimId, DeviceKey, Digest, RegionIndex, RequestId, SessionId, ShardId, TicketId};
use crate::model::{
    Account, Approval, Deletion, Device, DirectoryEntry, Method, Receipt, Rejection, Requester, Scan, Session,
    SetChange, Stub, Ticket, TicketOutcome, Tombstone,
};
use crate::reconcile::{Believed, Verdict};

/// One log entry: what the proposing leader stamped, and the commands it batched.
///
/// Shard time advances by `min(elapsed_ms, SHARD_TIME_STEP_MS_MAX)`. `elapsed_ms` is monotonic time since the same
/// leader's previous entry and 0 in its first, so time without a leader counts for no deadline (I18).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Monotonic milliseconds since the same leader's previous entry; 0 in its first.
    pub elapsed_ms: u64,
    /// The leader's wall clock; for people, never for decisions.
    pub wall_ms: u64,
    /// Random bytes of the leader; a command's entropy is derived from it and its position.
    pub entropy: [u8; 32],
    /// At most [`crate::limits::ENTRY_COMMANDS_MAX`].
    pub commands: Vec<Envelope>,
}

/// A command with what makes it idempotent and verifiable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Idempotency key within the command's aggregate.
    pub request: RequestId,
    /// Linking policy in force at the frontend.
    pub policy_version: u64,
    /// Who proved it, as verified once by the leader before it proposed.
    pub proven: Proven,
    /// What to do.
    pub command: Command,
}

/// Who stands behind a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proven {
    /// The cluster itself (Tick, AckEffects, Expire, Settle, DecideTicket by expiry, Claim, Link).
    Cluster,
    /// A device key without a session (Open, Register, Cancel).
    Key(DeviceKey),
    /// A live session of the account, by its device key, under this auth_epoch.
    Session {
        /// The session.
        session: SessionId,
        /// Its key.
        key: DeviceKey,
        /// The epoch that the proof covers.
        auth_epoch: u64,
    },
    /// An operator.
    Operator(String),
}

/// Everything that can change a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, clippy::large_enum_variant)] // fields are the dictionary's words; values are short-lived
pub enum Command {
    /// Directory: first claim of an account id wins; the same claim again is the same answer.
    Claim { account: AccountId, claim: ClaimId, home: RegionIndex },
    /// Directory: the account exists at its home.
    ConfirmClaim { account: AccountId, claim: ClaimId, home_epoch: u64 },
    /// Makes the account with its primary session.
    Register { account: AccountId, claim: ClaimId, home: RegionIndex, device_key: DeviceKey, device: Device },
    /// Changes the companion limit.
    SetLimit { account: AccountId, limit: u32 },
    /// Opens a ticket.
    Open { ticket: TicketId, device_key: DeviceKey, method: Method, requester: Requester },
    /// Binds a ticket to the scanning account.
    Scan { ticket: TicketId, scan: Scan },
    /// Records the approval and sets [`crate::state::Timer::Saga`], so that the ticket's leader finishes what a dead frontend
    /// left behind. `number` is the one that the owner has confirmed; a CODE ticket asks for it.
    Approve { ticket: TicketId, approval: Approval, envelope: Vec<u8>, number: Option<MatchNumber> },
    /// The owner says no.
    Deny { ticket: TicketId },
    /// The companion gives up. In APPROVED it changes nothing here: DecideTicket decides.
    Cancel { ticket: TicketId },
    /// Ends those of the named OPEN and SCANNED tickets whose deadline has passed.
    Expire { tickets: Vec<TicketId> },
    /// Writes the account's decision into the APPROVED ticket.
    Settle { ticket: TicketId, outcome: TicketOutcome },
    /// Adds one session; with `approval.kind` LinkReplacing also ends the named one. Idempotent by ticket.
    /// `approver_key` verified the approval; one that was rotated since then links nobody. `None` in entries from before it
    /// was recorded.
    Link {
        ticket: TicketId,
        device_key: DeviceKey,
        device: Device,
        approval: Approval,
        approver_key: Option<DeviceKey>,
    },
    /// Decides an approved ticket against linking, unless it was decided already.
    DecideTicket { account: AccountId, ticket: TicketId, decision: Decision },
    /// Ends one session, by name.
    Unlink { account: AccountId, session: SessionId },
    /// Ends all sessions but `keep`; raises auth_epoch (I22). Names every session that it ends: those of `set_version`.
    UnlinkOthers { account: AccountId, keep: SessionId, set_version: u64 },
    /// Ends a session whose device key is in other hands, by name; for operators.
    Revoke { account: AccountId, session: SessionId },
    /// Locks or unlocks the account; raises auth_epoch and ends nothing.
    Lock { account: AccountId, locked: bool },
    /// Pins a companion or lets it go.
    Pin { account: AccountId, session: SessionId, pinned: bool },
    /// Gives a session another device key; membership stays.
    RotateDeviceKey { account: AccountId, session: SessionId, device_key: DeviceKey },
    /// Puts another phone in the primary's place and raises auth_epoch. Names every session that it ends: `ends` must be
    /// the primary, if there is one, and, unless they are kept, all companions, by seq.
    ReplacePrimary {
        account: AccountId,
        device_key: DeviceKey,
        device: Device,
        keep_companions: bool,
        ends: Vec<SessionId>,
    },
    /// Ends all sessions, those of `set_version`, and erases the account; stubs stay.
    Delete { account: AccountId, set_version: u64 },
    /// Directory: the account was deleted at its home; its id stays taken.
    MarkDeleted { account: AccountId, claim: ClaimId },
    /// Moves shard time and removes what has outlived its keeping.
    Tick,
    /// The effects were performed.
    AckEffects { effects: Vec<u64> },
    /// Binds a CODE ticket to the account that it names if the `right` code was typed, else counts a wrong try. The leader
    /// fills in both: it alone can derive the code. `tried` tells tries apart ([`crate::canonical::TicketKey::tried`]).
    ScanCode { ticket: TicketId, scan: Scan, tried: Digest, right: bool },
    /// At home: this CODE ticket is open for the account. Replaces an older one that was not scanned yet.
    AttachCode { account: AccountId, ticket: TicketId, requester: Requester },
    /// At home: its code was typed; it gives way to none.
    HoldCode { account: AccountId, ticket: TicketId },
    /// At home: the ticket is over, or approved and out of reach of codes.
    DetachCode { account: AccountId, ticket: TicketId },
    /// Writes an account that comes from elsewhere, if there is none of that id. By an operator.
    Install { bundle: Box<Bundle>, claim: ClaimId, home: RegionIndex },
}

/// A decision against linking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The companion cancelled.
    Cancelled,
    /// The ticket's time was over.
    Expired,
}

/// What a command achieved.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, clippy::large_enum_variant)] // fields are the dictionary's words; values are short-lived
pub enum Outcome {
    /// Nothing to report (Tick, AckEffects, Expire, ConfirmClaim, MarkDeleted, SetLimit, AttachCode, HoldCode, DetachCode).
    Done,
    /// The directory entry that stands.
    Claimed(DirectoryEntry),
    /// The account as registered.
    Registered { session: SessionId, set_version: u64 },
    /// The ticket as it now is.
    Ticket(Box<Ticket>),
    /// What became of the ticket at the account.
    Decided(TicketOutcome),
    /// The session has ended.
    Ended(Box<Tombstone>),
    /// These sessions have ended.
    EndedOthers { tombstones: Vec<Tombstone>, set_version: u64, auth_epoch: u64 },
    /// The account is here as installed; `again` if an earlier attempt of the same import did it.
    Installed { set_version: u64, auth_epoch: u64, again: bool },
    /// The session had ended long ago.
    EndedBefore(Stub),
    /// The account is locked or open, under this auth_epoch.
    Locked { locked: bool, auth_epoch: u64 },
    /// The session's record as it now is.
    Session(Box<Session>),
    /// The new primary, and whom it replaced.
    Replaced { session: SessionId, tombstones: Vec<Tombstone>, set_version: u64, auth_epoch: u64 },
    /// The account is gone; these were its sessions.
    Deleted { stubs: Vec<Stub>, set_version: u64 },
}

/// Answer to one command of an entry.
pub type Reply = Result<Outcome, Rejection>;

/// What a leader does after an apply; kept in a durable outbox until acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, clippy::large_enum_variant)] // fields are the dictionary's words; values are short-lived
pub enum Effect {
    /// Account's shard → ticket's shard: write the decision.
    Settle { ticket: TicketId, outcome: TicketOutcome },
    /// Account's shard → directory: the account exists.
    ConfirmClaim { account: AccountId, claim: ClaimId, home_epoch: u64 },
    /// Account's shard → directory: the account is no more.
    MarkDeleted { account: AccountId, claim: ClaimId },
    /// Ticket's shard → the account's home, found through the directory; nowhere if there is no such account.
    AttachCode { account: AccountId, ticket: TicketId, requester: Requester },
    /// Like [`Self::AttachCode`].
    HoldCode { account: AccountId, ticket: TicketId },
    /// Like [`Self::AttachCode`].
    DetachCode { account: AccountId, ticket: TicketId },
}

/// An effect in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxItem {
    /// Its number within the shard.
    pub id: u64,
    /// Shard time from which the leader performs it.
    pub due_ms: u64,
    /// What to do.
    pub effect: Effect,
}

/// The kept answer of a request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptReply {
    /// SHA-256 over the command; another command under the same id is REQUEST_ID_REUSED.
    pub command_hash: Digest,
    /// Log index at which it was decided.
    pub log_index: u64,
    /// The answer.
    pub reply: Reply,
}

/// A read of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// [`Answer::Account`].
    Account(AccountId),
    /// [`Answer::Session`].
    Session(AccountId, SessionId),
    /// [`Answer::Sessions`]: many at once, at most [`crate::limits::SESSIONS_ASKED_MAX`].
    Sessions(Vec<(AccountId, SessionId)>),
    /// Latest tombstone of this key in the account: [`Answer::Session`].
    SessionByKey(AccountId, DeviceKey),
    /// [`Answer::Changes`]: changes with version above the given one.
    Changes(AccountId, u64),
    /// [`Answer::Ticket`].
    Ticket(TicketId),
    /// [`Answer::Directory`].
    Directory(AccountId),
    /// [`Answer::Outcome`]: what became of a ticket at the account.
    Outcome(AccountId, TicketId),
    /// [`Answer::Nonce`]: is this nonce good at the shard, which must be the one that is asked?
    Nonce(ShardId, Vec<u8>),
    /// [`Answer::Code`]: the latest code of this account.
    Code(AccountId),
    /// [`Answer::Export`]: whole accounts behind this one, in order of id; from the first one on if there is none.
    Export(Option<AccountId>),
    /// [`Answer::Reconcile`]: how this view stands to the set.
    Reconcile(AccountId, Believed),
}

/// What a session is, for [`Query::Session`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionStatus {
    /// Live.
    Active(Box<Session>),
    /// Ended, with the proof.
    Ended(Box<Tombstone>),
    /// Never heard of; never a sign-out.
    Unknown,
    /// Live, and its account is locked: denied for now.
    Suspended {
        /// As it stands.
        session: Box<Session>,
        /// Since when, shard time.
        since_ms: u64,
    },
    /// Ended long ago, or with its account.
    Stub(Stub),
}

/// A [`SessionStatus`] without the session's record, for [`Query::Sessions`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Brief {
    /// Live.
    Active,
    /// Ended, with the proof.
    Ended(Box<Tombstone>),
    /// Never heard of; never a sign-out.
    Unknown,
    /// Live, and its account is locked: denied for now.
    Suspended {
        /// Since when, shard time.
        since_ms: u64,
    },
    /// Ended long ago, or with its account.
    Stub(Stub),
}

/// Answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, clippy::large_enum_variant)] // fields are the dictionary's words; values are short-lived
pub enum Answer {
    /// The account, if it is here.
    Account(Option<Box<Account>>),
    /// Status, and the account's set_version (none if the account is not here).
    Session { status: SessionStatus, set_version: Option<u64> },
    /// In the order of the question: status, and the account's set_version (none if the account is not here).
    Sessions(Vec<(Brief, Option<u64>)>),
    /// The account now, and the changes asked for, +1 each; empty with a newer account if they are no longer kept.
    Changes { account: Option<Box<Account>>, changes: Vec<SetChange> },
    /// The ticket, with its current ref and watch secret if this replica has the region's key.
    Ticket(Option<Box<TicketAnswer>>),
    /// The directory entry.
    Directory(Option<DirectoryEntry>),
    /// The outcome.
    Outcome(Option<TicketOutcome>),
    /// The account asked for was deleted here.
    Deleted(Deletion),
    /// Whether the nonce is good, and the next one; empty if this replica lacks the region's key.
    Nonce { is_fresh: bool, next: Vec<u8> },
    /// The account's latest code, for as long as it is remembered.
    Code(Option<Box<CodeAnswer>>),
    /// One page of accounts.
    Export(Box<Page>),
    /// The account as it is and the verdict, if it is here.
    Reconcile(Option<Box<Compared>>),
}

/// A view compared with the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The account that it was compared with.
    pub account: Account,
    /// How it stands.
    pub verdict: Verdict,
}

/// A CODE ticket as the account's home knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeAnswer {
    /// The ticket.
    pub ticket: TicketId,
    /// Who asks.
    pub requester: Requester,
    /// How long ago home heard of it, in ms.
    pub age_ms: u64,
    /// How long it can be typed at most, in ms; 0 once it is over.
    pub ttl_ms: u64,
    /// Where it stands.
    pub standing: Standing,
}

/// A ticket with what is derived from the region's ticket key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketAnswer {
    /// The ticket.
    pub ticket: Ticket,
    /// What is on screen. QR: the current ref, ticket id ‖ window ‖ MAC (34 bytes). CODE: the letters of the code (8 bytes).
    pub reference: Vec<u8>,
    /// How long it stays the current one, in ms.
    pub reference_ttl_ms: u64,
    /// How long the ticket has left, in ms.
    pub ticket_ttl_ms: u64,
    /// Resumes the watch without a signature; opens neither token nor envelope.
    pub watch_secret: Digest,
}

/// What a leader checks before it proposes. Signatures are not written to the log (the approval's is, as evidence).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// What would be proposed.
    pub envelope: Envelope,
    /// The caller's proof; none for the cluster's own commands.
    pub proof: Option<crate::canonical::DeviceProof>,
    /// For ReplacePrimary and RotateDeviceKey: proof by the new key, with the account and no session in it.
    pub possession: Option<crate::canonical::DeviceProof>,
    /// For Scan: the ref from the QR. For ScanCode: the letters that were typed.
    pub reference: Option<Vec<u8>>,
    /// Dropped unproposed after this long at the shard, ms.
    pub propose_within_ms: u64,
}

/// A command's answer with where it was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The answer.
    pub reply: Reply,
    /// Log index of the decision.
    pub log_index: u64,
    /// Shard time at the answer.
    pub shard_time_ms: u64,
    /// Nonce for the caller's next proof at this shard; empty for the cluster's own commands.
    pub nonce: Vec<u8>,
}

impl Command {
    /// The record family that the command's request id lives in; `None` for the cluster's own bookkeeping.
    pub fn aggregate(&self) -> Option<Aggregate> {
        match self {
            Self::Claim { .. }
            | Self::ConfirmClaim { .. }
            | Self::MarkDeleted { .. }
            | Self::Tick
            | Self::AckEffects { .. }
            | Self::Expire { .. } => None,
            // Idempotent by the ticket itself: its outcome is kept far longer than any request result.
            Self::Link { .. } | Self::DecideTicket { .. } | Self::Settle { .. } => None,
            Self::AttachCode { .. } | Self::HoldCode { .. } | Self::DetachCode { .. } => None,
            // Idempotent by its claim, for as long as the account exists.
            Self::Install { .. } => None,
            Self::Register { account, .. }
            | Self::SetLimit { account, .. }
            | Self::Unlink { account, .. }
            | Self::UnlinkOthers { account, .. }
            | Self::Revoke { account, .. }
            | Self::Lock { account, .. }
            | Self::Pin { account, .. }
            | Self::RotateDeviceKey { account, .. }
            | Self::ReplacePrimary { account, .. }
            | Self::Delete { account, .. } => Some(Aggregate::Account(account.clone())),
            Self::Open { ticket, .. }
            | Self::Scan { ticket, .. }
            | Self::ScanCode { ticket, .. }
            | Self::Approve { ticket, .. }
            | Self::Deny { ticket }
            | Self::Cancel { ticket } => Some(Aggregate::Ticket(*ticket)),
        }
    }
}

/// Unit of idempotency, and of watching.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aggregate {
    /// An account.
    Account(AccountId),
    /// A ticket.
    Ticket(TicketId),
}

/// The answer of a link, for callers that only want it.
pub fn receipt_of(outcome: &TicketOutcome) -> Option<&Receipt> {
    match outcome {
        TicketOutcome::Linked(receipt) => Some(receipt),
        _ => None,
    }
}
