//! The hash chain over the membership changes of an account (I5). A client can follow it from the changes alone.

use crate::canonical::{Canonical, TAG_CHANGE};
use crate::id::{AccountId, DeviceKey, Digest, SessionId};
use crate::model::{EndReason, Session, Tombstone};

/// The chain before the first change.
pub fn empty(account: &AccountId) -> Digest {
    Canonical::new(TAG_CHANGE).bytes(account.as_bytes()).digest()
}

/// The chain after a change: tag, digest before, new version, then per added session ("+", id, seq, device key) and per
/// ended session ("-", id, seq, reason number).
pub fn next(before: &Digest, version: u64, added: &[Session], ended: &[Tombstone]) -> Digest {
    let added = added.iter().map(|s| (s.id, s.seq, s.device_key));
    next_of(before, version, added, ended.iter().map(|t| (t.session.id, t.session.seq, reason_number(t.reason))))
}

/// The same from what enters the chain alone: id, seq and key of who came, id, seq and [`reason_number`] of who left.
pub fn next_of(
    before: &Digest,
    version: u64,
    added: impl IntoIterator<Item = (SessionId, u64, DeviceKey)>,
    ended: impl IntoIterator<Item = (SessionId, u64, u64)>,
) -> Digest {
    chained(before, version, added, ended).digest()
}

/// The bytes that [`next_of`] hashes.
pub fn chained(
    before: &Digest,
    version: u64,
    added: impl IntoIterator<Item = (SessionId, u64, DeviceKey)>,
    ended: impl IntoIterator<Item = (SessionId, u64, u64)>,
) -> Canonical {
    let mut bytes = Canonical::new(TAG_CHANGE).bytes(before.as_bytes()).u64(version);
    for (id, seq, key) in added {
        bytes = bytes.bytes(b"+").bytes(id.as_bytes()).u64(seq).bytes(key.as_bytes());
    }
    for (id, seq, reason) in ended {
        bytes = bytes.bytes(b"-").bytes(id.as_bytes()).u64(seq).u64(reason);
    }
    bytes
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
