//! The law over two consecutive states, read from the records alone: it knows no command and no reply, and shares no code
//! with `kindred_core::invariants`.

use std::collections::{BTreeMap, BTreeSet};

use kindred_core::digest;
use kindred_core::id::{AccountId, Digest, SessionId, TicketId};
use kindred_core::memory::Memory;
use kindred_core::model::{Account, Actor, EndReason, Role, Session, SetChange, Stub, TicketOutcome, Tombstone};
use kindred_core::state::{Key, Record};

/// What must be remembered over the whole run.
#[derive(Clone, Default)]
pub struct Laws {
    numbers: BTreeMap<SessionId, (AccountId, u64)>,
    highest: BTreeMap<AccountId, u64>,
    tickets: BTreeSet<(AccountId, TicketId)>,
    chains: BTreeMap<AccountId, Digest>,
    tombstones: BTreeMap<SessionId, Tombstone>,
}

impl Laws {
    /// Panics with the name of the invariant that does not hold. `limit` is the highest that was asked for in between.
    pub fn check(&mut self, before: &Memory, after: &Memory, limit: u32) {
        for account in accounts(after) {
            let old = accounts(before).find(|old| old.id == account.id);
            self.check_account(old, account, (limit, after));
        }
        for account in accounts(before).filter(|a| !after.records.contains_key(&Key::Account(a.id.clone()))) {
            check_deleted(account, after);
        }
        self.check_tombstones(after);
        for (key, record) in &before.records {
            // A decision may go when its time is over, but is never another one (I6).
            if let (Key::Outcome(..), Record::Outcome(was)) = (key, record) {
                assert!(after.records.get(key).is_none_or(|is| *is == Record::Outcome(was.clone())), "I6");
            }
        }
    }

    /// I5 and with it I1–I4, I8, I20: the snapshot before, plus the changes, is the snapshot after.
    fn check_account(&mut self, old: Option<&Account>, account: &Account, (limit, after): (u32, &Memory)) {
        // One that was installed begins with the history that it brings.
        if old.is_none() && account.home_epoch > 1 {
            return self.check_installed(account, after);
        }
        let (mut live, from, epoch, limit) = match old {
            Some(old) => (old.sessions.clone(), old.set_version, old.auth_epoch, limit.max(old.companion_limit)),
            None => (Vec::new(), 0, 0, limit),
        };
        assert!(account.set_version >= from, "I5: set_version ran back");
        assert!(account.auth_epoch >= epoch, "I22: auth_epoch ran back");
        for version in from + 1..=account.set_version {
            let Some(Record::Change(change)) = after.records.get(&Key::Change(account.id.clone(), version)) else {
                panic!("I5: change {version} is missing");
            };
            assert_eq!(change.version, version, "I5");
            self.check_change(account, &mut live, change, (limit, after));
            self.chain(account, change);
        }
        assert_eq!(live.len(), account.sessions.len(), "I1, I2, I5: the changes do not lead to the set");
        let mut records = 0;
        for (was, is) in live.iter().zip(&account.sessions) {
            records += grown(was, is);
        }
        if let Some(old) = old {
            let raised = account.record_version.checked_sub(old.record_version).expect("record_version ran back");
            assert!(raised >= records, "a record was changed and nobody was told");
            let turned = old.locked_at_ms.is_some() != account.locked_at_ms.is_some();
            assert!(!turned || account.auth_epoch > epoch, "I22: a lock that voids nothing");
        }
        assert_eq!(*self.chains.get(&account.id).unwrap(), account.set_digest, "I5: digest");
    }

    /// I3, I4, I6 over what an account brings along.
    fn check_installed(&mut self, account: &Account, after: &Memory) {
        let ended = after.records.iter().filter_map(|(key, record)| match (key, record) {
            (Key::Tombstone(of, _), Record::Tombstone(t)) if *of == account.id => Some(&t.session),
            _ => None,
        });
        let mut numbers = BTreeSet::new();
        for session in account.sessions.iter().chain(ended) {
            assert!(numbers.insert(session.seq), "I4: seq {} is there twice", session.seq);
            let known = self.numbers.insert(session.id, (account.id.clone(), session.seq));
            assert!(known.is_none(), "I4: session id was used");
            if let Some(ticket) = session.ticket {
                assert!(self.tickets.insert((account.id.clone(), ticket)), "I6: the ticket was used");
            }
        }
        for (key, record) in &after.records {
            if let (Key::Stub(of, session), Record::Stub(stub)) = (key, record)
                && *of == account.id
            {
                assert!(numbers.insert(stub.seq), "I4: seq {} is there twice", stub.seq);
                let known = self.numbers.insert(*session, (account.id.clone(), stub.seq));
                assert!(known.is_none(), "I4: session id was used");
            }
        }
        assert!(numbers.iter().copied().eq(1..account.next_session_seq), "I3: a session without tombstone or stub");
        self.highest.insert(account.id.clone(), account.next_session_seq - 1);
        self.chains.insert(account.id.clone(), account.set_digest);
    }

    fn check_change(
        &mut self,
        account: &Account,
        live: &mut Vec<Session>,
        change: &SetChange,
        (limit_before, after): (u32, &Memory),
    ) {
        assert!(!(change.added.is_empty() && change.ended.is_empty()), "I5: a change without a change");
        assert!(change.added.len() <= 1, "I1: more than one came");
        for tombstone in &change.ended {
            let at = live.iter().position(|s| s.id == tombstone.session.id).expect("I2, I3: ended what was not live");
            let actor = actor_of(tombstone, live, after);
            grown(&live.remove(at), &tombstone.session);
            if let Some(actor) = actor {
                let young = actor.role == Role::Companion && tombstone.at_ms < actor.quarantine_until_ms;
                let itself = actor.id == tombstone.session.id;
                assert!(!young || itself, "I20: the young ended another");
                let pinned = tombstone.session.pinned && actor.role == Role::Companion;
                assert!(!pinned || itself, "a sibling ended a pinned session");
            }
            let kept = after.records.get(&Key::Tombstone(account.id.clone(), tombstone.session.id));
            assert_eq!(kept, Some(&Record::Tombstone(tombstone.clone())), "I3");
        }
        let linked = !change.added.is_empty();
        let came_as_primary = change.added.iter().all(|s| s.role == Role::Primary);
        let replaced = match came_as_primary {
            true => change.ended.iter().all(|t| t.reason == EndReason::PrimaryReplaced),
            false => change.ended.iter().all(|t| t.reason == EndReason::ReplacedByLink) && change.ended.len() <= 1,
        };
        assert!(!linked || replaced, "I8: a link ended more than the session that it replaces");
        for session in &change.added {
            let highest = self.highest.entry(account.id.clone()).or_default();
            assert!(session.seq > *highest, "I4: seq {} was used", session.seq);
            *highest = session.seq;
            let known = self.numbers.insert(session.id, (account.id.clone(), session.seq));
            assert!(known.is_none(), "I4: session id was used");
            assert!(live.iter().all(|s| s.device_key != session.device_key), "I6: a device has two sessions");
            if let Some(ticket) = session.ticket {
                assert!(self.tickets.insert((account.id.clone(), ticket)), "I6: the ticket was used");
                let outcome = after.records.get(&Key::Outcome(account.id.clone(), ticket));
                let told =
                    matches!(outcome, Some(Record::Outcome(TicketOutcome::Linked(r))) if r.session == session.id);
                assert!(told, "I6: the decision does not name the session");
            }
            live.push(session.clone());
        }
        // The limit may have moved within the entry; where it did not, it holds exactly.
        let companions = live.iter().filter(|s| s.role == Role::Companion).count();
        let limit = usize::try_from(account.companion_limit.max(limit_before)).unwrap();
        assert!(!linked || companions <= limit, "I8: over the limit");
    }

    fn chain(&mut self, account: &Account, change: &SetChange) {
        let chain = self.chains.entry(account.id.clone()).or_insert_with(|| digest::empty(&account.id));
        *chain = digest::next(chain, change.version, &change.added, &change.ended);
        assert_eq!(*chain, change.digest, "I5: the chain is broken at {}", change.version);
    }

    fn check_tombstones(&mut self, after: &Memory) {
        for record in after.records.values() {
            if let Record::Tombstone(tombstone) = record {
                let first = self.tombstones.entry(tombstone.session.id).or_insert_with(|| tombstone.clone());
                assert_eq!(first, tombstone, "I3: a tombstone was changed");
            }
        }
        let live: BTreeSet<_> = accounts(after).flat_map(|a| a.sessions.iter().map(|s| s.id)).collect();
        for (id, (account, _)) in &self.numbers {
            let stub = match after.records.get(&Key::Stub(account.clone(), *id)) {
                Some(Record::Stub(stub)) => Some(*stub),
                _ => None,
            };
            let whole = after.records.contains_key(&Key::Tombstone(account.clone(), *id));
            assert!(!(whole && stub.is_some()), "I3: a tombstone and a stub");
            let ended = whole || stub.is_some();
            assert!(ended || !self.tombstones.contains_key(id), "I3: a tombstone is gone");
            if let (Some(stub), Some(first)) = (stub, self.tombstones.get(id)) {
                assert_eq!(stub, Stub::from(first), "I3: a stub says something else");
            }
            let live = live.contains(id);
            assert!(live != ended, "I3: session {id} is live: {live}, has a tombstone: {ended}");
        }
    }
}

/// Only a key, with the next generation, and a pin may change in a session's record; how often it did.
fn grown(was: &Session, is: &Session) -> u64 {
    let changed = Session {
        device_key: is.device_key,
        key_generation: is.key_generation,
        pinned: is.pinned,
        record_version: is.record_version,
        ..was.clone()
    };
    assert_eq!(changed, *is, "I1: more of a session changed than may");
    let rotations = is.key_generation.checked_sub(was.key_generation).expect("I11: a generation ran back");
    let records = is.record_version.checked_sub(was.record_version).expect("a record ran back");
    assert!(
        records >= rotations && (rotations > 0 || was.device_key == is.device_key),
        "I11: a key without a generation"
    );
    assert!(records > 0 || was == is, "a record changed under the same version");
    records
}

/// A deletion ends everybody by name, and the id does not come back.
fn check_deleted(account: &Account, after: &Memory) {
    let Some(Record::Deleted(deletion)) = after.records.get(&Key::Deleted(account.id.clone())) else {
        panic!("I2: account {} is gone", account.id);
    };
    assert!(deletion.set_version >= account.set_version, "I5: set_version ran back");
    for session in &account.sessions {
        let key = Key::Stub(account.id.clone(), session.id);
        let tombstone = after.records.contains_key(&Key::Tombstone(account.id.clone(), session.id));
        assert!(tombstone || after.records.contains_key(&key), "I2, I3: session {} left nothing", session.id);
    }
}

fn accounts(memory: &Memory) -> impl Iterator<Item = &Account> {
    memory.records.values().filter_map(|record| match record {
        Record::Account(account) => Some(account),
        _ => None,
    })
}

fn actor_of(tombstone: &Tombstone, live: &[Session], after: &Memory) -> Option<Session> {
    let Actor::Session(id) = tombstone.actor else { return None };
    let ended = after.records.values().find_map(|record| match record {
        Record::Tombstone(t) if t.session.id == id => Some(t.session.clone()),
        _ => None,
    });
    let actor = live.iter().find(|s| s.id == id).cloned().or(ended);
    Some(actor.expect("I3: the actor was never a session"))
}
