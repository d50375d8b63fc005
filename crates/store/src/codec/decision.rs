//! Tickets, what decides them, and refusals.

use bytes::Bytes;
use kindred_core::model::{
    Approval, ApprovalKind, Method, Receipt, Rejection, Requester, Scan, Ticket, TicketOutcome, TicketState,
};

use super::Malformed;
use super::convert::{UNIT, account, id, ids, need, part, raw, raw_account, raws, region};
use crate::proto::storage::v1 as pb;

pub(super) fn method_to(method: &Method) -> (pb::Method, Option<pb::CodeTicket>) {
    match method {
        Method::Qr => (pb::Method::Qr, None),
        Method::Code { account, wrong_tries } => {
            let code = pb::CodeTicket { account: raw_account(account), wrong_tries: (*wrong_tries).into() };
            (pb::Method::Code, Some(code))
        }
    }
}

pub(super) fn method_from(method: i32, code: Option<pb::CodeTicket>) -> Result<Method, Malformed> {
    match (pb::Method::try_from(method), code) {
        (Ok(pb::Method::Qr), None) => Ok(Method::Qr),
        (Ok(pb::Method::Code), Some(code)) => Ok(Method::Code {
            account: account(&code.account)?,
            wrong_tries: u8::try_from(code.wrong_tries).map_err(|_| Malformed("wrong tries of a ticket"))?,
        }),
        _ => Err(Malformed("method of a ticket")),
    }
}

impl From<&Requester> for pb::Requester {
    fn from(requester: &Requester) -> Self {
        Self { device: Some((&requester.device).into()), location: requester.location.clone() }
    }
}

impl TryFrom<pb::Requester> for Requester {
    type Error = Malformed;
    fn try_from(requester: pb::Requester) -> Result<Self, Malformed> {
        Ok(Self { device: part(requester.device, "device of a requester")?, location: requester.location })
    }
}

impl From<&Scan> for pb::Scan {
    fn from(scan: &Scan) -> Self {
        Self {
            account: raw_account(&scan.account),
            home: scan.home.0.into(),
            approver: raw(&scan.approver),
            approver_key: raw(&scan.approver_key),
            auth_epoch: scan.auth_epoch,
            scanned_at_ms: scan.scanned_at_ms,
        }
    }
}

impl TryFrom<pb::Scan> for Scan {
    type Error = Malformed;
    fn try_from(scan: pb::Scan) -> Result<Self, Malformed> {
        Ok(Self {
            account: account(&scan.account)?,
            home: region(scan.home)?,
            approver: id(&scan.approver)?,
            approver_key: id(&scan.approver_key)?,
            auth_epoch: scan.auth_epoch,
            scanned_at_ms: scan.scanned_at_ms,
        })
    }
}

impl From<&Approval> for pb::Approval {
    fn from(approval: &Approval) -> Self {
        use pb::approval::Kind;
        Self {
            kind: Some(match &approval.kind {
                ApprovalKind::Link => Kind::Link(UNIT),
                ApprovalKind::LinkReplacing(session) => Kind::LinkReplacing(raw(session)),
            }),
            account: raw_account(&approval.account),
            auth_epoch: approval.auth_epoch,
            ticket: raw(&approval.ticket),
            device_key_hash: raw(&approval.device_key_hash),
            approver: raw(&approval.approver),
            envelope_hash: raw(&approval.envelope_hash),
            lifetime_ms: approval.lifetime_ms,
            signature: raw(&approval.signature),
        }
    }
}

impl TryFrom<pb::Approval> for Approval {
    type Error = Malformed;
    fn try_from(approval: pb::Approval) -> Result<Self, Malformed> {
        use pb::approval::Kind;
        Ok(Self {
            kind: match need(approval.kind, "kind of an approval")? {
                Kind::Link(_) => ApprovalKind::Link,
                Kind::LinkReplacing(session) => ApprovalKind::LinkReplacing(id(&session)?),
            },
            account: account(&approval.account)?,
            auth_epoch: approval.auth_epoch,
            ticket: id(&approval.ticket)?,
            device_key_hash: id(&approval.device_key_hash)?,
            approver: id(&approval.approver)?,
            envelope_hash: id(&approval.envelope_hash)?,
            lifetime_ms: approval.lifetime_ms,
            signature: id(&approval.signature)?,
        })
    }
}

impl From<&Receipt> for pb::Receipt {
    fn from(receipt: &Receipt) -> Self {
        Self {
            session: raw(&receipt.session),
            seq: receipt.seq,
            version_before: receipt.version_before,
            version_after: receipt.version_after,
            digest_after: raw(&receipt.digest_after),
            sessions_before: raws(&receipt.sessions_before),
            sessions_after: raws(&receipt.sessions_after),
            log_index: receipt.log_index,
        }
    }
}

impl TryFrom<pb::Receipt> for Receipt {
    type Error = Malformed;
    fn try_from(receipt: pb::Receipt) -> Result<Self, Malformed> {
        Ok(Self {
            session: id(&receipt.session)?,
            seq: receipt.seq,
            version_before: receipt.version_before,
            version_after: receipt.version_after,
            digest_after: id(&receipt.digest_after)?,
            sessions_before: ids(&receipt.sessions_before)?,
            sessions_after: ids(&receipt.sessions_after)?,
            log_index: receipt.log_index,
        })
    }
}

impl From<&TicketOutcome> for pb::TicketOutcome {
    fn from(outcome: &TicketOutcome) -> Self {
        use pb::ticket_outcome::Outcome;
        let outcome = match outcome {
            TicketOutcome::Linked(receipt) => Outcome::Linked(receipt.into()),
            TicketOutcome::Refused(reason) => Outcome::Refused(reason.into()),
            TicketOutcome::Cancelled => Outcome::Cancelled(UNIT),
            TicketOutcome::Expired => Outcome::Expired(UNIT),
        };
        Self { outcome: Some(outcome) }
    }
}

impl TryFrom<pb::TicketOutcome> for TicketOutcome {
    type Error = Malformed;
    fn try_from(outcome: pb::TicketOutcome) -> Result<Self, Malformed> {
        use pb::ticket_outcome::Outcome;
        Ok(match need(outcome.outcome, "outcome of a ticket")? {
            Outcome::Linked(receipt) => Self::Linked(receipt.try_into()?),
            Outcome::Refused(reason) => Self::Refused(reason.try_into()?),
            Outcome::Cancelled(_) => Self::Cancelled,
            Outcome::Expired(_) => Self::Expired,
        })
    }
}

impl From<&Ticket> for pb::Ticket {
    fn from(ticket: &Ticket) -> Self {
        let (method, code) = method_to(&ticket.method);
        Self {
            id: raw(&ticket.id),
            device_key: raw(&ticket.device_key),
            method: method.into(),
            code,
            contested: ticket.contested,
            opened_by: raw(&ticket.opened_by),
            requester: Some((&ticket.requester).into()),
            opened_at_ms: ticket.opened_at_ms,
            deadline_ms: ticket.deadline_ms,
            version: ticket.version,
            state: Some((&ticket.state).into()),
        }
    }
}

impl TryFrom<pb::Ticket> for Ticket {
    type Error = Malformed;
    fn try_from(ticket: pb::Ticket) -> Result<Self, Malformed> {
        Ok(Self {
            id: id(&ticket.id)?,
            device_key: id(&ticket.device_key)?,
            method: method_from(ticket.method, ticket.code)?,
            contested: ticket.contested,
            opened_by: id(&ticket.opened_by)?,
            requester: part(ticket.requester, "requester of a ticket")?,
            opened_at_ms: ticket.opened_at_ms,
            deadline_ms: ticket.deadline_ms,
            version: ticket.version,
            state: part(ticket.state, "state of a ticket")?,
        })
    }
}

impl From<&TicketState> for pb::ticket::State {
    fn from(state: &TicketState) -> Self {
        match state {
            TicketState::Open => Self::Open(UNIT),
            TicketState::Scanned(scan) => Self::Scanned(scan.into()),
            TicketState::Approved { scan, approval, envelope, approved_at_ms, approved_by } => {
                Self::Approved(pb::Approved {
                    scan: Some(scan.into()),
                    approval: Some(approval.into()),
                    envelope: Bytes::copy_from_slice(envelope),
                    approved_at_ms: *approved_at_ms,
                    approved_by: raw(approved_by),
                })
            }
            TicketState::Linked { account, receipt, envelope } => Self::Linked(pb::Linked {
                account: raw_account(account),
                receipt: Some(receipt.into()),
                envelope: Bytes::copy_from_slice(envelope),
            }),
            TicketState::Refused { account, reason } => {
                Self::Refused(pb::Refused { account: raw_account(account), reason: Some(reason.into()) })
            }
            TicketState::Expired => Self::Expired(UNIT),
            TicketState::Denied => Self::Denied(UNIT),
            TicketState::Cancelled => Self::Cancelled(UNIT),
            TicketState::Locked => Self::Locked(UNIT),
        }
    }
}

impl TryFrom<pb::ticket::State> for TicketState {
    type Error = Malformed;
    fn try_from(state: pb::ticket::State) -> Result<Self, Malformed> {
        use pb::ticket::State;
        Ok(match state {
            State::Open(_) => Self::Open,
            State::Scanned(scan) => Self::Scanned(scan.try_into()?),
            State::Approved(approved) => Self::Approved {
                scan: part(approved.scan, "scan of an approved ticket")?,
                approval: part(approved.approval, "approval of an approved ticket")?,
                envelope: approved.envelope.into(),
                approved_at_ms: approved.approved_at_ms,
                approved_by: id(&approved.approved_by)?,
            },
            State::Linked(linked) => Self::Linked {
                account: account(&linked.account)?,
                receipt: part(linked.receipt, "receipt of a linked ticket")?,
                envelope: linked.envelope.into(),
            },
            State::Refused(refused) => Self::Refused {
                account: account(&refused.account)?,
                reason: part(refused.reason, "reason of a refused ticket")?,
            },
            State::Expired(_) => Self::Expired,
            State::Denied(_) => Self::Denied,
            State::Cancelled(_) => Self::Cancelled,
            State::Locked(_) => Self::Locked,
        })
    }
}

impl From<&Rejection> for pb::Rejection {
    fn from(rejection: &Rejection) -> Self {
        use pb::rejection::Reason;
        let reason = match rejection {
            Rejection::TicketNotFound => Reason::TicketNotFound(UNIT),
            Rejection::TicketExpired => Reason::TicketExpired(UNIT),
            Rejection::TicketCancelled => Reason::TicketCancelled(UNIT),
            Rejection::TicketDenied => Reason::TicketDenied(UNIT),
            Rejection::TicketAlreadyUsed => Reason::TicketAlreadyUsed(UNIT),
            Rejection::TicketNotReady => Reason::TicketNotReady(UNIT),
            Rejection::ApprovalInvalid => Reason::ApprovalInvalid(UNIT),
            Rejection::EpochChanged { auth_epoch } => Reason::EpochChanged(*auth_epoch),
            Rejection::CompanionLimitReached { now, max } => {
                Reason::CompanionLimitReached(pb::CompanionLimitReached { now: *now, max: *max })
            }
            Rejection::DeviceKeyAlreadyLinked { session } => Reason::DeviceKeyAlreadyLinked(raw(session)),
            Rejection::QuarantinedActor { until_ms } => Reason::QuarantinedActor(*until_ms),
            Rejection::CallerNotAllowed => Reason::CallerNotAllowed(UNIT),
            Rejection::ProofInvalid => Reason::ProofInvalid(UNIT),
            Rejection::RequestIdReused => Reason::RequestIdReused(UNIT),
            Rejection::AccountExists => Reason::AccountExists(UNIT),
            Rejection::AccountNotFound => Reason::AccountNotFound(UNIT),
            Rejection::SessionUnknown => Reason::SessionUnknown(UNIT),
            Rejection::SessionEnded(tombstone) => Reason::SessionEnded(tombstone.as_ref().into()),
            Rejection::SetVersionConflict { current } => Reason::SetVersionConflict(*current),
            Rejection::InvalidRequest(field) => Reason::InvalidRequest((*field).to_owned()),
            Rejection::NonceStale { nonce } => Reason::NonceStale(Bytes::copy_from_slice(nonce)),
            Rejection::AccountLocked => Reason::AccountLocked(UNIT),
            Rejection::SessionPinned { session } => Reason::SessionPinned(raw(session)),
            Rejection::TicketLocked => Reason::TicketLocked(UNIT),
            Rejection::CodeMismatch { left } => Reason::CodeMismatch((*left).into()),
            Rejection::StepUpRequired => Reason::StepUpRequired(UNIT),
        };
        Self { reason: Some(reason) }
    }
}

impl TryFrom<pb::Rejection> for Rejection {
    type Error = Malformed;
    fn try_from(rejection: pb::Rejection) -> Result<Self, Malformed> {
        use pb::rejection::Reason;
        Ok(match need(rejection.reason, "reason of a rejection")? {
            Reason::TicketNotFound(_) => Self::TicketNotFound,
            Reason::TicketExpired(_) => Self::TicketExpired,
            Reason::TicketCancelled(_) => Self::TicketCancelled,
            Reason::TicketDenied(_) => Self::TicketDenied,
            Reason::TicketAlreadyUsed(_) => Self::TicketAlreadyUsed,
            Reason::TicketNotReady(_) => Self::TicketNotReady,
            Reason::ApprovalInvalid(_) => Self::ApprovalInvalid,
            Reason::EpochChanged(auth_epoch) => Self::EpochChanged { auth_epoch },
            Reason::CompanionLimitReached(pb::CompanionLimitReached { now, max }) => {
                Self::CompanionLimitReached { now, max }
            }
            Reason::DeviceKeyAlreadyLinked(session) => Self::DeviceKeyAlreadyLinked { session: id(&session)? },
            Reason::QuarantinedActor(until_ms) => Self::QuarantinedActor { until_ms },
            Reason::CallerNotAllowed(_) => Self::CallerNotAllowed,
            Reason::ProofInvalid(_) => Self::ProofInvalid,
            Reason::RequestIdReused(_) => Self::RequestIdReused,
            Reason::AccountExists(_) => Self::AccountExists,
            Reason::AccountNotFound(_) => Self::AccountNotFound,
            Reason::SessionUnknown(_) => Self::SessionUnknown,
            Reason::SessionEnded(tombstone) => Self::SessionEnded(Box::new(tombstone.try_into()?)),
            Reason::SetVersionConflict(current) => Self::SetVersionConflict { current },
            Reason::InvalidRequest(field) => Self::InvalidRequest(known_field(&field)),
            Reason::NonceStale(nonce) => Self::NonceStale { nonce: nonce.into() },
            Reason::AccountLocked(_) => Self::AccountLocked,
            Reason::SessionPinned(session) => Self::SessionPinned { session: id(&session)? },
            Reason::TicketLocked(_) => Self::TicketLocked,
            Reason::CodeMismatch(left) => {
                Self::CodeMismatch { left: u8::try_from(left).map_err(|_| Malformed("tries left"))? }
            }
            Reason::StepUpRequired(_) => Self::StepUpRequired,
        })
    }
}

/// Every field name that core puts into [`Rejection::InvalidRequest`].
pub(super) const FIELDS: [&str; 11] = [
    "app_version",
    "code",
    "command",
    "display_name",
    "envelope",
    "home",
    "limit",
    "location",
    "platform",
    "ref",
    "ticket",
];

/// The name as a static. One that a later version wrote becomes "request": it is shown to people and decides nothing.
fn known_field(name: &str) -> &'static str {
    FIELDS.into_iter().find(|known| *known == name).unwrap_or("request")
}
