//! The session set. Every change of membership goes through [`Tx::commit_set`], which checks the law before it writes.

use super::{Step, Tx, ticket::oversized};
use crate::canonical::sha256;
use crate::command::{Aggregate, Command, Decision, Effect, Envelope, Outcome, Proven};
use crate::id::{AccountId, DeviceKey, RequestId, SessionId, TicketId};
use crate::limits;
use crate::model::{
    Account, Actor, Approval, ApprovalKind, EndReason, Receipt, Rejection, Role, Session, SetChange, TicketOutcome,
    Tombstone,
};
use crate::rules::{self, Act, Verdict};
use crate::state::{Key, ReadError, Record, Timer};
use crate::{digest, invariants};

impl Tx<'_> {
    pub(super) fn account(&self, id: &AccountId) -> Result<Option<Account>, ReadError> {
        let key = Key::Account(id.clone());
        let found = self.get(&key)?;
        #[cfg(kindred_mutants)]
        let found = if crate::mutants::is("link-stale-set") { self.view.get(&key)? } else { found };
        Ok(match found {
            Some(Record::Account(account)) => Some(account),
            _ => None,
        })
    }

    pub(super) fn tombstone(&self, account: &AccountId, session: &SessionId) -> Result<Option<Tombstone>, ReadError> {
        Ok(match self.get(&Key::Tombstone(account.clone(), *session))? {
            Some(Record::Tombstone(tombstone)) => Some(tombstone),
            _ => None,
        })
    }

    pub(super) fn register(&mut self, envelope: &Envelope) -> Step {
        let Command::Register { account: id, claim, home, device_key, device } = &envelope.command else {
            return Ok(Err(Rejection::InvalidRequest("command")));
        };
        if envelope.proven != Proven::Key(*device_key) {
            return Ok(Err(Rejection::ProofInvalid));
        }
        if *home != self.region {
            return Ok(Err(Rejection::InvalidRequest("home")));
        }
        if let Some(field) = oversized(device) {
            return Ok(Err(Rejection::InvalidRequest(field)));
        }
        if self.account(id)?.is_some() || self.get(&Key::Deleted(id.clone()))?.is_some() {
            return Ok(Err(Rejection::AccountExists));
        }
        let mut account = Account {
            id: id.clone(),
            home: *home,
            home_epoch: 1,
            auth_epoch: 1,
            set_version: 0,
            set_digest: digest::empty(id),
            next_session_seq: 1,
            companion_limit: limits::COMPANION_LIMIT_DEFAULT,
            claim: *claim,
            registered_at_ms: self.now(),
            sessions: Vec::new(),
            locked_at_ms: None,
            record_version: 0,
        };
        let before = account.clone();
        let session = self.new_session(&mut account, envelope, Role::Primary, *device_key);
        let session = Session { device: device.clone(), ..session };
        let id = session.id;
        account.sessions.push(session.clone());
        self.emit(Effect::ConfirmClaim { account: account.id.clone(), claim: *claim, home_epoch: account.home_epoch });
        let account = self.commit_set(&before, account, vec![session], Vec::new(), envelope.request);
        Ok(Ok(Outcome::Registered { session: id, set_version: account.set_version }))
    }

    pub(super) fn set_limit(&mut self, envelope: &Envelope, id: &AccountId, limit: u32) -> Step {
        let (before, _) = match self.asked(envelope, id, None)? {
            Ok(asked) => asked,
            Err(rejection) => return Ok(Err(rejection)),
        };
        if !(limits::COMPANION_LIMIT_MIN..=limits::COMPANION_LIMIT_MAX).contains(&limit) {
            return Ok(Err(Rejection::InvalidRequest("limit")));
        }
        let account = Account { companion_limit: limit, ..before.clone() };
        self.commit_records(&before, account, None);
        Ok(Ok(Outcome::Done))
    }

    /// Decides the ticket, once; a repeat gets the decision that stands.
    pub(super) fn link(&mut self, envelope: &Envelope) -> Step {
        let Command::Link { ticket, approval, .. } = &envelope.command else {
            return Ok(Err(Rejection::InvalidRequest("command")));
        };
        let decided = self.decided(&approval.account, ticket)?;
        #[cfg(kindred_mutants)]
        let decided = decided.filter(|_| !crate::mutants::is("link-twice"));
        if let Some(outcome) = decided {
            return Ok(Ok(Outcome::Decided(outcome)));
        }
        let account = self.account(&approval.account)?;
        let outcome = self.link_undecided(envelope, ticket, account);
        self.emit(Effect::Settle { ticket: *ticket, outcome: outcome.clone() });
        Ok(Ok(Outcome::Decided(outcome)))
    }

    /// Links a ticket that is not decided yet, and records what became of it. Who calls sees to it that it is settled.
    pub(super) fn link_undecided(
        &mut self,
        envelope: &Envelope,
        ticket: &TicketId,
        account: Option<Account>,
    ) -> TicketOutcome {
        let Command::Link { approval, .. } = &envelope.command else {
            return TicketOutcome::Refused(Rejection::InvalidRequest("command"));
        };
        let linked = account.ok_or(Rejection::AccountNotFound);
        let outcome = match linked.and_then(|account| self.try_link(envelope, approval, account)) {
            Ok(receipt) => TicketOutcome::Linked(receipt),
            Err(reason) => TicketOutcome::Refused(reason),
        };
        self.record_outcome(&approval.account, ticket, &outcome);
        outcome
    }

    pub(super) fn decide(&mut self, account: &AccountId, ticket: &TicketId, decision: Decision) -> Step {
        let decided = self.decided(account, ticket)?;
        #[cfg(kindred_mutants)]
        let decided =
            decided.filter(|_| !crate::mutants::is("decide-overwrites-link") && !crate::mutants::is("sweep-unchecked"));
        if let Some(outcome) = decided {
            return Ok(Ok(Outcome::Decided(outcome)));
        }
        let outcome = match decision {
            Decision::Cancelled => TicketOutcome::Cancelled,
            Decision::Expired => TicketOutcome::Expired,
        };
        self.record_outcome(account, ticket, &outcome);
        self.emit(Effect::Settle { ticket: *ticket, outcome: outcome.clone() });
        Ok(Ok(Outcome::Decided(outcome)))
    }

    /// What became of the ticket at this account.
    pub(super) fn decided(&self, account: &AccountId, ticket: &TicketId) -> Result<Option<TicketOutcome>, ReadError> {
        Ok(match self.get(&Key::Outcome(account.clone(), *ticket))? {
            Some(Record::Outcome(outcome)) => Some(outcome),
            _ => None,
        })
    }

    fn record_outcome(&mut self, account: &AccountId, ticket: &TicketId, outcome: &TicketOutcome) {
        #[cfg(kindred_mutants)]
        if match outcome {
            TicketOutcome::Linked(_) => crate::mutants::is("link-outcome-lost"),
            TicketOutcome::Cancelled | TicketOutcome::Expired => crate::mutants::is("ghost-link"),
            TicketOutcome::Refused(_) => false,
        } {
            return;
        }
        self.put(Key::Outcome(account.clone(), *ticket), Record::Outcome(outcome.clone()));
        self.set_timer(self.now() + limits::OUTCOME_TTL_MS, Timer::OutcomeRemoval(account.clone(), *ticket));
    }

    fn try_link(
        &mut self,
        envelope: &Envelope,
        approval: &Approval,
        mut account: Account,
    ) -> Result<Receipt, Rejection> {
        let Command::Link { ticket, device_key, device, approver_key, .. } = &envelope.command else {
            return Err(Rejection::InvalidRequest("command"));
        };
        let victim = may_link(&account, approval, ticket, (device_key, approver_key.as_ref()), self.now())?;
        let before = account.clone();
        let mut ended = Vec::new();
        if let Some((victim, reason)) = victim
            && let Some(position) = account.sessions.iter().position(|s| s.id == victim)
        {
            let actor = Actor::Session(approval.approver);
            let session = account.sessions.remove(position);
            ended.push(self.tomb(&account, session, reason, actor, envelope));
        }
        #[cfg(kindred_mutants)]
        if crate::mutants::is("relink-ends-platform") {
            let is_same = |s: &Session| s.role == Role::Companion && s.device.platform == device.platform;
            let (gone, kept) = std::mem::take(&mut account.sessions).into_iter().partition::<Vec<_>, _>(is_same);
            account.sessions = kept;
            let by = || Actor::Session(approval.approver);
            let tomb = |s: Session| self.tomb(&account, s, EndReason::ReplacedByLink, by(), envelope);
            ended.extend(gone.into_iter().map(tomb));
        }
        let session = self.new_session(&mut account, envelope, Role::Companion, *device_key);
        let session = Session {
            device: device.clone(),
            linked_by: Some(approval.approver),
            ticket: Some(*ticket),
            quarantine_until_ms: self.now() + limits::QUARANTINE_MS,
            ..session
        };
        account.sessions.push(session.clone());
        let (id, seq) = (session.id, session.seq);
        let account = self.commit_set(&before, account, vec![session], ended, envelope.request);
        Ok(Receipt {
            session: id,
            seq,
            version_before: before.set_version,
            version_after: account.set_version,
            digest_after: account.set_digest,
            sessions_before: before.sessions.iter().map(|s| s.id).collect(),
            sessions_after: account.sessions.iter().map(|s| s.id).collect(),
            log_index: self.log_index,
        })
    }

    pub(super) fn unlink(&mut self, envelope: &Envelope, id: &AccountId, target: &SessionId) -> Step {
        let Some(mut account) = self.account(id)? else { return Ok(Err(Rejection::AccountNotFound)) };
        let actor = match self.actor(&account, &envelope.proven)? {
            Ok(actor) => actor,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let position = account.sessions.iter().position(|s| s.id == *target);
        #[cfg(kindred_mutants)]
        let position = self.position_by_mistake(&account, target, position)?;
        let Some(position) = position else {
            return self.ended_before(id, target);
        };
        let (act, target) = (Act::of(&envelope.command), &account.sessions[position]);
        let reason = match rules::judge(&account, act, actor.as_ref(), Some(target), self.now()) {
            Ok(Verdict::Ends(reason)) => reason,
            Ok(_) => return Ok(Err(Rejection::CallerNotAllowed)),
            Err(rejection) => {
                #[cfg(kindred_mutants)]
                if crate::mutants::is("refused-unlink-leaves-tombstone") {
                    let (reason, by) = (EndReason::UserUnlinkedFromSibling, actor_of(&envelope.proven));
                    let tombstone = self.tomb(&account, target.clone(), reason, by, envelope);
                    self.put(Key::Tombstone(id.clone(), target.id), Record::Tombstone(tombstone));
                }
                return Ok(Err(rejection));
            }
        };
        let before = account.clone();
        let session = account.sessions.remove(position);
        let tombstone = self.tomb(&account, session, reason, actor_of(&envelope.proven), envelope);
        self.commit_set(&before, account, Vec::new(), vec![tombstone.clone()], envelope.request);
        Ok(Ok(Outcome::Ended(Box::new(tombstone))))
    }

    #[cfg(kindred_mutants)]
    fn position_by_mistake(
        &self,
        account: &Account,
        target: &SessionId,
        position: Option<usize>,
    ) -> Result<Option<usize>, ReadError> {
        if crate::mutants::is("unlink-wrong-index") {
            let companions = account.sessions.iter().filter(|s| s.role == Role::Companion);
            return Ok(companions.map(|s| s.id).position(|id| id == *target).or(position));
        }
        match self.tombstone(&account.id, target)? {
            Some(tombstone) if crate::mutants::is("unlink-follows-device") => {
                Ok(account.sessions.iter().position(|s| s.device_key == tombstone.session.device_key))
            }
            _ => Ok(position),
        }
    }

    /// What there is to say of a session that is not live.
    fn ended_before(&self, id: &AccountId, session: &SessionId) -> Step {
        if let Some(tombstone) = self.tombstone(id, session)? {
            return Ok(Ok(Outcome::Ended(Box::new(tombstone))));
        }
        Ok(match self.get(&Key::Stub(id.clone(), *session))? {
            Some(Record::Stub(stub)) => Ok(Outcome::EndedBefore(stub)),
            _ => Err(Rejection::SessionUnknown),
        })
    }

    /// Ends every session but `keep` and those that the table spares: exactly those of `set_version`.
    pub(super) fn unlink_others(
        &mut self,
        envelope: &Envelope,
        id: &AccountId,
        keep: &SessionId,
        set_version: u64,
    ) -> Step {
        let (before, actor) = match self.asked(envelope, id, None)? {
            Ok(asked) => asked,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let mut account = before.clone();
        if actor.as_ref().is_some_and(|actor| actor.id != *keep) {
            return Ok(Err(Rejection::CallerNotAllowed));
        }
        if !account.sessions.iter().any(|s| s.id == *keep) {
            return Ok(Err(Rejection::SessionUnknown));
        }
        let is_current = set_version == account.set_version;
        #[cfg(kindred_mutants)]
        let is_current = is_current || crate::mutants::is("unlink-others-unversioned");
        if !is_current {
            return Ok(Err(Rejection::SetVersionConflict { current: account.set_version }));
        }
        account.auth_epoch += 1;
        account.sessions.clear();
        let (by, mut tombstones) = (actor_of(&envelope.proven), Vec::new());
        for session in &before.sessions {
            let act = Act::UnlinkOthers;
            match rules::judge(&before, act, actor.as_ref(), Some(session), self.now()) {
                Ok(Verdict::Ends(reason)) if session.id != *keep => {
                    tombstones.push(self.tomb(&account, session.clone(), reason, by.clone(), envelope));
                }
                _ => account.sessions.push(session.clone()),
            }
        }
        let account = self.commit_set(&before, account, Vec::new(), tombstones.clone(), envelope.request);
        Ok(Ok(Outcome::EndedOthers { tombstones, set_version: account.set_version, auth_epoch: account.auth_epoch }))
    }

    /// The account and who asks something of it, once the table has allowed the act upon `target`, or upon the account as a
    /// whole.
    pub(super) fn asked(
        &self,
        envelope: &Envelope,
        id: &AccountId,
        target: Option<&SessionId>,
    ) -> Result<Result<(Account, Option<Session>), Rejection>, ReadError> {
        let Some(account) = self.account(id)? else { return Ok(Err(Rejection::AccountNotFound)) };
        let actor = match self.actor(&account, &envelope.proven)? {
            Ok(actor) => actor,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let found = target.map(|target| account.sessions.iter().find(|s| s.id == *target));
        if found == Some(None) {
            return Ok(Err(Rejection::SessionUnknown));
        }
        let act = Act::of(&envelope.command);
        let verdict = rules::judge(&account, act, actor.as_ref(), found.flatten(), self.now());
        Ok(verdict.map(|_| (account, actor)))
    }

    /// The session behind a proof, `None` for an operator. A proof of an ended session is told so, with the tombstone.
    fn actor(&self, account: &Account, proven: &Proven) -> Result<Result<Option<Session>, Rejection>, ReadError> {
        let Proven::Session { session, key, auth_epoch } = proven else {
            return Ok(match proven {
                Proven::Operator(_) => Ok(None),
                _ => Err(Rejection::ProofInvalid),
            });
        };
        let Some(actor) = account.sessions.iter().find(|s| s.id == *session) else {
            return Ok(Err(match self.tombstone(&account.id, session)? {
                Some(tombstone) if tombstone.session.device_key == *key => Rejection::SessionEnded(Box::new(tombstone)),
                _ => Rejection::ProofInvalid,
            }));
        };
        if actor.device_key != *key {
            return Ok(Err(Rejection::ProofInvalid));
        }
        if *auth_epoch != account.auth_epoch {
            return Ok(Err(Rejection::EpochChanged { auth_epoch: account.auth_epoch }));
        }
        Ok(Ok(Some(actor.clone())))
    }

    /// A session with the next number and an id that depends on the log, never on the live set (I4).
    pub(super) fn new_session(
        &self,
        account: &mut Account,
        envelope: &Envelope,
        role: Role,
        device_key: DeviceKey,
    ) -> Session {
        let seq = account.next_session_seq;
        #[cfg(kindred_mutants)]
        let seq = match account.sessions.iter().map(|s| s.seq).max() {
            Some(highest) if crate::mutants::is("seq-from-live-set") => highest + 1,
            _ => seq,
        };
        account.next_session_seq = seq + 1;
        let hash = sha256(&[b"session", self.entropy.as_bytes(), account.id.as_bytes(), &seq.to_be_bytes()]);
        #[cfg(kindred_mutants)]
        let hash = match crate::mutants::is("session-id-from-device") {
            true => sha256(&[b"session", account.id.as_bytes(), device_key.as_bytes()]),
            false => hash,
        };
        let mut id = [0; 16];
        id.copy_from_slice(&hash.0[..16]);
        Session {
            id: SessionId(id),
            seq,
            device_key,
            role,
            device: crate::model::Device::default(),
            linked_at_ms: self.now(),
            linked_wall_ms: self.wall_ms,
            linked_by: None,
            ticket: None,
            policy_version: envelope.policy_version,
            key_generation: 1,
            record_version: 1,
            quarantine_until_ms: 0,
            pinned: false,
        }
    }

    pub(super) fn tomb(
        &self,
        account: &Account,
        session: Session,
        reason: EndReason,
        actor: Actor,
        envelope: &Envelope,
    ) -> Tombstone {
        Tombstone {
            session,
            reason,
            actor,
            command: envelope.request,
            log_index: self.log_index,
            set_version: account.set_version + 1,
            at_ms: self.now(),
            wall_ms: self.wall_ms,
            region: account.home,
            policy_version: envelope.policy_version,
        }
    }

    /// Writes the account, its tombstones and the change that watches will see, after checking the law.
    pub(super) fn commit_set(
        &mut self,
        before: &Account,
        account: Account,
        added: Vec<Session>,
        ended: Vec<Tombstone>,
        command: RequestId,
    ) -> Account {
        let (account, change) = self.lawful_change(before, account, added, ended, command);
        if let Some(change) = change {
            let ended = &change.ended[..];
            #[cfg(kindred_mutants)]
            let ended = match crate::mutants::is("replaced-without-tombstone") && !change.added.is_empty() {
                true => &[],
                false => ended,
            };
            for tombstone in ended {
                let (of, session) = (account.id.clone(), tombstone.session.id);
                self.set_timer(self.now() + limits::TOMBSTONE_TTL_MS, Timer::TombstoneAgeing(of.clone(), session));
                self.put(Key::Tombstone(of, session), Record::Tombstone(tombstone.clone()));
            }
            if let Some(oldest) = change.version.checked_sub(limits::CHANGES_KEPT) {
                self.delete(Key::Change(account.id.clone(), oldest));
            }
            #[cfg(kindred_mutants)]
            let change = match crate::mutants::is("change-without-ended") && !change.added.is_empty() {
                true => SetChange { ended: Vec::new(), ..change },
                false => change,
            };
            self.put(Key::Change(account.id.clone(), change.version), Record::Change(change));
        }
        self.touched.push(Aggregate::Account(account.id.clone()));
        self.put(Key::Account(account.id.clone()), Record::Account(account.clone()));
        account
    }

    /// The account under its next version, and the change that led there; none if nobody came or left.
    ///
    /// # Panics
    /// If the change breaks the law: see [`super::apply`].
    pub(super) fn lawful_change(
        &self,
        before: &Account,
        mut account: Account,
        added: Vec<Session>,
        ended: Vec<Tombstone>,
        command: RequestId,
    ) -> (Account, Option<SetChange>) {
        if added.is_empty() && ended.is_empty() {
            return (account, None);
        }
        account.set_version += 1;
        #[cfg(kindred_mutants)]
        if crate::mutants::is("replacing-bumps-twice") && !added.is_empty() && !ended.is_empty() {
            account.set_version += 1;
        }
        account.set_digest = digest::next(&before.set_digest, account.set_version, &added, &ended);
        let change = SetChange {
            version: account.set_version,
            digest: account.set_digest,
            added,
            ended,
            command,
            log_index: self.log_index,
            wall_ms: self.wall_ms,
        };
        if let Err(broken) = invariants::check_change(before, &account, &change) {
            panic!("invariant of the session set broken, this replica stops: {broken}");
        }
        (account, Some(change))
    }

    /// Writes a change that is none of membership: to the account, or to the record of one named session.
    ///
    /// # Panics
    /// If it touches anything else: see [`super::apply`].
    pub(super) fn commit_records(
        &mut self,
        before: &Account,
        mut account: Account,
        named: Option<&SessionId>,
    ) -> Account {
        account.record_version += 1;
        if let Err(broken) = invariants::check_records(before, &account, named) {
            panic!("invariant of the session set broken, this replica stops: {broken}");
        }
        self.touched.push(Aggregate::Account(account.id.clone()));
        self.put(Key::Account(account.id.clone()), Record::Account(account.clone()));
        account
    }
}

/// Refuses the link, or names the session that it ends besides.
fn may_link(
    account: &Account,
    approval: &Approval,
    ticket: &TicketId,
    (device_key, approver_key): (&DeviceKey, Option<&DeviceKey>),
    now_ms: u64,
) -> Result<Option<(SessionId, EndReason)>, Rejection> {
    let is_current = approval.auth_epoch == account.auth_epoch;
    #[cfg(kindred_mutants)]
    let is_current = is_current || crate::mutants::is("link-ignores-epoch");
    if !is_current {
        return Err(Rejection::EpochChanged { auth_epoch: account.auth_epoch });
    }
    let approver = account.sessions.iter().find(|s| s.id == approval.approver).ok_or(Rejection::ApprovalInvalid)?;
    // Rotated since it signed: the old key proves nothing any more, wherever its ticket lives.
    if approver_key.is_some_and(|key| *key != approver.device_key) {
        return Err(Rejection::ApprovalInvalid);
    }
    let is_for_key = approval.device_key_hash == sha256(&[device_key.as_bytes()]);
    #[cfg(kindred_mutants)]
    let is_for_key = is_for_key || crate::mutants::is("approval-key-unchecked");
    if approval.ticket != *ticket || !is_for_key {
        return Err(Rejection::ApprovalInvalid);
    }
    rules::judge(account, Act::Link, Some(approver), None, now_ms)?;
    let victim = match approval.kind {
        ApprovalKind::Link => None,
        ApprovalKind::LinkReplacing(id) => {
            let victim = account.sessions.iter().find(|s| s.id == id).ok_or(Rejection::SessionUnknown)?;
            match rules::judge(account, Act::LinkReplacing, Some(approver), Some(victim), now_ms)? {
                Verdict::Ends(reason) => Some((id, reason)),
                Verdict::May | Verdict::Spared => return Err(Rejection::CallerNotAllowed),
            }
        }
    };
    let stays = |s: &&Session| victim.is_none_or(|(victim, _)| victim != s.id);
    let same = account.sessions.iter().filter(stays).find(|s| s.device_key == *device_key);
    #[cfg(kindred_mutants)]
    let same = same.filter(|_| !crate::mutants::is("link-twice"));
    if let Some(same) = same {
        return Err(Rejection::DeviceKeyAlreadyLinked { session: same.id });
    }
    let companions = account.sessions.iter().filter(stays).filter(|s| s.role == Role::Companion).count();
    let now = u32::try_from(companions).unwrap_or(u32::MAX);
    if now >= account.companion_limit {
        #[cfg(kindred_mutants)]
        if let (true, None, Some(oldest)) = (
            crate::mutants::is("limit-evicts-oldest") && now == account.companion_limit,
            victim,
            account.sessions.iter().find(|s| s.role == Role::Companion),
        ) {
            return Ok(Some((oldest.id, EndReason::ReplacedByLink)));
        }
        return Err(Rejection::CompanionLimitReached { now, max: account.companion_limit });
    }
    Ok(victim)
}

pub(super) fn actor_of(proven: &Proven) -> Actor {
    match proven {
        Proven::Session { session, .. } => Actor::Session(*session),
        Proven::Operator(name) => Actor::Operator(name.clone()),
        Proven::Cluster | Proven::Key(_) => Actor::Operator(String::new()),
    }
}
