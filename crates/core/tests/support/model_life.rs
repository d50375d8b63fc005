//! The reference for the life of an account beside its links.

use std::collections::BTreeSet;

use super::model::{Member, Model, Op, Who};

impl Model {
    /// Every rule that such a command breaks.
    pub(super) fn wrong_for_life(&self, op: &Op) -> BTreeSet<String> {
        let mut wrong = BTreeSet::new();
        match op {
            Op::Lock { a, who, .. } => {
                wrong.extend(self.wrong_actor(*a, who));
                self.only(&mut wrong, self.accounts.contains_key(a) && !who.operator, "CallerNotAllowed");
            }
            Op::Revoke { a, who, target } => {
                wrong.extend(self.wrong_actor(*a, who));
                let Some(account) = self.accounts.get(a) else { return wrong };
                let live = account.live.contains_key(target);
                self.only(&mut wrong, live && !who.operator, "CallerNotAllowed");
                self.only(&mut wrong, !live && !account.dead.contains_key(target), "SessionUnknown");
            }
            Op::Pin { a, who, target, .. } => {
                wrong.extend(self.wrong_owner(*a, who));
                let Some(account) = self.accounts.get(a) else { return wrong };
                self.only(&mut wrong, !account.live.contains_key(target), "SessionUnknown");
                let primary = account.live.get(target).is_some_and(|m| m.primary);
                self.only(&mut wrong, primary, "CallerNotAllowed");
            }
            Op::Rotate { a, who, key } => {
                wrong.extend(self.wrong_actor(*a, who));
                let Some(account) = self.accounts.get(a) else { return wrong };
                self.only(&mut wrong, who.operator, "CallerNotAllowed");
                self.only(&mut wrong, !account.live.contains_key(&who.seq), "SessionUnknown");
                self.only(&mut wrong, account.locked && !who.operator, "AccountLocked");
                self.wrong_key(&mut wrong, *a, *key);
            }
            Op::Replace { a, who, key, keep, ends } => {
                wrong.extend(self.wrong_owner(*a, who));
                self.wrong_key(&mut wrong, *a, *key);
                let Some(account) = self.accounts.get(a) else { return wrong };
                let conflict = *ends != self.replaced(*a, *keep);
                self.only(&mut wrong, conflict, &format!("SetVersionConflict {}", account.version));
            }
            Op::Delete { a, who, version } => {
                wrong.extend(self.wrong_owner(*a, who));
                let Some(account) = self.accounts.get(a) else { return wrong };
                let conflict = *version != account.version;
                self.only(&mut wrong, conflict, &format!("SetVersionConflict {}", account.version));
            }
            Op::Mark { a, claim } => {
                self.only(&mut wrong, !self.claims.contains_key(a), "AccountNotFound");
                self.only(&mut wrong, self.claims.get(a).is_some_and(|c| c.0 != *claim), "AccountExists");
            }
            _ => {}
        }
        wrong
    }

    fn only(&self, wrong: &mut BTreeSet<String>, broken: bool, why: &str) {
        if broken {
            wrong.insert(why.to_owned());
        }
    }

    /// For the primary and operators; a locked account is for operators alone.
    pub(super) fn wrong_owner(&self, a: u8, who: &Who) -> Vec<String> {
        let mut wrong = self.wrong_actor(a, who);
        let locked = self.accounts.get(&a).is_some_and(|account| account.locked);
        if !who.operator && locked {
            wrong.push("AccountLocked".into());
        }
        if self.member(a, who).is_some_and(|m| !m.primary) {
            wrong.push("CallerNotAllowed".into());
        }
        wrong
    }

    fn wrong_key(&self, wrong: &mut BTreeSet<String>, a: u8, key: u8) {
        let Some(account) = self.accounts.get(&a) else { return };
        if let Some((seq, _)) = account.live.iter().find(|(_, m)| m.key == key) {
            wrong.insert(format!("DeviceKeyAlreadyLinked {seq}"));
        }
    }

    /// Whom a replacement of the primary must name.
    pub fn replaced(&self, a: u8, keep: bool) -> Vec<u64> {
        let Some(account) = self.accounts.get(&a) else { return Vec::new() };
        account.live.iter().filter(|(_, m)| m.primary || !keep).map(|(seq, _)| *seq).collect()
    }

    /// Does it, and says what to expect.
    pub(super) fn accept_for_life(&mut self, op: &Op) -> String {
        match op {
            Op::Lock { a, locked, .. } => {
                let account = self.accounts.get_mut(a).unwrap();
                account.epoch += u64::from(account.locked != *locked);
                account.locked = *locked;
                format!("locked {locked} e{}", account.epoch)
            }
            Op::Revoke { a, target, .. } => {
                if self.accounts[a].live.contains_key(target) {
                    self.leave(*a, &[*target], "CredentialCompromised");
                }
                format!("ended {target} {}", self.accounts[a].dead[target].0)
            }
            Op::Pin { a, target, pinned, .. } => self.record(*a, *target, |m| {
                let changed = m.pinned != *pinned;
                m.pinned = *pinned;
                changed
            }),
            Op::Rotate { a, who, key } => self.record(*a, who.seq, |m| {
                m.key = *key;
                m.generation += 1;
                true
            }),
            Op::Replace { a, key, ends, .. } => {
                let version = self.accounts[a].version;
                self.leave(*a, ends, "PrimaryReplaced");
                self.accounts.get_mut(a).unwrap().version = version;
                let seq = self.join(*a, Member::new(*key, true, 0));
                let account = self.accounts.get_mut(a).unwrap();
                account.epoch += 1;
                format!("replaced {seq} {ends:?} v{} e{}", account.version, account.epoch)
            }
            Op::Delete { a, .. } => {
                let live: Vec<u64> = self.accounts[a].live.keys().copied().collect();
                self.leave(*a, &live, "AccountDeleted");
                let account = self.accounts.remove(a).unwrap();
                let said = format!("deleted {live:?} v{}", account.version);
                self.deleted.insert(*a, account);
                said
            }
            Op::Mark { a, .. } => {
                self.marked.insert(*a);
                "done".into()
            }
            _ => String::new(),
        }
    }

    fn record(&mut self, a: u8, seq: u64, change: impl FnOnce(&mut Member) -> bool) -> String {
        let member = self.accounts.get_mut(&a).unwrap().live.get_mut(&seq).unwrap();
        member.records += u64::from(change(member));
        format!("session {seq} key {} r{} pinned {}", member.key, member.records, member.pinned)
    }
}
