//! The life of an account beside its links: lock, pin, another key, another phone, the end.

use super::account::actor_of;
use super::ticket::oversized;
use super::{Step, Tx};
use crate::command::{Aggregate, Command, Effect, Envelope, Outcome};
use crate::id::{AccountId, DeviceKey, SessionId};
use crate::limits;
use crate::model::{Account, Deletion, Rejection, Role, Session, Stub, Tombstone};
use crate::rules::{self, Act, Verdict};
use crate::state::{Key, Record, Timer};

impl Tx<'_> {
    /// Ends nobody. What was approved or proved before is void; asking for what is so already changes nothing.
    pub(super) fn lock(&mut self, envelope: &Envelope, id: &AccountId, locked: bool) -> Step {
        let (before, _) = match self.asked(envelope, id, None)? {
            Ok(asked) => asked,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let mut auth_epoch = before.auth_epoch;
        if before.locked_at_ms.is_some() != locked {
            auth_epoch += 1;
            let account = Account { auth_epoch, locked_at_ms: locked.then(|| self.now()), ..before.clone() };
            self.commit_records(&before, account, None);
        }
        Ok(Ok(Outcome::Locked { locked, auth_epoch }))
    }

    pub(super) fn pin(&mut self, envelope: &Envelope, id: &AccountId, session: &SessionId, pinned: bool) -> Step {
        self.change_session(envelope, id, session, |session, _| {
            if session.pinned == pinned {
                return Ok(false);
            }
            session.pinned = pinned;
            Ok(true)
        })
    }

    /// From here on the old key proves nothing: not here, and not in an approval that it signed before (see `may_link`).
    pub(super) fn rotate(
        &mut self,
        envelope: &Envelope,
        id: &AccountId,
        session: &SessionId,
        device_key: &DeviceKey,
    ) -> Step {
        self.change_session(envelope, id, session, |session, siblings| {
            if let Some(same) = siblings.iter().find(|s| s.device_key == *device_key) {
                return Err(Rejection::DeviceKeyAlreadyLinked { session: same.id });
            }
            session.device_key = *device_key;
            session.key_generation += 1;
            #[cfg(kindred_mutants)]
            if crate::mutants::is("rotate-reissues-session") {
                session.id.0.copy_from_slice(&device_key.0[..SessionId::LEN]);
            }
            Ok(true)
        })
    }

    /// Changes the record of one session, of this one only, and answers with it. `change` sees all live sessions as well,
    /// and says whether it changed anything.
    fn change_session(
        &mut self,
        envelope: &Envelope,
        id: &AccountId,
        target: &SessionId,
        change: impl FnOnce(&mut Session, &[Session]) -> Result<bool, Rejection>,
    ) -> Step {
        let (before, _) = match self.asked(envelope, id, Some(target))? {
            Ok(asked) => asked,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let mut account = before.clone();
        let Some(session) = account.sessions.iter_mut().find(|s| s.id == *target) else {
            return Ok(Err(Rejection::SessionUnknown));
        };
        match change(session, &before.sessions) {
            Ok(true) => session.record_version += 1,
            Ok(false) => return Ok(Ok(Outcome::Session(Box::new(session.clone())))),
            Err(rejection) => return Ok(Err(rejection)),
        }
        let changed = Box::new(session.clone());
        self.commit_records(&before, account, Some(target));
        Ok(Ok(Outcome::Session(changed)))
    }

    /// The old primary ends, and those companions that the command names: all, or none.
    pub(super) fn replace_primary(&mut self, envelope: &Envelope) -> Step {
        let Command::ReplacePrimary { account: id, device_key, device, keep_companions, ends } = &envelope.command
        else {
            return Ok(Err(Rejection::InvalidRequest("command")));
        };
        let (before, actor) = match self.asked(envelope, id, None)? {
            Ok(asked) => asked,
            Err(rejection) => return Ok(Err(rejection)),
        };
        if let Some(field) = oversized(device) {
            return Ok(Err(Rejection::InvalidRequest(field)));
        }
        if let Some(same) = before.sessions.iter().find(|s| s.device_key == *device_key) {
            return Ok(Err(Rejection::DeviceKeyAlreadyLinked { session: same.id }));
        }
        let goes = |s: &&Session| s.role == Role::Primary || !keep_companions;
        let is_named = before.sessions.iter().filter(goes).map(|s| &s.id).eq(ends);
        #[cfg(kindred_mutants)]
        let is_named = is_named || crate::mutants::is("replace-primary-unversioned");
        if !is_named {
            return Ok(Err(Rejection::SetVersionConflict { current: before.set_version }));
        }
        let mut account = before.clone();
        account.auth_epoch += 1;
        account.sessions.retain(|s| !goes(&s));
        let tombstones = match self.ended(envelope, &before, actor.as_ref(), goes) {
            Ok(tombstones) => tombstones,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let session = self.new_session(&mut account, envelope, Role::Primary, *device_key);
        let session = Session { device: device.clone(), ..session };
        account.sessions.push(session.clone());
        let new = session.id;
        let account = self.commit_set(&before, account, vec![session], tombstones.clone(), envelope.request);
        let (set_version, auth_epoch) = (account.set_version, account.auth_epoch);
        Ok(Ok(Outcome::Replaced { session: new, tombstones, set_version, auth_epoch }))
    }

    /// Ends all sessions of `set_version`. Stubs stay, and a mark that the account was here; what else there is of it goes
    /// now, or by [`Timer::Erasure`].
    pub(super) fn delete_account(&mut self, envelope: &Envelope, id: &AccountId, set_version: u64) -> Step {
        let (before, actor) = match self.asked(envelope, id, None)? {
            Ok(asked) => asked,
            Err(rejection) => return Ok(Err(rejection)),
        };
        if set_version != before.set_version {
            return Ok(Err(Rejection::SetVersionConflict { current: before.set_version }));
        }
        let ended = match self.ended(envelope, &before, actor.as_ref(), |_| true) {
            Ok(tombstones) => tombstones,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let stubs: Vec<Stub> = ended.iter().map(Stub::from).collect();
        let empty = Account { sessions: Vec::new(), ..before.clone() };
        let (account, _) = self.lawful_change(&before, empty, Vec::new(), ended, envelope.request);
        for stub in &stubs {
            self.put(Key::Stub(id.clone(), stub.session), Record::Stub(*stub));
        }
        for version in before.set_version.saturating_sub(limits::CHANGES_KEPT - 1)..=before.set_version {
            self.delete(Key::Change(id.clone(), version));
        }
        let set_version = account.set_version;
        let deletion = Deletion { set_version, log_index: self.log_index, at_ms: self.now() };
        self.put(Key::Deleted(id.clone()), Record::Deleted(deletion));
        self.delete(Key::Account(id.clone()));
        self.forget_codes(id)?;
        self.set_timer(self.now(), Timer::Erasure(id.clone()));
        self.emit(Effect::MarkDeleted { account: id.clone(), claim: account.claim });
        self.touched.push(Aggregate::Account(id.clone()));
        Ok(Ok(Outcome::Deleted { stubs, set_version }))
    }

    /// A tombstone for each session that goes, called as the table says.
    fn ended(
        &self,
        envelope: &Envelope,
        before: &Account,
        actor: Option<&Session>,
        goes: impl Fn(&&Session) -> bool,
    ) -> Result<Vec<Tombstone>, Rejection> {
        let act = Act::of(&envelope.command);
        let tomb = |session: &Session| match rules::judge(before, act, actor, Some(session), self.now())? {
            Verdict::Ends(reason) => {
                Ok(self.tomb(before, session.clone(), reason, actor_of(&envelope.proven), envelope))
            }
            Verdict::May | Verdict::Spared => Err(Rejection::CallerNotAllowed),
        };
        before.sessions.iter().filter(goes).map(tomb).collect()
    }
}
