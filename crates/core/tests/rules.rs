//! Every cell of the table of who may do what, against what `apply` does: each act, upon each target, by everybody, while the
//! account is open and while it is locked.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;

use kindred_core::command::{Command, Outcome, Proven, Reply};
use kindred_core::id::{AccountId, SessionId};
use kindred_core::model::{Actor, ApprovalKind, Device, EndReason, Rejection, Role, Session, TicketOutcome};
use kindred_core::rules::{Act, Rule, TABLE, Target, Who, is_for_operators, is_open_while_locked, rule};
use support::*;

/// An account with a primary; companions of every kind, each twice, so that nobody has to be its own target: grown up,
/// pinned and young; and a stranger's account.
struct Family {
    shard: Shard,
    id: AccountId,
    primary: Session,
    old: [Session; 2],
    pinned: [Session; 2],
    young: [Session; 2],
}

fn family() -> Family {
    let mut shard = Shard::default();
    let (id, primary) = shard.registered(1);
    let ops = || Proven::Operator("ops".into());
    shard.ask(ops(), Command::SetLimit { account: id.clone(), limit: 9 }).unwrap();
    let old = [10, 11].map(|n| shard.linked(&id, &primary, n));
    let pinned = [12, 13].map(|n| {
        let session = shard.linked(&id, &primary, n).id;
        match shard.ask(ops(), Command::Pin { account: id.clone(), session, pinned: true }) {
            Ok(Outcome::Session(session)) => *session,
            other => panic!("{other:?}"),
        }
    });
    shard.grow_up();
    let young = [14, 15].map(|n| shard.linked(&id, &primary, n));
    Family { shard, id, primary, old, pinned, young }
}

impl Family {
    fn target(&self, target: Target) -> Option<Session> {
        match target {
            Target::Whole => None,
            Target::Primary => Some(self.primary.clone()),
            Target::Companion => Some(self.old[0].clone()),
            Target::Pinned => Some(self.pinned[0].clone()),
        }
    }

    /// The session that stands for `who`; none for those who have no session.
    fn session(&self, who: Who, target: Target) -> Option<Session> {
        match who {
            Who::Itself => self.target(target),
            Who::Young => Some(self.young[0].clone()),
            Who::Companion => Some(self.old[1].clone()),
            Who::Primary => Some(self.primary.clone()),
            Who::Operator | Who::Key | Who::Cluster => None,
        }
    }

    fn proven(&self, who: Who, target: Target) -> Proven {
        match (who, self.session(who, target)) {
            (_, Some(session)) => proven(&self.shard.account(&self.id), &session),
            (Who::Operator, None) => Proven::Operator("ops".into()),
            (Who::Key, None) => Proven::Key(key(99)),
            (_, None) => Proven::Cluster,
        }
    }

    /// The command for the act; none for those that are decided elsewhere.
    fn command(&self, act: Act, target: Target, by: Option<&Session>) -> Option<Command> {
        let account = self.shard.account(&self.id);
        let (id, set_version) = (self.id.clone(), account.set_version);
        let session = self.target(target).map(|s| s.id);
        Some(match act {
            Act::Unlink => Command::Unlink { account: id, session: session? },
            Act::Revoke => Command::Revoke { account: id, session: session? },
            Act::Pin => Command::Pin { account: id, session: session?, pinned: target != Target::Pinned },
            Act::RotateDeviceKey => Command::RotateDeviceKey { account: id, session: session?, device_key: key(77) },
            Act::SetLimit => Command::SetLimit { account: id, limit: 8 },
            Act::Lock => Command::Lock { account: id, locked: account.locked_at_ms.is_none() },
            Act::Delete => Command::Delete { account: id, set_version },
            Act::UnlinkOthers => {
                Command::UnlinkOthers { account: id, keep: by.map_or(self.primary.id, |s| s.id), set_version }
            }
            Act::ReplacePrimary => {
                let (device, ends) = (Device::default(), account.sessions.iter().map(|s| s.id).collect());
                Command::ReplacePrimary { account: id, device_key: key(77), device, keep_companions: false, ends }
            }
            // Install is for accounts that are not here: `install` tests it.
            Act::Link | Act::LinkReplacing | Act::Decide | Act::Begin | Act::Install | Act::Bookkeeping => return None,
        })
    }

    fn live(&self) -> BTreeSet<SessionId> {
        match self.shard.memory.records.get(&kindred_core::state::Key::Account(self.id.clone())) {
            Some(_) => self.shard.account(&self.id).sessions.iter().map(|s| s.id).collect(),
            None => BTreeSet::new(),
        }
    }

    fn reason_of(&self, session: &SessionId) -> EndReason {
        let tombstone = self.shard.tombstone(&self.id, session).map(|t| t.reason);
        tombstone.or(self.shard.stub(&self.id, session).map(|s| s.reason)).expect("it has ended")
    }
}

fn refusal_of(cell: Rule) -> &'static str {
    match cell {
        Rule::No => "CallerNotAllowed",
        Rule::TooYoung => "QuarantinedActor",
        Rule::IsPinned => "SessionPinned",
        Rule::Unproved => "ProofInvalid",
        Rule::May | Rule::Ends(_) | Rule::Spared => "",
    }
}

fn name_of(reply: &Reply) -> String {
    match reply {
        Ok(Outcome::Decided(TicketOutcome::Refused(rejection))) | Err(rejection) => rejection_name(rejection),
        Ok(_) => String::new(),
    }
}

/// Acts upon one session, or upon the account as a whole, and ends at most what it names.
#[test]
fn every_single_act_is_what_its_cell_says() {
    let single = [Act::Unlink, Act::Revoke, Act::Pin, Act::RotateDeviceKey, Act::SetLimit, Act::Lock];
    let mut cells = 0;
    for (act, target, locked, who) in all(&single) {
        let mut family = family();
        let by = family.session(who, target);
        // Cells that nobody stands in: an account is no session, and these two are about accounts only.
        let is_whole = target == Target::Whole;
        if (who == Who::Itself && is_whole) || (matches!(act, Act::SetLimit | Act::Lock) && !is_whole) {
            continue;
        }
        // The primary as its own target is the column "itself".
        let who = if who == Who::Primary && target == Target::Primary { Who::Itself } else { who };
        if locked {
            family.lock();
        }
        let Some(command) = family.command(act, target, by.as_ref()) else { continue };
        let (proven, before) = (family.proven(who, target), family.live());
        let reply = family.shard.ask(proven, command);
        let gone: Vec<_> = before.difference(&family.live()).copied().collect();
        let cell = rule(act, target, who);
        let context = format!("{who:?} {act:?} {target:?}, locked {locked}: {reply:?}");
        let refused = match refusal_of(cell) {
            "" if locked && !is_open_while_locked(act, who) => "AccountLocked",
            refused => refused,
        };
        assert_eq!(name_of(&reply), refused, "{context}");
        match cell {
            Rule::Ends(reason) if refused.is_empty() => {
                let named = family.target(target).unwrap().id;
                assert_eq!(gone, [named], "{context}");
                assert_eq!(family.reason_of(&named), reason, "{context}");
                let actor = family.shard.tombstone(&family.id, &named).unwrap().actor;
                assert_eq!(actor, by.map_or(Actor::Operator("ops".into()), |s| Actor::Session(s.id)), "{context}");
            }
            _ => assert!(gone.is_empty(), "{context}"),
        }
        cells += 1;
    }
    assert!(cells > 150, "{cells}");
}

/// Acts that end several sessions: whether they may be done at all, whom they end, and what that is called.
#[test]
fn every_act_upon_many_is_what_its_cells_say() {
    for (act, _, locked, who) in all(&[Act::UnlinkOthers, Act::ReplacePrimary, Act::Delete]) {
        if who == Who::Itself {
            continue;
        }
        let mut family = family();
        let by = family.session(who, Target::Whole);
        if locked {
            family.lock();
        }
        let command = family.command(act, Target::Whole, by.as_ref()).unwrap();
        let (proven, before) = (family.proven(who, Target::Whole), family.shard.account(&family.id));
        let reply = family.shard.ask(proven, command);
        let context = format!("{who:?} {act:?}, locked {locked}: {reply:?}");
        let refused = match refusal_of(rule(act, Target::Whole, who)) {
            "" if locked && !is_open_while_locked(act, who) => "AccountLocked",
            refused => refused,
        };
        assert_eq!(name_of(&reply), refused, "{context}");
        let live = family.live();
        for session in &before.sessions {
            let column = if by.as_ref().is_some_and(|s| s.id == session.id) { Who::Itself } else { who };
            let cell = rule(act, Target::of(Some(session)), column);
            match cell {
                Rule::Ends(reason) if refused.is_empty() => {
                    assert!(!live.contains(&session.id), "{context}: {cell:?}");
                    assert_eq!(family.reason_of(&session.id), reason, "{context}");
                }
                _ => assert!(live.contains(&session.id), "{context}: {cell:?}"),
            }
        }
    }
}

/// Links: the actor is whoever approved.
#[test]
fn every_link_is_what_its_cell_says() {
    for (act, target, locked, who) in all(&[Act::Link, Act::LinkReplacing]) {
        let mut family = family();
        let Some(approver) = family.session(who, target) else { continue };
        let kind = match (act, family.target(target)) {
            (Act::Link, None) => ApprovalKind::Link,
            (Act::LinkReplacing, Some(victim)) => ApprovalKind::LinkReplacing(victim.id),
            _ => continue,
        };
        let who = if who == Who::Primary && target == Target::Primary { Who::Itself } else { who };
        if locked {
            family.lock();
        }
        let (id, before) = (family.id.clone(), family.live());
        let reply = family.shard.link(&id, &approver, 50, kind);
        let cell = rule(act, target, who);
        let context = format!("{who:?} {act:?} {target:?}, locked {locked}: {reply:?}");
        let refused = match refusal_of(cell) {
            // Whether it may link at all is asked first.
            _ if locked => "AccountLocked",
            refused => refused,
        };
        assert_eq!(name_of(&reply), refused, "{context}");
        let gone: Vec<_> = before.difference(&family.live()).copied().collect();
        match (kind, cell) {
            (ApprovalKind::LinkReplacing(victim), Rule::Ends(reason)) if refused.is_empty() => {
                assert_eq!((gone, family.reason_of(&victim)), (vec![victim], reason), "{context}");
            }
            _ => assert!(gone.is_empty(), "{context}"),
        }
    }
}

#[test]
fn the_table_is_whole() {
    let mut rows = BTreeSet::new();
    for (act, target, cells) in TABLE {
        assert!(rows.insert((*act, *target)), "two rows for {act:?} {target:?}");
        for (who, cell) in Who::ALL.iter().zip(cells) {
            assert_eq!(rule(*act, *target, *who), *cell);
        }
    }
    for act in Act::ALL {
        assert!(rows.iter().any(|(of, _)| *of == act), "{act:?} has no row: nobody may do it");
    }
}

#[test]
fn every_reason_is_somebodys_and_the_laws_show_in_the_table() {
    let ends = |act, target, who| match rule(act, target, who) {
        Rule::Ends(reason) => Some(reason),
        _ => None,
    };
    let mut reasons = BTreeSet::new();
    for act in Act::ALL {
        for target in Target::ALL {
            for who in Who::ALL {
                let Some(reason) = ends(act, target, who) else { continue };
                reasons.insert(reason);
                assert_ne!(target, Target::Whole);
                // I20: the young end themselves at most.
                assert_ne!(who, Who::Young, "{act:?}");
                // Nobody ends a session without proof.
                assert!(!matches!(who, Who::Key | Who::Cluster), "{act:?}");
                if target == Target::Primary && who != Who::Operator {
                    // A primary goes by its own act, and only together with its place or its account.
                    assert!(who == Who::Itself && matches!(act, Act::ReplacePrimary | Act::Delete), "{act:?} {who:?}");
                }
                if target == Target::Pinned {
                    assert_ne!(who, Who::Companion, "{act:?}: a sibling ends a pinned session");
                }
            }
        }
    }
    assert_eq!(reasons.into_iter().collect::<Vec<_>>(), {
        let mut all = EndReason::ALL.to_vec();
        all.sort();
        all
    });
    assert!(!is_for_operators(Act::Decide) && !is_for_operators(Act::Bookkeeping) && is_for_operators(Act::Lock));
}

#[test]
fn what_the_table_calls_a_session_follows_from_its_record() {
    let family = family();
    assert_eq!(Target::of(Some(&family.primary)), Target::Primary);
    assert_eq!(Target::of(Some(&family.old[0])), Target::Companion);
    assert_eq!(Target::of(Some(&family.pinned[0])), Target::Pinned);
    assert_eq!(Target::of(None), Target::Whole);
    let pinned_primary = Session { role: Role::Primary, pinned: true, ..family.pinned[0].clone() };
    assert_eq!(Target::of(Some(&pinned_primary)), Target::Primary);
}

impl Family {
    /// Everybody learns the new epoch, so that nothing but the lock stands in the way.
    fn lock(&mut self) {
        let lock = Command::Lock { account: self.id.clone(), locked: true };
        self.shard.ask(Proven::Operator("ops".into()), lock).unwrap();
        assert!(self.shard.account(&self.id).locked_at_ms.is_some());
    }
}

fn all(acts: &[Act]) -> Vec<(Act, Target, bool, Who)> {
    let mut all = Vec::new();
    for act in acts {
        for target in Target::ALL {
            for locked in [false, true] {
                all.extend(Who::ALL.into_iter().map(|who| (*act, target, locked, who)));
            }
        }
    }
    all
}

/// A refusal is data like any other; this one is only named here.
#[test]
fn a_refusal_names_the_pinned_session() {
    let mut family = family();
    let (by, session) = (family.proven(Who::Companion, Target::Whole), family.pinned[0].id);
    let reply = family.shard.ask(by, Command::Unlink { account: family.id.clone(), session });
    assert_eq!(reply, Err(Rejection::SessionPinned { session }));
}
