//! From a refusal or failure to a gRPC status with details, and back.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kindred_core::id::SessionId;
use kindred_core::model::Rejection;
use prost::Message as _;
use prost_types::Any;
use tonic::Status;
use tonic_types::pb;

use crate::convert::{self, Invalid};
use crate::nonce;
use crate::pb::error::v1::Refusal;
use crate::pb::session::v1::Tombstone;
use crate::reason::{Reason, Retry};
use crate::shards::ShardError;

/// Domain of every ErrorInfo.
pub const DOMAIN: &str = "kindred";
/// Pause that is advised where nothing better is known.
pub const RETRY_AFTER_MS: u64 = 250;

const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
const TOMBSTONE: &str = "type.googleapis.com/kindred.session.v1.Tombstone";

/// A refusal or failure on its way to the caller.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// What a program may want to know about it.
    pub metadata: BTreeMap<String, String>,
    /// Pause before a retry; set exactly where waiting helps.
    pub retry_after_ms: Option<u64>,
    /// Only, and always, with SIGNED_OUT.
    pub tombstone: Option<Box<Tombstone>>,
}

impl Failure {
    /// A failure without metadata. For SIGNED_OUT use [`Self::signed_out`], which has the tombstone.
    pub fn new(reason: Reason) -> Self {
        let waits = matches!(reason.retry(), Retry::After | Retry::SameRequestId);
        Self { reason, metadata: BTreeMap::new(), retry_after_ms: waits.then_some(RETRY_AFTER_MS), tombstone: None }
    }

    /// The caller's own session has ended.
    pub fn signed_out(tombstone: Tombstone) -> Self {
        Self { tombstone: Some(Box::new(tombstone)), ..Self::new(Reason::SignedOut) }
    }

    /// Adds metadata.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// Sets the pause, if waiting helps at all.
    #[must_use]
    pub fn after(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = self.retry_after_ms.map(|_| retry_after_ms);
        self
    }

    /// A rejection as told to `caller`. Only the end of the caller's own session is SIGNED_OUT; that of another one must
    /// never make this one discard its credentials.
    pub fn rejected(rejection: &Rejection, caller: Option<&SessionId>) -> Self {
        match rejection {
            Rejection::TicketNotFound => Self::new(Reason::TicketNotFound),
            Rejection::TicketExpired => Self::new(Reason::TicketExpired),
            Rejection::TicketCancelled => Self::new(Reason::TicketCancelled),
            Rejection::TicketDenied => Self::new(Reason::TicketDenied),
            Rejection::TicketAlreadyUsed => Self::new(Reason::TicketAlreadyUsed),
            Rejection::TicketNotReady => Self::new(Reason::TicketNotReady),
            Rejection::ApprovalInvalid => Self::new(Reason::ApprovalInvalid),
            Rejection::EpochChanged { auth_epoch } => Self::new(Reason::EpochChanged).with("auth_epoch", auth_epoch),
            Rejection::CompanionLimitReached { now, max } => {
                Self::new(Reason::CompanionLimitReached).with("now", now).with("max", max)
            }
            Rejection::DeviceKeyAlreadyLinked { session } => {
                Self::new(Reason::DeviceKeyAlreadyLinked).with("session", session)
            }
            Rejection::QuarantinedActor { until_ms } => Self::new(Reason::QuarantinedActor).with("until_ms", until_ms),
            Rejection::CallerNotAllowed => Self::new(Reason::CallerNotAllowed),
            Rejection::ProofInvalid => Self::new(Reason::ProofInvalid),
            Rejection::RequestIdReused => Self::new(Reason::RequestIdReused),
            Rejection::AccountExists => Self::new(Reason::AccountExists),
            Rejection::AccountNotFound => Self::new(Reason::AccountNotFound),
            Rejection::SessionUnknown => Self::new(Reason::SessionUnknown),
            Rejection::SessionEnded(tombstone) if caller == Some(&tombstone.session.id) => {
                Self::signed_out(convert::tombstone(tombstone))
            }
            Rejection::SessionEnded(tombstone) => {
                Self::new(Reason::CallerNotAllowed).with("ended_session", tombstone.session.id)
            }
            Rejection::SetVersionConflict { current } => Self::new(Reason::SetVersionConflict).with("current", current),
            Rejection::InvalidRequest(field) => Self::from(Invalid(field)),
            Rejection::NonceStale { nonce } => nonce::stale(nonce),
            Rejection::AccountLocked => Self::new(Reason::AccountLocked),
            Rejection::SessionPinned { session } => Self::new(Reason::SessionPinned).with("session", session),
            Rejection::TicketLocked => Self::new(Reason::TicketLocked),
            Rejection::CodeMismatch { left } => Self::new(Reason::CodeMismatch).with("left", left),
            Rejection::StepUpRequired => Self::new(Reason::StepUpRequired),
        }
    }

    /// The failure as data.
    pub fn refusal(&self) -> Refusal {
        Refusal {
            reason: self.reason.proto().into(),
            metadata: self.metadata.clone(),
            advice: self.reason.advice().to_owned(),
        }
    }
}

impl From<&Rejection> for Failure {
    /// As told to nobody in particular; see [`Failure::rejected`].
    fn from(rejection: &Rejection) -> Self {
        Self::rejected(rejection, None)
    }
}

impl From<ShardError> for Failure {
    fn from(error: ShardError) -> Self {
        match error {
            ShardError::Unavailable { retry_after_ms } => Self::new(Reason::ShardUnavailable).after(retry_after_ms),
            ShardError::Overloaded { retry_after_ms } => Self::new(Reason::Overloaded).after(retry_after_ms),
            ShardError::OutcomeUnknown => Self::new(Reason::OutcomeUnknown),
            ShardError::DiskFull => Self::new(Reason::DiskFull).after(5_000),
        }
    }
}

impl From<Invalid> for Failure {
    fn from(Invalid(field): Invalid) -> Self {
        Self::new(Reason::InvalidRequest).with("field", field)
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let code = failure.reason.code();
        let message = failure.reason.advice();
        Status::with_details(code, message, details(&failure, code, message))
    }
}

/// `status` with the details of `reason` and `code`, for a status that was made where no reason is known.
pub fn explained(status: &Status, code: tonic::Code, reason: Reason) -> Status {
    Status::with_details(code, status.message(), details(&Failure::new(reason), code, status.message()))
}

/// `google.rpc.ErrorInfo`, with its map in order: the same refusal is the same bytes, in every process.
#[derive(Clone, PartialEq, prost::Message)]
struct OrderedInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

fn details(failure: &Failure, code: tonic::Code, message: &str) -> Bytes {
    let info = OrderedInfo {
        reason: failure.reason.name().to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: failure.metadata.clone(),
    };
    let mut details = vec![any(ERROR_INFO, &info)];
    if let Some(ms) = failure.retry_after_ms {
        let pause = Duration::from_millis(ms.min(3_600_000));
        details.push(any(RETRY_INFO, &pb::RetryInfo { retry_delay: prost_types::Duration::try_from(pause).ok() }));
    }
    if let Some(tombstone) = &failure.tombstone {
        details.push(any(TOMBSTONE, tombstone.as_ref()));
    }
    pb::Status { code: code as i32, message: message.to_owned(), details }.encode_to_vec().into()
}

fn any(type_url: &str, message: &impl prost::Message) -> Any {
    Any { type_url: type_url.to_owned(), value: message.encode_to_vec() }
}

fn read<M: prost::Message + Default>(status: &Status, type_url: &str) -> Option<M> {
    let details = pb::Status::decode(status.details()).ok()?.details;
    let any = details.into_iter().find(|any| any.type_url == type_url)?;
    M::decode(any.value.as_slice()).ok()
}

fn info(status: &Status) -> Option<OrderedInfo> {
    read::<OrderedInfo>(status, ERROR_INFO).filter(|info| info.domain == DOMAIN)
}

impl Reason {
    /// The reason in the details of `status`; `None` if it came from something that is not Kindred, a broken connection,
    /// say. SIGNED_OUT counts only with its tombstone.
    pub fn of(status: &Status) -> Option<Self> {
        let reason = Self::from_name(&info(status)?.reason)?;
        (reason.keep_credentials() || tombstone(status).is_some()).then_some(reason)
    }
}

/// The metadata of ErrorInfo.
pub fn metadata(status: &Status) -> BTreeMap<String, String> {
    info(status).map(|info| info.metadata).unwrap_or_default()
}

/// The pause of RetryInfo.
pub fn retry_after(status: &Status) -> Option<Duration> {
    read::<pb::RetryInfo>(status, RETRY_INFO)?.retry_delay?.try_into().ok()
}

/// The tombstone that comes with SIGNED_OUT.
pub fn tombstone(status: &Status) -> Option<Tombstone> {
    read(status, TOMBSTONE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn every_reason_survives_the_way_to_the_client() {
        for reason in Reason::ALL {
            let failure = match reason {
                Reason::SignedOut => Failure::signed_out(Tombstone { set_version: 7, ..Tombstone::default() }),
                _ => Failure::new(reason),
            };
            let status = Status::from(failure.with("now", 4).after(1_500));
            let mut headers = http::HeaderMap::new();
            status.add_header(&mut headers).unwrap();
            let status = Status::from_header_map(&headers).unwrap();
            assert_eq!((Reason::of(&status), status.code()), (Some(reason), reason.code()));
            assert_eq!(metadata(&status).get("now").map(String::as_str), Some("4"));
            let waits = matches!(reason.retry(), Retry::After | Retry::SameRequestId);
            assert_eq!(retry_after(&status), waits.then(|| Duration::from_millis(1_500)), "{reason:?}");
            assert_eq!(tombstone(&status).is_some(), reason == Reason::SignedOut);
        }
    }

    #[test]
    fn signed_out_without_a_tombstone_is_not_believed() {
        let status = Status::from(Failure::new(Reason::SignedOut));
        assert_eq!(Reason::of(&status), None);
        assert_eq!(Reason::of(&Status::unauthenticated("from some proxy")), None);
    }

    #[test]
    fn a_shard_that_gives_no_answer_never_speaks_about_a_session() {
        for error in [
            ShardError::Unavailable { retry_after_ms: 3 },
            ShardError::Overloaded { retry_after_ms: 3 },
            ShardError::OutcomeUnknown,
            ShardError::DiskFull,
        ] {
            let failure = Failure::from(error);
            assert_eq!(failure.reason.code(), tonic::Code::Unavailable);
            assert!(failure.reason.keep_credentials() && failure.retry_after_ms.is_some());
        }
    }
}
