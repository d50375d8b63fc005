//! Entities as they are stored. One aggregate is one or more [`crate::state::Record`]s that change in one entry.

use crate::id::{AccountId, ClaimId, DeviceKey, Digest, RegionIndex, RequestId, SessionId, Signature, TicketId};

/// The session set of one account and what guards it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Who it is.
    pub id: AccountId,
    /// Where its commands are accepted.
    pub home: RegionIndex,
    /// Fences moves of the home (I16).
    pub home_epoch: u64,
    /// Raised by UnlinkOthers and other acts that void earlier approvals (I22).
    pub auth_epoch: u64,
    /// +1 per membership change (I5).
    pub set_version: u64,
    /// Hash chain over the membership changes.
    pub set_digest: Digest,
    /// Next session number; never runs back (I4).
    pub next_session_seq: u64,
    /// Most companions at once.
    pub companion_limit: u32,
    /// The directory claim that made it.
    pub claim: ClaimId,
    /// When it was registered, shard time.
    pub registered_at_ms: u64,
    /// Live sessions, ordered by seq.
    pub sessions: Vec<Session>,
    /// Since when an operator has it locked, shard time. Ends nothing; see [`crate::rules`].
    pub locked_at_ms: Option<u64>,
    /// Raised by every change that is none of membership: lock, limit, a pin, a key.
    pub record_version: u64,
}

/// Role of a device in its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The phone that owns the account.
    Primary,
    /// A linked device.
    Companion,
}

/// What a device says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Device {
    /// Kind of app, for example `web`, `desktop`, `android`.
    pub platform: String,
    /// Version of the app.
    pub app_version: String,
    /// Opaque name shown to the owner.
    pub display_name: Vec<u8>,
}

/// The live, credentialed presence of one device in an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id, never reused.
    pub id: SessionId,
    /// Its number within the account, never reused.
    pub seq: u64,
    /// The installation's public key.
    pub device_key: DeviceKey,
    /// Primary or companion.
    pub role: Role,
    /// What the device said of itself.
    pub device: Device,
    /// When it was linked, shard time.
    pub linked_at_ms: u64,
    /// When it was linked, the leader's wall clock; for people, never for decisions.
    pub linked_wall_ms: u64,
    /// The session that approved it; none for the primary.
    pub linked_by: Option<SessionId>,
    /// The ticket through which it came; none for the primary.
    pub ticket: Option<TicketId>,
    /// Linking policy in force at that moment.
    pub policy_version: u64,
    /// Raised by RotateDeviceKey only.
    pub key_generation: u64,
    /// Raised by every change of this record.
    pub record_version: u64,
    /// May end only itself before this shard time (I20); 0 for the primary.
    pub quarantine_until_ms: u64,
    /// Ended by itself, the primary or an operator only, never by a sibling.
    pub pinned: bool,
}

/// Why a session ended. There is no "unknown".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndReason {
    /// The primary unlinked it.
    UserUnlinkedFromPrimary,
    /// Another companion unlinked it.
    UserUnlinkedFromSibling,
    /// It ended itself.
    SelfLogout,
    /// A session signed all others out.
    LogoutOthers,
    /// A link whose approval named it took its place.
    ReplacedByLink,
    /// An operator ended it.
    AdminRevoked,
    /// Another phone took the primary's place; its companions too, if the owner said so.
    PrimaryReplaced,
    /// Its account was deleted.
    AccountDeleted,
    /// An operator knows that its device key is in other hands.
    CredentialCompromised,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::UserUnlinkedFromPrimary,
        Self::UserUnlinkedFromSibling,
        Self::SelfLogout,
        Self::LogoutOthers,
        Self::ReplacedByLink,
        Self::AdminRevoked,
        Self::PrimaryReplaced,
        Self::AccountDeleted,
        Self::CredentialCompromised,
    ];
}

/// Who did it, as proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A session of the account, by its device key.
    Session(SessionId),
    /// An operator, by certificate.
    Operator(String),
}

/// Immutable record of how and why a session ended (I3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The session that ended, as it last was.
    pub session: Session,
    /// Why.
    pub reason: EndReason,
    /// By whom.
    pub actor: Actor,
    /// Through which command.
    pub command: RequestId,
    /// At which log index of the account's shard.
    pub log_index: u64,
    /// set_version after the change.
    pub set_version: u64,
    /// When, shard time.
    pub at_ms: u64,
    /// When, the leader's wall clock; for people.
    pub wall_ms: u64,
    /// The account's home then.
    pub region: RegionIndex,
    /// Policy in force.
    pub policy_version: u64,
}

/// What is left of a tombstone for ever: enough that "signed out" never turns into "unknown", and nothing that tells of a
/// person. After 90 days, and at once when the account is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stub {
    /// The session that ended.
    pub session: SessionId,
    /// Its number.
    pub seq: u64,
    /// Why.
    pub reason: EndReason,
    /// At which log index of the account's shard.
    pub log_index: u64,
}

impl From<&Tombstone> for Stub {
    fn from(tombstone: &Tombstone) -> Self {
        let Tombstone { session, reason, log_index, .. } = tombstone;
        Self { session: session.id, seq: session.seq, reason: *reason, log_index: *log_index }
    }
}

/// What is left of a deleted account at its home, for ever: its id is never registered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// set_version after it.
    pub set_version: u64,
    /// At which log index.
    pub log_index: u64,
    /// When, shard time.
    pub at_ms: u64,
}

/// How a ticket is shown to the phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// As a QR code with rotating refs.
    Qr,
    /// As a code that is typed on a phone of the account named here. Found through that account, never by its id.
    Code {
        /// The account that the companion's user gave.
        account: AccountId,
        /// Wrong codes that were typed; at [`crate::limits::CODE_TRIES_MAX`] the ticket is LOCKED. 0 when it is opened.
        wrong_tries: u8,
    },
}

/// Who asks to be linked, shown to the owner before approval.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Requester {
    /// The companion's own words.
    pub device: Device,
    /// Coarse location as seen by the companion's gateway.
    pub location: String,
}

/// A single-use, expiring pairing offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Its id.
    pub id: TicketId,
    /// The companion's key; everything in the ticket is bound to it.
    pub device_key: DeviceKey,
    /// QR or CODE.
    pub method: Method,
    /// Another account tried to scan it after it was bound: whoever sits before the companion should open a new one.
    pub contested: bool,
    /// The request that opened it.
    pub opened_by: RequestId,
    /// Shown before approval.
    pub requester: Requester,
    /// Shard time of opening.
    pub opened_at_ms: u64,
    /// Shard time at which OPEN and SCANNED end.
    pub deadline_ms: u64,
    /// Raised by every change, starting with 1.
    pub version: u64,
    /// Where it stands.
    pub state: TicketState,
}

/// State of a ticket with the data that is true in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TicketState {
    /// Waiting for a scan.
    Open,
    /// Bound to an account; waiting for its decision.
    Scanned(Scan),
    /// Approved; leaves only by Settle.
    Approved {
        /// The scan that it rests on.
        scan: Scan,
        /// The signed approval.
        approval: Approval,
        /// Opaque bytes for the companion.
        envelope: Vec<u8>,
        /// Shard time of the approval.
        approved_at_ms: u64,
        /// The request that approved it; its receipt answers a retry.
        approved_by: RequestId,
    },
    /// The account's shard linked it.
    Linked {
        /// The account.
        account: AccountId,
        /// The new session, as committed.
        receipt: Receipt,
        /// Opaque bytes for the companion.
        envelope: Vec<u8>,
    },
    /// The account's shard refused it.
    Refused {
        /// The account.
        account: AccountId,
        /// Why.
        reason: Rejection,
    },
    /// Nobody decided in time.
    Expired,
    /// The owner said no.
    Denied,
    /// The companion gave up.
    Cancelled,
    /// Too many wrong codes were typed.
    Locked,
}

/// A scan: the approver as read, linearizably, at the account's home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The account that scanned.
    pub account: AccountId,
    /// The account's home, so that no look-up stands between approval and link.
    pub home: RegionIndex,
    /// The session that scanned; only it may approve or deny.
    pub approver: SessionId,
    /// Its key then.
    pub approver_key: DeviceKey,
    /// The account's auth_epoch then.
    pub auth_epoch: u64,
    /// Shard time of the scan.
    pub scanned_at_ms: u64,
}

/// What an approval asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalKind {
    /// Add a session.
    Link,
    /// Add a session and end this one, which the approver names.
    LinkReplacing(SessionId),
}

/// The approver's signed statement; see [`crate::canonical::approval_bytes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Link, or link replacing a named session.
    pub kind: ApprovalKind,
    /// For which account.
    pub account: AccountId,
    /// Under which auth_epoch.
    pub auth_epoch: u64,
    /// Which ticket.
    pub ticket: TicketId,
    /// SHA-256 of the companion's device key, as the phone saw it.
    pub device_key_hash: Digest,
    /// Who approves.
    pub approver: SessionId,
    /// SHA-256 of the envelope.
    pub envelope_hash: Digest,
    /// How long after the scan it may be used, in shard time of the ticket.
    pub lifetime_ms: u64,
    /// Over all of the above and the cluster id, by the approver's device key.
    pub signature: Signature,
}

/// What a link did, the same for every repeat of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The new session.
    pub session: SessionId,
    /// Its number.
    pub seq: u64,
    /// set_version before.
    pub version_before: u64,
    /// set_version after.
    pub version_after: u64,
    /// Digest after.
    pub digest_after: Digest,
    /// Sessions before, by seq.
    pub sessions_before: Vec<SessionId>,
    /// Sessions after, by seq.
    pub sessions_after: Vec<SessionId>,
    /// Log index at the account's shard.
    pub log_index: u64,
}

/// What became of a ticket, decided once, in the account's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TicketOutcome {
    /// Linked.
    Linked(Receipt),
    /// Refused by the account.
    Refused(Rejection),
    /// Cancelled by the companion after the approval and before the link.
    Cancelled,
    /// Not linked in time.
    Expired,
}

/// One membership change, kept for watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetChange {
    /// set_version that it made.
    pub version: u64,
    /// Digest after it.
    pub digest: Digest,
    /// Sessions that came.
    pub added: Vec<Session>,
    /// Sessions that left, each with its tombstone.
    pub ended: Vec<Tombstone>,
    /// The command.
    pub command: RequestId,
    /// Log index.
    pub log_index: u64,
    /// Wall clock of the leader; for people.
    pub wall_ms: u64,
}

/// Directory entry of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The account.
    pub account: AccountId,
    /// The claim that won.
    pub claim: ClaimId,
    /// Its home.
    pub home: RegionIndex,
    /// Claimed or confirmed.
    pub state: DirectoryState,
}

/// How far a registration has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryState {
    /// Claimed; the account may not exist yet.
    Claimed,
    /// The account exists at its home under this epoch.
    Home {
        /// Fences home moves.
        home_epoch: u64,
    },
    /// The account was deleted; the id stays taken, and the home keeps the stubs of its sessions.
    Deleted,
}

/// A business refusal: data, replicated and repeated like any outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// No such ticket here.
    TicketNotFound,
    /// Its time is over.
    TicketExpired,
    /// The companion cancelled it.
    TicketCancelled,
    /// The owner denied it.
    TicketDenied,
    /// It is bound to another account, or its single use is spent.
    TicketAlreadyUsed,
    /// The step does not fit the ticket's state, named here (an approval before a scan, say).
    TicketNotReady,
    /// The approval does not verify, or does not cover this ticket, key, envelope or account.
    ApprovalInvalid,
    /// auth_epoch has moved on; scan again.
    EpochChanged {
        /// Now in force.
        auth_epoch: u64,
    },
    /// No room; nothing is ever evicted (I8).
    CompanionLimitReached {
        /// Companions now.
        now: u32,
        /// The limit.
        max: u32,
    },
    /// This key has a session in the account already.
    DeviceKeyAlreadyLinked {
        /// That session.
        session: SessionId,
    },
    /// Young sessions may end only themselves (I20).
    QuarantinedActor {
        /// Shard time from which it may.
        until_ms: u64,
    },
    /// See [`crate::rules`].
    CallerNotAllowed,
    /// The proof does not verify, or its session is not live.
    ProofInvalid,
    /// The request id was used with other arguments.
    RequestIdReused,
    /// The account is registered already.
    AccountExists,
    /// No such account here.
    AccountNotFound,
    /// The account never had such a session; for a replacement: has no such session now.
    SessionUnknown,
    /// The session has ended; its tombstone tells why.
    SessionEnded(Box<Tombstone>),
    /// set_version is not the one that the caller relied on.
    SetVersionConflict {
        /// Now in force.
        current: u64,
    },
    /// A field is out of bounds; its name.
    InvalidRequest(&'static str),
    /// The proof verifies, and its nonce is none of ours or too old. Never kept: the same request id goes with the new one.
    NonceStale {
        /// To be signed instead; empty where the leader lacks the region's key.
        nonce: Vec<u8>,
    },
    /// An operator has locked the account.
    AccountLocked,
    /// A sibling cannot end a pinned session.
    SessionPinned {
        /// That session.
        session: SessionId,
    },
    /// Too many wrong codes were typed.
    TicketLocked,
    /// The code that was typed is not the ticket's.
    CodeMismatch {
        /// Tries left.
        left: u8,
    },
    /// The approval lacks the number that both screens show, or has another one.
    StepUpRequired,
}
