//! Tickets: OPEN → SCANNED → APPROVED → settled; every step consumes the state before it.

use super::{Step, Tx};
use crate::canonical::sha256;
use crate::code::MatchNumber;
use crate::command::{Aggregate, Command, Envelope, Outcome, Proven};
use crate::id::TicketId;
use crate::model::{Device, Method, Rejection, Scan, Ticket, TicketOutcome, TicketState};
use crate::state::{Key, ReadError, Record, Timer};
use crate::{invariants, limits};

impl Tx<'_> {
    pub(super) fn ticket(&self, id: &TicketId) -> Result<Option<Ticket>, ReadError> {
        Ok(match self.get(&Key::Ticket(*id))? {
            Some(Record::Ticket(ticket)) => Some(ticket),
            _ => None,
        })
    }

    /// Moves the ticket on, keeps its timers in step with its state, and answers with it.
    pub(super) fn advance(&mut self, mut ticket: Ticket, to: TicketState) -> Step {
        let before = std::mem::replace(&mut ticket.state, to);
        ticket.version += 1;
        if let Err(broken) = invariants::check_ticket(&ticket) {
            panic!("invariant of a ticket broken, this replica stops: {broken}");
        }
        self.tell_home(&before, &ticket);
        match &before {
            TicketState::Open | TicketState::Scanned(_) => {
                self.delete(Key::Timer(ticket.deadline_ms, Timer::TicketDeadline(ticket.id)));
            }
            TicketState::Approved { approved_at_ms, .. } => {
                self.delete(Key::Timer(approved_at_ms + limits::SAGA_TAKEOVER_MS, Timer::Saga(ticket.id)));
            }
            _ => {}
        }
        match &ticket.state {
            TicketState::Open | TicketState::Scanned(_) => {
                self.set_timer(ticket.deadline_ms, Timer::TicketDeadline(ticket.id));
            }
            TicketState::Approved { approved_at_ms, .. } => {
                self.set_timer(approved_at_ms + limits::SAGA_TAKEOVER_MS, Timer::Saga(ticket.id));
            }
            _ => self.set_timer(self.now() + limits::TICKET_KEPT_MS, Timer::TicketRemoval(ticket.id)),
        }
        self.touched.push(Aggregate::Ticket(ticket.id));
        self.put(Key::Ticket(ticket.id), Record::Ticket(ticket.clone()));
        Ok(Ok(Outcome::Ticket(Box::new(ticket))))
    }

    pub(super) fn open(&mut self, envelope: &Envelope) -> Step {
        let Command::Open { ticket: id, device_key, method, requester } = &envelope.command else {
            return Ok(Err(Rejection::InvalidRequest("command")));
        };
        if envelope.proven != Proven::Key(*device_key) {
            return Ok(Err(Rejection::ProofInvalid));
        }
        if *id != TicketId::compose(id.region(), id.slot(), device_key, &envelope.request) {
            return Ok(Err(Rejection::InvalidRequest("ticket")));
        }
        if let Some(field) = oversized(&requester.device) {
            return Ok(Err(Rejection::InvalidRequest(field)));
        }
        if requester.location.len() > limits::LABEL_BYTES_MAX {
            return Ok(Err(Rejection::InvalidRequest("location")));
        }
        if let Some(ticket) = self.ticket(id)? {
            return Ok(Ok(Outcome::Ticket(Box::new(ticket))));
        }
        let (method, ttl_ms) = match method {
            Method::Qr => (Method::Qr, limits::QR_TICKET_TTL_MS),
            Method::Code { account, .. } => {
                (Method::Code { account: account.clone(), wrong_tries: 0 }, limits::CODE_TICKET_TTL_MS)
            }
        };
        let ticket = Ticket {
            id: *id,
            device_key: *device_key,
            method,
            contested: false,
            opened_by: envelope.request,
            requester: requester.clone(),
            opened_at_ms: self.now(),
            deadline_ms: self.now() + ttl_ms,
            version: 0,
            state: TicketState::Open,
        };
        self.advance(ticket, TicketState::Open)
    }

    pub(super) fn scan(&mut self, envelope: &Envelope, id: &TicketId, scan: &Scan) -> Step {
        let proven = Proven::Session { session: scan.approver, key: scan.approver_key, auth_epoch: scan.auth_epoch };
        if envelope.proven != proven {
            return Ok(Err(Rejection::ProofInvalid));
        }
        let Some(ticket) = self.ticket(id)?.filter(|ticket| ticket.method == Method::Qr) else {
            return Ok(Err(Rejection::TicketNotFound));
        };
        match &ticket.state {
            // It stays bound to the first account, and its companion hears that it may be the wrong one.
            TicketState::Scanned(earlier) if earlier.account != scan.account => {
                let state = ticket.state.clone();
                if !ticket.contested {
                    let _ = self.advance(Ticket { contested: true, ..ticket }, state)?;
                }
                Ok(Err(Rejection::TicketAlreadyUsed))
            }
            TicketState::Open | TicketState::Scanned(_) if self.now() >= ticket.deadline_ms => {
                Ok(Err(Rejection::TicketExpired))
            }
            // A second scan by the same account renews the epoch that the approval will be checked against.
            TicketState::Open | TicketState::Scanned(_) => {
                let scan = Scan { scanned_at_ms: self.now(), ..scan.clone() };
                self.advance(ticket, TicketState::Scanned(scan))
            }
            _ => Ok(Err(closed(&ticket.state))),
        }
    }

    pub(super) fn approve(&mut self, envelope: &Envelope) -> Step {
        let Command::Approve { ticket: id, approval, envelope: bytes, number } = &envelope.command else {
            return Ok(Err(Rejection::InvalidRequest("command")));
        };
        let Some(ticket) = self.ticket(id)? else { return Ok(Err(Rejection::TicketNotFound)) };
        let scan = match &ticket.state {
            TicketState::Scanned(scan) => scan.clone(),
            TicketState::Open => return Ok(Err(Rejection::TicketNotReady)),
            // The very same approval under another request id. Any other one (another victim, another envelope) has come
            // too late and must not be told that it was accepted.
            TicketState::Approved { approval: standing, .. } if standing == approval => {
                return Ok(Ok(Outcome::Ticket(Box::new(ticket))));
            }
            other => return Ok(Err(closed(other))),
        };
        if approval.auth_epoch != scan.auth_epoch {
            return Ok(Err(Rejection::EpochChanged { auth_epoch: scan.auth_epoch }));
        }
        let proven = Proven::Session { session: scan.approver, key: scan.approver_key, auth_epoch: scan.auth_epoch };
        if envelope.proven != proven {
            return Ok(Err(Rejection::ProofInvalid));
        }
        if self.now() >= ticket.deadline_ms || self.now() > scan.scanned_at_ms.saturating_add(approval.lifetime_ms) {
            return Ok(Err(Rejection::TicketExpired));
        }
        if bytes.len() > limits::ENVELOPE_BYTES_MAX {
            return Ok(Err(Rejection::InvalidRequest("envelope")));
        }
        let is_for_key = approval.device_key_hash == sha256(&[ticket.device_key.as_bytes()]);
        #[cfg(kindred_mutants)]
        let is_for_key = is_for_key || crate::mutants::is("approval-key-unchecked");
        let covers = approval.account == scan.account
            && approval.ticket == ticket.id
            && approval.approver == scan.approver
            && is_for_key
            && approval.envelope_hash == sha256(&[bytes]);
        if !covers {
            return Ok(Err(Rejection::ApprovalInvalid));
        }
        // No QR code carried the companion's key to the phone, so the owner has compared the number that follows from it.
        let must_match = number.is_some() || ticket.method != Method::Qr;
        if must_match && *number != Some(MatchNumber::of(&ticket.device_key, &ticket.id)) {
            return Ok(Err(Rejection::StepUpRequired));
        }
        let approved = TicketState::Approved {
            scan,
            approval: approval.clone(),
            envelope: bytes.clone(),
            approved_at_ms: self.now(),
            approved_by: envelope.request,
        };
        let approved = Ticket { state: approved, ..ticket.clone() };
        match self.finish_at_home(&approved)? {
            Some(settled) => self.advance(ticket, settled),
            None => self.advance(ticket, approved.state),
        }
    }

    /// A ticket that was opened where its account lives, in the same shard, is decided and settled in the entry that
    /// approves it: there is no other shard to ask, so nothing can come in between. `None` for any other ticket.
    fn finish_at_home(&mut self, ticket: &Ticket) -> Result<Option<TicketState>, ReadError> {
        let (TicketState::Approved { scan, .. }, Some(link)) = (&ticket.state, super::link_of(ticket)) else {
            return Ok(None);
        };
        if ticket.id.region() != self.region || scan.home != self.region {
            return Ok(None);
        }
        let Some(account) = self.account(&scan.account)? else { return Ok(None) };
        let outcome = match self.decided(&scan.account, &ticket.id)? {
            Some(outcome) => outcome,
            None => self.link_undecided(&link, &ticket.id, Some(account)),
        };
        Ok(settled(&ticket.state, &outcome))
    }

    pub(super) fn deny(&mut self, envelope: &Envelope, id: &TicketId) -> Step {
        let Some(ticket) = self.ticket(id)? else { return Ok(Err(Rejection::TicketNotFound)) };
        match &ticket.state {
            TicketState::Scanned(scan) => {
                let by_approver = matches!(&envelope.proven, Proven::Session { session, key, .. }
                    if *session == scan.approver && *key == scan.approver_key);
                if !by_approver {
                    return Ok(Err(Rejection::ProofInvalid));
                }
                self.advance(ticket, TicketState::Denied)
            }
            TicketState::Denied => Ok(Ok(Outcome::Ticket(Box::new(ticket)))),
            TicketState::Open => Ok(Err(Rejection::TicketNotReady)),
            other => Ok(Err(closed(other))),
        }
    }

    /// In APPROVED the account's shard decides; the caller sees the state and goes there.
    pub(super) fn cancel(&mut self, envelope: &Envelope, id: &TicketId) -> Step {
        let Some(ticket) = self.ticket(id)? else { return Ok(Err(Rejection::TicketNotFound)) };
        if envelope.proven != Proven::Key(ticket.device_key) {
            return Ok(Err(Rejection::ProofInvalid));
        }
        match &ticket.state {
            TicketState::Open | TicketState::Scanned(_) => self.advance(ticket, TicketState::Cancelled),
            #[cfg(kindred_mutants)]
            TicketState::Approved { .. } if crate::mutants::is("cancel-beats-link") => {
                self.advance(ticket, TicketState::Cancelled)
            }
            _ => Ok(Ok(Outcome::Ticket(Box::new(ticket)))),
        }
    }

    pub(super) fn expire(&mut self, tickets: &[TicketId]) -> Step {
        for id in tickets.iter().take(limits::EXPIRE_TICKETS_MAX) {
            let Some(ticket) = self.ticket(id)? else { continue };
            let waiting = matches!(ticket.state, TicketState::Open | TicketState::Scanned(_));
            if waiting && ticket.deadline_ms <= self.now() {
                let _ = self.advance(ticket, TicketState::Expired)?;
            }
        }
        Ok(Ok(Outcome::Done))
    }

    /// Writes the account's decision. A ticket that is settled already answers with what it is.
    pub(super) fn settle(&mut self, id: &TicketId, outcome: &TicketOutcome) -> Step {
        let Some(ticket) = self.ticket(id)? else { return Ok(Err(Rejection::TicketNotFound)) };
        match settled(&ticket.state, outcome) {
            Some(settled) => self.advance(ticket, settled),
            None => Ok(Ok(Outcome::Ticket(Box::new(ticket)))),
        }
    }
}

/// What the account's decision makes of an APPROVED ticket; `None` in any other state.
fn settled(state: &TicketState, outcome: &TicketOutcome) -> Option<TicketState> {
    let TicketState::Approved { scan, envelope, .. } = state else { return None };
    let account = scan.account.clone();
    Some(match outcome {
        TicketOutcome::Linked(receipt) => {
            TicketState::Linked { account, receipt: receipt.clone(), envelope: envelope.clone() }
        }
        TicketOutcome::Refused(reason) => TicketState::Refused { account, reason: reason.clone() },
        TicketOutcome::Cancelled => TicketState::Cancelled,
        TicketOutcome::Expired => TicketState::Expired,
    })
}

/// What a step that comes too late is told.
pub(crate) fn closed(state: &TicketState) -> Rejection {
    match state {
        TicketState::Locked => Rejection::TicketLocked,
        TicketState::Expired => Rejection::TicketExpired,
        TicketState::Denied => Rejection::TicketDenied,
        TicketState::Cancelled => Rejection::TicketCancelled,
        TicketState::Refused { reason, .. } => reason.clone(),
        TicketState::Open | TicketState::Scanned(_) => Rejection::TicketNotReady,
        TicketState::Approved { .. } | TicketState::Linked { .. } => Rejection::TicketAlreadyUsed,
    }
}

/// The field of `device` that is over its bound.
pub(crate) fn oversized(device: &Device) -> Option<&'static str> {
    if device.platform.len() > limits::LABEL_BYTES_MAX {
        Some("platform")
    } else if device.app_version.len() > limits::LABEL_BYTES_MAX {
        Some("app_version")
    } else if device.display_name.len() > limits::DISPLAY_NAME_BYTES_MAX {
        Some("display_name")
    } else {
        None
    }
}
