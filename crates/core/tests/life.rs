//! The life of an account beside its links, as stories: lock, pin, another key, another phone, the end, and what is left.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use kindred_core::canonical::TicketKey;
use kindred_core::command::{Answer, Command, Effect, Outcome, Proven, Query, Reply, SessionStatus};
use kindred_core::id::{AccountId, DeviceKey, SessionId};
use kindred_core::limits::{CHANGES_KEPT, TICK_ERASES_MAX, TOMBSTONE_TTL_MS};
use kindred_core::model::{
    Device, DirectoryState, EndReason, Rejection, Role, Session, Stub, TicketOutcome, TicketState,
};
use kindred_core::query::answer;
use kindred_core::state::{Key, Record, View as _};
use support::*;

fn ops() -> Proven {
    Proven::Operator("ops".into())
}

struct Family {
    shard: Shard,
    id: AccountId,
    primary: Session,
    laptop: Session,
    tablet: Session,
}

fn family() -> Family {
    let mut shard = Shard::default();
    let (id, primary) = shard.registered(1);
    shard.by_cluster(Command::Claim { account: id.clone(), claim: claim(1), home: REGION }).unwrap();
    let [laptop, tablet] = [10, 11].map(|n| shard.linked(&id, &primary, n));
    shard.grow_up();
    Family { shard, id, primary, laptop, tablet }
}

impl Family {
    fn by(&self, session: &Session) -> Proven {
        let now = self.shard.account(&self.id);
        let session = now.sessions.iter().find(|s| s.id == session.id).unwrap_or(session).clone();
        proven(&now, &session)
    }

    fn lock(&mut self, locked: bool) -> Reply {
        self.shard.ask(ops(), Command::Lock { account: self.id.clone(), locked })
    }

    fn status(&self, session: &SessionId) -> SessionStatus {
        match self.read(&Query::Session(self.id.clone(), *session)) {
            Answer::Session { status, set_version: Some(_) } => status,
            other => panic!("{other:?}"),
        }
    }

    fn read(&self, query: &Query) -> Answer {
        answer(&self.shard.memory, Some(&TicketKey([4; 32])), self.shard.now(), query).unwrap()
    }

    fn replace(&mut self, by: Proven, n: u8, keep_companions: bool) -> Reply {
        let ends = self.shard.account(&self.id).sessions;
        let ends = ends.iter().filter(|s| s.role == Role::Primary || !keep_companions).map(|s| s.id).collect();
        let (account, device) = (self.id.clone(), Device { platform: "phone".into(), ..Device::default() });
        self.shard.ask(by, Command::ReplacePrimary { account, device_key: key(n), device, keep_companions, ends })
    }

    fn delete(&mut self, by: Proven) -> Reply {
        let set_version = self.shard.account(&self.id).set_version;
        self.shard.ask(by, Command::Delete { account: self.id.clone(), set_version })
    }

    fn rotate(&mut self, by: Proven, session: &Session, device_key: DeviceKey) -> Reply {
        let command = Command::RotateDeviceKey { account: self.id.clone(), session: session.id, device_key };
        self.shard.ask(by, command)
    }

    fn tick_until_still(&mut self) {
        for _ in 0..64 {
            self.shard.by_cluster(Command::Tick).unwrap();
        }
    }
}

#[test]
fn a_lock_ends_nobody_says_suspended_and_voids_what_was_approved() {
    let mut family = family();
    let before = family.shard.account(&family.id);
    let ticket = ticket_id(50, 1);
    let approved = link(ticket, 50, approval(&before, &family.primary, &ticket, 50));
    assert_eq!(family.lock(true), Ok(Outcome::Locked { locked: true, auth_epoch: 2 }));
    let since_ms = family.shard.now();
    assert_eq!(family.lock(true), Ok(Outcome::Locked { locked: true, auth_epoch: 2 }), "once more changes nothing");

    let locked = family.shard.account(&family.id);
    assert_eq!((&locked.sessions, locked.set_version), (&before.sessions, before.set_version));
    assert_eq!((locked.locked_at_ms, locked.record_version), (Some(since_ms), before.record_version + 1));
    let session = Box::new(family.laptop.clone());
    assert_eq!(family.status(&family.laptop.id), SessionStatus::Suspended { session, since_ms });

    // Approved before: void. Approved since, under the present epoch: refused as well.
    assert_eq!(family.shard.by_cluster(approved), refused(Rejection::EpochChanged { auth_epoch: 2 }));
    let (id, primary) = (family.id.clone(), family.primary.clone());
    let reply = family.shard.link(&id, &primary, 51, kindred_core::model::ApprovalKind::Link);
    assert_eq!(reply, refused(Rejection::AccountLocked));
    let by = family.by(&family.primary.clone());
    let session = family.laptop.id;
    let unlink = Command::Unlink { account: family.id.clone(), session };
    assert_eq!(family.shard.ask(by, unlink.clone()), Err(Rejection::AccountLocked));
    // A session may always go by itself, and an operator may always act.
    let by = family.by(&family.laptop.clone());
    assert_eq!(reason(&family.shard.ask(by, unlink)), EndReason::SelfLogout);
    let revoke = Command::Revoke { account: family.id.clone(), session: family.tablet.id };
    assert_eq!(reason(&family.shard.ask(ops(), revoke)), EndReason::CredentialCompromised);

    assert_eq!(family.lock(false), Ok(Outcome::Locked { locked: false, auth_epoch: 3 }));
    assert_eq!(family.status(&family.primary.id), SessionStatus::Active(Box::new(family.primary.clone())));
    family.shard.linked(&id, &primary, 52);
}

#[test]
fn a_pinned_companion_outlives_its_siblings_wishes_and_not_its_owners() {
    let mut family = family();
    let pin = |pinned| Command::Pin { account: account(1), session: SessionId([0; 16]), pinned };
    let pin = |family: &Family, pinned| match pin(pinned) {
        Command::Pin { pinned, .. } => Command::Pin { account: family.id.clone(), session: family.laptop.id, pinned },
        other => other,
    };
    let by = family.by(&family.primary.clone());
    let pinned = match family.shard.ask(by, pin(&family, true)) {
        Ok(Outcome::Session(session)) => *session,
        other => panic!("{other:?}"),
    };
    assert_eq!(pinned, Session { pinned: true, record_version: 2, ..family.laptop.clone() });
    let account = family.shard.account(&family.id);
    assert_eq!(account.sessions, [family.primary.clone(), pinned.clone(), family.tablet.clone()]);

    let (by, keep) = (family.by(&family.tablet.clone()), family.tablet.id);
    let others = Command::UnlinkOthers { account: family.id.clone(), keep, set_version: account.set_version };
    let Ok(Outcome::EndedOthers { tombstones, .. }) = family.shard.ask(by, others) else { panic!("refused") };
    assert!(tombstones.is_empty(), "the primary and the pinned one are all the others there are");
    let by = family.by(&family.primary.clone());
    assert!(matches!(family.shard.ask(by, pin(&family, true)), Ok(Outcome::Session(s)) if s.record_version == 2));
    let keep = family.primary.id;
    let set_version = family.shard.account(&family.id).set_version;
    let others = Command::UnlinkOthers { account: family.id.clone(), keep, set_version };
    let by = family.by(&family.primary.clone());
    let Ok(Outcome::EndedOthers { tombstones, .. }) = family.shard.ask(by, others) else { panic!("refused") };
    assert_eq!(tombstones.iter().map(|t| t.session.id).collect::<Vec<_>>(), [pinned.id, family.tablet.id]);
}

#[test]
fn after_a_rotation_the_old_key_proves_nothing_and_nothing_else_has_changed() {
    let mut family = family();
    let before = family.shard.account(&family.id);
    let old = family.by(&family.laptop.clone());
    let (session, ticket) = (family.laptop.clone(), ticket_id(50, 1));
    // What the old key has approved, on its way while the key changes.
    let approved = approval(&before, &session, &ticket, 50);
    let approver_key = Some(session.device_key);
    let on_its_way =
        Command::Link { ticket, device_key: key(50), device: Device::default(), approval: approved, approver_key };

    let taken = family.tablet.device_key;
    let reply = family.rotate(old.clone(), &session, taken);
    assert_eq!(reply, Err(Rejection::DeviceKeyAlreadyLinked { session: family.tablet.id }));
    let Ok(Outcome::Session(rotated)) = family.rotate(old.clone(), &session, key(70)) else { panic!("refused") };
    let expected = Session { device_key: key(70), key_generation: 2, record_version: 2, ..session.clone() };
    assert_eq!(*rotated, expected);
    let after = family.shard.account(&family.id);
    assert_eq!(after.sessions, [family.primary.clone(), expected, family.tablet.clone()]);
    assert_eq!(
        (after.set_version, after.set_digest, after.auth_epoch, after.next_session_seq),
        (before.set_version, before.set_digest, before.auth_epoch, before.next_session_seq)
    );

    assert_eq!(family.rotate(old, &session, key(71)), Err(Rejection::ProofInvalid));
    assert_eq!(family.shard.by_cluster(on_its_way), refused(Rejection::ApprovalInvalid));
    // The new key speaks for the same session.
    let by = family.by(&session);
    let gone = family.shard.ask(by, Command::Unlink { account: family.id.clone(), session: session.id });
    assert_eq!((reason(&gone), ended(&gone).session.device_key), (EndReason::SelfLogout, key(70)));
    let by_key = |family: &Family, n| family.shard.memory.ended_by_key(&family.id, &key(n)).unwrap();
    assert_eq!((by_key(&family, 70), by_key(&family, 10)), (Some(session.id), None));
}

#[test]
fn a_ticket_approved_with_the_old_key_links_nobody_through_any_path() {
    let mut family = family();
    let account = family.shard.account(&family.id);
    let ticket = ticket_id(50, 9);
    family.shard.run(open(50, 9)).unwrap();
    let (by, scan) = (family.by(&family.laptop.clone()), scan(&account, &family.laptop));
    family.shard.ask(by.clone(), Command::Scan { ticket, scan }).unwrap();
    let approval = approval(&account, &family.laptop, &ticket, 50);
    family.rotate(by.clone(), &family.laptop.clone(), key(70)).unwrap();
    family.shard.ask(by, approve(ticket, approval)).unwrap();
    let found = family.shard.ticket(&ticket);
    assert!(matches!(found.state, TicketState::Approved { .. }), "the ticket's shard knows of no rotation");
    let link = kindred_core::apply::link_of(&found).unwrap();
    assert_eq!(family.shard.run(link), refused(Rejection::ApprovalInvalid));
}

#[test]
fn another_phone_keeps_every_companion_if_the_owner_says_so() {
    let mut family = family();
    let before = family.shard.account(&family.id);
    let by = family.by(&family.primary.clone());
    let Ok(Outcome::Replaced { session, tombstones, set_version, auth_epoch }) = family.replace(by.clone(), 80, true)
    else {
        panic!("refused")
    };
    assert_eq!((set_version, auth_epoch), (before.set_version + 1, before.auth_epoch + 1));
    assert_eq!(tombstones.len(), 1);
    assert_eq!((tombstones[0].session.id, tombstones[0].reason), (family.primary.id, EndReason::PrimaryReplaced));
    let after = family.shard.account(&family.id);
    assert_eq!(after.sessions[..2], [family.laptop.clone(), family.tablet.clone()], "unchanged, byte for byte");
    let new = &after.sessions[2];
    assert_eq!((new.id, new.role, new.device_key, new.quarantine_until_ms), (session, Role::Primary, key(80), 0));
    // The old phone is told so, by name, and can do nothing more.
    assert!(
        matches!(family.replace(by, 81, true), Err(Rejection::SessionEnded(t)) if t.reason == EndReason::PrimaryReplaced)
    );
    let by = family.by(&new.clone());
    assert!(family.shard.ask(by, Command::SetLimit { account: family.id.clone(), limit: 5 }).is_ok());
}

#[test]
fn another_phone_ends_every_companion_only_if_the_owner_says_so_each_with_its_own_tombstone() {
    let mut family = family();
    let before = family.shard.account(&family.id);
    let Ok(Outcome::Replaced { tombstones, set_version, .. }) = family.replace(ops(), 80, false) else {
        panic!("refused")
    };
    assert_eq!(set_version, before.set_version + 1, "one change");
    let named: Vec<_> = tombstones.iter().map(|t| (t.session.clone(), t.reason)).collect();
    let expected: Vec<_> = before.sessions.iter().map(|s| (s.clone(), EndReason::PrimaryReplaced)).collect();
    assert_eq!(named, expected);
    for tombstone in tombstones {
        assert_eq!(family.status(&tombstone.session.id), SessionStatus::Ended(Box::new(tombstone)));
    }
}

#[test]
fn a_replacement_names_what_it_ends_or_ends_nothing() {
    let mut family = family();
    let before = family.shard.account(&family.id);
    let current = before.set_version;
    let command = |keep_companions, ends: &[SessionId], n| Command::ReplacePrimary {
        account: account(1),
        device_key: key(n),
        device: Device::default(),
        keep_companions,
        ends: ends.to_vec(),
    };
    let [primary, laptop, tablet] = [&family.primary, &family.laptop, &family.tablet].map(|s| s.id);
    for (keep, ends) in [
        (true, vec![]),
        (true, vec![primary, laptop]),
        (true, vec![laptop]),
        (false, vec![primary]),
        (false, vec![primary, laptop]),
        (false, vec![laptop, primary, tablet]),
        (false, vec![primary, laptop, tablet, nobody(1)]),
    ] {
        let reply = family.shard.ask(ops(), command(keep, &ends, 80));
        assert_eq!(reply, Err(Rejection::SetVersionConflict { current }), "{keep} {ends:?}");
    }
    let reply = family.shard.ask(ops(), command(true, &[primary], 10));
    assert_eq!(reply, Err(Rejection::DeviceKeyAlreadyLinked { session: laptop }));
    assert_eq!(family.shard.account(&family.id), before);
    // The primary is gone already: there is nobody to replace, and a new one comes all the same.
    family.shard.ask(ops(), Command::Unlink { account: family.id.clone(), session: primary }).unwrap();
    assert!(family.shard.ask(ops(), command(true, &[], 80)).is_ok());
}

#[test]
fn a_deleted_account_leaves_stubs_and_its_id_and_nothing_of_anybody() {
    let mut family = family();
    let (id, before) = (family.id.clone(), family.shard.account(&family.id));
    let by = family.by(&family.primary.clone());
    let unlink = Command::Unlink { account: id.clone(), session: family.tablet.id };
    family.shard.ask(by.clone(), unlink).unwrap();
    let Ok(Outcome::Deleted { stubs, set_version }) = family.delete(by) else { panic!("refused") };
    assert_eq!(set_version, before.set_version + 2);
    let live = [&family.primary, &family.laptop];
    let expected = live.map(|s| (s.id, s.seq, EndReason::AccountDeleted));
    assert_eq!(stubs.iter().map(|s| (s.session, s.seq, s.reason)).collect::<Vec<_>>(), expected);

    // At once: nobody is unknown, nobody is live.
    for stub in &stubs {
        assert_eq!(family.status(&stub.session), SessionStatus::Stub(*stub));
    }
    assert!(
        matches!(family.status(&family.tablet.id), SessionStatus::Ended(t) if t.reason == EndReason::UserUnlinkedFromPrimary)
    );
    assert_eq!(family.status(&nobody(1)), SessionStatus::Unknown);
    assert!(matches!(family.read(&Query::Account(id.clone())), Answer::Deleted(d) if d.set_version == set_version));
    assert!(matches!(family.read(&Query::Changes(id.clone(), 1)), Answer::Deleted(_)));

    // Soon: no key, no name.
    family.tick_until_still();
    assert!(
        matches!(family.status(&family.tablet.id), SessionStatus::Stub(s) if s.reason == EndReason::UserUnlinkedFromPrimary)
    );
    assert!(family.shard.memory.ended_keys(&id, 9).unwrap().is_empty());
    let left = family.shard.count(|key| matches!(key, Key::Account(_) | Key::Tombstone(..) | Key::Change(..)));
    assert_eq!(left, 0);
    // The answers to what was asked name sessions whole, and are kept for a day only.
    family.shard.sleep(25 * HOUR_MS);
    family.tick_until_still();
    for (key, record) in &family.shard.memory.records {
        let text = format!("{record:?}");
        assert!(!text.contains("DeviceKey(") || matches!(key, Key::Ticket(_)), "{key:?}: {text}");
    }
}

#[test]
fn a_deleted_id_is_never_registered_again() {
    let mut family = family();
    let (id, claim_of) = (family.id.clone(), claim(1));
    family.delete(ops()).unwrap();
    let again = register(&id, key(90));
    assert_eq!(family.shard.ask(Proven::Key(key(90)), again.clone()), Err(Rejection::AccountExists));
    let effect = family.shard.memory.records.values().find_map(|record| match record {
        Record::Outbox(item) => Some(item.effect.clone()).filter(|e| matches!(e, Effect::MarkDeleted { .. })),
        _ => None,
    });
    assert_eq!(effect, Some(Effect::MarkDeleted { account: id.clone(), claim: claim_of }));
    let mark = Command::MarkDeleted { account: id.clone(), claim: claim_of };
    assert_eq!(
        family.shard.by_cluster(Command::MarkDeleted { account: id.clone(), claim: claim(2) }),
        Err(Rejection::AccountExists)
    );
    for _ in 0..2 {
        assert_eq!(family.shard.by_cluster(mark.clone()), Ok(Outcome::Done));
    }
    // A confirmation that comes late brings nothing back.
    family.shard.by_cluster(Command::ConfirmClaim { account: id.clone(), claim: claim_of, home_epoch: 1 }).unwrap();
    let Some(Record::Directory(entry)) = family.shard.memory.get(&Key::Directory(id.clone())).unwrap() else {
        panic!("the id is free")
    };
    assert_eq!((entry.state, entry.home), (DirectoryState::Deleted, REGION));
    for n in [1, 2] {
        let reply = family.shard.by_cluster(Command::Claim { account: id.clone(), claim: claim(n), home: REGION });
        assert_eq!(reply, Err(Rejection::AccountExists), "claim {n}");
    }
    let elsewhere = Command::MarkDeleted { account: account(7), claim: claim(1) };
    assert_eq!(family.shard.by_cluster(elsewhere), Err(Rejection::AccountNotFound));
}

#[test]
fn an_account_with_a_long_past_is_erased_step_by_step() {
    let mut family = family();
    family.shard.unwatched();
    let (id, primary) = (family.id.clone(), family.primary.clone());
    let many = TICK_ERASES_MAX + 9;
    for n in 0..many {
        let session = family.shard.linked(&id, &primary, 100 + u8::try_from(n % 5).unwrap()).id;
        family.shard.ask(ops(), Command::Unlink { account: id.clone(), session }).unwrap();
    }
    family.delete(ops()).unwrap();
    let tombstones = |family: &Family| family.shard.count(|key| matches!(key, Key::Tombstone(..)));
    let stubs = |family: &Family| family.shard.count(|key| matches!(key, Key::Stub(..)));
    assert_eq!((tombstones(&family), stubs(&family)), (many, 3));
    // Two in one entry do what one does: both see the same.
    family.shard.entry(
        0,
        vec![
            envelope(request(1), Proven::Cluster, Command::Tick),
            envelope(request(2), Proven::Cluster, Command::Tick),
        ],
    );
    assert_eq!((tombstones(&family), stubs(&family)), (9, many + 3 - 9));
    family.shard.by_cluster(Command::Tick).unwrap();
    assert_eq!((tombstones(&family), stubs(&family)), (0, many + 3));
    assert!(family.shard.memory.ended_keys(&id, 9).unwrap().is_empty());
    assert!((many as u64) < CHANGES_KEPT && family.shard.count(|key| matches!(key, Key::Change(..))) == 0);
}

#[test]
fn a_tombstone_is_whole_for_ninety_days_and_then_a_stub_that_still_says_signed_out() {
    let mut family = family();
    let (by, session) = (family.by(&family.primary.clone()), family.laptop.id);
    let unlink = Command::Unlink { account: family.id.clone(), session };
    let tombstone = ended(&family.shard.ask(by.clone(), unlink.clone()));
    family.shard.sleep(TOMBSTONE_TTL_MS - 1);
    family.tick_until_still();
    assert_eq!(family.status(&session), SessionStatus::Ended(Box::new(tombstone.clone())));
    family.shard.sleep(1);
    family.tick_until_still();
    let stub = Stub { session, seq: tombstone.session.seq, reason: tombstone.reason, log_index: tombstone.log_index };
    assert_eq!(family.status(&session), SessionStatus::Stub(stub));
    // By its key as well, and to whoever asks for its end once more.
    let by_key = Query::SessionByKey(family.id.clone(), family.laptop.device_key);
    assert!(matches!(family.read(&by_key), Answer::Session { status: SessionStatus::Stub(s), .. } if s == stub));
    assert_eq!(family.shard.ask(by, unlink), Ok(Outcome::EndedBefore(stub)));
}

#[test]
fn a_link_to_a_deleted_account_is_refused_and_its_ticket_is_told() {
    let mut family = family();
    let (account, ticket) = (family.shard.account(&family.id), ticket_id(50, 1));
    let command = link(ticket, 50, approval(&account, &family.primary, &ticket, 50));
    family.delete(ops()).unwrap();
    assert_eq!(
        family.shard.by_cluster(command),
        Ok(Outcome::Decided(TicketOutcome::Refused(Rejection::AccountNotFound)))
    );
}
