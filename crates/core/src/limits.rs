//! Every bound of the domain, in one place, with the relations between them checked at compile time.
//!
//! Times are in milliseconds of *shard time* (see [`crate::command::Entry`]) unless a name says otherwise.

/// Longest account id.
pub const ACCOUNT_ID_BYTES_MAX: usize = 64;
/// Longest platform, app version, coarse location.
pub const LABEL_BYTES_MAX: usize = 64;
/// Longest display name of a device; opaque bytes.
pub const DISPLAY_NAME_BYTES_MAX: usize = 128;
/// Largest opaque envelope that an approval carries to the companion.
pub const ENVELOPE_BYTES_MAX: usize = 64 * 1024;

/// Companions of an account unless changed.
pub const COMPANION_LIMIT_DEFAULT: u32 = 4;
/// Smallest settable companion limit.
pub const COMPANION_LIMIT_MIN: u32 = 1;
/// Largest settable companion limit.
pub const COMPANION_LIMIT_MAX: u32 = 64;

/// Life of a QR ticket.
pub const QR_TICKET_TTL_MS: u64 = 160_000;
/// Life of the first ref of a QR ticket.
pub const REF_WINDOW_FIRST_MS: u64 = 60_000;
/// Life of every later ref.
pub const REF_WINDOW_MS: u64 = 20_000;
/// Scanned QR tickets that an account may have open at once.
///
/// Not enforced: a scan is written at the ticket's shard, which does not know the account's other tickets, and a record at
/// the account's home would cost every pairing more than it protects (docs/decisions/0017). Each of them still needs its
/// own signed approval, and the companion limit holds whatever was scanned.
pub const SCANNED_TICKETS_MAX: usize = 4;
/// Life of a CODE ticket.
pub const CODE_TICKET_TTL_MS: u64 = 180_000;
/// So many wrong tries lock a CODE ticket.
pub const CODE_TRIES_MAX: u8 = 5;
/// An account's codes are kept this long after their last change, so that whoever types one late is told why it is refused.
pub const CODES_KEPT_MS: u64 = 2 * CODE_TICKET_TTL_MS;
/// What an account's home could not be told of a code for so long is dropped: codes must not pile up before a home that is
/// down, in front of what has to be told. Home forgets a code by itself, and a companion can open a new one.
pub const CODE_NOTICE_TTL_MS: u64 = 15_000;
/// Tickets whose code is over that an account remembers, so that no late or repeated AttachCode brings one back.
pub const CODES_OVER_MAX: usize = 16;

/// Young sessions may end only themselves for this long (I20).
pub const QUARANTINE_MS: u64 = 24 * HOUR_MS;
/// Results of request ids are kept this long.
pub const RESULT_TTL_MS: u64 = 24 * HOUR_MS;
/// Outcomes of tickets are kept this long at the account.
pub const OUTCOME_TTL_MS: u64 = 90 * DAY_MS;
/// Settled tickets are kept this long, so that both sides can be told again.
pub const TICKET_KEPT_MS: u64 = 24 * HOUR_MS;
/// Tombstones are whole for this long; then a stub is left.
pub const TOMBSTONE_TTL_MS: u64 = 90 * DAY_MS;
/// A server nonce is good for this long.
pub const NONCE_TTL_MS: u64 = 5 * 60_000;
/// A nonce may be this far ahead of the leader that sees it: after an election the estimate of shard time may be behind
/// that of the leader before, by one step at most.
pub const NONCE_AHEAD_MS_MAX: u64 = SHARD_TIME_STEP_MS_MAX;
/// Membership changes kept for gapless watches.
pub const CHANGES_KEPT: u64 = 1_024;

/// Longest time between the arrival of a request and its proposal (`not_after`).
pub const PROPOSE_WITHIN_MS_MAX: u64 = 60_000;
/// One entry advances shard time by no more than this, so no jump can fire a deadline (I18).
pub const SHARD_TIME_STEP_MS_MAX: u64 = 5_000;
/// The leader ticks an otherwise idle shard this often.
pub const TICK_INTERVAL_MS: u64 = 1_000;
/// An approved ticket that its frontend has not linked after this long is taken over by the ticket's shard leader.
pub const SAGA_TAKEOVER_MS: u64 = 1_500;

/// Commands in one entry.
pub const ENTRY_COMMANDS_MAX: usize = 256;
/// Encoded size of one entry.
pub const ENTRY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Proposals that wait at one shard.
pub const PROPOSALS_QUEUED_MAX: usize = 1_024;
/// Tickets that one Expire names.
pub const EXPIRE_TICKETS_MAX: usize = 128;
/// Expired records that one Tick removes; those that one entry put down together go together, so that it may be more by
/// what one entry puts down.
pub const TICK_REMOVALS_MAX: usize = 128;
/// Tombstones and device keys that one Tick erases of one deleted account.
pub const TICK_ERASES_MAX: usize = 128;
/// Effects that one AckEffects names.
pub const ACK_EFFECTS_MAX: usize = 256;

/// Timers one look at the schedule returns.
pub const TIMERS_SEEN_MAX: usize = 256;
/// Timers that [`crate::state::due`] passes over, at most, to find wanted ones behind them.
pub const TIMERS_PASSED_MAX: usize = 16_384;

/// Sessions in a list that somebody asks to be compared.
pub const VIEW_SESSIONS_MAX: usize = 256;
/// Sessions of one batch of validations, and of one query about many.
pub const SESSIONS_ASKED_MAX: usize = 512;

/// Accounts in one page of an export.
pub const EXPORT_ACCOUNTS_MAX: usize = 64;
/// Tombstones, and likewise outcomes of tickets, that an account may have to be exported and installed as a whole.
pub const BUNDLE_RECORDS_MAX: usize = 2_048;
/// Largest bundle, by [`crate::bundle::Bundle::weight`]; also what a page of them holds, but for a single one.
pub const BUNDLE_BYTES_MAX: usize = 1024 * 1024;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

// A result must outlive every moment at which its request could still be proposed again; otherwise a late retry would
// run twice. Shard time never runs faster than real time, so the factor two covers the queue and the retry itself.
const _: () = assert!(RESULT_TTL_MS >= 2 * PROPOSE_WITHIN_MS_MAX);
// No recorded request runs a second time. A request is admitted only while its nonce is fresh: at the latest NONCE_TTL_MS
// after the nonce was made, NONCE_AHEAD_MS_MAX more if that was by a leader whose clock was ahead, and proposed at most
// PROPOSE_WITHIN_MS_MAX later. It was first decided no earlier than NONCE_AHEAD_MS_MAX before the time in its nonce, and from
// that moment its result is kept for RESULT_TTL_MS. So whenever it could be proposed again, the result is still there and
// answers it. (Between proposal and application shard time moves by entries only, and those stand before it in the log.)
const _: () = assert!(RESULT_TTL_MS > NONCE_TTL_MS + PROPOSE_WITHIN_MS_MAX + 2 * NONCE_AHEAD_MS_MAX);
// A ticket's outcome at the account must outlive the ticket, else a repeated Link could link twice (I6).
const _: () = assert!(OUTCOME_TTL_MS > QR_TICKET_TTL_MS + TICKET_KEPT_MS);
const _: () = assert!(OUTCOME_TTL_MS > CODE_TICKET_TTL_MS + TICKET_KEPT_MS);
// A notice must survive an election, and is of no use once the ticket is over.
const _: () = assert!(CODE_NOTICE_TTL_MS >= 10_000 && CODE_NOTICE_TTL_MS < CODE_TICKET_TTL_MS);
// Guessing must stay hopeless: five tries at 20^8 codes.
const _: () = assert!(CODE_TRIES_MAX >= 1 && CODE_TRIES_MAX <= 10);
// An entry must be able to hold at least a few approvals with full envelopes.
const _: () = assert!(ENTRY_BYTES_MAX >= 8 * (ENVELOPE_BYTES_MAX + 4096));
// A bundle goes into one entry, beside others.
const _: () = assert!(ENTRY_BYTES_MAX >= 2 * BUNDLE_BYTES_MAX);
// Whatever is live fits into a list.
const _: () = assert!(VIEW_SESSIONS_MAX > COMPANION_LIMIT_MAX as usize + 1);
// Passing over what is not wanted must reach further than one look.
const _: () = assert!(TIMERS_PASSED_MAX >= 4 * TIMERS_SEEN_MAX && TIMERS_SEEN_MAX >= TICK_REMOVALS_MAX);
// The first jump of a new leader must not be able to eat a whole ref window.
const _: () = assert!(SHARD_TIME_STEP_MS_MAX < REF_WINDOW_MS);
