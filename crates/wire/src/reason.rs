//! One table: for each reason its gRPC code, how to retry, and what to do about it.

use tonic::Code;

use crate::pb::error::v1::Reason as PbReason;

/// Why a call was refused or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "documented where it is defined for all languages: kindred/error/v1/error.proto")]
pub enum Reason {
    SignedOut,
    TicketNotFound,
    NewTicket,
    TicketExpired,
    TicketCancelled,
    TicketLocked,
    EpochChanged,
    RequestIdReused,
    TicketAlreadyUsed,
    TicketDenied,
    ApprovalInvalid,
    StepUpRequired,
    CodeMismatch,
    CompanionLimitReached,
    DeviceKeyAlreadyLinked,
    SetVersionConflict,
    WouldDropSiblings,
    QuarantinedActor,
    IncidentFrozen,
    ClientOutdated,
    RateLimited,
    Overloaded,
    ShardUnavailable,
    DiskFull,
    OutcomeUnknown,
    ConnectionReplaced,
    ProofInvalid,
    NonceStale,
    CallerNotAllowed,
    AccountExists,
    AccountLocked,
    SessionPinned,
    AccountNotFound,
    SessionUnknown,
    InvalidRequest,
    TicketNotReady,
}

/// Whether and how trying again helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same call will be refused again.
    Never,
    /// Link anew: this session is gone.
    Relink,
    /// With a new ticket.
    NewTicket,
    /// Scan again, then sign again.
    ScanAgain,
    /// Read the current state, then decide and sign again.
    ReadAgain,
    /// Once something else has been done: see the advice.
    AfterAct,
    /// After the pause in RetryInfo. Nothing happened, so the same request id may be used.
    After,
    /// With the same request id, after the pause in RetryInfo: it tells what happened.
    SameRequestId,
}

struct Row(&'static str, PbReason, Code, Retry, &'static str);

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 36] = [
        Self::SignedOut,
        Self::TicketNotFound,
        Self::NewTicket,
        Self::TicketExpired,
        Self::TicketCancelled,
        Self::TicketLocked,
        Self::EpochChanged,
        Self::RequestIdReused,
        Self::TicketAlreadyUsed,
        Self::TicketDenied,
        Self::ApprovalInvalid,
        Self::StepUpRequired,
        Self::CodeMismatch,
        Self::CompanionLimitReached,
        Self::DeviceKeyAlreadyLinked,
        Self::SetVersionConflict,
        Self::WouldDropSiblings,
        Self::QuarantinedActor,
        Self::IncidentFrozen,
        Self::ClientOutdated,
        Self::RateLimited,
        Self::Overloaded,
        Self::ShardUnavailable,
        Self::DiskFull,
        Self::OutcomeUnknown,
        Self::ConnectionReplaced,
        Self::ProofInvalid,
        Self::NonceStale,
        Self::CallerNotAllowed,
        Self::AccountExists,
        Self::AccountLocked,
        Self::SessionPinned,
        Self::AccountNotFound,
        Self::SessionUnknown,
        Self::InvalidRequest,
        Self::TicketNotReady,
    ];

    /// Its name in ErrorInfo, for example `TICKET_EXPIRED`.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The generated value.
    pub fn proto(self) -> PbReason {
        self.row().1
    }

    /// The gRPC code that goes with it.
    pub fn code(self) -> Code {
        self.row().2
    }

    /// Whether and how trying again helps.
    pub fn retry(self) -> Retry {
        self.row().3
    }

    /// What to do about it, one line.
    pub fn advice(self) -> &'static str {
        self.row().4
    }

    /// True if the call may have changed something all the same.
    pub fn side_effects_possible(self) -> bool {
        self == Self::OutcomeUnknown
    }

    /// False for SIGNED_OUT alone.
    pub fn keep_credentials(self) -> bool {
        self != Self::SignedOut
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    #[rustfmt::skip]
    fn row(self) -> Row {
        use {Code as C, PbReason as P, Retry as R};
        match self {
            Self::SignedOut => Row("SIGNED_OUT", P::SignedOut, C::Unauthenticated, R::Relink, "this session has ended, as the tombstone tells; discard its credentials and link again"),
            Self::TicketNotFound => Row("TICKET_NOT_FOUND", P::TicketNotFound, C::NotFound, R::NewTicket, "no such ticket; open a new one"),
            Self::NewTicket => Row("NEW_TICKET", P::NewTicket, C::FailedPrecondition, R::NewTicket, "the ticket's region is lost; open a new one"),
            Self::TicketExpired => Row("TICKET_EXPIRED", P::TicketExpired, C::FailedPrecondition, R::NewTicket, "the ticket's time is over; open a new one"),
            Self::TicketCancelled => Row("TICKET_CANCELLED", P::TicketCancelled, C::FailedPrecondition, R::NewTicket, "the companion cancelled; open a new ticket"),
            Self::TicketLocked => Row("TICKET_LOCKED", P::TicketLocked, C::FailedPrecondition, R::NewTicket, "too many wrong codes; open a new ticket"),
            Self::EpochChanged => Row("EPOCH_CHANGED", P::EpochChanged, C::FailedPrecondition, R::ScanAgain, "auth_epoch has moved on; take the one given, scan and sign again"),
            Self::RequestIdReused => Row("REQUEST_ID_REUSED", P::RequestIdReused, C::InvalidArgument, R::Never, "the request id was used with other arguments; a new act needs a new id"),
            Self::TicketAlreadyUsed => Row("TICKET_ALREADY_USED", P::TicketAlreadyUsed, C::AlreadyExists, R::Never, "the ticket is bound to another account or spent; the companion must open a new one"),
            Self::TicketDenied => Row("TICKET_DENIED", P::TicketDenied, C::PermissionDenied, R::Never, "the owner said no"),
            Self::ApprovalInvalid => Row("APPROVAL_INVALID", P::ApprovalInvalid, C::PermissionDenied, R::Never, "the approval does not verify or does not cover this ticket"),
            Self::StepUpRequired => Row("STEP_UP_REQUIRED", P::StepUpRequired, C::FailedPrecondition, R::AfterAct, "have the owner compare the number on both screens, then approve with it"),
            Self::CodeMismatch => Row("CODE_MISMATCH", P::CodeMismatch, C::InvalidArgument, R::AfterAct, "the code is wrong; type the one on the companion's screen"),
            Self::CompanionLimitReached => Row("COMPANION_LIMIT_REACHED", P::CompanionLimitReached, C::FailedPrecondition, R::AfterAct, "no room; unlink a companion, then open a new ticket"),
            Self::DeviceKeyAlreadyLinked => Row("DEVICE_KEY_ALREADY_LINKED", P::DeviceKeyAlreadyLinked, C::AlreadyExists, R::Never, "this device key has a session here already"),
            Self::SetVersionConflict => Row("SET_VERSION_CONFLICT", P::SetVersionConflict, C::Aborted, R::ReadAgain, "the session set has changed; read it and decide again under a new request id"),
            Self::WouldDropSiblings => Row("WOULD_DROP_SIBLINGS", P::WouldDropSiblings, C::FailedPrecondition, R::ReadAgain, "the signed list is too old; sign a newer one"),
            Self::QuarantinedActor => Row("QUARANTINED_ACTOR", P::QuarantinedActor, C::PermissionDenied, R::AfterAct, "a young session may end only itself; use the primary or wait"),
            Self::IncidentFrozen => Row("INCIDENT_FROZEN", P::IncidentFrozen, C::FailedPrecondition, R::AfterAct, "removals are frozen during an incident; wait, or let an operator force it"),
            Self::ClientOutdated => Row("CLIENT_OUTDATED", P::ClientOutdated, C::FailedPrecondition, R::AfterAct, "update the app"),
            Self::RateLimited => Row("RATE_LIMITED", P::RateLimited, C::ResourceExhausted, R::After, "too many attempts; wait"),
            Self::Overloaded => Row("OVERLOADED", P::Overloaded, C::Unavailable, R::After, "too busy; nothing happened; try again"),
            Self::ShardUnavailable => Row("SHARD_UNAVAILABLE", P::ShardUnavailable, C::Unavailable, R::After, "no leader just now; nothing happened; try again"),
            Self::DiskFull => Row("DISK_FULL", P::DiskFull, C::Unavailable, R::After, "no space to write; nothing happened; try again later"),
            Self::OutcomeUnknown => Row("OUTCOME_UNKNOWN", P::OutcomeUnknown, C::Unavailable, R::SameRequestId, "it may have happened; ask again with the same request id"),
            Self::ConnectionReplaced => Row("CONNECTION_REPLACED", P::ConnectionReplaced, C::FailedPrecondition, R::Never, "another gateway holds this session's connection; do not fight over it"),
            Self::ProofInvalid => Row("PROOF_INVALID", P::ProofInvalid, C::PermissionDenied, R::Never, "the device proof does not verify"),
            Self::NonceStale => Row("NONCE_STALE", P::NonceStale, C::FailedPrecondition, R::AfterAct, "sign again with the nonce given"),
            Self::CallerNotAllowed => Row("CALLER_NOT_ALLOWED", P::CallerNotAllowed, C::PermissionDenied, R::Never, "this caller may not do this"),
            Self::AccountExists => Row("ACCOUNT_EXISTS", P::AccountExists, C::AlreadyExists, R::Never, "the account is registered already"),
            Self::AccountLocked => Row("ACCOUNT_LOCKED", P::AccountLocked, C::FailedPrecondition, R::Never, "the account is locked"),
            Self::SessionPinned => Row("SESSION_PINNED", P::SessionPinned, C::FailedPrecondition, R::Never, "the session is pinned"),
            Self::AccountNotFound => Row("ACCOUNT_NOT_FOUND", P::AccountNotFound, C::NotFound, R::Never, "no such account"),
            Self::SessionUnknown => Row("SESSION_UNKNOWN", P::SessionUnknown, C::NotFound, R::Never, "the account never had such a session; this is not a sign-out"),
            Self::InvalidRequest => Row("INVALID_REQUEST", P::InvalidRequest, C::InvalidArgument, R::Never, "a field is missing or out of bounds"),
            Self::TicketNotReady => Row("TICKET_NOT_READY", P::TicketNotReady, C::FailedPrecondition, R::Never, "the step does not fit the ticket's state"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_the_proto_has_exactly_one_row() {
        for (reason, number) in Reason::ALL.into_iter().zip(1..) {
            assert_eq!(reason.proto() as i32, number, "{reason:?}");
            assert_eq!(reason.proto().as_str_name(), reason.name());
            assert_eq!(Reason::from_name(reason.name()), Some(reason));
            assert!(!reason.advice().is_empty() && reason.code() != Code::Ok);
        }
        assert!(PbReason::try_from(37).is_err(), "a new reason needs a row");
    }

    #[test]
    fn only_signed_out_discards_and_only_signed_out_is_unauthenticated() {
        for reason in Reason::ALL {
            assert_eq!(reason.keep_credentials(), reason != Reason::SignedOut);
            assert_eq!(reason.code() == Code::Unauthenticated, reason == Reason::SignedOut);
            assert_eq!(reason.side_effects_possible(), reason.retry() == Retry::SameRequestId);
        }
    }

    #[test]
    fn what_waiting_helps_is_what_retry_policies_retry() {
        for reason in Reason::ALL {
            let waits = matches!(reason.retry(), Retry::After | Retry::SameRequestId);
            assert_eq!(waits, matches!(reason.code(), Code::Unavailable | Code::ResourceExhausted), "{reason:?}");
        }
    }
}
