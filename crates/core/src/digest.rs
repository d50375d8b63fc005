//! The hash chain over the membership changes of an account (I5). A client can follow it from the changes alone.

use crate::canonical::{Canonical, TAG_CHANGE};
use crate::id::{AccountId, Digest};
use crate::model::{EndReason, Session, Tombstone};

/// The chain before the first change.
pub fn empty(account: &AccountId) -> Digest {
    Canonical::new(TAG_CHANGE).bytes(account.as_bytes()).digest()
}

/// The chain after a change: tag, digest before, new version, then per added session ("+", id, seq, device key) and per
/// ended session ("-", id, seq, reason number).
pub fn next(before: &Digest, version: u64, added: &[Session], ended: &[Tombstone]) -> Digest {
    let mut bytes = Canonical::new(TAG_CHANGE).bytes(before.as_bytes()).u64(version);
    for s in added {
        bytes = bytes.bytes(b"+").bytes(s.id.as_bytes()).u64(s.seq).bytes(s.device_key.as_bytes());
    }
    for t in ended {
        bytes = bytes.bytes(b"-").bytes(t.session.id.as_bytes()).u64(t.session.seq).u64(reason_number(t.reason));
    }
    bytes.digest()
}

/// The number of a reason, on the wire, on disk and in the chain. Numbers are for ever.
pub fn reason_number(reason: EndReason) -> u64 {
    match reason {
        EndReason::UserUnlinkedFromPrimary => 1,
        EndReason::UserUnlinkedFromSibling => 2,
        EndReason::SelfLogout => 3,
        EndReason::LogoutOthers => 4,
        EndReason::ReplacedByLink => 5,
        EndReason::PrimaryReplaced => 6,
        EndReason::AdminRevoked => 9,
        EndReason::AccountDeleted => 10,
        EndReason::CredentialCompromised => 11,
    }
}
