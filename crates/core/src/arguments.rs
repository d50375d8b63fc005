//! What a device proof covers besides its own fields: the method, and the hash of the arguments.
//!
//! ```text
//!   phone / companion:  arguments ─► hash ─► proof_bytes ─► signature
//!   leader:             command   ─► hash ─► proof_bytes ─► verify          (of_command)
//! ```
//!
//! Both sides start from the same functions, so a frontend cannot change an argument without breaking the proof. The
//! encodings are written down, with a test vector each, in docs/encoding.md; once shipped they never change.

use crate::canonical::Canonical;
use crate::code::{Code, MatchNumber};
use crate::command::Command;
use crate::id::{AccountId, DeviceKey, Digest, SessionId, TicketId};
use crate::model::{Approval, ApprovalKind, Device, Method, Requester};
use crate::reconcile::{Believed, Set};

/// Tag of the bytes that are hashed here.
pub const TAG_ARGUMENTS: &str = "kindred/arguments/v1";

/// Registers an account.
pub const METHOD_REGISTER: &str = "kindred.account.v1.Account/Register";
/// Sets the companion limit.
pub const METHOD_SET_LIMIT: &str = "kindred.account.v1.Account/SetLimit";
/// Opens a ticket.
pub const METHOD_OPEN: &str = "kindred.pairing.v1.Pairing/OpenTicket";
/// Watches a ticket; its signature opens the envelope.
pub const METHOD_WATCH: &str = "kindred.pairing.v1.Pairing/WatchTicket";
/// Scans a ticket.
pub const METHOD_SCAN: &str = "kindred.pairing.v1.Pairing/ScanTicket";
/// Approves a ticket.
pub const METHOD_APPROVE: &str = "kindred.pairing.v1.Pairing/ApproveTicket";
/// Denies a ticket.
pub const METHOD_DENY: &str = "kindred.pairing.v1.Pairing/DenyTicket";
/// Cancels a ticket.
pub const METHOD_CANCEL: &str = "kindred.pairing.v1.Pairing/CancelTicket";
/// Ends one session.
pub const METHOD_UNLINK: &str = "kindred.session.v1.Session/Unlink";
/// Compares a view; a read.
pub const METHOD_RECONCILE: &str = "kindred.session.v1.Session/Reconcile";
/// Ends all other sessions.
pub const METHOD_UNLINK_OTHERS: &str = "kindred.session.v1.Session/UnlinkOthers";

/// Puts another phone in the primary's place.
pub const METHOD_REPLACE_PRIMARY: &str = "kindred.account.v1.Account/ReplacePrimary";
/// Deletes the account.
pub const METHOD_DELETE: &str = "kindred.account.v1.Account/Delete";
/// Pins a companion or lets it go.
pub const METHOD_PIN: &str = "kindred.session.v1.Session/Pin";
/// Gives the caller's session another device key.
pub const METHOD_ROTATE: &str = "kindred.session.v1.Session/RotateDeviceKey";

/// Method and argument hash of the proof that must stand behind `command`; `None` for what no device asks for: the
/// cluster's own commands, and those of operators. `reference` is the ref that came with a Scan, or the letters that came
/// with a ScanCode; without them neither has arguments to check.
pub fn of_command(command: &Command, reference: Option<&[u8]>) -> Option<(&'static str, Digest)> {
    Some(match command {
        Command::Register { account, device_key, device, .. } => {
            (METHOD_REGISTER, register(account, device_key, device))
        }
        Command::SetLimit { account, limit } => (METHOD_SET_LIMIT, set_limit(account, *limit)),
        Command::Open { device_key, requester, method: Method::Qr, .. } => (METHOD_OPEN, open(device_key, requester)),
        Command::Open { device_key, requester, method: Method::Code { account, .. }, .. } => {
            (METHOD_OPEN, open_code(device_key, requester, account))
        }
        Command::Scan { .. } => (METHOD_SCAN, scan(reference?)),
        Command::ScanCode { .. } => (METHOD_SCAN, scan_code(&Code::from_letters(reference?)?)),
        Command::Approve { approval, number, .. } => (METHOD_APPROVE, approve_with(approval, *number)),
        Command::Deny { ticket } => (METHOD_DENY, deny(ticket)),
        Command::Cancel { ticket } => (METHOD_CANCEL, cancel(ticket)),
        Command::Unlink { account, session } => (METHOD_UNLINK, unlink(account, session)),
        Command::UnlinkOthers { account, keep, .. } => (METHOD_UNLINK_OTHERS, unlink_others(account, keep)),
        Command::ReplacePrimary { account, device_key, device, keep_companions, .. } => {
            (METHOD_REPLACE_PRIMARY, replace_primary(account, device_key, device, *keep_companions))
        }
        Command::Delete { account, .. } => (METHOD_DELETE, delete(account)),
        Command::Pin { account, session, pinned } => (METHOD_PIN, pin(account, session, *pinned)),
        Command::RotateDeviceKey { account, session, device_key } => {
            (METHOD_ROTATE, rotate(account, session, device_key))
        }
        Command::Revoke { .. }
        | Command::Lock { .. }
        | Command::Claim { .. }
        | Command::ConfirmClaim { .. }
        | Command::MarkDeleted { .. }
        | Command::Expire { .. }
        | Command::Settle { .. }
        | Command::Link { .. }
        | Command::DecideTicket { .. }
        | Command::Tick
        | Command::AckEffects { .. }
        | Command::AttachCode { .. }
        | Command::HoldCode { .. }
        | Command::DetachCode { .. }
        | Command::Install { .. } => return None,
    })
}

/// Register: account, device key, platform, app version, display name. The home is not covered: where an account lives
/// is the operator's affair.
pub fn register(account: &AccountId, device_key: &DeviceKey, device: &Device) -> Digest {
    with_device(Canonical::new(TAG_ARGUMENTS).bytes(account.as_bytes()).bytes(device_key.as_bytes()), device).digest()
}

/// SetLimit: account, limit.
pub fn set_limit(account: &AccountId, limit: u32) -> Digest {
    Canonical::new(TAG_ARGUMENTS).bytes(account.as_bytes()).u64(u64::from(limit)).digest()
}

/// OpenTicket: device key, platform, app version, display name, location.
pub fn open(device_key: &DeviceKey, requester: &Requester) -> Digest {
    opening(device_key, requester).digest()
}

/// OpenTicket for a code: the same, then `code`, account.
pub fn open_code(device_key: &DeviceKey, requester: &Requester, account: &AccountId) -> Digest {
    opening(device_key, requester).bytes(b"code").bytes(account.as_bytes()).digest()
}

fn opening(device_key: &DeviceKey, requester: &Requester) -> Canonical {
    with_device(Canonical::new(TAG_ARGUMENTS).bytes(device_key.as_bytes()), &requester.device)
        .bytes(requester.location.as_bytes())
}

/// ScanTicket: the ref as it was in the QR.
pub fn scan(reference: &[u8]) -> Digest {
    Canonical::new(TAG_ARGUMENTS).bytes(reference).digest()
}

/// ScanTicket by a code: no ref, then the eight letters as [`Code::letters`] has them.
pub fn scan_code(code: &Code) -> Digest {
    Canonical::new(TAG_ARGUMENTS).option(None).bytes(code.letters()).digest()
}

/// ApproveTicket: ticket id, operation, account, auth_epoch, hash of the companion's key, victim or absent, approver,
/// hash of the envelope, lifetime, and the approval's signature. The envelope itself is covered by its hash.
pub fn approve(approval: &Approval) -> Digest {
    approve_with(approval, None)
}

/// ApproveTicket: the same, and behind it the number that the owner has confirmed, if there is one, as four digits.
pub fn approve_with(approval: &Approval, number: Option<MatchNumber>) -> Digest {
    let bytes = approving(approval);
    match number {
        Some(number) => bytes.bytes(number.to_string().as_bytes()).digest(),
        None => bytes.digest(),
    }
}

fn approving(approval: &Approval) -> Canonical {
    let (operation, victim): (&str, Option<&[u8]>) = match &approval.kind {
        ApprovalKind::Link => ("link", None),
        ApprovalKind::LinkReplacing(victim) => ("link-replacing", Some(victim.as_bytes())),
    };
    Canonical::new(TAG_ARGUMENTS)
        .bytes(approval.ticket.as_bytes())
        .bytes(operation.as_bytes())
        .bytes(approval.account.as_bytes())
        .u64(approval.auth_epoch)
        .bytes(approval.device_key_hash.as_bytes())
        .option(victim)
        .bytes(approval.approver.as_bytes())
        .bytes(approval.envelope_hash.as_bytes())
        .u64(approval.lifetime_ms)
        .bytes(approval.signature.as_bytes())
}

/// DenyTicket: ticket id.
pub fn deny(ticket: &TicketId) -> Digest {
    of_ticket(ticket)
}

/// CancelTicket: ticket id.
pub fn cancel(ticket: &TicketId) -> Digest {
    of_ticket(ticket)
}

/// WatchTicket: ticket id.
pub fn watch(ticket: &TicketId) -> Digest {
    of_ticket(ticket)
}

/// Unlink: account, session to end.
pub fn unlink(account: &AccountId, session: &SessionId) -> Digest {
    Canonical::new(TAG_ARGUMENTS).bytes(account.as_bytes()).bytes(session.as_bytes()).digest()
}

/// UnlinkOthers: account, session to keep. The set_version that the frontend reads is not the device's statement.
pub fn unlink_others(account: &AccountId, keep: &SessionId) -> Digest {
    Canonical::new(TAG_ARGUMENTS).bytes(account.as_bytes()).bytes(keep.as_bytes()).digest()
}

/// Reconcile: account, set_version, then `digest` and the digest, or `list` and for each session, in the order of the
/// request, its id and its seq.
pub fn reconcile(account: &AccountId, believed: &Believed) -> Digest {
    let bytes = Canonical::new(TAG_ARGUMENTS).bytes(account.as_bytes()).u64(believed.set_version);
    match &believed.set {
        Set::Digest(digest) => bytes.bytes(b"digest").bytes(digest.as_bytes()).digest(),
        Set::Sessions(sessions) => {
            let each = |bytes: Canonical, (id, seq): &(SessionId, u64)| bytes.bytes(id.as_bytes()).u64(*seq);
            sessions.iter().fold(bytes.bytes(b"list"), each).digest()
        }
    }
}

/// ReplacePrimary: account, new device key, platform, app version, display name, keep_companions (0 or 1). Both proofs
/// cover the same.
pub fn replace_primary(account: &AccountId, device_key: &DeviceKey, device: &Device, keep_companions: bool) -> Digest {
    with_device(Canonical::new(TAG_ARGUMENTS).bytes(account.as_bytes()).bytes(device_key.as_bytes()), device)
        .u64(u64::from(keep_companions))
        .digest()
}

/// Delete: account.
pub fn delete(account: &AccountId) -> Digest {
    Canonical::new(TAG_ARGUMENTS).bytes(account.as_bytes()).digest()
}

/// Pin: account, session, pinned (0 or 1).
pub fn pin(account: &AccountId, session: &SessionId, pinned: bool) -> Digest {
    let bytes = Canonical::new(TAG_ARGUMENTS).bytes(account.as_bytes()).bytes(session.as_bytes());
    bytes.u64(u64::from(pinned)).digest()
}

/// RotateDeviceKey: account, session, new device key. Both proofs cover the same.
pub fn rotate(account: &AccountId, session: &SessionId, device_key: &DeviceKey) -> Digest {
    let bytes = Canonical::new(TAG_ARGUMENTS).bytes(account.as_bytes()).bytes(session.as_bytes());
    bytes.bytes(device_key.as_bytes()).digest()
}

// The method in the proof tells these three apart.
fn of_ticket(ticket: &TicketId) -> Digest {
    Canonical::new(TAG_ARGUMENTS).bytes(ticket.as_bytes()).digest()
}

fn with_device(bytes: Canonical, device: &Device) -> Canonical {
    bytes.bytes(device.platform.as_bytes()).bytes(device.app_version.as_bytes()).bytes(&device.display_name)
}
