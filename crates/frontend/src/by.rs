//! Who stands behind a mutation of an account: the device whose proof it carries; without one, the operator that calls.

use http::Extensions;
use kindred_core::canonical::DeviceProof;
use kindred_core::command::{Command, Envelope, Proven, Submission};
use kindred_core::id::{AccountId, DeviceKey, RequestId, SessionId};
use kindred_wire::caller::{Caller, Role};
use kindred_wire::convert;
use kindred_wire::pb::session::v1 as pb;
use kindred_wire::reason::Reason;
use kindred_wire::status::Failure;

use crate::front::{Asked, POLICY_VERSION, PROPOSE_WITHIN_MS};

/// Who asks. A device's word is its proof, which the leader verifies; an operator's is its certificate, which was verified
/// when it connected.
pub(crate) enum By {
    Device { asked: Asked, account: AccountId },
    Operator { name: String, account: AccountId, request: RequestId },
}

impl By {
    /// `account` and `request_id` are the request's own fields; they count only where no proof says the same.
    pub(crate) fn of(
        extensions: &Extensions,
        proof: Option<pb::DeviceProof>,
        account: &[u8],
        request_id: &[u8],
    ) -> Result<Self, Failure> {
        if proof.is_some() {
            let (proof, key) = convert::proof_in(proof)?;
            let asked = Asked { proof, key };
            let account = asked.account()?;
            asked.session()?;
            return Ok(Self::Device { asked, account });
        }
        Ok(Self::Operator {
            name: operator(extensions)?,
            account: convert::account_id(account, "account")?,
            request: convert::request_id(request_id, "request_id")?,
        })
    }

    pub(crate) fn account(&self) -> &AccountId {
        match self {
            Self::Device { account, .. } | Self::Operator { account, .. } => account,
        }
    }

    pub(crate) fn request(&self) -> RequestId {
        match self {
            Self::Device { asked, .. } => asked.proof.request,
            Self::Operator { request, .. } => *request,
        }
    }

    /// The device's session; none for an operator.
    pub(crate) fn session(&self) -> Option<SessionId> {
        match self {
            Self::Device { asked, .. } => asked.proof.session,
            Self::Operator { .. } => None,
        }
    }

    pub(crate) fn submission(&self, command: Command) -> Submission {
        match self {
            Self::Device { asked, .. } => asked.submission(command),
            Self::Operator { name, request, .. } => {
                let proven = Proven::Operator(name.clone());
                let envelope = Envelope { request: *request, policy_version: POLICY_VERSION, proven, command };
                let within = PROPOSE_WITHIN_MS;
                Submission { envelope, proof: None, possession: None, reference: None, propose_within_ms: within }
            }
        }
    }
}

/// The name of the operator that calls; anybody else is refused.
pub(crate) fn operator(extensions: &Extensions) -> Result<String, Failure> {
    match extensions.get::<Caller>() {
        Some(Caller { role: Role::Operator, name }) => Ok(name.to_string()),
        _ => Err(Failure::new(Reason::CallerNotAllowed)),
    }
}

/// The proof by a new key that a request brings in, which must be the key that it names.
pub(crate) fn possession(proof: Option<pb::DeviceProof>, device_key: &DeviceKey) -> Result<DeviceProof, Failure> {
    let (proof, key) = convert::proof_in(proof).map_err(|_| Failure::from(convert::Invalid("possession")))?;
    if key != *device_key {
        return Err(Failure::new(Reason::ProofInvalid));
    }
    Ok(proof)
}
