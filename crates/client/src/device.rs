//! Device keys: what is signed, and with what. The encodings are in docs/encoding.md.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use kindred_core::arguments;
use kindred_core::canonical::{DeviceProof, REF_LEN, approval_bytes, proof_bytes};
use kindred_core::code::{Code, MatchNumber};
use kindred_core::env::Env;
use kindred_core::id::{AccountId, ClusterId, DeviceKey, Digest, RequestId, SessionId, Signature, TicketId};
use kindred_core::model::{Approval, Requester};
use kindred_wire::convert;
use kindred_wire::pb::session::v1 as pb;

use crate::nonces::{Nonces, Topic};

/// A fresh request id.
pub fn request_id(env: &Env) -> RequestId {
    RequestId(env.random())
}

/// One installation: its key, the cluster that it trusts, and the nonces that it was given; clones share those. No Debug:
/// the key is a secret.
#[derive(Clone)]
pub struct Device {
    key: SigningKey,
    cluster: ClusterId,
    nonces: Nonces,
}

/// A device that signs a call, and what about: where the nonce is taken from, and the next one put.
pub(crate) struct Signing<'a> {
    pub(crate) device: &'a Device,
    pub(crate) topic: Topic,
}

impl Signing<'_> {
    pub(crate) fn keep(&self, nonce: &[u8]) {
        self.device.nonces.put(&self.topic, nonce);
    }
}

impl Device {
    /// From a seed of 32 random bytes.
    pub fn new(seed: &[u8; 32], cluster: ClusterId) -> Self {
        Self { key: SigningKey::from_bytes(seed), cluster, nonces: Nonces::default() }
    }

    /// The public key.
    pub fn key(&self) -> DeviceKey {
        DeviceKey(self.key.verifying_key().to_bytes())
    }

    /// The cluster that its signatures are for.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Signs an Open.
    pub fn sign_open(&self, request: RequestId, requester: &Requester) -> pb::DeviceProof {
        self.sign_alone(&Topic::Opening, arguments::METHOD_OPEN, request, &arguments::open(&self.key(), requester))
    }

    /// Signs a Watch; it opens the envelope.
    pub fn sign_watch(&self, request: RequestId, ticket: &TicketId) -> pb::DeviceProof {
        self.sign_alone(&Topic::Ticket(*ticket), arguments::METHOD_WATCH, request, &arguments::watch(ticket))
    }

    /// Signs a Cancel.
    pub fn sign_cancel(&self, request: RequestId, ticket: &TicketId) -> pb::DeviceProof {
        self.sign_alone(&Topic::Ticket(*ticket), arguments::METHOD_CANCEL, request, &arguments::cancel(ticket))
    }

    /// Signs the registration of `account` with this device as its primary.
    pub fn sign_register(
        &self,
        request: RequestId,
        account: &AccountId,
        device: &kindred_core::model::Device,
    ) -> pb::DeviceProof {
        let hash = arguments::register(account, &self.key(), device);
        self.sign_possession(arguments::METHOD_REGISTER, request, account, &hash)
    }

    /// Signs as a key that has no session in `account` yet: a registration, or the key that a call of `method` with these
    /// arguments brings in.
    pub fn sign_possession(
        &self,
        method: &str,
        request: RequestId,
        account: &AccountId,
        hash: &Digest,
    ) -> pb::DeviceProof {
        let topic = Topic::Account(account.clone());
        self.sign(method, unsigned(Some(account.clone()), None, request, 0, self.nonces.get(&topic)), hash)
    }

    pub(crate) fn sign_alone(&self, topic: &Topic, method: &str, request: RequestId, hash: &Digest) -> pb::DeviceProof {
        self.sign(method, unsigned(None, None, request, 0, self.nonces.get(topic)), hash)
    }

    /// The nonce for what was asked about `topic`, which led to this ticket, is good for what comes next about it.
    pub(crate) fn about_ticket(&self, topic: &Topic, ticket: &TicketId) {
        self.nonces.put(&Topic::Ticket(*ticket), &self.nonces.get(topic));
    }

    /// It signs about this.
    pub(crate) fn signing(&self, topic: Topic) -> Signing<'_> {
        Signing { device: self, topic }
    }

    fn sign(&self, method: &str, mut proof: DeviceProof, hash: &Digest) -> pb::DeviceProof {
        proof.signature = self.signature(&proof_bytes(&self.cluster, method, &proof, hash));
        convert::proof(&proof, &self.key())
    }

    fn signature(&self, bytes: &[u8]) -> Signature {
        Signature(self.key.sign(bytes).to_bytes())
    }
}

fn unsigned(
    account: Option<AccountId>,
    session: Option<SessionId>,
    request: RequestId,
    auth_epoch: u64,
    nonce: Vec<u8>,
) -> DeviceProof {
    DeviceProof { account, session, request, auth_epoch, nonce, signature: Signature([0; 64]) }
}

/// A device with a session.
#[derive(Clone)]
pub struct Member {
    /// Its key.
    pub device: Device,
    /// The account.
    pub account: AccountId,
    /// Its session.
    pub session: SessionId,
    /// The account's auth_epoch as it knows it.
    pub auth_epoch: u64,
    /// Name of the account's home region; empty if it does not know.
    pub home_region: String,
}

impl Member {
    /// Signs a call of `method` ([`kindred_core::arguments`]) with these arguments, about its account.
    pub fn sign(&self, method: &str, request: RequestId, arguments: &Digest) -> pb::DeviceProof {
        self.sign_about(&Topic::Account(self.account.clone()), method, request, arguments)
    }

    /// Signs a Deny.
    pub fn sign_deny(&self, request: RequestId, ticket: &TicketId) -> pb::DeviceProof {
        self.sign_about(&Topic::Ticket(*ticket), arguments::METHOD_DENY, request, &arguments::deny(ticket))
    }

    /// Signs a Scan by a code.
    pub fn sign_scan_code(&self, request: RequestId, code: &Code) -> pb::DeviceProof {
        let topic = Topic::Typing(self.account.clone());
        self.sign_about(&topic, arguments::METHOD_SCAN, request, &arguments::scan_code(code))
    }

    fn sign_about(&self, topic: &Topic, method: &str, request: RequestId, arguments: &Digest) -> pb::DeviceProof {
        let (account, nonce) = (self.account.clone(), self.device.nonces.get(topic));
        let proof = unsigned(Some(account), Some(self.session), request, self.auth_epoch, nonce);
        self.device.sign(method, proof, arguments)
    }

    /// It signs about its account.
    pub(crate) fn signing(&self) -> Signing<'_> {
        self.device.signing(Topic::Account(self.account.clone()))
    }

    /// Signs a Scan.
    pub fn sign_scan(&self, request: RequestId, reference: &[u8]) -> pb::DeviceProof {
        let topic = Topic::Ticket(ticket_of(reference));
        self.sign_about(&topic, arguments::METHOD_SCAN, request, &arguments::scan(reference))
    }

    /// Signs the approval itself; everything but the signature must be set.
    pub fn sign_approval(&self, mut approval: Approval) -> Approval {
        approval.signature = self.device.signature(&approval_bytes(&self.device.cluster, &approval));
        approval
    }

    /// Signs the call that carries a signed approval.
    pub fn sign_approve(&self, request: RequestId, approval: &Approval) -> pb::DeviceProof {
        self.sign_approve_with(request, approval, None)
    }

    /// Signs the call that carries a signed approval, and the number that the owner has confirmed.
    pub fn sign_approve_with(
        &self,
        request: RequestId,
        approval: &Approval,
        number: Option<MatchNumber>,
    ) -> pb::DeviceProof {
        let topic = Topic::Ticket(approval.ticket);
        self.sign_about(&topic, arguments::METHOD_APPROVE, request, &arguments::approve_with(approval, number))
    }
}

/// The ticket that a ref is of; of zeros if it is too short to name one.
pub(crate) fn ticket_of(reference: &[u8]) -> TicketId {
    reference.get(..TicketId::LEN).and_then(TicketId::from_slice).unwrap_or(TicketId([0; TicketId::LEN]))
}

/// What a QR code says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qr {
    /// The ref.
    pub reference: Vec<u8>,
    /// The companion's key; the one that the phone approves.
    pub device_key: DeviceKey,
    /// Name of the ticket's region.
    pub region: String,
}

impl Qr {
    /// Reads `kindred://link/1?r=…&k=…&g=…`; `None` for anything else. Unknown parameters are passed over.
    pub fn parse(payload: &str) -> Option<Self> {
        let query = payload.trim().strip_prefix("kindred://link/1?")?;
        let field = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let reference = URL_SAFE_NO_PAD.decode(field("r")?).ok().filter(|r| r.len() == REF_LEN)?;
        let device_key = DeviceKey::from_slice(&URL_SAFE_NO_PAD.decode(field("k")?).ok()?)?;
        Some(Self { reference, device_key, region: field("g").unwrap_or_default().to_owned() })
    }

    /// The ticket that the ref is of.
    pub fn ticket(&self) -> Option<TicketId> {
        TicketId::from_slice(self.reference.get(..TicketId::LEN)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_qr_payload_reads_back_and_nothing_else_does() {
        let (reference, key) = (vec![7; REF_LEN], [9; 32]);
        let (r, k) = (URL_SAFE_NO_PAD.encode(&reference), URL_SAFE_NO_PAD.encode(key));
        let qr = Qr::parse(&format!("kindred://link/1?r={r}&k={k}&g=north\n")).unwrap();
        assert_eq!(qr, Qr { reference, device_key: DeviceKey(key), region: "north".into() });
        assert_eq!(qr.ticket(), Some(TicketId([7; 16])));
        for broken in ["", "https://link/1?r=AA", "kindred://link/1?r=AA&k=AA", &format!("kindred://link/1?k={k}")] {
            assert_eq!(Qr::parse(broken), None, "{broken}");
        }
    }
}
