//! An account that comes from elsewhere. Like a registration: the directory was claimed first, and only what is absent is
//! written.

use super::{Step, Tx};
use crate::bundle::Bundle;
use crate::command::{Aggregate, Command, Effect, Envelope, Outcome, Proven};
use crate::id::ClaimId;
use crate::invariants;
use crate::limits::{OUTCOME_TTL_MS, TOMBSTONE_TTL_MS};
use crate::model::{Account, Rejection, TicketOutcome};
use crate::state::{Key, Record, Timer};

impl Tx<'_> {
    /// Idempotent by its claim, which follows from the request id and from what the bundle holds.
    pub(super) fn install(&mut self, envelope: &Envelope) -> Step {
        let Command::Install { bundle, claim, home } = &envelope.command else {
            return Ok(Err(Rejection::InvalidRequest("command")));
        };
        if !matches!(envelope.proven, Proven::Operator(_)) {
            return Ok(Err(Rejection::CallerNotAllowed));
        }
        if *home != self.region {
            return Ok(Err(Rejection::InvalidRequest("home")));
        }
        if let Err(what) = bundle.check() {
            return Ok(Err(Rejection::InvalidRequest(what)));
        }
        if let Some(found) = self.account(&bundle.account.id)? {
            let same = found.claim == *claim;
            return Ok(if same { Ok(installed(&found, true)) } else { Err(Rejection::AccountExists) });
        }
        if self.get(&Key::Deleted(bundle.account.id.clone()))?.is_some() {
            return Ok(Err(Rejection::AccountExists));
        }
        let account = self.write_bundle(bundle, claim);
        Ok(Ok(installed(&account, false)))
    }

    /// Ids, numbers, version and digest stay, so the chain goes on from here. Both epochs rise: no approval, no proof and no
    /// command for the account's former home counts any more (I16, I22).
    fn write_bundle(&mut self, bundle: &Bundle, claim: &ClaimId) -> Account {
        let Bundle { account, tombstones, stubs, linked, .. } = bundle.clone().rebased(self.now());
        let account = Account {
            home: self.region,
            home_epoch: account.home_epoch + 1,
            auth_epoch: account.auth_epoch + 1,
            claim: *claim,
            ..account
        };
        if let Err(broken) = invariants::check_account(&account) {
            panic!("invariant of the session set broken, this replica stops: {broken}");
        }
        let id = &account.id;
        for tombstone in tombstones {
            let ageing = Timer::TombstoneAgeing(id.clone(), tombstone.session.id);
            self.set_timer(tombstone.at_ms.saturating_add(TOMBSTONE_TTL_MS), ageing);
            self.put(Key::Tombstone(id.clone(), tombstone.session.id), Record::Tombstone(tombstone));
        }
        for stub in stubs {
            self.put(Key::Stub(id.clone(), stub.session), Record::Stub(stub));
        }
        for (ticket, receipt) in linked {
            self.put(Key::Outcome(id.clone(), ticket), Record::Outcome(TicketOutcome::Linked(receipt)));
            self.set_timer(self.now() + OUTCOME_TTL_MS, Timer::OutcomeRemoval(id.clone(), ticket));
        }
        self.put(Key::Account(id.clone()), Record::Account(account.clone()));
        self.emit(Effect::ConfirmClaim { account: id.clone(), claim: *claim, home_epoch: account.home_epoch });
        self.touched.push(Aggregate::Account(id.clone()));
        account
    }
}

fn installed(account: &Account, again: bool) -> Outcome {
    Outcome::Installed { set_version: account.set_version, auth_epoch: account.auth_epoch, again }
}
