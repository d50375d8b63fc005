//! Domain ⇄ protobuf. Encoding is total; decoding checks every bound of [`kindred_core::limits`] and names the field that
//! is out of it.

use bytes::Bytes;
use kindred_core::canonical::DeviceProof;
use kindred_core::code::{Code, MatchNumber};
use kindred_core::id::{AccountId, DeviceKey, Digest, RequestId, SessionId, Signature, TicketId};
use kindred_core::limits;
use kindred_core::model::{
    Actor, Approval, ApprovalKind, Device, EndReason, Method, Receipt, Requester, Role, Session, SetChange, Stub,
    Tombstone,
};

use crate::pb::{pairing::v1 as pairing, session::v1 as session};

/// A field is missing or out of bounds; its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is missing or out of bounds")]
pub struct Invalid(pub &'static str);

/// Result of decoding.
pub type Decoded<T> = Result<T, Invalid>;

macro_rules! decode_id {
    ($($(#[$doc:meta])* $name:ident -> $id:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(bytes: &[u8], field: &'static str) -> Decoded<$id> {
            $id::from_slice(bytes).ok_or(Invalid(field))
        }
    )*};
}

decode_id! {
    /// Exactly 16 bytes.
    session_id -> SessionId;
    /// Exactly 16 bytes.
    ticket_id -> TicketId;
    /// Exactly 16 bytes.
    request_id -> RequestId;
    /// Exactly 32 bytes.
    device_key -> DeviceKey;
    /// Exactly 32 bytes.
    digest -> Digest;
    /// Exactly 64 bytes.
    signature -> Signature;
}

/// 1 to 64 bytes.
pub fn account_id(bytes: &[u8], field: &'static str) -> Decoded<AccountId> {
    AccountId::new(bytes).ok_or(Invalid(field))
}

/// An id as a protobuf field.
pub fn raw(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// A device proof with the key that it claims to be by.
pub fn proof_in(proof: Option<session::DeviceProof>) -> Decoded<(DeviceProof, DeviceKey)> {
    let proof = proof.ok_or(Invalid("proof"))?;
    // Whether it is a good one is the leader's to say, who answers a bad one with a fresh one.
    bounded(proof.nonce.len(), limits::LABEL_BYTES_MAX, "proof.nonce")?;
    let account = optional(&proof.account, |b| account_id(b, "proof.account"))?;
    let session = optional(&proof.session, |b| session_id(b, "proof.session"))?;
    let key = device_key(&proof.device_key, "proof.device_key")?;
    let proof = DeviceProof {
        account,
        session,
        request: request_id(&proof.request_id, "proof.request_id")?,
        auth_epoch: proof.auth_epoch,
        nonce: proof.nonce.to_vec(),
        signature: signature(&proof.signature, "proof.signature")?,
    };
    Ok((proof, key))
}

/// The same for the wire.
pub fn proof(proof: &DeviceProof, key: &DeviceKey) -> session::DeviceProof {
    session::DeviceProof {
        account: proof.account.as_ref().map(|a| raw(a.as_bytes())).unwrap_or_default(),
        session: proof.session.as_ref().map(|s| raw(s.as_bytes())).unwrap_or_default(),
        request_id: raw(proof.request.as_bytes()),
        auth_epoch: proof.auth_epoch,
        nonce: proof.nonce.clone().into(),
        signature: raw(proof.signature.as_bytes()),
        device_key: raw(key.as_bytes()),
    }
}

/// What a device says of itself; nothing said is empty.
pub fn device_in(device: Option<session::Device>) -> Decoded<Device> {
    let device = device.unwrap_or_default();
    bounded(device.platform.len(), limits::LABEL_BYTES_MAX, "device.platform")?;
    bounded(device.app_version.len(), limits::LABEL_BYTES_MAX, "device.app_version")?;
    bounded(device.display_name.len(), limits::DISPLAY_NAME_BYTES_MAX, "device.display_name")?;
    Ok(Device {
        platform: device.platform,
        app_version: device.app_version,
        display_name: device.display_name.to_vec(),
    })
}

/// The same for the wire.
pub fn device(device: &Device) -> session::Device {
    session::Device {
        platform: device.platform.clone(),
        app_version: device.app_version.clone(),
        display_name: device.display_name.clone().into(),
    }
}

/// Who asks to be linked.
pub fn requester_in(requester: Option<pairing::Requester>) -> Decoded<Requester> {
    let requester = requester.unwrap_or_default();
    bounded(requester.location.len(), limits::LABEL_BYTES_MAX, "requester.location")?;
    Ok(Requester { device: device_in(requester.device)?, location: requester.location })
}

/// The same for the wire.
pub fn requester(requester: &Requester) -> pairing::Requester {
    pairing::Requester { device: Some(device(&requester.device)), location: requester.location.clone() }
}

/// The approver's signed statement.
pub fn approval_in(approval: Option<pairing::Approval>) -> Decoded<Approval> {
    let approval = approval.ok_or(Invalid("approval"))?;
    let replaces = optional(&approval.replaces, |b| session_id(b, "approval.replaces"))?;
    Ok(Approval {
        kind: replaces.map_or(ApprovalKind::Link, ApprovalKind::LinkReplacing),
        account: account_id(&approval.account, "approval.account")?,
        auth_epoch: approval.auth_epoch,
        ticket: ticket_id(&approval.ticket, "approval.ticket")?,
        device_key_hash: digest(&approval.device_key_hash, "approval.device_key_hash")?,
        approver: session_id(&approval.approver, "approval.approver")?,
        envelope_hash: digest(&approval.envelope_hash, "approval.envelope_hash")?,
        lifetime_ms: approval.lifetime_ms,
        signature: signature(&approval.signature, "approval.signature")?,
    })
}

/// The same for the wire.
pub fn approval(approval: &Approval) -> pairing::Approval {
    let replaces = match &approval.kind {
        ApprovalKind::Link => Bytes::new(),
        ApprovalKind::LinkReplacing(victim) => raw(victim.as_bytes()),
    };
    pairing::Approval {
        account: raw(approval.account.as_bytes()),
        auth_epoch: approval.auth_epoch,
        ticket: raw(approval.ticket.as_bytes()),
        device_key_hash: raw(approval.device_key_hash.as_bytes()),
        replaces,
        approver: raw(approval.approver.as_bytes()),
        envelope_hash: raw(approval.envelope_hash.as_bytes()),
        lifetime_ms: approval.lifetime_ms,
        signature: raw(approval.signature.as_bytes()),
    }
}

/// The number that an approval carries; none is empty.
pub fn number_in(number: &str) -> Decoded<Option<MatchNumber>> {
    if number.is_empty() { Ok(None) } else { MatchNumber::parse(number).map(Some).ok_or(Invalid("number")) }
}

/// A code as it was typed.
pub fn code_in(typed: &str) -> Decoded<Code> {
    Code::parse(typed).ok_or(Invalid("code"))
}

/// How a ticket gets to the phone. Only CODE names an account.
pub fn method_in(method: i32, account: &[u8]) -> Decoded<Method> {
    match pairing::Method::try_from(method) {
        Ok(pairing::Method::Unspecified | pairing::Method::Qr) if account.is_empty() => Ok(Method::Qr),
        Ok(pairing::Method::Code) => Ok(Method::Code { account: account_id(account, "account")?, wrong_tries: 0 }),
        Ok(_) => Err(Invalid("account")),
        Err(_) => Err(Invalid("method")),
    }
}

/// What a link did.
pub fn receipt_in(receipt: Option<pairing::Receipt>) -> Decoded<Receipt> {
    let receipt = receipt.ok_or(Invalid("receipt"))?;
    let ids = |ids: &[Bytes], field| ids.iter().map(|id| session_id(id, field)).collect::<Decoded<Vec<_>>>();
    Ok(Receipt {
        session: session_id(&receipt.session, "receipt.session")?,
        seq: receipt.seq,
        version_before: receipt.version_before,
        version_after: receipt.version_after,
        digest_after: digest(&receipt.digest_after, "receipt.digest_after")?,
        sessions_before: ids(&receipt.sessions_before, "receipt.sessions_before")?,
        sessions_after: ids(&receipt.sessions_after, "receipt.sessions_after")?,
        log_index: receipt.log_index,
    })
}

/// The same for the wire.
pub fn receipt(receipt: &Receipt) -> pairing::Receipt {
    let ids = |ids: &[SessionId]| ids.iter().map(|id| raw(id.as_bytes())).collect();
    pairing::Receipt {
        session: raw(receipt.session.as_bytes()),
        seq: receipt.seq,
        version_before: receipt.version_before,
        version_after: receipt.version_after,
        digest_after: raw(receipt.digest_after.as_bytes()),
        sessions_before: ids(&receipt.sessions_before),
        sessions_after: ids(&receipt.sessions_after),
        log_index: receipt.log_index,
    }
}

/// A live session for the wire.
pub fn session(record: &Session) -> session::SessionRecord {
    let role = match record.role {
        Role::Primary => session::Role::Primary,
        Role::Companion => session::Role::Companion,
    };
    session::SessionRecord {
        session: raw(record.id.as_bytes()),
        seq: record.seq,
        device_key: raw(record.device_key.as_bytes()),
        role: role.into(),
        device: Some(device(&record.device)),
        linked_wall_ms: record.linked_wall_ms,
        linked_by: record.linked_by.as_ref().map(|s| raw(s.as_bytes())).unwrap_or_default(),
        ticket: record.ticket.as_ref().map(|t| raw(t.as_bytes())).unwrap_or_default(),
        policy_version: record.policy_version,
        key_generation: record.key_generation,
        record_version: record.record_version,
        quarantine_until_ms: record.quarantine_until_ms,
        linked_at_ms: record.linked_at_ms,
        pinned: record.pinned,
    }
}

/// Why a session ended, for the wire.
pub fn end_reason(reason: EndReason) -> session::EndReason {
    match reason {
        EndReason::UserUnlinkedFromPrimary => session::EndReason::UserUnlinkedFromPrimary,
        EndReason::UserUnlinkedFromSibling => session::EndReason::UserUnlinkedFromSibling,
        EndReason::SelfLogout => session::EndReason::SelfLogout,
        EndReason::LogoutOthers => session::EndReason::LogoutOthers,
        EndReason::ReplacedByLink => session::EndReason::ReplacedByLink,
        EndReason::AdminRevoked => session::EndReason::AdminRevoked,
        EndReason::PrimaryReplaced => session::EndReason::PrimaryReplaced,
        EndReason::AccountDeleted => session::EndReason::AccountDeleted,
        EndReason::CredentialCompromised => session::EndReason::CredentialCompromised,
    }
}

/// A tombstone for the wire.
pub fn tombstone(tombstone: &Tombstone) -> session::Tombstone {
    let actor = match &tombstone.actor {
        Actor::Session(id) => session::tombstone::Actor::ActorSession(raw(id.as_bytes())),
        Actor::Operator(name) => session::tombstone::Actor::ActorOperator(name.clone()),
    };
    session::Tombstone {
        session: Some(session(&tombstone.session)),
        reason: end_reason(tombstone.reason).into(),
        actor: Some(actor),
        command: raw(tombstone.command.as_bytes()),
        log_index: tombstone.log_index,
        set_version: tombstone.set_version,
        wall_ms: tombstone.wall_ms,
        region: u32::from(tombstone.region.0),
        policy_version: tombstone.policy_version,
        at_ms: tombstone.at_ms,
        stub: false,
    }
}

/// What is left of a tombstone, for the wire.
pub fn stub(stub: &Stub) -> session::Tombstone {
    session::Tombstone {
        session: Some(session::SessionRecord {
            session: raw(stub.session.as_bytes()),
            seq: stub.seq,
            ..session::SessionRecord::default()
        }),
        reason: end_reason(stub.reason).into(),
        log_index: stub.log_index,
        stub: true,
        ..session::Tombstone::default()
    }
}

/// A membership change for the wire.
pub fn change(change: &SetChange) -> session::SetChange {
    session::SetChange {
        version: change.version,
        digest: raw(change.digest.as_bytes()),
        added: change.added.iter().map(session).collect(),
        ended: change.ended.iter().map(tombstone).collect(),
        command: raw(change.command.as_bytes()),
        log_index: change.log_index,
        wall_ms: change.wall_ms,
    }
}

fn bounded(len: usize, max: usize, field: &'static str) -> Decoded<()> {
    if len <= max { Ok(()) } else { Err(Invalid(field)) }
}

fn optional<T>(bytes: &[u8], decode: impl FnOnce(&[u8]) -> Decoded<T>) -> Decoded<Option<T>> {
    if bytes.is_empty() { Ok(None) } else { decode(bytes).map(Some) }
}
