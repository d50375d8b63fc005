//! Canonical bytes: what is signed, hashed and MACed, exactly as docs/encoding.md writes it down.
//!
//! Domain tag, then the fields in order, each as u32 big-endian length ‖ bytes; integers as 8 bytes big-endian; an
//! absent field has length 0.

use ed25519_dalek::VerifyingKey;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::id::{AccountId, ClusterId, DeviceKey, Digest, RequestId, SessionId, Signature, TicketId};
use crate::model::{Approval, ApprovalKind};

/// Tag of a proof by a device key.
pub const TAG_PROOF: &str = "kindred/proof/v1";
/// Tag of an approval.
pub const TAG_APPROVAL: &str = "kindred/approval/v1";
/// Tag of the change chain.
pub const TAG_CHANGE: &str = "kindred/change/v1";

/// Builds canonical bytes field by field.
#[derive(Clone, Debug)]
pub struct Canonical(Vec<u8>);

impl Canonical {
    /// Starts with the domain tag, itself a field.
    pub fn new(tag: &str) -> Self {
        Self(Vec::with_capacity(256)).bytes(tag.as_bytes())
    }

    /// Appends a byte field. Fields over 4 GiB do not occur: every input is bounded far below.
    #[must_use]
    pub fn bytes(mut self, field: &[u8]) -> Self {
        let len = u32::try_from(field.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&len.to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }

    /// Appends an integer field.
    #[must_use]
    pub fn u64(self, field: u64) -> Self {
        self.bytes(&field.to_be_bytes())
    }

    /// Appends a field that may be absent.
    #[must_use]
    pub fn option(self, field: Option<&[u8]>) -> Self {
        self.bytes(field.unwrap_or(&[]))
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    /// SHA-256 over the bytes.
    pub fn digest(self) -> Digest {
        sha256(&[&self.0])
    }
}

/// SHA-256 over the concatenation of `parts`.
pub fn sha256(parts: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    Digest(hash.finalize().into())
}

/// HMAC-SHA-256 under `key` over the concatenation of `parts`.
pub fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Digest {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { unreachable!("HMAC takes keys of every length") };
    for part in parts {
        mac.update(part);
    }
    Digest(mac.finalize().into_bytes().into())
}

/// Proof by a device key that it asked for exactly this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceProof {
    /// The account; empty for Open, Watch and Cancel.
    pub account: Option<AccountId>,
    /// The session; none before there is one.
    pub session: Option<SessionId>,
    /// The request id of the call.
    pub request: RequestId,
    /// The account's auth_epoch that the device knows; 0 before there is one.
    pub auth_epoch: u64,
    /// Server nonce ([`crate::nonce`]); empty while the device has none, which brings it one.
    pub nonce: Vec<u8>,
    /// Over [`proof_bytes`].
    pub signature: Signature,
}

/// The bytes of a proof: tag, cluster id, method, account, session, request id, auth_epoch, hash of the arguments, nonce.
/// `method` is the full gRPC name, e.g. `kindred.pairing.v1.Pairing/OpenTicket`.
pub fn proof_bytes(cluster: &ClusterId, method: &str, proof: &DeviceProof, arguments: &Digest) -> Vec<u8> {
    Canonical::new(TAG_PROOF)
        .bytes(cluster.as_bytes())
        .bytes(method.as_bytes())
        .option(proof.account.as_ref().map(AccountId::as_bytes))
        .option(proof.session.as_ref().map(SessionId::as_bytes))
        .bytes(proof.request.as_bytes())
        .u64(proof.auth_epoch)
        .bytes(arguments.as_bytes())
        .bytes(&proof.nonce)
        .finish()
}

/// The bytes of an approval: tag, cluster id, operation, account, auth_epoch, ticket id, hash of the companion's device
/// key, victim or absent, approver's session, hash of the envelope, lifetime in ms.
pub fn approval_bytes(cluster: &ClusterId, approval: &Approval) -> Vec<u8> {
    let (operation, victim): (&str, Option<&[u8]>) = match &approval.kind {
        ApprovalKind::Link => ("link", None),
        ApprovalKind::LinkReplacing(victim) => ("link-replacing", Some(victim.as_bytes())),
    };
    Canonical::new(TAG_APPROVAL)
        .bytes(cluster.as_bytes())
        .bytes(operation.as_bytes())
        .bytes(approval.account.as_bytes())
        .u64(approval.auth_epoch)
        .bytes(approval.ticket.as_bytes())
        .bytes(approval.device_key_hash.as_bytes())
        .option(victim)
        .bytes(approval.approver.as_bytes())
        .bytes(approval.envelope_hash.as_bytes())
        .u64(approval.lifetime_ms)
        .finish()
}

/// Strict Ed25519 verification (no small-order keys, canonical encodings only).
pub fn verify(key: &DeviceKey, message: &[u8], signature: &Signature) -> bool {
    VerifyingKey::from_bytes(&key.0)
        .and_then(|key| key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0)))
        .is_ok()
}

/// A region's ticket key (HMAC-SHA-256). No Debug: it is a secret.
#[derive(Clone)]
pub struct TicketKey(pub [u8; 32]);

/// Width of a ref in bytes: ticket id (16) ‖ window (2) ‖ MAC (16).
pub const REF_LEN: usize = 34;

impl TicketKey {
    /// The ref that is on screen in `window`.
    pub fn reference(&self, ticket: &TicketId, window: u16) -> Vec<u8> {
        let mac = hmac(&self.0, &[b"ref", ticket.as_bytes(), &window.to_be_bytes()]);
        [ticket.as_bytes(), &window.to_be_bytes(), &mac.0[..16]].concat()
    }

    /// The secret that resumes a watch.
    pub fn watch_secret(&self, ticket: &TicketId) -> Digest {
        hmac(&self.0, &[b"watch", ticket.as_bytes()])
    }

    /// True if `reference` is this ticket's ref of `window` or of the one before; constant time in the MAC.
    pub fn accepts(&self, ticket: &TicketId, reference: &[u8], window: u16) -> bool {
        use subtle::ConstantTimeEq as _;
        let now = self.reference(ticket, window);
        let before = window.checked_sub(1).map(|w| self.reference(ticket, w));
        let hit = now.ct_eq(reference) | before.map_or(0.into(), |b| b.ct_eq(reference));
        hit.into()
    }
}
