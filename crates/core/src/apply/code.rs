//! Typed codes: tries are counted in the ticket, and the account's home knows which code can be typed.
//!
//! ```text
//!   ticket's shard  Open ──────► ScanCode wrong (counted; the last one locks) ──► ScanCode right ──► approved or over
//!                    │ outbox                                                       │ outbox           │ outbox
//!   account's home  AttachCode                                                    HoldCode          DetachCode
//! ```
//!
//! What home is told comes late, twice, or in another order than it happened, and must not matter: at most one code is
//! attached, and one that is over stays over.

use super::ticket::closed;
use super::{Step, Tx};
use crate::code::{AttachedCode, Codes, Standing};
use crate::command::{Aggregate, Effect, Envelope, Outcome, Proven};
use crate::id::{AccountId, TicketId};
use crate::limits::{CODE_TICKET_TTL_MS, CODE_TRIES_MAX, CODES_KEPT_MS, CODES_OVER_MAX};
use crate::model::{Method, Rejection, Requester, Scan, Ticket, TicketState};
use crate::state::{Key, ReadError, Record, Timer};

impl Tx<'_> {
    /// Whether the code is `right` is the leader's word, as a signature is: only who has the ticket key can tell.
    pub(super) fn scan_code(&mut self, envelope: &Envelope, id: &TicketId, scan: &Scan, right: bool) -> Step {
        let proven = Proven::Session { session: scan.approver, key: scan.approver_key, auth_epoch: scan.auth_epoch };
        if envelope.proven != proven {
            return Ok(Err(Rejection::ProofInvalid));
        }
        let Some(ticket) = self.ticket(id)? else { return Ok(Err(Rejection::TicketNotFound)) };
        if !matches!(&ticket.method, Method::Code { account, .. } if *account == scan.account) {
            return Ok(Err(Rejection::TicketNotFound));
        }
        match &ticket.state {
            TicketState::Open | TicketState::Scanned(_) if self.now() >= ticket.deadline_ms => {
                Ok(Err(Rejection::TicketExpired))
            }
            TicketState::Open | TicketState::Scanned(_) if right => {
                let scan = Scan { scanned_at_ms: self.now(), ..scan.clone() };
                self.advance(ticket, TicketState::Scanned(scan))
            }
            TicketState::Open | TicketState::Scanned(_) => self.wrong_try(ticket),
            _ => Ok(Err(closed(&ticket.state))),
        }
    }

    /// Counts it, whoever has typed the right one before: there is one number of guesses per ticket.
    fn wrong_try(&mut self, mut ticket: Ticket) -> Step {
        let Method::Code { wrong_tries, .. } = &mut ticket.method else { return Ok(Err(Rejection::TicketNotFound)) };
        *wrong_tries = wrong_tries.saturating_add(1);
        let left = CODE_TRIES_MAX.saturating_sub(*wrong_tries);
        let state = if left == 0 { TicketState::Locked } else { ticket.state.clone() };
        let _ = self.advance(ticket, state)?;
        Ok(Err(Rejection::CodeMismatch { left }))
    }

    /// Home hears of a CODE ticket when it opens, when its code was typed, and when no code of it counts any more.
    pub(super) fn tell_home(&mut self, before: &TicketState, ticket: &Ticket) {
        let Method::Code { account, .. } = &ticket.method else { return };
        let (account, id) = (account.clone(), ticket.id);
        match (before, &ticket.state) {
            (_, TicketState::Open) if ticket.version == 1 => {
                self.emit(Effect::AttachCode { account, ticket: id, requester: ticket.requester.clone() });
            }
            (TicketState::Open, TicketState::Scanned(_)) => self.emit(Effect::HoldCode { account, ticket: id }),
            (_, TicketState::Open | TicketState::Scanned(_)) => {}
            (TicketState::Open | TicketState::Scanned(_), _) => {
                self.emit(Effect::DetachCode { account, ticket: id });
            }
            _ => {}
        }
    }

    /// The newest code is the one that counts, unless an older one was typed already.
    pub(super) fn attach_code(&mut self, account: &AccountId, ticket: &TicketId, requester: &Requester) -> Step {
        if self.account(account)?.is_none() {
            return Ok(Err(Rejection::AccountNotFound));
        }
        let mut codes = self.codes(account)?.unwrap_or_default();
        let known = codes.over.contains(ticket) || codes.attached.as_ref().is_some_and(|code| code.ticket == *ticket);
        if known {
            return Ok(Ok(Outcome::Done));
        }
        let now_ms = self.now();
        let is_held =
            |code: &AttachedCode| code.standing == Standing::Held && now_ms < code.attached_at_ms + CODE_TICKET_TTL_MS;
        if codes.attached.as_ref().is_some_and(is_held) {
            over(&mut codes, *ticket);
        } else {
            let (ticket, requester) = (*ticket, requester.clone());
            let code = AttachedCode { ticket, requester, attached_at_ms: now_ms, standing: Standing::Waiting };
            if let Some(older) = codes.attached.replace(code) {
                over(&mut codes, older.ticket);
            }
        }
        self.put_codes(account, codes);
        Ok(Ok(Outcome::Done))
    }

    pub(super) fn hold_code(&mut self, account: &AccountId, ticket: &TicketId) -> Step {
        let Some(mut codes) = self.codes(account)? else { return Ok(Ok(Outcome::Done)) };
        let waiting = |code: &&mut AttachedCode| code.ticket == *ticket && code.standing == Standing::Waiting;
        if let Some(code) = codes.attached.as_mut().filter(waiting) {
            code.standing = Standing::Held;
            self.put_codes(account, codes);
        }
        Ok(Ok(Outcome::Done))
    }

    /// Remembered even if it is not attached: AttachCode may still be on its way.
    pub(super) fn detach_code(&mut self, account: &AccountId, ticket: &TicketId) -> Step {
        if self.account(account)?.is_none() {
            return Ok(Err(Rejection::AccountNotFound));
        }
        let mut codes = self.codes(account)?.unwrap_or_default();
        match &mut codes.attached {
            Some(code) if code.ticket == *ticket && code.standing == Standing::Over => return Ok(Ok(Outcome::Done)),
            Some(code) if code.ticket == *ticket => code.standing = Standing::Over,
            _ if codes.over.contains(ticket) => return Ok(Ok(Outcome::Done)),
            _ => over(&mut codes, *ticket),
        }
        self.put_codes(account, codes);
        Ok(Ok(Outcome::Done))
    }

    /// Nothing is left of a deleted account's codes: they hold who asked.
    pub(super) fn forget_codes(&mut self, account: &AccountId) -> Result<(), ReadError> {
        if let Some(codes) = self.codes(account)? {
            self.delete(Key::Timer(codes.until_ms, Timer::CodesRemoval(account.clone())));
            self.delete(Key::Codes(account.clone()));
        }
        Ok(())
    }

    fn codes(&self, account: &AccountId) -> Result<Option<Codes>, ReadError> {
        Ok(match self.get(&Key::Codes(account.clone()))? {
            Some(Record::Codes(codes)) => Some(codes),
            _ => None,
        })
    }

    /// Kept for longer than any ticket in it may be open.
    fn put_codes(&mut self, account: &AccountId, mut codes: Codes) {
        if codes.until_ms > 0 {
            self.delete(Key::Timer(codes.until_ms, Timer::CodesRemoval(account.clone())));
        }
        codes.until_ms = self.now() + CODES_KEPT_MS;
        self.set_timer(codes.until_ms, Timer::CodesRemoval(account.clone()));
        self.put(Key::Codes(account.clone()), Record::Codes(codes));
        self.touched.push(Aggregate::Account(account.clone()));
    }
}

fn over(codes: &mut Codes, ticket: TicketId) {
    codes.over.push(ticket);
    let surplus = codes.over.len().saturating_sub(CODES_OVER_MAX);
    codes.over.drain(..surplus);
}
